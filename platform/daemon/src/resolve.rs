//! Looks up the host names among peers' endpoints, in the background, for as long as it matters.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mast_engine::api::{EngineError, Happening, Moved, PublicKey, Snapshot, What};
use mast_engine::{Heard, Reader};
use mast_proto::PeerState;
use tokio::time::{Instant, sleep_until, timeout};

use crate::daemon::Daemon;
use crate::endpoint::Endpoint;

/// The pause after the first failure; it doubles.
const RETRY: Duration = Duration::from_secs(2);
/// The longest pause while a peer is wanted and does not answer: it may have moved.
const LOST: Duration = Duration::from_secs(60);
/// The pause while it answers: then its addresses come from itself.
const CONNECTED: Duration = Duration::from_secs(600);
/// How long one look-up may take.
const LOOK_UP: Duration = Duration::from_secs(10);
/// The most addresses that one peer is given.
const MAX_ADDRESSES: usize = 8;

struct Watch {
    due: Instant,
    pause: Duration,
}

/// Looks up whatever is due, until the engine ends.
pub(crate) async fn run(daemon: Arc<Daemon>, mut happenings: Reader<Happening>) {
    let mut watches: BTreeMap<PublicKey, Watch> = BTreeMap::new();
    loop {
        let hosts = daemon.store().hosts();
        let now = Instant::now();
        let wanted: BTreeSet<PublicKey> = hosts.iter().map(|(key, _)| *key).collect();
        watches.retain(|key, _| wanted.contains(key));
        for (key, _) in &hosts {
            watches.entry(*key).or_insert(Watch { due: now, pause: RETRY });
        }
        if watches.values().any(|w| w.due <= now) {
            let Ok(snapshot) = daemon.engine.snapshot().await else { return };
            for (key, names) in hosts {
                let Some(watch) = watches.get_mut(&key).filter(|w| w.due <= now) else { continue };
                let pause = attend(&daemon, &snapshot, key, &names, &mut watch.pause).await;
                watch.due = Instant::now() + pause;
            }
            continue;
        }
        let next = watches.values().map(|w| w.due).min();
        let due = async {
            match next {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = daemon.look_up.notified() => {}
            heard = happenings.next() => {
                let Some(first) = heard else { return };
                // Thousands of peers may lose their last path at once.
                let rest = std::iter::from_fn(|| happenings.try_next());
                if std::iter::once(first).chain(rest).fold(false, |lost, heard| lost | is_loss(&heard)) {
                    // It may have moved.
                    let soon = Instant::now() + RETRY;
                    watches.values_mut().for_each(|w| w.due = w.due.min(soon));
                }
            }
        }
    }
}

/// Whether a peer has no path left, or may have none.
fn is_loss(heard: &Heard<Happening>) -> bool {
    match heard {
        Heard::Told(happening) => matches!(&happening.what, What::Moved(Moved { to: None, .. })),
        Heard::Missed(_) => true,
    }
}

/// Looks up one peer's names if it does not answer, and returns the pause before the next time.
async fn attend(
    daemon: &Daemon,
    snapshot: &Snapshot,
    key: PublicKey,
    names: &[Endpoint],
    pause: &mut Duration,
) -> Duration {
    let peer = snapshot.peers.iter().find(|p| p.public_key == key);
    if peer.is_some_and(|p| p.state == PeerState::Connected) {
        *pause = RETRY;
        return CONNECTED;
    }
    let found = look_up(names).await;
    if found.is_empty() {
        let now = *pause;
        *pause = (now * 2).min(LOST);
        return now;
    }
    *pause = RETRY;
    if let Err(error) = give(daemon, key, found).await {
        tracing::warn!(%error, "the addresses that were looked up could not be used");
    }
    LOST
}

/// The addresses that names stand for; a name that cannot be looked up adds none.
pub(crate) async fn look_up(names: &[Endpoint]) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for name in names {
        match timeout(LOOK_UP, name.resolve()).await {
            Ok(Ok(addresses)) => found.extend(addresses),
            Ok(Err(error)) => tracing::debug!(%name, %error, "a peer's name could not be looked up"),
            Err(_) => tracing::debug!(%name, "a peer's name could not be looked up in time"),
        }
    }
    let mut unique = Vec::new();
    for address in found {
        if !unique.contains(&address) && unique.len() < MAX_ADDRESSES {
            unique.push(address);
        }
    }
    unique
}

/// Gives the engine addresses of a peer that does not answer at those it knows.
///
/// The engine takes a peer's addresses when the peer is added: so it is added anew, which costs nothing while
/// there is no connection.
async fn give(daemon: &Daemon, key: PublicKey, found: Vec<SocketAddr>) -> Result<(), EngineError> {
    let Some(mut peer) = daemon.store().peer(&key) else {
        return Ok(());
    };
    if found.iter().all(|address| peer.endpoints.contains(address)) {
        return Ok(());
    }
    let mut endpoints = found;
    for old in &peer.endpoints {
        if !endpoints.contains(old) && endpoints.len() < MAX_ADDRESSES {
            endpoints.push(*old);
        }
    }
    peer.endpoints = endpoints;
    tracing::info!(peer = peer.name, "a peer's name leads to new addresses");
    daemon.store().keep(key);
    daemon.engine.remove_peer(&peer.name).await?;
    daemon.engine.add_peer(peer).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn looks_up_what_can_be_looked_up() {
        let names =
            ["localhost:7", "127.0.0.1:7", "no.such.name.invalid:7"].map(|n| Endpoint::parse(n).unwrap());
        let found = look_up(&names).await;
        assert!(found.contains(&"127.0.0.1:7".parse().unwrap()), "{found:?}");
        assert_eq!(found.iter().filter(|a| a.is_ipv4()).count(), 1, "{found:?}");
    }
}
