//! Who may change things.
#![cfg(unix)]

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use common::Stage;
use mast_control::Access;
use serde_json::{Value, json};

#[tokio::test]
async fn everybody_may_read_and_few_may_change() {
    let stage = Stage::with_access(Access::custom(|_| false));
    let mut raw = stage.greeted().await;
    assert_eq!(raw.ask("status", json!({})).await["result"]["name"], "laptop");
    assert_eq!(raw.ask("events.subscribe", json!({})).await["result"], json!({}));
    for seeing in ["usage", "story", "history"] {
        assert_eq!(raw.code(seeing, json!({})).await, -32001, "{seeing}");
    }
    let changes = [
        ("up", json!({})),
        ("down", json!({})),
        ("peer.add", json!({"link": "mast://x"})),
        ("peer.remove", json!({"name": "home"})),
        ("invite", json!({})),
        ("policy.set", json!({"mode": "auto"})),
        ("drill", json!({"peer": "home"})),
    ];
    for (method, params) in changes {
        let reply = raw.ask(method, params).await;
        assert_eq!(reply["error"]["code"], -32001, "{method}");
        assert!(reply["error"]["message"].as_str().unwrap().contains("usermod -aG mast"), "{method}");
    }
}

#[tokio::test]
async fn the_services_own_user_may_change() {
    let stage = Stage::with_access(Access::system());
    let mut raw = stage.greeted().await;
    assert_eq!(raw.ask("up", json!({})).await["result"], json!({}));
}

#[tokio::test]
async fn a_user_database_that_hangs_holds_up_nobody() {
    let (_hang, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let stage = Stage::with_access(Access::custom(move |_| wait.lock().unwrap().recv().is_ok()));
    let begun = std::time::Instant::now();
    let mut raw = stage.greeted().await;
    assert_eq!(raw.ask("status", json!({})).await["result"]["name"], "laptop");
    let greeted = begun.elapsed();
    let refused = raw.ask("up", json!({})).await;
    assert_eq!(refused["error"]["code"], -32001);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("not known") && message.contains("user database"), "{message}");
    let all = begun.elapsed();
    assert!(greeted.as_secs() < 5 && all.as_secs() < 10, "{greeted:?} {all:?}");
    // However many ask.
    for _ in 0..20 {
        let mut raw = stage.raw().await;
        let hello =
            json!({"jsonrpc": "2.0", "id": 1, "method": "hello", "params": {"protocol": 1, "client": "x"}});
        raw.write(format!("{hello}\n").as_bytes()).await;
    }
    assert_eq!(raw.ask("status", json!({})).await["result"]["name"], "laptop");
}

#[tokio::test]
async fn the_kernel_tells_who_asks() {
    let own = nix::unistd::Uid::effective().to_string();
    let stage =
        Stage::with_access(Access::custom(move |caller| caller.user == own && caller.client == "test"));
    let mut raw = stage.greeted().await;
    assert_eq!(raw.ask("up", json!({})).await["result"], json!({}));
}

#[tokio::test]
async fn the_socket_is_open_to_everybody() {
    let stage = Stage::new();
    assert_eq!(std::fs::metadata(&stage.path).unwrap().mode() & 0o777, 0o666);
}

/// A stranger's process: it asks for the status and for a change, and prints both answers.
const STRANGER: &str = r#"
import json, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f = s.makefile("rw")
for i, (m, p) in enumerate([("hello", {"protocol": 1, "client": "stranger"}), ("status", {}), ("up", {})]):
    f.write(json.dumps({"jsonrpc": "2.0", "id": i, "method": m, "params": p}) + "\n"); f.flush()
    print(f.readline(), end="", flush=True)
"#;

#[tokio::test]
async fn another_user_may_read_but_not_change() {
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("skipped: needs root to become somebody else");
        return;
    }
    let stage = Stage::with_access(Access::system());
    std::fs::set_permissions(stage.directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = stage.path.clone();
    let run = tokio::task::spawn_blocking(move || {
        Command::new("python3")
            .args(["-c", STRANGER])
            .arg(path)
            .current_dir("/")
            .uid(65534)
            .gid(65534)
            .output()
    });
    let output = match run.await.unwrap() {
        Ok(output) => output,
        Err(error) => return eprintln!("skipped: python3 cannot be run: {error}"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers[1]["result"]["name"], "laptop");
    assert_eq!(answers[2]["error"]["code"], -32001);
}
