//! Named pipes, and the users and groups of Windows.

mod access;
mod pipe;
mod security;

pub use access::{Account, user_id};
pub(crate) use access::{is_member, is_own, remedy};
pub use pipe::{DEFAULT_SOCKET, Living, Socket, connect, living, remove_stale_socket};
