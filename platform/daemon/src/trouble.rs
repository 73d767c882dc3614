//! What keeps the peers from answering, as far as this machine can tell without asking anybody.

use mast_control::{PeerState, Status, Trouble, TroubleCause};

/// The lowest layer that fails, while MAST is up and no peer answers. `unknown` are the host names of peers of which no
/// address is known.
/// `forbidden`: a rule of this host forbade lately to send.
pub(crate) fn of(status: &Status, unknown: &[String], forbidden: bool) -> Option<Trouble> {
    let states: Vec<_> = status.peers.iter().map(|p| p.state).collect();
    if !status.up || states.is_empty() || states.iter().any(|s| s.answers()) {
        return None;
    }
    let trouble = |cause| Some(Trouble::new(cause));
    if !status.interfaces.iter().any(|i| i.usable && !i.excluded) {
        return trouble(match status.interfaces.iter().find(|i| i.usable) {
            Some(i) => TroubleCause::Excluded { interface: i.name.clone() },
            None => TroubleCause::NoInterface,
        });
    }
    if let [name, ..] = unknown {
        return trouble(TroubleCause::NameUnknown { host: name.clone() });
    }
    // That is certain, whatever the peers may be.
    if forbidden {
        return trouble(TroubleCause::Forbidden);
    }
    if !states.contains(&PeerState::Unreachable) {
        return None;
    }
    trouble(TroubleCause::NoAnswer)
}

#[cfg(test)]
mod tests {
    use mast_control::Layer;
    use serde_json::{Value, from_value, json};

    use super::*;

    fn layer(interface: Value, state: &str, unknown: &[&str]) -> Option<Layer> {
        layer_if(interface, state, unknown, false)
    }

    fn layer_if(interface: Value, state: &str, unknown: &[&str], forbidden: bool) -> Option<Layer> {
        let status = json!({"up": true, "name": "", "version": "", "public_key": "", "interfaces": [interface],
            "peers": [{"name": "nas", "public_key": "", "state": state, "kind": "mast", "eid": {},
                       "policy": {"mode": "auto"}}]});
        let unknown: Vec<_> = unknown.iter().map(|&n| n.to_owned()).collect();
        of(&from_value(status).unwrap(), &unknown, forbidden).map(|t| t.layer)
    }

    #[test]
    fn the_lowest_layer_is_named() {
        let wifi = |usable, excluded| json!({"name": "wifi", "kind": "wifi", "usable": usable, "excluded": excluded});
        assert_eq!(layer(wifi(false, false), "down", &["nas.example"]), Some(Layer::Link));
        assert_eq!(layer(wifi(true, true), "down", &[]), Some(Layer::Link));
        assert_eq!(layer(wifi(true, false), "down", &["nas.example"]), Some(Layer::Dns));
        assert_eq!(layer(wifi(true, false), "unreachable", &[]), Some(Layer::Peer));
        assert_eq!(layer(wifi(true, false), "connecting", &[]), None);
        assert_eq!(layer_if(wifi(true, false), "connecting", &[], true), Some(Layer::Link));
        assert_eq!(layer_if(wifi(true, false), "connected", &[], true), None);
        assert_eq!(layer(wifi(true, false), "connected", &["nas.example"]), None);
    }
}
