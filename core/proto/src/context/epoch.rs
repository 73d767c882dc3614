//! An epoch: its keys, and what was sent and received under them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::timing;

use crate::crypto::{EpochKeys, Replay, ReplayWindow};
use crate::wire::{Epoch, PathId, PathReport};

/// What came over one path of the other end.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    pub window: ReplayWindow,
    pub received: u64,
    pub reordered: u64,
}

pub(super) struct EpochState {
    pub id: Epoch,
    pub keys: Arc<EpochKeys>,
    pub since: Instant,
    /// This end sent the INIT.
    pub initiator: bool,
    /// The other end is known to have the keys.
    pub confirmed: bool,
    /// When data was first sealed or opened with it.
    pub used: Option<Instant>,
    /// When this end began to seal with another.
    pub superseded: Option<Instant>,
    /// When the other end was last seen to use it: each end chooses what it seals with, so that an epoch is over
    /// only when neither does.
    pub heard: Option<Instant>,
    /// The next counter of each path id; they go on when an id is used again, so that no nonce ever repeats.
    counters: Vec<u64>,
    /// By the other end's path id.
    arrivals: Vec<Option<Box<Arrivals>>>,
}

impl EpochState {
    /// An authenticated peer may use no more path ids than this: it bounds what it can make this end remember.
    const MAX_PATHS: usize = 128;
    /// RFC 9001's confidentiality limit for AES-GCM is 2^23 packets per key only to keep a wide security margin in a
    /// setting with many keys under attack; a key of ours lives 120 s of traffic. This is the hard stop.
    pub const MAX_COUNTER: u64 = 1 << 48;

    pub fn new(id: Epoch, keys: EpochKeys, since: Instant, initiator: bool) -> Self {
        Self {
            id,
            keys: Arc::new(keys),
            since,
            initiator,
            confirmed: initiator,
            used: None,
            superseded: None,
            heard: None,
            counters: Vec::new(),
            arrivals: Vec::new(),
        }
    }

    /// The next counters of a path, so many in a row, or `None` at the end of the range.
    pub fn next_counters(&mut self, path: PathId, count: u64) -> Option<u64> {
        let at = usize::from(path.0);
        if self.counters.len() <= at {
            self.counters.resize(at + 1, 0);
        }
        let counter = self.counters.get_mut(at)?;
        let first = *counter;
        let next = first.checked_add(count).filter(|next| *next <= Self::MAX_COUNTER)?;
        *counter = next;
        Some(first)
    }

    /// The counter that a path's next datagram will have.
    pub fn counter(&self, path: PathId) -> u64 {
        self.counters.get(usize::from(path.0)).copied().unwrap_or(0)
    }

    /// Whether a counter may be new. Called before the datagram is authenticated, so it changes nothing.
    pub fn may_be_new(&self, path: PathId, counter: u64) -> bool {
        match self.arrivals.get(usize::from(path.0)) {
            Some(Some(arrivals)) => arrivals.window.check(counter) != Replay::Replayed,
            _ => usize::from(path.0) < Self::MAX_PATHS,
        }
    }

    /// Notes an authentic datagram; `false` when it is a replay.
    pub fn accept(&mut self, path: PathId, counter: u64) -> bool {
        let at = usize::from(path.0);
        if at >= Self::MAX_PATHS {
            return false;
        }
        if self.arrivals.len() <= at {
            self.arrivals.resize_with(at + 1, || None);
        }
        let Some(slot) = self.arrivals.get_mut(at) else { return false };
        let arrivals = slot.get_or_insert_default();
        match arrivals.window.accept(counter) {
            Replay::Replayed => return false,
            Replay::Late => arrivals.reordered += 1,
            Replay::Newest => {}
        }
        arrivals.received += 1;
        true
    }

    /// What has arrived over a path of the other end; nothing is worth telling only where it is a silence.
    pub fn report(&self, path: PathId, silent: bool) -> Option<PathReport> {
        let arrivals = self.arrivals.get(usize::from(path.0)).and_then(Option::as_ref);
        let highest = arrivals.and_then(|a| a.window.highest());
        if highest.is_none() && !silent {
            return None;
        }
        Some(PathReport {
            path: path.0,
            epoch: self.id.0,
            highest: highest.unwrap_or(0),
            received: arrivals.map_or(0, |a| a.received),
            reordered: arrivals.map_or(0, |a| a.reordered),
            silent,
        })
    }

    /// Nothing that was sent earlier can be on its way any more.
    pub fn rest(&mut self) {
        self.counters.shrink_to_fit();
        self.arrivals.shrink_to_fit();
        for arrivals in self.arrivals.iter_mut().flatten() {
            arrivals.window.rest();
        }
    }

    /// So much was sealed that a new epoch is due, whatever the time.
    pub fn worn(&self) -> bool {
        self.counters.iter().any(|c| *c > Self::MAX_COUNTER / 2)
    }

    /// Data goes with it from now on, if it did not before.
    pub fn note_used(&mut self, now: Instant) {
        self.used.get_or_insert(now);
    }

    /// From when on a newer one is due: what carried data shall soon not be there to be stolen.
    pub fn due(&self) -> Instant {
        let extra = if self.initiator { Duration::ZERO } else { timing::REKEY_EXTRA };
        match self.used {
            _ if self.worn() => self.since,
            Some(used) => used.max(self.since + timing::REKEY + extra),
            None => self.since + timing::EPOCH_IDLE + extra,
        }
    }

    /// When it ends, whether there is a newer one or not.
    pub fn end(&self) -> Instant {
        self.due() + timing::EPOCH_END
    }

    /// So much time has passed that this host's clock has not counted.
    pub fn age(&mut self, by: Duration) {
        for at in [Some(&mut self.since), self.used.as_mut()].into_iter().flatten() {
            *at = at.checked_sub(by).unwrap_or(*at);
        }
    }

    /// Whether a report of a path of this end can be true.
    pub fn is_plausible(&self, report: &PathReport) -> bool {
        let sent = self.counter(PathId(report.path));
        let nothing = report.highest == 0 && report.received == 0;
        (report.highest < sent || nothing && report.silent)
            && report.received <= report.highest + 1
            && report.reordered <= report.received
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Aead, Role};

    const PATH: PathId = PathId(3);

    fn epoch(since: Instant) -> EpochState {
        let parts = (&b"init"[..], &[1; 32]);
        let keys = EpochKeys::derive(Role::Target, Aead::ChaCha20Poly1305, Epoch(2), parts, parts).unwrap();
        EpochState::new(Epoch(2), keys, since, false)
    }

    #[test]
    fn reports_what_arrived_or_that_nothing_did() {
        let mut epoch = epoch(Instant::now());
        assert_eq!(epoch.report(PATH, false), None, "nothing is worth telling");
        let silence = epoch.report(PATH, true).unwrap();
        assert_eq!((silence.highest, silence.received, silence.silent), (0, 0, true));
        for counter in [4, 9, 7, 9] {
            epoch.accept(PATH, counter);
        }
        let report = epoch.report(PATH, false).unwrap();
        assert_eq!((report.path, report.epoch), (PATH.0, 2));
        assert_eq!((report.highest, report.received, report.reordered), (9, 3, 1));
        assert_eq!(epoch.report(PathId(4), false), None, "another path");
        epoch.rest();
        assert_eq!(epoch.report(PATH, false), Some(report), "rest forgets nothing");
    }

    #[test]
    fn a_peer_makes_this_end_remember_so_many_paths_and_no_more() {
        let mut epoch = epoch(Instant::now());
        let (last, beyond) = (PathId(127), PathId(128));
        assert!(epoch.may_be_new(last, 0) && epoch.accept(last, 0));
        assert!(!epoch.may_be_new(last, 0) && !epoch.accept(last, 0), "a replay");
        assert!(!epoch.may_be_new(beyond, 0) && !epoch.accept(beyond, 0));
    }

    #[test]
    fn counters_go_on_and_come_to_an_end() {
        let mut epoch = epoch(Instant::now());
        assert_eq!(epoch.next_counters(PATH, 3), Some(0));
        assert_eq!(epoch.next_counters(PATH, 1), Some(3));
        assert_eq!(epoch.counter(PATH), 4);
        assert_eq!(epoch.next_counters(PathId(0), 1), Some(0), "each path has its own");
        assert!(!epoch.worn());
        let left = EpochState::MAX_COUNTER - 4;
        assert_eq!(epoch.next_counters(PATH, left + 1), None, "more than there are");
        assert_eq!(epoch.next_counters(PATH, left), Some(4));
        assert!(epoch.worn());
        assert_eq!(epoch.next_counters(PATH, 1), None);
        assert_eq!(epoch.due(), epoch.since, "whatever the time");
    }

    #[test]
    fn what_carried_data_ends_sooner_than_what_did_not() {
        let since = Instant::now();
        let mut epoch = epoch(since);
        assert!(epoch.due() >= since + timing::EPOCH_IDLE);
        epoch.note_used(since + Duration::from_secs(1));
        assert_eq!(epoch.due(), since + timing::REKEY + timing::REKEY_EXTRA);
        assert!(epoch.end() > epoch.due());
        epoch.initiator = true;
        assert_eq!(epoch.due(), since + timing::REKEY, "who began it begins the next");
    }

    #[test]
    fn only_reports_that_can_be_true_are_believed() {
        let mut epoch = epoch(Instant::now());
        epoch.next_counters(PATH, 10);
        let report = |highest, received, reordered, silent| PathReport {
            path: PATH.0,
            epoch: 2,
            highest,
            received,
            reordered,
            silent,
        };
        for (report, plausible) in [
            (report(9, 10, 0, false), true),
            (report(9, 10, 10, false), true),
            (report(10, 10, 0, false), false),
            (report(9, 11, 0, false), false),
            (report(4, 6, 0, false), false),
            (report(4, 5, 6, false), false),
            (report(0, 0, 0, true), true),
        ] {
            assert_eq!(epoch.is_plausible(&report), plausible, "{report:?}");
        }
        let unsent = PathReport { path: 9, ..report(0, 0, 0, false) };
        assert!(!epoch.is_plausible(&unsent), "nothing went there");
        assert!(epoch.is_plausible(&PathReport { silent: true, ..unsent }), "and nothing arrived");
    }
}
