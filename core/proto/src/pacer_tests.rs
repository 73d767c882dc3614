#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

const RTT: Duration = Duration::from_millis(40);
const EPOCH: Epoch = Epoch(0);

/// Sends whenever it may over a bottleneck of so many bytes a second, which is told what arrived every 10 ms.
fn run(pacer: &mut Pacer, start: Instant, from: u64, millis: u64, rate: f64, frames: &mut u64) -> Instant {
    let mut free = start + Duration::from_millis(from);
    let mut arrivals = VecDeque::new();
    let mut reports = VecDeque::new();
    let mut now = free;
    for step in from * 10..(from + millis) * 10 {
        now = start + Duration::from_micros(step * 100);
        while pacer.may_send(now, RTT) {
            free = free.max(now) + Duration::from_secs_f64(1_400.0 / rate);
            arrivals.push_back((free + RTT / 2, *frames));
            pacer.note_sent(now, (EPOCH, *frames), 1_400, true);
            *frames += 1;
        }
        let mut newest = None;
        if step % 100 == 0 {
            while arrivals.front().is_some_and(|(at, _)| *at <= now) {
                newest = arrivals.pop_front();
            }
        }
        if let Some((_, counter)) = newest {
            reports.push_back((now + RTT / 2, counter));
        }
        while reports.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, counter)) = reports.pop_front()
        {
            pacer.note_report(now, EPOCH, counter, counter + 1);
        }
    }
    now
}

#[test]
fn finds_the_rate_and_keeps_the_queue_short() {
    for rate in [100_000.0, 1_000_000.0, 20_000_000.0] {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        let mut frames = 0;
        run(&mut pacer, start, 0, 3_000, rate, &mut frames);
        assert!(!pacer.is_starting());
        let found = pacer.rate(RTT);
        assert!((0.9 * rate..1.15 * rate).contains(&found), "{rate}: {found}");
        // What is under way, and what a report's delay adds.
        let most = (rate * 0.065 * 1.25 + 3_000.0).max(Pacer::LEAST_WINDOW + 1_400.0);
        assert!(pacer.in_flight as f64 <= most, "{rate}: {}", pacer.in_flight);
    }
}

#[test]
fn says_nothing_of_a_path_that_has_little_to_carry() {
    let start = Instant::now();
    let mut pacer = Pacer::new(start);
    let mut now = start;
    for counter in 0..200 {
        now += Duration::from_millis(50);
        assert!(pacer.may_send(now, RTT));
        pacer.note_sent(now, (EPOCH, counter), 200, false);
        pacer.note_report(now + RTT, EPOCH, counter, counter + 1);
    }
    assert!(pacer.is_starting(), "its rate was never tried");
}

#[test]
fn waits_for_reports_but_not_for_ever() {
    let start = Instant::now();
    let mut pacer = Pacer::new(start);
    let mut counter = 0;
    let mut now = start;
    let window = (Pacer::FIRST_WINDOW / 1_400.0).ceil() as u64;
    for millis in 1..=10_000 {
        now += Duration::from_millis(1);
        if pacer.may_send(now, RTT) {
            pacer.note_sent(now, (EPOCH, counter), 1_400, true);
            counter += 1;
        }
        assert!(pacer.due(RTT).is_some(), "it is always known when to look again");
        if millis == 300 {
            assert_eq!(counter, window, "a window, and then it waits");
        }
    }
    assert!(pacer.in_flight as f64 <= Pacer::FIRST_WINDOW + 1_400.0);
    assert!((10 * window..=28 * window).contains(&counter), "{counter}: a window for each time of waiting");
    // Reports of other keys, old ones, and nonsense are no reports.
    let held = pacer.in_flight;
    pacer.note_report(now, Epoch(3), u64::MAX, u64::MAX);
    assert_eq!(pacer.in_flight, held);
    pacer.note_report(now, EPOCH, u64::MAX, 0);
    assert_eq!(pacer.in_flight, 0);
    assert!(pacer.rate(RTT) >= Pacer::LEAST_RATE);
}

/// The keys changed before a report told of the last window: of those keys none ever will.
#[test]
fn new_keys_do_not_stop_it() {
    let start = Instant::now();
    let mut pacer = Pacer::new(start);
    let mut now = start;
    let mut counter = 0;
    while pacer.may_send(now, RTT) || now < start + Duration::from_millis(200) {
        if pacer.may_send(now, RTT) {
            pacer.note_sent(now, (Epoch(1), counter), 1_400, true);
            counter += 1;
        }
        now += Duration::from_millis(1);
    }
    let mut sent = 0;
    for _ in 0..2_000 {
        now += Duration::from_millis(1);
        if pacer.may_send(now, RTT) {
            pacer.note_sent(now, (Epoch(2), sent), 1_400, true);
            sent += 1;
        }
        pacer.note_report(now, Epoch(2), sent.saturating_sub(50).max(1), sent.saturating_sub(50).max(1) + 1);
    }
    assert!(sent > 3 * 33, "{sent}: more than one window");
}

const MS: Duration = Duration::from_millis(1);

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1.0)
}

fn near_time(a: Option<Instant>, b: Instant) -> bool {
    a.is_some_and(|a| {
        a.saturating_duration_since(b) + b.saturating_duration_since(a) < Duration::from_micros(2)
    })
}

/// A pacer that knows a rate in bytes a second and a delay, and has nothing under way.
fn knows(now: Instant, rate: f64, delay: Duration) -> Pacer {
    let mut pacer = Pacer::new(now);
    pacer.rate.now = Some(rate);
    pacer.delay.now = Some(delay);
    pacer
}

#[test]
fn a_window_keeps_the_better_of_two_periods() {
    let start = Instant::now();
    let mut window = Window::new(start);
    assert_eq!(window.get(higher), None);
    window.add(start, MS * 100, 5.0, higher);
    window.add(start + MS * 50, MS * 100, 3.0, higher);
    assert_eq!(window.get(higher), Some(5.0), "the better one of a period");
    // A period is over when more than its time has passed.
    window.add(start + MS * 100, MS * 100, 4.0, higher);
    assert_eq!((window.now, window.last), (Some(5.0), None));
    window.add(start + MS * 101, MS * 100, 2.0, higher);
    assert_eq!((window.now, window.last), (Some(2.0), Some(5.0)));
    assert_eq!(window.get(higher), Some(5.0), "the last period counts");
    window.add(start + MS * 201, MS * 100, 1.0, higher);
    assert_eq!((window.now, window.last), (Some(2.0), Some(5.0)), "since the second began");
    window.add(start + MS * 202, MS * 100, 1.0, higher);
    assert_eq!(window.get(higher), Some(2.0), "the one before the last is forgotten");
    window.add(start + MS * 203, MS * 100, 9.0, higher);
    assert_eq!(window.get(higher), Some(9.0));
    let mut least = Window::new(start);
    least.add(start, MS, 7 * MS, shorter);
    least.add(start, MS, 9 * MS, shorter);
    assert_eq!(least.get(shorter), Some(7 * MS));
    least.add(start + 5 * MS, MS, 8 * MS, shorter);
    assert_eq!(least.get(shorter), Some(7 * MS));
}

#[test]
fn a_rate_that_is_not_known_is_guessed_and_bounded() {
    let pacer = Pacer::new(Instant::now());
    assert!(near(pacer.rate(100 * MS), 450_000.0));
    assert!(near(pacer.rate(Duration::ZERO), 45e6), "no round trip is shorter than a millisecond");
    assert!(near(pacer.rate(Duration::from_secs(60)), Pacer::LEAST_RATE));
    let now = Instant::now();
    assert!(near(knows(now, 1.0, RTT).rate(RTT), Pacer::LEAST_RATE));
    assert!(near(knows(now, 1e15, RTT).rate(RTT), Pacer::MOST_RATE));
    assert!(near(knows(now, 77_777.0, RTT).rate(RTT), 77_777.0));
}

#[test]
fn what_may_be_under_way_is_a_product() {
    let now = Instant::now();
    assert!(near(Pacer::new(now).window(RTT), Pacer::FIRST_WINDOW));
    let mut pacer = knows(now, 1e6, 100 * MS);
    // Twice the product of rate and delay while the rate doubles; the delay of a report is added.
    assert!(near(pacer.window(RTT), 2.0 * 1e6 * 0.11), "{}", pacer.window(RTT));
    pacer.phase = Phase::Drain;
    assert!(near(pacer.window(RTT), 1.25 * 1e6 * 0.11));
    pacer.phase = Phase::Steady;
    assert!(near(pacer.window(RTT), 1.25 * 1e6 * 0.11));
    let mut slow = knows(now, 20_000.0, 20 * MS);
    assert!(near(slow.window(RTT), Pacer::FIRST_WINDOW));
    slow.phase = Phase::Steady;
    assert!(near(slow.window(RTT), Pacer::LEAST_WINDOW));
    slow.delay = Window::new(now);
    slow.rate.now = Some(1e6);
    assert!(near(slow.window(RTT), 1.25 * 1e6 * 0.05), "the round trip stands for a delay that is not known");
}

#[test]
fn the_share_that_is_sent_follows_the_phase() {
    let mut pacer = knows(Instant::now(), 1e6, RTT);
    assert!(near(pacer.pace(RTT), 2e6) && pacer.is_starting());
    pacer.phase = Phase::Drain;
    assert!(near(pacer.pace(RTT), 0.5e6) && !pacer.is_starting());
    pacer.phase = Phase::Steady;
    let shares = (0..8).map(|place| {
        pacer.cycle.0 = place;
        pacer.pace(RTT) / 1e6
    });
    assert_eq!(shares.collect::<Vec<_>>(), [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
}

#[test]
fn the_budget_fills_with_time_and_only_so_far() {
    let start = Instant::now();
    // 45,000 bytes in 40 ms, and twice that in the startup: 2,250 bytes a millisecond.
    let mut pacer = Pacer::new(start);
    assert!(pacer.may_send(start, RTT), "nothing is owed");
    assert!(near_time(pacer.due(RTT), start + MS), "a millisecond's worth at a time");
    pacer.note_sent(start, (EPOCH, 0), 1_400, true);
    assert!(near(pacer.budget, -1_400.0));
    assert!(!pacer.may_send(start, RTT));
    assert!(near_time(pacer.due(RTT), start + Duration::from_secs_f64((2_250.0 + 1_400.0) / 2.25e6)));
    assert!(!pacer.may_send(start + Duration::from_micros(622), RTT));
    assert!(pacer.may_send(start + Duration::from_micros(623), RTT));
    assert!(near(pacer.budget, 2.25e6 * 623e-6 - 1_400.0));
    // Two milliseconds' worth, and no more, however long nothing was sent.
    assert!(pacer.may_send(start + 30 * MS, RTT));
    assert!(near(pacer.budget, 4_500.0), "{}", pacer.budget);
    // Time that goes backwards adds nothing.
    assert!(pacer.may_send(start, RTT));
    assert!(near(pacer.budget, 4_500.0));
    // Two full datagrams at once, however slow it is.
    let mut slow = Pacer::new(start);
    assert!(slow.may_send(start + Duration::from_secs(9), Duration::from_secs(1)));
    assert!(near(slow.budget, Pacer::LEAST_BURST));
    // Never later than a second from now.
    slow.budget = -1e9;
    assert!(near_time(slow.due(RTT), start + Duration::from_secs(10)));
    slow.budget = 1e9;
    assert!(near_time(slow.due(RTT), start + Duration::from_secs(9)));
}

#[test]
fn a_full_window_waits_for_a_report_until_it_is_given_up() {
    let start = Instant::now();
    let mut pacer = Pacer::new(start);
    pacer.note_sent(start, (EPOCH, 0), 44_999, true);
    pacer.budget = 0.0;
    assert!(!pacer.is_full(RTT) && pacer.may_send(start, RTT));
    pacer.note_sent(start + 5 * MS, (EPOCH, 1), 1, true);
    pacer.budget = 0.0;
    assert!(pacer.is_full(RTT));
    // Two round trips and 300 ms after the newest.
    let given_up = start + 5 * MS + 2 * RTT + 300 * MS;
    assert_eq!(pacer.due(RTT), Some(given_up));
    assert!(!pacer.may_send(given_up - MS, RTT));
    assert_eq!(pacer.in_flight, 45_000);
    assert!(pacer.may_send(given_up, RTT));
    assert_eq!((pacer.in_flight, pacer.sent.len(), pacer.round), (0, 0, None));
    assert_eq!(pacer.given_up(RTT), None);
    // A delay that is known to be longer than the round trip counts instead of it, and the other way round.
    pacer.note_sent(start, (EPOCH, 2), 1, true);
    pacer.delay.now = Some(100 * MS);
    assert_eq!(pacer.given_up(RTT), Some(start + 200 * MS + 300 * MS));
    assert_eq!(pacer.given_up(400 * MS), Some(start + 800 * MS + 300 * MS));
}

#[test]
fn no_more_frames_than_can_be_remembered_are_under_way() {
    let start = Instant::now();
    let mut pacer = knows(start, 1e9, RTT);
    for counter in 0..Pacer::MOST as u64 {
        assert!(!pacer.is_full(RTT), "{counter}");
        pacer.note_sent(start, (EPOCH, counter), 1, true);
    }
    assert!(pacer.is_full(RTT));
}

#[test]
fn a_report_tells_rate_and_delay() {
    let start = Instant::now();
    let mut pacer = Pacer::new(start);
    let ten = |at: u32| start + at * MS;
    pacer.note_sent(ten(10), (EPOCH, 0), 1_000, true);
    pacer.note_sent(ten(20), (EPOCH, 1), 2_000, true);
    pacer.note_sent(ten(30), (EPOCH, 2), 4_000, true);
    assert_eq!(pacer.in_flight, 7_000);
    pacer.note_report(ten(60), EPOCH, 1, 2);
    assert_eq!((pacer.in_flight, pacer.sent.len()), (4_000, 1));
    assert_eq!(pacer.delay.get(shorter), Some(40 * MS), "of the newest that it covers");
    // All that arrived since the first was sent, at 10 ms.
    assert!(near(pacer.rate(RTT), 3_000.0 / 0.050), "{}", pacer.rate(RTT));
    assert!(near(pacer.arrived, 3_000.0));
    assert_eq!((pacer.arrived_at, pacer.basis), (ten(60), ten(20)));
    assert_eq!(pacer.reported, Some((EPOCH, 1, 2)));
    // What is sent now is measured from that report on.
    pacer.note_sent(ten(70), (EPOCH, 3), 8_000, true);
    // Of two more datagrams one arrived: half of the bytes count.
    pacer.note_report(ten(100), EPOCH, 3, 3);
    assert!(near(pacer.arrived, 3_000.0 + 12_000.0 / 2.0), "{}", pacer.arrived);
    assert_eq!(pacer.in_flight, 0);
    assert_eq!(pacer.delay.get(shorter), Some(30 * MS));
    // 6,000 bytes in the longer of 40 ms between the reports and 50 ms between the frames.
    assert!(near(pacer.rate(RTT), 6_000.0 / 0.050), "{}", pacer.rate(RTT));
}

#[test]
fn reports_that_say_nothing_new_change_nothing() {
    let start = Instant::now();
    let mut pacer = Pacer::new(start);
    for counter in 0..10 {
        pacer.note_sent(start, (EPOCH, counter), 1_000, true);
    }
    pacer.note_report(start + RTT, EPOCH, 4, 5);
    let before = (pacer.in_flight, pacer.arrived, pacer.reported);
    assert_eq!(before, (5_000, 5_000.0, Some((EPOCH, 4, 5))));
    for (epoch, highest, received) in [(EPOCH, 4, 9), (EPOCH, 3, 9), (EPOCH, 0, 0), (Epoch(9), 9, 9)] {
        pacer.note_report(start + 2 * RTT, epoch, highest, received);
        assert_eq!((pacer.in_flight, pacer.arrived, pacer.reported), before, "{epoch:?} {highest}");
    }
    // More datagrams than were sent, or fewer than before, are a lie: no more arrived than was sent, nor less than nothing.
    pacer.note_report(start + 2 * RTT, EPOCH, 5, 1_000);
    assert!(near(pacer.arrived, 6_000.0));
    pacer.note_report(start + 2 * RTT, EPOCH, 6, 0);
    assert!(near(pacer.arrived, 6_000.0));
    assert_eq!(pacer.in_flight, 3_000);
}

#[test]
fn a_report_of_new_keys_ends_the_wait_for_the_old() {
    let start = Instant::now();
    let mut pacer = Pacer::new(start);
    pacer.note_sent(start, (Epoch(1), 7), 1_000, true);
    pacer.note_sent(start, (Epoch(2), 0), 2_000, true);
    pacer.note_sent(start, (Epoch(2), 1), 4_000, true);
    pacer.reported = Some((Epoch(1), 6, 7));
    pacer.note_report(start + RTT, Epoch(2), 0, 1);
    assert_eq!(pacer.in_flight, 4_000);
    assert!(near(pacer.arrived, 3_000.0), "no count of theirs is known: all of it counts");
    assert_eq!(pacer.round, None, "the round of the old keys is over");
}

#[test]
fn what_has_passed_is_told_by_the_highest_of_the_same_keys() {
    let start = Instant::now();
    let mut pacer = Pacer::new(start);
    assert!(!pacer.has_passed(EPOCH, 0));
    pacer.note_sent(start, (EPOCH, 5), 100, true);
    pacer.note_report(start + RTT, EPOCH, 5, 1);
    assert!(pacer.has_passed(EPOCH, 4));
    assert!(!pacer.has_passed(EPOCH, 5));
    assert!(!pacer.has_passed(Epoch(2), 4));
}

#[test]
fn an_idle_sender_says_nothing_against_a_rate() {
    let start = Instant::now();
    let mut pacer = knows(start, 50_000.0, RTT);
    let mut exchange = |at: Instant, counter, bytes, more| {
        pacer.note_sent(at, (EPOCH, counter), bytes, more);
        pacer.note_report(at + RTT, EPOCH, counter, counter + 1);
        pacer.rate.now
    };
    let mut at = start;
    for counter in 0..3 {
        assert_eq!(exchange(at, counter, 100, false), Some(50_000.0));
        at += 2 * RTT;
    }
    // But what it shows to be possible counts: 4,000 bytes in 40 ms.
    assert!(exchange(at, 3, 4_000, false).is_some_and(|rate| near(rate, 100_000.0)));
    // A busy one shows also that it became slower, once what was known is too old.
    at += Duration::from_secs(2);
    assert!(exchange(at, 4, 400, true).is_some_and(|rate| near(rate, 10_000.0)));
}

#[test]
fn two_reports_at_once_are_no_rate() {
    let start = Instant::now();
    let mut pacer = Pacer::new(start);
    for counter in 0..3 {
        pacer.note_sent(start + u32::try_from(counter).unwrap_or(0) * MS, (EPOCH, counter), 1_000, true);
    }
    pacer.note_report(start + RTT, EPOCH, 0, 1);
    let known = pacer.rate.now;
    assert!(known.is_some_and(|rate| near(rate, 25_000.0)));
    // Sent at the moment of the report, and reported sooner than half a delay: too short to tell anything.
    pacer.note_sent(start + RTT, (EPOCH, 3), 1_000_000, true);
    pacer.note_report(start + RTT + RTT / 2 - MS, EPOCH, 3, 4);
    assert_eq!(pacer.delay.now, Some(RTT / 2 - MS));
    let mut pacer = knows(start, 25_000.0, RTT);
    pacer.arrived_at = start;
    pacer.note_sent(start, (EPOCH, 0), 1, true);
    pacer.note_report(start, EPOCH, 0, 1);
    assert_eq!(pacer.rate.now, Some(25_000.0), "no time has passed");
}

#[test]
fn the_startup_ends_after_three_rounds_without_growth() {
    let mut pacer = knows(Instant::now(), 100_000.0, RTT);
    pacer.end_round(false);
    assert_eq!(pacer.best, (100_000.0, 0));
    // A quarter more is growth, and just that is not.
    pacer.rate.now = Some(125_000.0);
    pacer.end_round(false);
    assert_eq!(pacer.best, (100_000.0, 1));
    pacer.end_round(true);
    assert_eq!(pacer.best, (100_000.0, 1), "a round that had nothing to send tells nothing");
    pacer.end_round(false);
    assert!(pacer.is_starting());
    pacer.rate.now = Some(125_001.0);
    pacer.end_round(true);
    assert_eq!(pacer.best, (125_001.0, 0), "growth begins the count anew");
    for _ in 0..2 {
        pacer.end_round(false);
        assert!(pacer.is_starting());
    }
    pacer.end_round(false);
    assert_eq!(pacer.phase, Phase::Drain);
    pacer.end_round(false);
    assert_eq!(pacer.phase, Phase::Drain, "only the startup ends like this");
}

#[test]
fn a_round_ends_with_the_report_of_its_first_frame() {
    let start = Instant::now();
    let mut pacer = Pacer::new(start);
    pacer.note_sent(start, (EPOCH, 0), 1_000, true);
    pacer.note_sent(start, (EPOCH, 1), 1_000, true);
    pacer.note_sent(start, (EPOCH, 2), 1_000, true);
    assert_eq!(pacer.round, Some((EPOCH, 0)));
    pacer.note_report(start + RTT, EPOCH, 0, 1);
    assert_eq!((pacer.round, pacer.best.1), (None, 0));
    pacer.note_sent(start + RTT, (EPOCH, 3), 1_000, true);
    assert_eq!(pacer.round, Some((EPOCH, 3)));
    pacer.note_report(start + RTT + MS, EPOCH, 2, 3);
    assert_eq!(pacer.round, Some((EPOCH, 3)), "it is not over yet");
    pacer.note_report(start + 2 * RTT, EPOCH, 3, 4);
    assert_eq!(pacer.round, None);
}

#[test]
fn what_the_startup_left_drains_and_then_a_little_more_is_tried() {
    let start = Instant::now();
    let mut pacer = knows(start, 1e6, 100 * MS);
    pacer.phase = Phase::Drain;
    pacer.in_flight = 100_001;
    pacer.advance(start);
    assert_eq!(pacer.phase, Phase::Drain, "more is under way than the product");
    pacer.in_flight = 100_000;
    pacer.advance(start);
    assert_eq!((pacer.phase, pacer.cycle), (Phase::Steady, (2, start)));
    pacer.advance(start + 100 * MS);
    assert_eq!(pacer.cycle, (2, start), "a delay must have passed");
    let mut at = start;
    for place in [3, 4, 5, 6, 7, 0, 1, 2] {
        at += 101 * MS;
        pacer.advance(at);
        assert_eq!(pacer.cycle, (place, at));
    }
    let mut slow = knows(start, 20_000.0, 10 * MS);
    slow.phase = Phase::Drain;
    slow.in_flight = 12_001;
    slow.advance(start);
    assert_eq!(slow.phase, Phase::Drain);
    slow.in_flight = 12_000;
    slow.advance(start);
    assert_eq!(slow.phase, Phase::Steady, "no less than the least window is drained");
    let mut starting = knows(start, 1e6, MS);
    starting.advance(start + Duration::from_secs(1));
    assert_eq!((starting.phase, starting.cycle.0), (Phase::Startup, 0));
}

#[test]
fn a_quick_path_is_believed_for_ten_delays() {
    let start = Instant::now();
    // A second, or ten delays where that is longer.
    for (delay, period) in [(40 * MS, Duration::from_secs(1)), (300 * MS, Duration::from_secs(3))] {
        let mut pacer = knows(start, 1e9, delay);
        let mut send = |at: Instant, counter| {
            pacer.note_sent(at, (EPOCH, counter), 1_000, true);
            pacer.note_report(at + delay, EPOCH, counter, counter + 1);
            pacer.rate.last
        };
        assert_eq!(send(start + period - delay, 0), None, "{period:?}");
        assert_eq!(send(start + period - delay + MS, 1), Some(1e9), "{period:?}");
    }
}
