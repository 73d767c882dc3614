//! The documents against what is there: links lead somewhere, and the manual has every command.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// More would not be read.
const README_WORDS: usize = 1200;
/// Folders that hold no documents of ours.
const FOREIGN: [&str; 4] = [".git", "dist", "node_modules", "target"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Every document below a folder.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !FOREIGN.contains(&name) {
            documents(&path, found);
        } else if path.extension().is_some_and(|e| e == "md") {
            found.push(path);
        }
    }
}

/// The text without blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// What links inside the repository lead to.
fn links(text: &str) -> Vec<String> {
    let lines = prose(text).flat_map(|line| line.split("](").skip(1));
    let targets = lines.filter_map(|rest| rest.split_once(')').map(|(target, _)| target.to_owned()));
    targets.filter(|target| !target.contains("://")).collect()
}

/// The anchors of a document's headings, as forges make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let kept = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        title.chars().filter(|&c| kept(c)).collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut found = Vec::new();
    documents(&root(), &mut found);
    let mut dead = Vec::new();
    let mut checked = 0;
    for document in &found {
        let text = fs::read_to_string(document).unwrap();
        for link in links(&text) {
            checked += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            let is_there = target.exists()
                && (anchor.is_empty() || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor));
            if !is_there {
                dead.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
    assert!(checked > 50, "only {checked} links were found in {} documents", found.len());
}

#[test]
fn the_readme_is_short_and_has_what_it_must() {
    let readme = read("README.md");
    let words = readme.split_whitespace().count();
    assert!(words < README_WORDS, "{words} words: move something to docs/");
    for part in ["`cargo run --release -- demo`", "`tests/run`", "\n<!-- demo -->\n```text\n", "*EID* ("] {
        assert!(readme.contains(part), "{part}");
    }
}

/// What `--help` says after these words.
fn help(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_mast")).args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let listed = help.split("Commands:\n").nth(1).unwrap_or_default();
    let lines = listed.lines().take_while(|line| line.starts_with("  "));
    // What is indented more goes on with the line before.
    let starts = lines.filter(|line| !line.starts_with("   "));
    starts.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

/// The long options that a help text lists.
fn options(help: &str) -> Vec<String> {
    let listed = help.split("Options:\n").nth(1).unwrap_or_default();
    let words = listed.lines().flat_map(|line| line.split_whitespace().take(2));
    words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
}

#[test]
fn the_manual_has_every_command_and_option() {
    let manual = read("docs/manual.md");
    let mut todo: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = 0;
    while let Some(words) = todo.pop() {
        let text = help(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let name = format!("mast {}", words.join(" "));
        assert!(manual.contains(&format!("`{}", name.trim())), "docs/manual.md has no `{name}`");
        for option in
            options(&text).iter().filter(|option| !["--help", "--version"].contains(&option.as_str()))
        {
            assert!(manual.contains(option.as_str()), "docs/manual.md does not have {option} of `{name}`");
        }
        seen += 1;
        todo.extend(commands(&text).into_iter().map(|command| [words.clone(), vec![command]].concat()));
    }
    assert!(seen > 15, "only {seen} commands were found");
}

#[test]
fn the_documents_name_no_command_that_is_not_there() {
    let known = commands(&help(&[]));
    for document in ["README.md", "docs/manual.md", "docs/security.md", "docs/comparison.md"] {
        let text = read(document);
        for rest in text.split("`mast ").skip(1) {
            let word = rest.split(|c: char| c.is_whitespace() || c == '`').next().unwrap();
            // The demonstration is in a build from the sources alone.
            let left_out = word == "demo" && !cfg!(feature = "demo");
            let is_there =
                known.iter().any(|k| k == word) || word.starts_with('-') || word == "COMMAND" || left_out;
            assert!(is_there, "{document}: `mast {word}`");
        }
    }
}
