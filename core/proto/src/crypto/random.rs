//! Random values from a seed.

use ring::digest::{Context, SHA256};
use zeroize::Zeroize;

/// A deterministic generator: a secret state, of which SHA-256 makes each output and the next state.
///
/// The owner seeds it with 32 bytes from the operating system, or, in a simulation, with the simulation's seed.
/// The protocol has no other source of randomness. The state cannot be run backwards: who reads the memory later does not
/// learn what came out before, and so no key that was erased.
pub struct Random {
    state: [u8; 32],
}

impl Random {
    /// A generator from a seed.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { state: seed }
    }

    /// The next 32 bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        let of = |label: &[u8], state: &[u8; 32]| {
            let mut context = Context::new(&SHA256);
            context.update(label);
            context.update(state);
            let mut out = [0; 32];
            out.copy_from_slice(context.finish().as_ref());
            out
        };
        let out = of(b"MAST random", &self.state);
        let mut next = of(b"MAST state", &self.state);
        self.state.copy_from_slice(&next);
        next.zeroize();
        out
    }

    /// The next 64 bits.
    pub fn u64(&mut self) -> u64 {
        let mut bytes = self.bytes();
        let out = u64::from_be_bytes(std::array::from_fn(|i| bytes[i]));
        bytes.zeroize();
        out
    }
}

impl Drop for Random {
    fn drop(&mut self) {
        self.state.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing that came out before can be made of what there is afterwards: the state is another each time, and holds
    /// neither the seed nor an output.
    #[test]
    fn what_came_out_is_not_in_what_stays() {
        let seed = [7; 32];
        let mut random = Random::new(seed);
        let mut seen = std::collections::BTreeSet::from([seed]);
        for _ in 0..1_000 {
            let out = random.bytes();
            assert!(seen.insert(out) && seen.insert(random.state));
        }
        let mut again = Random::new(seed);
        assert!(seen.contains(&again.bytes()), "the same seed gives the same");
    }
}
