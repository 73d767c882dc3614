//! What the protocol knows of a local network interface.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU8;

/// The operating system's number of an interface (`ifindex`); unique while the interface exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceId(pub u32);

/// What an interface is attached to; policies may name a kind instead of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InterfaceKind {
    /// IEEE 802.11.
    Wifi,
    /// A mobile network (WWAN modem, phone tethering).
    Cellular,
    /// Wired.
    Ethernet,
    /// Anything else, and whatever could not be told.
    Other,
}

impl InterfaceKind {
    /// The word used in configuration, commands and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wifi => "wifi",
            Self::Cellular => "cellular",
            Self::Ethernet => "ethernet",
            Self::Other => "other",
        }
    }

    /// The kind that a word names, if it names one.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Wifi, Self::Cellular, Self::Ethernet, Self::Other].into_iter().find(|k| k.as_str() == word)
    }
}

impl std::fmt::Display for InterfaceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A local interface as the operating system describes it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub id: InterfaceId,
    /// Its name, such as `wlan0`.
    pub name: String,
    /// What it is attached to.
    pub kind: InterfaceKind,
    /// The network's name (an SSID, an operator), where known.
    pub network: Option<String>,
    /// Whether traffic over it costs the user money.
    pub metered: bool,
    /// Its addresses that can source traffic: no loopback, multicast, IPv6 link-local or tentative ones; those
    /// that new traffic should begin with come first, deprecated ones that are still in use last.
    pub addresses: Vec<IpAddr>,
    /// Its IPv6 link-local address, while it is up and has a carrier: it leads to link-local addresses of the same link only,
    /// and may be all that the interface has.
    pub link_local: Option<Ipv6Addr>,
    /// Whether it can carry datagrams: administratively up, carrier present, at least one address.
    pub usable: bool,
    /// What else is known of it.
    pub outlook: Outlook,
    /// What relays gave this host over it (RFC 8656).
    pub relayed: Vec<Relayed>,
    /// How others see some of its addresses, with this host's port, as STUN servers say (RFC 8489). What a peer says itself
    /// goes before it. Where an address is named more than once, the first is the likeliest, and the others are guesses.
    pub reflexive: Vec<(IpAddr, SocketAddr)>,
}

/// The owner's number for an address at a relay, which no other has at the same time; 1 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayId(NonZeroU8);

impl RelayId {
    /// The first of all.
    pub const FIRST: Self = Self(NonZeroU8::MIN);

    /// The one after this; after the last comes the first.
    #[must_use]
    pub fn next(self) -> Self {
        self.0.checked_add(1).map_or(Self::FIRST, Self)
    }
}

/// An address at a relay: what is sent there comes to this host, and what this host sends through the relay comes from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relayed {
    /// The owner's number for it.
    pub number: RelayId,
    /// The interface's address that the relay is reached from.
    pub local: IpAddr,
    /// The address at the relay.
    pub at: SocketAddr,
}

/// What is known of an interface beside whether it works: it speaks for or against moving data to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outlook {
    /// Its radio says that it hears little, or must send most things again: it is about to fail. Never without a radio.
    pub weak: bool,
    /// It carried all that the user means to spend on it: it still takes over where nothing else works, but from
    /// nothing that does.
    pub spent: bool,
}

impl Interface {
    /// Whether an address is one of its own now.
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address) || self.link_local.is_some_and(|own| address == own)
    }

    /// Whether datagrams may leave from one of its addresses.
    pub fn carries(&self, from: IpAddr) -> bool {
        self.usable || self.link_local.is_some_and(|own| from == own)
    }

    /// The address at a relay that has this number.
    pub fn at_relay(&self, number: RelayId) -> Option<&Relayed> {
        self.relayed.iter().find(|relayed| relayed.number == number)
    }

    /// How else others may see one of its addresses: its NAT gives each of them another port, and this may be the next.
    pub fn guesses(&self, address: IpAddr) -> impl Iterator<Item = SocketAddr> + '_ {
        self.reflexive.iter().filter(move |(own, _)| *own == address).map(|(_, seen)| *seen).skip(1)
    }

    /// How others see one of its addresses, where anybody said.
    pub fn seen(&self, address: IpAddr) -> Option<SocketAddr> {
        self.reflexive.iter().find(|(own, _)| *own == address).map(|(_, seen)| *seen)
    }
}
