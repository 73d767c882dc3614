//! Whether a peer can be reached at an address, and if not, why: nothing is left out without a word.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Why no peer can be reached at an address. The text says what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreachable {
    /// There is no port 0.
    Port,
    /// It stands for no host.
    Unspecified(IpAddr),
    /// It is that of a group.
    Multicast(IpAddr),
    /// It is everybody's.
    Broadcast,
    /// It is this host's own.
    Loopback(IpAddr),
    /// It is link-local, and does not say on which link.
    NoZone(std::net::Ipv6Addr),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port => f.write_str("the port must be 1 to 65535"),
            Self::Unspecified(ip) => write!(f, "{ip} stands for no host: write the peer's own address"),
            Self::Multicast(ip) => {
                write!(f, "{ip} is a multicast address, that of a group: write the peer's own address")
            }
            Self::Broadcast => {
                let ip = Ipv4Addr::BROADCAST;
                write!(f, "{ip} is everybody's address: write the peer's own")
            }
            Self::Loopback(ip) => write!(
                f,
                "{ip} is this machine itself, and peers are reached over its network interfaces only: write an address \
                 that the peer has in a network"
            ),
            Self::NoZone(ip) => write!(
                f,
                "{ip} is link-local, and may be another host on each link: write the zone, which is the interface that \
                 leads there, such as `{ip}%wlan0`"
            ),
        }
    }
}

/// Why no peer can be reached at an address; none if one may be.
pub fn why_unreachable(at: SocketAddr) -> Option<Unreachable> {
    let ip = at.ip();
    if at.port() == 0 {
        return Some(Unreachable::Port);
    }
    if ip.is_unspecified() {
        return Some(Unreachable::Unspecified(ip));
    }
    if ip.is_multicast() {
        return Some(Unreachable::Multicast(ip));
    }
    if ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Some(Unreachable::Broadcast);
    }
    if ip.is_loopback() {
        return Some(Unreachable::Loopback(ip));
    }
    match at {
        SocketAddr::V6(at) if at.ip().is_unicast_link_local() && at.scope_id() == 0 => {
            Some(Unreachable::NoZone(*at.ip()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_no_use_says_why() {
        for (text, fragment) in [
            ("192.0.2.1:0", "port"),
            ("0.0.0.0:1", "no host"),
            ("[::]:1", "no host"),
            ("224.0.0.1:1", "multicast"),
            ("[ff02::1]:1", "multicast"),
            ("255.255.255.255:1", "everybody"),
            ("127.0.0.1:1", "this machine itself"),
            ("[::1]:1", "this machine itself"),
            ("[fe80::1]:1", "write the zone"),
        ] {
            let why = why_unreachable(text.parse().unwrap()).unwrap().to_string();
            assert!(why.contains(fragment), "{text}: {why}");
        }
        for text in ["192.0.2.1:1", "169.254.7.1:1", "[fe80::1%3]:1", "[2001:db8::1]:65535", "10.0.0.255:1"] {
            assert_eq!(why_unreachable(text.parse().unwrap()), None, "{text}");
        }
    }
}
