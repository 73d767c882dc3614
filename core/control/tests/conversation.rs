//! What is said, over a real socket.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{PATIENCE, Raw, Stage};
use mast_control::transport::{Accepted, Listener};
use mast_control::{
    Client, ClientError, ErrorCode, Event, Mismatch, Notice, PROTOCOL, PeerAdd, PolicyClear, Request, Side,
    Socket, Verdict, What, Why,
};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
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
async fn what_is_in_effect_and_not_kept_is_told() {
    let stage = Stage::new();
    let mut client = Client::connect(&stage.path).await.unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    client.when_unkept(move |why| tell.send(why.to_owned()).unwrap());
    client.up().await.unwrap();
    assert!(told.try_recv().is_err(), "it is kept");
    client.done(&Request::PolicyClear(PolicyClear { peer: "home".into() })).await.unwrap();
    assert_eq!(told.try_recv().as_deref(), Ok("the disk is full"));
    let mut raw = stage.greeted().await;
    let answer = raw.ask("policy.clear", json!({"peer": "home"})).await;
    assert_eq!(answer["result"], json!({"unkept": "the disk is full"}));
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
    assert!(newer["error"]["message"].as_str().unwrap().contains("upgrade mastd"));
    let data = &newer["error"]["data"];
    assert_eq!((&data["why"], &data["client"]), (&json!("version"), &json!(PROTOCOL + 1)));
    assert_eq!((&data["service"], &data["service_version"]), (&json!(PROTOCOL), &json!("1.2.3")));
    let older = raw.ask("hello", json!({"protocol": PROTOCOL - 1, "client": "x"})).await;
    let message = older["error"]["message"].as_str().unwrap();
    assert!(message.contains("upgrade this program") && !message.contains("the service"), "{message}");
    assert_eq!(raw.code("status", json!({})).await, -32007);
}

/// What a client makes of a service that answers its greeting like this.
async fn greeted_with(reply: serde_json::Value) -> Mismatch {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut socket = Socket::bind(&path, false).unwrap();
    tokio::spawn(async move {
        let Accepted { reader, mut writer, .. } = socket.accept().await.unwrap();
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).await.unwrap();
        writer.write_all(format!("{reply}\n").as_bytes()).await.unwrap();
    });
    match Client::connect(&path).await {
        Err(ClientError::Version(mismatch)) => mismatch,
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn the_client_knows_which_side_is_older() {
    let agreed = |protocol| json!({"jsonrpc": "2.0", "id": 1, "result": {"protocol": protocol, "version": "9.0", "new": []}});
    let newer = greeted_with(agreed(PROTOCOL + 98)).await;
    assert_eq!(newer.older(), Side::Client);
    assert!(newer.to_string().contains("upgrade this program"), "{newer}");
    assert_eq!(greeted_with(agreed(PROTOCOL - 1)).await.older(), Side::Service);
    let refused = |data| json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32006, "message": "the service", "data": data}});
    let newer = refused(json!({"why": "version", "client": PROTOCOL, "service": PROTOCOL + 1}));
    assert_eq!(greeted_with(newer).await.older(), Side::Client);
    let older = refused(json!({"why": "version", "client": PROTOCOL, "service": PROTOCOL - 1}));
    assert_eq!(greeted_with(older).await.older(), Side::Service);
    // A service from before the numbers travelled.
    assert_eq!(greeted_with(refused(json!(null))).await.older(), Side::Service);
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
            assert_eq!(*error.why, Why::NoPeer { name: "hom".into() });
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
    let event = Notice::from(Event { gap_ms: Some(140.0), ..Event::now("home", What::Silent) });
    for notice in [event, Notice::StatusChanged, Notice::Missed(7)] {
        stage.notices.send(notice.clone()).unwrap();
        assert_eq!(subscription.next().await.unwrap(), notice);
    }
    stage.stop().await;
    assert!(matches!(subscription.next().await, Err(ClientError::Closed)));
}

#[tokio::test]
async fn one_peer_can_be_asked_of_an_older_service_too() {
    // It knows neither `peer` nor `check`, and tells of all.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut socket = Socket::bind(&path, false).unwrap();
    tokio::spawn(async move {
        let Accepted { reader, mut writer, .. } = socket.accept().await.unwrap();
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let asked: serde_json::Value = serde_json::from_str(&line).unwrap();
            let peer = json!({"name": "home", "public_key": "", "state": "connected", "kind": "mast", "eid": {},
                              "policy": {"mode": "auto"}});
            let (key, value) = match asked["method"].as_str().unwrap() {
                "hello" => ("result", json!({"protocol": 1, "version": "0.1.0"})),
                "status" => (
                    "result",
                    json!({"up": true, "name": "", "version": "", "public_key": "", "peers": [peer]}),
                ),
                _ => ("error", json!({"code": -32601, "message": "there is no such method"})),
            };
            let answer = json!({"jsonrpc": "2.0", "id": asked["id"], key: value});
            writer.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
        }
    });
    let mut client = Client::connect(&path).await.unwrap();
    assert_eq!(client.peer("home").await.unwrap().peer.name, "home");
    client.check(Some("home")).await.unwrap();
    match client.peer("hom").await {
        Err(ClientError::Refused(error)) => assert_eq!(error.known, ["home"]),
        other => panic!("{other:?}"),
    }
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
    assert!(error.to_string().contains(common::START));
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
    if common::HALVES {
        assert_eq!(quitter.read().await, None);
    }
}
