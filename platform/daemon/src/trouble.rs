//! What keeps the peers from answering, as far as this machine can tell without asking anybody.

use mast_control::{Layer, PeerState, Status, Trouble};

/// The lowest layer that fails, while MAST is up and no peer answers. `unknown` are the host names of peers of which no
/// address is known.
pub(crate) fn of(status: &Status, unknown: &[String]) -> Option<Trouble> {
    let states: Vec<_> = status.peers.iter().map(|p| p.state).collect();
    if !status.up || states.is_empty() || states.contains(&PeerState::Connected) {
        return None;
    }
    let trouble = |layer, detail: String| Some(Trouble { layer, detail });
    if !status.interfaces.iter().any(|i| i.usable && !i.excluded) {
        let detail = match status.interfaces.iter().find(|i| i.usable) {
            Some(i) => format!("{} is connected, but never to be used.", i.name),
            None => "No interface is connected. What is open goes on as soon as one is.".to_owned(),
        };
        return trouble(Layer::Link, detail);
    }
    if let [name, ..] = unknown {
        return trouble(
            Layer::Dns,
            format!(
                "The name {name} cannot be looked up. It is tried again; is it spelled right, and does DNS work?"
            ),
        );
    }
    if !states.contains(&PeerState::Unreachable) {
        return None;
    }
    trouble(
        Layer::Peer,
        "This machine has a network, and nothing comes back. The other machine may be off, or a firewall keeps UDP \
         from it."
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn layer(interface: Value, state: &str, unknown: &[&str]) -> Option<Layer> {
        let status = json!({"up": true, "name": "", "version": "", "public_key": "", "interfaces": [interface],
            "peers": [{"name": "nas", "public_key": "", "state": state, "kind": "mast", "eid": {},
                       "policy": {"mode": "auto"}}]});
        let unknown: Vec<_> = unknown.iter().map(|&n| n.to_owned()).collect();
        of(&from_value(status).unwrap(), &unknown).map(|t| t.layer)
    }

    #[test]
    fn the_lowest_layer_is_named() {
        let wifi = |usable, excluded| json!({"name": "wifi", "kind": "wifi", "usable": usable, "excluded": excluded});
        assert_eq!(layer(wifi(false, false), "down", &["nas.example"]), Some(Layer::Link));
        assert_eq!(layer(wifi(true, true), "down", &[]), Some(Layer::Link));
        assert_eq!(layer(wifi(true, false), "down", &["nas.example"]), Some(Layer::Dns));
        assert_eq!(layer(wifi(true, false), "unreachable", &[]), Some(Layer::Peer));
        assert_eq!(layer(wifi(true, false), "connecting", &[]), None);
        assert_eq!(layer(wifi(true, false), "connected", &["nas.example"]), None);
    }
}
