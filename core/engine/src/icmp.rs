//! What the engine says in ICMP: a datagram does not fit, and the echoes of a drill.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::checksum;
use crate::inner::{ICMP, ICMP_V6, addresses};

/// The most bytes of an ICMPv6 error (RFC 4443, 2.4): the least MTU of IPv6.
const MAX_V6: usize = 1280;
/// The most bytes of an ICMP error (RFC 1812, 4.3.2.3).
const MAX_V4: usize = 576;
const ECHO_PAYLOAD: usize = 8;

/// Bounds the answers to datagrams that do not fit (RFC 4443, 2.4 f; RFC 1812, 4.3.2.8). One answer is enough for a
/// flow; a sender that ignores them must not cost more than its datagrams.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: u32,
    since: Instant,
}

impl Allowance {
    /// Answers at once: as many flows may learn of a smaller path at the same moment.
    const BURST: u32 = 64;
    /// One more after this.
    const PAUSE: Duration = Duration::from_millis(5);

    pub fn new(now: Instant) -> Self {
        Self { left: Self::BURST, since: now }
    }

    /// Whether an answer may be given now; it counts as given.
    pub fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.since).as_nanos() / Self::PAUSE.as_nanos();
        if gained > 0 {
            let gained = u32::try_from(gained).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(gained).min(Self::BURST);
            self.since = now;
        }
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        true
    }
}

/// The answer to a datagram of the host that fits no frame: "packet too big" or "fragmentation needed". It seems
/// to come from the datagram's destination, which is where the host's routes lead into the virtual interface.
///
/// `None` when no answer may be given: to an ICMP error, or to a fragment that is not the first. Unlike a router's it
/// is given as well where IPv4 allows fragments: it goes to this very host, whose stack then makes smaller ones, and
/// what is sent without "do not fragment" would otherwise vanish for good.
pub(crate) fn too_big(datagram: &[u8], mtu: usize) -> Option<Vec<u8>> {
    let mtu = u32::try_from(mtu).ok()?;
    match addresses(datagram)? {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let flags = u16::from_be_bytes(datagram.get(6..8)?.try_into().ok()?);
            let header = usize::from(datagram.first()? & 0x0f) * 4;
            let error = *datagram.get(9)? == ICMP && !matches!(datagram.get(header)?, 0 | 8);
            if flags & 0x1fff != 0 || error {
                return None;
            }
            let quoted = datagram.get(..datagram.len().min(MAX_V4 - 28))?;
            let total = u16::try_from(28 + quoted.len()).ok()?;
            let mut out = Vec::with_capacity(usize::from(total));
            out.extend([0x45, 0xc0]);
            out.extend(total.to_be_bytes());
            out.extend([0, 0, 0, 0, 64, ICMP, 0, 0]);
            out.extend(destination.octets());
            out.extend(source.octets());
            let sum = checksum::of(&out);
            out.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
            out.extend([3, 4, 0, 0, 0, 0]);
            out.extend(u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes());
            out.extend(quoted);
            let sum = checksum::of(out.get(20..)?);
            out.get_mut(22..24)?.copy_from_slice(&sum.to_be_bytes());
            Some(out)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let error = *datagram.get(6)? == ICMP_V6 && datagram.get(40)? & 0x80 == 0;
            if error || source.is_multicast() || destination.is_multicast() {
                return None;
            }
            let quoted = datagram.get(..datagram.len().min(MAX_V6 - 48))?;
            let mut body = Vec::with_capacity(8 + quoted.len());
            body.extend([2, 0, 0, 0]);
            body.extend(mtu.to_be_bytes());
            body.extend(quoted);
            Some(v6(destination, source, body))
        }
        _ => None,
    }
}

/// An echo request between two EIDs.
pub(crate) fn echo_request(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    identifier: u16,
    sequence: u16,
) -> Vec<u8> {
    let mut body = vec![128, 0, 0, 0];
    body.extend(identifier.to_be_bytes());
    body.extend(sequence.to_be_bytes());
    body.extend([0; ECHO_PAYLOAD]);
    v6(source, destination, body)
}

/// Identifier and sequence number of an echo reply.
pub(crate) fn echo_reply(datagram: &[u8]) -> Option<(u16, u16)> {
    if datagram.first()? >> 4 != 6 || *datagram.get(6)? != ICMP_V6 || *datagram.get(40)? != 129 {
        return None;
    }
    let identifier = u16::from_be_bytes(datagram.get(44..46)?.try_into().ok()?);
    let sequence = u16::from_be_bytes(datagram.get(46..48)?.try_into().ok()?);
    Some((identifier, sequence))
}

/// An ICMPv6 datagram; the checksum of `body` is filled in.
fn v6(source: Ipv6Addr, destination: Ipv6Addr, mut body: Vec<u8>) -> Vec<u8> {
    let sum = checksum::of_transport(source, destination, ICMP_V6, &body);
    if let Some(field) = body.get_mut(2..4) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    let mut out = Vec::with_capacity(40 + body.len());
    out.extend([0x60, 0, 0, 0]);
    out.extend(u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend([ICMP_V6, 64]);
    out.extend(source.octets());
    out.extend(destination.octets());
    out.extend(body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4_datagram(df: bool, protocol: u8, length: usize) -> Vec<u8> {
        let mut out = vec![0x45, 0, 0, 0, 0, 1, if df { 0x40 } else { 0 }, 0, 64, protocol, 0, 0];
        out.extend([100, 64, 0, 2, 100, 64, 0, 3]);
        out.resize(length, 0x11);
        out
    }

    #[test]
    fn v4_answers_all_but_errors_and_later_fragments() {
        let answer = too_big(&v4_datagram(true, 6, 1400), 1200).unwrap();
        assert_eq!(answer.len(), 576);
        assert_eq!(addresses(&answer), addresses(&v4_datagram(true, 6, 20)).map(|(s, d)| (d, s)));
        assert_eq!(answer[20..22], [3, 4]);
        assert_eq!(u16::from_be_bytes([answer[26], answer[27]]), 1200);
        assert_eq!(checksum::of(&answer[..20]), 0);
        assert_eq!(checksum::of(&answer[20..]), 0);
        assert!(too_big(&v4_datagram(false, 17, 1400), 1200).is_some(), "the host makes fragments then");
        let mut fragment = v4_datagram(false, 17, 1400);
        fragment[6] = 0x20;
        assert!(too_big(&fragment, 1200).is_some(), "the first of several");
        fragment[7] = 1;
        assert_eq!(too_big(&fragment, 1200), None, "a later one");
        assert_eq!(too_big(&v4_datagram(true, ICMP, 1400), 1200), None, "an error about an error");
    }

    #[test]
    fn v6_always_answers_but_to_errors() {
        let [a, b] = ["fd4d::1", "fd4d::2"].map(|a| a.parse::<Ipv6Addr>().unwrap());
        let mut big = echo_request(a, b, 1, 2);
        big.resize(1500, 0);
        let answer = too_big(&big, 1300).unwrap();
        assert_eq!(answer.len(), 1280);
        assert_eq!(answer[40], 2);
        assert_eq!(u32::from_be_bytes(answer[44..48].try_into().unwrap()), 1300);
        assert_eq!(checksum::of_transport(b, a, ICMP_V6, &answer[40..]), 0);
        assert_eq!(too_big(&answer, 1000), None);
        for end in 0..48 {
            let _ = too_big(&big[..end], 1300);
            assert_eq!(echo_reply(&big[..end]), None);
        }
    }

    #[test]
    fn answers_are_bounded() {
        let mut now = Instant::now();
        let mut allowance = Allowance::new(now);
        let mut given = 0;
        for _ in 0..100_000 {
            now += Duration::from_micros(100);
            given += u32::from(allowance.take(now));
        }
        assert!((2_000..=2_100).contains(&given), "{given} in 10 s");
        now += Duration::from_secs(3_600);
        assert_eq!((0..1_000).filter(|_| allowance.take(now)).count(), Allowance::BURST as usize);
    }

    #[test]
    fn echoes() {
        let [a, b] = ["fd4d::1", "fd4d::2"].map(|a| a.parse::<Ipv6Addr>().unwrap());
        let mut echo = echo_request(a, b, 0x4d41, 77);
        assert_eq!(checksum::of_transport(a, b, ICMP_V6, &echo[40..]), 0);
        assert_eq!(echo_reply(&echo), None, "a request is not a reply");
        echo[40] = 129;
        assert_eq!(echo_reply(&echo), Some((0x4d41, 77)));
    }
}
