//! Names of hosts, and what is beside them in DNS.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::rr::Name;
use hickory_proto::rr::rdata::TXT;

use crate::PeerKey;

/// What MAST is called in DNS (RFC 2782): `_mast._udp.NAME`.
const SERVICE: &str = "_mast._udp";
/// The longest name, in characters, that leaves room for what is put in front of it; a name of DNS has 253 at most.
const LONGEST: usize = 235;
/// The longest text that may be one, in bytes: letters of other scripts are longer than what they stand for.
const LONGEST_TEXT: usize = 1024;
/// The version of the record of a key.
const VERSION: &str = "v=mast1";
/// The longest record of a key that is read, in bytes; it needs 54.
const LONGEST_RECORD: usize = 512;

/// The name of a host, as it is found in DNS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Name);

impl HostName {
    /// What comes before all names.
    pub(crate) fn least() -> Self {
        Self(Name::root())
    }

    /// The name itself.
    pub(crate) fn host(&self) -> &Name {
        &self.0
    }

    /// Where its service is: `_mast._udp.NAME`.
    pub(crate) fn service(&self) -> Name {
        self.below(SERVICE)
    }

    /// A name below it.
    pub(crate) fn below(&self, labels: &str) -> Name {
        // The labels are ours, and `LONGEST` leaves room for them.
        let front = Name::from_ascii(labels).unwrap_or_default();
        front.append_name(&self.0).unwrap_or_else(|_| self.0.clone())
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| format!("`{text}` is no name of a host: {why}");
        let odd = || refuse("write one such as `laptop.example.org`");
        let bare = text.strip_suffix('.').unwrap_or(text);
        let within = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
        if bare.is_empty() || bare.len() > LONGEST_TEXT || !bare.chars().all(within) {
            return Err(odd());
        }
        let mut name = Name::from_utf8(bare).map_err(|_| odd())?;
        // What letters of other scripts stand for counts.
        let ascii = name.to_ascii();
        let label = |label: &str| {
            let within = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(within)
        };
        if !ascii.split('.').all(label) {
            return Err(odd());
        }
        // What ends with a number is an address (RFC 1123, section 2.1).
        if ascii.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
            return Err(refuse("it ends with a number, as an address does"));
        }
        if ascii.len() > LONGEST {
            return Err(refuse("it is too long"));
        }
        name.set_fqdn(true);
        Ok(Self(name.to_lowercase()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_ascii().trim_end_matches('.'))
    }
}

/// The record that says whose a name is.
pub(crate) fn record_of(key: &PeerKey) -> String {
    format!("{VERSION} k={}", STANDARD.encode(key))
}

/// The key in a record; none in one that is of something else, or damaged.
pub(crate) fn key_in(record: &TXT) -> Option<PeerKey> {
    let length: usize = record.txt_data.iter().map(|part| part.len()).sum();
    if length > LONGEST_RECORD {
        return None;
    }
    let text = String::from_utf8(record.txt_data.concat()).ok()?;
    let mut words = text.split_ascii_whitespace();
    if words.next() != Some(VERSION) {
        return None;
    }
    // Words that this version does not know are left alone.
    let key = words.find_map(|word| word.strip_prefix("k="))?;
    STANDARD.decode(key).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let name: HostName = "Laptop.Example.org.".parse().unwrap();
        assert_eq!(name.to_string(), "laptop.example.org");
        assert_eq!(name.service().to_ascii(), "_mast._udp.laptop.example.org.");
        assert_eq!("BÜCHER.example".parse::<HostName>(), "bücher.example".parse());
        assert_eq!("bücher.example".parse::<HostName>().unwrap().to_string(), "xn--bcher-kva.example");
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        let (long, very_long) = (["a"; 120].join("."), "a".repeat(2000));
        for (text, expected) in [
            ("", "write one such as"),
            (".", "write one such as"),
            ("a..b", "write one such as"),
            ("a b.example", "write one such as"),
            ("nas.example:6278", "write one such as"),
            ("192.0.2.1", "ends with a number"),
            ("a.１２", "ends with a number"),
            ("a。b", "write one such as"),
            (very_long.as_str(), "write one such as"),
            (long.as_str(), "too long"),
        ] {
            let error = text.parse::<HostName>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!("x".repeat(64).parse::<HostName>().is_err());
    }

    #[test]
    fn a_key_comes_back_out_of_its_record_and_out_of_nothing_else() {
        let key = [7; 32];
        let text = |parts: &[&str]| TXT::new(parts.iter().map(|part| (*part).to_owned()).collect());
        let record = record_of(&key);
        assert_eq!(key_in(&text(&[&record])), Some(key));
        let (front, back) = record.split_at(20);
        assert_eq!(key_in(&text(&[front, back])), Some(key), "in several strings");
        assert_eq!(key_in(&text(&[&format!("{record} x=1")])), Some(key), "with words of a later version");
        for wrong in ["", "v=spf1 -all", "v=mast2 k=AAAA", "v=mast1", "v=mast1 k=AAAA", "v=mast1 k=!"] {
            assert_eq!(key_in(&text(&[wrong])), None, "{wrong}");
        }
        let filler = "x".repeat(250);
        assert_eq!(key_in(&text(&[&record, &filler, &filler, &filler])), None, "too long");
        assert_eq!(key_in(&TXT::from_bytes(vec![&[0xff, 0xfe]])), None);
    }
}
