//! The MAST protocol as a sans-IO state machine: sessions that outlive their network.
//!
//! # The idea
//!
//! TCP and UDP know their ends by IP address, so they die when a laptop moves to another network. Here they bind to
//! *endpoint identifiers* (EIDs) instead: addresses of a virtual interface, private to two hosts, that never change.
//! Underneath, one [`Context`] per host pair knows the addresses of both ends, keeps a *path* for each useful
//! combination of a local interface and a remote address validated and measured, and sends each datagram over the
//! path that the [`Policy`] picks. When a path dies, the next one is already known to work.
//!
//! `core/PROTOCOL.md` is the specification: bytes, rules, timers, threats. This page tells how the crate is used and read.
//!
//! # Who owns what
//!
//! This crate owns decisions and keys, and nothing else: no socket, no clock, no thread, no randomness of its own. The owner
//! of a context (`mast-engine`, or a test) owns sockets, time and WireGuard, tells what happened, and asks what to do:
//!
//! | the owner tells | the owner asks |
//! |---|---|
//! | [`handle_datagram`](Context::handle_datagram): this came over that path | [`poll_transmit`](Context::poll_transmit): what to send, over which path |
//! | [`seal_data`](Context::seal_data): the host wants to send this | [`poll_event`](Context::poll_event): what is worth telling a user |
//! | [`handle_interfaces`](Context::handle_interfaces): the interfaces are now these | [`poll_timeout`](Context::poll_timeout): when to come back |
//! | [`secure_up`](Context::secure_up), [`handle_secure`](Context::handle_secure): WireGuard completed a handshake, or opened a message | |
//! | [`handle_send_error`](Context::handle_send_error): the system refused that | |
//! | [`handle_timeout`](Context::handle_timeout): it is now so late | [`poll_deliver`](Context::poll_deliver): what came early and has its turn now |
//!
//! After each call of the left column the owner drains the right one. Because time and the seed of [`Random`] are
//! arguments, whole networks of contexts run in one thread, repeatably (`tests/simulation`).
//!
//! # First contact
//!
//! ```text
//! laptop                    owner ~ network ~ owner                     server
//!   │ connect                                                              │
//!   ├─ Transmit::Contact ──► WireGuard handshake, raced over all paths ──► │
//!   │ ◄── secure_up(Initiator)                         secure_up(Target) ─►│
//!   ├─ Transmit::Secure: INIT ──────────────────────────► handle_secure ──►│ derives the keys
//!   │ ◄── handle_secure ◄────────────────────────────────── INIT-ACK ──────┤
//!   │ derives the keys; Event::Established                                 │ Event::Established
//!   ├─ PROBE, SET, and what was held ───────────────► handle_datagram ────►│ seals with the epoch now
//!   │ ◄──────────────────────────────────── PROBE-ACK, SET-ACK, SET ───────┤
//! ```
//!
//! # A failover
//!
//! ```text
//! laptop                                                                server
//!   ├─ data over Wi-Fi ──────────────────── × (a router died in silence)
//!   │ nothing heard for a round trip and 32 ms: suspect
//!   ├─ PROBE ×3 over Wi-Fi ───────────────── ×
//!   ├─ PROBE over cellular ──────────────────────────────────────────────►│
//!   ├─ data over Wi-Fi ×, and a copy over cellular ──────────────────────►│ arrives
//!   │ ◄───────────────────────────────────────── PROBE-ACK over cellular ─┤
//!   │ another round trip without a word over Wi-Fi: failed; Event::Switched
//!   ├─ SET: reach me at my cellular address; data ───────────────────────►│ follows
//! ```
//!
//! # Two contexts in memory
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::Instant;
//! use mast_proto::wire::EidPair;
//! use mast_proto::*;
//!
//! /// Everything is free on these hosts.
//! struct Free;
//! impl EidBook for Free {
//!     fn is_free(&self, _: EidPair) -> bool { true }
//!     fn propose(&mut self) -> Option<EidPair> { Some(EidPool::default().pick(1, true)) }
//! }
//!
//! let now = Instant::now();
//! let address = |host: usize| SocketAddr::from(([192, 0, 2, host as u8 + 1], 6278));
//! let path = |to: usize| PathKey::direct(InterfaceId(1), address(1 - to).ip(), address(to));
//! let mut hosts: Vec<Context> = (0..2).map(|host| {
//!     let config = ContextConfig {
//!         indices: IndexKey::new([host as u8; 32]).indices(1), instance: host as u64, lower: host == 0,
//!         name: format!("host {host}"), aeads: vec![Aead::ChaCha20Poly1305],
//!         eid_v6: eid_v6(&[host as u8; 32]), eid_v4: None, port: 6278,
//!         expect: Some(PeerKind::Mast), disclosure: Disclosure::default(), policy: Policy::Auto, hold: HoldLimits::default(),
//!         seed: [host as u8; 32], // from the operating system, anywhere but here
//!     };
//!     let mut context = Context::new(config, now);
//!     context.handle_interfaces(now, [Interface {
//!         id: InterfaceId(1), name: "eth0".into(), kind: InterfaceKind::Ethernet, network: None,
//!         metered: false, addresses: vec![address(host).ip()], link_local: None, usable: true,
//!         outlook: Default::default(),
//!         relayed: Vec::new(),
//!         reflexive: Vec::new(),
//!     }].into());
//!     context
//! }).collect();
//! hosts[0].set_addresses(now, AddressSource::Configuration, [address(1)]);
//! hosts[0].connect(now);
//!
//! // A network without delay, and a WireGuard that always says yes. Returns what arrives for the host's own stack.
//! let mut run = |hosts: &mut Vec<Context>| {
//!     let mut arrived = Vec::new();
//!     while let Some((from, transmit)) = (0..2).find_map(|h| Some((h, hosts[h].poll_transmit(now)?))) {
//!         let to = 1 - from;
//!         match transmit {
//!             Transmit::Contact { .. } => {
//!                 hosts[to].secure_up(now, path(from), Role::Target, true);
//!                 hosts[from].secure_up(now, path(to), Role::Initiator, true);
//!             }
//!             Transmit::Keepalive { .. } => {}
//!             Transmit::Secure { payload, .. } => hosts[to].handle_secure(now, path(from), &payload, &mut Free),
//!             Transmit::Datagram { mut payload, .. } => {
//!                 if let Received::Data(range, _) = hosts[to].handle_datagram(now, path(from), &mut payload) {
//!                     arrived.push(payload[range].to_vec());
//!                 }
//!             }
//!         }
//!     }
//!     arrived
//! };
//!
//! // The first datagram is held until there is a path, and goes out with it.
//! let mut frame = [&[0; DATA_HEADROOM][..], b"an IP datagram", &[0; DATA_TAILROOM]].concat();
//! assert_eq!(hosts[0].seal_data(now, &mut frame, wire::Flags::NONE), Outgoing::Held);
//! assert_eq!(run(&mut hosts), [b"an IP datagram"]);
//! assert!(hosts.iter().all(|h| h.state(now) == PeerState::Connected));
//! ```
//!
//! # Where to read
//!
//! [`wire`] (header and messages) and `crypto` (keys, windows) are leaves; `eid`, `estimate`, `fitness`, `hold`, `interface`, `recent`,
//! `resequence`, `pacer`, `pmtu` and `policy` are one idea each. Then `context`: `mod` (what there is) and its parts that
//! own their state, `peer` (the other end), `locals` (this end), `remotes`, `links`, `path`, `epoch`, `keys`, `outflow`;
//! [`timing`] (every duration) and `timers` (everything that can be due); then what happens: `contact`, `agreement`, `control`,
//! `liveness`, `mtu`, `select`, `data`, `redundant`, `bonded`.
mod context;
mod crypto;
mod disclosure;
mod eid;
mod estimate;
mod fitness;
mod hold;
mod interface;
mod pacer;
mod pmtu;
mod policy;
mod recent;
mod resequence;
pub mod wire;

pub use context::*;
pub use crypto::{
    Aead, EpochKeys, IndexKey, Indices, Random, Replay, ReplayWindow, Role, SealError, SequenceWindow,
    TAG_LEN,
};
pub use disclosure::{AddressesTold, Disclosure, is_public};
pub use eid::{EID_V6_PREFIX, EidBook, EidPool, eid_v6, is_eid};
pub use fitness::{Ailment, Fitness};
pub use hold::{Hold, HoldLimits};
pub use interface::{Interface, InterfaceId, InterfaceKind, Outlook, RelayId, Relayed};
pub use policy::{Advantage, Merit, Policy, Selector};
