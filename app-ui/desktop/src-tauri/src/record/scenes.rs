//! A made-up laptop on a train, in everything that a user may find themselves in. Which path carries is decided by the
//! protocol's own ranking, layers and sentences come from where the service and the app take them, so that no picture
//! can show what the program would not.

use std::collections::BTreeMap;

use mast_control::layers::{Facts, NameFact};
use mast_control::{
    Event, Fitness, Part, PathState, PeerState, PeerStatus, PolicyMode, Status, layers, part, words,
};
use mast_proto::{Interface, InterfaceId, Merit, Policy, Selector};
use serde_json::{Value, from_value, json};

use crate::link::{Service, State};
use crate::mend::Remedy;
use crate::panel::Place;
use crate::portal::Word;
use crate::said::StoryEvent;
use crate::secrets::Store;
use crate::shared::View;
use crate::snapshot::{AppSettings, Snapshot};
use crate::throughput::Throughput;

/// The moment of all scenes.
const NOW: &str = "2026-11-24T12:04:00Z";
const HOSTILE: &str = "<img src=x onerror=alert(1)>";
const LONG: &str = "A very long network name that somebody thought was a fun idea";
const RTL: &str = "شبكة القطار السريع";
const EMOJI: &str = "🚂📶 Zug 👩‍👩‍👧‍👦";

/// Puts what is said of a thing over what is usual.
fn with(mut usual: Value, more: Value) -> Value {
    if let (Some(usual), Value::Object(more)) = (usual.as_object_mut(), more) {
        usual.extend(more);
    }
    usual
}

fn item(name: &str, more: Value) -> Value {
    let usual = json!({
        "name": name, "kind": "wifi", "network": null, "addresses": ["192.168.1.20", "fe80::1c2d:3eff:fe4f:5a6b"],
        "metered": false, "usable": true, "metered_by_hand": null, "excluded": false,
    });
    with(usual, more)
}

fn path(id: u8, over: &str, more: Value) -> Value {
    let usual = json!({
        "id": id, "interface": over, "local": "192.168.1.20", "remote": "203.0.113.7:6278", "state": "validated",
        "active": false, "fitness": "fit", "srtt_ms": 34.2, "loss": 0.004, "mtu": 1420, "rx_bytes": 48_200_000,
        "tx_bytes": 3_900_000, "answered_ms": 12,
    });
    with(usual, more)
}

fn cell(id: u8, more: Value) -> Value {
    let usual = json!({
        "srtt_ms": 61.7, "loss": 0.0, "local": "2001:db8:44::9", "remote": "[2001:db8::7]:6278",
        "rx_bytes": 1_240_000, "tx_bytes": 310_000,
    });
    path(id, "wwan0", with(usual, more))
}

fn silent() -> Value {
    json!({"state": "failed", "fitness": null, "srtt_ms": null, "loss": 1.0, "answered_ms": 64_000})
}

fn peer(name: &str, more: Value) -> Value {
    let usual = json!({
        "name": name, "public_key": "m7Wk1qv0Z8h3uYtRr4nQ2bXcVfGjLsDpEaOiUyTx6Hs=", "state": "connected",
        "kind": "mast", "policy": {"mode": "auto", "pin": [], "fallback": true},
        "eid": {"local_v4": "100.64.7.2", "local_v6": "fd4d:4153:5400::2", "remote_v4": "100.64.7.1",
                "remote_v6": "fd4d:4153:5400::1"},
        "rx_bytes": 1_240_000_000_u64, "tx_bytes": 96_000_000, "last_heard_ms": 12,
        "paths": [path(1, "wlan0", json!({})), cell(2, json!({}))],
        "own_policy": false, "full_tunnel": false, "modes": ["auto", "pin", "redundant", "bonded"],
    });
    with(usual, more)
}

fn plain(name: &str, more: Value) -> Value {
    peer(name, with(json!({"kind": "wireguard", "full_tunnel": null, "modes": ["auto", "pin"]}), more))
}

fn away() -> Value {
    json!({"state": "unreachable", "last_heard_ms": 64_000, "paths": [path(1, "wlan0", silent())]})
}

fn laptop() -> Value {
    json!([
        item("wlan0", json!({"network": "Train"})),
        item(
            "wwan0",
            json!({"kind": "cellular", "network": "Telco LTE", "metered": true, "addresses": ["10.160.4.9", "2001:db8:44::9"]})
        ),
        item("eth0", json!({"kind": "ethernet", "usable": false, "addresses": []})),
    ])
}

fn event(back_s: i64, more: Value) -> Event {
    let at = NOW.parse::<jiff::Timestamp>().unwrap() - jiff::SignedDuration::from_secs(back_s);
    let mut event: Event = from_value(with(
        json!({"time": at.to_string(), "peer": "home", "from": null, "to": null, "reason": "", "gap_ms": null}),
        more,
    ))
    .unwrap();
    event.reason = words::reason(&event.what);
    event
}

fn events() -> Vec<Event> {
    vec![
        event(3400, json!({"to": "wlan0", "code": "connected"})),
        event(2100, json!({"from": "wlan0", "to": "wwan0", "code": "silent", "gap_ms": 140, "sessions": 3})),
        event(1500, json!({"from": "wwan0", "to": "wlan0", "code": "better", "gap_ms": 22, "sessions": 3})),
        event(700, json!({"from": "wlan0", "code": "link-down"})),
        event(690, json!({"to": "wwan0", "code": "restored", "gap_ms": 5123})),
        event(240, json!({"from": "wwan0", "to": "wlan0", "code": "better", "gap_ms": 31, "sessions": 1})),
    ]
}

/// What a scene is made of.
struct Scene {
    service: Service,
    status: Option<Value>,
    facts: Facts,
    portal: Option<bool>,
    tray: Place,
    store: Store,
}

impl Scene {
    fn of(more: Value) -> Self {
        let usual = json!({
            "up": true, "name": "laptop", "version": "0.9.0",
            "public_key": "QmFzZTY0S2V5T2ZUaGVMYXB0b3BJdHNlbGYxMjM0NTY=", "interfaces": laptop(),
            "peers": [peer("home", json!({}))], "policy": {"mode": "auto", "fallback": true}, "events": events(),
        });
        let ago = |ms| {
            let span = jiff::SignedDuration::from_millis(i64::try_from(ms).unwrap());
            (NOW.parse::<jiff::Timestamp>().unwrap() - span).to_string()
        };
        Self {
            service: ok(),
            status: Some(with(usual, more)),
            facts: Facts { now: NOW.to_owned(), ago, ..Facts::default() },
            portal: None,
            tray: Place::Shown,
            store: Store {
                name: "Secret Service (GNOME Keyring)",
                usable: true,
                detail: "It is unlocked.".to_owned(),
            },
        }
    }

    /// No service, for this reason.
    fn without(state: State, detail: &str, remedy: Option<Remedy>, by_hand: Option<&str>) -> Self {
        let by_hand = by_hand.map(str::to_owned);
        let service =
            Service { state, detail: detail.to_owned(), remedy, by_hand, version: None, may_change: false };
        Self { service, status: None, ..Self::of(json!({})) }
    }

    fn named(mut self, found: bool) -> Self {
        let host = "home.example.org:6278".to_owned();
        let found = Some((found, NOW.to_owned()));
        self.facts.names = vec![NameFact { peer: "home".to_owned(), host, found }];
        self
    }

    fn made(self) -> Snapshot {
        let status = self.status.map(|status| {
            let mut status: Status = from_value(status).unwrap();
            choose(&mut status);
            layers::fill(&mut status, &self.facts);
            status
        });
        let mut view = View { service: self.service, status, story_version: 6, ..View::default() };
        view.portal = self.portal.map(|portal| Word::new(portal, NOW.to_owned()));
        view.panel.place = self.tray;
        let settings = AppSettings {
            theme: "system".to_owned(),
            start_at_login: true,
            notifications: true,
            tray: self.tray.into(),
            key_store: self.store,
            version: "0.9.0",
        };
        // Traffic goes over what carries it, and over nothing else.
        let throughput = view.status.iter().flat_map(|s| &s.interfaces).map(|i| {
            let mut paths = view.status.iter().flat_map(|s| &s.peers).flat_map(|p| &p.paths);
            let carries = paths.any(|p| p.part == Part::Carries && p.interface == i.name);
            let of = |top, step| if carries { wave(top, step) } else { vec![0; 60] };
            (i.name.clone(), Throughput { rx: of(2_400_000, 7).into(), tx: of(310_000, 11).into() })
        });
        let throughput = throughput.collect::<BTreeMap<_, _>>();
        Snapshot::made(view, throughput, settings)
    }
}

fn ok() -> Service {
    let version = Some("0.9.0".to_owned());
    Service {
        state: State::Ok,
        detail: String::new(),
        remedy: None,
        by_hand: None,
        version,
        may_change: true,
    }
}

/// A minute of traffic that goes up and down.
fn wave(top: u64, step: u64) -> Vec<u64> {
    let height = |at: u64, length: u64| (at % (2 * length)).abs_diff(length) * 100 / length;
    (0..60).map(|at| top * (15 + height(at, 3 * step) / 2 + height(at * step, 13) / 3) / 100).collect()
}

/// Whether an interface may carry a peer's data, and how it ranks: by the protocol's own rules.
fn merit(status: &Status, peer: &PeerStatus, at: usize) -> Option<Merit> {
    let path = peer.paths.get(at)?;
    let known = status.interfaces.iter().find(|i| i.name == path.interface)?;
    let interface = Interface {
        id: InterfaceId(0),
        name: known.name.clone(),
        kind: mast_proto::InterfaceKind::from_word(known.kind.as_str())?,
        network: known.network.clone(),
        metered: known.metered,
        addresses: Vec::new(),
        link_local: None,
        usable: known.usable,
        outlook: Default::default(),
        relayed: Vec::new(),
        reflexive: Vec::new(),
    };
    let policy = match peer.policy.mode {
        PolicyMode::Pin => Policy::Pin {
            order: peer.policy.pin.iter().map(|word| Selector::parse(word)).collect(),
            fallback: peer.policy.fallback,
        },
        _ => Policy::Auto,
    };
    let rank = policy.rank(&interface)?;
    let fit = path.fitness.unwrap_or(Fitness::Fit);
    Some(Merit {
        unfit: fit == Fitness::Unfit,
        rank,
        wish: 0,
        metered: known.metered,
        relayed: false,
        sickness: Merit::sickness(path.loss).max(u8::from(fit != Fitness::Fit)),
        rtt: std::time::Duration::from_secs_f64(path.srtt_ms.unwrap_or(1000.0) / 1000.0),
    })
}

/// Has the path carry data that the protocol would choose, and says of the others why they do not.
fn choose(status: &mut Status) {
    for number in 0..status.peers.len() {
        let peer = status.peers[number].clone();
        let usable = |name: &str| {
            status.interfaces.iter().any(|i| i.name == name && i.usable && !i.excluded) && status.up
        };
        let works =
            |at: &usize| peer.paths[*at].state == PathState::Validated && usable(&peer.paths[*at].interface);
        let merits: Vec<_> = (0..peer.paths.len()).map(|at| merit(status, &peer, at)).collect();
        let mut best: Vec<usize> =
            (0..peer.paths.len()).filter(|at| works(at) && merits[*at].is_some()).collect();
        best.sort_by_key(|at| merits[*at].map(|m| m.key()));
        let first = best.first().copied();
        let several = matches!(peer.policy.mode, PolicyMode::Redundant | PolicyMode::Bonded);
        let second = best.iter().copied().find(|at| {
            let other = |first: usize| peer.paths[first].interface != peer.paths[*at].interface;
            several
                && first.is_some_and(other)
                && (peer.policy.metered || merits[*at].is_some_and(|m| !m.metered))
        });
        let part = |at: usize| {
            let (path, mine) = (&peer.paths[at], merits[at]);
            match (first.and_then(|first| merits[first]), mine) {
                _ if first == Some(at) || second == Some(at) => Part::Carries,
                (_, None) => Part::Policy,
                _ if matches!(path.state, PathState::Candidate | PathState::Validating) => Part::Untried,
                _ if path.state != PathState::Validated => Part::Silent,
                (_, Some(mine)) if mine.unfit => Part::Unfit,
                (Some(_), Some(_)) if path.interface == peer.paths[first.unwrap_or(at)].interface => {
                    Part::Alike
                }
                (_, Some(mine)) if several && mine.metered && !peer.policy.metered => Part::Metered,
                (Some(best), Some(mine)) if mine.rank > best.rank => Part::Order,
                (Some(best), Some(mine)) if mine.metered && !best.metered => Part::Metered,
                (Some(best), Some(mine)) if mine.sickness > best.sickness => Part::Strained,
                (Some(best), Some(mine)) if mine.rtt > best.rtt => Part::Slower,
                _ => Part::Spare,
            }
        };
        let parts: Vec<_> = (0..peer.paths.len()).map(part).collect();
        let interfaces = status.interfaces.clone();
        let peer = &mut status.peers[number];
        for (at, (path, part)) in peer.paths.iter_mut().zip(parts).enumerate() {
            (path.active, path.part) = (first == Some(at), part);
        }
        peer.uplinks = part::of_uplinks(&interfaces, &peer.paths);
    }
}

/// What must be so in every picture.
pub(super) fn check(name: &str, snapshot: &Snapshot) {
    let Some(status) = &snapshot.status else { return };
    for peer in &status.peers {
        let carriers: Vec<_> = peer.uplinks.iter().filter(|u| u.part == Part::Carries).collect();
        assert_eq!(
            carriers.is_empty(),
            peer.state != PeerState::Connected,
            "{name}: {} is {} and {carriers:?} carry",
            peer.name,
            peer.state
        );
        for carrier in carriers {
            let interface = status.interfaces.iter().find(|i| i.name == carrier.interface).unwrap();
            assert!(interface.usable && !interface.excluded, "{name}: {} carries", interface.name);
        }
    }
    assert!(
        status.up || status.peers.iter().all(|p| p.state == PeerState::Down),
        "{name}: off, and not down"
    );
    let ticks = status.layers.iter().chain(status.interfaces.iter().flat_map(|i| &i.layers));
    for layer in ticks.chain(status.peers.iter().flat_map(|p| &p.layers)) {
        assert_eq!(layer.state, layer.evidence.state(), "{name}: {layer:?}");
        assert_eq!(
            layer.checked.is_some(),
            layer.state != mast_control::LayerState::Unknown,
            "{name}: {layer:?}"
        );
    }
}

/// The story of the laptop, and what of it has names that are no good.
pub(super) fn story() -> Value {
    let told = |events: &[Event], status: &Option<Status>| -> Vec<StoryEvent> {
        events.iter().map(|event| StoryEvent::of(event, status.as_ref())).collect()
    };
    let laptop = Scene::of(json!({})).made();
    let named = named().made();
    let mut odd =
        event(0, json!({"peer": HOSTILE, "from": "wlan1", "to": "wlan0", "code": "other", "gap_ms": 12}));
    odd.reason = HOSTILE.to_owned();
    let mut all = events();
    all.push(odd);
    json!({"events": told(&events(), &laptop.status), "named": told(&all, &named.status)})
}

fn named() -> Scene {
    let hostile = [HOSTILE, LONG, RTL, EMOJI].map(|name| peer(name, json!({})));
    let events = events().into_iter().skip(1).take(1).map(|e| Event { peer: HOSTILE.to_owned(), ..e });
    Scene::of(json!({
        "interfaces": [
            item("wlan0", json!({"network": RTL})),
            item("wlan1", json!({"network": LONG})),
            item("wlan2", json!({"network": EMOJI, "metered": true})),
            item("wwan0", json!({"kind": "cellular", "network": HOSTILE})),
        ],
        "peers": hostile,
        "events": events.collect::<Vec<_>>(),
    }))
}

/// Every scene by its name.
pub(super) fn all() -> BTreeMap<&'static str, Snapshot> {
    let none = |more| with(json!({"state": "down", "paths": [], "last_heard_ms": null}), more);
    let home = |more| json!({"peers": [peer("home", more)]});
    let dual = {
        let v6 = json!({"local": "2001:db8:1::20", "remote": "[2001:db8::7]:6278"});
        let v4 = json!({"remote": "203.0.113.7:6278"});
        // In the order in which they were found, not by link.
        json!([
            path(1, "wlan0", silent()),
            cell(2, v4),
            path(3, "wlan0", with(silent(), v6.clone())),
            cell(4, with(json!({"srtt_ms": 64.0}), v6)),
        ])
    };
    let unusable = |status: Value| {
        let mut interfaces = laptop();
        for interface in interfaces.as_array_mut().unwrap() {
            interface["usable"] = false.into();
        }
        with(json!({"interfaces": interfaces}), status)
    };
    let states =
        ["connected", "connected", "connected", "unreachable", "connected", "connecting", "connected"];
    let fifty: Vec<_> = (0..50)
        .map(|n| {
            let state = states[n % 7];
            let paths = match state {
                "connected" => json!([path(1, "wlan0", json!({})), cell(2, json!({}))]),
                "connecting" => json!([path(1, "wlan0", with(silent(), json!({"state": "validating"})))]),
                _ => json!([path(1, "wlan0", silent())]),
            };
            let kind = if n % 9 == 4 { "wireguard" } else { "mast" };
            let more = json!({"state": state, "kind": kind, "paths": paths});
            peer(&format!("machine-{:02}", n + 1), more)
        })
        .collect();
    let twelve: Vec<_> = (0..12)
        .map(|n| {
            let kind = ["wifi", "cellular", "ethernet", "other"][n % 4];
            let network = (n % 3 == 0).then(|| format!("Network {n}"));
            let usable = n % 5 != 4;
            let addresses = if usable { json!(["192.168.1.20"]) } else { json!([]) };
            let more = json!({"kind": kind, "network": network, "metered": n % 4 == 1, "usable": usable,
                              "excluded": n == 7, "addresses": addresses});
            item(&format!("if{n}"), more)
        })
        .collect();
    let of_twelve = json!([
        path(1, "if0", json!({})),
        path(2, "if1", json!({"state": "suspect", "fitness": null})),
        path(3, "if2", silent()),
    ]);
    let strained = json!({"fitness": "strained", "ailment": {"lost_percent": 5, "late_ms": 180}, "srtt_ms": 214.0,
                          "loss": 0.05});
    let unfit = json!({"fitness": "unfit", "ailment": {"lost_percent": 14, "late_ms": 420, "stalled": true},
                       "srtt_ms": 455.0, "loss": 0.14});
    let left = event(
        9,
        json!({"from": "wlan0", "to": "wwan0", "code": "unfit", "lost_percent": 14, "stalled": true,
                               "gap_ms": 40, "sessions": 3}),
    );
    let mut fading = events();
    fading.push(left);
    let pinned = json!({"mode": "pin", "pin": ["network:Home", "ethernet", "wwan0"], "fallback": false});
    let twice = json!({"mode": "redundant", "fallback": true, "small": true});
    let own = json!({"own_policy": true, "policy": {"mode": "pin", "pin": ["wwan0"], "fallback": true}});
    let never = {
        let mut interfaces = laptop();
        interfaces[2]["excluded"] = true.into();
        interfaces
    };
    let down = json!({"up": false, "peers": [peer("home", none(json!({})))]});

    let scenes = [
        ("now", Scene::of(json!({}))),
        ("now-named", Scene::of(json!({})).named(true)),
        ("now-strained", Scene::of(home(json!({"paths": [path(1, "wlan0", strained)]})))),
        (
            "now-fading",
            Scene::of(with(
                home(json!({"paths": [path(1, "wlan0", unfit), cell(2, json!({}))]})),
                json!({"events": fading}),
            )),
        ),
        ("now-partial", Scene::of(json!({"peers": [peer("home", json!({})), plain("office", away())]}))),
        ("now-50", Scene::of(json!({"peers": fifty.clone()}))),
        ("peers", Scene::of(json!({"peers": [peer("home", json!({})), plain("office", away())]}))),
        ("peers-dual", Scene::of(home(json!({"paths": dual})))),
        ("peers-50", Scene::of(json!({"peers": fifty}))),
        (
            "interfaces-stopped",
            Scene::of(home(json!({"paths": [path(1, "wlan0", silent()), cell(2, json!({}))]}))),
        ),
        (
            "interfaces-12",
            Scene::of(
                json!({"interfaces": twelve.clone(), "peers": [peer("home", json!({"paths": of_twelve}))]}),
            ),
        ),
        ("preference-12", {
            let paths = json!([path(1, "if0", json!({}))]);
            Scene::of(json!({"interfaces": twelve, "peers": [peer("home", json!({"paths": paths}))]}))
        }),
        (
            "preference-redundant",
            Scene::of(json!({
                "policy": twice,
                "peers": [peer("home", json!({"policy": twice})), plain("office", json!({}))],
            })),
        ),
        (
            "preference-pinned",
            Scene::of(json!({
                "interfaces": never, "policy": pinned, "peers": [peer("home", json!({"policy": pinned}))],
            })),
        ),
        ("preference-own", Scene::of(json!({"peers": [peer("home", json!({})), peer("office", own)]}))),
        ("named", named()),
        ("no-peers", Scene::of(json!({"peers": [], "events": []}))),
        (
            "working",
            Scene::of(home(json!({
                "state": "connecting",
                "last_heard_ms": null,
                "paths": [path(1, "wlan0", with(silent(), json!({"state": "validating", "loss": null,
                                                                  "answered_ms": null})))],
            }))),
        ),
        ("fails-link", Scene::of(unusable(home(with(away(), json!({"paths": []})))))),
        ("fails-portal", Scene { portal: Some(true), ..Scene::of(home(away())) }),
        ("fails-dns", Scene::of(home(away())).named(false)),
        ("fails-peer", Scene { portal: Some(false), ..Scene::of(home(away())).named(true) }),
        ("fails-service", {
            let scene = Scene::of(home(away()));
            Scene { facts: Facts { forbidden: true, ..scene.facts }, ..scene }
        }),
        ("paused", Scene::of(with(down.clone(), json!({"paused_until": "2026-11-24T13:04:00Z"})))),
        ("down", Scene::of(down.clone())),
        ("locked", Scene::of(with(down, json!({"key": "locked"})))),
        ("no-key-store", {
            let detail = "No program offers it on this computer.".to_owned();
            Scene { store: Store { name: "Secret Service", usable: false, detail }, ..Scene::of(json!({})) }
        }),
        ("protected", {
            let settings = json!({"at_start": "last", "leak_protection": true, "local_network": true});
            Scene::of(json!({"settings": settings}))
        }),
        ("no-tray", Scene { tray: Place::NoHost, ..Scene::of(json!({})) }),
        ("readonly", {
            let remedy = Remedy { label: "Join the group".to_owned(), command: "usermod".to_owned() };
            let service = Service {
                may_change: false,
                detail: "You are not in the group mast.".to_owned(),
                remedy: Some(remedy),
                by_hand: Some("sudo usermod -aG mast $USER".to_owned()),
                ..ok()
            };
            Scene { service, ..Scene::of(json!({})) }
        }),
        (
            "service-missing",
            Scene::without(
                State::Missing,
                "mastd is not installed on this computer.",
                None,
                Some("sudo apt install mast"),
            ),
        ),
        (
            "service-stopped",
            Scene::without(
                State::Stopped,
                "The service (mastd) is installed, but it does not run.",
                Some(Remedy::start()),
                Some(&Remedy::start().command),
            ),
        ),
        (
            "service-forbidden",
            Scene::without(
                State::Forbidden,
                "The socket of mastd may not be opened by you.",
                None,
                Some("sudo usermod -aG mast $USER"),
            ),
        ),
        (
            "service-old",
            Scene::without(
                State::Old,
                "mastd is 0.7.1; this window needs 0.9 or newer.",
                None,
                Some("sudo apt upgrade mast"),
            ),
        ),
        (
            "service-new",
            Scene::without(
                State::New,
                "mastd is 2.0.0; this window is 0.9.0.",
                None,
                Some("sudo apt upgrade mast-desktop"),
            ),
        ),
        (
            "service-broken",
            Scene::without(
                State::Broken,
                "mastd answers nothing that can be understood.",
                Some(Remedy::restart()),
                Some(&Remedy::restart().command),
            ),
        ),
        ("service-connecting", Scene::without(State::Connecting, "", None, None)),
        ("lost", {
            let service = Service {
                state: State::Lost,
                detail: "mastd went away.".to_owned(),
                may_change: false,
                ..ok()
            };
            Scene { service, ..Scene::of(json!({})) }
        }),
    ];
    scenes.into_iter().map(|(name, scene)| (name, scene.made())).collect()
}
