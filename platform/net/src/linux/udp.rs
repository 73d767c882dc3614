//! UDP sockets that keep to one interface.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mast_engine::os::Family;
use mast_proto::Interface;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt as options};
use socket2::{Domain, Protocol, Socket, Type};

use super::batch::LinuxUdp;
use super::{context, protection, sockopt};

/// What the kernel is asked to hold for a socket while the program is busy, in bytes per direction.
const BUFFER: usize = 4 << 20;

pub(super) fn bind(interface: &Interface, family: Family, port: u16, segments: bool) -> io::Result<LinuxUdp> {
    try_bind(interface, family, port)
        .and_then(|socket| LinuxUdp::new(socket, family, segments))
        .map_err(|error| explain(&error, interface, family, port))
}

fn try_bind(interface: &Interface, family: Family, port: u16) -> io::Result<Socket> {
    let (domain, any): (_, SocketAddr) = match family {
        Family::V4 => (Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into()),
        Family::V6 => (Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into()),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    // First of all, so that every interface can have the same port.
    socket.bind_device(Some(interface.name.as_bytes()))?;
    // A name may have passed on to another device.
    if nix::net::if_::if_nametoindex(interface.name.as_str())? != interface.id.0 {
        return Err(Errno::ENODEV.into());
    }
    if family == Family::V6 {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    enlarge(&socket);
    // Never fragment, and never believe a cached path MTU: the protocol probes for itself.
    let (level, name, probe) = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
    };
    sockopt::set(&socket, level, name, probe)?;
    // So that leak protection lets it out. Without the permission there is no leak protection either.
    if let Err(error) =
        sockopt::set(&socket, libc::SOL_SOCKET, libc::SO_MARK, protection::MARK as libc::c_int)
    {
        tracing::debug!(%error, "socket without a mark");
    }
    socket.bind(&any.into())?;
    Ok(socket)
}

/// A socket for a question of the service's own, connected, over an interface and past the tunnel.
///
/// # Errors
/// When the interface is gone, or the system refuses.
pub fn own_socket(interface: &str, to: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = own(interface, Family::of(to.ip()), Type::DGRAM)?;
    socket.set_nonblocking(false)?;
    let to = match to {
        SocketAddr::V6(to) if to.ip().is_unicast_link_local() => {
            let zone = nix::net::if_::if_nametoindex(interface)?;
            std::net::SocketAddrV6::new(*to.ip(), to.port(), 0, zone).into()
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
    let socket = own(interface, Family::of(group), Type::DGRAM)?;
    crate::group::join(&socket, group, port, nix::net::if_::if_nametoindex(interface)?)?;
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
    let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, kind, None)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    sockopt::set(&socket, libc::SOL_SOCKET, libc::SO_MARK, protection::MARK as libc::c_int)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// As large as asked where privileged, else as large as the system allows.
fn enlarge(socket: &Socket) {
    let received = setsockopt(socket, options::RcvBufForce, &BUFFER).is_ok()
        || socket.set_recv_buffer_size(BUFFER).is_ok();
    let sent = setsockopt(socket, options::SndBufForce, &BUFFER).is_ok()
        || socket.set_send_buffer_size(BUFFER).is_ok();
    if !received || !sent {
        tracing::debug!("socket buffers left as they are");
    }
}

fn explain(error: &io::Error, interface: &Interface, family: Family, port: u16) -> io::Error {
    let version = if family == Family::V4 { "IPv4" } else { "IPv6" };
    let (kind, remedy) = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENODEV | Errno::ENXIO) => (io::ErrorKind::NotFound, "the interface is gone"),
        Some(Errno::EADDRINUSE) => (io::ErrorKind::AddrInUse, "another program has the port; choose another"),
        Some(Errno::EPERM) => {
            (io::ErrorKind::PermissionDenied, "run as root or with the capability CAP_NET_RAW")
        }
        Some(Errno::EACCES) => (
            io::ErrorKind::PermissionDenied,
            "choose a port above 1023, or run as root or with the capability CAP_NET_BIND_SERVICE",
        ),
        Some(Errno::EAFNOSUPPORT) => (io::ErrorKind::Unsupported, "the system lacks this version of IP"),
        _ => (error.kind(), "the system refused"),
    };
    let name = &interface.name;
    context(error, kind, format_args!("cannot open {version} UDP port {port} on `{name}`: {remedy}"))
}
