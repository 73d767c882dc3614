//! Several gateways behind one name: they share an identity, and a client that loses one goes to the next.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use mast_control::PeerState;
use mast_e2e::{PATIENCE, lab, mast_program, within};
use mast_netlab::traffic::EchoServer;
use mast_netlab::{Host, Lab, LinkProfile, NameServer, NatKind};
use mast_stage::Daemon;
use tempfile::TempDir;

const NAMES: &str = "192.0.2.10";
const GATEWAYS: usize = 3;
/// Where each answers, at its EID.
const PORT: u16 = 7;

/// Gateways in networks of their own, a name server, and a laptop behind a NAT.
struct Scene {
    gateways: Vec<Daemon>,
    laptop: Daemon,
    _names: NameServer,
    _directory: TempDir,
    _lab: Lab,
}

fn at(gateway: usize) -> String {
    format!("198.51.100.{}", 4 * gateway + 2)
}

impl Scene {
    fn new(delay: Duration) -> Self {
        let lab = Lab::new().unwrap_or_else(|e| panic!("{e}"));
        let (core, home) = (lab.router("internet").unwrap(), lab.router("home").unwrap());
        let (names, laptop) = (lab.host("names").unwrap(), lab.host("laptop").unwrap());
        lab.wire(&core, "names", &names, "eth0").unwrap();
        lab.link(&core, "home", &home, "out", &LinkProfile::delay(delay)).unwrap();
        lab.wire(&home, "in", &laptop, "eth0").unwrap();
        let gateways: Vec<Host> = (0..GATEWAYS)
            .map(|n| {
                let (host, up) = (lab.host(&format!("gateway {n}")).unwrap(), format!("g{n}"));
                lab.wire(&core, &up, &host, "eth0").unwrap();
                core.add_address(&up, &format!("198.51.100.{}/30", 4 * n + 1)).unwrap();
                host.add_address("eth0", &format!("{}/30", at(n))).unwrap();
                host.add_route("default", Some(&format!("198.51.100.{}", 4 * n + 1)), "eth0", 0).unwrap();
                host
            })
            .collect();
        for (host, interface, address) in [
            (&core, "names", "192.0.2.1/24"),
            (&names, "eth0", "192.0.2.10/24"),
            (&core, "home", "198.18.0.1/30"),
            (&home, "out", "198.18.0.2/30"),
            (&home, "in", "10.1.0.1/24"),
            (&laptop, "eth0", "10.1.0.2/24"),
        ] {
            host.add_address(interface, address).unwrap();
        }
        for (host, interface, via) in
            [(&names, "eth0", "192.0.2.1"), (&home, "out", "198.18.0.1"), (&laptop, "eth0", "10.1.0.1")]
        {
            host.add_route("default", Some(via), interface, 0).unwrap();
        }
        lab.nat(&home, "in", "out", NatKind::EndpointIndependent).unwrap();
        let start = |host: &Host| Daemon::start(&mast_program(), host, "").unwrap_or_else(|e| panic!("{e}"));
        let mut gateways: Vec<Daemon> = gateways.iter().map(start).collect();
        let mut laptop = start(&laptop);
        let key = |daemon: &Daemon| daemon.status().unwrap().public_key;
        let (pool, client) = (key(&gateways[0]), key(&laptop));
        let records: String = (0..GATEWAYS)
            .map(|n| format!("_mast._udp.pool 5 SRV {n} 0 6278 gate{n}\ngate{n} 5 A {}\n", at(n)))
            .collect();
        let records = format!("{records}_mast._udp.pool 5 TXT \"v=mast1 k={pool}\"");
        let directory = TempDir::with_prefix("mast-pool-").unwrap();
        let address: IpAddr = NAMES.parse().unwrap();
        let names = NameServer::start(&names, directory.path(), address, "example.org", &records);
        let names = names.unwrap_or_else(|e| panic!("{e}"));
        // One identity for all of them, as whoever runs them would hand it out.
        let identity = gateways[0].directory().join("state/private.key");
        for gateway in &mut gateways {
            let peer = format!("[[peer]]\nname = \"laptop\"\npublic_key = \"{client}\"\n");
            restart_with(gateway, &peer, Some(&identity));
        }
        let peer = format!(
            "[rendezvous.dns]\nresolvers = [\"{NAMES}\"]\n\
             [[peer]]\nname = \"pool\"\npublic_key = \"{pool}\"\nendpoints = [\"srv:pool.example.org\"]\n"
        );
        restart_with(&mut laptop, &peer, None);
        Self { gateways, laptop, _names: names, _directory: directory, _lab: lab }
    }

    /// Which gateway the laptop's data goes to.
    fn used(&self) -> Option<usize> {
        let peer = self.laptop.peer().unwrap();
        let active = peer.paths.iter().find(|path| path.active)?;
        let gateway = (0..GATEWAYS).find(|n| active.remote.starts_with(&format!("{}:", at(*n))));
        gateway.filter(|_| peer.state == PeerState::Connected)
    }

    /// Whether a datagram comes back from whichever gateway it goes to.
    fn answers(&self) -> bool {
        let to = SocketAddr::new(self.eid(), PORT);
        let ask = || {
            let socket = UdpSocket::bind("[::]:0")?;
            socket.set_read_timeout(Some(Duration::from_millis(300)))?;
            socket.send_to(b"who is there", to)?;
            socket.recv(&mut [0; 64])
        };
        self.laptop.host().run(|| ask().is_ok()).unwrap()
    }

    /// The EID of all gateways.
    fn eid(&self) -> IpAddr {
        self.laptop.peer().unwrap().eid.remote_v6.unwrap().parse().unwrap()
    }
}

fn restart_with(daemon: &mut Daemon, config: &str, identity: Option<&std::path::Path>) {
    daemon.stop().unwrap();
    std::fs::write(daemon.directory().join("mastd.toml"), config).unwrap();
    if let Some(identity) = identity {
        let own = daemon.directory().join("state/private.key");
        if own != identity {
            std::fs::copy(identity, own).unwrap();
        }
    }
    daemon.launch().unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn a_client_that_loses_its_gateway_goes_to_the_next() {
    lab(|| {
        for delay in [10, 60].map(Duration::from_millis) {
            let mut scene = Scene::new(delay);
            within(PATIENCE * 2, "a gateway by the pool's name", || scene.used().is_some());
            let eid = SocketAddr::new(scene.eid(), PORT);
            let _answering: Vec<EchoServer> = scene
                .gateways
                .iter()
                .map(|gateway| EchoServer::start(gateway.host(), eid).unwrap())
                .collect();
            // One after the other, until one is left: without a word, as machines die.
            for left in (1..GATEWAYS).rev() {
                let used = scene.used().unwrap();
                assert!(scene.answers(), "gateway {used} answers");
                scene.gateways[used].kill();
                let died = Instant::now();
                within(PATIENCE, "another gateway", || {
                    scene.used().is_some_and(|other| other != used) && scene.answers()
                });
                println!("round trip {:?}: another of {left} after {:?}", delay * 2, died.elapsed());
            }
        }
    });
}
