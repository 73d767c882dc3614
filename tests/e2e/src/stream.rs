//! A TCP download without end: the client says when it has enough, and both ends compare SHA-256.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mast_netlab::Host;
use mast_netlab::traffic::Mark;
use sha2::{Digest, Sha256};

/// What is sent at once.
const CHUNK: usize = 4096;
/// And how often: 3.3 Mbit/s, so that no queue on the way is ever full, and what is lost is a fault.
const PACE: Duration = Duration::from_millis(10);
const DIGEST: usize = 32;

/// Serves a stream of pseudo-random bytes to each client, until the client ends its side.
pub struct StreamServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl StreamServer {
    /// Listens on a host.
    pub fn start(host: &Host, address: SocketAddr) -> Self {
        let listener = host.run(|| TcpListener::bind(address)).unwrap();
        let listener = listener.unwrap_or_else(|e| panic!("cannot listen on {address}: {e}"));
        listener.set_nonblocking(true).unwrap();
        mast_netlab::set_congestion(&listener, "cubic");
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (ends, open) = (Arc::clone(&stop), Arc::clone(&connections));
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false).unwrap();
                        open.lock().unwrap().push(stream.try_clone().unwrap());
                        // A client that goes away is the client's business.
                        std::thread::spawn(move || drop(serve(stream)));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Self { address, stop, connections, thread: Some(thread) }
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for StreamServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for connection in self.connections.lock().unwrap().iter() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let enough = Arc::new(AtomicBool::new(false));
    let (seen, mut reader) = (Arc::clone(&enough), stream.try_clone()?);
    std::thread::spawn(move || {
        // Ends with the client's side, or with the connection.
        let _ = reader.read(&mut [0; 1]);
        seen.store(true, Ordering::Relaxed);
    });
    let mut state = 0x4d41_5354_u64;
    let mut hash = Sha256::new();
    let mut chunk = [0; CHUNK];
    while !enough.load(Ordering::Relaxed) {
        for word in chunk.chunks_exact_mut(8) {
            // A generator of Marsaglia's: any will do.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_be_bytes());
        }
        hash.update(chunk);
        stream.write_all(&chunk)?;
        std::thread::sleep(PACE);
    }
    stream.write_all(&hash.finalize())?;
    stream.shutdown(Shutdown::Write)
}

struct Shared {
    bytes: AtomicU64,
    arrivals: Mutex<Vec<Instant>>,
}

/// A download under way.
pub struct Stream {
    shared: Arc<Shared>,
    writer: TcpStream,
    thread: Option<JoinHandle<Result<u64, String>>>,
}

impl Stream {
    /// Connects from a host.
    pub fn start(host: &Host, server: SocketAddr) -> Self {
        let connected = host.run(|| TcpStream::connect_timeout(&server, Duration::from_secs(10))).unwrap();
        let stream = connected.unwrap_or_else(|e| panic!("cannot connect to {server}: {e}"));
        let writer = stream.try_clone().unwrap();
        let shared =
            Arc::new(Shared { bytes: AtomicU64::new(0), arrivals: Mutex::new(vec![Instant::now()]) });
        let inner = Arc::clone(&shared);
        let thread = std::thread::spawn(move || receive(stream, &inner));
        Self { shared, writer, thread: Some(thread) }
    }

    /// How much has arrived.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// The longest time since a mark in which nothing arrived, the present one included.
    pub fn longest_stall(&self, since: Mark) -> Duration {
        let now = Instant::now();
        let mut last = now.checked_sub(since.elapsed()).unwrap_or(now);
        let mut longest = Duration::ZERO;
        let arrivals = self.shared.arrivals.lock().unwrap();
        let first = arrivals.partition_point(|at| *at < last);
        for at in arrivals[first..].iter().chain([&now]) {
            longest = longest.max(at.saturating_duration_since(last));
            last = *at;
        }
        longest
    }

    /// Ends the download. Every byte of it must be what the server sent.
    pub fn finish(mut self) -> u64 {
        self.writer.shutdown(Shutdown::Write).unwrap();
        let end = self.thread.take().unwrap().join().unwrap();
        end.unwrap_or_else(|why| panic!("the TCP connection did not survive: {why}"))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.writer.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn receive(mut stream: TcpStream, shared: &Shared) -> Result<u64, String> {
    let limit = Duration::from_secs(60);
    stream.set_read_timeout(Some(limit)).unwrap();
    let mut hash = Sha256::new();
    // The last bytes may be the digest.
    let mut held: Vec<u8> = Vec::new();
    let mut chunk = [0; 16 * 1024];
    let mut bytes = 0;
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => {
                held.extend_from_slice(&chunk[..read]);
                let safe = held.len().saturating_sub(DIGEST);
                hash.update(&held[..safe]);
                held.drain(..safe);
                bytes += read as u64;
                shared.bytes.store(bytes, Ordering::Relaxed);
                shared.arrivals.lock().unwrap().push(Instant::now());
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(format!("nothing came for {limit:?}")),
            Err(e) => return Err(format!("{e} after {bytes} bytes")),
        }
    }
    if held == hash.finalize().as_slice() {
        Ok(bytes)
    } else {
        Err(format!("the SHA-256 of {bytes} bytes is not the server's"))
    }
}
