//! This end: its interfaces, the addresses that paths start from, and how interfaces fared before they went.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::path::Path;
use super::{PathKey, Via};
use crate::interface::{Interface, InterfaceId, RelayId};
use crate::wire::{AddressId, MAX_ADDRESSES};

/// One of this host's addresses and its number.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnAddress {
    pub id: AddressId,
    pub interface: InterfaceId,
    /// The interface's number as a link, as SET tells it.
    pub link: u8,
    pub ip: IpAddr,
    /// The relay that has it: then the address that is told is the one there, and the other only leads to the relay.
    pub relay: Option<RelayId>,
    /// How the other end sees it, where that differs.
    pub reflexive: Option<SocketAddr>,
}

/// How an interface's paths fared before they went with it.
#[derive(Debug, Clone, Copy)]
struct Scar {
    interface: InterfaceId,
    failures: u32,
    at: Instant,
}

/// This end.
#[derive(Debug)]
pub(super) struct Locals {
    /// Shared by all contexts of the host.
    interfaces: Arc<[Interface]>,
    own: Vec<OwnAddress>,
    /// The number that the next address gets, so that one that was gone is not mistaken for another.
    next: u8,
    /// In a place of their own: most contexts have none.
    #[allow(clippy::box_collection, reason = "there may be very many contexts")]
    scars: Option<Box<Vec<Scar>>>,
}

impl Default for Locals {
    fn default() -> Self {
        Self { interfaces: Arc::new([]), own: Vec::new(), next: 0, scars: None }
    }
}

impl Locals {
    /// The most addresses of one version of IP on one interface that paths start from unasked: IPv6 hosts have some for
    /// privacy that lead nowhere else. Any other becomes one when something arrives at it.
    const MAX_ALIKE: usize = 3;
    /// The most interfaces of which it is remembered how they fared.
    const MAX_SCARS: usize = 16;

    /// Takes in the interfaces as they are now: addresses that are gone lose their numbers, new ones get some.
    pub fn update(&mut self, interfaces: Arc<[Interface]>) {
        let there = |o: &OwnAddress, i: &Interface| {
            i.usable && i.id == o.interface && i.has(o.ip) && o.relay.is_none_or(|n| i.at_relay(n).is_some())
        };
        self.own.retain(|o| interfaces.iter().any(|i| there(o, i)));
        // The first of each interface and family before any second.
        for place in 0..Self::MAX_ALIKE {
            for interface in interfaces.iter().filter(|i| i.usable) {
                for v6 in [false, true] {
                    let mut alike = interface.addresses.iter().filter(|a| a.is_ipv6() == v6);
                    if let Some(&ip) = alike.nth(place) {
                        self.number(interface.id, ip, None);
                    }
                }
            }
        }
        for interface in interfaces.iter().filter(|i| i.usable) {
            for relayed in interface.relayed.iter().filter(|r| interface.has(r.local)).take(Self::MAX_ALIKE) {
                self.number(interface.id, relayed.local, Some(relayed.number));
            }
        }
        self.interfaces = interfaces;
    }

    /// An interface.
    pub fn interface(&self, id: InterfaceId) -> Option<&Interface> {
        self.interfaces.iter().find(|i| i.id == id)
    }

    /// The addresses that paths start from.
    pub fn addresses(&self) -> &[OwnAddress] {
        &self.own
    }

    /// The other end sees an address like this; nothing where it sees it as it is.
    pub fn set_reflexive(&mut self, id: AddressId, seen: Option<SocketAddr>) {
        if let Some(own) = self.own.iter_mut().find(|o| o.id == id) {
            own.reflexive = seen;
        }
    }

    /// How the other end, or else others, see an address.
    pub fn seen(&self, own: &OwnAddress) -> Option<SocketAddr> {
        let said = || self.interface(own.interface)?.seen(own.ip);
        own.reflexive.or_else(said).filter(|_| own.relay.is_none())
    }

    /// How else others may see an address.
    pub fn guesses(&self, own: &OwnAddress) -> impl Iterator<Item = SocketAddr> + '_ {
        let asked = own.relay.is_none();
        let (interface, ip) = (self.interface(own.interface).filter(|_| asked), own.ip);
        interface.into_iter().flat_map(move |interface| interface.guesses(ip))
    }

    /// The number of a path's local address.
    pub fn of(&self, key: PathKey) -> Option<AddressId> {
        let (interface, ip, relay) = (key.interface, key.local, key.relay());
        self.own.iter().find(|o| (o.interface, o.ip, o.relay) == (interface, ip, relay)).map(|o| o.id)
    }

    /// The address at a relay.
    pub fn at_relay(&self, own: &OwnAddress) -> Option<SocketAddr> {
        let relayed = self.interface(own.interface)?.at_relay(own.relay?)?;
        Some(relayed.at)
    }

    /// Whether an address that has no number is there all the same: one of many alike, which the other end asked for.
    pub fn has(&self, key: PathKey) -> bool {
        key.via == Via::Direct
            && self.interface(key.interface).is_some_and(|i| i.carries(key.local) && i.has(key.local))
    }

    /// The link-local address of the interface that a zone is.
    pub fn link_local(&self, zone: InterfaceId) -> Option<(InterfaceId, IpAddr)> {
        self.interface(zone)?.link_local.map(|own| (zone, own.into()))
    }

    /// Makes room for one more number. The number that gave way; `Err` where all are in use.
    pub fn make_room(&mut self, in_use: impl Fn(AddressId) -> bool) -> Result<Option<AddressId>, ()> {
        if self.own.len() < MAX_ADDRESSES {
            return Ok(None);
        }
        let idle = self.own.iter().rposition(|o| !in_use(o.id)).ok_or(())?;
        Ok(Some(self.own.remove(idle).id))
    }

    /// Gives an address a number, unless it has one or there are too many.
    pub fn number(&mut self, interface: InterfaceId, ip: IpAddr, relay: Option<RelayId>) {
        let known = self.own.iter().any(|o| (o.interface, o.ip, o.relay) == (interface, ip, relay));
        if known || self.own.len() >= MAX_ADDRESSES {
            return;
        }
        // The upper half is for what is seen of these addresses from outside.
        let free = (0..AddressId::REFLEXIVE)
            .map(|n| (self.next + n) % AddressId::REFLEXIVE)
            .find(|n| !self.own.iter().any(|o| o.id.0 == *n));
        let Some(id) = free else { return };
        self.next = (id + 1) % AddressId::REFLEXIVE;
        let taken = |n: &u8| self.own.iter().any(|o| o.link == *n);
        let link = match self.own.iter().find(|o| o.interface == interface) {
            Some(alike) => alike.link,
            None => (0..=u8::MAX).find(|n| !taken(n)).unwrap_or(u8::MAX),
        };
        self.own.push(OwnAddress { id: AddressId(id), interface, link, ip, relay, reflexive: None });
    }

    /// A path went with its interface while it carried.
    pub fn note_gone(&mut self, now: Instant, path: &Path) {
        let scars = self.scars.get_or_insert_default();
        scars.retain(|s| s.interface != path.key.interface);
        if scars.len() >= Self::MAX_SCARS {
            scars.remove(0);
        }
        scars.push(Scar { interface: path.key.interface, failures: path.failures, at: now });
    }

    /// How often in a row paths over an interface have failed, and when last.
    pub fn failures(&self, interface: InterfaceId) -> Option<(u32, Instant)> {
        self.scars
            .iter()
            .flat_map(|scars| scars.iter())
            .find(|s| s.interface == interface)
            .map(|s| (s.failures, s.at))
    }

    /// What was long ago is forgiven.
    pub fn forgive(&mut self, now: Instant) {
        if let Some(scars) = &mut self.scars {
            scars.retain(|s| now.saturating_duration_since(s.at) < Path::FORGIVEN);
        }
    }

    /// Gives room back.
    pub fn rest(&mut self) {
        self.own.shrink_to_fit();
    }
}
