//! A link that fades: what a Wi-Fi does as one walks away from it.

use std::time::{Duration, Instant};

use mast_netlab::{Direction, Link, LinkProfile};

/// How a link fades: evenly, in small steps.
#[derive(Debug, Clone)]
pub struct Fade {
    /// How it is at first.
    pub from: LinkProfile,
    /// How it is in the end.
    pub to: LinkProfile,
    /// For so long.
    pub time: Duration,
}

impl Fade {
    /// Its queue holds what passes in so long.
    const QUEUE: Duration = Duration::from_millis(50);
    /// But two packets at least.
    const LEAST_QUEUE: usize = 3_000;
    /// Between two steps.
    const STEP: Duration = Duration::from_millis(50);

    /// Over 6 s from a delay one way, in milliseconds, and a rate to 100 ms, a loss of 60 % and 1 Mbit/s.
    pub fn away(delay: Duration, rate_bps: u64) -> Self {
        let link = |delay, loss, rate| LinkProfile::delay(delay).with_loss(loss).with_rate(rate, 0);
        let from = link(delay, 0.0, rate_bps);
        let to = link(Duration::from_millis(100), 0.6, 1_000_000);
        Self { from, to, time: Duration::from_secs(6) }
    }

    /// How it is after this share of its fading, from 0 to 1.
    pub fn at(&self, share: f64) -> LinkProfile {
        let mix = |from: f64, to: f64| from + (to - from) * share;
        let rate = |link: &LinkProfile| link.rate_bps.unwrap_or(1_000_000_000) as f64;
        let rate = mix(rate(&self.from), rate(&self.to));
        let queue = (rate * Self::QUEUE.as_secs_f64() / 8.0) as usize;
        LinkProfile::delay(Duration::from_secs_f64(mix(
            self.from.delay.as_secs_f64(),
            self.to.delay.as_secs_f64(),
        )))
        .with_loss(mix(self.from.loss, self.to.loss))
        .with_rate(rate as u64, queue.max(Self::LEAST_QUEUE))
    }

    /// Lets the link fade in these directions, and returns when it has. `pause` waits for so long.
    ///
    /// # Errors
    /// Those of `pause`.
    pub fn carry_out<E>(
        &self,
        link: &Link,
        directions: &[Direction],
        mut pause: impl FnMut(Duration) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = Instant::now();
        while start.elapsed() < self.time {
            let share = start.elapsed().as_secs_f64() / self.time.as_secs_f64();
            for direction in directions {
                link.set_profile_towards(*direction, &self.at(share));
            }
            pause(Self::STEP)?;
        }
        Ok(())
    }
}
