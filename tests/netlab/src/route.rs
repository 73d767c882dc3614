//! Interfaces, addresses, routes and rules, as netlink messages.

use std::{
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
};

use crate::{
    error::{Error, Result},
    netlink::{CREATE, Message, Netlink},
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
/// The table that is consulted for everything.
pub(crate) const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RT_SCOPE_NOWHERE: u8 = 255;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FR_ACT_TO_TBL: u8 = 1;
const FR_ACT_BLACKHOLE: u8 = 6;
const IFF_UP: u32 = 1;

/// An address and a prefix length, parsed from text such as `10.0.0.1/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub(crate) address: IpAddr,
    pub(crate) length: u8,
}

impl Prefix {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bad = || Error::Prefix(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u8>().map_err(|_| bad())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(longest);
        if length > longest { Err(bad()) } else { Ok(Self { address, length }) }
    }

    fn family(self) -> u8 {
        family(self.address)
    }
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// One end of a veth pair to create.
pub(crate) struct End<'a, F> {
    pub(crate) name: &'a str,
    /// The index to give it; zero lets the kernel choose.
    pub(crate) index: u32,
    pub(crate) namespace: &'a F,
}

/// Creates a veth pair, each end directly in its namespace.
pub(crate) fn create_pair<F: AsFd>(netlink: &Netlink, a: End<'_, F>, b: End<'_, F>) -> Result<()> {
    let namespace = |end: &End<'_, F>| end.namespace.as_fd().as_raw_fd().cast_unsigned();
    let message = Message::new(RTM_NEWLINK, CREATE, &link_header(a.index, 0, 0))
        .text(IFLA_IFNAME, a.name)
        .number(IFLA_NET_NS_FD, namespace(&a))
        .nested(IFLA_LINKINFO, |m| {
            m.text(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_DATA, |m| {
                m.nested(VETH_INFO_PEER, |m| {
                    m.raw(&link_header(b.index, 0, 0))
                        .text(IFLA_IFNAME, b.name)
                        .number(IFLA_NET_NS_FD, namespace(&b))
                })
            })
        });
    netlink.request(format!("create the link {} - {}", a.name, b.name), message)
}

pub(crate) fn delete_link(netlink: &Netlink, name: &str) -> Result<()> {
    let message = Message::new(RTM_DELLINK, 0, &link_header(0, 0, 0)).text(IFLA_IFNAME, name);
    netlink.request(format!("delete interface {name}"), message)
}

pub(crate) fn set_up(netlink: &Netlink, name: &str, up: bool) -> Result<()> {
    let flags = if up { IFF_UP } else { 0 };
    let message = Message::new(RTM_SETLINK, 0, &link_header(0, flags, IFF_UP)).text(IFLA_IFNAME, name);
    netlink.request(format!("set interface {name} {}", if up { "up" } else { "down" }), message)
}

/// Changes nothing, but waits for changes under way: the kernel handles them one at a time.
pub(crate) fn settle(netlink: &Netlink, name: &str) -> Result<()> {
    let message = Message::new(RTM_SETLINK, 0, &link_header(0, 0, 0)).text(IFLA_IFNAME, name);
    netlink.request(format!("look at interface {name}"), message)
}

pub(crate) fn set_mtu(netlink: &Netlink, name: &str, mtu: u32) -> Result<()> {
    let message =
        Message::new(RTM_SETLINK, 0, &link_header(0, 0, 0)).text(IFLA_IFNAME, name).number(IFLA_MTU, mtu);
    netlink.request(format!("set the MTU of {name} to {mtu}"), message)
}

/// Gives an interface another name, while it is up as well.
pub(crate) fn rename(netlink: &Netlink, index: u32, name: &str) -> Result<()> {
    let message = Message::new(RTM_SETLINK, 0, &link_header(index, 0, 0)).text(IFLA_IFNAME, name);
    netlink.request(format!("call an interface {name}"), message)
}

pub(crate) fn address(netlink: &Netlink, index: u32, text: &str, add: bool) -> Result<()> {
    let verb = if add { "add" } else { "delete" };
    netlink.request(format!("{verb} address {text}"), address_message(index, text, add)?)
}

/// Takes addresses from interfaces and gives them to others, in one datagram.
pub(crate) fn move_addresses(netlink: &Netlink, moves: &[(u32, u32, &str)]) -> Result<()> {
    let taken = moves.iter().map(|(from, _, text)| address_message(*from, text, false));
    let given = moves.iter().map(|(_, to, text)| address_message(*to, text, true));
    netlink.batch("move addresses", taken.chain(given).collect::<Result<_>>()?)
}

fn address_message(index: u32, text: &str, add: bool) -> Result<Message> {
    let prefix = Prefix::parse(text)?;
    // `struct ifaddrmsg`: family, prefix length, flags, scope, index.
    let mut header = [prefix.family(), prefix.length, 0, 0, 0, 0, 0, 0];
    if prefix.address.is_ipv6() {
        header[2] = IFA_F_NODAD;
    }
    header[4..].copy_from_slice(&index.to_ne_bytes());
    let (kind, flags) = if add { (RTM_NEWADDR, CREATE) } else { (RTM_DELADDR, 0) };
    let bytes = octets(prefix.address);
    Ok(Message::new(kind, flags, &header).attribute(IFA_LOCAL, &bytes).attribute(IFA_ADDRESS, &bytes))
}

/// A unicast route.
pub(crate) struct Route<'a> {
    /// A prefix, or `default`.
    pub(crate) prefix: &'a str,
    pub(crate) via: Option<IpAddr>,
    pub(crate) index: u32,
    pub(crate) metric: u32,
    /// The table it is in, below 256.
    pub(crate) table: u8,
}

pub(crate) fn route(netlink: &Netlink, route: &Route<'_>, add: bool) -> Result<()> {
    let prefix = match (route.prefix, route.via) {
        ("default", Some(IpAddr::V6(_))) => Prefix::parse("::/0")?,
        ("default", _) => Prefix::parse("0.0.0.0/0")?,
        (text, _) => Prefix::parse(text)?,
    };
    if let Some(address) = route.via
        && family(address) != prefix.family()
    {
        return Err(Error::Family { address, prefix: route.prefix.to_owned() });
    }
    let direct = route.via.is_none() && prefix.address.is_ipv4();
    let scope = if direct { RT_SCOPE_LINK } else { RT_SCOPE_UNIVERSE };
    // To delete, any protocol, scope and type will do.
    let (kind, flags, verb, [protocol, scope, nature]) = if add {
        (RTM_NEWROUTE, CREATE, "add", [RTPROT_STATIC, scope, RTN_UNICAST])
    } else {
        (RTM_DELROUTE, 0, "delete", [0, RT_SCOPE_NOWHERE, 0])
    };
    // `struct rtmsg`: family, destination length, source length, TOS, table, protocol, scope, type, flags.
    let mut header = [0; 12];
    header[..2].copy_from_slice(&[prefix.family(), prefix.length]);
    header[4..8].copy_from_slice(&[route.table, protocol, scope, nature]);
    let mut message = Message::new(kind, flags, &header).number(RTA_OIF, route.index);
    if prefix.length > 0 {
        message = message.attribute(RTA_DST, &octets(prefix.address));
    }
    if let Some(via) = route.via {
        message = message.attribute(RTA_GATEWAY, &octets(via));
    }
    if route.metric > 0 {
        message = message.number(RTA_PRIORITY, route.metric);
    }
    netlink.request(format!("{verb} route {}", route.prefix), message)
}

/// Adds or removes a rule that silently discards packets to a prefix.
///
/// A rule rather than a blackhole route, because a route would collide with the connected route
/// of the same prefix; the kernel treats both alike (no ICMP for forwarded packets).
pub(crate) fn blackhole(netlink: &Netlink, text: &str, add: bool) -> Result<()> {
    let prefix = Prefix::parse(text)?;
    // `struct fib_rule_hdr`: family, destination length, source length, TOS, table, 0, 0, action, flags.
    let header = [prefix.family(), prefix.length, 0, 0, 0, 0, 0, FR_ACT_BLACKHOLE, 0, 0, 0, 0];
    let (kind, flags, verb) = if add { (RTM_NEWRULE, CREATE, "add") } else { (RTM_DELRULE, 0, "delete") };
    let mut message = Message::new(kind, flags, &header).number(FRA_PRIORITY, 1);
    if prefix.length > 0 {
        message = message.attribute(FRA_DST, &octets(prefix.address));
    }
    netlink.request(format!("{verb} black hole {text}"), message)
}

/// Adds a rule by which what has this source is sent by a table of its own.
pub(crate) fn source_rule(netlink: &Netlink, text: &str, table: u8) -> Result<()> {
    let prefix = Prefix::parse(text)?;
    let header = [prefix.family(), 0, prefix.length, 0, table, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
    let message = Message::new(RTM_NEWRULE, CREATE, &header)
        .number(FRA_PRIORITY, 1000)
        .attribute(FRA_SRC, &octets(prefix.address));
    netlink.request(format!("add a rule for {text}"), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_parse() {
        let prefix = Prefix::parse("10.1.2.3/24").unwrap();
        assert_eq!((prefix.address, prefix.length), ("10.1.2.3".parse().unwrap(), 24));
        assert_eq!(Prefix::parse("fd00::1").unwrap().length, 128);
        for bad in ["", "10.0.0.1/33", "fd00::/129", "10.0.0.1/x", "host/8"] {
            assert!(matches!(Prefix::parse(bad), Err(Error::Prefix(_))), "{bad}");
        }
    }
}
