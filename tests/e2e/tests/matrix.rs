//! Which networks let two hosts reach each other directly: a pair of real daemons for each pair of networks. They know of each
//! other a key and a name in DNS, have two STUN servers and a relay, and start at the same time.
//!
//! Some pairs are tried by default, all of them with `MAST_MATRIX=whole`. What came out is printed, and lies in the folder of
//! what is built, as `traversal.md` and `traversal.json`.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use gotatun::x25519::{PublicKey, StaticSecret};
use mast_control::Via;
use mast_e2e::anywhere::{Between, Relay, SERVICES, Site, World};
use mast_e2e::{lab, mast_program};
use mast_netlab::{NameServer, NatKind};
use mast_stage::Daemon;
use tempfile::TempDir;

/// Of each link, in each direction: a round trip between two sites takes 40 ms.
const DELAY: Duration = Duration::from_millis(10);
/// The port of every host.
const PORT: u16 = 6278;
/// Who cannot be reached within this cannot be reached.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many pairs at a time: two daemons each, and two routers.
const AT_ONCE: usize = 17;

/// A network. The terms are those of RFC 4787.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    /// A public address.
    Public,
    /// The same, behind a firewall of the host that lets in answers alone.
    Firewall,
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping, address- and port-dependent filtering: most homes.
    Restricted,
    /// Two NATs, the outer one a carrier's.
    Double,
    /// Address- and port-dependent mapping, which keeps the host's port where that is free.
    Preserving,
    /// The same, which gives one port after the other.
    Sequential,
    /// The same, which gives any port.
    Symmetric,
    /// IPv6 alone, and a NAT64.
    Translated,
    /// No UDP.
    NoUdp,
    /// Nothing but TCP to port 443.
    Web,
}

use Network::*;

const ALL: [Network; 11] = [
    Public, Firewall, FullCone, Restricted, Double, Preserving, Sequential, Symmetric, Translated, NoUdp, Web,
];

/// What is tried by default: each network, and each reason for which a pair may or may not be direct.
const SOME: [(Network, Network); 17] = [
    (Public, Symmetric),
    (Firewall, Firewall),
    (FullCone, Symmetric),
    (Restricted, Restricted),
    (Restricted, Double),
    (Restricted, Preserving),
    (Restricted, Symmetric),
    (Preserving, Preserving),
    (Sequential, Restricted),
    (Sequential, Firewall),
    (Symmetric, Symmetric),
    (Translated, Restricted),
    (Translated, Translated),
    (Translated, Symmetric),
    (Symmetric, Web),
    (NoUdp, Restricted),
    (Web, Web),
];

impl Network {
    fn word(self) -> &'static str {
        match self {
            Public => "public",
            Firewall => "firewall",
            FullCone => "full cone",
            Restricted => "restricted",
            Double => "double",
            Preserving => "preserving",
            Sequential => "sequential",
            Symmetric => "symmetric",
            Translated => "NAT64",
            NoUdp => "no UDP",
            Web => "only 443",
        }
    }

    fn site(self, world: &World) -> Site {
        let between = match self {
            Public => Between::Nothing,
            Firewall => Between::Firewall,
            FullCone => Between::Nat(NatKind::FullCone),
            Restricted | NoUdp | Web => Between::Nat(NatKind::EndpointIndependent),
            Double => Between::Double,
            Preserving => Between::Nat(NatKind::Preserving { own: PORT }),
            Sequential => Between::Nat(NatKind::Sequential),
            Symmetric => Between::Nat(NatKind::Symmetric),
            Translated => Between::Translator,
        };
        let site = world.site(between, DELAY);
        // Such networks have a name server of their own, which asks others; here the laptop asks them itself.
        match self {
            NoUdp => site.only(&["udp dport 53", "tcp dport 0-65535"]),
            Web => site.only(&["udp dport 53", "tcp dport 53", "tcp dport 443"]),
            _ => {}
        }
        site
    }

    /// By what the relay is reached.
    fn transport(self) -> &'static str {
        match self {
            NoUdp => "tcp",
            Web => "tls",
            _ => "udp",
        }
    }

    /// Where it is seen from by a host that it never spoke to can be known before (RFC 5128, 3.3 to 3.5).
    fn is_known(self) -> bool {
        !matches!(self, Symmetric | NoUdp | Web)
    }

    /// It lets in whoever knows that.
    fn is_open(self) -> bool {
        matches!(self, Public | FullCone)
    }

    fn has_udp(self) -> bool {
        !matches!(self, NoUdp | Web)
    }
}

/// Whether theory allows a direct path: both send to where the other can be known to be seen; or one lets everybody in.
fn may_be_direct(one: Network, other: Network) -> bool {
    // Of two that give one port after the other, each guess of one moves the other on.
    let apart = one != Sequential || other != Sequential;
    one.has_udp()
        && other.has_udp()
        && apart
        && (one.is_known() && other.is_known() || one.is_open() || other.is_open())
}

/// What became of a pair.
struct Outcome {
    pair: (Network, Network),
    allowed: bool,
    /// From the start to the first answer through the tunnel.
    first: Option<Duration>,
    /// To a direct path in both directions.
    direct: Option<Duration>,
    /// What to look at where it is not as it should be.
    story: String,
}

impl Outcome {
    fn is_good(&self) -> bool {
        self.first.is_some() && (self.direct.is_some() || !self.allowed)
    }

    fn row(&self) -> [String; 5] {
        let time =
            |at: Option<Duration>| at.map_or("-".to_owned(), |at| format!("{:.1} s", at.as_secs_f64()));
        let theory = if self.allowed { "direct" } else { "relayed" };
        let verdict = match (self.first, self.direct) {
            (None, _) => "NOT CONNECTED",
            (_, Some(_)) => "direct",
            (_, None) if self.allowed => "RELAYED",
            (_, None) => "relayed",
        };
        [
            format!("{} × {}", self.pair.0.word(), self.pair.1.word()),
            theory.to_owned(),
            verdict.to_owned(),
            time(self.first),
            time(self.direct),
        ]
    }
}

/// What all pairs share.
struct Setting {
    world: World,
    relay: Relay,
    secret: TempDir,
}

/// One end of a pair.
struct End {
    network: Network,
    site: Site,
    number: u8,
}

impl End {
    fn secret(&self) -> StaticSecret {
        StaticSecret::from([self.number; 32])
    }

    fn key(&self) -> [u8; 32] {
        *PublicKey::from(&self.secret()).as_bytes()
    }

    fn eid(&self) -> IpAddr {
        mast_proto::eid_v6(&self.key()).into()
    }

    fn name(&self) -> String {
        format!("host{}.example.org", self.number)
    }

    fn start(&self, other: &Self, setting: (&str, &Path)) -> Daemon {
        let (relay, secret) = setting;
        let key = BASE64_STANDARD.encode(other.key());
        // The name server has IPv4 alone.
        let translated = || self.site.translate(SERVICES[0].parse().unwrap());
        let names = translated().map_or(SERVICES[0].to_owned(), |at| at.to_string());
        let config = format!(
            "stun = [\"{}:3478\", \"{}:3478\"]\n{relay}\
             [rendezvous.dns]\npublish = \"{}\"\nserver = \"{names}\"\nkey_name = \"laptop\"\nkey_file = \"{}\"\nttl = 5\n\
             resolvers = [\"{names}\"]\n\
             [[peer]]\nname = \"other\"\npublic_key = \"{key}\"\nendpoints = [\"srv:{}\"]\n",
            SERVICES[0],
            SERVICES[1],
            self.name(),
            secret.display(),
            other.name(),
        );
        let own = BASE64_STANDARD.encode(self.secret().to_bytes());
        let mut script = format!("umask 077; mkdir $STAGE/state; echo {own} >$STAGE/state/private.key");
        if let Some(server) = &self.site.names {
            script += &format!(
                "\necho nameserver {server} >$STAGE/names; chmod 644 $STAGE/names\nmount --bind $STAGE/names /etc/resolv.conf"
            );
        }
        Daemon::start(&mast_program().prepared(&script), &self.site.host, &config)
            .unwrap_or_else(|e| panic!("{e}"))
    }
}

/// Tries one pair.
fn attempt(ends: &[End; 2], daemons: &[Daemon; 2], start: Instant) -> Outcome {
    let [one, other] = ends;
    let pair = (one.network, other.network);
    let allowed = may_be_direct(pair.0, pair.1);
    let mut outcome = Outcome { pair, allowed, first: None, direct: None, story: String::new() };
    let done = AtomicBool::new(false);
    let bind = |end: &End| {
        let socket = end.site.host.run(|| UdpSocket::bind("[::]:7007").unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        socket
    };
    let (asks, answers) = (bind(one), bind(other));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 16];
            while !done.load(Ordering::Relaxed) {
                if let Ok((_, from)) = answers.recv_from(&mut buffer) {
                    let _ = answers.send_to(b"back", from);
                }
            }
        });
        let to = SocketAddr::new(other.eid(), 7007);
        let mut looked = start;
        while outcome.direct.is_none() && start.elapsed() < PATIENCE {
            // Before there is a way, that is said.
            let sent = asks.send_to(b"there", to);
            if asks.recv_from(&mut [0; 16]).is_ok() {
                outcome.first.get_or_insert_with(|| start.elapsed());
                std::thread::sleep(Duration::from_millis(50));
            } else if sent.is_err() {
                std::thread::sleep(Duration::from_millis(50));
            }
            if outcome.first.is_some() && looked.elapsed() > Duration::from_millis(200) {
                looked = Instant::now();
                outcome.direct = daemons.iter().all(is_direct).then(|| start.elapsed());
                if outcome.direct.is_none() && !allowed {
                    break;
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    if !outcome.is_good() {
        for daemon in daemons {
            let (peer, log) = (daemon.peer(), daemon.log());
            let log: Vec<&str> = log.lines().rev().take(40).collect();
            let _ = writeln!(outcome.story, "{peer:#?}\n{log:#?}");
        }
    }
    outcome
}

/// Whether data goes to the other end's own address.
fn is_direct(daemon: &Daemon) -> bool {
    let Ok(peer) = daemon.peer() else { return false };
    let relays = |remote: &str| SERVICES.iter().any(|at| remote.starts_with(&format!("{at}:")));
    peer.paths.iter().any(|path| path.active && path.via == Via::Direct && !relays(&path.remote))
}

/// Tries some pairs, all at a time.
fn batch(pairs: &[(Network, Network)]) -> Vec<Outcome> {
    let world = World::new();
    let setting =
        Setting { relay: world.turn(), world, secret: TempDir::with_prefix("mast-matrix-").unwrap() };
    let at: IpAddr = SERVICES[0].parse().unwrap();
    let _names = NameServer::start(&setting.world.services, setting.secret.path(), at, "example.org", "")
        .unwrap_or_else(|e| panic!("{e}"));
    let secret = setting.secret.path().join("dns.key");
    let written = std::process::Command::new("sh")
        .args(["-c", "umask 077; printf %s \"$0\" >\"$1\"", NameServer::SECRET])
        .arg(&secret)
        .status();
    assert!(written.unwrap().success());
    let mut number = 0;
    let mut end = |network: Network| {
        number += 1;
        End { network, site: network.site(&setting.world), number }
    };
    let ends: Vec<[End; 2]> = pairs.iter().map(|(one, other)| [end(*one), end(*other)]).collect();
    let relay = |end: &End| setting.relay.section(end.network.transport());
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for ends in &ends {
            // One after the other, so that the start of many does not count as time that a pair takes.
            let [one, other] = ends;
            let daemons =
                [one.start(other, (&relay(one), &secret)), other.start(one, (&relay(other), &secret))];
            let start = Instant::now();
            running.push(scope.spawn(move || attempt(ends, &daemons, start)));
        }
        running.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

#[test]
fn every_pair_of_networks_is_connected_and_directly_where_theory_allows() {
    lab(|| {
        let whole = std::env::var("MAST_MATRIX").is_ok_and(|wanted| wanted == "whole");
        let pairs: Vec<(Network, Network)> = match std::env::var("MAST_MATRIX") {
            Ok(_) if whole => {
                let with = |(n, one): (usize, &Network)| {
                    let one = *one;
                    ALL[n..].iter().map(move |other| (one, *other)).collect::<Vec<_>>()
                };
                ALL.iter().enumerate().flat_map(with).collect()
            }
            _ => SOME.to_vec(),
        };
        let begun = Instant::now();
        let outcomes: Vec<Outcome> = pairs.chunks(AT_ONCE).flat_map(batch).collect();
        report(&outcomes);
        println!("{} pairs in {:.0} s", outcomes.len(), begun.elapsed().as_secs_f64());
        for bad in outcomes.iter().filter(|outcome| !outcome.is_good()) {
            println!("{}\n{}", bad.row().join(", "), bad.story);
        }
        let bad: Vec<String> =
            outcomes.iter().filter(|outcome| !outcome.is_good()).map(|o| o.row().join(", ")).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    });
}

/// Prints what came out, and writes it where what is built lies.
fn report(outcomes: &[Outcome]) {
    let head = ["networks", "theory", "became", "first data", "direct after"];
    let mut text = String::new();
    let rows = outcomes.iter().map(Outcome::row);
    for row in std::iter::once(head.map(str::to_owned))
        .chain(std::iter::once(["---"; 5].map(str::to_owned)))
        .chain(rows)
    {
        let _ = writeln!(
            text,
            "| {:24} | {:7} | {:13} | {:>10} | {:>12} |",
            row[0], row[1], row[2], row[3], row[4]
        );
    }
    println!("{text}");
    let values: Vec<serde_json::Value> = outcomes
        .iter()
        .map(|outcome| {
            let seconds = |at: Option<Duration>| at.map(|at| at.as_secs_f64());
            serde_json::json!({
                "networks": [outcome.pair.0.word(), outcome.pair.1.word()],
                "direct_allowed": outcome.allowed,
                "first_data_s": seconds(outcome.first),
                "direct_s": seconds(outcome.direct),
            })
        })
        .collect();
    // Beside the programs that are tested.
    let folder =
        mast_stage::Program::mast().ok().and_then(|program| Some(program.parent()?.parent()?.to_owned()));
    if let Some(folder) = folder {
        let json = serde_json::to_string_pretty(&values).unwrap();
        let _ = std::fs::write(folder.join("traversal.md"), &text);
        let _ = std::fs::write(folder.join("traversal.json"), json);
    }
}
