//! What must survive: a TCP download and a 100 Hz UDP echo between the EIDs of two peers.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use mast_control::Eids;
use mast_netlab::Host;
use mast_netlab::traffic::{EchoClient, EchoReport, Mark};
use mast_stage::Daemon;

use crate::{PATIENCE, Stream, StreamServer, within};

/// What a session noticed since a mark.
pub struct Notice {
    /// The echo.
    pub echo: EchoReport,
    /// The longest time in which no byte of the download came.
    pub stall: Duration,
}

impl Notice {
    /// The longest silence of the echo.
    pub fn gap(&self) -> Duration {
        self.echo.longest_gap
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        let EchoReport { longest_gap, lost, .. } = self.echo;
        write!(f, "echo gap {:.0} ms, {lost} lost, TCP stall {:.0} ms", ms(longest_gap), ms(self.stall))
    }
}

/// A download and an echo under way.
pub struct Session {
    /// The echo.
    pub echo: EchoClient,
    /// The download.
    pub stream: Stream,
    checked: CheckedEcho,
    _streams: StreamServer,
}

impl Session {
    /// Starts a session from one daemon's host to another's, between their IPv4 EIDs, and waits until it runs.
    pub fn start(client: &Daemon, server: &Daemon) -> Self {
        let name = server.status().unwrap().name;
        let known = client.wait("an EID", PATIENCE, |s| {
            s.peers
                .iter()
                .any(|p| p.name == name && p.eid.remote_v4.is_some() && p.state.as_str() == "connected")
        });
        let known = known.unwrap_or_else(|e| panic!("{e}"));
        let eid = known.peers.into_iter().find(|p| p.name == name).unwrap().eid;
        Self::between(client.host(), server.host(), &eid)
    }

    /// The same between the IPv4 addresses of `eid`.
    pub fn between(client: &Host, server: &Host, eid: &Eids) -> Self {
        let address = |text: &Option<String>| text.as_ref().unwrap().parse::<IpAddr>().unwrap();
        Self::from_to(client, server, address(&eid.local_v4), address(&eid.remote_v4))
    }

    /// The same between the IPv6 EIDs.
    pub fn between_v6(client: &Host, server: &Host, eid: &Eids) -> Self {
        let address = |text: &Option<String>| text.as_ref().unwrap().parse::<IpAddr>().unwrap();
        Self::from_to(client, server, address(&eid.local_v6), address(&eid.remote_v6))
    }

    fn from_to(client: &Host, server: &Host, local: IpAddr, remote: IpAddr) -> Self {
        // The other end has the EIDs a moment later.
        let bind = || server.run(|| UdpSocket::bind((remote, 0))).unwrap().is_ok();
        within(PATIENCE, &format!("{} has its EID {remote}", server.name()), bind);
        let checked = CheckedEcho::start(server, remote, local);
        let streams = StreamServer::start(server, SocketAddr::new(remote, 0));
        let echo = EchoClient::start(client, checked.address, EchoClient::INTERVAL).unwrap();
        let stream = Stream::start(client, streams.address());
        let session = Self { echo, stream, checked, _streams: streams };
        session.wait_running();
        session
    }

    /// Waits until the session runs as it should: half a second without a pause.
    pub fn wait_running(&self) {
        let limit = std::time::Instant::now() + PATIENCE;
        loop {
            let mark = self.mark();
            crate::sleep(500);
            let notice = self.since(mark);
            if notice.gap() < Duration::from_millis(150) && notice.stall < Duration::from_millis(400) {
                return;
            }
            assert!(std::time::Instant::now() < limit, "the session does not run: {notice}");
        }
    }

    /// A moment to look back to.
    pub fn mark(&self) -> Mark {
        Mark::now()
    }

    /// What was noticed since a mark.
    pub fn since(&self, mark: Mark) -> Notice {
        Notice { echo: self.echo.report(mark), stall: self.stream.longest_stall(mark) }
    }

    /// Waits until no answer of the last second is outstanding, and says what was noticed since a mark: nothing may
    /// be lost.
    pub fn without_loss(&self, what: &str, mark: Mark) -> Notice {
        crate::sleep(1200);
        let notice = self.since(mark);
        println!("{what}: {notice}");
        assert_eq!(notice.echo.lost, 0, "{what}: {:?}", notice.echo);
        notice
    }

    /// What was noticed since a mark; the silence may not be longer than `limit`.
    pub fn with_gap(&self, what: &str, mark: Mark, limit: Duration) -> Notice {
        self.wait_running();
        // Only after a second is a probe known to be lost.
        crate::sleep(600);
        let notice = self.since(mark);
        println!("{what}: {notice}");
        assert!(notice.gap() < limit, "{what}: {:?}", notice.echo);
        // TCP waits for its own timer on top, which has doubled a few times by then.
        assert!(notice.stall < limit * 3, "{what}: TCP stood still for {:?}", notice.stall);
        notice
    }

    /// Ends the session: all of the download must be what the server sent, and no datagram may have come twice, from
    /// elsewhere, or damaged.
    pub fn survives(self) {
        self.wait_running();
        let Self { stream, checked, .. } = self;
        stream.finish();
        checked.check();
    }
}

#[derive(Default)]
struct Faults {
    seen: HashSet<u64>,
    wrong: Vec<String>,
}

/// An echo server that trusts nobody.
struct CheckedEcho {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    faults: Arc<Mutex<Faults>>,
    thread: Option<JoinHandle<()>>,
}

impl CheckedEcho {
    fn start(host: &Host, at: IpAddr, from: IpAddr) -> Self {
        let socket = host.run(|| UdpSocket::bind((at, 0))).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let address = socket.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let faults = Arc::new(Mutex::new(Faults::default()));
        let (ends, found) = (Arc::clone(&stop), Arc::clone(&faults));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !ends.load(Ordering::Relaxed) {
                let Ok((length, sender)) = socket.recv_from(&mut buffer) else { continue };
                let datagram = &buffer[..length];
                let mut faults = found.lock().unwrap();
                // A probe is a number and zeros.
                match datagram.split_first_chunk::<8>() {
                    Some((number, rest)) if length == 160 && rest.iter().all(|b| *b == 0) => {
                        let number = u64::from_be_bytes(*number);
                        if !faults.seen.insert(number) {
                            faults.wrong.push(format!("{number} came twice"));
                        }
                    }
                    _ => faults.wrong.push(format!("{length} bytes that were never sent")),
                }
                if sender.ip() != from {
                    faults.wrong.push(format!("a datagram from {sender}"));
                }
                drop(faults);
                let _ = socket.send_to(datagram, sender);
            }
        });
        Self { address, stop, faults, thread: Some(thread) }
    }

    fn check(&self) {
        let faults = self.faults.lock().unwrap();
        assert!(faults.wrong.is_empty(), "delivered wrongly: {:?}", faults.wrong);
    }
}

impl Drop for CheckedEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
