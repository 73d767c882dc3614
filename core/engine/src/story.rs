//! The story: what happened, for whoever looks now and for whoever looks later.

use std::collections::VecDeque;
use std::time::SystemTime;

use tokio::sync::broadcast;

use crate::api::Happening;

/// How many happenings are remembered.
const RECENT: usize = 200;
/// How many a slow listener may lag behind.
const LAG: usize = 64;

pub(crate) struct Story {
    recent: VecDeque<Happening>,
    listeners: broadcast::Sender<Happening>,
}

impl Story {
    pub fn new() -> Self {
        Self { recent: VecDeque::new(), listeners: broadcast::Sender::new(LAG) }
    }

    pub fn listeners(&self) -> broadcast::Sender<Happening> {
        self.listeners.clone()
    }

    /// The latest, oldest first.
    pub fn recent(&self) -> Vec<Happening> {
        self.recent.iter().cloned().collect()
    }

    pub fn tell(&mut self, happening: Happening) {
        tracing::info!(
            peer = happening.peer,
            from = happening.from,
            to = happening.to,
            reason = happening.reason,
            gap_ms = happening.gap.map(|g| g.as_secs_f64() * 1000.0),
            "happened"
        );
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(happening.clone());
        // Nobody listens: that is fine.
        let _ = self.listeners.send(happening);
    }

    /// Something that is no change of path.
    pub fn note(&mut self, peer: &str, reason: impl Into<String>) {
        self.tell(Happening {
            time: SystemTime::now(),
            peer: peer.to_owned(),
            from: None,
            to: None,
            reason: reason.into(),
            gap: None,
        });
    }
}
