//! macOS: utun, routing messages, sockets on one interface, pf.
//!
//! What is asked of the system is one trait ([`system::System`]), of values, of routing messages as bytes and of words for
//! its tools, so that everything above it is tried against a played system, on any; `native` and `udp` are the real one.
//!
//! # Which interfaces are uplinks
//! Cables, Wi-Fi, modems, and others through which a default route leads to a gateway. Never: loopback, tunnels of other
//! virtual private networks, what Apple devices speak among each other, MAST's own.
//!
//! # Limits
//! The name of a Wi-Fi network is known where the dynamic store has it, which is up to macOS 14: later ones tell it only to
//! programs that the user lets see where they are. A phone on a cable is of the kind of a cable, and metered.

#[cfg(any(target_os = "macos", test))]
mod batch;
#[cfg(target_os = "macos")]
mod check;
mod host;
#[cfg(any(target_os = "macos", test))]
mod inbox;
mod monitor;
mod names;
#[cfg(target_os = "macos")]
mod native;
mod pf;
mod routing;
pub mod system;
#[cfg(test)]
mod tests;
mod tun;
#[cfg(target_os = "macos")]
mod udp;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mast_engine::os::{Family, InterfaceList, Platform, TunWish};
use mast_engine::surroundings::{Check, Surroundings};
use mast_proto::Interface;
use tokio::sync::watch;

use crate::Overrides;

pub use host::MacHost;
#[cfg(target_os = "macos")]
pub use native::interface_number;
use system::{System, Table, Utun};
pub use tun::MacTun;
#[cfg(target_os = "macos")]
pub use udp::{own_datagrams, own_group, own_socket, own_stream};

/// The names of the interfaces that this process made.
type Own = Arc<Mutex<BTreeSet<String>>>;

fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// macOS, or a system that is played.
#[derive(Debug, Clone)]
pub struct On<S: System> {
    system: S,
    overrides: Overrides,
    own: Own,
}

/// macOS.
#[cfg(target_os = "macos")]
pub type MacOs = On<native::Darwin>;

#[cfg(target_os = "macos")]
impl MacOs {
    /// The platform, with what the configuration says of interfaces.
    pub fn new(overrides: Overrides) -> Self {
        Self::over(native::Darwin::default(), overrides)
    }
}

#[cfg(target_os = "macos")]
impl Default for MacOs {
    fn default() -> Self {
        Self::new(Overrides::default())
    }
}

impl<S: System> On<S> {
    fn over(system: S, overrides: Overrides) -> Self {
        Self { system, overrides, own: Own::default() }
    }
}

impl<S: System> Platform for On<S> {
    type Tun = MacTun<S::Utun>;
    type Udp = S::Udp;
    type Host = MacHost<S>;

    /// Must be called within a Tokio runtime, on which the interface's readiness is then reported.
    async fn create_tun(&self, wish: &TunWish) -> io::Result<Self::Tun> {
        let utun = self.system.make_utun(wish)?;
        let tun = MacTun::new(utun, Arc::clone(&self.own));
        let name = mast_engine::os::Tun::name(&tun);
        self.system.set_mtu(name, wish.mtu)?;
        self.system.raise(name)?;
        Ok(tun)
    }

    fn host(&self) -> io::Result<MacHost<S>> {
        Ok(MacHost::new(self.system.clone()))
    }

    /// Must be called within a Tokio runtime, too.
    fn bind_udp(&self, interface: &Interface, family: Family, port: u16) -> io::Result<S::Udp> {
        self.system.bind(interface, family, port, !self.overrides.no_segments)
    }

    fn watch_interfaces(&self) -> io::Result<watch::Receiver<InterfaceList>> {
        let own = Arc::clone(&self.own);
        monitor::watch(monitor::Reader::new(self.system.clone(), self.overrides.clone(), own))
    }

    #[cfg(target_os = "macos")]
    fn processor_time(&self) -> Option<std::time::Duration> {
        native::processor_time()
    }
}

impl<S: System> Surroundings for On<S> {
    fn checks(&self) -> Vec<Check> {
        let utun = match self.system.make_utun(&TunWish { name: String::new(), mtu: 1280 }) {
            Ok(utun) => {
                Check::pass("tun-device", format!("a virtual interface can be made ({})", utun.name()))
            }
            Err(error) => Check::fail("tun-device", error.to_string()),
        };
        let table = |name, what, which| match self.system.table(which) {
            Ok(_) => Check::pass(name, format!("the {what} can be read")),
            Err(error) => Check::fail(name, format!("the {what} cannot be read ({error}): restart the Mac")),
        };
        let group = match self.system.own_group() {
            Some(group) => {
                Check::pass("protection", format!("the service's datagrams are those of group {group}"))
            }
            None => Check::fail(
                "protection",
                "the service has no group of its own, so there is no leak protection: install the package",
            ),
        };
        vec![
            utun,
            table("interfaces", "network interfaces", Table::Interfaces),
            table("routes", "routes", Table::Routes),
            group,
        ]
    }

    fn sessions(&self, _local: &[IpAddr], _remote: &[IpAddr]) -> usize {
        0
    }

    /// An interface goes with its process, however that ends.
    fn clear_leftovers(&self, _interface: &str) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}
