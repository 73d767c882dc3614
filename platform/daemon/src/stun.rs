//! Whom the engine asks how this host is seen from outside (RFC 8489): the servers that the configuration names, looked
//! up. None is asked unless one is named: peers tell it for nothing.

use std::sync::Arc;
use std::time::Duration;

use mast_control::Check;
use mast_engine::api::{Filtering, Mapping, Seen, Snapshot};

use crate::daemon::Daemon;
use crate::endpoint::Endpoint;
use crate::resolve::past;
use crate::turns::{NAMES, Standing};

/// The pause after a name that could not be looked up; it doubles.
const RETRY: Duration = Duration::from_secs(2);
/// The longest of those pauses.
const LOST: Duration = Duration::from_secs(120);
/// The pause after names that could: servers seldom move.
const AGAIN: Duration = Duration::from_secs(3600);
/// The most servers that can be named.
pub(crate) const MOST: usize = 4;

/// Looks the servers up and hands them to the engine, now and again, until the service ends.
pub(crate) async fn run(daemon: Arc<Daemon>, servers: Vec<Endpoint>) {
    if servers.is_empty() {
        return;
    }
    let (mut pause, mut standing) = (RETRY, vec![Standing::New; servers.len()]);
    loop {
        let uplinks = past(&daemon).await;
        let (mut found, mut failed) = (Vec::new(), false);
        for (server, standing) in servers.iter().zip(&mut standing) {
            match server.resolve(&uplinks, *standing, &NAMES).await {
                Ok(all) => {
                    // One of each version of IP.
                    for v4 in [true, false] {
                        found.extend(all.iter().copied().find(|at| at.is_ipv4() == v4));
                    }
                    *standing = Standing::Answers;
                }
                Err(error) => {
                    tracing::debug!(%server, %error, "a STUN server's name could not be looked up");
                    failed = true;
                    if error.kind() == std::io::ErrorKind::TimedOut {
                        *standing = Standing::Silent;
                    }
                }
            }
        }
        // What could not be looked up now says nothing of the others, and nothing where there are none.
        if (!failed || !found.is_empty()) && daemon.engine.set_stun_servers(found).await.is_err() {
            return;
        }
        tokio::time::sleep(if failed { pause } else { AGAIN }).await;
        pause = if failed { (pause * 2).min(LOST) } else { RETRY };
    }
}

/// How each address of this host is seen, as far as it differs.
pub(crate) fn checks(snapshot: &Snapshot) -> Vec<Check> {
    let named = |seen: &Seen| {
        let interface = snapshot.interfaces.iter().find(|(i, _)| i.id == seen.interface);
        interface.map_or_else(|| format!("interface {}", seen.interface.0), |(i, _)| i.name.clone())
    };
    let check = |seen: &Seen| {
        let ago = seen.when.elapsed().as_secs();
        let how = match seen.mapping {
            Mapping::None => "as it is: there is no NAT".to_owned(),
            Mapping::Same => format!("as {}; the NAT shows all peers the same", seen.at),
            Mapping::ByDestination => format!(
                "as {}; this network's NAT shows every peer another port: a peer that is behind such a one, too, needs a relay, \
                 or another network",
                seen.at
            ),
            Mapping::InTurn { .. } => format!(
                "as {}; this network's NAT shows every peer another port, each the one after the one before: most peers can be \
                 reached, though later",
                seen.at
            ),
            Mapping::Unknown => format!("as {}", seen.at),
        };
        let who = match seen.filtering {
            Filtering::Unknown => "",
            Filtering::Independent => "; everybody is let in",
            Filtering::Address => "; who is at an address that this host spoke to is let in",
            Filtering::AddressAndPort => "; nobody is let in that this host did not speak to",
        };
        let text =
            format!("{} is seen {how}{who} (by the STUN server {}, {ago} s ago)", seen.local, seen.server);
        Check::told(format!("outside {}", named(seen)), true, text)
    };
    snapshot.seen.iter().map(check).collect()
}
