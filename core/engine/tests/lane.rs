//! The second thread for what is sent, on a system whose sockets tell who uses them, and refuse when they are told to.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use common::{config, interface, loopback, v6};
use mast_conformance::fake::{FakeHost, FakeSystem, FakeTun};
use mast_engine::api::Snapshot;
use mast_engine::os::{
    Arrival, Family, InterfaceList, NotReceived, NotSent, PlainUdp, Platform, SendRefused, TunWish, Udp,
};
use mast_engine::{Engine, EngineHandle};
use mast_proto::{Interface, PeerState};
use tokio::sync::watch;

/// Datagrams that are sent at once: two full runs of short ones.
const BURST: u32 = 128;

#[derive(Default)]
struct Told {
    /// The names of the threads that sent.
    threads: BTreeSet<String>,
    /// What the sockets of an interface say to whatever is sent.
    refuse: Option<(u32, SendRefused)>,
    /// So many runs are answered in that way.
    times: usize,
    /// And to whom: to all, or to the second thread.
    lane_only: bool,
}

struct WatchedUdp {
    socket: PlainUdp,
    interface: u32,
    told: Arc<Mutex<Told>>,
}

impl Udp for WatchedUdp {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_readable(cx)
    }
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_writable(cx)
    }
    fn try_recv(&self, buffer: &mut [u8]) -> Result<Arrival, NotReceived> {
        self.socket.try_recv(buffer)
    }
    fn try_send(
        &self,
        local: IpAddr,
        remote: SocketAddr,
        class: u8,
        stride: usize,
        payload: &[u8],
    ) -> Result<(), NotSent> {
        let mut told = self.told.lock().unwrap();
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        let fits = !told.lane_only || thread == "mast-lane";
        told.threads.insert(thread);
        if let Some((_, why)) = told.refuse.filter(|(id, _)| *id == self.interface && fits && told.times > 0)
        {
            told.times -= 1;
            return Err(NotSent { sent: 0, why });
        }
        drop(told);
        self.socket.try_send(local, remote, class, stride, payload)
    }
}

#[derive(Clone)]
struct Watched {
    system: FakeSystem,
    told: Arc<Mutex<Told>>,
    processors: usize,
    start: Instant,
}

impl Platform for Watched {
    type Tun = FakeTun;
    type Udp = WatchedUdp;
    type Host = FakeHost;

    async fn create_tun(&self, wish: &TunWish) -> std::io::Result<FakeTun> {
        self.system.create_tun(wish).await
    }
    fn host(&self) -> std::io::Result<FakeHost> {
        self.system.host()
    }
    fn bind_udp(&self, interface: &Interface, family: Family, port: u16) -> std::io::Result<WatchedUdp> {
        let socket = self.system.bind_udp(interface, family, port)?;
        Ok(WatchedUdp { socket, interface: interface.id.0, told: Arc::clone(&self.told) })
    }
    fn watch_interfaces(&self) -> std::io::Result<watch::Receiver<InterfaceList>> {
        self.system.watch_interfaces()
    }
    fn processors(&self) -> usize {
        self.processors
    }
    /// Always busy.
    fn processor_time(&self) -> Option<Duration> {
        Some(self.start.elapsed())
    }
}

struct Host {
    engine: EngineHandle,
    system: FakeSystem,
    told: Arc<Mutex<Told>>,
}

impl Host {
    async fn start(number: u8, processors: usize) -> Self {
        let uplink = |i: u8| interface(i.into(), &format!("eth{i}"), loopback(number, i));
        let system = FakeSystem::new(vec![uplink(1), uplink(2)]);
        let told = Arc::new(Mutex::new(Told::default()));
        let platform =
            Watched { system: system.clone(), told: Arc::clone(&told), processors, start: Instant::now() };
        let (engine, _changes) =
            Engine::start(platform, config(number, &format!("host{number}"))).await.unwrap();
        Self { engine, system, told }
    }

    async fn until(&self, what: &str, test: impl Fn(&Snapshot) -> bool) -> Snapshot {
        for _ in 0..1000 {
            let snapshot = self.engine.snapshot().await.unwrap();
            if test(&snapshot) {
                return snapshot;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never: {what}\n{:#?}", self.engine.snapshot().await);
    }

    /// Which threads sent since it was asked last.
    fn threads(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.told.lock().unwrap().threads)
    }
}

/// Two hosts that have measured their paths, the one that sends with so many processors; its traffic goes over the
/// interface of this number.
async fn pair(numbers: (u8, u8), processors: usize) -> (Host, Host, u32) {
    let (a, b) = (Host::start(numbers.0, processors).await, Host::start(numbers.1, 1).await);
    let invite = a.engine.invite(Duration::from_secs(600), None).await.unwrap();
    b.engine.join(&invite.link, None).await.unwrap();
    let ready = |s: &Snapshot| {
        s.peers.iter().any(|p| {
            p.state == PeerState::Connected && p.paths.iter().filter(|path| path.srtt.is_some()).count() >= 2
        })
    };
    b.until("connected", ready).await;
    let snapshot = a.until("connected", ready).await;
    let active = snapshot.peers[0].paths.iter().find(|p| p.active).unwrap().interface.clone();
    (a, b, active.trim_start_matches("eth").parse().unwrap())
}

/// Sends so many bursts from one to the other, each when the one before has arrived; tells the numbers that did.
async fn load(from: &Host, to: &Host, bursts: u32) -> Vec<u32> {
    let (own, other) = from.engine.snapshot().await.unwrap().peers[0].eid_v6.unwrap();
    let mut arrived = Vec::new();
    for burst in 0..bursts {
        for number in BURST * burst..BURST * (burst + 1) {
            from.system.send(v6(own, other, &number.to_be_bytes()));
        }
        for _ in 0..BURST {
            let Some(datagram) = to.system.receive().await else { break };
            arrived.push(u32::from_be_bytes(*datagram.last_chunk().unwrap()));
        }
    }
    arrived
}

/// Sends until the second thread is at it.
async fn warm_up(from: &Host, to: &Host) {
    from.threads();
    for _ in 0..100 {
        // Whether all of it arrives is not what is asked here.
        load(from, to, 20).await;
        if from.threads().contains("mast-lane") {
            return;
        }
    }
    panic!("the load starts no thread");
}

#[tokio::test]
async fn under_load_another_thread_sends_and_the_order_is_kept() {
    let (a, b, _) = pair((61, 62), 2).await;
    warm_up(&a, &b).await;
    let arrived = load(&a, &b, 30).await;
    assert!(arrived.iter().copied().eq(0..30 * BURST), "{} arrived", arrived.len());
    assert!(a.threads().contains("mast-lane"));
    let counted = a.engine.snapshot().await.unwrap().peers[0].tx_bytes;
    assert!(counted >= u64::from(30 * BURST) * 48, "{counted}");
    // When the load is over, nothing waits for another thread.
    let (own, other) = a.engine.snapshot().await.unwrap().peers[0].eid_v6.unwrap();
    for number in 0..100_u32 {
        if number == 50 {
            // The other thread comes to its end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            a.threads();
        }
        a.system.send(v6(own, other, &number.to_be_bytes()));
        assert!(b.system.receive().await.is_some());
    }
    assert!(!a.threads().contains("mast-lane"));
}

#[tokio::test]
async fn on_one_processor_there_is_no_other_thread() {
    let (a, b, _) = pair((63, 64), 1).await;
    let arrived = load(&a, &b, 300).await;
    assert!(arrived.iter().copied().eq(0..300 * BURST));
    assert!(!a.threads().contains("mast-lane"));
}

#[tokio::test]
async fn what_the_other_thread_meets_reaches_the_context() {
    let (a, b, active) = pair((65, 66), 2).await;
    warm_up(&a, &b).await;
    {
        let mut told = a.told.lock().unwrap();
        (told.refuse, told.times, told.lane_only) = (Some((active, SendRefused::Unreachable)), 1, true);
    }
    let before = a.until("one path is used", |s| s.peers[0].paths.iter().any(|p| p.active)).await;
    let arrived: BTreeSet<u32> = load(&a, &b, 20).await.into_iter().collect();
    let snapshot = a.engine.snapshot().await.unwrap();
    assert_eq!(a.told.lock().unwrap().times, 0, "the other thread was refused");
    assert!(snapshot.counters.iter().any(|(name, count)| *name == "send_error" && *count == 1));
    // The path was left at once. At such a rate nothing is kept to be sent again.
    let path = |s: &Snapshot| s.peers[0].paths.iter().find(|p| p.active).map(|p| p.id);
    assert_ne!(path(&snapshot), path(&before));
    assert!(arrived.len() as u32 >= 20 * BURST - 64, "{} arrived", arrived.len());
}

#[tokio::test]
async fn what_there_is_no_room_for_waits_and_then_is_lost() {
    let (a, b, active) = pair((67, 68), 2).await;
    warm_up(&a, &b).await;
    {
        let mut told = a.told.lock().unwrap();
        (told.refuse, told.times, told.lane_only) = (Some((active, SendRefused::Full)), 3, true);
    }
    let arrived = load(&a, &b, 10).await;
    assert!(arrived.iter().copied().eq(0..10 * BURST), "a short wait loses nothing");
    a.told.lock().unwrap().times = usize::MAX;
    let (own, other) = a.engine.snapshot().await.unwrap().peers[0].eid_v6.unwrap();
    for number in 0..64 * BURST {
        a.system.send(v6(own, other, &number.to_be_bytes()));
    }
    a.until("lost", |s| s.counters.iter().any(|(name, _)| *name == "send_queue_full")).await;
    a.told.lock().unwrap().times = 0;
    // And it goes on.
    a.until("all is read", |_| a.told.lock().unwrap().times == 0).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    while tokio::time::timeout(Duration::from_millis(50), b.system.receive()).await.is_ok_and(|d| d.is_some())
    {
    }
    assert_eq!(load(&a, &b, 5).await.len() as u32, 5 * BURST);
}

#[tokio::test]
async fn the_end_is_told_under_load() {
    let (a, b, _) = pair((69, 70), 2).await;
    warm_up(&a, &b).await;
    let (own, other) = a.engine.snapshot().await.unwrap().peers[0].eid_v6.unwrap();
    for number in 0..16 * BURST {
        a.system.send(v6(own, other, &number.to_be_bytes()));
    }
    a.engine.stop().await.unwrap();
    b.until("told", |s| s.peers[0].state == PeerState::Down).await;
}
