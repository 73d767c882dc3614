//! A network of MAST endpoints in virtual time, in one thread, from a seed.
//!
//! Real [`Context`]s of `core/proto` talk over interfaces with delay, jitter (and so reordering), loss,
//! duplication and NATs; interfaces go down, move, and fall silent; hosts restart. WireGuard is replaced by frames
//! that behave like its handshake: the target answers the first copy of an initiation and ignores the others.
//!
//! ```
//! use mast_simulation::{Access, World, ms};
//! let mut world = World::new(7);
//! let laptop = world.host(&[Access::new("wifi", ms(20)), Access::new("cell", ms(30)).metered()]);
//! let server = world.host(&[Access::new("eth0", ms(0))]);
//! world.introduce(laptop, server);
//! world.run(ms(1_000));
//! world.echo(laptop, server, ms(10));
//! world.run(ms(2_000));
//! world.set_up(laptop, "wifi", false);
//! world.run(ms(2_000));
//! assert!(world.echo_report(laptop, server).longest_gap < ms(200));
//! ```

mod bulk;
mod crowd;
mod network;
mod traffic;
pub mod wireguard;
mod world;

pub use bulk::BulkReport;
pub use crowd::Crowd;
pub use network::{Access, Rng};
pub use traffic::EchoReport;
pub use world::{HostId, World};

use std::time::Duration;

/// Milliseconds.
pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
