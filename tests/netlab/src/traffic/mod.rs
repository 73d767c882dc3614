//! Traffic to send through a lab, and what became of it.
//!
//! Everything here uses plain blocking sockets that are opened inside a host, and threads that end
//! when their handle is dropped.

mod echo;
mod file;

use std::time::{Duration, Instant};

pub use echo::{EchoClient, EchoReport, EchoServer};
pub use file::{Download, DownloadReport, FileServer, download};

/// A moment from which on something is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(Instant);

impl Mark {
    /// The present moment.
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// The time since the mark.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
