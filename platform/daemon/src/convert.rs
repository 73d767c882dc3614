//! The engine's view of things in the words of the control API.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use mast_control::{
    ControlError, Eids, Event, InterfaceKind, InterfaceStatus, PathState, PathStatus, PeerKind, PeerState,
    PeerStatus, PolicyMode, PolicyStatus, Status, timestamp,
};
use mast_engine::api::{
    EngineError, Happening, InterfaceChoice, PathSnapshot, PeerSnapshot, PlainPeer, PublicKey, Snapshot,
};
use mast_proto::Policy;

use crate::words::key_text;

/// Milliseconds, with a fraction.
pub(crate) fn millis(span: Duration) -> f64 {
    // To the microsecond: more digits would pretend.
    (span.as_secs_f64() * 1e6).round() / 1e3
}

/// Everything at one moment. `plain` holds what is known of plain WireGuard peers.
pub(crate) fn status(
    snapshot: Snapshot,
    plain: &BTreeMap<PublicKey, PlainPeer>,
    version: &str,
    events: Vec<Event>,
) -> Status {
    Status {
        up: snapshot.up,
        name: snapshot.name,
        version: version.to_owned(),
        public_key: key_text(&snapshot.public_key),
        interfaces: snapshot.interfaces.into_iter().map(|(i, choice)| interface(i, choice)).collect(),
        peers: snapshot.peers.into_iter().map(|p| peer(p, plain)).collect(),
        events,
        ..Status::default()
    }
}

/// The word for a kind.
pub(crate) fn kind(kind: mast_proto::InterfaceKind) -> InterfaceKind {
    match kind {
        mast_proto::InterfaceKind::Wifi => InterfaceKind::Wifi,
        mast_proto::InterfaceKind::Cellular => InterfaceKind::Cellular,
        mast_proto::InterfaceKind::Ethernet => InterfaceKind::Ethernet,
        mast_proto::InterfaceKind::Other => InterfaceKind::Other,
    }
}

fn interface(interface: mast_proto::Interface, choice: InterfaceChoice) -> InterfaceStatus {
    InterfaceStatus {
        name: interface.name,
        kind: kind(interface.kind),
        network: interface.network,
        addresses: interface.addresses.iter().map(ToString::to_string).collect(),
        metered: interface.metered,
        usable: interface.usable,
        metered_by_hand: choice.metered,
        excluded: choice.excluded,
    }
}

fn peer(peer: PeerSnapshot, plain: &BTreeMap<PublicKey, PlainPeer>) -> PeerStatus {
    let eid = match plain.get(&peer.public_key) {
        Some(plain) => plain_eids(plain),
        None => Eids {
            local_v4: peer.eid_v4.map(|pair| pair.own.to_string()),
            local_v6: peer.eid_v6.map(|(own, _)| own.to_string()),
            remote_v4: peer.eid_v4.map(|pair| pair.other.to_string()),
            remote_v6: peer.eid_v6.map(|(_, other)| other.to_string()),
        },
    };
    let mut modes = vec![PolicyMode::Auto, PolicyMode::Pin];
    // The same rule as the engine's `PeerConfig::can`.
    let is_plain = match peer.kind {
        Some(kind) => kind == mast_proto::PeerKind::WireGuard,
        None => plain.contains_key(&peer.public_key),
    };
    if !is_plain {
        modes.extend([PolicyMode::Redundant, PolicyMode::Bonded]);
    }
    PeerStatus {
        name: peer.name,
        public_key: key_text(&peer.public_key),
        state: match peer.state {
            mast_proto::PeerState::Down => PeerState::Down,
            mast_proto::PeerState::Connecting => PeerState::Connecting,
            mast_proto::PeerState::Connected => PeerState::Connected,
            mast_proto::PeerState::Unreachable => PeerState::Unreachable,
        },
        kind: match peer.kind {
            Some(mast_proto::PeerKind::Mast) => PeerKind::Mast,
            Some(mast_proto::PeerKind::WireGuard) => PeerKind::Wireguard,
            None => PeerKind::Unknown,
        },
        eid,
        policy: policy(&peer.policy),
        own_policy: peer.own_policy,
        full_tunnel: peer.full_tunnel,
        modes,
        rx_bytes: peer.rx_bytes,
        tx_bytes: peer.tx_bytes,
        last_heard_ms: peer.last_heard.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
        paths: peer.paths.into_iter().map(path).collect(),
    }
}

/// What a plain WireGuard peer's file says of addresses; a range is no address of the peer.
pub(crate) fn plain_eids(plain: &PlainPeer) -> Eids {
    let local = |v4: bool| plain.addresses.iter().map(|p| p.address).find(|a| a.is_ipv4() == v4);
    let remote = |v4: bool| {
        let length = if v4 { 32 } else { 128 };
        plain.allowed.iter().find(|p| p.address.is_ipv4() == v4 && p.length == length).map(|p| p.address)
    };
    let text = |address: Option<IpAddr>| address.map(|a| a.to_string());
    Eids {
        local_v4: text(local(true)),
        local_v6: text(local(false)),
        remote_v4: text(remote(true)),
        remote_v6: text(remote(false)),
    }
}

fn path(path: PathSnapshot) -> PathStatus {
    PathStatus {
        id: path.id.into(),
        interface: path.interface,
        local: path.local.to_string(),
        remote: path.remote.to_string(),
        state: match path.state {
            mast_proto::PathState::Candidate => PathState::Candidate,
            mast_proto::PathState::Validating => PathState::Validating,
            mast_proto::PathState::Validated => PathState::Validated,
            mast_proto::PathState::Suspect => PathState::Suspect,
            mast_proto::PathState::Failed => PathState::Failed,
        },
        active: path.active,
        srtt_ms: path.srtt.map(millis),
        loss: path.loss,
        mtu: u16::try_from(path.mtu).unwrap_or(u16::MAX),
        rx_bytes: path.rx_bytes,
        tx_bytes: path.tx_bytes,
    }
}

fn policy(policy: &Policy) -> PolicyStatus {
    let status = PolicyStatus { fallback: true, ..PolicyStatus::default() };
    match policy {
        Policy::Auto => status,
        Policy::Pin { order, fallback } => PolicyStatus {
            mode: PolicyMode::Pin,
            pin: order.iter().map(ToString::to_string).collect(),
            fallback: *fallback,
            ..status
        },
        Policy::Redundant { small, metered } => {
            PolicyStatus { mode: PolicyMode::Redundant, small: *small, metered: *metered, ..status }
        }
        Policy::Bonded { metered } => PolicyStatus { mode: PolicyMode::Bonded, metered: *metered, ..status },
    }
}

/// Something that happened.
pub(crate) fn event(happening: Happening) -> Event {
    Event {
        time: timestamp::rfc3339(happening.time),
        peer: happening.peer,
        from: happening.from,
        to: happening.to,
        reason: happening.reason,
        gap_ms: happening.gap.map(millis),
        sessions: None,
    }
}

/// A refusal of the engine.
pub(crate) fn refusal(error: EngineError) -> ControlError {
    let names = |known: &str| -> Vec<String> {
        let none = known.is_empty() || known.starts_with("none");
        known.split(", ").filter(|_| !none).map(str::to_owned).collect()
    };
    match error {
        EngineError::NoPeer { name, known } => {
            ControlError::not_found(format!("there is no peer `{name}`")).with_known(names(&known))
        }
        EngineError::NoInterface { name, known } => {
            ControlError::not_found(format!("there is no interface `{name}`")).with_known(names(&known))
        }
        EngineError::Conflict(message) => ControlError::conflict(message),
        EngineError::Invite(message) | EngineError::Invalid(message) => ControlError::invalid(message),
        EngineError::System(error) => ControlError::unavailable(error.to_string()),
        EngineError::Stopped => ControlError::unavailable("the service is stopping"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use mast_control::ErrorCode;
    use mast_engine::os::Prefix;
    use mast_proto::wire::EidPair;

    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            up: true,
            name: "laptop".into(),
            public_key: [1; 32],
            interfaces: vec![(
                mast_proto::Interface {
                    id: mast_proto::InterfaceId(3),
                    name: "wlan0".into(),
                    kind: mast_proto::InterfaceKind::Wifi,
                    network: Some("Train".into()),
                    metered: true,
                    addresses: vec!["192.0.2.7".parse().unwrap()],
                    usable: true,
                },
                InterfaceChoice { metered: Some(true), excluded: false },
            )],
            peers: vec![PeerSnapshot {
                name: "nas".into(),
                public_key: [2; 32],
                state: mast_proto::PeerState::Unreachable,
                kind: Some(mast_proto::PeerKind::Mast),
                eid_v6: Some(("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())),
                eid_v4: Some(EidPair { own: [100, 64, 0, 0].into(), other: [100, 64, 0, 1].into() }),
                policy: Policy::Pin { order: vec![mast_proto::Selector::parse("wifi")], fallback: false },
                own_policy: true,
                full_tunnel: Some(true),
                rx_bytes: 5,
                tx_bytes: 6,
                last_heard: Some(Duration::from_micros(1_500_700)),
                paths: vec![PathSnapshot {
                    id: 4,
                    interface: "wlan0".into(),
                    local: "192.0.2.7".parse().unwrap(),
                    remote: "[2001:db8::1]:6278".parse().unwrap(),
                    state: mast_proto::PathState::Suspect,
                    active: true,
                    srtt: Some(Duration::from_nanos(40_250_499)),
                    loss: Some(0.25),
                    mtu: 1400,
                    rx_bytes: 7,
                    tx_bytes: 8,
                }],
            }],
            counters: vec![],
        }
    }

    #[test]
    fn a_snapshot_becomes_a_status() {
        let status = status(snapshot(), &BTreeMap::new(), "1.2.3", vec![]);
        assert_eq!(status.public_key, key_text(&[1; 32]));
        assert_eq!(status.interfaces[0].kind, InterfaceKind::Wifi);
        let peer = &status.peers[0];
        assert_eq!((peer.state, peer.kind), (PeerState::Unreachable, PeerKind::Mast));
        assert_eq!(peer.last_heard_ms, Some(1500));
        assert_eq!(peer.eid.local_v4.as_deref(), Some("100.64.0.0"));
        assert_eq!(peer.eid.remote_v6.as_deref(), Some("fd00::2"));
        assert_eq!(peer.full_tunnel, Some(true));
        let all = [PolicyMode::Auto, PolicyMode::Pin, PolicyMode::Redundant, PolicyMode::Bonded];
        assert_eq!(peer.modes, all);
        assert_eq!(peer.policy.pin, ["wifi"]);
        assert!(!peer.policy.fallback && peer.policy.mode == PolicyMode::Pin);
        let path = &peer.paths[0];
        assert_eq!((path.id, path.srtt_ms, path.state), (4, Some(40.25), PathState::Suspect));
        assert_eq!(path.remote, "[2001:db8::1]:6278");
    }

    #[test]
    fn policies_keep_what_was_chosen() {
        let chosen = |p: Policy| {
            let status = policy(&p);
            (status.mode, status.small, status.metered, status.pin.is_empty())
        };
        assert_eq!(chosen(Policy::Auto), (PolicyMode::Auto, false, false, true));
        let small = Policy::Redundant { small: true, metered: false };
        assert_eq!(chosen(small), (PolicyMode::Redundant, true, false, true));
        let metered = Policy::Redundant { small: false, metered: true };
        assert_eq!(chosen(metered), (PolicyMode::Redundant, false, true, true));
        assert_eq!(chosen(Policy::Bonded { metered: false }), (PolicyMode::Bonded, false, false, true));
        assert_eq!(chosen(Policy::Bonded { metered: true }), (PolicyMode::Bonded, false, true, true));
    }

    #[test]
    fn a_plain_peer_shows_the_addresses_of_its_file_and_the_modes_that_it_can() {
        let prefix = |text: &str| crate::words::prefix(text).unwrap();
        let plain = PlainPeer {
            addresses: vec![prefix("10.8.0.2/24")],
            allowed: vec![prefix("0.0.0.0/0"), Prefix::host("10.8.0.1".parse().unwrap())],
            ..PlainPeer::default()
        };
        let mut snapshot = snapshot();
        snapshot.peers[0].kind = Some(mast_proto::PeerKind::WireGuard);
        let mut unknown = snapshot.peers[0].clone();
        unknown.kind = None;
        snapshot.peers.push(unknown);
        let status = status(snapshot, &BTreeMap::from([([2; 32], plain)]), "1", vec![]);
        assert!(status.peers.iter().all(|p| p.modes == [PolicyMode::Auto, PolicyMode::Pin]));
        let eid = &status.peers[0].eid;
        assert_eq!(eid.local_v4.as_deref(), Some("10.8.0.2"));
        assert_eq!(eid.remote_v4.as_deref(), Some("10.8.0.1"));
        assert_eq!((&eid.local_v6, &eid.remote_v6), (&None, &None));
    }

    #[test]
    fn happenings_become_events() {
        let happening = Happening {
            time: SystemTime::UNIX_EPOCH,
            peer: "nas".into(),
            from: Some("wlan0".into()),
            to: None,
            reason: "went silent".into(),
            gap: Some(Duration::from_millis(61)),
        };
        let event = event(happening);
        assert_eq!((event.time.as_str(), event.gap_ms), ("1970-01-01T00:00:00Z", Some(61.0)));
    }

    #[test]
    fn refusals_keep_what_is_known() {
        let error = refusal(EngineError::NoPeer { name: "x".into(), known: "a, b".into() });
        assert_eq!((error.code, error.known), (ErrorCode::NotFound, vec!["a".to_owned(), "b".to_owned()]));
        let error = refusal(EngineError::NoPeer { name: "x".into(), known: "none yet".into() });
        assert!(error.known.is_empty());
        assert_eq!(refusal(EngineError::Conflict("c".into())).code, ErrorCode::Conflict);
    }
}
