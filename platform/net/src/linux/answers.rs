//! Has what peers answer be taken on every uplink, whatever the routes say.
//!
//! Strict filters look up the way back to whoever sent a datagram, and drop it if that is not the way by which it came:
//! the kernel's own for IPv4 (`rp_filter=1`), and `fib saddr . mark . iif` of nftables, as firewalld has it for IPv6.
//! Where routes of the tunnel cover the addresses of peers, as a full tunnel's do, the way back to all of them leads
//! into the tunnel; where there are two uplinks, it leads over the better one. So the look-up is led elsewhere:
//!
//! - `rp_filter` asks with the ports of the datagram and without a mark, so that a rule knows those to the service's
//!   port. It leads to a table whose one route has all uplinks for next hops, and any of them will do.
//! - nftables asks with the mark and without ports. So a chain of our own, before all others, marks datagrams to the
//!   service's port by the interface by which they came, and a rule for each mark leads to a table with a route over
//!   just that interface.
//!
//! All rules are for look-ups on behalf of this host (`iif lo`), and for none that the service's own sockets cause, since
//! those carry another mark: nothing that is sent or forwarded goes by these tables. `ip rule` shows them with
//! `proto 77`; their tables and marks are 0x6d620000 and above.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mast_engine::declared::Answers;
use mast_engine::os::Family;
use nix::errno::Errno;

use super::marking::Marking;
use super::netlink::{
    CREATE, EXCLUSIVE, Message, NetlinkError, REPLACE, Request, attributes, u16_at, u32_at,
};
use super::protection::{self, ACTION_TABLE, DEL_RULE, NEW_RULE, RULE_HEADER};
use super::rtnl::{self, Rtnl};

/// The table of all uplinks, and the mark and table of the interface with the number 0. Those of others follow.
pub(super) const BASE: u32 = 0x6d62_0000;
/// The bits that hold an interface's number. Machines that had more interfaces than these do without a table for the
/// later ones.
pub(super) const NUMBER: u32 = 0xffff;
/// Whose rules they are: `proto 77`. Those of leak protection have another number.
const PROTOCOL: u8 = b'M';
/// Before the rules of leak protection, which refuse look-ups without the service's mark.
const BY_PORT: u32 = 27_790;
const BY_MARK: u32 = 27_791;

const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_TABLE: u16 = 15;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;

/// No datagram comes from this address.
const NOBODY: [u8; 4] = [255; 4];

/// A rule of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    family: Family,
    priority: u32,
    mark: u32,
    /// Of the service, if only look-ups with it are meant.
    port: Option<u16>,
    table: u32,
    /// Not for look-ups on behalf of this host, but for none: the kernel reads the ports of what arrives only if there
    /// is a rule with ports that is not for this host alone (`fib_rule_requires_fldissect`).
    idle: bool,
}

impl Rule {
    fn by_port(port: u16) -> [Self; 2] {
        [false, true].map(|idle| Self {
            family: Family::V4,
            priority: BY_PORT,
            mark: 0,
            port: Some(port),
            table: BASE,
            idle,
        })
    }

    fn by_mark(family: Family, uplink: u32) -> Self {
        Self { family, priority: BY_MARK, mark: BASE | uplink, port: None, table: BASE | uplink, idle: false }
    }

    fn request(&self, kind: u16, flags: u16) -> Request {
        // `struct fib_rule_hdr`
        let mut header = [0; RULE_HEADER];
        header[0] = protection::number(self.family);
        header[2] = if self.idle { 32 } else { 0 };
        header[7] = ACTION_TABLE;
        let request = Request::new(kind, flags, &header)
            .attribute(protection::FRA_PRIORITY, &self.priority.to_ne_bytes())
            .attribute(protection::FRA_PROTOCOL, &[PROTOCOL])
            .attribute(protection::FRA_FWMARK, &self.mark.to_ne_bytes())
            .attribute(protection::FRA_FWMASK, &u32::MAX.to_ne_bytes())
            .attribute(FRA_TABLE, &self.table.to_ne_bytes());
        let request = match self.idle {
            true => request.attribute(FRA_SRC, &NOBODY),
            false => request.attribute(FRA_IIFNAME, b"lo\0"),
        };
        let Some(port) = self.port.map(u16::to_ne_bytes) else { return request };
        request
            .attribute(FRA_IP_PROTO, &[libc::IPPROTO_UDP as u8])
            .attribute(FRA_SPORT_RANGE, &[port, port].concat())
    }

    pub(super) fn parse(message: &Message) -> Option<Self> {
        if !matches!(message.kind, NEW_RULE | DEL_RULE) {
            return None;
        }
        let payload = &message.payload;
        let family = [Family::V4, Family::V6]
            .into_iter()
            .find(|f| payload.first() == Some(&protection::number(*f)))?;
        let table = (*payload.get(4)?).into();
        let mut rule = Self { family, priority: 0, mark: 0, port: None, table, idle: false };
        let mut own = false;
        for (kind, value) in attributes(payload.get(RULE_HEADER..)?) {
            match kind {
                protection::FRA_PRIORITY => rule.priority = u32_at(value, 0)?,
                protection::FRA_PROTOCOL => own = value.first() == Some(&PROTOCOL),
                protection::FRA_FWMARK => rule.mark = u32_at(value, 0)?,
                FRA_SRC => rule.idle = true,
                FRA_TABLE => rule.table = u32_at(value, 0)?,
                FRA_SPORT_RANGE => rule.port = u16_at(value, 0),
                _ => {}
            }
        }
        (own && matches!(rule.priority, BY_PORT | BY_MARK)).then_some(rule)
    }
}

/// Whether a table is one of ours.
pub(super) fn owns(table: u32) -> bool {
    table & !NUMBER == BASE
}

/// What there shall be: rules, and routes by version of IP and table, each over these interfaces.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    rules: BTreeSet<Rule>,
    routes: BTreeMap<(Family, u32), Vec<u32>>,
}

impl Plan {
    fn new(answers: &Answers, strict: bool, marking: bool, families: &[Family]) -> Self {
        let mut plan = Self::default();
        let uplinks: Vec<u32> = answers.uplinks.keys().map(|id| id.0).collect();
        if uplinks.is_empty() {
            return plan;
        }
        if (strict || answers.covered) && families.contains(&Family::V4) {
            plan.rules.extend(Rule::by_port(answers.port));
            plan.routes.insert((Family::V4, BASE), uplinks.clone());
        }
        if answers.covered && marking {
            let numbered = uplinks.into_iter().filter(|uplink| (1..=NUMBER).contains(uplink));
            for uplink in numbered {
                for &family in families {
                    plan.rules.insert(Rule::by_mark(family, uplink));
                    plan.routes.insert((family, BASE | uplink), vec![uplink]);
                }
            }
        }
        plan
    }
}

/// What is set, and what is needed to set it.
#[derive(Debug, Default)]
pub(super) struct Way {
    set: Option<Answers>,
    /// Marks what arrives, as long as this is there.
    marking: Option<Marking>,
    /// The kernel has no such rules, and no filter that would need them.
    mute: bool,
}

impl Way {
    /// What is set and in order now, and whether there is anything at all.
    pub(super) fn present(&mut self, rtnl: &mut Rtnl) -> Result<(Option<Answers>, bool), NetlinkError> {
        let found = found(rtnl)?;
        let Some(answers) = self.set.clone() else { return Ok((None, !found.is_empty())) };
        if self.mute {
            return Ok((Some(answers), false));
        }
        let marked = self.marking.as_mut().is_some_and(Marking::is_there);
        let plan = Plan::new(&answers, is_strict(&answers), self.marking.is_some(), &families());
        let mut whole = found == plan.rules && marked == self.marking.is_some();
        for (&(family, table), uplinks) in &plan.routes {
            whole = whole && rtnl.uplinks_of_table(protection::number(family), table)? == *uplinks;
        }
        Ok((whole.then_some(answers), true))
    }

    /// Sets it in the place of what there is. What is in use goes on being taken meanwhile.
    pub(super) fn set(&mut self, rtnl: &mut Rtnl, answers: &Answers) -> Result<(), NetlinkError> {
        self.mute = false;
        if !answers.covered {
            self.marking = None;
        } else if self.marking.as_mut().is_none_or(|m| m.port != answers.port || !m.is_there()) {
            self.marking = None;
            match Marking::new(answers.port) {
                Ok(marking) => self.marking = Some(marking),
                // Then there are no filters of that kind either.
                Err(error) => tracing::debug!(%error, "what arrives cannot be marked"),
            }
        }
        let strict = is_strict(answers);
        let plan = Plan::new(answers, strict, self.marking.is_some(), &families());
        self.set = Some(answers.clone());
        let done = change(rtnl, &plan);
        if let Err(error) = done {
            // Nothing of it is left behind; there is nothing to be done about what cannot be taken away.
            drop(change(rtnl, &Plan::default()));
            self.marking = None;
            // Who has no such filter is not bothered.
            self.mute = !strict;
            if strict {
                self.set = None;
                return Err(error);
            }
            tracing::debug!(%error, "no rules for strict filters");
        }
        Ok(())
    }

    pub(super) fn clear(&mut self, rtnl: &mut Rtnl) -> Result<(), NetlinkError> {
        *self = Self::default();
        change(rtnl, &Plan::default())
    }
}

/// Whether the kernel has rules at all.
pub(super) fn are_possible() -> bool {
    let rules = |mut rtnl: Rtnl| protection::rules(&mut rtnl.requests, Family::V4);
    // There are always some.
    Rtnl::open().map_err(NetlinkError::from).and_then(rules).is_ok_and(|rules| !rules.is_empty())
}

fn families() -> Vec<Family> {
    [Family::V4, Family::V6].into_iter().filter(|f| protection::speaks(*f)).collect()
}

/// Whether the kernel's own filter is strict on one of these uplinks: the stricter of two settings counts.
fn is_strict(answers: &Answers) -> bool {
    let conf = Path::new("/proc/sys/net/ipv4/conf");
    let value = |name: &str| -> u8 {
        let text = std::fs::read_to_string(conf.join(name).join("rp_filter"));
        text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    let all = value("all");
    answers.uplinks.values().any(|name| all.max(value(name)) == 1)
}

fn found(rtnl: &mut Rtnl) -> Result<BTreeSet<Rule>, NetlinkError> {
    let mut rules = BTreeSet::new();
    for family in families() {
        let list = protection::rules(&mut rtnl.requests, family)?;
        rules.extend(list.iter().filter_map(Rule::parse));
    }
    Ok(rules)
}

/// First what is new, then away with what is not meant any more.
fn change(rtnl: &mut Rtnl, plan: &Plan) -> Result<(), NetlinkError> {
    let stale: Vec<Rule> = found(rtnl)?.difference(&plan.rules).copied().collect();
    let routes = plan.routes.iter().map(|(&(family, table), uplinks)| {
        rtnl::table_route(protection::number(family), table, uplinks, CREATE | REPLACE)
    });
    let rules = plan.rules.iter().map(|rule| rule.request(NEW_RULE, CREATE | EXCLUSIVE));
    for result in rtnl.requests.batch(routes.chain(rules).collect::<Vec<_>>()) {
        match result {
            Err(error) if error.errno != Errno::EEXIST => return Err(error),
            _ => {}
        }
    }
    let kept = |rule: &&Rule| !plan.routes.contains_key(&(rule.family, rule.table));
    let routes =
        stale.iter().filter(kept).map(|r| rtnl::no_table_route(protection::number(r.family), r.table));
    let requests: Vec<Request> =
        stale.iter().map(|rule| rule.request(DEL_RULE, 0)).chain(routes.clone()).collect();
    for result in rtnl.requests.batch(requests) {
        match result {
            Err(error) if !matches!(error.errno, Errno::ENOENT | Errno::ESRCH) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mast_proto::InterfaceId;

    use super::*;

    #[test]
    fn only_what_a_filter_can_ask_for_is_set() {
        let uplinks = [(InterfaceId(3), "wlan0".into()), (InterfaceId(70_000), "wwan0".into())];
        let answers = |covered| Answers { port: 6278, uplinks: uplinks.clone().into(), covered };
        let both = [Family::V4, Family::V6];
        assert_eq!(Plan::new(&answers(false), false, true, &both), Plan::default());
        let strict = Plan::new(&answers(false), true, true, &both);
        assert_eq!(strict.rules, Rule::by_port(6278).into());
        assert_eq!(strict.routes, [((Family::V4, BASE), vec![3, 70_000])].into());
        let covered = Plan::new(&answers(true), false, true, &both);
        assert_eq!(covered.rules.len(), 4, "the table's number has no room for the later one");
        assert_eq!(covered.routes[&(Family::V6, BASE | 3)], [3]);
        assert_eq!(Plan::new(&answers(true), false, false, &both), strict, "nobody asks by marks");
        assert_eq!(Plan::new(&answers(true), true, true, &[Family::V4]).rules.len(), 3);
        let none = Answers { uplinks: BTreeMap::new(), ..answers(true) };
        assert_eq!(Plan::new(&none, true, true, &both), Plan::default());
        assert!(owns(BASE | 70) && !owns(254) && !owns(51_820) && !owns(protection::MARK));
    }
}
