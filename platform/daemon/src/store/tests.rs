use std::path::Path;
use std::time::{Duration, SystemTime};

use mast_engine::api::{Addresses, PlainPeer};
use mast_engine::os::Prefix;
use mast_proto::wire::EidPair;
use mast_proto::{AddressesTold, Disclosure, PeerKind, Selector};
use tempfile::TempDir;

use super::*;
use crate::notation;

fn open(temp: &TempDir, config: &Config) -> Result<Store, StoreError> {
    Store::load(StateDir::open(temp.path().join("state")).unwrap(), config)
}

fn reopen(store: Store, temp: &TempDir, config: &Config) -> Store {
    drop(store);
    open(temp, config).unwrap()
}

fn config(text: &str) -> Config {
    Config::parse(Path::new("mastd.toml"), text).unwrap()
}

fn peer(name: &str, key: u8) -> PeerConfig {
    PeerConfig {
        name: name.into(),
        public_key: [key; 32],
        preshared_key: Some([key + 100; 32].into()),
        addresses: addresses(&["192.0.2.1:6278", "[2001:db8::1]:1"]),
        kind: Some(PeerKind::Mast),
        disclosure: Default::default(),
        eid_v4: Some(EidPair { own: [100, 64, 0, 0].into(), other: [100, 64, 0, 1].into() }),
        plain: None,
        policy: Some(pin("wifi")),
        account: Some("nas@example.org".to_owned()),
    }
}

fn addresses(answered: &[&str]) -> Addresses {
    Addresses::of(AddressSource::EarlierRun, answered.iter().map(|a| a.parse().unwrap()))
}

fn pin(word: &str) -> Policy {
    Policy::Pin { order: vec![Selector::parse(word)], fallback: true }
}

fn prefix(text: &str) -> Prefix {
    notation::prefix(text).unwrap()
}

#[test]
fn everything_survives_a_restart() {
    let (temp, defaults) = (TempDir::new().unwrap(), Config::default());
    let mut store = open(&temp, &defaults).unwrap();
    assert!(store.peers().is_empty() && store.invites().is_empty() && store.up());
    let plain = PeerConfig {
        kind: Some(PeerKind::WireGuard),
        disclosure: mast_proto::Disclosure::WIREGUARD,
        eid_v4: None,
        plain: Some(PlainPeer {
            split: true,
            unrouted: true,
            mtu: Some(1280),
            dns: vec!["10.8.0.1".parse().unwrap()],
            addresses: vec![prefix("10.8.0.2/24")],
            allowed: vec![prefix("0.0.0.0/0"), prefix("::/0")],
            keepalive: Some(25),
            private_key: Some([5; 32].into()),
        }),
        policy: None,
        preshared_key: None,
        ..peer("office", 2)
    };
    let mut learned = peer("nas", 1);
    learned.addresses.set(AddressSource::Dns, ["192.0.2.9:7".parse().unwrap()]);
    let invite = InviteRecord {
        secret: [3; 32].into(),
        name: Some("phone".into()),
        expires: SystemTime::UNIX_EPOCH + Duration::from_millis(4_000_000_000_123),
        used: true,
        revoked: false,
    };
    let old = InviteRecord { secret: [4; 32].into(), expires: SystemTime::UNIX_EPOCH, ..invite.clone() };
    let host = Endpoint::parse("vpn.example.org:51820").unwrap();
    store.set_hosts([2; 32], vec![host.clone()]);
    for change in [
        Change::Peer(peer("nas", 1)),
        Change::Peer(plain.clone()),
        Change::Peer(peer("gone", 7)),
        Change::PeerRemoved([7; 32]),
        Change::Peer(learned.clone()),
        Change::Invites(vec![invite.clone(), old]),
        Change::Policy(pin("network:Home")),
        Change::Up(false),
    ] {
        store.apply(change);
    }
    assert!(!store.leak_protection());
    store.set_leak_protection(true);
    store.save().unwrap();
    let store = reopen(store, &temp, &defaults);
    assert_eq!(store.peers(), [learned, plain]);
    assert_eq!(store.invites(), [invite]);
    assert_eq!((store.policy(), store.up()), (pin("network:Home"), false));
    assert!(store.leak_protection());
    assert_eq!(store.hosts(), [([2; 32], vec![host])]);
}

#[test]
fn every_policy_survives_a_restart() {
    let (temp, defaults) = (TempDir::new().unwrap(), Config::default());
    let mut store = open(&temp, &defaults).unwrap();
    let mut policies = vec![Policy::Auto, pin("wifi")];
    for metered in [false, true] {
        policies.push(Policy::Bonded { metered });
        policies.extend([false, true].map(|small| Policy::Redundant { small, metered }));
    }
    for policy in policies {
        store.apply(Change::Policy(policy.clone()));
        store.apply(Change::Peer(PeerConfig { policy: Some(policy.clone()), ..peer("nas", 1) }));
        store.save().unwrap();
        store = reopen(store, &temp, &defaults);
        assert_eq!((store.policy(), &store.peers()[0].policy), (policy.clone(), &Some(policy)));
    }
}

#[test]
fn unknown_fields_are_kept() {
    let (temp, defaults) = (TempDir::new().unwrap(), Config::default());
    let mut store = open(&temp, &defaults).unwrap();
    store.apply(Change::Peer(peer("nas", 1)));
    store.save().unwrap();
    drop(store);
    let file = temp.path().join("state/peers.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("\"name\"", "\"colour\": \"blue\",\n\"name\"", 1)).unwrap();
    let mut store = open(&temp, &defaults).unwrap();
    store.apply(Change::Peer(PeerConfig { policy: None, ..peer("nas", 1) }));
    store.save().unwrap();
    assert!(std::fs::read_to_string(&file).unwrap().contains("\"colour\": \"blue\""));
}

#[test]
fn damaged_files_are_reported_and_left_alone() {
    let temp = TempDir::new().unwrap();
    drop(open(&temp, &Config::default()).unwrap());
    let key = notation::key_text(&[1; 32]);
    for (name, content, expected) in [
        ("peers.json", "", "EOF"),
        ("peers.json", "{\"version\": 1, \"peers\": [{\"name\"", "EOF"),
        (
            "peers.json",
            "{\"version\": 1, \"peers\": [{\"name\": \"a\", \"public_key\": \"AA\"}]}",
            "peers[0]",
        ),
        ("peers.json", "{\"version\": 1, \"peers\": []} x", "trailing"),
        (
            "peers.json",
            &format!(
                "{{\"version\":1,\"peers\":[{{\"name\":\"a\",\"public_key\":\"{key}\",\"hosts\":[\"x\"]}}]}}"
            ),
            "no port",
        ),
        ("invites.json", "[]", "invites"),
        ("settings.json", "{\"version\": 1, \"up\": \"maybe\"}", "up"),
    ] {
        let file = temp.path().join("state").join(name);
        std::fs::write(&file, content).unwrap();
        let error = open(&temp, &Config::default()).unwrap_err().to_string();
        for fragment in [name, expected, "damaged", "mv "] {
            assert!(error.contains(fragment), "{fragment}: {error}");
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), content);
        std::fs::remove_file(&file).unwrap();
    }
    std::fs::write(temp.path().join("state/peers.json"), "{\"version\": 2, \"friends\": []}").unwrap();
    let error = open(&temp, &Config::default()).unwrap_err().to_string();
    assert!(error.contains("version 2") && error.contains("install the newer"), "{error}");
}

#[test]
fn the_configuration_comes_first_and_keeps_what_was_learned() {
    let temp = TempDir::new().unwrap();
    let key = notation::key_text(&[1; 32]);
    let text = format!(
        "[[peer]]\nname = \"nas\"\npublic_key = \"{key}\"\nendpoints = [\"198.51.100.1:1\", \"nas:2\"]\n"
    );
    let first = config(&text);
    let mut store = open(&temp, &first).unwrap();
    assert!(store.is_configured("nas"));
    assert_eq!(store.hosts()[0].1[0].to_string(), "nas:2");
    store.apply(Change::Peer(PeerConfig { preshared_key: None, ..peer("nas", 1) }));
    store.apply(Change::Policy(pin("eth0")));
    store.save().unwrap();

    let store = reopen(store, &temp, &first);
    let found = &store.peers()[0];
    let endpoints = |source| found.addresses.get(source).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(endpoints(AddressSource::Configuration), ["198.51.100.1:1"]);
    assert_eq!(endpoints(AddressSource::EarlierRun), ["192.0.2.1:6278", "[2001:db8::1]:1"]);
    assert_eq!((found.kind, found.eid_v4), (Some(PeerKind::Mast), peer("nas", 1).eid_v4));
    assert_eq!(found.policy, Some(pin("wifi")), "set by command, and the file has not changed since");
    assert_eq!(store.policy(), pin("eth0"));

    let changed =
        format!("policy = {{ mode = \"pin\", pin = [\"wwan0\"] }}\n{text}policy = {{ mode = \"auto\" }}\n");
    let store = reopen(store, &temp, &config(&changed));
    assert_eq!(store.peers()[0].policy, Some(Policy::Auto), "the file was changed");
    assert_eq!(store.policy(), pin("wwan0"), "the file was changed");

    let store = reopen(store, &temp, &Config::default());
    assert!(store.peers().is_empty(), "taken out of the file");
}

#[test]
fn a_full_tunnel_switched_off_stays_off_for_a_peer_of_the_file() {
    let temp = TempDir::new().unwrap();
    let key = notation::key_text(&[2; 32]);
    let text = format!(
        "[[peer]]\nname = \"office\"\npublic_key = \"{key}\"\nendpoints = [\"192.0.2.1:1\"]\n\
         addresses = [\"10.8.0.2/24\"]\nallowed_ips = [\"10.8.0.0/24\", \"0.0.0.0/0\"]\n"
    );
    let config = config(&text);
    let mut store = open(&temp, &config).unwrap();
    let mut peer = store.peers().remove(0);
    let plain = peer.plain.as_mut().unwrap();
    assert_eq!(plain.full_tunnel(), Some(true));
    plain.split = true;
    store.apply(Change::Peer(peer));
    store.save().unwrap();
    let plain = reopen(store, &temp, &config).peers().remove(0).plain.unwrap();
    assert_eq!((plain.full_tunnel(), plain.allowed.len()), (Some(false), 2));
}

#[test]
fn what_a_peer_may_know_is_kept() {
    let temp = TempDir::new().unwrap();
    let mut store = open(&temp, &Config::default()).unwrap();
    let hidden = Disclosure { addresses: AddressesTold::RelayedOnly, own: true, ..Disclosure::default() };
    store.apply(Change::Peer(PeerConfig { disclosure: hidden, ..peer("nas", 1) }));
    let mut server = PeerConfig { plain: Some(PlainPeer::default()), ..peer("office", 2) };
    server.disclosure = Disclosure::WIREGUARD;
    store.apply(Change::Peer(server.clone()));
    store.save().unwrap();
    let text = std::fs::read_to_string(temp.path().join("state/peers.json")).unwrap();
    assert!(text.contains("relayed-only") && !text.contains("public-only"), "{text}");
    let mut store = reopen(store, &temp, &Config::default());
    let kept = |store: &Store| store.peers().iter().map(|p| p.disclosure).collect::<Vec<_>>();
    assert_eq!(kept(&store), [hidden, Disclosure::WIREGUARD]);
    server.disclosure.mast = true;
    store.apply(Change::Peer(server));
    store.save().unwrap();
    let store = reopen(store, &temp, &Config::default());
    assert!(kept(&store)[1].mast);
    drop(store);
    // The word of a later version hides what there is to be hidden.
    let path = temp.path().join("state/peers.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("relayed-only", "onion-only");
    std::fs::write(&path, text).unwrap();
    let _ = std::fs::remove_file(temp.path().join("state/peers.journal"));
    assert_eq!(open(&temp, &Config::default()).unwrap().peers()[0].disclosure, hidden);
}

/// As with policies: a command counts until the file says something else.
#[test]
fn what_a_peer_of_the_file_may_know_is_set_by_command() {
    let temp = TempDir::new().unwrap();
    let key = notation::key_text(&[2; 32]);
    let text = |more: &str| {
        format!(
            "[[peer]]\nname = \"office\"\npublic_key = \"{key}\"\naddresses = [\"10.8.0.2/24\"]\n\
             allowed_ips = [\"10.8.0.0/24\"]\n{more}"
        )
    };
    let mast = |store: &Store| store.peers()[0].disclosure.mast;
    let mut store = open(&temp, &config(&text(""))).unwrap();
    assert!(!mast(&store));
    let mut peer = store.peers().remove(0);
    peer.disclosure.mast = true;
    store.apply(Change::Peer(peer.clone()));
    store.save().unwrap();
    let store = reopen(store, &temp, &config(&text("")));
    assert!(mast(&store), "by command");
    let mut store = reopen(store, &temp, &config(&text("mast = true\n")));
    assert!(mast(&store));
    peer.disclosure.mast = false;
    store.apply(Change::Peer(peer));
    store.save().unwrap();
    let mut store = reopen(store, &temp, &config(&text("mast = true\n")));
    assert!(!mast(&store), "by command");
    store.save().unwrap();
    let store = reopen(store, &temp, &config(&text("mast = true\nown = true\n")));
    assert!(mast(&store), "the file was changed");
}

#[test]
fn a_name_cannot_mean_two_peers() {
    let temp = TempDir::new().unwrap();
    let mut store = open(&temp, &Config::default()).unwrap();
    store.apply(Change::Peer(peer("nas", 1)));
    store.save().unwrap();
    drop(store);
    let key = notation::key_text(&[2; 32]);
    let error =
        open(&temp, &config(&format!("[[peer]]\nname = \"nas\"\npublic_key = \"{key}\"\n"))).unwrap_err();
    assert!(error.to_string().contains("two peers are called `nas`"), "{error}");
}

#[test]
fn secrets_stay_out_of_debug_output() {
    let stored = format!("{:?}", StoredPeer::of(&peer("nas", 1)));
    assert!(!stored.contains("101, 101") && !stored.contains(&notation::key_text(&[101; 32])), "{stored}");
}

fn numbered(number: u32, port: u16) -> PeerConfig {
    let mut key = [9; 32];
    key[..4].copy_from_slice(&number.to_le_bytes());
    PeerConfig {
        public_key: key,
        addresses: Addresses::of(AddressSource::EarlierRun, [([192, 0, 2, 1], port).into()]),
        ..peer(&format!("peer {number}"), 1)
    }
}

/// A state directory with so many peers, at rest.
fn crowd(count: u32) -> (TempDir, Store) {
    let temp = TempDir::new().unwrap();
    let mut store = open(&temp, &Config::default()).unwrap();
    for number in 0..count {
        store.apply(Change::Peer(numbered(number, 1)));
    }
    store.fold();
    store.save().unwrap();
    (temp, store)
}

#[test]
fn learning_of_a_crowd_writes_no_more_than_a_few_times_what_was_learned() {
    // The bytes written for one thing learned of each of so many peers, five at a time.
    let written = |count: u32| {
        let (temp, mut store) = crowd(count);
        let before = store.sizes.written;
        for first in (0..count).step_by(5) {
            for number in first..first + 5 {
                store.apply(Change::Peer(numbered(number, 2)));
            }
            store.save().unwrap();
        }
        let (file, written) = (store.sizes.file, store.sizes.written - before);
        assert!(written < 4 * file, "{written} bytes written of {file}");
        let expected = store.peers();
        assert_eq!(reopen(store, &temp, &Config::default()).peers(), expected);
        written / u64::from(count)
    };
    let (few, many) = (written(1000), written(10_000));
    assert!(many < few * 2, "{many} bytes for each of ten times as many peers, against {few}");
}

#[test]
fn what_was_saved_is_there_after_the_process_is_killed() {
    let (temp, mut store) = crowd(100);
    let copy = |store: &Store| {
        let other = TempDir::new().unwrap();
        std::fs::create_dir(other.path().join("state")).unwrap();
        for file in std::fs::read_dir(store.dir().path()).unwrap() {
            let from = file.unwrap().path();
            std::fs::copy(&from, other.path().join("state").join(from.file_name().unwrap())).unwrap();
        }
        other
    };
    let mut story = vec![Change::PeerRemoved(numbered(3, 1).public_key)];
    story.extend((0..300).map(|round| Change::Peer(numbered(round % 100, 7))));
    for (at, change) in story.into_iter().enumerate() {
        store.apply(change);
        store.save().unwrap();
        if at % 7 == 0 {
            let killed = copy(&store);
            assert_eq!(
                open(&killed, &Config::default()).unwrap().peers(),
                store.peers(),
                "after {at} changes"
            );
        }
    }
    let order: Vec<_> = store.peers().iter().map(|p| p.name.clone()).collect();
    assert_eq!((order.len(), order.last().unwrap().as_str()), (100, "peer 3"), "it came back as the last");
    store.fold();
    store.save().unwrap();
    assert!(!temp.path().join("state/peers.journal").exists(), "an earlier version finds all in one file");
    assert_eq!(reopen(store, &temp, &Config::default()).peers().len(), 100);
}

#[test]
fn a_crash_between_the_file_and_its_journal_loses_nothing() {
    let (temp, mut store) = crowd(10);
    store.apply(Change::PeerRemoved(numbered(2, 1).public_key));
    store.apply(Change::Peer(numbered(5, 2)));
    store.save().unwrap();
    let journal = std::fs::read(temp.path().join("state/peers.journal")).unwrap();
    store.apply(Change::Peer(numbered(5, 3)));
    store.apply(Change::Peer(numbered(2, 3)));
    store.fold();
    store.save().unwrap();
    // The file is the new one, and the journal is still there.
    std::fs::write(temp.path().join("state/peers.journal"), journal).unwrap();
    let expected = store.peers();
    let mut store = reopen(store, &temp, &Config::default());
    assert_eq!(store.peers(), expected);
    store.apply(Change::Peer(numbered(7, 9)));
    store.save().unwrap();
    let expected = store.peers();
    assert_eq!(reopen(store, &temp, &Config::default()).peers(), expected);
}

#[test]
fn of_two_saves_the_newer_one_is_what_stays() {
    let (temp, mut store) = crowd(3);
    store.apply(Change::Peer(numbered(1, 2)));
    store.apply(Change::Policy(pin("old")));
    let older = store.unsaved();
    store.apply(Change::Peer(numbered(1, 3)));
    store.apply(Change::Policy(pin("new")));
    let newer = store.unsaved();
    for unsaved in [newer, older] {
        let (saved, result) = unsaved.write();
        result.unwrap();
        store.saved(saved);
    }
    let store = reopen(store, &temp, &Config::default());
    assert_eq!((store.peers()[1].clone(), store.policy()), (numbered(1, 3), pin("new")));
}

#[test]
fn what_cannot_be_saved_is_saved_later() {
    let (temp, mut store) = crowd(3);
    let journal = temp.path().join("state/peers.journal");
    std::fs::create_dir(&journal).unwrap();
    store.apply(Change::Peer(numbered(1, 2)));
    assert!(store.save().unwrap_err().to_string().contains("peers.journal"));
    store.apply(Change::Peer(numbered(2, 2)));
    std::fs::remove_dir(&journal).unwrap();
    store.save().unwrap();
    let store = reopen(store, &temp, &Config::default());
    assert_eq!(store.peers()[1..], [numbered(1, 2), numbered(2, 2)]);
}

#[test]
fn the_keys_of_a_removed_peer_leave_the_disk() {
    let (temp, mut store) = crowd(3);
    let key = notation::key_text(&[101; 32]);
    let held = || {
        let files = ["peers.json", "peers.journal"].map(|f| temp.path().join("state").join(f));
        files.iter().any(|f| std::fs::read_to_string(f).is_ok_and(|text| text.contains(&key)))
    };
    for number in 0..3 {
        store.apply(Change::PeerRemoved(numbered(number, 1).public_key));
    }
    store.save().unwrap();
    assert!(held(), "the file was written a moment ago");
    store.folded = None;
    store.save().unwrap();
    assert!(!held());
}

#[test]
fn a_damaged_journal_is_reported_and_left_alone() {
    let (temp, mut store) = crowd(3);
    let file = temp.path().join("state/peers.journal");
    for port in [2, 3] {
        store.apply(Change::Peer(numbered(1, port)));
        store.save().unwrap();
    }
    drop(store);
    let damaged = std::fs::read_to_string(&file).unwrap().replacen("peer 1", "peer 2", 1);
    std::fs::write(&file, &damaged).unwrap();
    let error = open(&temp, &Config::default()).unwrap_err().to_string();
    assert!(error.contains("peers.journal") && error.contains("line 1"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), damaged);
}

#[test]
fn addresses_are_kept_by_source() {
    let (temp, defaults) = (TempDir::new().unwrap(), Config::default());
    let mut store = open(&temp, &defaults).unwrap();
    let at = |text: &str| -> std::net::SocketAddr { text.parse().unwrap() };
    let mut full = peer("nas", 1);
    full.addresses.set(AddressSource::Configuration, [at("198.51.100.1:1")]);
    full.addresses.set(AddressSource::Invite, [at("198.51.100.2:1")]);
    full.addresses.set(AddressSource::Dns, [at("198.51.100.3:1"), at("[2001:db8::9]:1")]);
    store.apply(Change::Peer(full.clone()));
    store.save().unwrap();
    let mut store = reopen(store, &temp, &defaults);
    assert_eq!(store.peers(), [full.clone()]);
    // The number of an interface is another one after a restart.
    let mut zoned = full.clone();
    zoned.addresses.set(AddressSource::Configuration, [at("198.51.100.1:1"), at("[fe80::1%3]:1")]);
    store.apply(Change::Peer(zoned));
    assert_eq!(store.fixed(&[1; 32]).unwrap(), [at("198.51.100.1:1")]);
    store.save().unwrap();
    assert_eq!(reopen(store, &temp, &defaults).peers(), [full]);
}

#[test]
fn the_addresses_of_an_earlier_version_are_not_lost() {
    let temp = TempDir::new().unwrap();
    drop(open(&temp, &Config::default()).unwrap());
    let key = |n: u8| notation::key_text(&[n; 32]);
    let plain = "\"plain\": {\"addresses\": [\"10.8.0.2/32\"], \"allowed_ips\": [\"10.8.0.0/24\"]}";
    let peer = |name: &str, n: u8, more: &str| {
        format!(
            "{{\"name\": \"{name}\", \"public_key\": \"{}\", \"endpoints\": [\"192.0.2.1:7\"]{more}}}",
            key(n)
        )
    };
    let peers = [
        peer("invited", 1, ""),
        peer("file", 2, &format!(", {plain}")),
        peer("named", 3, &format!(", \"hosts\": [\"vpn.example.org:7\"], {plain}")),
        peer("configured", 4, ", \"configured\": true"),
    ];
    let text = format!("{{\"version\": 1, \"peers\": [{}]}}", peers.join(", "));
    std::fs::write(temp.path().join("state/peers.json"), text).unwrap();
    let config = config(&format!("[[peer]]\nname = \"configured\"\npublic_key = \"{}\"\n", key(4)));
    let mut store = open(&temp, &config).unwrap();
    let expected =
        [AddressSource::Invite, AddressSource::Configuration, AddressSource::Dns, AddressSource::EarlierRun]
            .map(|source| Addresses::of(source, ["192.0.2.1:7".parse().unwrap()]));
    let found = |store: &Store| store.peers().into_iter().map(|p| p.addresses).collect::<Vec<_>>();
    assert_eq!(found(&store), expected);
    store.save().unwrap();
    assert_eq!(found(&reopen(store, &temp, &config)), expected);
}

#[test]
fn what_is_taken_out_of_the_configuration_is_no_address_any_more() {
    let temp = TempDir::new().unwrap();
    let key = notation::key_text(&[1; 32]);
    let text = |endpoints: &str| {
        config(&format!("[[peer]]\nname = \"nas\"\npublic_key = \"{key}\"\nendpoints = [{endpoints}]\n"))
    };
    let mut store = open(&temp, &text("\"198.51.100.1:1\", \"nas.example.org:2\"")).unwrap();
    let mut learned = store.peers().remove(0);
    learned.addresses.set(AddressSource::Dns, ["198.51.100.7:2".parse().unwrap()]);
    store.apply(Change::Peer(learned));
    store.save().unwrap();
    let store = reopen(store, &temp, &text("\"198.51.100.2:1\", \"nas.example.org:2\""));
    assert_eq!(store.peers()[0].addresses.all().count(), 2, "{:?}", store.peers()[0].addresses);
    let store = reopen(store, &temp, &text("\"198.51.100.2:1\""));
    assert_eq!(
        store.peers()[0].addresses,
        Addresses::of(AddressSource::Configuration, ["198.51.100.2:1".parse().unwrap()])
    );
}
