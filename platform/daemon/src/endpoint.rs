//! Where a peer may be reached, as the user writes it: an address or a host name, and a port; or a name that says both.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use mast_engine::reach::{Unreachable, why_unreachable};
use mast_rendezvous::dns::HostName;

use crate::ask;
use crate::turns::{Standing, Turns};

/// `HOST:PORT`; an IPv6 address in brackets, a link-local one with its zone: `[fe80::1%wlan0]:6278`. Or `srv:NAME`, whose
/// records of DNS say the ports, too, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// An address, ready for use.
    Address(SocketAddr),
    /// A link-local address, for use while its interface is there.
    Zoned {
        /// The address.
        address: Ipv6Addr,
        /// The interface that leads there: its name, or its number.
        zone: String,
        /// The UDP port.
        port: u16,
    },
    /// A name, which must be looked up.
    Name {
        /// The host.
        host: String,
        /// The UDP port.
        port: u16,
    },
    /// A name whose service is looked up ([`mast_rendezvous::dns`]).
    Service(HostName),
}

/// How a name of a service begins.
const SERVICE: &str = "srv:";

impl Endpoint {
    /// Reads an endpoint; the error says what is wrong with it.
    ///
    /// # Errors
    /// When it is neither an address nor a host name with a port, or an address at which no peer can be reached.
    pub fn parse(text: &str) -> Result<Self, String> {
        // A host may be called `srv`, too.
        if let Some(name) = text.strip_prefix(SERVICE).filter(|rest| rest.parse::<u16>().is_err()) {
            return name.parse().map(Self::Service);
        }
        let is_address = |text: &str| text.split('%').next().is_some_and(|a| a.parse::<IpAddr>().is_ok());
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || (host.starts_with('[') && host.ends_with(']')) => {
                (host, port)
            }
            Some(_) if is_address(text) => {
                return Err(format!("`{text}` has no port: write `[{text}]:6278`"));
            }
            None if !text.is_empty() => return Err(format!("`{text}` has no port: write `{text}:6278`")),
            _ => {
                return Err(format!(
                    "`{text}` is not HOST:PORT, such as `nas.example.org:6278` or `[2001:db8::1]:6278`"
                ));
            }
        };
        let port = match port.parse::<u16>() {
            Ok(port) if port != 0 => port,
            _ => return Err(format!("`{text}`: {}", Unreachable::Port)),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let (bare, zone) = match bare.split_once('%') {
            Some((address, zone)) => (address, Some(zone)),
            None => (bare, None),
        };
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Self::of_address(text, address.to_canonical(), zone, port);
        }
        let label = |l: &str| {
            !l.is_empty() && l.len() <= 63 && l.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
        };
        let name = host.strip_suffix('.').unwrap_or(host);
        // What consists of numbers only is an address that was mistyped.
        let numeric = name.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        if zone.is_some() || name.len() > 253 || !name.split('.').all(label) || numeric {
            return Err(format!("`{host}` is neither an address nor a host name"));
        }
        Ok(Self::Name { host: host.to_owned(), port })
    }

    fn of_address(text: &str, address: IpAddr, zone: Option<&str>, port: u16) -> Result<Self, String> {
        let at = SocketAddr::from((address, port));
        match (why_unreachable(at), zone, address) {
            (Some(Unreachable::NoZone(_)), Some(zone), IpAddr::V6(address)) => {
                let wrong = |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control();
                if zone.is_empty() || zone.len() > 15 || zone.contains(wrong) {
                    return Err(format!(
                        "`{text}`: the zone `{zone}` cannot be an interface, such as `wlan0`"
                    ));
                }
                Ok(Self::Zoned { address, zone: zone.to_owned(), port })
            }
            (Some(why), _, _) => Err(format!("`{text}`: {why}")),
            (None, Some(zone), _) => Err(format!(
                "`{text}`: only a link-local address (fe80::…) has a zone (`%{zone}`), and {address} is none: write `{at}`"
            )),
            (None, None, _) => Ok(Self::Address(at)),
        }
    }

    /// The host alone, as it is written.
    pub fn host(&self) -> String {
        match self {
            Self::Address(address) => address.ip().to_string(),
            Self::Zoned { address, .. } => address.to_string(),
            Self::Name { host, .. } => host.strip_suffix('.').unwrap_or(host).to_owned(),
            Self::Service(name) => name.to_string(),
        }
    }

    /// The address, unless it must be looked up or has a zone.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Zoned { .. } | Self::Name { .. } | Self::Service(_) => None,
        }
    }

    /// The name whose service is looked up.
    pub fn service(&self) -> Option<&HostName> {
        match self {
            Self::Service(name) => Some(name),
            _ => None,
        }
    }

    /// The interface over which alone it is reached.
    pub fn zone(&self) -> Option<&str> {
        match self {
            Self::Zoned { zone, .. } => Some(zone),
            Self::Address(_) | Self::Name { .. } | Self::Service(_) => None,
        }
    }

    /// The address with its zone, while the interface is there.
    pub fn zoned(&self) -> Option<SocketAddr> {
        let Self::Zoned { address, zone, port } = self else { return None };
        let number = mast_platform::interface_number(zone).or_else(|| zone.parse().ok())?;
        Some(SocketAddrV6::new(*address, *port, 0, number).into())
    }

    /// The addresses that it stands for now. A zone whose interface is not there stands for none.
    ///
    /// # Errors
    /// When the name cannot be looked up, or is not in time.
    ///
    /// While everything goes through a tunnel, `uplinks` are asked past it as well; whoever knows first is believed.
    pub(crate) async fn resolve(
        &self,
        uplinks: &[String],
        standing: Standing,
        turns: &Turns,
    ) -> std::io::Result<Vec<SocketAddr>> {
        let (host, port) = match self {
            Self::Address(address) => return Ok(vec![*address]),
            Self::Zoned { .. } => return Ok(self.zoned().into_iter().collect()),
            Self::Name { host, port } => (host, *port),
            // Whoever looks up services is `rendezvous.rs`.
            Self::Service(_) => return Ok(Vec::new()),
        };
        let here = turns.look_up(host, port, standing);
        if uplinks.is_empty() {
            return here.await;
        }
        let past = ask::addresses(host, uplinks, standing);
        tokio::pin!(past, here);
        let of = |all: Vec<IpAddr>| all.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        tokio::select! {
            found = &mut past => match found {
                Some(all) => Ok(of(all)),
                None => here.await,
            },
            found = &mut here => match found {
                Ok(all) => Ok(all),
                Err(error) => past.await.map(of).ok_or(error),
            },
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Zoned { address, zone, port } => write!(f, "[{address}%{zone}]:{port}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Service(name) => write!(f, "{SERVICE}{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turns::NAMES;

    #[test]
    fn reads_what_it_writes() {
        for text in [
            "192.0.2.1:6278",
            "169.254.7.1:1",
            "[2001:db8::1]:1",
            "[fe80::1%wifi0]:51820",
            "[fe80::1%3]:51820",
            "nas.example.org:51820",
            "localhost:65535",
            "srv:nas.example.org",
            "srv:6278",
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Endpoint::parse("[::ffff:192.0.2.1]:7").unwrap().to_string(), "192.0.2.1:7");
        assert_eq!(Endpoint::parse("[fe80::1%wifi0]:1").unwrap().zone(), Some("wifi0"));
        assert!(Endpoint::parse("192.0.2.1:1").unwrap().address().is_some());
        assert!(Endpoint::parse("nas:1").unwrap().address().is_none());
    }

    #[tokio::test]
    async fn a_zone_is_its_interface_while_that_is_there() {
        let own = mast_platform::interface_number("lo");
        let resolve = |text: &'static str| async move {
            Endpoint::parse(text).unwrap().resolve(&[], Standing::New, &NAMES).await.unwrap()
        };
        let expected = own.map(|number| SocketAddrV6::new("fe80::1".parse().unwrap(), 7, 0, number).into());
        assert_eq!(resolve("[fe80::1%lo]:7").await, Vec::from_iter(expected));
        assert_eq!(resolve("[fe80::1%3]:7").await, ["[fe80::1%3]:7".parse().unwrap()]);
        assert!(resolve("[fe80::1%nosuch0]:7").await.is_empty());
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, expected) in [
            ("nas.example.org", "write `nas.example.org:6278`"),
            ("2001:db8::1", "write `[2001:db8::1]:6278`"),
            ("nas:0", "port must be 1 to 65535"),
            ("nas:http", "port must be 1 to 65535"),
            ("nas:99999", "port must be 1 to 65535"),
            ("192.0.2.256:1", "neither an address nor a host name"),
            ("na s:1", "neither an address nor a host name"),
            ("0.0.0.0:1", "stands for no host"),
            ("[ff02::1%wifi0]:1", "multicast"),
            ("255.255.255.255:1", "everybody's address"),
            ("127.0.0.1:51820", "this machine itself"),
            ("[::1]:1", "this machine itself"),
            (
                "[fe80::1]:1",
                "write the zone, which is the interface that leads there, such as `fe80::1%wlan0`",
            ),
            ("[fe80::1%]:1", "the zone `` cannot be an interface"),
            ("[fe80::1%a/b]:1", "the zone `a/b` cannot be an interface"),
            ("[2001:db8::1%wifi0]:1", "only a link-local address (fe80::…) has a zone (`%wifi0`)"),
            ("192.0.2.1%wifi0:1", "only a link-local address"),
            ("nas%wifi0:1", "neither an address nor a host name"),
            ("fe80::1%wifi0", "write `[fe80::1%wifi0]:6278`"),
            ("srv:192.0.2.1", "ends with a number"),
            ("srv:nas.example.org:6278", "write one such as"),
            ("srv:", "write one such as"),
            ("", "not HOST:PORT"),
            (":1", "neither an address"),
        ] {
            let error = Endpoint::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
