//! The host on which a backend is tried, as an outsider sees and changes it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use mast_engine::os::{Family, Platform, Prefix};
use mast_engine::surroundings::Surroundings;

/// What an outsider sees of the virtual interface and of leak protection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The MTU of the interface in bytes.
    pub mtu: u16,
    /// The addresses of the interface.
    pub addresses: BTreeSet<IpAddr>,
    /// The routes into it. A default route may show in whatever form the system overrides its own.
    pub routes: BTreeMap<Prefix, Option<IpAddr>>,
    /// The versions of IP of which nothing leaves by another default route.
    pub protection: BTreeSet<Family>,
    /// There is a filter of what may leave.
    pub guarded: bool,
}

/// A host that is a test's own.
pub trait World {
    /// The backend.
    type Platform: Platform + Surroundings;

    /// The backend on this host.
    fn platform(&self) -> &Self::Platform;

    /// What there is of MAST's on the host.
    fn seen(&self, interface: &str) -> Seen;

    /// Somebody takes an address from the virtual interface.
    fn take_address(&self, interface: &str, address: IpAddr);

    /// Somebody removes a route into the virtual interface.
    fn take_route(&self, interface: &str, prefix: Prefix);

    /// Somebody takes the virtual interface down.
    fn take_down(&self, interface: &str);

    /// Somebody gives the virtual interface another MTU, in bytes.
    fn set_mtu(&self, interface: &str, mtu: u16);

    /// Somebody adds an address to the virtual interface.
    fn give_address(&self, interface: &str, address: IpAddr);

    /// Another interface has a route to this range.
    fn occupy(&self, prefix: Prefix);

    /// That route is gone.
    fn vacate(&self, prefix: Prefix);

    /// The host refuses IPv6 addresses on the virtual interface, or allows them again.
    fn refuse_v6(&self, interface: &str, refuse: bool);

    /// An uplink of this name comes, with these addresses; or has these now.
    fn uplink(&self, name: &str, addresses: &[IpAddr]);

    /// An uplink takes another name.
    fn rename(&self, from: &str, to: &str);

    /// An uplink is gone.
    fn unplug(&self, name: &str);

    /// A program of the host sends a UDP datagram to where a route leads, and its own address, if it was sent.
    fn host_sends(&self, to: SocketAddr, payload: &[u8]) -> Option<SocketAddr>;

    /// Whether a program of the host that sent from this address got this back. Waits for a moment.
    fn host_got(&self, from: SocketAddr, payload: &[u8]) -> bool;
}
