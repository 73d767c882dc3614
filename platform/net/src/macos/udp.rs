//! UDP sockets that keep to one interface.
//!
//! `IP_BOUND_IF` decides by which interface datagrams leave, whatever the routes say, and an address which arrive: so
//! there is one socket for each address of the interface, bound to both. An address that comes later gets its socket when
//! something is first sent from it. Many datagrams leave with one call (`sendmsg_x`), and arrive with one (`recvmsg_x`), where
//! the system has them.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::{NonZeroU32, NonZeroUsize};
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mast_engine::os::{Arrival, Family, NotReceived, NotSent, SendRefused, Udp};
use mast_proto::Interface;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::Sleep;

use super::batch;
use super::inbox::{AT_ONCE, Came, Inbox};
use super::native::{Batched, interface_number};

/// What the system is asked to hold for a socket while the program is busy, in bytes per direction.
const BUFFER: usize = 4 << 20;
/// The interface has no room for more, which no event tells the end of: so long it is waited.
const NO_ROOM: Duration = Duration::from_millis(1);
/// A control message with an `int` takes 16 bytes; there is one.
const CONTROL: usize = 64;

/// One socket.
struct Bound {
    io: UdpSocket,
    family: Family,
    /// The traffic class that it sends with.
    class: AtomicU8,
}

/// The sockets of an interface, for one version of IP.
pub struct MacUdp {
    index: u32,
    family: Family,
    port: u16,
    batches: AtomicBool,
    bound: RwLock<BTreeMap<IpAddr, Arc<Bound>>>,
    inbox: Mutex<Inbox>,
    /// Whoever waits for datagrams, to be told of a new socket.
    reader: Mutex<Option<Waker>>,
    no_room: Mutex<Option<Pin<Box<Sleep>>>>,
    runtime: tokio::runtime::Handle,
}

impl std::fmt::Debug for MacUdp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MacUdp").field("index", &self.index).field("port", &self.port).finish_non_exhaustive()
    }
}

fn set(socket: &impl AsFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open while it is borrowed, and the value as long as is said.
    let done = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn keep_to(socket: &Socket, family: Family, index: u32) -> io::Result<()> {
    match family {
        Family::V4 => socket.bind_device_by_index_v4(NonZeroU32::new(index)),
        Family::V6 => socket.bind_device_by_index_v6(NonZeroU32::new(index)),
    }
}

/// With its zone, which a link-local address has.
fn with_zone(to: SocketAddr, index: u32) -> SocketAddr {
    match to {
        SocketAddr::V6(to) if to.ip().is_unicast_link_local() => {
            SocketAddrV6::new(*to.ip(), to.port(), 0, index).into()
        }
        to => to,
    }
}

/// Opens one socket.
fn open(index: u32, address: IpAddr, port: u16) -> io::Result<Socket> {
    let family = Family::of(address);
    let to = with_zone(SocketAddr::new(address, port), index);
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
    keep_to(&socket, family, index)?;
    // Never fragment: the protocol probes for what fits.
    match family {
        Family::V4 => {
            set(&socket, libc::IPPROTO_IP, libc::IP_DONTFRAG, 1)?;
            let _ = set(&socket, libc::IPPROTO_IP, libc::IP_RECVTOS, 1);
        }
        Family::V6 => {
            socket.set_only_v6(true)?;
            set(&socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)?;
            let _ = set(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1);
        }
    }
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&to.into())?;
    Ok(socket)
}

fn is_no_room(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}

fn why(error: &io::Error) -> SendRefused {
    match error.raw_os_error() {
        Some(libc::ENOBUFS) => SendRefused::Full,
        Some(libc::EMSGSIZE) => SendRefused::TooBig,
        Some(libc::EADDRNOTAVAIL) => SendRefused::Unreachable,
        Some(libc::ENXIO | libc::ENODEV) => SendRefused::Gone,
        _ => SendRefused::of(error.kind()),
    }
}

type SendMany = unsafe extern "C" fn(libc::c_int, *const Batched, libc::c_uint, libc::c_int) -> libc::ssize_t;
type ReceiveMany =
    unsafe extern "C" fn(libc::c_int, *mut Batched, libc::c_uint, libc::c_int) -> libc::ssize_t;

/// A function that the system's headers do not name, where the system has it.
fn found(name: &CStr, once: &OnceLock<usize>) -> Option<NonZeroUsize> {
    // SAFETY: the name ends with a zero.
    let find = || unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) } as usize;
    NonZeroUsize::new(*once.get_or_init(find))
}

fn send_many() -> Option<SendMany> {
    static ONCE: OnceLock<usize> = OnceLock::new();
    let found = found(c"sendmsg_x", &ONCE)?;
    // SAFETY: what the system has under this name is this function (`bsd/sys/socket_private.h`).
    Some(unsafe { std::mem::transmute::<usize, SendMany>(found.get()) })
}

fn receive_many() -> Option<ReceiveMany> {
    static ONCE: OnceLock<usize> = OnceLock::new();
    let found = found(c"recvmsg_x", &ONCE)?;
    // SAFETY: as above.
    Some(unsafe { std::mem::transmute::<usize, ReceiveMany>(found.get()) })
}

/// Some systems refuse to receive many at once, whatever they have: not asked again.
static ONE_BY_ONE: AtomicBool = AtomicBool::new(false);

impl Bound {
    fn set_class(&self, class: u8) -> io::Result<()> {
        if self.class.swap(class, Ordering::Relaxed) == class {
            return Ok(());
        }
        match self.family {
            Family::V4 => set(&self.io, libc::IPPROTO_IP, libc::IP_TOS, class.into()),
            Family::V6 => set(&self.io, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, class.into()),
        }
    }

    /// Hands over datagrams; how many were taken.
    fn push(&self, remote: &SockAddr, datagrams: &[&[u8]]) -> io::Result<usize> {
        let part = |datagram: &&[u8]| libc::iovec {
            iov_base: datagram.as_ptr().cast_mut().cast(),
            iov_len: datagram.len(),
        };
        let mut parts: Vec<libc::iovec> = datagrams.iter().map(part).collect();
        let socket = self.io.as_raw_fd();
        if let Some(send) = send_many().filter(|_| datagrams.len() > 1) {
            let header = |part: &mut libc::iovec| Batched {
                name: remote.as_ptr().cast_mut().cast(),
                name_length: remote.len(),
                parts: std::ptr::from_mut(part),
                parts_count: 1,
                control: null_mut(),
                control_length: 0,
                flags: 0,
                length: 0,
            };
            let headers: Vec<Batched> = parts.iter_mut().map(header).collect();
            let count = headers.len() as libc::c_uint;
            // SAFETY: there are so many headers, each with an address and one part that outlive the call, which only
            // reads them.
            let taken = unsafe { send(socket, headers.as_ptr(), count, libc::MSG_DONTWAIT) };
            return usize::try_from(taken).map_err(|_| io::Error::last_os_error());
        }
        let Some(first) = parts.first_mut() else { return Ok(0) };
        // SAFETY: all zeros are a valid `msghdr`: no name, no parts, no control.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_name = remote.as_ptr().cast_mut().cast();
        message.msg_namelen = remote.len();
        message.msg_iov = std::ptr::from_mut(first);
        message.msg_iovlen = 1;
        // SAFETY: name and part outlive the call, which only reads them.
        let sent = unsafe { libc::sendmsg(socket, &raw const message, libc::MSG_DONTWAIT) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(1) }
    }

    /// Takes what came to an address, at least one.
    fn receive(&self, local: IpAddr, inbox: &mut Inbox) -> io::Result<()> {
        let many = receive_many().filter(|_| !ONE_BY_ONE.load(Ordering::Relaxed));
        let mut came = [Came { length: 0, remote: None, class: 0 }; AT_ONCE];
        let count = match many {
            Some(receive) => match self.receive_many(receive, inbox, &mut came) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                    ONE_BY_ONE.store(true, Ordering::Relaxed);
                    self.receive_one(inbox, &mut came)?
                }
                result => result?,
            },
            None => self.receive_one(inbox, &mut came)?,
        };
        inbox.arrived(local, came.into_iter().take(count));
        Ok(())
    }

    fn receive_many(
        &self,
        receive: ReceiveMany,
        inbox: &mut Inbox,
        came: &mut [Came; AT_ONCE],
    ) -> io::Result<usize> {
        let mut from: [SockAddrStorage; AT_ONCE] = std::array::from_fn(|_| SockAddrStorage::zeroed());
        // The system does not say how much of it was used: what is not stays zero.
        let mut control = [[0_u64; CONTROL / 8]; AT_ONCE];
        let mut parts = [libc::iovec { iov_base: null_mut(), iov_len: 0 }; AT_ONCE];
        for (part, slot) in parts.iter_mut().zip(inbox.slots()) {
            *part = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
        }
        let each = from.iter_mut().zip(&mut control).zip(&mut parts);
        let mut headers: Vec<Batched> = each
            .map(|((from, control), part)| Batched {
                name: std::ptr::from_mut(from).cast(),
                name_length: from.size_of(),
                parts: std::ptr::from_mut(part),
                parts_count: 1,
                control: control.as_mut_ptr().cast(),
                control_length: size_of_val(control) as libc::socklen_t,
                flags: 0,
                length: 0,
            })
            .collect();
        let count = headers.len() as libc::c_uint;
        let socket = self.io.as_raw_fd();
        // SAFETY: there are so many headers, whose names, parts and controls are writable, of the lengths given, apart from
        // each other, and outlive the call.
        let count = unsafe { receive(socket, headers.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for ((came, header), (from, control)) in
            came.iter_mut().zip(&headers).zip(from.into_iter().zip(&control)).take(count)
        {
            // SAFETY: the kernel wrote an address of that length.
            let remote = unsafe { SockAddr::new(from, header.name_length) }.as_socket();
            *came = Came { length: header.length, remote, class: class_of(control) };
        }
        Ok(count)
    }

    fn receive_one(&self, inbox: &mut Inbox, came: &mut [Came; AT_ONCE]) -> io::Result<usize> {
        let mut control = [0_u64; CONTROL / 8];
        let mut from = SockAddrStorage::zeroed();
        let (Some(slot), [first, ..]) = (inbox.slots().next(), came) else { return Ok(0) };
        // SAFETY: all zeros are a valid `msghdr`: no name, no parts, no control.
        let mut message: libc::msghdr = unsafe { zeroed() };
        let mut part = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = from.size_of();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as libc::socklen_t;
        // SAFETY: name, part and control are writable, outlive the call, and have the lengths given.
        let length = unsafe { libc::recvmsg(self.io.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: the kernel wrote an address of that length.
        let remote = unsafe { SockAddr::new(from, message.msg_namelen) }.as_socket();
        *first = Came { length, remote, class: class_of(&control) };
        Ok(1)
    }
}

/// The traffic class that a control message has, if there is one: there is nothing else that was asked for.
fn class_of(control: &[u64; CONTROL / 8]) -> u8 {
    // SAFETY: all zeros are a valid `msghdr`: no name, no parts, no control.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_control = control.as_ptr().cast_mut().cast();
    message.msg_controllen = size_of_val(control) as libc::socklen_t;
    // SAFETY: the message has that much control, whose first header the kernel wrote, or left zero.
    let Some(first) = (unsafe { libc::CMSG_FIRSTHDR(&raw const message).as_ref() }) else { return 0 };
    let of_class = matches!(
        (first.cmsg_level, first.cmsg_type),
        (libc::IPPROTO_IP, libc::IP_RECVTOS | libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
    );
    // Of one byte, or an `int` whose first byte it is. The room behind a header holds four bytes in any case.
    // SAFETY: the header is followed by its value within the room given.
    if of_class { unsafe { *libc::CMSG_DATA(first) } } else { 0 }
}

impl MacUdp {
    /// Sockets on the interface's addresses. Must be called within a Tokio runtime.
    pub(super) fn bind(interface: &Interface, family: Family, port: u16, batches: bool) -> io::Result<Self> {
        let gone = |text: String| io::Error::new(io::ErrorKind::NotFound, text);
        let name = &interface.name;
        // A name may have passed on to another interface.
        if interface_number(name) != Some(interface.id.0) {
            return Err(gone(format!("cannot open UDP port {port} on `{name}`: the interface is gone")));
        }
        let own = Self {
            index: interface.id.0,
            family,
            port,
            batches: AtomicBool::new(batches),
            bound: RwLock::default(),
            inbox: Mutex::default(),
            reader: Mutex::default(),
            no_room: Mutex::default(),
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
            return Err(match failed {
                None => gone(format!("`{name}` has no {family} address; it may get one")),
                Some((address, error)) => {
                    let (kind, remedy) = match error.kind() {
                        io::ErrorKind::AddrInUse => {
                            (error.kind(), "another program has the port; choose another")
                        }
                        io::ErrorKind::PermissionDenied => {
                            (error.kind(), "choose a port above 1023, or run as root")
                        }
                        io::ErrorKind::AddrNotAvailable => (io::ErrorKind::NotFound, "the address is gone"),
                        kind if error.raw_os_error() == Some(libc::ENXIO) => {
                            debug_assert_ne!(kind, io::ErrorKind::AddrInUse);
                            (io::ErrorKind::NotFound, "the interface is gone")
                        }
                        kind => (kind, "the system refused"),
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
        let _runtime = self.runtime.enter();
        let io = UdpSocket::from_std(socket.into())?;
        let bound = Arc::new(Bound { io, family: self.family, class: AtomicU8::new(0) });
        let mut all = self.bound.write().unwrap_or_else(PoisonError::into_inner);
        let bound = Arc::clone(all.entry(address).or_insert(bound));
        drop(all);
        if let Some(reader) = super::locked(&self.reader).take() {
            reader.wake();
        }
        Ok(bound)
    }
}

impl Udp for MacUdp {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !super::locked(&self.inbox).is_empty() {
            return Poll::Ready(());
        }
        *super::locked(&self.reader) = Some(cx.waker().clone());
        let mut any = Poll::Pending;
        for bound in self.all().values() {
            if bound.io.poll_recv_ready(cx).is_ready() {
                any = Poll::Ready(());
            }
        }
        any
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut no_room = super::locked(&self.no_room);
        if let Some(sleep) = no_room.as_mut() {
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            *no_room = None;
            return Poll::Ready(());
        }
        drop(no_room);
        let mut any = Poll::Pending;
        for bound in self.all().values() {
            if bound.io.poll_send_ready(cx).is_ready() {
                any = Poll::Ready(());
            }
        }
        any
    }

    fn try_recv(&self, buffer: &mut [u8]) -> Result<Arrival, NotReceived> {
        let mut inbox = super::locked(&self.inbox);
        if let Some(arrival) = inbox.next(buffer) {
            return Ok(arrival);
        }
        for (address, bound) in self.all().iter() {
            match bound.io.try_io(Interest::READABLE, || bound.receive(*address, &mut inbox)) {
                // Those of which the system did not say whence they came are none.
                Ok(()) => match inbox.next(buffer) {
                    Some(arrival) => return Ok(arrival),
                    None => return Err(NotReceived::Earlier),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
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
        let none = |why| NotSent { sent: 0, why };
        if Family::of(local) != self.family {
            return Err(none(SendRefused::Unreachable));
        }
        let bound = self.socket(local).map_err(|error| none(why(&error)))?;
        if let Err(error) = bound.set_class(class) {
            tracing::debug!(%error, "datagrams leave without their traffic class");
        }
        let to = SockAddr::from(with_zone(remote, self.index));
        let most = if self.batches.load(Ordering::Relaxed) { Self::MOST } else { 1 };
        let push = |now: &[&[u8]]| match bound.push(&to, now) {
            Err(error) if is_no_room(&error) => {
                let _runtime = self.runtime.enter();
                *super::locked(&self.no_room) = Some(Box::pin(tokio::time::sleep(NO_ROOM)));
                Err(error)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // So that the runtime waits for room.
                let full = || Err::<(), _>(io::Error::from(io::ErrorKind::WouldBlock));
                let _ = bound.io.try_io(Interest::WRITABLE, full);
                Err(error)
            }
            Err(error) => {
                if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) {
                    self.bound.write().unwrap_or_else(PoisonError::into_inner).remove(&local);
                }
                Err(error)
            }
            taken => taken,
        };
        batch::send(payload, stride, most, push, why)
    }

    fn set_segments(&self, on: bool) {
        self.batches.store(on, Ordering::Relaxed);
    }
}

/// A socket for a question of the service's own, connected, over an interface and past the tunnel.
///
/// # Errors
/// When the interface is gone, or the system refuses.
pub fn own_socket(interface: &str, to: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let index = interface_number(interface).ok_or(io::ErrorKind::NotFound)?;
    let socket = own(interface, Family::of(to.ip()), Type::DGRAM)?;
    socket.set_nonblocking(false)?;
    socket.connect(&with_zone(to, index).into())?;
    Ok(socket.into())
}

/// A socket of the service's own for datagrams to anybody of one version of IP, over an interface and past the tunnel.
///
/// # Errors
/// When the interface is gone, or the system refuses.
pub fn own_datagrams(interface: &str, family: Family) -> io::Result<std::net::UdpSocket> {
    let socket = own(interface, family, Type::DGRAM)?;
    socket.bind(&any(family).into())?;
    Ok(socket.into())
}

/// A socket of the service's own for a group on the link of an interface, past the tunnel, which others may listen to at the
/// same port.
///
/// # Errors
/// When the interface is gone, another program has the port alone, or the system refuses.
pub fn own_group(interface: &str, group: IpAddr, port: u16) -> io::Result<std::net::UdpSocket> {
    let index = interface_number(interface).ok_or(io::ErrorKind::NotFound)?;
    let socket = own(interface, Family::of(group), Type::DGRAM)?;
    crate::group::join(&socket, group, port, index)?;
    Ok(socket.into())
}

/// A socket of the service's own for a connection, over an interface and past the tunnel: not connected, and one that does
/// not block.
///
/// # Errors
/// When the interface is gone, or the system refuses.
pub fn own_stream(interface: &str, family: Family) -> io::Result<std::net::TcpStream> {
    Ok(own(interface, family, Type::STREAM)?.into())
}

fn any(family: Family) -> SocketAddr {
    match family {
        Family::V4 => (Ipv4Addr::UNSPECIFIED, 0).into(),
        Family::V6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn own(interface: &str, family: Family, kind: Type) -> io::Result<Socket> {
    let index = interface_number(interface).ok_or(io::ErrorKind::NotFound)?;
    let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, kind, None)?;
    keep_to(&socket, family, index)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
