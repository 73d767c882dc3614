//! A small service behind a real socket, and a client that speaks raw lines.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mast_control::transport::{Reader, Writer, connect};
use mast_control::{
    Access, Caller, ControlError, Drill, DrillProgress, DrillReport, Notice, Notices, PeerAdded, Request,
    Response, Server, ServerOptions, Service, Status, Verdict, Why,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What is said of how the service is started, on each system.
pub const START: &str = if cfg!(windows) {
    "`sc start mastd`"
} else if cfg!(target_vendor = "apple") {
    "`sudo launchctl kickstart"
} else {
    "`sudo systemctl start mastd`"
};
/// A socket's one direction can be closed alone; a named pipe's cannot.
pub const HALVES: bool = cfg!(unix);

pub struct Fake {
    pub notices: broadcast::Sender<Notice>,
    /// Told when a drill was dropped before its end.
    pub drill_dropped: mpsc::UnboundedSender<()>,
    /// Told when an invite, which takes its time, is finished.
    pub finished: mpsc::UnboundedSender<()>,
    /// What it tells.
    pub status: Status,
}

struct OnDrop(mpsc::UnboundedSender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

impl Service for Fake {
    async fn call(&self, request: Request, _caller: &Caller) -> Result<Response, ControlError> {
        match request {
            Request::Status => Ok(Status { name: "laptop".into(), ..self.status.clone() }.into()),
            Request::Up => Ok(Response::DONE),
            Request::PolicyClear(_) => Ok(Response::DONE.unkept("the disk is full")),
            Request::PeerRemove(peer) => {
                Err(ControlError::of(Why::NoPeer { name: peer.name }).with_known(["home", "work"]))
            }
            Request::PeerAdd(peer) => Ok(Response::PeerAdded(PeerAdded {
                name: peer.name.unwrap_or_default(),
                eid: mast_control::Eids::default(),
                notes: Vec::new(),
            })),
            Request::Invite(_) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let _ = self.finished.send(());
                Err(ControlError::unavailable("too late"))
            }
            Request::Down => panic!("a fault of the service"),
            _ => Err(ControlError::unavailable("not here")),
        }
    }

    async fn drill(
        &self,
        drill: Drill,
        progress: mpsc::Sender<DrillProgress>,
        _caller: &Caller,
    ) -> Result<DrillReport, ControlError> {
        let _told = OnDrop(self.drill_dropped.clone());
        for number in 0..3 {
            let _ = progress
                .send(DrillProgress { message: format!("{} {number}", drill.peer), links: 3, step: None })
                .await;
        }
        if drill.peer == "endless" {
            loop {
                tokio::time::sleep(Duration::from_millis(10)).await;
                let _ = progress.send(DrillProgress { message: "on".into(), links: 3, step: None }).await;
            }
        }
        Ok(DrillReport { steps: vec![], verdict: Verdict::Passed, links: 3, detail: "fine".into() })
    }

    fn subscribe(&self) -> impl Notices {
        Heard(self.notices.subscribe())
    }
}

/// What was sent since; where a reader does not keep up, the oldest are left out.
struct Heard(broadcast::Receiver<Notice>);

impl Notices for Heard {
    async fn next(&mut self) -> Option<Notice> {
        match self.0.recv().await {
            Ok(notice) => Some(notice),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Notice::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// A running server; everything goes with it.
pub struct Stage {
    pub directory: tempfile::TempDir,
    pub path: PathBuf,
    pub notices: broadcast::Sender<Notice>,
    pub dropped_drills: mpsc::UnboundedReceiver<()>,
    pub finished: mpsc::UnboundedReceiver<()>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Stage {
    pub fn new() -> Self {
        Self::with_access(Access::custom(|_| true))
    }

    pub fn with_access(access: Access) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/control.sock");
        let options = ServerOptions::new("laptop", "1.2.3").at(&path).with_access(access);
        let server = Server::bind(options).unwrap();
        let (notices, _) = broadcast::channel(64);
        let (drill_dropped, dropped_drills) = mpsc::unbounded_channel();
        let (finish, finished) = mpsc::unbounded_channel();
        let service = Arc::new(Fake {
            notices: notices.clone(),
            drill_dropped,
            finished: finish,
            status: Status::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(server.run(service, async {
            let _ = stopped.await;
        }));
        Self { directory, path, notices, dropped_drills, finished, stop, server }
    }

    pub async fn raw(&self) -> Raw {
        Raw::connect(&self.path).await
    }

    pub async fn greeted(&self) -> Raw {
        let mut raw = self.raw().await;
        let reply = raw.ask("hello", json!({"protocol": mast_control::PROTOCOL, "client": "test"})).await;
        assert_eq!(reply["result"]["name"], "laptop");
        raw
    }

    /// Shuts the server down; what it left is in the directory.
    pub async fn stop(self) -> tempfile::TempDir {
        let _ = self.stop.send(());
        timeout(PATIENCE, self.server).await.unwrap().unwrap();
        self.directory
    }
}

/// A client without manners.
pub struct Raw {
    pub reader: BufReader<Reader>,
    pub writer: Writer,
}

impl Raw {
    pub async fn connect(path: &std::path::Path) -> Self {
        let (reader, writer) = connect(path).await.unwrap();
        Self { reader: BufReader::new(reader), writer }
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.unwrap();
    }

    /// The next message; none when the server closed.
    pub async fn read(&mut self) -> Option<Value> {
        let mut line = String::new();
        match timeout(PATIENCE, self.reader.read_line(&mut line)).await.expect("nothing came") {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
        }
    }

    pub async fn ask(&mut self, method: &str, params: Value) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": "q", "method": method, "params": params});
        self.write(format!("{request}\n").as_bytes()).await;
        self.read().await.expect("the server closed")
    }

    pub async fn code(&mut self, method: &str, params: Value) -> i64 {
        self.ask(method, params).await["error"]["code"].as_i64().expect("an error")
    }
}
