//! Where an account's server is: by SRV records (RFC 6120, section 3.2; XEP-0368 for TLS from the first byte), or as named.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::proto::rr::RData;

use super::failure::{Failure, quoted};

/// The usual port, on which TLS begins after a few words.
const STARTTLS_PORT: u16 = 5222;
/// Ports on which TLS begins at once.
const TLS_PORTS: [u16; 2] = [5223, 443];
/// A name server that did not answer in this time, and then once more, does not.
const ANSWER: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// The most records, and the most addresses, that are looked at.
const MOST_SERVERS: usize = 8;
const MOST_WAYS: usize = 16;

/// A server's name and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    host: String,
    port: u16,
    tls: bool,
}

impl Server {
    /// Reads `host`, `host:port`, an address, or `[IPv6 address]:port`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(Self::new(address.ip().to_string(), address.port()));
        }
        if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Some(Self::new(ip.to_string(), STARTTLS_PORT));
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (text, STARTTLS_PORT),
        };
        let fit = |c: char| c.is_alphanumeric() || c == '-' || c == '.' || c == '_';
        (!host.is_empty() && host.len() <= 253 && host.chars().all(fit) && port != 0)
            .then(|| Self::new(host.to_owned(), port))
    }

    fn new(host: String, port: u16) -> Self {
        Self { host, port, tls: TLS_PORTS.contains(&port) }
    }
}

/// One way to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) address: SocketAddr,
    /// Whether TLS begins at once.
    pub(super) tls: bool,
}

/// All ways to the server of a domain, the best first; never none.
pub(super) async fn ways(domain: &str, named: Option<&Server>) -> Result<Vec<Way>, Failure> {
    if let Some(Server { host, port, tls }) = named
        && let Ok(ip) = host.parse::<IpAddr>()
    {
        return Ok(vec![Way { address: SocketAddr::new(ip, *port), tls: *tls }]);
    }
    let resolver = resolver()?;
    let servers = match named {
        Some(server) => vec![server.clone()],
        None => servers(&resolver, domain).await,
    };
    let mut ways = Vec::new();
    let mut failure = Failure::UnknownHost(domain.to_owned());
    for server in servers {
        match resolver.lookup_ip(server.host.as_str()).await {
            Ok(found) => ways.extend(
                found.iter().map(|ip| Way { address: SocketAddr::new(ip, server.port), tls: server.tls }),
            ),
            Err(error) if error.is_no_records_found() => failure = Failure::UnknownHost(server.host),
            Err(error) => {
                failure = Failure::Unreachable(quoted(&format!("no name server answers for it: {error}")));
            }
        }
        if ways.len() >= MOST_WAYS {
            break;
        }
    }
    ways.truncate(MOST_WAYS);
    if ways.is_empty() { Err(failure) } else { Ok(ways) }
}

/// Made anew each time: the name servers are those of the network in which the host is now.
fn resolver() -> Result<TokioResolver, Failure> {
    let no_resolver =
        |error| Failure::Unreachable(quoted(&format!("the system names no name server: {error}")));
    let mut builder = TokioResolver::builder_tokio().map_err(no_resolver)?;
    let options = builder.options_mut();
    options.timeout = ANSWER;
    options.attempts = ATTEMPTS;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build().map_err(no_resolver)
}

/// What the domain names, or itself.
async fn servers(resolver: &TokioResolver, domain: &str) -> Vec<Server> {
    let (plain, tls) = tokio::join!(
        records(resolver, format!("_xmpp-client._tcp.{domain}."), false),
        records(resolver, format!("_xmpps-client._tcp.{domain}."), true),
    );
    let mut servers = [tls, plain].concat();
    // Lower priorities first; of the same, those of more weight. Only load would be better shared by chance.
    servers.sort_by_key(|(priority, weight, _)| (*priority, std::cmp::Reverse(*weight)));
    servers.truncate(MOST_SERVERS);
    if servers.is_empty() {
        return vec![Server::new(domain.to_owned(), STARTTLS_PORT)];
    }
    servers.into_iter().map(|(_, _, server)| server).collect()
}

async fn records(resolver: &TokioResolver, name: String, tls: bool) -> Vec<(u16, u16, Server)> {
    let Ok(found) = resolver.srv_lookup(name).await else { return Vec::new() };
    let records = found.answers().iter().filter_map(|record| match &record.data {
        // The root stands for: not offered.
        RData::SRV(srv) if !srv.target.is_root() => {
            let server = Server { host: srv.target.to_ascii(), port: srv.port, tls };
            Some((srv.priority, srv.weight, server))
        }
        _ => None,
    });
    records.take(MOST_SERVERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read() {
        let server = |host: &str, port, tls| Some(Server { host: host.into(), port, tls });
        assert_eq!(Server::parse("xmpp.example.org"), server("xmpp.example.org", 5222, false));
        assert_eq!(Server::parse("xmpp.example.org:5223"), server("xmpp.example.org", 5223, true));
        assert_eq!(Server::parse("192.0.2.1:443"), server("192.0.2.1", 443, true));
        assert_eq!(Server::parse("[2001:db8::1]:5222"), server("2001:db8::1", 5222, false));
        assert_eq!(Server::parse("2001:db8::1"), server("2001:db8::1", 5222, false));
        for bad in ["", ":5222", "a:0", "a:99999", "a b", "a/b", "a:1:2"] {
            assert_eq!(Server::parse(bad), None, "{bad}");
        }
    }
}
