//! Bytes a second over each interface, for a minute.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use mast_control::Status;
use serde::Serialize;

/// Seconds that are shown.
const KEPT: usize = 60;
/// MAST's own probes on an idle path are less, and are no traffic of the user.
const LEAST: u64 = 500;
/// After a pause of this length there is nothing to be compared.
const STALE: Duration = Duration::from_secs(5);

/// Bytes a second, one entry a second, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Throughput {
    /// Received.
    #[cfg_attr(test, ts(type = "Array<number>"))]
    pub rx: VecDeque<u64>,
    /// Sent.
    #[cfg_attr(test, ts(type = "Array<number>"))]
    pub tx: VecDeque<u64>,
}

/// The meters of all interfaces.
#[derive(Debug, Default)]
pub struct Meters {
    shown: BTreeMap<String, Throughput>,
    before: BTreeMap<String, (u64, u64)>,
    at: Option<Instant>,
}

impl Meters {
    /// Takes a status into account. Nothing happens when the last one was less than a second ago.
    pub fn take(&mut self, now: Instant, status: &Status) {
        let elapsed = self.at.map(|at| now.saturating_duration_since(at));
        if elapsed.is_some_and(|e| e < Duration::from_millis(900)) {
            return;
        }
        let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for path in status.peers.iter().flat_map(|p| &p.paths) {
            let count = counts.entry(path.interface.clone()).or_default();
            count.0 += path.rx_bytes;
            count.1 += path.tx_bytes;
        }
        let seconds = elapsed.filter(|e| *e < STALE).map(|e| e.as_secs_f64());
        if seconds.is_none() {
            self.shown.clear();
        }
        self.shown.retain(|name, _| status.interfaces.iter().any(|i| i.name == *name));
        for interface in &status.interfaces {
            let now = counts.get(&interface.name).copied().unwrap_or_default();
            let before = self.before.get(&interface.name).copied();
            let (Some(seconds), Some(before)) = (seconds, before) else { continue };
            // A path that went took its counts with it.
            let rate = |now: u64, before: u64| {
                let rate = (now.saturating_sub(before) as f64 / seconds) as u64;
                if rate < LEAST { 0 } else { rate }
            };
            let shown = self.shown.entry(interface.name.clone()).or_default();
            for (list, value) in
                [(&mut shown.rx, rate(now.0, before.0)), (&mut shown.tx, rate(now.1, before.1))]
            {
                list.push_back(value);
                if list.len() > KEPT {
                    list.pop_front();
                }
            }
        }
        self.before = status
            .interfaces
            .iter()
            .map(|i| (i.name.clone(), counts.get(&i.name).copied().unwrap_or_default()))
            .collect();
        self.at = Some(now);
    }

    /// What is to be shown.
    pub fn shown(&self) -> BTreeMap<String, Throughput> {
        self.shown.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn status(rx: u64) -> Status {
        from_value(json!({
            "up": true, "name": "laptop", "version": "1", "public_key": "",
            "interfaces": [{"name": "wifi", "kind": "wifi"}, {"name": "cell", "kind": "cellular"}],
            "peers": [{
                "name": "nas", "public_key": "", "state": "connected", "kind": "mast", "eid": {},
                "policy": {"mode": "auto"},
                "paths": [
                    {"id": 0, "interface": "wifi", "local": "", "remote": "", "state": "validated",
                     "active": true, "rx_bytes": rx, "tx_bytes": 0},
                    {"id": 1, "interface": "wifi", "local": "", "remote": "", "state": "validated",
                     "active": false, "rx_bytes": 1, "tx_bytes": 0},
                ],
            }],
        }))
        .unwrap()
    }

    #[test]
    fn a_minute_is_kept_and_a_path_that_went_is_no_negative_rate() {
        let mut meters = Meters::default();
        let start = Instant::now();
        for second in 0..100 {
            meters.take(start + Duration::from_secs(second), &status(second * 1000));
            meters.take(start + Duration::from_millis(second * 1000 + 300), &status(second * 1000));
        }
        let shown = meters.shown();
        assert_eq!(shown["wifi"].rx.len(), KEPT);
        assert!(shown["wifi"].rx.iter().all(|r| *r == 1000), "{shown:?}");
        assert!(shown["cell"].rx.iter().all(|r| *r == 0));
        meters.take(start + Duration::from_secs(100), &status(0));
        assert_eq!(meters.shown()["wifi"].rx.back(), Some(&0));
        // The window was hidden for a while.
        meters.take(start + Duration::from_secs(200), &status(1_000_000));
        assert!(meters.shown().is_empty());
    }
}
