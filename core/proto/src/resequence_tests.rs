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
            let next = self.order.deadline();
            assert!(next.is_none_or(|next| next > due), "an owner who takes nothing is woken for ever");
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

/// More came over every path since than what is kept: what is lost before that is given up once.
#[test]
fn what_was_given_up_is_no_reason_to_wake_whoever_takes_nothing() {
    let mut bench = Bench::new();
    bench.order.set_delays(Duration::ZERO, Duration::ZERO);
    bench.arrive(bench.start, 1, 1);
    let at = bench.start + MS;
    assert!(bench.arrive(at, 1, 3));
    // Copies of what another path brought.
    let (_, three) = bench.seen.accept_full(3);
    for number in three + 20..three + 24 {
        bench.order.note(at, PathId(1), number);
    }
    let due = bench.order.deadline().unwrap();
    bench.order.expire(due);
    assert_eq!(bench.order.deadline(), None);
    bench.drain(due);
    assert_eq!(bench.delivered.len(), 2);
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

type Order100 = Resequencer<()>;

/// The number that the first 32-bit number of a window stands for, less that.
const BASE: u64 = 1 << 32;

fn early() -> Early<Instant> {
    Early { datagram: vec![0; 100], flags: Flags::ORDERED, origin: Instant::now() }
}

/// A resequencer whose window has seen all below 10, and nothing is missing.
fn at_ten() -> Bench {
    let mut bench = Bench::new();
    for n in 0..10 {
        bench.arrive(bench.start, 0, n);
    }
    assert_eq!((bench.order.next, bench.delivered.len()), (BASE + 10, 10));
    bench
}

#[test]
fn the_wait_is_the_longest_reason_for_one() {
    let mut order = Order100::default();
    assert_eq!(order.wait(), 20 * MS, "the margin");
    order.set_delays(60 * MS, Duration::ZERO);
    assert_eq!(
        (order.wait(), order.repair),
        (50 * MS, 35 * MS),
        "half of what the paths differ by, and the margin"
    );
    order.set_delays(60 * MS, 70 * MS);
    assert_eq!((order.wait(), order.repair), (105 * MS, 105 * MS), "until it is there again");
    order.lag = [30 * MS, 60 * MS];
    assert_eq!(order.wait(), 120 * MS, "twice what was seen");
    order.lag = [90 * MS, 60 * MS];
    assert_eq!(order.wait(), 180 * MS);
    order.lag = [150 * MS, Duration::ZERO];
    assert_eq!(order.wait(), 200 * MS, "a transport would have sent it again");
}

#[test]
fn a_lag_is_remembered_for_two_periods() {
    let start = Instant::now();
    let mut order = Order100::default();
    order.note_lag(start, 30 * MS);
    order.note_lag(start + 1_000 * MS, 10 * MS);
    assert_eq!((order.lag, order.lag_since), ([30 * MS, Duration::ZERO], Some(start)));
    order.note_lag(start + 2_000 * MS, 12 * MS);
    assert_eq!(order.lag, [30 * MS, Duration::ZERO], "the period is not over");
    order.note_lag(start + 2_001 * MS, 11 * MS);
    assert_eq!((order.lag, order.lag_since), ([11 * MS, 30 * MS], Some(start + 2_001 * MS)));
    order.note_lag(start + 4_002 * MS, 900 * MS);
    assert_eq!(order.lag, [200 * MS, 11 * MS], "never more than is waited for");
}

#[test]
fn an_old_lag_is_forgotten_while_nothing_waits() {
    let mut bench = at_ten();
    bench.order.note_lag(bench.start, 50 * MS);
    let keep = |bench: &mut Bench, millis: u32, number: u64| {
        bench.order.keep(bench.start + millis * MS, BASE + number, early());
    };
    keep(&mut bench, 4_000, 12);
    assert_eq!(bench.order.lag[0], 50 * MS, "not yet twice the memory");
    keep(&mut bench, 4_001, 13);
    assert_eq!(bench.order.lag[0], 50 * MS, "something waits");
    bench.order.early.clear();
    keep(&mut bench, 4_001, 14);
    assert_eq!((bench.order.lag, bench.order.lag_since), ([Duration::ZERO; 2], None));
}

#[test]
fn a_path_remembers_its_highest_numbers() {
    let now = Instant::now();
    let mut order = Order100::default();
    order.note(now, PathId(1), 50);
    assert_eq!(order.given_up, 50, "nothing was before the first");
    for number in [70, 60, 70, 80, 90, 100] {
        order.note(now, PathId(1), number);
    }
    assert_eq!(order.lanes[0].highest, [100, 90, 80, 70], "60 and the second 70 were no news");
    assert_eq!(order.given_up, 50);
    assert_eq!(order.settled(now), 70, "three more have come after it");
    order.note(now + MS, PathId(2), 65);
    assert_eq!(order.settled(now + MS), 0, "of the slowest path");
    // A path over which nothing came for five seconds has nothing on its way.
    assert_eq!(order.settled(now + 5_000 * MS), 0);
    order.note_alive(now + 5_000 * MS, PathId(1));
    assert_eq!(order.settled(now + 5_000 * MS), 0);
    assert_eq!(order.settled(now + 5_001 * MS), 70);
    assert_eq!(order.settled(now + 10_000 * MS), 0, "of no path at all");
}

#[test]
fn the_idlest_path_gives_way() {
    let now = Instant::now();
    let mut order = Order100::default();
    for path in 0..32_u8 {
        order.note(now + u32::from(path) * MS, PathId(path), 5);
    }
    order.note_alive(now + 90 * MS, PathId(0));
    assert_eq!(order.lanes.len(), 32);
    order.note(now + 100 * MS, PathId(40), 6);
    assert_eq!(order.lanes.len(), 32);
    let has = |path| order.lanes.iter().any(|lane| lane.path == PathId(path));
    assert!(has(0) && has(40) && !has(1) && has(2));
}

#[test]
fn what_is_missing_is_named_once_it_is_not_on_its_way() {
    let mut bench = at_ten();
    bench.order.set_delays(40 * MS, 30 * MS);
    assert!(bench.order.missing(bench.start, &bench.seen).is_empty() && bench.order.asked.is_none());
    for n in [11, 14, 15] {
        bench.arrive(bench.start + n * MS, 0, n);
    }
    let at = |millis| bench.start + millis * MS;
    // Half of what the paths differ by, and 5 ms.
    assert!(bench.order.missing(at(35), &bench.seen).is_empty());
    assert_eq!(bench.order.asked, Some(at(35)));
    assert_eq!(bench.order.missing(at(36), &bench.seen), [10]);
    assert_eq!(bench.order.missing(at(39), &bench.seen), [10, 12, 13]);
    assert_eq!(bench.order.missing(at(200), &bench.seen), [10, 12, 13]);
    // Behind what was given up, nothing is asked for.
    bench.order.given_up = BASE + 13;
    assert_eq!(bench.order.missing(at(200), &bench.seen), [13]);
    // What more has come after over each path tells it sooner.
    let mut bench = at_ten();
    for n in [11, 12, 13, 14] {
        bench.arrive(bench.start, 0, n);
    }
    assert_eq!(bench.order.missing(bench.start, &bench.seen), [10]);
}

#[test]
fn no_more_is_named_than_a_report_holds() {
    let mut bench = at_ten();
    bench.arrive(bench.start, 0, 1_000);
    let missing = bench.order.missing(bench.start + 5 * MS, &bench.seen);
    assert_eq!(missing, (10..10 + MAX_MISSING as u32).collect::<Vec<_>>());
}

#[test]
fn it_is_asked_when_it_should_be_there_and_again_after_a_while() {
    let mut bench = at_ten();
    assert_eq!(bench.order.ask_at(), None);
    bench.order.set_delays(40 * MS, 30 * MS);
    bench.arrive(bench.start, 0, 11);
    let at = |millis: u32| Some(bench.start + millis * MS);
    assert_eq!(bench.order.wait(), 55 * MS);
    assert_eq!(bench.order.ask_at(), at(25));
    bench.order.asked = at(25);
    assert_eq!(bench.order.ask_at(), None, "the answer comes when the wait is over");
    bench.order.repair = 10 * MS;
    bench.order.spread = 100 * MS;
    assert_eq!((bench.order.wait(), bench.order.ask_at()), (70 * MS, at(55)));
    bench.order.asked = at(50);
    assert_eq!(bench.order.ask_at(), at(60), "not before the answer may be there");
    bench.order.asked = at(65);
    assert_eq!(bench.order.ask_at(), None);
    bench.order.asked = bench.start.checked_sub(MS);
    assert_eq!(bench.order.ask_at(), at(55), "what was asked before it came does not count");
    bench.order.repair = MS;
    bench.order.asked = at(54);
    assert_eq!(bench.order.ask_at(), at(59), "at least as long as a path reorders");
}

#[test]
fn the_wait_for_what_was_lost_is_as_long_as_it_takes_to_come_again() {
    let mut bench = at_ten();
    assert_eq!(bench.order.deadline(), None);
    bench.order.set_delays(40 * MS, MS);
    bench.arrive(bench.start, 0, 11);
    assert_eq!((bench.order.repair, bench.order.wait()), (26 * MS, 40 * MS));
    assert_eq!(bench.order.deadline(), Some(bench.start + 40 * MS));
    for n in [12, 13, 14] {
        bench.arrive(bench.start, 0, n);
    }
    assert_eq!(bench.order.settled(bench.start), BASE + 11);
    assert_eq!(bench.order.deadline(), Some(bench.start + 26 * MS), "it is known to be lost");
    bench.drain(bench.start + 25 * MS);
    assert_eq!(bench.delivered.len(), 10);
    bench.drain(bench.start + 26 * MS);
    assert_eq!(bench.delivered.len(), 14);
    bench.order.repair = 90 * MS;
    bench.order.next = BASE;
    bench.arrive(bench.start + 30 * MS, 0, 16);
    assert_eq!(bench.order.deadline(), Some(bench.start + 30 * MS + bench.order.wait()));
}

#[test]
fn what_waited_too_long_is_given_up_with_all_before_it() {
    let mut bench = at_ten();
    bench.arrive(bench.start, 0, 12);
    bench.arrive(bench.start + 10 * MS, 0, 15);
    bench.order.expire(bench.start + 19 * MS);
    // What more has come after over its path is waited for no longer than it takes to come again.
    let settled = bench.order.settled(bench.start);
    assert_eq!(settled, BASE + 8);
    assert_eq!((bench.order.given_up, bench.order.arrivals.len()), (settled, 2), "20 ms are not over");
    bench.order.expire(bench.start + 20 * MS);
    assert_eq!((bench.order.given_up, bench.order.arrivals.len()), (BASE + 12, 1));
    bench.order.expire(bench.start + 30 * MS);
    assert_eq!((bench.order.given_up, bench.order.arrivals.len()), (BASE + 15, 0));
    // What was delivered meanwhile gives nothing up.
    let mut bench = at_ten();
    bench.arrive(bench.start, 0, 12);
    bench.order.early.clear();
    bench.order.expire(bench.start + 20 * MS);
    assert_eq!((bench.order.given_up, bench.order.arrivals.len()), (BASE, 0), "nothing is kept");
}

#[test]
fn waiting_too_shortly_makes_it_wait_longer() {
    let mut bench = at_ten();
    bench.order.given_up = BASE + 20;
    bench.arrive(bench.start, 0, 19);
    assert_eq!(bench.order.lag[0], 20 * MS, "as long as it would have waited");
    bench.arrive(bench.start, 0, 20);
    assert_eq!(bench.order.lag[0], 20 * MS, "what was not given up says nothing");
    // What comes before the first that is kept, as long after it as it is kept.
    let mut bench = at_ten();
    bench.arrive(bench.start, 0, 14);
    bench.order.given_up = BASE;
    bench.seen.accept_full(12);
    assert_eq!(bench.order.arrive(bench.start + 7 * MS, BASE + 12, 100, &bench.seen), Order::Keep);
    assert_eq!(bench.order.lag[0], 7 * MS);
    let mut bench = at_ten();
    bench.arrive(bench.start, 0, 14);
    bench.seen.accept_full(16);
    assert_eq!(bench.order.arrive(bench.start + 7 * MS, BASE + 16, 100, &bench.seen), Order::Keep);
    assert_eq!(bench.order.lag[0], Duration::ZERO, "what comes behind it was not waited for");
}

#[test]
fn what_is_kept_is_bounded_in_number_and_in_bytes() {
    const MOST: usize = Order100::DATAGRAMS;
    let mut bench = at_ten();
    // 10 is missing.
    for n in 0..MOST as u64 {
        bench.order.keep(bench.start, BASE + 11 + n, early());
    }
    let after = BASE + 11 + MOST as u64;
    assert_eq!(bench.order.given_up, BASE);
    bench.seen.accept_full(after as u32);
    assert_eq!(bench.order.arrive(bench.start, after, 100, &bench.seen), Order::Keep);
    assert_eq!(bench.order.given_up, after - 1, "all that is kept may go");
    let mut bench = at_ten();
    for n in 0..MOST as u64 - 1 {
        bench.order.keep(bench.start, BASE + 11 + n, early());
    }
    bench.order.arrive(bench.start, after, 100, &bench.seen);
    assert_eq!(bench.order.given_up, BASE, "one more has room");
    // The same in bytes.
    let mut bench = at_ten();
    bench.order.keep(bench.start, BASE + 11, early());
    bench.order.bytes = Order100::BYTES - 100;
    bench.order.arrive(bench.start, BASE + 12, 100, &bench.seen);
    assert_eq!(bench.order.given_up, BASE);
    bench.order.arrive(bench.start, BASE + 12, 101, &bench.seen);
    assert_eq!(bench.order.given_up, BASE + 11);
    // An owner who takes nothing gets the rest out of order.
    bench.order.bytes = 2 * Order100::BYTES - 100;
    assert_eq!(bench.order.arrive(bench.start, BASE + 13, 100, &bench.seen), Order::Keep);
    assert_eq!(bench.order.arrive(bench.start, BASE + 13, 101, &bench.seen), Order::Deliver);
    let mut bench = at_ten();
    for n in 0..2 * MOST as u64 - 1 {
        bench.order.keep(bench.start, BASE + 11 + n, early());
    }
    assert_eq!(bench.order.arrive(bench.start, BASE + 20_000, 100, &bench.seen), Order::Keep);
    bench.order.former.push_back(early());
    assert_eq!(bench.order.arrive(bench.start, BASE + 20_000, 100, &bench.seen), Order::Deliver);
}

#[test]
fn what_is_kept_twice_counts_once() {
    let mut bench = at_ten();
    bench.order.keep(bench.start, BASE + 12, early());
    bench.order.keep(bench.start, BASE + 12, early());
    assert_eq!((bench.order.bytes, bench.order.early.len()), (100, 1));
    assert!(!bench.order.is_empty());
    bench.order.early.clear();
    assert!(bench.order.is_empty());
    bench.order.former.push_back(early());
    assert!(!bench.order.is_empty());
}

#[test]
fn arrivals_that_are_remembered_are_bounded() {
    let mut bench = at_ten();
    const MOST: usize = 4 * Order100::DATAGRAMS;
    for n in 0..MOST as u64 {
        bench.order.keep(bench.start, BASE + 11 + n, early());
    }
    assert_eq!((bench.order.arrivals.len(), bench.order.given_up), (MOST, BASE));
    bench.order.keep(bench.start, BASE + 99_999, early());
    assert_eq!((bench.order.arrivals.len(), bench.order.given_up), (MOST, BASE + 11));
}

#[test]
fn behind_what_is_kept_and_behind_the_former_instance_it_is_kept() {
    let mut bench = at_ten();
    bench.order.early.insert(BASE + 9, early());
    bench.seen.accept_full(10);
    assert_eq!(bench.order.arrive(bench.start, BASE + 10, 100, &bench.seen), Order::Keep);
    let mut bench = at_ten();
    bench.order.former.push_back(early());
    bench.seen.accept_full(10);
    assert_eq!(bench.order.arrive(bench.start, BASE + 10, 100, &bench.seen), Order::Keep);
    let mut bench = at_ten();
    bench.seen.accept_full(10);
    assert_eq!(bench.order.arrive(bench.start, BASE + 10, 100, &bench.seen), Order::Deliver);
    assert_eq!(bench.order.next, BASE + 11);
}

#[test]
fn a_restart_keeps_what_is_known_of_the_paths() {
    let mut bench = at_ten();
    bench.order.set_delays(40 * MS, 30 * MS);
    bench.arrive(bench.start, 0, 14);
    bench.order.restart();
    assert_eq!((bench.order.former.len(), bench.order.bytes), (1, 100));
    assert_eq!((bench.order.spread, bench.order.repair), (40 * MS, 55 * MS));
    assert_eq!((bench.order.next, bench.order.given_up, bench.order.arrivals.len()), (0, 0, 0));
    assert!(bench.order.pop(bench.start, &bench.seen).is_some() && bench.order.bytes == 0);
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
