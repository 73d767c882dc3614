//! Raw frames and raw datagrams, for those who do not play by the rules.

use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mast_netlab::Host;
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// All frames of one interface, in both directions.
pub struct Tap {
    socket: Socket,
}

impl Tap {
    /// Opens a packet socket on an interface of a host.
    pub fn open(host: &Host, interface: &str) -> Self {
        let socket = host.run(|| {
            let index = nix::net::if_::if_nametoindex(interface).unwrap();
            // Protocol 0: nothing is received until it is bound.
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).unwrap();
            // SAFETY: an all-zero `sockaddr_ll` is valid.
            let mut address: libc::sockaddr_ll = unsafe { zeroed() };
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            address.sll_ifindex = index.cast_signed();
            let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            // SAFETY: the pointer and the length describe `address`, which outlives the call.
            let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
            Errno::result(bound).unwrap();
            socket
        });
        let socket = socket.unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Self { socket }
    }

    /// The frames with UDP over IPv4 to a port that pass within a time.
    pub fn udp_to(&self, port: u16, time: Duration) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let end = Instant::now() + time;
        let mut buffer = [0; 2048];
        while Instant::now() < end {
            use std::io::Read;
            let Ok(length) = (&self.socket).read(&mut buffer) else { continue };
            let frame = &buffer[..length];
            let is_udp = length > 42 && frame[12..14] == [8, 0] && frame[14] == 0x45 && frame[23] == 17;
            if is_udp && frame[36..38] == port.to_be_bytes() {
                frames.push(frame.to_vec());
            }
        }
        frames
    }

    /// The next frame, if one passes in a tenth of a second.
    pub fn next(&self) -> Option<Vec<u8>> {
        use std::io::Read;
        let mut buffer = [0; 2048];
        let length = (&self.socket).read(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    }

    /// Sends a frame, as if the host itself did.
    pub fn send(&self, frame: &[u8]) {
        self.socket.send(frame).unwrap();
    }
}

/// An IPv4 datagram with a UDP datagram in it, with any source one likes.
pub fn raw_datagram(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(28 + payload.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    let sum = packet.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend((total - 20).to_be_bytes());
    // Without a checksum, as IPv4 allows.
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

/// Sends an IPv4 datagram as it stands; the host's routes decide where.
pub fn send_raw(host: &Host, to: Ipv4Addr, packet: &[u8]) {
    let sent = host.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
        socket.send_to(packet, &SocketAddrV4::new(to, 0).into())
    });
    sent.unwrap().unwrap();
}
