//! Sentences, made from codes and values: here, and nowhere else.
//!
//! The service fills in the English that travels beside its codes by these functions, for readers of other
//! versions; an interface that knows the codes says things by them, too, or in its user's language.

mod disclosure;
mod event;
mod layer;
mod link;
mod note;
mod now;
mod part;
mod report;
mod summary;
pub mod units;

pub use disclosure::disclosure;
pub use event::{moved, reason, told};
pub use layer::{evidence, layer, layer_detail, layer_state};
pub use link::{Link, called, links, standing};
pub use note::note;
pub(crate) use note::noted;
pub use now::{Light, Now};
pub use part::{fitness, part, takes_part};
pub use report::{drill_progress, drill_verdict, finding, remedy, silenced};
pub use summary::{Tone, missing, of_all, of_peer, policy};

use crate::error::{ControlError, InviteProblem, Mismatch, Side, Why};
use crate::status::{LeftOut, LeftOutWhy, Protection, TroubleCause};

/// What stands below an answer that does not tell everything, to whoever may look and not change.
pub const REDACTED: &str = "Addresses of peers, names of networks, what happened and how much was carried are shown to \
                            root and to members of the group `mast`.";

/// Which interfaces are not used, and why; none where there are none.
pub fn left_out(all: &[LeftOut]) -> Option<String> {
    let one = |left: &LeftOut| {
        let why = match left.why {
            LeftOutWhy::Ignored => "the configuration says so",
            LeftOutWhy::Port => "what it belongs to is used",
            LeftOutWhy::Tunnel => "a tunnel, which leads over another uplink",
            LeftOutWhy::Inside => "no hardware, and without a default route",
            LeftOutWhy::Unknown => "not used",
        };
        format!("{} ({why})", left.name)
    };
    let told: Vec<_> = all.iter().map(one).collect();
    let named = all.iter().any(|left| matches!(left.why, LeftOutWhy::Tunnel | LeftOutWhy::Inside));
    let remedy = if named { "; a section [interfaces.NAME] in mastd.toml has one be used" } else { "" };
    (!told.is_empty()).then(|| format!("left out: {}{remedy}", told.join(", ")))
}

/// What is wrong with leak protection, without a full stop; none where nothing is.
pub fn protection(protection: &Protection) -> Option<String> {
    match protection {
        Protection::Missing { why } => Some(format!(
            "Leak protection is not in force, and what belongs into the tunnel may go around it: {why}"
        )),
        Protection::RoutesOnly { why } => {
            Some(format!("Leak protection is by routes only, which a network can lead astray: {why}"))
        }
        Protection::Idle | Protection::InForce | Protection::Other => None,
    }
}

/// That a restart forgets what was changed, and why.
pub fn unkept(why: &str) -> String {
    format!(
        "what was changed is in effect, but not on the disk, so that a restart forgets it: {why}. It is tried again by \
         itself"
    )
}

/// What a refusal says; the service's own English where this version has no words for it.
pub fn error(error: &ControlError) -> String {
    match &*error.why {
        Why::Other => error.message.clone(),
        why => refusal(why),
    }
}

/// What is refused, and what can be done.
pub fn refusal(why: &Why) -> String {
    match why {
        Why::NoPeer { name } => format!("there is no peer `{name}`"),
        Why::NoInterface { name } => format!("there is no interface `{name}`"),
        Why::NoUplink { name } => format!("there is no uplink `{name}`"),
        Why::BadName { name } => format!(
            "`{}` cannot be the name of a peer: up to 64 bytes, without control characters",
            name.escape_debug()
        ),
        Why::PeerExists { name } => {
            format!("there is a peer `{name}` already: give the new one another name, or remove the old one")
        }
        Why::KeyExists { name } => {
            format!("that key is the peer `{name}` already: remove it first, if this shall take its place")
        }
        Why::OwnKey => "that is this machine's own key: a peer has the other machine's".to_owned(),
        Why::Configured { name, file } => format!(
            "`{name}` stands in {file}, from where it would come back: remove it there, then restart mastd"
        ),
        Why::RangeTaken { peer, range, other } => format!(
            "AllowedIPs of `{peer}` holds {range}, which leads to `{other}` already: {}, remove one of the two, or make \
             the range narrower",
            if range.ends_with("/0") || range.ends_with("/1") {
                format!("switch its full tunnel off (`mast peer full-tunnel {other} off`)")
            } else {
                "take the range out of one of the two files".to_owned()
            }
        ),
        Why::BadFile { file, problem } => format!("{file} is not usable: {problem}"),
        Why::PlainMode { peer, mode } => format!(
            "`{peer}` is a plain WireGuard server, which cannot do \"{mode}\": choose \"auto\" or \"pin\" for it, or \
             install MAST there"
        ),
        Why::NoFullTunnel { peer } => format!(
            "not everything can go to `{peer}`: only to a plain WireGuard server whose AllowedIPs are a default \
             route (0.0.0.0/0 or ::/0)"
        ),
        Why::NotOfFile { peer } => format!(
            "`{peer}` came by MAST, which is all that is spoken with it: MAST can be forbidden with the peers of \
             WireGuard files only"
        ),
        Why::EmptyPin => "a pin names at least one interface".to_owned(),
        Why::SwitchedOff => "MAST is switched off: switch it on first (`mast up`)".to_owned(),
        Why::NoAddress => {
            "this machine has no network address now that an invite could tell: connect it to a \
                           network first"
                .to_owned()
        }
        Why::TooManyInvites { most } => {
            format!("there are {most} invites already: wait until some have expired")
        }
        Why::TooLong => "that is too long for an invite".to_owned(),
        Why::Joining => "another invite is being accepted: wait a moment".to_owned(),
        Why::Invite { problem, inviter, port } => invite(*problem, inviter.as_deref(), *port),
        Why::DrillRuns => "another drill is running".to_owned(),
        Why::DrillPlain { peer } => format!("`{peer}` speaks plain WireGuard: a drill needs MAST there too"),
        Why::DrillLinks { peer, working } => format!(
            "`{peer}` is reached over {working} link(s) now; a drill takes one away, and needs at least two: connect \
             this machine to a second network"
        ),
        Why::OtherKey { given, expected } => format!(
            "this private key belongs to {given}, and this service is {expected}: it is the key of another machine"
        ),
        Why::KeyLocked => KEY_LOCKED.to_owned(),
        Why::NoSocket { interface, port, cause, error } => event::no_socket(interface, *port, *cause, error),
        Why::System { error } => error.clone(),
        Why::Stopping => "the service is stopping".to_owned(),
        Why::ProtectionRefused { error } => format!("it is done, but leak protection is refused: {error}"),
        Why::Version(mismatch) => self::mismatch(mismatch),
        Why::Other => "the service refused, for a reason that this version has no words for".to_owned(),
    }
}

const KEY_LOCKED: &str = "the service waits for its private key, which is in the key store of the user who put it \
                          there: log in as that user and open MAST";

fn invite(problem: InviteProblem, inviter: Option<&str>, port: Option<u16>) -> String {
    let who = inviter.unwrap_or("the machine that made this invite");
    let reached = |family: &str| {
        format!(
            "the machine that made this invite is reached by {family}, and no network of this machine has that now"
        )
    };
    match problem {
        InviteProblem::Foreign => "this is not a MAST invite: one begins with `mast://`".to_owned(),
        InviteProblem::OtherVersion => {
            "this invite was made by another version of MAST: install the same version on both machines"
                .to_owned()
        }
        InviteProblem::Damaged => {
            "this invite is not complete, or was altered on its way: copy the whole link, in one piece"
                .to_owned()
        }
        InviteProblem::Own => {
            "this invite was made on this very machine: open it on the other one".to_owned()
        }
        InviteProblem::Known => format!("the machine that made this invite is a peer already: `{who}`"),
        InviteProblem::Expired => {
            "this invite has expired: ask for a new one (or this machine's clock is wrong)".to_owned()
        }
        InviteProblem::NoAddress => "this invite holds no address: ask for a new one".to_owned(),
        InviteProblem::NeedsIpv4 => reached("IPv4"),
        InviteProblem::NeedsIpv6 => reached("IPv6"),
        InviteProblem::NeedsNetwork => reached("IPv4 or IPv6"),
        InviteProblem::NoAnswer => {
            let port = port.map(|port| format!(" {port}")).unwrap_or_default();
            format!(
                "no answer from {who}: check that it is switched on, that MAST is up on it, that the invite was not \
                 revoked, and that its firewall or router lets UDP port{port} in"
            )
        }
        InviteProblem::Unfinished => {
            format!("{who} answers, but does not finish the pairing: ask for a new invite")
        }
        InviteProblem::SaidExpired => format!("{who} says that this invite has expired: ask for a new one"),
        InviteProblem::SaidUsed => {
            format!("{who} says that this invite was used already: each is good for one machine")
        }
        InviteProblem::SaidKey => format!("{who} did not accept this machine's key: ask for a new invite"),
        InviteProblem::SaidVersion => {
            format!("{who} runs another version of MAST: install the same on both machines")
        }
        InviteProblem::SwitchedOff => "MAST was switched off".to_owned(),
        InviteProblem::Other => "this invite cannot be accepted: ask for a new one".to_owned(),
    }
}

/// Which side is older, and must be upgraded.
pub fn mismatch(mismatch: &Mismatch) -> String {
    // Interfaces from before the numbers travelled look for these words.
    let remedy = match mismatch.older() {
        Side::Client => "upgrade this program",
        Side::Service => "upgrade mastd",
    };
    let version = mismatch.service_version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let theirs = match mismatch.service {
        Some(protocol) => format!("protocol {protocol}"),
        None => "an older protocol".to_owned(),
    };
    format!("mastd{version} speaks {theirs}, this program speaks protocol {}: {remedy}", mismatch.client)
}

/// What keeps the peers from answering, and the remedy where there is one.
pub fn trouble(cause: &TroubleCause) -> String {
    match cause {
        TroubleCause::NoInterface => {
            "No interface is connected. What is open goes on as soon as one is.".to_owned()
        }
        TroubleCause::Excluded { interface } => {
            format!("{interface} is connected, but never to be used.")
        }
        TroubleCause::NameUnknown { host } => format!(
            "The name {host} cannot be looked up. It is tried again; is it spelled right, and does DNS work?"
        ),
        TroubleCause::Unprotected => {
            "Leak protection is not in force: what belongs into the tunnel may go around it. See `mast doctor`."
                .to_owned()
        }
        TroubleCause::Forbidden => {
            "This machine's own firewall holds back what MAST sends (not permitted). Let its UDP out, and the answers in."
                .to_owned()
        }
        TroubleCause::NoAnswer => {
            "This machine has a network, and nothing comes back. The other machine may be \
                                   off, or a firewall keeps UDP from it."
                .to_owned()
        }
        TroubleCause::Portal => {
            "Open a browser and sign in. Everything that is open goes on by itself then.".to_owned()
        }
        TroubleCause::KeyLocked => KEY_LOCKED.to_owned(),
        TroubleCause::Other => String::new(),
    }
}

/// `a, b and c`.
pub fn list<T: AsRef<str>>(words: &[T]) -> String {
    match words {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [most @ .., last] => {
            let most: Vec<_> = most.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", most.join(", "), last.as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_is_told_to_upgrade_the_older_one() {
        let told =
            |client, service| mismatch(&Mismatch { client, service, service_version: Some("0.1.0".into()) });
        assert!(told(1, Some(2)).ends_with("upgrade this program"), "{}", told(1, Some(2)));
        assert!(told(2, Some(1)).ends_with("upgrade mastd"), "{}", told(2, Some(1)));
        assert!(told(2, None).contains("an older protocol"), "{}", told(2, None));
    }

    #[test]
    fn lists_read_as_people_write_them() {
        assert_eq!([list(&["a"]), list(&["a", "b"]), list(&["a", "b", "c"])], ["a", "a and b", "a, b and c"]);
    }
}
