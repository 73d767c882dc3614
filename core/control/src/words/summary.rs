//! How things stand, in the one honest sentence of the command line.

use super::{links, standing, units};
use crate::status::{
    InterfaceKind, InterfaceStatus, PathState, PeerState, PeerStatus, PolicyMode, PolicyStatus, Status, Via,
};

/// Whether what is said is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It is.
    Good,
    /// It is not yet, or it cannot be said.
    Open,
    /// It is not.
    Bad,
}

/// So many peers that do not answer are named; a sentence with more is not read.
const NAMED: usize = 8;

/// How things stand, in a sentence, and whether that is well.
pub fn of_all(status: &Status) -> (Tone, String) {
    if let Some(until) = status.paused_until.as_ref().filter(|_| !status.up) {
        return (
            Tone::Open,
            format!(
                "MAST is paused until {} UTC: no traffic is carried. `mast up` ends the pause.",
                until.get(..16).unwrap_or(until).replace('T', " ")
            ),
        );
    }
    if !status.up {
        return (Tone::Bad, "MAST is down: no traffic is carried. Start it with `mast up`.".to_owned());
    }
    match status.peers.as_slice() {
        [] => (
            Tone::Open,
            "MAST is up, but there is no peer yet: add one with `mast peer add LINK`, or make an invite with \
             `mast invite`."
                .to_owned(),
        ),
        [peer] => of_peer(peer, status),
        peers => {
            let connected = peers.iter().filter(|peer| peer.state.answers()).count();
            let partial: Vec<_> = peers.iter().filter(|p| p.state == PeerState::Partial).collect();
            let style = match connected == peers.len() {
                true if partial.is_empty() => Tone::Good,
                true => Tone::Open,
                false if connected > 0 => Tone::Open,
                false => Tone::Bad,
            };
            let partial = match partial.first() {
                Some(peer) => format!(" Not all is as it should be with {}: {}.", peer.name, reasons(peer)),
                None => String::new(),
            };
            let silent: Vec<_> =
                peers.iter().filter(|p| !p.state.answers()).map(|p| p.name.as_str()).collect();
            let rest = match silent.as_slice() {
                [] => String::new(),
                names if names.len() <= NAMED + 1 => format!("; not to {}", names.join(", ")),
                names => {
                    let (first, rest) = names.split_at(NAMED);
                    format!("; not to {} and {} others", first.join(", "), rest.len())
                }
            };
            (style, format!("Connected to {connected} of {} peers{rest}.{partial}", peers.len()))
        }
    }
}

/// How things stand with one peer.
pub fn of_peer(peer: &PeerStatus, status: &Status) -> (Tone, String) {
    let name = &peer.name;
    match peer.state {
        PeerState::Connected if !peer.troubles.is_empty() => {
            (Tone::Open, format!("{} Missing on this machine: {}.", connected(peer, status).1, reasons(peer)))
        }
        PeerState::Connected => connected(peer, status),
        PeerState::Partial => (
            Tone::Open,
            format!("{} Not all is as it should be: {}.", connected(peer, status).1, reasons(peer)),
        ),
        PeerState::Connecting => {
            let over = interfaces_of(peer);
            let over = if over.is_empty() { String::new() } else { format!(" over {over}") };
            (Tone::Open, format!("Connecting to {name}{over}: no answer yet."))
        }
        PeerState::Unreachable => {
            let heard = match peer.last_heard_ms {
                Some(ms) => format!("last heard {}", units::ago(ms)),
                None => "never heard yet".to_owned(),
            };
            let hint = if is_strict(&peer.policy) {
                format!(" Only {} may be used: `mast unpin` allows the others.", peer.policy.pin.join(", "))
            } else {
                String::new()
            };
            (Tone::Bad, format!("{name} does not answer on any path, {heard}.{hint}"))
        }
        PeerState::Down => {
            let why = if !status.up {
                "MAST is down"
            } else if !status.interfaces.iter().any(|interface| interface.usable) {
                "this machine has no usable network"
            } else {
                "no address of it is known, or no allowed interface is there"
            };
            (Tone::Bad, format!("{name} is not being tried: {why}."))
        }
        PeerState::Unknown => {
            (Tone::Open, format!("The state of {name} has no name in this version of mast: upgrade it."))
        }
    }
}

/// Why a peer that answers is not all that it should be.
fn reasons(peer: &PeerStatus) -> String {
    match peer.troubles.as_slice() {
        [] => "this version of mast does not know why".to_owned(),
        some => some.join("; "),
    }
}

fn connected(peer: &PeerStatus, status: &Status) -> (Tone, String) {
    let name = &peer.name;
    let Some(path) = peer.paths.iter().find(|path| path.active) else {
        return (Tone::Open, format!("{name} answers, but no path is active at this moment."));
    };
    let interface = status.interfaces.iter().find(|interface| interface.name == path.interface);
    let place = interface.map_or_else(|| path.interface.clone(), describe);
    let rtt = path.srtt_ms.map(|ms| format!(", {}", units::millis(ms))).unwrap_or_default();
    // What stands by is in the table; what fails must not be looked for there.
    let silent = links(peer).iter().any(|link| !link.is_active() && is_silent(link.state()));
    let silent = standing(status, peer).filter(|_| silent).map(|s| format!("; {s}")).unwrap_or_default();
    let pinned = &peer.policy;
    let astray = pinned.mode == PolicyMode::Pin
        && !pinned.pin.iter().any(|wish| grants(wish, &path.interface, interface));
    let astray = if astray {
        format!(", because nothing pinned ({}) works now", pinned.pin.join(", "))
    } else {
        String::new()
    };
    let relay = if path.via == Via::Relay { ", through a relay" } else { "" };
    (Tone::Good, format!("Connected to {name} over {place}{relay}{rtt}{astray}{silent}."))
}

fn is_silent(state: PathState) -> bool {
    matches!(state, PathState::Suspect | PathState::Failed)
}

/// An interface with what it is attached to: "wlan0 (Wi-Fi 'Train')".
fn describe(interface: &InterfaceStatus) -> String {
    let kind = match interface.kind {
        InterfaceKind::Wifi => "Wi-Fi",
        InterfaceKind::Cellular => "cellular",
        InterfaceKind::Ethernet => "Ethernet",
        InterfaceKind::Other => "",
    };
    let network = interface.network.as_ref().map(|network| format!("'{network}'")).unwrap_or_default();
    let attached = [kind, &network].iter().filter(|s| !s.is_empty()).copied().collect::<Vec<_>>().join(" ");
    let notes: Vec<_> = [attached.as_str(), if interface.metered { "metered" } else { "" }]
        .into_iter()
        .filter(|s| !s.is_empty())
        .collect();
    if notes.is_empty() {
        interface.name.clone()
    } else {
        format!("{} ({})", interface.name, notes.join(", "))
    }
}

fn grants(wish: &str, name: &str, interface: Option<&InterfaceStatus>) -> bool {
    wish == name
        || interface.is_some_and(|interface| {
            wish == interface.kind.as_str()
                || wish
                    .strip_prefix("network:")
                    .is_some_and(|network| interface.network.as_deref() == Some(network))
        })
}

fn is_strict(policy: &PolicyStatus) -> bool {
    policy.mode == PolicyMode::Pin && !policy.fallback
}

fn interfaces_of(peer: &PeerStatus) -> String {
    links(peer).iter().map(|link| link.interface).collect::<Vec<_>>().join(", ")
}

/// A policy in words.
pub fn policy(policy: &PolicyStatus) -> String {
    match policy.mode {
        PolicyMode::Auto => "auto".to_owned(),
        PolicyMode::Pin if policy.fallback => format!("pinned to {}", policy.pin.join(", ")),
        PolicyMode::Pin => format!("only {}", policy.pin.join(", ")),
        PolicyMode::Redundant | PolicyMode::Bonded => {
            let details = [(policy.small, "small datagrams only"), (policy.metered, "metered paths, too")];
            let details: Vec<_> = details.iter().filter(|(on, _)| *on).map(|(_, words)| *words).collect();
            match details.as_slice() {
                [] => policy.mode.to_string(),
                details => format!("{} ({})", policy.mode, details.join("; ")),
            }
        }
        PolicyMode::Unknown => policy.mode.to_string(),
    }
}

/// What a mode that uses several paths at once lacks, and the remedy; none while nothing is missing. `metered` says how
/// metered links are let take part where this is read. What the other end pays for is not known here.
pub fn missing(peer: &PeerStatus, status: &Status, metered: &str) -> Option<String> {
    let several = matches!(peer.policy.mode, PolicyMode::Redundant | PolicyMode::Bonded);
    if !several || !peer.state.answers() || !peer.paths.iter().any(|path| path.active) {
        return None;
    }
    let costs = |name: &str| status.interfaces.iter().any(|i| i.name == name && i.metered);
    let links = links(peer);
    let others = || links.iter().filter(|link| !link.is_active() && link.answers());
    if others().any(|link| peer.policy.metered || !costs(link.interface)) {
        return None;
    }
    let needs = format!("{} needs two links to {}", peer.policy.mode, peer.name);
    Some(match others().next() {
        Some(_) => format!("{needs}, and the others that work are metered: {metered} to let them take part."),
        None => format!("{needs}, and only one works now: connect to another network."),
    })
}
