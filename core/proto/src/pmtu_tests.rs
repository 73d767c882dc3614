//! Tests of [`super`].

use super::*;

const TIMEOUT: Duration = Duration::from_millis(60);
const EPOCH: Epoch = Epoch(0);
const V4: usize = 28;

/// A path of a certain size that answers after 40 ms, and its large data.
struct Road {
    now: Instant,
    pmtu: PathMtu,
    /// The IP packet that fits.
    fits: usize,
    headers: usize,
    asked: Vec<usize>,
    answers: VecDeque<(Instant, u64)>,
    next: u64,
    /// Every so-manieth PROBE is lost for no reason.
    lossy: Option<u64>,
    /// What is known of that.
    loss: f64,
}

impl Road {
    fn new(v6: bool, fits: usize) -> Self {
        Self {
            now: Instant::now(),
            pmtu: PathMtu::new(v6),
            fits,
            headers: if v6 { 48 } else { V4 },
            asked: Vec::new(),
            answers: VecDeque::new(),
            next: 0,
            lossy: None,
            loss: 0.0,
        }
    }

    /// A datagram of the host that needs an IP packet of this size.
    fn want(&mut self, packet: usize) {
        self.pmtu.want(self.now, packet - self.headers);
    }

    fn run(&mut self, for_: Duration) {
        let end = self.now + for_;
        loop {
            let answer = self.answers.front().map(|(at, _)| *at);
            let Some(next) = [answer, self.pmtu.due()].into_iter().flatten().min().filter(|at| *at <= end)
            else {
                break;
            };
            self.now = self.now.max(next);
            while let Some((_, nonce)) = self.answers.front().copied().filter(|(at, _)| *at <= self.now) {
                self.answers.pop_front();
                assert!(self.pmtu.acknowledge(self.now, nonce));
                assert!(!self.pmtu.acknowledge(self.now, nonce), "each answer counts once");
            }
            let step = self.pmtu.drive(self.now, TIMEOUT, self.loss);
            for size in step.ask {
                self.next += 1;
                self.asked.push(size + self.headers);
                self.pmtu.note_asked(self.next, size, (EPOCH, self.next));
                let lost = self.lossy.is_some_and(|every| self.next.is_multiple_of(every));
                if size + self.headers <= self.fits && !lost {
                    self.answers.push_back((self.now + Duration::from_millis(40), self.next));
                }
            }
            assert!(self.pmtu.due().is_none_or(|due| due > self.now), "what is due was done");
        }
        self.now = end;
    }

    fn limit(&self) -> usize {
        self.pmtu.limit() + self.headers
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn one_probe_proves_ethernet() {
    let mut road = Road::new(false, 1500);
    road.want(200);
    road.run(SECOND);
    assert!(road.asked.is_empty() && road.pmtu.due().is_none(), "small data asks nothing");
    road.want(1300);
    road.run(SECOND);
    assert_eq!(road.asked, [1500]);
    road.want(1500);
    road.run(MTU_RAISE * 2);
    assert_eq!(road.asked, [1500]);
}

#[test]
fn finds_every_size() {
    for v6 in [false, true] {
        for fits in 1280..=1500 {
            let mut road = Road::new(v6, fits);
            road.want(1450);
            // The first is not answered after 110 ms; the second round ends 160 ms later.
            road.run(Duration::from_millis(271));
            assert!(road.limit() <= fits, "{fits}: {}", road.limit());
            road.run(5 * SECOND);
            assert!(road.limit() <= fits && road.limit() + PRECISION >= fits, "{fits}: {}", road.limit());
            assert!(road.asked.len() <= 26, "{fits}: {:?}", road.asked);
            assert_eq!(road.pmtu.due(), None);
        }
    }
}

#[test]
fn likely_sizes_are_found_exactly() {
    for fits in [1492, 1420, 1400, 1280 + crate::DATA_OVERHEAD + V4, 1280] {
        let mut road = Road::new(false, fits);
        road.want(1450);
        road.run(5 * SECOND);
        assert_eq!(road.limit(), fits);
    }
}

#[test]
fn chance_does_not_shrink_a_path() {
    let mut road = Road::new(false, 1500);
    road.lossy = Some(1);
    road.want(1450);
    // One lost, and the next two.
    road.run(Duration::from_millis(111));
    road.lossy = Some(2);
    road.run(SECOND);
    assert_eq!(road.limit(), 1500);
}

#[test]
fn who_loses_much_is_asked_more_often() {
    assert_eq!([0.0, 0.01, 0.05, 0.1, 0.5].map(|loss| again(loss) + 1), [3, 3, 6, 8, 8]);
    let mut asked = Vec::new();
    for loss in [0.0, 0.1] {
        let mut road = Road { loss, ..Road::new(false, 1400) };
        road.want(1450);
        road.run(Duration::from_millis(270));
        asked.push(road.asked.iter().filter(|packet| **packet == 1500).count());
    }
    assert_eq!(asked, [3, 8]);
}

#[test]
fn only_what_was_answered_is_used() {
    let mut road = Road::new(false, 1380);
    road.want(1450);
    let mut before = 0;
    for _ in 0..300 {
        road.run(Duration::from_millis(10));
        let limit = road.limit();
        if before != 0 && before < 1500 {
            assert!(limit >= before && limit <= 1380, "{before} to {limit}");
        }
        before = limit;
    }
}

/// RFC 8899, 4.3.
#[test]
fn a_black_hole_is_found_by_what_is_missing() {
    let mut road = Road::new(false, 1500);
    road.want(1450);
    road.run(2 * SECOND);
    road.fits = 1400;
    road.want(1450);
    road.pmtu.note_report(road.now, EPOCH, 100, 101);
    assert_eq!(road.pmtu.due(), None, "nothing is missing");
    road.pmtu.note_report(road.now, EPOCH, 110, 108);
    road.run(Duration::from_millis(271));
    assert_eq!(road.limit(), 1400);
    // PROBEs that did not fit are missing, too, and say nothing new.
    road.run(2 * SECOND);
    let lost = road.asked.iter().skip(1).filter(|packet| **packet > 1400).count() as u64;
    assert_eq!(road.pmtu.excused(EPOCH, 0, road.next), lost, "all but the first, which fitted then");
    road.pmtu.note_report(road.now, EPOCH, 110 + road.next, 108 + road.next);
    assert_eq!(road.pmtu.due(), None);
}

/// A path that shrinks while larger sizes are being looked for is found out as soon as one that rests.
#[test]
fn a_climb_gives_way_to_a_doubt() {
    for (lost, patience) in [(1, 271), (90, 161)] {
        let mut road = Road::new(false, 1420);
        road.want(1450);
        road.run(Duration::from_millis(300));
        assert!(road.limit() == 1420 && matches!(road.pmtu.phase, Phase::Climb { .. }));
        road.pmtu.note_report(road.now, EPOCH, 100, 101);
        road.fits = 1300;
        road.pmtu.note_report(road.now, EPOCH, 200, 201 - lost);
        road.run(Duration::from_millis(patience));
        assert_eq!(road.limit(), 1280, "{lost} of 100 are missing");
        road.run(4 * SECOND);
        assert!((1284..=1300).contains(&road.limit()), "{}", road.limit());
    }
}

/// And ends, though loss of another kind raises doubts all the time.
#[test]
fn a_climb_ends_in_spite_of_doubts() {
    let mut road = Road::new(false, 1450);
    for _ in 0..6_000 {
        road.want(1500);
        road.pmtu.doubt(road.now);
        road.run(Duration::from_millis(1));
    }
    assert!((1434..=1450).contains(&road.limit()), "{}", road.limit());
    assert!(road.pmtu.searched.is_some());
}

#[test]
fn doubts_are_few() {
    let mut road = Road::new(false, 1500);
    road.want(1450);
    road.run(SECOND);
    let before = road.asked.len();
    for _ in 0..10_000 {
        road.want(1450);
        road.pmtu.doubt(road.now);
        road.run(Duration::from_millis(1));
    }
    let asked = road.asked.len() - before;
    assert!((16..=21).contains(&asked), "{asked} in 10 s");
    // Loss among small data says nothing of size.
    road.run(10 * SECOND);
    road.pmtu.doubt(road.now);
    assert_eq!(road.pmtu.due(), None);
}

#[test]
fn a_larger_size_is_tried_after_ten_minutes_of_use() {
    let mut road = Road::new(false, 1400);
    road.want(1450);
    road.run(10 * SECOND);
    let before = road.asked.len();
    road.fits = 1500;
    road.want(1400);
    road.run(MTU_RAISE - 20 * SECOND);
    road.want(1400);
    road.run(SECOND);
    assert_eq!(road.asked.len(), before, "not yet");
    road.run(MTU_RAISE);
    assert_eq!(road.asked.len(), before, "nobody sends");
    road.want(1400);
    road.run(SECOND);
    assert_eq!(road.asked[before..], [1420, 1492, 1500]);
    assert_eq!(road.limit(), 1500);
}

#[test]
fn a_path_below_the_base_is_used_at_the_base() {
    let mut road = Road::new(false, 1000);
    road.want(1450);
    road.run(10 * SECOND);
    assert_eq!(road.limit(), 1280);
    assert_eq!(road.pmtu.due(), None);
    assert!(road.asked.len() <= 30, "{:?}", road.asked);
}

#[test]
fn what_the_interface_refuses_is_not_tried_again() {
    let mut road = Road::new(false, 1400);
    // The interface's own MTU is 1,410.
    road.pmtu.refuse(road.now, 1450 - V4);
    assert_eq!(road.limit(), 1420);
    let mut refused = 0;
    for _ in 0..100 {
        let step = road.pmtu.drive(road.now, TIMEOUT, 0.0);
        for size in step.ask {
            road.next += 1;
            road.pmtu.note_asked(road.next, size, (EPOCH, road.next));
            assert!(size + V4 < 1450);
            if size + V4 > 1410 {
                refused += 1;
                road.pmtu.refuse(road.now, size);
            } else if size + V4 <= road.fits {
                assert!(road.pmtu.acknowledge(road.now, road.next));
            }
        }
        road.now += Duration::from_millis(50);
    }
    assert_eq!(road.limit(), 1400);
    assert!(refused <= 2, "{refused}");
    road.pmtu.refuse(road.now, 300);
    assert_eq!(road.limit(), 1400, "nothing is refused for its size below the base");
}

#[test]
fn a_path_that_failed_is_proven_again() {
    let mut road = Road::new(false, 1400);
    road.want(1450);
    road.run(10 * SECOND);
    road.pmtu.restart();
    road.run(SECOND);
    let before = road.asked.len();
    road.fits = 1500;
    road.want(1400);
    road.run(5 * SECOND);
    assert_eq!(road.asked[before], 1400);
    road.want(1400);
    road.run(5 * SECOND);
    assert_eq!(road.limit(), 1500);
}

#[test]
fn a_path_follows_another_of_the_same_links_down_and_no_further() {
    let now = Instant::now();
    let mut pmtu = PathMtu::new(true);
    pmtu.follow(1_400);
    assert_eq!((pmtu.packet(), pmtu.limit()), (1_400, 1_352));
    pmtu.follow(1_450);
    assert_eq!(pmtu.packet(), 1_400, "that one is larger");
    pmtu.want(now, 1_352);
    let step = pmtu.drive(now, Duration::from_millis(50), 0.0);
    assert_eq!(step, Step { ask: vec![1_352], fell: false }, "it is proven before it is believed");
    pmtu.follow(1_000);
    assert_eq!(pmtu.packet(), 1_400, "not while it is asked");
}

proptest::proptest! {
    /// Whatever is answered, refused, doubted and told, in whatever order: what data uses is below what is known not to fit.
    #[test]
    fn the_limit_is_below_what_does_not_fit(
        steps in proptest::collection::vec((0_u8..9, proptest::prelude::any::<u16>()), 1..200), v6: bool,
    ) {
        let mut mtu = PathMtu::new(v6);
        let mut now = Instant::now();
        let (mut asked, mut nonce): (Vec<u64>, u64) = (Vec::new(), 0);
        for (what, more) in steps {
            let size = 1_100 + usize::from(more) % 500;
            match what {
                0 => mtu.want(now, size),
                1 => mtu.doubt(now),
                2 => mtu.refuse(now, size),
                3 => mtu.follow(size),
                4 if more % 16 == 0 => mtu.restart(),
                5 => mtu.note_report(now, Epoch(0), more.into(), u64::from(more / 2)),
                6 if !asked.is_empty() => {
                    let nonce = asked[usize::from(more) % asked.len()];
                    mtu.acknowledge(now, nonce);
                }
                7 => now += Duration::from_millis(more.into()),
                _ => {
                    if let Some(due) = mtu.due() {
                        now = now.max(due);
                    }
                    for size in mtu.drive(now, Duration::from_millis(50), 0.01).ask {
                        nonce += 1;
                        mtu.note_asked(nonce, size, (Epoch(0), nonce));
                        asked.push(nonce);
                    }
                }
            }
            proptest::prop_assert!(mtu.limit < mtu.ceiling, "{mtu:?}");
            proptest::prop_assert!(mtu.limit >= mtu.base() && mtu.limit <= mtu.cap(), "{mtu:?}");
        }
    }
}
