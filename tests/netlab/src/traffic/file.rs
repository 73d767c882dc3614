//! A long download over one TCP connection.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use super::Mark;
use crate::{
    error::{Context, Error, Result},
    host::Host,
    random::Random,
    sockopt::set_congestion,
    wake::Wake,
};

const CONGESTION: &str = "cubic";
const CHUNK: usize = 64 * 1024;
/// Pauses shorter than this are not worth remembering.
const SHORTEST_STALL: Duration = Duration::from_millis(2);
/// How often a waiting download looks at its deadline.
const TICK: Duration = Duration::from_millis(50);

/// Streams pseudo-random bytes to whoever asks, followed by their SHA-256.
///
/// A request is a length and a seed, both 64 bits and big-endian.
pub struct FileServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    wake: Wake,
    connections: Mutex<Vec<TcpStream>>,
}

impl FileServer {
    /// Starts a server on a host.
    pub fn start(host: &Host, address: SocketAddr) -> Result<Self> {
        let listener =
            host.run(|| TcpListener::bind(address))?.context(format!("listen on TCP {address}"))?;
        listener.set_nonblocking(true).context("set up a socket")?;
        set_congestion(&listener, CONGESTION);
        let address = listener.local_addr().context("read a socket's address")?;
        let wake = Wake::new().context("set up a thread")?;
        let shared = Arc::new(Shared { wake, connections: Mutex::default() });
        let inner = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("file server".to_owned())
            .spawn(move || accept(&listener, &inner))
            .context("start a thread")?;
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.shared.wake.stop();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already.
            let _ = thread.join();
        }
        for connection in self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // Fails for those that have ended; the others' threads end.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Shared) {
    while !shared.wake.stopped() {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Ok(copy) = stream.try_clone() {
                    shared.connections.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
                }
                set_congestion(&stream, CONGESTION);
                // A client that has gone away needs no further service.
                thread::spawn(move || drop(serve(stream)));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => shared.wake.wait_for(listener, None),
            // The connection was gone before it was accepted, or the process is out of descriptors.
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    let mut request = [0; 16];
    stream.read_exact(&mut request)?;
    let [length, seed] =
        [0, 8].map(|at| request[at..].first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes)));
    let mut random = Random::new(seed);
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut left = length;
    while left > 0 {
        for word in chunk.chunks_exact_mut(8) {
            word.copy_from_slice(&random.next().to_be_bytes());
        }
        let part = &chunk[..usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
        hash.update(part);
        stream.write_all(part)?;
        left -= part.len() as u64;
    }
    stream.write_all(&hash.finalize())?;
    // Leaves the closing of the connection to the client.
    stream.shutdown(Shutdown::Write)?;
    stream.read(&mut [0; 1]).map(drop)
}

/// What a download has come to.
#[derive(Clone, Debug, PartialEq)]
pub struct DownloadReport {
    /// The bytes received.
    pub bytes: u64,
    /// Their SHA-256, which is the one the server computed.
    pub sha256: [u8; 32],
    /// The time from the start of connecting to the last byte.
    pub elapsed: Duration,
    /// The longest time without a byte, connecting included.
    pub longest_stall: Duration,
}

impl DownloadReport {
    /// The mean rate in bits per second.
    pub fn rate_bps(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// A download under way. Dropping it abandons it.
pub struct Download {
    progress: Arc<Progress>,
    thread: Option<JoinHandle<Result<DownloadReport>>>,
}

struct Progress {
    start: Instant,
    bytes: AtomicU64,
    cancel: AtomicBool,
    stalls: Mutex<Stalls>,
}

/// When no bytes came.
struct Stalls {
    last: Instant,
    past: Vec<(Instant, Instant)>,
}

impl Stalls {
    fn read(&mut self, now: Instant) {
        if now.saturating_duration_since(self.last) >= SHORTEST_STALL {
            self.past.push((self.last, now));
        }
        self.last = now;
    }

    fn longest(&self, since: Instant, now: Instant) -> Duration {
        let present = (self.last, now);
        let stalls = self.past.iter().chain([&present]);
        let lengths = stalls.map(|(from, to)| to.saturating_duration_since(since.max(*from)));
        lengths.max().unwrap_or_default()
    }
}

impl Download {
    /// Starts to download `length` bytes made from `seed`, from a [`FileServer`] to a host. It fails
    /// when `timeout` is over, wherever it is then.
    pub fn start(host: &Host, server: SocketAddr, length: u64, seed: u64, timeout: Duration) -> Result<Self> {
        let start = Instant::now();
        let stalls = Mutex::new(Stalls { last: start, past: Vec::new() });
        let progress =
            Arc::new(Progress { start, bytes: AtomicU64::new(0), cancel: AtomicBool::new(false), stalls });
        let (inner, host) = (Arc::clone(&progress), host.clone());
        let thread = thread::Builder::new()
            .name("download".to_owned())
            .spawn(move || {
                let connect = || TcpStream::connect_timeout(&server, timeout);
                let stream = match host.run(connect)? {
                    Err(error) if error.kind() == ErrorKind::TimedOut => {
                        return Err(Error::Deadline {
                            what: "a download",
                            progress: "connecting".to_owned(),
                        });
                    }
                    result => result.context(format!("connect to {server}"))?,
                };
                receive(stream, length, seed, &inner, start + timeout)
            })
            .context("start a thread")?;
        Ok(Self { progress, thread: Some(thread) })
    }

    /// How many bytes have arrived.
    pub fn bytes(&self) -> u64 {
        self.progress.bytes.load(Ordering::Relaxed)
    }

    /// Whether it has ended, well or badly.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// A moment to measure stalls from.
    pub fn mark(&self) -> Mark {
        Mark::now()
    }

    /// The longest time without a byte since a mark, the present silence included unless the download
    /// is finished. Pauses below 2 ms are not noted.
    pub fn longest_stall(&self, since: Mark) -> Duration {
        let stalls = self.progress.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        let now = if self.is_finished() { stalls.last } else { Instant::now() };
        stalls.longest(since.0, now)
    }

    /// Waits for the end, which the timeout given at the start brings at the latest.
    pub fn finish(mut self) -> Result<DownloadReport> {
        let thread = self.thread.take();
        thread.map_or(Err(Error::Damaged("the download has no thread".to_owned())), |thread| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.progress.cancel.store(true, Ordering::Relaxed);
    }
}

/// Downloads and waits for the result; see [`Download::start`].
pub fn download(
    host: &Host,
    server: SocketAddr,
    length: u64,
    seed: u64,
    timeout: Duration,
) -> Result<DownloadReport> {
    Download::start(host, server, length, seed, timeout)?.finish()
}

fn receive(
    mut stream: TcpStream,
    length: u64,
    seed: u64,
    progress: &Progress,
    deadline: Instant,
) -> Result<DownloadReport> {
    set_congestion(&stream, CONGESTION);
    stream.set_read_timeout(Some(TICK)).context("set up a socket")?;
    stream.write_all(&[length.to_be_bytes(), seed.to_be_bytes()].concat()).context("send a request")?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut digest = Vec::new();
    let mut bytes = 0;
    while digest.len() < 32 {
        let read = match stream.read(&mut chunk) {
            Ok(0) => {
                let message = format!("the connection ended after {bytes} of {length} bytes");
                return Err(Error::Damaged(message));
            }
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(source) => return Err(Error::Io { what: format!("read after {bytes} bytes"), source }),
        };
        let now = Instant::now();
        if read > 0 {
            progress.stalls.lock().unwrap_or_else(PoisonError::into_inner).read(now);
        }
        let part = usize::try_from(length - bytes).unwrap_or(usize::MAX).min(read);
        hash.update(&chunk[..part]);
        digest.extend_from_slice(&chunk[part..read]);
        bytes += part as u64;
        progress.bytes.store(bytes, Ordering::Relaxed);
        if now >= deadline || progress.cancel.load(Ordering::Relaxed) {
            return Err(Error::Deadline {
                what: "a download",
                progress: format!("{bytes} of {length} bytes"),
            });
        }
    }
    let sha256: [u8; 32] = hash.finalize().into();
    if digest != sha256 {
        return Err(Error::Damaged(format!("the SHA-256 of {bytes} bytes is not the server's")));
    }
    let stalls = progress.stalls.lock().unwrap_or_else(PoisonError::into_inner);
    let longest_stall = stalls.longest(progress.start, stalls.last);
    Ok(DownloadReport { bytes, sha256, elapsed: progress.start.elapsed(), longest_stall })
}
