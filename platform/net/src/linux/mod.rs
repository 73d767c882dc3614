//! Linux: TUN, rtnetlink, device-bound sockets.
//!
//! # Which interfaces are uplinks
//! Only interfaces that can lead out of the host are listed. Physical ones are told from virtual ones by what the
//! kernel says of a device (`ip -d link`): virtual devices have a type, hardware has none.
//! - **Always**: hardware, modem channels (`wwan`, `rmnet`), and VLANs and bonds, which stand for hardware.
//! - **Bridges** if a port is one of those (a desktop's `br0` over `eth0`) or a default route leads through them.
//!   `docker0` and `virbr0` have neither.
//! - **Other virtual devices** such as `veth`, `macvlan`, `ppp` if a default route leads through them, or if the
//!   network namespace has no hardware at all: inside a container or a test lab a `veth` end is all there is.
//!   On the host, the outer ends of containers' `veth` pairs have neither.
//! - **Never**: loopback, TUN and TAP devices (MAST's own, other VPNs', virtual machines'), WireGuard and other
//!   tunnels, dummies, ports of a bridge or bond (their master counts instead), and those that
//!   [`Overrides::ignore`](crate::Overrides::ignore) names.
//!
//! # What an interface is attached to
//! `/sys/class/net` tells Wi-Fi, modems and phone tethering apart. It may show another network namespace than the
//! one the process is in, so that an entry counts only if its index and address are those that netlink tells. What
//! remains is decided by the usual names: `wl*`, `wifi*`; `ww*`, `cell*`, `rmnet*`; `en*`, `eth*`.
//! [`Overrides::kind`](crate::Overrides::kind) wins.
//!
//! # Limits
//! The SSID comes from nl80211 and is missing on drivers that do not report it; the names of mobile operators and
//! NetworkManager's idea of what is metered are not read.

mod answers;
mod batch;
mod classify;
mod copies;
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod host;
mod leftovers;
mod marking;
mod monitor;
mod names;
mod netlink;
mod nftables;
mod nl80211;
mod occupied;
mod probe;
mod protection;
mod radio;
mod rtnl;
mod sessions;
mod sockopt;
mod sysfs;
mod tun;
mod udp;
mod vnet;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mast_engine::os::{Family, InterfaceList, Platform, TunWish};
use mast_engine::surroundings::{Check, Surroundings};
use mast_proto::Interface;
use nix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use crate::{Overrides, readiness};

pub use batch::LinuxUdp;
pub use host::LinuxHost;
pub use tun::LinuxTun;
pub use udp::{own_datagrams, own_group, own_socket, own_stream};

/// Linux, in the network namespace of the thread that calls it.
#[derive(Debug, Clone, Default)]
pub struct Linux {
    overrides: Overrides,
    own: occupied::Own,
}

impl Linux {
    /// The platform, with what the configuration says of interfaces.
    pub fn new(overrides: Overrides) -> Self {
        Self { overrides, own: Default::default() }
    }
}

impl Platform for Linux {
    type Tun = LinuxTun;
    type Udp = LinuxUdp;
    type Host = LinuxHost;

    /// Must be called within a Tokio runtime, on which the device's readiness is then reported.
    async fn create_tun(&self, wish: &TunWish) -> io::Result<LinuxTun> {
        let tun = LinuxTun::create(wish).await?;
        let mut own = self.own.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        own.insert(mast_engine::os::Tun::name(&tun).to_owned());
        drop(own);
        Ok(tun)
    }

    fn host(&self) -> io::Result<LinuxHost> {
        LinuxHost::open(self.overrides.shared_filter)
    }

    /// Must be called within a Tokio runtime, too.
    fn bind_udp(&self, interface: &Interface, family: Family, port: u16) -> io::Result<LinuxUdp> {
        udp::bind(interface, family, port, !self.overrides.no_segments)
    }

    /// The watching is done by a thread of its own: the kernel holds up requests about interfaces while a driver
    /// is busy, and that must not hold up datagrams. The first list is there when this returns.
    fn watch_interfaces(&self) -> io::Result<watch::Receiver<InterfaceList>> {
        monitor::watch(self.overrides.clone(), Arc::clone(&self.own))
    }

    fn processor_time(&self) -> Option<Duration> {
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok().map(Duration::from)
    }
}

impl Surroundings for Linux {
    fn checks(&self) -> Vec<Check> {
        probe::probe()
    }

    fn sessions(&self, local: &[IpAddr], remote: &[IpAddr]) -> usize {
        sessions::sessions(local, remote)
    }

    fn clear_leftovers(&self, interface: &str) -> io::Result<Vec<String>> {
        leftovers::clear_leftovers(interface)
    }
}

/// The number of the interface of a name, as zones of addresses have it; none while there is no such interface.
pub fn interface_number(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// Puts what was tried, and possibly a remedy, before an error's own words.
fn context(error: &io::Error, kind: io::ErrorKind, text: impl std::fmt::Display) -> io::Error {
    io::Error::new(kind, format!("{text}: {error}"))
}
