#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::crypto::Replay;

const MS: Duration = Duration::from_millis(1);

/// A resequencer with its window and its owner.
struct Bench {
    order: Resequencer<Instant>,
    seen: SequenceWindow,
    start: Instant,
    delivered: Vec<(u32, Duration)>,
    taken: BTreeSet<u32>,
}

impl Bench {
    fn new() -> Self {
        Self {
            order: Resequencer::default(),
            seen: SequenceWindow::default(),
            start: Instant::now(),
            delivered: Vec::new(),
            taken: BTreeSet::new(),
        }
    }

    fn deliver(&mut self, number: u32, waited: Duration) {
        assert!(self.taken.insert(number), "{number} was delivered twice");
        assert!(waited <= Resequencer::<()>::MAX_WAIT, "{number} waited for {waited:?}");
        self.delivered.push((number, waited));
    }

    fn drain(&mut self, now: Instant) {
        while let Some(early) = self.order.pop(now, &self.seen) {
            let number = u32::from_be_bytes(early.datagram[..4].try_into().unwrap());
            self.deliver(number, now - early.origin);
        }
    }

    /// Timers are kept until `now`.
    fn wait(&mut self, now: Instant) {
        while let Some(due) = self.order.deadline().filter(|due| *due <= now) {
            self.order.expire(due);
            self.drain(due);
        }
    }

    /// A datagram comes; whether it was new.
    fn arrive(&mut self, now: Instant, path: u8, number: u32) -> bool {
        self.wait(now);
        let (verdict, full) = self.seen.accept_full(number);
        self.order.note(now, PathId(path), full);
        if verdict == Replay::Replayed {
            return false;
        }
        match self.order.arrive(now, full, 100, &self.seen) {
            Order::Deliver => self.deliver(number, Duration::ZERO),
            Order::Keep => {
                let mut datagram = number.to_be_bytes().to_vec();
                datagram.resize(100, 0);
                self.order.keep(now, full, Early { datagram, flags: Flags::ORDERED, origin: now });
            }
        }
        true
    }

    fn out_of_order(&self) -> usize {
        self.delivered.windows(2).filter(|pair| pair[1].0.wrapping_sub(pair[0].0) as i32 <= 0).count()
    }
}

/// Numbers from `start`, each over one of the lanes, which take so long; a lane of its own keeps the order.
fn arrivals(start: u32, lanes: &[u64], which: &[(usize, bool)], pause: u64) -> Vec<(Duration, u8, u32)> {
    let sent = which.iter().enumerate().filter(|(_, (_, lost))| !lost);
    let mut all: Vec<_> = sent
        .map(|(n, (lane, _))| {
            let lane = lane % lanes.len();
            let at = Duration::from_micros(n as u64 * pause + lanes[lane] * 1000);
            (at, lane as u8, start.wrapping_add(n as u32))
        })
        .collect();
    all.sort();
    all
}

#[test]
fn what_comes_in_order_is_not_kept() {
    let mut bench = Bench::new();
    for n in 0..10_000 {
        assert!(bench.arrive(bench.start + n * MS, 0, n));
        assert!(bench.order.early.is_empty() && bench.order.deadline().is_none());
    }
    assert_eq!(bench.delivered.len(), 10_000);
}

#[test]
fn a_loss_is_known_by_what_comes_after_it() {
    let mut bench = Bench::new();
    for n in 0..100 {
        bench.arrive(bench.start, (n % 2) as u8, n);
        bench.drain(bench.start);
    }
    // 100 is lost on path 0; each path must be seen to have gone on.
    for n in 101..107 {
        bench.arrive(bench.start, (n % 2) as u8, n);
        bench.drain(bench.start);
        assert_eq!(bench.delivered.len(), 100, "{n}");
    }
    bench.arrive(bench.start, 1, 107);
    bench.arrive(bench.start, 0, 108);
    bench.drain(bench.start);
    assert_eq!((bench.delivered.len(), bench.out_of_order()), (108, 0));
}

#[test]
fn what_was_lost_in_the_end_is_waited_for_by_time() {
    let mut bench = Bench::new();
    bench.arrive(bench.start, 0, 1);
    bench.arrive(bench.start, 0, 3);
    bench.drain(bench.start);
    assert_eq!(bench.delivered.len(), 1);
    let due = bench.order.deadline().unwrap();
    assert!(due - bench.start <= Resequencer::<()>::MAX_WAIT);
    bench.wait(due);
    assert_eq!(bench.delivered.len(), 2);
    assert_eq!(bench.order.deadline(), None);
    bench.arrive(due, 0, 2);
    assert_eq!(bench.delivered.len(), 3, "late is better than never");
}

#[test]
fn an_owner_who_takes_nothing_makes_nothing_grow() {
    let mut bench = Bench::new();
    bench.arrive(bench.start, 0, 0);
    for n in 2..60_000 {
        bench.arrive(bench.start, 0, n);
        assert!(bench.order.early.len() <= 2 * Resequencer::<()>::DATAGRAMS);
        assert!(bench.order.bytes <= 2 * Resequencer::<()>::BYTES);
        assert!(bench.order.arrivals.len() <= 4 * Resequencer::<()>::DATAGRAMS);
    }
    bench.drain(bench.start);
    assert_eq!(bench.delivered.len(), 59_999);
}

#[test]
fn a_new_instance_of_the_other_end_lets_out_what_is_kept() {
    let mut bench = Bench::new();
    for n in [7, 9, 12, 10] {
        bench.arrive(bench.start, 0, n);
    }
    bench.order.restart();
    bench.seen = SequenceWindow::default();
    assert_eq!(bench.order.deadline(), None);
    bench.arrive(bench.start, 0, 500);
    bench.drain(bench.start);
    let numbers: Vec<_> = bench.delivered.iter().map(|(n, _)| *n).collect();
    assert_eq!(numbers, [7, 9, 10, 12, 500]);
    assert_eq!(bench.order.bytes, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Nothing is lost and no path lags by more than is waited for: everything is in order, and has come.
    #[test]
    fn everything_comes_in_order(
        start in any::<u32>(),
        lanes in proptest::collection::vec(0_u64..95, 1..4),
        which in proptest::collection::vec((0_usize..8, Just(false)), 1..800),
        pause in 50_u64..3_000,
    ) {
        let mut bench = Bench::new();
        bench.order.set_delays(2 * 100 * MS, Duration::ZERO);
        for lane in 0..lanes.len() {
            bench.arrive(bench.start, lane as u8, start.wrapping_sub(1));
        }
        for (at, lane, number) in arrivals(start, &lanes, &which, pause) {
            bench.arrive(bench.start + at, lane, number);
            bench.drain(bench.start + at);
        }
        bench.wait(bench.start + Duration::from_secs(60));
        prop_assert_eq!(bench.delivered.len(), which.len() + 1);
        prop_assert_eq!(bench.out_of_order(), 0);
    }

    /// With loss, what has come is delivered once, soon, and nearly always in order.
    #[test]
    fn loss_holds_nothing_up(
        start in any::<u32>(),
        lanes in proptest::collection::vec(0_u64..60, 1..4),
        which in proptest::collection::vec((0_usize..8, proptest::bool::weighted(0.05)), 1..800),
        pause in 50_u64..3_000,
    ) {
        let mut bench = Bench::new();
        bench.order.set_delays(2 * 100 * MS, Duration::ZERO);
        for lane in 0..lanes.len() {
            bench.arrive(bench.start, lane as u8, start.wrapping_sub(1));
        }
        let all = arrivals(start, &lanes, &which, pause);
        for (at, lane, number) in &all {
            bench.arrive(bench.start + *at, *lane, *number);
            bench.drain(bench.start + *at);
        }
        bench.wait(bench.start + Duration::from_secs(60));
        prop_assert_eq!(bench.delivered.len(), all.len() + 1);
        prop_assert!(bench.out_of_order() <= all.len() / 20, "{} of {}", bench.out_of_order(), all.len());
    }

    /// An authentic peer sends any numbers at any time over any path.
    #[test]
    fn any_numbers_are_delivered_once_and_soon(
        steps in proptest::collection::vec(
            (0_u8..40, prop_oneof![any::<u32>(), 0_u32..50, Just(u32::MAX), 0x7fff_fff0_u32..0x8000_0010], 0_u64..50_000),
            1..2_000,
        ),
    ) {
        let mut bench = Bench::new();
        let mut now = bench.start;
        let mut new = 0;
        for (path, number, pause) in steps {
            now += Duration::from_micros(pause);
            bench.wait(now);
            // The same 32 bits may stand for another number later; the bench tells numbers apart by them.
            if !bench.taken.contains(&number) && !bench.order.early.keys().any(|k| *k as u32 == number) {
                new += usize::from(bench.arrive(now, path, number));
            }
            if pause % 2 == 0 {
                bench.drain(now);
            }
            prop_assert!(bench.order.lanes.len() <= Resequencer::<()>::MAX_LANES);
        }
        bench.wait(now + Duration::from_secs(60));
        prop_assert_eq!(bench.delivered.len(), new);
        prop_assert!(bench.order.early.is_empty() && bench.order.bytes == 0);
        prop_assert_eq!(bench.order.deadline(), None);
    }
}
