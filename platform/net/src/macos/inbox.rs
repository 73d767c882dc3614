//! Many datagrams with one call, which wait here until they are asked for.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use mast_engine::os::Arrival;

/// So many are taken at once.
pub const AT_ONCE: usize = 16;
/// No datagram is longer, in bytes.
const LONGEST: usize = 1 << 16;

/// One that came into the slot of its number.
#[derive(Debug, Clone, Copy)]
pub struct Came {
    /// In bytes.
    pub length: usize,
    /// Who sent it; nothing where the system did not say, which makes it worthless.
    pub remote: Option<SocketAddr>,
    /// Its traffic class.
    pub class: u8,
}

#[derive(Debug)]
struct Held {
    slot: usize,
    length: usize,
    remote: SocketAddr,
    class: u8,
}

/// What was taken from the system and not asked for yet.
#[derive(Debug)]
pub struct Inbox {
    /// What of it no datagram reached costs no memory.
    room: Box<[u8]>,
    held: VecDeque<Held>,
    /// The address that all of them came to.
    local: IpAddr,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            room: vec![0; AT_ONCE * LONGEST].into(),
            held: VecDeque::new(),
            local: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        }
    }
}

impl Inbox {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Room for [`AT_ONCE`] datagrams, once nothing waits any more.
    pub fn slots(&mut self) -> std::slice::ChunksExactMut<'_, u8> {
        self.held.clear();
        self.room.chunks_exact_mut(LONGEST)
    }

    /// Takes note of what came to an address: into the first slot, the second and so on.
    pub fn arrived(&mut self, local: IpAddr, all: impl IntoIterator<Item = Came>) {
        self.local = local;
        self.held = all
            .into_iter()
            .take(AT_ONCE)
            .enumerate()
            .filter_map(|(slot, came)| {
                let length = came.length.min(LONGEST);
                Some(Held { slot, length, remote: came.remote?, class: came.class })
            })
            .collect();
    }

    /// The next, and with it those behind that are of the same flow and length, as the engine takes them: the last may be
    /// shorter. Nothing when nothing waits.
    pub fn next(&mut self, buffer: &mut [u8]) -> Option<Arrival> {
        let first = self.held.pop_front()?;
        let mut copy = |held: &Held, at: usize| {
            let from = self.room.get(held.slot * LONGEST..).and_then(|rest| rest.get(..held.length));
            if let (Some(from), Some(to)) = (from, buffer.get_mut(at..at + held.length)) {
                to.copy_from_slice(from);
                return true;
            }
            false
        };
        let stride = first.length;
        // One that has no room is cut, as by the system itself.
        let mut length = if copy(&first, 0) { stride } else { 0 };
        let mut count = 1;
        let (remote, class) = (first.remote, first.class);
        while length == count * stride
            && let Some(next) = self.held.front()
            && (next.remote, next.class) == (remote, class)
            && (1..=stride).contains(&next.length)
            && copy(next, length)
        {
            length += next.length;
            count += 1;
            self.held.pop_front();
        }
        Some(Arrival { length, stride, remote, local: Some(self.local), class })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn from(port: u16) -> Option<SocketAddr> {
        Some(SocketAddr::new("203.0.113.9".parse().unwrap(), port))
    }

    /// Has these come, each filled with its number; what is then asked for, as length, stride, port and class, and the bytes.
    fn play(all: &[Came], room: usize) -> Vec<(usize, usize, u16, u8, Vec<u8>)> {
        let mut inbox = Inbox::default();
        for (number, (slot, came)) in (1..).zip(inbox.slots().zip(all)) {
            slot[..came.length].fill(number);
        }
        inbox.arrived(LOCAL, all.iter().copied());
        let mut buffer = vec![0; room];
        let mut got = Vec::new();
        while let Some(arrival) = inbox.next(&mut buffer) {
            assert_eq!(arrival.local, Some(LOCAL));
            let bytes = buffer[..arrival.length].to_vec();
            got.push((arrival.length, arrival.stride, arrival.remote.port(), arrival.class, bytes));
        }
        assert!(inbox.is_empty());
        got
    }

    fn came(length: usize, port: u16, class: u8) -> Came {
        Came { length, remote: from(port), class }
    }

    #[test]
    fn a_run_of_a_flow_goes_on_together_and_the_last_may_be_shorter() {
        let got = play(&[came(3, 1, 0), came(3, 1, 0), came(2, 1, 0), came(2, 1, 0)], 65_535);
        assert_eq!(got, [(8, 3, 1, 0, vec![1, 1, 1, 2, 2, 2, 3, 3]), (2, 2, 1, 0, vec![4, 4])]);
    }

    #[test]
    fn what_differs_goes_apart_and_in_order() {
        let all = [came(3, 1, 0), came(3, 2, 0), came(3, 2, 2), came(4, 2, 2), came(0, 2, 2), came(4, 2, 2)];
        let got: Vec<_> = play(&all, 65_535).into_iter().map(|(l, s, p, c, _)| (l, s, p, c)).collect();
        let expected: Vec<_> =
            all.iter().map(|c| (c.length, c.length, c.remote.unwrap().port(), c.class)).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn nothing_is_lost_where_the_buffer_ends_or_the_system_named_nobody() {
        let mut all = vec![came(40_000, 1, 0); 3];
        all.insert(1, Came { remote: None, ..all[0] });
        let got: Vec<_> = play(&all, 65_535).into_iter().map(|(l, s, _, _, b)| (l, s, b[0])).collect();
        assert_eq!(got, [(40_000, 40_000, 1), (40_000, 40_000, 3), (40_000, 40_000, 4)]);
        // The longest, and more than there are slots for.
        assert_eq!(play(&[came(65_535, 1, 0)], 65_535)[0].0, 65_535);
        let total: usize = play(&vec![came(10, 1, 0); AT_ONCE], 65_535).iter().map(|got| got.0).sum();
        assert_eq!(total, 10 * AT_ONCE);
    }

    #[test]
    fn it_is_filled_again_without_what_came_before() {
        let mut inbox = Inbox::default();
        inbox.arrived(LOCAL, [came(1, 1, 0), came(2, 1, 0)]);
        assert!(!inbox.is_empty());
        assert_eq!(inbox.slots().count(), AT_ONCE);
        assert!(inbox.is_empty() && inbox.next(&mut [0; 9]).is_none());
    }
}
