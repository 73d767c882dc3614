//! A plain WireGuard peer is a valid peer. Needs `wireguard-go` and `wg`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use mast_control::{Pause, PeerKind, PeerSet, PeerState, Request, SettingsSet};
use mast_e2e::{GAP, PATIENCE, Session, active, has_interface, lab, mast, mast_program, within};
use mast_netlab::{Host, Process};
use mast_stage::{Daemon, Program, Train, TrainProfile};

const MISSING: &str = "is not installed: apt-get install wireguard-go wireguard-tools";

/// Runs `wg` to its end.
fn wg(host: Option<&Host>, words: &[&str], input: &str) -> String {
    let mut command = Command::new("wg");
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
    let output = match host {
        None => {
            let mut child = command.spawn().unwrap_or_else(|e| panic!("wg {MISSING} ({e})"));
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            child.wait_with_output().unwrap().stdout
        }
        Some(host) => {
            let mut process = host.spawn(command).unwrap_or_else(|e| panic!("wg {MISSING} ({e})"));
            process.child().stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            let status = process.wait(PATIENCE).unwrap();
            assert!(status.success(), "wg {words:?}: {status}");
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut process.child().stdout.take().unwrap(), &mut text).unwrap();
            text
        }
    };
    String::from_utf8(output).unwrap().trim().to_owned()
}

/// A key pair, private and public.
pub(crate) fn keys() -> (String, String) {
    let private = wg(None, &["genkey"], "");
    let public = wg(None, &["pubkey"], &private);
    (private, public)
}

/// A laptop with MAST, and a server with WireGuard and nothing else.
pub(crate) struct Net {
    pub(crate) laptop: Daemon,
    /// The laptop's public key at the server.
    laptop_public: String,
    _wireguard: Process,
    pub(crate) train: Train,
}

fn net() -> Net {
    net_with("10.66.0.1/32")
}

/// With other `AllowedIPs` at the laptop.
fn net_with(allowed: &str) -> Net {
    net_of(allowed, &mast_program(), "")
}

/// With a service at the laptop that is started like this.
pub(crate) fn net_of(allowed: &str, program: &Program, extra: &str) -> Net {
    let train = Train::new(&TrainProfile::default()).unwrap_or_else(|e| panic!("{e}"));
    let ((server_private, server_public), (laptop_private, laptop_public)) = (keys(), keys());
    let server = &train.server;
    // Its socket lies in /run, which is the whole machine's unless the host has mounts of its own.
    let mut command = Command::new("sh");
    let script = "test \"$(readlink /proc/self/ns/mnt)\" != \"$OUTSIDE\" || exit 9
        command -v wireguard-go > /dev/null || exit 8
        mount -t tmpfs tmpfs /run && mkdir /run/wireguard && exec wireguard-go -f wg0";
    let outside = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    command.args(["-c", script]).env("OUTSIDE", outside).env("LOG_LEVEL", "error");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut wireguard = server.spawn(command).unwrap();
    within(PATIENCE, "wireguard-go runs", || {
        match wireguard.poll().unwrap().map(|s| s.code()) {
            None => {}
            Some(Some(8)) => panic!("wireguard-go {MISSING}"),
            Some(Some(9)) => panic!("mounts cannot be separated here"),
            Some(code) => panic!("wireguard-go ended with {code:?}"),
        }
        has_interface(server, "wg0")
    });
    let config = format!(
        "[Interface]\nPrivateKey = {server_private}\nListenPort = 51820\n\
         [Peer]\nPublicKey = {laptop_public}\nAllowedIPs = 10.66.0.2/32\n"
    );
    // Its socket is there a moment after the interface.
    mast_e2e::sleep(300);
    wg(Some(server), &["setconf", "wg0", "/dev/stdin"], &config);
    server.add_address("wg0", "10.66.0.1/24").unwrap();
    server.set_up("wg0", true).unwrap();

    let laptop = Daemon::start(program, &train.laptop, extra).unwrap_or_else(|e| panic!("{e}"));
    let file = laptop.directory().join("office.conf");
    let text = format!(
        "# from the administrator\n[Interface]\nPrivateKey = {laptop_private}\nAddress = 10.66.0.2/24\nDNS = 10.66.0.1\n\n\
         [Peer]\nPublicKey = {server_public}\nEndpoint = 10.9.0.2:51820\nAllowedIPs = {allowed}\n\
         PersistentKeepalive = 25\n"
    );
    std::fs::write(&file, text).unwrap();
    let added = mast(&laptop, &["peer", "add", file.to_str().unwrap()]).good();
    assert!(added.out.contains("office"), "{added}");
    Net { laptop, laptop_public, _wireguard: wireguard, train }
}

impl Net {
    /// What the server sends to the laptop, and takes from it.
    pub(crate) fn allow_at_the_server(&self, ranges: &str) {
        let words = ["set", "wg0", "peer", &self.laptop_public, "allowed-ips", ranges];
        wg(Some(&self.train.server), &words, "");
    }

    fn session(&self) -> Session {
        let eid = self.laptop.peer().unwrap().eid;
        assert_eq!(
            (eid.local_v4.as_deref(), eid.remote_v4.as_deref()),
            (Some("10.66.0.2"), Some("10.66.0.1"))
        );
        let session = Session::between(&self.train.laptop, &self.train.server, &eid);
        let peer = self.laptop.peer().unwrap();
        assert_eq!((peer.kind, peer.state), (PeerKind::Wireguard, PeerState::Connected));
        session
    }

    fn moves_to(&self, interface: &str) {
        let moved = || active(&self.laptop).as_deref() == Some(interface);
        within(PATIENCE, &format!("data over {interface}"), moved);
    }
}

#[test]
fn a_plain_peer_carries_and_follows_a_lost_link() {
    lab(|| {
        let net = net();
        let session = net.session();
        assert_eq!(active(&net.laptop).as_deref(), Some("wifi"));
        let mark = session.mark();
        net.train.set_wifi(false).unwrap();
        net.moves_to("cell");
        session.with_gap("WireGuard peer: link down", mark, GAP);
        mast(&net.laptop, &["drill"]).bad(1, &["plain WireGuard"]);
        session.survives();
    });
}

#[test]
fn a_plain_peer_follows_out_of_a_silent_blackhole() {
    lab(|| {
        let net = net();
        let session = net.session();
        let mark = session.mark();
        net.train.blackhole_wifi(true).unwrap();
        net.moves_to("cell");
        session.with_gap("WireGuard peer: blackhole", mark, Duration::from_millis(1_500));
        session.survives();
    });
}

/// Each handshake arrives, and no answer comes back.
#[test]
fn a_plain_peer_leaves_a_link_that_loses_the_way_back() {
    lab(|| {
        let net = net();
        let session = net.session();
        let mark = session.mark();
        net.train.deafen_wifi(true).unwrap();
        net.moves_to("cell");
        session.with_gap("WireGuard peer: way back lost", mark, Duration::from_millis(2_000));
        session.survives();
    });
}

/// Nothing arrives at the server, which goes on sending.
#[test]
fn a_plain_peer_leaves_a_link_that_loses_the_way_there() {
    lab(|| {
        let net = net();
        let session = net.session();
        let mark = session.mark();
        net.train.wifi.blackhole(true, false).unwrap();
        net.moves_to("cell");
        session.with_gap("WireGuard peer: way there lost", mark, Duration::from_millis(2_000));
        // What it had sent before it heard of the move came over the Wi-Fi still, and that was no reason to go back.
        mast_e2e::sleep(3_000);
        assert_eq!(active(&net.laptop).as_deref(), Some("cell"));
        session.survives();
    });
}

#[test]
fn a_plain_peer_is_pinned_and_comes_back_to_the_wifi() {
    lab(|| {
        let net = net();
        let session = net.session();
        for link in ["cell", "wifi", "cell"] {
            let since = std::time::Instant::now();
            mast(&net.laptop, &["pin", link]).good();
            net.moves_to(link);
            println!("WireGuard peer: pinned to {link} after {:?}", since.elapsed());
        }
        mast(&net.laptop, &["unpin"]).good();
        net.moves_to("wifi");
        net.train.set_wifi(false).unwrap();
        net.moves_to("cell");
        net.train.set_wifi(true).unwrap();
        let since = std::time::Instant::now();
        net.moves_to("wifi");
        println!("WireGuard peer: back on the Wi-Fi after {:?}", since.elapsed());
        assert!(since.elapsed() < Duration::from_secs(12));
        session.survives();
    });
}

#[test]
fn a_plain_peer_survives_a_restart() {
    lab(|| {
        let mut net = net();
        let session = net.session();
        assert!(net.laptop.stop().unwrap().success());
        let mark = session.mark();
        net.laptop.launch().unwrap_or_else(|e| panic!("{e}"));
        session.with_gap("WireGuard peer: restart", mark, Duration::from_secs(10));
        session.survives();
    });
}

/// What `ip` prints.
fn ip(host: &Host, words: &[&str]) -> String {
    let mut command = Command::new("ip");
    command.args(words).stdout(Stdio::piped());
    let mut process = host.spawn(command).unwrap();
    process.wait(PATIENCE).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut process.child().stdout.take().unwrap(), &mut text).unwrap();
    text
}

/// How many rules of leak protection there are, of both versions of IP.
fn rules(host: &Host) -> usize {
    let text = ip(host, &["rule"]) + &ip(host, &["-6", "rule"]);
    text.lines().filter(|line| line.contains("proto 109")).count()
}

/// The interface by which a host would send to an address.
fn leaves_by(host: &Host, address: &str) -> String {
    let text = ip(host, &["route", "get", address]);
    let mut words = text.split_whitespace().skip_while(|w| *w != "dev");
    words.nth(1).unwrap_or_default().to_owned()
}

#[test]
fn a_full_tunnel_is_switched_off_and_on() {
    lab(|| {
        const OUTSIDE: &str = "192.0.2.1";
        let mut net = net_with("10.66.0.1/32, 0.0.0.0/0");
        let session = net.session();
        let switch = |net: &Net, on: bool| {
            let set = PeerSet { name: "office".into(), full_tunnel: Some(on), ..PeerSet::default() };
            net.laptop.ask(async |client| client.done(&Request::PeerSet(set)).await).unwrap();
            assert_eq!(net.laptop.peer().unwrap().full_tunnel, Some(on));
        };
        let into_tunnel = |net: &Net| leaves_by(net.laptop.host(), OUTSIDE) == "mast0";
        within(PATIENCE, "everything goes to the server", || into_tunnel(&net));

        switch(&net, false);
        within(PATIENCE, "other traffic goes its usual way", || !into_tunnel(&net));
        assert_eq!(leaves_by(net.laptop.host(), "10.66.0.1"), "mast0");
        assert!(net.laptop.stop().unwrap().success());
        net.laptop.launch().unwrap_or_else(|e| panic!("{e}"));
        net.laptop.wait("the peer", PATIENCE, |s| s.peers.len() == 1 && s.up).unwrap();
        assert_eq!(net.laptop.peer().unwrap().full_tunnel, Some(false));
        assert!(!into_tunnel(&net), "the choice was forgotten");

        switch(&net, true);
        within(PATIENCE, "everything goes to the server again", || into_tunnel(&net));
        session.survives();

        let set = PeerSet { name: "nobody".into(), full_tunnel: Some(true), ..PeerSet::default() };
        let refused = net.laptop.ask(async |client| client.done(&Request::PeerSet(set)).await);
        assert!(refused.unwrap_err().to_string().contains("nobody"));
    });
}

#[test]
fn only_a_default_route_makes_a_full_tunnel() {
    lab(|| {
        let net = net();
        assert_eq!(net.laptop.peer().unwrap().full_tunnel, None);
        let set = PeerSet { name: "office".into(), full_tunnel: Some(true), ..PeerSet::default() };
        let refused = net.laptop.ask(async |client| client.done(&Request::PeerSet(set)).await);
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("office") && told.contains("0.0.0.0/0"), "{told}");
    });
}

#[test]
fn leak_protection_outlives_a_killed_service() {
    lab(|| {
        const OUTSIDE: &str = "192.0.2.1";
        let mut net = net_with("10.66.0.1/32, 0.0.0.0/0");
        let session = net.session();
        let ask = |net: &Net, request: Request| {
            net.laptop.ask(async |client| client.done(&request).await).unwrap();
        };
        let protect = |on: bool| {
            Request::SettingsSet(SettingsSet { leak_protection: Some(on), ..SettingsSet::default() })
        };
        let tunnel = |on: bool| {
            Request::PeerSet(PeerSet { name: "office".into(), full_tunnel: Some(on), ..PeerSet::default() })
        };
        let leaves = |net: &Net| leaves_by(net.laptop.host(), OUTSIDE);
        within(PATIENCE, "everything goes to the server", || leaves(&net) == "mast0");
        ask(&net, protect(true));
        assert!(net.laptop.status().unwrap().settings.leak_protection);
        assert_eq!(rules(net.laptop.host()), 4);

        // Nothing goes around a dead service, but the local network is there.
        net.laptop.kill();
        within(PATIENCE, "the virtual interface is gone", || leaves(&net) != "mast0");
        assert_eq!(leaves(&net), "");
        let gateway = "10.1.0.1";
        assert_eq!(leaves_by(net.laptop.host(), gateway), "wifi");
        // A socket is told so as well, and what is sent to the gateway leaves.
        let send = |to: &str| {
            net.laptop.host().run(|| std::net::UdpSocket::bind("0.0.0.0:0")?.send_to(b"x", (to, 9))).unwrap()
        };
        let refused = send(OUTSIDE).unwrap_err().kind();
        assert_eq!(refused, std::io::ErrorKind::NetworkUnreachable);
        assert_eq!(send(gateway).unwrap(), 1);
        net.laptop.launch().unwrap_or_else(|e| panic!("{e}"));
        within(PATIENCE, "everything goes to the server again", || leaves(&net) == "mast0");
        session.survives();

        // Off with the full tunnel, with MAST, for a while, and by itself.
        assert_eq!(rules(net.laptop.host()), 4, "set twice");
        ask(&net, tunnel(false));
        within(PATIENCE, "other traffic goes its usual way", || leaves(&net) == "wifi");
        ask(&net, tunnel(true));
        mast(&net.laptop, &["down"]).good();
        within(PATIENCE, "MAST is down, and refuses nothing", || leaves(&net) == "wifi");
        mast(&net.laptop, &["up"]).good();
        within(PATIENCE, "everything goes to the server a third time", || leaves(&net) == "mast0");
        ask(&net, Request::Pause(Pause { seconds: 3600 }));
        within(PATIENCE, "MAST pauses, and refuses nothing", || leaves(&net) == "wifi");
        mast(&net.laptop, &["up"]).good();
        assert_eq!(rules(net.laptop.host()), 4);
        ask(&net, protect(false));
        assert_eq!(rules(net.laptop.host()), 0);
        ask(&net, protect(true));
        within(PATIENCE, "everything goes to the server a fourth time", || leaves(&net) == "mast0");

        // And without a service.
        net.laptop.kill();
        within(PATIENCE, "the virtual interface is gone", || leaves(&net) != "mast0");
        assert_eq!(leaves(&net), "");
        let mut down = Command::new(mast_stage::Program::mast().unwrap());
        down.arg("--control").arg(net.laptop.control()).arg("down").stdout(Stdio::null());
        assert!(net.laptop.host().spawn(down).unwrap().wait(PATIENCE).unwrap().success());
        assert_eq!((leaves(&net).as_str(), rules(net.laptop.host())), ("wifi", 0));

        // The setting was kept, and the peer takes the rules with it.
        net.laptop.launch().unwrap_or_else(|e| panic!("{e}"));
        within(PATIENCE, "everything goes to the server a fifth time", || leaves(&net) == "mast0");
        assert_eq!(rules(net.laptop.host()), 4);
        mast(&net.laptop, &["peer", "remove", "office"]).good();
        within(PATIENCE, "without the peer nothing is refused", || leaves(&net) == "wifi");
        assert_eq!(rules(net.laptop.host()), 0);
    });
}
