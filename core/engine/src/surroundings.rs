//! What the service asks of a system beside the tunnel itself: what is in the way, what goes through it, what a dead
//! predecessor left.

use std::io;
use std::net::IpAddr;

/// One thing that MAST needs of the host, and whether it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was checked, as a short stable word such as `tun-device`.
    pub name: &'static str,
    /// Whether it is as MAST needs it.
    pub ok: bool,
    /// What was found; when not ok, also what to do about it.
    pub explanation: String,
}

impl Check {
    /// It is as MAST needs it.
    pub fn pass(name: &'static str, explanation: impl Into<String>) -> Self {
        Self { name, ok: true, explanation: explanation.into() }
    }

    /// It is not.
    pub fn fail(name: &'static str, explanation: impl Into<String>) -> Self {
        Self { name, ok: false, explanation: explanation.into() }
    }
}

/// A system, as far as it surrounds the tunnel. The calls may block.
pub trait Surroundings: Send + Sync + 'static {
    /// Checks whether the host, as seen by this process, has what MAST needs, and what makes it quick. Changes nothing
    /// that lasts.
    fn checks(&self) -> Vec<Check>;

    /// How many connections of this host have one of these local or one of these remote addresses now; as many as can
    /// be told.
    fn sessions(&self, local: &[IpAddr], remote: &[IpAddr]) -> usize;

    /// Removes the virtual interface of this name if it outlived its process, and returns what was removed, as
    /// sentences. One that is in use, or of another kind, is left alone. What else a dead service left, such as leak
    /// protection, the [`Reconciler`](crate::Reconciler) finds.
    ///
    /// # Errors
    /// When the system cannot be asked, or refuses.
    fn clear_leftovers(&self, interface: &str) -> io::Result<Vec<String>>;
}
