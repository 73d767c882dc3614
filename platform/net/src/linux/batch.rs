//! Many datagrams with one call: `UDP_SEGMENT` out, `UDP_GRO` in (udp(7)).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use mast_engine::os::{Arrival, Family, NotReceived, NotSent, SendRefused, Udp};
use socket2::{SockAddr, Socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::readiness::Stable;
use super::sockopt;

/// Room for three control messages, of up to 4, 4 and 20 bytes, which are 24, 24 and 40 bytes long; aligned as they must
/// be.
#[repr(C, align(8))]
struct Control([u8; Self::LENGTH]);

impl Control {
    const LENGTH: usize = 96;
}

/// A UDP socket of one interface.
pub struct LinuxUdp {
    /// Registered for reading only. The kernel tells of room each time when it is done with a datagram, which happens
    /// while its receiver reads it: on one machine, that would wake the sender for nothing in the receiver's time.
    socket: AsyncFd<Stable<Socket>>,
    /// A second descriptor of it, registered for writing while it has no room.
    full: Mutex<Option<AsyncFd<Stable<OwnedFd>>>>,
    family: Family,
    /// The kernel has it, and nobody wants to do without.
    can_segment: bool,
    /// Several datagrams may go out at once: besides, the interface has not refused it, and they arrive.
    segments: AtomicBool,
    /// Plays a kernel that mangles batches of equal length.
    mangles: bool,
}

impl std::fmt::Debug for LinuxUdp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let segments = self.segments.load(Ordering::Relaxed);
        f.debug_struct("LinuxUdp")
            .field("family", &self.family)
            .field("segments", &segments)
            .finish_non_exhaustive()
    }
}

impl AsFd for LinuxUdp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().get().as_fd()
    }
}

/// Whether the kernel cuts and joins datagrams of UDP: since Linux 4.18 and 5.0.
pub(super) fn offloads(socket: &Socket) -> (bool, bool) {
    let (level, off, on) = (libc::IPPROTO_UDP, 0, 1);
    let without = std::env::var("MAST_OFFLOADS").unwrap_or_default();
    if without == "none" {
        return (false, false);
    }
    // Kernels before that take the control message of `UDP_SEGMENT` for none, and would send one giant datagram.
    let segments = without != "single" && sockopt::set(socket, level, libc::UDP_SEGMENT, off).is_ok();
    let joins = sockopt::set(socket, level, libc::UDP_GRO, on).is_ok();
    (segments, joins)
}

impl LinuxUdp {
    pub(super) fn new(socket: Socket, family: Family, several: bool) -> io::Result<Self> {
        let (can, joins) = offloads(&socket);
        let segments = can && several;
        let mangles = std::env::var_os("MAST_OFFLOADS").is_some_and(|value| value == "mangled");
        let (level, class, local) = match family {
            Family::V4 => (libc::IPPROTO_IP, libc::IP_RECVTOS, libc::IP_PKTINFO),
            Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, libc::IPV6_RECVPKTINFO),
        };
        if let Err(error) = sockopt::set(&socket, level, class, 1) {
            tracing::debug!(%error, "congestion marks are not seen");
        }
        sockopt::set(&socket, level, local, 1)?;
        tracing::debug!(segments, joins, "socket opened");
        // SAFETY: `Stable` keeps the descriptor from being exchanged, and `AsyncFd` deregisters it before it drops it.
        let socket = unsafe { AsyncFd::register_with_interest(Stable::new(socket), Interest::READABLE) }?;
        Ok(Self {
            socket,
            full: Mutex::default(),
            family,
            can_segment: segments,
            segments: segments.into(),
            mangles,
        })
    }

    /// Sends datagrams of this length with one call.
    fn send(
        &self,
        local: IpAddr,
        remote: SocketAddr,
        class: u8,
        stride: usize,
        payload: &[u8],
    ) -> io::Result<()> {
        let address = SockAddr::from(remote);
        let mut control = Control([0; Control::LENGTH]);
        // The interface is that of the socket: its number here stays 0 (ip(7), ipv6(7)).
        let mut used = match local {
            IpAddr::V4(local) => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&local.octets());
                put(&mut control.0, 0, libc::IPPROTO_IP, libc::IP_PKTINFO, &info)
            }
            IpAddr::V6(local) => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&local.octets());
                put(&mut control.0, 0, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info)
            }
        };
        if class != 0 {
            let (level, kind) = match self.family {
                Family::V4 => (libc::IPPROTO_IP, libc::IP_TOS),
                Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
            };
            used = put(&mut control.0, used, level, kind, &libc::c_int::from(class).to_ne_bytes());
        }
        if stride < payload.len() {
            if self.mangles && payload.len().is_multiple_of(stride) {
                return Ok(());
            }
            let stride = u16::try_from(stride).map_err(|_| io::ErrorKind::InvalidInput)?;
            used = put(&mut control.0, used, libc::SOL_UDP, libc::UDP_SEGMENT, &stride.to_ne_bytes());
        }
        let mut part = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
        // SAFETY: an all-zero `msghdr` is valid: no name, no parts, no control.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = address.as_ptr().cast_mut().cast();
        message.msg_namelen = address.len();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = used as _;
        // SAFETY: name, part and control outlive the call, with the lengths given; `sendmsg` only reads them.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<Arrival> {
        let mut control = Control([0; Control::LENGTH]);
        // SAFETY: an all-zero `sockaddr_storage` is valid: of no family.
        let mut from: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: as above.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = size_of_val(&from) as libc::socklen_t;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of_val(&control) as _;
        // SAFETY: name, part and control are writable, outlive the call, and have the lengths given.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        if length < 0 {
            return Err(io::Error::last_os_error());
        }
        let length = length as usize;
        let remote = address(&from).ok_or(io::ErrorKind::InvalidData)?;
        let mut arrival = Arrival { length, stride: length, remote, local: None, class: 0 };
        let used = (message.msg_controllen as usize).min(control.0.len());
        note(&mut arrival, control.0.get(..used).unwrap_or_default());
        Ok(arrival)
    }
}

impl Udp for LinuxUdp {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Whatever is wrong shows when it is read.
        self.socket.poll_read_ready(cx).map(drop)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        if full.is_none() {
            let watched = self.socket.get_ref().get().as_fd().try_clone_to_owned().and_then(|socket| {
                // SAFETY: as for the socket itself.
                Ok(unsafe { AsyncFd::register_with_interest(Stable::new(socket), Interest::WRITABLE) }?)
            });
            match watched {
                Ok(watched) => *full = Some(watched),
                // Whoever waits does so for a bounded time.
                Err(error) => {
                    tracing::debug!(%error, "a full socket is not watched");
                    return Poll::Pending;
                }
            }
        }
        let room = full.as_ref().is_none_or(|socket| socket.poll_write_ready(cx).is_ready());
        if room {
            *full = None;
        }
        if room { Poll::Ready(()) } else { Poll::Pending }
    }

    fn set_segments(&self, on: bool) {
        self.segments.store(on && self.can_segment, Ordering::Relaxed);
    }

    fn try_recv(&self, buffer: &mut [u8]) -> Result<Arrival, NotReceived> {
        self.socket.try_io(Interest::READABLE, |_| self.receive(buffer)).map_err(|error| {
            match error.raw_os_error() {
                // Of something sent earlier.
                Some(libc::EMSGSIZE) => NotReceived::Earlier,
                _ => NotReceived::of(error.kind()),
            }
        })
    }

    fn try_send(
        &self,
        local: IpAddr,
        remote: SocketAddr,
        class: u8,
        stride: usize,
        payload: &[u8],
    ) -> Result<(), NotSent> {
        let stride = stride.max(1);
        let none = |why| NotSent { sent: 0, why };
        if stride >= payload.len() {
            return explained(self.send(local, remote, class, payload.len(), payload)).map_err(none);
        }
        let mut refused = None;
        if self.segments.load(Ordering::Relaxed) {
            let error = match self.send(local, remote, class, stride, payload) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match error.raw_os_error() {
                // The interface, or something on the way to it (IPsec, a device without checksums), cannot do it; or
                // the datagrams are too large for it, or the local address is gone, which shows when the first goes
                // out alone.
                Some(libc::EIO | libc::EINVAL | libc::EOPNOTSUPP) => refused = Some(error),
                _ => return explained(Err(error)).map_err(none),
            }
        }
        for (at, datagram) in payload.chunks(stride).enumerate() {
            let sent = explained(self.send(local, remote, class, datagram.len(), datagram));
            let other_reason = matches!(sent, Err(SendRefused::TooBig | SendRefused::Unreachable));
            if let Some(error) = refused.take().filter(|_| !other_reason) {
                tracing::debug!(%error, "datagrams go out one by one from now on");
                self.segments.store(false, Ordering::Relaxed);
            }
            sent.map_err(|why| NotSent { sent: at, why })?;
        }
        Ok(())
    }
}

/// What the system means. A full queue of the interface, where the system tells of it, is emptied sooner than anything
/// could be done. A single datagram is refused as `EINVAL` for its local address alone: the interface lost it.
fn explained(result: io::Result<()>) -> Result<(), SendRefused> {
    let Err(error) = result else { return Ok(()) };
    match error.raw_os_error() {
        Some(libc::ENOBUFS) => Ok(()),
        Some(libc::EMSGSIZE) => Err(SendRefused::TooBig),
        Some(libc::EINVAL) => Err(SendRefused::Unreachable),
        Some(libc::ENODEV | libc::ENXIO) => Err(SendRefused::Gone),
        _ => {
            let why = SendRefused::of(error.kind());
            if why == SendRefused::Other {
                tracing::debug!(%error, "a datagram was not sent");
            }
            Err(why)
        }
    }
}

/// Appends a control message; tells how long the control is then.
fn put(
    control: &mut [u8; Control::LENGTH],
    at: usize,
    level: libc::c_int,
    kind: libc::c_int,
    value: &[u8],
) -> usize {
    let header = HEAD + value.len();
    let mut write = |at: usize, bytes: &[u8]| {
        if let Some(room) = control.get_mut(at..at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
    };
    write(at, &header.to_ne_bytes());
    write(at + size_of::<usize>(), &level.to_ne_bytes());
    write(at + size_of::<usize>() + 4, &kind.to_ne_bytes());
    write(at + HEAD, value);
    at + header.next_multiple_of(size_of::<usize>())
}

/// The length of a control message's header: a length as wide as a pointer, level, and type (cmsg(3)).
const HEAD: usize = size_of::<usize>() + 8;

/// Takes note of what the control messages of a message say that was received.
pub(super) fn note(arrival: &mut Arrival, control: &[u8]) {
    for (level, kind, value) in Messages(control) {
        match (level, kind, value) {
            (libc::SOL_UDP, libc::UDP_GRO, [a, b, c, d, ..]) => {
                let stride = libc::c_int::from_ne_bytes([*a, *b, *c, *d]);
                arrival.stride = usize::try_from(stride).ok().filter(|s| *s > 0).unwrap_or(arrival.length);
            }
            // The address in the header, which a NAT of this host may have put there.
            (libc::IPPROTO_IP, libc::IP_PKTINFO, [_, _, _, _, _, _, _, _, a, b, c, d, ..]) => {
                arrival.local = Some(Ipv4Addr::new(*a, *b, *c, *d).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info) => {
                arrival.local = info.first_chunk().map(|ip: &[u8; 16]| Ipv6Addr::from(*ip).into());
            }
            (libc::IPPROTO_IP, libc::IP_TOS, [class, ..]) => arrival.class = *class,
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, [a, b, c, d, ..]) => {
                arrival.class = libc::c_int::from_ne_bytes([*a, *b, *c, *d]) as u8;
            }
            _ => {}
        }
    }
}

/// The control messages of a message that was received.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (libc::c_int, libc::c_int, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_first_chunk()?;
        let (level, rest) = rest.split_first_chunk()?;
        let (kind, _) = rest.split_first_chunk()?;
        let length = usize::from_ne_bytes(*length);
        let value = self.0.get(HEAD..length)?;
        let level = libc::c_int::from_ne_bytes(*level);
        let kind = libc::c_int::from_ne_bytes(*kind);
        self.0 = self.0.get(length.next_multiple_of(size_of::<usize>())..).unwrap_or_default();
        Some((level, kind, value))
    }
}

fn address(from: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(from.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says which of its forms the address has, and the storage is as large as any.
            let from = unsafe { &*(&raw const *from).cast::<libc::sockaddr_in>() };
            let ip = u32::from_be(from.sin_addr.s_addr).into();
            Some(SocketAddrV4::new(ip, u16::from_be(from.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let from = unsafe { &*(&raw const *from).cast::<libc::sockaddr_in6>() };
            let ip = from.sin6_addr.s6_addr.into();
            Some(SocketAddrV6::new(ip, u16::from_be(from.sin6_port), 0, from.sin6_scope_id).into())
        }
        _ => None,
    }
}
