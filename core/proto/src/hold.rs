//! What is held while no path works.
//!
//! A transport that sends into a void backs off: TCP would sit out 11 s after an outage of 20 s. So the newest
//! datagrams of each flow are kept and go out with the first path that works; the other end answers at once, and
//! the transport resumes. Everything is bounded: flows, datagrams and bytes of a flow, bytes in all, age.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::recent::Past;
use crate::wire::Flags;

/// Bounds of a [`Hold`].
#[derive(Debug, Clone, Copy)]
pub struct HoldLimits {
    /// The most flows; the one that was silent longest gives way.
    pub flows: usize,
    /// The most datagrams of one flow; the oldest give way.
    pub per_flow: usize,
    /// The most bytes in all; the oldest datagrams give way.
    pub bytes: usize,
    /// Older datagrams of TCP are dropped: longer than its longest pause between retransmissions (120 s).
    pub tcp_age: Duration,
    /// Older datagrams of anything else are dropped: a call does not want the sound of a minute ago.
    pub other_age: Duration,
}

impl Default for HoldLimits {
    fn default() -> Self {
        Self {
            flows: 64,
            per_flow: 64,
            bytes: 512 * 1024,
            tcp_age: Duration::from_secs(150),
            other_age: Duration::from_secs(3),
        }
    }
}

/// Holds the newest datagrams of each flow.
#[derive(Debug, Default)]
pub struct Hold {
    limits: HoldLimits,
    /// TCP's datagrams and the others', which age differently, each by their number in order of arrival.
    classes: [BTreeMap<u64, Held>; 2],
    /// The numbers of each flow's datagrams, oldest first. Never empty.
    flows: BTreeMap<Flow, VecDeque<u64>>,
    next: u64,
    bytes: usize,
    dropped: u64,
}

#[derive(Debug)]
struct Held {
    at: Instant,
    flow: Flow,
    /// The sequence number under which it was sent before, if it was.
    sequence: Option<u32>,
    flags: Flags,
    /// It went again because the other end said so.
    on_word: bool,
    datagram: Vec<u8>,
}

/// A datagram that was held, and has its turn.
#[derive(Debug, PartialEq, Eq)]
pub struct Released {
    /// The IP datagram.
    pub datagram: Vec<u8>,
    /// How the receiver shall treat it.
    pub flags: Flags,
    /// The sequence number under which it was sent before, if it was.
    pub sequence: Option<u32>,
    /// When it came from the host or was sent first, and whether it went again because the other end said so.
    pub past: Past,
}

/// Protocol, addresses and ports of a datagram, as far as it has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Flow {
    protocol: u8,
    addresses: [u8; 32],
    ports: [u8; 4],
}

impl Flow {
    const TCP: u8 = 6;
    const UDP: u8 = 17;

    /// Of the two classes that age differently.
    fn class(&self) -> usize {
        usize::from(self.protocol != Self::TCP)
    }

    fn of(datagram: &[u8]) -> Self {
        let mut flow = Self { protocol: 0, addresses: [0; 32], ports: [0; 4] };
        let (protocol, addresses, transport) = match datagram.first().map(|b| b >> 4) {
            Some(4) => {
                let length = usize::from(datagram[0] & 15) * 4;
                (datagram.get(9), datagram.get(12..20), datagram.get(length..))
            }
            Some(6) => (datagram.get(6), datagram.get(8..40), datagram.get(40..)),
            _ => (None, None, None),
        };
        flow.protocol = protocol.copied().unwrap_or(0);
        if let Some(addresses) = addresses {
            flow.addresses[..addresses.len()].copy_from_slice(addresses);
        }
        if let (Self::TCP | Self::UDP, Some(ports)) = (flow.protocol, transport.and_then(|t| t.first_chunk()))
        {
            flow.ports = *ports;
        }
        flow
    }
}

impl Hold {
    /// An empty hold with bounds of its own.
    pub fn new(limits: HoldLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Keeps a datagram.
    pub fn push(&mut self, now: Instant, flags: Flags, datagram: &[u8]) {
        self.expire(now);
        self.keep((Past::new(now), None, flags), datagram);
    }

    /// Keeps a datagram that was sent into a silence under this sequence number, and may not have arrived.
    pub fn push_sent(&mut self, now: Instant, (sequence, flags): (u32, Flags), past: Past, datagram: &[u8]) {
        self.expire(now);
        self.keep((past, Some(sequence), flags), datagram);
    }

    /// Takes over everything that another holds, as newer than what is held here. `on_word` tells that it goes again because
    /// the other end says so; then what went again for that before is given up.
    pub fn append(&mut self, other: &mut Self, on_word: bool) {
        while let Some(held) = other.oldest().and_then(|n| other.remove(n)) {
            if on_word && held.on_word {
                self.dropped += 1;
                continue;
            }
            let past = Past { first: held.at, on_word: held.on_word || on_word };
            self.keep((past, held.sequence, held.flags), &held.datagram);
        }
    }

    /// Forgets what was sent before: the other end can no longer tell whether it has it.
    pub fn forget_sent(&mut self) {
        let sent = |c: &BTreeMap<u64, Held>| -> Vec<u64> {
            c.iter().filter(|(_, held)| held.sequence.is_some()).map(|(number, _)| *number).collect()
        };
        for number in self.classes.iter().flat_map(sent).collect::<Vec<_>>() {
            self.give_up(Some(number));
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.classes = Default::default();
        self.flows.clear();
        self.bytes = 0;
    }

    /// Gives room back while nothing is held.
    pub fn rest(&mut self) {
        if self.is_empty() {
            self.classes = Default::default();
            self.flows = BTreeMap::new();
        }
    }

    fn keep(&mut self, (past, sequence, flags): (Past, Option<u32>, Flags), datagram: &[u8]) {
        if datagram.len() > self.limits.bytes {
            self.dropped += 1;
            return;
        }
        let flow = Flow::of(datagram);
        match self.flows.get(&flow) {
            Some(numbers) if numbers.len() >= self.limits.per_flow => self.give_up(numbers.front().copied()),
            Some(_) => {}
            None if self.flows.len() >= self.limits.flows => self.give_up_quietest(),
            None => {}
        }
        while self.bytes + datagram.len() > self.limits.bytes {
            self.give_up(self.oldest());
        }
        let number = self.next;
        self.next += 1;
        self.bytes += datagram.len();
        self.flows.entry(flow).or_default().push_back(number);
        self.classes[flow.class()].insert(
            number,
            Held {
                at: past.first,
                flow,
                sequence,
                flags,
                on_word: past.on_word,
                datagram: datagram.to_vec(),
            },
        );
    }

    /// Takes the oldest datagram.
    pub fn pop(&mut self, now: Instant) -> Option<Released> {
        self.expire(now);
        let Held { at, sequence, flags, on_word, datagram, .. } = self.remove(self.oldest()?)?;
        Some(Released { datagram, flags, sequence, past: Past { first: at, on_word } })
    }

    /// The length of the oldest datagram in bytes.
    pub fn next_len(&mut self, now: Instant) -> Option<usize> {
        self.expire(now);
        let oldest = self.oldest()?;
        self.classes.iter().find_map(|c| c.get(&oldest)).map(|held| held.datagram.len())
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Its bounds.
    pub fn limits(&self) -> HoldLimits {
        self.limits
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Datagrams that gave way or grew too old.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn oldest(&self) -> Option<u64> {
        self.classes.iter().filter_map(|c| c.keys().next().copied()).min()
    }

    fn expire(&mut self, now: Instant) {
        for (class, most) in [self.limits.tcp_age, self.limits.other_age].into_iter().enumerate() {
            while let Some((&number, _)) = self.classes[class]
                .first_key_value()
                .filter(|(_, held)| now.saturating_duration_since(held.at) > most)
            {
                self.give_up(Some(number));
            }
        }
    }

    /// Gives up the flow that was silent longest.
    fn give_up_quietest(&mut self) {
        let quietest =
            self.flows.iter().min_by_key(|(_, numbers)| numbers.back().copied()).map(|(flow, _)| *flow);
        while let Some(&number) = quietest.and_then(|flow| self.flows.get(&flow)?.front()) {
            self.give_up(Some(number));
        }
    }

    fn give_up(&mut self, number: Option<u64>) {
        if number.and_then(|n| self.remove(n)).is_some() {
            self.dropped += 1;
        }
    }

    fn remove(&mut self, number: u64) -> Option<Held> {
        let held = self.classes.iter_mut().find_map(|c| c.remove(&number))?;
        self.bytes -= held.datagram.len();
        if let Some(numbers) = self.flows.get_mut(&held.flow) {
            // Nearly always the first one.
            numbers.retain(|n| *n != number);
            if numbers.is_empty() {
                self.flows.remove(&held.flow);
            }
        }
        Some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(protocol: u8, port: u16, mark: u8, length: usize) -> Vec<u8> {
        let mut d = vec![0; length.max(29)];
        d[0] = 0x45;
        d[9] = protocol;
        d[20..22].copy_from_slice(&port.to_be_bytes());
        d[28] = mark;
        d
    }

    #[test]
    fn keeps_the_newest_of_each_flow() {
        let now = Instant::now();
        let mut hold = Hold::new(HoldLimits { per_flow: 2, ..HoldLimits::default() });
        for mark in 0..5 {
            hold.push(now, Flags::NONE, &datagram(6, 1, mark, 40));
        }
        hold.push(now, Flags::NONE, &datagram(6, 2, 9, 40));
        let marks: Vec<_> = std::iter::from_fn(|| hold.pop(now)).map(|r| r.datagram[28]).collect();
        assert_eq!(marks, [3, 4, 9]);
        assert_eq!(hold.dropped(), 3);
        assert_eq!(hold.bytes(), 0);
    }

    #[test]
    fn ages_by_protocol() {
        let now = Instant::now();
        let mut hold = Hold::default();
        hold.push(now, Flags::NONE, &datagram(6, 1, 1, 40));
        hold.push(now, Flags::NONE, &datagram(17, 1, 2, 40));
        let later = now + Duration::from_secs(120);
        assert_eq!(hold.pop(later).map(|r| r.datagram[28]), Some(1));
        assert_eq!(hold.pop(later), None);
    }

    #[test]
    fn takes_what_just_fits_and_refuses_what_never_does() {
        let now = Instant::now();
        let mut hold = Hold::new(HoldLimits { bytes: 500, ..HoldLimits::default() });
        hold.push(now, Flags::NONE, &datagram(17, 1, 1, 500));
        assert_eq!((hold.bytes(), hold.dropped()), (500, 0));
        hold.push(now, Flags::NONE, &datagram(17, 1, 2, 501));
        assert_eq!((hold.bytes(), hold.dropped()), (500, 1), "and what is there stays");
        hold.push(now, Flags::NONE, &datagram(17, 2, 3, 100));
        assert_eq!(std::iter::from_fn(|| hold.pop(now)).map(|r| r.datagram[28]).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn stays_within_its_bounds() {
        let now = Instant::now();
        let limits = HoldLimits { flows: 4, bytes: 10_000, ..HoldLimits::default() };
        let mut hold = Hold::new(limits);
        for i in 0..2_000_u16 {
            hold.push(now, Flags::NONE, &datagram(17, i % 50, 0, usize::from(i % 1400)));
            assert!(hold.bytes() <= limits.bytes);
        }
        hold.push(now, Flags::NONE, &vec![0x45; 20_000]);
        assert!(hold.flows.len() <= 4);
        assert_eq!(
            hold.classes.iter().map(BTreeMap::len).sum::<usize>(),
            hold.flows.values().map(VecDeque::len).sum()
        );
        for garbage in [&[][..], &[0x45], &[0x60; 10], &[0x4f; 21], &[0xff; 1400]] {
            hold.push(now, Flags::NONE, garbage);
        }
    }
}
