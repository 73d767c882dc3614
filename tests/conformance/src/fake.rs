//! A fake operating system: loopback addresses for uplinks, queues for the virtual interface, a table for what is set.
//!
//! It can refuse: every call in turn ([`FakeSystem::refuse_call`]), or what a host may refuse.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mast_engine::declared::{Answers, Dns, Guard, Host, Present, Step};
use mast_engine::os::{Family, InterfaceList, Offload, Offloads, PlainUdp, Platform, Prefix, Tun, TunWish};
use mast_engine::surroundings::{Check, Surroundings};
use mast_proto::{Interface, InterfaceId, InterfaceKind};
use tokio::sync::{Notify, watch};

use crate::{Seen, World};

/// What the virtual interface is called, whatever was wished: some systems do not let one choose.
pub const NAME: &str = "utun7";
/// How long a datagram may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The virtual interface as the host has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FakeInterface {
    /// Somebody took it down.
    pub down: bool,
    /// Its MTU in bytes.
    pub mtu: u16,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// The routes into it.
    pub routes: BTreeMap<Prefix, Option<IpAddr>>,
}

#[derive(Debug, Default)]
struct State {
    interface: Option<FakeInterface>,
    /// The virtual interface failed underneath.
    lost: bool,
    protection: BTreeSet<Family>,
    guard: Option<Guard>,
    /// The system has no packet filter.
    unguarded: bool,
    answers: Option<Answers>,
    dns: Option<Dns>,
    /// Ranges to which other interfaces have routes.
    taken: BTreeSet<Prefix>,
    refuse_v6: bool,
    /// The version of IP whose default route others overrule, and how.
    overruled: Option<(Family, String)>,
    calls: usize,
    refuse: Option<usize>,
    /// What was refused.
    refused: Option<String>,
    to_engine: VecDeque<Vec<u8>>,
    from_engine: VecDeque<Vec<u8>>,
    next_interface: u32,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is something for the engine.
    ready: Notify,
    /// There is something for the host.
    arrived: Notify,
    list: watch::Sender<InterfaceList>,
}

/// The system, for whoever watches it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FakeSystem(Arc<Shared>);

impl Default for FakeSystem {
    fn default() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            ready: Notify::new(),
            arrived: Notify::new(),
            list: watch::Sender::default(),
        }))
    }
}

impl FakeSystem {
    /// A system with these uplinks.
    pub fn new(uplinks: Vec<Interface>) -> Self {
        let system = Self::default();
        system.uplinks().send_modify(|list| list.interfaces = uplinks);
        system
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Changes the uplinks.
    pub fn uplinks(&self) -> &watch::Sender<InterfaceList> {
        &self.0.list
    }

    /// The virtual interface, if there is one.
    pub fn interface(&self) -> Option<FakeInterface> {
        self.state().interface.clone()
    }

    /// The versions of IP that are protected.
    pub fn protection(&self) -> BTreeSet<Family> {
        self.state().protection.clone()
    }

    /// What is held back whatever the routes say.
    pub fn guard(&self) -> Option<Guard> {
        self.state().guard.clone()
    }

    /// The system has no packet filter from now on.
    pub fn have_no_guard(&self) {
        self.state().unguarded = true;
    }

    /// Somebody removes the packet filter; the system tells of it.
    pub fn take_guard(&self) {
        self.state().guard = None;
        self.uplinks().send_modify(|list| list.disturbed += 1);
    }

    /// Which answers are taken.
    pub fn answers(&self) -> Option<Answers> {
        self.state().answers.clone()
    }

    /// Rules of others come before the default route of this version of IP; or, with none, do no more.
    pub fn overrule(&self, overruled: Option<(Family, String)>) {
        self.state().overruled = overruled;
        self.uplinks().send_modify(|list| list.disturbed += 1);
    }

    /// Has the call of this number from now on be refused, once; the first is 0.
    pub fn refuse_call(&self, number: usize) {
        let mut state = self.state();
        state.refuse = Some(state.calls + number);
        state.refused = None;
    }

    /// Which call was refused, in words.
    pub fn refused(&self) -> Option<String> {
        self.state().refused.clone()
    }

    /// Counts a call, and refuses it if that was asked for.
    fn call(&self, what: impl std::fmt::Display) -> io::Result<()> {
        let mut state = self.state();
        state.calls += 1;
        if state.refuse == Some(state.calls - 1) {
            state.refused = Some(what.to_string());
            let text = format!("the fake refuses to {what}; ask it again");
            return Err(io::Error::other(text));
        }
        Ok(())
    }

    /// Somebody removes the virtual interface underneath.
    pub fn lose_tun(&self) {
        self.state().lost = true;
        self.0.ready.notify_one();
    }

    /// The host sends a datagram to the virtual interface.
    pub fn send(&self, datagram: Vec<u8>) {
        self.state().to_engine.push_back(datagram);
        self.0.ready.notify_one();
    }

    /// The host receives one, within two seconds.
    pub async fn receive(&self) -> Option<Vec<u8>> {
        let wait = async {
            loop {
                let datagram = self.state().from_engine.pop_front();
                if let Some(datagram) = datagram {
                    return datagram;
                }
                self.0.arrived.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.ok()
    }

    /// Somebody changed something of the virtual interface; the system tells of it.
    fn disturb(&self, change: impl FnOnce(&mut FakeInterface)) {
        if let Some(interface) = &mut self.state().interface {
            change(interface);
        }
        self.uplinks().send_modify(|list| list.disturbed += 1);
    }
}

/// The virtual interface as the engine has it.
#[derive(Debug)]
pub struct FakeTun(FakeSystem);

impl Drop for FakeTun {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.interface = None;
        state.lost = false;
    }
}

impl Tun for FakeTun {
    fn name(&self) -> &str {
        NAME
    }

    async fn readable(&self) -> io::Result<()> {
        while self.0.state().to_engine.is_empty() && !self.0.state().lost {
            self.0.0.ready.notified().await;
        }
        Ok(())
    }

    fn offloads(&self) -> Offloads {
        Offloads::default()
    }

    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, Offload)> {
        if self.0.state().lost {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let datagram = self.0.state().to_engine.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        buffer[..datagram.len()].copy_from_slice(&datagram);
        Ok((datagram.len(), Offload::default()))
    }

    fn try_send(&self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<()> {
        assert_eq!(offload, Offload::default());
        let datagram: Vec<u8> = parts.iter().flat_map(|p| p.iter().copied()).collect();
        // A host that answers echo requests.
        if datagram.len() >= 48 && datagram[0] >> 4 == 6 && datagram[6] == 58 && datagram[40] == 128 {
            let mut reply = datagram.to_vec();
            reply[40] = 129;
            let (source, destination) = (datagram[8..24].to_vec(), datagram[24..40].to_vec());
            reply[8..24].copy_from_slice(&destination);
            reply[24..40].copy_from_slice(&source);
            self.0.send(reply);
            return Ok(());
        }
        self.0.state().from_engine.push_back(datagram);
        self.0.0.arrived.notify_one();
        Ok(())
    }
}

/// The hand that sets things.
#[derive(Debug)]
pub struct FakeHost(FakeSystem);

impl FakeHost {
    fn step(&self, interface: Option<&str>, step: &Step) -> io::Result<()> {
        self.0.call(step)?;
        let mut state = self.0.state();
        let State { interface: there, protection, guard, unguarded, answers, dns, taken, refuse_v6, .. } =
            &mut *state;
        let exists = |kind: io::ErrorKind, text: &str| io::Error::new(kind, text.to_owned());
        match step {
            Step::Protect(family) => drop(protection.insert(*family)),
            Step::Unprotect(family) => drop(protection.remove(family)),
            Step::SetGuard(_) if *unguarded => {
                return Err(exists(
                    io::ErrorKind::Unsupported,
                    "the fake has no packet filter; take another",
                ));
            }
            Step::SetGuard(wanted) => *guard = Some(wanted.clone()),
            Step::ClearGuard => *guard = None,
            Step::SetAnswers(wanted) => *answers = Some(wanted.clone()),
            Step::ClearAnswers => *answers = None,
            Step::SetDns(wanted) => *dns = Some(wanted.clone()),
            Step::ClearDns => *dns = None,
            step => {
                let there = there.as_mut().filter(|_| interface == Some(NAME));
                let there = there.ok_or_else(|| exists(io::ErrorKind::NotFound, "no such interface"))?;
                match step {
                    Step::Raise => there.down = false,
                    Step::SetMtu(mtu) => there.mtu = *mtu,
                    Step::AddAddress(address) if *refuse_v6 && address.is_ipv6() => {
                        let text = "IPv6 is switched off; switch it on";
                        return Err(exists(io::ErrorKind::PermissionDenied, text));
                    }
                    Step::AddAddress(address) => drop(there.addresses.insert(*address)),
                    Step::RemoveAddress(address) => {
                        there.addresses.remove(address);
                        there.routes.retain(|_, source| *source != Some(*address));
                    }
                    Step::AddRoute(prefix, source) | Step::ChangeRoute(prefix, _, source) => {
                        if taken.contains(prefix) {
                            let text = format!("there is a route to {prefix}; remove it");
                            return Err(exists(io::ErrorKind::AlreadyExists, &text));
                        }
                        if source.is_some_and(|s| !there.addresses.contains(&s)) {
                            return Err(exists(io::ErrorKind::InvalidInput, "no such source"));
                        }
                        there.routes.insert(*prefix, *source);
                    }
                    Step::RemoveRoute(prefix, _) => drop(there.routes.remove(prefix)),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl Host for FakeHost {
    fn present(&mut self, interface: Option<&str>) -> io::Result<Present> {
        self.0.call("tell what is set")?;
        let state = self.0.state();
        let mut present = Present {
            protection: state.protection.clone(),
            guard: state.guard.clone(),
            answers: state.answers.clone(),
            dns: state.dns.clone(),
            ..Present::default()
        };
        if interface.is_some() {
            let there = state.interface.clone().filter(|_| interface == Some(NAME));
            let there =
                there.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the interface was removed"))?;
            (present.down, present.mtu) = (there.down, Some(there.mtu));
            (present.addresses, present.routes) = (there.addresses, there.routes);
        }
        Ok(present)
    }

    fn take(&mut self, interface: Option<&str>, steps: &[Step]) -> Vec<io::Result<()>> {
        steps.iter().map(|step| self.step(interface, step)).collect()
    }

    fn around(&mut self, _: &str, family: Family) -> io::Result<Option<String>> {
        self.0.call("tell where things go")?;
        Ok(self.0.state().overruled.clone().filter(|(f, _)| *f == family).map(|(_, how)| how))
    }
}

impl Platform for FakeSystem {
    type Tun = FakeTun;
    type Udp = PlainUdp;
    type Host = FakeHost;

    async fn create_tun(&self, wish: &TunWish) -> io::Result<FakeTun> {
        tokio::task::yield_now().await;
        self.call(format_args!("make the virtual interface `{}`", wish.name))?;
        if self.interface().is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is one; end that other program"));
        }
        self.state().interface = Some(FakeInterface { mtu: wish.mtu, ..FakeInterface::default() });
        Ok(FakeTun(self.clone()))
    }

    fn host(&self) -> io::Result<FakeHost> {
        self.call("set anything")?;
        Ok(FakeHost(self.clone()))
    }

    /// Bound to the interface's first address, which is what tells the interfaces of a loopback apart.
    fn bind_udp(&self, interface: &Interface, family: Family, port: u16) -> io::Result<PlainUdp> {
        self.call(format_args!("open a socket on {}", interface.name))?;
        let known = self.uplinks().borrow().interfaces.iter().any(|i| i.id == interface.id);
        let ip = interface.addresses.iter().find(|a| known && Family::of(**a) == family);
        let socket = UdpSocket::bind((*ip.ok_or(io::ErrorKind::NotFound)?, port))?;
        socket.set_nonblocking(true)?;
        PlainUdp::new(socket)
    }

    fn watch_interfaces(&self) -> io::Result<watch::Receiver<InterfaceList>> {
        self.call("tell of the interfaces")?;
        Ok(self.uplinks().subscribe())
    }
}

impl Surroundings for FakeSystem {
    fn checks(&self) -> Vec<Check> {
        vec![Check::pass("system", "a fake one")]
    }

    fn sessions(&self, _: &[IpAddr], _: &[IpAddr]) -> usize {
        0
    }

    fn clear_leftovers(&self, _: &str) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// An uplink.
pub fn uplink(id: u32, name: &str, addresses: &[IpAddr]) -> Interface {
    Interface {
        id: InterfaceId(id),
        name: name.into(),
        kind: InterfaceKind::Ethernet,
        network: None,
        metered: false,
        addresses: addresses.to_vec(),
        link_local: None,
        usable: !addresses.is_empty(),
        outlook: Default::default(),
        relayed: Vec::new(),
        reflexive: Vec::new(),
    }
}

impl World for FakeSystem {
    type Platform = Self;

    fn platform(&self) -> &Self {
        self
    }

    fn seen(&self, interface: &str) -> Seen {
        let there = self.interface().filter(|_| interface == NAME).unwrap_or_default();
        Seen {
            mtu: there.mtu,
            addresses: there.addresses,
            routes: there.routes,
            protection: self.protection(),
            guarded: self.guard().is_some(),
        }
    }

    fn take_address(&self, _: &str, address: IpAddr) {
        self.disturb(|i| {
            i.addresses.retain(|a| *a != address);
            // As a kernel does.
            i.routes.retain(|_, source| *source != Some(address));
        });
    }

    fn take_route(&self, _: &str, prefix: Prefix) {
        self.disturb(|i| i.routes.retain(|p, _| *p != prefix));
    }

    fn take_down(&self, _: &str) {
        self.disturb(|i| {
            i.down = true;
            i.routes.clear();
        });
    }

    fn set_mtu(&self, _: &str, mtu: u16) {
        self.disturb(|i| i.mtu = mtu);
    }

    fn give_address(&self, _: &str, address: IpAddr) {
        self.disturb(|i| i.addresses.extend([address]));
    }

    fn occupy(&self, prefix: Prefix) {
        self.state().taken.insert(prefix);
    }

    fn vacate(&self, prefix: Prefix) {
        self.state().taken.remove(&prefix);
    }

    fn refuse_v6(&self, _: &str, refuse: bool) {
        self.state().refuse_v6 = refuse;
        if refuse {
            self.disturb(|i| i.addresses.retain(IpAddr::is_ipv4));
        }
    }

    fn uplink(&self, name: &str, addresses: &[IpAddr]) {
        let mut state = self.state();
        self.uplinks().send_modify(|list| match list.interfaces.iter_mut().find(|i| i.name == name) {
            Some(there) => *there = uplink(there.id.0, name, addresses),
            None => {
                state.next_interface += 1;
                list.interfaces.push(uplink(state.next_interface, name, addresses));
            }
        });
    }

    fn rename(&self, from: &str, to: &str) {
        self.uplinks().send_modify(|list| {
            for interface in list.interfaces.iter_mut().filter(|i| i.name == from) {
                interface.name = to.to_owned();
            }
        });
    }

    fn unplug(&self, name: &str) {
        self.uplinks().send_modify(|list| list.interfaces.retain(|i| i.name != name));
    }

    fn host_sends(&self, to: SocketAddr, payload: &[u8]) -> Option<SocketAddr> {
        let interface = self.interface()?;
        let (_, source) = interface.routes.iter().find(|(prefix, _)| prefix.contains(to.ip()))?;
        let of_family = |a: &&IpAddr| a.is_ipv4() == to.is_ipv4();
        let from = source.or_else(|| interface.addresses.iter().find(of_family).copied())?;
        let from = SocketAddr::new(from, 4000);
        self.send(datagram(from, to, payload)?);
        Some(from)
    }

    fn host_got(&self, _: SocketAddr, payload: &[u8]) -> bool {
        self.state().from_engine.pop_front().is_some_and(|datagram| datagram.ends_with(payload))
    }
}

fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let mut udp =
        if let (IpAddr::V4(a), IpAddr::V4(b)) = (from.ip(), to.ip()) { v4(a, b, payload) } else { vec![] };
    if let (IpAddr::V6(a), IpAddr::V6(b)) = (from.ip(), to.ip()) {
        udp = v6(a, b, payload);
    }
    let header = if from.is_ipv4() { 20 } else { 40 };
    udp.get_mut(header..header + 2)?.copy_from_slice(&from.port().to_be_bytes());
    udp.get_mut(header + 2..header + 4)?.copy_from_slice(&to.port().to_be_bytes());
    Some(udp)
}

/// A UDP datagram over IPv6; its payload is all that differs.
pub fn v6(source: Ipv6Addr, destination: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x60, 0, 0, 0];
    out.extend((payload.len() as u16 + 8).to_be_bytes());
    out.extend([17, 64]);
    out.extend(source.octets());
    out.extend(destination.octets());
    out.extend([0x10, 0, 0x20, 0]);
    out.extend((payload.len() as u16 + 8).to_be_bytes());
    out.extend([0, 0]);
    out.extend(payload);
    out
}

/// The same over IPv4.
pub fn v4(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x45, 0];
    out.extend((payload.len() as u16 + 28).to_be_bytes());
    out.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    out.extend(source.octets());
    out.extend(destination.octets());
    out.extend([0x10, 0, 0x20, 0]);
    out.extend((payload.len() as u16 + 8).to_be_bytes());
    out.extend([0, 0]);
    out.extend(payload);
    out
}
