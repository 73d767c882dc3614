//! The last step: from the virtual interface to the host's own programs, and from them to it.
//!
//! A datagram goes to a peer's address as any program would send it, and the engine has it come back out of the virtual
//! interface as though the peer had answered. Nothing leaves the machine.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use mast_control::{Check, Finding};
use mast_engine::EngineHandle;
use mast_engine::api::{PeerSnapshot, Snapshot};
use mast_proto::PeerState;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::convert;
use crate::daemon::Daemon;

/// So many peers are tried; a rule that drops answers seldom knows one from the other.
const PEERS: usize = 4;
/// So often, and so long each time: the way is a few microseconds, on a machine that may be busy.
const TRIES: usize = 3;
const WAIT: Duration = Duration::from_millis(250);
/// The port that it seems to come from. Where the engine did not take it back, the peer would find nobody there.
const PORT: u16 = 9;

/// What a try found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Arrived,
    Dropped,
    NotSent,
    /// It could not be tried: the address is not there.
    Untried,
}

/// Tries it with some of the peers that are connected.
pub(super) async fn check(daemon: &Daemon, snapshot: &Snapshot) -> Vec<Check> {
    if !snapshot.up {
        return Vec::new();
    }
    let connected = snapshot.peers.iter().filter(|p| p.state == PeerState::Connected).take(PEERS);
    let mut tries = JoinSet::new();
    for peer in connected {
        for (local, remote) in ends(peer) {
            let (engine, name) = (daemon.engine.clone(), peer.name.clone());
            tries.spawn(async move { (name, remote, try_it(&engine, local, remote).await) });
        }
    }
    let mut all = tries.join_all().await;
    all.sort();
    findings(all, &daemon.facts.interface)
}

fn findings(all: Vec<(String, IpAddr, Found)>, interface: &str) -> Vec<Check> {
    let bad = all.iter().filter_map(|(peer, remote, found)| {
        let version = if remote.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned();
        let (peer, at, interface) = (peer.clone(), remote.to_string(), interface.to_owned());
        match found {
            Found::Dropped => Some(Finding::AnswersDropped { peer, version, from: at, interface }),
            Found::NotSent => Some(Finding::NothingLeaves { peer, version, to: at, interface }),
            Found::Arrived | Found::Untried => None,
        }
    });
    let mut checks: Vec<Check> = bad.map(|finding| Check::new("last-step", finding)).collect();
    if checks.is_empty() {
        let arrived = all.into_iter().filter(|(_, _, found)| *found == Found::Arrived);
        let mut peers: Vec<String> = arrived.map(|(peer, ..)| peer).collect();
        peers.dedup();
        if !peers.is_empty() {
            checks.push(Check::new("last-step", Finding::AnswersArrive { peers }));
        }
    }
    checks
}

/// The addresses of this host's end and the peer's, of each version of IP.
fn ends(peer: &PeerSnapshot) -> Vec<(IpAddr, IpAddr)> {
    let Some(plain) = &peer.plain else {
        let v4 = peer.eid_v4.map(|pair| (pair.own.into(), pair.other.into()));
        let v6 = peer.eid_v6.map(|(own, other)| (own.into(), other.into()));
        return v4.into_iter().chain(v6).collect();
    };
    let eids = convert::plain_eids(plain);
    let pair = |own: &Option<String>, other: &Option<String>| {
        Some((own.as_ref()?.parse().ok()?, other.as_ref()?.parse().ok()?))
    };
    let v6 = pair(&eids.local_v6, &eids.remote_v6);
    pair(&eids.local_v4, &eids.remote_v4).into_iter().chain(v6).collect()
}

async fn try_it(engine: &EngineHandle, local: IpAddr, remote: IpAddr) -> Found {
    let Ok(socket) = UdpSocket::bind(SocketAddr::new(local, 0)).await else { return Found::Untried };
    if socket.connect(SocketAddr::new(remote, PORT)).await.is_err() {
        return Found::NotSent;
    }
    let mut came_out = false;
    for _ in 0..TRIES {
        let Ok((token, seen)) = engine.mirror().await else { return Found::Untried };
        let sent = socket.send(&token).await;
        let answered = timeout(WAIT, async {
            let mut buffer = [0; 64];
            while let Ok(length) = socket.recv(&mut buffer).await {
                if buffer.get(..length) == Some(&token[..]) {
                    return true;
                }
            }
            false
        });
        if sent.is_ok() && answered.await == Ok(true) {
            return Found::Arrived;
        }
        came_out |= seen.load(Ordering::Relaxed);
    }
    if came_out { Found::Dropped } else { Found::NotSent }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_named_and_else_who_was_tried() {
        let (v4, v6) = (IpAddr::from([100, 64, 0, 2]), IpAddr::from([0xfd, 0, 0, 0, 0, 0, 0, 2]));
        let of = |found: &[(IpAddr, Found)]| {
            findings(found.iter().map(|(at, found)| ("nas".to_owned(), *at, *found)).collect(), "mast0")
        };
        let bad = of(&[(v4, Found::Dropped), (v6, Found::Arrived)]);
        assert!(bad.len() == 1 && !bad[0].ok && bad[0].detail.contains("IPv4 from 100.64.0.2"), "{bad:?}");
        let out = of(&[(v4, Found::NotSent)]);
        assert!(!out[0].ok && out[0].detail.contains("does not reach mast0"), "{out:?}");
        let good = of(&[(v4, Found::Arrived), (v6, Found::Arrived)]);
        assert!(good.len() == 1 && good[0].ok, "{good:?}");
        assert!(of(&[(v4, Found::Untried)]).is_empty());
    }
}
