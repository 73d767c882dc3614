//! The TUN device.

use std::fs::OpenOptions;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mast_engine::os::{Offload, Offloads, Tun, TunWish};
use nix::errno::Errno;
use nix::sys::uio::{readv, writev};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::context;
use super::readiness::{self, READ_OR_GONE, Stable};
use super::rtnl::{self, Rtnl};
use super::vnet::{self, HEADER};

/// The device through which TUN devices are made.
pub(super) const DEVICE_NODE: &str = "/dev/net/tun";
/// The kernel's limit, without the terminating zero.
const LONGEST_NAME: usize = 15;
/// The most parts of one frame.
const PARTS: usize = 128;

/// A TUN device. It goes, with its addresses and routes, when this is dropped.
pub struct LinuxTun {
    name: String,
    offloads: Offloads,
    device: AsyncFd<Stable<OwnedFd>>,
}

impl std::fmt::Debug for LinuxTun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinuxTun").field("name", &self.name).finish_non_exhaustive()
    }
}

impl LinuxTun {
    /// The work is done by another thread: the kernel may wait for a driver.
    pub(super) async fn create(wish: &TunWish) -> io::Result<Self> {
        let TunWish { name, mtu } = wish.clone();
        let made = tokio::task::spawn_blocking(move || make(&name, mtu)).await.map_err(io::Error::other)?;
        let Opened { device, name, offloads } = made?;
        Ok(Self { name, offloads, device: readiness::register(device)? })
    }
}

fn make(name: &str, mtu: u16) -> io::Result<Opened> {
    let opened = open(name)?;
    let name = &opened.name;
    let failed = |error: io::Error| {
        context(&error, error.kind(), format_args!("cannot set up the virtual interface `{name}`"))
    };
    let mut rtnl = Rtnl::open().map_err(failed)?;
    let link =
        rtnl.link(name).map_err(io::Error::from)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    // Before it is up, so that the kernel never sends a router solicitation into it.
    quiet(&mut rtnl, link.index, name);
    rtnl.execute(rtnl::set_mtu(link.index, mtu.into())).map_err(|e| failed(e.into()))?;
    rtnl.execute(rtnl::set_up(link.index)).map_err(|e| failed(e.into()))?;
    Ok(opened)
}

/// A TUN device that was just opened.
pub(super) struct Opened {
    pub device: OwnedFd,
    pub name: String,
    pub offloads: Offloads,
}

/// Opens a TUN device, making it if there is none of that name.
pub(super) fn open(name: &str) -> io::Result<Opened> {
    if name.is_empty() || name.len() > LONGEST_NAME || name.contains(|c: char| c == '/' || c.is_whitespace())
    {
        let text = format!(
            "`{name}` cannot be the name of an interface: 1 to {LONGEST_NAME} bytes, no slash, no space"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    attach(name).map_err(|error| explain(&error, name))
}

fn attach(wanted: &str) -> io::Result<Opened> {
    let device: OwnedFd = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(DEVICE_NODE)?
        .into();
    // SAFETY: an all-zero `ifreq` is a valid one: it holds integers and a union of them.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(wanted.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: the request is an `ifreq` that outlives the call; the kernel reads it and writes the name into it.
    let made = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    let name = request.ifr_name.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
    let name = String::from_utf8(name).map_err(io::Error::other)?;
    let size = HEADER as libc::c_int;
    // SAFETY: the argument is an `int` that outlives the call, which the kernel only reads.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const size) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let offloads = enable(&device);
    Ok(Opened { device, name, offloads })
}

/// Switches on as much as the kernel has: datagrams of UDP at once came with Linux 6.2.
fn enable(device: &OwnedFd) -> Offloads {
    const TCP: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    const UDP: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    let choices = [
        (TCP | UDP, Offloads { checksum: true, tcp: true, udp: true }),
        (TCP, Offloads { checksum: true, tcp: true, udp: false }),
        (libc::TUN_F_CSUM, Offloads { checksum: true, ..Offloads::default() }),
    ];
    let allowed = usize::from(vnet::limit());
    for (flags, offloads) in choices.into_iter().skip(allowed) {
        // SAFETY: this request takes its argument by value.
        if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) } == 0 {
            return offloads;
        }
    }
    tracing::debug!("the virtual interface has no offloads");
    Offloads::default()
}

/// Puts the remedy to an error of opening or making a device.
fn explain(error: &io::Error, name: &str) -> io::Error {
    let errno = error.raw_os_error().map(Errno::from_raw);
    let (kind, remedy) = match errno {
        Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => (
            io::ErrorKind::NotFound,
            format!(
                "{DEVICE_NODE} is missing; load the module with `modprobe tun`, and give a container the device \
                 (`--device {DEVICE_NODE}`)"
            ),
        ),
        Some(Errno::EPERM | Errno::EACCES) if !Path::new(DEVICE_NODE).exists() => {
            (io::ErrorKind::NotFound, format!("{DEVICE_NODE} cannot be reached"))
        }
        Some(Errno::EPERM | Errno::EACCES) => (
            io::ErrorKind::PermissionDenied,
            "run as root or with the capability CAP_NET_ADMIN (for a container: \
             `--cap-add NET_ADMIN --device /dev/net/tun`)"
                .to_owned(),
        ),
        Some(Errno::EBUSY) => (
            io::ErrorKind::AlreadyExists,
            "another program has it, probably another mastd; stop that one or choose another name".to_owned(),
        ),
        Some(Errno::EINVAL) => (
            io::ErrorKind::AlreadyExists,
            "an interface of another type has this name; choose another name or remove that one".to_owned(),
        ),
        _ => (error.kind(), "the system refused".to_owned()),
    };
    context(error, kind, format_args!("cannot make the virtual interface `{name}`: {remedy}"))
}

/// Keeps the kernel from sending anything of its own into the device, and lets it have IPv6 addresses even where
/// they are switched off by default. Best effort: the device works without.
fn quiet(rtnl: &mut Rtnl, index: u32, name: &str) {
    let set =
        |file: &str, value: &str| std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/{file}"), value);
    let generated = rtnl.execute(rtnl::no_generated_addresses(index));
    if let Err(error) = &generated
        && set("addr_gen_mode", "1").is_err()
    {
        tracing::debug!(%error, name, "the kernel may send router solicitations into the virtual interface");
    }
    for (file, value) in [("disable_ipv6", "0"), ("accept_ra", "0"), ("router_solicitations", "0")] {
        if let Err(error) = set(file, value) {
            tracing::debug!(%error, name, file, "setting left as it is");
        }
    }
}

impl Tun for LinuxTun {
    fn name(&self) -> &str {
        &self.name
    }

    async fn readable(&self) -> io::Result<()> {
        self.device.ready(READ_OR_GONE).await.map(drop)
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, Offload)> {
        let mut header = [0; HEADER];
        // One interest at a time: Tokio's `try_io` takes a combined one for none.
        let mut read = |device: &Stable<OwnedFd>| {
            let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(buffer)];
            Ok(readv(device.get(), &mut parts)?)
        };
        let length = match self.device.try_io(Interest::READABLE, &mut read) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.device.try_io(Interest::ERROR, read)?
            }
            other => other?,
        };
        Ok((length.saturating_sub(HEADER), vnet::decode(&header)))
    }

    fn try_send(&self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<()> {
        let v6 = parts.first().and_then(|p| p.first()).is_some_and(|b| b >> 4 == 6);
        let header = vnet::encode(offload, v6);
        let mut all = [IoSlice::new(&[]); 1 + PARTS];
        let count = 1 + parts.len().min(PARTS);
        for (slot, part) in all.iter_mut().zip([IoSlice::new(&header)].iter().chain(parts)) {
            *slot = *part;
        }
        writev(self.device.get_ref().get(), all.get(..count).unwrap_or_default())?;
        Ok(())
    }
}
