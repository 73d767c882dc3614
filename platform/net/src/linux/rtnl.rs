//! Links, addresses and routes: read from and changed through rtnetlink.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mast_engine::os::Prefix;
use nix::errno::Errno;

use super::answers;
use super::netlink::{
    Announced, CREATE, EXCLUSIVE, Message, NETLINK_ROUTE, NetlinkError, REPLACE, Request, Requests,
    attributes, text, u16_at, u32_at,
};
use super::protection::{DEL_RULE, NEW_RULE};

pub(super) const NEW_LINK: u16 = 16;
pub(super) const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const SET_LINK: u16 = 19;
const NEW_ADDRESS: u16 = 20;
const DEL_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const DEL_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;
/// Leave out the counters.
const EXT_MASK_SKIP_STATS: u32 = 1 << 3;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
/// A lifetime without end (`INFINITY_LIFE_TIME`).
const INFINITE: u32 = u32::MAX;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_OPTIMISTIC: u32 = 0x04;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const TABLE_DEFAULT: u8 = 253;
const TABLE_MAIN: u8 = 254;
const TABLE_LOCAL: u8 = 255;
const PROTOCOL_STATIC: u8 = 4;
/// Whose routes of the local table they are; the kernel's own are of another protocol.
const PROTOCOL_OURS: u8 = b'm';
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;
const TYPE_UNICAST: u8 = 1;
const TYPE_LOCAL: u8 = 2;
/// A route made for one destination in passing.
const ROUTE_CLONED: u32 = 0x200;

const AF_INET: u8 = libc::AF_INET as u8;
const AF_INET6: u8 = libc::AF_INET6 as u8;
const AF_BRIDGE: u8 = libc::AF_BRIDGE as u8;

/// The multicast groups that announce links, addresses, routes, rules, and settings of IPv4 such as its filters.
pub(super) const GROUPS: [u32; 8] = [1, 5, 7, 8, 9, 11, 19, 24];
const NEW_NETCONF: u16 = 80;

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// `IFF_*`.
    pub(super) flags: u32,
    /// `ARPHRD_*`.
    pub(super) hardware_type: u16,
    /// RFC 2863; 0 is unknown, 6 is up.
    pub(super) operstate: u8,
    /// The type of a virtual device (`veth`, `tun`, ...); hardware has none.
    pub(super) virtual_type: Option<String>,
    /// The device that this one is a port of.
    pub(super) master: Option<u32>,
    /// The hardware address.
    pub(super) address: Vec<u8>,
    /// In bytes.
    pub(super) mtu: u32,
}

impl Link {
    pub(super) fn is_up(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.flags & libc::IFF_LOOPBACK as u32 != 0
    }

    /// Administratively up, with carrier, and not waiting for anything such as an association.
    pub(super) fn can_carry(&self) -> bool {
        self.is_up() && self.flags & libc::IFF_LOWER_UP as u32 != 0 && matches!(self.operstate, 0 | 6)
    }

    pub(super) fn parse(message: &Message) -> Option<Self> {
        let payload = &message.payload;
        if message.kind != NEW_LINK || *payload.first()? == AF_BRIDGE {
            return None;
        }
        let mut link = Self {
            index: u32_at(payload, 4)?,
            name: String::new(),
            flags: u32_at(payload, 8)?,
            hardware_type: u16_at(payload, 2)?,
            operstate: 0,
            virtual_type: None,
            master: None,
            address: Vec::new(),
            mtu: 0,
        };
        for (kind, value) in attributes(payload.get(16..)?) {
            match kind {
                IFLA_IFNAME => link.name = text(value),
                IFLA_ADDRESS => link.address = value.to_vec(),
                IFLA_MTU => link.mtu = u32_at(value, 0)?,
                IFLA_OPERSTATE => link.operstate = *value.first()?,
                IFLA_MASTER => link.master = u32_at(value, 0).filter(|&m| m != 0),
                IFLA_LINKINFO => {
                    link.virtual_type = attributes(value).find(|a| a.0 == IFLA_INFO_KIND).map(|a| text(a.1));
                }
                _ => {}
            }
        }
        (!link.name.is_empty()).then_some(link)
    }
}

/// An address of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Assigned {
    pub(super) index: u32,
    pub(super) address: IpAddr,
    pub(super) prefix_length: u8,
    /// The other end's, on a link of two, where that is told.
    pub(super) opposite: Option<IpAddr>,
    /// `IFA_F_*`.
    flags: u32,
    scope: u8,
}

impl Assigned {
    /// Whether datagrams to the world may have this source now.
    pub(super) fn can_source(&self) -> bool {
        self.scope < SCOPE_LINK && self.is_assigned() && is_routable(self.address)
    }

    /// Whether nothing keeps it from being a source.
    fn is_assigned(&self) -> bool {
        let tentative = self.flags & (IFA_F_TENTATIVE | IFA_F_OPTIMISTIC) == IFA_F_TENTATIVE;
        self.flags & IFA_F_DADFAILED == 0 && !tentative
    }

    /// Whether nothing new should begin with it, though what uses it goes on (RFC 4862, 5.5.4).
    pub(super) fn is_deprecated(&self) -> bool {
        self.flags & IFA_F_DEPRECATED != 0
    }

    /// The address, if it is link-local, of IPv6, and datagrams on its link may have it as their source now.
    pub(super) fn link_local(&self) -> Option<Ipv6Addr> {
        let IpAddr::V6(address) = self.address else { return None };
        (address.is_unicast_link_local() && self.is_assigned()).then_some(address)
    }

    pub(super) fn parse(message: &Message) -> Option<Self> {
        let payload = &message.payload;
        if message.kind != NEW_ADDRESS {
            return None;
        }
        let (family, prefix_length, scope) = (*payload.first()?, *payload.get(1)?, *payload.get(3)?);
        let mut flags = u32::from(*payload.get(2)?);
        let (mut local, mut address) = (None, None);
        for (kind, value) in attributes(payload.get(8..)?) {
            match kind {
                IFA_LOCAL => local = ip(family, value),
                IFA_ADDRESS => address = ip(family, value),
                IFA_FLAGS => flags = u32_at(value, 0)?,
                _ => {}
            }
        }
        let opposite = address.filter(|_| local.is_some_and(|local| Some(local) != address));
        Some(Self {
            index: u32_at(payload, 4)?,
            address: local.or(address)?,
            prefix_length,
            opposite,
            flags,
            scope,
        })
    }
}

/// Whether an address is of more than its own host or link.
fn is_routable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => !(a.is_loopback() || a.is_link_local() || a.is_multicast() || a.is_unspecified()),
        IpAddr::V6(a) => {
            !(a.is_loopback() || a.is_unicast_link_local() || a.is_multicast() || a.is_unspecified())
        }
    }
}

/// A unicast route of the main table through one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Route {
    pub(super) index: u32,
    pub(super) prefix: Prefix,
    pub(super) gateway: Option<IpAddr>,
    pub(super) source: Option<IpAddr>,
    pub(super) metric: u32,
}

impl Route {
    pub(super) fn is_default(&self) -> bool {
        self.prefix.length == 0
    }

    /// One route of the main table per device that the message names; none if the route is of another sort.
    pub(super) fn parse(message: &Message, into: &mut BTreeSet<Self>) -> Option<()> {
        Self::parse_of(message, |table| table == u32::from(TABLE_MAIN), into)
    }

    /// The same of tables that other programs have beside.
    fn parse_elsewhere(message: &Message, into: &mut BTreeSet<Self>) -> Option<()> {
        let elsewhere = |table| {
            let known = [TABLE_MAIN, TABLE_DEFAULT, TABLE_LOCAL].map(u32::from);
            !known.contains(&table) && !answers::owns(table)
        };
        Self::parse_of(message, elsewhere, into)
    }

    fn parse_of(message: &Message, is_wanted: impl Fn(u32) -> bool, into: &mut BTreeSet<Self>) -> Option<()> {
        let payload = &message.payload;
        let family = *payload.first()?;
        if !matches!(message.kind, NEW_ROUTE | DEL_ROUTE)
            || !matches!(family, AF_INET | AF_INET6)
            || *payload.get(7)? != TYPE_UNICAST
            || u32_at(payload, 8)? & ROUTE_CLONED != 0
        {
            return None;
        }
        let mut table = u32::from(*payload.get(4)?);
        let any = if family == AF_INET {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        let mut route = Self {
            index: 0,
            prefix: Prefix { address: any, length: *payload.get(1)? },
            gateway: None,
            source: None,
            metric: 0,
        };
        let mut hops = Vec::new();
        for (kind, value) in attributes(payload.get(12..)?) {
            match kind {
                RTA_DST => route.prefix.address = ip(family, value)?,
                RTA_OIF => route.index = u32_at(value, 0)?,
                RTA_GATEWAY => route.gateway = ip(family, value),
                RTA_VIA => route.gateway = via(value),
                RTA_PREFSRC => route.source = ip(family, value),
                RTA_PRIORITY => route.metric = u32_at(value, 0)?,
                RTA_TABLE => table = u32_at(value, 0)?,
                RTA_MULTIPATH => hops = next_hops(family, value),
                _ => {}
            }
        }
        if !is_wanted(table) {
            return None;
        }
        if route.index != 0 {
            into.insert(route);
        }
        into.extend(hops.into_iter().map(|(index, gateway)| Self { index, gateway, ..route }));
        Some(())
    }
}

fn next_hops(family: u8, mut bytes: &[u8]) -> Vec<(u32, Option<IpAddr>)> {
    let mut list = Vec::new();
    while let (Some(length), Some(index)) = (u16_at(bytes, 0), u32_at(bytes, 4)) {
        let length = usize::from(length);
        let Some(inner) = bytes.get(8..length) else { break };
        let gateway = attributes(inner).find_map(|(kind, value)| match kind {
            RTA_GATEWAY => ip(family, value),
            RTA_VIA => via(value),
            _ => None,
        });
        list.push((index, gateway));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    list
}

/// A gateway of another family than the route's.
fn via(value: &[u8]) -> Option<IpAddr> {
    ip(u8::try_from(u16_at(value, 0)?).ok()?, value.get(2..)?)
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
        AF_INET6 => Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
        _ => None,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// What announcements mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Concern {
    /// To somebody who keeps the uplinks in mind.
    pub(super) uplinks: bool,
    /// To somebody who set addresses and routes of a TUN device, or rules: something of them may be gone.
    pub(super) declared: bool,
}

impl Concern {
    pub(super) const ALL: Self = Self { uplinks: true, declared: true };

    /// Adds what was announced. `tuns` are the TUN devices: nothing of theirs concerns uplinks.
    pub(super) fn add(&mut self, announced: &Announced, tuns: &BTreeSet<u32>) {
        let list = match announced {
            Announced::Nothing => return,
            Announced::Lost => return *self = Self::ALL,
            Announced::Messages(list) => list,
        };
        for message in list {
            match message.kind {
                NEW_LINK | DEL_LINK if message.payload.first() != Some(&AF_BRIDGE) => {
                    self.uplinks = true;
                    let own = u32_at(&message.payload, 4).is_some_and(|index| tuns.contains(&index));
                    // What goes down takes routes along that nobody tells of.
                    let flags_changed = u32_at(&message.payload, 12).is_some_and(|change| change != 0);
                    self.declared |= own || flags_changed;
                }
                NEW_ADDRESS | DEL_ADDRESS => {
                    let own = u32_at(&message.payload, 4).is_some_and(|index| tuns.contains(&index));
                    self.uplinks |= !own;
                    self.declared |= own && message.kind == DEL_ADDRESS;
                }
                NEW_ROUTE | DEL_ROUTE => {
                    let (mut routes, mut elsewhere) = (BTreeSet::new(), BTreeSet::new());
                    Route::parse(message, &mut routes);
                    Route::parse_elsewhere(message, &mut elsewhere);
                    self.uplinks |= routes.iter().any(|r| !tuns.contains(&r.index)) || !elsewhere.is_empty();
                    let own = routes.iter().any(|r| tuns.contains(&r.index));
                    let ours = table_of(message).is_some_and(answers::owns);
                    self.declared |= (own || ours) && message.kind == DEL_ROUTE;
                    // One that comes before those of a full tunnel, or to a peer's address, or in the place of one.
                    let replaced = message.flags & REPLACE != 0;
                    let before = |route: &Route| {
                        let length = route.prefix.length;
                        length == 1 || length == Prefix::host(route.prefix.address).length
                    };
                    self.declared |=
                        !own && message.kind == NEW_ROUTE && (replaced || routes.iter().any(before));
                }
                NEW_RULE | DEL_RULE => self.declared = true,
                NEW_NETCONF => self.declared = true,
                _ => {}
            }
        }
    }
}

/// A connection to rtnetlink, in the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Rtnl {
    pub(super) requests: Requests,
}

impl Rtnl {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { requests: Requests::open(NETLINK_ROUTE)? })
    }

    /// Every device.
    pub(super) fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let request = Request::new(GET_LINK, 0, &link_header(0, 0, 0))
            .attribute(IFLA_EXT_MASK, &EXT_MASK_SKIP_STATS.to_ne_bytes());
        Ok(self.requests.dump(&request)?.iter().filter_map(Link::parse).collect())
    }

    /// The device of a name, if there is one.
    pub(super) fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let request =
            Request::new(GET_LINK, 0, &link_header(0, 0, 0)).attribute(IFLA_IFNAME, &terminated(name));
        match self.requests.get(request) {
            Ok(message) => Ok(message.as_ref().and_then(Link::parse)),
            Err(error) if error.errno == Errno::ENODEV => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a device is called.
    pub(super) fn name_of(&mut self, index: u32) -> String {
        let link = self.requests.get(Request::new(GET_LINK, 0, &link_header(index, 0, 0)));
        let link = link.ok().flatten().as_ref().and_then(Link::parse);
        link.map_or_else(|| format!("interface {index}"), |link| link.name)
    }

    /// Every address of every device.
    pub(super) fn addresses(&mut self) -> Result<Vec<Assigned>, NetlinkError> {
        let list = self.requests.dump(&Request::new(GET_ADDRESS, 0, &[0; 8]))?;
        Ok(list.iter().filter_map(Assigned::parse).collect())
    }

    /// Every unicast route of the main table.
    pub(super) fn routes(&mut self) -> Result<BTreeSet<Route>, NetlinkError> {
        let mut routes = BTreeSet::new();
        for family in [AF_INET, AF_INET6] {
            let header = [family, 0, 0, 0, TABLE_MAIN, 0, 0, 0, 0, 0, 0, 0];
            match self.requests.dump(&Request::new(GET_ROUTE, 0, &header)) {
                Ok(list) => {
                    for message in &list {
                        Route::parse(message, &mut routes);
                    }
                }
                // No table yet, or no such protocol in this kernel.
                Err(error)
                    if matches!(error.errno, Errno::ENOENT | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(routes)
    }

    /// Every unicast route of IPv4 in tables other than main that are not ours: Tailscale's and policy routing's.
    pub(super) fn routes_elsewhere(&mut self) -> Result<BTreeSet<Route>, NetlinkError> {
        let mut routes = BTreeSet::new();
        let header = [AF_INET, 0, 0, 0, 0, 0, 0, TYPE_UNICAST, 0, 0, 0, 0];
        for message in &self.requests.dump(&Request::new(GET_ROUTE, 0, &header))? {
            Route::parse_elsewhere(message, &mut routes);
        }
        Ok(routes)
    }

    /// The addresses of one device.
    pub(super) fn addresses_of(&mut self, index: u32) -> Result<Vec<Assigned>, NetlinkError> {
        // `struct ifaddrmsg`; older kernels tell of all devices all the same.
        let mut header = [0; 8];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        let list = self.requests.dump(&Request::new(GET_ADDRESS, 0, &header))?;
        Ok(list.iter().filter_map(Assigned::parse).filter(|a| a.index == index).collect())
    }

    /// The IPv4 addresses that the host takes for itself by [`put_local`] with this device.
    pub(super) fn locals_of(&mut self, index: u32) -> Result<BTreeSet<IpAddr>, NetlinkError> {
        let header = [AF_INET, 0, 0, 0, TABLE_LOCAL, PROTOCOL_OURS, 0, TYPE_LOCAL, 0, 0, 0, 0];
        let request = Request::new(GET_ROUTE, 0, &header).attribute(RTA_OIF, &index.to_ne_bytes());
        let list = self.requests.dump(&request)?;
        Ok(list.iter().filter_map(|message| local(message, index)).collect())
    }

    /// The devices, by number, over which the default route of a table of ours leads.
    pub(super) fn uplinks_of_table(&mut self, family: u8, table: u32) -> Result<Vec<u32>, NetlinkError> {
        let request = Request::new(GET_ROUTE, 0, &[family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            .attribute(RTA_TABLE, &table.to_ne_bytes());
        let list = match self.requests.dump(&request) {
            Err(error) if error.errno == Errno::ENOENT => Vec::new(),
            list => list?,
        };
        let mut uplinks = BTreeSet::new();
        for message in list.iter().filter(|m| table_of(m) == Some(table)) {
            for (kind, value) in attributes(message.payload.get(12..).unwrap_or_default()) {
                match kind {
                    RTA_OIF => uplinks.extend(u32_at(value, 0)),
                    RTA_MULTIPATH => {
                        uplinks.extend(next_hops(family, value).into_iter().map(|(index, _)| index))
                    }
                    _ => {}
                }
            }
        }
        Ok(uplinks.into_iter().collect())
    }

    /// Carries out a request.
    pub(super) fn execute(&mut self, request: Request) -> Result<(), NetlinkError> {
        self.requests.execute(request)
    }

    /// The device over which the host sends what goes to an address; none where it goes nowhere.
    pub(super) fn way_to(&mut self, address: IpAddr) -> Result<Option<u32>, NetlinkError> {
        let header = [family(address), Prefix::host(address).length, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let request = Request::new(GET_ROUTE, 0, &header).attribute(RTA_DST, &octets(address));
        match self.requests.get(request) {
            Ok(message) => Ok(message.and_then(|m| {
                let oif = attributes(m.payload.get(12..)?).find(|(kind, _)| *kind == RTA_OIF);
                (m.payload.get(7) == Some(&TYPE_UNICAST)).then(|| u32_at(oif?.1, 0)).flatten()
            })),
            // Unreachable, prohibited, thrown away.
            Err(error)
                if matches!(
                    error.errno,
                    Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the host takes what is sent to an address for itself.
    pub(super) fn is_local(&mut self, address: IpAddr) -> Result<bool, NetlinkError> {
        let header = [family(address), Prefix::host(address).length, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let request = Request::new(GET_ROUTE, 0, &header).attribute(RTA_DST, &octets(address));
        match self.requests.get(request) {
            Ok(message) => Ok(message.is_some_and(|m| m.payload.get(7) == Some(&TYPE_LOCAL))),
            Err(error) if matches!(error.errno, Errno::ENETUNREACH | Errno::EHOSTUNREACH) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Takes a device up.
pub(super) fn set_up(index: u32) -> Request {
    let up = libc::IFF_UP as u32;
    Request::new(SET_LINK, 0, &link_header(index, up, up))
}

/// Changes nothing of a device.
pub(super) fn nothing(index: u32) -> Request {
    Request::new(SET_LINK, 0, &link_header(index, 0, 0))
}

/// Sets a device's MTU, in bytes.
pub(super) fn set_mtu(index: u32, mtu: u32) -> Request {
    nothing(index).attribute(IFLA_MTU, &mtu.to_ne_bytes())
}

/// Makes the kernel give the device no IPv6 link-local address, and so send nothing of its own from it.
pub(super) fn no_generated_addresses(index: u32) -> Request {
    nothing(index).nested(IFLA_AF_SPEC, |spec| {
        spec.nested(u16::from(AF_INET6), |inet6| {
            inet6.attribute(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE])
        })
    })
}

/// Removes a device.
pub(super) fn delete_link(index: u32) -> Request {
    Request::new(DEL_LINK, 0, &link_header(index, 0, 0))
}

/// Gives a device a host address that is usable at once and brings no route.
pub(super) fn add_address(index: u32, address: IpAddr) -> Request {
    let flags = IFA_F_NOPREFIXROUTE | if address.is_ipv6() { IFA_F_NODAD } else { 0 };
    let request = address_request(NEW_ADDRESS, CREATE | EXCLUSIVE, index, address)
        .attribute(IFA_FLAGS, &flags.to_ne_bytes());
    if address.is_ipv4() {
        return request;
    }
    // `struct ifa_cacheinfo`: seconds for which it is preferred, and valid. The routes of the tunnel name it as their
    // source; for nothing else shall the kernel choose it, as it does where other addresses are deprecated.
    let cache: [u32; 4] = [0, INFINITE, 0, 0];
    request.attribute(IFA_CACHEINFO, &cache.map(u32::to_ne_bytes).concat())
}

/// Takes a host address from a device.
pub(super) fn delete_address(index: u32, address: IpAddr) -> Request {
    address_request(DEL_ADDRESS, 0, index, address)
}

/// Has the host take what is sent to an IPv4 address for itself, as if a device had it. A device with many addresses
/// is slow to be given one more: the kernel keeps them in a list. This costs the same however many there are.
pub(super) fn put_local(index: u32, address: IpAddr) -> Request {
    local_request(NEW_ROUTE, CREATE | EXCLUSIVE, index, address)
}

/// Ends that.
pub(super) fn delete_local(index: u32, address: IpAddr) -> Request {
    local_request(DEL_ROUTE, 0, index, address)
}

fn local_request(kind: u16, flags: u16, index: u32, address: IpAddr) -> Request {
    let length = Prefix::host(address).length;
    let header =
        [family(address), length, 0, 0, TABLE_LOCAL, PROTOCOL_OURS, SCOPE_HOST, TYPE_LOCAL, 0, 0, 0, 0];
    Request::new(kind, flags, &header)
        .attribute(RTA_DST, &octets(address))
        .attribute(RTA_OIF, &index.to_ne_bytes())
}

/// The address of such a route.
pub(super) fn local(message: &Message, index: u32) -> Option<IpAddr> {
    let payload = &message.payload;
    let ours = message.kind == NEW_ROUTE
        && payload.get(5) == Some(&PROTOCOL_OURS)
        && payload.get(7) == Some(&TYPE_LOCAL);
    let (mut address, mut device) = (None, 0);
    for (kind, value) in attributes(payload.get(12..).filter(|_| ours)?) {
        match kind {
            RTA_DST => address = ip(*payload.first()?, value),
            RTA_OIF => device = u32_at(value, 0)?,
            _ => {}
        }
    }
    address.filter(|_| device == index)
}

/// Makes a route to a device. With `replace`, in the place of one of the same prefix; otherwise it fails if there is
/// one.
pub(super) fn put_route(index: u32, prefix: Prefix, source: Option<IpAddr>, replace: bool) -> Request {
    let flags = CREATE | if replace { REPLACE } else { EXCLUSIVE };
    route_request(NEW_ROUTE, flags, index, prefix, source)
}

/// Removes a route to a device.
pub(super) fn delete_route(index: u32, prefix: Prefix, source: Option<IpAddr>) -> Request {
    route_request(DEL_ROUTE, 0, index, prefix, source)
}

/// Has everything that is looked up in a table lead to one of these devices.
pub(super) fn table_route(family: u8, table: u32, devices: &[u32], flags: u16) -> Request {
    let scope = if family == AF_INET { SCOPE_LINK } else { SCOPE_UNIVERSE };
    let header = [family, 0, 0, 0, 0, PROTOCOL_OURS, scope, TYPE_UNICAST, 0, 0, 0, 0];
    let request = Request::new(NEW_ROUTE, flags, &header).attribute(RTA_TABLE, &table.to_ne_bytes());
    if let [device] = devices {
        return request.attribute(RTA_OIF, &device.to_ne_bytes());
    }
    // `struct rtnexthop`
    let hop = |device: &u32| [&8_u16.to_ne_bytes()[..], &[0, 0], &device.to_ne_bytes()].concat();
    request.attribute(RTA_MULTIPATH, &devices.iter().flat_map(hop).collect::<Vec<_>>())
}

/// Ends that.
pub(super) fn no_table_route(family: u8, table: u32) -> Request {
    let scope = if family == AF_INET { SCOPE_LINK } else { SCOPE_UNIVERSE };
    let header = [family, 0, 0, 0, 0, PROTOCOL_OURS, scope, TYPE_UNICAST, 0, 0, 0, 0];
    Request::new(DEL_ROUTE, 0, &header).attribute(RTA_TABLE, &table.to_ne_bytes())
}

/// The table that a message about a route is about.
pub(super) fn table_of(message: &Message) -> Option<u32> {
    let wide = attributes(message.payload.get(12..)?).find(|(kind, _)| *kind == RTA_TABLE);
    wide.and_then(|(_, value)| u32_at(value, 0)).or_else(|| message.payload.get(4).map(|t| (*t).into()))
}

fn terminated(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

fn address_request(kind: u16, flags: u16, index: u32, address: IpAddr) -> Request {
    // `struct ifaddrmsg`
    let mut header = [family(address), Prefix::host(address).length, 0, SCOPE_UNIVERSE, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let bytes = octets(address);
    Request::new(kind, flags, &header).attribute(IFA_LOCAL, &bytes).attribute(IFA_ADDRESS, &bytes)
}

fn route_request(kind: u16, flags: u16, index: u32, prefix: Prefix, source: Option<IpAddr>) -> Request {
    let scope = if prefix.address.is_ipv4() { SCOPE_LINK } else { SCOPE_UNIVERSE };
    // `struct rtmsg`
    let header = [
        family(prefix.address),
        prefix.length,
        0,
        0,
        TABLE_MAIN,
        PROTOCOL_STATIC,
        scope,
        TYPE_UNICAST,
        0,
        0,
        0,
        0,
    ];
    let request = Request::new(kind, flags, &header)
        .attribute(RTA_DST, &octets(prefix.address))
        .attribute(RTA_OIF, &index.to_ne_bytes());
    match source {
        Some(source) => request.attribute(RTA_PREFSRC, &octets(source)),
        None => request,
    }
}
