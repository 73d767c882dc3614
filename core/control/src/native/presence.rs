//! A service's presence, whatever became of its socket's file: an abstract socket, which the kernel keeps for as long as
//! the service lives, one for each network namespace, as are the routes and rules that the service sets. Who connects
//! is told where the service listens. Only Linux has such sockets; elsewhere nobody is ever found.

use std::path::{Path, PathBuf};

/// The user that the service runs as where it is installed.
#[cfg(target_os = "linux")]
const USER: &str = "mast";

/// A service that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Living {
    /// Its process.
    pub process: u32,
    /// Where it listens.
    pub control: PathBuf,
}

#[cfg(target_os = "linux")]
pub(super) use linux::Presence;
#[cfg(target_os = "linux")]
pub use linux::living;

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsStr;
    use std::io::{self, Read, Write};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::time::Duration;

    use nix::sys::socket::{getsockopt, sockopt};

    use super::{Living, Path, is_service};

    const NAME: &[u8] = b"mast-service";
    /// A service that does not say where it listens for so long is held up; it lives all the same.
    const PATIENCE: Duration = Duration::from_secs(1);

    fn address() -> io::Result<SocketAddr> {
        SocketAddr::from_abstract_name(NAME)
    }

    /// Says that the service lives, until it is dropped.
    pub(in super::super) struct Presence(tokio::net::UnixListener);

    impl Presence {
        /// `None` where another service of this network is present already.
        pub fn new() -> Option<Self> {
            let listener = address().and_then(|address| UnixListener::bind_addr(&address)).ok()?;
            listener.set_nonblocking(true).ok()?;
            tokio::net::UnixListener::from_std(listener).ok().map(Self)
        }

        /// Tells the next who asks where the service listens. May be cancelled.
        pub async fn answer(&self, control: &Path) {
            let Ok((stream, _)) = self.0.accept().await else {
                // Not again at once: the system has no descriptors left.
                tokio::time::sleep(PATIENCE).await;
                return;
            };
            // It is less than what the system keeps of anything; whoever asked may have gone.
            let _ = stream.into_std().and_then(|mut stream| stream.write_all(control.as_os_str().as_bytes()));
        }
    }

    /// The service that lives in this network namespace. One of another user than root, the service's own and this one
    /// is none: anybody may take the name.
    pub fn living() -> Option<Living> {
        let mut stream = address().and_then(|address| UnixStream::connect_addr(&address)).ok()?;
        let holder = getsockopt(&stream, sockopt::PeerCredentials).ok()?;
        if holder.uid() != 0 && holder.uid() != nix::unistd::geteuid().as_raw() && !is_service(holder.uid()) {
            return None;
        }
        let mut control = Vec::new();
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        // What came until then counts.
        let _ = Read::by_ref(&mut stream).take(4096).read_to_end(&mut control);
        Some(Living {
            process: u32::try_from(holder.pid()).unwrap_or_default(),
            control: OsStr::from_bytes(&control).into(),
        })
    }
}

/// Whether it is the user that the service runs as where it is installed.
#[cfg(target_os = "linux")]
fn is_service(uid: u32) -> bool {
    let user = nix::unistd::User::from_name(USER);
    user.is_ok_and(|user| user.is_some_and(|user| user.uid.as_raw() == uid))
}

#[cfg(not(target_os = "linux"))]
pub(super) struct Presence;

#[cfg(not(target_os = "linux"))]
impl Presence {
    pub fn new() -> Option<Self> {
        None
    }

    pub async fn answer(&self, _: &Path) {
        std::future::pending().await
    }
}

/// The service that lives in this network: it cannot be found out on this system.
#[cfg(not(target_os = "linux"))]
pub fn living() -> Option<Living> {
    None
}
