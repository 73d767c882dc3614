//! Nothing of one operating system outside `platform` and a few named places: what differs per system is behind the
//! traits of the core. Reads the sources, since a build for one system cannot tell.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

/// Where it is looked.
const ROOTS: [&str; 5] = [
    "core",
    "app-ui/cli/src",
    "app-ui/desktop/src-tauri/src",
    "platform/daemon/src",
    "platform/state/src/lib.rs",
];
/// What tells one system from another, or belongs to one.
const WORDS: [&str; 18] = [
    "std::os::unix",
    "std::os::fd",
    "std::os::windows",
    "nix::",
    "libc::",
    "errno",
    "Errno",
    "raw_os_error",
    "from_raw_os_error",
    "UnixStream",
    "UnixListener",
    "signal::unix",
    "sd_notify",
    "target_os",
    "target_vendor",
    "target_family",
    "cfg(unix",
    "cfg(windows",
];
/// Files and folders that may: each is the leaf in which a trait is implemented, or names the leaf.
const LEAVES: [&str; LEAF_COUNT] = [
    // Where the service listens, how it is reached, who may change things.
    "core/control/src/native",
    // Signals and systemd.
    "platform/daemon/src/life",
    // Names the leaf.
    "platform/state/src/lib.rs",
    // The demonstration builds its networks of Linux namespaces.
    "app-ui/cli/src/demo",
    // Whom the app asks, what it says to type; WebKit's way to draw, the panel of a desktop, its settings.
    "app-ui/desktop/src-tauri/src/system.rs",
    "app-ui/desktop/src-tauri/src/main.rs",
    "app-ui/desktop/src-tauri/src/panel.rs",
    "app-ui/desktop/src-tauri/src/portal.rs",
];
const LEAF_COUNT: usize = 8;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(at: &Path, into: &mut Vec<PathBuf>) {
    if at.is_file() {
        into.push(at.to_owned());
        return;
    }
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !matches!(name.as_str(), "tests" | "benches" | "examples" | "target") {
            sources(&path, into);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            into.push(path);
        }
    }
}

/// The lines of a source that are of one system, by number, without its comments and what comes after the line that
/// begins its tests.
fn found(text: &str) -> Vec<(usize, &str)> {
    let code = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    let of_one_system = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        WORDS.iter().any(|word| code.contains(word))
            || code.contains("cfg(not(unix")
            || code.contains("cfg(not(windows")
            || code.contains("cfg!(unix")
            || code.contains("cfg!(windows")
    };
    code.enumerate().filter(|(_, line)| of_one_system(line)).map(|(at, line)| (at + 1, line.trim())).collect()
}

#[test]
fn nothing_of_one_system_outside_its_leaves() {
    let mut files = Vec::new();
    for at in ROOTS {
        sources(&root().join(at), &mut files);
    }
    assert!(files.len() > 100, "the sources are elsewhere: {}", files.len());
    let mut offences = Vec::new();
    let mut used = vec![false; LEAVES.len()];
    for file in files {
        let name = file.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&file).unwrap();
        let lines = found(&text);
        match LEAVES.iter().position(|leaf| name.starts_with(leaf)) {
            Some(leaf) => used[leaf] |= !lines.is_empty(),
            None => offences.extend(lines.into_iter().map(|(at, line)| format!("{name}:{at}: {line}"))),
        }
    }
    assert!(offences.is_empty(), "of one operating system, outside its leaf:\n{}", offences.join("\n"));
    for (leaf, used) in LEAVES.iter().zip(used) {
        assert!(used, "`{leaf}` holds nothing of one system any more: take it off the list");
    }
}

#[test]
fn the_search_finds_what_it_is_for() {
    for line in [
        "use std::os::unix::fs::OpenOptionsExt;",
        "    #[cfg(unix)]",
        "#[cfg(not(windows))]",
        "    if cfg!(target_os = \"linux\") {",
        "let code = error.raw_os_error();",
        "        use tokio::signal::unix::{SignalKind, signal};",
        "let stream = tokio::net::UnixStream::connect(path).await?;",
        "Err(Errno::EAGAIN) => None,",
    ] {
        assert_eq!(found(line).len(), 1, "{line}");
    }
    for line in ["// as libc::read does", "#[cfg(target_arch = \"x86\")]", "let unix = 3;"] {
        assert_eq!(found(line).len(), 0, "{line}");
    }
    assert_eq!(found("#[cfg(test)]\nmod tests {\n    use std::os::unix::net::UnixListener;").len(), 0);
}
