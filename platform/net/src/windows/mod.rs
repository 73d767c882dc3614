//! Windows: Wintun, IP Helper, sockets on one interface.
//!
//! What is asked of the system is one trait ([`system::System`]) of values, so that everything above it is tried against a
//! played system, on any; `iphelper`, `udp` and `wintun` are the real one.
//!
//! # Which interfaces are uplinks
//! Hardware (Ethernet, Wi-Fi, modems), and other adapters through which a default route leads, such as Hyper-V's external
//! switch. Never: loopback, tunnels and adapters of other virtual private networks, MAST's own.
//!
//! # Limits
//! Windows may keep the name of a Wi-Fi network from a service (24H2 asks whether it may know where the machine is); then
//! what the user calls the network stands for it. What Hyper-V's switch carries (virtual machines, WSL, Windows Sandbox) is not held back by leak
//! protection.

#[cfg(windows)]
mod com;
mod driver;
pub mod filters;
mod host;
#[cfg(windows)]
mod iphelper;
mod merged;
mod monitor;
mod names;
#[cfg(windows)]
mod networks;
mod notes;
#[cfg(windows)]
mod registry;
#[cfg(windows)]
mod resolver;
pub mod system;
#[cfg(test)]
mod tests;
mod tun;
#[cfg(windows)]
mod udp;
#[cfg(windows)]
mod wfp;
#[cfg(windows)]
mod wintun;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mast_engine::os::{Family, InterfaceList, Platform, TunWish};
use mast_engine::surroundings::{Check, Surroundings};
use mast_proto::Interface;
use tokio::sync::watch;

use crate::Overrides;

pub use host::WindowsHost;
#[cfg(windows)]
pub use iphelper::number as interface_number;
use system::System;
pub use tun::WindowsTun;
#[cfg(windows)]
pub use udp::{own_datagrams, own_group, own_socket, own_stream};

/// The adapters that this process made.
type Own = Arc<Mutex<BTreeSet<u64>>>;

fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Windows, or a system that is played.
#[derive(Debug, Clone)]
pub struct On<S: System> {
    system: S,
    overrides: Overrides,
    own: Own,
}

/// Windows.
#[cfg(windows)]
pub type Windows = On<iphelper::IpHelper>;

#[cfg(windows)]
impl Windows {
    /// The platform, with what the configuration says of interfaces.
    pub fn new(overrides: Overrides) -> Self {
        Self::over(iphelper::IpHelper::default(), overrides)
    }
}

#[cfg(windows)]
impl Default for Windows {
    fn default() -> Self {
        Self::new(Overrides::default())
    }
}

impl<S: System> On<S> {
    fn over(system: S, overrides: Overrides) -> Self {
        Self { system, overrides, own: Own::default() }
    }
}

impl<S: System> On<S> {
    /// What leak protection can do here, and who else filters: any block is final, whoever has it.
    fn protection_check(&self) -> Check {
        const NAME: &str = "protection";
        const AROUND: &str =
            "what Hyper-V's switch carries (virtual machines, WSL, Windows Sandbox) is not held back";
        match self.system.blockers() {
            Ok(others) if others.is_empty() => {
                Check::pass(NAME, format!("leak protection can be set; {AROUND}"))
            }
            Ok(others) => Check::pass(
                NAME,
                format!(
                    "leak protection can be set; {AROUND}. Filters of others block traffic, too: {}. What they block stays \
                     so: end that program if peers cannot be reached",
                    others.join(", ")
                ),
            ),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Check::fail(
                NAME,
                format!("the system's filters cannot be read ({error}): run as administrator"),
            ),
            Err(error) => Check::fail(NAME, format!("there is no leak protection: {error}")),
        }
    }
}

impl<S: System> Platform for On<S> {
    type Tun = WindowsTun<S::Ring>;
    type Udp = S::Udp;
    type Host = WindowsHost<S>;

    /// Must be called within a Tokio runtime. The adapter is made on another thread: it takes seconds at times.
    async fn create_tun(&self, wish: &TunWish) -> io::Result<Self::Tun> {
        let there = self.system.adapters()?.into_iter().any(|adapter| adapter.name == wish.name);
        if there {
            let text = format!(
                "there is an adapter `{}` already: end the program that made it, or choose another name",
                wish.name
            );
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        let (system, wish) = (self.system.clone(), wish.clone());
        let ring = tokio::task::spawn_blocking(move || {
            let ring = system.make_ring(&wish)?;
            let luid = system::Ring::luid(&ring);
            for family in [Family::V4, Family::V6] {
                // A host may be without one of them; the reconciler looks at it again.
                if let Err(error) = system.set_mtu(luid, family, u32::from(wish.mtu)) {
                    tracing::debug!(%error, %family, "the MTU of the virtual interface");
                }
            }
            Ok::<_, io::Error>(ring)
        });
        let ring = ring.await.map_err(io::Error::other)??;
        WindowsTun::new(ring, Arc::clone(&self.own))
    }

    fn host(&self) -> io::Result<WindowsHost<S>> {
        Ok(WindowsHost::new(self.system.clone()))
    }

    /// Must be called within a Tokio runtime, too.
    fn bind_udp(&self, interface: &Interface, family: Family, port: u16) -> io::Result<S::Udp> {
        self.system.bind(interface, family, port, !self.overrides.no_segments)
    }

    fn watch_interfaces(&self) -> io::Result<watch::Receiver<InterfaceList>> {
        let own = Arc::clone(&self.own);
        monitor::watch(monitor::Reader::new(self.system.clone(), self.overrides.clone(), own))
    }

    #[cfg(windows)]
    fn processor_time(&self) -> Option<std::time::Duration> {
        iphelper::processor_time()
    }
}

impl<S: System> Surroundings for On<S> {
    fn checks(&self) -> Vec<Check> {
        let driver = match self.system.driver() {
            Ok(text) => Check::pass("tun-device", text),
            Err(text) => Check::fail("tun-device", text),
        };
        let adapters = match self.system.adapters() {
            Ok(adapters) => {
                Check::pass("interfaces", format!("{} network adapters can be read", adapters.len()))
            }
            Err(error) => Check::fail(
                "interfaces",
                format!("the network adapters cannot be read ({error}): restart the machine"),
            ),
        };
        let routes = match self.system.routes() {
            Ok(routes) => Check::pass("routes", format!("{} routes can be read", routes.len())),
            Err(error) => {
                Check::fail("routes", format!("the routes cannot be read ({error}): run as administrator"))
            }
        };
        vec![driver, adapters, routes, self.protection_check()]
    }

    fn sessions(&self, _local: &[IpAddr], _remote: &[IpAddr]) -> usize {
        0
    }

    /// An adapter goes with its process, however that ends.
    fn clear_leftovers(&self, _interface: &str) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}
