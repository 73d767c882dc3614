//! Uplinks over which nothing ever came, while others work.

use std::collections::BTreeSet;
use std::net::IpAddr;

use mast_control::{Check, Finding};
use mast_engine::api::{PathSnapshot, Snapshot};
use mast_proto::{Interface, PathState};

/// So many bytes were sent before silence means anything: a PROBE, and those that repeat it.
const ASKED: u64 = 300;

/// Names them. Only peers that answer over another uplink count: of the others nobody knows why they are silent. A plain
/// WireGuard peer is not asked over what stands by.
pub(super) fn uplinks(snapshot: &Snapshot) -> Vec<Check> {
    if !snapshot.up {
        return Vec::new();
    }
    let usable = || snapshot.interfaces.iter().filter(|(i, c)| i.usable && !c.excluded).map(|(i, _)| i);
    let paths: Vec<&PathSnapshot> =
        snapshot.peers.iter().filter(|p| p.plain.is_none()).flat_map(|p| &p.paths).collect();
    let works: BTreeSet<&str> =
        paths.iter().filter(|p| p.state == PathState::Validated).map(|p| p.interface.as_str()).collect();
    let is_silent = |i: &&Interface| {
        let own: Vec<_> = paths.iter().filter(|p| p.interface == i.name).collect();
        own.iter().all(|p| p.rx_bytes == 0 && p.state != PathState::Validated)
            && own.iter().map(|p| p.tx_bytes).sum::<u64>() >= ASKED
    };
    let found = usable().filter(is_silent).filter_map(|silent| {
        let others: Vec<&Interface> = usable().filter(|i| works.contains(i.name.as_str())).collect();
        let twin = others.iter().find(|other| are_alike(silent, other));
        let works = twin.or(others.first())?.name.clone();
        let (interface, alike) = (silent.name.clone(), twin.is_some());
        let name = format!("uplink {interface}");
        Some(Check::new(name, Finding::SilentUplink { interface, works, alike }))
    });
    found.collect()
}

/// Whether two cards seem to be in one network. The usual length of a network of IPv4 is taken, as no other is known.
fn are_alike(one: &Interface, other: &Interface) -> bool {
    let nets = |i: &Interface| -> BTreeSet<[u8; 3]> {
        let v4 = i.addresses.iter().filter_map(|a| match a {
            IpAddr::V4(v4) => v4.octets().first_chunk().copied(),
            IpAddr::V6(_) => None,
        });
        v4.collect()
    };
    !nets(one).is_disjoint(&nets(other))
}
