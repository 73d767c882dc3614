//! How much one path of several can carry, and when it may be sent more: a small model after BBR (Cardwell et al.,
//! 2016).
//!
//! The other end's reports tell what has arrived. The highest rate at which that grew lately is the path's rate; the
//! shortest time from sending to report is its delay. What is under way is kept near their product, so that no queue
//! stands before the bottleneck, and sending is spread evenly. First the rate is doubled each round trip until it
//! grows no more; later a little more is tried now and then.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::context::timing::REPORT_DELAY;
use crate::wire::Epoch;

/// A frame that was sent and that no report covers yet.
#[derive(Debug)]
struct Sent {
    epoch: Epoch,
    counter: u64,
    bytes: usize,
    at: Instant,
    /// How the count of what had arrived stood then, since when, and when the frame was sent that told so.
    arrived: f64,
    arrived_at: Instant,
    basis: Instant,
    /// There was nothing more to send then, so that the rate says nothing of the path.
    idle: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The rate doubles.
    Startup,
    /// What the startup left in the queue before the bottleneck drains.
    Drain,
    /// The rate is known; a little more is tried now and then.
    Steady,
}

/// The extreme of the present and the last period.
#[derive(Debug, Clone, Copy)]
struct Window<T> {
    now: Option<T>,
    last: Option<T>,
    since: Instant,
}

impl<T: PartialOrd + Copy> Window<T> {
    fn new(since: Instant) -> Self {
        Self { now: None, last: None, since }
    }

    fn add(&mut self, at: Instant, period: Duration, value: T, better: fn(&T, &T) -> bool) {
        // A period without a sample says nothing: what was known stays.
        if self.now.is_some() && at.saturating_duration_since(self.since) > period {
            self.last = self.now.take();
            self.since = at;
        }
        if self.now.as_ref().is_none_or(|now| better(&value, now)) {
            self.now = Some(value);
        }
    }

    fn get(&self, better: fn(&T, &T) -> bool) -> Option<T> {
        match (self.now, self.last) {
            (Some(now), Some(last)) => Some(if better(&last, &now) { last } else { now }),
            (now, last) => now.or(last),
        }
    }
}

fn higher(a: &f64, b: &f64) -> bool {
    a > b
}

fn shorter(a: &Duration, b: &Duration) -> bool {
    a < b
}

/// The model of one path.
#[derive(Debug)]
pub struct Pacer {
    phase: Phase,
    /// In bytes a second.
    rate: Window<f64>,
    /// From sending to the report of arrival.
    delay: Window<Duration>,
    sent: VecDeque<Sent>,
    in_flight: usize,
    arrived: f64,
    arrived_at: Instant,
    basis: Instant,
    /// The latest report: epoch, highest counter, datagrams received.
    reported: Option<(Epoch, u64, u64)>,
    /// Bytes that may be sent at once.
    budget: f64,
    filled: Instant,
    /// The round trip under way ends with the report of this frame.
    round: Option<(Epoch, u64)>,
    /// The rate at the end of the last round that was quicker than the one before, and the rounds since.
    best: (f64, u32),
    /// Place in [`Self::CYCLE`], and since when.
    cycle: (usize, Instant),
}

impl Pacer {
    /// What may be under way while nothing is known of a path: 32 full datagrams (three times TCP's initial window).
    const FIRST_WINDOW: f64 = 45_000.0;
    /// Nor ever less than this: enough for the other end to have something to report.
    const LEAST_WINDOW: f64 = 12_000.0;
    /// No path is taken to be slower than 100 kbit/s, or it would hardly be measured; in bytes a second.
    const LEAST_RATE: f64 = 12_500.0;
    /// Nor quicker than 400 Gbit/s: the other end may report anything.
    const MOST_RATE: f64 = 50e9;
    /// How much quicker than the rate known is sent in the startup: it doubles each round trip.
    const STARTUP: f64 = 2.0;
    /// Rounds without growth by a quarter until the startup is over.
    const ROUNDS: u32 = 3;
    /// The share of the rate that is sent, one delay each: more is tried, what that left in the queue drains, then even.
    const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
    /// What may be under way once the rate is known, in products of rate and delay.
    const WINDOW: f64 = 1.25;
    /// A rate is believed for this long, or twice that.
    const RATE_PERIOD: Duration = Duration::from_secs(1);
    /// And a delay.
    const DELAY_PERIOD: Duration = Duration::from_secs(5);
    /// So much is sent at once at most: timers are no finer than a millisecond.
    const BURST: f64 = 0.002;
    /// The timer is set for so much: less would be many small batches.
    const BATCH: f64 = 0.001;
    /// And at least two full datagrams.
    const LEAST_BURST: f64 = 3_000.0;
    /// Without a report for so many round trips after the newest frame, and [`Self::LEAST_PATIENCE`], what is under way is
    /// given up, or a path whose frames were all lost would wait for ever.
    const PATIENCE: u32 = 2;
    /// See there.
    const LEAST_PATIENCE: Duration = Duration::from_millis(300);
    /// The most frames that are remembered; none is sent beyond that.
    const MOST: usize = 8192;

    /// A model that knows nothing yet.
    pub fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Startup,
            rate: Window::new(now),
            delay: Window::new(now),
            sent: VecDeque::new(),
            in_flight: 0,
            arrived: 0.0,
            arrived_at: now,
            basis: now,
            reported: None,
            budget: 0.0,
            filled: now,
            round: None,
            best: (0.0, 0),
            cycle: (0, now),
        }
    }

    /// What was under way is lost, or goes over another path.
    pub fn forget_flight(&mut self) {
        self.sent.clear();
        self.in_flight = 0;
        self.round = None;
    }

    /// The rate in bytes a second; a guess from the round trip while nothing is known.
    pub fn rate(&self, rtt: Duration) -> f64 {
        let guess = || Self::FIRST_WINDOW / rtt.as_secs_f64().max(0.001);
        self.rate.get(higher).unwrap_or_else(guess).clamp(Self::LEAST_RATE, Self::MOST_RATE)
    }

    /// Whether the rate still doubles.
    pub fn is_starting(&self) -> bool {
        self.phase == Phase::Startup
    }

    /// Whether something arrived that was sent after a frame.
    pub fn has_passed(&self, epoch: Epoch, counter: u64) -> bool {
        self.reported.is_some_and(|(of, highest, _)| of == epoch && highest > counter)
    }

    fn gain(&self) -> f64 {
        match self.phase {
            Phase::Startup => Self::STARTUP,
            Phase::Drain => 1.0 / Self::STARTUP,
            Phase::Steady => Self::CYCLE.get(self.cycle.0).copied().unwrap_or(1.0),
        }
    }

    fn pace(&self, rtt: Duration) -> f64 {
        self.rate(rtt) * self.gain()
    }

    /// What may be under way, in bytes.
    fn window(&self, rtt: Duration) -> f64 {
        let Some(rate) = self.rate.get(higher) else { return Self::FIRST_WINDOW };
        let delay = (self.delay.get(shorter).unwrap_or(rtt) + REPORT_DELAY).as_secs_f64();
        let gain = if self.phase == Phase::Startup { Self::STARTUP } else { Self::WINDOW };
        (rate * delay * gain).max(if self.phase == Phase::Startup {
            Self::FIRST_WINDOW
        } else {
            Self::LEAST_WINDOW
        })
    }

    fn fill(&mut self, now: Instant, rtt: Duration) {
        let pace = self.pace(rtt);
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.budget = (self.budget + pace * elapsed).min((pace * Self::BURST).max(Self::LEAST_BURST));
    }

    /// Whether enough is under way: only a report makes room.
    fn is_full(&self, rtt: Duration) -> bool {
        self.in_flight as f64 >= self.window(rtt) || self.sent.len() >= Self::MOST
    }

    /// When what is under way is given up: whatever arrived, a report would have told of it long before. It may be lost,
    /// or sealed with keys that the other end reports of no more.
    fn given_up(&self, rtt: Duration) -> Option<Instant> {
        let longest = self.delay.get(shorter).unwrap_or(rtt).max(rtt);
        self.sent.back().map(|newest| newest.at + longest * Self::PATIENCE + Self::LEAST_PATIENCE)
    }

    /// Whether a frame may be sent now.
    pub fn may_send(&mut self, now: Instant, rtt: Duration) -> bool {
        if self.is_full(rtt) {
            if self.given_up(rtt).is_none_or(|at| at > now) {
                return false;
            }
            self.forget_flight();
        }
        self.fill(now, rtt);
        self.budget >= 0.0
    }

    /// When something may be sent, unless a report must come first.
    pub fn due(&self, rtt: Duration) -> Option<Instant> {
        if self.is_full(rtt) {
            return self.given_up(rtt);
        }
        let pace = self.pace(rtt);
        let wait = (pace * Self::BATCH - self.budget) / pace;
        Some(self.filled + Duration::from_secs_f64(wait.clamp(0.0, 1.0)))
    }

    /// A frame leaves; `more` is waiting.
    pub fn note_sent(&mut self, now: Instant, (epoch, counter): (Epoch, u64), bytes: usize, more: bool) {
        if self.sent.is_empty() {
            self.arrived_at = now;
            self.basis = now;
        }
        self.budget -= bytes as f64;
        self.in_flight += bytes;
        self.sent.push_back(Sent {
            epoch,
            counter,
            bytes,
            at: now,
            arrived: self.arrived,
            arrived_at: self.arrived_at,
            basis: self.basis,
            idle: !more,
        });
        self.round.get_or_insert((epoch, counter));
    }

    /// The other end says what has arrived.
    pub fn note_report(&mut self, now: Instant, epoch: Epoch, highest: u64, received: u64) {
        // Of keys that nothing is under way with any more.
        if !self.sent.iter().any(|s| s.epoch == epoch) {
            return;
        }
        let share = match self.reported {
            Some((of, h, r)) if of == epoch && highest > h => {
                (received.saturating_sub(r) as f64 / (highest - h) as f64).min(1.0)
            }
            Some((of, h, _)) if of == epoch && highest <= h => return,
            _ => 1.0,
        };
        self.reported = Some((epoch, highest, received));
        let mut newest = None;
        while self.sent.front().is_some_and(|s| s.epoch != epoch || s.counter <= highest)
            && let Some(sent) = self.sent.pop_front()
        {
            self.in_flight = self.in_flight.saturating_sub(sent.bytes);
            self.arrived += sent.bytes as f64 * share;
            newest = Some(sent);
        }
        let Some(newest) = newest else { return };
        self.delay.add(now, Self::DELAY_PERIOD, now.saturating_duration_since(newest.at), shorter);
        let took = now
            .saturating_duration_since(newest.arrived_at)
            .max(newest.at.saturating_duration_since(newest.basis))
            .as_secs_f64();
        let delay = self.delay.get(shorter).unwrap_or_default();
        if took > 0.0 && took >= delay.as_secs_f64() / 2.0 {
            let rate = (self.arrived - newest.arrived) / took;
            let known = self.rate.get(higher);
            if !newest.idle || known.is_none_or(|known| rate > known) {
                self.rate.add(now, Self::RATE_PERIOD.max(delay * 10), rate, higher);
            }
        }
        self.arrived_at = now;
        self.basis = newest.at;
        let over = |(of, counter): (Epoch, u64)| of != epoch || counter <= highest;
        if self.round.is_some_and(over) {
            self.round = None;
            self.end_round(newest.idle);
        }
        self.advance(now);
    }

    fn end_round(&mut self, idle: bool) {
        let rate = self.rate.get(higher).unwrap_or(0.0);
        if rate > self.best.0 * 1.25 {
            self.best = (rate, 0);
        } else if !idle {
            self.best.1 += 1;
        }
        if self.phase == Phase::Startup && self.best.1 >= Self::ROUNDS {
            self.phase = Phase::Drain;
        }
    }

    fn advance(&mut self, now: Instant) {
        let delay = self.delay.get(shorter).unwrap_or_default();
        let product = self.rate.get(higher).unwrap_or(0.0) * delay.as_secs_f64();
        let (place, since) = self.cycle;
        let over = now.saturating_duration_since(since) > delay;
        if self.phase == Phase::Drain && self.in_flight as f64 <= product.max(Self::LEAST_WINDOW) {
            self.phase = Phase::Steady;
            self.cycle = (2, now);
        } else if self.phase == Phase::Steady && over {
            self.cycle = ((place + 1) % Self::CYCLE.len(), now);
        }
    }
}

#[cfg(test)]
#[path = "pacer_tests.rs"]
mod tests;
