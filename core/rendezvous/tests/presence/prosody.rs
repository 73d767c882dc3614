//! A network with a real presence server (prosody), hosts in networks of their own, and what runs on them.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mast_netlab::{Host, Lab, LinkProfile, PresenceServer};
use mast_rendezvous::presence::{Account, Jid, Presence};
use mast_rendezvous::{Found, Health, Own, PairSecret, PeerKey, Posts, Rendezvous, Told};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Where the server is.
const SERVER: &str = "192.0.2.5";
/// So long something may take that takes a moment.
const MOMENT: Duration = Duration::from_secs(30);

/// A laptop and a desk, behind a router that leads to a presence server.
pub struct Scene {
    pub laptop: Host,
    pub desk: Host,
    pub server: PresenceServer,
    _directory: tempfile::TempDir,
    _lab: Lab,
}

impl Scene {
    pub fn new() -> Self {
        Self::without(&[])
    }

    /// One whose server does not keep what accounts publish.
    pub fn without_pep() -> Self {
        Self::without(&["pep"])
    }

    fn without(modules: &[&str]) -> Self {
        let lab = Lab::new().unwrap();
        let router = lab.router("router").unwrap();
        let profile = LinkProfile::delay(Duration::from_millis(5));
        let host = |name: &str, address: &str| {
            let host = lab.host(name).unwrap();
            lab.link(&host, "eth0", &router, name, &profile).unwrap();
            let (net, _) = address.rsplit_once('.').unwrap();
            router.add_address(name, &format!("{net}.1/24")).unwrap();
            host.add_address("eth0", &format!("{address}/24")).unwrap();
            host.add_route("default", Some(&format!("{net}.1")), "eth0", 0).unwrap();
            host
        };
        let laptop = host("laptop", "198.51.100.7");
        let desk = host("desk", "203.0.113.7");
        let directory = tempfile::tempdir().unwrap();
        let at = SERVER.parse().unwrap();
        let server = PresenceServer::start(&host("server", SERVER), directory.path(), at, modules).unwrap();
        Self { laptop, desk, server, _directory: directory, _lab: lab }
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

/// Who takes part: a machine's key, and what it shares with others.
pub const LAPTOP: PeerKey = [1; 32];
pub const TABLET: PeerKey = [2; 32];
pub const DESK: PeerKey = [3; 32];
pub const STRANGER: PeerKey = [4; 32];

/// What two machines share.
pub fn pair(one: PeerKey, other: PeerKey) -> PairSecret {
    PairSecret(std::array::from_fn(|at| one[at].wrapping_add(other[at])))
}

/// What a machine tells each of its peers.
pub fn own(key: PeerKey, peers: &[(PeerKey, &[&str])]) -> Own {
    let told = |peer: PeerKey, addresses: &[&str]| Told {
        secret: pair(key, peer),
        addresses: addresses.iter().map(|at| at.parse().unwrap()).collect(),
    };
    let peers: BTreeMap<PeerKey, Told> =
        peers.iter().map(|(peer, addresses)| (*peer, told(*peer, addresses))).collect();
    // As though there were one uplink for each, which is gone where it is not told.
    let here = peers.values().flat_map(|told| &told.addresses).map(SocketAddr::ip).collect();
    Own { key, here, peers, ..Own::default() }
}

/// How a machine logs in.
pub struct Login<'a> {
    pub account: &'a str,
    pub password: &'a str,
    pub authority: Option<PathBuf>,
    pub server: &'a str,
}

impl<'a> Login<'a> {
    pub fn new(account: &'a str, server: &PresenceServer) -> Self {
        let authority = Some(server.authority());
        Self { account, password: PresenceServer::PASSWORD, authority, server: SERVER }
    }
}

/// A running rendezvous, seen from the service.
pub struct Running {
    pub own: watch::Sender<Own>,
    pub found: mpsc::Receiver<Found>,
    pub health: watch::Receiver<Health>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    pub fn start(login: &Login<'_>, own: Own, peers: &[(PeerKey, &str)]) -> Self {
        let jid = |name: &str| format!("{name}@example.org").parse::<Jid>().unwrap();
        let account = Account::new(jid(login.account), login.password.to_owned().into(), &own.key).unwrap();
        let mut account = account.with_server(login.server).unwrap();
        if let Some(authority) = &login.authority {
            account = account.with_authority(fs::read(authority).unwrap());
        }
        let peers = peers.iter().map(|(peer, account)| (*peer, jid(account))).collect();
        let (own, told) = watch::channel(own);
        let (find, found) = mpsc::channel(64);
        let (tell, health) = watch::channel(Health::default());
        let task =
            tokio::spawn(Presence::new(account, peers).run(Posts { own: told, found: find, health: tell }));
        Self { own, found, health, task }
    }

    /// Waits until a peer is found to be where it is expected, and says how long that took.
    pub async fn until(&mut self, expected: PeerKey, addresses: &[&str]) -> Duration {
        let begun = Instant::now();
        let addresses: Vec<SocketAddr> = addresses.iter().map(|at| at.parse().unwrap()).collect();
        loop {
            let found = soon("peer", self.found.recv()).await.unwrap();
            assert!(found.lifetime > Duration::from_secs(7000), "{found:?}");
            if (found.peer, &found.addresses) == (expected, &addresses) {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < MOMENT, "{found:?}");
        }
    }

    /// Waits until it works.
    pub async fn works(&mut self) {
        let works = self.health.wait_for(|health| *health == Health::Working);
        if timeout(MOMENT, works).await.is_err() {
            panic!("{:?}", *self.health.borrow());
        }
    }

    /// Waits until it fails, and says why and what helps.
    pub async fn fails(&mut self) -> String {
        let fails = self.health.wait_for(|health| matches!(health, Health::Failed { .. }));
        match soon("failure", fails).await.unwrap().clone() {
            Health::Failed { why, remedy } => format!("{why} {remedy}"),
            other => format!("{other:?}"),
        }
    }

    /// Whether nothing is found for some time.
    pub async fn finds_nothing(&mut self, within: Duration) {
        if let Ok(found) = timeout(within, self.found.recv()).await {
            panic!("{found:?}");
        }
    }

    /// Ends it in good order.
    pub async fn end(mut self) {
        drop(std::mem::replace(&mut self.own, watch::channel(Own::default()).0));
        soon("end", &mut self.task).await.unwrap();
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

/// Whether a file is about items.
pub fn holds_items(path: &Path) -> bool {
    path.to_string_lossy().contains("pep")
}
