//! The page's commands, on a real control server with a scripted service, and without a display.

#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mast_control::{
    Access, Caller, ControlError, Drill, DrillProgress, DrillReport, Event, HandedKey, History,
    InviteProblem, InviteState, InviteStatus, Invited, Invites, Logs, Notice, Notices, PeerAdded,
    PresenceReport, Request, Response, Server, ServerOptions, Service, Status, Story, UsageReport, Verdict,
    What, Why,
};
use mast_desktop::{Args, Shared};
use serde_json::{Value, json};
use tauri::ipc::{CallbackFn, InvokeBody};
use tauri::test::{INVOKE_KEY, MockRuntime, get_ipc_response, mock_builder, mock_context, noop_assets};
use tauri::webview::InvokeRequest;
use tempfile::TempDir;
use tokio::sync::{broadcast, mpsc, oneshot};

struct Script {
    asked: Mutex<Vec<Request>>,
    notices: broadcast::Sender<Notice>,
}

impl Service for Script {
    async fn call(&self, request: Request, _: &Caller) -> Result<Response, ControlError> {
        let answer = match &request {
            Request::Status => Status { up: true, name: "laptop".into(), ..Status::default() }.into(),
            Request::PeerAdd(add) if add.link.as_deref() == Some("mast://1/old") => {
                let problem = InviteProblem::Expired;
                return Err(ControlError::of(Why::Invite { problem, inviter: None, port: None }));
            }
            Request::PeerAdd(_) => Response::PeerAdded(PeerAdded {
                name: "nas".into(),
                eid: Default::default(),
                notes: Vec::new(),
            }),
            Request::PeerRemove(_) => {
                return Err(ControlError::of(Why::NoPeer { name: "x".into() }).with_known(["nas"]));
            }
            Request::Invite(_) => Response::Invited(Invited {
                link: "mast://1/secret".into(),
                expires: "2026-11-24T13:00:00Z".into(),
            }),
            Request::Presence | Request::PresenceLogin(_) | Request::PresenceLogout => {
                Response::Presence(PresenceReport::default())
            }
            Request::InviteList => Response::Invites(Invites {
                invites: vec![InviteStatus {
                    id: "00c0ffee".into(),
                    name: Some("tablet".into()),
                    expires: "2026-11-24T13:00:00Z".into(),
                    state: InviteState::Open,
                }],
            }),
            Request::PolicySet(set) if set.pin.iter().any(|p| p == "wlan9") => {
                return Err(ControlError::bad_value("pin", "there is no such interface"));
            }
            Request::Story(_) => Response::Story(Story { events: vec![Event::now("nas", What::Connected)] }),
            Request::History => Response::History(History::default()),
            Request::Usage => Response::Usage(UsageReport::default()),
            Request::Logs => Response::Logs(Logs { lines: vec!["a line".into()] }),
            Request::KeyHandOver => Response::Key(HandedKey { private_key: "AAAA".into() }),
            _ => Response::DONE,
        };
        self.asked.lock().unwrap().push(request);
        Ok(answer)
    }

    async fn drill(
        &self,
        _: Drill,
        _: mpsc::Sender<DrillProgress>,
        _: &Caller,
    ) -> Result<DrillReport, ControlError> {
        Ok(DrillReport { steps: vec![], verdict: Verdict::Passed, links: 2, detail: "fine".into() })
    }

    fn subscribe(&self) -> impl Notices {
        Heard(self.notices.subscribe())
    }
}

struct Heard(broadcast::Receiver<Notice>);

impl Notices for Heard {
    async fn next(&mut self) -> Option<Notice> {
        self.0.recv().await.ok()
    }
}

/// A service that runs until it is dropped.
struct Running {
    script: Arc<Script>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(socket: &Path, may_change: bool) -> Self {
        let script = Arc::new(Script { asked: Mutex::default(), notices: broadcast::Sender::new(16) });
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (service, socket) = (Arc::clone(&script), PathBuf::from(socket));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let access = Access::custom(move |_| may_change);
                let options = ServerOptions::new("laptop", "9.9.9").at(&socket).with_access(access);
                let server = Server::bind(options).unwrap();
                ready.send(()).unwrap();
                server.run(service, async { drop(stopped.await) }).await;
            });
        });
        is_ready.recv().unwrap();
        Self { script, stop: Some(stop), thread: Some(thread) }
    }

    fn last(&self) -> Request {
        let asked = self.script.asked.lock().unwrap();
        asked.iter().rfind(|r| **r != Request::Status).cloned().expect("something was asked")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

struct Stage {
    webview: tauri::WebviewWindow<MockRuntime>,
    shared: Arc<Shared>,
    socket: PathBuf,
    // Last, in this order.
    _app: tauri::App<MockRuntime>,
    _directory: TempDir,
}

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let args = Args { hidden: true, socket: socket.clone(), link: Some("mast://1/offered".into()) };
        let shared = Arc::new(Shared::new(&args, directory.path().join("config")));
        let app = mock_builder()
            .manage(Arc::clone(&shared))
            .invoke_handler(mast_desktop::handler())
            .build(mock_context(noop_assets()))
            .unwrap();
        let webview = tauri::WebviewWindowBuilder::new(&app, "main", Default::default()).build().unwrap();
        Self { webview, shared, socket, _app: app, _directory: directory }
    }

    fn invoke(&self, command: &str, arguments: Value) -> Result<Value, Value> {
        let request = InvokeRequest {
            cmd: command.into(),
            callback: CallbackFn(0),
            error: CallbackFn(1),
            url: "tauri://localhost".parse().unwrap(),
            body: InvokeBody::Json(arguments),
            headers: Default::default(),
            invoke_key: INVOKE_KEY.to_string(),
        };
        get_ipc_response(&self.webview, request).map(|body| body.deserialize::<Value>().unwrap())
    }

    fn wait(&self, what: &str, so: impl Fn(&Value) -> bool) -> Duration {
        let start = Instant::now();
        loop {
            let snapshot = self.invoke("snapshot", json!({})).unwrap();
            if so(&snapshot) {
                return start.elapsed();
            }
            assert!(start.elapsed() < Duration::from_secs(10), "not {what}: {snapshot:#}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn every_command_reaches_the_service() {
    let stage = Stage::new();
    let service = Running::start(&stage.socket, true);
    let cases = [
        ("up", json!({}), r#"Up"#),
        ("down", json!({}), r#"Down"#),
        ("pause", json!({"seconds": 3600}), "Pause(Pause { seconds: 3600 })"),
        (
            "set_policy",
            json!({
                "peer": "nas", "mode": "pin", "pin": ["wlan0", "network:Home"], "fallback": true,
                "small": false, "metered": false,
            }),
            r#"PolicySet(PolicySet { peer: Some("nas"), mode: Pin, pin: ["wlan0", "network:Home"], fallback: true, small: false, metered: false })"#,
        ),
        (
            "set_policy",
            json!({
                "peer": null, "mode": "auto", "pin": [], "fallback": true, "small": false, "metered": false,
            }),
            "PolicySet(PolicySet { peer: None, mode: Auto, pin: [], fallback: true, small: false, metered: false })",
        ),
        (
            "set_policy",
            json!({
                "peer": null, "mode": "redundant", "pin": [], "fallback": true, "small": true, "metered": true,
            }),
            "PolicySet(PolicySet { peer: None, mode: Redundant, pin: [], fallback: true, small: true, metered: true })",
        ),
        ("clear_policy", json!({"peer": "nas"}), r#"PolicyClear(PolicyClear { peer: "nas" })"#),
        (
            "set_metered",
            json!({"name": "wlan0", "metered": "auto"}),
            r#"InterfaceSet(InterfaceSet { name: "wlan0", metered: Some(Auto), excluded: None })"#,
        ),
        (
            "set_excluded",
            json!({"name": "wlan0", "excluded": true}),
            r#"InterfaceSet(InterfaceSet { name: "wlan0", metered: None, excluded: Some(true) })"#,
        ),
        (
            "set_full_tunnel",
            json!({"name": "office", "on": false}),
            r#"PeerSet(PeerSet { name: "office", full_tunnel: Some(false), mast: None, addresses: None, own: None, presence: None })"#,
        ),
        (
            "set_addresses",
            json!({"name": "nas", "addresses": "public-only"}),
            r#"PeerSet(PeerSet { name: "nas", full_tunnel: None, mast: None, addresses: Some(PublicOnly), own: None, presence: None })"#,
        ),
        (
            "set_own",
            json!({"name": "nas", "on": true}),
            r#"PeerSet(PeerSet { name: "nas", full_tunnel: None, mast: None, addresses: None, own: Some(true), presence: None })"#,
        ),
        ("revoke_invite", json!({"id": "00c0ffee"}), r#"InviteRevoke(InviteRevoke { id: "00c0ffee" })"#),
        (
            "set_budget",
            json!({"uplink": "wwan0", "bytes": 5_000_000_000_u64}),
            r#"BudgetSet(BudgetSet { uplink: "wwan0", bytes: Some(5000000000) })"#,
        ),
        (
            "set_at_start",
            json!({"atStart": "up"}),
            "SettingsSet(SettingsSet { at_start: Some(Up), leak_protection: None, local_network: None })",
        ),
        (
            "set_leak_protection",
            json!({"on": true}),
            "SettingsSet(SettingsSet { at_start: None, leak_protection: Some(true), local_network: None })",
        ),
        (
            "set_local_network",
            json!({"on": false}),
            "SettingsSet(SettingsSet { at_start: None, leak_protection: None, local_network: Some(false) })",
        ),
    ];
    for (command, arguments, expected) in cases {
        assert_eq!(stage.invoke(command, arguments), Ok(Value::Null), "{command}");
        assert_eq!(format!("{:?}", service.last()), expected, "{command}");
    }
    let added = stage.invoke("add_link", json!({"link": " mast://1/x\n", "name": null}));
    assert_eq!(added, Ok(json!({"name": "nas"})));
    let file = json!({"fileName": "wg0.conf", "contents": "[Interface]", "name": "office"});
    assert_eq!(stage.invoke("add_file", file), Ok(json!({"name": "nas"})));
    let invite = stage.invoke("invite", json!({"expiresS": 600, "name": null})).unwrap();
    assert_eq!(
        (&invite["link"], &invite["expires"]),
        (&json!("mast://1/secret"), &json!("2026-11-24T13:00:00Z"))
    );
    let side = invite["qr"]["size"].as_u64().unwrap();
    assert_eq!(invite["qr"]["modules"].as_str().unwrap().len() as u64, side * side);
    let listed =
        json!([{"id": "00c0ffee", "name": "tablet", "expires": "2026-11-24T13:00:00Z", "state": "open"}]);
    assert_eq!(stage.invoke("invites", json!({})), Ok(listed));
    assert_eq!(stage.invoke("story", json!({"limit": 5})).unwrap()[0]["reason"], "connected");
    assert_eq!(stage.invoke("history", json!({})).unwrap()["paths"], json!([]));
    assert_eq!(stage.invoke("usage", json!({})), Ok(json!([])));
    let login = json!({"account": "alice@example.org", "password": "hush", "server": null});
    assert_eq!(stage.invoke("presence_login", login).unwrap()["account"], Value::Null);
    assert_eq!(
        format!("{:?}", service.last()),
        r#"PresenceLogin(PresenceLogin { account: "alice@example.org", password: "(secret)", server: None, .. })"#
    );
    for command in ["presence", "presence_logout"] {
        assert_eq!(stage.invoke(command, json!({})).unwrap()["peers"], json!([]), "{command}");
    }
    assert_eq!(stage.invoke("logs", json!({})), Ok(json!(["a line"])));
    assert_eq!(stage.invoke("drill", json!({"peer": "nas"})).unwrap()["verdict"], "passed");
}

#[test]
fn refusals_say_what_is_wrong_and_where() {
    let stage = Stage::new();
    let refused = |command: &str, arguments: Value| stage.invoke(command, arguments).unwrap_err();
    // Without a service.
    assert!(refused("up", json!({}))["message"].as_str().unwrap().contains("not running"));
    let _service = Running::start(&stage.socket, true);
    let old = refused("add_link", json!({"link": "mast://1/old", "name": null}));
    assert!(
        old["message"].as_str().unwrap().starts_with("this invite has expired: ask for a new one"),
        "{old}"
    );
    assert_eq!(old["field"], Value::Null);
    let gone = refused("remove_peer", json!({"name": "x"}));
    assert_eq!(gone["message"], "there is no peer `x`; there are: nas");
    let pin = json!({
        "peer": null, "mode": "pin", "pin": ["wlan9"], "fallback": true, "small": false, "metered": false,
    });
    let pin = refused("set_policy", pin);
    assert_eq!(pin["field"], "pin");
    assert_eq!(refused("pause", json!({"seconds": 0}))["field"], "seconds");
    // What need not reach the service at all.
    assert_eq!(refused("add_link", json!({"link": "https://example.org", "name": null}))["field"], "link");
    let binary = json!({"fileName": "x", "contents": "\0", "name": null});
    assert_eq!(refused("add_file", binary)["field"], "file");
    let long = json!({"fileName": "x", "contents": "x".repeat(200_000), "name": null});
    assert_eq!(refused("add_file", long)["field"], "file");
    assert_eq!(refused("read_qr", json!({"picture": "AAAA"}))["field"], "picture");
    assert_eq!(refused("set_theme", json!({"theme": "plaid"}))["field"], "theme");
    assert_eq!(refused("set_key_place", json!({"place": "cloud"}))["field"], "place");
}

#[test]
fn an_invite_that_the_app_is_started_with_is_shown_once_and_not_accepted() {
    let stage = Stage::new();
    let service = Running::start(&stage.socket, true);
    assert_eq!(stage.invoke("offered_link", json!({})), Ok(json!("mast://1/offered")));
    assert_eq!(stage.invoke("offered_link", json!({})), Ok(Value::Null));
    assert!(!service.script.asked.lock().unwrap().iter().any(|r| matches!(r, Request::PeerAdd(_))));
}

#[test]
fn the_apps_own_settings_are_kept() {
    let stage = Stage::new();
    for (command, arguments) in
        [("set_theme", json!({"theme": "dark"})), ("set_notifications", json!({"on": false}))]
    {
        assert_eq!(stage.invoke(command, arguments), Ok(Value::Null), "{command}");
    }
    let settings = stage.invoke("snapshot", json!({})).unwrap()["settings"].clone();
    assert_eq!((&settings["theme"], &settings["notifications"]), (&json!("dark"), &json!(false)));
    let args = Args { hidden: true, socket: stage.socket.clone(), link: None };
    let again = Shared::new(&args, stage.socket.parent().unwrap().join("config"));
    assert_eq!(again.settings(), stage.shared.settings());
}

#[test]
fn a_service_that_goes_is_noticed_and_found_again() {
    let stage = Stage::new();
    tauri::async_runtime::spawn(mast_desktop::keep_link(Arc::clone(&stage.shared)));
    stage.wait("told that there is no service", |s| {
        ["missing", "stopped"].contains(&s["service"]["state"].as_str().unwrap_or_default())
    });
    let ok = |s: &Value| s["service"]["state"] == "ok" && s["status"]["name"] == "laptop";
    let service = Running::start(&stage.socket, true);
    stage.wait("connected", ok);
    drop(service);
    let took = stage.wait("lost", |s| s["service"]["state"] == "lost" && s["now"]["light"] == "bad");
    assert!(took < Duration::from_secs(1), "noticed only after {took:?}");
    // What was last known is not believed for long.
    let took = stage.wait("without a status", |s| s["status"].is_null());
    assert!(took < Duration::from_secs(3), "believed for {took:?}");
    let service = Running::start(&stage.socket, false);
    stage.wait("connected again, without permission", |s| ok(s) && s["service"]["may_change"] == false);
    drop(service);
}
