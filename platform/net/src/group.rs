//! A socket for a group on one link, beside others that listen to the same group at the same port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use socket2::{InterfaceIndexOrAddress, Socket};

/// What is kept for a socket while the program is busy, in bytes: what comes beyond is lost.
const BUFFER: usize = 64 << 10;
/// Nothing comes so that has gone through a router (RFC 6762, section 11).
const HOPS: u32 = 255;

/// Has a fresh socket, which keeps to the interface of this number, hear and speak to a group.
pub(crate) fn join(socket: &Socket, group: IpAddr, port: u16, index: u32) -> io::Result<()> {
    // The system's own responder, and others, have the port as well.
    socket.set_reuse_address(true)?;
    #[cfg(target_os = "macos")]
    socket.set_reuse_port(true)?;
    // It may be left as it is.
    let _ = socket.set_recv_buffer_size(BUFFER);
    // Where a socket can be bound to a group, it hears nothing else: no datagram that others wait for at this port, and none
    // that was sent to this host from elsewhere.
    let to_group = cfg!(target_os = "linux");
    match group {
        IpAddr::V4(group) => {
            let own = if to_group { group } else { Ipv4Addr::UNSPECIFIED };
            socket.bind(&SocketAddr::from((own, port)).into())?;
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))?;
            #[cfg(windows)]
            // The number of an interface stands for it (RFC 1122 has no such address).
            socket.set_multicast_if_v4(&Ipv4Addr::from_bits(index))?;
            socket.set_multicast_ttl_v4(HOPS)?;
            socket.set_multicast_loop_v4(false)
        }
        IpAddr::V6(group) => {
            socket.set_only_v6(true)?;
            let own = if to_group { group } else { std::net::Ipv6Addr::UNSPECIFIED };
            let zone = if to_group { index } else { 0 };
            socket.bind(&SocketAddr::V6(SocketAddrV6::new(own, port, 0, zone)).into())?;
            socket.join_multicast_v6(&group, index)?;
            socket.set_multicast_if_v6(index)?;
            socket.set_multicast_hops_v6(HOPS)?;
            socket.set_multicast_loop_v6(false)
        }
    }
}
