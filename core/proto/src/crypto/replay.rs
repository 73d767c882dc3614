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

/// A sliding window of `WORDS` times 64 numbers, of which all but the oldest 64 are sure. `WORDS` is a power of two.
///
/// It takes as much memory as the numbers seen need: a few bytes where they come in order or seldom.
#[derive(Debug, Clone, Default)]
pub struct Window<const WORDS: usize> {
    next: u64,
    /// Whatever is below counts as seen.
    floor: u64,
    /// The first word that is kept; those before it that are within reach hold nothing.
    low: u64,
    /// The words from `low` to the newest, each at its number modulo the length, which is a power of two or zero.
    words: Vec<u64>,
}

impl<const WORDS: usize> Window<WORDS> {
    const REACH: u64 = WORDS as u64 * 64 - 64;

    /// What accepting `counter` would say. Changes nothing: call it before the datagram is authenticated.
    pub fn check(&self, counter: u64) -> Replay {
        if counter >= self.next {
            // The highest value is refused so that `next` cannot overflow.
            return if counter == u64::MAX { Replay::Replayed } else { Replay::Newest };
        }
        if counter < self.floor || self.next - counter > Self::REACH {
            return Replay::Replayed;
        }
        let (number, bit) = (counter / 64, 1 << (counter % 64));
        let word =
            if number < self.low { 0 } else { self.words.get(self.place(number)).copied().unwrap_or(0) };
        if word & bit == 0 { Replay::Late } else { Replay::Replayed }
    }

    /// Marks `counter` as seen, and says what it was. Call it once the datagram is authenticated.
    pub fn accept(&mut self, counter: u64) -> Replay {
        let verdict = self.check(counter);
        let number = counter / 64;
        match verdict {
            Replay::Replayed => return verdict,
            Replay::Late => self.cover(number.min(self.low)),
            Replay::Newest => {
                self.slide(number);
                self.next = counter + 1;
            }
        }
        let at = self.place(number);
        if let Some(word) = self.words.get_mut(at) {
            *word |= 1 << (counter % 64);
        }
        verdict
    }

    /// Gives memory back: whatever is below the newest counts as seen from now on. For when nothing that was sent
    /// before it can be on its way any more.
    pub fn rest(&mut self) {
        if self.words.len() > 1 {
            self.floor = self.next;
            self.words = Vec::new();
        }
    }

    /// The highest counter seen, if any was.
    pub fn highest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// Makes the word of this number the newest; words that the window slides over are forgotten.
    fn slide(&mut self, number: u64) {
        let newest = self.next.saturating_sub(1) / 64;
        let oldest = (number + 1).saturating_sub(WORDS as u64);
        if self.words.is_empty() || newest < oldest {
            self.low = number;
            self.words.clear();
            self.words.resize(1, 0);
            return;
        }
        self.low = self.low.max(oldest);
        self.grow(newest, number - self.low + 1);
        for number in newest + 1..=number {
            let at = self.place(number);
            if let Some(word) = self.words.get_mut(at) {
                *word = 0;
            }
        }
    }

    /// Keeps the words from this one on.
    fn cover(&mut self, low: u64) {
        let newest = self.next.saturating_sub(1) / 64;
        self.grow(newest, newest - low + 1);
        for number in low..self.low {
            let at = self.place(number);
            if let Some(word) = self.words.get_mut(at) {
                *word = 0;
            }
        }
        self.low = low;
    }

    /// Makes room for so many words.
    fn grow(&mut self, newest: u64, count: u64) {
        if count <= self.words.len() as u64 {
            return;
        }
        let mut words = vec![0; (count as usize).next_power_of_two()];
        let length = words.len() as u64;
        for number in self.low..=newest {
            let word = self.words.get(self.place(number)).copied().unwrap_or(0);
            if let Some(place) = words.get_mut((number % length) as usize) {
                *place = word;
            }
        }
        self.words = words;
    }

    fn place(&self, number: u64) -> usize {
        (number & (self.words.len() as u64).saturating_sub(1)) as usize
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

    /// [`Window::rest`].
    pub fn rest(&mut self) {
        self.window.rest();
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
    fn takes_memory_as_needed_and_gives_it_back() {
        let mut window = ReplayWindow::default();
        for counter in 1_000..1_064 {
            assert_eq!(window.accept(counter), Replay::Newest);
        }
        assert!(window.words.len() <= 2);
        assert_eq!(window.accept(10), Replay::Late);
        assert_eq!([window.accept(10), window.accept(1_063)], [Replay::Replayed; 2]);
        for counter in 1_064..20_000 {
            window.accept(counter);
        }
        assert_eq!(window.words.len(), 32);
        window.rest();
        assert!(window.words.is_empty());
        assert_eq!(window.highest(), Some(19_999));
        assert_eq!([19_999, 19_998, 18_100, 0].map(|c| window.accept(c)), [Replay::Replayed; 4]);
        assert_eq!([20_001, 20_000].map(|c| window.accept(c)), [Replay::Newest, Replay::Late]);
        assert_eq!([20_001, 20_000, 19_999].map(|c| window.accept(c)), [Replay::Replayed; 3]);
        assert_eq!(window.words.len(), 1);
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
