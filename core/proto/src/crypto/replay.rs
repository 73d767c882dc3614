//! Windows that tell new numbers from those seen before (RFC 6479).

/// What a window says of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// Not seen before, and higher than all seen before.
    Newest,
    /// Not seen before, but something higher was.
    Late,
    /// Seen before, or too old to tell.
    Replayed,
}

/// A window over the counters of one path and epoch: 2,048 wide, of which the last 1,984 are sure.
///
/// Wide enough for what reordering does to a fast path (at 10 Gbit/s and 1,400 bytes, 2 ms).
pub type ReplayWindow = Window<32>;

/// A sliding window of `WORDS` times 64 numbers, of which all but the oldest 64 are sure.
#[derive(Debug, Clone)]
pub struct Window<const WORDS: usize> {
    next: u64,
    seen: [u64; WORDS],
}

impl<const WORDS: usize> Default for Window<WORDS> {
    fn default() -> Self {
        Self { next: 0, seen: [0; WORDS] }
    }
}

impl<const WORDS: usize> Window<WORDS> {
    const REACH: u64 = WORDS as u64 * 64 - 64;

    /// What accepting `counter` would say. Changes nothing: call it before the datagram is authenticated.
    pub fn check(&self, counter: u64) -> Replay {
        if counter >= self.next {
            // The highest value is refused so that `next` cannot overflow.
            return if counter == u64::MAX { Replay::Replayed } else { Replay::Newest };
        }
        if self.next - counter > Self::REACH {
            return Replay::Replayed;
        }
        let (word, bit) = Self::place(counter);
        if self.seen[word] & bit == 0 { Replay::Late } else { Replay::Replayed }
    }

    /// Marks `counter` as seen, and says what it was. Call it once the datagram is authenticated.
    pub fn accept(&mut self, counter: u64) -> Replay {
        let verdict = self.check(counter);
        match verdict {
            Replay::Replayed => return verdict,
            Replay::Late => {}
            Replay::Newest => {
                let newest = counter / 64;
                // Words that the window slides over are forgotten.
                let first = if self.next == 0 { 0 } else { (self.next - 1) / 64 + 1 };
                let first = first.max((newest + 1).saturating_sub(WORDS as u64));
                for word in first..=newest {
                    self.seen[(word % WORDS as u64) as usize] = 0;
                }
                self.next = counter + 1;
            }
        }
        let (word, bit) = Self::place(counter);
        self.seen[word] |= bit;
        verdict
    }

    /// The highest counter seen, if any was.
    pub fn highest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    fn place(counter: u64) -> (usize, u64) {
        (((counter / 64) % WORDS as u64) as usize, 1 << (counter % 64))
    }
}

/// The same over the context-wide 32-bit sequence numbers of datagrams, which may come by several paths: 8,192 wide,
/// because what was on its way over a path that died is sent again behind what is newer.
///
/// The number wraps; the window reads it as the 64-bit number nearest to the newest one (RFC 1982 in spirit).
#[derive(Debug, Clone, Default)]
pub struct SequenceWindow {
    window: Window<128>,
}

impl SequenceWindow {
    /// Marks `sequence` as seen, and says what it was.
    pub fn accept(&mut self, sequence: u32) -> Replay {
        self.accept_full(sequence).0
    }

    /// The same, and the 64-bit number that it stands for.
    pub fn accept_full(&mut self, sequence: u32) -> (Replay, u64) {
        let full = match self.window.highest() {
            None => u64::from(sequence) + (1 << 32),
            Some(highest) => {
                let ahead = i64::from(sequence.wrapping_sub(highest as u32) as i32);
                highest.saturating_add_signed(ahead)
            }
        };
        (self.window.accept(full), full)
    }

    /// Whether a number was seen, or is too old to tell.
    pub fn has(&self, full: u64) -> bool {
        self.window.check(full) == Replay::Replayed
    }

    /// The lowest number that is not too old to tell.
    pub fn reach(&self) -> u64 {
        self.window.next.saturating_sub(Window::<128>::REACH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn agrees_with_a_set() {
        // A reference model: a set of what was seen, and the window's reach.
        let mut random = crate::crypto::Random::new([1; 32]);
        for round in 0..20 {
            let mut window = ReplayWindow::default();
            let mut seen = BTreeSet::new();
            let mut top = 0;
            for _ in 0..5_000 {
                let jump = random.u64() % (1 << (1 + round % 14));
                let counter =
                    if random.u64().is_multiple_of(3) { top + jump } else { top.saturating_sub(jump) };
                let expected = if seen.contains(&counter) {
                    Replay::Replayed
                } else if seen.last().is_none_or(|&last| counter > last) {
                    Replay::Newest
                } else if seen.last().is_some_and(|&last| last + 1 - counter > ReplayWindow::REACH) {
                    Replay::Replayed
                } else {
                    Replay::Late
                };
                assert_eq!(window.accept(counter), expected, "{counter} with top {top}");
                if expected != Replay::Replayed {
                    seen.insert(counter);
                    top = top.max(counter);
                }
            }
        }
    }

    #[test]
    fn ends_of_the_range() {
        let mut window = ReplayWindow::default();
        assert_eq!(window.accept(u64::MAX), Replay::Replayed);
        assert_eq!(window.accept(u64::MAX - 1), Replay::Newest);
        assert_eq!(window.accept(u64::MAX - 1), Replay::Replayed);
        assert_eq!(window.accept(0), Replay::Replayed);
        assert_eq!(window.accept(u64::MAX - 2), Replay::Late);
    }

    #[test]
    fn sequence_wraps() {
        let mut window = SequenceWindow::default();
        assert_eq!(window.accept(u32::MAX - 1), Replay::Newest);
        assert_eq!(window.accept(1), Replay::Newest);
        assert_eq!(window.accept(u32::MAX), Replay::Late);
        assert_eq!(window.accept(u32::MAX), Replay::Replayed);
        assert_eq!(window.accept(1), Replay::Replayed);
        assert_eq!(window.accept(2), Replay::Newest);
    }
}
