//! How the service and its user interfaces reach each other: a stream of bytes each way, and who is at the other end.
//!
//! The conversation above needs nothing else of a system. [`crate::native`] has what this system offers.

use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::access::Caller;
pub use crate::native::connect;

/// What comes in.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// What goes out.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A place at which user interfaces reach the service. It is given up when this is dropped.
pub trait Listener: Send + 'static {
    /// Waits for the next user interface. May be cancelled.
    ///
    /// # Errors
    /// When this one could not be had, or nobody could say whose it is; the next may be.
    fn accept(&mut self) -> impl Future<Output = io::Result<Accepted>> + Send;
}

/// A user interface that has come.
pub struct Accepted {
    /// What it says.
    pub reader: Reader,
    /// What it is told.
    pub writer: Writer,
    /// Whose it is, by the word of the system.
    pub caller: Caller,
}
