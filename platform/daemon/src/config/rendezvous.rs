//! The section `[rendezvous]`: third parties by which peers that move find each other.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use mast_rendezvous::dns::{HostName, Key, TTL};

use super::reader::Section;

const DNS_KEYS: &[&str] = &["publish", "server", "key_name", "key_algorithm", "key_file", "ttl", "resolvers"];
/// The algorithm of a key unless the file says otherwise.
const ALGORITHM: &str = "hmac-sha256";
/// Where name servers listen.
const PORT: u16 = 53;

/// Which there are.
#[derive(Debug, Clone)]
pub struct RendezvousConfig {
    /// By multicast in the local network.
    pub lan: bool,
    /// By names in DNS.
    pub dns: DnsConfig,
}

impl Default for RendezvousConfig {
    fn default() -> Self {
        Self { lan: true, dns: DnsConfig::default() }
    }
}

/// Rendezvous by DNS. Peers are found by it without any of this, where their endpoints are `srv:NAME`.
#[derive(Debug, Clone, Default)]
pub struct DnsConfig {
    /// The name of this host, if it has one.
    pub publish: Option<PublishConfig>,
    /// Who is asked for names; the system's name servers where there are none.
    pub resolvers: Vec<SocketAddr>,
}

/// Where this host's name is changed, and by what right.
#[derive(Debug, Clone)]
pub struct PublishConfig {
    /// The name.
    pub name: HostName,
    /// The primary name server of its zone.
    pub server: SocketAddr,
    /// What the server calls the key.
    pub key_name: String,
    /// Its algorithm.
    pub key_algorithm: String,
    /// The file that holds its secret.
    pub key_file: PathBuf,
    /// How long others may keep the records, in seconds.
    pub ttl: u32,
}

/// Reads the section `rendezvous` of the file.
pub(super) fn read(top: &mut Section<'_, '_, '_>) -> RendezvousConfig {
    let mut config = RendezvousConfig::default();
    let Some(table) = top.table("rendezvous", "a table, with tables such as [rendezvous.dns]") else {
        return config;
    };
    let mut section = top.report.section(table.value, "rendezvous", &["lan", "dns"]);
    if let Some(lan) = section.boolean("lan") {
        config.lan = lan.value;
    }
    let Some(dns) = section.table("dns", "a table, [rendezvous.dns]") else { return config };
    let mut section = section.report.section(dns.value, "rendezvous.dns", DNS_KEYS);
    config.dns = read_dns(&mut section, dns.line);
    config
}

fn read_dns(section: &mut Section<'_, '_, '_>, line: usize) -> DnsConfig {
    let resolvers = section.list("resolvers", "such as [\"192.0.2.53\"]", server);
    let resolvers = resolvers.map(|all| all.value).unwrap_or_default();
    let name = section.string("publish", "such as \"laptop.example.org\"", str::parse::<HostName>);
    let at = section.string("server", "such as \"192.0.2.53\"", server);
    let key_name = section.string("key_name", "such as \"laptop\"", |name| {
        Key::new(name, ALGORITHM, "AA==").map(|_| name.to_owned())
    });
    let key_algorithm = section.string("key_algorithm", "such as \"hmac-sha256\"", |algorithm| {
        Key::new("key", algorithm, "AA==").map(|_| algorithm.to_owned())
    });
    let key_file = section.string("key_file", "such as \"/etc/mast/dns.key\"", |path| {
        let path = PathBuf::from(path);
        if path.is_absolute() { Ok(path) } else { Err("must be an absolute path".to_owned()) }
    });
    let ttl = section.number("ttl", 5..=3600, " (seconds)");
    let given = |key: &str| section.value(key).is_some();
    let needed = ["publish", "server", "key_name", "key_file"];
    if DNS_KEYS.iter().any(|key| *key != "resolvers" && given(key)) {
        let missing: Vec<&str> = needed.into_iter().filter(|key| !given(key)).collect();
        for key in missing {
            section.wrong(
                line,
                key,
                "is missing: to publish a name, write `publish`, `server`, `key_name` and `key_file`",
            );
        }
    }
    let publish = match (name, at, key_name, key_file) {
        (Some(name), Some(server), Some(key_name), Some(key_file)) => Some(PublishConfig {
            name: name.value,
            server: server.value,
            key_name: key_name.value,
            key_algorithm: key_algorithm.map_or_else(|| ALGORITHM.to_owned(), |found| found.value),
            key_file: key_file.value,
            ttl: ttl.map_or(TTL, |ttl| ttl.value.into()),
        }),
        _ => None,
    };
    DnsConfig { publish, resolvers }
}

/// The address of a name server, whose port is 53 unless it is said.
fn server(text: &str) -> Result<SocketAddr, String> {
    let bare = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
    match text.parse::<SocketAddr>().or_else(|_| bare()) {
        Ok(at) if at.port() == 0 || at.ip().is_unspecified() || at.ip().is_multicast() => {
            Err(format!("`{text}` is the address of no name server"))
        }
        Ok(at) => Ok(at),
        Err(_) => Err(format!(
            "`{text}` is no address: write that of a name server, such as `192.0.2.53` or `[2001:db8::53]:5353`"
        )),
    }
}
