//! Watches the interfaces: reads all of links, addresses and routes whenever the kernel announces a change to any.
//!
//! Reading everything anew takes a fraction of a millisecond and cannot drift from the truth. Carrier loss and link
//! down take IPv4 routes and IPv6 addresses along without an announcement of their own, and announcements get lost
//! when too many come at once, so that patching one object at a time would not do. Announcements that are queued when
//! the first is read are answered together; nothing is ever held back.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use mast_engine::os::{InterfaceList, Prefix};
use mast_proto::{Interface, InterfaceId, InterfaceKind};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::clock_gettime;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::copies::{Generations, Start};
use super::netlink::{self, Announced, Events, NetlinkError};
use super::nftables;
use super::nl80211::{self, Nl80211};
use super::occupied::{self, Own, Resolvers};
use super::radio::Radios;
use super::readiness::{self, Stable};
use super::rtnl::{self, Assigned, Concern, Link, Route, Rtnl};
use super::{classify, guard, sysfs};
use crate::Overrides;

/// How often everything is read although nothing was announced.
const POLL: Duration = Duration::from_secs(10);
/// How soon reading is tried again after it failed.
const RETRY: Duration = Duration::from_millis(200);
/// How often it is read while a Wi-Fi radio hears its station badly.
const CLOSELY: Duration = Duration::from_secs(1);
/// A time asleep shorter than this is a rounding error of two clocks.
const ASLEEP: TimeSpec = TimeSpec::new(1, 0);
/// Seconds from now at which the timer would fire that only serves to be told when the clock is set.
const FAR_FUTURE_SECONDS: i64 = 10 * 365 * 86_400;
/// Bytes of what a radio announces at once; what does not fit is answered by looking.
const RADIO_BUFFER: usize = 4 * 1024;
/// Bytes of what the kernel announces of a device at once (`UEVENT_BUFFER_SIZE` and its path).
const DEVICE_BUFFER: usize = 8 * 1024;
/// The same of the packet filter: one rule each.
const FILTER_BUFFER: usize = 16 * 1024;
/// Announcements read before the interfaces are read; the rest are answered by the next round.
const BATCH: u32 = 1_000;

/// Starts the watching thread.
pub(super) fn watch(overrides: Overrides, own: Own) -> io::Result<watch::Receiver<InterfaceList>> {
    let failed =
        |error: io::Error| super::context(&error, error.kind(), "cannot watch the network interfaces");
    // Subscribed before the first reading, so that no change falls between.
    let events = Events::open(&rtnl::GROUPS).map_err(failed)?;
    let mut reader = Reader::open(overrides, own).map_err(failed)?;
    let (publisher, receiver) = watch::channel(reader.read().map_err(|e| failed(e.into()))?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    thread::Builder::new()
        .name("mast-interfaces".to_owned())
        .spawn(move || {
            if let Err(error) = runtime.block_on(run(events, reader, publisher)) {
                tracing::error!(%error, "no longer watching the network interfaces");
            }
        })
        .map_err(failed)?;
    Ok(receiver)
}

/// Publishes until every receiver is gone.
async fn run(events: Events, mut reader: Reader, publisher: watch::Sender<InterfaceList>) -> io::Result<()> {
    let events = readiness::register(events)?;
    // Who may not hear of the packet filter, may not set it either.
    let filter = Events::of_group(nftables::NETLINK_NETFILTER, nftables::GROUP).and_then(readiness::register);
    let mut filter =
        filter.inspect_err(|error| tracing::debug!(%error, "cannot watch the packet filter")).ok();
    let mut buffer = vec![0; netlink::BUFFER];
    let mut filter_buffer = vec![0; FILTER_BUFFER];
    let mut radio_buffer = vec![0; RADIO_BUFFER];
    let mut device_buffer = vec![0; DEVICE_BUFFER];
    let clock = match ClockSet::open() {
        Ok(clock) => Some(clock),
        Err(error) => {
            tracing::warn!(%error, "a wake-up is noticed late: cannot watch the clock");
            None
        }
    };
    let generations = match Generations::open().and_then(readiness::register) {
        Ok(generations) => Some(generations),
        Err(error) => {
            tracing::warn!(%error, "a restored snapshot is noticed by the clock alone");
            None
        }
    };
    let mut pause = POLL;
    let mut quality = None;
    loop {
        if quality.is_none() {
            quality = reader.wifi.quality();
        }
        tokio::select! {
            () = publisher.closed() => return Ok(()),
            ready = events.readable() => {
                let mut ready = ready?;
                let (again, concern) = drain(ready.get_inner().get(), &mut buffer, &reader.tuns);
                if !again {
                    ready.clear_ready();
                }
                if concern.declared {
                    reader.disturbed += 1;
                    publisher.send_modify(|list| list.disturbed = reader.disturbed);
                }
                if !concern.uplinks && !reader.has_slept() {
                    continue;
                }
            }
            told = filter_told(filter.as_ref(), &mut filter_buffer) => {
                match told {
                    Some(true) => {
                        reader.disturbed += 1;
                        publisher.send_modify(|list| list.disturbed = reader.disturbed);
                    }
                    Some(false) => {}
                    None => filter = None,
                }
                continue;
            }
            told = quality_told(quality.as_ref(), &mut radio_buffer) => {
                if !told {
                    continue;
                }
            }
            () = clock_set(clock.as_ref()) => {}
            copied = copied(generations.as_ref(), &mut device_buffer) => {
                if !copied {
                    continue;
                }
                reader.restored += 1;
            }
            () = tokio::time::sleep(pause) => {}
        }
        pause = match reader.read() {
            Ok(list) => {
                publisher.send_if_modified(|published| {
                    let changed = *published != list;
                    if changed {
                        *published = list;
                    }
                    changed
                });
                if reader.wifi.radios.are_middling() { CLOSELY } else { POLL }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the network interfaces; trying again");
                RETRY
            }
        };
    }
}

/// Takes what was announced: whether there may be more, and what it means.
fn drain(events: &Events, buffer: &mut [u8], tuns: &BTreeSet<u32>) -> (bool, Concern) {
    let mut concern = Concern::default();
    for _ in 0..BATCH {
        match events.receive(buffer) {
            Ok(Announced::Nothing) => return (false, concern),
            Ok(announced) => concern.add(&announced, tuns),
            Err(error) => {
                tracing::warn!(%error, "cannot read the kernel's announcements");
                return (false, Concern::ALL);
            }
        }
    }
    (true, concern)
}

/// Whether the kernel told of a connection that got better or worse; it tells of much else.
async fn quality_told(events: Option<&AsyncFd<Stable<Events>>>, buffer: &mut [u8]) -> bool {
    let Some(events) = events else { return std::future::pending().await };
    let Ok(mut ready) = events.readable().await else { return std::future::pending().await };
    let mut told = false;
    loop {
        match ready.get_inner().get().receive(buffer) {
            Ok(Announced::Nothing) => break,
            Ok(announced) => told |= nl80211::tells_of_quality(&announced),
            Err(_) => return std::future::pending().await,
        }
    }
    ready.clear_ready();
    told
}

/// Whether the kernel told that the machine is a copy; it tells of all devices.
async fn copied(generations: Option<&AsyncFd<Stable<Generations>>>, buffer: &mut [u8]) -> bool {
    let Some(generations) = generations else { return std::future::pending().await };
    let Ok(mut ready) = generations.readable().await else { return std::future::pending().await };
    match ready.get_inner().get().take(buffer) {
        Ok((again, copied)) => {
            if !again {
                ready.clear_ready();
            }
            copied
        }
        Err(_) => std::future::pending().await,
    }
}

/// Whether the kernel told of a change of the packet filter of leak protection; none when it tells no more.
async fn filter_told(events: Option<&AsyncFd<Stable<Events>>>, buffer: &mut [u8]) -> Option<bool> {
    let Some(events) = events else { return std::future::pending().await };
    let mut ready = events.readable().await.ok()?;
    let mut told = false;
    for _ in 0..BATCH {
        match ready.get_inner().get().receive(buffer).ok()? {
            Announced::Nothing => {
                ready.clear_ready();
                break;
            }
            Announced::Lost => told = true,
            Announced::Messages(list) => told |= list.iter().any(guard::concerns),
        }
    }
    Some(told)
}

async fn clock_set(clock: Option<&ClockSet>) {
    match clock {
        Some(clock) => clock.changed().await,
        None => std::future::pending().await,
    }
}

/// Tells when the wall clock was set, which the kernel also does when the machine wakes.
struct ClockSet {
    timer: AsyncFd<Stable<TimerFd>>,
}

impl ClockSet {
    fn open() -> io::Result<Self> {
        let timer =
            TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let clock = Self { timer: readiness::register(timer)? };
        clock.arm()?;
        Ok(clock)
    }

    fn arm(&self) -> nix::Result<()> {
        let far = clock_gettime(nix::time::ClockId::CLOCK_REALTIME)? + TimeSpec::seconds(FAR_FUTURE_SECONDS);
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        self.timer.get_ref().get().set(Expiration::OneShot(far), flags)
    }

    async fn changed(&self) {
        match self.timer.readable().await {
            Ok(mut ready) => {
                let mut count = [0; 8];
                let _ = nix::unistd::read(self.timer.get_ref().get().as_fd(), &mut count);
                ready.clear_ready();
                if let Err(error) = self.arm() {
                    tracing::warn!(%error, "a wake-up may be noticed late");
                }
            }
            Err(_) => std::future::pending().await,
        }
    }
}

/// How long the machine has been asleep since it was started.
fn asleep() -> nix::Result<TimeSpec> {
    Ok(clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)?
        - clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?)
}

/// Reads the interfaces, and keeps what is needed to tell what changed.
struct Reader {
    rtnl: Rtnl,
    overrides: Overrides,
    /// Virtual interfaces of this process.
    own: Own,
    resolvers: Resolvers,
    occupied: Arc<BTreeMap<Prefix, String>>,
    /// The TUN devices as of the last reading.
    tuns: BTreeSet<u32>,
    disturbed: u64,
    /// Routes through uplinks as of the last reading.
    routes: Option<BTreeSet<Route>>,
    routes_changed: u64,
    asleep: TimeSpec,
    resumed: u64,
    start: Start,
    restored: u64,
    wifi: Wifi,
    /// By interface.
    aging: BTreeMap<u32, Aging>,
}

/// Which addresses of an interface may be used: preferred ones, and deprecated ones as a last resort, or as long as they
/// are there if they were in use before. A deprecated address works; what uses it should end in its own time.
#[derive(Debug, Default)]
struct Aging {
    preferred: BTreeSet<IpAddr>,
    /// Those that were preferred once, the latest last.
    deprecated: Vec<IpAddr>,
}

impl Aging {
    /// So many of each version of IP are kept: hosts that make a new address every day have a week of old ones.
    const KEPT: usize = 2;

    fn usable(&mut self, here: &[Assigned]) -> Vec<IpAddr> {
        let of = |deprecated: bool| {
            here.iter().filter(move |a| a.is_deprecated() == deprecated).map(|a| a.address)
        };
        self.deprecated.retain(|old| of(true).any(|a| a == *old));
        let aged = of(true).filter(|a| self.preferred.contains(a) && !self.deprecated.contains(a));
        let aged: Vec<IpAddr> = aged.collect();
        self.deprecated.extend(aged);
        self.preferred = of(false).collect();
        let mut usable: Vec<IpAddr> = Vec::new();
        for address in of(false) {
            if !usable.contains(&address) {
                usable.push(address);
            }
        }
        for v6 in [false, true] {
            let old: Vec<IpAddr> = self.deprecated.iter().copied().filter(|a| a.is_ipv6() == v6).collect();
            let kept = old.len().saturating_sub(Self::KEPT);
            let (gone, kept) = old.split_at(kept);
            self.deprecated.retain(|a| !gone.contains(a));
            usable.extend(kept.iter().rev());
            if !usable.iter().any(|a| a.is_ipv6() == v6) {
                usable.extend(of(true).find(|a| a.is_ipv6() == v6));
            }
        }
        usable
    }
}

impl Reader {
    fn open(overrides: Overrides, own: Own) -> io::Result<Self> {
        Ok(Self {
            rtnl: Rtnl::open()?,
            overrides,
            own,
            resolvers: Resolvers::default(),
            occupied: Arc::default(),
            tuns: BTreeSet::new(),
            disturbed: 0,
            routes: None,
            routes_changed: 0,
            asleep: asleep()?,
            resumed: 0,
            start: Start::now(),
            restored: 0,
            wifi: Wifi::default(),
            aging: BTreeMap::new(),
        })
    }

    fn read(&mut self) -> Result<InterfaceList, NetlinkError> {
        // Routes first: what is published then never has a route of an interface that it lacks.
        let mut routes = self.rtnl.routes()?;
        let links = self.rtnl.links()?;
        let addresses = self.rtnl.addresses()?;

        let is_named = |name: &str| self.overrides.named.iter().any(|i| i == name);
        let is_tun = |link: &&Link| link.virtual_type.as_deref() == Some("tun") && !is_named(&link.name);
        self.tuns = links.iter().filter(is_tun).map(|l| l.index).collect();
        let excluded = |name: &str| self.overrides.ignore.iter().any(|i| i == name);
        let (uplinks, others) = classify::uplinks(&links, &routes, &excluded, &is_named);
        let mut interfaces: BTreeMap<u32, Interface> = BTreeMap::new();
        for link in links.iter().filter(|l| uplinks.contains(&l.index)) {
            let mut interface = describe(link, &self.overrides);
            let here: Vec<Assigned> =
                addresses.iter().filter(|a| a.index == link.index && a.can_source()).copied().collect();
            interface.addresses = self.aging.entry(link.index).or_default().usable(&here);
            let here = addresses.iter().filter(|a| a.index == link.index);
            interface.link_local = here.filter_map(Assigned::link_local).next().filter(|_| link.can_carry());
            interface.usable = link.can_carry() && !interface.addresses.is_empty();
            interfaces.insert(link.index, interface);
        }
        let leads = |index| addresses.iter().any(|a| a.index == index && a.can_source());
        let left_out =
            links.iter().filter(|l| l.can_carry() && leads(l.index) && l.name != self.overrides.own);
        let left_out = left_out.filter_map(|l| Some((l.name.clone(), *others.get(&l.index)?))).collect();
        self.aging.retain(|index, _| interfaces.contains_key(index));
        self.wifi.name_networks(interfaces.values_mut());
        self.wifi.heed_radios(interfaces.values_mut());

        // What cannot be read there is not known to be taken.
        let elsewhere = self.rtnl.routes_elsewhere().unwrap_or_default();
        let all = routes.iter().chain(&elsewhere);
        let occupied = occupied::occupied(&links, &addresses, all, &mut self.resolvers, &self.own);
        if *self.occupied != occupied {
            self.occupied = Arc::new(occupied);
        }
        routes.retain(|r| uplinks.contains(&r.index) && !is_link_local(r));
        if self.routes.as_ref().is_some_and(|before| *before != routes) {
            self.routes_changed += 1;
        }
        self.routes = Some(routes);
        if self.has_slept() {
            self.asleep = asleep()?;
            self.resumed += 1;
        }
        let start = Start::now();
        if start.is_another(self.start) {
            self.restored += 1;
        }
        self.start = start;
        Ok(InterfaceList {
            interfaces: interfaces.into_values().collect(),
            left_out,
            routes_changed: self.routes_changed,
            resumed: self.resumed,
            asleep: self.asleep.into(),
            restored: self.restored,
            disturbed: self.disturbed,
            occupied: Arc::clone(&self.occupied),
        })
    }

    /// Whether the machine slept since that was last taken note of.
    fn has_slept(&self) -> bool {
        asleep().is_ok_and(|now| now - self.asleep > ASLEEP)
    }
}

fn is_link_local(route: &Route) -> bool {
    match route.prefix.address {
        std::net::IpAddr::V4(a) => a.is_link_local(),
        std::net::IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}

/// An interface, without its addresses.
fn describe(link: &Link, overrides: &Overrides) -> Interface {
    let kind = overrides.kind.get(&link.name).copied().unwrap_or_else(|| {
        let facts = sysfs::read(Path::new("/sys/class/net"), link);
        classify::kind(link, facts.as_ref())
    });
    Interface {
        id: InterfaceId(link.index),
        name: link.name.clone(),
        kind,
        network: overrides.network.get(&link.name).cloned(),
        metered: overrides.metered.get(&link.name).copied().unwrap_or(kind == InterfaceKind::Cellular),
        addresses: Vec::new(),
        link_local: None,
        usable: false,
        outlook: Default::default(),
        relayed: Vec::new(),
        reflexive: Vec::new(),
    }
}

/// Asks for the names of Wi-Fi networks.
#[derive(Debug, Default)]
struct Wifi {
    connection: Option<Nl80211>,
    /// The interfaces for which no connection could be had. Asking makes the kernel look for a module, so it is not
    /// asked again until there are other interfaces.
    refused: BTreeSet<InterfaceId>,
    radios: Radios,
    /// What it announces cannot be heard.
    deaf: bool,
}

impl Wifi {
    /// Where it is announced that a connection gets better or worse, once there is a connection.
    fn quality(&mut self) -> Option<AsyncFd<Stable<Events>>> {
        let connection = self.connection.as_ref().filter(|_| !self.deaf)?;
        let events = connection.quality().and_then(readiness::register);
        self.deaf = events.is_err();
        events.ok()
    }

    /// Which radios are about to fail.
    fn heed_radios<'a>(&mut self, interfaces: impl Iterator<Item = &'a mut Interface>) {
        let mut known = BTreeSet::new();
        for interface in interfaces.filter(|i| i.kind == InterfaceKind::Wifi) {
            let Some(connection) = &mut self.connection else { break };
            let station = connection.station(interface.id.0).unwrap_or_default();
            interface.outlook.weak = self.radios.look(interface.id.0, station);
            known.insert(interface.id.0);
        }
        self.radios.retain(|index| known.contains(&index));
    }

    fn name_networks<'a>(&mut self, interfaces: impl Iterator<Item = &'a mut Interface>) {
        let unnamed: Vec<&mut Interface> =
            interfaces.filter(|i| i.kind == InterfaceKind::Wifi && i.network.is_none()).collect();
        let ids: BTreeSet<InterfaceId> = unnamed.iter().map(|i| i.id).collect();
        if unnamed.is_empty() || (self.connection.is_none() && ids == self.refused) {
            return;
        }
        if self.connection.is_none() {
            self.connection = Nl80211::open().ok();
        }
        let Some(connection) = &mut self.connection else {
            self.refused = ids;
            return;
        };
        for interface in unnamed {
            interface.network = connection.ssid(interface.id.0).unwrap_or_default();
        }
    }
}
