//! What the machine's other users can and cannot do to the service, and what they are told.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]
#![cfg(unix)]

mod common;

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use common::{Fake, PATIENCE, Stage};
use mast_control::{
    Access, Caller, Client, ClientError, Event, Notice, Server, ServerOptions, Status, What, transport,
};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::sync::{broadcast, mpsc};

/// Users come by pipes, as whom they say.
struct Pipes(mpsc::Receiver<transport::Accepted>);

impl transport::Listener for Pipes {
    async fn accept(&mut self) -> std::io::Result<transport::Accepted> {
        match self.0.recv().await {
            Some(accepted) => Ok(accepted),
            None => std::future::pending().await,
        }
    }
}

struct House {
    door: mpsc::Sender<transport::Accepted>,
    notices: broadcast::Sender<Notice>,
}

impl House {
    fn new(access: Access, status: Status) -> Self {
        let (door, listener) = mpsc::channel(1);
        let options = ServerOptions::new("laptop", "1.2.3").with_access(access);
        let notices = broadcast::channel(64).0;
        let service = Fake {
            notices: notices.clone(),
            drill_dropped: mpsc::unbounded_channel().0,
            finished: mpsc::unbounded_channel().0,
            status,
        };
        tokio::spawn(Server::on(Pipes(listener), options).run(service.into(), std::future::pending()));
        Self { door, notices }
    }

    /// Comes, and says nothing.
    async fn silent(&self, user: &str, root: bool) -> tokio::io::DuplexStream {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (reader, writer) = tokio::io::split(far);
        let caller = Caller::foreign(user, root);
        let (reader, writer) = (Box::new(reader), Box::new(writer));
        self.door.send(transport::Accepted { reader, writer, caller }).await.map_err(drop).unwrap();
        near
    }

    async fn come(&self, user: &str, root: bool) -> Result<Client, ClientError> {
        let (reader, writer) = tokio::io::split(self.silent(user, root).await);
        Client::over(Box::new(reader), Box::new(writer), "test").await
    }
}

/// Members are users whose names say so.
fn rule() -> Access {
    Access::custom(|caller| caller.administrator || caller.user.starts_with("member"))
}

#[tokio::test(start_paused = true)]
async fn whoever_says_nothing_is_not_waited_for() {
    let house = House::new(rule(), Status::default());
    let mut silent = house.silent("1000", false).await;
    let begun = tokio::time::Instant::now();
    let mut said = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut said).await.unwrap();
    assert!(begun.elapsed() <= Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(String::from_utf8(said).unwrap().contains("-32007"), "it is told why");
    // Who was greeted may be silent.
    let mut greeted = house.come("1000", false).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    greeted.status().await.unwrap();
}

#[tokio::test]
async fn users_who_hold_all_that_they_can_keep_nobody_out() {
    let house = House::new(rule(), Status::default());
    let mut held = Vec::new();
    for user in ["1000", "1001"] {
        for _ in 0..64 {
            held.push(house.silent(user, false).await);
        }
    }
    let mut root = house.come("0", true).await.unwrap();
    root.up().await.unwrap();
    let mut member = house.come("member", false).await.expect("room is made of the others'");
    member.up().await.unwrap();
    let mut third = house.come("1002", false).await.expect("room is made of the others'");
    third.status().await.unwrap();
    member.up().await.unwrap();
}

#[tokio::test]
async fn lines_without_sense_hold_up_nobody() {
    let house = House::new(rule(), Status::default());
    for flood in [&b"\n"[..], b" \n\r\n", b"x\n", b"{\"id\":1}\n", b"[[[[[[[[[[[[[[[[\n"] {
        let mut noisy = house.silent("1000", false).await;
        let stream = flood.repeat(256 * 1024 / flood.len());
        tokio::spawn(async move {
            // Until the server has enough of it.
            while noisy.write_all(&stream).await.is_ok() {}
        });
    }
    let mut root = house.come("0", true).await.unwrap();
    let mut guest = house.come("1001", false).await.unwrap();
    let mut worst = Duration::ZERO;
    for _ in 0..100 {
        let begun = Instant::now();
        root.status().await.unwrap();
        worst = worst.max(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("the longest answer took {worst:?}");
    assert!(worst < Duration::from_millis(100), "{worst:?}");
    guest.status().await.unwrap();
}

#[tokio::test]
async fn a_user_who_asks_on_and_on_is_slowed_down_and_nobody_else() {
    let house = House::new(rule(), Status::default());
    let (count, mut counted) = mpsc::unbounded_channel();
    for _ in 0..8 {
        let mut client = house.come("1000", false).await.unwrap();
        let count = count.clone();
        tokio::spawn(async move { while client.status().await.is_ok() && count.send(()).is_ok() {} });
    }
    let mut member = house.come("member", false).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let begun = Instant::now();
    for _ in 0..20 {
        member.status().await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let mut answers = 0;
    while counted.try_recv().is_ok() {
        answers += 1;
    }
    println!("{answers} answers in 3 s");
    assert!((10..600).contains(&answers), "{answers}");
}

/// Everybody can open the directory of the socket, and whoever can open it can lock it.
#[tokio::test]
async fn locks_of_others_keep_no_service_from_its_start() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let path = directory.path().join("control.sock");
    drop(Server::bind(ServerOptions::new("laptop", "1.2.3").at(&path)).unwrap());
    // All that others can open.
    let mut held = vec![File::open(directory.path()).unwrap()];
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().mode();
        if mode & 0o007 != 0 && entry.metadata().unwrap().is_file() {
            held.push(File::open(entry.path()).unwrap());
        } else {
            assert_eq!(mode & 0o077, 0, "{entry:?}");
        }
    }
    for file in &held {
        file.try_lock().unwrap();
    }
    let begun = Instant::now();
    Server::bind(ServerOptions::new("laptop", "1.2.3").at(&path)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

/// A status that tells of everything that not everybody is told of.
fn telling() -> Status {
    serde_json::from_value(json!({
        "up": true, "name": "laptop", "version": "1", "public_key": "own",
        "interfaces": [{"name": "wlan0", "kind": "wifi", "network": "SECRET-SSID", "usable": true,
            "layers": [{"layer": "dns", "state": "ok", "code": "resolved", "host": "SECRET-HOST"}]}],
        "peers": [{
            "name": "home", "public_key": "SECRET-KEY", "state": "connected", "kind": "mast", "eid": {},
            "policy": {"mode": "pin", "pin": ["network:SECRET-SSID", "wlan0"]},
            "rx_bytes": 777_777, "tx_bytes": 777_777, "troubles": ["SECRET-TROUBLE"],
            "paths": [{"id": 1, "interface": "wlan0", "local": "10.0.0.1", "remote": "192.0.2.99:6278",
                "state": "validated", "active": true, "rx_bytes": 777_777, "tx_bytes": 777_777}],
            "layers": [{"layer": "dns", "state": "bad", "code": "unresolved", "host": "SECRET-HOST"}],
        }],
        "events": [{"time": "2026-01-01T00:00:00Z", "peer": "home", "code": "silent", "reason": "SECRET-EVENT"}],
        "trouble": {"layer": "dns", "code": "name-unknown", "host": "SECRET-HOST", "detail": "SECRET-HOST"},
        "refused": ["SECRET-TROUBLE"], "unkept": "SECRET-TROUBLE",
        "layers": [{"layer": "dns", "state": "bad", "code": "unresolved", "host": "SECRET-HOST",
            "detail": "SECRET-HOST"}],
        "policy": {"mode": "pin", "pin": ["network:SECRET-SSID"]},
    }))
    .unwrap()
}

fn secrets(status: &Status) -> Vec<&'static str> {
    let text = serde_json::to_string(status).unwrap();
    let all = [
        "SECRET-SSID",
        "SECRET-HOST",
        "SECRET-KEY",
        "SECRET-TROUBLE",
        "SECRET-EVENT",
        "777777",
        "192.0.2.99",
    ];
    all.into_iter().filter(|secret| text.contains(secret)).collect()
}

#[tokio::test]
async fn everybody_sees_whether_it_works_and_few_see_with_whom_and_where() {
    for open in [false, true] {
        let house = House::new(rule().open(open), telling());
        for (user, sees) in [("1000", open), ("member", true), ("0", true)] {
            let mut client = house.come(user, user == "0").await.unwrap();
            let status = client.status().await.unwrap();
            assert_eq!(status.redacted, !sees, "{user} {open}");
            assert_eq!(secrets(&status).is_empty(), !sees, "{user} {open}: {:?}", secrets(&status));
            assert!(sees || status.peers[0].state.answers() && status.peers[0].name == "home");
            assert!(sees || status.peers[0].paths[0].active && status.interfaces[0].usable);
            // What happened is told to whoever sees; everybody hears that something did.
            let mut subscription = client.subscribe().await.unwrap();
            let event = Event::now("home", What::Silent);
            house.notices.send(event.clone().into()).unwrap();
            let heard = tokio::time::timeout(PATIENCE, subscription.next()).await.unwrap().unwrap();
            assert_eq!(heard, if sees { Notice::from(event) } else { Notice::StatusChanged });
        }
    }
}

#[tokio::test]
async fn the_lock_goes_with_nobody_elses_directory() {
    let stage = Stage::new();
    let entries = std::fs::read_dir(stage.path.parent().unwrap()).unwrap();
    let locks: Vec<_> = entries.filter_map(|e| e.ok()).filter(|e| e.path() != stage.path).collect();
    assert_eq!(locks.len(), 1, "{locks:?}");
    assert_eq!(locks[0].metadata().unwrap().mode() & 0o777, 0o700);
}
