//! Which uplinks have IPv6 alone and a translator for the rest (NAT64, RFC 6146), and with which prefix: by what their name
//! servers make of a name that has IPv4 addresses only (RFC 7050).
//!
//! The name servers of the networks are asked, over the uplink itself. One that lies leads what is for IPv4 addresses to a host
//! of its choice, which it could do with every name as well: peers and relays prove who they are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mast_control::Check;
use mast_engine::nat64::{NAME, Nat64, is_of_use};
use tokio::time::Instant;

use crate::ask;
use crate::daemon::Daemon;

/// How often it is looked which uplinks there are.
const LOOK: Duration = Duration::from_secs(2);
/// The pause after an uplink that has no NAT64, or did not say; it doubles.
const RETRY: Duration = Duration::from_secs(2);
/// The longest of those pauses.
const LOST: Duration = Duration::from_secs(300);
/// The pause after one that has: prefixes seldom change, and who looked anew keeps the one before while nobody answers.
const AGAIN: Duration = Duration::from_secs(3600);

/// The prefixes that were found, by uplink.
#[derive(Debug, Default)]
pub(crate) struct Prefixes(Mutex<BTreeMap<String, Nat64>>);

impl Prefixes {
    /// Replaces all of them. Whether they are others.
    fn set(&self, found: &BTreeMap<String, Nat64>) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = *all != *found;
        all.clone_from(found);
        new
    }

    /// Where these are reached over an uplink: IPv4 addresses by its prefix, where it has one.
    pub fn reached(&self, uplink: &str, all: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let prefixes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match prefixes.get(uplink) {
            Some(prefix) => all.into_iter().map(|at| prefix.write_to(at)).collect(),
            None => all,
        }
    }

    /// What the doctor says of them.
    pub fn checks(&self) -> Vec<Check> {
        let prefixes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let check = |(uplink, prefix): (&String, &Nat64)| {
            let text = format!(
                "there is IPv6 alone; IPv4 addresses are reached by the network's NAT64, as {prefix}"
            );
            Check::told(format!("translation {uplink}"), true, text)
        };
        prefixes.iter().map(check).collect()
    }
}

/// An uplink of IPv6 alone.
struct Uplink {
    /// Other addresses are most likely those of another network.
    addresses: Vec<std::net::IpAddr>,
    due: Instant,
    pause: Duration,
    prefix: Option<Nat64>,
}

/// Finds prefixes and hands them to the engine, until that ends.
pub(crate) async fn run(daemon: Arc<Daemon>) {
    let mut uplinks: BTreeMap<String, Uplink> = BTreeMap::new();
    loop {
        let Ok(outline) = daemon.engine.outline().await else { return };
        let used = |i: &&mast_proto::Interface| outline.up && i.usable && is_of_use(i);
        let there: Vec<_> = outline
            .interfaces
            .iter()
            .filter(|(_, choice)| !choice.excluded)
            .map(|(interface, _)| interface)
            .filter(used)
            .collect();
        uplinks.retain(|name, _| there.iter().any(|interface| interface.name == *name));
        for interface in there {
            // The one that a prefix adds is none of the network's.
            let addresses: Vec<_> = interface.addresses.iter().copied().filter(|a| a.is_ipv6()).collect();
            let new = || Uplink { addresses: Vec::new(), due: Instant::now(), pause: RETRY, prefix: None };
            let uplink = uplinks.entry(interface.name.clone()).or_insert_with(new);
            if uplink.addresses != addresses {
                *uplink = Uplink { addresses, prefix: uplink.prefix, ..new() };
            }
            if Instant::now() < uplink.due {
                continue;
            }
            match prefix(&interface.name).await {
                Some(found) => {
                    (uplink.prefix, uplink.pause, uplink.due) = (Some(found), RETRY, Instant::now() + AGAIN);
                }
                None => {
                    uplink.due = Instant::now() + uplink.pause;
                    uplink.pause = (uplink.pause * 2).min(LOST);
                }
            }
        }
        let found =
            uplinks.iter().filter_map(|(name, uplink)| Some((name.clone(), uplink.prefix?))).collect();
        if daemon.nat64.set(&found) && daemon.engine.set_translated(found).await.is_err() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The prefix of the network that an uplink is in, if its name servers know one.
async fn prefix(uplink: &str) -> Option<Nat64> {
    for server in ask::networks_servers().await {
        let answers = ask::ask(NAME, server, &[uplink.to_owned()], mast_platform::own_socket).await;
        if let Some(prefix) = Nat64::discover(&answers) {
            return Some(prefix);
        }
    }
    None
}
