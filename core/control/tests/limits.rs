//! What clients without manners can and cannot do.

mod common;

use std::time::{Duration, Instant};

use common::Stage;
use mast_control::{Client, Event, MAX_LINE, Notice};
use serde_json::json;
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn an_oversized_line_ends_the_connection() {
    let stage = Stage::new();
    for end in ["", "\n"] {
        let mut raw = stage.greeted().await;
        let long = "x".repeat(MAX_LINE + 1) + end;
        // The server may close before it has read everything.
        let _ = raw.writer.write_all(long.as_bytes()).await;
        let reply = raw.read().await.unwrap();
        assert_eq!(reply["error"]["code"], -32600);
        assert!(reply["error"]["message"].as_str().unwrap().contains("262144"));
        assert_eq!(raw.read().await, None);
    }
    let mut raw = stage.greeted().await;
    let padding = "x".repeat(MAX_LINE - 200);
    assert_eq!(raw.code("peer.remove", json!({"name": padding})).await, -32002);
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_hurts_nobody_and_finds_a_mark_in_the_gap() {
    let stage = Stage::new();
    let mut deaf = stage.greeted().await;
    assert_eq!(deaf.ask("events.subscribe", json!({})).await["result"], json!({}));
    let mut listener = Client::connect(&stage.path).await.unwrap().subscribe().await.unwrap();

    let event = Event::told("home", "x".repeat(16 * 1024));
    for number in 0..400 {
        let event = Event { gap_ms: Some(f64::from(number)), ..event.clone() };
        let started = Instant::now();
        stage.notices.send(event.clone().into()).unwrap();
        assert!(started.elapsed() < Duration::from_secs(1), "the service waited for a subscriber");
        assert_eq!(listener.next().await.unwrap(), Notice::from(event));
    }
    let mut heard = Vec::new();
    let mut missed = 0;
    while heard.last() != Some(&399) {
        let message = deaf.read().await.unwrap();
        match message["method"].as_str() {
            Some("event") => heard.push(message["params"]["gap_ms"].as_f64().unwrap() as u64),
            _ => {
                assert_eq!(message["method"], "events.lost");
                missed += message["params"]["missed"].as_u64().unwrap();
                assert_eq!(heard.len() as u64, *heard.last().unwrap() + 1, "the mark is where the gap is");
            }
        }
    }
    assert!(heard.len() < 400, "{} messages were kept for a client that did not read", heard.len());
    assert_eq!(heard.len() as u64 + missed, 400, "each is told or counted");
    assert_eq!(deaf.ask("status", json!({})).await["result"]["name"], "laptop");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_at_all_is_disconnected() {
    let stage = Stage::new();
    let mut deaf = stage.greeted().await;
    // Asks on and on, and reads nothing: at some point the server neither reads nor keeps more.
    let question = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\"}\n".repeat(1000);
    let mut asked = 0;
    while asked < 1000 && deaf.writer.write_all(&question).await.is_ok() {
        asked += 1;
    }
    assert!(asked < 1000, "the server read everything without an answer being taken");
    let mut raw = stage.greeted().await;
    assert_eq!(raw.ask("status", json!({})).await["result"]["name"], "laptop");
}

#[tokio::test]
async fn connections_are_bounded_and_come_back() {
    let stage = Stage::new();
    let mut held = Vec::new();
    let refusal = loop {
        assert!(held.len() <= 64, "no bound");
        let mut raw = stage.raw().await;
        let hello =
            json!({"jsonrpc": "2.0", "id": 1, "method": "hello", "params": {"protocol": 1, "client": "x"}});
        let _ = raw.writer.write_all(format!("{hello}\n").as_bytes()).await;
        let reply = raw.read().await.unwrap();
        if reply.get("error").is_some() {
            break reply;
        }
        held.push(raw);
    };
    assert_eq!(refusal["error"]["code"], -32005);
    assert!(held.len() >= 40);
    assert!(Client::connect(&stage.path).await.is_err());
    for raw in &mut held {
        assert_eq!(raw.ask("status", json!({})).await["result"]["name"], "laptop");
    }
    held.clear();
    let mut attempts = 0;
    while Client::connect(&stage.path).await.is_err() {
        attempts += 1;
        assert!(attempts < 100, "the places never came back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
