//! The desktop app end to end, on real daemons.

#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

mod keys;
mod paths;
mod service;
mod tray;
