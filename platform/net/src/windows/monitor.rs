//! Watches the adapters: reads all of them, and the routes, whenever the system announces a change, and every few seconds
//! because it does not announce all, or late: a Wi-Fi that died can take it a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use mast_engine::api::LeftOut;
use mast_engine::os::{InterfaceList, Prefix};
use mast_proto::{Interface, InterfaceId, InterfaceKind};
use tokio::sync::watch;

use super::Own;
use super::system::{Adapter, Kind, Notes, Route, System};
use crate::Overrides;
use crate::radio::{Radios, Station};

/// How often everything is read although nothing was announced.
const POLL: Duration = Duration::from_secs(3);
/// The same while a Wi-Fi radio hears its station badly.
const CLOSELY: Duration = Duration::from_secs(1);
/// A time asleep shorter than this is a rounding error of two clocks.
const ASLEEP: Duration = Duration::from_secs(1);
/// What drivers of other virtual private networks call their adapters.
const TUNNELS: [&str; 4] = ["TAP-", "Wintun", "WireGuard", "OpenVPN"];

/// What of an adapter of MAST's own others may change.
#[derive(Debug, PartialEq, Eq)]
struct Mine {
    luid: u64,
    mtu: u32,
    up: bool,
    addresses: Vec<IpAddr>,
    /// Those into it.
    routes: Vec<Route>,
}

/// What of the system was last seen.
#[derive(Debug, Default)]
struct Before {
    routes: BTreeSet<Route>,
    /// MAST's own adapters.
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
    radios: Radios,
    routes_changed: u64,
    disturbed: u64,
    resumed: u64,
}

impl<S: System> Reader<S> {
    pub fn new(system: S, overrides: Overrides, own: Own) -> Self {
        let radios = Radios::default();
        Self { system, overrides, own, before: None, radios, routes_changed: 0, disturbed: 0, resumed: 0 }
    }

    /// The interfaces now.
    ///
    /// # Errors
    /// What the system says; what was counted until then is kept.
    pub fn read(&mut self) -> io::Result<InterfaceList> {
        let adapters = self.system.adapters()?;
        let routes: BTreeSet<Route> = self.system.routes()?.into_iter().collect();
        let own = super::locked(&self.own).clone();
        let mine = adapters.iter().filter(|a| own.contains(&a.luid));
        let mine = mine.map(|a| {
            let mut addresses: Vec<IpAddr> = a.addresses.iter().map(|a| a.ip).collect();
            addresses.sort();
            let routes = routes.iter().filter(|r| r.luid == a.luid).copied().collect();
            Mine { luid: a.luid, mtu: a.mtu, up: a.up, addresses, routes }
        });
        let now = Before {
            own: mine.collect(),
            routes: routes.iter().filter(|r| !own.contains(&r.luid)).copied().collect(),
            asleep: self.system.asleep(),
        };
        if let Some(before) = &self.before {
            self.routes_changed += u64::from(before.routes != now.routes);
            // One that has just been made is not disturbed.
            let changed = before.own.iter().any(|b| now.own.iter().find(|n| n.luid == b.luid) != Some(b));
            self.disturbed += u64::from(changed);
            self.resumed += u64::from(now.asleep.saturating_sub(before.asleep) >= ASLEEP);
        }
        let others: Vec<&Adapter> = adapters.iter().filter(|a| !own.contains(&a.luid)).collect();
        let notes = self.system.notes();
        let mut list = self.list(&others, &now.routes, &notes);
        for interface in list.interfaces.iter_mut() {
            let of = others.iter().find(|a| a.index == interface.id.0).and_then(|a| notes.get(&a.luid));
            let signal = of.and_then(|notes| notes.signal).filter(|_| interface.kind == InterfaceKind::Wifi);
            let station = signal.map(|dbm| Station { signal: Some(dbm), ..Station::default() });
            interface.outlook.weak = self.radios.look(interface.id.0, station);
        }
        self.radios.retain(|index| list.interfaces.iter().any(|i| i.id.0 == index));
        self.before = Some(now);
        Ok(list)
    }

    fn list(
        &self,
        adapters: &[&Adapter],
        routes: &BTreeSet<Route>,
        notes: &BTreeMap<u64, Notes>,
    ) -> InterfaceList {
        let (mut interfaces, mut left_out) = (Vec::new(), Vec::new());
        for adapter in adapters.iter().filter(|a| a.kind != Kind::LOOPBACK) {
            match self.left_out(adapter, routes) {
                None => interfaces.push(self.interface(adapter, notes.get(&adapter.luid))),
                Some(why) if adapter.up && !adapter.addresses.is_empty() => {
                    left_out.push((adapter.name.clone(), why));
                }
                Some(_) => {}
            }
        }
        interfaces.sort_by_key(|i| i.id);
        left_out.sort_by(|a, b| a.0.cmp(&b.0));
        InterfaceList {
            interfaces,
            left_out,
            routes_changed: self.routes_changed,
            resumed: self.resumed,
            disturbed: self.disturbed,
            occupied: Arc::new(occupied(adapters, routes)),
            ..InterfaceList::default()
        }
    }

    fn left_out(&self, adapter: &Adapter, routes: &BTreeSet<Route>) -> Option<LeftOut> {
        if self.overrides.ignore.contains(&adapter.name) || adapter.name == self.overrides.own {
            return Some(LeftOut::Ignored);
        }
        if self.overrides.named.contains(&adapter.name) {
            return None;
        }
        let tunnel = matches!(adapter.kind, Kind::TUNNEL | Kind::PPP | Kind::VIRTUAL)
            || TUNNELS.iter().any(|word| adapter.description.contains(word));
        let leads_out = routes.iter().any(|r| r.luid == adapter.luid && r.prefix.length == 0);
        match () {
            () if tunnel => Some(LeftOut::Tunnel),
            () if !adapter.hardware && !leads_out => Some(LeftOut::Inside),
            () => None,
        }
    }

    fn interface(&self, adapter: &Adapter, notes: Option<&Notes>) -> Interface {
        let name = &adapter.name;
        let kind = self.overrides.kind.get(name).copied().unwrap_or(match adapter.kind {
            Kind::ETHERNET => InterfaceKind::Ethernet,
            Kind::WIFI => InterfaceKind::Wifi,
            Kind::MODEM | Kind::MODEM_2 => InterfaceKind::Cellular,
            _ => InterfaceKind::Other,
        });
        let link_local = adapter.addresses.iter().find_map(|a| match a.ip {
            IpAddr::V6(ip) if adapter.up && a.usable && ip.is_unicast_link_local() => Some(ip),
            _ => None,
        });
        let mut sources: Vec<_> = adapter.addresses.iter().filter(|a| a.usable && is_source(a.ip)).collect();
        sources.sort_by_key(|a| a.deprecated);
        let addresses: Vec<IpAddr> = sources.into_iter().map(|a| a.ip).collect();
        let metered = self.overrides.metered.get(name).copied().or(notes.and_then(|n| n.metered));
        Interface {
            id: InterfaceId(adapter.index),
            name: name.clone(),
            kind,
            network: self.overrides.network.get(name).cloned().or_else(|| notes?.network.clone()),
            metered: metered.unwrap_or(kind == InterfaceKind::Cellular),
            usable: adapter.up && !addresses.is_empty(),
            addresses,
            link_local,
            outlook: Default::default(),
            relayed: Vec::new(),
            reflexive: Vec::new(),
        }
    }
}

/// Whether traffic to elsewhere can come from an address.
fn is_source(address: IpAddr) -> bool {
    match address {
        // What Windows gives itself where nobody else did leads nowhere.
        IpAddr::V4(ip) => {
            !(ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || ip.is_link_local())
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || ip.is_unicast_link_local())
        }
    }
}

/// IPv4 addresses that no peer may have, each with what it is.
fn occupied(adapters: &[&Adapter], routes: &BTreeSet<Route>) -> BTreeMap<Prefix, String> {
    let mut all = BTreeMap::new();
    let mut take = |prefix: Prefix, what: &str, name: &str| {
        if prefix.address.is_ipv4() && prefix.length > 0 && !prefix.address.is_loopback() {
            all.entry(prefix.masked()).or_insert_with(|| format!("{what} on {name}"));
        }
    };
    for adapter in adapters.iter().filter(|a| a.up && a.kind != Kind::LOOPBACK) {
        for gateway in &adapter.gateways {
            take(Prefix::host(*gateway), "the gateway", &adapter.name);
        }
        for server in &adapter.name_servers {
            take(Prefix::host(*server), "a name server", &adapter.name);
        }
        for address in &adapter.addresses {
            take(Prefix::host(address.ip), "an address", &adapter.name);
            take(Prefix { address: address.ip, length: address.prefix }, "the network", &adapter.name);
        }
        for route in routes.iter().filter(|r| r.luid == adapter.luid && !r.prefix.address.is_multicast()) {
            take(route.prefix, "a route", &adapter.name);
        }
    }
    all
}

/// Starts the watching thread, which ends with the last receiver. The first list is there when this returns.
pub(super) fn watch<S: System>(mut reader: Reader<S>) -> io::Result<watch::Receiver<InterfaceList>> {
    let failed = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot watch the network adapters: {error}; restart the service"),
        )
    };
    // One that waits says all.
    let (tell, told) = sync_channel::<()>(1);
    // Before the first reading, so that no change falls between. The poll remains where the system does not announce.
    let watch = reader.system.notify(Box::new(move || {
        let _ = tell.try_send(());
    }));
    let watch = watch.inspect_err(
        |error| tracing::warn!(%error, "changes of the network are noticed late: the system does not announce them"),
    );
    let (publisher, receiver) = watch::channel(reader.read().map_err(failed)?);
    let run = move || {
        let watch = watch.ok();
        loop {
            let pause = if reader.radios.are_middling() { CLOSELY } else { POLL };
            match told.recv_timeout(pause) {
                Err(RecvTimeoutError::Disconnected) => thread::sleep(pause),
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
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
                Err(error) => tracing::warn!(%error, "the network adapters cannot be read; trying again"),
            }
        }
        drop(watch);
    };
    thread::Builder::new().name("mast-interfaces".to_owned()).spawn(run).map_err(failed)?;
    Ok(receiver)
}
