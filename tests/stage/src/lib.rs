//! A train, a server, and two real daemons: what the demonstration, the end-to-end tests and the benchmarks share.
//!
//! ```text
//!            wifi 10.1.0.2                 10.1.0.1
//!          ┌──────────── delay, rate ──────────── isp-wifi ─┐
//!  laptop ─┤                                                core ── server eth0 10.9.0.2
//!          └──────────── delay, rate ──────────── isp-cell ─┘
//!            cell 10.2.0.2                 10.2.0.1
//! ```
//!
//! And the same in IPv6, unless told otherwise: `2001:db8:1::2` beside `10.1.0.2`, and so on.

mod addressing;
mod daemon;
mod fade;
mod train;
mod uplink;

pub use addressing::{Addressing, Net};
pub use daemon::{Daemon, Program};
pub use fade::Fade;
pub use train::{Train, TrainProfile};
pub use uplink::{Uplink, UplinkProfile};

/// Why the stage could not be set, or a daemon did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] mast_netlab::Error),
    /// A daemon refused, or its control socket failed.
    #[error("{daemon}: {source}")]
    Control {
        /// Which one.
        daemon: String,
        /// What it said.
        source: mast_control::ClientError,
    },
    /// The system.
    #[error("cannot {what}: {source}")]
    Io {
        /// What failed.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// Something that should have happened did not.
    #[error("{0}")]
    Late(String),
}

/// The result of everything here.
pub type Result<T, E = StageError> = std::result::Result<T, E>;

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> StageError {
    let what = what.into();
    move |source| StageError::Io { what, source }
}
