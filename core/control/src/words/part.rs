//! Which interfaces carry data, which do not, and why; and what is wrong with a path: in words.

use super::{called, list};
use crate::part::Part;
use crate::status::{Ailment, Fitness, PathStatus, PeerStatus, PolicyMode, Status};

/// Why something does not carry data, in words that stand behind its name: "is metered". Empty where it carries.
pub fn part(part: Part) -> &'static str {
    match part {
        Part::Carries => "",
        Part::Excluded => "never to be used, as you said",
        Part::Unusable => "no link or no address",
        Part::NoPath => "no path leads over it",
        Part::Drill => "silenced by a drill",
        Part::Policy => "not among what you chose",
        Part::PeerRefuses => "the peer asked not to use it",
        Part::Untried => "being tried",
        Part::Silent => "no answer",
        Part::Unfit => "loses or delays too much",
        Part::Order => "later in your order",
        Part::PeerWish => "the peer wishes for another",
        Part::Metered => "metered",
        Part::Strained => "strained",
        Part::Alike => "the same links as what carries",
        Part::Slower => "slower",
        Part::Spare => "stands by",
        Part::Unknown => "for a reason that this version has no word for",
    }
}

/// Which interfaces carry a peer's data now: "Wi-Fi ‘Train’ and cell carry". None while none does.
fn carrying(peer: &PeerStatus, status: &Status) -> Option<String> {
    let names: Vec<_> = carriers(peer).map(|name| called(status, name)).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    match names.as_slice() {
        [] => None,
        [one] => Some(format!("{one} carries")),
        several => Some(format!("{} carry", list(several))),
    }
}

/// Which interfaces do not, and why: "cell: metered; eth0: no link or no address". None where all do.
fn left_out(peer: &PeerStatus, status: &Status) -> Option<String> {
    let left = peer.uplinks.iter().filter(|u| u.part != Part::Carries);
    let left: Vec<_> = left.map(|u| format!("{}: {}", called(status, &u.interface), part(u.part))).collect();
    (!left.is_empty()).then(|| left.join("; "))
}

fn carriers(peer: &PeerStatus) -> impl Iterator<Item = &str> {
    peer.uplinks.iter().filter(|u| u.part == Part::Carries).map(|u| u.interface.as_str())
}

/// A mode with what takes part in it now, in a sentence: "auto: wifi carries. Left out: cell: metered."
pub fn takes_part(peer: &PeerStatus, status: &Status) -> Option<String> {
    let carrying = carrying(peer, status)?;
    let mode = if peer.policy.mode == PolicyMode::Pin { "pin" } else { peer.policy.mode.as_str() };
    Some(match left_out(peer, status) {
        Some(left) => format!("{mode}: {carrying}. Left out: {left}."),
        None => format!("{mode}: {carrying}."),
    })
}

/// How fit a path is, and what is wrong with it: "strained: lost 4 %". Empty where it does not work.
pub fn fitness(path: &PathStatus, status: &Status) -> String {
    let weak = status.interfaces.iter().any(|i| i.name == path.interface && i.weak);
    let word = match path.fitness {
        None | Some(Fitness::Unknown) => return String::new(),
        Some(Fitness::Fit) => return "fit".to_owned(),
        Some(fitness) => fitness.as_str(),
    };
    let wrong = ailing(&path.ailment.unwrap_or_default());
    match (wrong.as_str(), weak) {
        ("", true) => format!("{word}: its radio is weak"),
        ("", false) => word.to_owned(),
        (wrong, true) => format!("{word}: {wrong}, and its radio is weak"),
        (wrong, false) => format!("{word}: {wrong}"),
    }
}

fn ailing(ailment: &Ailment) -> String {
    let Ailment { lost_percent: lost, late_ms: late, stalled } = *ailment;
    // Less is what every path does.
    let lost = (lost >= 3).then(|| format!("loses {lost} %"));
    let late = (late >= 50).then(|| format!("{late} ms slower than it can be"));
    let stalled = stalled.then(|| "stalls".to_owned());
    [lost, late, stalled].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
