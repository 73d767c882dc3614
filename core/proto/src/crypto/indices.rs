//! Context indices: they tell the receiver which of its contexts a datagram is of, and an observer nothing.
//!
//! A host hands out many for each context, and the other end uses one for each path, so that who watches two networks does
//! not see that two paths are of one context. A table of all of them would grow with each epoch; instead an index *is* the
//! number of its context and a count, encrypted with a key that the host draws at its start and tells nobody. The other
//! end cannot tell, and need not.

use std::sync::Arc;

use ring::aead::quic::{AES_128, HeaderProtectionKey};

use crate::wire::ContextIndex;

/// Makes the indices of one host, and reads them.
///
/// 32 bits are encrypted by a Feistel network of eight rounds with AES-128 as its function: the construction of NIST SP
/// 800-38G. Whoever could undo it would learn which paths are of one context, and nothing else: what a datagram holds, and
/// whether it is accepted, does not depend on it.
#[derive(Clone)]
pub struct IndexKey(Arc<HeaderProtectionKey>);

impl std::fmt::Debug for IndexKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IndexKey")
    }
}

impl IndexKey {
    /// So many contexts a host can tell apart.
    pub const CONTEXTS: u32 = 1 << (32 - Self::COUNT_BITS);
    /// The others count what was handed out: a context repeats itself after 16,384, a thousand epochs.
    const COUNT_BITS: u32 = 14;
    const ROUNDS: u8 = 8;

    /// A key from 32 random bytes.
    pub fn new(seed: [u8; 32]) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&seed[..16]);
        #[allow(clippy::expect_used, reason = "the length is that of the algorithm's keys")]
        Self(Arc::new(HeaderProtectionKey::new(&AES_128, &key).expect("16 bytes are a key")))
    }

    /// Which context an index is of; where this host never handed it out, any.
    pub fn context(&self, index: ContextIndex) -> u32 {
        let (mut left, mut right) = halves(index.0);
        for round in (0..Self::ROUNDS).rev() {
            (left, right) = (right ^ self.function(round, left), left);
        }
        joined(left, right) >> Self::COUNT_BITS
    }

    /// The indices of a context, by a number below [`Self::CONTEXTS`] that no other context of this host has.
    pub fn indices(&self, context: u32) -> Indices {
        Indices { key: self.clone(), context, count: 0 }
    }

    fn index(&self, context: u32, count: u16) -> ContextIndex {
        let count = u32::from(count) & ((1 << Self::COUNT_BITS) - 1);
        let (mut left, mut right) = halves(context << Self::COUNT_BITS | count);
        for round in 0..Self::ROUNDS {
            (left, right) = (right, left ^ self.function(round, right));
        }
        ContextIndex(joined(left, right))
    }

    fn function(&self, round: u8, half: u16) -> u16 {
        let [high, low] = half.to_be_bytes();
        let mut block = [0; 16];
        (block[0], block[1], block[2]) = (round, high, low);
        // It fails for a block of another length only.
        self.0.new_mask(&block).map_or(0, |mask| u16::from_be_bytes([mask[0], mask[1]]))
    }
}

fn halves(whole: u32) -> (u16, u16) {
    ((whole >> 16) as u16, whole as u16)
}

fn joined(left: u16, right: u16) -> u32 {
    u32::from(left) << 16 | u32::from(right)
}

/// The indices of one context.
#[derive(Debug, Clone)]
pub struct Indices {
    key: IndexKey,
    context: u32,
    count: u16,
}

impl Indices {
    /// One that was not handed out before; never zero, which stands for none.
    pub fn draw(&mut self) -> ContextIndex {
        loop {
            let index = self.key.index(self.context, self.count);
            self.count = self.count.wrapping_add(1);
            if index.0 != 0 {
                return index;
            }
        }
    }

    /// The number of the context that they are of.
    pub fn context(&self) -> u32 {
        self.context
    }

    /// Whether an index is one of them.
    pub fn has(&self, index: ContextIndex) -> bool {
        self.key.context(index) == self.context
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_is_drawn_once_and_leads_to_its_context() {
        let key = IndexKey::new([7; 32]);
        let mut seen = BTreeSet::new();
        for context in [0, 1, 2, 1_000, IndexKey::CONTEXTS - 1] {
            let mut indices = key.indices(context);
            for _ in 0..5_000 {
                let index = indices.draw();
                assert!(index.0 != 0 && seen.insert(index), "{index:?} comes twice");
                assert_eq!(key.context(index), context);
                assert!(indices.has(index));
            }
        }
        assert!(!key.indices(3).has(key.indices(2).draw()));
    }

    /// An observer without the key finds no order in them: half of the bits differ from one to the next, each about as often
    /// as any other, and another host's key makes others of the same numbers.
    #[test]
    fn they_tell_an_observer_nothing() {
        let mut indices = IndexKey::new([8; 32]).indices(1);
        let mut changed = [0_u32; 32];
        let mut before = indices.draw().0;
        for _ in 0..4_000 {
            let index = indices.draw().0;
            for (bit, times) in changed.iter_mut().enumerate() {
                *times += (before ^ index) >> bit & 1;
            }
            before = index;
        }
        assert!(changed.iter().all(|times| (1_800..2_200).contains(times)), "{changed:?}");
        assert_ne!(IndexKey::new([8; 32]).indices(1).draw(), IndexKey::new([9; 32]).indices(1).draw());
    }
}
