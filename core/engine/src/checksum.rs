//! The Internet checksum (RFC 1071), of whole datagrams and in part.
//!
//! A host with checksum offload hands over TCP and UDP with a *partial* checksum: the field holds the folded sum of the
//! pseudo header, not complemented, and whoever sends the datagram on adds the rest. Between two engines it stays
//! partial, as the frame's tag protects it on the way; it is completed only where the taker cannot.

use std::net::Ipv6Addr;

/// Where the header of TCP has its checksum.
const TCP_FIELD: usize = 16;
/// Where the header of UDP has it.
const UDP_FIELD: usize = 6;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// The sum of some bytes as big-endian 16-bit words, not folded. `bytes` begins at an even place of what is summed.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    // Native words, four sums at once: the order of bytes within the words does not matter until the end (RFC 1071, 2).
    let mut sums = [0_u64; 4];
    let (blocks, rest) = bytes.as_chunks::<16>();
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let mut total: u64 = sums.iter().map(|s| (s & 0xffff_ffff) + (s >> 32)).sum();
    let (pairs, last) = rest.as_chunks::<2>();
    for pair in pairs {
        total += u64::from(u16::from_ne_bytes(*pair));
    }
    if let [last] = last {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    u64::from(u16::from_be(fold(total)))
}

/// Folds a sum into 16 bits.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Where the transport of a datagram begins, and what it is. `None` where that is not to be told without reading on:
/// fragments, and IPv6 with extension headers.
pub(crate) fn transport(datagram: &[u8]) -> Option<(usize, u8)> {
    match datagram.first()? >> 4 {
        4 => {
            let length = usize::from(datagram.first()? & 15) * 4;
            let fragment = u16::from_be_bytes([*datagram.get(6)?, *datagram.get(7)?]) & 0x3fff != 0;
            (length >= 20 && length <= datagram.len() && !fragment).then_some((length, *datagram.get(9)?))
        }
        6 => (datagram.len() >= 40).then_some((40, *datagram.get(6)?)),
        _ => None,
    }
}

/// Where a transport's header has its checksum.
pub(crate) fn field(protocol: u8) -> Option<usize> {
    match protocol {
        TCP => Some(TCP_FIELD),
        UDP => Some(UDP_FIELD),
        _ => None,
    }
}

/// The sum of the pseudo header of a datagram whose transport is of this protocol and length, not folded.
pub(crate) fn pseudo(datagram: &[u8], protocol: u8, length: usize) -> u64 {
    let addresses = if datagram.first().is_some_and(|b| b >> 4 == 4) { 12..20 } else { 8..40 };
    sum(datagram.get(addresses).unwrap_or_default()) + u64::from(protocol) + length as u64
}

/// The checksum of some bytes.
pub(crate) fn of(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// The checksum of what lies in parts, one after the other; a part may begin at an odd place.
pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u16 {
    let (mut total, mut odd) = (0, false);
    for part in parts {
        let sum = fold(sum(part));
        total += u64::from(if odd { sum.swap_bytes() } else { sum });
        odd ^= part.len() % 2 != 0;
    }
    !fold(total)
}

/// The checksum of a transport's segment under an IPv6 pseudo header.
pub(crate) fn of_transport(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, segment: &[u8]) -> u16 {
    let addresses = sum(&source.octets()) + sum(&destination.octets());
    !fold(addresses + u64::from(protocol) + segment.len() as u64 + sum(segment))
}

/// Completes a partial checksum: the sum from `start` to the end goes into the two bytes at `start + offset`. `false`
/// when these lie outside the datagram.
pub(crate) fn complete_at(datagram: &mut [u8], start: usize, offset: usize) -> bool {
    let Some(rest) = datagram.get(start..) else { return false };
    let sum = !fold(sum(rest));
    // Zero would mean "no checksum" to UDP, and to TCP both mean the same (RFC 768).
    let sum = if sum == 0 { 0xffff } else { sum };
    let Some(field) = datagram.get_mut(start + offset..start + offset + 2) else { return false };
    field.copy_from_slice(&sum.to_be_bytes());
    true
}

/// Completes the partial checksum of a datagram of TCP or UDP; `false` when it is neither.
pub(crate) fn complete(datagram: &mut [u8]) -> bool {
    let Some((start, protocol)) = transport(datagram) else { return false };
    field(protocol).is_some_and(|offset| complete_at(datagram, start, offset))
}

/// Whether the checksum of a datagram of TCP or UDP is there and right.
pub(crate) fn is_right(datagram: &[u8], start: usize, protocol: u8) -> bool {
    let Some(segment) = datagram.get(start..) else { return false };
    let absent = protocol == UDP && segment.get(UDP_FIELD..UDP_FIELD + 2) == Some(&[0, 0]);
    !absent && fold(pseudo(datagram, protocol, segment.len()) + sum(segment)) == 0xffff
}

/// Writes the checksum of an IPv4 header, the rest of which is in place.
pub(crate) fn seal_header(header: &mut [u8]) {
    if let Some(field) = header.get_mut(10..12) {
        field.fill(0);
    }
    let sum = !fold(sum(header));
    if let Some(field) = header.get_mut(10..12) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inner;

    /// As RFC 1071 says it, word for word.
    fn plain(bytes: &[u8]) -> u16 {
        let words = bytes.chunks(2).map(|pair| {
            let [high, low] = [pair[0], pair.get(1).copied().unwrap_or(0)];
            u64::from(u16::from_be_bytes([high, low]))
        });
        let mut sum: u64 = words.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn agrees_with_the_plain_way() {
        let bytes: Vec<u8> = (0..3_000_u32).map(|n| (n * 193 + n / 7) as u8).collect();
        for length in (0..70).chain([1_399, 1_400, 3_000]) {
            let bytes = &bytes[..length];
            assert_eq!(of(bytes), plain(bytes), "{length} bytes");
        }
        assert_eq!(of(&[0xff; 2_999]), plain(&[0xff; 2_999]));
    }

    #[test]
    fn completes_what_is_partial() {
        let mut datagram = inner::wrap(b"some odd length");
        let right = datagram.clone();
        assert!(is_right(&datagram, 40, UDP));
        let partial = fold(pseudo(&datagram, UDP, datagram.len() - 40));
        datagram[46..48].copy_from_slice(&partial.to_be_bytes());
        assert!(!is_right(&datagram, 40, UDP));
        assert!(complete(&mut datagram));
        assert_eq!(datagram, right);
        for end in 0..48 {
            let mut cut = datagram[..end].to_vec();
            assert!(!complete(&mut cut) || end >= 48);
        }
    }
}
