//! A buffer for what holds secrets: nothing of it is left in memory, neither where it was before it grew nor at its end.

use std::io::{self, Write};

use zeroize::Zeroizing;

/// How much room there is at first, in bytes.
const FIRST: usize = 4096;

/// Bytes that are wiped.
#[derive(Debug, Default)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// What was written to it.
    pub fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

impl Write for Secret {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.0.capacity()).max(FIRST)));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_written() {
        let mut secret = Secret::default();
        let text: Vec<u8> = (0..3 * FIRST).map(|n| n as u8).collect();
        for part in text.chunks(7) {
            secret.write_all(part).unwrap();
        }
        assert_eq!(*secret.into_bytes(), text);
    }
}
