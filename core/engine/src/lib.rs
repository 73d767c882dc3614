//! Drives the MAST protocol: sockets, timers, virtual interface, WireGuard sessions.
//!
//! [`Engine::start`] spawns one task that owns everything. It waits for the interfaces to change, for a command, for
//! a timer, for a datagram; does what follows; and then sends and tells what the contexts it touched have to send
//! and to tell. There are no locks, and nothing else runs. The protocol itself is `mast-proto`; what differs between
//! operating systems is behind the traits of [`os`].
//!
//! # The road of one datagram out
//!
//! 1. `outward` reads it from the virtual interface into the frame buffer, behind room for the headers.
//! 2. `routing` finds the peer by the destination.
//! 3. The context seals the frame in place and names the path. With no path it holds the datagram; where it does not
//!    fit, `icmp` answers the host. To a plain WireGuard peer, `wireguard` seals it instead.
//! 4. `sockets` sends the frame from the socket bound to the path's interface. What the system cannot take is lost,
//!    as on any link; an error that tells of the path goes to the context.
//!
//! # The road of one datagram in
//!
//! 1. `inward` reads it from a socket into the receive buffer. The first byte tells MAST from WireGuard.
//! 2. MAST: the index in the header names the peer, whose context opens the datagram in place.
//!    WireGuard: the index names the session; an initiation is opened far enough to tell the sender's key (`sessions`).
//! 3. `routing` checks that the source is the peer's and the destination this host's own.
//! 4. It is written to the virtual interface.
//!
//! Up to 64 datagrams of each source are taken at a time. Nothing on these roads allocates, but for plain WireGuard.
//!
//! # Who does what
//!
//! | file | idea |
//! |---|---|
//! | `engine` | the task: what it waits for, and what follows |
//! | `peers`, `peer`, `directory`, `due` | all peers: how they are found, and who is to be looked at |
//! | `uplinks`, `choices` | the interfaces: what the system tells of them, and what the user chose |
//! | `settle` | what contexts have to send and to tell |
//! | `road`, `outward`, `inward`, `outbox`, `routing`, `icmp`, `inner` | the roads above |
//! | `segment`, `coalesce` | frames of many datagrams: cut on the way out, put together on the way in |
//! | `checksum`, `ecn` | partial checksums; traffic class and congestion marks |
//! | `clamp` | the segment size that TCP connections through the tunnel agree on |
//! | `tunnel` | the virtual interface: that it is there |
//! | `upkeep`, `declared`, `reconcile` | what is set on the host: addresses, routes, leak protection |
//! | `addresses` | where a peer may be reached, by source |
//! | `reach` | whether a peer can be reached at an address, and why not |
//! | `sockets` | one UDP socket per interface and family |
//! | `sessions`, `wireguard` | WireGuard messages and sessions |
//! | `eid_book` | IPv4 EIDs of all contexts together |
//! | `invite`, `pairing`, `meet` | links, the two halves of a pairing, and all pairings of this host |
//! | `mirror` | answers in a peer's stead: whether the host's own programs get them |
//! | `segments` | whether what leaves with one call arrives |
//! | `drill`, `drill_steps` | taking paths away, to see what happens |
//! | `commands`, `handle` | what the service asks |
//! | `story`, `tidings`, `counters` | what is told of it all |
//! | `fuzzing` | what `tests/fuzz` calls of all this |
//!
//! # What must be kept
//!
//! The engine writes nothing to disk. Whatever must survive a restart comes as [`api::Change`].

mod addresses;
pub mod checksum;
mod choices;
mod clamp;
mod coalesce;
mod commands;
mod counters;
mod directory;
mod drill;
mod drill_steps;
mod due;
mod ecn;
mod eid_book;
mod engine;
mod filtering;
mod handle;
mod icmp;
mod inner;
mod invite;
mod inward;
mod lane;
mod measuring;
mod meet;
pub mod mirror;
mod name;
#[cfg(test)]
mod noise_tests;
mod outbox;
pub(crate) mod outside;
mod outward;
mod pair;
mod pairing;
mod peer;
mod peers;
mod reconcile;
mod relays;
mod road;
mod routing;
mod segment;
mod segments;
mod sessions;
mod settle;
mod sockets;
mod story;
mod tidings;
mod traffic;
mod tunnel;
mod upkeep;
mod uplinks;
mod wireguard;

pub mod api;
pub mod declared;
#[doc(hidden)]
pub mod fuzzing;
pub mod nat64;
pub mod os;
pub mod reach;
pub mod surroundings;

pub use engine::Engine;
pub use handle::{Choose, Disclose, EngineHandle, Invite, NewPeer};
#[cfg(feature = "measuring")]
pub use measuring::Measure;
pub use reconcile::{Outcome, Part, Reconciler, Refusal, Subject};
pub use relays::RelayLink;
pub use tidings::{Heard, Reader, Tidings};
