//! Peers that relay for each other (PROTOCOL.md, section 10.5): a host that two others both know hands on between them what
//! neither can read but they, so that a family of machines needs no relay of others.
//!
//! What is handed on travels as ordinary datagrams inside the tunnels to the one that relays, from EID to EID, so that it is
//! authenticated there. It is offered to own peers alone, and to each no more than [`RATE`]. A relay is asked for only when
//! a peer is missed, and only of peers that are reached straight.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mast_control::Check;
use mast_engine::Reader;
use mast_engine::api::{AddressSource, Happening, PeerSnapshot, Snapshot};
use mast_proto::{PeerKind, PeerState, RelayId, Via, eid_v6};
use mast_rendezvous::turn::Parcel;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::daemon::Daemon;
use crate::relays::{LINGER, Link, WAITING, watch};

/// The UDP port, within the tunnel.
const PORT: u16 = 6279;
/// The port that stands for a host behind one that relays, where only its EID counts.
const ANY_PORT: u16 = 6278;
/// How often it is looked while a peer is missed.
const LOOK: Duration = Duration::from_millis(500);
/// The same while none is.
const REST: Duration = Duration::from_secs(2);
/// A peer that did not say that it relays is asked again after so long, and after twice as long each time, up to
/// [`SELDOM`].
const ASK_AGAIN: Duration = Duration::from_millis(400);
const SELDOM: Duration = Duration::from_secs(30);
/// What is handed on for one peer, in bytes a second: 20 Mbit/s.
const RATE: f64 = 2_500_000.0;
/// So much of it at once.
const BURST: f64 = 256.0 * 1024.0;
/// The longest datagram that fits into one of the tunnel with its headers, in bytes, by the tunnel's usual MTU.
const LONGEST: usize = 1404 - 48 - HEADER;
/// What stands before a datagram: a kind, and an EID.
const HEADER: usize = 17;

/// Do you relay?
const ASK: u8 = 0;
/// I do.
const WILLING: u8 = 1;
/// Hand this on to an EID.
const FORWARD: u8 = 2;
/// This came from an EID.
const FORWARDED: u8 = 3;

/// For the doctor: which peers relay for this host, and whether it relays.
#[derive(Debug, Default)]
pub(crate) struct Shown(Mutex<(bool, Vec<String>)>);

impl Shown {
    fn set(&self, willing: bool, names: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (willing, names);
    }

    /// What it says.
    pub fn checks(&self) -> Vec<Check> {
        let (willing, names) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut texts = Vec::new();
        if *willing {
            texts.push("this machine hands on datagrams between its peers".to_owned());
        }
        if !names.is_empty() {
            texts.push(format!("asked to hand on datagrams to peers that are missed: {}", names.join(", ")));
        }
        texts.into_iter().map(|text| Check::told("relaying", true, text)).collect()
    }
}

/// A peer, as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    name: String,
    /// The uplink over which it is reached straight, if it is.
    straight: Option<String>,
    /// It is missed, or reached through a relay alone.
    missed: bool,
}

impl Known {
    fn of(peer: &PeerSnapshot) -> Option<(Ipv6Addr, Self)> {
        if peer.kind == Some(PeerKind::WireGuard) {
            return None;
        }
        let active = peer.paths.iter().find(|path| path.active);
        let straight = active.filter(|path| path.via == Via::Direct).map(|path| path.interface.clone());
        let connected = peer.state == PeerState::Connected;
        let missed = matches!(peer.state, PeerState::Connecting | PeerState::Unreachable)
            || active.is_some_and(|path| path.via != Via::Direct);
        let known = Self { name: peer.name.clone(), straight: straight.filter(|_| connected), missed };
        Some((eid_v6(&peer.public_key), known))
    }
}

/// A peer that relays for this host.
struct Relaying {
    number: RelayId,
    uplink: String,
    to_engine: mpsc::Sender<Parcel>,
    pump: tokio::task::JoinHandle<()>,
}

/// How much of its rate a peer has left.
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn takes(&mut self, now: Instant, bytes: usize) -> bool {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * RATE;
        (self.left, self.at) = ((self.left + earned).min(BURST), now);
        let bytes = bytes as f64;
        let takes = self.left >= bytes;
        if takes {
            self.left -= bytes;
        }
        takes
    }
}

struct Family {
    daemon: Arc<Daemon>,
    /// Whether this host relays for its peers.
    willing: bool,
    own: Ipv6Addr,
    socket: Option<Arc<UdpSocket>>,
    peers: BTreeMap<Ipv6Addr, Known>,
    /// Who was asked, when next, and the pause after that.
    asked: BTreeMap<Ipv6Addr, (Instant, Duration)>,
    relaying: BTreeMap<Ipv6Addr, Relaying>,
    buckets: BTreeMap<Ipv6Addr, Bucket>,
    /// Whose EID the engine was told.
    told: BTreeSet<String>,
}

/// Relays for peers if this host is willing, and asks them to when one is missed, until the engine ends.
pub(crate) async fn run(daemon: Arc<Daemon>, willing: bool, mut happenings: Reader<Happening>) {
    let Ok(snapshot) = daemon.engine.snapshot().await else { return };
    let own = eid_v6(&snapshot.public_key);
    let mut family = Family {
        daemon,
        willing,
        own,
        socket: None,
        peers: BTreeMap::new(),
        asked: BTreeMap::new(),
        relaying: BTreeMap::new(),
        buckets: BTreeMap::new(),
        told: BTreeSet::new(),
    };
    let mut needed: Option<Instant> = None;
    let mut buffer = vec![0; 2048];
    loop {
        let Ok(outline) = family.daemon.engine.outline().await else { return };
        if outline.needs_relay {
            needed = Some(Instant::now());
        }
        let asks = outline.up && needed.is_some_and(|at| at.elapsed() < LINGER);
        if asks || outline.up && willing {
            let Ok(snapshot) = family.daemon.engine.snapshot().await else { return };
            family.look(&snapshot, asks).await;
        } else {
            family.rest().await;
        }
        let look = tokio::time::sleep(if outline.needs_relay { LOOK } else { REST });
        tokio::pin!(look);
        loop {
            let socket = family.socket.clone();
            let arrival = async {
                match &socket {
                    Some(socket) => socket.recv_from(&mut buffer).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut look => break,
                woken = watch(&mut happenings) => if woken { break } else { return },
                arrived = arrival => match arrived {
                    Ok((length, from)) => family.hear(from, buffer.get(..length).unwrap_or_default()).await,
                    Err(error) => {
                        // The virtual interface went, most likely.
                        tracing::debug!(%error, "no datagrams between peers");
                        family.socket = None;
                        break;
                    }
                },
            }
        }
    }
}

impl Family {
    /// Nothing is asked of anybody, and nothing handed on.
    async fn rest(&mut self) {
        self.socket = None;
        let all: Vec<Ipv6Addr> = self.relaying.keys().copied().collect();
        for relay in all {
            self.drop_relay(relay).await;
        }
        self.asked.clear();
        self.show();
    }

    /// Takes in how peers are, and asks those that are reached straight where one is missed.
    async fn look(&mut self, snapshot: &Snapshot, asks: bool) {
        self.peers = snapshot.peers.iter().filter_map(Known::of).collect();
        self.buckets.retain(|eid, _| self.peers.contains_key(eid));
        if self.socket.is_none() {
            // Without the virtual interface there is no such address: later.
            self.socket = UdpSocket::bind((self.own, PORT)).await.ok().map(Arc::new);
        }
        let gone: Vec<Ipv6Addr> = self
            .relaying
            .iter()
            .filter(|(eid, relaying)| {
                let straight = self.peers.get(eid).and_then(|peer| peer.straight.as_ref());
                !asks || straight != Some(&relaying.uplink)
            })
            .map(|(eid, _)| *eid)
            .collect();
        for relay in gone {
            self.drop_relay(relay).await;
        }
        if asks && self.peers.values().any(|peer| peer.missed) {
            self.name_all().await;
            let now = Instant::now();
            let straight = self.peers.iter().filter(|(_, peer)| peer.straight.is_some()).map(|(eid, _)| *eid);
            for relay in straight.collect::<Vec<_>>() {
                let (due, pause) = self.asked.get(&relay).copied().unwrap_or((now, ASK_AGAIN));
                if now >= due && !self.relaying.contains_key(&relay) {
                    self.asked.insert(relay, (now + pause, (pause * 2).min(SELDOM)));
                    self.send(relay, &[ASK]).await;
                }
            }
        }
        self.show();
    }

    /// Tells the engine by which EIDs peers are known to those that relay.
    async fn name_all(&mut self) {
        for (eid, peer) in &self.peers {
            if self.told.insert(peer.name.clone()) {
                let at = vec![SocketAddr::from((*eid, ANY_PORT))];
                // It was removed meanwhile.
                let _ = self.daemon.engine.set_addresses(&peer.name, AddressSource::Peers, at).await;
            }
        }
        self.told.retain(|name| self.peers.values().any(|peer| peer.name == *name));
    }

    async fn send(&self, to: Ipv6Addr, message: &[u8]) {
        if let Some(socket) = &self.socket {
            // What is lost is asked for again.
            let _ = socket.send_to(message, (to, PORT)).await;
        }
    }

    /// A datagram of a peer: inside the tunnel its source is its own.
    async fn hear(&mut self, from: SocketAddr, message: &[u8]) {
        let IpAddr::V6(from_eid) = from.ip() else { return };
        if from.port() != PORT || !self.peers.contains_key(&from_eid) {
            return;
        }
        match message.split_first() {
            Some((&ASK, [])) if self.willing => self.send(from_eid, &[WILLING]).await,
            Some((&WILLING, [])) if self.asked.contains_key(&from_eid) => self.take_relay(from_eid).await,
            Some((&FORWARD, rest)) if self.willing => {
                let Some((to, payload)) = rest.split_first_chunk::<16>() else { return };
                let to = Ipv6Addr::from(*to);
                if to == from_eid || !self.peers.contains_key(&to) {
                    return;
                }
                let now = Instant::now();
                let bucket = self.buckets.entry(from_eid).or_insert(Bucket { left: BURST, at: now });
                if bucket.takes(now, message.len()) {
                    self.send(to, &[&[FORWARDED][..], &from_eid.octets(), payload].concat()).await;
                }
            }
            Some((&FORWARDED, rest)) => {
                let Some((origin, payload)) = rest.split_first_chunk::<16>() else { return };
                if let Some(relaying) = self.relaying.get(&from_eid) {
                    let peer = SocketAddr::from((*origin, ANY_PORT));
                    // Without room it is lost, as on any road.
                    let _ = relaying.to_engine.try_send(Parcel { peer, payload: payload.to_vec() });
                }
            }
            _ => {}
        }
    }

    /// A peer is willing to relay.
    async fn take_relay(&mut self, relay: Ipv6Addr) {
        let uplink = self.peers.get(&relay).and_then(|peer| peer.straight.clone());
        let (Some(uplink), Some(socket)) = (uplink, self.socket.clone()) else { return };
        if self.relaying.contains_key(&relay) {
            return;
        }
        let (to_relay, mut from_engine) = mpsc::channel::<Parcel>(WAITING);
        let (to_engine, from_relay) = mpsc::channel(WAITING);
        let link = Link::new(to_relay, Arc::new(Mutex::new(from_relay)), LONGEST);
        let at = SocketAddr::from((self.own, ANY_PORT));
        let number = match self.daemon.engine.add_relay(&uplink, at, Box::new(link)).await {
            Ok(number) => number,
            Err(error) => return tracing::debug!(uplink, %error, "a peer that relays is not used"),
        };
        let pump = tokio::spawn(async move {
            while let Some(Parcel { peer, payload }) = from_engine.recv().await {
                let IpAddr::V6(to) = peer.ip() else { continue };
                let message = [&[FORWARD][..], &to.octets(), &payload].concat();
                // Without room it is lost, as on any road.
                let _ = socket.send_to(&message, (relay, PORT)).await;
            }
        });
        self.relaying.insert(relay, Relaying { number, uplink, to_engine, pump });
        self.show();
    }

    async fn drop_relay(&mut self, relay: Ipv6Addr) {
        self.asked.remove(&relay);
        if let Some(relaying) = self.relaying.remove(&relay) {
            // It fails only where the engine has ended.
            let _ = self.daemon.engine.remove_relay(relaying.number).await;
            relaying.pump.abort();
        }
    }

    fn show(&self) {
        let names = self.relaying.keys().filter_map(|eid| self.peers.get(eid)).map(|peer| peer.name.clone());
        self.daemon.peer_relays.set(self.willing, names.collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_on_has_a_rate() {
        let start = Instant::now();
        let mut bucket = Bucket { left: BURST, at: start };
        let mut carried = 0;
        for millisecond in 0..10_000_u64 {
            let now = start + Duration::from_millis(millisecond);
            while bucket.takes(now, 1_400) {
                carried += 1_400;
            }
        }
        let (least, most) = (9.0 * RATE, 10.5 * RATE);
        assert!((least..most).contains(&f64::from(carried)), "{carried}");
    }
}
