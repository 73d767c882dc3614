//! Answers in a peer's stead, for the last step that nothing else shows: from the virtual interface to the host's own
//! programs.
//!
//! Whoever checks sends a UDP datagram to a peer's address, as any program does. Where it comes out of the virtual
//! interface, it goes back at once, as though the peer had answered; it never leaves the machine. What comes back passes
//! the host's firewall as the answers of the peer do, and where it does not arrive, neither do they.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::checksum::{self, UDP};

/// What tells a datagram from others: the first bytes of its payload, which are random.
pub type Token = [u8; 16];

/// So long a datagram may take from a program to the virtual interface.
const WAIT: Duration = Duration::from_secs(3);
/// So many may be waited for.
const MOST: usize = 64;

struct Awaited {
    token: Token,
    until: Instant,
    seen: Arc<AtomicBool>,
}

/// The datagrams that go back.
#[derive(Default)]
pub(crate) struct Mirror(Vec<Awaited>);

impl Mirror {
    /// Whether there are any: for all others this is all that it costs.
    pub fn is_on(&self) -> bool {
        !self.0.is_empty()
    }

    /// Waits for a datagram for a while. What is returned tells whether it came out of the virtual interface.
    pub fn add(&mut self, now: Instant, token: Token) -> Arc<AtomicBool> {
        self.0.retain(|awaited| now < awaited.until);
        let seen = Arc::new(AtomicBool::new(false));
        if self.0.len() < MOST {
            self.0.push(Awaited { token, until: now + WAIT, seen: Arc::clone(&seen) });
        }
        seen
    }

    /// The answer to a datagram of the host, if it is one of these. `partial`: its checksum covers the pseudo header only.
    pub fn answer(&mut self, now: Instant, datagram: &[u8], partial: bool) -> Option<Vec<u8>> {
        self.0.retain(|awaited| now < awaited.until);
        let (at, transport) = checksum::transport(datagram)?;
        let payload = datagram.get(at + 8..).filter(|_| transport == UDP)?;
        let awaited = self.0.iter().find(|awaited| payload.starts_with(&awaited.token))?;
        let mut answer = datagram.to_vec();
        // Sums do not mind who is who.
        let addresses = if at == 40 && datagram.first()? >> 4 == 6 { (8, 16) } else { (12, 4) };
        for (from, length) in [addresses, (at, 2)] {
            let (one, other) = answer.get_mut(from..from + 2 * length)?.split_at_mut(length);
            one.swap_with_slice(other);
        }
        if partial && !checksum::complete(&mut answer) {
            return None;
        }
        awaited.seen.store(true, Ordering::Relaxed);
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;
    use crate::inner;

    fn v4(token: &Token) -> Vec<u8> {
        let mut datagram = vec![0x45, 0, 0, 44, 0, 0, 0, 0, 64, UDP, 0, 0, 100, 64, 0, 1, 100, 64, 0, 2];
        datagram.extend([0x10, 1, 0x20, 2, 0, 24, 0, 0]);
        datagram.extend(token);
        datagram
    }

    #[test]
    fn only_what_is_awaited_comes_back_and_from_the_other_end() {
        let (now, token) = (Instant::now(), [7; 16]);
        let mut mirror = Mirror::default();
        assert!(!mirror.is_on() && mirror.answer(now, &v4(&token), false).is_none());
        let seen = mirror.add(now, token);
        assert!(mirror.answer(now, &v4(&[8; 16]), false).is_none() && !seen.load(Ordering::Relaxed));
        let answer = mirror.answer(now, &v4(&token), false).unwrap();
        assert!(seen.load(Ordering::Relaxed));
        let at = |last| IpAddr::from([100, 64, 0, last]);
        assert_eq!(inner::addresses(&answer), Some((at(2), at(1))));
        assert_eq!(answer[20..24], [0x20, 2, 0x10, 1]);
        assert!(mirror.answer(now + WAIT, &v4(&token), false).is_none() && !mirror.is_on());
    }

    #[test]
    fn a_checksum_that_was_right_stays_right() {
        let (now, mut token) = (Instant::now(), [0; 16]);
        token[15] = 9;
        let mut mirror = Mirror::default();
        mirror.add(now, token);
        let datagram = inner::wrap(&token);
        let answer = mirror.answer(now, &datagram, false).unwrap();
        let ends = |datagram: &[u8]| match inner::addresses(datagram) {
            Some((IpAddr::V6(from), IpAddr::V6(to))) => (from, to),
            _ => (Ipv6Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
        };
        let (from, to) = ends(&answer);
        assert_eq!((to, from), ends(&datagram));
        let sum = checksum::of_transport(from, to, UDP, &answer[40..]);
        assert!(sum == 0 || sum == 0xffff, "{sum}");
    }

    #[test]
    fn what_waits_is_bounded() {
        let now = Instant::now();
        let mut mirror = Mirror::default();
        for n in 0..200 {
            mirror.add(now, [n; 16]);
        }
        assert_eq!(mirror.0.len(), MOST);
    }
}
