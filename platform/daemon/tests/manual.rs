//! The manual's example of a configuration, as the service reads it.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::process::Command;

const MANUAL: &str = include_str!("../../../docs/manual.md");

#[test]
fn the_example_of_the_manual_is_a_configuration() {
    let example = MANUAL.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    // Each key that is left out becomes one of its own.
    let mut keys = ["AAAA", "BBBB", "CCCC", "DDDD"].iter();
    let parts: Vec<_> = example.split("\"…\"").collect();
    assert_eq!(parts.len(), 4, "three keys are left out");
    let mut text = String::new();
    for (index, part) in parts.iter().enumerate() {
        text.push_str(part);
        if index + 1 < parts.len() {
            text.push_str(&format!("\"{}A=\"", keys.next().unwrap().repeat(11).get(..42).unwrap()));
        }
    }
    let directory = tempfile::tempdir().unwrap();
    // What is absolute begins with a drive where there are drives.
    let root = directory.path().ancestors().last().unwrap().display().to_string().replace('\\', "/");
    let text = text.replace("= \"/", &format!("= \"{root}"));
    let check = |text: &str| {
        let file = directory.path().join("mastd.toml");
        std::fs::write(&file, text).unwrap();
        let mut mastd = Command::new(env!("CARGO_BIN_EXE_mastd"));
        let output = mastd.arg("--check").arg("--config").arg(&file).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (good, said) = check(&text);
    assert!(good, "{said}");
    // Keys that the service does not know would not pass.
    let (good, said) = check(&format!("colour = \"red\"\n{text}"));
    assert!(!good && said.contains("colour"), "{said}");
}
