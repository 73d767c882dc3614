//! What the state directory does on every system.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;

use mast_state::{StateDir, StateError};

#[test]
fn the_key_is_made_once_and_kept_and_a_broken_one_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a").join("b");
    let key = StateDir::open(&path).unwrap().load_or_create_private_key().unwrap();
    assert_eq!((key[0] & 7, key[31] & 0xc0), (0, 0x40), "clamped");
    let state = StateDir::open(&path).unwrap();
    assert_eq!(state.load_or_create_private_key().unwrap(), key);
    assert_eq!(state.private_key().unwrap(), Some(key.clone()));
    state.write_atomic("private.key", b"nonsense\n").unwrap();
    assert!(matches!(state.load_or_create_private_key(), Err(StateError::KeyMalformed(_))));
    assert_eq!(fs::read(path.join("private.key")).unwrap(), b"nonsense\n", "it is not replaced");
    state.forget_private_key().unwrap();
    assert_eq!(state.private_key().unwrap(), None);
    assert_ne!(state.load_or_create_private_key().unwrap(), key);
}

#[test]
fn one_daemon_at_a_time() {
    let parent = tempfile::tempdir().unwrap();
    let first = StateDir::open(parent.path().join("state")).unwrap();
    let error = StateDir::open(first.path()).unwrap_err();
    assert!(matches!(error, StateError::Locked { .. }), "{error}");
    let path = first.path().to_owned();
    drop(first);
    StateDir::open(path).unwrap();
}

#[test]
fn files_are_replaced_whole_and_names_are_plain() {
    let parent = tempfile::tempdir().unwrap();
    let state = StateDir::open(parent.path().join("state")).unwrap();
    assert!(state.read("peers.json").unwrap().is_none());
    for content in [&b"first, and longer"[..], b"second", b""] {
        state.write_atomic("peers.json", content).unwrap();
        assert_eq!(state.read("peers.json").unwrap().unwrap().as_slice(), content);
    }
    let left = fs::read_dir(state.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, ["lock", "peers.json"]);
    for name in ["", ".x", "lock", "a/b", "a\\b", "C:x", "a\0"] {
        assert!(matches!(state.write_atomic(name, b"x"), Err(StateError::Name(_))), "{name:?}");
    }
}

#[test]
fn journals_keep_whole_records() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    {
        let state = StateDir::open(&path).unwrap();
        let (mut journal, lines) = state.journal("peers.journal").unwrap();
        assert!(lines.is_empty());
        journal.append(b"one").unwrap();
        journal.append(b"two").unwrap();
        assert!(journal.append(b"a\nb").is_err());
    }
    // A crash cut the last one off.
    let file = path.join("peers.journal");
    let content = fs::read(&file).unwrap();
    fs::write(&file, &content[..content.len() - 2]).unwrap();
    let state = StateDir::open(&path).unwrap();
    let (mut journal, lines) = state.journal("peers.journal").unwrap();
    assert_eq!(lines.iter().map(|l| l.as_slice()).collect::<Vec<_>>(), [b"one"]);
    journal.append(b"three").unwrap();
    let (mut again, lines) = state.journal("peers.journal").unwrap();
    assert_eq!(lines.len(), 2);
    drop(journal);
    again.clear().unwrap();
    assert!(!file.exists());
}
