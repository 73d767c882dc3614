//! Rendezvous in the local network: who is looked for, over which interfaces.
//!
//! What is said there tells a peer that this host is here. So it is said to those alone that are told all addresses of this
//! host; over uplinks alone, and not over those where traffic costs money; and not at all while leak protection holds back
//! what goes to the local network.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use mast_engine::Heard;
use mast_engine::api::{Happening, Moved, PublicKey, What};
use mast_proto::{AddressesTold, Interface, InterfaceKind, PeerKind};
use mast_rendezvous::lan::{Lan, Link, MOST_PEERS, Near, Neighbour, PORT};
use mast_rendezvous::{PairSecret, PeerKey};
use tokio::sync::watch;

use crate::daemon::Daemon;
use crate::rendezvous::is_connected;

/// IPv4 addresses of an interface that are told: the second where it has one of a network without a server as well.
const V4: usize = 2;

/// Who is looked for, and where.
pub(crate) struct Nearby {
    near: watch::Sender<Near>,
    uplinks: watch::Receiver<Arc<[Interface]>>,
    /// The keys of those that are looked for, by what they are called.
    names: BTreeMap<String, PublicKey>,
    /// Leak protection forbids it.
    held: bool,
}

impl Nearby {
    /// Makes it, with what is to be run.
    pub fn new(daemon: &Daemon) -> (Self, Lan) {
        let (lan, near) =
            Lan::new(Arc::new(|interface, group| mast_platform::own_group(interface, group, PORT)));
        let mut uplinks = daemon.engine.uplinks();
        uplinks.mark_changed();
        (Self { near, uplinks, names: BTreeMap::new(), held: false }, lan)
    }

    /// Waits until the interfaces are others; for ever, where that will not be told any more.
    pub async fn changed(&mut self) {
        if self.uplinks.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Who may be looked for, by key.
    pub fn wanted(daemon: &Daemon) -> BTreeMap<PublicKey, String> {
        let may = |peer: &mast_engine::api::PeerConfig| {
            let told = peer.disclosure.mast && peer.disclosure.addresses == AddressesTold::All;
            told && peer.kind != Some(PeerKind::WireGuard)
        };
        let peers = daemon.store().peers();
        peers.into_iter().filter(may).map(|p| (p.public_key, p.name)).take(MOST_PEERS).collect()
    }

    /// Takes over who may be looked for, with the secrets of those pairs, and over which interfaces.
    pub async fn sync(
        &mut self,
        daemon: &Daemon,
        key: PeerKey,
        wanted: BTreeMap<PublicKey, String>,
        secrets: &BTreeMap<PublicKey, Option<PairSecret>>,
    ) {
        let Ok(outline) = daemon.engine.outline().await else { return };
        self.held = {
            let store = daemon.store();
            outline.full_tunnel && store.leak_protection() && !store.local_network()
        };
        let silent = !outline.up || self.held;
        let links = match silent {
            true => Vec::new(),
            false => links(&self.uplinks.borrow_and_update(), daemon.engine.port()),
        };
        let before = self.near.borrow().peers.clone();
        let mut peers = BTreeMap::new();
        for (peer, name) in &wanted {
            let Some(Some(secret)) = secrets.get(peer) else { continue };
            let missed = match before.get(peer) {
                Some(known) => known.missed,
                None => !is_connected(daemon, name).await,
            };
            peers.insert(*peer, Neighbour { secret: secret.clone(), missed });
        }
        self.names = wanted.into_iter().map(|(peer, name)| (name, peer)).collect();
        self.say(|near| *near = Near { key, peers, links });
    }

    /// Takes over what happened to peers.
    pub async fn hear(&mut self, heard: &Heard<Happening>, daemon: &Daemon) {
        match heard {
            Heard::Told(Happening { peer, what: What::Moved(Moved { to, .. }), .. }) => {
                if let Some(key) = self.names.get(peer).copied() {
                    self.note(key, to.is_none());
                }
            }
            Heard::Told(_) => {}
            Heard::Missed(_) => {
                for (name, key) in self.names.clone() {
                    let missed = !is_connected(daemon, &name).await;
                    self.note(key, missed);
                }
            }
        }
    }

    fn note(&self, key: PublicKey, missed: bool) {
        self.say(|near| near.peers.get_mut(&key).map(|peer| peer.missed = missed));
    }

    fn say<T>(&self, change: impl FnOnce(&mut Near) -> T) {
        self.near.send_if_modified(|near| {
            let before = near.clone();
            change(near);
            *near != before
        });
    }

    /// What is done, for the doctor; `there`: so many were found.
    pub fn about(&self, there: usize) -> Option<String> {
        let near = self.near.borrow();
        if near.peers.is_empty() {
            return None;
        }
        let names: Vec<&str> = near.links.iter().map(|link| link.name.as_str()).collect();
        Some(match names.as_slice() {
            [] if self.held => {
                "nobody is looked for, as leak protection holds back what goes to the local network: \
                                `mast protect --local-network on` lets it through"
                    .to_owned()
            }
            [] => "nobody is looked for: there is no network where that costs nothing".to_owned(),
            names => format!(
                "looked for on {}: {} peers; heard there lately: {there}",
                names.join(", "),
                near.peers.len()
            ),
        })
    }
}

/// The interfaces where peers may be.
fn links(uplinks: &[Interface], port: u16) -> Vec<Link> {
    let there = |i: &Interface| i.usable || i.link_local.is_some();
    let free = |i: &&Interface| there(i) && !i.metered && i.kind != InterfaceKind::Cellular;
    uplinks.iter().filter(free).map(|interface| link(interface, port)).collect()
}

fn link(interface: &Interface, port: u16) -> Link {
    let at = |ip: &IpAddr| SocketAddr::new(*ip, port);
    let v4 = interface.addresses.iter().filter(|ip| ip.is_ipv4()).take(V4).map(at);
    let number = interface.id.0;
    let own = interface.link_local.map(|ip| SocketAddr::from(SocketAddrV6::new(ip, port, 0, number)));
    let v6 = interface.addresses.iter().filter(|ip| ip.is_ipv6()).map(at);
    Link {
        number,
        name: interface.name.clone(),
        network: interface.network.clone(),
        addresses: v4.chain(own).chain(v6).collect(),
    }
}

#[cfg(test)]
mod tests {
    use mast_proto::InterfaceId;

    use super::*;

    fn interface(addresses: &[&str]) -> Interface {
        Interface {
            id: InterfaceId(7),
            name: "eth0".into(),
            kind: InterfaceKind::Ethernet,
            network: None,
            metered: false,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            link_local: Some("fe80::1".parse().unwrap()),
            usable: true,
            outlook: Default::default(),
            relayed: Vec::new(),
            reflexive: Vec::new(),
        }
    }

    #[test]
    fn nobody_is_looked_for_where_it_costs_money() {
        let plain = interface(&["192.0.2.1"]);
        let metered = Interface { metered: true, ..plain.clone() };
        let cellular = Interface { kind: InterfaceKind::Cellular, ..plain.clone() };
        let absent = Interface { usable: false, link_local: None, ..plain.clone() };
        assert_eq!(links(&[metered, cellular, absent, plain.clone()], 1), [link(&plain, 1)]);
    }

    #[test]
    fn what_is_told_has_both_versions_of_ip_and_begins_with_what_leads_there_for_certain() {
        let told = link(&interface(&["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]), 6278).addresses;
        let expected = ["192.0.2.1:6278", "192.0.2.2:6278", "[fe80::1%7]:6278", "[2001:db8::1]:6278"];
        assert_eq!(told, expected.map(|at| at.parse::<SocketAddr>().unwrap()));
    }
}
