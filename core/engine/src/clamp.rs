//! Lowers the maximum segment size that TCP connections agree on to what fits the tunnel.
//!
//! A host learns by ICMP that its datagrams are too large, and only after it has sent one. What it is told in the
//! handshake it keeps to from the first segment on, and no ICMP can get lost. So the MSS option of SYN and SYN-ACK
//! segments is lowered, both in what the host sends, for the other end's segments, and in what it receives, for its
//! own.

use std::ops::Range;

const TCP: u8 = 6;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// The IPv6 header in bytes.
const IP_V6_HEADER: usize = 40;
/// The IPv4 header without options, in bytes.
const IP_V4_HEADER: usize = 20;
/// The most extension headers that are skipped: more than any host sends.
const MAX_EXTENSIONS: usize = 8;
/// The TCP header without options, in bytes: what RFC 6691 has the MSS leave room for, beside the IP header.
const TCP_HEADER: usize = 20;
/// No MSS is made lower than this, in bytes: hosts take a smaller one for an attack.
const LEAST: u16 = 88;
const SYN: u8 = 0x02;
const OPTION_END: u8 = 0;
const OPTION_NOTHING: u8 = 1;
const OPTION_MSS: u8 = 2;
const OPTION_MSS_LEN: usize = 4;
/// Where the checksum is in a TCP header.
const CHECKSUM: usize = 16;

/// Whether a datagram may begin a TCP connection: a quick look that spares all others the careful one.
pub(crate) fn is_candidate(datagram: &[u8]) -> bool {
    match datagram.first().map(|b| b >> 4) {
        Some(4) => {
            let start = usize::from(datagram.first().copied().unwrap_or(0) & 15) * 4;
            datagram.get(9) == Some(&TCP) && datagram.get(start + 13).is_some_and(|flags| flags & SYN != 0)
        }
        Some(6) => match datagram.get(6) {
            Some(&TCP) => datagram.get(IP_V6_HEADER + 13).is_some_and(|flags| flags & SYN != 0),
            Some(&(HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)) => true,
            _ => false,
        },
        _ => false,
    }
}

/// Lowers the MSS option of a TCP SYN or SYN-ACK segment to what datagrams of up to `mtu` bytes can hold, and says
/// whether it was higher. Anything else, and whatever is malformed, stays as it is.
///
/// The checksum is kept right (RFC 1624), but with `partial`: then it covers the pseudo header only, in which neither
/// the option nor its value counts, and whoever completes it later takes in the new value.
pub(crate) fn mss(datagram: &mut [u8], mtu: usize, partial: bool) -> bool {
    lower(datagram, mtu, partial).is_some()
}

fn lower(datagram: &mut [u8], mtu: usize, partial: bool) -> Option<()> {
    let (range, fixed) = tcp(datagram)?;
    let segment = datagram.get_mut(range)?;
    // Of a long connection two segments get beyond this line.
    if segment.get(13)? & SYN == 0 {
        return None;
    }
    let header = usize::from(segment.get(12)? >> 4) * 4;
    let at = find(segment.get(..header)?)?;
    let most = u16::try_from(mtu.saturating_sub(fixed + TCP_HEADER)).unwrap_or(u16::MAX).max(LEAST);
    let before = *segment.get(at..)?.first_chunk::<2>()?;
    if u16::from_be_bytes(before) <= most {
        return None;
    }
    segment.get_mut(at..)?.first_chunk_mut::<2>().map(|value| *value = most.to_be_bytes())?;
    if !partial {
        let sum = segment.get_mut(CHECKSUM..)?.first_chunk_mut::<2>()?;
        *sum = updated(*sum, before, most.to_be_bytes(), at % 2 == 1);
    }
    Some(())
}

/// Where the TCP segment is in a datagram that holds its beginning, and the length of an IP header without options or
/// extensions.
fn tcp(datagram: &[u8]) -> Option<(Range<usize>, usize)> {
    let word = |at: usize| Some(u16::from_be_bytes(*datagram.get(at..)?.first_chunk()?));
    match datagram.first()? >> 4 {
        4 => {
            let later_fragment = word(6)? & 0x1fff != 0;
            if *datagram.get(9)? != TCP || later_fragment {
                return None;
            }
            let start = usize::from(datagram.first()? & 0x0f) * 4;
            let end = usize::from(word(2)?).min(datagram.len());
            (start >= IP_V4_HEADER).then_some((start..end, IP_V4_HEADER))
        }
        6 => {
            let end = (usize::from(word(4)?) + IP_V6_HEADER).min(datagram.len());
            let (mut next, mut start) = (*datagram.get(6)?, IP_V6_HEADER);
            for _ in 0..MAX_EXTENSIONS {
                if next == TCP {
                    return Some((start..end, IP_V6_HEADER));
                }
                let length = match next {
                    HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                        (usize::from(*datagram.get(start + 1)?) + 1) * 8
                    }
                    FRAGMENT if word(start + 2)? & 0xfff8 == 0 => 8,
                    _ => return None,
                };
                next = *datagram.get(start)?;
                start += length;
            }
            None
        }
        _ => None,
    }
}

/// Where the value of the MSS option is in a TCP header.
fn find(header: &[u8]) -> Option<usize> {
    let mut at = TCP_HEADER;
    loop {
        match *header.get(at)? {
            OPTION_END => return None,
            OPTION_NOTHING => at += 1,
            kind => {
                let length = usize::from(*header.get(at + 1)?);
                if length < 2 || at + length > header.len() {
                    return None;
                }
                if kind == OPTION_MSS {
                    return (length == OPTION_MSS_LEN).then_some(at + 2);
                }
                at += length;
            }
        }
    }
}

/// A checksum after 16 bits under it changed from `before` to `after` (RFC 1624, equation 3). `odd`: they lie across
/// two of the words that are summed up, so that their bytes count the other way round.
fn updated(sum: [u8; 2], before: [u8; 2], after: [u8; 2], odd: bool) -> [u8; 2] {
    let word = |bytes: [u8; 2]| if odd { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) };
    let mut total = u32::from(!u16::from_be_bytes(sum)) + u32::from(!word(before)) + u32::from(word(after));
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    (!(total as u16)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checksum;
    use crate::inner::addresses;

    /// A TCP segment with these flags and options in an IP datagram, its checksum right.
    fn datagram(v6: bool, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut options = options.to_vec();
        options.resize(options.len().next_multiple_of(4), 0);
        let mut segment = vec![0x12, 0x34, 0, 80, 1, 2, 3, 4, 5, 6, 7, 8];
        segment.extend([(5 + options.len() as u8 / 4) << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
        segment.extend(options);
        segment.extend(payload);
        let mut out = if v6 {
            let mut out = vec![0x60, 0, 0, 0];
            out.extend((segment.len() as u16).to_be_bytes());
            out.extend([TCP, 64]);
            out.extend([0xfd; 16]);
            out.extend([0xfe; 16]);
            out
        } else {
            let mut out = vec![0x45, 0];
            out.extend((20 + segment.len() as u16).to_be_bytes());
            out.extend([0, 0, 0x40, 0, 64, TCP, 0, 0, 100, 64, 0, 2, 100, 64, 0, 3]);
            out
        };
        let start = out.len();
        out.extend(segment);
        let sum = sum(&out, start);
        out[start + CHECKSUM..start + CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
        out
    }

    /// The checksum over the segment that begins at `start`: zero where the one in it is right.
    fn sum(datagram: &[u8], start: usize) -> u16 {
        let segment = &datagram[start..];
        match addresses(datagram).unwrap() {
            (std::net::IpAddr::V6(a), std::net::IpAddr::V6(b)) => checksum::of_transport(a, b, TCP, segment),
            _ => {
                let mut under = datagram[12..20].to_vec();
                under.extend([0, TCP]);
                under.extend((segment.len() as u16).to_be_bytes());
                under.extend(segment);
                checksum::of(&under)
            }
        }
    }

    fn start(datagram: &[u8]) -> usize {
        if datagram[0] >> 4 == 6 { 40 } else { 20 }
    }

    const OPTIONS: [u8; 12] = [2, 4, 0x05, 0xb4, 4, 2, 1, 1, 1, 3, 3, 7];

    #[test]
    fn lowers_both_families_and_both_segments() {
        for flags in [0x02, 0x12, 0xc2] {
            for (v6, expected) in [(false, 1300_u16 - 40), (true, 1300 - 60)] {
                let mut syn = datagram(v6, flags, &OPTIONS, b"data of a fast open");
                let at = start(&syn) + 22;
                assert!(mss(&mut syn, 1300, false));
                assert_eq!(syn[at..at + 2], expected.to_be_bytes());
                assert_eq!(sum(&syn, start(&syn)), 0);
                assert!(!mss(&mut syn, 1300, false), "it is low enough now");
                assert!(!mss(&mut syn, 1400, false), "it is never raised");
            }
        }
    }

    #[test]
    fn leaves_the_rest_alone() {
        let untouched = [
            datagram(false, 0x10, &OPTIONS, b""),
            datagram(true, 0x18, &OPTIONS, b"x"),
            datagram(false, 0x02, &[], b""),
            datagram(false, 0x02, &[1, 1, 0, 2, 4, 0x05, 0xb4], b""),
            datagram(false, 0x02, &[2, 3, 0x05, 0xb4], b""),
            datagram(false, 0x02, &[3, 0, 2, 4, 0x05, 0xb4], b""),
            datagram(false, 0x02, &[3, 200, 2, 4, 0x05, 0xb4], b""),
        ];
        for before in untouched {
            let mut after = before.clone();
            assert!(!mss(&mut after, 600, false));
            assert_eq!(before, after);
        }
        // Of UDP, and a later fragment.
        let mut other = datagram(false, 0x02, &OPTIONS, b"");
        other[9] = 17;
        assert!(!mss(&mut other, 600, false));
        other[9] = TCP;
        other[7] = 1;
        assert!(!mss(&mut other, 600, false));
        other[7] = 0;
        assert!(mss(&mut other, 600, false));
    }

    #[test]
    fn a_partial_checksum_stays_what_it_covers() {
        let mut syn = datagram(false, 0x02, &OPTIONS, b"");
        let pseudo = [0x12, 0x34];
        syn[20 + CHECKSUM..20 + CHECKSUM + 2].copy_from_slice(&pseudo);
        assert!(mss(&mut syn, 1300, true));
        assert_eq!(syn[20 + CHECKSUM..20 + CHECKSUM + 2], pseudo);
        assert_eq!(syn[42..44], 1260_u16.to_be_bytes());
    }

    #[test]
    fn finds_the_segment_behind_extension_headers() {
        let plain = datagram(true, 0x02, &OPTIONS, b"");
        // Hop-by-hop options of 8 bytes, a routing header of 16, a first fragment of 8.
        let extensions: [&[u8]; 3] = [
            &[43, 0, 1, 4, 0, 0, 0, 0],
            &[44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[TCP, 0, 0, 1, 0, 0, 0, 9],
        ];
        let mut syn = plain[..40].to_vec();
        syn[6] = 0;
        syn.extend(extensions.concat());
        syn.extend(&plain[40..]);
        let length = (syn.len() - 40) as u16;
        syn[4..6].copy_from_slice(&length.to_be_bytes());
        let start = syn.len() - (plain.len() - 40);
        assert!(mss(&mut syn, 1300, false));
        assert_eq!(syn[start + 22..start + 24], 1240_u16.to_be_bytes());
        // The fragment is not the first one.
        let mut later = syn.clone();
        later[start - 5] = 8;
        assert!(!mss(&mut later, 1200, false));
    }

    #[test]
    fn is_never_absurd() {
        let mut syn = datagram(true, 0x02, &OPTIONS, b"");
        assert!(mss(&mut syn, 0, false));
        assert_eq!(syn[62..64], LEAST.to_be_bytes());
        assert_eq!(sum(&syn, 40), 0);
    }

    proptest! {
        /// Whatever the options before it, at even and odd places: value and checksum are right.
        #[test]
        fn any_place_of_the_option(
            v6: bool, nothing in 0..8_usize, value: u16, mtu in 576..1600_usize,
            tail in proptest::collection::vec(any::<u8>(), 0..20),
            payload in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let mut options = vec![OPTION_NOTHING; nothing];
            options.extend([OPTION_MSS, 4]);
            options.extend(value.to_be_bytes());
            options.extend(tail);
            let mut syn = datagram(v6, SYN, &options, &payload);
            let before = syn.clone();
            let start = start(&syn);
            let most = (mtu - if v6 { 60 } else { 40 }) as u16;
            let lowered = mss(&mut syn, mtu, false);
            prop_assert_eq!(lowered, value > most);
            prop_assert_eq!(sum(&syn, start), 0);
            let at = start + 22 + nothing;
            prop_assert_eq!(&syn[at..at + 2], &value.min(most).to_be_bytes()[..]);
            syn[at..at + 2].copy_from_slice(&before[at..at + 2]);
            syn[start + CHECKSUM..start + CHECKSUM + 2].copy_from_slice(&before[start + CHECKSUM..start + CHECKSUM + 2]);
            prop_assert_eq!(syn, before);
        }

        /// Garbage, and datagrams with garbage in them, neither panic nor change in length.
        #[test]
        fn hostile(
            v6: bool, cut in 0..120_usize, mtu in 0..70_000_usize, partial: bool,
            bent in proptest::collection::vec((0..100_usize, any::<u8>()), 0..12),
            mut garbage in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            let mut syn = datagram(v6, SYN, &OPTIONS, b"payload");
            for (at, value) in bent {
                if let Some(byte) = syn.get_mut(at) {
                    *byte = value;
                }
            }
            syn.truncate(cut);
            mss(&mut syn, mtu, partial);
            mss(&mut garbage, mtu, partial);
        }
    }
}
