#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::task::Poll;

use mast_proto::wire::Flags;
use mast_proto::{InterfaceId, PathKey};

use super::*;
use crate::os::{Arrival, NotReceived};
use crate::peer::PeerId;

/// A socket that takes its time, and does with each run what it was told.
#[derive(Default)]
struct Slow {
    pause: Duration,
    /// What it says to the next ones.
    says: Mutex<VecDeque<NotSent>>,
    /// The first byte of each datagram that left.
    left: Mutex<Vec<u8>>,
    asked_for_room: AtomicUsize,
}

impl Udp for Slow {
    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.asked_for_room.fetch_add(1, Ordering::SeqCst);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
    fn try_recv(&self, _: &mut [u8]) -> Result<Arrival, NotReceived> {
        Err(NotReceived::Empty)
    }
    fn try_send(
        &self,
        _: IpAddr,
        _: SocketAddr,
        _: u8,
        stride: usize,
        payload: &[u8],
    ) -> Result<(), NotSent> {
        thread::sleep(self.pause);
        if let Some(refused) = self.says.lock().unwrap().pop_front() {
            return Err(refused);
        }
        self.left.lock().unwrap().extend(payload.chunks(stride).map(|datagram| datagram[0]));
        Ok(())
    }
}

const SIZE: usize = 100;

fn path(interface: u32) -> PathKey {
    PathKey::direct(InterfaceId(interface), [192, 0, 2, 1].into(), ([192, 0, 2, 9], 7).into())
}

/// Frames that are sealed: so many, each with the next number as its first byte.
fn put(outbox: &mut Outbox, numbers: std::ops::Range<u8>) {
    for _ in numbers.clone() {
        assert!(outbox.suits(PeerId(1), 0, Flags::NONE, SIZE));
        outbox.room(PeerId(1), 0, Flags::NONE, SIZE).unwrap();
    }
    let stride = outbox.stride();
    for (frame, number) in outbox.unsealed().chunks_mut(stride).rev().zip(numbers.rev()) {
        frame[0] = number;
    }
}

/// The clock of threads that are busy for so many percent of the time that passes in [`until`].
#[derive(Clone)]
struct Fake {
    now: Instant,
    used: Arc<AtomicU64>,
}

impl Fake {
    fn new() -> Self {
        Self { now: Instant::now(), used: Arc::default() }
    }

    fn clock(&self) -> Clock {
        let used = Arc::clone(&self.used);
        Arc::new(move || Some(Duration::from_nanos(used.load(Ordering::SeqCst))))
    }

    /// Sends runs for so long, of which one thread is busy for so many percent; whether the lane takes the last.
    fn load(&mut self, lane: &mut Lane<Slow>, time: Duration, percent: u64, full: bool) -> bool {
        const STEP: Duration = Duration::from_millis(1);
        let end = self.now + time;
        let mut taken = false;
        while self.now < end {
            self.now += STEP;
            self.used.fetch_add(STEP.as_nanos() as u64 * percent / 100, Ordering::SeqCst);
            taken = lane.takes(self.now, full);
        }
        taken
    }
}

const LONG: Duration = Duration::from_millis(200);

/// A lane under load.
fn lane() -> Lane<Slow> {
    let mut fake = Fake::new();
    let mut lane = Lane::new(2, fake.clock());
    assert!(fake.load(&mut lane, LONG, 100, true));
    lane
}

fn send(lane: &mut Lane<Slow>, socket: &Arc<Slow>, numbers: std::ops::Range<u8>) {
    let mut outbox = Outbox::new();
    put(&mut outbox, numbers.clone());
    outbox.note_sealed(numbers.len(), path(1));
    assert!(lane.has_room());
    lane.run(&mut outbox, None, PeerId(1), (path(1), Arc::clone(socket)));
    assert!(outbox.is_empty(), "all of it was handed over");
}

/// Takes back the next one.
fn next(lane: &mut Lane<Slow>) -> (usize, Result<(), NotSent>) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(done) = lane.next_done() {
            let came = (done.run().payload.len(), done.result);
            lane.give_back(done);
            return came;
        }
        assert!(Instant::now() < deadline, "it does not come back");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_order_is_kept_and_everything_comes_back() {
    let (mut lane, socket) = (lane(), Arc::new(Slow { pause: Duration::from_millis(3), ..Slow::default() }));
    for round in 0..3 {
        for run in 0..RUNS as u8 {
            send(&mut lane, &socket, 10 * run..10 * run + 8);
            assert!(lane.carries(path(1)) && !lane.carries(path(2)));
            lane.single(&[10 * run + 8], PeerId(1), (path(1), Arc::clone(&socket)));
        }
        assert!(!lane.has_room() && lane.is_waiting(), "as much is under way as may be");
        for _ in 0..RUNS {
            assert!(next(&mut lane).1.is_ok() && next(&mut lane) == (1, Ok(())));
        }
        assert!(lane.is_empty() && lane.resume() && lane.has_room());
        let left = std::mem::take(&mut *socket.left.lock().unwrap());
        let expected: Vec<u8> = (0..RUNS as u8).flat_map(|run| 10 * run..=10 * run + 8).collect();
        assert_eq!(left, expected, "round {round}");
    }
}

#[test]
fn a_part_leaves_and_the_rest_stays() {
    let (mut lane, socket) = (lane(), Arc::new(Slow::default()));
    let mut outbox = Outbox::new();
    put(&mut outbox, 0..7);
    for (from, to) in [(0, 3), (3, 5), (5, 7)] {
        outbox.note_sealed(to - from, path(1));
        lane.run(&mut outbox, None, PeerId(1), (path(1), Arc::clone(&socket)));
        assert_eq!(outbox.is_empty(), to == 7);
        assert!(next(&mut lane).1.is_ok());
    }
    assert_eq!(*socket.left.lock().unwrap(), [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_refusal_comes_back_with_what_it_was_about() {
    let (mut lane, socket) = (lane(), Arc::new(Slow::default()));
    let refusals = [
        NotSent { sent: 0, why: SendRefused::TooBig },
        NotSent { sent: 2, why: SendRefused::Full },
        NotSent { sent: 0, why: SendRefused::Gone },
    ];
    *socket.says.lock().unwrap() = refusals.into();
    for number in 0..3 {
        send(&mut lane, &socket, 10 * number..10 * number + 4);
    }
    for refused in refusals {
        assert_eq!(next(&mut lane).1, Err(refused));
    }
    // And it goes on.
    send(&mut lane, &socket, 50..52);
    assert!(next(&mut lane).1.is_ok());
    assert_eq!(*socket.left.lock().unwrap(), [50, 51]);
}

#[test]
fn a_run_waits_for_room_and_a_single_datagram_does_not() {
    let (mut lane, socket) = (lane(), Arc::new(Slow::default()));
    let full = NotSent { sent: 0, why: SendRefused::Full };
    *socket.says.lock().unwrap() = [full; 3].into();
    send(&mut lane, &socket, 0..4);
    assert!(next(&mut lane).1.is_ok(), "it was sent when there was room");
    assert_eq!(socket.asked_for_room.load(Ordering::SeqCst), 3);
    *socket.says.lock().unwrap() = [full].into();
    lane.single(&[9], PeerId(1), (path(1), Arc::clone(&socket)));
    assert_eq!(next(&mut lane).1, Err(full));
    // A socket that never has room loses it, after a while and not before.
    *socket.says.lock().unwrap() = vec![full; 1_000_000].into();
    let before = Instant::now();
    send(&mut lane, &socket, 4..8);
    assert_eq!(next(&mut lane).1, Err(full));
    assert!(before.elapsed() >= PATIENCE);
    assert_eq!(*socket.left.lock().unwrap(), [0, 1, 2, 3]);
}

#[test]
fn what_is_under_way_leaves_when_it_is_stopped() {
    let (mut lane, socket) = (lane(), Arc::new(Slow { pause: Duration::from_millis(5), ..Slow::default() }));
    for run in 0..RUNS as u8 {
        send(&mut lane, &socket, 10 * run..10 * run + 2);
    }
    lane.stop();
    assert_eq!(*socket.left.lock().unwrap(), [0, 1, 10, 11, 20, 21, 30, 31]);
    assert_eq!(Arc::strong_count(&socket), 1, "the thread and what it held are gone");
    assert!(lane.is_empty() && !lane.is_waiting() && !lane.has_room());
    // Load starts it again.
    let mut fake = Fake::new();
    lane.load = Load::new(fake.clock());
    assert!(fake.load(&mut lane, LONG, 100, true));
    send(&mut lane, &socket, 70..71);
    assert!(next(&mut lane).1.is_ok());
}

#[test]
fn it_is_there_where_one_thread_is_not_enough_and_only_then() {
    let mut fake = Fake::new();
    let mut lane = Lane::<Slow>::new(2, fake.clock());
    assert!(!fake.load(&mut lane, LONG, 100, false), "busy with something else than runs");
    assert!(!fake.load(&mut lane, LONG, 60, true), "one thread does it");
    assert!(lane.line.is_none(), "no thread was started");
    assert!(!fake.load(&mut lane, Duration::from_millis(20), 100, true), "a moment is no load yet");
    assert!(fake.load(&mut lane, LONG, 100, true));
    // Together they are busier than one could be.
    assert!(fake.load(&mut lane, LONG, 120, true));
    assert!(fake.load(&mut lane, LONG, 85, true), "nothing changes all the time");
    assert!(!fake.load(&mut lane, LONG, 60, true), "one thread would do it again");
    assert!(fake.load(&mut lane, LONG, 100, true));
    // It ends with the load, but not before everything is back: nothing may be overtaken.
    let socket = Arc::new(Slow { pause: Duration::from_millis(20), ..Slow::default() });
    send(&mut lane, &socket, 0..4);
    assert!(fake.load(&mut lane, LONG, 1, false));
    assert!(next(&mut lane).1.is_ok());
    assert!(!fake.load(&mut lane, LONG, 1, false));
    // One processor, or a system that does not tell: never.
    let mut lane = Lane::<Slow>::new(1, fake.clock());
    assert!(!fake.load(&mut lane, LONG, 100, true) && lane.line.is_none());
    let mut lane = Lane::<Slow>::new(2, Arc::new(|| None));
    assert!(!fake.load(&mut lane, LONG, 100, true) && lane.line.is_none());
}

#[tokio::test]
async fn the_engine_is_woken_for_outboxes_and_for_refusals_and_else_not() {
    let within = async |lane: &Lane<Slow>, ms| {
        tokio::time::timeout(Duration::from_millis(ms), lane.back()).await.is_ok()
    };
    let (mut lane, socket) = (lane(), Arc::new(Slow { pause: Duration::from_millis(20), ..Slow::default() }));
    assert!(!within(&lane, 100).await, "nothing is under way");
    send(&mut lane, &socket, 0..4);
    assert!(!within(&lane, 100).await, "nobody waits for it");
    assert!(next(&mut lane).1.is_ok());
    // It waits for outboxes.
    for run in 0..RUNS as u8 {
        send(&mut lane, &socket, run..run + 1);
    }
    assert!(!lane.has_room());
    assert!(within(&lane, 10_000).await);
    for _ in 0..WORTH_WAKING {
        let _ = next(&mut lane);
    }
    assert!(lane.resume());
    while !lane.is_empty() {
        let _ = next(&mut lane);
    }
    // Everything is back already by the time that it begins to wait.
    for run in 0..RUNS as u8 {
        send(&mut lane, &socket, run..run + 1);
    }
    assert!(!lane.has_room());
    while !lane.is_empty() {
        let _ = next(&mut lane);
    }
    assert!(within(&lane, 100).await && lane.resume());
    // Something was refused.
    *socket.says.lock().unwrap() = [NotSent { sent: 0, why: SendRefused::Unreachable }].into();
    send(&mut lane, &socket, 0..4);
    assert!(within(&lane, 10_000).await);
    assert!(next(&mut lane).1.is_err());
}
