//! IPv4 in a network that has IPv6 alone (NAT64, RFC 6146): an IPv4 address is written into an IPv6 address behind a prefix of
//! the network's own (RFC 6052), and a translator of the network does the rest.
//!
//! An interface with such a prefix has one more address, [`SELF`], from which paths to IPv4 addresses start, as with a
//! translator on the host (464XLAT, RFC 6877). Below the sockets nobody knows of it: what goes to an IPv4 address leaves for
//! the IPv6 address that stands for it, and what comes from such an address came from the IPv4 address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mast_proto::{Interface, is_eid};

/// The address of this host that paths to IPv4 addresses start from where there is a NAT64. No other host has anything of it
/// (RFC 7335).
pub const SELF: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
/// The name that has these two addresses and no others, unless a name server writes them into IPv6 addresses (RFC 7050, 8.1).
pub const NAME: &str = "ipv4only.arpa";
const KNOWN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];
/// How long a prefix may be, in bits; the usual one first.
const LENGTHS: [u8; 6] = [96, 64, 56, 48, 40, 32];

/// What stands before an IPv4 address in an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nat64 {
    bits: Ipv6Addr,
    length: u8,
}

impl Nat64 {
    /// The prefix of an address; none where its length is none of RFC 6052 (32, 40, 48, 56, 64 or 96 bits), or it leads to no
    /// other host.
    pub fn new(address: Ipv6Addr, length: u8) -> Option<Self> {
        if !LENGTHS.contains(&length) {
            return None;
        }
        let bits = Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - u32::from(length))));
        let octets = bits.octets();
        // 64 to 71 are zero, whatever the length.
        let whole = octets[8] == 0;
        let leads = !bits.is_multicast() && !bits.is_unicast_link_local() && octets[..4] != [0; 4];
        (whole && leads && !is_eid(bits.into())).then_some(Self { bits, length })
    }

    /// What a name server makes of [`NAME`] tells the prefix (RFC 7050, section 3); none where it makes nothing of it.
    pub fn discover(answers: &[IpAddr]) -> Option<Self> {
        let mut found: Vec<(Self, usize)> = Vec::new();
        for answer in answers {
            let IpAddr::V6(answer) = answer else { continue };
            for prefix in LENGTHS.into_iter().filter_map(|length| Self::new(*answer, length)) {
                if prefix.read(*answer).is_some_and(|v4| KNOWN.contains(&v4)) {
                    match found.iter_mut().find(|(known, _)| *known == prefix) {
                        Some((_, times)) => *times += 1,
                        None => found.push((prefix, 1)),
                    }
                }
            }
        }
        // In one of the two a known address may stand by chance at another place, too.
        let most = found.iter().map(|(_, times)| *times).max()?;
        found.into_iter().find(|(_, times)| *times == most).map(|(prefix, _)| prefix)
    }

    /// The IPv6 address that stands for an IPv4 address.
    pub fn write(self, address: Ipv4Addr) -> Ipv6Addr {
        let mut octets = self.bits.octets();
        let places = (usize::from(self.length / 8)..).filter(|place| *place != 8);
        for (place, octet) in places.zip(address.octets()) {
            if let Some(at) = octets.get_mut(place) {
                *at = octet;
            }
        }
        octets.into()
    }

    /// The IPv4 address that an IPv6 address stands for, if it stands for one.
    pub fn read(self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let octets = address.octets();
        let places = (usize::from(self.length / 8)..16).filter(|place| *place != 8);
        let mut v4 = [0; 4];
        for (octet, place) in v4.iter_mut().zip(places) {
            *octet = *octets.get(place)?;
        }
        let v4 = Ipv4Addr::from(v4);
        (self.write(v4) == address).then_some(v4)
    }

    /// The same of an address with a port, where it is of IPv4.
    pub fn write_to(self, at: SocketAddr) -> SocketAddr {
        match at.ip() {
            IpAddr::V4(v4) => SocketAddr::new(self.write(v4).into(), at.port()),
            IpAddr::V6(_) => at,
        }
    }

    /// The same of an address with a port, where it stands for one of IPv4.
    pub fn read_from(self, at: SocketAddr) -> Option<SocketAddr> {
        match at.ip() {
            IpAddr::V6(v6) => Some(SocketAddr::new(self.read(v6)?.into(), at.port())),
            IpAddr::V4(_) => None,
        }
    }
}

impl fmt::Display for Nat64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bits, self.length)
    }
}

/// Whether a NAT64 is of use to an interface: it has IPv6 and no IPv4 of its own.
pub fn is_of_use(interface: &Interface) -> bool {
    let v4 = |ip: &IpAddr| ip.is_ipv4() && *ip != IpAddr::V4(SELF);
    interface.addresses.iter().any(IpAddr::is_ipv6) && !interface.addresses.iter().any(v4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    /// RFC 6052, section 2.4.
    #[test]
    fn addresses_are_written_as_in_the_tables_of_rfc_6052() {
        let v4 = Ipv4Addr::new(192, 0, 2, 33);
        for (prefix, length, whole) in [
            ("2001:db8::", 32, "2001:db8:c000:221::"),
            ("2001:db8:100::", 40, "2001:db8:1c0:2:21::"),
            ("2001:db8:122::", 48, "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::", 56, "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::", 64, "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::", 96, "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::", 96, "64:ff9b::192.0.2.33"),
        ] {
            let prefix = Nat64::new(v6(prefix), length).unwrap();
            assert_eq!(prefix.write(v4), v6(whole), "{prefix}");
            assert_eq!(prefix.read(v6(whole)), Some(v4), "{prefix}");
            assert_eq!(prefix.read(v6("2001:db9::1")), None, "{prefix}");
        }
    }

    #[test]
    fn a_prefix_is_found_by_what_a_name_server_makes_of_the_known_name() {
        for (text, length) in [("2001:db8::", 32), ("2001:db8:122:344::", 64), ("64:ff9b::", 96)] {
            let prefix = Nat64::new(v6(text), length).unwrap();
            let answers = KNOWN.map(|known| IpAddr::V6(prefix.write(known)));
            assert_eq!(Nat64::discover(&answers), Some(prefix));
            assert_eq!(Nat64::discover(&answers[1..]), Some(prefix), "one is enough");
        }
        // The prefix itself has one of the known addresses, at another place.
        let prefix = Nat64::new(v6("2001:db8:c000:aa::"), 96).unwrap();
        let answers = KNOWN.map(|known| IpAddr::V6(prefix.write(known)));
        assert_eq!(Nat64::discover(&answers), Some(prefix));
    }

    #[test]
    fn what_is_no_prefix_is_not_taken_for_one() {
        let plain = KNOWN.map(IpAddr::V4);
        assert_eq!(Nat64::discover(&plain), None, "there is no NAT64");
        assert_eq!(Nat64::discover(&[]), None);
        for lie in
            ["::ffff:192.0.0.170", "::192.0.0.170", "fe80::192.0.0.170", "ff02::192.0.0.170", "2001:db8::1"]
        {
            assert_eq!(Nat64::discover(&[lie.parse().unwrap()]), None, "{lie}");
        }
        let own = IpAddr::from(Ipv6Addr::from([0xfd4d, 0x6173, 0x7400, 0, 0, 0, 0xc000, 0x00aa]));
        assert_eq!(Nat64::discover(&[own]), None, "it would lead into the tunnel");
        for length in [0, 1, 31, 33, 95, 97, 128, 255] {
            assert_eq!(Nat64::new(v6("2001:db8::"), length), None);
        }
    }
}
