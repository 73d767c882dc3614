//! The traffic class: what it says of priority and of congestion goes from the inner header to the outer one, and back.
//!
//! On the way out the outer header gets the inner one's class, code point and congestion mark alike (RFC 2983, the
//! uniform model; RFC 6040, normal mode), so that a network that gives a call its own queue still does. On the way in a
//! mark that a router made is put into the inner header (RFC 6040, 4.2), or an end that counts on it would never slow
//! down.

use crate::checksum;

/// "Congestion experienced" (RFC 3168).
const CE: u8 = 3;

/// The traffic class of a datagram.
pub(crate) fn class_of(datagram: &[u8]) -> u8 {
    match datagram {
        [first, second, ..] if first >> 4 == 4 => *second,
        [first, second, ..] if first >> 4 == 6 => first << 4 | second >> 4,
        _ => 0,
    }
}

/// Combines the class that the outer header arrived with and the inner one. `false` when the datagram must be dropped:
/// a router says that it is congested, and the transport does not understand the mark.
pub(crate) fn combine(outer: u8, datagram: &mut [u8]) -> bool {
    if outer & CE != CE {
        return true;
    }
    match class_of(datagram) & CE {
        0 => return false,
        CE => return true,
        _ => {}
    }
    match datagram {
        [first, second, ..] if *first >> 4 == 4 => {
            *second |= CE;
            let length = usize::from(*first & 15) * 4;
            checksum::seal_header(datagram.get_mut(..length).unwrap_or_default());
        }
        [_, second, ..] => *second |= CE << 4,
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::tcp_frame;

    #[test]
    fn a_mark_reaches_the_transport() {
        for v6 in [false, true] {
            let mut datagram = tcp_frame(v6, 10);
            for (inner, outer, kept, after) in [
                (0_u8, 0_u8, true, 0_u8),
                (0, 2, true, 0),
                (0, 3, false, 0),
                (1, 3, true, 3),
                (2, 3, true, 3),
                (2, 0xb8, true, 2),
                (0xb8 | 2, 3, true, 0xb8 | 3),
                (3, 3, true, 3),
            ] {
                if v6 {
                    datagram[0] = 0x60 | inner >> 4;
                    datagram[1] = inner << 4;
                } else {
                    datagram[1] = inner;
                    checksum::seal_header(&mut datagram[..20]);
                }
                assert_eq!(class_of(&datagram), inner);
                assert_eq!(combine(outer, &mut datagram), kept, "{inner:#x} in {outer:#x}");
                assert_eq!(class_of(&datagram), after);
                if !v6 {
                    assert_eq!(checksum::fold(checksum::sum(&datagram[..20])), 0xffff);
                }
            }
        }
        assert!(!combine(3, &mut []) && combine(0, &mut []));
    }
}
