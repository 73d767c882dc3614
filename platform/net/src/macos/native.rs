//! The real macOS: `sysctl`, ioctls, routing sockets, utun, and its tools `pfctl` and `scutil`.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::ptr::null_mut;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mast_engine::os::{Family, Prefix, TunWish};
use mast_proto::Interface;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::uio::{readv, writev};
use nix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::system::{Announced, Detail, System, Table, UNUSABLE, Utun};
use super::{routing, udp};
use crate::readiness::{self, Stable};

/// The group that launchd gives the service as it is installed, and nobody else has.
const GROUP: &str = "_mast";
/// What utun is called in the kernel (`UTUN_CONTROL_NAME` of `bsd/net/if_utun.h`).
const CONTROL: &[u8] = b"com.apple.net.utun_control";
/// What the kernel is asked to hold of announcements while this process is busy, in bytes.
const BUFFER: usize = 1 << 20;
/// A table grows between asking how long it is and reading it.
const ATTEMPTS: u32 = 5;

/// `_IOW` and `_IOWR` of `bsd/sys/ioccom.h`.
const fn number(direction: u64, code: u8, length: usize) -> u64 {
    direction | ((length as u64 & 0x1fff) << 16) | (b'i' as u64) << 8 | code as u64
}
const IN: u64 = 0x8000_0000;
const IN_OUT: u64 = 0xc000_0000;

pub(super) const SET_FLAGS: u64 = number(IN, 16, size_of::<libc::ifreq>());
pub(super) const GET_FLAGS: u64 = number(IN_OUT, 17, size_of::<libc::ifreq>());
pub(super) const SET_MTU: u64 = number(IN, 52, size_of::<libc::ifreq>());
pub(super) const ADD_ADDRESS: u64 = number(IN, 26, size_of::<libc::ifaliasreq>());
pub(super) const REMOVE_ADDRESS: u64 = number(IN, 25, size_of::<libc::ifreq>());
pub(super) const ADD_ADDRESS_V6: u64 = number(IN, 26, size_of::<AliasV6>());
pub(super) const REMOVE_ADDRESS_V6: u64 = number(IN, 25, size_of::<RequestV6>());
pub(super) const ADDRESS_FLAGS_V6: u64 = number(IN_OUT, 73, size_of::<RequestV6>());
/// `SIOCGIFFUNCTIONALTYPE`, `SIOCGIFEXPENSIVE` and `SIOCGIFCONSTRAINED`; the latter two are of `sockio_private.h`.
pub(super) const FUNCTIONAL_TYPE: u64 = number(IN_OUT, 173, size_of::<libc::ifreq>());
pub(super) const EXPENSIVE: u64 = number(IN_OUT, 160, size_of::<libc::ifreq>());
pub(super) const CONSTRAINED: u64 = number(IN_OUT, 204, size_of::<libc::ifreq>());

/// `IN6_IFF_NODAD`: nobody else can have it on this link.
const SURELY_OURS: i32 = 0x20;
/// `ND6_INFINITE_LIFETIME`.
const FOREVER: u32 = u32::MAX;

type Name = [libc::c_char; libc::IFNAMSIZ];

/// `struct in6_aliasreq`.
#[repr(C)]
pub(super) struct AliasV6 {
    name: Name,
    address: libc::sockaddr_in6,
    destination: libc::sockaddr_in6,
    mask: libc::sockaddr_in6,
    flags: libc::c_int,
    expires: libc::time_t,
    preferred: libc::time_t,
    valid_for: u32,
    preferred_for: u32,
}

/// `struct in6_ifreq`: the name, and a union of which the longest is `struct icmp6_ifstat`.
#[repr(C)]
pub(super) struct RequestV6 {
    name: Name,
    either: EitherV6,
}

#[repr(C)]
union EitherV6 {
    address: libc::sockaddr_in6,
    flags: libc::c_int,
    _longest: [u64; 34],
}

/// `struct msghdr_x` of `bsd/sys/socket_private.h`.
#[repr(C)]
pub(super) struct Batched {
    pub name: *mut libc::c_void,
    pub name_length: libc::socklen_t,
    pub parts: *mut libc::iovec,
    pub parts_count: libc::c_int,
    pub control: *mut libc::c_void,
    pub control_length: libc::socklen_t,
    pub flags: libc::c_int,
    pub length: libc::size_t,
}

/// The system itself.
#[derive(Debug, Clone, Default)]
pub struct Darwin(Arc<Mutex<Option<Child>>>);

/// What an error is called here; the standard library has no words for some.
fn named(error: io::Error) -> io::Error {
    let kind = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ESRCH | Errno::ENXIO) => io::ErrorKind::NotFound,
        Some(Errno::EBUSY) => io::ErrorKind::AlreadyExists,
        Some(Errno::EADDRNOTAVAIL) => io::ErrorKind::AddrNotAvailable,
        _ => return error,
    };
    io::Error::new(kind, error)
}

fn last() -> io::Error {
    named(io::Error::last_os_error())
}

fn name_of(name: &str) -> io::Result<Name> {
    let mut all: Name = [0; libc::IFNAMSIZ];
    if name.is_empty() || name.len() >= all.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in all.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(all)
}

/// A socket that only carries requests.
fn carrier(family: Family) -> io::Result<Socket> {
    let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
    Socket::new(domain, Type::DGRAM, None)
}

fn ioctl<T>(socket: &impl AsRawFd, request: u64, argument: &mut T) -> io::Result<()> {
    debug_assert_eq!((request >> 16) & 0x1fff, size_of::<T>() as u64);
    // SAFETY: the argument is what the request says, by its length, and outlives the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), request, std::ptr::from_mut(argument)) };
    if done < 0 { Err(last()) } else { Ok(()) }
}

fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all zeros are a valid `ifreq`: integers, and a union of them.
    let mut request: libc::ifreq = unsafe { zeroed() };
    request.ifr_name = name_of(name)?;
    Ok(request)
}

/// What an `ifreq` that asks for a number answers.
fn asked(socket: &Socket, name: &str, request: u64) -> Option<u32> {
    let mut argument = interface_request(name).ok()?;
    ioctl(socket, request, &mut argument).ok()?;
    // SAFETY: the kernel wrote a number there, or left the zeros.
    Some(unsafe { argument.ifr_ifru.ifru_functional_type })
}

fn v4(address: Ipv4Addr) -> libc::sockaddr {
    // SAFETY: all zeros are a valid address of no family.
    let mut all: libc::sockaddr = unsafe { zeroed() };
    all.sa_len = 16;
    all.sa_family = routing::INET;
    // A `sockaddr_in` has the port before the address.
    for (to, from) in all.sa_data.iter_mut().skip(2).zip(address.octets()) {
        *to = from.cast_signed();
    }
    all
}

fn v6(address: std::net::Ipv6Addr) -> libc::sockaddr_in6 {
    // SAFETY: as above.
    let mut all: libc::sockaddr_in6 = unsafe { zeroed() };
    all.sin6_len = 28;
    all.sin6_family = routing::INET6;
    all.sin6_addr.s6_addr = address.octets();
    all
}

/// A routing socket.
fn routing_socket() -> io::Result<Socket> {
    let socket = Socket::new_raw(Domain::from(libc::PF_ROUTE), Type::RAW, None)?;
    socket.set_cloexec(true)?;
    Ok(socket)
}

/// Runs a tool to its end.
fn run(program: &str, words: &[&str], input: &str) -> io::Result<String> {
    let mut child = Command::new(program)
        .args(words)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &said);
    }
    let kind = match said.contains("Permission denied") || said.contains("Operation not permitted") {
        true => io::ErrorKind::PermissionDenied,
        false => io::ErrorKind::Other,
    };
    Err(io::Error::new(kind, format!("{program}: {}", said.trim())))
}

impl System for Darwin {
    type Utun = DarwinUtun;
    type Udp = udp::MacUdp;
    type Announced = RoutingSocket;

    fn table(&self, which: Table) -> io::Result<Vec<u8>> {
        let what = match which {
            Table::Interfaces => libc::NET_RT_IFLIST,
            Table::Routes => libc::NET_RT_DUMP,
        };
        let mut name = [libc::CTL_NET, libc::PF_ROUTE, 0, 0, what, 0];
        let count = 6;
        for _ in 0..ATTEMPTS {
            let mut length = 0;
            // SAFETY: the name has so many numbers; with no room the kernel writes the length alone.
            let done =
                unsafe { libc::sysctl(name.as_mut_ptr(), count, null_mut(), &raw mut length, null_mut(), 0) };
            if done < 0 {
                return Err(last());
            }
            let mut bytes = vec![0_u8; length + length / 4];
            length = bytes.len();
            let room = bytes.as_mut_ptr().cast();
            // SAFETY: as above; the room is as long as is said, and the kernel writes no more, and how much it did.
            let done =
                unsafe { libc::sysctl(name.as_mut_ptr(), count, room, &raw mut length, null_mut(), 0) };
            if done == 0 {
                bytes.truncate(length);
                return Ok(bytes);
            }
            if Errno::last() != Errno::ENOMEM {
                return Err(last());
            }
        }
        Err(io::ErrorKind::OutOfMemory.into())
    }

    fn request(&self, message: &[u8]) -> io::Result<()> {
        let socket = routing_socket()?;
        // What this socket asked comes back as an announcement to others alone.
        let _ = socket.shutdown(std::net::Shutdown::Read);
        socket.send(message).map_err(named).map(drop)
    }

    fn detail(&self, name: &str) -> Detail {
        let Ok(socket) = carrier(Family::V4) else { return Detail::default() };
        let ask = |request| asked(&socket, name, request).unwrap_or_default();
        Detail {
            functional: ask(FUNCTIONAL_TYPE),
            expensive: ask(EXPENSIVE) != 0,
            constrained: ask(CONSTRAINED) != 0,
        }
    }

    fn address_flags(&self, name: &str, address: IpAddr) -> u32 {
        let IpAddr::V6(address) = address else { return 0 };
        let flags = || {
            let mut request = RequestV6 { name: name_of(name)?, either: EitherV6 { _longest: [0; 34] } };
            request.either.address = v6(address);
            if address.is_unicast_link_local() {
                request.either.address.sin6_scope_id = index(name).unwrap_or_default();
            }
            ioctl(&carrier(Family::V6)?, ADDRESS_FLAGS_V6, &mut request)?;
            // SAFETY: the kernel wrote flags there.
            Ok::<_, io::Error>(unsafe { request.either.flags }.cast_unsigned())
        };
        // One that is gone meanwhile is none.
        flags().unwrap_or(UNUSABLE)
    }

    fn add_address(&self, name: &str, address: IpAddr) -> io::Result<()> {
        let mask = routing::mask(Prefix::host(address));
        match (address, mask) {
            (IpAddr::V4(address), IpAddr::V4(mask)) => {
                // Point to point: the other end is this one.
                // SAFETY: all zeros are valid: a text, and addresses of no family.
                let mut request: libc::ifaliasreq = unsafe { zeroed() };
                request.ifra_name = name_of(name)?;
                (request.ifra_addr, request.ifra_broadaddr) = (v4(address), v4(address));
                request.ifra_mask = v4(mask);
                ioctl(&carrier(Family::V4)?, ADD_ADDRESS, &mut request)
            }
            (IpAddr::V6(address), IpAddr::V6(mask)) => {
                // SAFETY: all zeros are a valid address of no family.
                let none: libc::sockaddr_in6 = unsafe { zeroed() };
                let mut request = AliasV6 {
                    name: name_of(name)?,
                    address: v6(address),
                    destination: none,
                    mask: v6(mask),
                    flags: SURELY_OURS,
                    expires: 0,
                    preferred: 0,
                    valid_for: FOREVER,
                    preferred_for: FOREVER,
                };
                ioctl(&carrier(Family::V6)?, ADD_ADDRESS_V6, &mut request)
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn remove_address(&self, name: &str, address: IpAddr) -> io::Result<()> {
        match address {
            IpAddr::V4(address) => {
                let mut request = interface_request(name)?;
                request.ifr_ifru.ifru_addr = v4(address);
                ioctl(&carrier(Family::V4)?, REMOVE_ADDRESS, &mut request)
            }
            IpAddr::V6(address) => {
                let mut request = RequestV6 { name: name_of(name)?, either: EitherV6 { _longest: [0; 34] } };
                request.either.address = v6(address);
                ioctl(&carrier(Family::V6)?, REMOVE_ADDRESS_V6, &mut request)
            }
        }
    }

    fn set_mtu(&self, name: &str, mtu: u16) -> io::Result<()> {
        let mut request = interface_request(name)?;
        request.ifr_ifru.ifru_mtu = mtu.into();
        ioctl(&carrier(Family::V4)?, SET_MTU, &mut request)
    }

    fn raise(&self, name: &str) -> io::Result<()> {
        let socket = carrier(Family::V4)?;
        let mut request = interface_request(name)?;
        ioctl(&socket, GET_FLAGS, &mut request)?;
        // SAFETY: the kernel wrote flags there.
        request.ifr_ifru.ifru_flags = unsafe { request.ifr_ifru.ifru_flags } | libc::IFF_UP as libc::c_short;
        ioctl(&socket, SET_FLAGS, &mut request)
    }

    fn announced(&self) -> io::Result<RoutingSocket> {
        let socket = routing_socket()?;
        socket.set_nonblocking(true)?;
        let _ = socket.set_recv_buffer_size(BUFFER);
        Ok(RoutingSocket(socket))
    }

    fn asleep(&self) -> Duration {
        // `CLOCK_MONOTONIC_RAW` goes on while the machine sleeps (`mach_continuous_time`), `CLOCK_UPTIME_RAW`, which
        // `Instant` reads, does not (`mach_absolute_time`).
        let clock = |id| clock_gettime(ClockId::from_raw(id)).map(Duration::from).unwrap_or_default();
        clock(libc::CLOCK_MONOTONIC_RAW).saturating_sub(clock(libc::CLOCK_UPTIME_RAW))
    }

    fn pfctl(&self, words: &[&str], input: &str) -> io::Result<String> {
        run("/sbin/pfctl", words, input)
    }

    fn own_group(&self) -> Option<u32> {
        let group = nix::unistd::getegid();
        let known = nix::unistd::Group::from_gid(group).ok().flatten();
        known.filter(|known| known.name == GROUP).map(|_| group.as_raw())
    }

    fn store(&self, words: &str) -> io::Result<String> {
        run("/usr/sbin/scutil", &[], words)
    }

    fn hold(&self, words: Option<&str>) -> io::Result<()> {
        let mut session = super::locked(&self.0);
        if let Some(mut before) = session.take() {
            // Its end closes the session.
            let _ = before.kill();
            let _ = before.wait();
        }
        let Some(words) = words else { return Ok(()) };
        let mut child = Command::new("/usr/sbin/scutil")
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // It reads on until its input ends, which is when this process does at the latest.
        if let Some(stdin) = child.stdin.as_mut() {
            stdin.write_all(words.as_bytes())?;
            stdin.flush()?;
        }
        *session = Some(child);
        Ok(())
    }

    fn make_utun(&self, wish: &TunWish) -> io::Result<DarwinUtun> {
        DarwinUtun::make(&wish.name).map_err(|error| {
            let (kind, remedy) = match error.kind() {
                io::ErrorKind::PermissionDenied => (io::ErrorKind::PermissionDenied, "run as root"),
                io::ErrorKind::AlreadyExists => (
                    io::ErrorKind::AlreadyExists,
                    "another program has it; choose another name, such as mast0",
                ),
                kind => (kind, "the system refused"),
            };
            io::Error::new(kind, format!("cannot make the virtual interface: {remedy}: {error}"))
        })
    }

    fn bind(
        &self,
        interface: &Interface,
        family: Family,
        port: u16,
        batches: bool,
    ) -> io::Result<udp::MacUdp> {
        udp::MacUdp::bind(interface, family, port, batches)
    }
}

/// A virtual interface.
#[derive(Debug)]
pub struct DarwinUtun {
    name: String,
    device: AsyncFd<Stable<OwnedFd>>,
}

impl DarwinUtun {
    fn make(wanted: &str) -> io::Result<Self> {
        let protocol = Protocol::from(libc::SYSPROTO_CONTROL);
        let socket = Socket::new_raw(Domain::from(libc::PF_SYSTEM), Type::DGRAM, Some(protocol))?;
        socket.set_cloexec(true)?;
        socket.set_nonblocking(true)?;
        // SAFETY: all zeros are a valid `ctl_info`: a number and a text.
        let mut control: libc::ctl_info = unsafe { zeroed() };
        for (to, from) in control.ctl_name.iter_mut().zip(CONTROL) {
            *to = from.cast_signed();
        }
        ioctl(&socket, libc::CTLIOCGINFO, &mut control)?;
        // The number of utun0 is 1; 0 is any that is free. No other name can be chosen.
        let unit = wanted.strip_prefix("utun").and_then(|number| number.parse::<u32>().ok());
        let unit = unit.and_then(|number| number.checked_add(1)).unwrap_or(0);
        let address = libc::sockaddr_ctl {
            sc_len: size_of::<libc::sockaddr_ctl>() as libc::c_uchar,
            sc_family: libc::AF_SYSTEM as libc::c_uchar,
            // `AF_SYS_CONTROL`.
            ss_sysaddr: 2,
            sc_id: control.ctl_id,
            sc_unit: unit,
            sc_reserved: [0; 5],
        };
        let length = size_of::<libc::sockaddr_ctl>() as libc::socklen_t;
        // SAFETY: the address is of that length and outlives the call.
        if unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) } < 0 {
            return Err(last());
        }
        let mut name = [0_u8; libc::IFNAMSIZ];
        let mut length = name.len() as libc::socklen_t;
        let room = name.as_mut_ptr().cast();
        // SAFETY: the room is as long as is said; the kernel writes no more.
        let done = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SYSPROTO_CONTROL,
                libc::UTUN_OPT_IFNAME,
                room,
                &raw mut length,
            )
        };
        if done < 0 {
            return Err(last());
        }
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        let name = String::from_utf8(name.to_vec()).map_err(io::Error::other)?;
        let device = readiness::register(OwnedFd::from(socket))?;
        Ok(Self { name, device })
    }
}

impl Utun for DarwinUtun {
    fn name(&self) -> &str {
        &self.name
    }

    async fn readable(&self) -> io::Result<()> {
        self.device.readable().await.map(drop)
    }

    fn take(&self, header: &mut [u8; 4], frame: &mut [u8]) -> io::Result<usize> {
        let length = self.device.try_io(Interest::READABLE, |device| {
            let mut parts = [IoSliceMut::new(header), IoSliceMut::new(frame)];
            Ok(readv(device.get(), &mut parts)?)
        })?;
        // Nothing at all is the end of the interface.
        if length == 0 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(length) }
    }

    fn give(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        writev(self.device.get_ref().get(), parts)?;
        Ok(())
    }
}

/// Announcements of the kernel.
#[derive(Debug)]
pub struct RoutingSocket(Socket);

impl Announced for RoutingSocket {
    fn next(&mut self, buffer: &mut [u8], patience: Duration) -> io::Result<Option<usize>> {
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let mut waited = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        if poll(&mut waited, patience)? == 0 {
            return Ok(None);
        }
        match nix::sys::socket::recv(self.0.as_raw_fd(), buffer, nix::sys::socket::MsgFlags::empty()) {
            Err(Errno::EAGAIN) => Ok(Some(0)),
            received => Ok(Some(received?)),
        }
    }
}

fn index(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// The number of the interface of a name, as zones of addresses have it; none while there is no such interface.
pub fn interface_number(name: &str) -> Option<u32> {
    index(name)
}

/// The processor time of the thread that asks.
pub(super) fn processor_time() -> Option<Duration> {
    clock_gettime(ClockId::from_raw(libc::CLOCK_THREAD_CPUTIME_ID)).ok().map(Duration::from)
}
