//! What happened, in words.

use std::net::SocketAddr;

use super::{called, units};
use crate::event::{Ends, Event, SocketCause, What};
use crate::status::Status;

/// What happened, in words that continue "wifi …" where data moved: "went silent".
pub fn reason(what: &What) -> String {
    match what {
        What::LinkDown => "link down".to_owned(),
        What::AddressGone => "address gone".to_owned(),
        What::Silent => "went silent".to_owned(),
        What::PeerSilent => "peer hears nothing".to_owned(),
        What::PeerAddressGone => "peer's address gone".to_owned(),
        What::NoRoute => "no route".to_owned(),
        What::Policy => "policy".to_owned(),
        What::PeerWish => "peer's wish".to_owned(),
        What::Better => "better path".to_owned(),
        What::Connected => "connected".to_owned(),
        What::Restored => "path back".to_owned(),
        What::Drill => "drill".to_owned(),
        What::Unfit { lost_percent, late_ms, stalled } => unfit(*lost_percent, *late_ms, *stalled),
        What::Restarted => "the peer started anew".to_owned(),
        What::PeerOff => "the peer switched MAST off".to_owned(),
        What::RemovedByPeer => "the peer removed this machine".to_owned(),
        What::CameByInvite => "accepted the invite".to_owned(),
        What::InviteAccepted => "invite accepted".to_owned(),
        What::RoutesRefused { error } => format!("cannot set addresses and routes: {error}"),
        What::PutBack { what, again: false } => {
            format!("another program took away or changed {what}; it is put back")
        }
        What::PutBack { what, again: true } => format!(
            "another program keeps taking away or changing {what}; it is put back less and less often, and not told of again"
        ),
        What::TunnelLost { error } => format!("the virtual interface failed ({error}); making it again"),
        What::NoSocket { interface, port, cause, error } => no_socket(interface, *port, *cause, error),
        What::WatchEnded => "the system no longer tells of network changes".to_owned(),
        What::NameUnknown { host } => {
            format!("the name {host} cannot be looked up yet; it is tried again")
        }
        What::Budget { uplink, percent, bytes } => {
            let name = uplink.strip_prefix("network:").unwrap_or(uplink);
            let amount = units::bytes(*bytes);
            match percent {
                100.. => format!("{name} has carried all of this month's {amount}"),
                _ => format!("{name} has carried {percent} % of this month's {amount}"),
            }
        }
        What::Unsaved { error } => format!("the state could not be saved: {error}"),
        What::PauseOver => "the pause is over".to_owned(),
        What::PauseStuck { error } => format!("the pause is over, but MAST cannot come up: {error}"),
        What::ProtectionRefused { error } => format!("leak protection cannot be had: {error}"),
        What::Missed { count: 1 } => "one event was left out: too much happened at once".to_owned(),
        What::Missed { count } => format!("{count} events were left out: too much happened at once"),
        What::Other => String::new(),
    }
}

/// What was wrong with a path that was left while it worked: "lost 14 % and stalled, left before it broke".
fn unfit(lost: u8, late: u16, stalled: bool) -> String {
    match ailing(lost, late, stalled).as_slice() {
        [] => "no longer fit, left before it broke".to_owned(),
        all => format!("{}, left before it broke", super::list(all)),
    }
}

/// What a path did that was no longer fit.
fn ailing(lost: u8, late: u16, stalled: bool) -> Vec<String> {
    // Less is what every path does.
    let lost = (lost >= 3).then(|| format!("lost {lost} %"));
    let late = (late >= 50).then(|| format!("was {late} ms slower than it can be"));
    let stalled = stalled.then(|| "stalled".to_owned());
    [lost, late, stalled].into_iter().flatten().collect()
}

/// Why there is no socket, and what to do.
pub(super) fn no_socket(interface: &str, port: u16, cause: SocketCause, error: &str) -> String {
    match cause {
        SocketCause::InUse => format!(
            "UDP port {port} is in use on {interface} by another program (another WireGuard or MAST?): stop it, or \
             give MAST another port in its configuration"
        ),
        SocketCause::NotPermitted => format!(
            "the system does not let MAST open UDP port {port} on {interface}: run the service as administrator, \
             with the capability CAP_NET_RAW on Linux"
        ),
        SocketCause::Other => format!("cannot open UDP port {port} on {interface}: {error}"),
    }
}

/// What happened, without its time: "home: wifi → cell: went silent, gap 140 ms".
pub fn moved(event: &Event, with_peer: bool) -> String {
    let said = match reason(&event.what) {
        known if known.is_empty() => event.reason.clone(),
        known => known,
    };
    let (from, to) = ends(event);
    let mut line = String::new();
    if with_peer && !event.peer.is_empty() {
        line += &format!("{}: ", event.peer);
    }
    match (from, to) {
        (None, None) => line += &said,
        (None, Some(to)) => line += &format!("{said} over {to}"),
        (Some(from), None) => line += &format!("{from} → no path: {said}"),
        (Some(from), Some(to)) => line += &format!("{from} → {to}: {said}"),
    }
    if let Some(gap) = event.gap_ms {
        line += &format!(", gap {}", units::millis(gap));
    }
    match event.sessions {
        None | Some(0) => {}
        Some(1) => line += ", 1 session kept",
        Some(n) => line += &format!(", {n} sessions kept"),
    }
    line
}

/// What happened, without its time and peer, for a window: "Wi-Fi ‘Train’ went silent → cell in 140 ms". Interfaces are
/// called as people call them.
pub fn told(event: &Event, status: &Status) -> String {
    // Names in a right-to-left script must not turn the sentence around them.
    let named = |name: &Option<String>| {
        name.as_deref().map(|name| format!("\u{2068}{}\u{2069}", called(status, name)))
    };
    let (mut from, mut to) = (named(&event.from), named(&event.to));
    if let (Some(f), Some(t), Some(before), Some(now)) = (&from, &to, &event.from_path, &event.to_path)
        && event.from == event.to
    {
        let [before, now] = apart(before, now);
        (from, to) = (Some(format!("{f} ({before})")), Some(format!("{t} ({now})")));
    }
    let gap = event.gap_ms.map(units::millis);
    let sessions = match event.sessions {
        None | Some(0) => String::new(),
        Some(1) => "; one session kept".to_owned(),
        Some(n) => format!("; {n} sessions kept"),
    };
    let said = match reason(&event.what) {
        known if known.is_empty() => event.reason.clone(),
        known => known,
    };
    match (from, to, gap) {
        (Some(from), Some(to), gap) => {
            let how = match (&event.what, gap) {
                (What::Unfit { .. }, _) => " before it broke".to_owned(),
                (_, Some(gap)) => format!(" in {gap}"),
                (_, None) => String::new(),
            };
            format!("{from} {} → {to}{how}{sessions}", did(event, &said))
        }
        (Some(from), None, _) => format!("{from} {} → no path left", did(event, &said)),
        (None, Some(to), Some(gap)) => format!("{} over {to}, after {gap}", capital(&said)),
        (None, Some(to), None) => format!("{} over {to}", capital(&said)),
        (None, None, _) => capital(&said),
    }
}

/// Why data moved, as what the interface did that it left.
fn did(event: &Event, said: &str) -> String {
    let did = match &event.what {
        What::LinkDown => "lost its link",
        What::AddressGone => "lost its address",
        What::PeerSilent => "was no longer heard by the peer",
        What::PeerAddressGone => "led to an address that the peer lost",
        What::NoRoute => "lost its route",
        What::Policy => "gave way to your choice",
        What::PeerWish => "gave way to the peer's wish",
        What::Better => "was no longer best",
        What::Drill => "was silenced by a drill",
        What::Unfit { lost_percent, late_ms, stalled } => {
            let all = ailing(*lost_percent, *late_ms, *stalled);
            return if all.is_empty() { "was no longer fit".to_owned() } else { super::list(&all) };
        }
        _ => said,
    };
    did.to_owned()
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// The interfaces of a move; with what tells the two paths apart where both are of one interface: the version of IP,
/// or else the address.
fn ends(event: &Event) -> (Option<String>, Option<String>) {
    let (Some(from), Some(to)) = (&event.from, &event.to) else {
        return (event.from.clone(), event.to.clone());
    };
    if let (true, Some(before), Some(now)) = (from == to, &event.from_path, &event.to_path) {
        let [before, now] = apart(before, now);
        return (Some(format!("{from} ({before})")), Some(format!("{to} ({now})")));
    }
    (Some(from.clone()), Some(to.clone()))
}

/// What tells two paths of one interface apart.
pub(crate) fn apart(one: &Ends, other: &Ends) -> [String; 2] {
    let both = [one, other];
    let families = both.map(|ends| family(&ends.remote));
    if families[0] != families[1] {
        return families.map(str::to_owned);
    }
    if one.local != other.local {
        return both.map(|ends| ends.local.clone().unwrap_or_else(|| "?".to_owned()));
    }
    both.map(|ends| ends.remote.parse::<SocketAddr>().map_or(ends.remote.clone(), |at| at.ip().to_string()))
}

/// The version of IP of an address with its port.
pub(crate) fn family(remote: &str) -> &'static str {
    if remote.starts_with('[') { "IPv6" } else { "IPv4" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(from: Option<&str>, to: Option<&str>) -> Event {
        let name = |name: &str| name.to_owned();
        Event {
            from: from.map(name),
            to: to.map(name),
            gap_ms: Some(140.2),
            ..Event::at(String::new(), "home", What::Silent)
        }
    }

    fn over(local: &str, remote: &str) -> Option<Ends> {
        Some(Ends { local: Some(local.into()), remote: remote.into() })
    }

    #[test]
    fn plain_words() {
        let mut cell = event(Some("wifi"), Some("cell"));
        assert_eq!(moved(&cell, false), "wifi → cell: went silent, gap 140 ms");
        assert_eq!(moved(&cell, true), "home: wifi → cell: went silent, gap 140 ms");
        cell.sessions = Some(3);
        assert!(moved(&cell, false).ends_with("gap 140 ms, 3 sessions kept"));
        let plain = Event::at(String::new(), "home", What::Restarted);
        assert_eq!(moved(&plain, true), "home: the peer started anew");
        assert_eq!(moved(&Event::told("", "something newer"), true), "something newer");
    }

    #[test]
    fn a_path_that_was_left_in_time_says_what_was_wrong_with_it() {
        let said = |lost_percent, late_ms, stalled| reason(&What::Unfit { lost_percent, late_ms, stalled });
        assert_eq!(said(14, 20, true), "lost 14 % and stalled, left before it broke");
        assert_eq!(said(0, 420, false), "was 420 ms slower than it can be, left before it broke");
        assert_eq!(
            said(30, 90, true),
            "lost 30 %, was 90 ms slower than it can be and stalled, left before it broke"
        );
        assert_eq!(said(1, 0, false), "no longer fit, left before it broke");
    }

    #[test]
    fn a_window_is_told_in_the_names_that_people_use() {
        let status = crate::words::link::tests::status(&[]);
        let told = |event: &Event, status: &Status| told(event, status).replace(['\u{2068}', '\u{2069}'], "");
        let mut event = event(Some("wifi"), Some("cell"));
        assert_eq!(told(&event, &status), "Wi-Fi ‘Train’ went silent → cell in 140 ms");
        event.sessions = Some(3);
        assert!(told(&event, &status).ends_with("in 140 ms; 3 sessions kept"));
        event.what = What::Unfit { lost_percent: 14, late_ms: 20, stalled: true };
        event.sessions = None;
        assert_eq!(told(&event, &status), "Wi-Fi ‘Train’ lost 14 % and stalled → cell before it broke");
        event.what = What::Unfit { lost_percent: 1, late_ms: 0, stalled: false };
        assert_eq!(told(&event, &status), "Wi-Fi ‘Train’ was no longer fit → cell before it broke");
        event.to = None;
        event.what = What::LinkDown;
        assert_eq!(told(&event, &status), "Wi-Fi ‘Train’ lost its link → no path left");
        let over =
            Event { to: Some("wifi".into()), gap_ms: Some(5123.0), ..Event::now("nas", What::Restored) };
        assert_eq!(told(&over, &status), "Path back over Wi-Fi ‘Train’, after 5123 ms");
        assert_eq!(told(&Event::now("", What::PauseOver), &status), "The pause is over");
        let newer = Event {
            from: Some("wifi".into()),
            to: Some("cell".into()),
            ..Event::told("nas", "went elsewhere")
        };
        assert_eq!(told(&newer, &status), "Wi-Fi ‘Train’ went elsewhere → cell");
    }

    #[test]
    fn a_move_within_one_interface_names_what_tells_its_paths_apart() {
        let mut within = event(Some("wifi"), Some("wifi"));
        within.from_path = over("fd00::7", "[fd00::1]:6278");
        within.to_path = over("192.0.2.7", "10.9.0.2:6278");
        assert_eq!(moved(&within, false), "wifi (IPv6) → wifi (IPv4): went silent, gap 140 ms");
        within.from_path = over("192.0.2.7", "10.8.0.2:6278");
        assert!(
            moved(&within, false).starts_with("wifi (10.8.0.2) → wifi (10.9.0.2):"),
            "{}",
            moved(&within, false)
        );
        within.from_path = over("192.0.2.8", "10.9.0.2:6278");
        assert!(moved(&within, false).starts_with("wifi (192.0.2.8) → wifi (192.0.2.7):"));
    }
}
