//! What this system offers for the conversation: where the service listens, how it is reached, who may change things.
//! Everything of the control API that differs between systems is in this folder.

#[cfg(unix)]
mod access;
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
pub(crate) use socket::connect;
#[cfg(unix)]
pub use socket::{Socket, remove_stale_socket};
