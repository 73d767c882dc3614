//! Files of other programs: which they are, and whether they are plain WireGuard all the same.

use super::squeezed;

/// A key that another program adds, and what its value must be for a plain WireGuard server to understand this host.
struct Addition {
    dialect: &'static str,
    key: &'static str,
    neutral: fn(&str) -> bool,
}

const AMNEZIA: &str = "AmneziaWG";
const WARP: &str = "WARP (`Reserved`)";
const WIRESOCK: &str = "WireSock";
const ANDROID: &str = "the WireGuard app for Android";

/// Nobody but this host's own side sees it.
fn any(_: &str) -> bool {
    true
}

fn never(value: &str) -> bool {
    value.is_empty()
}

fn zero(value: &str) -> bool {
    value.is_empty() || value.parse() == Ok(0_u32)
}

fn zeros(value: &str) -> bool {
    value.trim_matches(['[', ']']).split(',').all(zero)
}

fn off(value: &str) -> bool {
    ["", "off", "false", "no", "0"].iter().any(|off| value.eq_ignore_ascii_case(off))
}

/// WireGuard's own number of a message, or a range that is that number alone.
fn is(value: &str, number: u32) -> bool {
    value.is_empty() || value.split('-').all(|end| end.parse() == Ok(number))
}

fn one(value: &str) -> bool {
    is(value, 1)
}
fn two(value: &str) -> bool {
    is(value, 2)
}
fn three(value: &str) -> bool {
    is(value, 3)
}
fn four(value: &str) -> bool {
    is(value, 4)
}

macro_rules! additions {
    ($($dialect:ident: $($key:literal $neutral:ident),+;)+) => {
        &[$($(Addition { dialect: $dialect, key: $key, neutral: $neutral }),+),+]
    };
}

/// Junk that is sent before a handshake is dropped by any server; what is put before messages, and other numbers for
/// them, must be agreed on.
const ADDITIONS: &[Addition] = additions! {
    AMNEZIA: "Jc" any, "Jmin" any, "Jmax" any, "Itime" any,
        "I1" any, "I2" any, "I3" any, "I4" any, "I5" any, "J1" any, "J2" any, "J3" any,
        "S1" zero, "S2" zero, "S3" zero, "S4" zero,
        "H1" one, "H2" two, "H3" three, "H4" four,
        "AdvancedSecurity" off;
    WARP: "Reserved" zeros, "ClientID" never;
    WIRESOCK: "AllowedApps" never, "DisallowedApps" never, "DisallowedIPs" never, "Socks5Proxy" never,
        "Socks5ProxyUsername" never, "Socks5ProxyPassword" never, "BypassLanTraffic" off, "VirtualAdapterMode" any;
    ANDROID: "IncludedApplications" never, "ExcludedApplications" never;
};

/// The additions of a file, as they come.
#[derive(Default)]
pub(super) struct Additions {
    /// The dialects and their keys that change nothing.
    pub neutral: Vec<(&'static str, Vec<String>)>,
    /// The first that does: dialect, key, line.
    pub foreign: Option<(&'static str, &'static str, usize)>,
}

impl Additions {
    /// Whether the key is one; then it is noted.
    pub fn take(&mut self, line: usize, key: &str, value: &str) -> bool {
        let value = squeezed(value);
        let Some(addition) = ADDITIONS.iter().find(|a| a.key.eq_ignore_ascii_case(key)) else { return false };
        if !(addition.neutral)(&value) {
            self.foreign.get_or_insert((addition.dialect, addition.key, line));
            return true;
        }
        match self.neutral.iter_mut().find(|(dialect, _)| *dialect == addition.dialect) {
            Some((_, keys)) if keys.iter().any(|k| k == addition.key) => {}
            Some((_, keys)) => keys.push(addition.key.to_owned()),
            None => self.neutral.push((addition.dialect, vec![addition.key.to_owned()])),
        }
        true
    }

    /// Why the file cannot be used, and what can be done.
    pub fn refusal(&self) -> Option<(usize, String)> {
        let (dialect, key, line) = self.foreign?;
        let why = match dialect {
            AMNEZIA => format!(
                "this is a file for AmneziaWG, and its `{key}` makes the server speak another protocol than WireGuard, \
                 which MAST does not: ask for a plain WireGuard file (S1 to S4 = 0, H1 to H4 = 1 to 4), or use the \
                 AmneziaWG app"
            ),
            WARP => format!(
                "`{key}` alters bytes of WireGuard's messages, as some files for WARP do, and MAST cannot: ask for a \
                 file without it"
            ),
            _ => format!(
                "this is a file for {dialect}, and its `{key}` keeps some traffic in or out of the tunnel, which MAST \
                 cannot do: remove the line if all of `AllowedIPs` may go through the tunnel"
            ),
        };
        Some((line, why))
    }
}

/// A file that is no list of keys in sections at all, or one of another program: what it is, and what can be done.
pub(super) fn foreign(text: &str) -> Option<&'static str> {
    let has = |line: &str| text.lines().any(|l| squeezed(l).eq_ignore_ascii_case(line));
    let begins = |word: &str| text.lines().any(|l| l.trim_start().starts_with(word));
    let first =
        text.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with('#') && !l.starts_with(';'));
    if has("[wireguard]") && has("[connection]") {
        return Some(
            "this is a profile of NetworkManager: write its keys into a file of wg-quick, with [Interface] and [Peer], \
             and add that",
        );
    }
    if has("[NetDev]") || has("[WireGuardPeer]") {
        return Some(
            "this is a file of systemd-networkd: write its keys into a file of wg-quick, with [Interface] and [Peer], \
             and add that",
        );
    }
    if begins("<ca>") || begins("<cert>") || first == Some("client") || begins("remote ") && begins("dev ") {
        return Some("this is a file for OpenVPN, which is another protocol: ask for one for WireGuard");
    }
    if text.trim_start().starts_with(['{', '<']) || begins("proxies:") || begins("outbounds:") {
        return Some(
            "this is no file of wg-quick, but of another program: ask for one for WireGuard, which begins with \
             [Interface]",
        );
    }
    if text.trim_start().starts_with("private_key=") || text.trim_start().starts_with("public_key=") {
        return Some(
            "these are messages for a running WireGuard, not its file: ask for one of wg-quick, which begins with \
             [Interface]",
        );
    }
    if text.chars().take(64).filter(|c| *c == '\0').count() > 8 {
        return Some("this is not plain text: save it as text (UTF-8), or ask for it again");
    }
    None
}
