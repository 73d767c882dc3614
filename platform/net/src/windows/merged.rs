//! Datagrams that arrive many at a time (URO), and systems that do not say where one ends.
//!
//! Windows puts datagrams of one sender together and tells how long each was. Some drivers and virtual switches put
//! them together and tell nothing: what is read then is one datagram that is longer than any that could have come. From
//! then on the socket takes them one by one. Short ones that fit into one together are noticed when longer ones come. Peers do not send fragments; of somebody who does, the same is believed, and
//! costs no more than speed.

/// What an IPv4 header without options and a UDP header take, in bytes; those of IPv6 take more.
const HEADERS: u32 = 28;

/// What a reading turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// One datagram, or several of this length each, the last of which may be shorter.
    Of(usize),
    /// Several, nobody knows of what length.
    Merged,
}

/// Looks at a reading of so many bytes, of which the system said that each datagram has `stride`, on a link with this MTU.
/// None is merged where the MTU is not known.
pub fn look(length: usize, stride: usize, mtu: Option<u32>) -> Reading {
    let most = mtu.map_or(usize::MAX, |mtu| mtu.saturating_sub(HEADERS) as usize);
    if length == 0 {
        return Reading::Of(1);
    }
    match stride {
        0 => Reading::Merged,
        stride if stride.min(length) > most => Reading::Merged,
        stride => Reading::Of(stride.min(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_no_link_carries_are_several_datagrams() {
        let mtu = Some(1_500);
        assert_eq!(look(1_472, 1_472, mtu), Reading::Of(1_472));
        assert_eq!(look(1_473, 1_473, mtu), Reading::Merged);
        assert_eq!(look(2 * 1_300, 2 * 1_300, mtu), Reading::Merged, "the sum of two");
        assert_eq!(look(65_535, 65_535, Some(u32::MAX)), Reading::Of(65_535), "loopback");
        assert_eq!(look(9_000, 9_000, None), Reading::Of(9_000));
        // Told apart by the system.
        assert_eq!(look(10 * 1_300 + 7, 1_300, mtu), Reading::Of(1_300));
        assert_eq!(look(10 * 1_473, 1_473, mtu), Reading::Merged);
        assert_eq!(look(700, 0, mtu), Reading::Merged);
        // An empty datagram, and a length that is more than there is.
        assert_eq!(look(0, 0, mtu), Reading::Of(1));
        assert_eq!(look(100, 1_300, mtu), Reading::Of(100));
        assert_eq!(look(100, 100, Some(0)), Reading::Merged);
    }
}
