//! What MAST sets on the host: addresses and routes of the virtual interface, rules of policy routing. Translates
//! single steps to requests of the kernel and sends them many at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use mast_engine::declared::{Host, Present, Step};
use mast_engine::os::{Family, Prefix};
use nix::errno::Errno;

use super::answers::Way;
use super::guard::{self, Filter};
use super::names::Names;
use super::netlink::{NetlinkError, Request};
use super::protection;
use super::rtnl::{self, Link, Route, Rtnl};

/// How long addresses may take to come into effect. It is mostly far less than a millisecond.
const EFFECT: Duration = Duration::from_secs(1);
/// So many IPv4 addresses the device has at most; what comes beyond, the host takes for itself by routes, since the
/// kernel keeps a device's addresses in a list. Nobody looks through so many in `ip addr`.
const LISTED: usize = 256;
/// How often that is looked at.
const EFFECT_POLL: Duration = Duration::from_micros(200);

/// The parts that the kernel has a route in: a default route comes in two halves, so that the host's own stays and is
/// merely overridden.
fn parts(prefix: Prefix) -> Vec<Prefix> {
    if prefix.length != 0 {
        return vec![prefix];
    }
    let upper = match prefix.address {
        IpAddr::V4(_) => IpAddr::V4((1 << 31).into()),
        IpAddr::V6(_) => IpAddr::V6((1 << 127).into()),
    };
    [prefix.address, upper].map(|address| Prefix { address, length: 1 }).to_vec()
}

/// The requests that a step comes to.
#[derive(Default)]
struct Work {
    requests: Vec<Request>,
    /// What undoes each of them.
    undo: Vec<Request>,
    /// Errors that say that it was done before.
    done_already: &'static [Errno],
}

/// The hand of the kernel that sets addresses, routes and rules, in the network namespace in which it was opened.
#[derive(Debug)]
pub struct LinuxHost {
    rtnl: Rtnl,
    /// Versions of IP that were to be protected and that the kernel does not have.
    mute: BTreeSet<Family>,
    /// What may leave.
    filter: Filter,
    /// Who is asked for names.
    names: Names,
    /// What peers answer, and how it is taken.
    answers: Way,
    /// How many IPv4 addresses the device has.
    listed: usize,
    /// The own addresses beyond those.
    unlisted: BTreeSet<IpAddr>,
}

impl LinuxHost {
    pub(super) fn open(shared_filter: bool) -> io::Result<Self> {
        Ok(Self {
            rtnl: Rtnl::open()?,
            mute: BTreeSet::new(),
            filter: Filter::new(shared_filter),
            names: Names::default(),
            answers: Way::default(),
            listed: 0,
            unlisted: BTreeSet::new(),
        })
    }

    fn link(&mut self, interface: &str) -> io::Result<Link> {
        let link = self.rtnl.link(interface).map_err(io::Error::from)?;
        link.ok_or_else(|| {
            let text = format!("the virtual interface `{interface}` was removed");
            io::Error::new(io::ErrorKind::NotFound, text)
        })
    }

    /// Adds the default route to those of which both halves are there, and says of which only one is.
    fn join_halves(routes: &mut BTreeMap<Prefix, Option<IpAddr>>, remnants: &mut Vec<Step>) {
        for any in ["0.0.0.0", "::"] {
            let Ok(address) = any.parse() else { continue };
            let whole = Prefix { address, length: 0 };
            let halves: Vec<_> = parts(whole).iter().filter_map(|half| routes.get(half).copied()).collect();
            match halves.as_slice() {
                [] => {}
                [lower, upper] if lower == upper => drop(routes.insert(whole, *lower)),
                _ => remnants.push(Step::RemoveRoute(whole, None)),
            }
        }
    }

    /// The ranges to which others have a route that comes first, and over which interface.
    fn shadowed(&mut self, own: &[Route], others: &[Route]) -> BTreeMap<Prefix, String> {
        let own: BTreeMap<Prefix, u32> = own.iter().map(|r| (r.prefix, r.metric)).collect();
        let before = |r: &&Route| own.get(&r.prefix).is_some_and(|metric| r.metric < *metric);
        let shadows: Vec<&Route> = others.iter().filter(before).collect();
        let named = shadows.into_iter().map(|r| {
            // A default route is there in halves.
            let length = if r.prefix.length == 1 { 0 } else { r.prefix.length };
            (Prefix { length, ..r.prefix }.masked(), self.rtnl.name_of(r.index))
        });
        named.collect()
    }

    fn work(&mut self, index: u32, step: &Step) -> Work {
        let both = |ways: Vec<(Request, Request)>, done_already| {
            let (requests, undo) = ways.into_iter().unzip();
            Work { requests, undo, done_already }
        };
        match *step {
            Step::Raise => both(vec![(rtnl::set_up(index), rtnl::nothing(index))], &[]),
            // What it was before is nobody's wish.
            Step::SetMtu(mtu) => both(vec![(rtnl::set_mtu(index, mtu.into()), rtnl::nothing(index))], &[]),
            Step::AddAddress(address) if address.is_ipv4() && self.listed >= LISTED => {
                self.unlisted.insert(address);
                let way = (rtnl::put_local(index, address), rtnl::delete_local(index, address));
                both(vec![way], &[Errno::EEXIST])
            }
            Step::RemoveAddress(address) if self.unlisted.contains(&address) => {
                let way = (rtnl::delete_local(index, address), rtnl::put_local(index, address));
                both(vec![way], &[Errno::ESRCH])
            }
            Step::AddAddress(address) => {
                self.listed += usize::from(address.is_ipv4());
                both(
                    vec![(rtnl::add_address(index, address), rtnl::delete_address(index, address))],
                    &[Errno::EEXIST],
                )
            }
            Step::RemoveAddress(address) => both(
                vec![(rtnl::delete_address(index, address), rtnl::add_address(index, address))],
                &[Errno::EADDRNOTAVAIL],
            ),
            Step::AddRoute(prefix, source) => {
                let way = |part| {
                    (rtnl::put_route(index, part, source, false), rtnl::delete_route(index, part, source))
                };
                both(parts(prefix).into_iter().map(way).collect(), &[])
            }
            Step::ChangeRoute(prefix, from, to) => {
                let way =
                    |part| (rtnl::put_route(index, part, to, true), rtnl::put_route(index, part, from, true));
                both(parts(prefix).into_iter().map(way).collect(), &[])
            }
            Step::RemoveRoute(prefix, source) => {
                let way = |part| {
                    (rtnl::delete_route(index, part, source), rtnl::put_route(index, part, source, false))
                };
                both(parts(prefix).into_iter().map(way).collect(), &[Errno::ESRCH])
            }
            Step::Protect(family) if protection::speaks(family) => {
                let undo = protection::unprotect(family).into_iter().rev();
                both(protection::protect(family).into_iter().zip(undo).collect(), &[Errno::EEXIST])
            }
            Step::Unprotect(family) if !self.mute.contains(&family) => {
                let undo = protection::protect(family).into_iter().rev();
                both(protection::unprotect(family).into_iter().zip(undo).collect(), &[Errno::ENOENT])
            }
            // These take more than a list of requests.
            Step::SetAnswers(_) | Step::ClearAnswers | Step::SetGuard(_) | Step::ClearGuard => {
                Work::default()
            }
            Step::Protect(_) | Step::Unprotect(_) | Step::SetDns(_) | Step::ClearDns => Work::default(),
        }
    }

    /// Waits until datagrams to new addresses are taken: the kernel puts an IPv6 address into effect a little after it
    /// has said that it is there.
    fn await_effect(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        let added = Instant::now();
        for address in addresses {
            while !self.rtnl.is_local(address).unwrap_or(true) {
                if added.elapsed() > EFFECT {
                    tracing::warn!(%address, "the address takes long to come into effect");
                    return;
                }
                std::thread::sleep(EFFECT_POLL);
            }
        }
    }
}

fn explain(step: &Step, error: &NetlinkError) -> io::Error {
    let remedy = match (step, error.errno) {
        (Step::Protect(_) | Step::Unprotect(_) | Step::SetAnswers(_) | Step::ClearAnswers, _) => {
            protection::remedy(error)
        }
        (
            Step::SetDns(_),
            Errno::EOPNOTSUPP | Errno::ENOENT | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT,
        ) => {
            "; the kernel needs translation of addresses by nftables (CONFIG_NFT_NAT, CONFIG_NFT_MASQ): until then, \
             programs go on asking the name servers that they know"
        }
        (_, Errno::EPERM) => "; run as root or with the capability CAP_NET_ADMIN",
        (Step::AddRoute(..), Errno::EEXIST) => {
            "; the host has a route to the same range already, such as another VPN's: see `ip route` and \
             `ip -6 route`"
        }
        (Step::AddAddress(IpAddr::V6(_)), Errno::EACCES | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT) => {
            "; IPv6 is switched off on this host: see `sysctl net.ipv6.conf.all.disable_ipv6` and the kernel \
             parameter ipv6.disable"
        }
        _ => "",
    };
    io::Error::new(io::Error::from(error.errno).kind(), format!("{error}{remedy}"))
}

impl Host for LinuxHost {
    fn present(&mut self, interface: Option<&str>) -> io::Result<Present> {
        let mut present = Present::default();
        for family in [Family::V4, Family::V6] {
            match protection::present(&mut self.rtnl.requests, family).map_err(io::Error::from)? {
                Some(true) => drop(present.protection.insert(family)),
                Some(false) => present.remnants.push(Step::Unprotect(family)),
                None if self.mute.contains(&family) => drop(present.protection.insert(family)),
                None => {}
            }
        }
        let (guard, some) = self.filter.present().map_err(io::Error::from)?;
        if some && guard.is_none() {
            present.remnants.push(Step::ClearGuard);
        }
        present.guard = guard;
        let (dns, some) = self.names.present().map_err(io::Error::from)?;
        if some && dns.is_none() {
            present.remnants.push(Step::ClearDns);
        }
        present.dns = dns;
        let (answers, some) = self.answers.present(&mut self.rtnl).map_err(io::Error::from)?;
        if some && answers.is_none() {
            present.remnants.push(Step::ClearAnswers);
        }
        present.answers = answers;
        let Some(interface) = interface else { return Ok(present) };
        let link = self.link(interface)?;
        present.down = !link.is_up();
        let addresses = self.rtnl.addresses_of(link.index).map_err(io::Error::from)?;
        present.addresses = addresses.into_iter().map(|a| a.address).collect();
        self.listed = present.addresses.iter().filter(|a| a.is_ipv4()).count();
        self.unlisted = self.rtnl.locals_of(link.index).map_err(io::Error::from)?;
        present.addresses.extend(&self.unlisted);
        present.mtu = u16::try_from(link.mtu).ok();
        let routes = self.rtnl.routes().map_err(io::Error::from)?;
        let (own, others): (Vec<Route>, Vec<Route>) = routes.into_iter().partition(|r| r.index == link.index);
        present.shadowed = self.shadowed(&own, &others);
        present.routes = own.into_iter().map(|r| (r.prefix, r.source)).collect();
        Self::join_halves(&mut present.routes, &mut present.remnants);
        Ok(present)
    }

    fn take(&mut self, interface: Option<&str>, steps: &[Step]) -> Vec<io::Result<()>> {
        let index = match interface.map(|name| self.link(name)).transpose() {
            Ok(link) => link.map_or(0, |l| l.index),
            // What is not on the interface can be had, and is taken away, without it.
            Err(error) => {
                let gone = || Err(io::Error::new(error.kind(), error.to_string()));
                let one = |step: &Step| match step {
                    Step::Protect(_)
                    | Step::Unprotect(_)
                    | Step::SetGuard(_)
                    | Step::ClearGuard
                    | Step::ClearDns
                    | Step::SetAnswers(_)
                    | Step::ClearAnswers => {
                        self.take(None, std::slice::from_ref(step)).pop().unwrap_or(Ok(()))
                    }
                    _ => gone(),
                };
                return steps.iter().map(one).collect();
            }
        };
        let works: Vec<Work> = steps.iter().map(|step| self.work(index, step)).collect();
        let sent = self.rtnl.requests.batch(works.iter().flat_map(|w| w.requests.iter().cloned()));
        let mut sent = sent.into_iter();
        let mut undo = Vec::new();
        let mut results = Vec::with_capacity(steps.len());
        for (step, work) in steps.iter().zip(works) {
            let Work { requests, undo: ways_back, done_already } = work;
            let mut refused = None;
            let mut back = Vec::new();
            for (result, way_back) in sent.by_ref().take(requests.len()).zip(ways_back) {
                match result {
                    Ok(()) => back.push(way_back),
                    Err(error) if done_already.contains(&error.errno) => {}
                    Err(error) => refused = refused.or(Some(error)),
                }
            }
            results.push(match (refused, step) {
                (Some(error), _) => {
                    if let Step::AddAddress(address) = step
                        && !self.unlisted.remove(address)
                        && address.is_ipv4()
                    {
                        self.listed = self.listed.saturating_sub(1);
                    }
                    undo.extend(back.into_iter().rev());
                    Err(explain(step, &error))
                }
                (None, Step::SetDns(dns)) => {
                    let set = interface.map(|name| self.names.set(name, dns));
                    set.unwrap_or(Ok(())).map_err(|error| explain(step, &error))
                }
                (None, Step::ClearDns) => self.names.clear().map_err(|error| explain(step, &error)),
                (None, Step::SetGuard(wanted)) => {
                    self.filter.set(wanted).map_err(|error| guard::explain(&error))
                }
                (None, Step::ClearGuard) => self.filter.clear().map_err(|error| guard::explain(&error)),
                (None, Step::SetAnswers(answers)) => {
                    self.answers.set(&mut self.rtnl, answers).map_err(|error| explain(step, &error))
                }
                (None, Step::ClearAnswers) => {
                    self.answers.clear(&mut self.rtnl).map_err(|error| explain(step, &error))
                }
                (None, Step::Protect(family)) if requests.is_empty() => {
                    self.mute.insert(*family);
                    Ok(())
                }
                (None, Step::RemoveAddress(address)) => {
                    if !self.unlisted.remove(address) && address.is_ipv4() {
                        self.listed = self.listed.saturating_sub(1);
                    }
                    Ok(())
                }
                (None, Step::Unprotect(family)) => {
                    self.mute.remove(family);
                    Ok(())
                }
                (None, _) => Ok(()),
            });
        }
        for error in self.rtnl.requests.batch(undo).into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "a part of a refused change cannot be undone");
        }
        let added = steps.iter().zip(&results).filter_map(|(step, result)| match step {
            Step::AddAddress(address @ IpAddr::V6(_)) if result.is_ok() => Some(*address),
            _ => None,
        });
        self.await_effect(added);
        results
    }

    /// Some parts of the Internet may have routes of their own; where none of several leads into the interface, it is
    /// not that.
    fn around(&mut self, interface: &str, family: Family) -> io::Result<Option<String>> {
        let index = self.link(interface)?.index;
        for half in far(family) {
            let mut astray = None;
            for address in half.iter().filter_map(|text| text.parse().ok()) {
                match self.rtnl.way_to(address).map_err(io::Error::from)? {
                    Some(over) if over == index => {
                        astray = None;
                        break;
                    }
                    over => astray = Some((address, over)),
                }
            }
            match astray {
                None => {}
                Some((address, Some(over))) => {
                    let name = self.rtnl.name_of(over);
                    return Ok(Some(format!("what goes to {address}, for example, leaves over `{name}`")));
                }
                Some((address, None)) => {
                    return Ok(Some(format!("what goes to {address}, for example, is refused")));
                }
            }
        }
        Ok(None)
    }
}

/// Addresses of the Internet, far from each other, in each half of a default route in which there are some.
fn far(family: Family) -> &'static [&'static [&'static str]] {
    match family {
        Family::V4 => &[&["5.9.0.1", "23.32.0.1", "101.0.0.1"], &["133.1.0.1", "185.1.0.1", "199.1.0.1"]],
        Family::V6 => &[&["2001:500::1", "2600::1", "2a00::1"]],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(address: &str, length: u8) -> Prefix {
        Prefix { address: address.parse().unwrap(), length }
    }

    #[test]
    fn a_default_route_is_two_halves_and_both_make_one() {
        let (v4, v6) = (prefix("0.0.0.0", 0), prefix("::", 0));
        let halves: Vec<String> = [v4, v6].into_iter().flat_map(parts).map(|part| part.to_string()).collect();
        assert_eq!(halves, ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"]);

        let mut remnants = Vec::new();
        let mut routes: BTreeMap<_, _> = parts(v4).into_iter().map(|half| (half, None)).collect();
        routes.insert(prefix("::", 1), None);
        LinuxHost::join_halves(&mut routes, &mut remnants);
        assert!(routes.contains_key(&v4) && !routes.contains_key(&v6));
        assert_eq!(remnants, [Step::RemoveRoute(v6, None)]);
    }
}
