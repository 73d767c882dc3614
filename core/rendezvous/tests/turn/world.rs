//! A relay, two networks with one host each, and a plain host, around one router.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mast_netlab::{Host, Lab, LinkProfile, NatKind, Process, Signal};
use mast_rendezvous::turn::{Bind, CertificateDer, Family, Parcel, Server, State, Transport, run};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Where coturn listens.
pub const RELAY: &str = "192.0.2.10";
/// Another address of the same host, at which nothing listens.
pub const DEAF: &str = "192.0.2.11";
/// What is in its certificate.
pub const NAME: &str = "relay.example";
/// Who may use it.
pub const USER: &str = "alice";
/// The password.
pub const PASSWORD: &str = "correct horse";
/// One way, of each network.
const DELAY: Duration = Duration::from_millis(5);

/// All of it.
pub struct World {
    _lab: Lab,
    /// The host of the relay.
    pub relay: Host,
    /// Behind a NAT each, and what they are behind.
    pub hosts: [(Host, Host); 2],
    /// A host without any, 198.51.100.2.
    pub plain: Host,
    /// The certificate of the relay's authority, and files.
    pub authority: CertificateDer<'static>,
    directory: TempDir,
    process: Mutex<Option<Process>>,
}

impl World {
    pub fn new() -> Self {
        let lab = Lab::new().unwrap_or_else(|e| panic!("{e}"));
        let core = lab.router("internet").unwrap();
        let relay = lab.host("relay").unwrap();
        lab.wire(&core, "relay", &relay, "eth0").unwrap();
        core.add_address("relay", "192.0.2.1/24").unwrap();
        for own in [RELAY, DEAF] {
            relay.add_address("eth0", &format!("{own}/24")).unwrap();
        }
        relay.add_route("default", Some("192.0.2.1"), "eth0", 0).unwrap();
        let plain = lab.host("plain").unwrap();
        lab.link(&core, "plain", &plain, "eth0", &LinkProfile::delay(DELAY)).unwrap();
        core.add_address("plain", "198.51.100.1/24").unwrap();
        plain.add_address("eth0", "198.51.100.2/24").unwrap();
        plain.add_route("default", Some("198.51.100.1"), "eth0", 0).unwrap();
        let hosts = [1, 2].map(|n| {
            let router = lab.router(&format!("home {n}")).unwrap();
            let host = lab.host(&format!("host {n}")).unwrap();
            let up = format!("home{n}");
            lab.link(&core, &up, &router, "out", &LinkProfile::delay(DELAY)).unwrap();
            core.add_address(&up, &format!("203.0.113.{}/30", 4 * n + 1)).unwrap();
            router.add_address("out", &format!("203.0.113.{}/30", 4 * n + 2)).unwrap();
            router.add_route("default", Some(&format!("203.0.113.{}", 4 * n + 1)), "out", 0).unwrap();
            lab.wire(&router, "in", &host, "eth0").unwrap();
            router.add_address("in", &format!("10.{n}.0.1/24")).unwrap();
            host.add_address("eth0", &format!("10.{n}.0.2/24")).unwrap();
            host.add_route("default", Some(&format!("10.{n}.0.1")), "eth0", 0).unwrap();
            lab.nat(&router, "in", "out", NatKind::Symmetric).unwrap();
            (host, router)
        });
        let directory = TempDir::with_prefix("mast-turn-").unwrap();
        let authority = certificate(directory.path());
        Self { _lab: lab, relay, hosts, plain, authority, directory, process: Mutex::new(None) }
    }

    /// Starts coturn, and waits until it listens.
    pub fn start(&self, more: &[&str]) {
        let at = |name: &str| self.directory.path().join(name).display().to_string();
        let mut command = Command::new("turnserver");
        command.args(["-n", "--no-cli", "--no-dtls", "--lt-cred-mech", "--realm=relay.example"]);
        command.args(["--listening-port=3478", "--tls-listening-port=443", "--log-file=stdout"]);
        command.args([format!("--listening-ip={RELAY}"), format!("--relay-ip={RELAY}")]);
        command.arg(format!("--user={USER}:{PASSWORD}"));
        command.args([format!("--cert={}", at("cert.pem")), format!("--pkey={}", at("key.pem"))]);
        command.args([format!("--pidfile={}", at("pid")), format!("--userdb={}", at("db"))]);
        command.args(more).current_dir(self.directory.path());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        *self.process.lock().unwrap() =
            Some(self.relay.spawn(command).unwrap_or_else(|e| panic!("coturn: {e}")));
        let start = Instant::now();
        for port in [3478, 443] {
            let listens = || TcpStream::connect(SocketAddr::new(RELAY.parse().unwrap(), port)).is_ok();
            while !self.relay.run(listens).unwrap() {
                assert!(start.elapsed() < Duration::from_secs(20), "coturn does not listen on port {port}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Ends coturn without letting it say goodbye.
    pub fn stop(&self) {
        let mut process = self.process.lock().unwrap().take().unwrap();
        process.kill(Signal::SIGKILL).unwrap();
        process.wait(Duration::from_secs(5)).unwrap();
    }

    /// The relay, as a host would have it configured.
    pub fn server(&self, transport: Transport) -> Server {
        let port = if transport == Transport::Tls { 443 } else { 3478 };
        Server {
            host: NAME.to_owned(),
            at: vec![SocketAddr::new(RELAY.parse().unwrap(), port)],
            transport,
            username: USER.to_owned(),
            password: PASSWORD.to_owned().into(),
            roots: vec![self.authority.clone()],
        }
    }

    /// Runs `run` on a host.
    pub fn client(&self, n: usize, server: Server) -> Client {
        Client::new(&self.hosts[n].0, server)
    }

    /// Lets a network have no UDP.
    pub fn block_udp(&self, n: usize) {
        let rules = "add table inet blocked; add chain inet blocked through { type filter hook forward priority 0; }; \
                     add rule inet blocked through meta l4proto udp drop";
        let mut nft = Command::new("nft");
        nft.arg(rules);
        let mut nft = self.hosts[n].1.spawn(nft).unwrap();
        assert!(nft.wait(Duration::from_secs(10)).unwrap().success());
    }

    /// A socket of the plain host.
    pub fn plain_socket(&self) -> tokio::net::UdpSocket {
        let socket = self.plain.run(|| std::net::UdpSocket::bind("198.51.100.2:0").unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        tokio::net::UdpSocket::from_std(socket).unwrap()
    }
}

/// Makes an authority and a certificate for [`NAME`] by it; the latter, and its key, in files.
fn certificate(directory: &Path) -> CertificateDer<'static> {
    let (authority, own) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let signed = parameters.self_signed(&authority).unwrap();
    let issuer = rcgen::Issuer::new(parameters, authority);
    let mut parameters = rcgen::CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    parameters.is_ca = rcgen::IsCa::ExplicitNoCa;
    let certificate = parameters.signed_by(&own, &issuer).unwrap();
    std::fs::write(directory.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(directory.join("key.pem"), own.serialize_pem()).unwrap();
    signed.der().clone()
}

/// Makes sockets on one host.
pub struct On(Host);

impl Bind for On {
    fn udp(&self, family: Family) -> io::Result<std::net::UdpSocket> {
        let any = if family == Family::V4 { "0.0.0.0:0" } else { "[::]:0" };
        self.0.run(|| std::net::UdpSocket::bind(any)).map_err(io::Error::other)?
    }

    fn tcp(&self, to: SocketAddr) -> impl Future<Output = io::Result<tokio::net::TcpStream>> + Send {
        let socket = self.0.run(|| Socket::new(Domain::for_address(to), Type::STREAM, None));
        async move {
            let socket = socket.map_err(io::Error::other)??;
            socket.set_nonblocking(true)?;
            tokio::net::TcpSocket::from_std_stream(socket.into()).connect(to).await
        }
    }
}

/// One end of what is tested.
pub struct Client {
    pub to: Option<mpsc::Sender<Parcel>>,
    pub from: mpsc::Receiver<Parcel>,
    pub state: watch::Receiver<State>,
    pub task: JoinHandle<()>,
    begun: Instant,
}

impl Client {
    pub fn new(host: &Host, server: Server) -> Self {
        let (to, taken) = mpsc::channel(256);
        let (given, from) = mpsc::channel(256);
        let (says, state) = watch::channel(State::Starting);
        let task = tokio::spawn(run(server, On(host.clone()), taken, given, says));
        Self { to: Some(to), from, state, task, begun: Instant::now() }
    }

    /// Waits for an address, and says how long that took since the beginning.
    pub async fn allocated(&mut self) -> (SocketAddr, Duration) {
        let is = |state: &State| matches!(state, State::Allocated { .. });
        match &*within(20, "an address", self.state.wait_for(is)).await.unwrap() {
            State::Allocated { relayed, server } => {
                assert_eq!(server.ip().to_string(), RELAY);
                (*relayed, self.begun.elapsed())
            }
            other => panic!("{other:?}"),
        }
    }

    /// Waits until it failed, and says why.
    pub async fn failed(&mut self) -> (String, String) {
        let is = |state: &State| matches!(state, State::Failed { .. });
        match &*within(15, "a failure", self.state.wait_for(is)).await.unwrap() {
            State::Failed { why, remedy } => (why.clone(), remedy.clone()),
            other => panic!("{other:?}"),
        }
    }

    pub async fn send(&self, peer: SocketAddr, payload: &[u8]) {
        let to = self.to.as_ref().unwrap();
        to.send(Parcel { peer, payload: payload.to_vec() }).await.unwrap();
    }

    pub async fn receive(&mut self) -> Parcel {
        within(5, "a datagram", self.from.recv()).await.unwrap()
    }

    /// Gives the address up, and waits for the end.
    pub async fn end(mut self) {
        self.to = None;
        within(3, "the end", self.task).await.unwrap();
    }
}

/// Waits so many seconds at most.
pub async fn within<T>(seconds: u64, what: &str, future: impl Future<Output = T>) -> T {
    let limit = tokio::time::timeout(Duration::from_secs(seconds), future).await;
    limit.unwrap_or_else(|_| panic!("not within {seconds} s: {what}"))
}

/// Runs a test in a lab, whose name it is.
pub fn lab<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F) {
    mast_netlab::isolated_test(name, || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(test());
    });
}

/// What of a text is an address.
pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
