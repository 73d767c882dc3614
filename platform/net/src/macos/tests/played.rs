//! A macOS that is played: it answers with routing messages as the real one writes them, reads those it is asked with, and
//! keeps what `pfctl` and `scutil` are told.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use mast_conformance::{Seen, World, fake};
use mast_engine::os::{Family, PlainUdp, Prefix, TunWish};
use mast_proto::Interface;
use tokio::sync::Notify;

use super::super::pf::{self, InForce};
use super::super::routing::{self, Address, Route, messages, tests as written};
use super::super::system::{Announced, Detail, System, Table, Utun};
use super::super::{On, names};
use crate::Overrides;

/// An interface of the played system.
#[derive(Debug, Clone)]
pub struct Link {
    pub name: String,
    pub flags: u32,
    pub kind: u8,
    pub mtu: u32,
    pub addresses: Vec<Address>,
    pub detail: Detail,
}

#[derive(Debug, Default)]
pub struct State {
    pub links: BTreeMap<u16, Link>,
    /// With their preferred sources.
    pub routes: Vec<(Route, Option<IpAddr>)>,
    /// How IPv6 addresses stand.
    pub flags: BTreeMap<IpAddr, u32>,
    /// Changes are announced.
    pub announces: bool,
    pub announced: VecDeque<Vec<u8>>,
    pub heard: usize,
    pub asleep: Duration,
    /// Calls with this word in their name are refused so.
    pub refuse: Option<(&'static str, io::ErrorKind)>,
    pub refuse_v6: bool,
    /// pf: the main rules, the anchor, and who switched it on.
    pub main: String,
    pub anchor: String,
    pub on: Vec<u64>,
    pub flushed: usize,
    pub group: Option<u32>,
    /// The session of the dynamic store that is held, and what others asked for in it.
    pub session: Option<String>,
    pub servers: Vec<IpAddr>,
    /// What Wi-Fi interfaces are joined to, as far as the system says.
    pub networks: BTreeMap<String, String>,
    pub to_engine: VecDeque<Vec<u8>>,
    pub from_engine: VecDeque<Vec<u8>>,
    pub lost: bool,
    tokens: u64,
}

#[derive(Debug, Default)]
pub struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    ready: Notify,
}

#[derive(Debug, Clone)]
pub struct Played {
    pub shared: Arc<Shared>,
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix { address: ip(address), length: length.parse().unwrap() }
}

const ALIVE: u32 = routing::INTERFACE_UP | routing::RUNNING;

pub fn link(index: u16, name: &str, functional: u32, addresses: &[&str]) -> (u16, Link) {
    let length = |a: &str| if a.contains(':') { 64 } else { 24 };
    let addresses = addresses.iter().map(|a| Address { index, ip: ip(a), prefix: length(a) }).collect();
    let detail = Detail { functional, ..Detail::default() };
    let (kind, mtu) = (routing::KIND_ETHERNET, 1500);
    (index, Link { name: name.into(), flags: ALIVE, kind, mtu, addresses, detail })
}

impl Default for Played {
    fn default() -> Self {
        let played = Self { shared: Arc::default() };
        let mut state = played.state();
        state.announces = true;
        state.group = Some(700);
        state.main =
            "scrub-anchor \"com.apple/*\" all fragment reassemble\nanchor \"com.apple/*\" all\n".into();
        drop(state);
        played
    }
}

impl Played {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Changes something, which the system announces if it announces anything.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        if state.announces {
            let any = Route { prefix: prefix("198.18.0.0/15"), index: 1, gateway: None, flags: routing::UP };
            let mut message = written::listed_route(&any);
            message[3] = routing::ADD;
            state.announced.push_back(message);
        }
        drop(state);
        self.shared.changed.notify_all();
        self.shared.ready.notify_one();
    }

    /// Somebody may wait for what was announced.
    pub fn shared_changed(&self) {
        self.shared.changed.notify_all();
    }

    fn call(&self, name: &'static str) -> io::Result<()> {
        match self.state().refuse {
            Some((word, kind)) if name.contains(word) => Err(io::Error::new(kind, "played")),
            _ => Ok(()),
        }
    }

    pub fn platform(&self) -> On<Self> {
        On::over(self.clone(), Overrides::default())
    }

    fn on_link<T>(&self, name: &str, change: impl FnOnce(&mut Link, u16) -> io::Result<T>) -> io::Result<T> {
        let mut result = Err(io::ErrorKind::NotFound.into());
        self.change(|state| {
            if let Some((index, link)) = state.links.iter_mut().find(|(_, link)| link.name == name) {
                result = change(link, *index);
            }
        });
        result
    }
}

fn host_route(index: u16, address: IpAddr) -> Route {
    Route { prefix: Prefix::host(address), index, gateway: None, flags: routing::UP | routing::HOST }
}

#[derive(Debug)]
pub struct PlayedUtun(Played, String);

impl Drop for PlayedUtun {
    fn drop(&mut self) {
        self.0.change(|state| {
            let gone = state.links.iter().find(|(_, link)| link.name == self.1).map(|(index, _)| *index);
            state.links.retain(|index, _| Some(*index) != gone);
            state.routes.retain(|(route, _)| Some(route.index) != gone);
        });
    }
}

impl Utun for PlayedUtun {
    fn name(&self) -> &str {
        &self.1
    }

    async fn readable(&self) -> io::Result<()> {
        loop {
            let ready = self.0.shared.ready.notified();
            if !self.0.state().to_engine.is_empty() || self.0.state().lost {
                return Ok(());
            }
            ready.await;
        }
    }

    fn take(&self, header: &mut [u8; 4], frame: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.state();
        if state.lost {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let all = state.to_engine.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        let (before, rest) = all.split_at(all.len().min(4));
        header[..before.len()].copy_from_slice(before);
        frame[..rest.len()].copy_from_slice(rest);
        Ok(all.len())
    }

    fn give(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.0.call("give")?;
        let frame = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.0.state().from_engine.push_back(frame);
        Ok(())
    }
}

#[derive(Debug)]
pub struct PlayedAnnounced(Played);

impl Announced for PlayedAnnounced {
    fn next(&mut self, buffer: &mut [u8], patience: Duration) -> io::Result<Option<usize>> {
        self.0.call("next")?;
        let nothing = |state: &mut State| state.announced.is_empty();
        let waited = self.0.shared.changed.wait_timeout_while(self.0.state(), patience, nothing);
        let (mut state, _) = waited.unwrap();
        let Some(message) = state.announced.pop_front() else { return Ok(None) };
        state.heard += 1;
        buffer[..message.len()].copy_from_slice(&message);
        Ok(Some(message.len()))
    }
}

impl System for Played {
    type Utun = PlayedUtun;
    type Udp = PlainUdp;
    type Announced = PlayedAnnounced;

    fn table(&self, which: Table) -> io::Result<Vec<u8>> {
        self.call(if which == Table::Routes { "routes" } else { "interfaces" })?;
        let state = self.state();
        let mut all = Vec::new();
        match which {
            Table::Interfaces => {
                for (index, link) in &state.links {
                    let Link { name, flags, kind, mtu, .. } = link.clone();
                    all.extend(written::listed_interface(&routing::Interface {
                        index: *index,
                        name,
                        flags,
                        kind,
                        mtu,
                    }));
                    link.addresses.iter().for_each(|address| all.extend(written::listed_address(address)));
                }
            }
            Table::Routes => {
                state.routes.iter().for_each(|(route, _)| all.extend(written::listed_route(route)))
            }
        }
        Ok(all)
    }

    fn request(&self, message: &[u8]) -> io::Result<()> {
        let asked = messages(message).next().unwrap();
        let (route, source) = (asked.route().unwrap(), asked.source());
        self.call(match (asked.kind, route.prefix.address) {
            (routing::ADD, address) if address == ip("128.0.0.0") => "add second half",
            (routing::ADD, _) => "add route",
            _ => "delete route",
        })?;
        let mut result = Ok(());
        self.change(|state| {
            let there = state.routes.iter().position(|(r, _)| r.prefix == route.prefix && r.is_for_all());
            let has = |source: &IpAddr| state.links[&route.index].addresses.iter().any(|a| a.ip == *source);
            result = match (asked.kind, there) {
                (routing::ADD, Some(_)) => Err(io::ErrorKind::AlreadyExists.into()),
                (routing::ADD, None) if state.refuse_v6 && route.prefix.address.is_ipv6() => {
                    Err(io::ErrorKind::NetworkUnreachable.into())
                }
                (routing::ADD, None) if !source.as_ref().is_none_or(has) => {
                    Err(io::ErrorKind::NetworkUnreachable.into())
                }
                (routing::ADD, None) => {
                    state.routes.push((route, source));
                    Ok(())
                }
                // Of whichever interface it is.
                (_, Some(at)) => {
                    state.routes.remove(at);
                    Ok(())
                }
                (_, None) => Err(io::ErrorKind::NotFound.into()),
            };
        });
        result
    }

    fn detail(&self, name: &str) -> Detail {
        self.state().links.values().find(|link| link.name == name).map(|link| link.detail).unwrap_or_default()
    }

    fn address_flags(&self, _: &str, address: IpAddr) -> u32 {
        self.state().flags.get(&address).copied().unwrap_or_default()
    }

    fn add_address(&self, name: &str, address: IpAddr) -> io::Result<()> {
        self.call("add address")?;
        if self.state().refuse_v6 && address.is_ipv6() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let index = self.on_link(name, |link, index| {
            if link.addresses.iter().any(|a| a.ip == address) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            link.addresses.push(Address { index, ip: address, prefix: Prefix::host(address).length });
            Ok(index)
        })?;
        // As the system does by itself.
        self.change(|state| state.routes.push((host_route(index, address), None)));
        Ok(())
    }

    fn remove_address(&self, name: &str, address: IpAddr) -> io::Result<()> {
        self.call("remove address")?;
        self.change(|state| state.routes.retain(|(r, _)| r.prefix != Prefix::host(address)));
        self.on_link(name, |link, _| {
            let before = link.addresses.len();
            link.addresses.retain(|a| a.ip != address);
            if link.addresses.len() == before { Err(io::ErrorKind::AddrNotAvailable.into()) } else { Ok(()) }
        })
    }

    fn set_mtu(&self, name: &str, mtu: u16) -> io::Result<()> {
        self.call("mtu")?;
        self.on_link(name, |link, _| {
            link.mtu = mtu.into();
            Ok(())
        })
    }

    fn raise(&self, name: &str) -> io::Result<()> {
        self.call("raise")?;
        self.on_link(name, |link, _| {
            link.flags |= ALIVE;
            Ok(())
        })
    }

    fn announced(&self) -> io::Result<PlayedAnnounced> {
        self.call("announced")?;
        Ok(PlayedAnnounced(self.clone()))
    }

    fn asleep(&self) -> Duration {
        self.state().asleep
    }

    fn pfctl(&self, words: &[&str], input: &str) -> io::Result<String> {
        self.call("pfctl")?;
        let mut state = self.state();
        Ok(match words {
            ["-a", pf::ANCHOR, "-s", "rules"] => state.anchor.clone(),
            ["-s", "rules"] => state.main.clone(),
            ["-s", "info"] => {
                format!("Status: {} for 0 days\n", if state.on.is_empty() { "Disabled" } else { "Enabled" })
            }
            ["-a", pf::ANCHOR, "-F", "rules"] => {
                state.anchor.clear();
                String::new()
            }
            ["-o", "none", "-a", pf::ANCHOR, "-f", "-"] => {
                state.anchor = input.to_owned();
                String::new()
            }
            ["-F", "states"] => {
                state.flushed += 1;
                String::new()
            }
            ["-E"] => {
                state.tokens += 1;
                let token = state.tokens;
                state.on.push(token);
                format!("pf enabled\nToken : {token}\n")
            }
            ["-X", token] => {
                let token = token.parse().unwrap();
                state.on.retain(|on| *on != token);
                String::new()
            }
            other => panic!("{other:?}"),
        })
    }

    fn own_group(&self) -> Option<u32> {
        self.state().group
    }

    fn store(&self, words: &str) -> io::Result<String> {
        self.call("store")?;
        let state = self.state();
        if let Some(key) = words.strip_prefix("show State:/Network/Interface/") {
            let name = state.networks.get(key.strip_suffix("/AirPort\n").unwrap());
            return Ok(name.map_or("  No such key\n".into(), |name| {
                format!("<dictionary> {{\n  CHANNEL : 6\n  SSID_STR : {name}\n}}\n")
            }));
        }
        let servers: Vec<String> = if words == names::of_system() {
            state.servers.iter().map(IpAddr::to_string).collect()
        } else {
            assert_eq!(words, names::ours());
            let line = state
                .session
                .as_ref()
                .and_then(|s| s.lines().find(|l| l.starts_with("d.add ServerAddresses")));
            line.map(|l| l.split(' ').skip(3).map(str::to_owned).collect()).unwrap_or_default()
        };
        if servers.is_empty() {
            return Ok("  No such key\n".into());
        }
        let lines: String = servers.iter().enumerate().map(|(at, s)| format!("    {at} : {s}\n")).collect();
        Ok(format!("<dictionary> {{\n  ServerAddresses : <array> {{\n{lines}  }}\n}}\n"))
    }

    fn hold(&self, words: Option<&str>) -> io::Result<()> {
        self.call("hold")?;
        self.state().session = words.map(str::to_owned);
        Ok(())
    }

    fn make_utun(&self, wish: &TunWish) -> io::Result<PlayedUtun> {
        self.call("make utun")?;
        let mut made = Err(io::ErrorKind::AlreadyExists.into());
        self.change(|state| {
            state.lost = false;
            let is_free = |name: &str| !state.links.values().any(|link| link.name == name);
            let name = match wish.name.strip_prefix("utun") {
                Some(_) => Some(wish.name.clone()).filter(|name| is_free(name)),
                // No other name can be chosen.
                None => (4..).map(|n| format!("utun{n}")).find(|name| is_free(name)),
            };
            let Some(name) = name else { return };
            let index = state.links.keys().max().map_or(20, |last| last + 1).max(20);
            let (_, mut own) = link(index, &name, 0, &["fe80::99"]);
            own.kind = routing::KIND_OTHER;
            own.flags = routing::RUNNING | routing::POINT_TO_POINT;
            state.links.insert(index, own);
            made = Ok(PlayedUtun(self.clone(), name));
        });
        made
    }

    fn bind(&self, interface: &Interface, _: Family, port: u16, _: bool) -> io::Result<PlainUdp> {
        let there = self
            .state()
            .links
            .iter()
            .any(|(i, l)| (u32::from(*i), &l.name) == (interface.id.0, &interface.name));
        if !there {
            return Err(io::ErrorKind::NotFound.into());
        }
        let socket = std::net::UdpSocket::bind(("127.0.0.1", port))?;
        socket.set_nonblocking(true)?;
        PlainUdp::new(socket)
    }
}

/// The played system, as an outsider sees and changes it.
pub struct PlayedWorld {
    pub played: Played,
    platform: On<Played>,
}

impl Default for PlayedWorld {
    fn default() -> Self {
        let played = Played::default();
        // Somebody else's, to which routes may lead.
        played.state().links.extend([link(9, "en9", Detail::WIRED, &["198.51.100.9"])]);
        Self { platform: played.platform(), played }
    }
}

impl World for PlayedWorld {
    type Platform = On<Played>;

    fn platform(&self) -> &On<Played> {
        &self.platform
    }

    fn seen(&self, interface: &str) -> Seen {
        let state = self.played.state();
        let mut seen = Seen::default();
        if let InForce::Whole(rules) = pf::read(&state.anchor)
            && !state.on.is_empty()
        {
            (seen.protection, seen.guarded) = (rules.protect, rules.guard.is_some());
        }
        let Some((index, link)) = state.links.iter().find(|(_, link)| link.name == interface) else {
            return seen;
        };
        seen.mtu = u16::try_from(link.mtu).unwrap();
        // A version that does not tell whether it is up has no way to show that it was taken down.
        seen.mtu += u16::from(link.flags & routing::INTERFACE_UP == 0);
        seen.addresses =
            link.addresses.iter().map(|a| a.ip).filter(|ip| *ip != super::ip("fe80::99")).collect();
        let own = state.routes.iter().filter(|(r, _)| r.index == *index && r.flags & routing::HOST == 0);
        seen.routes = own.map(|(r, source)| (r.prefix, *source)).collect();
        seen
    }

    fn take_address(&self, interface: &str, address: IpAddr) {
        self.played.remove_address(interface, address).unwrap();
    }

    fn take_route(&self, _: &str, prefix: Prefix) {
        self.played.change(|state| state.routes.retain(|(r, _)| r.prefix != prefix));
    }

    fn take_down(&self, interface: &str) {
        let down = |link: &mut Link, _| {
            link.flags &= !routing::INTERFACE_UP;
            Ok(())
        };
        self.played.on_link(interface, down).unwrap();
    }

    fn set_mtu(&self, interface: &str, mtu: u16) {
        self.played.set_mtu(interface, mtu).unwrap();
    }

    fn give_address(&self, interface: &str, address: IpAddr) {
        self.played.add_address(interface, address).unwrap();
    }

    fn occupy(&self, prefix: Prefix) {
        let route = Route { prefix, index: 9, gateway: None, flags: routing::UP };
        self.played.change(|state| state.routes.push((route, None)));
    }

    fn vacate(&self, prefix: Prefix) {
        self.take_route("", prefix);
    }

    fn refuse_v6(&self, interface: &str, refuse: bool) {
        self.played.change(|state| {
            state.refuse_v6 = refuse;
            let index = state.links.iter().find(|(_, link)| link.name == interface).map(|(index, _)| *index);
            state.routes.retain(|(r, _)| !refuse || Some(r.index) != index || r.prefix.address.is_ipv4());
        });
    }

    fn uplink(&self, name: &str, addresses: &[IpAddr]) {
        self.played.change(|state| {
            let there = state.links.iter().find(|(_, link)| link.name == name).map(|(index, _)| *index);
            let index = there.unwrap_or_else(|| state.links.keys().max().unwrap() + 1);
            let (_, mut new) = link(index, name, Detail::WIRED, &[]);
            new.addresses = addresses.iter().map(|ip| Address { index, ip: *ip, prefix: 24 }).collect();
            state.links.insert(index, new);
        });
    }

    fn rename(&self, from: &str, to: &str) {
        let name = |link: &mut Link, _| {
            link.name = to.to_owned();
            Ok(())
        };
        self.played.on_link(from, name).unwrap();
    }

    fn unplug(&self, name: &str) {
        self.played.change(|state| state.links.retain(|_, link| link.name != name));
    }

    fn host_sends(&self, to: SocketAddr, payload: &[u8]) -> Option<SocketAddr> {
        let state = self.played.state();
        let (route, source) = state.routes.iter().find(|(r, _)| r.prefix.contains(to.ip()))?;
        let link = state.links.get(&route.index)?;
        let of_family = |ip: &IpAddr| ip.is_ipv4() == to.is_ipv4() && *ip != super::ip("fe80::99");
        let from = source.or_else(|| link.addresses.iter().map(|a| a.ip).find(of_family))?;
        let (before, datagram) = match (from, to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => (routing::INET, fake::v4(from, to, payload)),
            (IpAddr::V6(from), IpAddr::V6(to)) => (routing::INET6, fake::v6(from, to, payload)),
            _ => return None,
        };
        drop(state);
        self.played.change(|state| state.to_engine.push_back([&[0, 0, 0, before], &datagram[..]].concat()));
        Some(SocketAddr::new(from, 4000))
    }

    fn host_got(&self, _: SocketAddr, payload: &[u8]) -> bool {
        let frame = self.played.state().from_engine.pop_front();
        // The version of IP that is said is that of the frame.
        frame
            .is_some_and(|f| f.ends_with(payload) && [0, 0, 0, if f[4] >> 4 == 4 { 2 } else { 30 }] == f[..4])
    }
}
