//! A steady stream of small datagrams, sent back by the other side.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sys::prctl;

use super::Mark;
use crate::{
    error::{Context, Result},
    host::Host,
    wake::Wake,
};

/// The size of a probe, about that of a voice packet.
const PROBE: usize = 160;
/// A probe that is not answered by then is lost; an answer that comes later still counts.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends UDP datagrams back to where they came from.
pub struct EchoServer {
    address: SocketAddr,
    wake: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl EchoServer {
    /// Starts a server on a host.
    pub fn start(host: &Host, address: SocketAddr) -> Result<Self> {
        let socket = host.run(|| UdpSocket::bind(address))?.context(format!("bind UDP {address}"))?;
        socket.set_nonblocking(true).context("set up a socket")?;
        let address = socket.local_addr().context("read a socket's address")?;
        let wake = Arc::new(Wake::new().context("set up a thread")?);
        let shared = Arc::clone(&wake);
        let thread = thread::Builder::new()
            .name("echo server".to_owned())
            .spawn(move || serve(&socket, &shared))
            .context("start a thread")?;
        Ok(Self { address, wake, thread: Some(thread) })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        end(&self.wake, &mut self.thread);
    }
}

fn end(wake: &Wake, thread: &mut Option<JoinHandle<()>>) {
    wake.stop();
    if let Some(thread) = thread.take() {
        // A panic there has been printed already.
        let _ = thread.join();
    }
}

fn serve(socket: &UdpSocket, wake: &Wake) {
    let mut data = [0; 65_536];
    while !wake.stopped() {
        match socket.recv_from(&mut data) {
            // What cannot be sent back is lost, as the client will see.
            Ok((length, peer)) => drop(socket.send_to(&data[..length], peer)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => wake.wait_for(socket, None),
            // The error of an earlier datagram.
            Err(_) => {}
        }
    }
}

/// What became of the probes of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoReport {
    /// Probes whose time to be sent came in the period.
    pub sent: u64,
    /// Those of them that were answered.
    pub received: u64,
    /// Those that were not answered within a second, or could not be sent.
    pub lost: u64,
    /// Those sent within the last second and not answered yet.
    pub in_flight: u64,
    /// Those that the system refused to send (also counted as lost).
    pub send_errors: u64,
    /// The longest silence: between two answers in a row, or between either end of the period and the
    /// answer nearest to it.
    pub longest_gap: Duration,
    /// The length of the period.
    pub period: Duration,
    /// The shortest round trip.
    pub rtt_min: Option<Duration>,
    /// The median round trip.
    pub rtt_median: Option<Duration>,
    /// The 99th percentile of the round trips (nearest rank); of less than a hundred, the longest.
    pub rtt_p99: Option<Duration>,
    /// The longest round trip.
    pub rtt_max: Option<Duration>,
}

#[derive(Clone, Copy)]
struct Probe {
    sent: Instant,
    refused: bool,
    rtt: Option<Duration>,
}

#[derive(Default)]
struct Record {
    probes: Vec<Probe>,
    /// In order.
    arrivals: Vec<Instant>,
}

impl Record {
    /// Whether recent probes sent before some moment may still be answered.
    fn outstanding(&self, before: Instant) -> bool {
        let recent = self.probes.iter().rev().take_while(|probe| probe.sent.elapsed() < PATIENCE);
        recent.filter(|probe| probe.sent <= before).any(|probe| probe.rtt.is_none() && !probe.refused)
    }

    fn report(&self, since: Instant, now: Instant) -> EchoReport {
        let first = self.probes.partition_point(|probe| probe.sent < since);
        let probes = &self.probes[first..];
        let mut trips: Vec<Duration> = probes.iter().filter_map(|probe| probe.rtt).collect();
        trips.sort_unstable();
        let count = |condition: &dyn Fn(&&Probe) -> bool| probes.iter().filter(condition).count() as u64;
        let waiting = |probe: &&Probe| {
            probe.rtt.is_none() && !probe.refused && now.saturating_duration_since(probe.sent) < PATIENCE
        };
        let (sent, received, in_flight) = (probes.len() as u64, trips.len() as u64, count(&waiting));
        let mut longest_gap = Duration::ZERO;
        let mut last = since;
        let first = self.arrivals.partition_point(|arrival| *arrival < since);
        for arrival in self.arrivals[first..].iter().chain([&now]) {
            longest_gap = longest_gap.max(arrival.saturating_duration_since(last));
            last = *arrival;
        }
        EchoReport {
            sent,
            received,
            lost: sent - received - in_flight,
            in_flight,
            send_errors: count(&|probe| probe.refused),
            longest_gap,
            period: now.saturating_duration_since(since),
            rtt_min: trips.first().copied(),
            rtt_median: trips.get(trips.len() / 2).copied(),
            rtt_p99: (trips.len() * 99).div_ceil(100).checked_sub(1).and_then(|at| trips.get(at)).copied(),
            rtt_max: trips.last().copied(),
        }
    }
}

struct Shared {
    record: Mutex<Record>,
    wake: Wake,
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, since: Instant) -> EchoReport {
        self.record().report(since, Instant::now())
    }
}

/// Sends probes at a steady pace to an [`EchoServer`], and keeps track of the answers.
///
/// Nothing that happens to the network ends it: what cannot be sent is lost.
pub struct EchoClient {
    start: Instant,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl EchoClient {
    /// The usual pace: 100 probes a second.
    pub const INTERVAL: Duration = Duration::from_millis(10);

    /// Starts probing from a host, with a socket that is bound to no address.
    pub fn start(host: &Host, target: SocketAddr, interval: Duration) -> Result<Self> {
        let any: SocketAddr = match target {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = host.run(|| UdpSocket::bind(any))?.context("bind a UDP socket")?;
        Self::with_socket(socket, target, interval)
    }

    /// Starts probing with a given socket, which must not be connected.
    pub fn with_socket(socket: UdpSocket, target: SocketAddr, interval: Duration) -> Result<Self> {
        socket.set_nonblocking(true).context("set up a socket")?;
        let shared =
            Arc::new(Shared { record: Mutex::default(), wake: Wake::new().context("set up a thread")? });
        let start = Instant::now();
        let inner = Arc::clone(&shared);
        let interval = interval.max(Duration::from_micros(100));
        let thread = thread::Builder::new()
            .name("echo client".to_owned())
            .spawn(move || probe(&inner, &socket, target, interval))
            .context("start a thread")?;
        Ok(Self { start, shared, thread: Some(thread) })
    }

    /// A moment to report from.
    pub fn mark(&self) -> Mark {
        Mark::now()
    }

    /// What became of the probes since a mark.
    pub fn report(&self, since: Mark) -> EchoReport {
        self.shared.report(since.0)
    }

    /// What became of all probes so far.
    pub fn snapshot(&self) -> EchoReport {
        self.shared.report(self.start)
    }

    /// Ends the period now, waits up to a second for outstanding answers, stops, and reports on the
    /// time since a mark. Nothing is in flight in that report.
    pub fn finish(mut self, since: Mark) -> EchoReport {
        let end_of_period = Instant::now();
        let outstanding = || self.shared.record().outstanding(end_of_period);
        while outstanding() && end_of_period.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(2));
        }
        end(&self.shared.wake, &mut self.thread);
        let mut record = self.shared.record();
        record.probes.retain(|probe| probe.sent <= end_of_period);
        record.arrivals.retain(|arrival| *arrival <= end_of_period);
        let mut report = record.report(since.0, end_of_period);
        report.lost += std::mem::take(&mut report.in_flight);
        report
    }
}

impl Drop for EchoClient {
    fn drop(&mut self) {
        end(&self.shared.wake, &mut self.thread);
    }
}

/// The life of a probing thread.
fn probe(shared: &Shared, socket: &UdpSocket, target: SocketAddr, interval: Duration) {
    // Ticks are to be precise; without this they are merely less so.
    let _ = prctl::set_timerslack(1);
    let mut next = Instant::now();
    let mut data = [0; 2048];
    while !shared.wake.stopped() {
        loop {
            match socket.recv_from(&mut data) {
                Ok((length, _)) => receive(shared, &data[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                // The error of an earlier probe.
                Err(_) => {}
            }
        }
        let now = Instant::now();
        if now >= next {
            send(shared, socket, target);
            // A thread that was held up does not catch up with a burst.
            while next <= now {
                next += interval;
            }
        }
        shared.wake.wait_for(socket, Some(next));
    }
}

fn send(shared: &Shared, socket: &UdpSocket, target: SocketAddr) {
    let mut packet = [0; PROBE];
    let mut record = shared.record();
    packet[..8].copy_from_slice(&(record.probes.len() as u64).to_be_bytes());
    let sent = Instant::now();
    let refused = socket.send_to(&packet, target).is_err();
    record.probes.push(Probe { sent, refused, rtt: None });
}

fn receive(shared: &Shared, packet: &[u8]) {
    let now = Instant::now();
    let Some(number) = packet.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes)) else { return };
    let mut record = shared.record();
    let Some(probe) = usize::try_from(number).ok().and_then(|number| record.probes.get_mut(number)) else {
        return;
    };
    // Only the first of duplicates counts.
    if probe.rtt.is_none() {
        probe.rtt = Some(now.saturating_duration_since(probe.sent));
        record.arrivals.push(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_report_counts_from_its_mark() {
        let start = Instant::now();
        let answered =
            |at: u32, rtt: u32| Probe { sent: start + MS * at, refused: false, rtt: Some(MS * rtt) };
        let silent = |at: u32| Probe { sent: start + MS * at, refused: false, rtt: None };
        let record = Record {
            probes: vec![answered(0, 5), silent(10), answered(20, 7), silent(1990)],
            arrivals: vec![start + MS * 5, start + MS * 27],
        };
        let report = record.report(start, start + MS * 2000);
        assert_eq!((report.sent, report.received, report.lost, report.in_flight), (4, 2, 1, 1));
        assert_eq!(report.longest_gap, MS * 1973);
        assert_eq!(report.rtt_median, Some(MS * 7));
        assert_eq!(report.rtt_p99, Some(MS * 7));
        let later = record.report(start + MS * 10, start + MS * 30);
        assert_eq!((later.sent, later.received, later.longest_gap), (3, 1, MS * 17));
    }

    #[test]
    fn the_99th_percentile_leaves_out_one_of_a_hundred() {
        let start = Instant::now();
        let probe = |rtt: u32| Probe { sent: start, refused: false, rtt: Some(MS * rtt) };
        let report = |count: u32| {
            Record { probes: (1..=count).map(probe).collect(), arrivals: vec![] }
                .report(start, start + MS * 500)
        };
        assert_eq!(report(200).rtt_p99, Some(MS * 198));
        assert_eq!(report(100).rtt_p99, Some(MS * 99));
        assert_eq!(report(1).rtt_p99, Some(MS));
        assert_eq!(report(0).rtt_p99, None);
    }

    #[test]
    fn a_refused_probe_is_lost_at_once() {
        let start = Instant::now();
        let probes = vec![Probe { sent: start, refused: true, rtt: None }];
        let report = Record { probes, arrivals: vec![] }.report(start, start + MS);
        assert_eq!((report.lost, report.send_errors, report.in_flight), (1, 1, 0));
    }
}
