//! What was sent lately and not yet confirmed by a report.
//!
//! A path that dies takes with it what was on its way. A transport would find out by its own timers, one lost
//! segment after the other; so the sender keeps what it sent until a report confirms it, and sends the rest again
//! over the path that takes over. The receiver drops what it has. Everything is bounded: datagrams, bytes, age.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::wire::{Epoch, Flags, PathId};

/// What is behind a datagram that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// When it was sent first: by that it ages, however often it goes again.
    pub first: Instant,
    /// It went again because the other end said so. That is done once: else a peer that moves to and fro would be sent
    /// everything each time.
    pub on_word: bool,
}

impl Past {
    /// Of a datagram that was not sent before.
    pub fn new(now: Instant) -> Self {
        Self { first: now, on_word: false }
    }
}

/// A datagram that was sent.
#[derive(Debug)]
pub struct Sent {
    /// Under which number of the context: what the receiver knows it by.
    pub sequence: u32,
    /// When it was sent first, and what became of it.
    pub past: Past,
    /// How the receiver shall treat it.
    pub flags: Flags,
    /// The IP datagram.
    pub datagram: Vec<u8>,
}

/// Over which path something was sent, under which keys, with which counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// The path.
    pub path: PathId,
    /// The keys.
    pub epoch: Epoch,
    /// The path's counter.
    pub counter: u64,
}

/// Where a datagram is kept, and what is known of it. Small: each datagram that leaves has one.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Over which path it was sent.
    pub path: PathId,
    /// Under which keys.
    pub epoch: Epoch,
    /// With which counter of the path.
    pub counter: u64,
    /// Its copy over another path, if it had one.
    pub copy: Option<Sealed>,
    /// Under which number of the context.
    pub sequence: u32,
    at: Instant,
    /// By so much earlier it was sent first, in microseconds.
    before: u32,
    start: u32,
    length: u32,
    /// It went again because the other end said so.
    pub on_word: bool,
    flags: Flags,
}

impl Entry {
    fn sent(&self, datagram: &[u8]) -> Sent {
        let first = self.at.checked_sub(Duration::from_micros(self.before.into())).unwrap_or(self.at);
        let past = Past { first, on_word: self.on_word };
        Sent { sequence: self.sequence, past, flags: self.flags, datagram: datagram.to_vec() }
    }

    fn length(&self) -> usize {
        self.length as usize
    }

    fn range(&self) -> std::ops::Range<usize> {
        let start = self.start as usize;
        start..start + self.length()
    }
}

/// The datagrams sent last, oldest first. They lie one after the other in one block of memory that is used round and
/// round, so that keeping one is a copy and nothing else.
#[derive(Debug, Default)]
pub struct Recent {
    entries: VecDeque<Entry>,
    block: Vec<u8>,
    /// Where the next datagram goes.
    next: usize,
    bytes: usize,
    /// Nothing is kept until then: what is on its way is more than fits, so that keeping the end of it helps nobody.
    pause: Option<Instant>,
}

impl Recent {
    /// The most datagrams: well within the receiver's window of 8,128, as new ones go out meanwhile.
    pub const DATAGRAMS: usize = 4096;
    /// The most bytes: 160 Mbit/s for 100 ms.
    pub const BYTES: usize = 2 * 1024 * 1024;
    /// A path that carries data is confirmed at least once a second, by the answer to a PROBE.
    pub const AGE: Duration = Duration::from_secs(3);
    /// What was sent between two datagrams that are no further apart was sent when they were.
    const CLOSE: Duration = Duration::from_millis(5);
    /// Where a datagram gives way so soon, more is on its way than fits.
    const OVERRUN: Duration = Duration::from_millis(100);
    /// For so long nothing is kept then. One attempt to keep up again takes a few milliseconds of this.
    const PAUSE: Duration = Duration::from_millis(200);
    /// Room at the beginning of the block is plenty when it is so many times what is kept.
    const PLENTY: usize = 2;
    /// The block's size when it is first needed; it doubles.
    const FIRST_BLOCK: usize = 64 * 1024;

    /// Keeps a datagram that was sent; the oldest give way.
    pub fn push(
        &mut self,
        at: Instant,
        path: PathId,
        (epoch, counter): (Epoch, u64),
        (sequence, flags, past): (u32, Flags, Past),
        datagram: &[u8],
    ) {
        if self.pause.is_some() {
            if self.pause > Some(at) {
                return;
            }
            self.pause = None;
        }
        while self.entries.front().is_some_and(|s| at.saturating_duration_since(s.at) > Self::AGE) {
            self.forget_oldest();
        }
        let Some(start) = self.place(at, datagram.len()) else { return };
        let length = datagram.len();
        let Some(room) = self.block.get_mut(start..start + length) else { return };
        room.copy_from_slice(datagram);
        self.next = start + length;
        self.bytes += length;
        // Both fit: the block is not larger.
        let [start, length] = [start, length].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        let before = if past.first == at { 0 } else { at.saturating_duration_since(past.first).as_micros() };
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        let (copy, on_word) = (None, past.on_word);
        self.entries.push_back(Entry {
            path,
            epoch,
            counter,
            copy,
            sequence,
            at,
            before,
            start,
            length,
            on_word,
            flags,
        });
    }

    /// What was kept under this number has a copy over another path.
    pub fn note_copy(&mut self, sequence: u32, copy: Sealed) {
        // Mostly it is among the newest, and they are numbered in a row.
        let newest = self.entries.back().map(|e| e.sequence.wrapping_sub(sequence) as usize);
        let guess = newest.and_then(|back| self.entries.len().checked_sub(back.checked_add(1)?));
        let is = |entry: &Entry| entry.sequence == sequence;
        let place = match guess.filter(|at| self.entries.get(*at).is_some_and(is)) {
            Some(at) => Some(at),
            None => self.entries.iter().rposition(is),
        };
        if let Some(entry) = place.and_then(|at| self.entries.get_mut(at)) {
            entry.copy = Some(copy);
        }
    }

    /// Where a datagram of this length can be kept.
    fn place(&mut self, at: Instant, length: usize) -> Option<usize> {
        if length == 0 || length > Self::BYTES / 2 {
            return None;
        }
        loop {
            if self.entries.len() < Self::DATAGRAMS {
                let size = self.block.len();
                let (start, end) = match self.entries.front().map(|e| e.start as usize) {
                    None => (0, size),
                    Some(oldest) if self.next > oldest => {
                        // Behind the newest, or again at the beginning: early where there is plenty of room, so that
                        // no more memory passes through the processor's own than what is kept needs.
                        let plenty = oldest / Self::PLENTY > self.bytes;
                        if size - self.next >= length && !plenty { (self.next, size) } else { (0, oldest) }
                    }
                    Some(oldest) => (self.next, oldest),
                };
                // Never quite full: then the newest would seem to end where it begins.
                if end - start > length {
                    return Some(start);
                }
                if size < Self::BYTES {
                    self.grow(length);
                    continue;
                }
            }
            let oldest = self.entries.front()?.at;
            if at.saturating_duration_since(oldest) < Self::OVERRUN {
                self.clear();
                self.pause = Some(at + Self::PAUSE);
                return None;
            }
            self.forget_oldest();
        }
    }

    /// Makes the block larger, and puts what is kept at its beginning.
    fn grow(&mut self, length: usize) {
        let wanted = (self.block.len() * 2).max(Self::FIRST_BLOCK).max(length * 2).min(Self::BYTES);
        let mut block = vec![0; wanted];
        let mut next = 0;
        for entry in &mut self.entries {
            let to = next..next + entry.length();
            if let (Some(to), Some(from)) = (block.get_mut(to), self.block.get(entry.range())) {
                to.copy_from_slice(from);
            }
            entry.start = u32::try_from(next).unwrap_or(u32::MAX);
            next += entry.length();
        }
        self.block = block;
        self.next = next;
    }

    /// A report says that everything up to `highest` had its chance to arrive over a path. What is missing below that
    /// was lost on a path that lives, which is the transport's business.
    ///
    /// When what had that counter was sent, if that is known to within [`Self::CLOSE`]: it may have been no datagram.
    pub fn confirm(&mut self, path: PathId, epoch: Epoch, highest: u64) -> Option<Instant> {
        let passed = |s: Sealed| s.path == path && s.epoch == epoch && s.counter <= highest;
        let done = |e: &Entry| {
            let first = Sealed { path: e.path, epoch: e.epoch, counter: e.counter };
            passed(first) || e.copy.is_some_and(passed)
        };
        let mut sent = None;
        while let Some(entry) = self.entries.front().filter(|e| done(e)) {
            if (entry.path, entry.epoch) == (path, epoch) {
                sent = Some((entry.at, entry.counter));
            }
            self.forget_oldest();
        }
        let (at, counter) = sent?;
        let close = |next: &Entry| next.path == path && next.at.saturating_duration_since(at) <= Self::CLOSE;
        (counter == highest || self.entries.front().is_some_and(close)).then_some(at)
    }

    /// Whatever was sent before had its chance to arrive.
    pub fn confirm_before(&mut self, at: Instant) {
        while self.entries.front().is_some_and(|e| e.at < at) {
            self.forget_oldest();
        }
    }

    /// Takes what was sent over these paths, oldest first.
    pub fn take(&mut self, mut lost: impl FnMut(&Entry) -> bool) -> Vec<Sent> {
        let (block, bytes) = (&self.block, &mut self.bytes);
        let mut taken = Vec::new();
        self.entries.retain(|entry| {
            let lost = lost(entry);
            if lost {
                *bytes -= entry.length();
                let datagram = block.get(entry.range()).unwrap_or_default();
                taken.push(entry.sent(datagram));
            }
            !lost
        });
        taken
    }

    /// What was sent over a path from `since` on and has no copy yet, of so many bytes at most: what does not fit is
    /// passed over. Datagrams of up to `small` bytes come first, then the others, the oldest first.
    pub fn to_copy(&self, path: PathId, since: Option<Instant>, small: usize, mut room: usize) -> Vec<Sent> {
        let mut copies = Vec::new();
        for is_small in [true, false] {
            let wanted = |e: &&Entry| {
                let late = since.is_none_or(|since| e.at >= since);
                e.path == path && late && e.copy.is_none() && (e.length() <= small) == is_small
            };
            for entry in self.entries.iter().filter(wanted) {
                let datagram = self.block.get(entry.range());
                if let Some((left, datagram)) = room.checked_sub(entry.length()).zip(datagram) {
                    room = left;
                    copies.push(entry.sent(datagram));
                }
            }
        }
        copies
    }

    /// Gives the room back when there is no traffic.
    pub fn rest(&mut self) {
        if self.entries.is_empty() {
            *self = Self::default();
        }
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
        self.next = 0;
    }

    fn forget_oldest(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry.length();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PathId = PathId(0);
    const B: PathId = PathId(1);
    const EPOCH: Epoch = Epoch(1);

    fn sequences(recent: &mut Recent, path: PathId) -> Vec<u32> {
        recent.take(|s| s.path == path).into_iter().map(|s| s.sequence).collect()
    }

    fn push(recent: &mut Recent, at: Instant, path: PathId, n: u32, datagram: &[u8]) {
        recent.push(at, path, (EPOCH, u64::from(n)), (n, Flags::NONE, Past::new(at)), datagram);
    }

    #[test]
    fn keeps_what_no_report_confirmed() {
        let now = Instant::now();
        let mut recent = Recent::default();
        for n in 0..10 {
            push(&mut recent, now, if n < 6 { A } else { B }, n, &[0; 100]);
        }
        recent.confirm(A, EPOCH, 3);
        recent.confirm(A, Epoch(2), 5);
        assert_eq!(recent.to_copy(A, None, 0, 199).len(), 1);
        assert_eq!(recent.to_copy(A, None, 0, 1_000).iter().map(|s| s.sequence).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(sequences(&mut recent, A), [4, 5]);
        assert_eq!(recent.bytes(), 400);
        recent.confirm(B, EPOCH, 100);
        assert!(recent.is_empty() && recent.bytes() == 0);
    }

    #[test]
    fn what_was_sent_before_had_its_chance_and_what_was_sent_then_did_not() {
        let now = Instant::now();
        let at = |n: u32| now + Duration::from_millis(10) * n;
        let mut recent = Recent::default();
        for n in 0..6 {
            push(&mut recent, at(n), A, n, &[0; 100]);
        }
        recent.confirm_before(at(0));
        assert_eq!(recent.bytes(), 600, "nothing was sent before the first");
        recent.confirm_before(at(4));
        assert_eq!(sequences(&mut recent, A), [4, 5]);
        recent.confirm_before(at(9));
        assert!(recent.is_empty());
    }

    #[test]
    fn gives_back_what_it_was_given() {
        let mut now = Instant::now();
        let mut recent = Recent::default();
        let of = |n: u32| vec![n as u8; 1 + (n as usize * 37) % 1400];
        for n in 0..50_000_u32 {
            now += Duration::from_millis(1);
            push(&mut recent, now, A, n, &of(n));
            if n.is_multiple_of(9) {
                recent.confirm(A, EPOCH, u64::from(n.saturating_sub((n / 11) % 3_000)));
            }
            assert!(recent.bytes() <= Recent::BYTES && recent.entries.len() <= Recent::DATAGRAMS);
        }
        let kept = recent.take(|_| true);
        assert!(kept.len() > 100 && kept.last().is_some_and(|s| s.sequence == 49_999));
        for pair in kept.windows(2) {
            assert_eq!(pair[0].sequence + 1, pair[1].sequence);
        }
        for sent in kept {
            assert_eq!(sent.datagram, of(sent.sequence));
        }
    }

    #[test]
    fn what_is_too_much_to_be_kept_costs_nothing() {
        let mut now = Instant::now();
        let mut recent = Recent::default();
        let second = Duration::from_micros(1);
        let mut kept = 0_u32;
        for n in 0..1_000_000 {
            now += second;
            push(&mut recent, now, A, n, &[0; 1400]);
            kept += u32::from(!recent.is_empty());
        }
        assert!(kept < 20_000, "{kept}");
        for n in 1_000_000..1_000_100 {
            now += Recent::PAUSE / 50;
            push(&mut recent, now, A, n, &[0; 1400]);
        }
        assert_eq!(sequences(&mut recent, A).last(), Some(&1_000_099), "it keeps again when there is less");
    }

    #[test]
    fn forgets_with_age() {
        let now = Instant::now();
        let mut recent = Recent::default();
        push(&mut recent, now, A, 0, &vec![0; Recent::BYTES + 1]);
        assert!(recent.is_empty());
        push(&mut recent, now, A, 1, &[1]);
        push(&mut recent, now + Recent::AGE * 2, A, 2, &[2]);
        assert_eq!(sequences(&mut recent, A), [2]);
    }

    /// What a copy carried over a path that works need not go again, and is done when either path is known to have
    /// brought it.
    #[test]
    fn copies_count() {
        let start = Instant::now();
        let ms = Duration::from_millis(1);
        let mut recent = Recent::default();
        for n in 0..6_u32 {
            let length = if n % 2 == 0 { 1_000 } else { 100 };
            let at = start + n * ms;
            recent.push(at, A, (EPOCH, u64::from(n)), (n, Flags::NONE, Past::new(at)), &vec![0; length]);
        }
        let numbers = |sent: Vec<Sent>| sent.iter().map(|s| s.sequence).collect::<Vec<_>>();
        assert_eq!(
            numbers(recent.to_copy(A, Some(start + 2 * ms), 300, 10_000)),
            [3, 5, 2, 4],
            "small ones first"
        );
        assert_eq!(numbers(recent.to_copy(A, None, 300, 1_300)), [1, 3, 5, 0], "as much as may be");
        let copy = |counter| Sealed { path: B, epoch: EPOCH, counter };
        recent.note_copy(3, copy(70));
        recent.note_copy(0, copy(71));
        assert_eq!(numbers(recent.to_copy(A, None, 300, 10_000)), [1, 5, 2, 4]);
        recent.confirm(B, EPOCH, 71);
        assert_eq!(recent.entries.len(), 5, "the oldest came as a copy");
        let lost = recent.take(|e| e.path == A && e.copy.is_none());
        assert_eq!(numbers(lost), [1, 2, 4, 5]);
        recent.confirm(B, EPOCH, 71);
        assert!(recent.is_empty());
    }
}
