//! TCP connections, over TCP or Multipath TCP, that remember when something arrived.
//!
//! Both survive whatever happens to the network for as long as the connection does; a connection that ends is
//! silent from then on, which the figures show.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mast_netlab::{Host, set_congestion};
use nix::sys::prctl;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Result, io};

const CONGESTION: &str = "cubic";
const CONNECT: Duration = Duration::from_secs(5);
/// About a voice packet.
const MESSAGE: usize = 160;
const ECHO_INTERVAL: Duration = Duration::from_millis(10);
/// A paced stream sends something each millisecond: gaps are exact to that.
const PACE: Duration = Duration::from_millis(1);
/// What the sender may have in the kernel: several round trips, but not seconds.
const SEND_BUFFER: usize = 256 * 1024;
/// What a greedy sender hands over at once.
const CHUNK: usize = 64 * 1024;

/// What carries a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Plain TCP.
    Tcp,
    /// Multipath TCP.
    Mptcp,
}

impl Transport {
    fn socket(self, domain: Domain) -> std::io::Result<Socket> {
        let protocol = match self {
            Self::Tcp => Protocol::TCP,
            Self::Mptcp => Protocol::MPTCP,
        };
        Socket::new(domain, Type::STREAM, Some(protocol))
    }

    /// Whether the kernel has it.
    pub fn exists(self) -> bool {
        self.socket(Domain::IPV4).is_ok()
    }

    fn listen(self, host: &Host, address: SocketAddr) -> Result<TcpListener> {
        let open = || {
            let socket = self.socket(Domain::for_address(address))?;
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(1)?;
            socket.set_nonblocking(true)?;
            Ok(TcpListener::from(socket))
        };
        host.run(open)?.map_err(io(format!("listen on {address}")))
    }

    fn connect(self, host: &Host, address: SocketAddr) -> Result<TcpStream> {
        let open = || {
            let socket = self.socket(Domain::for_address(address))?;
            socket.connect_timeout(&address.into(), CONNECT)?;
            Ok(TcpStream::from(socket))
        };
        host.run(open)?.map_err(io(format!("connect to {address}")))
    }
}

/// When something arrived, and how many bytes.
#[derive(Debug, Default)]
struct Arrivals(Mutex<Vec<(Instant, usize)>>);

impl Arrivals {
    fn note(&self, bytes: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), bytes));
    }

    fn bytes(&self, since: Instant, until: Instant) -> u64 {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = all.partition_point(|(at, _)| *at < since);
        all.iter().skip(first).take_while(|(at, _)| *at < until).map(|(_, bytes)| *bytes as u64).sum()
    }

    fn longest_silence(&self, since: Instant, until: Instant) -> Duration {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = all.partition_point(|(at, _)| *at < since);
        let mut last = since;
        let mut longest = Duration::ZERO;
        let arrivals = all.iter().skip(first).map(|(at, _)| at);
        for at in arrivals.take_while(|at| **at < until).chain([&until]) {
            longest = longest.max(at.saturating_duration_since(last));
            last = *at;
        }
        longest
    }

    fn first_after(&self, since: Instant) -> Option<Duration> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, _) = all.get(all.partition_point(|(at, _)| *at < since))?;
        Some(at.saturating_duration_since(since))
    }
}

/// A connection between two hosts over which something is sent at a steady pace. Dropping it ends it.
pub struct Stream {
    arrivals: Arc<Arrivals>,
    stop: Arc<AtomicBool>,
    ends: [TcpStream; 2],
    /// Further subflows of Multipath TCP are accepted only as long as somebody listens.
    _listener: TcpListener,
}

impl Stream {
    /// A stream of so many Mbit/s from the server to the client (`down`), or the other way, as a video is: sent at the
    /// pace at which it is made, whatever the network could carry.
    ///
    /// # Errors
    /// When the connection cannot be made.
    pub fn paced(
        transport: Transport,
        client: &Host,
        server: &Host,
        address: SocketAddr,
        (mbit, down): (u32, bool),
    ) -> Result<Self> {
        let stream = Self::open(transport, client, server, address, Some(SEND_BUFFER))?;
        for end in &stream.ends {
            // Or a packet would wait for the answer to the one before.
            end.set_nodelay(true).map_err(io("set up a socket"))?;
        }
        let [near, far] = stream.copies()?;
        let (from, to) = if down { (far, near) } else { (near, far) };
        stream.send(from, mbit as usize * 125, PACE);
        stream.receive(to);
        Ok(stream)
    }

    /// As much as the network takes, from the server to the client (`down`), or the other way.
    ///
    /// # Errors
    /// When the connection cannot be made.
    pub fn greedy(
        transport: Transport,
        client: &Host,
        server: &Host,
        address: SocketAddr,
        down: bool,
    ) -> Result<Self> {
        // Buffers are the system's to choose: those of a fixed size would be the limit.
        let stream = Self::open(transport, client, server, address, None)?;
        let [near, far] = stream.copies()?;
        let (from, to) = if down { (far, near) } else { (near, far) };
        stream.send(from, CHUNK, Duration::ZERO);
        stream.receive(to);
        Ok(stream)
    }

    /// Requests of 160 bytes from the client, 100 a second, which the server sends back.
    ///
    /// # Errors
    /// When the connection cannot be made.
    pub fn echo(transport: Transport, client: &Host, server: &Host, address: SocketAddr) -> Result<Self> {
        let stream = Self::open(transport, client, server, address, Some(SEND_BUFFER))?;
        for end in &stream.ends {
            end.set_nodelay(true).map_err(io("set up a socket"))?;
        }
        let [near, mut far] = stream.copies()?;
        let sender = near.try_clone().map_err(io("copy a socket"))?;
        stream.send(sender, MESSAGE, ECHO_INTERVAL);
        stream.receive(near);
        thread::spawn(move || {
            let mut data = [0; 16 * 1024];
            while let Ok(length @ 1..) = far.read(&mut data) {
                if far.write_all(&data[..length]).is_err() {
                    break;
                }
            }
        });
        Ok(stream)
    }

    fn open(
        transport: Transport,
        client: &Host,
        server: &Host,
        address: SocketAddr,
        buffer: Option<usize>,
    ) -> Result<Self> {
        let listener = transport.listen(server, address)?;
        let near = transport.connect(client, address)?;
        let deadline = Instant::now() + CONNECT;
        let far = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if Instant::now() > deadline => return Err(io("accept a connection")(error)),
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        };
        far.set_nonblocking(false).map_err(io("set up a socket"))?;
        for end in [&near, &far] {
            set_congestion(end, CONGESTION);
            if let Some(size) = buffer {
                socket2::SockRef::from(end).set_send_buffer_size(size).map_err(io("set up a socket"))?;
            }
        }
        Ok(Self { arrivals: Arc::default(), stop: Arc::default(), ends: [near, far], _listener: listener })
    }

    fn copies(&self) -> Result<[TcpStream; 2]> {
        let copy = |end: &TcpStream| end.try_clone().map_err(io("copy a socket"));
        let [near, far] = &self.ends;
        Ok([copy(near)?, copy(far)?])
    }

    fn send(&self, mut to: TcpStream, length: usize, interval: Duration) {
        let stop = Arc::clone(&self.stop);
        thread::spawn(move || {
            // Ticks are to be precise; without this they are merely less so.
            let _ = prctl::set_timerslack(1);
            let data = vec![0; length];
            let mut next = Instant::now();
            while !stop.load(Ordering::Relaxed) && to.write_all(&data).is_ok() {
                // What could not be sent while the connection was stuck is not made up for.
                next = (next + interval).max(Instant::now());
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
    }

    fn receive(&self, mut from: TcpStream) {
        let arrivals = Arc::clone(&self.arrivals);
        thread::spawn(move || {
            let mut data = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = from.read(&mut data) {
                arrivals.note(length);
            }
        });
    }

    /// How many bytes arrived between two moments.
    pub fn bytes(&self, since: Instant, until: Instant) -> u64 {
        self.arrivals.bytes(since, until)
    }

    /// The longest time without a byte at the end that receives.
    pub fn longest_silence(&self, since: Instant, until: Instant) -> Duration {
        self.arrivals.longest_silence(since, until)
    }

    /// How long after a moment the first byte came; nothing if none has come yet.
    pub fn first_after(&self, since: Instant) -> Option<Duration> {
        self.arrivals.first_after(since)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for end in &self.ends {
            // It fails if the connection has ended already.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_from_both_ends_of_the_period() {
        const MS: Duration = Duration::from_millis(1);
        let start = Instant::now();
        let arrivals = Arrivals(Mutex::new([5, 15, 60, 70].map(|at| (start + MS * at, 10)).to_vec()));
        assert_eq!(arrivals.longest_silence(start, start + MS * 80), MS * 45);
        assert_eq!(arrivals.longest_silence(start + MS * 61, start + MS * 100), MS * 30);
        assert_eq!(arrivals.longest_silence(start, start + MS * 30), MS * 15);
        assert_eq!(arrivals.first_after(start + MS * 16), Some(MS * 44));
        assert_eq!(arrivals.first_after(start + MS * 71), None);
        assert_eq!(arrivals.bytes(start + MS * 15, start + MS * 70), 20);
    }
}
