//! What reads files and arguments and is private, for `tests/fuzz`: each takes any bytes, and asserts what must hold.
//!
//! Nothing of a service calls these.

use std::io::Write;
use std::path::Path;

use clap::Parser;
use mast_state::{StateDir, fingerprint};

use crate::chronicle::Chronicle;
use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::store::{self, Store};
use crate::{args, ask, notation, wgquick};

/// The configuration file.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Config::parse(Path::new("mastd.toml"), &text) {
        Ok(config) => {
            let _ = config.named_interfaces();
            assert!((1280..=9000).contains(&config.mtu));
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            let told: String = problems.iter().map(ToString::to_string).collect();
            assert!(!told.is_empty());
        }
    }
}

/// A file of wg-quick.
pub fn wgquick(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match wgquick::parse(&text) {
        Ok(file) => {
            assert!(!file.peers.is_empty());
            for peer in file.peers {
                if let Some(endpoint) = peer.endpoint {
                    assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint));
                }
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let name = wgquick::name_of_file(&text);
    assert_eq!(notation::name(&name), Ok(name.clone()));
}

/// Endpoints, keys, names, addresses and ranges as people write them.
pub fn notation(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(endpoint) = Endpoint::parse(&text) {
        assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint.clone()), "{text}");
        let _ = (endpoint.address(), endpoint.zone());
    }
    if let Ok(key) = notation::key(&text) {
        assert_eq!(notation::key(&notation::key_text(&key)), Ok(key));
    }
    let _ = notation::name(&text);
    let _ = notation::host_v4(&text);
    if let Ok(prefix) = notation::prefix(&text) {
        let masked = notation::masked(prefix);
        assert_eq!(notation::masked(masked), masked);
        assert!(prefix.contains(prefix.address) && masked.contains(prefix.address), "{text}");
    }
    assert!(!notation::suggestion(&text, &["name", "port", "interface"]).is_empty());
}

/// What a name server answers, with the number in front that was asked with; and the text that names the servers.
pub fn names(data: &[u8]) {
    const HOST: &str = "vpn.example.org";
    let text = String::from_utf8_lossy(data);
    assert!(ask::servers(&text).iter().all(|server| !server.is_loopback() && !server.is_unspecified()));
    let Some(number) = data.first_chunk().map(|bytes| u16::from_be_bytes(*bytes)) else { return };
    assert_eq!(ask::answer(data, HOST, number.wrapping_add(1)), None, "an answer to another question");
    if let Some(found) = ask::answer(data, HOST, number) {
        assert!(data.get(2).is_some_and(|flags| flags & 0x80 != 0), "a question is no answer");
        assert!(found.len() * 15 <= data.len(), "{} addresses in {} bytes", found.len(), data.len());
    }
    // Names come from configurations and requests.
    for kind in ask::KINDS {
        if let Some(asked) = ask::question(&text, number, kind) {
            assert!(asked.len() < 300, "{} bytes", asked.len());
            assert_eq!(ask::answer(&asked, &text, number), None, "a question is no answer");
        }
    }
}

/// The command line of the service, one word after each zero byte.
pub fn arguments(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let words = std::iter::once("mastd").chain(text.split('\0').filter(|word| !word.is_empty()));
    let _ = args::Args::try_parse_from(words);
}

/// What may stand between two files: a byte that no text holds.
const BETWEEN: u8 = 0xff;

/// The state directory: `peers.json`, records of its journal, `invites.json`, `settings.json`, `usage.json`,
/// `story.jsonl` and `protection.json`, one after the other. A record that begins with `=` has a digest that is right, and names the file.
pub fn state(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == BETWEEN);
    let mut next = || parts.next().unwrap_or_default();
    let peers = next().to_vec();
    let mut journal = Vec::new();
    for line in next().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Some(record) = line.strip_prefix(b"=") else {
            journal.extend(line);
            journal.push(b'\n');
            continue;
        };
        let record = [format!("{{\"follows\":\"{}\",", fingerprint(&peers)).as_bytes(), record].concat();
        journal.extend(fingerprint(&record).as_bytes().iter().take(16));
        journal.push(b' ');
        journal.extend(record);
        journal.push(b'\n');
    }
    let files = [
        ("peers.json", peers),
        ("peers.journal", journal),
        ("invites.json", next().to_vec()),
        ("settings.json", next().to_vec()),
        ("usage.json", next().to_vec()),
        ("story.jsonl", next().to_vec()),
        ("protection.json", next().to_vec()),
    ];
    in_a_directory(|path| {
        for (name, content) in &files {
            let file = path.join(name);
            if content.is_empty() {
                let _ = std::fs::remove_file(file);
            } else {
                write_private(&file, content);
            }
        }
        if let Some(guard) = store::kept_guard(path) {
            assert!(!guard.families.is_empty(), "what holds nothing back is none: {guard:?}");
        }
        let Ok(dir) = StateDir::open(path) else { return };
        match Store::load(dir, &Config::default()) {
            Ok(mut store) => {
                let (peers, invites, policy) = (store.peers().len(), store.invites().len(), store.policy());
                // What was read is written in full, and read again.
                store.fold();
                if store.save().is_err() {
                    return;
                }
                drop(store);
                let again = StateDir::open(path).map(|dir| Store::load(dir, &Config::default()));
                match again {
                    Ok(Ok(again)) => {
                        assert_eq!(
                            (again.peers().len(), again.invites().len(), again.policy()),
                            (peers, invites, policy)
                        );
                    }
                    Ok(Err(error)) => panic!("what was saved cannot be read: {error}"),
                    Err(error) => panic!("what was saved cannot be opened: {error}"),
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        let _ = Chronicle::open(path).last(10);
    });
}

/// A directory of this thread, in memory where there is such a place.
fn in_a_directory(work: impl FnOnce(&Path)) {
    let base = Path::new("/dev/shm");
    let base = if base.is_dir() { base.to_path_buf() } else { std::env::temp_dir() };
    let path = base.join(format!("mast-fuzz-{}-{:?}", std::process::id(), std::thread::current().id()));
    work(&path);
    let _ = std::fs::remove_dir_all(&path);
}

fn write_private(file: &Path, content: &[u8]) {
    // It makes the directory.
    let _ = file.parent().map(StateDir::open);
    let mut options = std::fs::OpenOptions::new();
    let open = mast_state::open_private(options.write(true).create(true).truncate(true), file);
    let _ = open.and_then(|mut file| file.write_all(content));
}
