//! Updates, from a server of this test's own: only what the right key signed for the version that is offered is taken.

#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mast_desktop::updates::{Channel, fetch, look};
use minisign::KeyPair;
use tauri::test::{MockRuntime, mock_builder, mock_context, noop_assets};

const PACKAGE: &[u8] = b"what an installer consists of";

/// Paths and what lies there.
type Listed = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Answers every request with what it has under its path.
struct Files {
    at: SocketAddr,
    files: Listed,
}

impl Files {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let files: Listed = Arc::default();
        let (at, shared) = (listener.local_addr().unwrap(), Arc::clone(&files));
        // It ends with the test's process.
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let mut lines = BufReader::new(&connection).lines().map_while(Result::ok);
                let path =
                    lines.next().and_then(|l| l.split(' ').nth(1).map(str::to_owned)).unwrap_or_default();
                let _rest: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
                let body = shared.lock().unwrap().iter().find(|(p, _)| *p == path).map(|(_, b)| b.clone());
                let (status, body) = body.map_or(("404 Not Found", Vec::new()), |b| ("200 OK", b));
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let mut connection = &connection;
                let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(&body));
            }
        });
        Self { at, files }
    }

    /// Offers a version whose package was signed by a key, as the version that it says.
    fn offer(&self, version: &str, by: &KeyPair, signed_as: &str, package: &[u8]) {
        let comment = format!("timestamp:1\tfile:mast\tversion:{signed_as}");
        let signature = minisign::sign(None, &by.sk, Cursor::new(PACKAGE), Some(&comment), None).unwrap();
        let platforms: serde_json::Map<_, _> = ["linux", "windows", "darwin"]
            .iter()
            .flat_map(|os| ["x86_64", "aarch64"].map(|arch| format!("{os}-{arch}")))
            .map(|target| {
                let url = format!("http://{}/mast", self.at);
                (
                    target,
                    serde_json::json!({ "url": url, "signature": STANDARD.encode(signature.to_string()) }),
                )
            })
            .collect();
        let described = serde_json::json!({ "version": version, "platforms": platforms });
        *self.files.lock().unwrap() =
            vec![("/updates.json".into(), described.to_string().into()), ("/mast".into(), package.to_vec())];
    }
}

fn app(files: &Files, key: &KeyPair) -> tauri::App<MockRuntime> {
    let mut context = mock_context(noop_assets());
    context.config_mut().version = Some("0.1.0".into());
    let key = STANDARD.encode(key.pk.to_box().unwrap().to_string());
    let channel = Channel { address: format!("http://{}/updates.json", files.at), key };
    channel.configure(context.config_mut(), true);
    mock_builder().plugin(tauri_plugin_updater::Builder::new().build()).build(context).unwrap()
}

#[test]
fn only_what_the_right_key_signed_for_this_version_is_taken() {
    let (ours, others) =
        (KeyPair::generate_unencrypted_keypair().unwrap(), KeyPair::generate_unencrypted_keypair().unwrap());
    let files = Files::start();
    let app = app(&files, &ours);
    let handle = app.handle();
    let taken = |files: &Files, version: &str, by: &KeyPair, signed_as: &str, package: &[u8]| {
        files.offer(version, by, signed_as, package);
        tauri::async_runtime::block_on(async {
            let update = look(handle).await?.ok_or("nothing is newer")?;
            assert_eq!(update.version, version);
            fetch(&update).await
        })
    };
    assert_eq!(taken(&files, "0.2.0", &ours, "0.2.0", PACKAGE).unwrap(), PACKAGE);
    // As old as this one, or older.
    for version in ["0.1.0", "0.0.9"] {
        assert_eq!(taken(&files, version, &ours, version, PACKAGE).unwrap_err(), "nothing is newer");
    }
    let refused = [
        taken(&files, "0.2.0", &others, "0.2.0", PACKAGE),
        taken(&files, "0.2.0", &ours, "0.2.0", b"something else"),
        // An old package under a new name.
        taken(&files, "0.2.0", &ours, "0.1.5", PACKAGE),
    ];
    for refused in refused {
        let why = refused.unwrap_err();
        assert!(why.starts_with("the update to 0.2.0 was not taken"), "{why}");
    }
    files.files.lock().unwrap().clear();
    let why = tauri::async_runtime::block_on(look(handle)).err().unwrap();
    assert!(why.starts_with("it could not be found out whether there is an update"), "{why}");
}

#[test]
fn nothing_is_looked_for_unless_it_was_built_to() {
    assert!(option_env!("MAST_UPDATES_KEY").is_some() || Channel::built_in().is_none());
}
