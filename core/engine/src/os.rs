//! What the engine needs of an operating system. `mast-platform` implements it for each.
//!
//! The engine asks for a virtual interface, for UDP sockets bound to one physical interface each, and to be
//! told which interfaces there are. Whatever differs between systems stays behind these traits.

use std::future::Future;
use std::io;
use std::net::{IpAddr, UdpSocket};

use mast_proto::{Interface, InterfaceId};
use tokio::sync::watch;

/// The interfaces at one moment, as the monitor publishes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceList {
    /// Every interface but loopback and the virtual one, ordered by number.
    pub interfaces: Vec<Interface>,
    /// Grows when a route changed: a path that could not be reached may be reachable now.
    pub routes_changed: u64,
    /// Grows when the machine woke from sleep: NAT bindings and addresses may be stale.
    pub resumed: u64,
}

/// An address family of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// An address range: an address and the length of its prefix in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// Any address of the range.
    pub address: IpAddr,
    /// 0 to 32 for IPv4, 0 to 128 for IPv6.
    pub length: u8,
}

impl Prefix {
    /// The range that holds just one address.
    pub fn host(address: IpAddr) -> Self {
        Self { address, length: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether `address` is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let shift = 32 - u32::from(self.length.min(32));
                shift == 32 || (a.to_bits() >> shift) == (b.to_bits() >> shift)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let shift = 128 - u32::from(self.length.min(128));
                shift == 128 || (a.to_bits() >> shift) == (b.to_bits() >> shift)
            }
            _ => false,
        }
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// The addresses and routes that the virtual interface shall have; whatever else MAST set before is taken away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VirtualNetwork {
    /// Own EIDs, each a host prefix.
    pub addresses: Vec<IpAddr>,
    /// Where each range of peers' EIDs leads: into the virtual interface, with the preferred source, if any.
    pub routes: Vec<(Prefix, Option<IpAddr>)>,
}

/// A virtual interface: what the host sends to peers' EIDs is read from it, what peers send is written to it.
///
/// Datagrams are plain IP, without any header of the device.
pub trait Tun: Send + Sync + 'static {
    /// The interface's name.
    fn name(&self) -> &str;
    /// Waits until [`Tun::try_recv`] may have something.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;
    /// Reads one datagram.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; anything else when the interface is gone.
    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Hands one datagram to the host. Never waits: the host's own queue decides.
    ///
    /// # Errors
    /// Whatever the device says; a refused datagram is lost, as on any link.
    fn try_send(&self, datagram: &[u8]) -> io::Result<usize>;
    /// Makes the interface's addresses and routes be `network`, changing only what differs from what was set before.
    /// The routes and addresses go with the interface when it is dropped.
    ///
    /// # Errors
    /// When the system refuses; what was changed so far is undone.
    fn configure(&self, network: &VirtualNetwork) -> impl Future<Output = io::Result<()>> + Send;
}

/// An operating system.
pub trait Platform: Send + Sync + 'static {
    /// Its virtual interface.
    type Tun: Tun;

    /// Makes the virtual interface, up, with an MTU in bytes.
    ///
    /// # Errors
    /// `PermissionDenied`, `AlreadyExists`, or whatever the system says, with what to do about it in the text.
    fn create_tun(&self, name: &str, mtu: u16) -> io::Result<Self::Tun>;

    /// A non-blocking UDP socket that sends and receives over `interface` only, whatever the routes say.
    /// Port 0 lets the system choose.
    ///
    /// # Errors
    /// `AddrInUse`, `PermissionDenied`, or `NotFound` when the interface is gone.
    fn bind_udp(&self, interface: &Interface, family: Family, port: u16) -> io::Result<UdpSocket>;

    /// Starts to watch the interfaces; the task ends when every receiver is dropped.
    /// `exclude` is the name of the virtual interface.
    ///
    /// # Errors
    /// When the system's event source cannot be opened.
    fn watch_interfaces(&self, exclude: &str) -> io::Result<watch::Receiver<InterfaceList>>;

    /// The name of an interface, for messages.
    fn interface_name(list: &InterfaceList, id: InterfaceId) -> Option<&str> {
        list.interfaces.iter().find(|i| i.id == id).map(|i| i.name.as_str())
    }
}
