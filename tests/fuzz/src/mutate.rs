//! Changes to inputs, from a seed: what they are is the same each time.

/// A small generator (SplitMix64): not for secrets.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a word.
    #[must_use]
    pub fn of(word: &str) -> Self {
        // FNV-1a
        let hash = word.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(hash)
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 where that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.draw() % end.max(1) as u64) as usize
    }
}

/// Values at the edges of what fields hold.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x45, 0x60, 0x20];

/// Changes an input a little: bits, bytes, numbers, pieces left out, put in, said twice, or taken from another input.
pub fn change(random: &mut Random, input: &mut Vec<u8>, others: &[Vec<u8>], words: &[&str], longest: usize) {
    for _ in 0..=random.below(5) {
        let length = input.len();
        let at = random.below(length);
        match random.below(10) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            1 => {
                let value = random.draw() as u8;
                if let Some(byte) = input.get_mut(at) {
                    *byte = value;
                }
            }
            2 => {
                let value = EDGES.get(random.below(EDGES.len())).copied().unwrap_or_default();
                let end = (at + 1 + random.below(8)).min(length);
                if let Some(bytes) = input.get_mut(at..end) {
                    bytes.fill(value);
                }
            }
            3 => {
                let by = random.below(35) as u8;
                if let Some(byte) = input.get_mut(at) {
                    *byte = if by < 17 { byte.wrapping_add(by) } else { byte.wrapping_sub(by - 17) };
                }
            }
            4 => {
                let end = (at + 1 + random.below(16)).min(length);
                input.drain(at..end);
            }
            5 => {
                let new: Vec<u8> = (0..=random.below(8)).map(|_| random.draw() as u8).collect();
                input.splice(at..at, new);
            }
            6 => {
                let end = (at + 1 + random.below(64)).min(length);
                let piece = input.get(at..end).unwrap_or_default().to_vec();
                let to = random.below(length);
                input.splice(to..to, piece);
            }
            7 => {
                let other = others.get(random.below(others.len())).cloned().unwrap_or_default();
                let from = random.below(other.len());
                let end = (from + 1 + random.below(128)).min(other.len());
                let piece = other.get(from..end).unwrap_or_default();
                let over = (at + if random.below(2) == 0 { 0 } else { piece.len() }).min(length);
                input.splice(at..over, piece.iter().copied());
            }
            8 if !words.is_empty() => {
                let word = words.get(random.below(words.len())).copied().unwrap_or_default();
                input.splice(at..at, word.bytes());
            }
            _ => input.truncate(at),
        }
        if input.is_empty() {
            input.push(random.draw() as u8);
        }
    }
    input.truncate(longest);
}
