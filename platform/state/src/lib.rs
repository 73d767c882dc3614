//! The state directory: its lock, the private key, and files that are replaced whole.
//!
//! The directory belongs to one daemon at a time and to its user only. Every file is written whole: after a crash or
//! a power cut it has its old or its new content. What others could have changed is refused.
//!
//! - `unix`: permissions and owners as Unix has them, the key in a file of its own.
//! - `windows`, to come: access control lists, the key under DPAPI.
//! - `macos`, to come: as `unix`, the key in the keychain.

#[cfg(unix)]
mod unix;

#[cfg(unix)]
pub use unix::{StateDir, StateError};
