//! How things are, in one honest sentence.

use mast_control::{InterfaceKind, KeyPlace, Layer, PeerState, PeerStatus, Status};
use serde::Serialize;

use crate::link::{Service, State};

/// What the light says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Light {
    /// A peer answers. Never said on the strength of the past.
    Good,
    /// It is being tried.
    Working,
    /// Something fails.
    Bad,
    /// Down or paused, as the user wanted.
    Off,
}

/// How things are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Now {
    /// The light.
    pub light: Light,
    /// The layer that fails.
    pub layer: Option<Layer>,
    /// One sentence.
    pub sentence: String,
    /// What to do, or what else to know; may be empty.
    pub detail: String,
}

impl Now {
    fn new(light: Light, sentence: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { light, layer: None, sentence: sentence.into(), detail: detail.into() }
    }

    fn bad(layer: Layer, sentence: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { layer: Some(layer), ..Self::new(Light::Bad, sentence, detail) }
    }

    /// How things are by what is known.
    pub fn of(service: &Service, status: Option<&Status>) -> Self {
        match (service.state, status) {
            (State::Ok, Some(status)) => Self::with(status),
            (State::Ok | State::Connecting, _) => Self::new(Light::Working, "Looking for the service …", ""),
            (State::Lost, _) => Self::bad(Layer::Service, "The service stopped.", &service.detail),
            (State::Stopped, _) => Self::bad(Layer::Service, "The service does not run.", &service.detail),
            (State::Missing, _) => {
                Self::bad(Layer::Service, "The service is not installed.", &service.detail)
            }
            (State::Forbidden, _) => {
                Self::bad(Layer::Service, "The service is closed to you.", &service.detail)
            }
            (State::Old | State::New | State::Broken, _) => {
                Self::bad(Layer::Service, "The app and the service do not fit.", &service.detail)
            }
        }
    }

    fn with(status: &Status) -> Self {
        if status.key == KeyPlace::Locked {
            let detail =
                "It is in the key store of the user who put it there. It is asked for when they log in.";
            return Self::bad(Layer::Service, "The service waits for its private key.", detail);
        }
        if status.paused_until.is_some() {
            return Self::new(
                Light::Off,
                "MAST is paused.",
                "It comes back by itself. Until then, connections through it stand still.",
            );
        }
        if !status.up {
            let detail = "Connections through it stand still; everything else goes its usual way.";
            return Self::new(Light::Off, "MAST is off.", detail);
        }
        if !status.interfaces.iter().any(|i| i.usable && !i.excluded) {
            let detail = if status.interfaces.iter().any(|i| i.usable) {
                "Every network that is there is one never to be used."
            } else {
                "As soon as one appears, everything that is open goes on."
            };
            return Self::bad(Layer::Link, "There is no network.", detail);
        }
        if status.peers.is_empty() {
            let detail = "Invite another machine, or add one that invited you.";
            return Self::new(Light::Working, "MAST is on, and knows no peer yet.", detail);
        }
        let answering: Vec<_> = status.peers.iter().filter(|p| p.state == PeerState::Connected).collect();
        match answering.as_slice() {
            [] => Self::silent(status),
            [peer] if status.peers.len() == 1 => {
                Self::new(Light::Good, connected(status, peer), spare(status, peer))
            }
            some => {
                let others: Vec<_> = status
                    .peers
                    .iter()
                    .filter(|p| p.state != PeerState::Connected)
                    .map(|p| p.name.as_str())
                    .collect();
                let detail = match others.len() {
                    0 => String::new(),
                    1..=3 => format!("Not answering: {}.", others.join(", ")),
                    more => format!("{more} do not answer."),
                };
                let all = status.peers.len();
                let sentence = match (some, all) {
                    ([peer], _) => connected(status, peer),
                    (some, all) if some.len() == all => format!("All {all} peers answer."),
                    (some, all) => format!("{} of {all} peers answer.", some.len()),
                };
                Self::new(Light::Good, sentence, detail)
            }
        }
    }

    /// No peer answers.
    fn silent(status: &Status) -> Self {
        let who = match status.peers.as_slice() {
            [peer] => peer.name.clone(),
            peers => format!("None of {} peers", peers.len()),
        };
        let alone = status.peers.len() == 1;
        if let Some(trouble) = &status.trouble {
            let sentence = match trouble.layer {
                Layer::Link => "There is no network.".to_owned(),
                Layer::Portal => "The network wants a login first.".to_owned(),
                Layer::Dns => "Names cannot be looked up.".to_owned(),
                Layer::Nat => "The network does not let MAST through.".to_owned(),
                Layer::Service => "The service cannot do its work.".to_owned(),
                Layer::Peer | Layer::Unknown if alone => format!("{who} does not answer."),
                Layer::Peer | Layer::Unknown => format!("{who} answers."),
            };
            return Self::bad(trouble.layer, sentence, &trouble.detail);
        }
        if status.peers.iter().any(|p| p.state == PeerState::Connecting) {
            return Self::new(
                Light::Working,
                if alone { format!("Reaching {who} …") } else { "Reaching the peers …".into() },
                "",
            );
        }
        let detail = "The network here works as far as this machine can tell. It is tried again and again.";
        let sentence = if alone { format!("{who} does not answer.") } else { format!("{who} answers.") };
        Self::bad(Layer::Peer, sentence, detail)
    }
}

/// What people call an interface.
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

fn connected(status: &Status, peer: &PeerStatus) -> String {
    match peer.paths.iter().find(|p| p.active) {
        Some(path) => format!("{} answers over {}.", peer.name, called(status, &path.interface)),
        None => format!("{} answers.", peer.name),
    }
}

/// What would happen if the active path died.
fn spare(status: &Status, peer: &PeerStatus) -> String {
    let ready = |p: &&mast_control::PathStatus| !p.active && p.state == mast_control::PathState::Validated;
    match peer.paths.iter().find(ready) {
        Some(path) => format!("{} stands by.", called(status, &path.interface)),
        None => "There is no second way to it now.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn of(change: impl FnOnce(&mut Value)) -> Now {
        let peer = |name: &str, state: &str| {
            json!({"name": name, "public_key": "", "state": state, "kind": "mast", "eid": {},
                   "policy": {"mode": "auto"}, "paths": [
                {"id": 0, "interface": "wifi", "local": "", "remote": "", "state": "validated", "active": true},
                {"id": 1, "interface": "cell", "local": "", "remote": "", "state": "validated", "active": false},
            ]})
        };
        let mut status = json!({
            "up": true, "name": "laptop", "version": "1", "public_key": "",
            "interfaces": [{"name": "wifi", "kind": "wifi", "network": "Train", "usable": true},
                           {"name": "cell", "kind": "cellular", "usable": true}],
            "peers": [peer("nas", "connected"), peer("office", "connected")],
        });
        change(&mut status);
        let service = Service { state: State::Ok, ..Service::default() };
        Now::of(&service, Some(&from_value(status).unwrap()))
    }

    fn one(status: &mut Value, state: &str) {
        let peers = status["peers"].as_array_mut().unwrap();
        peers.truncate(1);
        peers[0]["state"] = state.into();
    }

    #[test]
    fn good_only_while_a_peer_answers() {
        let good = of(|s| one(s, "connected"));
        assert_eq!((good.light, good.sentence.as_str()), (Light::Good, "nas answers over Wi-Fi ‘Train’."));
        assert_eq!(good.detail, "cell stands by.");
        assert_eq!(of(|_| ()).sentence, "All 2 peers answer.");
        let some = of(|s| s["peers"][1]["state"] = "unreachable".into());
        assert_eq!((some.light, some.detail.as_str()), (Light::Good, "Not answering: office."));
        for state in ["connecting", "unreachable", "down", "dreaming"] {
            assert_ne!(of(|s| one(s, state)).light, Light::Good, "{state}");
        }
        for state in
            [State::Lost, State::Stopped, State::Missing, State::Forbidden, State::Old, State::Broken]
        {
            let service = Service { state, ..Service::default() };
            let now = Now::of(&service, None);
            assert_eq!((now.light, now.layer), (Light::Bad, Some(Layer::Service)), "{state:?}");
        }
    }

    #[test]
    fn the_failing_layer_is_named() {
        let link = of(|s| s["interfaces"] = json!([]));
        assert_eq!((link.light, link.layer), (Light::Bad, Some(Layer::Link)));
        let excluded = of(|s| {
            s["interfaces"][0]["excluded"] = true.into();
            s["interfaces"][1]["excluded"] = true.into();
        });
        assert!(excluded.detail.contains("never to be used"));
        for (word, layer) in
            [("portal", Layer::Portal), ("dns", Layer::Dns), ("nat", Layer::Nat), ("peer", Layer::Peer)]
        {
            let now = of(|s| {
                one(s, "unreachable");
                s["trouble"] = json!({"layer": word, "detail": "why"});
            });
            assert_eq!((now.light, now.layer, now.detail.as_str()), (Light::Bad, Some(layer), "why"));
        }
        let peer = of(|s| one(s, "unreachable"));
        assert_eq!((peer.layer, peer.sentence.as_str()), (Some(Layer::Peer), "nas does not answer."));
        assert_eq!(of(|s| one(s, "connecting")).light, Light::Working);
        // What is wrong matters only while nobody answers.
        assert_eq!(of(|s| s["trouble"] = json!({"layer": "dns", "detail": ""})).light, Light::Good);
    }

    #[test]
    fn off_is_what_the_user_wanted() {
        assert_eq!(of(|s| s["up"] = false.into()).light, Light::Off);
        let paused = of(|s| {
            s["up"] = false.into();
            s["paused_until"] = "2026-11-24T13:00:00Z".into();
        });
        assert_eq!(paused.sentence, "MAST is paused.");
        let locked = of(|s| {
            s["up"] = false.into();
            s["key"] = "locked".into();
        });
        assert_eq!(locked.layer, Some(Layer::Service));
        assert_eq!(of(|s| s["peers"] = json!([])).light, Light::Working);
    }
}
