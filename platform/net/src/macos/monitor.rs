//! Watches the interfaces: reads all of them, and the routes, whenever the kernel announces a change, and every few
//! seconds because announcements are lost when there are many.
//!
//! Some versions announce every way that nobody found (`RTM_MISS`), thousands a second while a network is away. Those are
//! told by their first bytes, and read no faster than [`AT_ONCE`] per [`REST`]; what the kernel drops meanwhile, the next
//! reading by the clock finds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mast_engine::api::LeftOut;
use mast_engine::os::{InterfaceList, Prefix};
use mast_proto::{Interface, InterfaceId, InterfaceKind};
use tokio::sync::watch;

use super::routing::{self, Route, messages};
use super::system::{Announced, DEPRECATED, Detail, System, Table, UNUSABLE};
use super::{Own, names};
use crate::Overrides;

/// How often everything is read although nothing was announced.
const POLL: Duration = Duration::from_secs(3);
/// A change comes as several announcements: so long the next is waited for, and so long in all.
const NEXT: Duration = Duration::from_millis(5);
const SETTLE: Duration = Duration::from_millis(50);
/// So many announcements that concern nobody are read at once, and then there is a rest.
const AT_ONCE: u32 = 64;
const REST: Duration = Duration::from_millis(10);
/// Longer than any announcement.
const LONGEST: usize = 4096;
/// A time asleep shorter than this is a rounding error of two clocks.
const ASLEEP: Duration = Duration::from_secs(1);
/// What the interfaces of virtual private networks and of other tunnels are called.
const TUNNELS: [&str; 6] = ["utun", "ipsec", "ppp", "gif", "stf", "tun"];
/// Those of the machine itself and of virtual machines, of Apple devices among each other, and of a hotspot.
const INSIDE: [&str; 8] = ["awdl", "llw", "anpi", "ap", "bridge", "vmenet", "vmnet", "feth"];

/// An interface with all that is known of it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub interface: routing::Interface,
    pub addresses: Vec<routing::Address>,
}

/// All interfaces, by number.
///
/// # Errors
/// What the system says.
pub(super) fn interfaces<S: System>(system: &S) -> io::Result<BTreeMap<u16, Found>> {
    let bytes = system.table(Table::Interfaces)?;
    let mut all = BTreeMap::new();
    for message in messages(&bytes) {
        if let Some(interface) = message.interface() {
            all.insert(interface.index, Found { interface, addresses: Vec::new() });
        } else if let Some(address) = message.address()
            && let Some(found) = all.get_mut(&address.index)
        {
            found.addresses.push(address);
        }
    }
    Ok(all)
}

/// All routes that somebody set or that a network has.
///
/// # Errors
/// What the system says.
pub(super) fn routes<S: System>(system: &S) -> io::Result<BTreeSet<Route>> {
    let bytes = system.table(Table::Routes)?;
    Ok(messages(&bytes).filter_map(|message| message.route()).filter(Route::is_lasting).collect())
}

/// What of an interface of MAST's own others may change.
#[derive(Debug, PartialEq, Eq)]
struct Mine {
    name: String,
    mtu: u32,
    up: bool,
    addresses: Vec<IpAddr>,
    routes: Vec<Route>,
}

/// What of the system was last seen.
#[derive(Debug, Default)]
struct Before {
    routes: BTreeSet<Route>,
    own: Vec<Mine>,
    asleep: Duration,
}

/// Reads the system, and counts what changed between.
#[derive(Debug)]
pub(super) struct Reader<S> {
    system: S,
    overrides: Overrides,
    own: Own,
    before: Option<Before>,
    routes_changed: u64,
    disturbed: u64,
    resumed: u64,
}

impl<S: System> Reader<S> {
    pub fn new(system: S, overrides: Overrides, own: Own) -> Self {
        Self { system, overrides, own, before: None, routes_changed: 0, disturbed: 0, resumed: 0 }
    }

    /// The interfaces now.
    ///
    /// # Errors
    /// What the system says; what was counted until then is kept.
    pub fn read(&mut self) -> io::Result<InterfaceList> {
        let all = interfaces(&self.system)?;
        let routes = routes(&self.system)?;
        let own = super::locked(&self.own).clone();
        let is_own = |found: &Found| own.contains(&found.interface.name);
        let mine = all.values().filter(|found| is_own(found)).map(|found| {
            let mut addresses: Vec<IpAddr> = found.addresses.iter().map(|a| a.ip).collect();
            addresses.sort();
            Mine {
                name: found.interface.name.clone(),
                mtu: found.interface.mtu,
                up: found.interface.flags & routing::INTERFACE_UP != 0,
                addresses,
                routes: routes.iter().filter(|r| r.index == found.interface.index).copied().collect(),
            }
        });
        let others: Vec<&Found> = all.values().filter(|found| !is_own(found)).collect();
        let of_others = |route: &&Route| !all.get(&route.index).is_some_and(is_own);
        let now = Before {
            own: mine.collect(),
            routes: routes.iter().filter(of_others).copied().collect(),
            asleep: self.system.asleep(),
        };
        if let Some(before) = &self.before {
            self.routes_changed += u64::from(before.routes != now.routes);
            // One that has just been made is not disturbed.
            let changed = before.own.iter().any(|b| now.own.iter().find(|n| n.name == b.name) != Some(b));
            self.disturbed += u64::from(changed);
            self.resumed += u64::from(now.asleep.saturating_sub(before.asleep) >= ASLEEP);
        }
        let list = self.list(&others, &now);
        self.before = Some(now);
        Ok(list)
    }

    fn list(&self, all: &[&Found], now: &Before) -> InterfaceList {
        let (mut interfaces, mut left_out) = (Vec::new(), Vec::new());
        for found in all.iter().filter(|f| f.interface.flags & routing::LOOPBACK == 0) {
            let detail = self.system.detail(&found.interface.name);
            match self.left_out(found, detail, &now.routes) {
                None => interfaces.push(self.interface(found, detail)),
                Some(why) if is_up(found) && found.addresses.iter().any(|a| is_source(a.ip)) => {
                    left_out.push((found.interface.name.clone(), why));
                }
                Some(_) => {}
            }
        }
        left_out.sort_by(|a, b| a.0.cmp(&b.0));
        InterfaceList {
            interfaces,
            left_out,
            routes_changed: self.routes_changed,
            resumed: self.resumed,
            asleep: now.asleep,
            disturbed: self.disturbed,
            occupied: Arc::new(self.occupied(all, &now.routes)),
            ..InterfaceList::default()
        }
    }

    fn left_out(&self, found: &Found, detail: Detail, routes: &BTreeSet<Route>) -> Option<LeftOut> {
        let routing::Interface { name, index, flags, kind, .. } = &found.interface;
        if self.overrides.ignore.contains(name) || *name == self.overrides.own {
            return Some(LeftOut::Ignored);
        }
        if self.overrides.named.contains(name) {
            return None;
        }
        // A modem is point to point as well.
        let modem = detail.functional == Detail::CELLULAR || *kind == routing::KIND_CELLULAR;
        let tunnel = flags & routing::POINT_TO_POINT != 0 || is_one_of(name, &TUNNELS);
        if tunnel && !modem {
            return Some(LeftOut::Tunnel);
        }
        let inside = is_one_of(name, &INSIDE)
            || matches!(detail.functional, Detail::WIFI_DIRECT | Detail::INSIDE)
            || !(modem || *kind == routing::KIND_ETHERNET);
        // Each interface that leads out has a default route of its own, for sockets that are bound to it.
        let leads_out =
            routes.iter().any(|r| r.index == *index && r.prefix.length == 0 && r.gateway.is_some());
        (inside && !leads_out).then_some(LeftOut::Inside)
    }

    fn interface(&self, found: &Found, detail: Detail) -> Interface {
        let name = &found.interface.name;
        let kind = self.overrides.kind.get(name).copied().unwrap_or(match detail.functional {
            Detail::WIFI => InterfaceKind::Wifi,
            Detail::CELLULAR => InterfaceKind::Cellular,
            Detail::WIRED => InterfaceKind::Ethernet,
            _ => match found.interface.kind {
                routing::KIND_CELLULAR => InterfaceKind::Cellular,
                routing::KIND_ETHERNET => InterfaceKind::Ethernet,
                _ => InterfaceKind::Other,
            },
        });
        let flags = |ip: IpAddr| if ip.is_ipv6() { self.system.address_flags(name, ip) } else { 0 };
        let mut usable: Vec<(IpAddr, u32)> = found.addresses.iter().map(|a| (a.ip, flags(a.ip))).collect();
        usable.retain(|(_, flags)| flags & UNUSABLE == 0);
        let link_local = usable.iter().find_map(|(ip, _)| match ip {
            IpAddr::V6(ip) if ip.is_unicast_link_local() && is_up(found) => Some(*ip),
            _ => None,
        });
        usable.retain(|(ip, _)| is_source(*ip));
        usable.sort_by_key(|(_, flags)| flags & DEPRECATED != 0);
        let addresses: Vec<IpAddr> = usable.into_iter().map(|(ip, _)| ip).collect();
        let network = self.overrides.network.get(name).cloned().or_else(|| {
            // A cable has no name. Without an answer there is none.
            let joined = kind == InterfaceKind::Wifi && is_up(found);
            joined
                .then(|| self.system.store(&names::of_wifi(name)).ok())?
                .and_then(|shown| names::network(&shown))
        });
        let metered = self.overrides.metered.get(name).copied();
        let spare = detail.expensive || detail.constrained || kind == InterfaceKind::Cellular;
        Interface {
            id: InterfaceId(found.interface.index.into()),
            name: name.clone(),
            kind,
            network,
            metered: metered.unwrap_or(spare),
            usable: is_up(found) && !addresses.is_empty(),
            addresses,
            link_local,
            outlook: Default::default(),
            relayed: Vec::new(),
            reflexive: Vec::new(),
        }
    }

    /// IPv4 addresses that no peer may have, each with what it is.
    fn occupied(&self, found: &[&Found], routes: &BTreeSet<Route>) -> BTreeMap<Prefix, String> {
        let mut all = BTreeMap::new();
        let mut take = |prefix: Prefix, what: String| {
            if prefix.address.is_ipv4() && prefix.length > 0 && !prefix.address.is_loopback() {
                all.entry(prefix.masked()).or_insert(what);
            }
        };
        for found in found.iter().filter(|f| is_up(f) && f.interface.flags & routing::LOOPBACK == 0) {
            let name = &found.interface.name;
            let own: Vec<&Route> = routes.iter().filter(|r| r.index == found.interface.index).collect();
            for gateway in own.iter().filter_map(|route| route.gateway) {
                take(Prefix::host(gateway), format!("the gateway on {name}"));
            }
            for address in &found.addresses {
                take(Prefix::host(address.ip), format!("an address on {name}"));
                take(
                    Prefix { address: address.ip, length: address.prefix },
                    format!("the network on {name}"),
                );
            }
            own.iter().for_each(|route| take(route.prefix, format!("a route on {name}")));
        }
        // Without an answer there are none.
        let servers = self.system.store(&names::of_system()).unwrap_or_default();
        names::servers(&servers)
            .into_iter()
            .for_each(|ip| take(Prefix::host(ip), "a name server".to_owned()));
        all
    }
}

fn is_up(found: &Found) -> bool {
    let both = routing::INTERFACE_UP | routing::RUNNING;
    found.interface.flags & both == both
}

/// Whether a name is one of these and a number.
fn is_one_of(name: &str, kinds: &[&str]) -> bool {
    let is =
        |kind: &&&str| name.strip_prefix(**kind).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    kinds.iter().any(|kind| is(&kind))
}

/// Whether traffic to elsewhere can come from an address.
fn is_source(address: IpAddr) -> bool {
    let some = !(address.is_loopback() || address.is_multicast() || address.is_unspecified());
    some && match address {
        // What the system gives itself where nobody else did leads nowhere.
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}

/// Reads what is announced until it is time to read the tables: something that concerns them came and nothing more
/// follows, or [`POLL`] passed.
fn wait(announced: &mut impl Announced, buffer: &mut [u8]) -> io::Result<()> {
    let begun = Instant::now();
    let mut in_vain = 0;
    // When the first that counts came.
    let mut since: Option<Instant> = None;
    loop {
        let patience = match since {
            Some(at) if at.elapsed() >= SETTLE => return Ok(()),
            Some(_) => NEXT,
            None => POLL.saturating_sub(begun.elapsed()),
        };
        if patience.is_zero() {
            return Ok(());
        }
        let Some(length) = announced.next(buffer, patience)? else { return Ok(()) };
        if routing::concerns(buffer.get(..length).unwrap_or_default()) {
            since = since.or_else(|| Some(Instant::now()));
            continue;
        }
        in_vain += 1;
        if in_vain == AT_ONCE {
            in_vain = 0;
            thread::sleep(REST);
        }
    }
}

/// Starts the watching thread, which ends with the last receiver. The first list is there when this returns.
pub(super) fn watch<S: System>(mut reader: Reader<S>) -> io::Result<watch::Receiver<InterfaceList>> {
    let failed = |error: io::Error| {
        let text = format!("cannot watch the network interfaces: {error}; restart the service");
        io::Error::new(error.kind(), text)
    };
    // Before the first reading, so that no change falls between. The poll remains where nothing is announced.
    let late = "changes of the network are noticed late: the system does not announce them";
    let mut announced = reader.system.announced().inspect_err(|error| tracing::warn!(%error, "{late}")).ok();
    let (publisher, receiver) = watch::channel(reader.read().map_err(failed)?);
    let run = move || {
        let mut buffer = vec![0; LONGEST];
        loop {
            match announced.as_mut().map(|announced| wait(announced, &mut buffer)) {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::warn!(%error, "{late}; trying again");
                    thread::sleep(REST);
                    announced = reader.system.announced().ok();
                }
                None => {
                    thread::sleep(POLL);
                    announced = reader.system.announced().ok();
                }
            }
            if publisher.is_closed() {
                break;
            }
            match reader.read() {
                Ok(list) => {
                    publisher.send_if_modified(|now| {
                        let differs = *now != list;
                        *now = list;
                        differs
                    });
                }
                Err(error) => tracing::warn!(%error, "the network interfaces cannot be read; trying again"),
            }
        }
    };
    thread::Builder::new().name("mast-interfaces".to_owned()).spawn(run).map_err(failed)?;
    Ok(receiver)
}
