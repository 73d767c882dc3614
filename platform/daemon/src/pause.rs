//! A pause of the tunnel, which ends by itself.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use mast_control::What;

use crate::convert::refusal;
use crate::daemon::Daemon;

/// The clock may be set meanwhile, and the machine may sleep: look at least so often.
const LOOK: Duration = Duration::from_secs(30);

impl Daemon {
    /// A pause of this length begins now, or none.
    pub(crate) fn pause(&self, length: Option<Duration>) {
        let ends = length.and_then(|length| Instant::now().checked_add(length));
        *self.pause_ends.lock().unwrap_or_else(PoisonError::into_inner) = ends;
        self.pause_changed.notify_one();
    }

    /// What is left of the pause that was asked of this process.
    fn pause_left(&self) -> Option<Duration> {
        let ends = *self.pause_ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.map(|ends| ends.saturating_duration_since(Instant::now()))
    }
}

/// How long a pause lasts still. The wall clock counts through a sleep and a restart, and is set back now and then; the
/// other does neither. The first to say that it is over is right.
fn left(until: SystemTime, now: SystemTime, steady: Option<Duration>) -> Duration {
    let wall = until.duration_since(now).unwrap_or_default();
    steady.map_or(wall, |steady| steady.min(wall))
}

/// Ends pauses when their time has come, until the engine ends.
pub(crate) async fn run(daemon: Arc<Daemon>) {
    loop {
        let until = daemon.store().paused_until();
        let Some(until) = until else {
            daemon.pause_changed.notified().await;
            continue;
        };
        let left = left(until, SystemTime::now(), daemon.pause_left());
        if left.is_zero() {
            daemon.store().set_paused_until(None);
            daemon.keeper.ask();
            match daemon.engine.up().await {
                Ok(()) => {
                    daemon.note("", What::PauseOver);
                    if let Err(why) = daemon.guard().await {
                        daemon.note("", What::ProtectionRefused { error: why });
                    }
                }
                Err(error) => {
                    let error = refusal(error).message;
                    daemon.note("", What::PauseStuck { error });
                }
            }
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(left.min(LOOK)) => {}
            () = daemon.pause_changed.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_does_not_prolong_a_pause() {
        let (minute, year) = (Duration::from_secs(60), Duration::from_secs(365 * 86_400));
        let now = SystemTime::now();
        let until = now + minute;
        assert_eq!(left(until, now, Some(minute)), minute);
        assert_eq!(left(until, now - year, Some(minute / 2)), minute / 2);
        assert_eq!(left(until, now + year, Some(minute / 2)), Duration::ZERO, "as after a long sleep");
        assert_eq!(left(until, now + minute / 2, None), minute / 2, "after a restart");
    }
}
