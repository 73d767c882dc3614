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

/// Where the rules lie. Apple's own names begin with greater numbers, and pf asks in this order.
pub const ANCHOR: &str = "com.apple/000.mast";
/// What of the main rules has pf ask about it.
pub const ASKED: &str = "anchor \"com.apple/*\"";
/// `PF_RULE_LABEL_SIZE` of `bsd/net/pfvar.h` holds a zero at the end.
const LONGEST_LABEL: usize = 63;

/// Private and link-local ranges, and groups that no router passes on (RFC 1918, 3927, 2365, 919).
const NEAR_V4: [&str; 7] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "224.0.0.0/24",
    "239.255.0.0/16",
    "255.255.255.255",
];
/// The same of IPv6 (RFC 4291, 4193).
const NEAR_V6: [&str; 3] = ["fe80::/10", "fc00::/7", "ff02::/16"];
/// Names are asked for at these ports, of UDP and TCP.
const NAMES: [u16; 2] = [53, 853];
/// Router and neighbour solicitation, neighbour advertisement, multicast listener reports of both versions, and their
/// end (RFC 4861, 2710, 9777).
const NEIGHBOURS: [u8; 6] = [133, 135, 136, 131, 132, 143];

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

fn number(family: Family) -> char {
    if family == Family::V4 { '4' } else { '6' }
}

fn word(family: Family) -> &'static str {
    if family == Family::V4 { "inet" } else { "inet6" }
}

fn digits(families: &BTreeSet<Family>) -> String {
    families.iter().map(|family| number(*family)).collect()
}

fn families(digits: &str) -> Option<BTreeSet<Family>> {
    let family = |digit| match digit {
        '4' => Some(Family::V4),
        '6' => Some(Family::V6),
        _ => None,
    };
    digits.chars().map(family).collect()
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

    fn held(&self) -> BTreeSet<Family> {
        self.protect.iter().chain(self.guard.iter().flat_map(|guard| &guard.families)).copied().collect()
    }

    /// What every label says: `p46 g46l utun4 mast0,utun4`.
    fn label(&self) -> String {
        let guard = match &self.guard {
            None => "-".to_owned(),
            Some(guard) => {
                format!("{}{}", digits(&guard.families), if guard.local_network { "l" } else { "n" })
            }
        };
        let names: Vec<&str> = self.guard.iter().flat_map(|g| &g.interfaces).map(String::as_str).collect();
        format!(
            "p{} g{guard} {} {}",
            digits(&self.protect),
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
        rules.push(format!("pass out quick proto udp all group {group} no state"));
        for family in self.held() {
            let (from, to) = if family == Family::V4 { (68, 67) } else { (546, 547) };
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
                let near: &[&str] = if family == Family::V4 { &NEAR_V4 } else { &NEAR_V6 };
                rules.extend(
                    near.iter().map(|range| format!("pass out quick {family_word} to {range} no state")),
                );
            }
            rules.push(format!("block drop out quick {family_word} all"));
        }
        let (count, label) = (rules.len(), self.label());
        let mut text = String::new();
        for (at, rule) in rules.iter().enumerate() {
            let label = format!("mast {}/{count} {label}", at + 1);
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
    let (mut found, mut token, mut meant, mut odd) = (BTreeSet::new(), None, None, false);
    for line in listed.lines().filter(|line| !line.trim().is_empty()) {
        let label =
            line.split_once("label \"").and_then(|(_, rest)| rest.split_once('"')).map(|(label, _)| label);
        let Some(label) = label.and_then(|label| label.strip_prefix("mast ")) else {
            odd = true;
            continue;
        };
        if let Some(number) = label.strip_prefix("token ") {
            token = number.parse().ok();
            continue;
        }
        let Some((at, rest)) = label.split_once(' ') else {
            odd = true;
            continue;
        };
        odd |= meant.is_some_and(|(_, before)| before != rest);
        let numbers = at.split_once('/').and_then(|(at, of)| Some((at.parse().ok()?, of.parse().ok()?)));
        let Some((at, of)): Option<(usize, usize)> = numbers else {
            odd = true;
            continue;
        };
        found.insert(at);
        meant = Some((of, rest));
    }
    let Some((of, label)) = meant else {
        return if odd || token.is_some() { InForce::Part(token) } else { InForce::Nothing };
    };
    match parse(label) {
        Some(rules) if !odd && found.iter().copied().eq(1..=of) => InForce::Whole(Rules { token, ..rules }),
        _ => InForce::Part(token),
    }
}

fn parse(label: &str) -> Option<Rules> {
    let mut words = label.split(' ');
    let protect = families(words.next()?.strip_prefix('p')?)?;
    let guard = words.next()?.strip_prefix('g')?;
    let interface = Some(words.next()?).filter(|name| *name != "-").map(str::to_owned);
    let names = words.next()?;
    let guard = match guard {
        "-" => None,
        guard => {
            let (held, local) = match (guard.strip_suffix('l'), guard.strip_suffix('n')) {
                (Some(held), _) => (held, true),
                (_, Some(held)) => (held, false),
                _ => return None,
            };
            let interfaces = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            Some(Guard { families: families(held)?, interfaces, local_network: local })
        }
    };
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
