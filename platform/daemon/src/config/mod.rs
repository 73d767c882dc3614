//! The configuration file, `/etc/mast/mastd.toml`.
//!
//! ```toml
//! name = "laptop"              # how peers see this host; its host name unless set
//! port = 6278                  # UDP; 0 lets the system choose
//! interface = "mast0"          # the virtual interface
//! mtu = 1404                   # of the virtual interface
//! eid_pool = "100.64.0.0/10"   # where IPv4 endpoint identifiers are taken from
//! udp_segmentation = true      # datagrams may leave many at a time
//! stun = ["stun.example.org:3478"]   # asked how this host is seen from outside; nobody unless set
//! relay_for_peers = false      # hand on datagrams between own peers that cannot reach each other
//! status = "steerers"          # who sees more than whether it works: or "everybody"
//! policy = { mode = "pin", pin = ["ethernet", "network:Home", "wlan0"], fallback = true }
//!
//! [interfaces.wwan0]           # what the system does not know of an interface
//! metered = true
//! kind = "cellular"            # wifi, cellular, ethernet or other
//! network = "Operator"
//! ignore = false
//!
//! [[relay]]                    # a TURN server (RFC 8656), for peers that cannot be reached otherwise
//! server = "turn.example.org:3478"
//! transport = "udp"            # "udp", "tcp" or "tls"
//! username = "ada"
//! password = "…"
//! ca = "/etc/mast/ca.pem"      # who may sign its certificate, besides the authorities of the web
//!
//! [rendezvous]
//! lan = true                   # peers are looked for in the local network, and find this host there
//!
//! [rendezvous.dns]             # this host publishes where it is, for peers that look it up
//! publish = "laptop.example.org"
//! server = "192.0.2.53"        # the primary name server of the name's zone
//! key_name = "laptop"          # the key by which that knows this host (TSIG)
//! key_algorithm = "hmac-sha256"
//! key_file = "/etc/mast/dns.key" # its secret, in base64
//! ttl = 30                     # seconds that others may keep it
//! resolvers = ["192.0.2.53"]   # asked for `srv:` names in place of the system's name servers
//!
//! [[peer]]
//! name = "nas"
//! public_key = "…"
//! preshared_key = "…"
//! endpoints = ["nas.example.org:6278", "[2001:db8::1]:6278", "srv:nas.example.org"]
//! eid_v4 = { local = "100.64.7.0", remote = "100.64.7.1" }
//! policy = { mode = "redundant", small = true, metered = false }
//! addresses = "public-only"    # which addresses of this host it is told: "all", "public-only", "relayed-only"
//! own = false                  # it is the user's own, and told private addresses of other networks, too
//!
//! [[peer]]                     # a plain WireGuard server
//! name = "office"
//! public_key = "…"
//! endpoints = ["vpn.example.org:51820"]
//! addresses = ["10.8.0.2/24"]  # this host's addresses there
//! allowed_ips = ["10.8.0.0/24"]
//! dns = ["10.8.0.1"]           # asked for names while everything goes there
//! keepalive = 25
//! mast = false                 # whether MAST may be spoken with it
//! ```
//!
//! A policy's `mode` is one of:
//!
//! - `auto`: the best path carries data;
//! - `pin`: the first interface of `pin` that works; with `fallback = false`, rather nothing than another;
//! - `redundant`: every datagram goes over the two best paths, with `small = true` only small ones;
//! - `bonded`: datagrams are spread over all good paths.
//!
//! With the last two, metered paths take part only with `metered = true`, and plain WireGuard servers, which can do
//! neither, follow `auto`.
//!
//! An interface that has a table, or that a pin names, is used whatever it is, unless it is to be ignored.
//!
//! Every key is optional but `name` and `public_key` of a peer. All that is wrong is told at once, with lines.

mod claims;
mod peer;
mod reader;
mod relay;
mod rendezvous;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use mast_engine::api::PeerConfig;
use mast_proto::{EidPool, InterfaceKind, Policy, Selector};
use toml::de::DeTable;
use zeroize::Zeroizing;

pub(crate) use peer::shared_range;
pub use reader::Problem;
use reader::{At, Report, Section};
pub use relay::RelayConfig;
pub use rendezvous::{PublishConfig, RendezvousConfig};

use crate::endpoint::Endpoint;
use crate::{notation, stun};

/// The UDP port unless the file says otherwise.
pub const DEFAULT_PORT: u16 = 6278;
/// The virtual interface's MTU: with 84 bytes of overhead under IPv6 it fits the 1,492 bytes of PPPoE, the
/// narrowest link that is common. With the four bytes of the sequence number it is a multiple of the cipher's block, as
/// what is left over of a block costs a fifth of sealing the whole.
pub const DEFAULT_MTU: u16 = 1404;
/// The virtual interface unless the file says otherwise.
pub const DEFAULT_INTERFACE: &str = "mast0";

/// No configuration is larger, in bytes.
const LARGEST: usize = 16 << 20;

const MODES: &str = "\"auto\", \"pin\", \"redundant\" or \"bonded\"";

const KEYS: &[&str] = &[
    "name",
    "port",
    "interface",
    "mtu",
    "eid_pool",
    "udp_segmentation",
    "stun",
    "relay_for_peers",
    "status",
    "policy",
    "interfaces",
    "relay",
    "rendezvous",
    "peer",
];

/// To whom everything is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StatusFor {
    /// Root, and members of the group: whoever may change things. Everybody else sees whether it works.
    #[default]
    Steerers,
    /// Everybody on the machine.
    Everybody,
}

fn status_for(word: &str) -> Result<StatusFor, String> {
    match word {
        "steerers" => Ok(StatusFor::Steerers),
        "everybody" => Ok(StatusFor::Everybody),
        _ => Err("must be \"steerers\" or \"everybody\"".to_owned()),
    }
}

/// What the configuration file says.
#[derive(Debug, Clone)]
pub struct Config {
    /// This host's name; its host name unless set.
    pub name: Option<String>,
    /// The UDP port.
    pub port: u16,
    /// The virtual interface's name.
    pub interface: String,
    /// The virtual interface's MTU.
    pub mtu: u16,
    /// Where IPv4 EIDs are taken from.
    pub pool: EidPool,
    /// Whether datagrams may leave many at a time, where the system can do that.
    pub udp_segmentation: bool,
    /// The STUN servers that are asked how this host is seen from outside (RFC 8489), at most four.
    pub stun: Vec<Endpoint>,
    /// Whether this host relays for its peers.
    pub relay_for_peers: bool,
    /// To whom everything is shown: addresses of peers, names of networks, what happened, and usage.
    pub status: StatusFor,
    /// The policy of peers that have none of their own; none if the file does not say.
    pub policy: Option<Policy>,
    /// What the user says of physical interfaces.
    pub interfaces: BTreeMap<String, InterfaceConfig>,
    /// The relays.
    pub relays: Vec<RelayConfig>,
    /// Third parties by which peers that move find each other.
    pub rendezvous: RendezvousConfig,
    /// The peers.
    pub peers: Vec<ConfiguredPeer>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: None,
            port: DEFAULT_PORT,
            interface: DEFAULT_INTERFACE.to_owned(),
            mtu: DEFAULT_MTU,
            pool: EidPool::default(),
            udp_segmentation: true,
            stun: Vec::new(),
            relay_for_peers: false,
            status: StatusFor::Steerers,
            policy: None,
            interfaces: BTreeMap::new(),
            relays: Vec::new(),
            rendezvous: RendezvousConfig::default(),
            peers: Vec::new(),
        }
    }
}

/// What the user says of a physical interface; the system's word counts otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InterfaceConfig {
    /// Whether traffic over it costs money.
    pub metered: Option<bool>,
    /// What it is attached to.
    pub kind: Option<InterfaceKind>,
    /// The name of its network.
    pub network: Option<String>,
    /// Never use it.
    pub ignore: bool,
}

/// A peer of the configuration file.
#[derive(Debug, Clone)]
pub struct ConfiguredPeer {
    /// The peer, with those endpoints that are addresses.
    pub peer: PeerConfig,
    /// All endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}{}", path.display(), remedy(path, source))]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file does not make sense.
    #[error("{}", listed(.0))]
    Wrong(Vec<Problem>),
}

/// A file that root wrote for itself alone is none for the service's user.
fn remedy(path: &Path, source: &std::io::Error) -> String {
    if source.kind() != ErrorKind::PermissionDenied {
        return String::new();
    }
    let path = path.display();
    format!(
        "; the service does not run as root: `chgrp mastd {path} && chmod 640 {path}` lets it, and nobody else, read it"
    )
}

fn listed(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(|p| format!("\n  {p}")).collect();
    let what = if lines.len() == 1 { "an error".to_owned() } else { format!("{} errors", lines.len()) };
    format!("the configuration has {what}:{}", lines.concat())
}

impl Config {
    /// Reads the file; an absent one stands for the defaults unless it is `required`.
    ///
    /// # Errors
    /// With every problem of the file, or why it cannot be read.
    pub fn load(path: &Path, required: bool) -> Result<Self, ConfigError> {
        match read_text(path) {
            Ok(text) => Self::parse(path, &text).map_err(ConfigError::Wrong),
            Err(error) if error.kind() == ErrorKind::NotFound && !required => Ok(Self::default()),
            Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        }
    }

    /// The interfaces that the file names to be used: each of `[interfaces.NAME]` but for those to be ignored, and those
    /// that a pin names. Never the virtual one.
    pub fn named_interfaces(&self) -> Vec<String> {
        let tables = self.interfaces.iter().filter(|(_, i)| !i.ignore).map(|(name, _)| name.clone());
        let own = self.peers.iter().filter_map(|p| p.peer.policy.as_ref());
        let pins = self.policy.iter().chain(own).filter_map(|policy| match policy {
            Policy::Pin { order, .. } => Some(order),
            _ => None,
        });
        let pinned = pins.flatten().filter_map(|selector| match selector {
            Selector::Interface(name) => Some(name.clone()),
            _ => None,
        });
        let mut named: Vec<String> = tables.chain(pinned).filter(|name| *name != self.interface).collect();
        named.sort();
        named.dedup();
        named
    }

    /// Reads the text of the file `path`.
    ///
    /// # Errors
    /// With every problem, in the order of the text.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Vec<Problem>> {
        let mut report = Report::new(path, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // What follows a syntax error is guesswork: tell nothing else.
            for error in errors {
                let line = report.line(&error.span().unwrap_or_default());
                report.problem(line, error.message().replace('\n', " "));
            }
            return Err(report.into_problems());
        }
        let config = read(&mut report, table.get_ref());
        let problems = report.into_problems();
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }
}

/// The text of a file, which may hold keys: wiped from memory when it goes.
fn read_text(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    // Room for all of it: a buffer that grows leaves a copy behind.
    let room = usize::try_from(length).unwrap_or_default().min(LARGEST) + 1;
    let mut text = Zeroizing::new(String::with_capacity(room));
    file.read_to_string(&mut text)?;
    Ok(text)
}

fn read<'i>(report: &mut Report<'_>, table: &DeTable<'i>) -> Config {
    let mut config = Config::default();
    let mut top = report.section(table, "", KEYS);
    config.name = top.string("name", "such as \"laptop\"", notation::name).map(|n| n.value);
    if let Some(port) = top.number("port", 0..=u16::MAX, " (0 lets the system choose)") {
        config.port = port.value;
    }
    if let Some(name) = top.string("interface", "such as \"mast0\"", interface_name) {
        config.interface = name.value;
    }
    if let Some(mtu) = top.number("mtu", 1280..=9000, "") {
        config.mtu = mtu.value;
    }
    if let Some(pool) = top.string("eid_pool", "such as \"100.64.0.0/10\"", pool) {
        config.pool = pool.value;
    }
    if let Some(several) = top.boolean("udp_segmentation") {
        config.udp_segmentation = several.value;
    }
    if let Some(At { value: servers, line }) =
        top.list("stun", "such as [\"stun.example.org:3478\"]", stun_server)
    {
        if servers.len() > stun::MOST {
            top.wrong(line, "stun", &format!("has {} servers: name {} at most", servers.len(), stun::MOST));
        }
        config.stun = servers;
    }
    config.relay_for_peers = top.boolean("relay_for_peers").is_some_and(|on| on.value);
    if let Some(status) = top.string("status", "\"steerers\" or \"everybody\"", status_for) {
        config.status = status.value;
    }
    config.policy = policy(&mut top);
    if let Some(At { value, .. }) = top.table("interfaces", "tables such as [interfaces.wlan0]") {
        config.interfaces = interfaces(top.report, value);
    }
    if let Some(relays) = top.value("relay") {
        config.relays = relay::read_all(top.report, relays);
    }
    config.rendezvous = rendezvous::read(&mut top);
    if let Some(peers) = top.value("peer") {
        config.peers = peer::read_all(top.report, peers);
    }
    config
}

fn interfaces(report: &mut Report<'_>, tables: &DeTable<'_>) -> BTreeMap<String, InterfaceConfig> {
    let mut interfaces = BTreeMap::new();
    for (key, value) in tables {
        let name = key.get_ref().as_ref();
        let line = report.line(&key.span());
        if let Err(why) = interface_name(name) {
            report.problem(line, format!("`interfaces.{name}`: {why}"));
        }
        let Some(table) = value.get_ref().as_table() else {
            let found = value.get_ref().type_str();
            report.problem(
                line,
                format!("`interfaces.{name}`: must be a table, [interfaces.{name}], not {found}"),
            );
            continue;
        };
        let keys = ["metered", "kind", "network", "ignore"];
        let mut section = report.section(table, &format!("interfaces.{name}"), &keys);
        let read = InterfaceConfig {
            metered: section.boolean("metered").map(|m| m.value),
            kind: section.string("kind", "such as \"cellular\"", kind).map(|k| k.value),
            network: section.string("network", "such as \"Home\"", notation::name).map(|n| n.value),
            ignore: section.boolean("ignore").is_some_and(|i| i.value),
        };
        interfaces.insert(name.to_owned(), read);
    }
    interfaces
}

/// Reads the key `policy` of a section.
fn policy(section: &mut Section<'_, '_, '_>) -> Option<Policy> {
    let wanted = "a table such as { mode = \"pin\", pin = [\"wifi\"] }";
    let At { value: table, line } = section.table("policy", wanted)?;
    let keys = ["mode", "pin", "fallback", "small", "metered"];
    let mut section = section.report.section(table, "policy", &keys);
    let mode = section.string("mode", MODES, |word| match word {
        "auto" | "pin" | "redundant" | "bonded" => Ok(word.to_owned()),
        other => Err(format!("must be {MODES}, not \"{other}\"")),
    });
    let pin = section.list("pin", "such as [\"wifi\", \"network:Home\", \"eth0\"]", |word| {
        if word.is_empty() { Err("an entry is empty".to_owned()) } else { Ok(Selector::parse(word)) }
    });
    let fallback = section.boolean("fallback");
    let small = section.boolean("small");
    let metered = section.boolean("metered");
    let Some(At { value: mode, .. }) = mode else {
        if table.get("mode").is_none() {
            section.report.problem(line, format!("`policy`: `mode` is missing: it is {MODES}"));
        }
        return None;
    };
    // Each key that counts with some modes only.
    let several = ["redundant", "bonded"];
    let bound: [(&str, &[&str], &str); 4] = [
        ("pin", &["pin"], "\"pin\""),
        ("fallback", &["pin"], "\"pin\""),
        ("small", &["redundant"], "\"redundant\""),
        ("metered", &several, "\"redundant\" or \"bonded\""),
    ];
    let mut fits = true;
    for (key, modes, with) in bound {
        if let Some(value) = section.value(key)
            && !modes.contains(&mode.as_str())
        {
            let line = section.line(value);
            section.wrong(line, key, &format!("only counts with mode = {with}: leave it out"));
            fits = false;
        }
    }
    if !fits {
        return None;
    }
    let is_set = |flag: Option<At<bool>>| flag.is_some_and(|f| f.value);
    match (mode.as_str(), pin) {
        ("auto", _) => Some(Policy::Auto),
        ("redundant", _) => Some(Policy::Redundant { small: is_set(small), metered: is_set(metered) }),
        ("bonded", _) => Some(Policy::Bonded { metered: is_set(metered) }),
        (_, Some(At { value: order, .. })) if !order.is_empty() => {
            Some(Policy::Pin { order, fallback: fallback.is_none_or(|f| f.value) })
        }
        _ => {
            section.report.problem(
                line,
                "`policy`: mode = \"pin\" needs `pin`, a list of interfaces, kinds or networks, such as [\"wifi\"]",
            );
            None
        }
    }
}

fn kind(word: &str) -> Result<InterfaceKind, String> {
    let known = ["wifi", "cellular", "ethernet", "other"];
    InterfaceKind::from_word(word)
        .ok_or_else(|| format!("there is no kind \"{word}\": {}", notation::suggestion(word, &known)))
}

fn interface_name(name: &str) -> Result<String, String> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(bad) {
        return Err(format!("\"{name}\" cannot be an interface: 1 to 15 bytes without `/`, `:` and spaces"));
    }
    Ok(name.to_owned())
}

fn stun_server(text: &str) -> Result<Endpoint, String> {
    match Endpoint::parse(text) {
        Ok(Endpoint::Zoned { .. }) => {
            Err(format!("`{text}`: a link-local address is no STUN server: it sees no NAT"))
        }
        Ok(Endpoint::Service(_)) => Err(format!("`{text}`: write HOST:PORT")),
        // Its examples have MAST's port.
        other => other.map_err(|why| why.replace(":6278", ":3478")),
    }
}

fn pool(text: &str) -> Result<EidPool, String> {
    let example = "write an IPv4 range of 8 to 30 bits, such as \"100.64.0.0/10\"";
    let range = notation::prefix(text).map_err(|why| format!("{why}: {example}"))?;
    match range.address {
        std::net::IpAddr::V4(network) => EidPool::new(network, range.length),
        std::net::IpAddr::V6(_) => None,
    }
    .ok_or_else(|| format!("`{text}` cannot be the pool: {example}"))
}

#[cfg(test)]
mod tests;
