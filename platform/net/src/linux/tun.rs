//! The TUN device.

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ::tun::{Configuration, Device};
use mast_engine::os::{Tun, VirtualNetwork};
use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::configure::Configurator;
use super::context;
use super::readiness::{self, READ_OR_GONE, Stable};
use super::rtnl::Rtnl;

/// The device through which TUN devices are made.
pub(super) const DEVICE_NODE: &str = "/dev/net/tun";
/// The kernel's limit, without the terminating zero.
const LONGEST_NAME: usize = 15;

/// A TUN device. It goes, with its addresses and routes, when this is dropped.
pub struct LinuxTun {
    name: String,
    device: AsyncFd<Stable<OwnedFd>>,
    configurator: Arc<Mutex<Configurator>>,
}

impl std::fmt::Debug for LinuxTun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinuxTun").field("name", &self.name).finish_non_exhaustive()
    }
}

impl LinuxTun {
    pub(super) fn create(name: &str, mtu: u16) -> io::Result<Self> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(io::Error::other("a virtual interface can only be made within a Tokio runtime"));
        }
        let device = open(name)?;
        let name = ::tun::AbstractDevice::tun_name(&device)?;
        device.set_nonblock()?;
        let failed = |error: io::Error| {
            context(&error, error.kind(), format_args!("cannot set up the virtual interface `{name}`"))
        };
        let mut rtnl = Rtnl::open().map_err(failed)?;
        let link = rtnl
            .link(&name)
            .map_err(io::Error::from)?
            .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        // Before it is up, so that the kernel never sends a router solicitation into it.
        quiet(&mut rtnl, link.index, &name);
        rtnl.set_mtu(link.index, mtu.into()).map_err(|e| failed(e.into()))?;
        rtnl.set_up(link.index).map_err(|e| failed(e.into()))?;
        let device = readiness::register(into_descriptor(device))?;
        let configurator = Arc::new(Mutex::new(Configurator::new(rtnl, link.index, name.clone())));
        Ok(Self { name, device, configurator })
    }
}

/// Opens a TUN device, making it if there is none of that name.
pub(super) fn open(name: &str) -> io::Result<Device> {
    if name.is_empty() || name.len() > LONGEST_NAME || name.contains(|c: char| c == '/' || c.is_whitespace())
    {
        let text = format!(
            "`{name}` cannot be the name of an interface: 1 to {LONGEST_NAME} bytes, no slash, no space"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut configuration = Configuration::default();
    configuration.tun_name(name);
    // MTU and state are set through netlink.
    configuration.platform_config(|linux| {
        linux.ensure_root_privileges(false);
    });
    Device::new(&configuration).map_err(|error| explain(&error.into(), name))
}

/// The descriptor alone: datagrams need nothing else of the device.
fn into_descriptor(device: Device) -> OwnedFd {
    // SAFETY: `into_raw_fd` gives up the descriptor, which is open, to its caller: nobody else closes it.
    unsafe { OwnedFd::from_raw_fd(device.into_raw_fd()) }
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
    let generated = rtnl.no_generated_addresses(index);
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

    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // One interest at a time: Tokio's `try_io` takes a combined one for none.
        let mut read = |device: &Stable<OwnedFd>| Ok(nix::unistd::read(device.get(), buffer)?);
        match self.device.try_io(Interest::READABLE, &mut read) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.device.try_io(Interest::ERROR, read)
            }
            other => other,
        }
    }

    fn try_send(&self, datagram: &[u8]) -> io::Result<usize> {
        Ok(nix::unistd::write(self.device.get_ref().get(), datagram)?)
    }

    /// What the system lost meanwhile, as when somebody took the interface down, is set again. The work is done by
    /// another thread and completed even if the future is dropped.
    async fn configure(&self, network: &VirtualNetwork) -> io::Result<()> {
        let configurator = Arc::clone(&self.configurator);
        let network = network.clone();
        let work = move || configurator.lock().unwrap_or_else(PoisonError::into_inner).configure(&network);
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }
}
