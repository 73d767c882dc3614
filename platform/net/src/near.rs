//! What leak protection lets through or holds back on every system: the local network, and what hosts say to have
//! addresses and neighbours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mast_engine::os::{Family, Prefix};

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Prefix {
    Prefix { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), length }
}

const fn v6(first: u16, length: u8) -> Prefix {
    Prefix { address: IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0)), length }
}

/// Private and link-local ranges, and groups that no router passes on (RFC 1918, 3927, 2365, 919).
const NEAR_V4: [Prefix; 7] = [
    v4(10, 0, 0, 0, 8),
    v4(172, 16, 0, 0, 12),
    v4(192, 168, 0, 0, 16),
    v4(169, 254, 0, 0, 16),
    v4(224, 0, 0, 0, 24),
    v4(239, 255, 0, 0, 16),
    v4(255, 255, 255, 255, 32),
];
/// The same of IPv6 (RFC 4291, 4193).
const NEAR_V6: [Prefix; 3] = [v6(0xfe80, 10), v6(0xfc00, 7), v6(0xff02, 16)];

/// The local network.
pub(crate) fn ranges(family: Family) -> &'static [Prefix] {
    match family {
        Family::V4 => &NEAR_V4,
        Family::V6 => &NEAR_V6,
    }
}

/// Names are asked for at these ports, of UDP and TCP.
pub(crate) const NAMES: [u16; 2] = [53, 853];

/// Own and other port of a host that asks for an address (RFC 2131, 8415).
pub(crate) fn dhcp(family: Family) -> (u16, u16) {
    match family {
        Family::V4 => (68, 67),
        Family::V6 => (546, 547),
    }
}

/// Router and neighbour solicitation, neighbour advertisement, multicast listener reports of both versions, and their
/// end (RFC 4861, 2710, 9777). No program without privileges sends any of these.
pub(crate) const NEIGHBOURS: [u8; 6] = [133, 135, 136, 131, 132, 143];
