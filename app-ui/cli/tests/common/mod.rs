//! A scripted service behind a real socket, and the program run against it.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use mast_control::{
    Access, Caller, Check, ControlError, DoctorReport, Drill, DrillProgress, DrillReport, DrillStep, Eids,
    Event, InterfaceKind, InterfaceStatus, Invited, Notice, Notices, Part, PathState, PathStatus, PeerAdded,
    PeerKind, PeerState, PeerStatus, PeerView, PolicyMode, PolicyStatus, Request, Response, Server,
    ServerOptions, Service, Status, Verdict, Via, What, Why,
};
use tokio::sync::{broadcast, mpsc, oneshot};

/// What the service answers and what it was asked.
pub struct Script {
    pub status: Status,
    pub verdict: Verdict,
    pub doctor: DoctorReport,
    pub asked: Mutex<Vec<Request>>,
    pub notices: broadcast::Sender<Notice>,
}

impl Service for Script {
    async fn call(&self, request: Request, _caller: &Caller) -> Result<Response, ControlError> {
        self.asked.lock().unwrap().push(request.clone());
        match request {
            Request::Status => Ok(self.status.clone().into()),
            Request::Up | Request::Down => Ok(Response::DONE),
            Request::PeerAdd(_) => Ok(Response::PeerAdded(PeerAdded {
                name: "home".into(),
                eid: Eids { remote_v4: Some("100.64.0.1".into()), ..Eids::default() },
                notes: vec![mast_control::Noted::NameServers { servers: "10.0.0.1".into(), line: 4 }.into()],
            })),
            Request::PeerRemove(peer) if peer.name == "home" => Ok(Response::DONE),
            Request::PeerRemove(peer) => {
                Err(ControlError::of(Why::NoPeer { name: peer.name }).with_known(["home"]))
            }
            Request::Peer(wanted) => match self.status.peers.iter().find(|peer| peer.name == wanted.name) {
                Some(peer) => Ok(Response::Peer(Box::new(PeerView {
                    up: self.status.up,
                    peer: peer.clone(),
                    interfaces: self.status.interfaces.clone(),
                    redacted: false,
                }))),
                None => {
                    let known: Vec<_> = self.status.peers.iter().map(|peer| peer.name.clone()).collect();
                    Err(ControlError::of(Why::NoPeer { name: wanted.name }).with_known(known))
                }
            },
            Request::Invite(_) => Ok(Response::Invited(Invited {
                link: "mast://secret".into(),
                expires: "2026-01-01T00:00:00Z".into(),
            })),
            Request::PolicySet(policy) if policy.pin.iter().any(|pin| pin == "wlan9") => {
                Err(ControlError::not_found("there is no interface, kind or network `wlan9`").with_known([
                    "wlan0",
                    "wwan0",
                    "network:Tr\u{1b}[31main",
                ]))
            }
            Request::PolicySet(_) => Ok(Response::DONE),
            Request::Doctor => Ok(Response::Doctor(self.doctor.clone())),
            other if other.only_reads() => Err(ControlError::unavailable("not in the script")),
            _ => Ok(Response::DONE),
        }
    }

    async fn drill(
        &self,
        drill: Drill,
        progress: mpsc::Sender<DrillProgress>,
        _caller: &Caller,
    ) -> Result<DrillReport, ControlError> {
        let _ = progress
            .send(DrillProgress {
                message: format!("silencing wlan0 to {}", drill.peer),
                links: 1,
                step: None,
            })
            .await;
        let step = DrillStep {
            path: 1,
            paths: 2,
            interface: "wlan0".into(),
            to: Some("wwan0".into()),
            gap_ms: Some(87.0),
            sent: 200,
            lost: 0,
        };
        Ok(DrillReport {
            steps: vec![step],
            verdict: self.verdict,
            links: 1,
            detail: "no datagram was lost".into(),
        })
    }

    fn subscribe(&self) -> impl Notices {
        let receiver = self.notices.subscribe();
        self.notices.send(moved("13:00").into()).unwrap();
        Heard(receiver)
    }
}

struct Heard(broadcast::Receiver<Notice>);

impl Notices for Heard {
    async fn next(&mut self) -> Option<Notice> {
        self.0.recv().await.ok()
    }
}

/// A status with one peer, connected over Wi-Fi, with cellular standing by.
pub fn status() -> Status {
    Status {
        up: true,
        name: "laptop".into(),
        version: "0.1.0".into(),
        public_key: "a2V5".into(),
        interfaces: vec![
            interface("wlan0", InterfaceKind::Wifi, Some("Tr\u{1b}[31main")),
            interface("wwan0", InterfaceKind::Cellular, None),
        ],
        peers: vec![peer("home", PeerState::Connected)],
        events: vec![moved("12:04:31")],
        ..Status::default()
    }
}

pub fn moved(time: &str) -> Event {
    Event {
        time: format!("2026-01-01T{time}Z"),
        from: Some("wifi".into()),
        to: Some("cell".into()),
        gap_ms: Some(140.0),
        ..Event::now("home", What::Silent)
    }
}

pub fn interface(name: &str, kind: InterfaceKind, network: Option<&str>) -> InterfaceStatus {
    InterfaceStatus {
        name: name.into(),
        kind,
        network: network.map(Into::into),
        addresses: vec!["192.0.2.2".into()],
        metered: kind == InterfaceKind::Cellular,
        usable: true,
        metered_by_hand: None,
        excluded: false,
        weak: false,
        spent: false,
        layers: Vec::new(),
    }
}

pub fn peer(name: &str, state: PeerState) -> PeerStatus {
    let up = state == PeerState::Connected;
    let path = |id, interface: &str, active| PathStatus {
        id,
        interface: interface.into(),
        local: "192.0.2.2:6278".into(),
        remote: "198.51.100.1:6278".into(),
        via: Via::Direct,
        peer_link: None,
        state: if up { PathState::Validated } else { PathState::Failed },
        active,
        fitness: None,
        ailment: None,
        part: Part::Unknown,
        answered_ms: None,
        srtt_ms: up.then_some(41.3),
        loss: up.then_some(0.0),
        mtu: 1420,
        rx_bytes: 1_234_567,
        tx_bytes: 89,
    };
    PeerStatus {
        name: name.into(),
        public_key: "cGVlcg==".into(),
        state,
        kind: PeerKind::Mast,
        eid: Eids { remote_v4: Some("100.64.0.1".into()), ..Eids::default() },
        policy: PolicyStatus::default(),
        rx_bytes: 1_234_567,
        tx_bytes: 89,
        last_heard_ms: Some(12_000),
        paths: vec![path(1, "wlan0", up), path(2, "wwan0", false)],
        own_policy: false,
        full_tunnel: None,
        mast: None,
        addresses: mast_control::AddressesTold::All,
        own: false,
        troubles: Vec::new(),
        modes: vec![PolicyMode::Auto, PolicyMode::Pin, PolicyMode::Redundant, PolicyMode::Bonded],
        uplinks: Vec::new(),
        layers: Vec::new(),
    }
}

/// A running service; it goes with this.
pub struct Stage {
    pub directory: tempfile::TempDir,
    pub socket: PathBuf,
    pub script: Arc<Script>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Stage {
    pub fn new(status: Status) -> Self {
        Self::with(status, |_| {}, Access::custom(|_| true))
    }

    pub fn with(status: Status, change: impl FnOnce(&mut Script), access: Access) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let check = |name: &str, ok, remedy: Option<&str>| Check {
            remedy: remedy.map(Into::into),
            ..Check::told(name, ok, "looked at it")
        };
        let doctor = DoctorReport {
            checks: vec![check("tun", true, None), check("firewall", false, Some("open UDP port 6278"))],
            counters: [("replayed".to_owned(), 3)].into(),
            redacted: false,
        };
        let mut script = Script {
            status,
            verdict: Verdict::Passed,
            doctor,
            asked: Mutex::default(),
            notices: broadcast::channel(64).0,
        };
        change(&mut script);
        let script = Arc::new(script);
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let options = ServerOptions::new("laptop", "0.1.0").at(&socket).with_access(access);
        let service = Arc::clone(&script);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::bind(options).unwrap();
                ready.send(()).unwrap();
                server.run(service, async { drop(stopped.await) }).await;
            });
        });
        is_ready.recv().unwrap();
        Self { directory, socket, script, stop: Some(stop), thread: Some(thread) }
    }

    pub fn command(&self, words: &[&str]) -> Command {
        command(&self.socket, words)
    }

    pub fn run(&self, words: &[&str]) -> Ran {
        Ran::of(self.command(words).output().unwrap())
    }

    /// The requests so far, except for the status.
    pub fn asked(&self) -> Vec<Request> {
        self.script.asked.lock().unwrap().iter().filter(|r| **r != Request::Status).cloned().collect()
    }

    pub fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The program against a socket.
pub fn command(socket: &std::path::Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mast"));
    command.args(words).env("MAST_CONTROL", socket).env("TZ", "UTC").stdin(Stdio::null());
    command
}

/// How the program ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }
}
