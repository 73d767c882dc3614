//! Configuration files of wg-quick(8), as VPN providers and routers hand them out.
//!
//! Each public key becomes a plain WireGuard peer with the addresses and the private key of `[Interface]`. What MAST
//! does not do for such a peer (domains of DNS, firewall marks, commands) is left out and said so; commands are never run.
//!
//! What wg-quick and `wg setconf` take is taken: blanks anywhere, keys in any case, values of wg-quick's own keys that
//! are empty, several sections of a kind. Files of other programs are named ([`dialect`]).

mod command;
mod dialect;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use mast_control::Noted;

use mast_engine::api::{AddressSource, Addresses, PeerConfig, PlainPeer};
use mast_engine::os::{Family, Prefix};
use mast_proto::{Disclosure, PeerKind};
use zeroize::Zeroizing;

use self::command::Purpose;
use crate::endpoint::Endpoint;
use crate::notation::{self, masked, suggestion};

const INTERFACE_KEYS: &[&str] = &[
    "PrivateKey",
    "Address",
    "DNS",
    "MTU",
    "ListenPort",
    "FwMark",
    "Table",
    "PreUp",
    "PostUp",
    "PreDown",
    "PostDown",
    "SaveConfig",
];
const PEER_KEYS: &[&str] = &["PublicKey", "PresharedKey", "Endpoint", "AllowedIPs", "PersistentKeepalive"];
/// These may stand there without a value: wg-quick's own, and one that says so by that.
const MAY_BE_EMPTY: &[&str] =
    &["Address", "DNS", "MTU", "Table", "PreUp", "PostUp", "PreDown", "PostDown", "SaveConfig", "AllowedIPs"];
/// No host can do with less (RFC 791).
const LEAST_MTU: u16 = 576;
/// More peers than any file for a laptop has, and few enough to handle in one go.
const MAX_PEERS: usize = 256;

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WgFile {
    /// The peers, still without names.
    pub peers: Vec<WgPeer>,
    /// What is left out, for the user.
    pub notes: Vec<Noted>,
}

/// A `[Peer]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WgPeer {
    /// The peer; its name is empty.
    pub peer: PeerConfig,
    /// Where it is reached.
    pub endpoint: Option<Endpoint>,
}

/// What is wrong in a file, each with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WgError {
    /// Line and problem, in the order of the file.
    pub problems: Vec<(usize, String)>,
}

impl fmt::Display for WgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (line, problem)) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}line {line}: {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for WgError {}

/// The name for the peers of a file that is called so: without its ending, and without what names may not hold.
pub fn name_of_file(file: &str) -> String {
    let base = file.rsplit(['/', '\\']).next().unwrap_or_default();
    let stem = base.strip_suffix(".conf").unwrap_or(base);
    let clean: String = stem.chars().filter(|c| !c.is_control()).take(48).collect();
    match notation::name(clean.trim()) {
        Ok(name) => name,
        Err(_) => "wireguard".to_owned(),
    }
}

/// A line without any blanks, as wg(8) reads its own.
fn squeezed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && *c != '\0').collect()
}

/// Reads a file.
///
/// # Errors
/// With every problem and its line; with one alone where the file is of another program, or its keys come from commands.
pub fn parse(text: &str) -> Result<WgFile, WgError> {
    let text = text.trim_start_matches('\u{feff}');
    if let Some(problem) = dialect::foreign(text) {
        return Err(WgError { problems: vec![(1, problem.to_owned())] });
    }
    let mut parser = Parser::default();
    for (index, line) in text.lines().enumerate() {
        parser.line(index + 1, line);
    }
    parser.finish()
}

#[derive(Default)]
struct Parser {
    section: Section,
    interface_line: Option<usize>,
    private_key: Option<Zeroizing<[u8; 32]>>,
    private_key_given: bool,
    addresses: Vec<Prefix>,
    mtu: Option<u16>,
    dns: Vec<IpAddr>,
    /// Not all that is said of name servers are addresses.
    domains: bool,
    unrouted: bool,
    /// The first command that sets the private key, or a preshared one: its key and line.
    key_by_command: Option<(&'static str, usize)>,
    preshared_by_command: Option<(&'static str, usize)>,
    peers: Vec<Draft>,
    additions: dialect::Additions,
    notes: Vec<Noted>,
    problems: Vec<(usize, String)>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Section {
    #[default]
    None,
    Interface,
    Peer,
    Unknown,
}

#[derive(Default)]
struct Draft {
    line: usize,
    public_key: Option<[u8; 32]>,
    public_key_given: bool,
    preshared_key: Option<Zeroizing<[u8; 32]>>,
    endpoint: Option<Endpoint>,
    allowed: Vec<Prefix>,
    keepalive: Option<Option<u16>>,
}

impl Parser {
    fn problem(&mut self, line: usize, problem: impl Into<String>) {
        self.problems.push((line, problem.into()));
    }

    fn line(&mut self, number: usize, line: &str) {
        let line =
            line.split('#').next().unwrap_or_default().trim_matches(|c: char| c.is_whitespace() || c == '\0');
        if line.is_empty() {
            return;
        }
        if line.starts_with('[') {
            return self.open(number, line);
        }
        let Some((key, value)) = line.split_once('=') else {
            return self.problem(number, "neither a section such as [Peer] nor KEY = VALUE");
        };
        let (key, value) = (squeezed(key), value.trim());
        let (known, section) = match self.section {
            Section::None => {
                return self.problem(number, format!("`{key}` comes before [Interface] or [Peer]"));
            }
            Section::Unknown => return,
            Section::Interface => (INTERFACE_KEYS, "[Interface]"),
            Section::Peer => (PEER_KEYS, "[Peer]"),
        };
        let Some(key) = known.iter().copied().find(|k| k.eq_ignore_ascii_case(&key)) else {
            if self.additions.take(number, &key, value) {
                return;
            }
            return self
                .problem(number, format!("unknown key `{key}` in {section}: {}", suggestion(&key, known)));
        };
        if value.is_empty() {
            if !MAY_BE_EMPTY.contains(&key) {
                self.problem(number, format!("`{key}` has no value: write one, or take the line away"));
            }
            return;
        }
        let set = if self.section == Section::Interface {
            self.interface(number, key, value)
        } else {
            self.peer(key, &squeezed(value))
        };
        if let Err(why) = set {
            self.problem(number, format!("`{key}`: {why}"));
        }
    }

    fn open(&mut self, number: usize, line: &str) {
        self.section = match squeezed(line).to_ascii_lowercase().as_str() {
            "[interface]" => {
                self.interface_line.get_or_insert(number);
                Section::Interface
            }
            "[peer]" => {
                self.peers.push(Draft { line: number, ..Draft::default() });
                if self.peers.len() == MAX_PEERS + 1 {
                    self.problem(number, format!("more than {MAX_PEERS} peers: split the file"));
                }
                Section::Peer
            }
            _ => {
                self.problem(number, format!("unknown section {line}: there are [Interface] and [Peer]"));
                Section::Unknown
            }
        };
    }

    fn interface(&mut self, line: usize, key: &'static str, value: &str) -> Result<(), String> {
        let named = || key.to_owned();
        match key {
            "PrivateKey" => {
                self.private_key_given = true;
                self.private_key = Some(Zeroizing::new(notation::key(&squeezed(value))?));
            }
            "Address" => {
                let all = value.split(|c: char| c == ',' || c.is_whitespace()).filter(|a| !a.is_empty());
                for address in all {
                    self.addresses.push(notation::prefix(address)?);
                }
            }
            "MTU" => {
                let mtu = value.parse().ok().filter(|mtu| *mtu >= LEAST_MTU);
                let wrong = || format!("`{value}` is not a number of bytes from {LEAST_MTU} to 65535");
                self.mtu = Some(mtu.ok_or_else(wrong)?);
            }
            "DNS" => {
                let all = value.split(|c: char| c == ',' || c.is_whitespace()).filter(|s| !s.is_empty());
                let servers: Vec<_> = all.map(notation::server).collect();
                self.dns.extend(servers.iter().flatten());
                // Domains in which names are looked for, too.
                self.domains |= servers.iter().any(Result::is_err);
                self.notes.push(Noted::NameServers { servers: value.to_owned(), line });
            }
            "PreUp" | "PostUp" | "PreDown" | "PostDown" => self.command(line, key, value),
            "ListenPort" => self.notes.push(Noted::Port { line }),
            "FwMark" => self.notes.push(Noted::Mark { line }),
            "Table" if value.eq_ignore_ascii_case("auto") || value.eq_ignore_ascii_case("main") => {}
            "Table" => {
                self.unrouted = true;
                self.notes.push(if value.eq_ignore_ascii_case("off") {
                    Noted::NoRoutes { line }
                } else {
                    Noted::OtherTable { table: value.to_owned(), line }
                });
            }
            _ => self.notes.push(Noted::Unused { key: named(), line }),
        }
        Ok(())
    }

    fn command(&mut self, line: usize, key: &'static str, value: &str) {
        let named = key.to_owned();
        match command::purpose(key, value) {
            Purpose::PrivateKey => {
                self.key_by_command.get_or_insert((key, line));
                self.notes.push(Noted::Command { key: named, line });
            }
            Purpose::PresharedKey => {
                self.preshared_by_command.get_or_insert((key, line));
                self.notes.push(Noted::Command { key: named, line });
            }
            Purpose::KillSwitch => self.notes.push(Noted::KillSwitch { key: named, line }),
            Purpose::Other => self.notes.push(Noted::Command { key: named, line }),
        }
    }

    fn peer(&mut self, key: &str, value: &str) -> Result<(), String> {
        let Some(peer) = self.peers.last_mut() else { return Ok(()) };
        match key {
            "PublicKey" => {
                peer.public_key_given = true;
                peer.public_key = Some(notation::key(value)?);
            }
            "PresharedKey" => peer.preshared_key = Some(notation::key(value)?.into()),
            "Endpoint" => {
                let endpoint = Endpoint::parse(value)?;
                if endpoint.service().is_some() {
                    return Err(format!("`{value}` is for `endpoints` in mastd.toml: write HOST:PORT here"));
                }
                peer.endpoint = Some(endpoint);
            }
            "AllowedIPs" => {
                for range in value.split(',').filter(|r| !r.is_empty()) {
                    let range = masked(notation::prefix(range)?);
                    if !peer.allowed.contains(&range) || peer.allowed.len() > 64 {
                        peer.allowed.push(range);
                    }
                }
            }
            _ => {
                peer.keepalive = Some(match value {
                    "0" => None,
                    off if off.eq_ignore_ascii_case("off") => None,
                    seconds => Some(
                        seconds
                            .parse()
                            .map_err(|_| format!("`{value}` must be `off` or 1 to 65535 seconds"))?,
                    ),
                });
            }
        }
        Ok(())
    }

    /// What alone is said where it is true: whatever else is wrong follows from it, or does not matter any more.
    fn refusal(&self) -> Option<(usize, String)> {
        if let Some(refusal) = self.additions.refusal() {
            return Some(refusal);
        }
        if let Some((key, line)) = self.key_by_command.filter(|_| !self.private_key_given) {
            let why = format!(
                "`{key}` sets this host's private key by a command, and MAST runs none: write the key into [Interface], \
                 as `PrivateKey = …`"
            );
            return Some((line, why));
        }
        let preshared = self.peers.iter().any(|p| p.preshared_key.is_some());
        let (key, line) = self.preshared_by_command.filter(|_| !preshared)?;
        let why = format!(
            "`{key}` sets a preshared key by a command, and MAST runs none: write the key into [Peer], as \
             `PresharedKey = …`"
        );
        Some((line, why))
    }

    fn finish(mut self) -> Result<WgFile, WgError> {
        if let Some(refusal) = self.refusal() {
            return Err(WgError { problems: vec![refusal] });
        }
        if self.interface_line.is_none() {
            self.problem(1, "there is no [Interface]: is this a file of wg-quick?");
        }
        if self.peers.is_empty() {
            self.problem(1, "there is no [Peer], which says where to connect to: ask for the whole file");
        }
        let drafts = self.merged();
        for draft in &drafts {
            if !draft.public_key_given {
                self.problem(
                    draft.line,
                    "[Peer] has no `PublicKey`, which names the server: ask for the whole file",
                );
            }
        }
        if !self.problems.is_empty() {
            self.problems.sort_by_key(|(line, _)| *line);
            return Err(WgError { problems: self.problems });
        }
        let mut notes = Vec::new();
        for (dialect, keys) in std::mem::take(&mut self.additions.neutral) {
            notes.push(Noted::Disguise { dialect: dialect.to_owned(), keys });
        }
        notes.append(&mut self.notes);
        if self.private_key.is_none() {
            notes.push(Noted::OwnKey);
        }
        if self.addresses.is_empty() {
            notes.push(Noted::NoAddress);
        }
        let drafts = sole(drafts, &mut notes);
        let peers: Vec<WgPeer> = drafts.into_iter().filter_map(|draft| self.of(draft)).collect();
        let mut plain = peers.iter().filter_map(|p| p.peer.plain.as_ref());
        if !self.domains && plain.any(|plain| plain.full_tunnel() == Some(true)) {
            // They are asked.
            notes.retain(|note| !matches!(note, Noted::NameServers { .. }));
        }
        for plain in peers.iter().filter_map(|p| p.peer.plain.as_ref()) {
            match [Family::V4, Family::V6].map(|family| plain.is_full_for(family)) {
                [true, false] => notes.push(Noted::OneVersion { tunnel: "IPv4".to_owned() }),
                [false, true] => notes.push(Noted::OneVersion { tunnel: "IPv6".to_owned() }),
                _ => {}
            }
        }
        Ok(WgFile { peers, notes })
    }

    /// The sections of one key are one peer: it has all their ranges, and of the rest what is said last.
    fn merged(&mut self) -> Vec<Draft> {
        let mut merged: Vec<Draft> = Vec::new();
        for draft in std::mem::take(&mut self.peers) {
            let same = |d: &&mut Draft| draft.public_key.is_some() && d.public_key == draft.public_key;
            let Some(first) = merged.iter_mut().find(same) else {
                merged.push(draft);
                continue;
            };
            self.notes.push(Noted::OnePeer { line: draft.line, first: first.line });
            first.allowed.extend(draft.allowed);
            first.preshared_key = draft.preshared_key.or(first.preshared_key.take());
            first.endpoint = draft.endpoint.or(first.endpoint.take());
            first.keepalive = draft.keepalive.or(first.keepalive);
        }
        merged
    }

    fn of(&self, draft: Draft) -> Option<WgPeer> {
        let peer = PeerConfig {
            name: String::new(),
            public_key: draft.public_key?,
            preshared_key: draft.preshared_key,
            addresses: Addresses::of(
                AddressSource::Configuration,
                draft.endpoint.iter().filter_map(Endpoint::address),
            ),
            kind: Some(PeerKind::WireGuard),
            eid_v4: None,
            plain: Some(PlainPeer {
                split: false,
                unrouted: self.unrouted,
                addresses: self.addresses.clone(),
                allowed: draft.allowed,
                keepalive: draft.keepalive.flatten(),
                private_key: self.private_key.clone(),
                mtu: self.mtu,
                dns: self.dns.clone(),
            }),
            policy: None,
            disclosure: Disclosure::WIREGUARD,
            account: None,
        };
        Some(WgPeer { peer, endpoint: draft.endpoint })
    }
}

/// A range leads to the last peer that claims it, as WireGuard has it. What is not done with ranges is noted, once for
/// each peer.
fn sole(mut drafts: Vec<Draft>, notes: &mut Vec<Noted>) -> Vec<Draft> {
    let mut last: BTreeMap<Prefix, usize> = BTreeMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        last.extend(draft.allowed.iter().map(|range| (*range, index)));
    }
    let lines: Vec<usize> = drafts.iter().map(|d| d.line).collect();
    for (index, draft) in drafts.iter_mut().enumerate() {
        if draft.allowed.is_empty() {
            notes.push(Noted::NothingAllowed { line: draft.line });
        }
        let lost = draft.allowed.iter().find_map(|range| {
            let later = last.get(range).copied().filter(|later| *later != index)?;
            Some((range.to_string(), later))
        });
        if let Some((range, later)) = lost {
            notes.push(Noted::RangeOfLater { range, line: lines.get(later).copied().unwrap_or(0) });
            draft.allowed.retain(|range| last.get(range) == Some(&index));
        }
    }
    drafts
}
