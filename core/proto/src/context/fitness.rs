//! How fit paths are to carry data, and what follows from it: what is judged in `crate::fitness` is brought together here.
//!
//! Both ends see both directions: what this end sent, from the other's reports, and what it did not get, from the
//! counters of what it got. So both leave an unfit path at about the same time, each for itself.

use std::time::Instant;

use super::path::{Path, PathKey};
use super::{Context, DATA_OVERHEAD, PathState, Reason, SMALL_DATAGRAM};
use crate::fitness::Fitness;
use crate::recent::Sealed;
use crate::wire::{Flags, PathReport};

impl Context {
    /// Looks at what arrived over a path, and judges it if a moment has passed since.
    pub(super) fn assess(&mut self, now: Instant, at: usize) {
        let watched = self.busy(now) && self.peer.is_mast();
        let epoch = self.keys.heard();
        let weak = self.paths.get(at).is_some_and(|p| self.is_weak(p));
        let Some(path) = self.paths.get_mut(at) else { return };
        if path.watch.is_none() && !watched || path.state != PathState::Validated {
            return;
        }
        let watch = path.watch.get_or_insert_default();
        if !watch.is_due(now) {
            return;
        }
        let mut missing = false;
        if let Some(epoch) = epoch
            && let Some(report) = path.peer_path.and_then(|id| epoch.report(id, false))
        {
            missing = watch.arrived((epoch.id, report.highest, report.received), path.rx_bytes);
        }
        let before = watch.judge(now, path.pmtu.is_sounding(), weak);
        let fitness = watch.fitness();
        if missing && path.owed.is_some() {
            // The other end must hear of it, or it judges too late.
            self.send_report(now, at);
        }
        if fitness != before {
            self.note_fitness(now, at, before);
        }
    }

    /// What the other end reported last of what was sent over a path, with its own number for it left at 0.
    pub fn reported(&self, key: &PathKey) -> Option<PathReport> {
        let (epoch, highest, received) = self.paths.iter().find(|p| p.key == *key)?.reported?;
        Some(PathReport { path: 0, epoch: epoch.0, highest, received, reordered: 0, silent: false })
    }

    /// Whether the radio of a path's interface says that it is about to fail.
    fn is_weak(&self, path: &Path) -> bool {
        self.locals.interface(path.key.interface).is_some_and(|i| i.outlook.weak)
    }

    /// Whether what the user means to spend on a path's interface is spent.
    pub(super) fn is_spent(&self, path: &Path) -> bool {
        self.locals.interface(path.key.interface).is_some_and(|i| i.outlook.spent)
    }

    /// How fit a path is to carry data. One whose radio is weak is strained before anything is lost.
    pub(super) fn fitness_of(&self, path: &Path) -> Fitness {
        path.fitness().max(if self.is_weak(path) { Fitness::Strained } else { Fitness::Fit })
    }

    /// Whether the active path is worse than it can be.
    pub(super) fn is_strained(&self) -> bool {
        self.active_at().and_then(|at| self.paths.get(at)).is_some_and(|p| self.fitness_of(p) != Fitness::Fit)
    }

    /// The interfaces are not as they were: where the active path has become strained by it, others may be needed soon.
    pub(super) fn heed_radio(&mut self, now: Instant) {
        if let Some(at) = self.active_at().filter(|_| self.busy(now))
            && self.paths.get(at).is_some_and(|p| self.is_weak(p))
        {
            self.test_others(now, at);
        }
    }

    /// Whether small datagrams over a path are copied for what speaks against it.
    pub(super) fn wavers(&self, at: usize) -> bool {
        self.paths.get(at).and_then(|p| p.watch.as_ref()).is_some_and(|watch| watch.wavers())
    }

    /// A copy of a small frame over the best standby path, where the one at `at` may lose it.
    pub(super) fn copy_of_small(
        &mut self,
        now: Instant,
        at: usize,
        frame: &[u8],
        flags: Flags,
    ) -> Option<Sealed> {
        if frame.len() > SMALL_DATAGRAM + DATA_OVERHEAD {
            return None;
        }
        let watch = self.paths.get_mut(at)?.watch.as_mut()?;
        if !watch.wavers() {
            return None;
        }
        let copy = self.copy(now, frame, flags)?;
        self.paths.get_mut(at)?.watch.as_mut()?.note_copied(frame.len());
        Some(copy)
    }

    /// A path is more or less fit than it was.
    fn note_fitness(&mut self, now: Instant, at: usize, before: Fitness) {
        let active = self.active_at() == Some(at);
        let Some(path) = self.paths.get_mut(at) else { return };
        let fitness = path.fitness();
        match (before, fitness) {
            (_, Fitness::Unfit) => {
                path.note_unfit(now);
                self.condemn_alike(now, at);
            }
            (Fitness::Unfit, _) => path.good_since = Some(now),
            _ => {}
        }
        if active && fitness != Fitness::Fit {
            self.test_others(now, at);
        }
        self.select(now, Reason::Better);
    }

    /// Other paths of the same two links suffer the same.
    fn condemn_alike(&mut self, now: Instant, at: usize) {
        let Some(unfit) = self.paths.get(at) else { return };
        let alike: Vec<bool> =
            self.paths.iter().map(|p| p.id != unfit.id && self.shared(p, unfit) == 2).collect();
        let alike = self.paths.iter_mut().zip(alike).filter(|(_, alike)| *alike).map(|(path, _)| path);
        for path in alike {
            path.watch.get_or_insert_default().condemn();
            path.note_unfit(now);
        }
    }

    /// Others may be needed soon: whether they work is found out now. Those that share the fewest links come first.
    fn test_others(&mut self, now: Instant, at: usize) {
        let Some(unfit) = self.paths.get(at) else { return };
        let mut others: Vec<usize> = (0..self.paths.len())
            .filter(|other| {
                self.paths.get(*other).is_some_and(|p| {
                    let idle = p.state == PathState::Validated && p.probe.is_none();
                    let failed = p.state == PathState::Failed && p.acknowledged.is_some();
                    p.id != unfit.id && self.permitted(p) && (idle || failed) && self.shared(p, unfit) < 2
                })
            })
            .collect();
        others.sort_by_key(|other| self.paths.get(*other).map(|p| self.likeness(p, unfit)));
        for other in others {
            self.send_probe(now, other);
        }
    }
}
