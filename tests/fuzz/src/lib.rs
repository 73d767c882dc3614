//! Fuzzing targets for everything that reads bytes from outside, and for the protocol's state machine.
//!
//! A [`Target`] is a function that takes any bytes and asserts what must hold for all of them. Each is run in two ways:
//!
//! - `cargo test -p mast-fuzz`: the committed corpus, and a number of changes to it that is the same each time
//!   (`tests/bounded.rs`, [`mutate`]);
//! - `tests/fuzz/guided TARGET SECONDS`: libFuzzer, which keeps what reaches code that nothing before reached.
//!
//! `core/SECURITY.md`, section 10, says which target is for what.

// The command line's own, since the program is no library.
#[allow(
    dead_code,
    unexpected_cfgs,
    reason = "only what is parsed is of interest here; it is not built with its features"
)]
#[path = "../../../app-ui/cli/src/args.rs"]
mod args;
mod contexts;
mod evil;
pub mod mutate;
mod plain;
mod wire;

use std::path::PathBuf;

use blake2::Blake2sMac;
use blake2::digest::consts::U16;
use blake2::digest::{Digest, KeyInit, Mac};
use clap::Parser;

/// Something that reads bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Takes any bytes; panics where something does not hold.
    pub run: fn(&[u8]),
    /// The longest input that is worth trying, in bytes.
    pub longest: usize,
    /// So many changed inputs are tried in `cargo test`.
    pub runs: usize,
    /// Words that inputs are made of, for the changes.
    pub words: &'static [&'static str],
}

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "null",
    "true",
    "-1",
    "18446744073709551616",
    "1e999",
    "\\ud800",
    "\n",
    "\"id\":",
    "\"jsonrpc\":\"2.0\"",
    "\"method\":",
    "\"params\":",
    "\"name\":",
    "\"version\":",
];
const TOML: &[&str] = &[
    "\n[[peer]]\n",
    "name = ",
    "public_key = ",
    "endpoints = ",
    "[",
    "]",
    "\"",
    "{",
    "}",
    "=",
    "0x",
    "policy = ",
    "mode = ",
    "\"\"\"",
    "'",
    "#",
    "\n",
];
const WGQUICK: &[&str] = &[
    "[Interface]\n",
    "[Peer]\n",
    "PrivateKey = ",
    "PublicKey = ",
    "Address = ",
    "AllowedIPs = ",
    "Endpoint = ",
    "0.0.0.0/0",
    "::/0",
    ",",
    "#",
    "PostUp = ",
    "$(",
    "\r\n",
    "PresharedKey = ",
    "DNS = ",
    "MTU = ",
];
const WORDS: &[&str] = &[
    "[",
    "]",
    ":",
    "%",
    "/",
    ".",
    "::",
    "fe80::",
    "wlan0",
    "65535",
    "65536",
    "255.255.255.255",
    "mast://1/",
    "-",
    "_",
    "é",
    "\u{202e}",
    " ",
    "nameserver ",
    "srv:",
    "v=mast1 k=",
];
const ARGUMENTS: &[&str] = &[
    "\0",
    "--",
    "status",
    "peer",
    "add",
    "remove",
    "invite",
    "mode",
    "pin",
    "--json",
    "--name",
    "drill",
    "story",
    "--control",
    "=",
    "-h",
    "mast://1/x",
    "budget",
    "interface",
    "protect",
    "on",
    "off",
    "9223372036854775808",
];

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "message", run: wire::message, longest: 1_500, runs: 150_000, words: &[] },
    Target { name: "sealed", run: wire::sealed, longest: 1_500, runs: 60_000, words: &[] },
    Target { name: "contexts", run: contexts::run, longest: 2_048, runs: 2_500, words: &[] },
    Target { name: "plain", run: plain::run, longest: 2_048, runs: 4_000, words: &[] },
    Target {
        name: "encapsulated",
        run: mast_engine::fuzzing::encapsulated,
        longest: 1_500,
        runs: 100_000,
        words: &[],
    },
    Target { name: "stun", run: mast_engine::fuzzing::stun, longest: 600, runs: 60_000, words: &[] },
    Target {
        name: "datagram",
        run: mast_engine::fuzzing::datagram,
        longest: 1_500,
        runs: 60_000,
        words: &[],
    },
    Target { name: "frame", run: mast_engine::fuzzing::frame, longest: 4_096, runs: 20_000, words: &[] },
    Target {
        name: "coalesced",
        run: mast_engine::fuzzing::coalesced,
        longest: 4_096,
        runs: 20_000,
        words: &[],
    },
    Target { name: "link", run: mast_engine::fuzzing::link, longest: 1_024, runs: 60_000, words: WORDS },
    Target { name: "pairing", run: mast_engine::fuzzing::pairing, longest: 512, runs: 150_000, words: &[] },
    Target { name: "wireguard", run: wireguard, longest: 512, runs: 8_000, words: &[] },
    Target {
        name: "request",
        run: mast_control::fuzzing::request,
        longest: 8_192,
        runs: 40_000,
        words: JSON,
    },
    Target {
        name: "response",
        run: mast_control::fuzzing::response,
        longest: 8_192,
        runs: 15_000,
        words: JSON,
    },
    Target { name: "event", run: mast_control::fuzzing::event, longest: 1_024, runs: 60_000, words: JSON },
    Target { name: "config", run: mastd::fuzzing::config, longest: 4_096, runs: 15_000, words: TOML },
    Target { name: "wgquick", run: mastd::fuzzing::wgquick, longest: 4_096, runs: 20_000, words: WGQUICK },
    Target { name: "notation", run: mastd::fuzzing::notation, longest: 300, runs: 100_000, words: WORDS },
    Target { name: "names", run: mastd::fuzzing::names, longest: 1_024, runs: 60_000, words: WORDS },
    Target { name: "dns", run: mast_rendezvous::fuzzing::dns, longest: 1_024, runs: 60_000, words: WORDS },
    Target { name: "lan", run: mast_rendezvous::fuzzing::lan, longest: 1_500, runs: 40_000, words: &[] },
    Target { name: "state", run: mastd::fuzzing::state, longest: 4_096, runs: 4_000, words: JSON },
    Target { name: "arguments", run: arguments, longest: 512, runs: 3_000, words: ARGUMENTS },
    Target {
        name: "netlink",
        run: mast_platform::linux::fuzzing::netlink,
        longest: 4_096,
        runs: 60_000,
        words: &[],
    },
    Target {
        name: "nftables",
        run: mast_platform::linux::fuzzing::nftables,
        longest: 4_096,
        runs: 60_000,
        words: &[],
    },
    Target {
        name: "control",
        run: mast_platform::linux::fuzzing::control,
        longest: 256,
        runs: 100_000,
        words: &[],
    },
    Target {
        name: "vnet",
        run: mast_platform::linux::fuzzing::vnet_header,
        longest: 16,
        runs: 100_000,
        words: &[],
    },
    Target {
        name: "system-text",
        run: mast_platform::linux::fuzzing::system_text,
        longest: 1_024,
        runs: 60_000,
        words: WORDS,
    },
];

impl Target {
    /// The target of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        TARGETS.iter().copied().find(|target| target.name == name)
    }

    /// Where its corpus is.
    #[must_use]
    pub fn corpus(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name)
    }
}

fn wireguard(data: &[u8]) {
    mast_engine::fuzzing::wireguard(data, mac1);
}

/// The first MAC of WireGuard's handshake messages (the WireGuard paper, section 5.4.4).
fn mac1(public_key: &[u8; 32], covered: &[u8]) -> [u8; 16] {
    let key = blake2::Blake2s256::new().chain_update(b"mac1----").chain_update(public_key).finalize();
    let Ok(mac) = <Blake2sMac<U16> as KeyInit>::new_from_slice(&key) else { return [0; 16] };
    mac.chain_update(covered).finalize().into_bytes().into()
}

/// The command lines of the service and of the user, one word after each zero byte.
fn arguments(data: &[u8]) {
    mastd::fuzzing::arguments(data);
    let text = String::from_utf8_lossy(data);
    let words = std::iter::once("mast").chain(text.split('\0').filter(|word| !word.is_empty()));
    let _ = args::Cli::try_parse_from(words);
}
