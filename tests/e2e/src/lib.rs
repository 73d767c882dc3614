//! What the end-to-end tests of real daemons share.
//!
//! A test runs inside [`lab`], sets a [`Scene`] (or builds its own network), lets a [`Session`] run through the
//! tunnel, does something to the network, and looks at what the session noticed and at what the daemons say.
//! Everything here panics where it fails, with what is needed to see why.

#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

pub mod anywhere;
mod cli;
mod leaks;
mod proc;
mod rogue;
mod scene;
mod session;
mod stream;
mod tap;
mod twin;

pub use cli::{Answer, mast, mast_reading};
pub use leaks::{Programs, Watch, prefer, read_all};
pub use proc::{cpu_time, has_interface, resident_bytes};
pub use rogue::{Bystander, Rogue, udp_v6};
pub use scene::{Scene, active, events, has_moved, ip, mast_program, pair, remote, sends_to, told};
pub use session::{Notice, Session};
pub use stream::{Stream, StreamServer};
pub use tap::{Tap, raw_datagram, send_raw};
pub use twin::Twin;

use std::time::{Duration, Instant};

/// No move between networks may cost more silence than this. A tenth is usual; only a defect takes so long.
pub const GAP: Duration = Duration::from_millis(1500);
/// How long a daemon may take to do something at all.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Each of these functions is a test three times: with both versions of IP, and with each alone, which is what it is
/// called with. The tests are `NAME::both`, `NAME::v4` and `NAME::v6`.
#[macro_export]
macro_rules! each_addressing {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use mast_stage::Addressing;

            #[test]
            fn both() {
                $crate::lab(|| super::$test(Addressing::Both));
            }

            #[test]
            fn v4() {
                $crate::lab(|| super::$test(Addressing::V4));
            }

            #[test]
            fn v6() {
                $crate::lab(|| super::$test(Addressing::V6));
            }
        }
    )+};
}

/// Runs a test that builds networks, as root or not. The closure must be written in the test function itself: the
/// test's name is taken from it.
pub fn lab<T: FnOnce()>(test: T) {
    let name = std::any::type_name::<T>();
    let name = name.trim_end_matches("::{{closure}}");
    let name = name.split_once("::").map_or(name, |(_, rest)| rest);
    mast_netlab::isolated_test(name, test);
}

/// Waits until something is so.
///
/// # Panics
/// When it takes too long.
pub fn within(limit: Duration, what: &str, mut so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    start.elapsed()
}

/// Lets time pass.
pub fn sleep(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}
