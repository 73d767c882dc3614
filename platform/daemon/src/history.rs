//! Round trips of the last hour, sampled without making any path do anything.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mast_control::{History, PathHistory, Sample};
use mast_engine::api::PathGlance;

use crate::convert::millis;
use crate::daemon::Daemon;

/// Between two samples.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);
/// How long they are kept.
const KEPT: Duration = Duration::from_secs(3600);
/// The most paths, those that are gone too.
const PATHS: usize = 64;
/// The most paths that are looked at: not each of them works.
const LOOKED_AT: usize = 4 * PATHS;

/// The samples of every path.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<Series>);

#[derive(Debug)]
struct Series {
    peer: String,
    interface: String,
    local: String,
    remote: String,
    samples: VecDeque<Sample>,
}

impl Samples {
    /// Takes a sample of every path. `at_ms` is in milliseconds since 1970.
    pub fn take(&mut self, at_ms: u64, paths: Vec<PathGlance>) {
        for path in paths {
            let (local, remote) = (path.local.to_string(), path.remote.to_string());
            let same = |s: &&mut Series| {
                s.peer == path.peer && s.interface == path.interface && s.local == local && s.remote == remote
            };
            let sample = Sample { at_ms, srtt_ms: path.srtt.map(millis), active: path.active };
            if let Some(series) = self.0.iter_mut().find(same) {
                series.samples.push_back(sample);
            } else if sample.srtt_ms.is_some() && self.0.len() < PATHS {
                // One that never worked is no news.
                let samples = VecDeque::from([sample]);
                self.0.push(Series { peer: path.peer, interface: path.interface, local, remote, samples });
            }
        }
        let kept = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
        for series in &mut self.0 {
            while series.samples.front().is_some_and(|s| s.at_ms + kept < at_ms) {
                series.samples.pop_front();
            }
        }
        self.0.retain(|s| !s.samples.is_empty());
    }

    /// All of them.
    pub fn report(&self) -> History {
        let paths = self.0.iter().map(|s| PathHistory {
            peer: s.peer.clone(),
            interface: s.interface.clone(),
            local: s.local.clone(),
            remote: s.remote.clone(),
            samples: s.samples.iter().copied().collect(),
        });
        History { interval_ms: INTERVAL.as_millis() as u64, paths: paths.collect() }
    }
}

/// Samples paths, and folds in what was carried, until the engine ends.
pub(crate) async fn run(daemon: Arc<Daemon>) {
    /// Traffic is folded in, and written down, with every so many samples.
    const FOLD: u32 = 6;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count = 0_u32;
    daemon.tell_spent().await;
    loop {
        ticks.tick().await;
        let Ok(glance) = daemon.engine.glance(LOOKED_AT).await else { return };
        if glance.up {
            daemon.samples().take(now_ms(), glance.paths);
        }
        count = count.wrapping_add(1);
        if count.is_multiple_of(FOLD) && daemon.fold(glance.traffic) {
            daemon.tell_spent().await;
            daemon.keeper.ask();
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(interface: &str, srtt: Option<u64>) -> PathGlance {
        PathGlance {
            peer: "nas".into(),
            interface: interface.into(),
            local: "192.0.2.7".parse().unwrap(),
            remote: "192.0.2.1:6278".parse().unwrap(),
            srtt: srtt.map(Duration::from_millis),
            active: true,
        }
    }

    #[test]
    fn an_hour_is_kept_also_of_paths_that_are_gone() {
        let mut samples = Samples::default();
        for step in 0..1000_u64 {
            let cell = if step < 800 { Some(60) } else { None };
            samples.take(step * 10_000, vec![path("wifi", Some(40)), path("cell", cell), path("eth", None)]);
        }
        let history = samples.report();
        assert_eq!(history.paths.iter().map(|p| p.samples.len()).collect::<Vec<_>>(), [361, 361]);
        samples.take(1_000 * 10_000 + 3_600_001, vec![]);
        assert!(samples.report().paths.is_empty());
    }

    #[test]
    fn two_addresses_of_one_interface_are_two_paths() {
        let mut samples = Samples::default();
        let other = PathGlance { local: "192.0.2.8".parse().unwrap(), ..path("wifi", Some(50)) };
        samples.take(1, vec![path("wifi", Some(40)), other]);
        assert_eq!(samples.report().paths.iter().map(|p| p.samples.len()).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn the_number_of_paths_is_bounded() {
        let mut samples = Samples::default();
        samples.take(1, (0..200).map(|i| path(&format!("if{i}"), Some(1))).collect());
        assert_eq!(samples.report().paths.len(), PATHS);
    }
}
