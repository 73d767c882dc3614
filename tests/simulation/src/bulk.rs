//! A transport that sends as much as it can: window, selective acknowledgements and growth like TCP's cubic.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// What became of a bulk transfer since it was begun or marked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BulkReport {
    /// Bytes of IP datagrams that arrived for the first time.
    pub bytes: u64,
    /// Segments that arrived after one with a higher number.
    pub reordered: u64,
    /// Segments that the sender held to be lost.
    pub retransmitted: u64,
    /// Times that the sender waited in vain for any acknowledgement.
    pub timeouts: u64,
    /// The longest time in which nothing arrived.
    pub longest_gap: Duration,
}

/// Both ends of one transfer.
#[derive(Debug, Clone)]
pub(crate) struct Bulk {
    window: f64,
    threshold: f64,
    /// Cubic's memory of the window at the last loss, and when that was.
    most: f64,
    epoch: Option<Instant>,
    next: u64,
    /// What is under way: when it was sent, and whether for the first time.
    flight: BTreeMap<u64, (Instant, bool)>,
    resend: BTreeSet<u64>,
    highest: u64,
    /// Until this is acknowledged, losses are of one event.
    recovery: u64,
    rtt: Duration,
    heard: Instant,
    /// At the receiver: everything below has arrived; and what arrived above.
    complete: u64,
    above: BTreeSet<u64>,
    top: u64,
    last: Instant,
    pub report: BulkReport,
}

impl Bulk {
    /// Segments that duplicate acknowledgements must pass before one counts as lost, as in TCP.
    const DUPLICATES: u64 = 3;
    const BETA: f64 = 0.7;
    const C: f64 = 0.4;
    /// What the other end's buffer takes, in segments: 6 MB.
    const MOST: f64 = 4_300.0;

    pub fn new(now: Instant) -> Self {
        Self {
            window: 10.0,
            threshold: f64::MAX,
            most: 0.0,
            epoch: None,
            next: 0,
            flight: BTreeMap::new(),
            resend: BTreeSet::new(),
            highest: 0,
            recovery: 0,
            rtt: Duration::from_millis(100),
            heard: now,
            complete: 0,
            above: BTreeSet::new(),
            top: 0,
            last: now,
            report: BulkReport::default(),
        }
    }

    pub fn mark(&mut self, now: Instant) {
        self.report = BulkReport::default();
        self.last = now;
    }

    /// The next segment to send, if the window has room.
    pub fn send(&mut self, now: Instant) -> Option<u64> {
        if self.flight.len() as f64 >= self.window.min(Self::MOST) {
            return None;
        }
        let (number, first) = match self.resend.pop_first() {
            Some(number) => (number, false),
            None => {
                self.next += 1;
                (self.next - 1, true)
            }
        };
        if self.flight.is_empty() {
            self.heard = now;
        }
        self.flight.insert(number, (now, first));
        Some(number)
    }

    /// A segment arrives; what the acknowledgement says: everything below the first, and the second.
    pub fn arrive(&mut self, now: Instant, number: u64, size: usize) -> (u64, u64) {
        if number >= self.complete && self.above.insert(number) {
            self.report.bytes += size as u64;
            self.report.reordered += u64::from(number < self.top);
            self.report.longest_gap = self.report.longest_gap.max(now - self.last);
            self.last = now;
            self.top = self.top.max(number);
            while self.above.remove(&self.complete) {
                self.complete += 1;
            }
        }
        (self.complete, number)
    }

    /// An acknowledgement arrives.
    pub fn acknowledge(&mut self, now: Instant, complete: u64, number: u64) {
        self.heard = now;
        let mut fresh = 0;
        if let Some((sent, first)) = self.flight.remove(&number) {
            if first {
                self.rtt = (self.rtt * 7 + (now - sent)) / 8;
            }
            fresh += 1;
        }
        self.resend.remove(&number);
        let rest = self.flight.split_off(&complete);
        fresh += self.flight.len();
        self.flight = rest;
        self.resend = self.resend.split_off(&complete);
        self.highest = self.highest.max(number);
        // What was sent before what has arrived, by more than the network reorders, is lost. A second loss of the
        // same segment shows by time.
        let rtt = self.rtt;
        let lost: Vec<u64> = self
            .flight
            .iter()
            .filter(|(n, (sent, first))| {
                **n + Self::DUPLICATES <= self.highest && (*first || now - *sent > rtt * 3 / 2)
            })
            .map(|(n, _)| *n)
            .collect();
        for number in lost {
            self.flight.remove(&number);
            self.resend.insert(number);
            self.report.retransmitted += 1;
            if number >= self.recovery {
                self.recovery = self.next;
                self.most = self.window;
                self.window = (self.window * Self::BETA).max(2.0);
                self.threshold = self.window;
                self.epoch = None;
            }
        }
        if complete >= self.recovery || self.window < self.threshold {
            for _ in 0..fresh {
                self.grow(now);
            }
        }
    }

    fn grow(&mut self, now: Instant) {
        if self.window < self.threshold {
            self.window += 1.0;
            return;
        }
        let since = *self.epoch.get_or_insert(now);
        let k = (self.most * (1.0 - Self::BETA) / Self::C).cbrt();
        let t = (now - since + self.rtt).as_secs_f64();
        let target = (Self::C * (t - k).powi(3) + self.most).min(self.window * 1.5);
        self.window += (target - self.window).max(0.01) / self.window;
    }

    /// When the sender stops waiting for acknowledgements.
    pub fn timeout(&self) -> Option<Instant> {
        let patience = (self.rtt * 2).max(Duration::from_millis(300));
        (!self.flight.is_empty()).then(|| self.heard + patience)
    }

    pub fn expire(&mut self, now: Instant) {
        self.report.timeouts += 1;
        self.heard = now;
        self.resend.extend(std::mem::take(&mut self.flight).into_keys());
        self.recovery = self.next;
        self.most = self.window;
        self.threshold = (self.window * Self::BETA).max(2.0);
        self.window = 2.0;
        self.epoch = None;
    }
}
