//! UDP sockets that keep to one interface.
//!
//! `IP_UNICAST_IF` governs sending only, and an address decides what arrives: so there is one socket for each address of
//! the interface, bound to both. An address that comes later gets its socket when something is first sent from it.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::windows::io::AsRawSocket;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};

use mast_engine::os::{Arrival, Family, NotReceived, NotSent, SendRefused, Udp};
use mast_proto::Interface;
use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use windows_sys::Win32::Networking::WinSock::{
    IP_UNICAST_IF, IPPROTO_IP, IPPROTO_IPV6, IPV6_UNICAST_IF, SIO_UDP_CONNRESET, SIO_UDP_NETRESET, SOCKET,
    WSAEACCES, WSAEADDRNOTAVAIL, WSAEMSGSIZE, WSAENETRESET, WSAIoctl, setsockopt,
};

use super::merged::{self, Reading};

/// What the system is asked to hold for a socket while the program is busy, in bytes per direction.
const BUFFER: usize = 4 << 20;

/// One socket.
struct Bound {
    io: UdpSocket,
    /// What takes and gives batches and marks. None where the system knows none of it (wine does not, for IPv4): then
    /// datagrams go one by one, and unmarked.
    state: Option<UdpSocketState>,
    /// Datagrams may arrive many at a time.
    many: AtomicBool,
    /// Of the link, in bytes, where known.
    mtu: Option<u32>,
}

/// The sockets of an interface, for one version of IP.
pub struct WindowsUdp {
    index: u32,
    family: Family,
    port: u16,
    segments: AtomicBool,
    bound: RwLock<BTreeMap<IpAddr, Arc<Bound>>>,
    /// Whoever waits for datagrams, to be told of a new socket.
    reader: Mutex<Option<Waker>>,
    runtime: tokio::runtime::Handle,
}

impl std::fmt::Debug for WindowsUdp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowsUdp")
            .field("index", &self.index)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

fn set(socket: &Socket, level: i32, name: i32, value: u32) -> io::Result<()> {
    let length = i32::try_from(size_of::<u32>()).unwrap_or_default();
    // SAFETY: the socket is open while it is borrowed, and the value is as long as is said.
    let code = unsafe {
        setsockopt(socket.as_raw_socket() as SOCKET, level, name, (&raw const value).cast(), length)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has what came back of earlier datagrams not fail the next reading.
fn ignore_resets(socket: &Socket, code: u32) -> io::Result<()> {
    let (off, mut returned) = (0u32, 0u32);
    let length = u32::try_from(size_of::<u32>()).unwrap_or_default();
    // SAFETY: the socket is open while it is borrowed; the value is as long as is said, and nothing is written but the
    // number of bytes returned.
    let done = unsafe {
        let value: *const c_void = (&raw const off).cast();
        let socket = socket.as_raw_socket() as SOCKET;
        WSAIoctl(socket, code, value, length, null_mut(), 0, &mut returned, null_mut(), None)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Opens one socket.
fn open(index: u32, address: IpAddr, port: u16) -> io::Result<Socket> {
    let to = match address {
        // A link-local address is one of an interface.
        IpAddr::V6(ip) if ip.is_unicast_link_local() => SocketAddrV6::new(ip, port, 0, index).into(),
        ip => SocketAddr::new(ip, port),
    };
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
    // Loopback is no interface that can be chosen by its number.
    if !address.is_loopback() {
        match address {
            // In network order for IPv4, and not for IPv6.
            IpAddr::V4(_) => set(&socket, IPPROTO_IP, IP_UNICAST_IF, index.to_be())?,
            IpAddr::V6(_) => set(&socket, IPPROTO_IPV6, IPV6_UNICAST_IF, index)?,
        }
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    for code in [SIO_UDP_CONNRESET, SIO_UDP_NETRESET] {
        if let Err(error) = ignore_resets(&socket, code) {
            tracing::debug!(%error, "a socket that tells of resets");
        }
    }
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&to.into())?;
    Ok(socket)
}

impl WindowsUdp {
    /// Sockets on the interface's addresses. Must be called within a Tokio runtime.
    pub(super) fn bind(interface: &Interface, family: Family, port: u16, segments: bool) -> io::Result<Self> {
        let own = Self {
            index: interface.id.0,
            family,
            port,
            segments: AtomicBool::new(segments),
            bound: RwLock::default(),
            reader: Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
        };
        let link_local = interface.link_local.map(IpAddr::V6);
        let all = interface.addresses.iter().copied().chain(link_local);
        let mut failed = None;
        for address in all.filter(|a| Family::of(*a) == family) {
            if let Err(error) = own.socket(address) {
                failed = Some((address, error));
            }
        }
        if own.all().is_empty() {
            let name = &interface.name;
            return Err(match failed {
                None => io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("`{name}` has no {family} address; it may get one"),
                ),
                Some((address, error)) => {
                    let remedy = match error.kind() {
                        io::ErrorKind::AddrInUse => "another program has the port; choose another",
                        io::ErrorKind::PermissionDenied => {
                            "another program, or Windows itself, holds the port; choose another"
                        }
                        io::ErrorKind::AddrNotAvailable => "the address is gone",
                        _ => "the system refused",
                    };
                    let kind = match error.kind() {
                        io::ErrorKind::AddrNotAvailable => io::ErrorKind::NotFound,
                        kind => kind,
                    };
                    let text =
                        format!("cannot open UDP port {port} on {address} of `{name}`: {remedy}: {error}");
                    io::Error::new(kind, text)
                }
            });
        }
        Ok(own)
    }

    fn all(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<IpAddr, Arc<Bound>>> {
        self.bound.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The socket of an address, which is made if there is none.
    fn socket(&self, address: IpAddr) -> io::Result<Arc<Bound>> {
        if let Some(bound) = self.all().get(&address) {
            return Ok(Arc::clone(bound));
        }
        let socket = open(self.index, address, self.port)?;
        let state = UdpSocketState::new((&socket).into())
            .inspect_err(|error| tracing::debug!(%error, %address, "datagrams go one by one, and unmarked"))
            .ok();
        let _runtime = self.runtime.enter();
        let io = UdpSocket::from_std(socket.into())?;
        let bound = Bound { io, state, many: AtomicBool::new(false), mtu: super::iphelper::mtu(self.index) };
        if self.segments.load(Ordering::Relaxed) {
            bound.take_many(true);
        }
        let bound = Arc::new(bound);
        let mut all = self.bound.write().unwrap_or_else(PoisonError::into_inner);
        let bound = Arc::clone(all.entry(address).or_insert(bound));
        drop(all);
        if let Some(reader) = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take() {
            reader.wake();
        }
        Ok(bound)
    }

    fn forget(&self, address: IpAddr) {
        self.bound.write().unwrap_or_else(PoisonError::into_inner).remove(&address);
    }
}

impl Bound {
    /// Has datagrams arrive many at a time, where the system can, or one by one.
    fn take_many(&self, on: bool) {
        let Some(state) = &self.state else { return };
        match state.set_gro((&self.io).into(), on) {
            Ok(()) => self.many.store(on, Ordering::Relaxed),
            Err(error) => tracing::debug!(%error, "datagrams arrive one by one"),
        }
    }

    /// The length of each datagram of a reading; none where they lost their lengths, which is put an end to.
    fn stride(&self, meta: &RecvMeta) -> Option<usize> {
        let mtu = self.mtu.filter(|_| self.many.load(Ordering::Relaxed));
        match merged::look(meta.len, meta.stride, mtu) {
            Reading::Of(stride) => Some(stride),
            Reading::Merged => {
                if self.many.load(Ordering::Relaxed) {
                    tracing::warn!(
                        bytes = meta.len,
                        "the system put datagrams together that arrived, and does not tell them apart: they are taken one \
                         by one from now on"
                    );
                    self.take_many(false);
                }
                None
            }
        }
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<RecvMeta> {
        let mut meta = [RecvMeta::default()];
        let Some(state) = &self.state else {
            let (length, from) = self.io.try_recv_from(buffer)?;
            let [mut meta] = meta;
            (meta.len, meta.stride, meta.addr) = (length, length, from);
            return Ok(meta);
        };
        self.io.try_io(Interest::READABLE, || {
            let socket = (&self.io).into();
            state.recv(socket, &mut [IoSliceMut::new(buffer)], &mut meta)
        })?;
        let [meta] = meta;
        Ok(meta)
    }

    /// How many datagrams one call can take.
    fn most(&self) -> usize {
        self.state.as_ref().map_or(1, UdpSocketState::max_gso_segments)
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        // Around the runtime, which would refuse until it has first seen the socket writable.
        let sent = match &self.state {
            Some(state) => state.try_send((&self.io).into(), transmit),
            None => {
                let to = transmit.destination.into();
                SockRef::from(&self.io).send_to(transmit.contents, &to).map(drop)
            }
        };
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            let full = || Err::<(), _>(io::Error::from(io::ErrorKind::WouldBlock));
            let _ = self.io.try_io(Interest::WRITABLE, full);
        }
        sent
    }
}

fn why(error: &io::Error) -> SendRefused {
    match error.raw_os_error() {
        Some(WSAEMSGSIZE) => SendRefused::TooBig,
        Some(WSAEADDRNOTAVAIL) => SendRefused::Unreachable,
        Some(WSAEACCES) => SendRefused::NotPermitted,
        _ => SendRefused::of(error.kind()),
    }
}

impl Udp for WindowsUdp {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        let mut any = Poll::Pending;
        for bound in self.all().values() {
            if bound.io.poll_recv_ready(cx).is_ready() {
                any = Poll::Ready(());
            }
        }
        any
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut any = Poll::Pending;
        for bound in self.all().values() {
            if bound.io.poll_send_ready(cx).is_ready() {
                any = Poll::Ready(());
            }
        }
        any
    }

    fn try_recv(&self, buffer: &mut [u8]) -> Result<Arrival, NotReceived> {
        for (address, bound) in self.all().iter() {
            match bound.receive(buffer) {
                Ok(meta) => {
                    let Some(stride) = bound.stride(&meta) else { return Err(NotReceived::Earlier) };
                    return Ok(Arrival {
                        length: meta.len,
                        stride,
                        remote: meta.addr,
                        local: Some(*address),
                        class: meta.ecn.map_or(0, |ecn| ecn as u8),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if matches!(error.raw_os_error(), Some(WSAEMSGSIZE | WSAENETRESET)) => {
                    return Err(NotReceived::Earlier);
                }
                Err(error) => return Err(NotReceived::of(error.kind())),
            }
        }
        Err(NotReceived::Empty)
    }

    fn try_send(
        &self,
        local: IpAddr,
        remote: SocketAddr,
        class: u8,
        stride: usize,
        payload: &[u8],
    ) -> Result<(), NotSent> {
        if Family::of(local) != self.family {
            return Err(NotSent { sent: 0, why: SendRefused::Unreachable });
        }
        let bound = self.socket(local).map_err(|error| NotSent { sent: 0, why: why(&error) })?;
        let stride = stride.max(1);
        let ecn = EcnCodepoint::from_bits(class & 3);
        let mut sent = 0;
        let mut rest = payload;
        while !rest.is_empty() {
            let most = if self.segments.load(Ordering::Relaxed) { bound.most() } else { 1 };
            let length = rest.len().min(stride.saturating_mul(most.clamp(1, Self::MOST)));
            let Some((now, after)) = rest.split_at_checked(length) else { break };
            let several = now.len() > stride;
            // The socket is bound to the address, which is the source without more.
            let transmit = Transmit {
                destination: remote,
                ecn,
                contents: now,
                segment_size: several.then_some(stride),
                src_ip: None,
            };
            match bound.send(&transmit) {
                Ok(()) => {
                    sent += now.len().div_ceil(stride);
                    rest = after;
                }
                // A system that offers segmentation and refuses it: one by one from now on.
                Err(error) if several && why(&error) == SendRefused::Other => {
                    tracing::debug!(%error, "datagrams leave one by one");
                    self.segments.store(false, Ordering::Relaxed);
                }
                Err(error) => {
                    let why = why(&error);
                    if error.raw_os_error() == Some(WSAEADDRNOTAVAIL) {
                        self.forget(local);
                    }
                    return Err(NotSent { sent, why });
                }
            }
        }
        Ok(())
    }

    fn set_segments(&self, on: bool) {
        self.segments.store(on, Ordering::Relaxed);
    }
}

/// A socket for a question of the service's own, connected, over an interface and past the tunnel.
///
/// # Errors
/// When the interface is gone, or the system refuses.
pub fn own_socket(interface: &str, to: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let index = number(interface)?;
    let socket = own(index, Family::of(to.ip()), Type::DGRAM)?;
    socket.set_nonblocking(false)?;
    let to = match to {
        SocketAddr::V6(to) if to.ip().is_unicast_link_local() => {
            SocketAddrV6::new(*to.ip(), to.port(), 0, index).into()
        }
        to => to,
    };
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// A socket of the service's own for datagrams to anybody of one version of IP, over an interface and past the tunnel.
///
/// # Errors
/// When the interface is gone, or the system refuses.
pub fn own_datagrams(interface: &str, family: Family) -> io::Result<std::net::UdpSocket> {
    let socket = own(number(interface)?, family, Type::DGRAM)?;
    socket.bind(&any(family).into())?;
    Ok(socket.into())
}

/// A socket of the service's own for a group on the link of an interface, past the tunnel, which others may listen to at the
/// same port.
///
/// # Errors
/// When the interface is gone, another program has the port alone, or the system refuses.
pub fn own_group(interface: &str, group: IpAddr, port: u16) -> io::Result<std::net::UdpSocket> {
    let index = number(interface)?;
    let socket = own(index, Family::of(group), Type::DGRAM)?;
    crate::group::join(&socket, group, port, index)?;
    Ok(socket.into())
}

/// A socket of the service's own for a connection, over an interface and past the tunnel: not connected, and one that does
/// not block.
///
/// # Errors
/// When the interface is gone, or the system refuses.
pub fn own_stream(interface: &str, family: Family) -> io::Result<std::net::TcpStream> {
    Ok(own(number(interface)?, family, Type::STREAM)?.into())
}

fn any(family: Family) -> SocketAddr {
    match family {
        Family::V4 => (Ipv4Addr::UNSPECIFIED, 0).into(),
        Family::V6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn number(interface: &str) -> io::Result<u32> {
    super::iphelper::number(interface).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn own(index: u32, family: Family, kind: Type) -> io::Result<Socket> {
    let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, kind, None)?;
    match family {
        Family::V4 => set(&socket, IPPROTO_IP, IP_UNICAST_IF, index.to_be())?,
        Family::V6 => set(&socket, IPPROTO_IPV6, IPV6_UNICAST_IF, index)?,
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::time::Duration;

    use mast_proto::{InterfaceId, InterfaceKind};

    use super::*;

    fn loopback(addresses: &[IpAddr]) -> Interface {
        Interface {
            // No interface is chosen by it.
            id: InterfaceId(0),
            name: "loopback".into(),
            kind: InterfaceKind::Other,
            network: None,
            metered: false,
            addresses: addresses.to_vec(),
            link_local: None,
            usable: true,
            outlook: Default::default(),
            relayed: Vec::new(),
            reflexive: Vec::new(),
        }
    }

    async fn receive(udp: &WindowsUdp) -> (Vec<u8>, Arrival) {
        let mut buffer = vec![0; 65_535];
        loop {
            let ready = std::future::poll_fn(|cx| udp.poll_readable(cx));
            tokio::time::timeout(Duration::from_secs(10), ready).await.expect("a datagram");
            match udp.try_recv(&mut buffer) {
                Ok(arrival) => return (buffer[..arrival.length].to_vec(), arrival),
                Err(NotReceived::Empty | NotReceived::Earlier) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    fn free_port(ip: IpAddr) -> u16 {
        std::net::UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn datagrams_go_both_ways_in_both_versions_of_ip() {
        let v4: [IpAddr; 2] = [Ipv4Addr::new(127, 0, 0, 1).into(), Ipv4Addr::new(127, 0, 0, 2).into()];
        let v6: [IpAddr; 2] = [Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        for [here, there] in [v4, v6] {
            let family = Family::of(here);
            let (port, other) = (free_port(here), free_port(there));
            let a = WindowsUdp::bind(&loopback(&[here]), family, port, true).unwrap();
            let b = WindowsUdp::bind(&loopback(&[there]), family, other, true).unwrap();
            let (from, to) = (SocketAddr::new(here, port), SocketAddr::new(there, other));
            a.try_send(here, to, 0, 4, b"one.two.3").unwrap();
            let mut got = Vec::new();
            while got.len() < 9 {
                let (bytes, arrival) = receive(&b).await;
                assert_eq!((arrival.remote, arrival.local), (from, Some(there)));
                assert_eq!(arrival.stride, bytes.len().min(4));
                got.extend(bytes);
            }
            assert_eq!(got, b"one.two.3");
            b.try_send(there, from, 0, 100, b"answer").unwrap();
            assert_eq!(receive(&a).await.0, b"answer");
            let refused = a.try_send(here, to, 0, 65_535, &vec![0; 65_530]).unwrap_err();
            assert_eq!((refused.sent, refused.why), (0, SendRefused::TooBig));
            let other_family = SendRefused::Unreachable;
            let foreign = if here.is_ipv4() { v6[0] } else { v4[0] };
            assert_eq!(a.try_send(foreign, to, 0, 1, b"x").unwrap_err().why, other_family);
        }
    }

    #[tokio::test]
    async fn an_address_that_comes_later_is_heard_once_it_spoke() {
        // Of 127.0.0.0/8, or of the IPv6 network that `MAST_LOOPBACK` names: wine has not a socket for each address of
        // the former.
        let [first, second, third]: [IpAddr; 3] =
            [1, 2, 3].map(|last| match std::env::var("MAST_LOOPBACK") {
                Ok(network) => format!("{network}{last}").parse().unwrap(),
                Err(_) => Ipv4Addr::new(127, 0, 0, last).into(),
            });
        let (port, family) = (free_port(first), Family::of(first));
        let a = WindowsUdp::bind(&loopback(&[first]), family, port, false).unwrap();
        let b = WindowsUdp::bind(&loopback(&[third]), family, free_port(third), false).unwrap();
        let to = b.all()[&third].io.local_addr().unwrap();
        let waiting = async { receive(&a).await };
        let later = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            a.try_send(second, to, 0, 9, b"from here").unwrap();
            let (_, arrival) = receive(&b).await;
            assert_eq!(arrival.remote, SocketAddr::new(second, port));
            b.try_send(third, arrival.remote, 0, 9, b"to there").unwrap();
        };
        let ((bytes, arrival), ()) = tokio::join!(waiting, later);
        assert_eq!((bytes.as_slice(), arrival.local), (&b"to there"[..], Some(second)));
    }

    #[tokio::test]
    async fn a_port_that_is_taken_and_a_peer_that_is_not_there() {
        let here: IpAddr = Ipv4Addr::LOCALHOST.into();
        let taken = std::net::UdpSocket::bind((here, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = WindowsUdp::bind(&loopback(&[here]), Family::V4, port, true).unwrap_err();
        assert!(error.to_string().contains("choose another"), "{error}");
        let none = WindowsUdp::bind(&loopback(&[]), Family::V4, 0, true).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);

        // What comes back of a datagram to nobody fails no reading.
        let udp = WindowsUdp::bind(&loopback(&[here]), Family::V4, free_port(here), true).unwrap();
        let nobody = SocketAddr::new(here, free_port(here));
        let own = udp.all()[&here].io.local_addr().unwrap();
        for _ in 0..3 {
            udp.try_send(here, nobody, 0, 4, b"lost").unwrap();
        }
        taken.send_to(b"found", own).unwrap();
        assert_eq!(receive(&udp).await.0, b"found");
    }
}
