//! The engine's view of things in the words of the control API.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use mast_control::{
    AddressesTold, ControlError, Eids, Ends, ErrorCode, Event, Fitness, InterfaceKind, InterfaceStatus,
    InviteProblem, LeftOut, LeftOutWhy, Part, PathState, PathStatus, PeerKind, PeerState, PeerStatus,
    PolicyMode, PolicyStatus, Protection, SocketCause, Status, Via, What, Why, part, timestamp,
};
use mast_engine::api::{
    self, EngineError, Happening, InterfaceChoice, PathSnapshot, PeerSnapshot, PlainPeer, Snapshot,
};
use mast_engine::declared::Protection as Held;
use mast_engine::os::Family;
use mast_proto::{Ailment, PeerLink, Policy, Reason};

use crate::notation::key_text;

/// Milliseconds, with a fraction.
pub(crate) fn millis(span: Duration) -> f64 {
    // To the microsecond: more digits would pretend.
    (span.as_secs_f64() * 1e6).round() / 1e3
}

/// Everything at one moment.
pub(crate) fn status(snapshot: Snapshot, version: &str, events: Vec<Event>) -> Status {
    let interfaces: Vec<_> =
        snapshot.interfaces.into_iter().map(|(i, choice)| interface(i, choice)).collect();
    let mut peers: Vec<_> = snapshot.peers.into_iter().map(peer).collect();
    for peer in &mut peers {
        peer.uplinks = part::of_uplinks(&interfaces, &peer.paths);
    }
    Status {
        up: snapshot.up,
        name: snapshot.name,
        version: version.to_owned(),
        public_key: key_text(&snapshot.public_key),
        interfaces,
        peers,
        left_out: snapshot.left_out.into_iter().map(left_out).collect(),
        refused: snapshot.refused,
        protection: protection(snapshot.protection),
        events,
        policy: Some(policy(&snapshot.policy)),
        ..Status::default()
    }
}

/// How leak protection stands.
pub(crate) fn protection(protection: Held) -> Protection {
    match protection {
        Held::Idle => Protection::Idle,
        Held::InForce => Protection::InForce,
        Held::RoutesOnly { why } => Protection::RoutesOnly { why },
        Held::Missing { why } => Protection::Missing { why },
    }
}

/// Why an interface is not used.
fn left_out((name, why): (String, api::LeftOut)) -> LeftOut {
    let why = match why {
        api::LeftOut::Ignored => LeftOutWhy::Ignored,
        api::LeftOut::Port => LeftOutWhy::Port,
        api::LeftOut::Tunnel => LeftOutWhy::Tunnel,
        api::LeftOut::Inside => LeftOutWhy::Inside,
    };
    LeftOut { name, why }
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

/// An interface, with what the user chose for it.
pub(crate) fn interface(interface: mast_proto::Interface, choice: InterfaceChoice) -> InterfaceStatus {
    InterfaceStatus {
        name: interface.name,
        kind: kind(interface.kind),
        network: interface.network,
        addresses: interface.addresses.iter().map(ToString::to_string).collect(),
        metered: interface.metered,
        usable: interface.usable,
        metered_by_hand: choice.metered,
        excluded: choice.excluded,
        weak: interface.outlook.weak,
        spent: interface.outlook.spent,
        layers: Vec::new(),
    }
}

/// A peer at one moment.
pub(crate) fn peer(peer: PeerSnapshot) -> PeerStatus {
    let eid = match &peer.plain {
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
        _ if !peer.disclosure.mast => true,
        Some(kind) => kind == mast_proto::PeerKind::WireGuard,
        None => peer.plain.is_some(),
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
            mast_proto::PeerState::Connected if peer.partial => PeerState::Partial,
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
        mast: peer.plain.is_some().then_some(peer.disclosure.mast),
        addresses: told(peer.disclosure.addresses),
        own: peer.disclosure.own,
        modes,
        troubles: peer.troubles,
        rx_bytes: peer.rx_bytes,
        tx_bytes: peer.tx_bytes,
        last_heard_ms: peer.last_heard.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
        paths: peer.paths.into_iter().map(path).collect(),
        uplinks: Vec::new(),
        layers: Vec::new(),
    }
}

/// The word for which addresses are told.
fn told(told: mast_proto::AddressesTold) -> AddressesTold {
    match told {
        mast_proto::AddressesTold::All => AddressesTold::All,
        mast_proto::AddressesTold::PublicOnly => AddressesTold::PublicOnly,
        mast_proto::AddressesTold::RelayedOnly => AddressesTold::RelayedOnly,
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
        via: match path.via {
            mast_proto::Via::Direct => Via::Direct,
            mast_proto::Via::Relay(_) => Via::Relay,
        },
        peer_link: match path.peer_link {
            PeerLink::Number(number) => Some(number),
            PeerLink::Address(_) | PeerLink::Unknown(_) => None,
        },
        state: match path.state {
            mast_proto::PathState::Candidate => PathState::Candidate,
            mast_proto::PathState::Validating => PathState::Validating,
            mast_proto::PathState::Validated => PathState::Validated,
            mast_proto::PathState::Suspect => PathState::Suspect,
            mast_proto::PathState::Failed => PathState::Failed,
        },
        active: path.active,
        fitness: (path.state == mast_proto::PathState::Validated).then_some(match path.fitness {
            mast_proto::Fitness::Fit => Fitness::Fit,
            mast_proto::Fitness::Strained => Fitness::Strained,
            mast_proto::Fitness::Unfit => Fitness::Unfit,
        }),
        ailment: path.ailment.map(|Ailment { lost, late, stalled }| mast_control::Ailment {
            lost_percent: lost,
            late_ms: late,
            stalled,
        }),
        part: Part::of(path.part),
        answered_ms: path.answered.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
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
    let moved = match &happening.what {
        api::What::Moved(moved) => Some(moved.clone()),
        _ => None,
    };
    let event = Event::at(timestamp::rfc3339(happening.time), happening.peer, what(happening.what));
    let Some(api::Moved { from, to, gap, .. }) = moved else { return event };
    let ends = |ends: &api::Ends| Ends {
        local: ends.local.map(|address| address.to_string()),
        remote: ends.remote.to_string(),
    };
    Event {
        from_path: from.as_ref().map(ends),
        to_path: to.as_ref().map(ends),
        from: from.map(|ends| ends.interface),
        to: to.map(|ends| ends.interface),
        gap_ms: gap.map(millis),
        ..event
    }
}

fn what(what: api::What) -> What {
    match what {
        api::What::Moved(moved) => match moved.reason {
            Reason::InterfaceDown => What::LinkDown,
            Reason::AddressGone => What::AddressGone,
            Reason::Silent => What::Silent,
            Reason::PeerSilent => What::PeerSilent,
            Reason::PeerAddressGone => What::PeerAddressGone,
            Reason::Unreachable => What::NoRoute,
            Reason::Policy => What::Policy,
            Reason::PeerWish => What::PeerWish,
            Reason::Better => What::Better,
            Reason::Connected => What::Connected,
            Reason::Restored => What::Restored,
            Reason::Drill => What::Drill,
            Reason::Unfit(Ailment { lost, late, stalled }) => {
                What::Unfit { lost_percent: lost, late_ms: late, stalled }
            }
        },
        api::What::Restarted => What::Restarted,
        api::What::PeerOff => What::PeerOff,
        api::What::RemovedByPeer => What::RemovedByPeer,
        api::What::CameByInvite => What::CameByInvite,
        api::What::InviteAccepted => What::InviteAccepted,
        api::What::RoutesRefused { error } => What::RoutesRefused { error },
        api::What::PutBack { what, again } => What::PutBack { what, again },
        api::What::TunnelLost { error } => What::TunnelLost { error },
        api::What::NoSocket { interface, port, kind, error } => {
            What::NoSocket { interface, port, cause: socket_cause(kind), error }
        }
        api::What::WatchEnded => What::WatchEnded,
    }
}

fn socket_cause(kind: ErrorKind) -> SocketCause {
    match kind {
        ErrorKind::AddrInUse => SocketCause::InUse,
        ErrorKind::PermissionDenied => SocketCause::NotPermitted,
        _ => SocketCause::Other,
    }
}

/// The word for a mode.
fn mode(policy: &Policy) -> PolicyMode {
    match policy {
        Policy::Auto => PolicyMode::Auto,
        Policy::Pin { .. } => PolicyMode::Pin,
        Policy::Redundant { .. } => PolicyMode::Redundant,
        Policy::Bonded { .. } => PolicyMode::Bonded,
    }
}

/// A refusal of the engine.
pub(crate) fn refusal(error: EngineError) -> ControlError {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let why = match error {
        EngineError::NoPeer { name, known } => {
            return ControlError::of(Why::NoPeer { name }).with_known(known);
        }
        EngineError::NoInterface { name, known } => {
            return ControlError::of(Why::NoInterface { name }).with_known(known);
        }
        EngineError::BadName { name } => Why::BadName { name },
        EngineError::PeerExists { name } => Why::PeerExists { name },
        EngineError::KeyExists { name } => Why::KeyExists { name },
        EngineError::OwnKey => Why::OwnKey,
        EngineError::PlainMode { peer, policy } => {
            return ControlError::of(Why::PlainMode { peer, mode: mode(&policy) }).in_field("mode");
        }
        EngineError::NoFullTunnel { peer } => {
            return ControlError::of(Why::NoFullTunnel { peer }).in_field("full_tunnel");
        }
        EngineError::NotOfFile { peer } => {
            return ControlError::of(Why::NotOfFile { peer }).in_field("mast");
        }
        EngineError::EmptyPin => Why::EmptyPin,
        EngineError::SwitchedOff => Why::SwitchedOff,
        EngineError::NoAddress => Why::NoAddress,
        EngineError::NoInvite { id } => {
            let text = format!("there is no invite `{id}`: `mast invite list` shows those that there are");
            return ControlError::new(ErrorCode::NotFound, text);
        }
        EngineError::TooManyInvites { most } => Why::TooManyInvites { most: count(most) },
        // The service's own relays: nobody asks for them by request.
        EngineError::TooManyRelays { .. } => {
            return ControlError::new(ErrorCode::Internal, error.to_string());
        }
        EngineError::TooLong => Why::TooLong,
        EngineError::Joining => Why::Joining,
        EngineError::Invite { problem, inviter, port } => {
            Why::Invite { problem: invite_problem(problem), inviter, port }
        }
        EngineError::DrillRuns => Why::DrillRuns,
        EngineError::DrillPlain { peer } => Why::DrillPlain { peer },
        EngineError::DrillLinks { peer, working } => Why::DrillLinks { peer, working: count(working) },
        EngineError::NoSocket { interface, port, error } => {
            Why::NoSocket { interface, port, cause: socket_cause(error.kind()), error: error.to_string() }
        }
        EngineError::System(error) => Why::System { error: error.to_string() },
        EngineError::Stopped => Why::Stopping,
    };
    ControlError::of(why)
}

fn invite_problem(problem: api::InviteProblem) -> InviteProblem {
    match problem {
        api::InviteProblem::Foreign => InviteProblem::Foreign,
        api::InviteProblem::OtherVersion => InviteProblem::OtherVersion,
        api::InviteProblem::Damaged => InviteProblem::Damaged,
        api::InviteProblem::Own => InviteProblem::Own,
        api::InviteProblem::Known => InviteProblem::Known,
        api::InviteProblem::Expired => InviteProblem::Expired,
        api::InviteProblem::NoAddress => InviteProblem::NoAddress,
        api::InviteProblem::Needs(Family::V4) => InviteProblem::NeedsIpv4,
        api::InviteProblem::Needs(Family::V6) => InviteProblem::NeedsIpv6,
        api::InviteProblem::NeedsNetwork => InviteProblem::NeedsNetwork,
        api::InviteProblem::NoAnswer => InviteProblem::NoAnswer,
        api::InviteProblem::Unfinished => InviteProblem::Unfinished,
        api::InviteProblem::SaidExpired => InviteProblem::SaidExpired,
        api::InviteProblem::SaidUsed => InviteProblem::SaidUsed,
        api::InviteProblem::SaidKey => InviteProblem::SaidKey,
        api::InviteProblem::SaidVersion => InviteProblem::SaidVersion,
        api::InviteProblem::SwitchedOff => InviteProblem::SwitchedOff,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use mast_control::words;
    use mast_engine::os::Prefix;
    use mast_proto::wire::EidPair;

    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            single: Vec::new(),
            protection: Held::Idle,
            left_out: vec![("tun0".into(), api::LeftOut::Tunnel)],
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
                    link_local: None,
                    usable: true,
                    outlook: Default::default(),
                    relayed: Vec::new(),
                    reflexive: Vec::new(),
                },
                InterfaceChoice { metered: Some(true), excluded: false },
            )],
            refused: Vec::new(),
            peers: vec![PeerSnapshot {
                troubles: Vec::new(),
                partial: false,
                name: "nas".into(),
                public_key: [2; 32],
                state: mast_proto::PeerState::Unreachable,
                kind: Some(mast_proto::PeerKind::Mast),
                eid_v6: Some(("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())),
                eid_v4: Some(EidPair { own: [100, 64, 0, 0].into(), other: [100, 64, 0, 1].into() }),
                policy: Policy::Pin { order: vec![mast_proto::Selector::parse("wifi")], fallback: false },
                own_policy: true,
                full_tunnel: Some(true),
                disclosure: Default::default(),
                plain: None,
                rx_bytes: 5,
                tx_bytes: 6,
                last_heard: Some(Duration::from_micros(1_500_700)),
                paths: vec![PathSnapshot {
                    id: 4,
                    interface: "wlan0".into(),
                    local: "192.0.2.7".parse().unwrap(),
                    remote: "[2001:db8::1]:6278".parse().unwrap(),
                    via: mast_proto::Via::Direct,
                    peer_link: PeerLink::Number(2),
                    state: mast_proto::PathState::Suspect,
                    ailment: None,
                    part: "silent",
                    answered: Some(Duration::from_millis(700)),
                    active: true,
                    fitness: mast_proto::Fitness::Unfit,
                    srtt: Some(Duration::from_nanos(40_250_499)),
                    loss: Some(0.25),
                    mtu: 1400,
                    rx_bytes: 7,
                    tx_bytes: 8,
                }],
            }],
            counters: vec![],
            forbidden: None,
            policy: Policy::Auto,
            seen: Vec::new(),
        }
    }

    #[test]
    fn a_snapshot_becomes_a_status() {
        let status = status(snapshot(), "1.2.3", vec![]);
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
        assert_eq!((path.via, path.peer_link), (Via::Direct, Some(2)));
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
        let prefix = |text: &str| crate::notation::prefix(text).unwrap();
        let plain = PlainPeer {
            addresses: vec![prefix("10.8.0.2/24")],
            allowed: vec![prefix("0.0.0.0/0"), Prefix::host("10.8.0.1".parse().unwrap())],
            ..PlainPeer::default()
        };
        let mut snapshot = snapshot();
        snapshot.peers[0].kind = Some(mast_proto::PeerKind::WireGuard);
        snapshot.peers[0].plain = Some(plain);
        snapshot.peers[0].disclosure = mast_proto::Disclosure::WIREGUARD;
        let mut unknown = snapshot.peers[0].clone();
        unknown.kind = None;
        snapshot.peers.push(unknown);
        let status = status(snapshot, "1", vec![]);
        assert!(status.peers.iter().all(|p| p.modes == [PolicyMode::Auto, PolicyMode::Pin]));
        let eid = &status.peers[0].eid;
        assert_eq!(eid.local_v4.as_deref(), Some("10.8.0.2"));
        assert_eq!(eid.remote_v4.as_deref(), Some("10.8.0.1"));
        assert_eq!((&eid.local_v6, &eid.remote_v6), (&None, &None));
    }

    #[test]
    fn happenings_become_events() {
        let ends = |remote: &str| {
            let (local, remote) = ("192.0.2.7".parse().unwrap(), remote.parse().unwrap());
            api::Ends { interface: "wlan0".into(), local: Some(local), remote }
        };
        let happening = Happening {
            time: SystemTime::UNIX_EPOCH,
            peer: "nas".into(),
            what: api::What::Moved(api::Moved {
                from: Some(ends("192.0.2.1:6278")),
                to: None,
                reason: Reason::Silent,
                gap: Some(Duration::from_millis(61)),
            }),
        };
        let event = event(happening);
        assert_eq!((event.time.as_str(), event.gap_ms), ("1970-01-01T00:00:00Z", Some(61.0)));
        assert_eq!((&event.what, event.reason.as_str()), (&What::Silent, "went silent"));
        assert_eq!((event.from.as_deref(), event.to), (Some("wlan0"), None));
        assert_eq!(event.from_path.unwrap().remote, "192.0.2.1:6278");
    }

    #[test]
    fn the_words_of_moves_are_those_of_the_protocol() {
        for reason in [
            Reason::InterfaceDown,
            Reason::AddressGone,
            Reason::Silent,
            Reason::PeerSilent,
            Reason::PeerAddressGone,
            Reason::Unreachable,
            Reason::Policy,
            Reason::PeerWish,
            Reason::Better,
            Reason::Connected,
            Reason::Restored,
            Reason::Drill,
        ] {
            let moved = api::Moved { from: None, to: None, reason, gap: None };
            assert_eq!(words::reason(&what(api::What::Moved(moved))), reason.as_str());
        }
    }

    #[test]
    fn a_path_that_was_left_in_time_is_told_with_what_was_wrong() {
        let reason = Reason::Unfit(Ailment { lost: 14, late: 20, stalled: true });
        let told = what(api::What::Moved(api::Moved { from: None, to: None, reason, gap: None }));
        assert_eq!(told, What::Unfit { lost_percent: 14, late_ms: 20, stalled: true });
        assert!(words::reason(&told).starts_with("lost 14 % and stalled"), "{told:?}");
    }

    #[test]
    fn refusals_keep_their_values() {
        let known = vec!["a, b".to_owned(), "none yet".to_owned()];
        let error = refusal(EngineError::NoPeer { name: "x".into(), known: known.clone() });
        assert_eq!((error.code, *error.why), (ErrorCode::NotFound, Why::NoPeer { name: "x".into() }));
        assert_eq!(error.known, known);
        let error = refusal(EngineError::PeerExists { name: "c".into() });
        assert_eq!(error.code, ErrorCode::Conflict);
        let bonded = Policy::Bonded { metered: false };
        let error = refusal(EngineError::PlainMode { peer: "wg".into(), policy: bonded });
        assert_eq!((error.field.as_deref(), error.message.contains("\"bonded\"")), (Some("mode"), true));
        let needs = api::InviteProblem::Needs(Family::V6);
        assert!(refusal(needs.into()).message.contains("reached by IPv6"));
        let taken = EngineError::NoSocket {
            interface: "eth1".into(),
            port: 6278,
            error: ErrorKind::AddrInUse.into(),
        };
        assert!(refusal(taken).message.contains("give MAST another port"));
    }
}
