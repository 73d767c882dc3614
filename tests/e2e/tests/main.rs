//! Real daemons in network namespaces. Needs `mast`, built with the same profile: `cargo build --release`.

#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

mod attacks;
mod datapath;
mod dns;
mod doctor;
mod endpoints;
mod failover;
mod hang;
mod hostile;
mod idle;
mod lan;
mod leaks;
mod links;
mod matrix;
mod modes;
mod mtu;
mod outside;
mod peers;
mod pool;
mod presence;
mod rebinding;
mod relays;
mod scenarios;
mod service;
mod told;
mod users;
mod wireguard;
