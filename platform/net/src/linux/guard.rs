//! The packet filter of leak protection: a table of nftables that drops what leaves, but for what is named here.
//!
//! Routes decide nothing of it: a network may set any by DHCP and router advertisements, and a program may go around all
//! of them by binding a socket to an interface. A chain is asked about everything that leaves, after all others: where a
//! packet was to go when it was sent says little, since others may have led it elsewhere between. Another is asked about
//! what this host forwards for containers, virtual machines and those who use it as a hotspot.
//!
//! The table stays when the service ends or is killed. While it runs, and where the kernel can have it so (6.9), nobody
//! else can remove it, not even by flushing the whole ruleset; elsewhere it is watched, and put back.

use std::io;
use std::net::IpAddr;

use mast_engine::declared::Guard;
use mast_engine::os::{Family, Prefix};
use nix::errno::Errno;

use super::netlink::{Message, NetlinkError, Request, Requests, attributes, text};
use super::nftables::{
    Expressions, HEADER, Hook, NETLINK_NETFILTER, OWNER, PERSIST, TABLE as TABLE_NAME, Table, Verdict,
    is_missing,
};
use super::protection::{self, MARK};
use crate::near::{self, NAMES, NEIGHBOURS};

const NAME: &str = "mast-protection";
const TABLE: Table = Table(b"mast-protection\0");
const LEAVING: &[u8] = b"leaving\0";
const FORWARDED: &[u8] = b"forwarded\0";
/// What the host itself needs to have addresses and neighbours.
const HOST: &[u8] = b"host\0";
/// The local network.
const NEAR: &[u8] = b"near\0";
/// After all others, translation of addresses included: what they leave is what leaves.
const PRIORITY: i32 = 400;

/// Where the destination lies in the header of IPv4 and of IPv6.
const DESTINATION_V4: u32 = 16;
const DESTINATION_V6: u32 = 24;

/// What is set, and the connection that owns it.
#[derive(Debug, Default)]
pub(super) struct Filter {
    set: Option<Set>,
    /// Others may change it, as on kernels before 6.9.
    shared: bool,
}

#[derive(Debug)]
struct Set {
    guard: Guard,
    requests: Requests,
    /// All of it, as the kernel told it when it was set.
    told: Vec<(u16, Vec<u8>)>,
}

impl Filter {
    pub(super) fn new(shared: bool) -> Self {
        Self { shared, ..Self::default() }
    }

    /// What is set and whole, and whether there is anything at all.
    pub(super) fn present(&mut self) -> Result<(Option<Guard>, bool), NetlinkError> {
        if let Some(set) = &mut self.set {
            let there = told(&mut set.requests)?;
            let whole = !there.is_empty() && there == set.told;
            return Ok((whole.then(|| set.guard.clone()), whole || TABLE.exists(&mut set.requests)?));
        }
        let mut requests = match Requests::open(NETLINK_NETFILTER) {
            Ok(requests) => requests,
            Err(error) => return none_where_missing(error.into()),
        };
        match TABLE.exists(&mut requests) {
            Ok(some) => Ok((None, some)),
            Err(error) => none_where_missing(error),
        }
    }

    /// Sets it in the place of what there is, at once.
    pub(super) fn set(&mut self, guard: &Guard) -> Result<(), NetlinkError> {
        // The connection that owns the table is the only one that can replace it.
        let mut requests = match self.set.take() {
            Some(set) => set.requests,
            None => Requests::open(NETLINK_NETFILTER)?,
        };
        let owned = if self.shared { 0 } else { OWNER | PERSIST };
        match replace(&mut requests, guard, owned) {
            Err(error) if matches!(error.errno, Errno::EOPNOTSUPP | Errno::EINVAL) => {
                replace(&mut requests, guard, 0)?;
            }
            done => done?,
        }
        let told = told(&mut requests)?;
        self.set = Some(Set { guard: guard.clone(), requests, told });
        Ok(())
    }

    /// Ends it, or what there is of it.
    pub(super) fn clear(&mut self) -> Result<(), NetlinkError> {
        let mut requests = match self.set.take() {
            Some(set) => set.requests,
            None => match Requests::open(NETLINK_NETFILTER) {
                Ok(requests) => requests,
                Err(error) => return none_where_missing(error.into()),
            },
        };
        match requests.transaction(vec![TABLE.delete()]) {
            Err(error) if error.errno != Errno::ENOENT && !is_missing(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// What to do about a refusal, and what sort of error it is.
pub(super) fn explain(error: &NetlinkError) -> io::Error {
    if is_missing(error) {
        return io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{error}; this kernel has no nftables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET)"),
        );
    }
    let remedy = protection::remedy(error);
    io::Error::new(io::Error::from(error.errno).kind(), format!("{error}{remedy}"))
}

/// Whether something that was announced is about the table.
pub(super) fn concerns(message: &Message) -> bool {
    let mut all = attributes(message.payload.get(HEADER..).unwrap_or_default());
    all.any(|(kind, value)| kind == TABLE_NAME && text(value) == NAME)
}

/// Where the kernel has nothing of the kind there is none. Whoever may not ask did not set any.
fn none_where_missing<T: Default>(error: NetlinkError) -> Result<T, NetlinkError> {
    if is_missing(&error) || error.errno == Errno::EPERM { Ok(T::default()) } else { Err(error) }
}

/// The chains and rules that there are, as the kernel tells them.
fn told(requests: &mut Requests) -> Result<Vec<(u16, Vec<u8>)>, NetlinkError> {
    let mut all = requests.dump(&TABLE.chains())?;
    all.extend(requests.dump(&TABLE.rules())?);
    // What comes before counts all changes of anything.
    let told = |m: Message| (m.kind, m.payload.get(HEADER..).unwrap_or_default().to_vec());
    Ok(all.into_iter().filter(concerns).map(told).collect())
}

fn replace(requests: &mut Requests, guard: &Guard, flags: u32) -> Result<(), NetlinkError> {
    let there = TABLE.exists(requests)?;
    let mut batch: Vec<Request> = there.then(|| TABLE.delete()).into_iter().collect();
    batch.push(TABLE.make(flags));
    batch.extend(content(guard));
    requests.transaction(batch)
}

/// The chains and their rules.
fn content(guard: &Guard) -> Vec<Request> {
    let chain = |name, hook| TABLE.chain(name, hook, PRIORITY, Verdict::Drop);
    let mut all = vec![
        chain(LEAVING, Hook::Leaving),
        chain(FORWARDED, Hook::Forwarded),
        TABLE.subchain(HOST),
        TABLE.subchain(NEAR),
    ];
    let mut rule =
        |chain: &[u8], fill: &dyn Fn(Expressions) -> Expressions| all.push(TABLE.rule(chain, fill));
    let accept = Verdict::Accept;
    for chain in [LEAVING, FORWARDED] {
        // What most packets are comes first.
        for interface in &guard.interfaces {
            rule(chain, &|r| r.leaves_by(interface).then(accept));
        }
        rule(chain, &|r| r.has_mark(MARK).then(accept));
        for family in [Family::V4, Family::V6].into_iter().filter(|f| !guard.families.contains(f)) {
            rule(chain, &|r| r.of_version(protection::number(family)).then(accept));
        }
    }
    rule(LEAVING, &|r| r.leaves_by("lo").then(accept));
    // What comes out of the tunnel, for a container of this host.
    for chain in [LEAVING, FORWARDED] {
        for interface in &guard.interfaces {
            rule(chain, &|r| r.came_by(interface).then(accept));
        }
    }
    rule(LEAVING, &|r| r.jump(HOST));
    for chain in [LEAVING, FORWARDED] {
        rule(chain, &|r| r.jump(NEAR));
    }

    let (v4, v6) = (protection::number(Family::V4), protection::number(Family::V6));
    for (version, family) in [(v4, Family::V4), (v6, Family::V6)] {
        let (own, other) = near::dhcp(family);
        let ports = [own.to_be_bytes(), other.to_be_bytes()].concat();
        rule(HOST, &|r| r.of_version(version).carries(libc::IPPROTO_UDP).transport(0, &ports).then(accept));
    }
    for kind in NEIGHBOURS {
        rule(HOST, &|r| r.of_version(v6).carries(libc::IPPROTO_ICMPV6).transport(0, &[kind]).then(accept));
    }
    if guard.local_network {
        for protocol in [libc::IPPROTO_UDP, libc::IPPROTO_TCP] {
            for port in NAMES {
                rule(NEAR, &|r| r.carries(protocol).transport(2, &port.to_be_bytes()).then(Verdict::Drop));
            }
        }
        for Prefix { address, length } in [Family::V4, Family::V6].into_iter().flat_map(near::ranges) {
            let bits = usize::from(*length);
            rule(NEAR, &|r| match address {
                IpAddr::V4(at) => r.of_version(v4).goes_to(DESTINATION_V4, &at.octets(), bits).then(accept),
                IpAddr::V6(at) => r.of_version(v6).goes_to(DESTINATION_V6, &at.octets(), bits).then(accept),
            });
        }
    }
    // What nothing let through is dropped by a rule, not by the chain's policy alone: when the kernel puts this table into the
    // place of another, rules count from the first moment on, and for some microseconds the policy is not in force yet.
    for chain in [LEAVING, FORWARDED] {
        rule(chain, &|r| r.then(Verdict::Drop));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tables_own_announcements_concern_it() {
        let about = |name: &[u8]| {
            let request = Request::new(0xa00, 0, &[1, 0, 0, 0]).attribute(TABLE_NAME, name);
            concerns(&request.into_message())
        };
        assert!(about(b"mast-protection\0"));
        assert!(!about(b"filter\0") && !about(b"mast\0"));
    }
}
