//! What is said, over a real socket.

mod common;

use common::{PATIENCE, Raw, Stage};
use mast_control::{Client, ClientError, ErrorCode, Event, Notice, PROTOCOL, PeerAdd, Verdict};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::time::timeout;

#[tokio::test]
async fn greets_and_answers() {
    let stage = Stage::new();
    let mut client = Client::connect(&stage.path).await.unwrap();
    assert_eq!((client.server().version.as_str(), client.server().name.as_str()), ("1.2.3", "laptop"));
    assert_eq!(client.status().await.unwrap().name, "laptop");
    client.up().await.unwrap();
    let added = client
        .peer_add(PeerAdd { link: Some("mast://x".into()), name: Some("home".into()), file: None })
        .await
        .unwrap();
    assert_eq!(added.name, "home");
    stage.stop().await;
    assert!(matches!(client.status().await, Err(ClientError::Closed)));
}

#[tokio::test]
async fn hello_must_come_first() {
    let stage = Stage::new();
    let mut raw = stage.raw().await;
    assert_eq!(raw.code("status", json!({})).await, -32007);
    assert_eq!(raw.code("no.such", json!({})).await, -32007);
    let reply = raw.ask("hello", json!({"protocol": PROTOCOL, "client": "x", "later": 1})).await;
    assert_eq!(
        reply["result"],
        json!({"protocol": PROTOCOL, "version": "1.2.3", "name": "laptop", "may_change": true})
    );
    assert_eq!(reply["id"], "q");
    assert_eq!(raw.ask("status", json!(null)).await["result"]["name"], "laptop");
}

#[tokio::test]
async fn another_version_is_told_which_side_to_upgrade() {
    let stage = Stage::new();
    let mut raw = stage.raw().await;
    let newer = raw.ask("hello", json!({"protocol": PROTOCOL + 1, "client": "x"})).await;
    assert_eq!(newer["error"]["code"], -32006);
    assert!(newer["error"]["message"].as_str().unwrap().contains("upgrade the service"));
    let older = raw.ask("hello", json!({"protocol": PROTOCOL - 1, "client": "x"})).await;
    assert!(older["error"]["message"].as_str().unwrap().contains("upgrade the client"));
    assert_eq!(raw.code("status", json!({})).await, -32007);
}

#[tokio::test]
async fn the_client_refuses_another_version() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut line = String::new();
        BufReader::new(&mut stream).read_line(&mut line).await.unwrap();
        let reply =
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"protocol\":99,\"version\":\"9.0\",\"new\":[]}}\n";
        stream.write_all(reply).await.unwrap();
    });
    match Client::connect(&path).await {
        Err(ClientError::Version(text)) => assert!(text.contains("upgrade this program"), "{text}"),
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn refusals_have_their_codes() {
    let stage = Stage::new();
    let mut raw = stage.greeted().await;
    assert_eq!(raw.code("no.such", json!({})).await, -32601);
    assert_eq!(raw.code("invite", json!({"expires_s": "x"})).await, -32602);
    assert_eq!(raw.code("peer.add", json!({})).await, -32602);
    assert_eq!(raw.code("doctor", json!({})).await, -32005);
    let missing = raw.ask("peer.remove", json!({"name": "hom"})).await;
    assert_eq!(missing["error"]["code"], -32002);
    assert_eq!(missing["error"]["data"]["known"], json!(["home", "work"]));

    let mut client = Client::connect(&stage.path).await.unwrap();
    match client.peer_remove("hom").await {
        Err(ClientError::Refused(error)) => {
            assert_eq!((error.code, error.known.len()), (ErrorCode::NotFound, 2));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn malformed_requests_are_answered_and_forgiven() {
    let stage = Stage::new();
    let mut raw = stage.greeted().await;
    let cases: [(&[u8], i64); 9] = [
        (b"hello?\n", -32700),
        (b"\xff\xfe\x00\n", -32700),
        (b"{\"jsonrpc\":\"2.0\",\n", -32700),
        (b"[]\n", -32600),
        (b"7\n", -32600),
        (b"{\"jsonrpc\":\"2.0\",\"method\":\"status\"}\n", -32600),
        (b"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"status\"}\n", -32600),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":5}\n", -32600),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\",\"params\":[1]}\n", -32602),
    ];
    for (line, code) in cases {
        raw.write(line).await;
        assert_eq!(raw.read().await.unwrap()["error"]["code"], code, "{}", String::from_utf8_lossy(line));
    }
    let deep = [vec![b'['; 100_000], b"\n".to_vec()].concat();
    raw.write(&deep).await;
    assert_eq!(raw.read().await.unwrap()["error"]["code"], -32700);
    raw.write(b"\n  \r\n").await;
    assert_eq!(raw.ask("status", json!({})).await["result"]["name"], "laptop");
}

#[tokio::test]
async fn answers_come_in_order() {
    let stage = Stage::new();
    let mut raw = stage.greeted().await;
    let many: String =
        (0..200).map(|id| format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"status\"}}\r\n")).collect();
    raw.write(many.as_bytes()).await;
    for id in 0..200 {
        assert_eq!(raw.read().await.unwrap()["id"], id);
    }
}

#[tokio::test]
async fn events_reach_subscribers() {
    let stage = Stage::new();
    let mut subscription = Client::connect(&stage.path).await.unwrap().subscribe().await.unwrap();
    let event = Event { gap_ms: Some(140.0), ..Event::now("home", "went silent") };
    stage.notices.send(Notice::Event(event.clone())).unwrap();
    stage.notices.send(Notice::StatusChanged).unwrap();
    assert_eq!(subscription.next().await.unwrap(), Notice::Event(event));
    assert_eq!(subscription.next().await.unwrap(), Notice::StatusChanged);
    stage.stop().await;
    assert!(matches!(subscription.next().await, Err(ClientError::Closed)));
}

#[tokio::test]
async fn a_drill_tells_its_progress() {
    let stage = Stage::new();
    let mut client = Client::connect(&stage.path).await.unwrap();
    let mut heard = Vec::new();
    let report = client.drill("home", |progress| heard.push(progress.message)).await.unwrap();
    assert_eq!(report.verdict, Verdict::Passed);
    assert_eq!(heard, ["home 0", "home 1", "home 2"]);
}

#[tokio::test]
async fn a_drill_ends_with_its_client() {
    let mut stage = Stage::new();
    let mut raw = stage.greeted().await;
    raw.write(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"drill\",\"params\":{\"peer\":\"endless\"}}\n")
        .await;
    assert_eq!(raw.read().await.unwrap()["method"], "drill.progress");
    drop(raw);
    timeout(PATIENCE, stage.dropped_drills.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_panic_in_one_call_is_answered() {
    let stage = Stage::new();
    let mut other = stage.greeted().await;
    let mut raw = stage.greeted().await;
    assert_eq!(raw.code("down", json!({})).await, -32603);
    assert_eq!(raw.ask("up", json!({})).await["result"], json!({}));
    assert_eq!(other.ask("status", json!({})).await["result"]["name"], "laptop");
}

#[tokio::test]
async fn a_change_is_finished_though_its_client_is_gone() {
    let mut stage = Stage::new();
    let mut raw = stage.greeted().await;
    raw.write(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"invite\"}\n").await;
    drop(raw);
    timeout(PATIENCE, stage.finished.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn nobody_there_says_how_to_start() {
    let directory = tempfile::tempdir().unwrap();
    let error = Client::connect(directory.path().join("none")).await.err().unwrap();
    assert!(matches!(error, ClientError::NotRunning { .. }));
    assert!(error.to_string().contains("sudo systemctl start mastd"));
}

#[tokio::test]
async fn a_half_line_waits_for_its_other_half() {
    let stage = Stage::new();
    let mut raw = stage.greeted().await;
    raw.write(b"{\"jsonrpc\":\"2.0\",\"id\":1,").await;
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    raw.write(b"\"method\":\"status\"}\n").await;
    assert_eq!(raw.read().await.unwrap()["id"], 1);

    let mut quitter: Raw = stage.greeted().await;
    quitter.write(b"{\"jsonrpc\":\"2.0\",\"id\":1").await;
    quitter.writer.shutdown().await.unwrap();
    assert_eq!(quitter.read().await, None);
}
