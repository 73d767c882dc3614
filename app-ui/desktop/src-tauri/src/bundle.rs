//! What may be sent to whoever helps: logs and what doctor says, without keys, addresses and names.

use std::collections::BTreeMap;

use mast_control::{DoctorReport, Status};

/// Replaces what must not leave the machine, each thing by the same word every time.
#[derive(Debug, Default)]
pub struct Redactor {
    names: Vec<(String, String)>,
    seen: BTreeMap<String, String>,
}

impl Redactor {
    /// Knows the names that the status holds.
    pub fn new(status: Option<&Status>) -> Self {
        let mut names = Vec::new();
        if let Some(status) = status {
            names.push((status.name.clone(), "this-host".to_owned()));
            names.extend(
                status.peers.iter().enumerate().map(|(n, p)| (p.name.clone(), format!("peer-{}", n + 1))),
            );
            let networks = status.interfaces.iter().filter_map(|i| i.network.clone());
            names.extend(networks.enumerate().map(|(n, name)| (name, format!("network-{}", n + 1))));
        }
        names.retain(|(name, _)| !name.is_empty());
        // A name may be part of another.
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Self { names, seen: BTreeMap::new() }
    }

    /// A text without them.
    pub fn redact(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, word) in &self.names {
            text = text.replace(name.as_str(), word);
        }
        let mut out = String::with_capacity(text.len());
        let mut word = String::new();
        for c in text.chars().chain(['\n']) {
            if c.is_ascii_alphanumeric() || "+/=.:[]%_-".contains(c) {
                word.push(c);
            } else {
                out.push_str(&self.word(&word));
                word.clear();
                out.push(c);
            }
        }
        out.pop();
        out
    }

    fn word(&mut self, word: &str) -> String {
        if let Some((before, _)) = word.split_once("mast://") {
            return format!("{before}<invite>");
        }
        // Around an address may be brackets, and behind it a port, a prefix, a full stop.
        let bare = word.trim_matches(|c| "[].:=".contains(c));
        let address = address_in(bare);
        let kind = if address.is_some() {
            "address"
        } else if is_secret(bare) {
            "secret"
        } else {
            return word.to_owned();
        };
        let what = address.unwrap_or(bare).to_owned();
        let number = self.seen.len() + 1;
        let shown = self.seen.entry(what.clone()).or_insert_with(|| format!("<{kind}-{number}>"));
        word.replacen(&what, shown, 1)
    }
}

/// The address at the end or the beginning of a word.
fn address_in(word: &str) -> Option<&str> {
    let word = word.rsplit_once('=').map_or(word, |(_, value)| value).trim_start_matches('[');
    let candidates = [
        word,
        word.split(['/', ']', '%']).next().unwrap_or(word),
        word.rsplit_once(':').map_or(word, |(address, _)| address),
    ];
    let is_address = |c: &&str| c.parse::<std::net::IpAddr>().is_ok();
    candidates.into_iter().find(is_address)
}

/// Keys, and the secrets of links: long runs of base64.
fn is_secret(word: &str) -> bool {
    let base64 = word.chars().all(|c| c.is_ascii_alphanumeric() || "+/=_-".contains(c));
    let mixed = word.chars().any(|c| c.is_ascii_digit()) && word.chars().any(|c| c.is_ascii_uppercase());
    base64 && word.len() >= 32 && mixed
}

/// The whole text.
pub fn text(status: Option<&Status>, doctor: Option<&DoctorReport>, logs: &[String]) -> String {
    let mut redactor = Redactor::new(status);
    let mut out = format!("MAST desktop {}\n", env!("CARGO_PKG_VERSION"));
    if let Some(status) = status {
        out.push_str(&format!(
            "mastd {}, up: {}, peers: {}\n",
            status.version,
            status.up,
            status.peers.len()
        ));
    }
    out.push_str("\n== doctor\n");
    match doctor {
        Some(report) => {
            for check in &report.checks {
                let well = if check.ok { "well" } else { "NOT WELL" };
                out.push_str(&format!("{well}: {}: {}\n", check.name, redactor.redact(&check.detail)));
            }
            for (name, count) in &report.counters {
                out.push_str(&format!("{name} = {count}\n"));
            }
        }
        None => out.push_str("(the service does not answer)\n"),
    }
    out.push_str("\n== log\n");
    for line in logs {
        out.push_str(&redactor.redact(line));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn nothing_that_tells_who_and_where_is_left() {
        let key = "q8JjvnCoTtFcZlN1zXg3s9xu2Ck7m0bq5yq3Vt1LwXk=";
        let status: Status = from_value(json!({"up": true, "name": "annas-laptop", "version": "1",
            "public_key": key, "interfaces": [{"name": "wlan0", "kind": "wifi", "network": "Anna's Home"}],
            "peers": [{"name": "nas", "public_key": key, "state": "connected", "kind": "mast", "eid": {},
                       "policy": {"mode": "auto"}}]}))
        .unwrap();
        let logs = [
            format!("peer=nas key={key} at 192.0.2.7:6278 and [2001:db8::1]:6278, 2001:db8::1/64"),
            "wlan0 is on Anna's Home; annas-laptop at 192.0.2.7.".to_owned(),
            "joined mast://1/AbCdEf0123456789AbCdEf0123456789AbCd".to_owned(),
            "2026-11-24T12:04:05.1Z INFO 12:04 rtt 40.2 ms".to_owned(),
        ];
        let text = text(Some(&status), None, &logs);
        for secret in [key, "192.0.2.7", "2001:db8::1", "Anna", "annas-laptop", "AbCdEf"] {
            assert!(!text.contains(secret), "{secret} in\n{text}");
        }
        // The same thing has the same word, and times are no addresses.
        assert_eq!(text.matches("<address-2>").count(), 2, "{text}");
        assert!(text.contains("wlan0 is on network-1") && text.contains("INFO 12:04 rtt 40.2 ms"), "{text}");
    }
}
