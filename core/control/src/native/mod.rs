//! What this system offers for the conversation: where the service listens, how it is reached, who may change things.
//! Everything of the control API that differs between systems is in this folder.

#[cfg(unix)]
mod access;
#[cfg(unix)]
mod groups;
#[cfg(unix)]
mod look;
#[cfg(unix)]
mod presence;
#[cfg(unix)]
mod socket;

#[cfg(unix)]
pub use access::user_id;
#[cfg(unix)]
pub(crate) use access::{Account, is_member, is_own, remedy};
#[cfg(unix)]
pub use presence::{Living, living};
#[cfg(unix)]
pub use socket::{DEFAULT_SOCKET, Socket, connect, remove_stale_socket};
#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub use windows::{Account, DEFAULT_SOCKET, Living, Socket, connect, living, remove_stale_socket, user_id};
#[cfg(windows)]
pub(crate) use windows::{is_member, is_own, remedy};

/// How the service is started, how one becomes an administrator, and where the service's log is.
#[cfg(all(unix, not(target_vendor = "apple")))]
pub(crate) const START: &str = "`sudo systemctl start mastd` or `sudo mastd`";
#[cfg(target_vendor = "apple")]
pub(crate) const START: &str = "`sudo launchctl kickstart system/org.mast.mastd` or `sudo mastd`";
#[cfg(unix)]
pub(crate) const RAISE: &str = "run with sudo";
#[cfg(all(unix, not(target_vendor = "apple")))]
pub(crate) const LOG: &str = "`journalctl -u mastd`";
#[cfg(target_vendor = "apple")]
pub(crate) const LOG: &str = "/Library/Logs/MAST/mastd.log";
#[cfg(windows)]
pub(crate) const START: &str = "`sc start mastd` as administrator";
#[cfg(windows)]
pub(crate) const RAISE: &str = "run as administrator";
#[cfg(windows)]
pub(crate) const LOG: &str = r"C:\ProgramData\MAST\mastd.log";
