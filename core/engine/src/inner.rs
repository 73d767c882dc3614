//! IP datagrams: the little that the engine must read of them, and the reserved UDP encapsulation.
//!
//! MAST's own messages travel inside a WireGuard session as UDP datagrams between two reserved link-local
//! addresses. A plain WireGuard peer allows neither address, and drops them without harm.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::{self, UDP};

/// The longest IPv6 and UDP headers that [`wrap`] makes.
const WRAP_LEN: usize = 48;
const RESERVED_SOURCE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x6d61, 0x7374, 1);
const RESERVED_DESTINATION: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x6d61, 0x7374, 2);
const RESERVED_PORT: u16 = 6278;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMP_V6: u8 = 58;

/// Source and destination of an IP datagram; `None` when it is none, or is cut short.
pub(crate) fn addresses(datagram: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match datagram.first()? >> 4 {
        4 if datagram.len() >= 20 => {
            let source: [u8; 4] = datagram.get(12..16)?.try_into().ok()?;
            let destination: [u8; 4] = datagram.get(16..20)?.try_into().ok()?;
            Some((Ipv4Addr::from(source).into(), Ipv4Addr::from(destination).into()))
        }
        6 if datagram.len() >= 40 => {
            let source: [u8; 16] = datagram.get(8..24)?.try_into().ok()?;
            let destination: [u8; 16] = datagram.get(24..40)?.try_into().ok()?;
            Some((Ipv6Addr::from(source).into(), Ipv6Addr::from(destination).into()))
        }
        _ => None,
    }
}

/// The datagram without the padding that WireGuard may have added; `None` when it claims to be longer than it is.
pub(crate) fn trim(datagram: &[u8]) -> Option<&[u8]> {
    let be = |at: usize| Some(usize::from(u16::from_be_bytes(datagram.get(at..at + 2)?.try_into().ok()?)));
    let length = match datagram.first()? >> 4 {
        4 => be(2)?,
        6 => be(4)? + 40,
        _ => return None,
    };
    datagram.get(..length)
}

/// Puts a message of MAST into the reserved encapsulation.
pub(crate) fn wrap(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 8).unwrap_or(u16::MAX);
    let mut out = Vec::with_capacity(WRAP_LEN + payload.len());
    out.extend([0x60, 0, 0, 0]);
    out.extend(length.to_be_bytes());
    out.extend([UDP, 1]);
    out.extend(RESERVED_SOURCE.octets());
    out.extend(RESERVED_DESTINATION.octets());
    out.extend(RESERVED_PORT.to_be_bytes());
    out.extend(RESERVED_PORT.to_be_bytes());
    out.extend(length.to_be_bytes());
    out.extend([0, 0]);
    out.extend(payload);
    let segment = out.get(40..).unwrap_or_default();
    let sum = checksum::of_transport(RESERVED_SOURCE, RESERVED_DESTINATION, UDP, segment);
    // Zero would mean "no checksum" (RFC 768).
    let sum = if sum == 0 { 0xffff } else { sum };
    if let Some(field) = out.get_mut(46..48) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    out
}

/// The message of MAST in a datagram from inside a WireGuard session, if it is one.
pub(crate) fn unwrap(datagram: &[u8]) -> Option<&[u8]> {
    let datagram = trim(datagram)?;
    let (source, destination) = addresses(datagram)?;
    if source != RESERVED_SOURCE || destination != RESERVED_DESTINATION || datagram.get(6) != Some(&UDP) {
        return None;
    }
    if datagram.get(42..44)? != RESERVED_PORT.to_be_bytes() {
        return None;
    }
    datagram.get(WRAP_LEN..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrapped_is_unwrapped() {
        for length in [0, 1, 7, 300] {
            let payload = vec![0xa5; length];
            let mut datagram = wrap(&payload);
            assert_eq!(unwrap(&datagram), Some(&payload[..]));
            // A segment with its checksum in place sums up to zero.
            let segment = &datagram[40..];
            let sum = checksum::of_transport(RESERVED_SOURCE, RESERVED_DESTINATION, UDP, segment);
            assert_eq!(sum, 0);
            datagram.extend([0; 15]);
            assert_eq!(unwrap(&datagram), Some(&payload[..]), "WireGuard's padding is cut off");
        }
    }

    #[test]
    fn nothing_else_is_unwrapped() {
        let datagram = wrap(b"hello");
        for end in 0..datagram.len() {
            assert_eq!(unwrap(&datagram[..end]), None);
        }
        let mut other = datagram.clone();
        other[23] = 9;
        assert_eq!(unwrap(&other), None);
        assert_eq!(unwrap(&[0x45; 20]), None);
        assert_eq!(addresses(&[0x60; 39]), None);
        assert_eq!(addresses(&[]), None);
    }
}
