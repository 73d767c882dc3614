//! The keys that both ends share: the epochs that there are, and the one that this end seals with.

use std::time::{Duration, Instant};

use super::epoch::EpochState;
use super::timing;
use crate::wire::{Epoch, PathId, PathReport};

/// All epochs of a context.
#[derive(Default)]
pub(super) struct Keys {
    epochs: Vec<EpochState>,
    sending: Option<Epoch>,
}

impl Keys {
    /// So many at once are enough: the one that each end uses, and one begun by each.
    const MOST: usize = 4;

    /// Whether none was agreed.
    pub fn is_empty(&self) -> bool {
        self.epochs.is_empty()
    }

    /// Whether this end can seal.
    pub fn can_seal(&self) -> bool {
        self.sending.is_some()
    }

    /// Whether an epoch of this number is there.
    pub fn has(&self, number: u8) -> bool {
        self.epochs.iter().any(|e| e.id.0 == number)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.epochs.clear();
        self.sending = None;
    }

    /// Takes in an epoch that was just agreed. It is sealed with at once where the other end is known to have it, or
    /// where there is no other.
    pub fn agree(&mut self, now: Instant, epoch: EpochState) {
        let (id, confirmed) = (epoch.id, epoch.confirmed);
        self.epochs.retain(|e| e.id != id);
        while self.epochs.len() >= Self::MOST {
            let sending = self.sending;
            let unused = self.epochs.iter().enumerate().filter(|(_, e)| Some(e.id) != sending);
            let Some((idlest, _)) = unused.min_by_key(|(_, e)| e.heard.unwrap_or(e.since)) else { break };
            self.epochs.remove(idlest);
        }
        self.epochs.push(epoch);
        if confirmed || self.sending.is_none() {
            self.use_for_sealing(now, id);
        }
    }

    /// Seals with this epoch from now on.
    pub fn use_for_sealing(&mut self, now: Instant, id: Epoch) {
        if self.sending == Some(id) {
            return;
        }
        self.sending = Some(id);
        for epoch in &mut self.epochs {
            if epoch.id == id {
                epoch.superseded = None;
            } else if epoch.confirmed && epoch.superseded.is_none() {
                epoch.superseded = Some(now);
            }
        }
    }

    /// The epoch that this end seals with.
    pub fn sealing(&self) -> Option<&EpochState> {
        self.epochs.iter().find(|e| Some(e.id) == self.sending)
    }

    /// The same, to seal with it.
    pub fn sealing_mut(&mut self) -> Option<&mut EpochState> {
        self.epochs.iter_mut().find(|e| Some(e.id) == self.sending)
    }

    /// What the next datagram of a path will be sealed with: epoch and counter.
    pub fn next_of(&self, path: PathId) -> Option<(Epoch, u64)> {
        self.sealing().map(|epoch| (epoch.id, epoch.counter(path)))
    }

    /// Whether a path of this number was used with any of them.
    pub fn knows(&self, path: PathId) -> bool {
        self.epochs.iter().any(|epoch| epoch.knows(path))
    }

    /// The place of an epoch, which holds as long as none comes or goes.
    pub fn position(&self, id: Epoch) -> Option<usize> {
        self.epochs.iter().position(|e| e.id == id)
    }

    /// The epoch at a place.
    pub fn at(&mut self, place: usize) -> Option<&mut EpochState> {
        self.epochs.get_mut(place)
    }

    /// The epoch in which the other end was heard last: what it seals with.
    pub fn heard(&self) -> Option<&EpochState> {
        self.epochs.iter().filter(|e| e.heard.is_some()).max_by_key(|e| e.heard)
    }

    /// When the first of them ends.
    pub fn first_end(&self) -> Option<Instant> {
        self.epochs.iter().map(EpochState::end).min()
    }

    /// Forgets those that are over; whether this end had one to seal with, and now has none.
    pub fn expire(&mut self, now: Instant) -> bool {
        self.epochs.retain(|e| e.end() > now);
        let lost = self.sending.is_some() && self.sealing().is_none();
        if lost {
            self.sending = None;
        }
        lost
    }

    /// So much time has passed that this host's clock has not counted.
    pub fn age(&mut self, by: Duration) {
        for epoch in &mut self.epochs {
            epoch.age(by);
        }
    }

    /// Whether what the other end says of a path can be true: of keys that there are, no more than was sent with them.
    pub fn is_plausible(&self, report: &PathReport) -> bool {
        self.epochs.iter().find(|e| e.id.0 == report.epoch).is_some_and(|e| e.is_plausible(report))
    }

    /// Forgets epochs that neither end uses any more. What the other end sealed with last is kept until its end: it may
    /// be idle.
    pub fn forget_unused(&mut self, now: Instant) {
        let latest = self.epochs.iter().filter_map(|e| e.heard).max();
        self.epochs.retain(|e| {
            let over = |at: Option<Instant>| {
                at.is_none_or(|at| now.saturating_duration_since(at) >= timing::EPOCH_OVERLAP)
            };
            e.superseded.is_none() || !over(e.superseded) || !over(e.heard) || e.heard == latest
        });
    }

    /// Nothing that was sent earlier can be on its way any more.
    pub fn rest(&mut self) {
        for epoch in &mut self.epochs {
            epoch.rest();
        }
    }

    /// Gives room back.
    pub fn shrink(&mut self) {
        self.epochs.shrink_to_fit();
    }
}
