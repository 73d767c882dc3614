//! The `[[peer]]` sections.

use mast_engine::api::{AddressSource, Addresses, PeerConfig, PlainPeer};
use mast_engine::os::Prefix;
use mast_proto::wire::EidPair;
use mast_proto::{AddressesTold, Disclosure, Policy};
use mast_rendezvous::presence::Jid;

use super::claims::Claims;
use super::reader::{Report, Section, Value};
use super::{ConfiguredPeer, policy};
use crate::endpoint::Endpoint;
use crate::notation::{self, masked};

const TOLD: &str = "\"all\", \"public-only\" or \"relayed-only\"";

const KEYS: &[&str] = &[
    "name",
    "public_key",
    "preshared_key",
    "endpoints",
    "eid_v4",
    "allowed_ips",
    "addresses",
    "dns",
    "keepalive",
    "policy",
    "mast",
    "own",
    "presence",
];

/// A peer and the lines that a conflict with another one would be told of.
pub(super) struct Found {
    pub peer: ConfiguredPeer,
    pub line: usize,
    pub eid_line: usize,
    pub allowed_line: usize,
}

/// Reads every peer.
pub(super) fn read_all(report: &mut Report<'_>, value: &Value<'_>) -> Vec<ConfiguredPeer> {
    let line = report.line(&value.span());
    let Some(array) = value.get_ref().as_array() else {
        report.problem(line, "`peer` must be written as [[peer]], with two brackets: there may be several");
        return Vec::new();
    };
    let (mut found, mut claims) = (Vec::new(), Claims::default());
    for element in array {
        let line = report.line(&element.span());
        let Some(table) = element.get_ref().as_table() else {
            report.problem(line, "`peer` must be written as [[peer]], followed by its keys");
            continue;
        };
        let mut section = report.section(table, "peer", KEYS);
        let Some(peer) = read(&mut section, line) else { continue };
        claims.enter(report, &peer);
        found.push(peer.peer);
    }
    found
}

fn read(section: &mut Section<'_, '_, '_>, line: usize) -> Option<Found> {
    let name = section.string("name", "such as \"nas\"", notation::name);
    let public_key = section.string("public_key", "in base64", notation::key);
    let preshared_key = section.string("preshared_key", "in base64", notation::key);
    let endpoints = section.list("endpoints", "such as [\"nas.example.org:6278\"]", Endpoint::parse);
    let allowed = section.list("allowed_ips", "such as [\"10.8.0.0/24\"]", notation::prefix);
    // Of a plain WireGuard peer those of this host there, of others which of this host's are told.
    let is_word = |v: &Value<'_>| v.get_ref().as_str().is_some();
    let told = section.value("addresses").filter(|v| is_word(v)).and_then(|_| {
        section.string("addresses", TOLD, |word| {
            AddressesTold::from_word(word).ok_or_else(|| format!("must be {TOLD}, not \"{word}\""))
        })
    });
    let addresses = match section.value("addresses") {
        Some(value) if is_word(value) => None,
        _ => section.list("addresses", "such as [\"10.8.0.2/24\"]", notation::prefix),
    };
    let mast = section.boolean("mast");
    let own = section.boolean("own").is_some_and(|own| own.value);
    let dns = section.list("dns", "such as [\"10.8.0.1\"]", notation::server);
    let account = section.string("presence", "such as \"alice@example.org\"", |account| {
        account.parse::<Jid>().map_err(|error| error.to_string())
    });
    let keepalive = section.number("keepalive", 0..=u16::MAX, " (seconds; 0 is off)");
    let policy = policy(section);
    let policy_line = section.value("policy").map_or(line, |v| section.line(v));
    let eid_line = section.value("eid_v4").map_or(line, |v| section.line(v));
    let eid_v4 = eid_v4(section);

    for (key, present) in [("name", section.value("name")), ("public_key", section.value("public_key"))] {
        if present.is_none() {
            section.report.problem(line, format!("[[peer]] has no `{key}`"));
        }
    }
    let plain = allowed.is_some() || addresses.is_some() || keepalive.is_some() || dns.is_some();
    if let Some(told) = told.as_ref().filter(|_| plain) {
        let message = "of a plain WireGuard peer are this host's there, such as [\"10.8.0.2/24\"]; which of this host's are \
                       told, if MAST is spoken with it, is set by `mast peer set NAME --addresses`";
        section.wrong(told.line, "addresses", message);
    }
    if let Some(mast) = mast.as_ref().filter(|_| !plain) {
        let message = "is for plain WireGuard peers, which have `allowed_ips`: leave it out, as MAST is spoken with all \
                       others";
        section.wrong(mast.line, "mast", message);
    }
    let spoken = mast.is_some_and(|mast| mast.value);
    if plain {
        for (key, value) in [("allowed_ips", "[\"10.8.0.0/24\"]"), ("addresses", "[\"10.8.0.2/24\"]")] {
            if section.value(key).is_none() {
                let message = format!("a plain WireGuard peer also needs `{key}`, such as {key} = {value}");
                section.report.problem(line, message);
            }
        }
        if section.value("eid_v4").is_some() {
            section.wrong(
                eid_line,
                "eid_v4",
                "is for MAST peers, `allowed_ips` for plain WireGuard: keep one",
            );
        }
        if let Some(Policy::Redundant { .. } | Policy::Bonded { .. }) = policy.as_ref().filter(|_| !spoken) {
            section.wrong(
                policy_line,
                "policy",
                "a plain WireGuard server cannot use several paths at once: write mode = \"auto\" or \"pin\"",
            );
        }
    }
    let allowed_line = allowed.as_ref().map_or(line, |a| a.line);
    let endpoints = endpoints.map(|e| e.value).unwrap_or_default();
    let peer = PeerConfig {
        name: name?.value,
        public_key: public_key?.value,
        preshared_key: preshared_key.map(|k| k.value.into()),
        addresses: Addresses::of(
            AddressSource::Configuration,
            endpoints.iter().filter_map(Endpoint::address),
        ),
        kind: (plain && !spoken).then_some(mast_proto::PeerKind::WireGuard),
        eid_v4,
        plain: plain.then(|| PlainPeer {
            split: false,
            unrouted: false,
            mtu: None,
            dns: dns.map(|d| d.value).unwrap_or_default(),
            addresses: addresses.map(|a| a.value).unwrap_or_default(),
            allowed: allowed.map(|a| a.value.into_iter().map(masked).collect()).unwrap_or_default(),
            keepalive: keepalive.map(|k| k.value).filter(|k| *k != 0),
            private_key: None,
        }),
        policy,
        disclosure: Disclosure {
            mast: spoken || !plain,
            addresses: told.map(|told| told.value).unwrap_or_default(),
            own,
        },
        account: account.map(|account| account.value.to_string()),
    };
    Some(Found { peer: ConfiguredPeer { peer, endpoints }, line, eid_line, allowed_line })
}

fn eid_v4(section: &mut Section<'_, '_, '_>) -> Option<EidPair> {
    let wanted = "a table such as { local = \"100.64.7.0\", remote = \"100.64.7.1\" }";
    let table = section.table("eid_v4", wanted)?;
    let mut section = section.report.section(table.value, "peer.eid_v4", &["local", "remote"]);
    let local = section.string("local", "such as \"100.64.7.0\"", notation::host_v4);
    let remote = section.string("remote", "such as \"100.64.7.1\"", notation::host_v4);
    for key in ["local", "remote"] {
        if section.value(key).is_none() {
            section.wrong(table.line, key, "is missing");
        }
    }
    let pair = EidPair { own: local?.value, other: remote?.value };
    if pair.own == pair.other {
        section.report.problem(table.line, "`peer.eid_v4`: `local` and `remote` must be two addresses");
        return None;
    }
    Some(pair)
}

/// A range that both claim as things are in effect. Ranges inside one another are fine: the narrower wins, as with
/// WireGuard.
pub(crate) fn shared_range(a: &PeerConfig, b: &PeerConfig) -> Option<Prefix> {
    let (a, b) = (a.plain.as_ref()?, b.plain.as_ref()?);
    let taken: std::collections::BTreeSet<_> = a.ranges().map(masked).collect();
    b.ranges().find(|range| taken.contains(&masked(*range)))
}
