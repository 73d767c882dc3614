//! Configuration files of wg-quick(8), as VPN providers and routers hand them out.
//!
//! Each `[Peer]` becomes a plain WireGuard peer with the addresses and the private key of `[Interface]`. What MAST
//! does not do for such a peer (DNS, firewall marks, commands) is left out and said so; commands are never run.

use std::fmt;

use mast_engine::api::{AddressSource, Addresses, PeerConfig, PlainPeer};
use mast_engine::os::Prefix;
use mast_proto::PeerKind;
use zeroize::Zeroizing;

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
/// More peers than any file for a laptop has, and few enough to handle in one go.
const MAX_PEERS: usize = 256;

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WgFile {
    /// The peers, still without names.
    pub peers: Vec<WgPeer>,
    /// What is left out, for the user.
    pub notes: Vec<String>,
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

/// Reads a file.
///
/// # Errors
/// With every problem and its line.
pub fn parse(text: &str) -> Result<WgFile, WgError> {
    let mut parser = Parser::default();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        parser.line(index + 1, line);
    }
    parser.finish()
}

#[derive(Default)]
struct Parser {
    section: Section,
    interface_line: Option<usize>,
    private_key: Option<Zeroizing<[u8; 32]>>,
    addresses: Vec<Prefix>,
    addresses_given: bool,
    peers: Vec<Draft>,
    notes: Vec<String>,
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
    preshared_key: Option<[u8; 32]>,
    endpoint: Option<Endpoint>,
    allowed: Vec<Prefix>,
    allowed_given: bool,
    keepalive: Option<u16>,
}

impl Parser {
    fn problem(&mut self, line: usize, problem: impl Into<String>) {
        self.problems.push((line, problem.into()));
    }

    fn line(&mut self, number: usize, line: &str) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            return;
        }
        if line.starts_with('[') {
            return self.open(number, line);
        }
        let Some((key, value)) = line.split_once('=') else {
            return self.problem(number, "neither a section such as [Peer] nor KEY = VALUE");
        };
        let (key, value) = (key.trim(), value.trim());
        let (known, section) = match self.section {
            Section::None => {
                return self.problem(number, format!("`{key}` comes before [Interface] or [Peer]"));
            }
            Section::Unknown => return,
            Section::Interface => (INTERFACE_KEYS, "[Interface]"),
            Section::Peer => (PEER_KEYS, "[Peer]"),
        };
        let Some(key) = known.iter().copied().find(|k| k.eq_ignore_ascii_case(key)) else {
            return self
                .problem(number, format!("unknown key `{key}` in {section}: {}", suggestion(key, known)));
        };
        if value.is_empty() && key != "AllowedIPs" {
            return self.problem(number, format!("`{key}` has no value"));
        }
        let set = if self.section == Section::Interface {
            self.interface(number, key, value)
        } else {
            self.peer(key, value)
        };
        if let Err(why) = set {
            self.problem(number, format!("`{key}`: {why}"));
        }
    }

    fn open(&mut self, number: usize, line: &str) {
        self.section = match line.to_ascii_lowercase().as_str() {
            "[interface]" => {
                if let Some(first) = self.interface_line.replace(number) {
                    self.problem(number, format!("a second [Interface]; the first is in line {first}"));
                }
                Section::Interface
            }
            "[peer]" => {
                self.peers.push(Draft { line: number, ..Draft::default() });
                if self.peers.len() == MAX_PEERS + 1 {
                    self.problem(number, format!("more than {MAX_PEERS} peers"));
                }
                Section::Peer
            }
            _ => {
                self.problem(number, format!("unknown section {line}: there are [Interface] and [Peer]"));
                Section::Unknown
            }
        };
    }

    fn interface(&mut self, number: usize, key: &str, value: &str) -> Result<(), String> {
        match key {
            "PrivateKey" => self.private_key = Some(Zeroizing::new(notation::key(value)?)),
            "Address" => {
                self.addresses_given = true;
                self.addresses.extend(ranges(value)?);
            }
            "MTU" => {
                let mtu: u16 = value.parse().map_err(|_| format!("`{value}` is not a number of bytes"))?;
                self.notes.push(format!(
                    "`MTU = {mtu}` (line {number}) is left out: one MTU serves all peers, `mtu` in mastd.toml"
                ));
            }
            "DNS" => self
                .notes
                .push(format!("`DNS` (line {number}) is left out: the system's own DNS servers stay")),
            "PreUp" | "PostUp" | "PreDown" | "PostDown" => {
                self.notes.push(format!("`{key}` (line {number}) is left out: MAST runs no commands"));
            }
            "ListenPort" => {
                self.notes
                    .push(format!("`ListenPort` (line {number}) is left out: `port` in mastd.toml counts"));
            }
            "Table" => {
                self.notes.push(format!(
                    "`Table` (line {number}) is left out: MAST sets a route to each of `AllowedIPs`"
                ));
            }
            _ => self.notes.push(format!("`{key}` (line {number}) is left out: it means nothing to MAST")),
        }
        Ok(())
    }

    fn peer(&mut self, key: &str, value: &str) -> Result<(), String> {
        let Some(peer) = self.peers.last_mut() else { return Ok(()) };
        match key {
            "PublicKey" => {
                peer.public_key_given = true;
                peer.public_key = Some(notation::key(value)?);
            }
            "PresharedKey" => peer.preshared_key = Some(notation::key(value)?),
            "Endpoint" => peer.endpoint = Some(Endpoint::parse(value)?),
            "AllowedIPs" => {
                peer.allowed_given = true;
                peer.allowed.extend(ranges(value)?.into_iter().map(masked));
            }
            _ => {
                peer.keepalive = match value {
                    "off" | "0" => None,
                    seconds => Some(
                        seconds
                            .parse()
                            .map_err(|_| format!("`{value}` must be `off` or 1 to 65535 seconds"))?,
                    ),
                };
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<WgFile, WgError> {
        match self.interface_line {
            None => self.problem(1, "there is no [Interface]: is this a file of wg-quick?"),
            Some(line) if !self.addresses_given => {
                self.problem(
                    line,
                    "[Interface] has no `Address`: this host's address in the tunnel, such as 10.8.0.2/24",
                );
            }
            Some(line) if self.private_key.is_none() && self.problems.is_empty() => {
                self.notes.push(format!(
                    "[Interface] (line {line}) has no `PrivateKey`: this host's own key is used"
                ));
            }
            Some(_) => {}
        }
        if self.peers.is_empty() {
            self.problem(1, "there is no [Peer]");
        }
        let (drafts, mut peers) = (std::mem::take(&mut self.peers), Vec::new());
        let mut seen: Vec<([u8; 32], usize)> = Vec::new();
        for draft in drafts {
            if !draft.public_key_given {
                self.problem(draft.line, "[Peer] has no `PublicKey`");
            }
            if !draft.allowed_given {
                self.problem(
                    draft.line,
                    "[Peer] has no `AllowedIPs`: what shall go to it, such as 0.0.0.0/0, ::/0",
                );
            }
            let Some(public_key) = draft.public_key else { continue };
            match seen.iter().find(|(key, _)| *key == public_key) {
                Some((_, first)) => {
                    self.problem(draft.line, format!("the same `PublicKey` as the [Peer] in line {first}"));
                }
                None => seen.push((public_key, draft.line)),
            }
            let peer = PeerConfig {
                name: String::new(),
                public_key,
                preshared_key: draft.preshared_key,
                addresses: Addresses::of(
                    AddressSource::Configuration,
                    draft.endpoint.iter().filter_map(Endpoint::address),
                ),
                kind: Some(PeerKind::WireGuard),
                eid_v4: None,
                plain: Some(PlainPeer {
                    split: false,
                    addresses: self.addresses.clone(),
                    allowed: draft.allowed,
                    keepalive: draft.keepalive,
                    private_key: self.private_key.clone(),
                }),
                policy: None,
            };
            peers.push(WgPeer { peer, endpoint: draft.endpoint });
        }
        if self.problems.is_empty() {
            return Ok(WgFile { peers, notes: self.notes });
        }
        self.problems.sort_by_key(|(line, _)| *line);
        Err(WgError { problems: self.problems })
    }
}

fn ranges(list: &str) -> Result<Vec<Prefix>, String> {
    list.split(',').map(str::trim).filter(|r| !r.is_empty()).map(notation::prefix).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    const B: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

    fn read(text: &str) -> Result<WgFile, WgError> {
        parse(&text.replace("KEY_A", A).replace("KEY_B", B))
    }

    #[test]
    fn reads_a_providers_file() {
        let file = read(
            "# from the provider\r\n[Interface]\r\nPrivateKey = KEY_A # mine\r\naddress=10.8.0.2/24, fd00::2\r\n\
             DNS = 10.8.0.1\r\nMTU = 1380\r\nPostUp = rm -rf /\r\n\r\n[Peer]\r\nPublicKey = KEY_B\r\n\
             PresharedKey = KEY_A\r\nEndpoint = vpn.example.org:51820\r\nAllowedIPs = 0.0.0.0/0, ::/0\r\n\
             PersistentKeepalive = 25\r\n",
        )
        .unwrap();
        let [WgPeer { peer, endpoint }] = &file.peers[..] else { panic!() };
        assert_eq!(peer.public_key, [2; 32]);
        assert_eq!(peer.preshared_key, Some([1; 32]));
        assert!(peer.addresses.is_empty());
        assert_eq!(endpoint.as_ref().unwrap().to_string(), "vpn.example.org:51820");
        let plain = peer.plain.as_ref().unwrap();
        assert_eq!(plain.private_key.as_deref(), Some(&[1; 32]));
        assert_eq!(
            plain.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.8.0.2/24", "fd00::2/128"]
        );
        assert_eq!(plain.allowed.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0.0.0.0/0", "::/0"]);
        assert_eq!(plain.keepalive, Some(25));
        assert_eq!(file.notes.len(), 3);
        assert!(file.notes[0].contains("`DNS` (line 5)"), "{:?}", file.notes);
        assert!(file.notes[2].contains("runs no commands"), "{:?}", file.notes);
    }

    #[test]
    fn reads_several_peers() {
        let file = read(
            "[Interface]\nAddress = 10.8.0.2/24\n[Peer]\nPublicKey = KEY_A\nAllowedIPs = 10.1.0.0/16\n\
             Endpoint = 192.0.2.1:1\n[Peer]\nPublicKey = KEY_B\nAllowedIPs = 10.2.0.0/16\nPersistentKeepalive = off\n",
        )
        .unwrap();
        assert_eq!(file.peers.len(), 2);
        assert_eq!(file.peers[0].peer.addresses.all().count(), 1);
        assert!(file.peers[1].endpoint.is_none());
        assert!(file.notes[0].contains("own key is used"), "{:?}", file.notes);
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let head = "[Interface]\nAddress = 10.8.0.2/24\n[Peer]\nPublicKey = KEY_B\nAllowedIPs = ::/0\n";
        let with = |line: &str| format!("{head}{line}\n");
        for (text, line, expected) in [
            (String::new(), 1, "no [Interface]"),
            ("[Interface]\nAddress = 10.8.0.2/24".into(), 1, "no [Peer]"),
            ("hello\n".into(), 1, "neither a section"),
            ("PublicKey = x".into(), 1, "comes before [Interface]"),
            ("[Interface]\nPrivateKey = x\nAddress = 10.0.0.1".into(), 2, "44 characters"),
            ("[Interface]\nAddress = 10.8.0.2/33".into(), 2, "0 to 32"),
            ("[Interface]\nAdress = 10.8.0.2".into(), 2, "did you mean `Address`?"),
            ("[Interface]\nDNS = 1.1.1.1\n[Peer]\n".into(), 1, "no `Address`"),
            ("[Interface]\nMTU = big".into(), 2, "not a number of bytes"),
            ("[Interfaces]\n".into(), 1, "unknown section [Interfaces]"),
            (with("[Interface]"), 6, "a second [Interface]; the first is in line 1"),
            (with("[Peer]"), 6, "[Peer] has no `PublicKey`"),
            (with("[Peer]\nPublicKey = KEY_A"), 6, "[Peer] has no `AllowedIPs`"),
            (
                with("[Peer]\nPublicKey = KEY_B\nAllowedIPs = ::/1"),
                6,
                "the same `PublicKey` as the [Peer] in line 3",
            ),
            (with("Endpoint = vpn.example.org"), 6, "write `vpn.example.org:6278`"),
            (with("PersistentKeepalive = soon"), 6, "`off` or 1 to 65535"),
            (with("PresharedKey ="), 6, "has no value"),
            (with("Persistentkeepalives = 2"), 6, "did you mean `PersistentKeepalive`?"),
        ] {
            let error = read(&text).expect_err(&text);
            let found = error.problems.iter().any(|(l, p)| *l == line && p.contains(expected));
            assert!(found, "{text}\n{error}");
            assert!(!error.to_string().contains("PrivateKey = x"));
        }
    }

    #[test]
    fn names_come_from_the_file() {
        assert_eq!(name_of_file("/tmp/office.conf"), "office");
        assert_eq!(name_of_file("wg0"), "wg0");
        assert_eq!(name_of_file(".conf"), "wireguard");
        assert_eq!(name_of_file("a\u{1b}b.conf"), "ab");
    }
}
