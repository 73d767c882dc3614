//! A network with a real name server, and hosts that publish and look up.

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mast_netlab::{Host, Lab, LinkProfile, NameServer};
use mast_rendezvous::dns::{Dns, HostName, Key, Publish, Servers, Wanted, Wish, Wishes};
use mast_rendezvous::{Found, Health, Own, PeerKey, Posts, Rendezvous};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Where the name server is.
pub const SERVER: &str = "192.0.2.53:53";
/// The secret of its keys.
pub const SECRET: &str = NameServer::SECRET;
/// So long something may take that takes a moment.
const MOMENT: Duration = Duration::from_secs(20);

/// A laptop and a desk, behind a router that leads to a name server.
pub struct Scene {
    pub laptop: Host,
    pub desk: Host,
    pub server: Host,
    _knot: NameServer,
    _directory: tempfile::TempDir,
    _lab: Lab,
}

impl Scene {
    /// Builds it; the zone has these records beside its own.
    pub fn new(records: &str) -> Self {
        let lab = Lab::new().unwrap();
        let router = lab.router("router").unwrap();
        let host = |name: &str, net: &str| {
            let host = lab.host(name).unwrap();
            lab.link(&host, "eth0", &router, name, &LinkProfile::default()).unwrap();
            router.add_address(name, &format!("{net}.1/24")).unwrap();
            host
        };
        let (laptop, desk, server) =
            (host("laptop", "198.51.100"), host("desk", "203.0.113"), host("server", "192.0.2"));
        for (host, address) in [(&laptop, "198.51.100.7"), (&desk, "203.0.113.7"), (&server, "192.0.2.53")] {
            host.add_address("eth0", &format!("{address}/24")).unwrap();
            let (net, _) = address.rsplit_once('.').unwrap();
            host.add_route("default", Some(&format!("{net}.1")), "eth0", 0).unwrap();
        }
        let directory = tempfile::tempdir().unwrap();
        let at = SERVER.parse::<SocketAddr>().unwrap().ip();
        let knot = NameServer::start(&server, directory.path(), at, "example.org", records);
        let knot = knot.unwrap_or_else(|error| panic!("{error}"));
        Self { laptop, desk, server, _knot: knot, _directory: directory, _lab: lab }
    }
}

/// Runs something on a host.
pub fn on<T: Send>(host: &Host, work: impl AsyncFnOnce() -> T + Send) -> T {
    host.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let done = runtime.block_on(work());
        runtime.shutdown_background();
        done
    })
    .unwrap()
}

/// A running rendezvous, seen from the service.
pub struct Running {
    pub own: watch::Sender<Own>,
    pub found: mpsc::Receiver<Found>,
    pub health: watch::Receiver<Health>,
    pub wanted: Wanted,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Starts one that asks these servers.
    pub fn start(servers: &[&str], publish: Option<Publish>) -> Self {
        let given = servers.iter().map(|at| at.parse().unwrap()).collect();
        let (dns, wanted) = Dns::new(Servers::given(given), publish);
        let (own, told) = watch::channel(Own::default());
        let (find, found) = mpsc::channel(64);
        let (tell, health) = watch::channel(Health::default());
        let task = tokio::spawn(dns.run(Posts { own: told, found: find, health: tell }));
        Self { own, found, health, wanted, task }
    }

    /// Has a peer be looked for.
    pub fn want(&self, peer: PeerKey, names: &[&str]) {
        let names = names.iter().map(|text| name(text)).collect();
        self.wanted.wishes.send_replace(Wishes::from([(peer, Wish { names, connected: false })]));
    }

    /// Says where this host is.
    pub fn tell(&self, key: PeerKey, public: &[&str]) {
        let public = public.iter().map(|at| at.parse().unwrap()).collect();
        self.own.send_replace(Own { key, public, ..Own::default() });
    }

    /// Waits for the next that is found.
    pub async fn next(&mut self) -> Found {
        soon("something found", self.found.recv()).await.unwrap()
    }

    /// Waits until a peer is found to be where it is expected, and says how long that took.
    pub async fn until(&mut self, expected: &[&str]) -> Duration {
        let begun = Instant::now();
        let mut expected: Vec<SocketAddr> = expected.iter().map(|at| at.parse().unwrap()).collect();
        expected.sort();
        loop {
            let Found { mut addresses, .. } = self.next().await;
            addresses.sort();
            if addresses == expected {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < MOMENT, "{addresses:?} and not {expected:?}");
        }
    }

    /// Waits until it works.
    pub async fn works(&mut self) {
        let works = self.health.wait_for(|health| *health == Health::Working);
        soon("working", works).await.unwrap();
    }

    /// Waits until it fails, and says why and what helps.
    pub async fn fails(&mut self) -> String {
        let fails = self.health.wait_for(|health| matches!(health, Health::Failed { .. }));
        match soon("a failure", fails).await.unwrap().clone() {
            Health::Failed { why, remedy } => format!("{why}; {remedy}"),
            other => format!("{other:?}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits a moment for something.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(MOMENT, work).await.unwrap_or_else(|_| panic!("no {what} in time"))
}

pub fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

/// A name to be published at the server by a key.
pub fn publish(of: &str, server: &str, key: (&str, &str)) -> Option<Publish> {
    let key = Key::new(key.0, "hmac-sha256", key.1).unwrap();
    Some(Publish { name: name(of), server: server.parse().unwrap(), key, ttl: 5 })
}
