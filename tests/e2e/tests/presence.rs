//! Peers that both move at once, and find each other by a presence service alone, with a real one (prosody).

use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mast_control::{PeerState, Via};
use mast_e2e::{PATIENCE, Session, lab, mast, mast_program, mast_reading, within};
use mast_netlab::{Host, Lab, LinkProfile, NatKind, PresenceServer, Process};
use mast_stage::Daemon;
use tempfile::TempDir;

const SERVICES: &str = "192.0.2.10";
/// Also where STUN is: a NAT is known by what two servers see.
const SECOND: &str = "198.51.100.10";

/// Two laptops, each with a home and an office, all four behind NATs that let in only whom the laptop spoke to; a presence
/// server and a STUN server.
struct Scene {
    laptops: [Daemon; 2],
    server: PresenceServer,
    _stun: Process,
    _directory: TempDir,
    _lab: Lab,
}

impl Scene {
    fn new(delay: Duration) -> Self {
        let lab = Lab::new().unwrap_or_else(|e| panic!("{e}"));
        let (core, services) = (lab.router("internet").unwrap(), lab.host("services").unwrap());
        lab.wire(&core, "svc", &services, "eth0").unwrap();
        for (net, own) in [("192.0.2", SERVICES), ("198.51.100", SECOND)] {
            core.add_address("svc", &format!("{net}.1/24")).unwrap();
            services.add_address("eth0", &format!("{own}/24")).unwrap();
        }
        services.add_route("default", Some("192.0.2.1"), "eth0", 0).unwrap();
        let hosts = [0, 1].map(|laptop| {
            let host = lab.host(&format!("laptop {laptop}")).unwrap();
            for network in [0, 1] {
                let n = 2 * laptop + network;
                let router = lab.router(&format!("router {n}")).unwrap();
                let up = format!("s{n}");
                lab.link(&core, &up, &router, "out", &LinkProfile::delay(delay)).unwrap();
                lab.wire(&router, "in", &host, &format!("eth{network}")).unwrap();
                core.add_address(&up, &format!("203.0.113.{}/30", 4 * n + 1)).unwrap();
                router.add_address("out", &format!("203.0.113.{}/30", 4 * n + 2)).unwrap();
                router.add_route("default", Some(&format!("203.0.113.{}", 4 * n + 1)), "out", 0).unwrap();
                router.add_address("in", &format!("10.{n}.0.1/24")).unwrap();
                lab.nat(&router, "in", "out", NatKind::EndpointIndependent).unwrap();
            }
            host
        });
        let directory = TempDir::with_prefix("mast-presence-").unwrap();
        let at: IpAddr = SERVICES.parse().unwrap();
        let server = PresenceServer::start(&services, directory.path(), at, &[]);
        let server = server.unwrap_or_else(|e| panic!("{e}"));
        let stun = stun(&services, &directory);
        for (laptop, host) in hosts.iter().enumerate() {
            attach(host, laptop, 0);
            host.set_up("eth1", false).unwrap();
        }
        let asking = format!("stun = [\"{SERVICES}:3478\", \"{SECOND}:3478\"]\n");
        let mut laptops = hosts
            .map(|host| Daemon::start(&mast_program(), &host, &asking).unwrap_or_else(|e| panic!("{e}")));
        // Each knows the other's key and account, and nothing else: neither has an address that can be written down.
        let known = [&laptops[0], &laptops[1]].map(|laptop| laptop.status().unwrap());
        for (laptop, (own, other, account)) in
            laptops.iter_mut().zip([(&known[0], &known[1], "bob"), (&known[1], &known[0], "alice")])
        {
            let (own, name, key) = (&own.name, &other.name, &other.public_key);
            let peer = format!(
                "name = \"{own}\"\n{asking}[[peer]]\nname = \"{name}\"\npublic_key = \"{key}\"\npresence = \"{account}@example.org\"\n"
            );
            laptop.stop().unwrap();
            std::fs::write(laptop.directory().join("mastd.toml"), peer).unwrap();
            laptop.launch().unwrap_or_else(|e| panic!("{e}"));
        }
        Self { laptops, server, _stun: stun, _directory: directory, _lab: lab }
    }

    fn log_in(&self) {
        for (laptop, account) in self.laptops.iter().zip(["alice", "bob"]) {
            let said = log_in(laptop, &self.server, account, PresenceServer::PASSWORD).good();
            assert!(said.out.contains("find this machine"), "{said}");
        }
    }

    /// Both leave their networks, and are in their others that long afterwards.
    fn move_both(&self, to: usize, after: Duration) -> Instant {
        for laptop in &self.laptops {
            laptop.host().set_up(&format!("eth{}", 1 - to), false).unwrap();
        }
        std::thread::sleep(after);
        for (number, laptop) in self.laptops.iter().enumerate() {
            laptop.host().set_up(&format!("eth{to}"), true).unwrap();
            attach(laptop.host(), number, to);
        }
        // The kernel takes up to a second to say that a cable carries.
        let carries = |laptop: &Daemon| laptop.host().is_running(&format!("eth{to}")).unwrap();
        while !self.laptops.iter().all(carries) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Instant::now()
    }

    fn connected(&self) -> bool {
        self.laptops.iter().all(|laptop| {
            let peer = laptop.peer().unwrap();
            let direct = peer.paths.iter().any(|path| path.active && path.via == Via::Direct);
            peer.state == PeerState::Connected && direct
        })
    }
}

fn attach(host: &Host, laptop: usize, network: usize) {
    let (n, interface) = (2 * laptop + network, format!("eth{network}"));
    // It may be there from the last time.
    let _ = host.add_address(&interface, &format!("10.{n}.0.2/24"));
    host.add_route("default", Some(&format!("10.{n}.0.1")), &interface, 0).unwrap();
}

fn stun(host: &Host, directory: &TempDir) -> Process {
    let mut command = Command::new("turnserver");
    command.args(["-n", "--stun-only", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp"]);
    command.args(["--listening-port=3478", "--log-file=stdout"]);
    command.args([SERVICES, SECOND].map(|at| format!("--listening-ip={at}")));
    command.arg(format!("--pidfile={}", directory.path().join("stun.pid").display()));
    command.arg(format!("--userdb={}", directory.path().join("stun.db").display()));
    command.current_dir(directory.path()).stdout(Stdio::null()).stderr(Stdio::null());
    host.spawn(command).unwrap_or_else(|e| panic!("coturn: {e}"))
}

fn log_in(laptop: &Daemon, server: &PresenceServer, account: &str, password: &str) -> mast_e2e::Answer {
    let (account, authority) = (format!("{account}@example.org"), server.authority());
    let authority = authority.display().to_string();
    let server = format!("{SERVICES}:5223");
    let words = ["presence", "login", &account, "--server", &server, "--authority", &authority];
    mast_reading(laptop, &words, &format!("{password}\n"))
}

/// The middle one.
fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

#[test]
fn two_laptops_that_move_at_once_meet_again() {
    lab(|| {
        for delay in [10, 40].map(Duration::from_millis) {
            let scene = Scene::new(delay);
            assert!(!scene.connected(), "nobody told them where the other is");
            scene.log_in();
            let begun = Instant::now();
            within(PATIENCE, "the first contact", || scene.connected());
            println!("first contact {:?} after the second has logged in", begun.elapsed());
            let session = Session::start(&scene.laptops[0], &scene.laptops[1]);
            session.wait_running();
            let mut took = Vec::new();
            for round in 0..5 {
                // What presence has to tell is a second apart at least, and the networks are left as people leave them.
                std::thread::sleep(Duration::from_secs(2));
                let there = scene.move_both(1 - round % 2, Duration::from_millis(300));
                let mark = session.mark();
                within(PATIENCE, &format!("data again, round {round}"), || {
                    session.since(mark).echo.received > 0
                });
                took.push(there.elapsed());
            }
            let round_trip = delay * 4;
            let (middle, goal) = (median(took.clone()), round_trip * 3 + Duration::from_millis(300));
            println!(
                "round trip {round_trip:?}: both moved, data again after {middle:?} (goal {goal:?}); all: {took:?}"
            );
            assert!(middle < Duration::from_secs(5), "{took:?}");
            session.survives();
        }
    });
}

/// What is wrong is said where it is typed, and in the doctor; what is logged out is forgotten.
#[test]
fn an_account_is_checked_kept_and_forgotten() {
    lab(|| {
        let mut scene = Scene::new(Duration::from_millis(1));
        let said = log_in(&scene.laptops[0], &scene.server, "alice", "wrong");
        assert!(said.code == 1 && said.out.contains("does not accept the password"), "{said}");
        let doctor = mast(&scene.laptops[0], &["doctor"]).out;
        assert!(doctor.contains("does not accept the password of alice@example.org"), "{doctor}");
        for (account, word) in [("alice@", "account"), ("alice", "account")] {
            mast_reading(&scene.laptops[0], &["presence", "login", account], "x\n").bad(1, &[word]);
        }
        mast_reading(&scene.laptops[0], &["presence", "login", "alice@example.org"], "\n")
            .bad(1, &["password"]);
        scene.log_in();
        // It outlives a restart, and is at nobody's sight.
        let file = scene.laptops[0].directory().join("state/presence.json");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "{mode:o}");
        scene.laptops[0].stop().unwrap();
        scene.laptops[0].launch().unwrap_or_else(|e| panic!("{e}"));
        let shown = || mast(&scene.laptops[0], &["presence"]).good().out;
        within(PATIENCE, "in again by itself", || {
            shown().contains("Peers find this machine by alice@example.org")
        });
        within(PATIENCE, "the first contact", || scene.connected());
        mast(&scene.laptops[0], &["presence", "logout"]).good();
        within(PATIENCE, "out", || shown().contains("found by no account"));
        let kept = std::fs::read_to_string(&file).unwrap();
        assert!(!kept.contains("alice") && !kept.contains("password"), "{kept}");
        let log = scene.laptops[0].log();
        assert!(!log.contains(PresenceServer::PASSWORD), "{log}");
    });
}
