//! Leak protection: while it is set, nothing leaves by a default route that is not the virtual interface's.
//!
//! Two rules of policy routing for each version of IP, as wg-quick uses them: the first looks into the main table for
//! anything but a default route (the local network, and the virtual interface, whose default route is in halves), the
//! second refuses what is left, but for the service's own sockets, which carry a mark. The rules belong to the system
//! and outlive the service, which is the point of them; they are known by their priority and the protocol number that
//! they carry.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use mast_engine::os::Family;
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::netlink::{CREATE, EXCLUSIVE, Message, NetlinkError, Request, Requests, attributes, u32_at};

/// The mark of the service's own sockets: `mast` in ASCII.
pub(super) const MARK: u32 = 0x6d61_7374;
/// Whose rules they are, in `ip rule`: `proto 109`. The kernel and known routing daemons use other numbers.
const PROTOCOL: u8 = b'm';
/// Before the main table's own (32,766), after what users usually add.
const LOOK: u32 = 27_800;
const REFUSE: u32 = 27_801;

const NEW_RULE: u16 = 32;
const DEL_RULE: u16 = 33;
const GET_RULE: u16 = 34;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_FWMASK: u16 = 16;
const FRA_PROTOCOL: u16 = 21;
const TABLE_MAIN: u8 = 254;
const ACTION_TABLE: u8 = 1;
const ACTION_UNREACHABLE: u8 = 7;
const INVERT: u32 = 2;
const HEADER: usize = 12;

/// A rule of ours: version of IP and priority say which.
type Rule = (Family, u32);

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Add(Rule),
    Delete(Rule),
}

impl Step {
    fn inverse(self) -> Self {
        match self {
            Self::Add(rule) => Self::Delete(rule),
            Self::Delete(rule) => Self::Add(rule),
        }
    }

    fn take(self, requests: &mut Requests) -> Result<(), NetlinkError> {
        let (result, done_already) = match self {
            Self::Add(rule) => (requests.execute(request(NEW_RULE, CREATE | EXCLUSIVE, rule)), Errno::EEXIST),
            Self::Delete(rule) => (requests.execute(request(DEL_RULE, 0, rule)), Errno::ENOENT),
        };
        match result {
            Err(error) if error.errno == done_already => Ok(()),
            other => other,
        }
    }
}

/// What leads from the rules that are there to protection of these versions of IP. The rule that lets things through
/// comes before the one that refuses the rest, and goes after it: there is no moment at which the local network is
/// refused.
fn steps(present: &BTreeSet<Rule>, families: &[Family]) -> Vec<Step> {
    let wanted: BTreeSet<Rule> = families.iter().flat_map(|&f| [(f, LOOK), (f, REFUSE)]).collect();
    let missing = wanted.difference(present).map(|&rule| Step::Add(rule));
    let superfluous =
        present.iter().rev().filter(|&rule| !wanted.contains(rule)).map(|&rule| Step::Delete(rule));
    missing.chain(superfluous).collect()
}

/// Has leak protection be set in this network namespace for these versions of IP, and for no other; none take it away.
/// Returns whether that changed anything.
///
/// # Errors
/// When the system refuses; then everything is as it was.
pub fn guard(families: &[Family]) -> io::Result<bool> {
    let mut requests = Requests::open(SockProtocol::NetlinkRoute)?;
    let mut present = BTreeSet::new();
    for family in [Family::V4, Family::V6] {
        match rules(&mut requests, family) {
            Ok(rules) => present.extend(rules),
            // The kernel has no such rules: there are none to be taken away, and adding some will say so.
            Err(error) if matches!(error.errno, Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) => {}
            Err(error) => return Err(refused(&error)),
        }
    }
    // A kernel without IPv6 leaks none.
    let speaks = |family: &Family| *family == Family::V4 || Path::new("/proc/net/if_inet6").exists();
    let families: Vec<Family> = families.iter().copied().filter(speaks).collect();
    let steps = steps(&present, &families);
    for (done, step) in steps.iter().enumerate() {
        if let Err(error) = step.take(&mut requests) {
            for undo in steps.iter().take(done).rev().map(|step| step.inverse()) {
                if let Err(error) = undo.take(&mut requests) {
                    tracing::warn!(%error, ?undo, "cannot undo a failed change of leak protection");
                }
            }
            return Err(refused(&error));
        }
    }
    Ok(!steps.is_empty())
}

fn refused(error: &NetlinkError) -> io::Error {
    let remedy = match error.errno {
        Errno::EPERM | Errno::EACCES => "; run as root or with the capability CAP_NET_ADMIN",
        Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP => {
            "; the kernel needs policy routing (CONFIG_IP_MULTIPLE_TABLES, CONFIG_IPV6_MULTIPLE_TABLES)"
        }
        _ => "",
    };
    let kind = io::Error::from(error.errno).kind();
    io::Error::new(kind, format!("cannot change the rules of leak protection: {error}{remedy}"))
}

fn rules(requests: &mut Requests, family: Family) -> Result<Vec<Rule>, NetlinkError> {
    let mut header = [0; HEADER];
    header[0] = number(family);
    let found = requests.dump(&Request::new(GET_RULE, 0, &header))?;
    Ok(found.iter().filter_map(|message| ours(message, family)).collect())
}

fn number(family: Family) -> u8 {
    match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    }
}

fn ours(message: &Message, family: Family) -> Option<Rule> {
    if message.kind != NEW_RULE || *message.payload.first()? != number(family) {
        return None;
    }
    let mut priority = 0;
    let mut own = false;
    for (kind, value) in attributes(message.payload.get(HEADER..)?) {
        match kind {
            FRA_PRIORITY => priority = u32_at(value, 0)?,
            FRA_PROTOCOL => own = value.first() == Some(&PROTOCOL),
            _ => {}
        }
    }
    (own && matches!(priority, LOOK | REFUSE)).then_some((family, priority))
}

fn request(kind: u16, flags: u16, (family, priority): Rule) -> Request {
    // `struct fib_rule_hdr`
    let mut header = [0; HEADER];
    header[0] = number(family);
    let look = priority == LOOK;
    (header[4], header[7]) = if look { (TABLE_MAIN, ACTION_TABLE) } else { (0, ACTION_UNREACHABLE) };
    if !look {
        header[8..12].copy_from_slice(&INVERT.to_ne_bytes());
    }
    let request = Request::new(kind, flags, &header)
        .attribute(FRA_PRIORITY, &priority.to_ne_bytes())
        .attribute(FRA_PROTOCOL, &[PROTOCOL]);
    if look {
        return request.attribute(FRA_SUPPRESS_PREFIXLEN, &0_u32.to_ne_bytes());
    }
    request.attribute(FRA_FWMARK, &MARK.to_ne_bytes()).attribute(FRA_FWMASK, &u32::MAX.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_and_what_is_too_much_goes() {
        let v4 = [(Family::V4, LOOK), (Family::V4, REFUSE)];
        let v6 = [(Family::V6, LOOK), (Family::V6, REFUSE)];
        let none = BTreeSet::new();
        assert_eq!(steps(&none, &[]), []);
        assert_eq!(steps(&none, &[Family::V4]), v4.map(Step::Add));
        assert_eq!(steps(&BTreeSet::from(v4), &[Family::V4]), []);
        // Half of it was there, as after a crash in between.
        assert_eq!(steps(&BTreeSet::from([v4[0]]), &[Family::V4, Family::V4]), [Step::Add(v4[1])]);
        // What refuses goes first.
        assert_eq!(steps(&BTreeSet::from(v4), &[]), [v4[1], v4[0]].map(Step::Delete));
        // New protection comes before old protection goes.
        let other = [Step::Add(v6[0]), Step::Add(v6[1]), Step::Delete(v4[1]), Step::Delete(v4[0])];
        assert_eq!(steps(&BTreeSet::from(v4), &[Family::V6]), other);
    }

    #[test]
    fn a_failure_can_be_undone() {
        let rule = (Family::V4, LOOK);
        assert_eq!(Step::Add(rule).inverse(), Step::Delete(rule));
        assert_eq!(Step::Delete(rule).inverse(), Step::Add(rule));
    }
}
