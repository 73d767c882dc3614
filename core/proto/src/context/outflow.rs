//! What leaves, beyond the path that it takes: the numbers of datagrams, what is held while no path works, what was sent
//! and not confirmed yet, what went into a silence, and what goes again.
//!
//! It knows of paths by number only, and is told which of them work.

use std::collections::VecDeque;
use std::time::Instant;

use crate::hold::{Hold, HoldLimits, Released};
use crate::recent::{Entry, Past, Recent, Sealed, Sent};
use crate::wire::{Epoch, Flags, PathId};

/// What was sent into the silence of a suspect path.
#[derive(Debug, Default)]
struct Unsure {
    /// In a place of its own: most contexts never need it.
    kept: Option<Box<Kept>>,
    copies_since: Option<Instant>,
    dropped: u64,
}

#[derive(Debug)]
struct Kept {
    /// Sent there, and over a standby path as well.
    copied: Hold,
    /// There and nowhere else.
    alone: Hold,
}

impl Unsure {
    fn keep(&mut self, now: Instant, limits: HoldLimits, copied: bool) -> &mut Hold {
        let kept = self
            .kept
            .get_or_insert_with(|| Box::new(Kept { copied: Hold::new(limits), alone: Hold::new(limits) }));
        if copied {
            self.copies_since.get_or_insert(now);
            &mut kept.copied
        } else {
            &mut kept.alone
        }
    }

    fn clear(&mut self) {
        if let Some(kept) = self.kept.take() {
            self.dropped += kept.copied.dropped() + kept.alone.dropped();
        }
        self.copies_since = None;
    }

    fn held(&self) -> (usize, u64) {
        self.kept.as_ref().map_or((0, self.dropped), |kept| {
            let bytes = kept.copied.bytes() + kept.alone.bytes();
            (bytes, self.dropped + kept.copied.dropped() + kept.alone.dropped())
        })
    }
}

/// A datagram that waited, and has its turn.
#[derive(Debug)]
pub(super) struct Waited {
    /// The IP datagram.
    pub datagram: Vec<u8>,
    pub flags: Flags,
    /// The number under which it was sent before, if it was.
    pub sequence: Option<u32>,
    /// It goes again; else it was held.
    pub again: bool,
    /// What is behind it.
    pub past: Past,
}

/// All that leaves.
#[derive(Debug)]
pub(super) struct Outflow {
    sequence: u32,
    hold: Hold,
    /// What was sent and not confirmed yet.
    recent: Recent,
    /// What goes again, before anything else.
    again: VecDeque<Sent>,
    unsure: Unsure,
    /// Bytes of what waited that may go now: see [`Self::grant`].
    room: u32,
    /// Epoch and counter up to which the other end has said that something arrived over the path that carries data.
    passed: u64,
}

impl Outflow {
    /// So much of what waited goes at once over a path that data has moved to, in bytes: all of a call or a shell, and a
    /// stream of 40 Mbit/s over a round trip of 50 ms.
    const AT_ONCE: u32 = 256 * 1024;
    /// And so much at least whenever the other end says that some of it arrived.
    const EACH: u32 = 64 * 1024;
    /// No more, however much that is.
    const MOST: u32 = 4 * 1024 * 1024;

    pub fn new(limits: HoldLimits) -> Self {
        Self {
            sequence: 0,
            hold: Hold::new(limits),
            recent: Recent::default(),
            again: VecDeque::new(),
            unsure: Unsure::default(),
            room: Self::AT_ONCE,
            passed: 0,
        }
    }

    /// Data has moved to another path, of which nothing is known but that it answers: what waited goes there no quicker than
    /// it proves to carry, or it would drown what is new.
    pub fn begin(&mut self) {
        self.room = Self::AT_ONCE;
        self.passed = 0;
    }

    /// The other end has heard more over the path that carries data, and so many bytes of what was kept were confirmed by
    /// that: twice as many may follow, as a transport begins.
    pub fn grant(&mut self, epoch: Epoch, highest: u64, confirmed: usize) {
        // Counters end long before that.
        let passed = u64::from(epoch.0) << 56 | highest & (u64::MAX >> 8);
        if passed >> 56 == self.passed >> 56 && passed <= self.passed {
            return;
        }
        self.passed = passed;
        let more = u32::try_from(confirmed).unwrap_or(u32::MAX).saturating_mul(2).max(Self::EACH);
        self.room = self.room.saturating_add(more).min(Self::MOST);
    }

    /// Whether what waits has to, until the path has proved to carry more.
    pub fn must_wait(&self) -> bool {
        self.room == 0
    }

    /// So many bytes of what waited were sent.
    pub fn spend(&mut self, bytes: usize) {
        self.room = self.room.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Bytes that are kept until a report confirms them.
    pub fn unconfirmed(&self) -> usize {
        self.recent.bytes()
    }

    /// The number that the next datagram will have.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Gives a datagram its number.
    pub fn next_sequence(&mut self) -> u32 {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        sequence
    }

    /// Whether nothing waits for its turn.
    pub fn is_clear(&self) -> bool {
        self.hold.is_empty() && self.again.is_empty()
    }

    /// Holds a datagram of the host until a path works.
    pub fn hold(&mut self, now: Instant, flags: Flags, datagram: &[u8]) {
        self.hold.push(now, flags, datagram);
    }

    /// Keeps a datagram that was sent over a path that works, until a report confirms it.
    pub fn keep(
        &mut self,
        now: Instant,
        path: PathId,
        sealed: (Epoch, u64),
        number: (u32, Flags, Past),
        datagram: &[u8],
    ) {
        self.recent.push(now, path, sealed, number, datagram);
    }

    /// What was kept under this number has a copy over another path.
    pub fn note_copy(&mut self, sequence: u32, copy: Sealed) {
        self.recent.note_copy(sequence, copy);
    }

    /// Keeps a datagram that went into a silence, alone or with a copy over a standby.
    pub fn keep_unsure(
        &mut self,
        now: Instant,
        copied: bool,
        (sequence, flags, past): (u32, Flags, Past),
        datagram: &[u8],
    ) {
        let hold = self.unsure.keep(now, self.hold.limits(), copied);
        hold.push_sent(now, (sequence, flags), past, datagram);
    }

    /// The silence was none.
    pub fn forget_unsure(&mut self) {
        self.unsure.clear();
    }

    /// A report says that everything up to `highest` had its chance to arrive over a path.
    /// When the one of that counter was sent, if it was kept.
    pub fn confirm(&mut self, path: PathId, epoch: Epoch, highest: u64) -> Option<Instant> {
        self.recent.confirm(path, epoch, highest)
    }

    /// Whatever was sent before had its chance to arrive.
    pub fn confirm_before(&mut self, at: Instant) {
        self.recent.confirm_before(at);
    }

    /// What was on its way over paths that do not work goes again, but for what has a copy over one that does. `on_word`
    /// tells that they do not work is what the other end says: for that nothing goes more than once.
    pub fn rescue(&mut self, on_word: bool, works: impl Fn(PathId) -> bool) {
        let lost = |e: &Entry| !works(e.path) && !e.copy.is_some_and(|copy| works(copy.path));
        if !self.recent.is_empty() {
            let mut lost = self.recent.take(|e| !(on_word && e.on_word) && lost(e));
            for sent in &mut lost {
                sent.past.on_word |= on_word;
            }
            self.again.extend(lost);
        }
    }

    /// These go again.
    pub fn resend(&mut self, lost: impl FnMut(&Entry) -> bool) {
        if !self.recent.is_empty() {
            let lost = self.recent.take(lost);
            self.again.extend(lost);
        }
    }

    /// This goes again, behind what does already.
    pub fn put_again(&mut self, sent: Sent) {
        self.again.push_back(sent);
    }

    /// What went into a silence goes again; but for the copies, where `answered` tells when the path that now carries
    /// data was last known to work and it had them.
    pub fn resend_unsure(&mut self, answered: Option<Instant>, on_word: bool) {
        let arrived = self.unsure.copies_since.is_some_and(|since| answered.is_some_and(|at| at >= since));
        if let Some(kept) = &mut self.unsure.kept {
            if !arrived {
                self.hold.append(&mut kept.copied, on_word);
            }
            self.hold.append(&mut kept.alone, on_word);
        }
        self.unsure.clear();
    }

    /// What was sent over a path from `since` on and has no copy yet: see [`Recent::to_copy`].
    pub fn to_copy(&self, path: PathId, since: Option<Instant>, small: usize, room: usize) -> Vec<Sent> {
        self.recent.to_copy(path, since, small, room)
    }

    /// The length of what has its turn: what goes again before what was held, and neither when it is too old.
    pub fn next_length(&mut self, now: Instant) -> Option<usize> {
        while self.again.front().is_some_and(|s| now.saturating_duration_since(s.past.first) > Recent::AGE) {
            self.again.pop_front();
        }
        match self.again.front() {
            Some(sent) => Some(sent.datagram.len()),
            None => self.hold.next_len(now),
        }
    }

    /// What has its turn.
    pub fn next(&mut self, now: Instant) -> Option<Waited> {
        match self.again.pop_front() {
            Some(Sent { datagram, flags, sequence, past }) => {
                Some(Waited { datagram, flags, sequence: Some(sequence), again: true, past })
            }
            None => self.hold.pop(now).map(|Released { datagram, flags, sequence, past }| Waited {
                datagram,
                flags,
                sequence,
                again: false,
                past,
            }),
        }
    }

    /// What was held and not sent before.
    pub fn take_held(&mut self, now: Instant) -> Option<(Vec<u8>, Flags)> {
        self.hold.pop(now).map(|held| (held.datagram, held.flags))
    }

    /// The other end's context is another one: it does not know what it has of what was sent before.
    pub fn forget_sent(&mut self) {
        self.recent.clear();
        self.again.clear();
        self.unsure.clear();
        self.hold.forget_sent();
    }

    /// The context is over. The numbers go on: the other end may not have heard of the end.
    pub fn clear(&mut self) {
        self.hold.clear();
        self.unsure.clear();
        self.recent.clear();
        self.again.clear();
    }

    /// Bytes held, and datagrams that were held and given up.
    pub fn held(&self) -> (usize, u64) {
        let (unsure, given_up) = self.unsure.held();
        (self.hold.bytes() + unsure + self.recent.bytes(), self.hold.dropped() + given_up)
    }

    /// Gives back what is not needed without traffic.
    pub fn rest_of_sent(&mut self) {
        if self.recent.is_empty() {
            self.recent.rest();
        }
    }

    /// Gives back the room of what is empty.
    pub fn rest(&mut self) {
        self.hold.rest();
        super::idle::shrink(&mut self.again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PathId = PathId(0);
    const B: PathId = PathId(1);

    fn sequences(outflow: &mut Outflow, now: Instant) -> Vec<Option<u32>> {
        std::iter::from_fn(|| outflow.next(now).map(|w| w.sequence)).collect()
    }

    #[test]
    fn what_goes_again_comes_before_what_was_held() {
        let now = Instant::now();
        let mut outflow = Outflow::new(HoldLimits::default());
        for _ in 0..3 {
            let number = (outflow.next_sequence(), Flags::NONE, Past::new(now));
            outflow.keep(now, A, (Epoch(0), 0), number, &[0x45; 40]);
        }
        outflow.hold(now, Flags::NONE, &[0x45; 60]);
        outflow.note_copy(1, Sealed { path: B, epoch: Epoch(0), counter: 9 });
        assert!(!outflow.is_clear());
        outflow.rescue(false, |path| path == B);
        assert_eq!(outflow.next_length(now), Some(40));
        assert_eq!(sequences(&mut outflow, now), [Some(0), Some(2), None], "the copy of 1 is there");
        assert!(outflow.is_clear());
        outflow.rescue(false, |_| false);
        assert_eq!(sequences(&mut outflow, now), [Some(1)], "its path died, too");
    }

    #[test]
    fn more_goes_as_the_other_end_hears_more() {
        let mut outflow = Outflow::new(HoldLimits::default());
        let all = |outflow: &mut Outflow| {
            let room = outflow.room as usize;
            outflow.spend(room);
            assert!(outflow.must_wait());
            room as u32
        };
        assert_eq!(all(&mut outflow), Outflow::AT_ONCE);
        outflow.grant(Epoch(2), 100, 0);
        assert_eq!(all(&mut outflow), Outflow::EACH, "something arrived");
        outflow.grant(Epoch(2), 100, 50_000);
        outflow.grant(Epoch(2), 90, 50_000);
        assert_eq!(all(&mut outflow), 0, "nothing more did");
        outflow.grant(Epoch(2), 101, 50_000);
        assert_eq!(all(&mut outflow), 100_000);
        outflow.grant(Epoch(4), 3, 50_000);
        assert_eq!(all(&mut outflow), 100_000, "counters begin anew with an epoch");
        outflow.grant(Epoch(4), 4, usize::MAX);
        assert_eq!(all(&mut outflow), Outflow::MOST, "no more, however much that is");
        outflow.begin();
        assert_eq!(all(&mut outflow), Outflow::AT_ONCE);
        outflow.grant(Epoch(4), 1, 0);
        assert_eq!(all(&mut outflow), Outflow::EACH, "over another path");
    }

    #[test]
    fn copies_are_trusted_where_their_path_answered_since() {
        for (answered, expected) in [(false, 2), (true, 1)] {
            let start = Instant::now();
            let later = start + std::time::Duration::from_millis(5);
            let mut outflow = Outflow::new(HoldLimits::default());
            let past = Past::new(start);
            outflow.keep_unsure(start, true, (1, Flags::NONE, past), &[0x45; 40]);
            outflow.keep_unsure(start, false, (2, Flags::NONE, past), &[0x45; 40]);
            outflow.resend_unsure(answered.then_some(later), false);
            assert_eq!(sequences(&mut outflow, later).len(), expected);
        }
    }
}
