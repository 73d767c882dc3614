//! Routing messages of macOS, as bytes: what `sysctl` tells of interfaces and routes, what a routing socket announces, and
//! what is asked of it.
//!
//! Layouts and values are those of Apple's published headers (xnu: `bsd/net/route.h`, `bsd/net/if.h`, `bsd/net/if_dl.h`,
//! `bsd/net/if_types.h`, `bsd/sys/socket.h`, `bsd/netinet6/in6_var.h`); where the crate libc has the same, the compiler
//! compares them (`check.rs`). Numbers are in the byte order of the machine, which on a Mac is little-endian.
//!
//! Nothing here trusts a length: what does not fit is left out, and every message takes at least its header, so that
//! reading ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mast_engine::os::Prefix;

/// `RTM_VERSION`.
pub const VERSION: u8 = 5;
/// `RTM_ADD`: a route came, or shall come.
pub const ADD: u8 = 1;
/// `RTM_DELETE`.
pub const DELETE: u8 = 2;
/// `RTM_CHANGE`.
pub const CHANGE: u8 = 3;
/// `RTM_GET`: a route, as it is listed.
pub const GET: u8 = 4;
/// `RTM_REDIRECT`.
pub const REDIRECT: u8 = 6;
/// `RTM_MISS`: somebody asked for a way that there is not. Some systems announce thousands a second.
pub const MISS: u8 = 7;
/// `RTM_NEWADDR`.
pub const NEW_ADDRESS: u8 = 0xc;
/// `RTM_DELADDR`.
pub const DELETE_ADDRESS: u8 = 0xd;
/// `RTM_IFINFO`.
pub const INTERFACE: u8 = 0xe;

/// `RTF_UP`.
pub const UP: u32 = 0x1;
/// `RTF_GATEWAY`.
pub const GATEWAY: u32 = 0x2;
/// `RTF_HOST`: to one address, without a mask.
pub const HOST: u32 = 0x4;
/// `RTF_LLINFO`: a neighbour.
pub const NEIGHBOUR: u32 = 0x400;
/// `RTF_STATIC`: somebody set it.
pub const STATIC: u32 = 0x800;
/// `RTF_WASCLONED`: the system made it of another when it was used.
pub const CLONED: u32 = 0x2_0000;
/// `RTF_BROADCAST`.
pub const BROADCAST: u32 = 0x40_0000;
/// `RTF_MULTICAST`.
pub const MULTICAST: u32 = 0x80_0000;
/// `RTF_IFSCOPE`: for sockets that are bound to its interface alone.
pub const SCOPED: u32 = 0x100_0000;
/// `RTF_CONDEMNED`: on its way out.
pub const CONDEMNED: u32 = 0x200_0000;
/// `RTF_DEAD`.
pub const DEAD: u32 = 0x2000_0000;

/// `IFF_UP` of an interface.
pub const INTERFACE_UP: u32 = 0x1;
/// `IFF_LOOPBACK`.
pub const LOOPBACK: u32 = 0x8;
/// `IFF_POINTOPOINT`.
pub const POINT_TO_POINT: u32 = 0x10;
/// `IFF_RUNNING`: it has what it needs to carry something.
pub const RUNNING: u32 = 0x40;

/// `IFT_OTHER`: what utun is.
#[cfg(test)]
pub const KIND_OTHER: u8 = 0x1;
/// `IFT_ETHER`: cables, and Wi-Fi as well.
pub const KIND_ETHERNET: u8 = 0x6;
/// `IFT_CELLULAR`.
pub const KIND_CELLULAR: u8 = 0xff;

/// `AF_INET`.
pub const INET: u8 = 2;
/// `AF_LINK`.
pub const LINK: u8 = 18;
/// `AF_INET6`.
pub const INET6: u8 = 30;

/// `RTAX_DST` and so on: the order in which addresses follow a header, each of them there if its bit is set.
const DESTINATION: usize = 0;
const WAY: usize = 1;
const MASK: usize = 2;
const OF_INTERFACE: usize = 4;
const SOURCE: usize = 5;
/// `RTAX_MAX`.
const PLACES: usize = 8;

/// The length of `struct rt_msghdr`.
pub const ROUTE_HEADER: usize = 92;
/// The length of `struct if_msghdr`.
pub const INTERFACE_HEADER: usize = 112;
/// The length of `struct ifa_msghdr`.
pub const ADDRESS_HEADER: usize = 20;

fn byte(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// One message, not yet understood.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// What it is about, such as [`ADD`].
    pub kind: u8,
    bytes: &'a [u8],
}

/// The messages that lie one after the other. What follows one whose length cannot be is left out.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        loop {
            let length = usize::from(short(bytes, 0)?);
            // Length, version and kind.
            if length < 4 {
                return None;
            }
            let (message, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            if byte(message, 2)? == VERSION {
                return Some(Message { kind: byte(message, 3)?, bytes: message });
            }
        }
    })
}

/// The addresses behind a header, each in its place.
fn addresses(mut bytes: &[u8], which: u32) -> [Option<&[u8]>; PLACES] {
    let mut all = [None; PLACES];
    for (place, slot) in all.iter_mut().enumerate() {
        if which & (1 << place) == 0 {
            continue;
        }
        let Some(length) = byte(bytes, 0).map(usize::from) else { break };
        let Some(address) = bytes.get(..length) else { break };
        *slot = Some(address);
        // Each takes a multiple of four bytes, and an empty one four.
        bytes = bytes.get(length.next_multiple_of(4).max(4)..).unwrap_or_default();
    }
    all
}

/// The address of a `sockaddr_in` or `sockaddr_in6`. The system writes the number of the interface into link-local ones,
/// behind their first two bytes.
fn ip(address: &[u8]) -> Option<IpAddr> {
    match byte(address, 1)? {
        INET => Some(Ipv4Addr::from(*address.get(4..)?.first_chunk::<4>()?).into()),
        INET6 => {
            let mut octets = *address.get(8..)?.first_chunk::<16>()?;
            if matches!(octets, [0xfe, 0x80..=0xbf, ..] | [0xff, 0x01 | 0x02, ..]) {
                octets[2..4].fill(0);
            }
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

/// The length of a prefix by its mask, of which zeros at the end are not written.
fn prefix_length(mask: &[u8], v4: bool) -> u8 {
    let bits = mask.get(if v4 { 4 } else { 8 }..).unwrap_or_default();
    let longest = if v4 { 4 } else { 16 };
    let mut length = 0;
    for byte in bits.iter().take(longest) {
        length += byte.leading_ones() as u8;
        if *byte != 0xff {
            break;
        }
    }
    length
}

/// An interface, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub index: u16,
    /// Its name, such as `en0`.
    pub name: String,
    /// Of [`INTERFACE_UP`] and so on.
    pub flags: u32,
    /// Of [`KIND_ETHERNET`] and so on.
    pub kind: u8,
    /// In bytes.
    pub mtu: u32,
}

/// An address of an interface, as it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The interface's number.
    pub index: u16,
    /// The address itself.
    pub ip: IpAddr,
    /// The length of its on-link prefix in bits.
    pub prefix: u8,
}

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where it leads.
    pub prefix: Prefix,
    /// The number of the interface that it leads to.
    pub index: u16,
    /// None where the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Of [`HOST`] and so on.
    pub flags: u32,
}

impl Message<'_> {
    /// The interface of an [`INTERFACE`] message.
    pub fn interface(&self) -> Option<Interface> {
        if self.kind != INTERFACE {
            return None;
        }
        let all = addresses(self.bytes.get(INTERFACE_HEADER..)?, word(self.bytes, 4)?);
        // A `sockaddr_dl`: eight bytes, the sixth of which is the length of the name that follows.
        let link = all[OF_INTERFACE]?;
        let name = link.get(8..8 + usize::from(byte(link, 5)?))?;
        Some(Interface {
            index: short(self.bytes, 12)?,
            name: String::from_utf8_lossy(name).into_owned(),
            flags: word(self.bytes, 8)?,
            kind: byte(self.bytes, 16)?,
            mtu: word(self.bytes, 24)?,
        })
    }

    /// The address of a [`NEW_ADDRESS`] or [`DELETE_ADDRESS`] message.
    pub fn address(&self) -> Option<Address> {
        if !matches!(self.kind, NEW_ADDRESS | DELETE_ADDRESS) {
            return None;
        }
        let all = addresses(self.bytes.get(ADDRESS_HEADER..)?, word(self.bytes, 4)?);
        let ip = ip(all[SOURCE]?)?;
        let prefix = all[MASK].map_or(Prefix::host(ip).length, |mask| prefix_length(mask, ip.is_ipv4()));
        Some(Address { index: short(self.bytes, 12)?, ip, prefix })
    }

    /// The route of a message about one.
    pub fn route(&self) -> Option<Route> {
        if !matches!(self.kind, ADD | DELETE | CHANGE | GET) {
            return None;
        }
        let flags = word(self.bytes, 8)?;
        let all = addresses(self.bytes.get(ROUTE_HEADER..)?, word(self.bytes, 12)?);
        let address = ip(all[DESTINATION]?)?;
        let length = match all[MASK] {
            Some(mask) if flags & HOST == 0 => prefix_length(mask, address.is_ipv4()),
            None if flags & HOST == 0 && address.is_unspecified() => 0,
            _ => Prefix::host(address).length,
        };
        let way = all[WAY];
        // A way to a link has its number in itself; the header's own is empty in what is asked.
        let link = way.filter(|way| byte(way, 1) == Some(LINK)).and_then(|way| short(way, 2));
        let index = short(self.bytes, 4).filter(|index| *index != 0).or(link)?;
        let gateway = way.filter(|_| flags & GATEWAY != 0).and_then(ip);
        Some(Route { prefix: Prefix { address, length }.masked(), index, gateway, flags })
    }

    /// The preferred source of a message about a route.
    #[cfg(test)]
    pub fn source(&self) -> Option<IpAddr> {
        let all = addresses(self.bytes.get(ROUTE_HEADER..)?, word(self.bytes, 12)?);
        ip(all[SOURCE]?)
    }
}

impl Route {
    /// It is one that somebody set or that a network has, and not what the system makes for its own use.
    pub fn is_lasting(&self) -> bool {
        self.flags & UP != 0
            && self.flags & (NEIGHBOUR | CLONED | BROADCAST | MULTICAST | CONDEMNED | DEAD) == 0
            && !self.prefix.address.is_multicast()
    }

    /// It is for all sockets, and not for those alone that are bound to its interface.
    pub fn is_for_all(&self) -> bool {
        self.flags & SCOPED == 0
    }
}

/// Whether what is announced may change what [`crate::macos`] publishes. What nobody found a way for, and what somebody
/// asked, does not.
pub fn concerns(bytes: &[u8]) -> bool {
    messages(bytes).any(|message| match message.kind {
        // What the system makes and drops as it is used is not what routes there are.
        ADD | DELETE | CHANGE => {
            message.route().is_none_or(|route| route.is_lasting() || route.flags & UP == 0)
        }
        MISS | GET => false,
        NEW_ADDRESS | DELETE_ADDRESS | INTERFACE | REDIRECT => true,
        _ => false,
    })
}

fn sockaddr(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => {
            let mut all = vec![16, INET, 0, 0];
            all.extend(ip.octets());
            all.resize(16, 0);
            all
        }
        IpAddr::V6(ip) => {
            let mut all = vec![28, INET6, 0, 0, 0, 0, 0, 0];
            all.extend(ip.octets());
            all.resize(28, 0);
            all
        }
    }
}

/// The mask of a prefix as an address.
pub fn mask(prefix: Prefix) -> IpAddr {
    match prefix.address {
        IpAddr::V4(_) => {
            let rest = 32 - u32::from(prefix.length.min(32));
            Ipv4Addr::from(u32::MAX.checked_shl(rest).unwrap_or(0)).into()
        }
        IpAddr::V6(_) => {
            let rest = 128 - u32::from(prefix.length.min(128));
            Ipv6Addr::from(u128::MAX.checked_shl(rest).unwrap_or(0)).into()
        }
    }
}

/// A request to make ([`ADD`]), alter ([`CHANGE`]) or remove ([`DELETE`]) a route into an interface, with the preferred
/// source, if any. `number` comes back in the system's answer.
pub fn request(kind: u8, prefix: Prefix, index: u16, source: Option<IpAddr>, number: u32) -> Vec<u8> {
    let prefix = prefix.masked();
    let host = prefix.length == Prefix::host(prefix.address).length;
    let mut which = 1 << DESTINATION | 1 << WAY;
    let mut behind = sockaddr(prefix.address);
    // A `sockaddr_dl` with nothing but the number.
    behind.extend([20, LINK]);
    behind.extend(index.to_le_bytes());
    behind.extend([0; 16]);
    if !host {
        which |= 1 << MASK;
        behind.extend(sockaddr(mask(prefix)));
    }
    if let Some(source) = source {
        which |= 1 << SOURCE;
        behind.extend(sockaddr(source));
    }
    let flags = UP | STATIC | if host { HOST } else { 0 };
    let mut message = vec![0; ROUTE_HEADER];
    let length = u16::try_from(ROUTE_HEADER + behind.len()).unwrap_or(u16::MAX);
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(room) = message.get_mut(at..at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
    };
    put(0, &length.to_le_bytes());
    put(2, &[VERSION, kind]);
    put(4, &index.to_le_bytes());
    put(8, &flags.to_le_bytes());
    put(12, &u32::to_le_bytes(which));
    put(20, &number.to_le_bytes());
    message.extend(behind);
    message
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
pub(super) mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix { address: address.parse().unwrap(), length: length.parse().unwrap() }
    }

    fn put(message: &mut [u8], at: usize, bytes: &[u8]) {
        message[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn finish(mut message: Vec<u8>, kind: u8) -> Vec<u8> {
        let length = u16::try_from(message.len()).unwrap();
        put(&mut message, 0, &length.to_le_bytes());
        put(&mut message, 2, &[VERSION, kind]);
        message
    }

    /// An interface as the system lists it.
    pub fn listed_interface(interface: &Interface) -> Vec<u8> {
        let mut message = vec![0; INTERFACE_HEADER];
        put(&mut message, 4, &(1u32 << OF_INTERFACE).to_le_bytes());
        put(&mut message, 8, &interface.flags.to_le_bytes());
        put(&mut message, 12, &interface.index.to_le_bytes());
        put(&mut message, 16, &[interface.kind]);
        put(&mut message, 24, &interface.mtu.to_le_bytes());
        let name = interface.name.as_bytes();
        let mut link = vec![20, LINK];
        link.extend(interface.index.to_le_bytes());
        link.extend([interface.kind, u8::try_from(name.len()).unwrap(), 0, 0]);
        link.extend(name);
        link.resize(20, 0);
        message.extend(link);
        finish(message, INTERFACE)
    }

    /// An address as the system lists it: with a mask whose zeros at the end are not written.
    pub fn listed_address(address: &Address) -> Vec<u8> {
        let mut message = vec![0; ADDRESS_HEADER];
        put(&mut message, 4, &(1u32 << MASK | 1 << SOURCE).to_le_bytes());
        put(&mut message, 12, &address.index.to_le_bytes());
        message.extend(short_mask(Prefix { address: address.ip, length: address.prefix }));
        message.extend(scoped(address.ip, address.index));
        finish(message, NEW_ADDRESS)
    }

    /// A route as the system lists it.
    pub fn listed_route(route: &Route) -> Vec<u8> {
        let mut message = vec![0; ROUTE_HEADER];
        let host = route.flags & HOST != 0;
        let which = 1u32 << DESTINATION | 1 << WAY | if host { 0 } else { 1 << MASK };
        put(&mut message, 4, &route.index.to_le_bytes());
        put(&mut message, 8, &route.flags.to_le_bytes());
        put(&mut message, 12, &which.to_le_bytes());
        message.extend(scoped(route.prefix.address, route.index));
        match route.gateway {
            Some(gateway) => message.extend(scoped(gateway, route.index)),
            None => {
                message.extend([20, LINK]);
                message.extend(route.index.to_le_bytes());
                message.extend([0; 16]);
            }
        }
        if !host {
            message.extend(short_mask(route.prefix));
        }
        finish(message, GET)
    }

    fn scoped(address: IpAddr, index: u16) -> Vec<u8> {
        let mut all = sockaddr(address);
        if matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            put(&mut all, 10, &index.to_be_bytes());
        }
        all
    }

    fn short_mask(prefix: Prefix) -> Vec<u8> {
        let mut all = sockaddr(mask(prefix));
        let long = all.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
        // The family is not written either.
        all[1] = 0;
        let long = if prefix.length == 0 { 0 } else { long };
        all.truncate(long.max(1));
        all[0] = u8::try_from(long).unwrap();
        all.resize(long.next_multiple_of(4).max(4), 0);
        all
    }

    /// `sysctl net.route … NET_RT_DUMP` of a Mac, written out by the header files: the default route of `en0` (4).
    #[test]
    fn a_default_route_is_read_as_it_is_written_in_apples_headers() {
        let mut bytes = vec![
            128, 0, 5, 4, // rtm_msglen, rtm_version, rtm_type
            4, 0, 0, 0, // rtm_index, and two bytes of nothing
            0x03, 0x08, 0x00, 0x00, // rtm_flags: UP, GATEWAY, STATIC
            0x07, 0, 0, 0, // rtm_addrs: DST, GATEWAY, NETMASK
        ];
        bytes.resize(92, 0);
        bytes.extend([16, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([16, 2, 0, 0, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([0, 0, 0, 0]);
        assert_eq!(bytes.len(), 128);
        let all: Vec<Route> = messages(&bytes).filter_map(|m| m.route()).collect();
        let expected = Route {
            prefix: prefix("0.0.0.0/0"),
            index: 4,
            gateway: Some("192.0.2.1".parse().unwrap()),
            flags: 0x803,
        };
        assert_eq!(all, [expected]);
    }

    #[test]
    fn interfaces_addresses_and_routes_are_read_one_after_the_other() {
        let interface =
            Interface { index: 12, name: "en0".into(), flags: 0x8863, kind: KIND_ETHERNET, mtu: 1500 };
        let mut bytes = listed_interface(&interface);
        let mut addresses = Vec::new();
        for (ip, prefix) in
            [("192.0.2.7", 24), ("fe80::1", 64), ("2001:db8::7", 64), ("10.0.0.1", 32), ("fd00::1", 128)]
        {
            addresses.push(Address { index: 12, ip: ip.parse().unwrap(), prefix });
        }
        let mut routes = Vec::new();
        for text in
            ["0.0.0.0/0", "128.0.0.0/1", "10.64.0.0/10", "::/0", "8000::/1", "2001:db8::/33", "fe80::/64"]
        {
            routes.push(Route { prefix: prefix(text), index: 12, gateway: None, flags: UP });
        }
        let to_one = Route { prefix: prefix("192.0.2.9/32"), index: 12, gateway: None, flags: UP | HOST };
        routes.push(to_one);
        addresses.iter().for_each(|address| bytes.extend(listed_address(address)));
        routes.iter().for_each(|route| bytes.extend(listed_route(route)));
        assert_eq!(messages(&bytes).filter_map(|m| m.interface()).collect::<Vec<_>>(), [interface]);
        assert_eq!(messages(&bytes).filter_map(|m| m.address()).collect::<Vec<_>>(), addresses);
        assert_eq!(messages(&bytes).filter_map(|m| m.route()).collect::<Vec<_>>(), routes);
    }

    #[test]
    fn what_is_asked_is_read_as_it_was_meant() {
        for (text, source) in [
            ("10.77.0.0/16", None),
            ("0.0.0.0/1", Some("10.77.0.1")),
            ("10.77.0.9/32", None),
            ("fd77::/16", Some("fd77::1")),
            ("8000::/1", None),
            ("fd77::9/128", Some("fd77::1")),
        ] {
            let source = source.map(|s| s.parse().unwrap());
            let bytes = request(ADD, prefix(text), 21, source, 7);
            let message = messages(&bytes).next().unwrap();
            let route = message.route().unwrap();
            assert_eq!((route.prefix, route.index, message.source()), (prefix(text), 21, source), "{text}");
            assert!(route.is_lasting() && route.is_for_all() && route.gateway.is_none());
            assert_eq!(u32::from_le_bytes(*bytes[20..].first_chunk().unwrap()), 7);
            assert_eq!(bytes.len() % 4, 0);
        }
    }

    #[test]
    fn a_flood_of_what_nobody_found_concerns_nobody() {
        let route = Route { prefix: prefix("10.0.0.0/8"), index: 4, gateway: None, flags: UP };
        let of = |kind: u8, flags: u32| {
            let mut message = listed_route(&Route { flags, ..route });
            message[3] = kind;
            message
        };
        for (bytes, concerned) in [
            (of(MISS, UP), false),
            (of(GET, UP), false),
            (of(ADD, UP), true),
            (of(DELETE, 0), true),
            (of(ADD, UP | CLONED), false),
            (of(ADD, UP | NEIGHBOUR), false),
            (of(0x42, UP), false),
        ] {
            assert_eq!(concerns(&bytes), concerned, "{}", bytes[3]);
        }
        let flood: Vec<u8> = (0..1000).flat_map(|_| of(MISS, UP)).collect();
        assert!(!concerns(&flood));
        let last = [flood, of(ADD, UP)].concat();
        assert!(concerns(&last), "one that counts is found among them");
    }

    #[test]
    fn nothing_that_comes_makes_it_go_wrong() {
        let interface = Interface { index: 1, name: "lo0".into(), flags: 8, kind: 0x18, mtu: 16384 };
        let address = Address { index: 1, ip: "fe80::1".parse().unwrap(), prefix: 64 };
        let route = Route { prefix: prefix("fd00::/8"), index: 1, gateway: None, flags: UP };
        let good = [listed_interface(&interface), listed_address(&address), listed_route(&route)].concat();
        let read = |bytes: &[u8]| {
            let all: Vec<_> =
                messages(bytes).map(|m| (m.interface(), m.address(), m.route(), m.source())).collect();
            assert!(all.len() <= bytes.len() / 4);
            concerns(bytes);
        };
        for end in 0..good.len() {
            read(&good[..end]);
        }
        // Every byte, to every extreme.
        for at in 0..good.len() {
            for value in [0, 1, 3, 4, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                read(&bad);
            }
        }
        // And what chance writes.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..64)
                .flat_map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state.to_le_bytes()
                })
                .collect();
            let mut bytes = bytes;
            put(&mut bytes, 0, &[200, 0, VERSION, (state % 16) as u8]);
            read(&bytes);
        }
    }
}
