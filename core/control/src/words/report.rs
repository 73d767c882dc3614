//! What a drill showed and what the doctor found, in words.

use super::{list, units};
use crate::layers::Evidence;
use crate::report::{DrillReport, DrillStep, Finding, Verdict};
use crate::status::{PeerKind, PeerState};

/// How a drill begins.
pub fn drill_progress(peer: &str, links: usize) -> String {
    format!("silencing each of the {links} links to {peer} in turn")
}

/// What became of a path that was silenced.
pub fn silenced(step: &DrillStep) -> String {
    match (&step.to, step.gap_ms) {
        (Some(to), Some(gap)) => {
            format!("{} silenced: {to} carried on, longest silence {gap:.0} ms", step.interface)
        }
        _ => format!("{} silenced: nothing took over", step.interface),
    }
}

/// A drill's verdict and its reason.
pub fn drill_verdict(report: &DrillReport) -> String {
    let steps = &report.steps;
    let stranded: Vec<_> = steps.iter().filter(|s| s.to.is_none()).map(|s| s.interface.as_str()).collect();
    let (sent, lost) = steps.iter().fold((0, 0), |(s, l), step| (s + step.sent, l + step.lost));
    let longest = steps.iter().filter_map(|s| s.gap_ms).fold(0.0, f64::max);
    let missing = usize::try_from(report.links).unwrap_or_default().saturating_sub(steps.len());
    match report.verdict {
        _ if steps.is_empty() => "the drill ended before a link was silenced".to_owned(),
        Verdict::Failed if !stranded.is_empty() => format!("nothing took over from {}", list(&stranded)),
        Verdict::Failed if longest > DrillReport::LONGEST_SILENCE_MS => {
            format!("another link took over each time, but only after {}", units::millis(longest))
        }
        Verdict::Failed => {
            format!("another link took over each time, but {lost} of {sent} datagrams were lost")
        }
        Verdict::Inconclusive => format!("the drill ended early: {missing} link(s) were not silenced"),
        Verdict::Passed => {
            let losses = match lost {
                0 => format!("none of {sent} datagrams was lost"),
                _ => format!("{lost} of {sent} datagrams were lost, those on their way over it"),
            };
            format!(
                "each of {} links could be lost: the longest silence was {longest:.0} ms, and {losses}",
                steps.len()
            )
        }
    }
}

/// What the doctor found.
pub fn finding(finding: &Finding) -> String {
    match finding {
        Finding::Down => "MAST is down".to_owned(),
        Finding::Up { interface, port: 0 } => {
            format!("MAST is up: interface {interface}, ports chosen by the system")
        }
        Finding::Up { interface, port } => format!("MAST is up: interface {interface}, UDP port {port}"),
        Finding::NoInterface => "this machine has no network interface that leads out".to_owned(),
        Finding::Unconnected { interfaces } => {
            format!("no interface is connected: {}", interfaces.join(", "))
        }
        Finding::Uplinks { interfaces } => match interfaces.as_slice() {
            [one] => format!("{one} is connected; with a second network, either may fail"),
            several => format!("{} are connected", several.join(", ")),
        },
        Finding::Saved => "the state is saved".to_owned(),
        Finding::Unsaved { error } => super::unkept(error),
        Finding::Forbidden { seconds, count } => format!(
            "this machine's own firewall holds back what MAST sends: not permitted {count} times, last {seconds} s ago"
        ),
        Finding::SilentUplink { interface, works, .. } => {
            format!("over {interface} no answer ever came, while {works} works")
        }
        Finding::BatchesLost { interfaces } => format!(
            "over {} datagrams leave one by one: many at a time were lost, and single ones are not. The kernel mangles \
             them (Linux 7.0 to 7.1.4 does); a newer one is quicker",
            interfaces.join(", ")
        ),
        Finding::Strangers { count } => format!(
            "{count} handshakes for this machine came from a key that no peer here has: if it is one of yours, pair it \
             again"
        ),
        Finding::AnswersArrive { peers } => {
            format!("what {} answers reaches this machine's programs", peers.join(", "))
        }
        Finding::AnswersDropped { peer, version, from, interface } => format!(
            "answers of {peer} are dropped on this machine: {version} from {from} goes into {interface}, and reaches no \
             program. A firewall here drops it"
        ),
        Finding::NothingLeaves { peer, version, to, interface } => format!(
            "{version} to {to} ({peer}) does not reach {interface}: a firewall of this machine, or a route of another \
             program, takes it"
        ),
        Finding::ClockYears => {
            "the clock is years behind: peers refuse what seems older than before".to_owned()
        }
        Finding::ClockBack { seconds } => {
            format!("the clock was set back by {seconds} s: peers refuse what seems older than before")
        }
        Finding::ClockFine => "the clock goes forward".to_owned(),
        Finding::Peer { unwanted: true, .. } => "not wanted: MAST is down".to_owned(),
        Finding::Peer { state: PeerState::Down, kind: PeerKind::Wireguard, paths: 0, .. } => {
            "no address of the server can be tried".to_owned()
        }
        Finding::Peer { state, paths, heard_s, .. } => {
            let heard = match heard_s {
                Some(ago) => format!("last heard {ago} s ago"),
                None => "never heard".to_owned(),
            };
            match state {
                PeerState::Connected => format!("connected, {heard}"),
                PeerState::Partial => format!("it answers, but not all goes to it that should, {heard}"),
                PeerState::Down if *paths == 0 => {
                    "it switched itself off, or no address of it can be tried".to_owned()
                }
                PeerState::Down => format!("it is off, {heard}"),
                PeerState::Connecting => format!("no answer on any of {paths} paths yet, {heard}"),
                PeerState::Unreachable | PeerState::Unknown => {
                    format!("it fell silent on all {paths} paths, {heard}")
                }
            }
        }
        Finding::Layer { evidence, .. } => super::evidence(evidence),
        Finding::Other => String::new(),
    }
}

/// What can be done about what the doctor found; none where nothing is wrong.
pub fn remedy(finding: &Finding) -> Option<&'static str> {
    const CLOCK: &str = "set the clock, or switch on time synchronisation: `timedatectl set-ntp true`";
    match finding {
        Finding::Down => Some("run `mast up`"),
        Finding::NoInterface => {
            Some("connect to a network; if one is there, see `ignore` in the configuration")
        }
        Finding::Unconnected { .. } => Some("connect to a network"),
        Finding::Unsaved { .. } => Some(
            "see `df` and `mount` for the disk of the state directory: make room on it, or have it be writable",
        ),
        Finding::Forbidden { .. } => {
            Some("let MAST's UDP out, and the answers in: see `nft list ruleset` and `iptables-save`")
        }
        Finding::SilentUplink { alike: true, .. } => Some(
            "both cards are in one network, where the router may send the answers for one to the other (ARP flux): run \
             `sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2` and reconnect it; or do \
             without it (`ignore` in the configuration)",
        ),
        Finding::SilentUplink { .. } => Some(
            "see that it leads to the peer: log in where the network wants that, look at its router and firewall; or do \
             without it (`ignore` in the configuration)",
        ),
        Finding::AnswersDropped { .. } => Some(
            "find the rule with `nft list ruleset` and `iptables-save`, and let in what comes from the virtual \
             interface: Tailscale drops 100.64.0.0/10 from all interfaces but its own; another `eid_pool` avoids that",
        ),
        Finding::NothingLeaves { .. } => {
            Some("see where `ip route get` leads it, and `nft list ruleset` and `iptables-save`")
        }
        Finding::Layer { evidence: Evidence::UdpStopped, .. } => Some(
            "see whether that network wants a login, or keeps UDP from going out or answers from coming in",
        ),
        Finding::Layer { evidence: Evidence::Unresolved { .. }, .. } => {
            Some("see that the name is spelled right, and that this machine's name servers answer")
        }
        Finding::ClockYears | Finding::ClockBack { .. } => Some(CLOCK),
        Finding::Peer { unwanted: true, .. } => None,
        // Nobody installs MAST there, nor pairs with it.
        Finding::Peer { state, kind: PeerKind::Wireguard, paths, .. } => match state {
            PeerState::Connected | PeerState::Partial => None,
            PeerState::Connecting | PeerState::Down if *paths == 0 => Some(
                "see that `Endpoint` in its file names an address that a network of this machine leads to",
            ),
            PeerState::Connecting | PeerState::Down => Some(
                "see that the server runs, that `Endpoint` has its UDP port and nothing on the way holds that back, that \
                 `PublicKey` is the server's, and that the server knows this machine's key (a WireGuard server answers \
                 nobody else)",
            ),
            PeerState::Unreachable | PeerState::Unknown => Some(
                "see that the server runs and still knows this machine's key, and that a firewall or portal here does \
                 not hold back UDP",
            ),
        },
        Finding::Peer { state, paths, .. } => match state {
            PeerState::Connected | PeerState::Partial => None,
            PeerState::Down if *paths == 0 => {
                Some("run `mast up` there; if it has moved for good, exchange an invite again")
            }
            PeerState::Down => Some("run `mast up` there"),
            PeerState::Connecting => Some(
                "see that mastd runs there, that its UDP port can be reached, and that both were paired with each \
                 other",
            ),
            PeerState::Unreachable | PeerState::Unknown => {
                Some("see that it has network, and that a firewall or portal here does not hold back UDP")
            }
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_suits_the_kind_of_peer() {
        for state in [PeerState::Down, PeerState::Connecting, PeerState::Unreachable, PeerState::Unknown] {
            for paths in [0, 2] {
                let of = |kind| {
                    let peer = "nas".to_owned();
                    let found = Finding::Peer { peer, state, kind, paths, heard_s: None, unwanted: false };
                    remedy(&found).unwrap_or_default()
                };
                let plain = of(PeerKind::Wireguard);
                assert!(!plain.contains("mast") && !plain.contains("pair"), "{state:?} {plain}");
                assert!(plain.contains("server") || plain.contains("Endpoint"), "{state:?} {plain}");
                assert!(!of(PeerKind::Mast).contains("server"), "{state:?}");
            }
        }
    }
}
