//! What of a peer's file is not done, in words.

use crate::note::{Note, Noted};

/// A note in words, without a full stop.
pub fn note(note: &Note) -> String {
    match noted(&note.what) {
        known if known.is_empty() => note.text.clone(),
        known => known,
    }
}

/// What a code says.
pub(crate) fn noted(what: &Noted) -> String {
    match what {
        Noted::Disguise { dialect, keys } => format!(
            "this is plain WireGuard in a file for {dialect}: {} left out, which change nothing for the server",
            list(keys)
        ),
        Noted::NameServers { servers, line } => {
            format!("`DNS = {servers}` (line {line}) is not set: the system's own name servers stay")
        }
        Noted::Command { key, line } => format!("`{key}` (line {line}) is not run: MAST runs no commands"),
        Noted::KillSwitch { key, line } => format!(
            "`{key}` (line {line}), which keeps traffic from going around the tunnel (a kill switch), is not run: \
             `mast protect on` switches on MAST's own leak protection"
        ),
        Noted::NoRoutes { line } => format!(
            "`Table = off` (line {line}): no route is set to `AllowedIPs`, and not everything goes to this peer; \
             `mast peer full-tunnel NAME on` if you want that"
        ),
        Noted::OtherTable { table, line } => format!(
            "`Table = {table}` (line {line}): MAST keeps no routes in other tables, so none is set to `AllowedIPs`"
        ),
        Noted::Port { line } => {
            format!("`ListenPort` (line {line}) is left out: `port` in mastd.toml counts")
        }
        Noted::Mark { line } => {
            format!("`FwMark` (line {line}) is left out: the service marks its packets itself")
        }
        Noted::Unused { key, line } => format!("`{key}` (line {line}) is left out: it means nothing to MAST"),
        Noted::OwnKey => {
            "[Interface] has no `PrivateKey`: this host's own key is used, which the server must know"
                .to_owned()
        }
        Noted::NoAddress => {
            "[Interface] has no `Address`: this host has no address of its own in the tunnel".to_owned()
        }
        Noted::NothingAllowed { line } => {
            format!("the [Peer] in line {line} has no `AllowedIPs`: nothing goes to it")
        }
        Noted::OneVersion { tunnel } if tunnel == "IPv6" => {
            "all IPv6 goes to it and no IPv4, which goes its usual way; leak protection leaves that alone"
                .to_owned()
        }
        Noted::OneVersion { .. } => {
            "all IPv4 goes to it and no IPv6, which goes around it if this machine has any; \
             `mast protect on` refuses that"
                .to_owned()
        }
        Noted::OnePeer { line, first } => {
            format!(
                "the [Peer] in line {line} has the key of the one in line {first}: they are taken as one peer"
            )
        }
        Noted::RangeOfLater { range, line } => format!(
            "{range} stands with two peers: it leads to the later one (line {line}), as with WireGuard"
        ),
        Noted::UselessAddress { name, problem } => {
            format!("{name} leads to an address that is of no use: {problem}")
        }
        Noted::ManyAddresses { name, count, tried } => {
            format!("{name} has {count} addresses, of which {tried} are tried")
        }
        Noted::Other => String::new(),
    }
}

fn list(keys: &[String]) -> String {
    let quoted: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last} are", rest.join(", ")),
        Some((last, _)) => format!("{last} is"),
        None => "nothing is".to_owned(),
    }
}
