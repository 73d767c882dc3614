//! Leak protection: an anchor of the packet filter pf, as text.
//!
//! It hangs below `com.apple/*`, which the rules that macOS comes with ask about: no file of others is touched, and where
//! a program replaced those rules, that is found, and said. What is in force is read from the rules themselves: each
//! carries a label (pf.conf(5), at most 63 bytes) with its number, how many there are, and what they are for. A set of
//! which one is missing is none. Rules keep no state: what they let through is asked about each time.
//!
//! The service's own datagrams are told from those of others by the group that its sockets have, which is its own alone
//! where launchd started it as it is installed.

use std::collections::BTreeSet;
use std::fmt::Write;

use mast_engine::declared::Guard;
use mast_engine::os::Family;

use crate::labels::{self, Labels};
use crate::near::{self, NAMES, NEIGHBOURS};

/// Where the rules lie. Apple's own names begin with greater numbers, and pf asks in this order.
pub const ANCHOR: &str = "com.apple/000.mast";
/// What of the main rules has pf ask about it.
pub const ASKED: &str = "anchor \"com.apple/*\"";
/// `PF_RULE_LABEL_SIZE` of `bsd/net/pfvar.h` holds a zero at the end.
const LONGEST_LABEL: usize = 63;

/// What the anchor is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The versions of IP of which nothing leaves but into the virtual interface, to what is near, and of the service.
    pub protect: BTreeSet<Family>,
    /// What may leave at all.
    pub guard: Option<Guard>,
    /// The virtual interface, where there is one.
    pub interface: Option<String>,
    /// What pf gave when it was switched on for these rules, to be given back.
    pub token: Option<u64>,
}

fn word(family: Family) -> &'static str {
    if family == Family::V4 { "inet" } else { "inet6" }
}

/// A name that can stand in a rule: it comes from the configuration.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() < 16
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

impl Rules {
    /// There is nothing to filter.
    pub fn is_empty(&self) -> bool {
        self.protect.is_empty() && self.guard.is_none()
    }

    /// What every label says: `p46 g46l utun4 mast0,utun4`.
    fn label(&self) -> String {
        let names: Vec<&str> = self.guard.iter().flat_map(|g| &g.interfaces).map(String::as_str).collect();
        format!(
            "{} {} {}",
            labels::words(&self.protect, self.guard.as_ref()),
            self.interface.as_deref().unwrap_or("-"),
            names.join(",")
        )
    }

    /// The text of the anchor. `group` is that of the service's sockets.
    ///
    /// # Errors
    /// In words, when an interface has a name that pf cannot have.
    pub fn text(&self, group: u32) -> Result<String, String> {
        let interfaces: BTreeSet<&String> =
            self.interface.iter().chain(self.guard.iter().flat_map(|guard| &guard.interfaces)).collect();
        if let Some(name) = interfaces.iter().find(|name| !is_name(name)) {
            return Err(format!("`{name}` is no name of an interface: choose another"));
        }
        let mut rules = vec!["pass out quick on lo0 all no state".to_owned()];
        rules.extend(interfaces.iter().map(|name| format!("pass out quick on {name} all no state")));
        // It also connects, to relays and where peers are found.
        for protocol in ["udp", "tcp"] {
            rules.push(format!("pass out quick proto {protocol} all group {group} no state"));
        }
        for family in labels::held(&self.protect, self.guard.as_ref()) {
            let (from, to) = near::dhcp(family);
            let family_word = word(family);
            rules.push(format!(
                "pass out quick {family_word} proto udp from any port {from} to any port {to} no state"
            ));
            if family == Family::V6 {
                rules.extend(
                    NEIGHBOURS.map(|kind| {
                        format!("pass out quick inet6 proto icmp6 all icmp6-type {kind} no state")
                    }),
                );
            }
            let guard = self.guard.as_ref().filter(|guard| guard.families.contains(&family));
            if guard.is_some() {
                for protocol in ["udp", "tcp"] {
                    rules.extend(NAMES.map(|port| {
                        format!("block drop out quick {family_word} proto {protocol} to any port {port}")
                    }));
                }
            }
            if guard.is_none_or(|guard| guard.local_network) {
                let pass = |range| format!("pass out quick {family_word} to {range} no state");
                rules.extend(near::ranges(family).iter().map(pass));
            }
            rules.push(format!("block drop out quick {family_word} all"));
        }
        let (count, label) = (rules.len(), self.label());
        let mut text = String::new();
        for (at, rule) in rules.iter().enumerate() {
            let label = labels::label(at + 1, count, &label);
            if label.len() > LONGEST_LABEL {
                return Err(
                    "the names of the virtual interface are too long: choose a shorter one".to_owned()
                );
            }
            let _ = writeln!(text, "{rule} label \"{label}\"");
        }
        // It matches nothing, and is there for what its label says.
        if let Some(token) = self.token {
            let _ =
                writeln!(text, "pass out quick on lo0 proto 255 all no state label \"mast token {token}\"");
        }
        Ok(text)
    }
}

/// What is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InForce {
    /// No rule of MAST's.
    Nothing,
    /// All of it.
    Whole(Rules),
    /// Some of it, or what another version set; with what pf is to be given back.
    Part(Option<u64>),
}

/// Reads what is in force from the rules as pf lists them.
pub fn read(listed: &str) -> InForce {
    let (mut found, mut token) = (Labels::default(), None);
    for line in listed.lines().filter(|line| !line.trim().is_empty()) {
        let label = line.split_once("label \"").and_then(|(_, rest)| rest.split_once('"'));
        match label.map(|(label, _)| (label, label.strip_prefix("mast token "))) {
            Some((_, Some(number))) => token = number.parse().ok(),
            Some((label, None)) => found.note(label),
            None => found.note_odd(),
        }
    }
    match found.whole().map(|what| what.map(parse)) {
        Ok(Some(Some(rules))) => InForce::Whole(Rules { token, ..rules }),
        Ok(None) if token.is_none() => InForce::Nothing,
        _ => InForce::Part(token),
    }
}

fn parse(label: &str) -> Option<Rules> {
    let mut words = label.split(' ');
    let (protect, mut guard) = labels::meaning(words.next()?, words.next()?)?;
    let interface = Some(words.next()?).filter(|name| *name != "-").map(str::to_owned);
    let names = words.next()?;
    if let Some(guard) = &mut guard {
        guard.interfaces = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    }
    words.next().is_none().then_some(Rules { protect, guard, interface, token: None })
}

/// The number that pf gives to whom it is switched on for (`pfctl -E` prints `Token : 1234`).
pub fn token(printed: &str) -> Option<u64> {
    printed
        .lines()
        .find_map(|line| line.strip_prefix("Token : "))
        .and_then(|number| number.trim().parse().ok())
}

/// Whether pf works (`pfctl -s info` prints `Status: Enabled for …`).
pub fn is_on(printed: &str) -> bool {
    printed.lines().any(|line| line.trim_start().starts_with("Status: Enabled"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn guard(families: &[Family], local_network: bool) -> Guard {
        let interfaces = ["mast0".to_owned(), "utun4".to_owned()].into();
        Guard { families: families.iter().copied().collect(), interfaces, local_network }
    }

    fn rules(protect: &[Family], guard: Option<Guard>) -> Rules {
        let protect = protect.iter().copied().collect();
        Rules { protect, guard, interface: Some("utun4".into()), token: Some(u64::MAX) }
    }

    /// What the first rule that fits says, of a datagram that is described by what a rule may name.
    fn passes(text: &str, family: &str, to: &str, words: &[&str]) -> bool {
        for rule in text.lines() {
            let rule = rule.split(" label").next().unwrap().trim_end_matches(" no state");
            let tail: Vec<&str> = rule.split(' ').skip_while(|w| *w != "quick").skip(1).collect();
            let mut fits = true;
            let mut at = 0;
            while at < tail.len() {
                let take = |n: usize| tail[at..(at + n).min(tail.len())].join(" ");
                let (part, length) = match tail[at] {
                    "inet" | "inet6" => {
                        fits &= tail[at] == family;
                        (String::new(), 1)
                    }
                    "all" => (String::new(), 1),
                    "to" if tail[at + 1] != "any" => {
                        fits &= tail[at + 1] == to;
                        (String::new(), 2)
                    }
                    "to" => (take(4), 4),
                    "from" => (take(4), 4),
                    _ => (take(2), 2),
                };
                fits &= part.is_empty() || words.contains(&part.as_str());
                at += length;
            }
            if fits {
                return rule.starts_with("pass");
            }
        }
        true
    }

    #[test]
    fn what_may_leave_is_let_through_and_nothing_else() {
        let far = ["proto tcp", "to any port 443"];
        let text = rules(&[], Some(guard(&[Family::V4, Family::V6], true))).text(700).unwrap();
        for family in ["inet", "inet6"] {
            assert!(!passes(&text, family, "elsewhere", &far));
            assert!(passes(&text, family, "elsewhere", &["on utun4", "proto tcp"]));
            assert!(passes(&text, family, "elsewhere", &["proto udp", "group 700"]));
            assert!(passes(&text, family, "elsewhere", &["proto tcp", "group 700"]));
            assert!(!passes(&text, family, "elsewhere", &["proto udp", "group 0"]));
        }
        assert!(passes(&text, "inet", "192.168.0.0/16", &["proto tcp"]));
        assert!(!passes(&text, "inet", "192.168.0.0/16", &["proto udp", "to any port 53"]), "names nearby");
        assert!(passes(&text, "inet6", "x", &["proto icmp6", "icmp6-type 135"]));
        assert!(passes(&text, "inet", "x", &["proto udp", "from any port 68", "to any port 67"]));

        let text = rules(&[], Some(guard(&[Family::V6], false))).text(700).unwrap();
        assert!(passes(&text, "inet", "elsewhere", &far), "the other version is not held back");
        assert!(!passes(&text, "inet6", "fe80::/10", &far));

        let text = rules(&[Family::V4], None).text(700).unwrap();
        assert!(!passes(&text, "inet", "elsewhere", &far));
        assert!(passes(&text, "inet", "10.0.0.0/8", &["proto udp", "to any port 53"]));
        assert!(passes(&text, "inet6", "elsewhere", &far));
    }

    #[test]
    fn what_is_in_force_is_read_from_the_rules() {
        let both = [Family::V4, Family::V6];
        for all in [
            rules(&both, Some(guard(&both, true))),
            rules(&[], Some(guard(&[Family::V6], false))),
            rules(&[Family::V4], None),
            Rules { interface: None, token: None, ..rules(&[Family::V6], None) },
        ] {
            let text = all.text(700).unwrap();
            assert_eq!(read(&text), InForce::Whole(all.clone()), "{text}");
            // Without any one of them it is not whole.
            let count = text.lines().filter(|line| !line.contains("mast token")).count();
            for gone in 0..count {
                let rest: Vec<&str> =
                    text.lines().enumerate().filter(|(at, _)| *at != gone).map(|(_, l)| l).collect();
                assert_eq!(read(&rest.join("\n")), InForce::Part(all.token), "{gone}");
            }
            let other = format!("{text}pass out quick all\n");
            assert_eq!(read(&other), InForce::Part(all.token), "a rule of somebody else");
        }
        assert_eq!(read(""), InForce::Nothing);
        assert_eq!(read("\n \n"), InForce::Nothing);
        assert_eq!(read("block all label \"mast 1/1 p7 g- - \""), InForce::Part(None));
        assert_eq!(read("block all label \"mast 1\""), InForce::Part(None));
    }

    #[test]
    fn names_that_would_be_rules_are_refused() {
        for name in ["en0 all\npass", "a b", "", "\"", "interface-of-16.."] {
            let all = Rules { interface: Some(name.into()), ..rules(&[Family::V4], None) };
            assert!(all.text(1).is_err(), "{name}");
        }
        // The longest that there can be, and the largest number.
        let names = ["abcdefghijklmno".to_owned(), "bcdefghijklmnop".to_owned()];
        let guard = Guard {
            families: [Family::V4, Family::V6].into(),
            interfaces: names.clone().into(),
            local_network: true,
        };
        let all = Rules { interface: None, ..rules(&[Family::V4, Family::V6], Some(guard)) };
        assert!(all.text(1).is_ok());
        assert!(Rules { interface: Some(names[0].clone()), ..all }.text(1).unwrap_err().contains("shorter"));
    }

    #[test]
    fn what_pfctl_prints_is_understood() {
        assert_eq!(
            token("No ALTQ support in kernel\npf enabled\nToken : 16104379372853\n"),
            Some(16_104_379_372_853)
        );
        assert_eq!(token("pf enabled"), None);
        assert!(is_on("No ALTQ support in kernel\nStatus: Enabled for 0 days 00:00:10    Debug: Urgent\n"));
        assert!(!is_on("Status: Disabled for 0 days 00:00:10"));
    }
}
