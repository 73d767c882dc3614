//! Traffic between EIDs, and what became of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What an echo saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EchoReport {
    /// Requests sent.
    pub sent: u64,
    /// Answers received.
    pub received: u64,
    /// Requests and answers that came after one with a higher number.
    pub reordered: u64,
    /// The longest silence between two answers, or before the first.
    pub longest_gap: Duration,
}

/// A periodic echo from one host to another.
#[derive(Debug, Clone)]
pub(crate) struct Echo {
    pub interval: Duration,
    pub next: Instant,
    pub number: u64,
    pub since: Instant,
    pub last: Instant,
    pub report: EchoReport,
    answers: BTreeSet<u64>,
    requests: BTreeSet<u64>,
}

/// What a datagram between EIDs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Request,
    Answer,
    Segment,
    /// Of a segment: the number of the first that is missing in the upper half, and of one that came in the lower.
    Acknowledgement,
}

impl Role {
    const ALL: [Self; 4] = [Self::Request, Self::Answer, Self::Segment, Self::Acknowledgement];
}

/// The content of a datagram between EIDs: an IPv4 header as far as the protocol looks at it, and a number.
pub(crate) fn datagram(number: u64, role: Role, size: usize) -> Vec<u8> {
    let mut out = vec![0; size.max(40)];
    out[0] = 0x45;
    out[9] = 17;
    out[28] = role as u8;
    out[32..40].copy_from_slice(&number.to_be_bytes());
    for (i, byte) in out.iter_mut().enumerate().skip(40) {
        *byte = (number as u8).wrapping_add(i as u8);
    }
    out
}

/// Reads such a datagram back, and checks it.
pub(crate) fn read(bytes: &[u8]) -> (u64, Role) {
    let number = u64::from_be_bytes(bytes[32..40].try_into().expect("8 bytes"));
    let role = Role::ALL[usize::from(bytes[28])];
    assert_eq!(bytes, datagram(number, role, bytes.len()), "a datagram was changed on its way");
    (number, role)
}

impl Echo {
    pub fn new(now: Instant, interval: Duration) -> Self {
        Self {
            interval,
            next: now,
            number: 0,
            since: now,
            last: now,
            report: EchoReport::default(),
            answers: BTreeSet::new(),
            requests: BTreeSet::new(),
        }
    }

    pub fn request_arrived(&mut self, number: u64) {
        self.report.reordered += u64::from(self.requests.last().is_some_and(|last| *last > number));
        assert!(self.requests.insert(number), "request {number} was delivered twice");
    }

    pub fn answer_arrived(&mut self, now: Instant, number: u64) {
        self.report.reordered += u64::from(self.answers.last().is_some_and(|last| *last > number));
        assert!(self.answers.insert(number), "answer {number} was delivered twice");
        self.report.received += 1;
        self.report.longest_gap = self.report.longest_gap.max(now - self.last);
        self.last = now;
    }

    pub fn answered(&self, number: u64) -> bool {
        self.answers.contains(&number)
    }

    pub fn mark(&mut self, now: Instant) {
        self.report = EchoReport::default();
        self.last = now;
        self.since = now;
    }
}
