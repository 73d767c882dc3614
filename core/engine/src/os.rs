//! What the engine needs of an operating system. `mast-platform` implements it for each.
//!
//! The engine asks for a virtual interface, for UDP sockets bound to one physical interface each, and to be
//! told which interfaces there are. Whatever differs between systems stays behind these traits.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mast_proto::{Interface, InterfaceId};
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::declared::Host;

/// The interfaces at one moment, as the monitor publishes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceList {
    /// Every interface but loopback and the virtual one, ordered by number.
    pub interfaces: Vec<Interface>,
    /// Those that are up, have an address, and are not among them, with the reason.
    pub left_out: Vec<(String, crate::api::LeftOut)>,
    /// Grows when a route changed: a path that could not be reached may be reachable now.
    pub routes_changed: u64,
    /// Grows when the machine woke from sleep: NAT bindings and addresses may be stale.
    pub resumed: u64,
    /// For how long it has been asleep in all since it started, as far as the clock of [`std::time::Instant`] did not count
    /// that. Systems whose clock counts leave it at zero.
    pub asleep: std::time::Duration,
    /// Grows when the machine may be a copy, restored from a snapshot or cloned: what it has of keys and counters somebody
    /// else may have, too.
    pub restored: u64,
    /// Grows when something that MAST sets on the host may have been taken away: an address or a route of the virtual
    /// interface, leak protection. Systems that cannot tell cheaply leave it as it is.
    pub disturbed: u64,
    /// IPv4 addresses of the networks that the host is in, which no peer may have: gateways, ranges on links, addresses
    /// of other interfaces, name servers; each with what it is. Systems that cannot tell leave it empty.
    pub occupied: Arc<BTreeMap<Prefix, String>>,
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

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::V4 { "IPv4" } else { "IPv6" })
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

    /// The same range with no bit of the address set behind the prefix, and a length that there can be.
    pub fn masked(self) -> Self {
        match self.address {
            IpAddr::V4(a) => {
                let length = self.length.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                Self { address: IpAddr::V4((a.to_bits() & mask).into()), length }
            }
            IpAddr::V6(a) => {
                let length = self.length.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                Self { address: IpAddr::V6((a.to_bits() & mask).into()), length }
            }
        }
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

/// What a virtual interface does for the engine beyond carrying single, finished datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Checksums of TCP and UDP may be partial, both ways.
    pub checksum: bool,
    /// A frame may hold several segments of TCP, both ways. Never without `checksum`.
    pub tcp: bool,
    /// A frame may hold several datagrams of UDP, both ways. Never without `checksum`.
    pub udp: bool,
}

/// What a frame of the virtual interface is, beside its bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offload {
    /// The frame's checksum is partial: the sum from the first place to the end must be put at the second, which is
    /// counted from the first. In bytes.
    pub partial: Option<(u16, u16)>,
    /// The frame is several datagrams under one header.
    pub several: Option<Several>,
}

/// How several datagrams lie in one frame: their payloads one after the other behind one header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Several {
    /// Of UDP; else of TCP.
    pub udp: bool,
    /// The length of each one's payload in bytes; the last may be shorter.
    pub size: u16,
    /// The length of the headers in bytes.
    pub header: u16,
}

/// A virtual interface: what the host sends to peers' EIDs is read from it, what peers send is written to it.
///
/// Frames are plain IP, without any header of the device.
pub trait Tun: Send + Sync + 'static {
    /// The interface's name.
    fn name(&self) -> &str;
    /// What it can do.
    fn offloads(&self) -> Offloads;
    /// Waits until [`Tun::try_recv`] may have something.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;
    /// Reads one frame, at most as long as an IP datagram can be (65,535 bytes).
    ///
    /// # Errors
    /// `WouldBlock` when there is none; anything else when the interface is gone.
    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, Offload)>;
    /// Hands one frame, in parts, to the host. Never waits: the host's own queue decides.
    ///
    /// # Errors
    /// `InvalidInput` when the device does not take such a frame after all; or whatever the device says: a refused
    /// datagram is lost, as on any link.
    fn try_send(&self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<()>;
}

/// What one read of a socket brought: datagrams from one address, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// In all, in bytes.
    pub length: usize,
    /// The length of each datagram in bytes; the last may be shorter.
    pub stride: usize,
    /// Where they came from.
    pub remote: SocketAddr,
    /// Which of the interface's addresses they came to; none where the system does not tell.
    pub local: Option<IpAddr>,
    /// The IP header's traffic class (RFC 2474, RFC 3168), or 0 where the system does not tell.
    pub class: u8,
}

/// Why the system did not send a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendRefused {
    /// There is no room now; [`Udp::poll_writable`] tells when there may be.
    Full,
    /// It is longer than the interface can send.
    TooBig,
    /// No way leads there, or the interface does not have the local address.
    Unreachable,
    /// The interface failed, and the socket with it.
    Gone,
    /// A rule of this host forbids it; whether for good is not known.
    NotPermitted,
    /// Nobody listens there: what was sent earlier came back.
    Refused,
    /// Anything else.
    Other,
}

impl SendRefused {
    /// What is the same on all systems; what is not, the system's own part tells before.
    pub fn of(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::WouldBlock => Self::Full,
            io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::AddrNotAvailable => Self::Unreachable,
            io::ErrorKind::NetworkDown => Self::Gone,
            io::ErrorKind::PermissionDenied => Self::NotPermitted,
            io::ErrorKind::ConnectionRefused => Self::Refused,
            _ => Self::Other,
        }
    }
}

/// A run of datagrams that was not sent, or not to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotSent {
    /// So many from the front are on their way; the system took none of the others.
    pub sent: usize,
    /// Why the first of the others is not.
    pub why: SendRefused,
}

/// Why nothing was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReceived {
    /// There is nothing; [`Udp::poll_readable`] tells when there may be.
    Empty,
    /// Something sent earlier met an error, or something longer than the buffer came. There may be more.
    Earlier,
    /// The interface failed, and the socket with it.
    Gone,
}

impl NotReceived {
    /// What is the same on all systems; what is not, the system's own part tells before.
    pub fn of(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::WouldBlock => Self::Empty,
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::Interrupted => Self::Earlier,
            _ => Self::Gone,
        }
    }
}

/// A UDP socket that sends and receives over one interface only, whatever the routes say. It never waits.
pub trait Udp: Send + Sync + 'static {
    /// Ready when [`Udp::try_recv`] may have something.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()>;
    /// Ready when [`Udp::try_send`] may have room again after it said [`SendRefused::Full`].
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()>;
    /// Reads datagrams into `buffer`, which has room for the longest one (65,535 bytes).
    ///
    /// # Errors
    /// Why there are none.
    fn try_recv(&self, buffer: &mut [u8]) -> Result<Arrival, NotReceived>;
    /// Sends datagrams of `stride` bytes each, which lie one after the other in `payload`; the last may be shorter.
    /// There are at most [`Udp::MOST`] of them, of at most 65,000 bytes in all. They leave from the address `local` of
    /// the interface, which decides about their way, too (RFC 5220, RFC 8678). `class` is the traffic class of the IP
    /// header.
    ///
    /// # Errors
    /// Which did not leave, and why. Those that did must not be sent again.
    fn try_send(
        &self,
        local: IpAddr,
        remote: SocketAddr,
        class: u8,
        stride: usize,
        payload: &[u8],
    ) -> Result<(), NotSent>;

    /// Whether datagrams may leave many at a time, where the system can do that at all.
    fn set_segments(&self, _on: bool) {}

    /// The most datagrams that are sent at once (Linux: UDP_MAX_SEGMENTS was 64 before 6.7).
    const MOST: usize = 64;
}

/// A UDP socket that does one datagram at a time, on any system, from the address that the system chooses.
#[derive(Debug)]
pub struct PlainUdp(UdpSocket);

impl PlainUdp {
    /// Takes over a non-blocking socket. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// When the runtime does not take it.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        Ok(Self(UdpSocket::from_std(socket)?))
    }
}

impl Udp for PlainUdp {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_recv_ready(cx).map(drop)
    }
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_send_ready(cx).map(drop)
    }
    fn try_recv(&self, buffer: &mut [u8]) -> Result<Arrival, NotReceived> {
        let received = self.0.try_recv_from(buffer).map_err(|error| NotReceived::of(error.kind()));
        let (length, remote) = received?;
        Ok(Arrival { length, stride: length, remote, local: None, class: 0 })
    }
    fn try_send(
        &self,
        _local: IpAddr,
        remote: SocketAddr,
        _class: u8,
        stride: usize,
        payload: &[u8],
    ) -> Result<(), NotSent> {
        // Around the runtime, which would refuse until it has first seen the socket writable.
        let socket = SockRef::from(&self.0);
        for (sent, datagram) in payload.chunks(stride.max(1)).enumerate() {
            socket
                .send_to(datagram, &remote.into())
                .map_err(|error| NotSent { sent, why: SendRefused::of(error.kind()) })?;
        }
        Ok(())
    }
}

/// The virtual interface as it is wished for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunWish {
    /// What it shall be called, where the system lets one choose; [`Tun::name`] tells what it is called.
    pub name: String,
    /// In bytes.
    pub mtu: u16,
}

/// An operating system.
pub trait Platform: Send + Sync + 'static {
    /// Its virtual interface.
    type Tun: Tun;
    /// Its sockets.
    type Udp: Udp;
    /// What is set on it besides.
    type Host: Host;

    /// Makes the virtual interface, up. That may take a while, and nobody waits for it who has datagrams to move.
    ///
    /// # Errors
    /// `PermissionDenied`, `AlreadyExists`, or whatever the system says, with what to do about it in the text.
    fn create_tun(&self, wish: &TunWish) -> impl Future<Output = io::Result<Self::Tun>> + Send;

    /// The hand that sets addresses, routes and the like.
    ///
    /// # Errors
    /// When the system cannot be asked at all.
    fn host(&self) -> io::Result<Self::Host>;

    /// A UDP socket on `interface`. Port 0 lets the system choose.
    ///
    /// # Errors
    /// `AddrInUse`, `PermissionDenied`, or `NotFound` when the interface is gone.
    fn bind_udp(&self, interface: &Interface, family: Family, port: u16) -> io::Result<Self::Udp>;

    /// Starts to watch the interfaces; it ends when every receiver is dropped. Virtual interfaces that this platform
    /// made are not among them, whatever they are called.
    ///
    /// # Errors
    /// When the system's event source cannot be opened.
    fn watch_interfaces(&self) -> io::Result<watch::Receiver<InterfaceList>>;

    /// How many threads can work at the same time, for this program. With one, the engine starts none.
    fn processors(&self) -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }

    /// The processor time that the thread which asks has used. With `None`, the engine cannot tell whether a second thread
    /// is worth it, and starts none.
    fn processor_time(&self) -> Option<Duration> {
        None
    }

    /// The name of an interface, for messages.
    fn interface_name(list: &InterfaceList, id: InterfaceId) -> Option<&str> {
        list.interfaces.iter().find(|i| i.id == id).map(|i| i.name.as_str())
    }
}
