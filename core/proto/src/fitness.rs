//! How fit a path is to carry data, judged within the second in which a person notices.
//!
//! Two things are watched: what of the datagrams sent over it arrives, in each direction, and by how much it is slower
//! than it can be. Loss is judged by adding up evidence (a CUSUM test): each datagram that is missing speaks for a path
//! that loses [`LOST`], each that arrived for one that loses no more than [`USUAL`], and the sum never falls below
//! zero. So heavy loss shows after a tenth of a second, slight loss only where there are many datagrams to tell it from
//! chance, and none of it depends on how much is sent. What is missing within one moment is one event, however much it
//! is: a queue that overflowed, or a radio that looked for other stations.

use std::time::{Duration, Instant};

use crate::wire::Epoch;

/// Whether a path can carry what people do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Fitness {
    /// Nothing speaks against it.
    #[default]
    Fit,
    /// It carries, but worse than it can: slower, or with losses that may be chance. Left for one that costs no more.
    Strained,
    /// It loses or delays so much that calls break and streams stand still. Left at once for any other that is allowed.
    Unfit,
}

impl Fitness {
    /// The word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fit => "fit",
            Self::Strained => "strained",
            Self::Unfit => "unfit",
        }
    }
}

/// What was wrong with a path that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ailment {
    /// Of a hundred datagrams so many did not arrive, in the worse direction.
    pub lost: u8,
    /// By how many milliseconds its round trip was longer than it can be.
    pub late: u16,
    /// Nothing came through for moments.
    pub stalled: bool,
}

/// What is missing within this time is one event.
pub const MOMENT: Duration = Duration::from_millis(50);
/// A share lost that people live with: radios lose so much and repair it, and calls conceal it.
const USUAL: f32 = 0.03;
/// A share lost that nobody lives with: a stream of 40 ms gets half a megabit a second, and of a call each fifth
/// syllable is missing at the end of a round trip.
const LOST: f32 = 0.12;
/// The most evidence of one moment.
const MOST: f32 = 3.0;
/// So much evidence condemns a path.
pub const ENOUGH: f32 = 12.0;
/// So much makes it strained.
const SOME: f32 = ENOUGH / 2.0;
/// As a share of what condemns it: so much is worth more PROBEs.
const QUESTION: f32 = 0.25;
/// So long there must be a question before there is a verdict: a size that no longer fits is found by then.
const PATIENCE: Duration = Duration::from_millis(300);
/// A silence that ends by itself.
const SILENCE: f32 = 4.0;
/// Evidence older than this counts for little.
const MEMORY: Duration = Duration::from_secs(4);
/// A round trip that is longer than the path's own by this much is noticed in a conversation (ITU-T G.114: 150 ms one
/// way, of which the path has part anyhow).
pub const LATE: Duration = Duration::from_millis(150);
/// And by this much it ends one (G.114's 400 ms one way).
pub const TOO_LATE: Duration = Duration::from_millis(400);
/// As delay grows up to this, half as much evidence of loss is enough: both together are what a link does that fades.
const FADING: Duration = Duration::from_millis(100);
/// A path's own round trip is the shortest of the last one or two of these.
const BASE: Duration = Duration::from_secs(60);
/// Its present one the shortest of the last one or two of these, so that jitter is no delay.
const PRESENT: Duration = Duration::from_millis(400);
/// But of so many samples, or one late answer would be a late path.
const SAMPLES: u8 = 3;
/// More bytes under way than a conversation has: what is late then waits behind the host's own data.
const LOADED: f64 = 48.0 * 1024.0;
/// As much comes through as ever did, but for this share, and waits in a queue of at least [`QUEUE`]: what is missing
/// did not fit, and would fit no better elsewhere.
const BUSY: f64 = 0.75;
const QUEUE: Duration = Duration::from_millis(20);
/// What comes is taken to have waited for as long as this, as it does where routers have much memory.
const BUFFER: Duration = Duration::from_millis(300);
/// From this share of what condemns it on, small datagrams are copied over another path: whoever talks need not wait
/// for the verdict.
const WAVERING: f32 = 0.3;
/// The most bytes of such copies in about [`COPIED_IN`], for the other path may cost.
const COPIES: f32 = 96.0 * 1024.0;
const COPIED_IN: Duration = Duration::from_secs(30);
/// Evidence that an unfit path is fit again.
const SOUND: f32 = 4.0;
/// Rates are those of about this time.
const RATE: Duration = Duration::from_millis(400);

/// The evidence of one datagram that is missing, and of one that arrived.
fn weights() -> (f32, f32) {
    ((LOST / USUAL).ln(), ((1.0 - LOST) / (1.0 - USUAL)).ln())
}

/// The shortest of the last one or two periods.
#[derive(Debug, Clone, Copy, Default)]
struct Shortest {
    since: Option<Instant>,
    before: Option<Duration>,
    now: Option<Duration>,
    samples: u8,
}

impl Shortest {
    fn sample(&mut self, at: Instant, period: Duration, value: Duration) {
        match self.since {
            Some(since) if at.saturating_duration_since(since) < period || self.samples < SAMPLES => {}
            Some(_) => {
                self.before = self.now;
                (self.now, self.since, self.samples) = (None, Some(at), 0);
            }
            None => self.since = Some(at),
        }
        self.samples = self.samples.saturating_add(1);
        self.now = Some(self.now.map_or(value, |old| old.min(value)));
    }

    fn get(&self) -> Option<Duration> {
        [self.before, self.now].into_iter().flatten().min()
    }
}

/// One direction of a path.
#[derive(Debug, Clone, Copy, Default)]
struct Direction {
    /// Bytes that went over it, when it was looked last.
    carried: u64,
    /// Epoch, highest counter, and how many arrived, when it was looked last.
    seen: Option<(Epoch, u64, u64)>,
    /// Of the present moment.
    sent: f32,
    missing: f32,
    bytes: u64,
    evidence: f32,
    /// Since it was found unfit: evidence that it no longer is.
    sound: f32,
    /// Moving shares, for the rates and for people.
    recent_sent: f32,
    recent_missing: f32,
    /// Bytes a second that were sent lately.
    offered: f64,
    /// Datagrams a second that came through lately, and the most of that.
    rate: f64,
    best: f64,
}

impl Direction {
    /// What was sent and what is missing of it since the last look; `excused` of these say nothing.
    fn look(&mut self, (epoch, highest, received): (Epoch, u64, u64), excused: u64, carried: u64) {
        if let Some((before, old_highest, old_received)) = self.seen
            && before == epoch
        {
            if highest < old_highest || received < old_received {
                // An older report, which another one overtook.
                return;
            }
            let sent = (highest - old_highest).saturating_sub(excused) as f32;
            let arrived = (received - old_received) as f32;
            self.sent += sent;
            // What comes late was counted as missing before.
            self.missing += sent - arrived;
            self.bytes += carried.saturating_sub(self.carried);
        }
        self.carried = carried;
        self.seen = Some((epoch, highest, received));
    }

    fn lost(&self) -> f32 {
        if self.recent_sent < 1.0 { 0.0 } else { (self.recent_missing / self.recent_sent).clamp(0.0, 1.0) }
    }

    /// The moment is over; it lasted so long.
    /// Whether it gave more evidence.
    fn close(&mut self, lasted: Duration, queued: bool, excused: bool) -> bool {
        let (sent, missing) = (self.sent, self.missing);
        let seconds = lasted.as_secs_f64();
        let keep = (-seconds / RATE.as_secs_f64()).exp();
        self.offered = self.offered * keep + (self.bytes as f64 / seconds) * (1.0 - keep);
        let arrived = f64::from(self.sent - self.missing).max(0.0) / seconds;
        self.rate = self.rate * keep + arrived * (1.0 - keep);
        self.best = (self.best * (-seconds / 20.0).exp()).max(self.rate);
        let keep = keep as f32;
        self.recent_sent = self.recent_sent * keep + sent;
        self.recent_missing = (self.recent_missing * keep + missing).max(0.0);
        (self.sent, self.missing, self.bytes) = (0.0, 0.0, 0);
        let (lost, arrived) = weights();
        let overloaded = queued && self.rate >= BUSY * self.best;
        let mut change = missing * lost + (sent - missing.max(0.0)).max(0.0) * arrived;
        change = change.min(MOST);
        if overloaded || excused {
            change = change.min(0.0);
        }
        self.evidence *= (-seconds / MEMORY.as_secs_f64()).exp() as f32;
        self.evidence = (self.evidence + change).max(0.0);
        self.sound = (self.sound - change).max(0.0);
        change > 0.0
    }
}

/// What is watched of a path. In a place of its own: most paths are idle.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// Since when selection saw the path as better than the one chosen, for each of its two choices.
    pub better_since: [Option<Instant>; 2],
    began: Option<Instant>,
    /// Since when there is a question of its fitness.
    questioned: Option<Instant>,
    out: Direction,
    inward: Direction,
    base: Shortest,
    present: Shortest,
    latest: Duration,
    silences: f32,
    /// The radio says that it is about to fail.
    weak: bool,
    copied: f32,
    fitness: Fitness,
}

impl Watch {
    /// How fit the path is, as judged last.
    pub fn fitness(&self) -> Fitness {
        self.fitness
    }

    /// What the other end says has arrived: the highest counter of an epoch and how many up to it, of which `excused`
    /// more were lost for another reason than the path; and all bytes that went over it so far.
    pub fn sent(&mut self, counters: (Epoch, u64, u64), excused: u64, carried: u64) {
        self.out.look(counters, excused, carried);
    }

    /// The highest counter before, of which the other end said that it arrived.
    pub fn reported(&self, epoch: Epoch) -> Option<u64> {
        self.out.seen.filter(|seen| seen.0 == epoch).map(|seen| seen.1)
    }

    /// The same of what has arrived here. Whether something is missing since the last moment.
    pub fn arrived(&mut self, counters: (Epoch, u64, u64), carried: u64) -> bool {
        self.inward.look(counters, 0, carried);
        self.inward.missing > 0.0
    }

    /// A round trip.
    pub fn round_trip(&mut self, now: Instant, rtt: Duration) {
        self.base.sample(now, BASE, rtt);
        self.present.sample(now, PRESENT, rtt);
        self.latest = rtt;
    }

    /// Nothing was heard, and no PROBE answered, for longer than that takes; and then something.
    pub fn silent(&mut self) {
        self.silences += SILENCE;
    }

    /// By how much the round trip is longer than it can be.
    fn late(&self) -> Duration {
        match (self.present.get(), self.base.get()) {
            (Some(present), Some(base)) => present.saturating_sub(base),
            _ => Duration::ZERO,
        }
    }

    /// Whether the host's own data may be what the round trip waits for.
    fn is_loaded(&self) -> bool {
        self.out.offered.max(self.inward.offered) * self.latest.as_secs_f64() > LOADED
    }

    /// By how much the latest round trip was longer than it can be.
    fn queue(&self) -> Duration {
        self.base.get().map_or(Duration::ZERO, |base| self.latest.saturating_sub(base))
    }

    /// Whether what goes over it waits.
    pub fn is_queued(&self) -> bool {
        self.queue() >= QUEUE
    }

    /// Whether small datagrams shall go over another path as well.
    pub fn wavers(&self) -> bool {
        self.copied < COPIES && (self.weight() >= WAVERING || self.fitness == Fitness::Unfit)
    }

    /// So many bytes did.
    pub fn note_copied(&mut self, bytes: usize) {
        self.copied += bytes as f32;
    }

    /// The evidence against the path, as a share of what condemns it.
    pub fn weight(&self) -> f32 {
        let late = self.late();
        let fading = 1.0 - 0.5 * (late.as_secs_f32() / FADING.as_secs_f32()).min(1.0);
        let fading = if self.weak {
            0.5
        } else if self.is_loaded() {
            1.0
        } else {
            fading
        };
        (self.out.evidence + self.inward.evidence + self.silences) / (ENOUGH * fading)
    }

    /// Whether there is a question that more PROBEs would answer.
    pub fn is_questionable(&self) -> bool {
        self.weight() > QUESTION
            || self.present.now.zip(self.base.get()).is_some_and(|(now, base)| now > base + LATE / 2)
    }

    /// Whether a moment is over, so that [`Watch::judge`] may find something new.
    pub fn is_due(&self, now: Instant) -> bool {
        self.began.is_none_or(|began| now.saturating_duration_since(began) >= MOMENT)
    }

    /// Judges the path anew. What it was before. While it is asked what size it carries (`sounding`), what is missing of
    /// what was sent may be missing for its size.
    /// `weak` where the radio says that it is about to fail: then half as much evidence is enough.
    pub fn judge(&mut self, now: Instant, sounding: bool, weak: bool) -> Fitness {
        self.weak = weak;
        let lasted = now.saturating_duration_since(self.began.replace(now).unwrap_or(now)).max(MOMENT);
        let before = self.fitness;
        let waits = |direction: &Direction, time: Duration| direction.offered * time.as_secs_f64() > LOADED;
        let queued = self.is_queued() && waits(&self.out, self.latest);
        let mut more = self.out.close(lasted, queued, sounding);
        // How long what comes has waited, this end cannot know in time; the other one does.
        let queued = waits(&self.inward, self.latest.max(BUFFER));
        more |= self.inward.close(lasted, queued, false);
        self.copied *= (-lasted.as_secs_f32() / COPIED_IN.as_secs_f32()).exp();
        self.silences *= (-lasted.as_secs_f32() / MEMORY.as_secs_f32() * 2.0).exp();
        let late = self.late();
        let weight = self.weight();
        match self.questioned {
            _ if weight < QUESTION => self.questioned = None,
            None => self.questioned = Some(now),
            Some(_) => {}
        }
        let long = |since: Instant| now.saturating_duration_since(since) >= PATIENCE;
        let lossy = weight >= 1.0 && more && self.questioned.is_some_and(long);
        self.fitness = match before {
            Fitness::Unfit => {
                if self.out.sound >= SOUND && self.inward.sound >= SOUND && late < LATE {
                    for way in [&mut self.out, &mut self.inward] {
                        // What it can carry now may be less.
                        (way.evidence, way.best) = (0.0, 0.0);
                    }
                    self.silences = 0.0;
                    Fitness::Fit
                } else {
                    Fitness::Unfit
                }
            }
            _ if lossy || late >= TOO_LATE && !self.is_loaded() => {
                self.condemn();
                Fitness::Unfit
            }
            _ if weight * ENOUGH >= SOME || late >= LATE && !self.is_loaded() => Fitness::Strained,
            _ => Fitness::Fit,
        };
        before
    }

    /// It is unfit, for what another path of the same links suffers if not for its own.
    pub fn condemn(&mut self) {
        self.fitness = Fitness::Unfit;
        self.out.sound = 0.0;
        self.inward.sound = 0.0;
    }

    /// What is wrong with it.
    pub fn ailment(&self) -> Ailment {
        let lost = self.out.lost().max(self.inward.lost()) * 100.0;
        Ailment {
            lost: lost.round() as u8,
            late: u16::try_from(self.late().as_millis()).unwrap_or(u16::MAX),
            stalled: self.silences >= SILENCE / 2.0,
        }
    }

    /// The path failed, or begins anew: what was lost into its silence is not what it loses now.
    pub fn restart(&mut self) {
        let fitness = self.fitness;
        *self = Self { better_since: self.better_since, base: self.base, fitness, ..Self::default() };
    }

    /// What it lost was lost for its size, which is known now.
    pub fn absolve(&mut self) {
        self.fitness = Fitness::Fit;
    }

    /// Whether nothing is lost with it.
    pub fn is_idle(&self) -> bool {
        self.better_since == [None; 2] && self.fitness == Fitness::Fit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = Epoch(1);
    const MS: Duration = Duration::from_millis(1);

    /// A path on which a datagram leaves each way every so often, and what of it arrives.
    struct Road {
        now: Instant,
        watch: Watch,
        highest: u64,
        received: [u64; 2],
        bytes: u64,
        random: u32,
    }

    /// The weights are those of a likelihood ratio: on a path that loses what is usual the evidence sinks, on one that
    /// loses too much it grows.
    #[test]
    fn evidence_tells_the_one_path_from_the_other() {
        let (missing, arrived) = weights();
        let drift = |share: f32| share * missing + (1.0 - share) * arrived;
        assert!(missing > 0.0 && arrived < 0.0 && drift(USUAL) < 0.0 && drift(LOST) > 0.0);
        let sum = USUAL * missing.exp() + (1.0 - USUAL) * arrived.exp();
        assert!((sum - 1.0).abs() < 1e-4, "{sum}");
    }

    #[test]
    fn what_is_sent_and_comes_through_is_counted_by_the_second() {
        let mut direction = Direction::default();
        for n in 1..=400_u64 {
            // 100 datagrams of 1,000 bytes a second, of which one in ten is missing.
            direction.look((EPOCH, n, n - n / 10), 0, n * 1_000);
            direction.close(10 * MS, false, false);
        }
        assert!((95_000.0..=105_000.0).contains(&direction.offered), "{} bytes a second", direction.offered);
        assert!((80.0..=100.0).contains(&direction.rate), "{} datagrams a second", direction.rate);
    }

    #[test]
    fn a_path_that_becomes_slow_is_a_question() {
        let mut watch = Watch::default();
        let begun = Instant::now();
        for n in 0..40 {
            watch.round_trip(begun + 100 * MS * n, 20 * MS);
        }
        assert!(!watch.is_questionable());
        for n in 40..80 {
            watch.round_trip(begun + 100 * MS * n, 20 * MS + LATE);
        }
        assert!(watch.is_questionable(), "{watch:?}");
    }

    #[test]
    fn a_silence_is_forgotten_with_time() {
        let mut watch = Watch::default();
        let now = Instant::now();
        watch.judge(now, false, false);
        watch.silent();
        let before = watch.silences;
        assert!(before > 0.0);
        watch.judge(now + MEMORY / 2, false, false);
        let left = watch.silences / before;
        assert!((left - (-1.0_f32).exp()).abs() < 0.02, "{left}");
    }

    impl Road {
        fn new() -> Self {
            Self {
                now: Instant::now(),
                watch: Watch::default(),
                highest: 0,
                received: [0; 2],
                bytes: 0,
                random: 1,
            }
        }

        fn chance(&mut self, share: f64) -> bool {
            self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(self.random >> 8) < share * f64::from(1_u32 << 24)
        }

        /// For so long, with so many datagrams of so many bytes each 10 ms, these shares of which are lost out and in.
        fn run(
            &mut self,
            time: Duration,
            each: (u64, u64),
            lost: [f64; 2],
            trip: Duration,
        ) -> Option<Duration> {
            let start = self.now;
            let mut left = None;
            while self.now < start + time {
                self.now += 10 * MS;
                for _ in 0..each.0 {
                    self.highest += 1;
                    self.bytes += each.1;
                    let arrived = lost.map(|lost| u64::from(!self.chance(lost)));
                    for (received, arrived) in self.received.iter_mut().zip(arrived) {
                        *received += arrived;
                    }
                }
                self.watch.round_trip(self.now, trip);
                self.watch.sent((EPOCH, self.highest, self.received[0]), 0, self.bytes);
                if self.watch.is_due(self.now) {
                    self.watch.arrived((EPOCH, self.highest, self.received[1]), self.bytes);
                    self.watch.judge(self.now, false, false);
                }
                if left.is_none() && self.watch.fitness() == Fitness::Unfit {
                    left = Some(self.now - start);
                }
            }
            left
        }
    }

    const CALL: (u64, u64) = (1, 200);

    #[test]
    fn heavy_loss_is_found_within_a_second_in_either_direction() {
        for lost in [[0.3, 0.0], [0.0, 0.3], [0.2, 0.2]] {
            let mut road = Road::new();
            assert_eq!(road.run(5_000 * MS, CALL, [0.0; 2], 40 * MS), None);
            let left = road.run(3_000 * MS, CALL, lost, 40 * MS).unwrap();
            assert!(left <= 1_000 * MS, "{lost:?}: {left:?}");
            let lost = road.watch.ailment().lost;
            assert!((10..=50).contains(&lost), "{lost}");
        }
    }

    #[test]
    fn slight_loss_is_none_however_long() {
        let mut road = Road::new();
        assert_eq!(road.run(600_000 * MS, CALL, [0.02; 2], 40 * MS), None);
    }

    #[test]
    fn one_bad_moment_is_one_event() {
        let mut road = Road::new();
        road.run(2_000 * MS, (10, 1_400), [0.0; 2], 40 * MS);
        for _ in 0..20 {
            road.run(40 * MS, (10, 1_400), [0.9; 2], 40 * MS);
            assert_eq!(road.run(3_000 * MS, (10, 1_400), [0.0; 2], 40 * MS), None);
        }
    }

    #[test]
    fn delay_counts_where_it_is_not_the_hosts_own() {
        let mut road = Road::new();
        road.run(2_000 * MS, CALL, [0.0; 2], 40 * MS);
        road.run(1_000 * MS, CALL, [0.0; 2], 200 * MS);
        assert_eq!(road.watch.fitness(), Fitness::Strained);
        assert!(road.run(2_000 * MS, CALL, [0.0; 2], 450 * MS).is_some());
        let mut road = Road::new();
        road.run(2_000 * MS, (8, 1_400), [0.0; 2], 40 * MS);
        assert_eq!(road.run(5_000 * MS, (8, 1_400), [0.1, 0.0], 450 * MS), None, "its own queue");
        assert_eq!(road.watch.fitness(), Fitness::Fit);
    }

    #[test]
    fn what_arrives_late_was_not_lost() {
        let mut road = Road::new();
        road.run(2_000 * MS, CALL, [0.0; 2], 40 * MS);
        for _ in 0..100 {
            // Five are overtaken, and come.
            road.highest += 5;
            road.run(30 * MS, CALL, [0.0; 2], 40 * MS);
            road.received.iter_mut().for_each(|received| *received += 5);
            road.run(30 * MS, CALL, [0.0; 2], 40 * MS);
        }
        assert_ne!(road.watch.fitness(), Fitness::Unfit);
    }

    #[test]
    fn an_older_report_that_comes_later_tells_nothing() {
        let mut road = Road::new();
        road.run(1_000 * MS, CALL, [0.0; 2], 40 * MS);
        road.watch.sent((EPOCH, road.highest - 50, road.received[0] - 50), 0, 0);
        assert_eq!(road.watch.reported(EPOCH), Some(road.highest));
    }

    #[test]
    fn it_is_fit_again_after_seconds_without_loss() {
        let mut road = Road::new();
        road.run(2_000 * MS, CALL, [0.0; 2], 40 * MS);
        road.run(2_000 * MS, CALL, [0.4; 2], 40 * MS);
        assert_eq!(road.watch.fitness(), Fitness::Unfit);
        road.run(200 * MS, CALL, [0.0; 2], 40 * MS);
        assert_eq!(road.watch.fitness(), Fitness::Unfit, "not at once");
        road.run(1_000 * MS, CALL, [0.0; 2], 40 * MS);
        assert_eq!(road.watch.fitness(), Fitness::Fit);
    }

    /// Section 11.5 names every figure.
    #[test]
    fn the_figures_are_as_documented() {
        let document = include_str!("../../PROTOCOL.md").replace('\n', " ");
        for said in [
            format!("in moments of {} ms", MOMENT.as_millis()),
            format!("that loses {:.0} %, with ln({:.0}/{:.0})", LOST * 100.0, LOST * 100.0, USUAL * 100.0),
            format!(
                "that loses {:.0} %, with ln({:.0}/{:.0})",
                USUAL * 100.0,
                100.0 - LOST * 100.0,
                100.0 - USUAL * 100.0
            ),
            format!("One moment gives {MOST:.0} at most"),
            format!("fades with {} s. A suspicion", MEMORY.as_secs()),
            format!("gives {SILENCE:.0}, which fades with {} s", MEMORY.as_secs() / 2),
            format!("of {} to {} ms, three at least", PRESENT.as_millis(), PRESENT.as_millis() * 2),
            format!("together is {ENOUGH:.0}; as the round trip grows by up to {} ms", FADING.as_millis()),
            format!("the round trip is {} ms longer than it can be", TOO_LATE.as_millis()),
            format!("the evidence is {SOME:.0}; or the round trip is {} ms longer", LATE.as_millis()),
            format!("under way than {:.0} KiB", LOADED / 1024.0),
            format!("is {} ms longer than it can be. Of what comes", QUEUE.as_millis()),
            format!("as if it waited {} ms", BUFFER.as_millis()),
            format!("in the first {} ms of a question", PATIENCE.as_millis()),
            format!("for that is {SOUND:.0} in each direction"),
            format!("up to {:.0} KiB in about {} s", COPIES / 1024.0, COPIED_IN.as_secs()),
        ] {
            assert!(document.contains(&said), "core/PROTOCOL.md, section 11.5, must say: {said}");
        }
        assert_eq!((QUESTION, WAVERING, BUSY, SAMPLES), (0.25, 0.3, 0.75, 3));
        assert_eq!((RATE.as_millis(), BASE.as_secs()), (400, 60));
    }
}
