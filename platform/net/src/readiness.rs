//! Lets Tokio report when a descriptor can be read.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Something with a descriptor that is the same for as long as it lives, and that is lent out by shared reference
/// only, so that nobody can put another in its place.
#[derive(Debug)]
pub(crate) struct Stable<T>(T);

impl<T> Stable<T> {
    #[cfg(target_os = "linux")]
    pub(crate) fn new(inner: T) -> Self {
        Self(inner)
    }

    pub(crate) fn get(&self) -> &T {
        &self.0
    }
}

impl<T: AsFd> AsRawFd for Stable<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// What is waited for: something to read, or the end of the thing behind the descriptor, which the kernel tells as an
/// error.
pub(crate) const READ_OR_GONE: Interest = Interest::READABLE.add(Interest::ERROR);

/// Registers something for reading with the runtime that is running.
pub(crate) fn register<T: AsFd>(inner: T) -> io::Result<AsyncFd<Stable<T>>> {
    // SAFETY: `AsFd` proves that the descriptor is open and owned by `inner`, `Stable` keeps it from being exchanged,
    // and `AsyncFd` deregisters it before it drops `inner`.
    Ok(unsafe { AsyncFd::register_with_interest(Stable(inner), READ_OR_GONE) }?)
}
