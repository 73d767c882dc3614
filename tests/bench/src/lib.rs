//! Benchmarks of real daemons in network namespaces.
//!
//! `failover` measures how long traffic is silent when networks come and go, and for scale what the kernel's
//! Multipath TCP and plain WireGuard do in the same lab. `bonding` measures how much of two links one connection
//! gets, `throughput` how fast the service is beside other tunnels, `idle` what it costs when nothing happens, `scale`
//! what very many peers cost, `switch` what it costs when all of them lose an uplink, and `seal` and `instructions` the
//! work for each packet. How to run them and how to read what they print is in `README.md`.

pub mod accuracy;
pub mod bare;
pub mod bonding;
pub mod chart;
mod course;
pub mod crowd;
pub mod figures;
pub mod mast;
pub mod mptcp;
pub mod packets;
pub mod report;
pub mod sealing;
pub mod setting;
pub mod stream;
pub mod throughput;
pub mod tunnel;
pub mod usage;
pub mod wireguard;

pub use setting::Setting;

use std::net::SocketAddr;
use std::time::Duration;

use mast_stage::{Train, Uplink};

/// Why a run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The stage: the lab or a daemon.
    #[error(transparent)]
    Stage(#[from] mast_stage::StageError),
    /// The system.
    #[error("cannot {what}: {source}")]
    Io {
        /// What failed.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// A program that is run beside.
    #[error("{0}")]
    Program(String),
    /// Something that only this measurement needs is not on this machine.
    #[error("{0}")]
    Missing(String),
}

impl From<mast_netlab::Error> for BenchError {
    fn from(error: mast_netlab::Error) -> Self {
        Self::Stage(error.into())
    }
}

/// The result of everything here.
pub type Result<T, E = BenchError> = std::result::Result<T, E>;

/// What an error of the system is turned into, once it is known what was tried.
pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> BenchError {
    let what = what.into();
    move |source| BenchError::Io { what, source }
}

/// Lets a moment pass that is never quite the same, so that the event may fall anywhere between two packets.
fn drift() {
    let now =
        std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    std::thread::sleep(Duration::from_micros(u64::from(now.subsec_nanos()) % 10_000));
}

/// Packets that the emulator failed to read in time: a run with any says nothing.
pub fn overruns(train: &Train) -> u64 {
    let of = |uplink: &Uplink| {
        let stats = uplink.link.stats();
        stats.a_to_b.overrun + stats.b_to_a.overrun
    };
    of(&train.wifi) + of(&train.cell)
}

/// A host's address in text, and a port.
fn address(host: &str, port: u16) -> Result<SocketAddr> {
    let host = host.parse().map_err(|_| BenchError::Program(format!("{host} is no address")))?;
    Ok(SocketAddr::new(host, port))
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
