//! What is known of the layers, in words.

use super::list;
use crate::layers::{Evidence, LayerState, LayerStatus};
use crate::status::Layer;

/// What a layer is called.
pub fn layer(layer: Layer) -> &'static str {
    match layer {
        Layer::Link => "Link",
        Layer::Address => "Address",
        Layer::Portal => "Login page",
        Layer::Dns => "DNS",
        Layer::Nat => "UDP",
        Layer::Service => "Service",
        Layer::Peer => "Peer",
        Layer::Unknown => "Another layer",
    }
}

/// How a layer stands.
pub fn layer_state(state: LayerState) -> &'static str {
    match state {
        LayerState::Ok => "ok",
        LayerState::Bad => "BAD",
        LayerState::Unknown => "not known",
    }
}

/// By what it is known how a layer stands; the service's own English where this version has no words for it.
pub fn layer_detail(layer: &LayerStatus) -> String {
    match evidence(&layer.evidence) {
        known if known.is_empty() => layer.detail.clone(),
        known => known,
    }
}

/// By what it is known how a layer stands.
pub fn evidence(evidence: &Evidence) -> String {
    let names = |names: &[String]| list(&names.iter().map(String::as_str).collect::<Vec<_>>());
    match evidence {
        Evidence::Connected { interfaces } => match interfaces.as_slice() {
            [one] => format!("{one} is connected"),
            several => format!("{} are connected", names(several)),
        },
        Evidence::Unconnected { interface } => format!("{interface} is not connected"),
        Evidence::NoInterface => "no interface is connected".to_owned(),
        Evidence::Excluded { interface } => format!("{interface} is connected, but never to be used"),
        Evidence::Addressed { count: 1 } => "one address".to_owned(),
        Evidence::Addressed { count } => format!("{count} addresses"),
        Evidence::NoAddress => "no address".to_owned(),
        Evidence::NoPortal => "no login page is in the way: a peer answers".to_owned(),
        Evidence::Online => "NetworkManager reached the Internet".to_owned(),
        Evidence::Portal => "NetworkManager found a page that wants a login".to_owned(),
        Evidence::PortalUnasked => "nobody here looks for login pages".to_owned(),
        Evidence::Resolved { host } => format!("{host} was looked up"),
        Evidence::Unresolved { host } => format!("{host} cannot be looked up"),
        Evidence::ResolvePending { host } => format!("{host} was not looked up yet"),
        Evidence::UdpPasses => "UDP goes out, and answers come back".to_owned(),
        Evidence::UdpUntold => {
            "nothing came back; whether the network or the peer is the reason cannot be told".to_owned()
        }
        Evidence::UdpStopped => "a peer answers over another interface, and not over this one".to_owned(),
        Evidence::Serving => "the service answers".to_owned(),
        Evidence::KeyLocked => "the service waits for its private key".to_owned(),
        Evidence::Unprotected => "leak protection is wanted, and not in force".to_owned(),
        Evidence::Forbidden => "this machine's own firewall holds back what MAST sends".to_owned(),
        Evidence::PeerAnswers { of: 1, .. } => "it answers".to_owned(),
        Evidence::PeerAnswers { answering, of } if answering == of => format!("all {of} answer"),
        Evidence::PeerAnswers { answering, of } => format!("{answering} of {of} answer"),
        Evidence::PeerSilent { of: 1, .. } => "it does not answer".to_owned(),
        Evidence::PeerSilent { silent: 1, of } => format!("one of {of} does not answer"),
        Evidence::PeerSilent { silent, of } => format!("{silent} of {of} do not answer"),
        Evidence::PeerTried => "it is being tried, and did not answer yet".to_owned(),
        Evidence::PeerUntried => "it is not being tried".to_owned(),
        Evidence::Behind => "cannot be seen while a lower layer fails".to_owned(),
        Evidence::Other => String::new(),
    }
}
