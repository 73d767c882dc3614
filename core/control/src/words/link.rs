//! The links to a peer: people speak of these, not of paths.

use super::event::family;
use super::list;
use crate::status::{Fitness, InterfaceKind, PathState, PathStatus, PeerStatus, Status};

/// A link of this host, with all paths to a peer that lead over it.
#[derive(Debug, Clone)]
pub struct Link<'a> {
    /// The interface.
    pub interface: &'a str,
    /// Its paths, the best one first.
    pub paths: Vec<&'a PathStatus>,
}

impl Link<'_> {
    /// Whether data goes over it now.
    pub fn is_active(&self) -> bool {
        self.paths.iter().any(|path| path.active)
    }

    /// Whether the peer answers over it.
    pub fn answers(&self) -> bool {
        self.paths.iter().any(|path| path.state == PathState::Validated)
    }

    /// Whether it works, and loses or delays too much.
    pub fn is_unfit(&self) -> bool {
        self.paths.first().is_some_and(|path| path.fitness == Some(Fitness::Unfit))
    }

    /// The state of its best path.
    pub fn state(&self) -> PathState {
        self.paths.first().map_or(PathState::Unknown, |path| path.state)
    }

    /// The versions of IP over which the peer answers, or else all that are tried: "IPv4 and IPv6".
    pub fn families(&self) -> String {
        let answers = self.answers();
        let mut families: Vec<_> = self
            .paths
            .iter()
            .filter(|path| !answers || path.state == PathState::Validated)
            .map(|path| family(&path.remote))
            .collect();
        families.sort_unstable();
        families.dedup();
        list(&families)
    }
}

fn rank(path: &PathStatus) -> (bool, u8) {
    let state = match path.state {
        PathState::Validated => 0,
        PathState::Suspect => 1,
        PathState::Validating => 2,
        PathState::Candidate => 3,
        PathState::Failed => 4,
        PathState::Unknown => 5,
    };
    (!path.active, state)
}

/// The links to a peer, in the order of their first paths.
pub fn links(peer: &PeerStatus) -> Vec<Link<'_>> {
    let mut links: Vec<Link<'_>> = Vec::new();
    for path in &peer.paths {
        match links.iter_mut().find(|link| link.interface == path.interface) {
            Some(link) => link.paths.push(path),
            None => links.push(Link { interface: &path.interface, paths: vec![path] }),
        }
    }
    for link in &mut links {
        link.paths.sort_by_key(|path| rank(path));
    }
    links
}

/// What people call an interface: "Wi-Fi ‘Train’", or its name where no network is known.
pub fn called(status: &Status, interface: &str) -> String {
    let known = status.interfaces.iter().find(|i| i.name == interface);
    match known.and_then(|i| i.network.as_deref()).filter(|n| !n.is_empty()) {
        Some(network) => match known.map(|i| i.kind) {
            Some(InterfaceKind::Wifi) => format!("Wi-Fi ‘{network}’"),
            Some(InterfaceKind::Cellular) => format!("Cellular ‘{network}’"),
            Some(InterfaceKind::Ethernet) => format!("Ethernet ‘{network}’"),
            _ => format!("{interface} ‘{network}’"),
        },
        None => interface.to_owned(),
    }
}

/// What there is beside the link that carries data: "Wi-Fi ‘Train’ does not answer; cell stands by". None where there
/// is no other link.
pub fn standing(status: &Status, peer: &PeerStatus) -> Option<String> {
    let mut groups: [(Vec<String>, &str, &str); 4] = [
        (Vec::new(), "does not answer", "do not answer"),
        (Vec::new(), "is being tried", "are being tried"),
        (Vec::new(), "loses or delays too much", "lose or delay too much"),
        (Vec::new(), "stands by", "stand by"),
    ];
    for link in links(peer).iter().filter(|link| !link.is_active()) {
        let group = match link.state() {
            PathState::Suspect | PathState::Failed => 0,
            PathState::Candidate | PathState::Validating | PathState::Unknown => 1,
            PathState::Validated if link.is_unfit() => 2,
            PathState::Validated => 3,
        };
        groups[group].0.push(called(status, link.interface));
    }
    let parts: Vec<_> = groups
        .iter()
        .filter(|(names, ..)| !names.is_empty())
        .map(|(names, one, several)| {
            format!("{} {}", list(names), if names.len() == 1 { one } else { several })
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    /// A path: interface, remote address, state, whether it carries data.
    pub(crate) fn path(interface: &str, remote: &str, state: &str, active: bool) -> Value {
        json!({"id": 0, "interface": interface, "local": "", "remote": remote, "state": state, "active": active})
    }

    pub(crate) fn status(paths: &[Value]) -> Status {
        from_value(json!({
            "up": true, "name": "laptop", "version": "1", "public_key": "",
            "interfaces": [{"name": "wifi", "kind": "wifi", "network": "Train", "usable": true},
                           {"name": "cell", "kind": "cellular", "usable": true}],
            "peers": [{"name": "far", "public_key": "", "state": "connected", "kind": "mast", "eid": {},
                       "policy": {"mode": "auto"}, "paths": paths}],
        }))
        .unwrap()
    }

    #[test]
    fn paths_of_one_link_are_one_and_never_stand_by_for_themselves() {
        let status = status(&[
            path("wifi", "10.9.0.2:6278", "failed", false),
            path("wifi", "[fd09::2]:6278", "suspect", false),
            path("cell", "10.9.0.2:6278", "validated", true),
            path("cell", "[fd09::2]:6278", "validated", false),
        ]);
        let peer = &status.peers[0];
        let links = links(peer);
        assert_eq!(links.len(), 2);
        assert_eq!((links[0].answers(), links[0].state()), (false, PathState::Suspect));
        assert_eq!((links[1].is_active(), links[1].families().as_str()), (true, "IPv4 and IPv6"));
        assert_eq!(standing(&status, peer).as_deref(), Some("Wi-Fi ‘Train’ does not answer"));
    }

    #[test]
    fn what_stands_by_and_what_is_tried_is_told_apart() {
        let mut all = vec![
            path("cell", "10.9.0.2:6278", "validated", true),
            path("wifi", "10.9.0.2:6278", "validated", false),
            path("wifi", "[fd09::2]:6278", "failed", false),
        ];
        let told = |paths: &[Value]| {
            let status = status(paths);
            standing(&status, &status.peers[0])
        };
        assert_eq!(told(&all).as_deref(), Some("Wi-Fi ‘Train’ stands by"));
        let mut unfit = all.clone();
        unfit[1]["fitness"] = "unfit".into();
        assert_eq!(told(&unfit).as_deref(), Some("Wi-Fi ‘Train’ loses or delays too much"));
        all.push(path("eth", "10.9.0.2:6278", "validating", false));
        all.push(path("dsl", "10.9.0.2:6278", "candidate", false));
        assert_eq!(told(&all).as_deref(), Some("eth and dsl are being tried; Wi-Fi ‘Train’ stands by"));
        assert_eq!(told(&all[..1]), None);
        let one = status(&all[1..]);
        assert_eq!(links(&one.peers[0])[0].families(), "IPv4", "the other version of IP does not answer");
    }
}
