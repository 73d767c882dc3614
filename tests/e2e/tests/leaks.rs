//! Leak protection against networks and programs that do everything to get something out around the tunnel: every frame
//! that leaves an uplink is looked at, in every state and between them. Needs `wireguard-go`, `wg` and `nft`.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mast_control::{KeyPlace, Protection, Request, SettingsSet};
use mast_e2e::{PATIENCE, Programs, Session, Watch, active, lab, mast, mast_program, sleep, within};
use mast_netlab::{Host, Signal};

use crate::wireguard::{Net, net_of};

/// Addresses of the Internet that the network claims to have: on the link by a range that it leased, behind routes that
/// it set, and by saying that all of IPv6 is on the link.
const ON_LINK: &str = "198.51.100.9";
const ROUTED: &str = "192.0.2.9";
const V6: &str = "2001:db8:77::9";
/// Name servers of the local networks.
const NAMES: [&str; 5] =
    ["10.1.0.1:53", "10.1.0.1:853", "10.2.0.1:53", "[2001:db8:1::1]:53", "198.51.100.9:53"];

fn run(host: &Host, program: &str, words: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(words).stdout(Stdio::null()).stderr(Stdio::null());
    host.spawn(command).unwrap().wait(PATIENCE).unwrap().success()
}

/// What a hostile network sets on a host by DHCP and router advertisements, by way of its own router, which answers to
/// every address that it claims.
fn hostile(net: &Net) {
    let (laptop, isp) = (&net.train.laptop, &net.train.wifi.isp);
    for address in ["198.51.100.9/16", "192.0.2.9/32", "2001:db8:77::9/128"] {
        let _ = isp.add_address("down", address);
    }
    for words in [
        "addr replace 198.51.0.2/16 dev wifi",
        "route replace 0.0.0.0/2 via 10.1.0.1 dev wifi",
        "route replace 64.0.0.0/2 via 10.1.0.1 dev wifi",
        "route replace 128.0.0.0/2 via 10.1.0.1 dev wifi",
        "route replace 192.0.0.0/2 via 10.1.0.1 dev wifi",
        "-6 route replace 2000::/3 dev wifi",
    ] {
        run(laptop, "ip", &words.split(' ').collect::<Vec<_>>());
    }
}

struct Attack {
    watch: Watch,
    programs: Programs,
}

impl Attack {
    fn on(net: &Net) -> Self {
        let server: [IpAddr; 2] = ["10.9.0.2".parse().unwrap(), "2001:db8:9::2".parse().unwrap()];
        let watch = Watch::start(&net.train.laptop, &server, 51820);
        let public: Vec<IpAddr> = [ON_LINK, ROUTED, V6].iter().map(|ip| ip.parse().unwrap()).collect();
        let names: Vec<SocketAddr> = NAMES.iter().map(|at| at.parse().unwrap()).collect();
        let programs = Programs::start(&net.train.laptop, &["wifi", "cell"], &public, &names);
        programs.try_again(1);
        Self { watch, programs }
    }

    /// Nothing leaves, nor has since this was last asked.
    fn is_held(&self, state: &str) {
        self.programs.try_again(5);
        let (leaks, frames) = self.watch.take();
        println!("{state}: {frames} frames left, {} of them leaks", leaks.values().sum::<u64>());
        assert!(leaks.is_empty(), "{state}: {leaks:#?}");
    }
}

fn protect(net: &Net, on: bool) {
    let set = SettingsSet { leak_protection: Some(on), ..SettingsSet::default() };
    net.laptop.ask(async |client| client.done(&Request::SettingsSet(set)).await).unwrap();
}

fn protection(net: &Net) -> Protection {
    net.laptop.status().unwrap().protection
}

/// A laptop whose everything goes through the tunnel, in a hostile network, protected.
fn protected(allowed: &str) -> Net {
    let net = net_of(allowed, &mast_program(), "");
    net.laptop.wait_active("wifi", PATIENCE).unwrap();
    protect(&net, true);
    hostile(&net);
    net
}

/// What leaves where nothing is held back: all of it, so that the tests see what they look for.
fn all_leaks(net: &Net, attack: &Attack) {
    attack.programs.try_again(3);
    hostile(net);
    attack.watch.take();
    attack.programs.try_again(20);
    let (leaks, _) = attack.watch.take();
    let has = |what: &str, to: &str| leaks.keys().any(|leak| leak.starts_with(what) && leak.contains(to));
    for how in ["Plainly", "Bound", "Named", "Preferring", "Connecting"] {
        for to in [ON_LINK, ROUTED, V6] {
            assert!(has(&format!("what was sent {how}"), to), "{how} to {to}: {leaks:#?}");
        }
    }
    for to in NAMES {
        assert!(has("a question for names", to), "{to}: {leaks:#?}");
    }
}

/// Everything that goes on while the service runs.
fn while_it_runs(allowed: &str) {
    let mut net = protected(allowed);
    let session = Session::between(&net.train.laptop, &net.train.server, &net.laptop.peer().unwrap().eid);
    assert_eq!(protection(&net), Protection::InForce);
    let attack = Attack::on(&net);
    attack.is_held("connected");

    net.train.blackhole_wifi(true).unwrap();
    within(PATIENCE, "the other uplink", || active(&net.laptop).as_deref() == Some("cell"));
    attack.is_held("a path lost");
    net.train.set_cell(false).unwrap();
    net.train.set_wifi(false).unwrap();
    attack.is_held("no path");
    net.train.blackhole_wifi(false).unwrap();
    net.train.set_cell(true).unwrap();
    net.train.set_wifi(true).unwrap();
    hostile(&net);
    attack.is_held("paths again");
    // The kernel takes an interface's routes away with its last address.
    let leave = || run(&net.train.laptop, "ip", &["addr", "del", "198.51.0.2/16", "dev", "wifi"]);
    leave();
    net.train.renumber_wifi(5).unwrap();
    hostile(&net);
    attack.is_held("renumbered");
    leave();
    net.train.renumber_wifi(0).unwrap();
    hostile(&net);
    attack.is_held("renumbered again");

    net.laptop.signal(Signal::SIGSTOP).unwrap();
    attack.is_held("held up, as by a suspend");
    sleep(1_500);
    net.laptop.signal(Signal::SIGCONT).unwrap();
    attack.is_held("going on");

    let laptop = &net.train.laptop;
    run(laptop, "nft", &["flush", "ruleset"]);
    let removed = run(laptop, "nft", &["delete", "table", "inet", "mast-protection"]);
    for version in ["-4", "-6"] {
        for priority in ["27800", "27801"] {
            run(laptop, "ip", &[version, "rule", "del", "pref", priority]);
        }
    }
    if removed {
        // A kernel without tables that have owners: some of it left before the table was there again.
        within(Duration::from_secs(1), "the filter is there again", || {
            run(laptop, "nft", &["list", "table", "inet", "mast-protection"])
        });
        attack.programs.try_again(2);
        attack.watch.take();
    }
    attack.is_held("the rules removed");
    within(PATIENCE, "the rules are there again", || {
        let mut command = Command::new("ip");
        command.args(["rule"]).stdout(Stdio::piped());
        let mut process = laptop.spawn(command).unwrap();
        process.wait(PATIENCE).unwrap();
        mast_e2e::read_all(process.child().stdout.take().unwrap()).matches("proto 109").count() == 2
    });
    assert_eq!(protection(&net), Protection::InForce);

    within(PATIENCE, "the tunnel carries", || net.laptop.peer().unwrap().state.answers());
    session.survives();
    mast(&net.laptop, &["down"]).good();
    assert_eq!(protection(&net), Protection::Idle);
    all_leaks(&net, &attack);
}

#[test]
fn nothing_leaks_while_the_service_runs() {
    lab(|| while_it_runs("10.66.0.1/32, 0.0.0.0/0"));
}

#[test]
fn nothing_leaks_of_both_versions_of_ip_while_the_service_runs() {
    lab(|| while_it_runs("10.66.0.1/32, 0.0.0.0/0, ::/0"));
}

/// A name server at an address of a host: it answers every question with an address, and counts them.
fn name_server(host: &Host, at: &str, address: [u8; 4]) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let socket = host.run(|| UdpSocket::bind((at, 53)).unwrap()).unwrap();
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::Relaxed);
            let question = &buffer[..length];
            let mut answer = question.to_vec();
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            // For one question of type A.
            if question.ends_with(&[0, 1, 0, 1]) {
                answer[7] = 1;
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend(address);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    asked
}

/// What a program hears that asks a name server for `a.example`: the last byte of the address.
fn ask(host: &Host, server: &str, uplink: Option<&str>) -> Option<u8> {
    let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x01\0\x01";
    host.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
        if let Some(uplink) = uplink {
            mast_e2e::prefer(&socket, uplink).ok()?;
        }
        socket.send_to(question, (server, 53)).ok()?;
        let mut buffer = [0; 512];
        let (length, from) = socket.recv_from(&mut buffer).ok()?;
        assert_eq!(from.ip().to_string(), server, "it comes from whoever was asked");
        buffer[..length].last().copied()
    })
    .unwrap()
}

#[test]
fn names_go_through_the_tunnel_while_it_is_a_full_one() {
    lab(|| {
        let mut net = net_of("10.66.0.1/32, 0.0.0.0/0", &mast_program(), "");
        let laptop = net.train.laptop.clone();
        let local = name_server(&net.train.wifi.isp, "10.1.0.1", [192, 0, 2, 1]);
        let inside = name_server(&net.train.server, "10.66.0.1", [192, 0, 2, 66]);
        net.laptop.wait_active("wifi", PATIENCE).unwrap();
        for protected in [false, true] {
            protect(&net, protected);
            within(PATIENCE, "the tunnel's name server", || ask(&laptop, "10.1.0.1", None) == Some(66));
            let before = local.load(Ordering::Relaxed);
            assert_eq!(ask(&laptop, "10.1.0.1", Some("wifi")), Some(66));
            assert_eq!(ask(&laptop, "10.2.0.1", Some("cell")), Some(66));
            assert_eq!(ask(&laptop, "10.66.0.1", None), Some(66), "asked there already");
            assert_eq!(local.load(Ordering::Relaxed), before, "nobody else hears of it");
        }
        assert!(inside.load(Ordering::Relaxed) >= 8);
        // Protected, and killed: nobody is asked. Not protected: whoever was.
        net.laptop.kill();
        assert_eq!(ask(&laptop, "10.1.0.1", None), None);
        net.laptop.launch().unwrap();
        within(PATIENCE, "the tunnel's name server again", || ask(&laptop, "10.1.0.1", None) == Some(66));
        protect(&net, false);
        net.laptop.kill();
        within(PATIENCE, "the network's name server", || ask(&laptop, "10.1.0.1", None) == Some(1));
    });
}

#[test]
fn a_protected_service_finds_its_peer_by_name_and_nobody_else_finds_anything() {
    lab(|| {
        let program = mast_program().prepared(
            "echo nameserver 10.1.0.1 > $STAGE/resolv.conf
             echo 'hosts: dns' > $STAGE/nsswitch.conf
             mount --bind $STAGE/resolv.conf /etc/resolv.conf
             mount --bind $STAGE/nsswitch.conf /etc/nsswitch.conf",
        );
        let mut net = net_of("10.66.0.1/32, 0.0.0.0/0", &program, "");
        let asked = name_server(&net.train.wifi.isp, "10.1.0.1", [10, 9, 0, 2]);
        let file = net.laptop.directory().join("office.conf");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("10.9.0.2:51820", "vpn.example.org:51820")).unwrap();
        mast(&net.laptop, &["peer", "remove", "office"]).good();
        mast(&net.laptop, &["peer", "add", file.to_str().unwrap()]).good();
        net.laptop.wait_active("wifi", PATIENCE).unwrap();
        protect(&net, true);
        net.laptop.kill();
        assert_eq!(ask(&net.train.laptop, "10.1.0.1", Some("wifi")), None, "programs are held back");
        let before = asked.load(Ordering::Relaxed);
        net.laptop.launch().unwrap();
        within(PATIENCE, "the name is asked for", || asked.load(Ordering::Relaxed) > before);
        net.laptop.wait_active("wifi", PATIENCE).unwrap();
    });
}

/// Whatever was left on the host is gone, as after a boot.
fn boot(net: &Net) {
    let mut command = net.laptop.command();
    command.arg("--clear").stdout(Stdio::null());
    assert!(net.laptop.host().spawn(command).unwrap().wait(PATIENCE).unwrap().success());
}

/// Starts the service as after a boot, which must fail, or waits for it to have tried for a while.
fn fails_to_start(net: &Net) {
    let mut command = net.laptop.command();
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = net.laptop.host().spawn(command).unwrap();
    let limit = std::time::Instant::now() + Duration::from_secs(5);
    while std::time::Instant::now() < limit {
        if let Some(status) = process.poll().unwrap() {
            assert!(!status.success());
            return;
        }
        sleep(20);
    }
}

#[test]
fn nothing_leaks_before_the_service_can_start() {
    lab(|| {
        let mut net = protected("10.66.0.1/32, 0.0.0.0/0");
        let attack = Attack::on(&net);
        attack.is_held("connected");
        net.laptop.kill();
        attack.is_held("killed");

        let directory = net.laptop.directory().to_path_buf();
        let config = directory.join("mastd.toml");
        let state = directory.join("state");
        let text = std::fs::read_to_string(&config).unwrap();
        let again = |net: &Net, what: &str, fail: &dyn Fn(&Net)| {
            boot(net);
            fail(net);
            attack.watch.take();
            attack.is_held(what);
        };
        again(&net, "before the service, at a boot", &|net| {
            let mut command = net.laptop.command();
            command.arg("--protect").stdout(Stdio::null()).stderr(Stdio::null());
            assert!(net.laptop.host().spawn(command).unwrap().wait(PATIENCE).unwrap().success());
        });
        again(&net, "the port is taken", &|net| {
            let taken = net.laptop.host().run(|| UdpSocket::bind("0.0.0.0:6278").unwrap()).unwrap();
            fails_to_start(net);
            drop(taken);
        });
        again(&net, "the configuration makes no sense", &|net| {
            std::fs::write(&config, "port = \"none\"").unwrap();
            fails_to_start(net);
            std::fs::write(&config, &text).unwrap();
        });
        again(&net, "the control socket cannot be made", &|net| {
            let control = net.laptop.control();
            let _ = std::fs::remove_file(&control);
            std::fs::create_dir(&control).unwrap();
            fails_to_start(net);
            std::fs::remove_dir(&control).unwrap();
        });
        again(&net, "the directory of the control socket is locked", &|net| {
            let lock = std::fs::File::open(&directory).unwrap();
            lock.lock().unwrap();
            fails_to_start(net);
        });
        again(&net, "the state is damaged", &|net| {
            let peers = std::fs::read(state.join("peers.json")).unwrap();
            std::fs::write(state.join("peers.json"), "?").unwrap();
            fails_to_start(net);
            std::fs::write(state.join("peers.json"), peers).unwrap();
        });
    });
}

#[test]
fn nothing_leaks_while_a_route_of_others_is_in_the_way_or_a_key_is_waited_for() {
    lab(|| {
        let mut net = protected("10.66.0.1/32, 0.0.0.0/0");
        let attack = Attack::on(&net);
        net.laptop.kill();
        boot(&net);
        for half in ["0.0.0.0/1", "128.0.0.0/1"] {
            run(net.laptop.host(), "ip", &["route", "replace", half, "via", "10.1.0.1", "dev", "wifi"]);
        }
        net.laptop.launch().unwrap();
        attack.watch.take();
        attack.is_held("another's routes are there");
        for half in ["0.0.0.0/1", "128.0.0.0/1"] {
            run(net.laptop.host(), "ip", &["route", "del", half, "via", "10.1.0.1", "dev", "wifi"]);
        }

        // The private key is in a user's key store.
        net.laptop.stop().unwrap();
        attack.is_held("stopped");
        let state = net.laptop.directory().join("state");
        let (key, away) = (state.join("private.key"), state.join("away.key"));
        let settings = std::fs::read_to_string(state.join("settings.json")).unwrap();
        let mut handed: serde_json::Value = serde_json::from_str(&settings).unwrap();
        handed["handed_key"] = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into();
        std::fs::write(state.join("settings.json"), handed.to_string()).unwrap();
        std::fs::rename(&key, &away).unwrap();
        boot(&net);
        net.laptop.launch().unwrap();
        attack.watch.take();
        let status = net.laptop.status().unwrap();
        assert_eq!((status.key, status.protection), (KeyPlace::Locked, Protection::InForce));
        attack.is_held("the key is waited for");
        mast(&net.laptop, &["down"]).good();
        assert_eq!(protection(&net), Protection::Idle);
        mast(&net.laptop, &["up"]).good();
        // Neighbours that were spoken with meanwhile are looked for again now and then.
        for uplink in ["wifi", "cell"] {
            run(net.laptop.host(), "ip", &["neigh", "flush", "dev", uplink]);
        }
        attack.watch.take();
        attack.is_held("up, without a key");
        net.laptop.stop().unwrap();
        std::fs::write(state.join("settings.json"), settings).unwrap();
        std::fs::rename(&away, &key).unwrap();
        net.laptop.launch().unwrap();
        within(PATIENCE, "a connection", || active(&net.laptop).as_deref() == Some("wifi"));
        attack.is_held("restarted, and connected");
    });
}
