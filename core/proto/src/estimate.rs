//! Estimators of a path's round trip and loss.

use std::time::Duration;

/// Round-trip time after RFC 6298, without its one-second floor: the paths' own rhythm sets the timers.
#[derive(Debug, Clone, Default)]
pub struct RttEstimator {
    smoothed: Option<Duration>,
    variation: Duration,
    samples: u32,
}

impl RttEstimator {
    /// Before the first sample, the retransmission timeout of RFC 6298 (1 s) would make first contact slow; 250 ms
    /// covers any terrestrial path.
    pub const INITIAL_RTO: Duration = Duration::from_millis(250);
    /// No timeout is shorter: hosts schedule, radios sleep.
    pub const MIN_RTO: Duration = Duration::from_millis(50);
    /// Nor longer.
    pub const MAX_RTO: Duration = Duration::from_secs(3);
    /// The least variation assumed (RFC 6298's clock granularity G).
    const GRANULARITY: Duration = Duration::from_millis(1);

    /// Samples until the variation is believed.
    const YOUNG: u32 = 8;

    /// Takes in one measurement.
    ///
    /// The first over a path that is new, or works again, often measures something else: address resolution, or a
    /// radio that woke. While the path is young, one that is less than half of what was thought begins anew.
    pub fn sample(&mut self, rtt: Duration) {
        // One answer that a radio held back for long must not blind this end for as long.
        let rtt = rtt.min(Self::MAX_RTO);
        let young = self.samples < Self::YOUNG;
        self.samples = self.samples.saturating_add(1);
        match self.smoothed.filter(|smoothed| !(young && rtt < *smoothed / 2)) {
            None => {
                self.smoothed = Some(rtt);
                self.variation = rtt / 2;
            }
            Some(smoothed) => {
                let error = smoothed.abs_diff(rtt);
                self.variation = (self.variation * 3 + error) / 4;
                self.smoothed = Some((smoothed * 7 + rtt) / 8);
            }
        }
    }

    /// The path failed: what comes next may have little to do with what was, and is as young as at first.
    pub fn restart(&mut self) {
        self.samples = 0;
    }

    /// SRTT, once measured.
    pub fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// SRTT + 4·RTTVAR, within bounds.
    pub fn rto(&self) -> Duration {
        match self.smoothed {
            None => Self::INITIAL_RTO,
            Some(smoothed) => (smoothed + 4 * self.spread()).clamp(Self::MIN_RTO, Self::MAX_RTO),
        }
    }

    /// Whether it rests on few samples, so that more of them soon are worth their bytes.
    pub fn is_young(&self) -> bool {
        self.samples < Self::YOUNG
    }

    /// RTTVAR, at least the clock's granularity. The first sample sets it to half the round trip, out of ignorance;
    /// while the path is young an eighth is assumed at most, so that it is not watched more lazily than an old one.
    fn spread(&self) -> Duration {
        let most = match self.smoothed {
            Some(smoothed) if self.samples < Self::YOUNG => smoothed / 8,
            _ => Duration::MAX,
        };
        self.variation.min(most).max(Self::GRANULARITY)
    }

    /// 4·RTTVAR: by how much round trips differ.
    pub fn deviation(&self) -> Duration {
        4 * self.spread()
    }

    /// SRTT + 4·RTTVAR without floor or ceiling, or the initial timeout.
    pub fn expected(&self) -> Duration {
        self.smoothed.map_or(Self::INITIAL_RTO, |s| s + 4 * self.spread())
    }
}

/// Loss as a moving share of datagrams, fed by reports and by probes that stayed unanswered.
#[derive(Debug, Clone, Default)]
pub struct LossEstimator {
    share: Option<f64>,
}

impl LossEstimator {
    /// How many datagrams it takes to move most of the way to a new value.
    const MEMORY: f64 = 100.0;

    /// Takes in that of `sent` datagrams `lost` did not arrive.
    pub fn sample(&mut self, sent: u64, lost: u64) {
        if sent == 0 {
            return;
        }
        let now = lost.min(sent) as f64 / sent as f64;
        let weight = (sent as f64 / Self::MEMORY).min(0.5);
        self.share = Some(self.share.map_or(now * weight.max(0.1), |old| old + (now - old) * weight));
    }

    /// The share lost, from 0 to 1, once known.
    pub fn share(&self) -> Option<f64> {
        self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn steady_path() {
        let mut rtt = RttEstimator::default();
        assert_eq!(rtt.rto(), RttEstimator::INITIAL_RTO);
        for _ in 0..50 {
            rtt.sample(40 * MS);
        }
        assert_eq!(rtt.smoothed(), Some(40 * MS));
        assert_eq!(rtt.rto(), RttEstimator::MIN_RTO);
        assert!(rtt.expected() < 46 * MS);
    }

    #[test]
    fn one_slow_answer_at_the_beginning_is_lived_down_at_once() {
        let mut rtt = RttEstimator::default();
        for _ in 0..2 {
            rtt.sample(915 * MS);
            rtt.sample(30 * MS);
            assert_eq!(rtt.smoothed(), Some(30 * MS));
            for _ in 0..20 {
                rtt.sample(30 * MS);
            }
            rtt.restart();
        }
        for _ in 0..20 {
            rtt.sample(30 * MS);
        }
        rtt.sample(300 * MS);
        rtt.sample(30 * MS);
        assert!(rtt.smoothed() > Some(50 * MS), "an old path is not as forgetful");
    }

    #[test]
    fn follows_a_filling_queue() {
        let mut rtt = RttEstimator::default();
        for i in 0..40 {
            rtt.sample((40 + 10 * i) * MS);
        }
        assert!(rtt.rto() > 430 * MS, "{:?}", rtt.rto());
    }

    #[test]
    fn an_answer_that_was_held_back_for_long_does_not_blind() {
        let mut rtt = RttEstimator::default();
        for _ in 0..50 {
            rtt.sample(40 * MS);
        }
        rtt.sample(60_000 * MS);
        assert!(rtt.expected() < 4_000 * MS, "{:?}", rtt.expected());
        for _ in 0..10 {
            rtt.sample(40 * MS);
        }
        assert!(rtt.expected() < 1_000 * MS, "{:?}", rtt.expected());
    }

    #[test]
    fn loss() {
        let mut loss = LossEstimator::default();
        assert_eq!(loss.share(), None);
        for _ in 0..50 {
            loss.sample(100, 10);
        }
        assert!((loss.share().unwrap() - 0.1).abs() < 0.01);
        for _ in 0..50 {
            loss.sample(100, 0);
        }
        assert!(loss.share().unwrap() < 0.001);
    }
}
