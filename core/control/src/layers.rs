//! The layers between this machine and a peer: how each stands, by what that is known, and when it was looked at.
//!
//! The state follows from the evidence, so that no tick can stand where nothing was checked. What cannot occur is left
//! out: no DNS where no peer has a name.

use serde::{Deserialize, Serialize};

use crate::event::lenient;
use crate::status::{
    InterfaceStatus, KeyPlace, Layer, PathState, PeerState, PeerStatus, Protection, Status, Trouble,
    TroubleCause,
};
use crate::{timestamp, words};

/// How a layer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum LayerState {
    /// It was checked, and is well.
    Ok,
    /// It was checked, and is not.
    Bad,
    /// Nothing that was seen tells.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A layer at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct LayerStatus {
    /// Which.
    pub layer: Layer,
    /// How it stands.
    pub state: LayerState,
    /// By what that is known.
    #[serde(flatten, deserialize_with = "lenient")]
    pub evidence: Evidence,
    /// When it was looked at, as [`timestamp`] writes it; none where it was not.
    #[serde(default)]
    pub checked: Option<String>,
    /// The evidence in English, for readers that do not know its code.
    #[serde(default)]
    pub detail: String,
}

impl LayerStatus {
    /// A layer with what is known of it.
    pub fn new(evidence: Evidence, checked: Option<String>) -> Self {
        let state = evidence.state();
        let checked = checked.filter(|_| state != LayerState::Unknown);
        Self { layer: evidence.layer(), state, detail: words::evidence(&evidence), evidence, checked }
    }
}

/// By what it is known how a layer stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum Evidence {
    /// Interfaces are connected, as the system says.
    Connected {
        /// Which.
        interfaces: Vec<String>,
    },
    /// An interface is not connected, as the system says.
    Unconnected {
        /// Which.
        interface: String,
    },
    /// No interface is connected.
    NoInterface,
    /// What is connected is never to be used.
    Excluded {
        /// One of them.
        interface: String,
    },
    /// There are addresses.
    Addressed {
        /// So many.
        count: u32,
    },
    /// There is none.
    NoAddress,
    /// A peer answers, so no login page is in the way.
    NoPortal,
    /// NetworkManager reached the Internet.
    Online,
    /// NetworkManager found a login page.
    Portal,
    /// Nobody looked for a login page.
    PortalUnasked,
    /// All names of peers were looked up.
    Resolved {
        /// One of them.
        host: String,
    },
    /// A name cannot be looked up.
    Unresolved {
        /// Which.
        host: String,
    },
    /// A name was not looked up yet.
    ResolvePending {
        /// Which.
        host: String,
    },
    /// UDP goes out, and answers come back.
    UdpPasses,
    /// Nothing came back yet: the network or the peer may be the reason.
    UdpUntold,
    /// A peer answers over another interface and not over this one.
    UdpStopped,
    /// The service answers.
    Serving,
    /// The service waits for its private key.
    KeyLocked,
    /// A rule of this machine forbids the service to send.
    Forbidden,
    /// Leak protection is wanted, and not in force.
    Unprotected,
    /// The peers answer.
    PeerAnswers {
        /// So many.
        answering: u32,
        /// Of so many.
        of: u32,
    },
    /// A peer that was tried does not.
    PeerSilent {
        /// So many do not.
        silent: u32,
        /// Of so many.
        of: u32,
    },
    /// It is being tried.
    PeerTried,
    /// It is not tried now.
    PeerUntried,
    /// A lower layer fails, so that nothing can be said.
    Behind,
    /// What this version has no code for; [`LayerStatus::detail`] says it.
    #[default]
    #[serde(other)]
    Other,
}

impl Evidence {
    /// What it shows.
    pub fn state(&self) -> LayerState {
        match self {
            Self::Connected { .. }
            | Self::Addressed { .. }
            | Self::NoPortal
            | Self::Online
            | Self::Resolved { .. }
            | Self::UdpPasses
            | Self::Serving
            | Self::PeerAnswers { .. } => LayerState::Ok,
            Self::Unconnected { .. }
            | Self::NoInterface
            | Self::Excluded { .. }
            | Self::NoAddress
            | Self::Portal
            | Self::Unresolved { .. }
            | Self::UdpStopped
            | Self::KeyLocked
            | Self::Forbidden
            | Self::Unprotected
            | Self::PeerSilent { .. } => LayerState::Bad,
            Self::PortalUnasked
            | Self::ResolvePending { .. }
            | Self::UdpUntold
            | Self::PeerTried
            | Self::PeerUntried
            | Self::Behind
            | Self::Other => LayerState::Unknown,
        }
    }

    fn layer(&self) -> Layer {
        match self {
            Self::Connected { .. } | Self::Unconnected { .. } | Self::NoInterface | Self::Excluded { .. } => {
                Layer::Link
            }
            Self::Addressed { .. } | Self::NoAddress => Layer::Address,
            Self::NoPortal | Self::Online | Self::Portal | Self::PortalUnasked => Layer::Portal,
            Self::Resolved { .. } | Self::Unresolved { .. } | Self::ResolvePending { .. } => Layer::Dns,
            Self::UdpPasses | Self::UdpUntold | Self::UdpStopped => Layer::Nat,
            Self::Serving | Self::KeyLocked | Self::Forbidden | Self::Unprotected => Layer::Service,
            Self::PeerAnswers { .. } | Self::PeerSilent { .. } | Self::PeerTried | Self::PeerUntried => {
                Layer::Peer
            }
            Self::Behind | Self::Other => Layer::Unknown,
        }
    }
}

/// What is known beside what a status says.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Now, as [`timestamp`] writes it.
    pub now: String,
    /// A rule of this machine forbade lately to send.
    pub forbidden: bool,
    /// The names of peers.
    pub names: Vec<NameFact>,
    /// How a time that was so many milliseconds ago is written.
    pub ago: fn(u64) -> String,
}

impl Default for Facts {
    fn default() -> Self {
        Self { now: timestamp::now(), forbidden: false, names: Vec::new(), ago: timestamp::ago }
    }
}

/// What is known of a peer's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameFact {
    /// The peer.
    pub peer: String,
    /// The name.
    pub host: String,
    /// Whether it could be looked up, and when that was tried last; none before.
    pub found: Option<(bool, String)>,
}

impl NameFact {
    fn layer(&self) -> LayerStatus {
        let host = self.host.clone();
        match &self.found {
            Some((true, at)) => LayerStatus::new(Evidence::Resolved { host }, Some(at.clone())),
            Some((false, at)) => LayerStatus::new(Evidence::Unresolved { host }, Some(at.clone())),
            None => LayerStatus::new(Evidence::ResolvePending { host }, None),
        }
    }
}

/// Fills in the layers of everything in a status, and what of them keeps all peers from answering.
pub fn fill(status: &mut Status, facts: &Facts) {
    for interface in &mut status.interfaces {
        interface.layers = of_uplink(interface, &status.peers, facts);
    }
    for peer in &mut status.peers {
        peer.layers = of_peer(peer, facts);
    }
    status.layers = of_all(status, facts);
    status.trouble = trouble(status);
}

/// The layers of one interface.
pub fn of_uplink(interface: &InterfaceStatus, peers: &[PeerStatus], facts: &Facts) -> Vec<LayerStatus> {
    let now = || Some(facts.now.clone());
    let name = interface.name.clone();
    if !interface.usable {
        // Without an address nobody knows whether the link is up.
        let evidence = match interface.addresses.is_empty() {
            true => Evidence::NoAddress,
            false => Evidence::Unconnected { interface: name },
        };
        return vec![LayerStatus::new(evidence, now())];
    }
    let count = u32::try_from(interface.addresses.len()).unwrap_or(u32::MAX);
    let mut layers = vec![
        LayerStatus::new(Evidence::Connected { interfaces: vec![name] }, now()),
        LayerStatus::new(Evidence::Addressed { count }, now()),
    ];
    if !interface.excluded {
        layers.push(udp(Some(&interface.name), peers, facts));
    }
    layers
}

/// Whether UDP passes, over one interface or any.
fn udp(interface: Option<&str>, peers: &[PeerStatus], facts: &Facts) -> LayerStatus {
    let here = |over: &str| interface.is_none_or(|name| name == over);
    let answering =
        peers.iter().flat_map(|p| &p.paths).filter(|p| here(&p.interface) && p.state == PathState::Validated);
    if let Some(ago) = answering.map(|p| p.answered_ms.unwrap_or_default()).min() {
        return LayerStatus::new(Evidence::UdpPasses, Some((facts.ago)(ago)));
    }
    // Over another interface the same peer answers, so that it is not the peer.
    let mute = |peer: &PeerStatus| {
        peer.paths.iter().any(|p| p.state == PathState::Validated)
            && peer.paths.iter().any(|p| here(&p.interface) && p.state == PathState::Failed)
    };
    if interface.is_some() && peers.iter().any(mute) {
        return LayerStatus::new(Evidence::UdpStopped, Some(facts.now.clone()));
    }
    LayerStatus::new(Evidence::UdpUntold, None)
}

/// The layers of one peer.
pub fn of_peer(peer: &PeerStatus, facts: &Facts) -> Vec<LayerStatus> {
    let names = facts.names.iter().filter(|n| n.peer == peer.name);
    let mut layers: Vec<LayerStatus> = dns(names).into_iter().collect();
    layers.push(answers(std::slice::from_ref(peer), facts));
    layers
}

/// What names say: one that cannot be looked up before one that was not yet.
fn dns<'n>(names: impl Iterator<Item = &'n NameFact>) -> Option<LayerStatus> {
    names.map(NameFact::layer).min_by_key(|layer| match layer.state {
        LayerState::Bad => 0,
        LayerState::Unknown => 1,
        LayerState::Ok => 2,
    })
}

fn answers(peers: &[PeerStatus], facts: &Facts) -> LayerStatus {
    let count = |wanted: PeerState| {
        u32::try_from(peers.iter().filter(|p| p.state == wanted).count()).unwrap_or(u32::MAX)
    };
    let of = u32::try_from(peers.len()).unwrap_or(u32::MAX);
    let answering = u32::try_from(peers.iter().filter(|p| p.state.answers()).count()).unwrap_or(u32::MAX);
    let silent = count(PeerState::Unreachable);
    if silent > 0 {
        LayerStatus::new(Evidence::PeerSilent { silent, of }, Some(facts.now.clone()))
    } else if answering > 0 {
        let heard = peers.iter().filter_map(|p| p.last_heard_ms).min();
        LayerStatus::new(Evidence::PeerAnswers { answering, of }, heard.map(facts.ago))
    } else if count(PeerState::Connecting) > 0 {
        LayerStatus::new(Evidence::PeerTried, None)
    } else {
        LayerStatus::new(Evidence::PeerUntried, None)
    }
}

/// The layers of everything together, the lowest first.
pub fn of_all(status: &Status, facts: &Facts) -> Vec<LayerStatus> {
    let now = || Some(facts.now.clone());
    let service = if status.key == KeyPlace::Locked {
        LayerStatus::new(Evidence::KeyLocked, now())
    } else if facts.forbidden {
        LayerStatus::new(Evidence::Forbidden, now())
    } else if matches!(status.protection, Protection::Missing { .. }) {
        LayerStatus::new(Evidence::Unprotected, now())
    } else {
        LayerStatus::new(Evidence::Serving, now())
    };
    if !status.up {
        // Nothing is tried, so nothing is known.
        return if service.state == LayerState::Bad { vec![service] } else { Vec::new() };
    }
    let used: Vec<_> = status.interfaces.iter().filter(|i| i.usable && !i.excluded).collect();
    let dns = dns(facts.names.iter());
    if used.is_empty() {
        let link = match status.interfaces.iter().find(|i| i.usable) {
            Some(i) => Evidence::Excluded { interface: i.name.clone() },
            None => Evidence::NoInterface,
        };
        let behind = |layer| LayerStatus { layer, ..LayerStatus::new(Evidence::Behind, None) };
        let mut layers = vec![LayerStatus::new(link, now()), behind(Layer::Address)];
        layers.extend(dns.map(|_| behind(Layer::Dns)));
        layers.extend([behind(Layer::Nat), service]);
        layers.extend((!status.peers.is_empty()).then(|| behind(Layer::Peer)));
        return layers;
    }
    let count = u32::try_from(used.iter().map(|i| i.addresses.len()).sum::<usize>()).unwrap_or(u32::MAX);
    let interfaces = used.iter().map(|i| i.name.clone()).collect();
    let mut layers = vec![
        LayerStatus::new(Evidence::Connected { interfaces }, now()),
        LayerStatus::new(Evidence::Addressed { count }, now()),
    ];
    if status.peers.is_empty() {
        layers.push(service);
        return layers;
    }
    let udp = udp(None, &status.peers, facts);
    layers.push(match udp.state {
        LayerState::Ok => LayerStatus::new(Evidence::NoPortal, udp.checked.clone()),
        _ => LayerStatus::new(Evidence::PortalUnasked, None),
    });
    layers.extend(dns);
    layers.extend([udp, service, answers(&status.peers, facts)]);
    layers
}

/// The lowest layer that fails, while MAST is up and no peer answers.
pub fn trouble(status: &Status) -> Option<Trouble> {
    let answered = status.peers.iter().any(|p| p.state.answers());
    if !status.up || status.peers.is_empty() || answered {
        return None;
    }
    let cause = status.layers.iter().filter(|l| l.state == LayerState::Bad).find_map(|l| {
        Some(match &l.evidence {
            Evidence::NoInterface => TroubleCause::NoInterface,
            Evidence::Excluded { interface } => TroubleCause::Excluded { interface: interface.clone() },
            Evidence::Portal => TroubleCause::Portal,
            Evidence::Unresolved { host } => TroubleCause::NameUnknown { host: host.clone() },
            Evidence::Forbidden => TroubleCause::Forbidden,
            Evidence::Unprotected => TroubleCause::Unprotected,
            Evidence::KeyLocked => TroubleCause::KeyLocked,
            Evidence::PeerSilent { .. } => TroubleCause::NoAnswer,
            _ => return None,
        })
    })?;
    Some(Trouble::new(cause))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    const NOW: &str = "2026-11-26T12:00:00Z";

    fn facts(names: &[(&str, Option<bool>)]) -> Facts {
        let fact = |(host, found): &(&str, Option<bool>)| NameFact {
            peer: "nas".into(),
            host: (*host).into(),
            found: found.map(|found| (found, NOW.to_owned())),
        };
        let names = names.iter().map(fact).collect();
        Facts { now: NOW.into(), forbidden: false, names, ago: |ms| format!("-{ms}") }
    }

    fn path(over: &str, state: &str) -> Value {
        json!({"id": 0, "interface": over, "local": "", "remote": "", "state": state,
               "active": state == "validated", "answered_ms": 40})
    }

    fn status(interface: &Value, state: &str, paths: &[Value]) -> Status {
        from_value(json!({"up": true, "name": "", "version": "", "public_key": "", "interfaces": [interface],
            "peers": [{"name": "nas", "public_key": "", "state": state, "kind": "mast", "eid": {},
                       "last_heard_ms": 30, "policy": {"mode": "auto"}, "paths": paths}]}))
        .unwrap()
    }

    fn wifi(usable: bool, excluded: bool) -> Value {
        json!({"name": "wifi", "kind": "wifi", "usable": usable, "excluded": excluded, "addresses": ["192.0.2.1"]})
    }

    fn filled(interface: &Value, state: &str, paths: &[Value], facts: &Facts) -> Status {
        let mut status = status(interface, state, paths);
        fill(&mut status, facts);
        status
    }

    fn states(layers: &[LayerStatus]) -> Vec<(Layer, LayerState)> {
        layers.iter().map(|l| (l.layer, l.state)).collect()
    }

    #[test]
    fn a_tick_stands_only_where_something_was_seen_and_what_cannot_occur_is_left_out() {
        use LayerState::{Bad, Ok, Unknown};
        let well = filled(&wifi(true, false), "connected", &[path("wifi", "validated")], &facts(&[]));
        let all = [Layer::Link, Layer::Address, Layer::Portal, Layer::Nat, Layer::Service, Layer::Peer];
        assert_eq!(states(&well.layers), all.map(|layer| (layer, Ok)), "no name, so no DNS");
        assert_eq!(well.layers[3].checked.as_deref(), Some("-40"), "when it was last answered");
        assert!(well.trouble.is_none());

        let named = facts(&[("nas.example", Some(true))]);
        let mute = filled(&wifi(true, false), "unreachable", &[path("wifi", "failed")], &named);
        let expected = [
            (Layer::Link, Ok),
            (Layer::Address, Ok),
            (Layer::Portal, Unknown),
            (Layer::Dns, Ok),
            (Layer::Nat, Unknown),
            (Layer::Service, Ok),
            (Layer::Peer, Bad),
        ];
        assert_eq!(states(&mute.layers), expected, "whether the network lets UDP through is not known");
        assert!(mute.layers.iter().filter(|l| l.state == Unknown).all(|l| l.checked.is_none()));
        assert!(mute.layers.iter().all(|l| !l.detail.is_empty()));

        let cut = filled(&wifi(false, false), "down", &[], &named);
        assert_eq!(cut.layers[0].state, Bad);
        let mut rest = cut.layers[1..].iter().filter(|l| l.layer != Layer::Service);
        assert!(rest.all(|l| l.state == Unknown), "{:?}", cut.layers);

        let mut off = status(&wifi(true, false), "down", &[]);
        off.up = false;
        fill(&mut off, &facts(&[]));
        assert!(off.layers.is_empty(), "nothing is tried");
    }

    #[test]
    fn an_uplink_over_which_nothing_comes_while_another_works_is_named() {
        let paths = [path("wifi", "failed"), path("cell", "validated")];
        let mut status = status(&wifi(true, false), "connected", &paths);
        let cell = json!({"name": "cell", "kind": "cellular", "usable": true, "addresses": ["192.0.2.2"]});
        status.interfaces.push(from_value(cell).unwrap());
        fill(&mut status, &facts(&[]));
        let last = |at: usize| status.interfaces[at].layers.last().unwrap();
        assert_eq!((&last(0).evidence, last(0).state), (&Evidence::UdpStopped, LayerState::Bad));
        assert_eq!((&last(1).evidence, last(1).state), (&Evidence::UdpPasses, LayerState::Ok));
    }

    #[test]
    fn the_lowest_layer_that_fails_is_the_trouble_while_no_peer_answers() {
        let layer = |interface: Value, state: &str, names: &[(&str, Option<bool>)], forbidden: bool| {
            let facts = Facts { forbidden, ..facts(names) };
            filled(&interface, state, &[], &facts).trouble.map(|t| t.layer)
        };
        let unknown = [("nas.example", Some(false))];
        assert_eq!(layer(wifi(false, false), "down", &unknown, false), Some(Layer::Link));
        assert_eq!(layer(wifi(true, true), "down", &[], false), Some(Layer::Link));
        assert_eq!(layer(wifi(true, false), "down", &unknown, false), Some(Layer::Dns));
        assert_eq!(layer(wifi(true, false), "connecting", &[("nas.example", None)], false), None);
        assert_eq!(layer(wifi(true, false), "unreachable", &[], false), Some(Layer::Peer));
        assert_eq!(layer(wifi(true, false), "connecting", &[], false), None);
        assert_eq!(layer(wifi(true, false), "connecting", &[], true), Some(Layer::Service));
        assert_eq!(layer(wifi(true, false), "connected", &[], true), None);
        assert_eq!(layer(wifi(true, false), "connected", &unknown, false), None);
    }

    #[test]
    fn evidence_of_other_versions_leaves_its_english() {
        let newer = json!({"layer": "moon", "state": "full", "code": "moon", "detail": "it is full"});
        let layer: LayerStatus = from_value(newer).unwrap();
        assert_eq!((layer.layer, layer.state), (Layer::Unknown, LayerState::Unknown));
        assert_eq!(layer.evidence, Evidence::Other);
        assert_eq!(words::layer_detail(&layer), "it is full");
    }
}
