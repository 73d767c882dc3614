//! The last lines of the log, for those who cannot read the system's.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// The most lines.
const LINES: usize = 1000;
/// A longer line is cut off, in bytes.
const LENGTH: usize = 2000;

static RING: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// The last lines, oldest first.
pub(crate) fn lines() -> Vec<String> {
    RING.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

/// Writes to the ring; the formatter hands over a line at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ring;

impl Write for Ring {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let shown = String::from_utf8_lossy(line.get(..LENGTH).unwrap_or(line)).trim_end().to_owned();
        let mut ring = RING.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() >= LINES {
            ring.pop_front();
        }
        ring.push_back(shown);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Ring {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_lines_and_not_more_of_them_than_fit() {
        for n in 0..LINES + 10 {
            Ring.write_all(format!("line {n}\n").as_bytes()).unwrap();
        }
        Ring.write_all(&[b'x'; 10_000]).unwrap();
        let lines = lines();
        assert_eq!((lines.len(), lines[LINES - 2].as_str()), (LINES, "line 1009"));
        assert_eq!(lines[LINES - 1].len(), LENGTH);
    }
}
