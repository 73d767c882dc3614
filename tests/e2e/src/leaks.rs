//! What leaves a host around the tunnel: programs that try everything all the time, and a look at every frame that leaves.

use std::collections::BTreeMap;
use std::io::Read;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mast_netlab::Host;
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// Between two rounds of everything.
const PAUSE: Duration = Duration::from_millis(5);
/// Where each kind of attempt goes: a port of its own, from here on.
const KINDS: u16 = 7000;

/// How a program sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// As any.
    Plainly,
    /// From a socket that is bound to the uplink.
    Bound,
    /// With the uplink named beside each datagram.
    Named,
    /// From a socket that was told to prefer the uplink.
    Preferring,
    /// By a connection of TCP, bound to the uplink.
    Connecting,
}

const HOW: [How; 5] = [How::Plainly, How::Bound, How::Named, How::Preferring, How::Connecting];

/// Programs of a host that send to public addresses, and to name servers of the local network, in every way that needs
/// no privilege, over each uplink, until this is dropped.
pub struct Programs {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    work: Option<JoinHandle<()>>,
}

impl Programs {
    /// They begin. `public` are addresses far away, `names` are name servers.
    pub fn start(host: &Host, uplinks: &[&str], public: &[IpAddr], names: &[SocketAddr]) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let uplinks: Vec<String> = uplinks.iter().map(|&name| name.to_owned()).collect();
        let (public, names) = (public.to_vec(), names.to_vec());
        let (ended, counted) = (Arc::clone(&stop), Arc::clone(&rounds));
        let body = move || {
            while !ended.load(Ordering::Relaxed) {
                for uplink in &uplinks {
                    for (number, how) in HOW.into_iter().enumerate() {
                        let port = KINDS + number as u16;
                        let targets = public.iter().map(|ip| SocketAddr::new(*ip, port));
                        for to in targets.chain(names.iter().copied()) {
                            // Most of it is refused, which is the point.
                            let _ = attempt(how, uplink, to);
                        }
                    }
                }
                counted.fetch_add(1, Ordering::Relaxed);
                thread::sleep(PAUSE);
            }
        };
        let work = host.run(|| thread::spawn(body)).unwrap();
        Self { stop, rounds, work: Some(work) }
    }

    /// Waits until each has tried everything so many times more.
    pub fn try_again(&self, times: u64) {
        let until = self.rounds.load(Ordering::Relaxed) + times + 1;
        crate::within(crate::PATIENCE, "the programs try everything", || {
            self.rounds.load(Ordering::Relaxed) >= until
        });
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(work) = self.work.take() {
            let _ = work.join();
        }
    }
}

fn attempt(how: How, uplink: &str, to: SocketAddr) -> std::io::Result<()> {
    let kind = if how == How::Connecting { Type::STREAM } else { Type::DGRAM };
    let socket = Socket::new(Domain::for_address(to), kind, None)?;
    socket.set_nonblocking(true)?;
    match how {
        How::Plainly => {}
        How::Bound | How::Connecting => socket.bind_device(Some(uplink.as_bytes()))?,
        How::Named => return named(&socket, uplink, to),
        How::Preferring => prefer_for(&socket, uplink, to)?,
    }
    match how {
        How::Connecting => socket.connect(&to.into()),
        _ => socket.send_to(b"secret", &to.into()).map(drop),
    }
}

fn named(socket: &Socket, uplink: &str, to: SocketAddr) -> std::io::Result<()> {
    use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
    let index = nix::net::if_::if_nametoindex(uplink)?;
    let v4 = libc::in_pktinfo {
        ipi_ifindex: index.cast_signed(),
        ipi_spec_dst: libc::in_addr { s_addr: 0 },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let v6 = libc::in6_pktinfo { ipi6_ifindex: index, ipi6_addr: libc::in6_addr { s6_addr: [0; 16] } };
    let control = match to {
        SocketAddr::V4(_) => ControlMessage::Ipv4PacketInfo(&v4),
        SocketAddr::V6(_) => ControlMessage::Ipv6PacketInfo(&v6),
    };
    let parts = [std::io::IoSlice::new(b"secret")];
    sendmsg(socket.as_raw_fd(), &parts, &[control], MsgFlags::empty(), Some(&SockaddrStorage::from(to)))?;
    Ok(())
}

/// Has an IPv4 socket prefer an interface, as systemd-resolved does (IP_UNICAST_IF).
///
/// # Errors
/// When the system refuses.
pub fn prefer(socket: &std::net::UdpSocket, interface: &str) -> std::io::Result<()> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    prefer_for(&Socket::from(socket.try_clone()?), interface, any)
}

fn prefer_for(socket: &Socket, uplink: &str, to: SocketAddr) -> std::io::Result<()> {
    let index = nix::net::if_::if_nametoindex(uplink)?;
    let (level, name) = match to {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_UNICAST_IF),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_IF),
    };
    let value = index.to_be();
    // SAFETY: the descriptor is open, and pointer and length describe `value`, which outlives the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
    Errno::result(set)?;
    Ok(())
}

/// Looks at every frame that leaves a host over its uplinks, until it is dropped.
pub struct Watch {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    work: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    /// What may not leave, in words, and how often.
    leaks: BTreeMap<String, u64>,
    /// All frames.
    frames: u64,
}

impl Watch {
    /// Begins. `own` are the addresses of the tunnel's other end, to whose `port` the service may send.
    pub fn start(host: &Host, own: &[IpAddr], port: u16) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Seen::default())));
        let peers: Vec<SocketAddr> = own.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        let (ended, noted) = (Arc::clone(&stop), Arc::clone(&seen));
        let (ready, started) = std::sync::mpsc::channel();
        let body = move || {
            // All interfaces, those that come later, too.
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).unwrap();
            socket.set_recv_buffer_size(8 << 20).unwrap();
            // SAFETY: an all-zero `sockaddr_ll` is valid.
            let mut address: libc::sockaddr_ll = unsafe { zeroed() };
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            // SAFETY: the pointer and the length describe `address`, which outlives the call.
            let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
            Errno::result(bound).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            ready.send(()).unwrap();
            let mut buffer = [0_u8; 4096];
            while !ended.load(Ordering::Relaxed) {
                // SAFETY: an all-zero `sockaddr_ll` is valid.
                let mut from: libc::sockaddr_ll = unsafe { zeroed() };
                let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
                // SAFETY: the buffer and the address are as long as is said, and outlive the call.
                let read = unsafe {
                    libc::recvfrom(
                        socket.as_raw_fd(),
                        buffer.as_mut_ptr().cast(),
                        buffer.len(),
                        0,
                        (&raw mut from).cast(),
                        &raw mut length,
                    )
                };
                let Ok(read) = usize::try_from(read) else { continue };
                // Frames of Ethernet that leave; those of loopback and of the tunnel do not.
                if from.sll_pkttype != libc::PACKET_OUTGOING || from.sll_hatype != libc::ARPHRD_ETHER {
                    continue;
                }
                let mut seen = noted.lock().unwrap();
                seen.frames += 1;
                if let Some(what) = leak(&buffer[..read], &peers) {
                    *seen.leaks.entry(what).or_default() += 1;
                }
            }
        };
        let work = host.run(|| thread::spawn(body)).unwrap();
        started.recv().unwrap();
        Self { stop, seen, work: Some(work) }
    }

    /// What left that may not, since this was last asked; and how many frames left in all.
    pub fn take(&self) -> (BTreeMap<String, u64>, u64) {
        // What was sent just now is seen.
        thread::sleep(Duration::from_millis(60));
        let mut seen = self.seen.lock().unwrap();
        (std::mem::take(&mut seen.leaks), std::mem::take(&mut seen.frames))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(work) = self.work.take() {
            let _ = work.join();
        }
    }
}

/// In words what a frame is, if it may not leave while everything shall go through the tunnel and the local network is
/// allowed: the table of core/SECURITY.md, written down a second time.
fn leak(frame: &[u8], peers: &[SocketAddr]) -> Option<String> {
    match frame.get(12..14)? {
        [0x08, 0x00] => {
            let packet = frame.get(14..)?;
            let header = usize::from(packet[0] & 15) * 4;
            let to = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(16..20)?).ok()?);
            leak_of(to.into(), packet[9], packet.get(header..)?, peers)
        }
        [0x86, 0xdd] => {
            let packet = frame.get(14..)?;
            let to = Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(24..40)?).ok()?);
            // Listener reports come after a header of hop-by-hop options.
            let (protocol, start) = if packet[6] == 0 {
                (packet[40], 40 + (usize::from(packet[41]) + 1) * 8)
            } else {
                (packet[6], 40)
            };
            leak_of(to.into(), protocol, packet.get(start..)?, peers)
        }
        // Whoever looks for a public address on the link is about to send there.
        [0x08, 0x06] => {
            let to = Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(38..42)?).ok()?);
            (!is_near(to.into())).then(|| format!("ARP for {to}"))
        }
        other => Some(format!("a frame of type {other:02x?}")),
    }
}

fn leak_of(to: IpAddr, protocol: u8, payload: &[u8], peers: &[SocketAddr]) -> Option<String> {
    let port =
        |at: usize| payload.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]])).unwrap_or_default();
    let (from, dest) = (port(0), port(2));
    let udp = i32::from(protocol) == libc::IPPROTO_UDP;
    let told = |what: &str| Some(format!("{what} to {}", SocketAddr::new(to, dest)));
    if udp && peers.contains(&SocketAddr::new(to, dest)) {
        return None;
    }
    if udp && matches!((from, dest), (68, 67) | (546, 547)) {
        return None;
    }
    if i32::from(protocol) == libc::IPPROTO_ICMPV6 {
        let kind = payload.first().copied().unwrap_or_default();
        let is_host = matches!(kind, 131..=133 | 135 | 136 | 143);
        return if is_host || is_near(to) { None } else { Some(format!("ICMPv6 {kind} to {to}")) };
    }
    if matches!(dest, 53 | 853) {
        return told("a question for names");
    }
    if is_near(to) {
        return None;
    }
    match dest.checked_sub(KINDS).and_then(|n| HOW.get(usize::from(n))) {
        Some(how) => told(&format!("what was sent {how:?}")),
        None => told(&format!("protocol {protocol}")),
    }
}

fn is_near(to: IpAddr) -> bool {
    match to {
        IpAddr::V4(to) => {
            let group =
                to.is_multicast() && (to.octets()[..3] == [224, 0, 0] || to.octets()[..2] == [239, 255]);
            to.is_private() || to.is_link_local() || to.is_broadcast() || group
        }
        IpAddr::V6(to) => to.is_unicast_link_local() || to.is_unique_local() || to.segments()[0] == 0xff02,
    }
}

/// Reads all that a process has left to say.
pub fn read_all(mut stream: impl Read) -> String {
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}
