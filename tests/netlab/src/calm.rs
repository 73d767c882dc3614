//! Judging what takes time on a machine that has other work as well.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How late somebody may be woken on a machine that is not busy.
const CALM: Duration = Duration::from_millis(1);
/// How often something is tried before the machine is called too busy.
const TRIES: usize = 12;
/// How many tries have to fail on a calm machine: a single one may have met what no watcher saw.
const FAILURES: usize = 3;

/// Tries `attempt` until it succeeds. It has failed, and this panics with what it said, once it failed three times while
/// the machine was calm. Where the machine never is, that is said and nothing is judged: a link of the lab is a thread,
/// and how late that is woken says nothing about the link.
///
/// Only for what a busy machine makes worse, such as an upper bound of a delay. What must hold on any machine (a lower
/// bound, a count) is asserted by the attempt itself.
pub fn when_calm(what: &str, mut attempt: impl FnMut() -> Result<(), String>) {
    let mut failures = 0;
    for _ in 0..TRIES {
        let watch = Lateness::watch();
        let outcome = attempt();
        let late = watch.end();
        let Err(error) = outcome else { return };
        println!("{what}: {error} (somebody was woken {late:?} too late meanwhile)");
        failures += usize::from(late < CALM);
        assert!(failures < FAILURES, "{what}: {error}");
        thread::sleep(Duration::from_millis(100));
    }
    println!("{what}: NOT JUDGED, this machine is too busy");
}

/// The most by which sleepers are woken too late, one for each processor.
struct Lateness {
    stop: Arc<AtomicBool>,
    sleepers: Vec<JoinHandle<Duration>>,
}

impl Lateness {
    fn watch() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sleepers = (0..thread::available_parallelism().map_or(1, usize::from))
            .map(|_| {
                let stop = stop.clone();
                thread::spawn(move || {
                    let mut late = Duration::ZERO;
                    while !stop.load(Ordering::Relaxed) {
                        let due = Instant::now() + Duration::from_millis(1);
                        thread::sleep(Duration::from_millis(1));
                        late = late.max(due.elapsed());
                    }
                    late
                })
            })
            .collect();
        Self { stop, sleepers }
    }

    fn end(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.sleepers.into_iter().filter_map(|sleeper| sleeper.join().ok()).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_succeeds_once_has_succeeded() {
        let mut tries = 0;
        when_calm("the third time", || {
            tries += 1;
            (tries == 2).then_some(()).ok_or_else(|| "not yet".to_owned())
        });
        assert_eq!(tries, 2);
    }

    #[test]
    fn lateness_is_seen() {
        let watch = Lateness::watch();
        thread::sleep(Duration::from_millis(30));
        assert!(watch.end() > Duration::ZERO);
    }
}
