//! Leak protection: while it is set, nothing leaves by a default route that is not the virtual interface's.
//!
//! Two rules of policy routing for each version of IP, as wg-quick uses them: the first looks into the main table for
//! anything but a default route (the local network, and the virtual interface, whose default route is in halves), the
//! second refuses what is left, but for the service's own sockets, which carry a mark. The rules belong to the system
//! and outlive the service, which is the point of them; they are known by their priority and the protocol number that
//! they carry.

use std::collections::BTreeSet;
use std::path::Path;

use mast_engine::os::Family;
use nix::errno::Errno;

use super::netlink::{CREATE, EXCLUSIVE, Message, NetlinkError, Request, Requests, attributes, u32_at};

/// The mark of the service's own sockets: `mast` in ASCII.
pub(super) const MARK: u32 = 0x6d61_7374;
/// Whose rules they are, in `ip rule`: `proto 109`. The kernel and known routing daemons use other numbers.
const PROTOCOL: u8 = b'm';
/// Before the main table's own (32,766), after what users usually add.
const LOOK: u32 = 27_800;
const REFUSE: u32 = 27_801;

pub(super) const NEW_RULE: u16 = 32;
pub(super) const DEL_RULE: u16 = 33;
const GET_RULE: u16 = 34;
pub(super) const FRA_PRIORITY: u16 = 6;
pub(super) const FRA_FWMARK: u16 = 10;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
pub(super) const FRA_FWMASK: u16 = 16;
pub(super) const FRA_PROTOCOL: u16 = 21;
const TABLE_MAIN: u8 = 254;
pub(super) const ACTION_TABLE: u8 = 1;
const ACTION_UNREACHABLE: u8 = 7;
const INVERT: u32 = 2;
/// The length of what every message of a rule begins with, in bytes.
pub(super) const RULE_HEADER: usize = 12;

/// A rule of ours: version of IP and priority say which.
type Rule = (Family, u32);

/// The requests that protect a version of IP. The rule that lets things through comes before the one that refuses the
/// rest: there is no moment at which the local network is refused.
pub(super) fn protect(family: Family) -> [Request; 2] {
    [LOOK, REFUSE].map(|priority| request(NEW_RULE, CREATE | EXCLUSIVE, (family, priority)))
}

/// The requests that end it, in the reverse order.
pub(super) fn unprotect(family: Family) -> [Request; 2] {
    [REFUSE, LOOK].map(|priority| request(DEL_RULE, 0, (family, priority)))
}

/// Whether the kernel has this version of IP: one that it has not leaks nothing.
pub(super) fn speaks(family: Family) -> bool {
    family == Family::V4 || Path::new("/proc/net/if_inet6").exists()
}

/// Whether all, some (`Some(false)`) or none of the rules of a version of IP are there.
pub(super) fn present(requests: &mut Requests, family: Family) -> Result<Option<bool>, NetlinkError> {
    let found = rules(requests, family)?;
    let rules: BTreeSet<Rule> = found.iter().filter_map(|message| ours(message, family)).collect();
    Ok((!rules.is_empty()).then_some(rules.len() == 2))
}

/// All rules of a version of IP.
pub(super) fn rules(requests: &mut Requests, family: Family) -> Result<Vec<Message>, NetlinkError> {
    let mut header = [0; RULE_HEADER];
    header[0] = number(family);
    match requests.dump(&Request::new(GET_RULE, 0, &header)) {
        // The kernel has no such rules: there are none to be taken away, and adding some will say so.
        Err(error) if matches!(error.errno, Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) => Ok(Vec::new()),
        found => found,
    }
}

/// What to do about a refusal.
pub(super) fn remedy(error: &NetlinkError) -> &'static str {
    match error.errno {
        Errno::EPERM | Errno::EACCES => "; run as root or with the capability CAP_NET_ADMIN",
        Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP => {
            "; the kernel needs policy routing (CONFIG_IP_MULTIPLE_TABLES, CONFIG_IPV6_MULTIPLE_TABLES)"
        }
        _ => "",
    }
}

pub(super) fn number(family: Family) -> u8 {
    match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    }
}

pub(super) fn ours(message: &Message, family: Family) -> Option<Rule> {
    if !matches!(message.kind, NEW_RULE | DEL_RULE) || *message.payload.first()? != number(family) {
        return None;
    }
    let mut priority = 0;
    let mut own = false;
    for (kind, value) in attributes(message.payload.get(RULE_HEADER..)?) {
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
    let mut header = [0; RULE_HEADER];
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
