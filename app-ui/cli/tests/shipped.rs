//! What is shipped has neither the service nor the test lab in it. Asks cargo, of all systems' builds alike.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::process::Command;

/// The names of the crates of this repository in a build of the command line.
fn linked(more: &[&str]) -> Vec<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args([
        "tree",
        "--package",
        "mast-cli",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--offline",
        "--locked",
    ]);
    let ran = tree.args(more).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let text = String::from_utf8(ran.stdout).unwrap();
    let mut names: Vec<String> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|n| n.starts_with("mast"))
        .map(Into::into)
        .collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn the_shipped_program_links_the_control_api_alone() {
    assert_eq!(linked(&["--no-default-features"]), ["mast-cli", "mast-control"]);
    // Else this would look in the wrong place.
    assert!(linked(&[]).iter().any(|name| name == "mastd"), "{:?}", linked(&[]));
}
