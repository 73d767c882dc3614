//! Hosts, routers, links and NATs in network namespaces
mod emulator;
mod error;
mod ethtool;
mod host;
mod isolate;
mod lab;
mod link;
mod namespace;
mod nat;
mod netlink;
mod packet;
mod process;
mod profile;
mod random;
mod route;
mod sockopt;
pub mod traffic;
mod wake;

pub use error::{Error, Result};
pub use host::Host;
pub use isolate::{enter, isolated_test, reexec_isolated};
pub use lab::Lab;
pub use link::{Direction, Link};
pub use nat::{Nat, NatKind};
pub use process::{Process, Signal};
pub use profile::{DirectionStats, LinkProfile, LinkStats};
pub use sockopt::set_congestion;
