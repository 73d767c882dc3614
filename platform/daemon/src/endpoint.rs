//! Where a peer may be reached, as the user writes it: an address or a host name, and a port.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// `HOST:PORT`; an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// An address, ready for use.
    Address(SocketAddr),
    /// A name, which must be looked up.
    Name {
        /// The host.
        host: String,
        /// The UDP port.
        port: u16,
    },
}

impl Endpoint {
    /// Reads an endpoint; the error says what is wrong with it.
    ///
    /// # Errors
    /// When it is neither an address nor a host name with a port.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || (host.starts_with('[') && host.ends_with(']')) => {
                (host, port)
            }
            Some(_) if text.parse::<IpAddr>().is_ok() => {
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
            _ => return Err(format!("`{text}`: the port must be 1 to 65535")),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            if address.is_unspecified() || address.is_multicast() {
                return Err(format!("`{text}`: no host can be reached at {address}"));
            }
            return Ok(Self::Address((address, port).into()));
        }
        let label = |l: &str| {
            !l.is_empty() && l.len() <= 63 && l.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
        };
        let name = host.strip_suffix('.').unwrap_or(host);
        // What consists of numbers only is an address that was mistyped.
        let numeric = name.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        if name.len() > 253 || !name.split('.').all(label) || numeric {
            return Err(format!("`{host}` is neither an address nor a host name"));
        }
        Ok(Self::Name { host: host.to_owned(), port })
    }

    /// The address, unless it must be looked up.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Name { .. } => None,
        }
    }

    /// The addresses that it stands for now.
    ///
    /// # Errors
    /// When the name cannot be looked up.
    pub async fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        match self {
            Self::Address(address) => Ok(vec![*address]),
            Self::Name { host, port } => Ok(tokio::net::lookup_host((host.as_str(), *port)).await?.collect()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in ["192.0.2.1:6278", "[2001:db8::1]:1", "nas.example.org:51820", "localhost:65535"] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        assert!(Endpoint::parse("192.0.2.1:1").unwrap().address().is_some());
        assert!(Endpoint::parse("nas:1").unwrap().address().is_none());
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
            ("0.0.0.0:1", "no host can be reached"),
            ("", "not HOST:PORT"),
            (":1", "neither an address"),
        ] {
            let error = Endpoint::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
