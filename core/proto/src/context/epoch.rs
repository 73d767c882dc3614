//! An epoch: its keys, and what was sent and received under them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::timing;

use crate::crypto::{EpochKeys, Replay, ReplayWindow};
use crate::wire::{ContextIndex, Epoch, PathId, PathReport};

/// What came over one path of the other end.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    pub window: ReplayWindow,
    pub received: u64,
    pub reordered: u64,
}

/// Indices of one end that the other may use in an epoch.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub first: u32,
    pub further: Vec<u32>,
}

impl Offer {
    /// So many an end of ours offers: enough for both links of a laptop and both versions of IP, and for as many moves as
    /// an epoch sees.
    pub const MOST: usize = 16;
}

/// A path id in an epoch: this end's own, and the other end's of the same number.
#[derive(Debug, Default)]
struct Track {
    /// The next counter of this end's path; it goes on when the id is used again, so that no nonce ever repeats.
    counter: u64,
    /// The other end's index that datagrams of this end's path have; 0 before the first.
    index: u32,
    /// What came with this path id of the other end.
    arrivals: Option<Box<Arrivals>>,
}

pub(super) struct EpochState {
    pub id: Epoch,
    pub keys: Arc<EpochKeys>,
    pub since: Instant,
    /// So much time has passed beside that this host's clock has not counted. Kept apart: where clocks begin with the machine,
    /// there is no moment as long ago.
    aged: Duration,
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
    /// By path id.
    tracks: Vec<Track>,
    /// The other end's indices that no path of this end has; the last is for all that come when there is no other.
    indices: Vec<u32>,
    /// How many there were.
    offered: u8,
}

impl EpochState {
    /// An authenticated peer may use no more path ids than this: it bounds what it can make this end remember.
    pub const MAX_PATHS: usize = 128;
    /// RFC 9001's confidentiality limit for AES-GCM is 2^23 packets per key only to keep a wide security margin in a
    /// setting with many keys under attack; a key of ours lives 120 s of traffic. This is the hard stop.
    pub const MAX_COUNTER: u64 = 1 << 48;

    pub fn new(id: Epoch, keys: EpochKeys, offer: Offer, since: Instant, initiator: bool) -> Self {
        // Taken from the end.
        let mut indices = offer.further;
        indices.push(offer.first);
        Self {
            id,
            keys: Arc::new(keys),
            since,
            aged: Duration::ZERO,
            initiator,
            confirmed: initiator,
            used: None,
            superseded: None,
            heard: None,
            tracks: Vec::new(),
            offered: indices.len().try_into().unwrap_or(u8::MAX),
            indices,
        }
    }

    /// The index and the next counters of a path, so many in a row, or `None` at the end of the range.
    pub fn next_counters(&mut self, path: PathId, count: u64) -> Option<(ContextIndex, u64)> {
        let at = usize::from(path.0);
        if self.tracks.len() <= at {
            self.tracks.resize_with(at + 1, Track::default);
        }
        let (index, first) = self.tracks.get(at).map(|t| (t.index, t.counter))?;
        let next = first.checked_add(count).filter(|next| *next <= Self::MAX_COUNTER)?;
        let index = if index == 0 { self.take_index()? } else { index };
        let track = self.tracks.get_mut(at)?;
        (track.index, track.counter) = (index, next);
        Some((ContextIndex(index), first))
    }

    /// One that no path has, as long as there is one.
    fn take_index(&mut self) -> Option<u32> {
        if self.indices.len() > 1 {
            return self.indices.pop();
        }
        self.indices.first().copied()
    }

    /// Whether there may be too few indices for the next move, and another epoch would have enough for so many paths.
    fn runs_out(&self, paths: usize) -> bool {
        let offered = usize::from(self.offered);
        self.indices.len() <= offered / 4 && paths <= offered / 2
    }

    /// The counter that a path's next datagram will have.
    pub fn counter(&self, path: PathId) -> u64 {
        self.tracks.get(usize::from(path.0)).map_or(0, |t| t.counter)
    }

    /// Whether a counter may be new. Called before the datagram is authenticated, so it changes nothing.
    pub fn may_be_new(&self, path: PathId, counter: u64) -> bool {
        match self.arrivals(path) {
            Some(arrivals) => arrivals.window.check(counter) != Replay::Replayed,
            None => usize::from(path.0) < Self::MAX_PATHS,
        }
    }

    /// Notes an authentic datagram; `false` when it is a replay.
    pub fn accept(&mut self, path: PathId, counter: u64) -> bool {
        let at = usize::from(path.0);
        if at >= Self::MAX_PATHS {
            return false;
        }
        if self.tracks.len() <= at {
            self.tracks.resize_with(at + 1, Track::default);
        }
        let Some(track) = self.tracks.get_mut(at) else { return false };
        let arrivals = track.arrivals.get_or_insert_default();
        match arrivals.window.accept(counter) {
            Replay::Replayed => return false,
            Replay::Late => arrivals.reordered += 1,
            Replay::Newest => {}
        }
        arrivals.received += 1;
        true
    }

    fn arrivals(&self, path: PathId) -> Option<&Arrivals> {
        self.tracks.get(usize::from(path.0))?.arrivals.as_deref()
    }

    /// What has arrived over a path of the other end; nothing is worth telling only where it is a silence.
    pub fn report(&self, path: PathId, silent: bool) -> Option<PathReport> {
        let arrivals = self.arrivals(path);
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
        self.tracks.shrink_to_fit();
        self.indices.shrink_to_fit();
        for arrivals in self.tracks.iter_mut().filter_map(|t| t.arrivals.as_deref_mut()) {
            arrivals.window.rest();
        }
    }

    /// So much was sealed that a new epoch is due, whatever the time.
    pub fn worn(&self) -> bool {
        self.tracks.iter().any(|t| t.counter > Self::MAX_COUNTER / 2)
    }

    /// Whether a path of this end was ever used with it: what the next of the same number sends goes on counting, and shows
    /// that it is of the same context.
    pub fn knows(&self, path: PathId) -> bool {
        self.counter(path) > 0
    }

    /// Data goes with it from now on, if it did not before.
    pub fn note_used(&mut self, now: Instant) {
        self.used.get_or_insert(now);
    }

    /// From when on a newer one is due: what carried data shall soon not be there to be stolen. It is due early where the
    /// next of so many `paths` may not have an index of its own.
    pub fn due(&self, paths: usize) -> Instant {
        let extra = if self.initiator { Duration::ZERO } else { timing::REKEY_EXTRA };
        let due = self.after_due(extra, Duration::ZERO);
        if self.runs_out(paths) {
            return due.min(self.after(self.since, timing::REKEY_INDICES + extra));
        }
        due
    }

    /// That long after one is due by age.
    fn after_due(&self, extra: Duration, more: Duration) -> Instant {
        match self.used {
            _ if self.worn() => self.after(self.since, more),
            Some(used) => self.after(used, more).max(self.after(self.since, timing::REKEY + extra + more)),
            None => self.after(self.since, timing::EPOCH_IDLE + extra + more),
        }
    }

    fn after(&self, begin: Instant, span: Duration) -> Instant {
        begin + span.saturating_sub(self.aged)
    }

    /// When it ends, whether there is a newer one or not.
    pub fn end(&self) -> Instant {
        let extra = if self.initiator { Duration::ZERO } else { timing::REKEY_EXTRA };
        self.after_due(extra, timing::EPOCH_END)
    }

    /// So much time has passed that this host's clock has not counted.
    pub fn age(&mut self, by: Duration) {
        self.aged = self.aged.saturating_add(by);
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
#[path = "epoch_tests.rs"]
mod tests;
