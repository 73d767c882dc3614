//! Ways in for the fuzzing targets of `tests/fuzz`: whatever is read from outside, from any bytes.

/// Names, records of keys, and what servers answer to changes.
pub fn dns(data: &[u8]) {
    crate::dns::fuzz(data);
}

/// What comes by multicast in a local network.
pub fn lan(data: &[u8]) {
    crate::lan::fuzz(data);
}
