//! The story: what happened, for whoever looks now and for whoever looks later.

use std::collections::VecDeque;
use std::time::SystemTime;

use crate::api::{Happening, What};
use crate::tidings::Tidings;

/// How many happenings are remembered.
const RECENT: usize = 200;
/// How many may wait for a listener: three for each of 10,000 peers, as when they all lose an uplink, fall silent and
/// come back before anybody looks.
const WAITING: usize = 32_768;

pub(crate) struct Story {
    recent: VecDeque<Happening>,
    listeners: Tidings<Happening>,
    /// So many happenings were lost to listeners that did not keep up.
    missed: u64,
}

impl Story {
    pub fn new() -> Self {
        Self { recent: VecDeque::new(), listeners: Tidings::new(WAITING), missed: 0 }
    }

    pub fn listeners(&self) -> Tidings<Happening> {
        self.listeners.clone()
    }

    /// The latest, oldest first.
    pub fn recent(&self) -> Vec<Happening> {
        self.recent.iter().cloned().collect()
    }

    /// How many happenings were lost to listeners that did not keep up.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    pub fn tell(&mut self, peer: &str, what: What) {
        match &what {
            What::Moved(moved) => tracing::info!(
                peer,
                from = moved.from.as_ref().map(|ends| ends.interface.as_str()),
                to = moved.to.as_ref().map(|ends| ends.interface.as_str()),
                reason = moved.reason.as_str(),
                gap_ms = moved.gap.map(|g| g.as_secs_f64() * 1000.0),
                "moved"
            ),
            what => tracing::info!(peer, ?what, "happened"),
        }
        let happening = Happening { time: SystemTime::now(), peer: peer.to_owned(), what };
        self.missed += self.listeners.tell(&happening);
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(happening);
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        self.listeners.close();
    }
}
