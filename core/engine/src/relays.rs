//! Relays (RFC 8656): other ways for datagrams of a path than a socket of this host.
//!
//! What a relay is, and how it is spoken with, is its owner's: here it is a link that takes datagrams for peers and gives
//! theirs, and an address that is this host's there. Losing one is losing an address.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use mast_proto::{InterfaceId, PathKey, RelayId, Relayed, Via, is_eid};

use crate::api::EngineError;
use crate::engine::Engine;
use crate::os::{Arrival, Family, Platform};
use crate::sockets::Sent;

/// The most relays at a time.
const MOST: usize = 16;

/// The way to a relay and back. It is dropped when the engine has no more use for it.
pub trait RelayLink: Send + 'static {
    /// Ready when [`RelayLink::receive`] has something.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    /// A datagram that came, and from whom, as the relay sees the sender.
    fn receive(&mut self) -> Option<(SocketAddr, Vec<u8>)>;
    /// Sends a datagram to whom the relay knows by this address. `false`: there is no room, and it is lost.
    fn send(&mut self, to: SocketAddr, payload: &[u8]) -> bool;
}

struct Relay {
    interface: InterfaceId,
    name: String,
    relayed: Relayed,
    link: Box<dyn RelayLink>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Relays {
    /// Locked by nobody else than the engine: it is polled where it is only lent.
    all: Mutex<Vec<Relay>>,
    /// The latest number.
    latest: Option<RelayId>,
}

impl Relays {
    fn all(&mut self) -> &mut Vec<Relay> {
        self.all.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn len(&mut self) -> usize {
        self.all().len()
    }

    pub fn is_empty(&mut self) -> bool {
        self.all().is_empty()
    }

    /// Takes one; its number, which no other has had for long.
    fn add(
        &mut self,
        interface: InterfaceId,
        name: String,
        local: IpAddr,
        at: SocketAddr,
        link: Box<dyn RelayLink>,
    ) -> Option<RelayId> {
        if self.len() >= MOST {
            return None;
        }
        // The next one, so that what is on its way is not taken for another's; there are always some free.
        let mut number = self.latest.map_or(RelayId::FIRST, RelayId::next);
        while self.all().iter().any(|relay| relay.relayed.number == number) {
            number = number.next();
        }
        self.latest = Some(number);
        self.all().push(Relay { interface, name, relayed: Relayed { number, local, at }, link });
        Some(number)
    }

    /// Lets one go; whether there was one of that number.
    fn remove(&mut self, number: RelayId) -> bool {
        let before = self.len();
        self.all().retain(|relay| relay.relayed.number != number);
        self.len() < before
    }

    /// What each interface has at relays.
    fn relayed(&mut self) -> Vec<(InterfaceId, String, Relayed)> {
        self.all().iter().map(|relay| (relay.interface, relay.name.clone(), relay.relayed)).collect()
    }

    /// Ready when any may have something.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ready = Poll::Pending;
        for relay in all.iter_mut() {
            if relay.link.poll_readable(cx).is_ready() {
                ready = Poll::Ready(());
            }
        }
        ready
    }

    /// A datagram of one, if it has any, and the path it came over.
    pub fn receive(&mut self, at: usize, buffer: &mut [u8]) -> Option<(Arrival, PathKey)> {
        let relay = self.all().get_mut(at)?;
        loop {
            let (remote, payload) = relay.link.receive()?;
            let Some(room) = buffer.get_mut(..payload.len()) else { continue };
            room.copy_from_slice(&payload);
            let Relayed { number, local, .. } = relay.relayed;
            let arrival = Arrival {
                length: payload.len(),
                stride: payload.len(),
                remote,
                local: Some(local),
                class: 0,
            };
            let path = PathKey { via: Via::Relay(number), ..PathKey::direct(relay.interface, local, remote) };
            return Some((arrival, path));
        }
    }

    /// Sends datagrams of `stride` bytes each over a path through one.
    pub fn send_run(&mut self, path: PathKey, number: RelayId, stride: usize, payload: &[u8]) -> Sent {
        let Some(relay) = self.all().iter_mut().find(|relay| relay.relayed.number == number) else {
            return Sent::Lost("no_relay");
        };
        let chunks = payload.chunks(stride.max(1));
        let (count, mut sent) = (chunks.len(), 0);
        for datagram in chunks {
            sent += usize::from(relay.link.send(path.remote, datagram));
        }
        match sent {
            0 => Sent::Lost("relay_full"),
            sent if sent < count => Sent::Partly(sent),
            _ => Sent::Yes,
        }
    }
}

impl<P: Platform> Engine<P> {
    /// A relay is there, reached over an interface.
    pub(crate) fn add_relay(
        &mut self,
        now: Instant,
        interface: &str,
        at: SocketAddr,
        link: Box<dyn RelayLink>,
    ) -> Result<RelayId, EngineError> {
        let found = self.uplinks.interfaces().iter().find(|i| i.name == interface && i.usable);
        // To a peer that relays it is all the same from where.
        let fits = |own: &IpAddr| is_eid(at.ip()) || Family::of(*own) == Family::of(at.ip());
        let local = found.and_then(|i| i.addresses.iter().copied().find(fits));
        let (Some(found), Some(local)) = (found, local) else {
            let known = self.uplinks.interfaces().iter().map(|i| i.name.clone()).collect();
            return Err(EngineError::NoInterface { name: interface.to_owned(), known });
        };
        let (id, name) = (found.id, found.name.clone());
        let number = self
            .net
            .sockets
            .relays
            .add(id, name, local, at, link)
            .ok_or(EngineError::TooManyRelays { most: MOST })?;
        self.relays_changed(now);
        Ok(number)
    }

    /// A relay is gone.
    pub(crate) fn remove_relay(&mut self, now: Instant, number: RelayId) {
        if self.net.sockets.relays.remove(number) {
            self.relays_changed(now);
        }
    }

    fn relays_changed(&mut self, now: Instant) {
        if self.uplinks.relay(self.net.sockets.relays.relayed()) {
            self.tell_interfaces(now);
        }
    }
}
