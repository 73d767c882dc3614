//! Leak protection: while it is set, nothing leaves by a default route that is not the virtual interface's.
//!
//! Two rules of policy routing for each version of IP, as wg-quick uses them: the first looks into the main table for
//! anything but a default route (the local network, and the virtual interface, whose default route is in halves), the
//! second refuses what is left, but for the service's own sockets, which carry a mark. The rules belong to the system
//! and outlive the service, which is the point of them; they are known by the protocol number that they carry.

use std::collections::BTreeSet;
use std::io;

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

const FAMILIES: [u8; 2] = [libc::AF_INET as u8, libc::AF_INET6 as u8];

/// A rule of ours: version of IP and priority say which.
type Rule = (u8, u32);

/// Sets or takes away leak protection for this network namespace, and returns whether that changed anything.
///
/// # Errors
/// When the system refuses; then everything is as it was.
pub fn guard(on: bool) -> io::Result<bool> {
    let mut requests = Requests::open(SockProtocol::NetlinkRoute)?;
    let mut present = BTreeSet::new();
    let mut families = Vec::new();
    for family in FAMILIES {
        match rules(&mut requests, family) {
            Ok(rules) => {
                present.extend(rules);
                families.push(family);
            }
            // What the system does not speak cannot leak.
            Err(error) if matches!(error.errno, Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if on {
        let wanted = families.iter().flat_map(|&family| [(family, LOOK), (family, REFUSE)]);
        let missing: Vec<Rule> = wanted.filter(|rule| !present.contains(rule)).collect();
        for (done, rule) in missing.iter().enumerate() {
            if let Err(error) = requests.execute(request(NEW_RULE, CREATE | EXCLUSIVE, *rule)) {
                for undo in missing.iter().take(done).rev() {
                    let _ = requests.execute(request(DEL_RULE, 0, *undo));
                }
                return Err(refused(&error));
            }
        }
        return Ok(!missing.is_empty());
    }
    for rule in present.iter().rev() {
        requests.execute(request(DEL_RULE, 0, *rule)).map_err(|error| refused(&error))?;
    }
    Ok(!present.is_empty())
}

fn refused(error: &NetlinkError) -> io::Error {
    let remedy = match error.errno {
        Errno::EPERM | Errno::EACCES => "run as root or with the capability CAP_NET_ADMIN",
        _ => "the kernel needs policy routing (CONFIG_IP_MULTIPLE_TABLES, CONFIG_IPV6_MULTIPLE_TABLES)",
    };
    let kind = io::Error::from(error.errno).kind();
    io::Error::new(kind, format!("cannot change the rules of leak protection: {error}: {remedy}"))
}

fn rules(requests: &mut Requests, family: u8) -> Result<Vec<Rule>, NetlinkError> {
    let mut header = [0; HEADER];
    header[0] = family;
    let found = requests.dump(&Request::new(GET_RULE, 0, &header))?;
    Ok(found.iter().filter_map(|message| ours(message, family)).collect())
}

fn ours(message: &Message, family: u8) -> Option<Rule> {
    if message.kind != NEW_RULE || *message.payload.first()? != family {
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
    header[0] = family;
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
