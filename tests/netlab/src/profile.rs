//! What a link does to packets, and what it has done.

use std::time::Duration;

/// How a link treats packets, in each direction.
///
/// ARP and IPv6 neighbour discovery are neither delayed nor lost at random: a link stands for a whole
/// access path, of which only the first hop resolves addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkProfile {
    /// The delay in one direction.
    pub delay: Duration,
    /// Up to this much is added to the delay of each packet, uniformly distributed; order is kept.
    pub jitter: Duration,
    /// The probability that a packet is lost, from 0 to 1.
    pub loss: f64,
    /// The rate in bits per second, counting Ethernet frames without preamble; none is unlimited.
    pub rate_bps: Option<u64>,
    /// How many bytes may wait for a limited rate; packets beyond that are dropped.
    pub queue_bytes: usize,
    /// IP packets longer than this vanish without an ICMP message.
    pub max_packet: Option<usize>,
}

impl Default for LinkProfile {
    /// An instant, perfect link.
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            rate_bps: None,
            queue_bytes: 256 * 1024,
            max_packet: None,
        }
    }
}

impl LinkProfile {
    /// A perfect link with a delay in each direction.
    pub fn delay(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// The same with a random loss from 0 to 1.
    pub fn with_loss(self, loss: f64) -> Self {
        Self { loss, ..self }
    }

    /// The same with a jitter.
    pub fn with_jitter(self, jitter: Duration) -> Self {
        Self { jitter, ..self }
    }

    /// The same with a rate in bits per second and a queue in front of it.
    pub fn with_rate(self, rate_bps: u64, queue_bytes: usize) -> Self {
        Self { rate_bps: Some(rate_bps), queue_bytes, ..self }
    }
}

/// Counts of one direction of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectionStats {
    /// Packets delivered.
    pub packets: u64,
    /// Bytes delivered, counting whole Ethernet frames.
    pub bytes: u64,
    /// Packets lost at random.
    pub lost: u64,
    /// Packets dropped because the queue was full.
    pub queue_full: u64,
    /// Packets discarded while the direction was told to drop.
    pub discarded: u64,
    /// Packets that were too long, or for an end that was down.
    pub undeliverable: u64,
    /// Packets the emulator itself failed to read in time; a measurement with any is not to be trusted.
    pub overrun: u64,
}

impl DirectionStats {
    /// All packets that did not arrive.
    pub fn dropped(&self) -> u64 {
        self.lost + self.queue_full + self.discarded + self.undeliverable + self.overrun
    }
}

/// Counts of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// From the first end to the second.
    pub a_to_b: DirectionStats,
    /// From the second end to the first.
    pub b_to_a: DirectionStats,
}
