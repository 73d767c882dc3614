//! Files as people have them.

use super::*;

const A: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const B: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

fn read(text: &str) -> Result<WgFile, WgError> {
    parse(&text.replace("KEY_A", A).replace("KEY_B", B))
}

#[test]
fn reads_a_providers_file() {
    let file = read(
        "# from the provider\r\n[Interface]\r\nPrivateKey = KEY_A # mine\r\naddress=10.8.0.2/24, fd00::2\r\n\
         DNS = 10.8.0.1\r\nMTU = 1380\r\nPostUp = rm -rf /\r\n\r\n[Peer]\r\nPublicKey = KEY_B\r\n\
         PresharedKey = KEY_A\r\nEndpoint = vpn.example.org:51820\r\nAllowedIPs = 0.0.0.0/0, ::/0\r\n\
         PersistentKeepalive = 25\r\n",
    )
    .unwrap();
    let [WgPeer { peer, endpoint }] = &file.peers[..] else { panic!() };
    assert_eq!(peer.public_key, [2; 32]);
    assert_eq!(peer.preshared_key, Some([1; 32].into()));
    assert!(peer.addresses.is_empty());
    assert_eq!(endpoint.as_ref().unwrap().to_string(), "vpn.example.org:51820");
    let plain = peer.plain.as_ref().unwrap();
    assert_eq!(plain.private_key.as_deref(), Some(&[1; 32]));
    assert_eq!(
        plain.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.8.0.2/24", "fd00::2/128"]
    );
    assert_eq!(plain.allowed.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0.0.0.0/0", "::/0"]);
    assert_eq!(plain.keepalive, Some(25));
    assert_eq!(plain.mtu, Some(1380));
    assert_eq!(plain.dns, ["10.8.0.1".parse::<std::net::IpAddr>().unwrap()]);
    let [command] = &file.notes[..] else { panic!("{:?}", file.notes) };
    assert_eq!(*command, Noted::Command { key: "PostUp".into(), line: 7 });
}

#[test]
fn name_servers_that_are_not_asked_are_told_of() {
    let notes = |dns: &str, allowed: &str| {
        let text = format!(
            "[Interface]\nPrivateKey = KEY_A\nAddress = 10.8.0.2/24\nDNS = {dns}\n[Peer]\nPublicKey = KEY_B\n\
             Endpoint = 192.0.2.1:1\nAllowedIPs = {allowed}\n"
        );
        let file = read(&text).unwrap();
        let told = file.notes.iter().any(|note| matches!(note, Noted::NameServers { line: 4, .. }));
        (file.peers[0].peer.plain.as_ref().unwrap().dns.len(), told)
    };
    assert_eq!(notes("10.8.0.1, fd08::1", "0.0.0.0/0, ::/0"), (2, false));
    assert_eq!(notes("10.8.0.1", "10.8.0.0/24"), (1, true), "not everything goes there");
    assert_eq!(notes("10.8.0.1, lan", "0.0.0.0/0, ::/0"), (1, true), "a domain is not set");
}

#[test]
fn reads_several_peers() {
    let file = read(
        "[Interface]\nAddress = 10.8.0.2/24\n[Peer]\nPublicKey = KEY_A\nAllowedIPs = 10.1.0.0/16\n\
         Endpoint = 192.0.2.1:1\n[Peer]\nPublicKey = KEY_B\nAllowedIPs = 10.2.0.0/16\nPersistentKeepalive = off\n",
    )
    .unwrap();
    assert_eq!(file.peers.len(), 2);
    assert_eq!(file.peers[0].peer.addresses.all().count(), 1);
    assert!(file.peers[1].endpoint.is_none());
    assert_eq!(file.notes, [Noted::OwnKey]);
}

#[test]
fn says_what_is_wrong_and_where() {
    let head = "[Interface]\nAddress = 10.8.0.2/24\n[Peer]\nPublicKey = KEY_B\nAllowedIPs = ::/0\n";
    let with = |line: &str| format!("{head}{line}\n");
    for (text, line, expected) in [
        (String::new(), 1, "no [Interface]"),
        ("[Interface]\nAddress = 10.8.0.2/24".into(), 1, "no [Peer]"),
        ("hello\n".into(), 1, "neither a section"),
        ("PublicKey = x".into(), 1, "comes before [Interface]"),
        ("[Interface]\nPrivateKey = x\nAddress = 10.0.0.1".into(), 2, "44 characters"),
        ("[Interface]\nAddress = 10.8.0.2/33".into(), 2, "0 to 32"),
        ("[Interface]\nAdress = 10.8.0.2".into(), 2, "did you mean `Address`?"),
        ("[Interface]\nMTU = big".into(), 2, "not a number of bytes"),
        ("[Interfaces]\n".into(), 1, "unknown section [Interfaces]"),
        (with("[Peer]"), 6, "[Peer] has no `PublicKey`"),
        (with("Endpoint = vpn.example.org"), 6, "write `vpn.example.org:6278`"),
        (with("PersistentKeepalive = soon"), 6, "`off` or 1 to 65535"),
        (with("PresharedKey ="), 6, "has no value"),
        (with("Persistentkeepalives = 2"), 6, "did you mean `PersistentKeepalive`?"),
    ] {
        let error = read(&text).expect_err(&text);
        let found = error.problems.iter().any(|(l, p)| *l == line && p.contains(expected));
        assert!(found, "{text}\n{error}");
        assert!(!error.to_string().contains("PrivateKey = x"));
    }
}

#[test]
fn names_come_from_the_file() {
    assert_eq!(name_of_file("/tmp/office.conf"), "office");
    assert_eq!(name_of_file("wg0"), "wg0");
    assert_eq!(name_of_file(".conf"), "wireguard");
    assert_eq!(name_of_file("a\u{1b}b.conf"), "ab");
}

const HEAD: &str = "[Interface]\nPrivateKey = KEY_A\nAddress = 10.8.0.2/24\n";
const PEER: &str = "[Peer]\nPublicKey = KEY_B\nEndpoint = 192.0.2.1:7\nAllowedIPs = 0.0.0.0/0, ::/0\n";

fn one(text: &str) -> (PlainPeer, Vec<Noted>) {
    let file = read(text).unwrap_or_else(|e| panic!("{text}\n{e}"));
    assert_eq!(file.peers.len(), 1, "{text}");
    (file.peers[0].peer.plain.clone().unwrap(), file.notes)
}

/// What wg(8) and wg-quick(8) take, as tried with them.
#[test]
fn blanks_case_empty_values_and_several_sections_are_taken() {
    let (plain, notes) = one(
        "\u{feff}[ Interface ]\nPRIVATE KEY = KEY_A\nAddress =\naddress = 10.8.0.2/24   fd00::2,\t10.9.0.2\nDNS =\nMTU=\n\
         PostUp =\nTable = AUTO\nSaveConfig =\n[PEER]\nPublic Key = KEY_B\nAllowed IPs = 10.1.0.0 / 16 ,10.2.0.0/16\n\
         allowedips=fd00::/64\nEndpoint = 192.0.2.1 : 7\npersistentkeepalive = OFF\n[Interface]\nAddress = 10.10.0.2\n",
    );
    let text = |list: &[Prefix]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(text(&plain.addresses), ["10.8.0.2/24", "fd00::2/128", "10.9.0.2/32", "10.10.0.2/32"]);
    assert_eq!(text(&plain.allowed), ["10.1.0.0/16", "10.2.0.0/16", "fd00::/64"]);
    assert_eq!((plain.keepalive, plain.mtu, plain.unrouted), (None, None, false));
    assert_eq!(notes, []);
    // Neither an address nor a range.
    let (plain, notes) = one("[Interface]\nPrivateKey = KEY_A\n[Peer]\nPublicKey = KEY_B\n");
    assert!(plain.addresses.is_empty() && plain.allowed.is_empty());
    assert_eq!(notes, [Noted::NoAddress, Noted::NothingAllowed { line: 3 }]);
    // A comment in another encoding.
    let latin = String::from_utf8_lossy(b"# caf\xe9\n").into_owned();
    one(&format!("{latin}{HEAD}{PEER}"));
}

#[test]
fn sections_of_one_key_are_one_peer() {
    let text = format!(
        "{HEAD}[Peer]\nPublicKey = KEY_B\nAllowedIPs = 10.1.0.0/16\nPresharedKey = KEY_A\nEndpoint = 192.0.2.1:7\n\
         [Peer]\nPublicKey = KEY_B\nAllowedIPs = fd00::/64\nPersistentKeepalive = 7\n"
    );
    let (plain, notes) = one(&text);
    assert_eq!((plain.allowed.len(), plain.keepalive), (2, Some(7)));
    assert_eq!(notes, [Noted::OnePeer { line: 9, first: 4 }]);
    let peer = &read(&text).unwrap().peers[0].peer;
    assert!(peer.preshared_key.is_some() && !peer.addresses.is_empty());
}

#[test]
fn a_range_leads_to_the_later_peer() {
    let file = read(&format!(
        "{HEAD}[Peer]\nPublicKey = KEY_A\nAllowedIPs = 10.1.0.0/16, 10.2.0.0/16\n[Peer]\nPublicKey = KEY_B\n\
         AllowedIPs = 10.2.0.9/16\n"
    ))
    .unwrap();
    let of = |at: usize| file.peers[at].peer.plain.as_ref().unwrap().allowed.len();
    assert_eq!((of(0), of(1)), (1, 1));
    assert_eq!(file.notes, [Noted::RangeOfLater { range: "10.2.0.0/16".into(), line: 7 }]);
}

#[test]
fn what_forbids_is_obeyed_or_told() {
    for (table, unrouted) in [("off", true), ("OFF", true), ("128", true), ("auto", false), ("main", false)] {
        let (plain, notes) = one(&format!("{HEAD}Table = {table}\n{PEER}"));
        assert_eq!(plain.unrouted, unrouted, "{table}");
        assert_eq!(plain.full_tunnel(), Some(!unrouted), "{table}");
        assert_eq!(notes.len(), usize::from(unrouted), "{table}");
    }
    let (_, notes) =
        one(&format!("{HEAD}PostUp = iptables -I OUTPUT ! -o %i -j REJECT\nFwMark = 51820\n{PEER}"));
    assert_eq!(notes, [Noted::KillSwitch { key: "PostUp".into(), line: 4 }, Noted::Mark { line: 5 }]);
}

#[test]
fn a_tunnel_for_one_version_of_ip_is_told() {
    for (allowed, expected) in
        [("0.0.0.0/0", Some("IPv4")), ("::/0, 10.0.0.0/8", Some("IPv6")), ("::/0, 0.0.0.0/0", None)]
    {
        let (plain, notes) = one(&format!("{HEAD}[Peer]\nPublicKey = KEY_B\nAllowedIPs = {allowed}\n"));
        let expected = expected.map(|tunnel: &str| Noted::OneVersion { tunnel: tunnel.to_owned() });
        assert_eq!(notes, Vec::from_iter(expected), "{allowed}");
        assert_eq!(plain.full_tunnel(), Some(true));
    }
}

#[test]
fn keys_that_commands_set_are_not_this_hosts_own() {
    let refused = |text: &str| {
        let error = read(text).unwrap_err();
        assert_eq!(error.problems.len(), 1, "{error}");
        error.to_string()
    };
    let text = "[Interface]\nAddress = 10.8.0.2\nPostUp = wg set %i private-key /etc/wireguard/%i.key\n";
    let error = refused(&format!("{text}{PEER}"));
    assert!(error.contains("line 3: `PostUp`") && error.contains("`PrivateKey = …`"), "{error}");
    let text = format!("{HEAD}PostUp = wg set %i peer X preshared-key <(pass vpn)\n{PEER}");
    assert!(refused(&text).contains("`PresharedKey = …`"));
    // Where the file has the key, the command only sets it again.
    one(&format!("{HEAD}PostUp = wg set %i private-key /etc/wireguard/%i.key\n{PEER}"));
}

#[test]
fn other_dialects_are_named() {
    let disguised = format!(
        "{HEAD}S1 = 0\nS2 =\nJc = 4\nJmin = 40\nJmax = 70\nH1 = 1\nH2 = 2-2\nH3 = 3\nH4 = 4\nI2 =\n{PEER}"
    );
    let (_, notes) = one(&disguised);
    let [Noted::Disguise { dialect, keys }] = &notes[..] else { panic!("{notes:?}") };
    assert_eq!((dialect.as_str(), keys.len()), ("AmneziaWG", 10));
    one(&format!("{HEAD}{PEER}AdvancedSecurity = off\nReserved = 0, 0, 0\n"));
    for (text, name) in [
        (
            format!("{HEAD}Jc = 6\nS1 = 65\nS2 = 99\nH1 = 1100000000-1200000000\nI1 = <b 0x01>\n{PEER}"),
            "AmneziaWG",
        ),
        (format!("{HEAD}H1 = 7\nUnheard = 3\n{PEER}"), "AmneziaWG"),
        (format!("{HEAD}{PEER}AdvancedSecurity = on\n"), "AmneziaWG"),
        (format!("{HEAD}{PEER}Reserved = 1,2,3\n"), "WARP"),
        (format!("{HEAD}AllowedApps = firefox\n{PEER}"), "WireSock"),
        (format!("{HEAD}ExcludedApplications = org.example\n{PEER}"), "Android"),
        ("[connection]\nid=x\n[wireguard]\nprivate-key=x\n[wireguard-peer.x]\n".into(), "NetworkManager"),
        ("[NetDev]\nKind=wireguard\n[WireGuard]\n[WireGuardPeer]\n".into(), "systemd-networkd"),
        ("client\ndev tun\nremote vpn.example.org 1194\n<ca>\n".into(), "OpenVPN"),
        ("{\"outbounds\": []}".into(), "another program"),
        ("private_key=00\nlisten_port=5\n".into(), "running WireGuard"),
    ] {
        let error = read(&text).unwrap_err();
        assert_eq!(error.problems.len(), 1, "{error}");
        assert!(error.to_string().contains(name) && error.to_string().contains(": "), "{error}");
    }
}
