//! What every backend of an operating system must do for the engine, as tests that run against any of them, and a fake
//! system that passes them and serves the tests of the engine.
//!
//! A backend brings a [`World`]: its platform, and what an outsider sees and does on the same host. Then
//! [`declared`](suite::declared) and the other parts of [`suite`] try it. They panic where it falls short.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

pub mod fake;
pub mod suite;
mod world;

pub use world::{Seen, World};
