//! Giving memory back: a host may have thousands of contexts, and most of them are idle.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Context, timing};

impl Context {
    /// Keeps no more than an idle context needs, if it is one. Called when a timer is due, so that it wakes nobody; and
    /// where the other end's keepalives come before this end's timers, [`Context::handle_datagram`] does the same.
    pub(super) fn rest(&mut self, now: Instant) {
        if !self.busy(now) {
            self.outflow.rest_of_sent();
        }
        if self.is_silent(now) {
            self.keys.rest();
            self.shrink(now);
        }
    }

    /// Whether nothing has come for so long that nothing older can be on its way.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        passed(self.last_heard, now, timing::REST) && !self.busy(now)
    }

    /// Gives back what an idle context does not need, but for the epochs' windows.
    pub(super) fn shrink(&mut self, now: Instant) {
        if passed(self.last_data, now, timing::REST_OF_DATA) {
            self.received.rest();
        }
        for path in &mut self.paths {
            path.steady = None;
            if path.probe.is_none() {
                // An answer that late would tell nothing of the path as it is now.
                path.nonces = VecDeque::new();
            }
            if path.watch.as_ref().is_some_and(|watch| watch.is_idle()) {
                path.watch = None;
            }
        }
        self.paths.shrink_to_fit();
        self.remotes.rest();
        self.locals.rest();
        self.keys.shrink();
        self.contact.rest();
        self.agreement.rest();
        self.outflow.rest();
        shrink(&mut self.transmits);
        shrink(&mut self.events);
    }
}

fn passed(since: Option<Instant>, now: Instant, pause: Duration) -> bool {
    since.is_none_or(|at| now.saturating_duration_since(at) >= pause)
}

/// Gives back the room of an empty queue.
pub(super) fn shrink<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() {
        *queue = VecDeque::new();
    }
}
