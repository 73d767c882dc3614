//! Random values from a seed.

use ring::digest::{Context, SHA256};
use zeroize::Zeroize;

/// A deterministic generator: SHA-256 of a secret seed and a counter.
///
/// The owner seeds it with 32 bytes from the operating system, or, in a simulation, with the simulation's seed.
/// The protocol has no other source of randomness.
pub struct Random {
    seed: [u8; 32],
    counter: u64,
}

impl Random {
    /// A generator from a seed.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    /// The next 32 bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        context.update(b"MAST random");
        context.update(&self.seed);
        context.update(&self.counter.to_be_bytes());
        self.counter = self.counter.wrapping_add(1);
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        out
    }

    /// The next 64 bits.
    pub fn u64(&mut self) -> u64 {
        let bytes = self.bytes();
        u64::from_be_bytes(std::array::from_fn(|i| bytes[i]))
    }
}

impl Drop for Random {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}
