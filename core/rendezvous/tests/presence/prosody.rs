//! A network with a real presence server (prosody), hosts in networks of their own, and what runs on them.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mast_netlab::{Host, Lab, LinkProfile, Process, Signal};
use mast_rendezvous::presence::{Account, Jid, Presence};
use mast_rendezvous::{Found, Health, Own, PairSecret, PeerKey, Posts, Rendezvous, Told};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Where the server is.
const SERVER: &str = "192.0.2.5";
/// Everybody's password.
pub const PASSWORD: &str = "correct horse";
/// So long something may take that takes a moment.
const MOMENT: Duration = Duration::from_secs(30);
/// What a server is made to do for its accounts.
const MODULES: &str = "\"roster\", \"saslauth\", \"tls\", \"disco\", \"pep\", \"smacks\", \"ping\", \"posix\", \"stanza_debug\"";

/// A laptop and a desk, behind a router that leads to a presence server.
pub struct Scene {
    pub laptop: Host,
    pub desk: Host,
    pub server: Server,
    _lab: Lab,
}

impl Scene {
    pub fn new() -> Self {
        Self::with_modules(MODULES)
    }

    /// One whose server does not keep what accounts publish.
    pub fn without_pep() -> Self {
        Self::with_modules(&MODULES.replace("\"pep\", ", ""))
    }

    fn with_modules(modules: &str) -> Self {
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
        let server = Server::new(host("server", SERVER), modules);
        Self { laptop, desk, server, _lab: lab }
    }
}

/// The server, which can be stopped and started again.
pub struct Server {
    host: Host,
    at: tempfile::TempDir,
    process: Option<Process>,
}

impl Server {
    fn new(host: Host, modules: &str) -> Self {
        let at = tempfile::tempdir().unwrap();
        let mut server = Self { host, at, process: None };
        server.certificates();
        let accounts = server.path("data/example%2eorg/accounts");
        fs::create_dir_all(&accounts).unwrap();
        for name in ["alice", "bob", "eve"] {
            let account = format!("return {{ [\"password\"] = \"{PASSWORD}\" }};\n");
            fs::write(accounts.join(format!("{name}.dat")), account).unwrap();
        }
        let folder = server.at.path().display();
        let configuration = format!(
            "run_as_root = true\npidfile = \"{folder}/pid\"\ndata_path = \"{folder}/data\"\n\
             certificates = \"{folder}\"\ninterfaces = {{ \"*\" }}\nc2s_ports = {{ 5222 }}\n\
             c2s_direct_tls_ports = {{ 5223 }}\ns2s_ports = {{ }}\n\
             log = {{ {{ levels = {{ min = \"debug\" }}, to = \"file\", filename = \"{folder}/log\" }} }}\n\
             modules_enabled = {{ {modules} }}\nmodules_disabled = {{ \"s2s\" }}\n\
             c2s_require_encryption = true\nauthentication = \"internal_plain\"\nstorage = \"internal\"\n\
             VirtualHost \"example.org\"\n\
             ssl = {{ key = \"{folder}/example.org.key\", certificate = \"{folder}/example.org.crt\" }}\n"
        );
        fs::write(server.path("configuration.lua"), configuration).unwrap();
        server.start();
        server
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.at.path().join(name)
    }

    /// An authority, and the server's certificate by it.
    fn certificates(&self) {
        let make = |name: &str, subject: &str, more: &[&str]| {
            let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
            let mut openssl = Command::new("openssl");
            openssl
                .current_dir(self.at.path())
                .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]);
            openssl.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", &format!("/CN={subject}")]);
            openssl.args(["-keyout", &key, "-out", &certificate]);
            let output = openssl.args(more).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        make("authority", "a test's authority", &["-addext", "basicConstraints=critical,CA:TRUE"]);
        let signed = ["-CA", "authority.crt", "-CAkey", "authority.key"];
        let leaf =
            ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=DNS:example.org"];
        make("example.org", "example.org", &[signed, leaf].concat());
    }

    pub fn start(&mut self) {
        let mut prosody = Command::new("prosody");
        prosody.arg("-F").arg("--config").arg(self.path("configuration.lua"));
        // Its tests on the road are of its own: nothing on the machine is read or written.
        prosody.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(self.host.spawn(prosody).unwrap());
        let begun = Instant::now();
        while self.host.run(|| std::net::TcpStream::connect((SERVER, 5222)).is_err()).unwrap() {
            assert!(begun.elapsed() < MOMENT, "prosody does not start:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill(Signal::SIGTERM).unwrap();
        process.wait(MOMENT).unwrap();
    }

    /// All that it was told and said, and who came from where.
    pub fn log(&self) -> String {
        fs::read(self.path("log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// What it keeps: each file, by its path within.
    pub fn kept(&self) -> BTreeMap<PathBuf, String> {
        let mut kept = BTreeMap::new();
        let mut folders = vec![self.path("data")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                    kept.insert(path, text);
                }
            }
        }
        kept
    }

    /// Changes what it keeps, as a server could that is not honest.
    pub fn change(&mut self, kept: &BTreeMap<PathBuf, String>) {
        self.stop();
        for (path, text) in kept {
            fs::write(path, text).unwrap();
        }
        self.start();
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
    let peers = peers.iter().map(|(peer, addresses)| (*peer, told(*peer, addresses))).collect();
    Own { key, public: Vec::new(), peers }
}

/// How a machine logs in.
pub struct Login<'a> {
    pub account: &'a str,
    pub password: &'a str,
    pub authority: Option<PathBuf>,
    pub server: &'a str,
}

impl<'a> Login<'a> {
    pub fn new(account: &'a str, server: &Server) -> Self {
        let authority = Some(server.path("authority.crt"));
        Self { account, password: PASSWORD, authority, server: SERVER }
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
