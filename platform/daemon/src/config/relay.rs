//! The `[[relay]]` sections.

use std::fmt;

use mast_rendezvous::turn::Transport;
use zeroize::Zeroizing;

use super::reader::{Report, Section, Value};
use crate::endpoint::Endpoint;

const KEYS: &[&str] = &["server", "transport", "username", "password", "ca"];
const TRANSPORTS: &str = "\"udp\", \"tcp\" or \"tls\"";
/// The most relays that are used.
const MOST: usize = 4;
/// The longest username and password, in bytes (RFC 8489, 14.3 and 9.2.2).
const LONGEST: usize = 508;

/// A TURN server (RFC 8656), and who uses it.
#[derive(Clone)]
pub struct RelayConfig {
    /// Where it is.
    pub server: Endpoint,
    /// How it is reached.
    pub transport: Transport,
    /// The user.
    pub username: String,
    /// The password.
    pub password: Zeroizing<String>,
    /// A file with authorities that may sign its certificate, besides those of the web.
    pub ca: Option<std::path::PathBuf>,
}

impl fmt::Debug for RelayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayConfig").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Reads every relay.
pub(super) fn read_all(report: &mut Report<'_>, value: &Value<'_>) -> Vec<RelayConfig> {
    let line = report.line(&value.span());
    let Some(array) = value.get_ref().as_array() else {
        report.problem(line, "`relay` must be written as [[relay]], with two brackets: there may be several");
        return Vec::new();
    };
    if array.len() > MOST {
        report.problem(line, format!("there are {} [[relay]] sections: write {MOST} at most", array.len()));
    }
    let mut found = Vec::new();
    for element in array {
        let line = report.line(&element.span());
        let Some(table) = element.get_ref().as_table() else {
            report.problem(line, "`relay` must be written as [[relay]], followed by its keys");
            continue;
        };
        let mut section = report.section(table, "relay", KEYS);
        found.extend(read(&mut section, line));
    }
    found
}

fn read(section: &mut Section<'_, '_, '_>, line: usize) -> Option<RelayConfig> {
    let server =
        section.string("server", "such as \"turn.example.org:3478\"", |text| match Endpoint::parse(text) {
            Ok(Endpoint::Zoned { .. }) => {
                Err(format!("`{text}`: a link-local address is no relay: peers elsewhere do not reach it"))
            }
            Ok(Endpoint::Service(_)) => Err(format!("`{text}`: write HOST:PORT")),
            // Its examples have MAST's port.
            other => other.map_err(|why| why.replace(":6278", ":3478")),
        });
    let transport = section.string("transport", TRANSPORTS, |word| match word {
        "udp" => Ok(Transport::Udp),
        "tcp" => Ok(Transport::Tcp),
        "tls" => Ok(Transport::Tls),
        other => Err(format!("must be {TRANSPORTS}, not \"{other}\"")),
    });
    let words = |text: &str| match text.len() {
        1..=LONGEST => Ok(text.to_owned()),
        _ => Err(format!("must have 1 to {LONGEST} bytes")),
    };
    let username = section.string("username", "such as \"ada\"", words);
    let password = section.string("password", "in quotes", |text| words(text).map(Zeroizing::new));
    let ca = section.string("ca", "a file, such as \"/etc/mast/ca.pem\"", |text| {
        let path = std::path::PathBuf::from(text);
        if path.is_absolute() {
            Ok(path)
        } else {
            Err(format!("`{text}` must begin at the root: it is read by the service"))
        }
    });
    for key in ["server", "username", "password"] {
        if section.value(key).is_none() {
            section.report.problem(line, format!("[[relay]] has no `{key}`"));
        }
    }
    let transport = transport.map_or(Transport::Udp, |t| t.value);
    if let Some(ca) = ca.as_ref().filter(|_| transport != Transport::Tls) {
        section.wrong(ca.line, "ca", "only counts with transport = \"tls\": leave it out");
    }
    Some(RelayConfig {
        server: server?.value,
        transport,
        username: username?.value,
        password: password?.value,
        ca: ca.map(|ca| ca.value),
    })
}
