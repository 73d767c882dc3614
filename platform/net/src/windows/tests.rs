//! A played Windows: events that are missed or late, calls that are refused, an adapter that vanishes, a sleep.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use mast_engine::declared::{Declared, Host, Step};
use mast_engine::os::{Family, InterfaceList, Offload, PlainUdp, Platform, Prefix, Tun, TunWish};
use mast_engine::surroundings::Surroundings;
use mast_engine::{Outcome, Reconciler};
use mast_proto::Interface;
use tokio::sync::watch;

use super::On;
use super::filters::Filter;
use super::system::{Adapter, Address, Kind, Notes, Ring, Route, System, Told, Value};
use crate::Overrides;

mod names;
mod protection;
mod uplinks;

/// Longer than the slow poll.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct State {
    adapters: Vec<Adapter>,
    routes: BTreeSet<Route>,
    told: Option<Told>,
    /// Changes are announced.
    announces: bool,
    asleep: Duration,
    /// Calls with this word in their name are refused so.
    refuse: Option<(&'static str, io::ErrorKind)>,
    to_engine: VecDeque<Vec<u8>>,
    from_engine: VecDeque<Vec<u8>>,
    lost: bool,
    ended: bool,
    made: u64,
    /// MAST's filters.
    filters: Vec<Filter>,
    /// How often there were none of them because somebody took them away.
    unfiltered: usize,
    program: &'static [u8],
    blockers: Vec<String>,
    registry: BTreeMap<String, BTreeMap<String, Value>>,
    /// How often the resolver forgot what it knew, and whether because of a policy.
    forgotten: Vec<bool>,
    notes: BTreeMap<u64, Notes>,
}

#[derive(Clone, Default)]
struct Played(Arc<(Mutex<State>, Condvar)>);

impl std::fmt::Debug for Played {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Played")
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix { address: ip(address), length: length.parse().unwrap() }
}

fn adapter(index: u32, name: &str, kind: Kind, addresses: &[&str]) -> Adapter {
    Adapter {
        luid: 1000 + u64::from(index),
        index,
        name: name.into(),
        description: "Some Family Controller".into(),
        kind,
        hardware: true,
        up: true,
        mtu: 1500,
        addresses: addresses
            .iter()
            .map(|a| Address {
                ip: ip(a),
                prefix: if a.contains(':') { 64 } else { 24 },
                usable: true,
                deprecated: false,
            })
            .collect(),
        gateways: Vec::new(),
        name_servers: Vec::new(),
    }
}

impl Played {
    fn new(adapters: Vec<Adapter>) -> Self {
        let played = Self::default();
        played.change_silently(|state| {
            state.adapters = adapters;
            state.announces = true;
        });
        played
    }

    fn change_silently(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    /// Changes something, which the system announces if it announces anything.
    fn change(&self, change: impl FnOnce(&mut State)) {
        self.change_silently(change);
        let state = self.0.0.lock().unwrap();
        if let Some(told) = state.told.as_ref().filter(|_| state.announces) {
            told();
        }
    }

    fn call(&self, name: &'static str) -> io::Result<()> {
        match self.0.0.lock().unwrap().refuse {
            Some((word, kind)) if name.contains(word) => Err(io::Error::new(kind, "played")),
            _ => Ok(()),
        }
    }

    fn platform(&self) -> On<Self> {
        On::over(self.clone(), Overrides::default())
    }
}

struct PlayedRing(Played, String, u64);

impl std::fmt::Debug for PlayedRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PlayedRing")
    }
}

impl Drop for PlayedRing {
    fn drop(&mut self) {
        let luid = self.2;
        self.0.change(|state| {
            state.adapters.retain(|a| a.luid != luid);
            state.routes.retain(|r| r.luid != luid);
        });
    }
}

impl Ring for PlayedRing {
    fn take(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.0.0.lock().unwrap();
        if state.lost {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let frame = state.to_engine.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        buffer[..frame.len()].copy_from_slice(&frame);
        Ok(frame.len())
    }

    fn give(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.0.call("give")?;
        let frame = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.0.change_silently(|state| state.from_engine.push_back(frame));
        Ok(())
    }

    fn wait(&self) -> bool {
        let (state, changed) = &*self.0.0;
        let nothing = |state: &mut State| state.to_engine.is_empty() && !state.lost && !state.ended;
        let state = changed.wait_while(state.lock().unwrap(), nothing).unwrap();
        !state.ended && !state.lost
    }

    fn end(&self) {
        self.0.change_silently(|state| state.ended = true);
    }

    fn name(&self) -> &str {
        &self.1
    }

    fn luid(&self) -> u64 {
        self.2
    }
}

impl System for Played {
    type Ring = PlayedRing;
    type Udp = PlainUdp;
    type Watch = ();

    fn adapters(&self) -> io::Result<Vec<Adapter>> {
        self.call("adapters")?;
        Ok(self.0.0.lock().unwrap().adapters.clone())
    }

    fn routes(&self) -> io::Result<Vec<Route>> {
        self.call("routes")?;
        Ok(self.0.0.lock().unwrap().routes.iter().copied().collect())
    }

    fn notes(&self) -> BTreeMap<u64, Notes> {
        self.0.0.lock().unwrap().notes.clone()
    }

    fn add_address(&self, luid: u64, address: IpAddr) -> io::Result<()> {
        self.call(if address.is_ipv4() { "add address v4" } else { "add address v6" })?;
        let mut state = self.0.0.lock().unwrap();
        let adapter = state.adapters.iter_mut().find(|a| a.luid == luid).ok_or(io::ErrorKind::NotFound)?;
        if adapter.addresses.iter().any(|a| a.ip == address) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let length = Prefix::host(address).length;
        adapter.addresses.push(Address { ip: address, prefix: length, usable: true, deprecated: false });
        // As the system does by itself.
        let own = Route { luid, prefix: Prefix::host(address), gateway: None, metric: 256 };
        state.routes.insert(own);
        Ok(())
    }

    fn remove_address(&self, luid: u64, address: IpAddr) -> io::Result<()> {
        self.call("remove address")?;
        let mut state = self.0.0.lock().unwrap();
        state.routes.retain(|r| (r.luid, r.prefix) != (luid, Prefix::host(address)));
        let adapter = state.adapters.iter_mut().find(|a| a.luid == luid).ok_or(io::ErrorKind::NotFound)?;
        let before = adapter.addresses.len();
        adapter.addresses.retain(|a| a.ip != address);
        if adapter.addresses.len() == before { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }

    fn add_route(&self, route: &Route) -> io::Result<()> {
        self.call(if route.prefix.address == ip("128.0.0.0") {
            "add route second half"
        } else {
            "add route"
        })?;
        let mut state = self.0.0.lock().unwrap();
        if state.routes.iter().any(|r| (r.luid, r.prefix) == (route.luid, route.prefix)) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.routes.insert(*route);
        Ok(())
    }

    fn remove_route(&self, route: &Route) -> io::Result<()> {
        self.call("remove route")?;
        let mut state = self.0.0.lock().unwrap();
        let before = state.routes.len();
        state.routes.retain(|r| (r.luid, r.prefix) != (route.luid, route.prefix));
        if state.routes.len() == before { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }

    fn filters(&self) -> io::Result<Vec<String>> {
        self.call("filters")?;
        Ok(self.0.0.lock().unwrap().filters.iter().map(|filter| filter.label.clone()).collect())
    }

    fn set_filters(&self, filters: &[Filter]) -> io::Result<()> {
        self.call("set them")?;
        self.change_silently(|state| {
            state.filters = filters.to_vec();
            state.unfiltered += usize::from(filters.is_empty());
        });
        Ok(())
    }

    fn program(&self) -> io::Result<Arc<[u8]>> {
        Ok(self.0.0.lock().unwrap().program.into())
    }

    fn blockers(&self) -> io::Result<Vec<String>> {
        self.call("blockers")?;
        Ok(self.0.0.lock().unwrap().blockers.clone())
    }

    fn keys(&self, path: &str) -> io::Result<Vec<String>> {
        self.call("registry is read")?;
        let state = self.0.0.lock().unwrap();
        let below = state.registry.keys().filter_map(|key| key.strip_prefix(path));
        let names: BTreeSet<_> =
            below.filter_map(|rest| rest.strip_prefix('\\')).map(str::to_owned).collect();
        match state.registry.contains_key(path) || !names.is_empty() {
            true => Ok(names.into_iter().collect()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn values(&self, path: &str) -> io::Result<BTreeMap<String, Value>> {
        self.call("registry is read")?;
        self.0.0.lock().unwrap().registry.get(path).cloned().ok_or(io::ErrorKind::NotFound.into())
    }

    fn write_key(&self, path: &str, values: &BTreeMap<String, Value>) -> io::Result<()> {
        self.call(if path.starts_with("SOFTWARE") { "write policy" } else { "write own" })?;
        let mut state = self.0.0.lock().unwrap();
        let above = path.rsplit_once('\\').unwrap().0;
        state.registry.entry(above.to_owned()).or_default();
        state.registry.insert(path.to_owned(), values.clone());
        Ok(())
    }

    fn delete_key(&self, path: &str) -> io::Result<()> {
        self.call("delete key")?;
        let mut state = self.0.0.lock().unwrap();
        let before = state.registry.len();
        state.registry.retain(|key, _| !key.starts_with(path));
        if state.registry.len() == before { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }

    fn set_name_servers(&self, luid: u64, servers: &[IpAddr]) -> io::Result<()> {
        self.call("name servers")?;
        let mut state = self.0.0.lock().unwrap();
        let adapter = state.adapters.iter_mut().find(|a| a.luid == luid).ok_or(io::ErrorKind::NotFound)?;
        adapter.name_servers = servers.to_vec();
        Ok(())
    }

    fn names_changed(&self, by_policy: bool) {
        self.change_silently(|state| state.forgotten.push(by_policy));
    }

    fn set_mtu(&self, luid: u64, family: Family, mtu: u32) -> io::Result<()> {
        self.call(if family == Family::V4 { "mtu v4" } else { "mtu v6" })?;
        self.change_silently(|state| {
            for adapter in state.adapters.iter_mut().filter(|a| a.luid == luid) {
                adapter.mtu = mtu;
            }
        });
        Ok(())
    }

    fn notify(&self, told: Told) -> io::Result<()> {
        self.call("notify")?;
        self.0.0.lock().unwrap().told = Some(told);
        Ok(())
    }

    fn asleep(&self) -> Duration {
        self.0.0.lock().unwrap().asleep
    }

    fn make_ring(&self, wish: &TunWish) -> io::Result<PlayedRing> {
        self.call("make ring")?;
        let mut luid = 0;
        self.change(|state| {
            state.made += 1;
            (state.lost, state.ended) = (false, false);
            let mut own = adapter(90 + u32::try_from(state.made).unwrap(), &wish.name, Kind::VIRTUAL, &[]);
            own.hardware = false;
            luid = own.luid;
            state.adapters.push(own);
        });
        Ok(PlayedRing(self.clone(), wish.name.clone(), luid))
    }

    fn bind(&self, interface: &Interface, family: Family, port: u16, _: bool) -> io::Result<PlainUdp> {
        let address = interface.addresses.iter().find(|a| Family::of(**a) == family);
        let socket = std::net::UdpSocket::bind((*address.ok_or(io::ErrorKind::NotFound)?, port))?;
        socket.set_nonblocking(true)?;
        PlainUdp::new(socket)
    }

    fn driver(&self) -> Result<String, String> {
        self.call("driver")
            .map(|()| "it is there".to_owned())
            .map_err(|_| "it is missing; install it".to_owned())
    }
}

fn wish() -> TunWish {
    TunWish { name: "mast0".into(), mtu: 1280 }
}

fn laptop() -> Played {
    let mut loopback = adapter(1, "Loopback Pseudo-Interface 1", Kind::LOOPBACK, &["127.0.0.1", "::1"]);
    loopback.hardware = false;
    let mut switch = adapter(7, "vEthernet (Default Switch)", Kind::ETHERNET, &["172.20.16.1"]);
    switch.hardware = false;
    let mut other = adapter(8, "OtherVPN", Kind::VIRTUAL, &["10.8.0.2"]);
    other.description = "Wintun Userspace Tunnel".into();
    let mut tap = adapter(9, "TapVPN", Kind::ETHERNET, &["10.9.0.2"]);
    tap.description = "TAP-Windows Adapter V9".into();
    Played::new(vec![
        loopback,
        adapter(5, "Wi-Fi", Kind::WIFI, &["fe80::5", "192.0.2.5", "2001:db8::5"]),
        adapter(3, "Ethernet", Kind::ETHERNET, &["198.51.100.3"]),
        adapter(6, "Cellular", Kind::MODEM, &["203.0.113.6"]),
        adapter(4, "Ethernet 2", Kind::ETHERNET, &["169.254.7.7"]),
        switch,
        other,
        tap,
    ])
}

async fn wait(
    list: &mut watch::Receiver<InterfaceList>,
    what: &str,
    is: impl Fn(&InterfaceList) -> bool,
) -> InterfaceList {
    let found = tokio::time::timeout(PATIENCE, list.wait_for(is)).await;
    found.unwrap_or_else(|_| panic!("{what}")).unwrap().clone()
}

/// Whatever was done before has been read: a change of an uplink that comes after it shows.
async fn has_been_read(played: &Played, list: &mut watch::Receiver<InterfaceList>, number: u8) {
    let mark = IpAddr::from([203, 0, 113, number]);
    played.change(|state| {
        let cellular = state.adapters.iter_mut().find(|a| a.name == "Cellular").unwrap();
        cellular.addresses.push(Address { ip: mark, prefix: 24, usable: true, deprecated: false });
    });
    wait(list, "the mark is seen", |l| interface(l, "Cellular").is_some_and(|i| i.addresses.contains(&mark)))
        .await;
}

fn interface<'a>(list: &'a InterfaceList, name: &str) -> Option<&'a Interface> {
    list.interfaces.iter().find(|i| i.name == name)
}

fn network(addresses: &[&str], routes: &[&str]) -> Declared {
    Declared {
        interface: Some("mast0".into()),
        mtu: Some(1280),
        addresses: addresses.iter().map(|a| ip(a)).collect(),
        routes: routes.iter().map(|r| (prefix(r), None)).collect(),
        ..Declared::default()
    }
}

fn fine(outcome: &Outcome) {
    assert!(outcome.refused.is_empty(), "{outcome:?}");
}

fn own_routes(played: &Played) -> Vec<Prefix> {
    let state = played.0.0.lock().unwrap();
    let luid = state.adapters.iter().find(|a| a.name == "mast0").map(|a| a.luid);
    state.routes.iter().filter(|r| Some(r.luid) == luid && r.prefix.length < 32).map(|r| r.prefix).collect()
}

#[tokio::test]
async fn what_is_declared_is_there_and_mended_and_a_default_route_is_two_halves() {
    let played = laptop();
    let platform = played.platform();
    let mut list = platform.watch_interfaces().unwrap();
    let tun = platform.create_tun(&wish()).await.unwrap();
    let mut keeper = Reconciler::new(platform.host().unwrap());
    let wanted = network(&["10.77.0.1", "fd77::1"], &["10.77.0.0/16", "0.0.0.0/0"]);
    fine(&keeper.apply(&wanted, false));
    let halves = [prefix("0.0.0.0/1"), prefix("10.77.0.0/16"), prefix("128.0.0.0/1")];
    assert_eq!(own_routes(&played), halves);
    assert_eq!(keeper.apply(&wanted, true).taken, 0, "nothing differs");
    wait(&mut list, "seen", |l| !l.interfaces.iter().any(|i| i.name == "mast0")).await;
    has_been_read(&played, &mut list, 100).await;

    let mut round = 100;
    for damage in [
        (|state: &mut State| state.routes.retain(|r| r.prefix != prefix("128.0.0.0/1"))) as fn(&mut State),
        |state| state.adapters.last_mut().unwrap().addresses.retain(|a| a.ip != ip("fd77::1")),
        |state| state.adapters.last_mut().unwrap().mtu = 1500,
    ] {
        let before = list.borrow_and_update().disturbed;
        played.change(damage);
        wait(&mut list, "disturbed", |l| l.disturbed > before).await;
        let outcome = keeper.apply(&wanted, true);
        fine(&outcome);
        assert!(!outcome.mended.is_empty());
        assert_eq!(own_routes(&played), halves);
        assert_eq!(keeper.apply(&wanted, true).taken, 0);
        round += 1;
        has_been_read(&played, &mut list, round).await;
    }
    fine(&keeper.apply(&network(&["10.77.0.1"], &[]), false));
    assert!(own_routes(&played).is_empty());

    // The adapter vanishes.
    drop(tun);
    let outcome = keeper.apply(&wanted, true);
    assert!(outcome.refused.iter().any(|r| r.kind == io::ErrorKind::NotFound), "{outcome:?}");
}

#[tokio::test]
async fn a_refusal_takes_nothing_along_and_leaves_nothing_behind() {
    let played = laptop();
    let platform = played.platform();
    let _tun = platform.create_tun(&wish()).await.unwrap();
    let mut keeper = Reconciler::new(platform.host().unwrap());
    played.change(|state| {
        state.routes.insert(Route { luid: 1003, prefix: prefix("10.200.0.0/16"), gateway: None, metric: 1 });
    });
    let wanted = network(&["10.77.0.1"], &["10.77.0.0/16", "10.200.0.0/16"]);
    let outcome = keeper.apply(&wanted, false);
    assert_eq!(outcome.refused.len(), 1, "{outcome:?}");
    assert_eq!(outcome.refused[0].kind, io::ErrorKind::AlreadyExists);
    assert!(outcome.refused[0].text.contains("10.200.0.0/16"), "{outcome:?}");
    assert_eq!(own_routes(&played), [prefix("10.77.0.0/16")]);

    // Of two halves the second is refused: neither is there.
    let mut host = platform.host().unwrap();
    played.change(|state| state.refuse = Some(("second half", io::ErrorKind::PermissionDenied)));
    let results = host.take(Some("mast0"), &[Step::AddRoute(prefix("0.0.0.0/0"), None)]);
    let error = results[0].as_ref().unwrap_err();
    assert!(error.to_string().contains("run as administrator"), "{error}");
    assert_eq!(own_routes(&played), [prefix("10.77.0.0/16")]);

    // A host without IPv6.
    played.change(|state| state.refuse = Some(("v6", io::ErrorKind::NotFound)));
    let steps = [Step::SetMtu(1400), Step::AddAddress(ip("fd77::1")), Step::AddAddress(ip("10.77.0.2"))];
    let results = host.take(Some("mast0"), &steps);
    assert!(results[0].is_ok() && results[1].is_err() && results[2].is_ok(), "{results:?}");

    // There is nothing to take up.
    let results = host.take(Some("mast0"), &[Step::Raise]);
    assert_eq!(results[0].as_ref().unwrap_err().kind(), io::ErrorKind::Unsupported);
}

#[tokio::test]
async fn another_half_beside_the_tunnel_is_told_of() {
    let played = laptop();
    let platform = played.platform();
    let _tun = platform.create_tun(&wish()).await.unwrap();
    let mut host = platform.host().unwrap();
    assert_eq!(host.around("mast0", Family::V4).unwrap(), None);
    played.change(|state| {
        state.routes.insert(Route { luid: 1008, prefix: prefix("0.0.0.0/1"), gateway: None, metric: 0 });
    });
    let told = host.around("mast0", Family::V4).unwrap().unwrap();
    assert!(told.contains("OtherVPN") && told.contains("0.0.0.0/1"), "{told}");
    assert_eq!(host.around("mast0", Family::V6).unwrap(), None);
}

#[tokio::test]
async fn frames_go_both_ways_and_an_adapter_that_vanishes_is_seen() {
    let played = laptop();
    let platform = played.platform();
    let tun = platform.create_tun(&wish()).await.unwrap();
    assert_eq!(tun.name(), "mast0");
    assert!(platform.create_tun(&wish()).await.is_err_and(|e| e.kind() == io::ErrorKind::AlreadyExists));
    played.change(|state| state.to_engine.extend([b"one".to_vec(), b"three".to_vec()]));
    let mut buffer = [0; 100];
    let mut got = Vec::new();
    while got.len() < 2 {
        tokio::time::timeout(PATIENCE, tun.readable()).await.expect("a frame").unwrap();
        while let Ok((length, offload)) = tun.try_recv(&mut buffer) {
            assert_eq!(offload, Offload::default());
            got.push(buffer[..length].to_vec());
        }
    }
    assert_eq!(got, [b"one".to_vec(), b"three".to_vec()]);
    tun.try_send(&[IoSlice::new(b"an"), IoSlice::new(b"swer")], Offload::default()).unwrap();
    assert_eq!(played.0.0.lock().unwrap().from_engine.pop_front().as_deref(), Some(&b"answer"[..]));
    played.change(|state| state.refuse = Some(("give", io::ErrorKind::WouldBlock)));
    assert!(tun.try_send(&[IoSlice::new(b"full")], Offload::default()).is_err());

    played.change(|state| state.lost = true);
    let lost = async {
        loop {
            tun.readable().await.unwrap();
            match tun.try_recv(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => break error.kind(),
                Ok(_) => panic!("a frame of nobody"),
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, lost).await.expect("told"), io::ErrorKind::BrokenPipe);
    drop(tun);
    // Made again under the same name.
    played.change(|state| state.refuse = None);
    platform.create_tun(&wish()).await.unwrap();
}

#[tokio::test]
async fn an_adapter_that_is_refused_says_why_and_the_doctor_what_is_missing() {
    let played = laptop();
    let platform = played.platform();
    assert!(platform.checks().iter().all(|check| check.ok));
    played.change(|state| state.refuse = Some(("make ring", io::ErrorKind::PermissionDenied)));
    let error = platform.create_tun(&wish()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    for (word, check) in [
        ("driver", "tun-device"),
        ("adapters", "interfaces"),
        ("routes", "routes"),
        ("blockers", "protection"),
    ] {
        played.change(|state| state.refuse = Some((word, io::ErrorKind::Other)));
        let checks = platform.checks();
        let found = checks.iter().find(|c| c.name == check).unwrap();
        assert!(!found.ok && found.explanation.len() > 10, "{found:?}");
    }
}
