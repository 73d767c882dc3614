//! Small UDP packets as fast as is asked for, many with one system call, and how many of them arrive.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mast_netlab::Host;
use nix::sys::prctl;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt};
use socket2::SockRef;

use crate::{BenchError, Result, io};

/// UDP payload of a packet, in bytes: a voice frame, a game's move, a DNS query.
pub const PAYLOAD: usize = 64;
/// Packets to a system call.
const BATCH: usize = 32;
/// Room for those that have arrived while the receiver had no processor.
const RECEIVE_BUFFER: usize = 4 << 20;
/// What still arrives so late was on its way.
const SETTLE: Duration = Duration::from_millis(300);
/// How often the receiver looks whether it is over.
const LOOK: Duration = Duration::from_millis(50);

/// What became of the packets of a period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delivery {
    /// Packets that the sender's system took.
    pub sent: u64,
    /// Packets that arrived.
    pub received: u64,
    /// How long they were sent.
    pub time: Duration,
}

impl Delivery {
    /// Packets that arrived, in thousands a second.
    pub fn kpps(&self) -> f64 {
        self.received as f64 / self.time.as_secs_f64().max(f64::MIN_POSITIVE) / 1e3
    }

    /// The share of those sent that did not arrive, from 0 to 1.
    pub fn lost(&self) -> f64 {
        1.0 - (self.received as f64 / self.sent.max(1) as f64).min(1.0)
    }
}

/// Sends packets from one host to an address of another for some time, `rate` a second.
///
/// # Errors
/// When a socket cannot be opened, or no packet can be sent.
pub fn run(from: &Host, to: &Host, address: SocketAddr, rate: f64, time: Duration) -> Result<Delivery> {
    let open = |host: &Host, address: SocketAddr| -> Result<UdpSocket> {
        host.run(|| UdpSocket::bind(address))?.map_err(io(format!("bind UDP {address}")))
    };
    let receiver = open(to, address)?;
    // Only the real root may go past the system's limit; what is granted is the same for all that are measured.
    setsockopt(&receiver, RcvBufForce, &RECEIVE_BUFFER)
        .or_else(|_| SockRef::from(&receiver).set_recv_buffer_size(RECEIVE_BUFFER))
        .map_err(io("set up a socket"))?;
    receiver.set_read_timeout(Some(LOOK)).map_err(io("set up a socket"))?;
    let sender = open(from, SocketAddr::from(([0, 0, 0, 0], 0)))?;
    sender
        .connect(receiver.local_addr().map_err(io("read a socket's address"))?)
        .map_err(io("connect UDP"))?;
    let (count, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let thread = {
        let (count, over) = (Arc::clone(&count), Arc::clone(&over));
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                count.fetch_add(receive(&receiver), Ordering::Relaxed);
            }
        })
    };
    let sent = thread::scope(|scope| scope.spawn(|| send(&sender, rate, time)).join());
    thread::sleep(SETTLE);
    over.store(true, Ordering::Relaxed);
    let _ = thread.join();
    let ended = || BenchError::Program("the sender of packets has ended".into());
    let (sent, time) = sent.map_err(|_| ended())??;
    Ok(Delivery { sent, received: count.load(Ordering::Relaxed), time })
}

/// Takes what is there, at most a batch.
fn receive(socket: &UdpSocket) -> u64 {
    let mut room = [[0_u8; 2 * PAYLOAD]; BATCH];
    let mut parts: Vec<[IoSliceMut; 1]> = room.iter_mut().map(|part| [IoSliceMut::new(part)]).collect();
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let flags = MsgFlags::MSG_WAITFORONE;
    // It fails when nothing came for a while.
    recvmmsg(socket.as_raw_fd(), &mut headers, parts.iter_mut(), flags, None)
        .map_or(0, |all| all.count() as u64)
}

/// Sends at a steady pace, and says how many packets were taken, and in which time.
fn send(socket: &UdpSocket, rate: f64, time: Duration) -> Result<(u64, Duration)> {
    // Ticks are to be precise; without this they are merely less so.
    let _ = prctl::set_timerslack(1);
    let data = [0_u8; PAYLOAD];
    let parts: Vec<[IoSlice; 1]> = (0..BATCH).map(|_| [IoSlice::new(&data)]).collect();
    let nobody: [Option<SockaddrIn>; BATCH] = [None; BATCH];
    let mut headers = MultiHeaders::preallocate(BATCH, None);
    let interval = Duration::from_secs_f64(BATCH as f64 / rate.max(1.0));
    let (start, mut next, mut sent) = (Instant::now(), Instant::now(), 0);
    while start.elapsed() < time {
        let flags = MsgFlags::empty();
        // What the system refuses, as its queue is full, is a packet that was not sent.
        if let Ok(taken) = sendmmsg(socket.as_raw_fd(), &mut headers, &parts, nobody, [], flags) {
            sent += taken.count() as u64;
        }
        // A sender that was held up does not catch up with a burst of more than a moment's packets.
        next = (next + interval).max(Instant::now().checked_sub(LOOK).unwrap_or(start));
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    if sent == 0 {
        return Err(BenchError::Program("no packet could be sent".into()));
    }
    Ok((sent, start.elapsed()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

    use mast_netlab::{Lab, isolated_test};

    use super::*;

    #[test]
    fn what_is_sent_arrives_at_the_rate_asked_for() {
        isolated_test("packets::tests::what_is_sent_arrives_at_the_rate_asked_for", || {
            let lab = Lab::new().unwrap();
            let (a, b) = (lab.host("a").unwrap(), lab.host("b").unwrap());
            lab.wire(&a, "eth0", &b, "eth0").unwrap();
            a.add_address("eth0", "10.0.0.1/24").unwrap();
            b.add_address("eth0", "10.0.0.2/24").unwrap();
            let to = SocketAddr::from(([10, 0, 0, 2], 9));
            let delivery = run(&a, &b, to, 1_000.0, Duration::from_secs(1)).unwrap();
            // A busy machine may send less, but nothing makes it send more.
            let most = (delivery.time + LOOK).as_secs_f64() * 1_000.0 + BATCH as f64;
            assert!((100.0..=most).contains(&(delivery.sent as f64)), "{delivery:?}");
            assert_eq!(delivery.received, delivery.sent, "{delivery:?}");
            let kpps = delivery.sent as f64 / delivery.time.as_secs_f64() / 1e3;
            assert!(delivery.lost() == 0.0 && (delivery.kpps() - kpps).abs() < 1e-9, "{delivery:?}");
        });
    }
}
