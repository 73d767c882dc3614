//! How things stand, as a light, a sentence and a detail: for a window.

use serde::Serialize;

use super::{called, standing, trouble};
use crate::status::{KeyPlace, Layer, PeerState, PeerStatus, Protection, Status, TroubleCause, Via};

/// What the light says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum Light {
    /// A peer answers. Never said on the strength of the past.
    Good,
    /// It is being tried.
    Working,
    /// Some peers answer, and others do not.
    Partial,
    /// Something fails.
    Bad,
    /// Paused, as the user wanted: it comes back by itself.
    Paused,
    /// Switched off, as the user wanted.
    Off,
}

/// How things are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
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
    /// How things are where no layer fails.
    pub fn new(light: Light, sentence: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { light, layer: None, sentence: sentence.into(), detail: detail.into() }
    }

    /// How things are where a layer fails.
    pub fn bad(layer: Layer, sentence: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { layer: Some(layer), ..Self::new(Light::Bad, sentence, detail) }
    }

    /// How things are by what the service says.
    pub fn with(status: &Status) -> Self {
        if status.key == KeyPlace::Locked {
            let detail =
                "It is in the key store of the user who put it there. It is asked for when they log in.";
            return Self::bad(Layer::Service, "The service waits for its private key.", detail);
        }
        if let Protection::Missing { why } = &status.protection {
            let detail = format!("What belongs into the tunnel may go around it: {why}");
            return Self::bad(Layer::Service, "Leak protection is not in force.", detail);
        }
        if status.paused_until.is_some() {
            return Self::new(
                Light::Paused,
                "MAST is paused.",
                "It comes back by itself. Until then, connections through it stand still.",
            );
        }
        if !status.up && status.protection != Protection::Idle {
            let detail = "What belongs into it is held back until it is there, or MAST is turned off.";
            return Self::bad(Layer::Service, "The tunnel is wanted, and not there.", detail);
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
        let answering: Vec<_> = status.peers.iter().filter(|p| p.state.answers()).collect();
        if let Some(peer) = answering.iter().find(|p| p.state == PeerState::Partial) {
            let sentence = format!("{} answers, but not all goes to it that should.", peer.name);
            return Self::new(Light::Partial, sentence, peer.troubles.join("; "));
        }
        match answering.as_slice() {
            [] => Self::silent(status),
            [peer] if status.peers.len() == 1 => {
                Self::new(Light::Good, connected(status, peer), spare(status, peer))
            }
            some => {
                let others: Vec<_> =
                    status.peers.iter().filter(|p| !p.state.answers()).map(|p| p.name.as_str()).collect();
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
                let light = if others.is_empty() { Light::Good } else { Light::Partial };
                Self::new(light, sentence, detail)
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
                Layer::Link | Layer::Address => "There is no network.".to_owned(),
                Layer::Portal => "The network wants a login first.".to_owned(),
                Layer::Dns => "Names cannot be looked up.".to_owned(),
                Layer::Nat => "The network does not let MAST through.".to_owned(),
                Layer::Service => "The service cannot do its work.".to_owned(),
                Layer::Peer | Layer::Unknown if alone => format!("{who} does not answer."),
                Layer::Peer | Layer::Unknown => format!("{who} answers."),
            };
            let detail = match &trouble.cause {
                TroubleCause::Other => trouble.detail.clone(),
                cause => self::trouble(cause),
            };
            return Self::bad(trouble.layer, sentence, detail);
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

fn connected(status: &Status, peer: &PeerStatus) -> String {
    match peer.paths.iter().find(|p| p.active) {
        Some(path) => {
            let relay = if path.via == Via::Relay { ", through a relay" } else { "" };
            format!("{} answers over {}{relay}.", peer.name, called(status, &path.interface))
        }
        None => format!("{} answers.", peer.name),
    }
}

/// What would happen if the active link died, and what fails already.
fn spare(status: &Status, peer: &PeerStatus) -> String {
    match standing(status, peer) {
        Some(others) => format!("{others}."),
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
        Now::with(&from_value(status).unwrap())
    }

    #[test]
    fn what_goes_through_a_relay_is_said_to() {
        let now = of(|status| {
            one(status, "connected");
            status["peers"][0]["paths"][0]["via"] = "relay".into();
        });
        assert!(now.sentence.ends_with(", through a relay."), "{}", now.sentence);
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
        assert_eq!((some.light, some.detail.as_str()), (Light::Partial, "Not answering: office."));
        for state in ["connecting", "unreachable", "down", "dreaming"] {
            assert_ne!(of(|s| one(s, state)).light, Light::Good, "{state}");
        }
    }

    #[test]
    fn what_fails_beside_the_active_link_is_said_and_no_link_stands_by_for_itself() {
        let dual = of(|s| {
            one(s, "connected");
            let path = |interface: &str, remote: &str, state: &str, active: bool| {
                json!({"id": 0, "interface": interface, "local": "", "remote": remote, "state": state,
                       "active": active})
            };
            s["peers"][0]["paths"] = json!([
                path("wifi", "10.9.0.2:6278", "suspect", false),
                path("wifi", "[fd09::2]:6278", "failed", false),
                path("cell", "10.9.0.2:6278", "validated", true),
                path("cell", "[fd09::2]:6278", "validated", false),
            ]);
        });
        assert_eq!(dual.sentence, "nas answers over cell.");
        assert_eq!(dual.detail, "Wi-Fi ‘Train’ does not answer.");
        let alone = of(|s| {
            one(s, "connected");
            s["peers"][0]["paths"].as_array_mut().unwrap().truncate(1);
        });
        assert_eq!(alone.detail, "There is no second way to it now.");
    }

    #[test]
    fn protection_that_is_not_in_force_comes_before_all_that_works() {
        let missing = json!({"state": "missing", "why": "not permitted"});
        let bad = of(|s| s["protection"] = missing.clone());
        assert_eq!((bad.light, bad.layer), (Light::Bad, Some(Layer::Service)));
        assert!(bad.detail.contains("not permitted"), "{bad:?}");
        let held = of(|s| {
            s["up"] = false.into();
            s["protection"] = json!({"state": "in-force"});
        });
        assert_eq!(held.light, Light::Bad, "not off: what goes its usual way then is held back");
        let routes = of(|s| s["protection"] = json!({"state": "routes-only", "why": "no nftables"}));
        assert_eq!(routes.light, Light::Good);
        assert_eq!(of(|s| s["protection"] = json!({"state": "dreaming"})).light, Light::Good);
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
        assert_eq!((paused.light, paused.sentence.as_str()), (Light::Paused, "MAST is paused."));
        let locked = of(|s| {
            s["up"] = false.into();
            s["key"] = "locked".into();
        });
        assert_eq!(locked.layer, Some(Layer::Service));
        assert_eq!(of(|s| s["peers"] = json!([])).light, Light::Working);
    }
}
