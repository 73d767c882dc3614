//! Data that is sent over a path without a pause. Who receives it says something every 10 ms ([`timing::REPORT_DELAY`]),
//! so that a silence shows by that rhythm, long before a round trip is over: on a path of 600 ms after 50 ms.

use std::time::{Duration, Instant};

use super::timing;

/// What is known of it.
#[derive(Debug)]
pub(super) struct Steady {
    /// When the first of it was sent.
    since: Instant,
    /// When the latest.
    last: Instant,
    /// The longest pause in it.
    pause: Duration,
    /// The longest time between two things heard of the other end, forgotten slowly: a slow link needs a while for each
    /// datagram, and a radio hands on several at a time.
    rhythm: Duration,
}

impl Steady {
    pub fn new(now: Instant) -> Self {
        Self { since: now, last: now, pause: Duration::ZERO, rhythm: Duration::ZERO }
    }

    /// More was sent.
    pub fn note_sent(&mut self, now: Instant) {
        let pause = now.saturating_duration_since(self.last);
        if pause > timing::STEADY_PAUSE {
            *self = Self { rhythm: self.rhythm, ..Self::new(now) };
        }
        self.pause = self.pause.max(pause).min(timing::STEADY_PAUSE);
        self.last = now;
    }

    /// Something was heard, and before that at `before`.
    pub fn note_heard(&mut self, now: Instant, before: Instant) {
        let pause = now.saturating_duration_since(before).min(timing::MAX_RHYTHM);
        self.rhythm = pause.max(self.rhythm * 15 / 16);
    }

    /// When a silence since `awaiting` means something, if it does sooner than after the `usual` time, a round trip and
    /// more. `spread`: by how much round trips differ.
    pub fn due(&self, awaiting: Instant, usual: Duration, spread: Duration) -> Instant {
        let limit = (self.pause + spread + timing::REPORT_DELAY + timing::SCHEDULING)
            .max(self.rhythm * 2)
            .max(timing::STEADY_SILENCE);
        // The first of it needs its round trip, as ever.
        (awaiting + limit).max(self.since + usual).min(awaiting + usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const USUAL: Duration = Duration::from_millis(622);

    #[test]
    fn the_rhythm_counts_once_a_round_trip_is_over() {
        let start = Instant::now();
        let mut steady = Steady::new(start);
        for n in 0..2_000 {
            steady.note_sent(start + n * MS);
        }
        assert_eq!(steady.due(start, USUAL, MS), start + USUAL, "nothing can have come before");
        let late = start + 1_900 * MS;
        assert_eq!(steady.due(late, USUAL, MS), late + timing::STEADY_SILENCE);
        assert_eq!(steady.due(late, 30 * MS, MS), late + 30 * MS, "a short round trip is sooner still");
    }

    #[test]
    fn a_pause_begins_anew() {
        let start = Instant::now();
        let mut steady = Steady::new(start);
        for n in 0..200 {
            steady.note_sent(start + n * 10 * MS);
        }
        let resumed = start + 5_000 * MS;
        steady.note_sent(resumed);
        assert_eq!(steady.due(resumed, USUAL, MS), resumed + USUAL);
    }

    #[test]
    fn a_slow_or_jerky_link_is_given_time() {
        let start = Instant::now();
        let mut steady = Steady::new(start);
        let mut heard = start;
        for n in 0..3_000 {
            steady.note_sent(start + n * MS);
            if n % 112 == 0 {
                steady.note_heard(start + n * MS, heard);
                heard = start + n * MS;
            }
        }
        assert!(steady.due(heard, USUAL, MS) >= heard + 220 * MS);
        // Once: what was long ago says little of now.
        for n in 3_000..3_400 {
            steady.note_sent(start + n * MS);
            steady.note_heard(start + n * MS, start + n * MS - MS);
        }
        let heard = start + 3_399 * MS;
        assert_eq!(steady.due(heard, USUAL, MS), heard + timing::STEADY_SILENCE);
    }
}
