//! Every target over its corpus, and over a number of changes to it that is the same each time.
//!
//! `MAST_FUZZ_RUNS=1000000 cargo test --release -p mast-fuzz --test bounded message` tries more of them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use mast_fuzz::{TARGETS, Target, mutate};

/// The corpus, in the order of the files' names.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let mut files: Vec<_> =
        std::fs::read_dir(target.corpus()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Runs one input; what fails is said so that it can be put into a file of the corpus.
fn run(target: &Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        let mut hex = String::new();
        for byte in input {
            write!(hex, "{byte:02x}").unwrap();
        }
        eprintln!("target {}: `echo {hex} | xxd -r -p > case`", target.name);
        resume_unwind(panic);
    }
}

fn bounded(name: &str) {
    let target = Target::named(name).unwrap();
    let corpus = corpus(&target);
    assert!(!corpus.is_empty(), "{name} has a corpus");
    for input in &corpus {
        run(&target, input);
    }
    run(&target, &[]);
    let runs = std::env::var("MAST_FUZZ_RUNS").map_or(target.runs, |runs| runs.parse().unwrap());
    let mut random = mutate::Random::of(name);
    for _ in 0..runs {
        let mut input = corpus[random.below(corpus.len())].clone();
        mutate::change(&mut random, &mut input, &corpus, target.words, target.longest);
        run(&target, &input);
    }
}

macro_rules! targets {
    ($($test:ident = $name:literal,)*) => {
        $(#[test] fn $test() { bounded($name); })*
        const TESTED: &[&str] = &[$($name),*];
    };
}

targets! {
    message = "message",
    sealed = "sealed",
    contexts = "contexts",
    plain = "plain",
    encapsulated = "encapsulated",
    stun = "stun",
    datagram = "datagram",
    frame = "frame",
    coalesced = "coalesced",
    link = "link",
    pairing = "pairing",
    wireguard = "wireguard",
    request = "request",
    response = "response",
    event = "event",
    config = "config",
    wgquick = "wgquick",
    notation = "notation",
    state = "state",
    arguments = "arguments",
    netlink = "netlink",
    nftables = "nftables",
    control = "control",
    names = "names",
    dns = "dns",
    lan = "lan",
    vnet = "vnet",
    system_text = "system-text",
}

#[test]
fn every_target_is_run_and_has_a_small_corpus() {
    let all: BTreeSet<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(TESTED.iter().copied().collect::<BTreeSet<_>>(), all);
    let bytes: usize = TARGETS.iter().flat_map(corpus).map(|file| file.len()).sum();
    assert!(bytes < 300_000, "{bytes} bytes");
}
