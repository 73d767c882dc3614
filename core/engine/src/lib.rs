//! Drives the MAST protocol: sockets, timers, virtual interface, WireGuard sessions
pub mod api;
pub mod os;
