//! What was sent lately and not yet confirmed by a report.
//!
//! A path that dies takes with it what was on its way. A transport would find out by its own timers, one lost
//! segment after the other; so the sender keeps what it sent until a report confirms it, and sends the rest again
//! over the path that takes over. The receiver drops what it has. Everything is bounded: datagrams, bytes, age.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::wire::{Epoch, PathId};

/// A datagram that was sent.
#[derive(Debug)]
pub struct Sent {
    /// Over which path.
    pub path: PathId,
    /// Sealed with which epoch's keys.
    pub epoch: Epoch,
    /// Under which counter of path and epoch.
    pub counter: u64,
    /// Under which number of the context: what the receiver knows it by.
    pub sequence: u32,
    /// When.
    pub at: Instant,
    /// The IP datagram.
    pub datagram: Vec<u8>,
}

/// The datagrams sent last, oldest first.
#[derive(Debug, Default)]
pub struct Recent {
    sent: VecDeque<Sent>,
    bytes: usize,
    /// Buffers to be used again, so that nothing is allocated for a datagram under load.
    spare: Vec<Vec<u8>>,
}

impl Recent {
    /// The most datagrams: well within the receiver's window of 8,128, as new ones go out meanwhile.
    pub const DATAGRAMS: usize = 4096;
    /// The most bytes: 160 Mbit/s for 100 ms.
    pub const BYTES: usize = 2 * 1024 * 1024;
    /// A path that carries data is confirmed at least once a second, by the answer to a PROBE.
    pub const AGE: Duration = Duration::from_secs(3);
    const SPARE: usize = 64;

    /// Keeps a datagram that was sent; the oldest give way.
    pub fn push(
        &mut self,
        at: Instant,
        path: PathId,
        (epoch, counter): (Epoch, u64),
        sequence: u32,
        datagram: &[u8],
    ) {
        while self.sent.len() >= Self::DATAGRAMS || self.bytes + datagram.len() > Self::BYTES {
            if !self.forget_oldest() {
                return;
            }
        }
        while self.sent.front().is_some_and(|s| at.saturating_duration_since(s.at) > Self::AGE) {
            self.forget_oldest();
        }
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.extend_from_slice(datagram);
        self.bytes += copy.len();
        self.sent.push_back(Sent { path, epoch, counter, sequence, at, datagram: copy });
    }

    /// A report says that everything up to `highest` had its chance to arrive over a path. What is missing below that
    /// was lost on a path that lives, which is the transport's business.
    pub fn confirm(&mut self, path: PathId, epoch: Epoch, highest: u64) {
        let done = |s: &Sent| s.path == path && s.epoch == epoch && s.counter <= highest;
        while self.sent.front().is_some_and(done) {
            self.forget_oldest();
        }
    }

    /// Takes what was sent over these paths, oldest first.
    pub fn take(&mut self, mut lost: impl FnMut(&Sent) -> bool) -> Vec<Sent> {
        let mut taken = Vec::new();
        let mut kept = VecDeque::new();
        for sent in self.sent.drain(..) {
            if lost(&sent) {
                self.bytes -= sent.datagram.len();
                taken.push(sent);
            } else {
                kept.push_back(sent);
            }
        }
        self.sent = kept;
        taken
    }

    /// Gives the room back when there is no traffic.
    pub fn rest(&mut self) {
        self.spare = Vec::new();
        self.sent.shrink_to_fit();
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Bytes kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn forget_oldest(&mut self) -> bool {
        let Some(mut sent) = self.sent.pop_front() else { return false };
        self.bytes -= sent.datagram.len();
        if self.spare.len() < Self::SPARE {
            sent.datagram.clear();
            self.spare.push(sent.datagram);
        }
        true
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

    #[test]
    fn keeps_what_no_report_confirmed() {
        let now = Instant::now();
        let mut recent = Recent::default();
        for n in 0..10 {
            let path = if n < 6 { A } else { B };
            recent.push(now, path, (EPOCH, u64::from(n)), n, &[0; 100]);
        }
        recent.confirm(A, EPOCH, 3);
        recent.confirm(A, Epoch(2), 5);
        assert_eq!(sequences(&mut recent, A), [4, 5]);
        assert_eq!(recent.bytes(), 400);
        recent.confirm(B, EPOCH, 100);
        assert!(recent.is_empty() && recent.bytes() == 0);
    }

    #[test]
    fn stays_within_its_bounds() {
        let now = Instant::now();
        let mut recent = Recent::default();
        for n in 0..10_000_u32 {
            recent.push(now, A, (EPOCH, u64::from(n)), n, &vec![0; (n % 1400) as usize]);
            assert!(recent.bytes() <= Recent::BYTES && recent.sent.len() <= Recent::DATAGRAMS);
        }
        recent.push(now, A, (EPOCH, 10_000), 10_000, &vec![0; Recent::BYTES + 1]);
        assert!(recent.is_empty());
        recent.push(now, A, (EPOCH, 1), 1, &[1]);
        recent.push(now + Recent::AGE * 2, A, (EPOCH, 2), 2, &[2]);
        assert_eq!(sequences(&mut recent, A), [2]);
    }
}
