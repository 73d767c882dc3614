//! The life of a service: what the system asks of it, and what it tells the system. Everything of the daemon itself that
//! differs between systems is in this folder.

#[cfg(any(windows, test))]
mod events;
#[cfg(target_os = "macos")]
mod iokit;
#[cfg(any(target_os = "macos", test))]
mod power;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::future::Future;
use std::time::Duration;

#[cfg(unix)]
pub use unix::{DEFAULT_CONFIG, DEFAULT_STATE};
#[cfg(unix)]
pub(crate) use unix::{Unix as Native, errors_told, host_name, live, shut_memory};
#[cfg(windows)]
pub use windows::{DEFAULT_CONFIG, DEFAULT_STATE};
#[cfg(windows)]
pub(crate) use windows::{Windows as Native, errors_told, host_name, live, shut_memory};

/// What the system asks of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// To end. Asked again while it ends, to end at once.
    Stop,
    /// To be ready for the machine's sleep: what is not on the disk may be lost.
    Sleep,
    /// To go on after a sleep, or after it was held up: what it knows of the world is old.
    Wake,
}

/// What the service tells the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It serves.
    Ready,
    /// It lives still.
    Alive,
    /// It ends.
    Stopping,
}

/// How a system and a service live together.
pub trait Life: Send + 'static {
    /// Waits until the system asks something. May be cancelled.
    fn asked(&mut self) -> impl Future<Output = Asked> + Send;

    /// Tells the system something; it need not listen.
    fn tell(&self, told: Told);

    /// How often the system wants to hear that the service lives, if at all.
    fn alive_every(&self) -> Option<Duration>;
}
