//! Which peers are to be looked at: those that something happened to, and those whose time has come.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::peer::{Peer, PeerId};

/// Peers whose context may have something to send or to tell, each once.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    ids: Vec<PeerId>,
    /// A bit for each peer, set while it is among `ids`.
    marks: Vec<u64>,
}

impl Touched {
    /// Adds a peer, unless it is there.
    pub fn add(&mut self, id: PeerId) {
        let (word, bit) = Self::place(id);
        if self.marks.len() <= word {
            self.marks.resize(word + 1, 0);
        }
        let Some(mark) = self.marks.get_mut(word) else { return };
        if *mark & bit == 0 {
            *mark |= bit;
            self.ids.push(id);
        }
    }

    /// Takes the one that was added last.
    pub fn take(&mut self) -> Option<PeerId> {
        let id = self.ids.pop()?;
        let (word, bit) = Self::place(id);
        if let Some(mark) = self.marks.get_mut(word) {
            *mark &= !bit;
        }
        Some(id)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        while self.take().is_some() {}
    }

    fn place(id: PeerId) -> (usize, u64) {
        (id.0 as usize / 64, 1 << (id.0 % 64))
    }
}

/// The alarms of peers, at most one each, in [`Peer::alarm`] too.
///
/// An alarm may come too early, never too late: traffic puts off what is due all the time, and that shall cost nothing
/// until the alarm comes.
#[derive(Debug, Default)]
pub(crate) struct Alarms(BTreeSet<(Instant, PeerId)>);

impl Alarms {
    /// A peer may be due earlier than before.
    pub fn advance(&mut self, id: PeerId, peer: &mut Peer) {
        let Some(due) = peer.due() else { return };
        if let Some(alarm) = peer.alarm {
            if alarm <= due {
                return;
            }
            self.0.remove(&(alarm, id));
        }
        self.0.insert((due, id));
        peer.alarm = Some(due);
    }

    /// A peer is gone.
    pub fn remove(&mut self, id: PeerId, peer: &Peer) {
        if let Some(alarm) = peer.alarm {
            self.0.remove(&(alarm, id));
        }
    }

    /// Takes a peer whose alarm has come.
    pub fn take(&mut self, now: Instant, peers: &mut BTreeMap<PeerId, Box<Peer>>) -> Option<PeerId> {
        let &(_, id) = self.0.first().filter(|(at, _)| *at <= now)?;
        self.0.pop_first();
        if let Some(peer) = peers.get_mut(&id) {
            peer.alarm = None;
        }
        Some(id)
    }

    /// When the first peer is due. Alarms that would come too early are put off until then.
    pub fn next(&mut self, peers: &mut BTreeMap<PeerId, Box<Peer>>) -> Option<Instant> {
        loop {
            let &(at, id) = self.0.first()?;
            let Some(peer) = peers.get_mut(&id) else {
                self.0.pop_first();
                continue;
            };
            if peer.due().is_some_and(|due| due <= at) {
                return Some(at);
            }
            self.0.pop_first();
            peer.alarm = None;
            self.advance(id, peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_touched_peer_comes_once() {
        let mut touched = Touched::default();
        for id in [1, 700, 1, 64, 700] {
            touched.add(PeerId(id));
        }
        let mut taken: Vec<_> = std::iter::from_fn(|| touched.take()).map(|id| id.0).collect();
        taken.sort_unstable();
        assert_eq!(taken, [1, 64, 700]);
        touched.add(PeerId(64));
        assert_eq!(touched.take(), Some(PeerId(64)), "it can be touched again");
        touched.add(PeerId(3));
        touched.clear();
        assert_eq!(touched.take(), None);
        touched.add(PeerId(3));
        assert_eq!(touched.take(), Some(PeerId(3)));
    }
}
