//! The state directory.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(unix)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mast_state::{StateDir, StateError};

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn plain(records: &[zeroize::Zeroizing<Vec<u8>>]) -> Vec<&[u8]> {
    records.iter().map(|record| record.as_slice()).collect()
}

#[test]
fn the_key_is_made_once_and_kept() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/b");
    let key = {
        let state = StateDir::open(&path).unwrap();
        assert_eq!((state.path(), mode(&path)), (path.as_path(), 0o700));
        let key = state.load_or_create_private_key().unwrap();
        assert_eq!(state.load_or_create_private_key().unwrap(), key);
        key
    };
    assert_eq!((key[0] & 7, key[31] & 0xc0), (0, 0x40), "clamped");
    let file = path.join("private.key");
    assert_eq!(mode(&file), 0o600);
    assert_eq!(STANDARD.decode(fs::read_to_string(&file).unwrap().trim()).unwrap(), *key);
    assert_eq!(StateDir::open(&path).unwrap().load_or_create_private_key().unwrap(), key);

    let other = StateDir::open(parent.path().join("c")).unwrap();
    assert_ne!(other.load_or_create_private_key().unwrap(), key);
}

#[test]
fn an_exposed_or_broken_key_is_refused_and_kept() {
    let parent = tempfile::tempdir().unwrap();
    let state = StateDir::open(parent.path()).unwrap();
    state.load_or_create_private_key().unwrap();
    let file = parent.path().join("private.key");
    let content = fs::read(&file).unwrap();
    set_mode(&file, 0o640);
    let error = state.load_or_create_private_key().unwrap_err();
    assert!(matches!(error, StateError::KeyExposed { mode: 0o640, .. }), "{error}");
    assert!(error.to_string().contains("chmod 600"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), content);

    for broken in ["", "nonsense", "AAAA", &STANDARD.encode([1; 33]), &"A".repeat(100)] {
        fs::write(&file, broken).unwrap();
        set_mode(&file, 0o600);
        let error = state.load_or_create_private_key().unwrap_err();
        assert!(matches!(error, StateError::KeyMalformed(_)), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), broken);
    }
    fs::remove_file(&file).unwrap();
    symlink("/etc/hostname", &file).unwrap();
    assert!(matches!(state.load_or_create_private_key(), Err(StateError::Io { .. })));
}

#[test]
fn a_second_daemon_is_told_who_has_it() {
    let parent = tempfile::tempdir().unwrap();
    let first = StateDir::open(parent.path()).unwrap();
    let error = StateDir::open(parent.path()).unwrap_err();
    let StateError::Locked { pid, .. } = error else { panic!("{error}") };
    assert_eq!(pid, Some(std::process::id()));
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    drop(first);
    StateDir::open(parent.path()).unwrap();
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    fs::create_dir(&path).unwrap();
    for writable in [0o770, 0o702, 0o1777] {
        set_mode(&path, writable);
        let error = StateDir::open(&path).unwrap_err();
        assert!(matches!(error, StateError::Writable { mode, .. } if mode == writable), "{error}");
        assert!(error.to_string().contains("chmod go-w"), "{error}");
    }
    set_mode(&path, 0o755);
    StateDir::open(&path).unwrap();
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let state = StateDir::open(parent.path()).unwrap();
    state.write_atomic("peers", b"mine").unwrap();
    for writable in [0o660, 0o606] {
        set_mode(parent.path().join("peers"), writable);
        let error = state.read("peers").unwrap_err();
        assert!(matches!(error, StateError::FileWritable { mode, .. } if mode == writable), "{error}");
        assert!(error.to_string().contains("chmod go-w"), "{error}");
    }
    set_mode(parent.path().join("peers"), 0o644);
    assert_eq!(*state.read("peers").unwrap().unwrap(), b"mine");
}

#[test]
fn an_unwritable_place_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(StateDir::open(&file), Err(StateError::NotADirectory(_))));
    // Not even root can make a directory in these.
    for place in [file.join("state"), "/proc/mast".into(), "/sys/mast".into()] {
        let error = StateDir::open(&place).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, StateError::Io { .. }), "{text}");
        assert!(text.contains(place.parent().unwrap().to_str().unwrap()), "{text}");
        assert!(text.contains("state directory"), "{text}");
    }
}

#[test]
fn files_are_read_back_and_replaced_whole() {
    let parent = tempfile::tempdir().unwrap();
    let state = Arc::new(StateDir::open(parent.path()).unwrap());
    assert_eq!(state.read("peers").unwrap(), None);
    state.write_atomic("peers", b"one").unwrap();
    assert_eq!(mode(parent.path().join("peers")), 0o600);
    // What a crash in the middle of writing leaves is no hindrance.
    fs::write(parent.path().join(".peers.new"), "half").unwrap();
    state.write_atomic("peers", b"two").unwrap();
    assert_eq!(*state.read("peers").unwrap().unwrap(), b"two");
    assert!(!parent.path().join(".peers.new").exists());

    // Whoever reads meanwhile sees the one or the other.
    let (short, long) = (vec![b's'; 10], vec![b'l'; 100_000]);
    state.write_atomic("big", &short).unwrap();
    let reader = {
        let (state, short, long) = (Arc::clone(&state), short.clone(), long.clone());
        std::thread::spawn(move || {
            for _ in 0..300 {
                let content = state.read("big").unwrap().unwrap();
                assert!(*content == short || *content == long, "{} bytes", content.len());
            }
        })
    };
    for _ in 0..30 {
        state.write_atomic("big", &long).unwrap();
        state.write_atomic("big", &short).unwrap();
    }
    reader.join().unwrap();
}

#[test]
fn a_failed_write_leaves_the_old_content() {
    let parent = tempfile::tempdir().unwrap();
    let state = StateDir::open(parent.path()).unwrap();
    // A directory in the file's place cannot be replaced by a file.
    fs::create_dir(parent.path().join("taken")).unwrap();
    let error = state.write_atomic("taken", b"x").unwrap_err();
    assert!(error.to_string().contains("taken"), "{error}");
    assert!(parent.path().join("taken").is_dir());
    assert!(!parent.path().join(".taken.new").exists());
}

#[test]
fn names_stay_in_the_directory() {
    let parent = tempfile::tempdir().unwrap();
    let state = StateDir::open(parent.path()).unwrap();
    for name in ["", ".", "..", "../x", "a/b", "/etc/passwd", ".hidden", "lock", "a\0b"] {
        assert!(matches!(state.read(name), Err(StateError::Name(_))), "{name:?}");
        assert!(matches!(state.write_atomic(name, b""), Err(StateError::Name(_))), "{name:?}");
    }
}

#[test]
fn a_journal_returns_what_was_added_and_is_emptied() {
    let parent = tempfile::tempdir().unwrap();
    let state = StateDir::open(parent.path()).unwrap();
    let (mut journal, records) = state.journal("peers.journal").unwrap();
    assert!(records.is_empty() && !parent.path().join("peers.journal").exists());
    for record in ["one", "", "three"] {
        journal.append(record.as_bytes()).unwrap();
    }
    assert!(journal.append(b"two\nlines").is_err());
    journal.append(b"four").unwrap();
    assert_eq!(mode(parent.path().join("peers.journal")), 0o600);
    let (mut journal, records) = state.journal("peers.journal").unwrap();
    assert_eq!(plain(&records), [&b"one"[..], b"", b"three", b"four"]);
    assert_eq!(journal.length(), fs::metadata(parent.path().join("peers.journal")).unwrap().len());
    journal.clear().unwrap();
    journal.clear().unwrap();
    assert!(!parent.path().join("peers.journal").exists());
    journal.append(b"anew").unwrap();
    assert_eq!(plain(&state.journal("peers.journal").unwrap().1), [b"anew"]);
}

#[test]
fn what_a_crash_cuts_off_is_left_out_wherever_it_cuts() {
    let parent = tempfile::tempdir().unwrap();
    let state = StateDir::open(parent.path()).unwrap();
    let file = parent.path().join("journal");
    let (mut journal, _) = state.journal("journal").unwrap();
    journal.append(b"the first").unwrap();
    let first = journal.length();
    journal.append(b"the second").unwrap();
    let whole = fs::read(&file).unwrap();
    for end in usize::try_from(first).unwrap()..whole.len() {
        for tail in [&b""[..], b"\0\0\0\0", b"\0\n\0\n"] {
            fs::write(&file, [&whole[..end], tail].concat()).unwrap();
            let (mut journal, records) = state.journal("journal").unwrap();
            assert_eq!(plain(&records), [b"the first"], "cut at {end}");
            journal.append(b"the third").unwrap();
            assert_eq!(plain(&state.journal("journal").unwrap().1), [b"the first", b"the third"]);
        }
    }
}

#[test]
fn a_journal_that_is_damaged_within_is_refused_and_kept() {
    let parent = tempfile::tempdir().unwrap();
    let state = StateDir::open(parent.path()).unwrap();
    let file = parent.path().join("journal");
    let (mut journal, _) = state.journal("journal").unwrap();
    for record in [b"one", b"two", b"six"] {
        journal.append(record).unwrap();
    }
    let damaged = fs::read_to_string(&file).unwrap().replace("two", "twо");
    fs::write(&file, &damaged).unwrap();
    let error = state.journal("journal").unwrap_err();
    assert!(matches!(error, StateError::Journal { line: 2, .. }), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), damaged);
    set_mode(&file, 0o622);
    assert!(matches!(state.journal("journal"), Err(StateError::FileWritable { .. })));
}
