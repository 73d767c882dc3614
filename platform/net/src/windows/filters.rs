//! Leak protection: filters of the Windows Filtering Platform, as values.
//!
//! They lie in a sublayer of their own, where the first one that fits decides, and a block is final whatever the
//! filters of others say; what is let through here others may still block. They are persistent: they stay when the service
//! ends, and are in force after a boot as soon as the system's filtering engine is; until then a smaller set is, which
//! needs to know neither the adapter nor the program.
//!
//! What is in force is read from the filters themselves: the description of each has its number, how many there are, and
//! what they are for. A set of which one is missing is none. Only administrators can change them.
//!
//! Connections are asked about when they begin, whoever begins them, and again whenever a filter came or went. What this
//! machine passes on for others is asked about packet by packet. What Hyper-V's switch carries never comes by here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use mast_engine::declared::Guard;
use mast_engine::os::{Family, Prefix};

use crate::labels::{self, Labels};
use crate::near::{self, NAMES, NEIGHBOURS};

const UDP: u8 = 17;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

/// Who runs the service, in the words of security descriptors: the system, and administrators.
pub const USERS: &str = "O:SYG:SYD:(A;;CC;;;SY)(A;;CC;;;BA)";

/// The label of those that are in force at a boot.
const BOOT: &str = "mast boot";
/// Where a host asks for an address. Ports need no privileges on Windows: nobody else is let through to there. A lease of another server is
/// renewed by asking everybody.
const SERVERS_V4: [([u8; 4], u8); 6] = [
    ([255, 255, 255, 255], 32),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([172, 16, 0, 0], 12),
    ([192, 168, 0, 0], 16),
    ([169, 254, 0, 0], 16),
];
/// `All_DHCP_Relay_Agents_and_Servers`, `All_DHCP_Servers` (RFC 8415).
const SERVERS_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2), Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3)];
/// Neighbours' of those, and listener queries, from wherever; advertisements of routers and redirections, from the link.
const OF_NEIGHBOURS: [u8; 6] = [135, 136, 130, 131, 132, 143];
const OF_ROUTERS: [u8; 2] = [134, 137];

/// When a filter is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// A connection begins here, or the first datagram to somebody leaves.
    Connect(Family),
    /// A connection begins elsewhere, or the first datagram of somebody comes.
    Accept(Family),
    /// A packet of another machine is passed on.
    Forward(Family),
}

/// What a filter can ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It stays on this machine.
    Loopback,
    /// The adapter of this machine's address; of what is passed on, the one by which it came.
    Adapter(u64),
    /// The adapter by which it is passed on.
    Leaves(u64),
    /// The program whose socket it is, as the system names it.
    Program(Arc<[u8]>),
    /// The user whose socket it is: one of a security descriptor.
    Users(&'static str),
    /// The protocol within IP.
    Protocol(u8),
    /// The port at this machine.
    Own(u16),
    /// The port at the other end.
    Other(u16),
    /// Where the other end is.
    To(Prefix),
    /// The type of a message of ICMP, which the system has where others have their own port.
    Icmp(u8),
}

/// How long a filter is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Life {
    /// While the system's filtering engine works, from boot to boot.
    Persistent,
    /// At a boot, until the engine does.
    Boot,
}

/// A filter. Of conditions about the same, one must hold, and of those about different things, all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// When it is asked.
    pub layer: Layer,
    /// When it is in force.
    pub life: Life,
    /// What it says if it fits.
    pub permit: bool,
    /// When it fits.
    pub conditions: Vec<Condition>,
    /// What is read back of it.
    pub label: String,
}

/// What the filters are for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The versions of IP of which nothing leaves but into the virtual interface, to what is near, and of the service.
    pub protect: BTreeSet<Family>,
    /// What may leave at all.
    pub guard: Option<Guard>,
    /// The virtual interfaces that are let through, each with what the system knows it by, where it is there.
    pub adapters: BTreeMap<String, Option<u64>>,
    /// Of the service's program.
    pub program: u64,
}

fn range_v4((address, length): ([u8; 4], u8)) -> Condition {
    Condition::To(Prefix { address: Ipv4Addr::from(address).into(), length })
}

fn range_v6((first, length): (u16, u8)) -> Condition {
    Condition::To(Prefix { address: Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0).into(), length })
}

fn near(family: Family) -> Vec<Condition> {
    near::ranges(family).iter().copied().map(Condition::To).collect()
}

/// A short name of a program: two that differ have different ones.
pub fn mark(program: &[u8]) -> u64 {
    // FNV-1a: nobody but administrators, who can do anything here, gains from a collision.
    program
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Filters in the order in which they are asked.
#[derive(Default)]
struct List(Vec<Filter>);

impl List {
    fn add(&mut self, layer: Layer, life: Life, permit: bool, conditions: Vec<Condition>) {
        self.0.push(Filter { layer, life, permit, conditions, label: String::new() });
    }

    /// What this machine needs to have addresses and neighbours, and what stays on it.
    fn host(&mut self, family: Family, life: Life) {
        let (connect, accept) = (Layer::Connect(family), Layer::Accept(family));
        for layer in [connect, accept] {
            self.add(layer, life, true, vec![Condition::Loopback]);
        }
        let (own, other) = near::dhcp(family);
        let ports = [Condition::Protocol(UDP), Condition::Own(own), Condition::Other(other)];
        let link = range_v6((0xfe80, 10));
        let servers: Vec<Condition> = match family {
            Family::V4 => SERVERS_V4.map(range_v4).to_vec(),
            Family::V6 => {
                let groups = SERVERS_V6.map(|group| Condition::To(Prefix::host(IpAddr::from(group))));
                groups.into_iter().chain([link.clone()]).collect()
            }
        };
        self.add(connect, life, true, ports.iter().cloned().chain(servers).collect());
        // A server of IPv4 may have any address.
        let from = (family == Family::V6).then(|| link.clone());
        self.add(accept, life, true, ports.into_iter().chain(from).collect());
        if family == Family::V6 {
            let kinds = |kinds: &[u8]| {
                let kinds = kinds.iter().map(|kind| Condition::Icmp(*kind));
                [Condition::Protocol(ICMPV6)].into_iter().chain(kinds).collect::<Vec<_>>()
            };
            self.add(connect, life, true, kinds(&NEIGHBOURS));
            self.add(accept, life, true, kinds(&OF_NEIGHBOURS));
            self.add(accept, life, true, kinds(&OF_ROUTERS).into_iter().chain([link]).collect());
        }
    }

    fn rest(&mut self, family: Family, life: Life) {
        for layer in [Layer::Connect(family), Layer::Accept(family), Layer::Forward(family)] {
            self.add(layer, life, false, Vec::new());
        }
    }
}

impl Rules {
    /// There is nothing to filter.
    pub fn is_empty(&self) -> bool {
        self.protect.is_empty() && self.guard.is_none()
    }

    /// What every label says: `p46 g46l 00c5… mast0|17/other|`. Adapters' names may have spaces.
    fn label(&self) -> String {
        let mut label =
            format!("{} {:016x} ", labels::words(&self.protect, self.guard.as_ref()), self.program);
        for (at, (name, luid)) in self.adapters.iter().enumerate() {
            let of_guard = self.guard.as_ref().is_some_and(|guard| guard.interfaces.contains(name));
            let _ = write!(
                label,
                "{}{name}|{}|{}",
                if at == 0 { "" } else { "/" },
                if of_guard { "g" } else { "" },
                luid.map(|luid| luid.to_string()).unwrap_or_default()
            );
        }
        label
    }

    /// The filters. `program` is the service's.
    ///
    /// # Errors
    /// In words, when an interface has a name that none can have.
    pub fn filters(&self, program: &Arc<[u8]>) -> Result<Vec<Filter>, String> {
        if let Some(name) = self.adapters.keys().find(|name| name.is_empty() || name.contains(['|', '/'])) {
            return Err(format!("`{name}` is no name of an adapter: choose another"));
        }
        let mut list = List::default();
        let luids: Vec<u64> = self.adapters.values().copied().flatten().collect();
        for family in labels::held(&self.protect, self.guard.as_ref()) {
            let (connect, accept) = (Layer::Connect(family), Layer::Accept(family));
            let life = Life::Persistent;
            // What most connections are comes first.
            if !luids.is_empty() {
                for layer in [connect, accept, Layer::Forward(family)] {
                    list.add(layer, life, true, luids.iter().map(|luid| Condition::Adapter(*luid)).collect());
                }
                let out = luids.iter().map(|luid| Condition::Leaves(*luid)).collect();
                list.add(Layer::Forward(family), life, true, out);
            }
            let own = [Condition::Program(Arc::clone(program)), Condition::Users(USERS)];
            // It also connects, to relays and where peers are found; nobody connects to it.
            for (layer, protocols) in [(connect, &[UDP, TCP][..]), (accept, &[UDP])] {
                let protocols = protocols.iter().copied().map(Condition::Protocol);
                list.add(layer, life, true, protocols.chain(own.iter().cloned()).collect());
            }
            list.host(family, life);
            let guard = self.guard.as_ref().filter(|guard| guard.families.contains(&family));
            if guard.is_some() {
                let names = [UDP, TCP].map(Condition::Protocol).into_iter();
                let names: Vec<_> = names.chain(NAMES.map(Condition::Other)).collect();
                for layer in [connect, accept] {
                    list.add(layer, life, false, names.clone());
                }
            }
            if guard.is_none_or(|guard| guard.local_network) {
                for layer in [connect, accept] {
                    list.add(layer, life, true, near(family));
                }
            }
            list.rest(family, life);
            list.host(family, Life::Boot);
            list.rest(family, Life::Boot);
        }
        let count = list.0.iter().filter(|filter| filter.life == Life::Persistent).count();
        let label = self.label();
        let mut at = 0;
        for filter in &mut list.0 {
            filter.label = match filter.life {
                Life::Persistent => {
                    at += 1;
                    labels::label(at, count, &label)
                }
                Life::Boot => BOOT.to_owned(),
            };
        }
        Ok(list.0)
    }
}

/// What is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InForce {
    /// No filter of MAST's.
    Nothing,
    /// All of it.
    Whole(Rules),
    /// Some of it, or what another version set.
    Part,
}

/// Reads what is in force from the labels of MAST's filters.
pub fn read<'a>(all: impl IntoIterator<Item = &'a str>) -> InForce {
    let (mut found, mut of_boot) = (Labels::default(), false);
    for label in all {
        // Whether the system lists those of a boot while it runs is its own affair.
        if label == BOOT { of_boot = true } else { found.note(label) }
    }
    match found.whole().map(|what| what.map(parse)) {
        Ok(Some(Some(rules))) => InForce::Whole(rules),
        Ok(None) if !of_boot => InForce::Nothing,
        _ => InForce::Part,
    }
}

fn parse(label: &str) -> Option<Rules> {
    let mut words = label.splitn(4, ' ');
    let (protect, mut guard) = labels::meaning(words.next()?, words.next()?)?;
    let program = u64::from_str_radix(words.next()?, 16).ok()?;
    let mut adapters = BTreeMap::new();
    for adapter in words.next()?.split('/').filter(|adapter| !adapter.is_empty()) {
        let mut parts = adapter.split('|');
        let (name, of_guard, luid) = (parts.next()?, parts.next()?, parts.next()?);
        if let Some(guard) = guard.as_mut().filter(|_| of_guard == "g") {
            guard.interfaces.insert(name.to_owned());
        }
        let luid = if luid.is_empty() { None } else { Some(luid.parse().ok()?) };
        adapters.insert(name.to_owned(), luid);
    }
    Some(Rules { protect, guard, adapters, program })
}
