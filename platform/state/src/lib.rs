//! The state directory: its lock, the private key, files that are replaced whole, and journals that are added to.
//!
//! The directory belongs to one daemon at a time and to its user only. After a crash or a power cut a file has its
//! old or its new content, and a journal holds a record whole or not at all. What others could have changed is refused.
//!
//! - `unix`: permissions and owners as Unix has them, the key in a file of its own.
//! - `windows`: access control lists, the key sealed by DPAPI for the service's account.
//! - `macos`, to come: as `unix`, the key in the keychain.

mod dir;
mod journal;
#[cfg(unix)]
#[path = "unix.rs"]
mod native;
#[cfg(windows)]
#[path = "windows.rs"]
mod native;
mod secret;

pub use dir::{StateDir, StateError, open_private, read_secret, seal, unseal};
pub use journal::{Journal, Lines};

pub use secret::Secret;

/// Tells one content from another: 16 bytes of its SHA-256, in hexadecimal.
pub fn fingerprint(content: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, content);
    digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
