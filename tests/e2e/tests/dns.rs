//! Peers that find each other by names in DNS alone, with a real name server.

use std::fs::{Permissions, set_permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use mast_control::PeerState;
use mast_e2e::{PATIENCE, lab, mast, mast_program, within};
use mast_netlab::{Host, Lab, LinkProfile, NameServer, NatKind};
use mast_stage::Daemon;
use tempfile::TempDir;

const NAMES: &str = "192.0.2.10";
const NAME: &str = "server.example.org";
/// Where the server is, and where it is when it moved.
const FIRST: &str = "198.51.100";
const SECOND: &str = "203.0.113";

/// A server at a public address, a laptop behind a NAT that lets in only whom the laptop spoke to, and a name server.
struct Scene {
    laptop: Daemon,
    server: Daemon,
    _names: NameServer,
    _directory: TempDir,
    _lab: Lab,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new().unwrap_or_else(|e| panic!("{e}"));
        let (core, home) = (lab.router("internet").unwrap(), lab.router("home").unwrap());
        let (names, server, laptop) =
            (lab.host("names").unwrap(), lab.host("server").unwrap(), lab.host("laptop").unwrap());
        let profile = LinkProfile::delay(Duration::from_millis(5));
        lab.link(&core, "names", &names, "eth0", &profile).unwrap();
        lab.link(&core, "server", &server, "eth0", &profile).unwrap();
        lab.link(&core, "home", &home, "out", &profile).unwrap();
        lab.wire(&home, "in", &laptop, "eth0").unwrap();
        for (host, interface, address) in [
            (&core, "names", "192.0.2.1/24"),
            (&names, "eth0", "192.0.2.10/24"),
            (&core, "server", "198.51.100.1/24"),
            (&core, "server", "203.0.113.1/24"),
            (&server, "eth0", "198.51.100.2/24"),
            (&core, "home", "198.18.0.1/30"),
            (&home, "out", "198.18.0.2/30"),
            (&home, "in", "10.1.0.1/24"),
            (&laptop, "eth0", "10.1.0.2/24"),
        ] {
            host.add_address(interface, address).unwrap();
        }
        for (host, interface, via) in [
            (&names, "eth0", "192.0.2.1"),
            (&server, "eth0", "198.51.100.1"),
            (&home, "out", "198.18.0.1"),
            (&laptop, "eth0", "10.1.0.1"),
        ] {
            host.add_route("default", Some(via), interface, 0).unwrap();
        }
        lab.nat(&home, "in", "out", NatKind::EndpointIndependent).unwrap();
        let directory = TempDir::with_prefix("mast-names-").unwrap();
        let at: IpAddr = NAMES.parse().unwrap();
        let names = NameServer::start(&names, directory.path(), at, "example.org", "");
        let names = names.unwrap_or_else(|e| panic!("{e}"));
        let start = |host: &Host| Daemon::start(&mast_program(), host, "").unwrap_or_else(|e| panic!("{e}"));
        let (laptop, server) = (start(&laptop), start(&server));
        Self { laptop, server, _names: names, _directory: directory, _lab: lab }
    }

    /// Has both start anew: the server with its name, and the laptop with nothing of the server but that.
    fn introduce(&mut self, told: &str) {
        let key = |daemon: &Daemon| daemon.status().unwrap().public_key;
        let (laptop, server) = (key(&self.laptop), key(&self.server));
        let secret = self.server.directory().join("dns.key");
        std::fs::write(&secret, NameServer::SECRET).unwrap();
        set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        let publish = format!(
            "[rendezvous.dns]\npublish = \"{NAME}\"\nserver = \"{NAMES}\"\nkey_name = \"laptop\"\nkey_file = \"{}\"\nttl = 5\n\
             [[peer]]\nname = \"laptop\"\npublic_key = \"{laptop}\"\n{told}",
            secret.display()
        );
        restart_with(&mut self.server, &publish);
        restart_with(&mut self.laptop, &seeks(&server));
    }

    fn connected(&self, at: &str) -> bool {
        let peer = self.laptop.peer().unwrap();
        peer.state == PeerState::Connected && peer.paths.iter().any(|p| p.active && p.remote.starts_with(at))
    }
}

/// The configuration of who knows the server's name and key, and nothing else.
fn seeks(key: &str) -> String {
    format!(
        "[rendezvous.dns]\nresolvers = [\"{NAMES}\"]\n\
         [[peer]]\nname = \"server\"\npublic_key = \"{key}\"\nendpoints = [\"srv:{NAME}\"]\n"
    )
}

/// Writes the configuration anew and starts with it.
fn restart_with(daemon: &mut Daemon, config: &str) {
    daemon.stop().unwrap();
    std::fs::write(daemon.directory().join("mastd.toml"), config).unwrap();
    daemon.launch().unwrap_or_else(|e| panic!("{e}"));
}

/// What the doctor says of it.
fn doctor(daemon: &Daemon) -> String {
    let said = mast(daemon, &["doctor"]).out;
    let mut lines = said.lines().skip_while(|line| !line.contains("rendezvous"));
    [lines.next(), lines.next()].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_server_that_moved_is_found_by_its_name_alone() {
    lab(|| {
        let mut scene = Scene::new();
        scene.introduce("");
        within(PATIENCE * 2, "found by its name", || scene.connected(FIRST));
        within(PATIENCE, "the doctor tells", || {
            doctor(&scene.server).contains("is published") && doctor(&scene.laptop).contains("looked up")
        });
        // All at once, and for the laptop without a word: nothing from the new address comes through its NAT.
        let host = scene.server.host();
        host.add_address("eth0", &format!("{SECOND}.2/24")).unwrap();
        host.del_address("eth0", &format!("{FIRST}.2/24")).unwrap();
        // Some kernels keep the way out of the address that went.
        let _ = host.del_route("default", Some(&format!("{FIRST}.1")), "eth0", 0);
        host.add_route("default", Some(&format!("{SECOND}.1")), "eth0", 0).unwrap();
        let moved = Instant::now();
        within(Duration::from_secs(30), "found again", || scene.connected(SECOND));
        println!("found again by its name {:?} after it moved", moved.elapsed());
    });
}

#[test]
fn nothing_is_published_of_a_host_that_is_to_be_told_by_nobody() {
    lab(|| {
        let mut scene = Scene::new();
        scene.introduce("addresses = \"relayed-only\"\n");
        within(PATIENCE, "the doctor tells why", || {
            let said = doctor(&scene.server);
            said.contains("is not published") && said.contains("laptop")
        });
        std::thread::sleep(Duration::from_secs(3));
        assert_ne!(scene.laptop.peer().unwrap().state, PeerState::Connected, "nobody told the laptop");
    });
}
