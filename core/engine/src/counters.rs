//! What was dropped, and why: the first thing to look at when something does not work.

use std::collections::BTreeMap;

/// Counters by name. They only grow.
#[derive(Debug, Default)]
pub(crate) struct Counters(BTreeMap<&'static str, u64>);

impl Counters {
    /// Counts one.
    pub fn add(&mut self, name: &'static str) {
        let count = self.0.entry(name).or_default();
        *count = count.wrapping_add(1);
    }

    /// All that are not zero, by name.
    pub fn list(&self) -> Vec<(&'static str, u64)> {
        self.0.iter().map(|(name, count)| (*name, *count)).collect()
    }
}
