//! Which versions of IP there are, and the addresses of the stage in each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mast_netlab::Host;

use crate::Result;

/// Which versions of IP the hosts and routers have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Addressing {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// Both, as most networks have today.
    #[default]
    Both,
}

/// A network of the stage, in both versions of IP: `Net(1, 5)` is `10.1.5.0/24` and `2001:db8:1:5::/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net(pub u8, pub u8);

impl Net {
    /// The IPv4 address of a host of this network.
    pub fn v4(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.0, self.1, host)
    }

    /// The IPv6 address of a host of this network.
    pub fn v6(self, host: u8) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, self.0.into(), self.1.into(), 0, 0, 0, host.into())
    }
}

impl std::str::FromStr for Addressing {
    type Err = String;

    /// From `v4`, `v6` or `both`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "v4" => Ok(Self::V4),
            "v6" => Ok(Self::V6),
            "both" => Ok(Self::Both),
            _ => Err(format!("`{text}` is none of v4, v6, both")),
        }
    }
}

impl std::fmt::Display for Addressing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
            Self::Both => "both",
        })
    }
}

impl Addressing {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Both];

    /// Whether IPv4 is among them.
    pub fn v4(self) -> bool {
        self != Self::V6
    }

    /// Whether IPv6 is among them.
    pub fn v6(self) -> bool {
        self != Self::V4
    }

    /// How many versions of IP there are.
    pub fn versions(self) -> usize {
        usize::from(self.v4()) + usize::from(self.v6())
    }

    /// The addresses of a host of a network.
    pub fn addresses(self, net: Net, host: u8) -> Vec<IpAddr> {
        let v4 = self.v4().then(|| net.v4(host).into());
        v4.into_iter().chain(self.v6().then(|| net.v6(host).into())).collect()
    }

    /// The same with the length of the network's prefix, as interfaces have them.
    pub fn with_length(self, net: Net, host: u8) -> Vec<String> {
        let length = |ip: &IpAddr| if ip.is_ipv4() { 24 } else { 64 };
        self.addresses(net, host).into_iter().map(|ip| format!("{ip}/{}", length(&ip))).collect()
    }

    /// Prefixes: all networks of one first number.
    fn prefixes(self, first: u8) -> impl Iterator<Item = String> {
        let length = |ip: &IpAddr| if ip.is_ipv4() { 16 } else { 48 };
        self.addresses(Net(first, 0), 0).into_iter().map(move |ip| format!("{ip}/{}", length(&ip)))
    }

    /// Gives an interface of a host its addresses in a network.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn add(self, at: &Host, interface: &str, net: Net, host: u8) -> Result<()> {
        self.with_length(net, host).iter().try_for_each(|address| Ok(at.add_address(interface, address)?))
    }

    /// Takes them away again. Those that depend on it, as routes do in IPv4, go with them.
    ///
    /// # Errors
    /// When the system refuses, as when one of them is not there.
    pub fn remove(self, at: &Host, interface: &str, net: Net, host: u8) -> Result<()> {
        self.with_length(net, host).iter().try_for_each(|address| Ok(at.del_address(interface, address)?))
    }

    /// Default routes by way of a host of a network. A metric of 0 is the kernel's default.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn add_default(self, at: &Host, interface: &str, net: Net, host: u8, metric: u32) -> Result<()> {
        let mut via = self.addresses(net, host).into_iter();
        via.try_for_each(|via| Ok(at.add_route("default", Some(&via.to_string()), interface, metric)?))
    }

    /// Takes them away again.
    ///
    /// # Errors
    /// When the system refuses, as when one of them is not there.
    pub fn del_default(self, at: &Host, interface: &str, net: Net, host: u8, metric: u32) -> Result<()> {
        let mut via = self.addresses(net, host).into_iter();
        via.try_for_each(|via| Ok(at.del_route("default", Some(&via.to_string()), interface, metric)?))
    }

    /// Routes to all networks of one first number, by way of a host of a network.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn add_routes(self, at: &Host, first: u8, interface: &str, net: Net, host: u8) -> Result<()> {
        let mut routes = self.prefixes(first).zip(self.addresses(net, host));
        routes
            .try_for_each(|(prefix, via)| Ok(at.add_route(&prefix, Some(&via.to_string()), interface, 0)?))
    }

    /// Discards at a router what goes to any network of one first number, silently, or no longer.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn silence(self, router: &Host, first: u8, on: bool) -> Result<()> {
        self.prefixes(first).try_for_each(|prefix| discard(router, &prefix, on))
    }

    /// Discards at a router what goes to one host, silently, or no longer.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn silence_host(self, router: &Host, net: Net, host: u8, on: bool) -> Result<()> {
        self.addresses(net, host).iter().try_for_each(|ip| discard(router, &ip.to_string(), on))
    }
}

fn discard(router: &Host, prefix: &str, on: bool) -> Result<()> {
    let done = if on { router.blackhole(prefix) } else { router.unblackhole(prefix) };
    Ok(done?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

    use super::*;

    #[test]
    fn each_version_has_its_addresses() {
        let text = |a: Addressing| a.with_length(Net(1, 5), 2);
        assert_eq!(text(Addressing::Both), ["10.1.5.2/24", "2001:db8:1:5::2/64"]);
        assert_eq!(text(Addressing::V4), ["10.1.5.2/24"]);
        assert_eq!(text(Addressing::V6), ["2001:db8:1:5::2/64"]);
        assert_eq!(Addressing::Both.prefixes(9).collect::<Vec<_>>(), ["10.9.0.0/16", "2001:db8:9::/48"]);
        assert_eq!("both".parse::<Addressing>().unwrap(), Addressing::default());
        assert!("ipv4".parse::<Addressing>().is_err());
    }
}
