use mast_proto::{AddressesTold, Disclosure};

use super::*;

const KEY_A: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const KEY_B: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

fn parse(text: &str) -> Result<Config, Vec<String>> {
    // What is absolute begins with a drive where there are drives.
    let root = std::env::temp_dir().ancestors().last().unwrap().display().to_string().replace('\\', "/");
    let text = text.replace("KEY_A", KEY_A).replace("KEY_B", KEY_B);
    let text = text.replace("ca = \"/", &format!("ca = \"{root}"));
    Config::parse(Path::new("/etc/mast/mastd.toml"), &text)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

#[test]
fn reads_everything() {
    let config = parse(
        r#"
        name = "laptop"
        port = 0
        interface = "mast7"
        mtu = 1280
        eid_pool = "100.99.0.0/16"
        stun = ["stun.example.org:3478", "192.0.2.1:3478"]
        relay_for_peers = true
        policy = { mode = "pin", pin = ["eth0", "wifi", "network:Home"], fallback = false }
        [[relay]]
        server = "turn.example.org:443"
        transport = "tls"
        username = "ada"
        password = "lovelace"
        ca = "/etc/mast/ca.pem"
        [interfaces.wwan0]
        metered = true
        kind = "cellular"
        network = "Operator"
        [interfaces."docker0"]
        ignore = true
        [[peer]]
        name = "nas"
        public_key = "KEY_A"
        preshared_key = "KEY_B"
        endpoints = ["nas.example.org:6278", "[2001:db8::1]:6278"]
        eid_v4 = { local = "100.99.7.0", remote = "100.99.7.1" }
        policy = { mode = "auto" }
        [[peer]]
        name = "office"
        public_key = "KEY_B"
        endpoints = ["192.0.2.1:51820"]
        addresses = ["10.8.0.2/24"]
        allowed_ips = ["10.8.0.77/24", "0.0.0.0/0"]
        keepalive = 25
        "#,
    )
    .unwrap();
    assert_eq!((config.name.as_deref(), config.port, config.mtu), (Some("laptop"), 0, 1280));
    assert_eq!(config.interface, "mast7");
    assert_eq!((config.stun.len(), config.relay_for_peers), (2, true));
    let relay = &config.relays[0];
    assert_eq!(
        (relay.server.host().as_str(), relay.transport.to_string().as_str()),
        ("turn.example.org", "tls")
    );
    assert!(!format!("{config:?}").contains("lovelace"));
    assert_eq!(config.pool, EidPool::new([100, 99, 0, 0].into(), 16).unwrap());
    let order = ["eth0", "wifi", "network:Home"].map(Selector::parse).to_vec();
    assert_eq!(config.policy, Some(Policy::Pin { order, fallback: false }));
    assert_eq!(config.named_interfaces(), ["eth0", "wwan0"], "docker0 is to be ignored");
    let modem = &config.interfaces["wwan0"];
    assert_eq!((modem.metered, modem.kind, modem.ignore), (Some(true), Some(InterfaceKind::Cellular), false));
    assert!(config.interfaces["docker0"].ignore);
    let [nas, office] = &config.peers[..] else { panic!() };
    assert_eq!((nas.endpoints.len(), nas.peer.addresses.all().count()), (2, 1));
    assert_eq!((nas.peer.public_key, nas.peer.preshared_key.clone()), ([1; 32], Some([2; 32].into())));
    assert_eq!(nas.peer.policy, Some(Policy::Auto));
    let plain = office.peer.plain.as_ref().unwrap();
    assert_eq!(plain.allowed[0].to_string(), "10.8.0.0/24");
    assert_eq!(plain.addresses[0].to_string(), "10.8.0.2/24");
    assert_eq!(plain.keepalive, Some(25));
}

#[test]
fn what_a_peer_may_know() {
    let peer = |more: &str| format!("[[peer]]\nname = \"a\"\npublic_key = \"KEY_A\"\n{more}\n");
    let server =
        |more: &str| peer(&format!("addresses = [\"10.8.0.2/24\"]\nallowed_ips = [\"10.8.0.0/24\"]\n{more}"));
    let read = |text: &str| parse(text).unwrap().peers[0].peer.disclosure;
    let all = Disclosure::default();
    assert_eq!(read(&peer("")), all);
    let told = read(&peer("addresses = \"relayed-only\"\nown = true"));
    assert_eq!(told, Disclosure { addresses: AddressesTold::RelayedOnly, own: true, ..all });
    assert_eq!(read(&server("")), Disclosure::WIREGUARD);
    let config = parse(&server("mast = true\npolicy = { mode = \"bonded\" }")).unwrap();
    let spoken = &config.peers[0].peer;
    assert_eq!((spoken.disclosure.mast, spoken.kind), (true, None), "what it speaks is found out");
    for (text, words) in [
        (peer("addresses = \"public\""), "must be \"all\", \"public-only\" or \"relayed-only\""),
        (peer("mast = true"), "is for plain WireGuard peers"),
        (server("own = 1"), "must be true or false"),
        (
            peer("allowed_ips = [\"10.8.0.0/24\"]\naddresses = \"all\""),
            "of a plain WireGuard peer are this host's there",
        ),
    ] {
        let told = parse(&text).unwrap_err().join("\n");
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn modes_of_several_paths() {
    let read = |text: &str| parse(&format!("policy = {{ {text} }}")).unwrap().policy.unwrap();
    let redundant = |small, metered| Policy::Redundant { small, metered };
    assert_eq!(read("mode = \"redundant\""), redundant(false, false));
    assert_eq!(read("mode = \"redundant\", small = true"), redundant(true, false));
    assert_eq!(read("mode = \"redundant\", small = false, metered = true"), redundant(false, true));
    assert_eq!(read("mode = \"bonded\""), Policy::Bonded { metered: false });
    assert_eq!(read("mode = \"bonded\", metered = true"), Policy::Bonded { metered: true });
}

#[test]
fn nothing_is_the_defaults() {
    let config = parse("# nothing\n").unwrap();
    assert_eq!((config.port, config.mtu, config.interface.as_str()), (6278, 1404, "mast0"));
    assert!(config.policy.is_none() && config.peers.is_empty() && config.name.is_none());
}

#[test]
fn says_what_is_wrong_and_where() {
    let peer = "[[peer]]\nname = \"a\"\npublic_key = \"KEY_A\"\n";
    let other = "[[peer]]\nname = \"b\"\npublic_key = \"KEY_B\"\n";
    let with = |line: &str| format!("{peer}{line}\n");
    let both = |a: &str, b: &str| format!("{peer}{a}\n{other}{b}\n");
    let plain = "addresses = [\"10.1.0.2/24\"]\n";
    let cases: Vec<(String, usize, &[&str])> = vec![
        ("\n\nprot = 1\n".into(), 3, &["unknown key `prot`: did you mean `port`?"]),
        ("colour = 1".into(), 1, &["unknown key `colour`", "known here: `name`"]),
        ("port = 65536".into(), 1, &["`port`", "from 0 to 65535", "not 65536"]),
        ("port = -1".into(), 1, &["`port`", "not -1"]),
        ("port = 99999999999999999999".into(), 1, &["99999999999999999999"]),
        ("port = \"6278\"".into(), 1, &["`port`", "must be a number", "not string"]),
        ("mtu = 500".into(), 1, &["`mtu`", "1280 to 9000"]),
        ("name = \"\"".into(), 1, &["`name`", "1 to 64 bytes"]),
        ("name = 7".into(), 1, &["`name`", "must be a string, such as \"laptop\", not integer"]),
        ("interface = \"far too long a name\"".into(), 1, &["`interface`", "15 bytes"]),
        ("eid_pool = \"100.64.0.0\"".into(), 1, &["`eid_pool`", "8 to 30 bits"]),
        ("eid_pool = \"fd00::/16\"".into(), 1, &["`eid_pool`", "IPv4"]),
        ("[relay]\nserver = \"a:1\"".into(), 1, &["[[relay]], with two brackets"]),
        (
            "[[relay]]\ntransport = \"sctp\"\nserver = \"turn.example.org\"\nca = \"ca.pem\"".into(),
            1,
            &[
                "\"udp\", \"tcp\" or \"tls\", not \"sctp\"",
                "write `turn.example.org:3478`",
                "must begin at the root",
                "[[relay]] has no `username`",
                "[[relay]] has no `password`",
            ],
        ),
        (
            "[[relay]]\nserver = \"a:1\"\nusername = \"a\"\npassword = \"\"\nca = \"/ca.pem\"".into(),
            4,
            &["must have 1 to 508 bytes", "only counts with transport = \"tls\""],
        ),
        (
            "[[relay]]\nserver = \"a:1\"\nusername = \"a\"\npassword = \"b\"\n".repeat(5),
            1,
            &["write 4 at most"],
        ),
        ("relay_for_peers = \"yes\"".into(), 1, &["`relay_for_peers`", "true or false"]),
        ("stun = \"a:1\"".into(), 1, &["`stun`", "must be a list of strings"]),
        ("stun = [\"stun.example.org\"]".into(), 1, &["`stun`", "write `stun.example.org:3478`"]),
        ("stun = [\"[fe80::1%eth0]:3478\"]".into(), 1, &["`stun`", "link-local"]),
        ("stun = [\"a:1\", \"b:1\", \"c:1\", \"d:1\", \"e:1\"]".into(), 1, &["`stun`", "name 4 at most"]),
        ("eid_pool = \"nonsense\"".into(), 1, &["`eid_pool`", "`nonsense` is not an address range"]),
        ("policy = \"auto\"".into(), 1, &["`policy`", "{ mode = \"pin\""]),
        ("policy = { mode = \"fast\" }".into(), 1, &["`policy.mode`", "not \"fast\""]),
        ("policy = { pin = [\"wifi\"] }".into(), 1, &["`mode` is missing"]),
        ("policy = { mode = \"pin\" }".into(), 1, &["needs `pin`"]),
        ("policy = { mode = \"pin\", pin = [] }".into(), 1, &["needs `pin`"]),
        (
            "policy = { mode = \"auto\", pin = [\"wifi\"] }".into(),
            1,
            &["`policy.pin`", "only counts with mode = \"pin\""],
        ),
        (
            "policy = { mode = \"bonded\",\nsmall = true }".into(),
            2,
            &["`policy.small`", "\"redundant\": leave"],
        ),
        (
            "policy = { mode = \"pin\", pin = [\"wifi\"], metered = true }".into(),
            1,
            &["`policy.metered`", "mode = \"redundant\" or \"bonded\""],
        ),
        ("policy = { mode = \"redundant\", fallback = false }".into(), 1, &["`policy.fallback`"]),
        ("policy = { mode = \"redundant\", metered = 1 }".into(), 1, &["`policy.metered`", "true or false"]),
        ("policy = { mode = \"pin\", pin = [1] }".into(), 1, &["`policy.pin`", "integer"]),
        ("policy = { mode = \"pin\", pins = [\"a\"] }".into(), 1, &["`policy.pins`: did you mean `pin`?"]),
        (
            "[interfaces.wlan0]\nmetred = true".into(),
            2,
            &["`interfaces.wlan0.metred`: did you mean `metered`?"],
        ),
        ("[interfaces.wlan0]\nmetered = \"yes\"".into(), 2, &["true or false"]),
        ("[interfaces.wlan0]\nkind = \"wlan\"".into(), 2, &["no kind \"wlan\""]),
        ("[interfaces.wlan0]\nkind = \"celular\"".into(), 2, &["did you mean `cellular`?"]),
        ("interfaces = 1".into(), 1, &["[interfaces.wlan0]"]),
        ("[interfaces]\nwlan0 = true".into(), 2, &["[interfaces.wlan0]", "boolean"]),
        ("[peer]\nname = \"a\"".into(), 1, &["[[peer]]"]),
        ("\n[[peer]]\nname = \"a\"".into(), 2, &["has no `public_key`"]),
        ("[[peer]]\npublic_key = \"KEY_A\"".into(), 1, &["has no `name`"]),
        ("[[peer]]\nname = \"a\"\npublic_key = \"short\"".into(), 3, &["`peer.public_key`", "44 characters"]),
        (
            with(&format!("{plain}allowed_ips = [\"10.1.0.0/24\"]\npolicy = {{ mode = \"bonded\" }}")),
            6,
            &["`peer.policy`", "plain WireGuard", "mode = \"auto\""],
        ),
        (with("publickey = \"x\""), 4, &["did you mean `public_key`?"]),
        (with("preshared_key = \"c2VjcmV0\""), 4, &["`peer.preshared_key`", "44 characters"]),
        (with("endpoint = \"x:1\""), 4, &["did you mean `endpoints`?"]),
        (with("endpoints = \"x:1\""), 4, &["`peer.endpoints`", "a list of strings"]),
        (with("endpoints = [\n\"x:1\",\n\"nas\"]"), 6, &["write `nas:6278`"]),
        (with("endpoints = [\"192.0.2.300:1\"]"), 4, &["neither an address nor a host name"]),
        (with("endpoints = [\"nas:70000\"]"), 4, &["port must be 1 to 65535"]),
        (with("eid_v4 = \"100.64.0.1\""), 4, &["`peer.eid_v4`", "{ local ="]),
        (with("eid_v4 = { local = \"100.64.0.1\" }"), 4, &["`peer.eid_v4.remote`: is missing"]),
        (
            with("eid_v4 = { local = \"1.2.3\", remote = \"100.64.0.1\" }"),
            4,
            &["`1.2.3` is not an IPv4 address"],
        ),
        (with("eid_v4 = { local = \"100.64.0.1\", remote = \"100.64.0.1\" }"), 4, &["must be two addresses"]),
        (with("allowed_ips = [\"10.1.0.0/24\"]"), 1, &["also needs `addresses`"]),
        (with("keepalive = 25"), 1, &["also needs `allowed_ips`"]),
        (with("keepalive = 70000"), 4, &["`peer.keepalive`"]),
        (with(&format!("{plain}allowed_ips = [\"10.1.0.0/40\"]")), 5, &["`10.1.0.0/40`", "0 to 32"]),
        (
            with(&format!(
                "{plain}allowed_ips = [\"10.1.0.0/24\"]\neid_v4 = {{ local = \"100.64.0.1\", remote = \"100.64.0.2\" }}"
            )),
            6,
            &["keep one"],
        ),
        (
            format!("{peer}[[peer]]\nname = \"a\"\npublic_key = \"KEY_B\""),
            4,
            &["two peers are called `a`", "line 1"],
        ),
        (format!("{peer}[[peer]]\nname = \"b\"\npublic_key = \"KEY_A\""), 4, &["`b` and `a` (line 1)"]),
        (
            both(
                "eid_v4 = { local = \"100.64.0.0\", remote = \"100.64.0.1\" }",
                "eid_v4 = { local = \"100.64.0.1\", remote = \"100.64.0.2\" }",
            ),
            8,
            &["100.64.0.1 of `b` also belongs to `a` (line 4)"],
        ),
        (
            both(
                &format!("{plain}allowed_ips = [\"10.1.0.0/24\"]"),
                &format!("{plain}allowed_ips = [\"0.0.0.0/0\", \"10.1.0.9/24\"]"),
            ),
            10,
            &["10.1.0.0/24 of `b` also belongs to `a` (line 5)"],
        ),
        ("port = 1\nport = 2".into(), 2, &["duplicate key"]),
        ("port = 1\nname = \"a".into(), 2, &[]),
    ];
    for (text, line, fragments) in cases {
        let problems = parse(&text).expect_err(&text);
        let first = &problems[0];
        assert!(first.starts_with(&format!("/etc/mast/mastd.toml:{line}: ")), "{text}\n{problems:#?}");
        for fragment in fragments {
            assert!(problems.iter().any(|p| p.contains(fragment)), "{fragment}\n{text}\n{problems:#?}");
        }
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let problems =
        parse("prot = 1\nmtu = 1\n[[peer]]\nname = \"a\"\npublic_key = \"x\"\nkeepalive = \"often\"")
            .unwrap_err();
    assert_eq!(problems.len(), 4, "{problems:#?}");
}

#[test]
fn secrets_are_not_repeated() {
    let problems =
        parse("[[peer]]\nname = \"a\"\npublic_key = \"KEY_A\"\npreshared_key = \"hush hush\"").unwrap_err();
    assert!(problems.iter().all(|p| !p.contains("hush")), "{problems:#?}");
}

#[test]
fn an_absent_file_counts_only_where_it_was_asked_for() {
    let path = Path::new("/nonexistent/mastd.toml");
    assert!(Config::load(path, false).is_ok());
    let error = Config::load(path, true).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/mastd.toml"), "{error}");
}

/// The file of a gateway: MAST peers with EIDs, and plain ones with a range each.
fn crowd(count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        let mut key = [7; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        let (high, low) = (number / 256, number % 256);
        let own = if number % 2 == 0 {
            format!(
                "eid_v4 = {{ local = \"100.{}.{low}.0\", remote = \"100.{}.{low}.1\" }}",
                64 + high,
                64 + high
            )
        } else {
            format!("addresses = [\"10.255.0.2/32\"]\nallowed_ips = [\"10.{high}.{low}.0/24\"]")
        };
        let key = notation::key_text(&key);
        text += &format!("[[peer]]\nname = \"peer {number}\"\npublic_key = \"{key}\"\n{own}\n");
    }
    text
}

/// The time that this thread computed for, in nanoseconds: what else the machine does is not counted.
fn computed() -> i64 {
    let system = mast_platform::Native::default();
    let time = mast_engine::os::Platform::processor_time(&system).unwrap();
    i64::try_from(time.as_nanos()).unwrap()
}

#[test]
fn a_crowd_is_checked_in_one_pass() {
    // Many times: the clock of what was computed ticks slowly on some systems.
    let work = |count: usize, times: usize| {
        let text = crowd(count);
        let pass = || {
            let begun = computed();
            for _ in 0..times {
                assert_eq!(Config::parse(Path::new("mastd.toml"), &text).unwrap().peers.len(), count);
            }
            computed() - begun
        };
        (0..3).map(|_| pass()).min().unwrap()
    };
    // As much work, and eight times as much where each is compared with each.
    let (few, many) = (work(1250, 16), work(10_000, 2));
    assert!(many < few * 3, "{many} against {few} ns");
}

#[test]
fn a_clash_is_found_in_a_crowd_and_told_once() {
    let mut text = crowd(2000);
    text += "[[peer]]\nname = \"peer 3\"\npublic_key = \"KEY_A\"\naddresses = [\"10.255.0.2/32\"]\n\
             allowed_ips = [\"10.7.0.0/16\", \"10.7.1.9/24\", \"100.64.4.1/32\"]\n";
    let problems = parse(&text).unwrap_err();
    let told = |fragment: &str| problems.iter().filter(|p| p.contains(fragment)).count();
    assert_eq!(
        (told("two peers are called `peer 3`"), told("10.7.1.0/24 of `peer 3`")),
        (1, 1),
        "{problems:#?}"
    );
    assert_eq!((told("100.64.4.1/32 of `peer 4`"), problems.len()), (1, 3), "{problems:#?}");
}

#[test]
fn peers_in_one_line_clash_all_the_same() {
    let plain = "addresses = [\"10.1.0.2/24\"], allowed_ips = [\"10.1.0.0/24\", \"10.1.0.0/24\"]";
    let one = format!("{{ name = \"a\", public_key = \"KEY_A\", {plain} }}");
    let other = format!("{{ name = \"b\", public_key = \"KEY_B\", {plain} }}");
    assert!(parse(&format!("peer = [{one}]")).is_ok(), "twice in one peer");
    let problems = parse(&format!("peer = [{one}, {other}]")).unwrap_err();
    assert!(problems.len() == 1 && problems[0].contains("10.1.0.0/24 of `b`"), "{problems:#?}");
}

#[test]
fn peers_are_looked_for_in_the_local_network_unless_that_is_switched_off() {
    assert!(parse("").unwrap().rendezvous.lan);
    assert!(parse("[rendezvous.dns]\nresolvers = [\"192.0.2.53\"]\n").unwrap().rendezvous.lan);
    assert!(!parse("[rendezvous]\nlan = false\n").unwrap().rendezvous.lan);
    let wrong = parse("[rendezvous]\nlan = \"no\"\n").unwrap_err();
    assert!(wrong[0].contains("rendezvous.lan"), "{wrong:?}");
}
