//! What was dropped, and why: the first thing to look at when something does not work.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Counters by name, and when each grew last. They only grow.
#[derive(Debug, Default)]
pub(crate) struct Counters(BTreeMap<&'static str, (u64, Option<Instant>)>);

impl Counters {
    /// Counts one.
    pub fn add(&mut self, name: &'static str) {
        let (count, last) = self.0.entry(name).or_default();
        *count = count.wrapping_add(1);
        *last = Some(Instant::now());
    }

    /// How long ago one grew last, if it ever did.
    pub fn ago(&self, now: Instant, name: &str) -> Option<Duration> {
        let last = self.0.get(name)?.1?;
        Some(now.saturating_duration_since(last))
    }

    /// All that are not zero, by name.
    pub fn list(&self) -> Vec<(&'static str, u64)> {
        self.0.iter().map(|(name, (count, _))| (*name, *count)).collect()
    }
}
