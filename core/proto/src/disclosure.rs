//! What the user lets a peer know of this host.

use std::net::{IpAddr, Ipv4Addr};

/// Which of this host's addresses a peer is told, in SET. From where datagrams come every peer sees: that is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum AddressesTold {
    /// Those that are of use to it.
    #[default]
    All,
    /// Of these, those that are not private.
    PublicOnly,
    /// Those that relays lend. Where there are relays, nothing is sent to the peer, and nothing of it answered, but through
    /// them; where there are none, no address is told.
    RelayedOnly,
}

impl AddressesTold {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::All, Self::PublicOnly, Self::RelayedOnly];

    /// The word used in output and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::PublicOnly => "public-only",
            Self::RelayedOnly => "relayed-only",
        }
    }

    /// What a word means, if it means something.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|told| told.as_str() == word)
    }
}

/// What the user lets a peer know of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disclosure {
    /// Whether MAST may be spoken with it at all. Without, WireGuard alone is: INIT is neither sent nor answered.
    pub mast: bool,
    /// Which addresses it is told.
    pub addresses: AddressesTold,
    /// It is the user's own: it is told private addresses, too, that it may be unable to use.
    pub own: bool,
}

impl Default for Disclosure {
    fn default() -> Self {
        Self { mast: true, addresses: AddressesTold::All, own: false }
    }
}

impl Disclosure {
    /// The peer of a WireGuard file, of which nobody said more: whoever runs it is no peer of MAST.
    pub const WIREGUARD: Self = Self { mast: false, addresses: AddressesTold::All, own: false };
}

/// Whether an address may lead to this host from anywhere, as far as it shows: it is neither private nor of one link or
/// carrier alone.
pub fn is_public(ip: IpAddr) -> bool {
    is_of_use(ip) && private_block(ip).is_none()
}

/// The block of private addresses that an address is of, by its first address; none for others. From one block to the
/// other nothing leads but by accident, and within one there may be routes that this host does not know: a company's
/// networks, or the bridge of a hypervisor. So a block is one network here: those of RFC 1918, and of unique local
/// addresses (RFC 4193) each site's, which has 48 bits.
pub(crate) fn private_block(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => match ip.octets() {
            [10, ..] => Some(Ipv4Addr::new(10, 0, 0, 0).into()),
            [172, 16..=31, ..] => Some(Ipv4Addr::new(172, 16, 0, 0).into()),
            [192, 168, ..] => Some(Ipv4Addr::new(192, 168, 0, 0).into()),
            _ => None,
        },
        IpAddr::V6(ip) => ip
            .is_unique_local()
            .then(|| std::net::Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 80)).into()),
    }
}

/// Whether an address is of more than one network: link-local ones are not (RFC 3927, RFC 4291), nor are those of
/// 100.64.0.0/10 (RFC 6598): behind a carrier's NAT, or of another VPN, they lead to some other host from elsewhere. Those of
/// 192.0.0.0/29 are every host's own that translates IPv4 to IPv6 (RFC 7335).
pub(crate) fn is_of_use(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_link_local() && !is_shared(ip) && !is_continuity(ip),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}

fn is_continuity(ip: Ipv4Addr) -> bool {
    ip.to_bits() >> 3 == Ipv4Addr::new(192, 0, 0, 0).to_bits() >> 3
}

fn is_shared(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    a == 100 && b & 0b1100_0000 == 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_everybody_may_read_says_nothing_of_a_network_within() {
        for private in
            ["10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "169.254.1.1", "fd00::1", "fe80::1"]
        {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["192.0.2.1", "172.32.0.1", "100.128.0.1", "2001:db8::1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_block_is_one_network() {
        for (a, b) in [
            ("10.1.2.3", "10.250.0.1"),
            ("172.16.0.1", "172.31.9.9"),
            ("192.168.1.1", "192.168.178.2"),
            ("fd12:3456:789a:1::1", "fd12:3456:789a:ffff::2"),
        ] {
            assert!(
                private_block(ip(a)).is_some() && private_block(ip(a)) == private_block(ip(b)),
                "{a} {b}"
            );
        }
        for (a, b) in [
            ("10.1.2.3", "192.168.1.1"),
            ("172.16.0.1", "192.168.1.1"),
            ("fd12:3456:789a::1", "fd12:3456:789b::1"),
        ] {
            assert_ne!(private_block(ip(a)), private_block(ip(b)), "{a} {b}");
        }
        for public in ["192.0.2.1", "172.15.0.1", "172.32.0.1", "192.169.0.1", "11.0.0.1", "2001:db8::1"] {
            assert_eq!(private_block(ip(public)), None, "{public}");
        }
    }

    #[test]
    fn words_go_both_ways() {
        for told in AddressesTold::ALL {
            assert_eq!(AddressesTold::from_word(told.as_str()), Some(told));
        }
        assert_eq!(AddressesTold::from_word("none"), None);
    }
}
