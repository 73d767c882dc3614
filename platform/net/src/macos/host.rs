//! Addresses, routes and the MTU of the virtual interface, leak protection, names.
//!
//! A default route overrides the host's own by being two halves, since longer prefixes go before all else. The system
//! keeps the preferred source of a route and does not list it: what was asked for is remembered here, and told again.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mast_engine::declared::{Answers, Dns, Host, Present, Step};
use mast_engine::os::{Family, Prefix};

use super::monitor::{self, Found};
use super::pf::{self, InForce, Rules};
use super::system::System;
use super::{names, routing};

/// The hand that sets things.
#[derive(Debug)]
pub struct MacHost<S> {
    system: S,
    /// The preferred sources that were asked for.
    sources: BTreeMap<Prefix, IpAddr>,
    /// How names were last set.
    dns: Option<Dns>,
    /// What was asked for; the system needs nothing for it.
    answers: Option<Answers>,
    /// What pf was switched on with, should others take away the rules that say it.
    token: Option<u64>,
    /// Counts what the kernel is asked.
    number: u32,
}

/// What is set for a range: a default route is two halves.
fn set_for(prefix: Prefix) -> Vec<Prefix> {
    let half = |address: IpAddr| Prefix { address, length: 1 };
    match (prefix.masked(), prefix.length) {
        (Prefix { address: IpAddr::V4(_), .. }, 0) => {
            vec![half(Ipv4Addr::UNSPECIFIED.into()), half(Ipv4Addr::new(128, 0, 0, 0).into())]
        }
        (Prefix { address: IpAddr::V6(_), .. }, 0) => {
            vec![half(Ipv6Addr::UNSPECIFIED.into()), half(Ipv6Addr::new(0x8000, 0, 0, 0, 0, 0, 0, 0).into())]
        }
        (prefix, _) => vec![prefix],
    }
}

/// What the system makes by itself for an interface that is up, and nobody declares.
fn is_systems_own(prefix: &Prefix, found: &Found) -> bool {
    matches!(prefix.address, IpAddr::V6(ip) if ip.is_unicast_link_local())
        || prefix.address == IpAddr::V4(Ipv4Addr::BROADCAST)
        || found.addresses.iter().any(|a| *prefix == Prefix::host(a.ip))
}

impl<S: System> MacHost<S> {
    pub(super) fn new(system: S) -> Self {
        Self { system, sources: BTreeMap::new(), dns: None, answers: None, token: None, number: 0 }
    }

    fn found(&self, name: &str) -> io::Result<Found> {
        let found = monitor::interfaces(&self.system)?.into_values().find(|f| f.interface.name == name);
        found.ok_or_else(|| {
            let text =
                format!("the virtual interface `{name}` is gone; it is made again when the service restarts");
            io::Error::new(io::ErrorKind::NotFound, text)
        })
    }

    fn routes(&self, found: &Found) -> io::Result<BTreeMap<Prefix, Option<IpAddr>>> {
        let index = found.interface.index;
        let all = monitor::routes(&self.system)?.into_iter().filter(|r| r.index == index && r.is_for_all());
        let mut routes: BTreeMap<_, _> = all
            .map(|route| route.prefix)
            .filter(|prefix| !is_systems_own(prefix, found))
            .map(|prefix| (prefix, self.sources.get(&prefix).copied()))
            .collect();
        for whole in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
            let whole = Prefix { address: whole, length: 0 };
            let halves = set_for(whole);
            if halves.iter().all(|half| routes.contains_key(half)) {
                routes.retain(|prefix, _| !halves.contains(prefix));
                routes.insert(whole, self.sources.get(&whole).copied());
            }
        }
        Ok(routes)
    }

    fn ask(&mut self, kind: u8, prefix: Prefix, index: u16, source: Option<IpAddr>) -> io::Result<()> {
        self.number = self.number.wrapping_add(1);
        self.system.request(&routing::request(kind, prefix, index, source, self.number))
    }

    fn add(&mut self, found: &Found, prefix: Prefix, source: Option<IpAddr>) -> io::Result<()> {
        let index = found.interface.index;
        let there = monitor::routes(&self.system)?;
        let mut made = Vec::new();
        for part in set_for(prefix) {
            let mut taken = there.iter().filter(|r| r.prefix == part && r.is_for_all());
            if taken.any(|r| r.index == index) {
                // Whatever its source is.
                self.ask(routing::DELETE, part, index, None)?;
            }
            match self.ask(routing::ADD, part, index, source) {
                Ok(()) => made.push(part),
                Err(error) => {
                    // Whole or not at all.
                    made.into_iter().for_each(|part| drop(self.ask(routing::DELETE, part, index, None)));
                    if error.kind() == io::ErrorKind::AlreadyExists {
                        let text = format!(
                            "another interface has a route to {part}; remove it, or choose another range"
                        );
                        return Err(io::Error::new(error.kind(), text));
                    }
                    return Err(error);
                }
            }
        }
        self.remember(prefix, source);
        Ok(())
    }

    fn remember(&mut self, prefix: Prefix, source: Option<IpAddr>) {
        match source {
            Some(source) => drop(self.sources.insert(prefix.masked(), source)),
            None => drop(self.sources.remove(&prefix.masked())),
        }
    }

    fn change(&mut self, found: &Found, prefix: Prefix, source: Option<IpAddr>) -> io::Result<()> {
        let before = self.sources.get(&prefix.masked()).copied();
        self.remove(found, prefix)?;
        self.add(found, prefix, source).inspect_err(|_| drop(self.add(found, prefix, before)))
    }

    fn remove(&mut self, found: &Found, prefix: Prefix) -> io::Result<()> {
        let index = found.interface.index;
        // The system would take one of another interface, where there is none of this.
        let there = monitor::routes(&self.system)?;
        for part in set_for(prefix) {
            if there.iter().any(|r| r.prefix == part && r.index == index && r.is_for_all()) {
                match self.ask(routing::DELETE, part, index, None) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        self.sources.remove(&prefix.masked());
        Ok(())
    }

    /// What is in force of the anchor. Whoever may not ask did not set any.
    fn in_force(&self) -> io::Result<InForce> {
        match self.system.pfctl(&["-a", pf::ANCHOR, "-s", "rules"], "") {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(InForce::Nothing),
            Err(error) => Err(error),
            Ok(listed) => {
                let found = pf::read(&listed);
                // Rules of which nobody is asked are as good as none, and may be so for a part.
                let works = || {
                    Ok::<_, io::Error>(
                        self.is_asked()? && pf::is_on(&self.system.pfctl(&["-s", "info"], "")?),
                    )
                };
                match found {
                    InForce::Whole(rules) if !works()? => Ok(InForce::Part(rules.token)),
                    found => Ok(found),
                }
            }
        }
    }

    fn is_asked(&self) -> io::Result<bool> {
        let main = self.system.pfctl(&["-s", "rules"], "")?;
        Ok(main.lines().any(|line| line.trim_start().starts_with(pf::ASKED)))
    }

    /// Puts other rules in the place of what is in force, at once.
    fn filter(&mut self, interface: Option<&str>, alter: impl FnOnce(&mut Rules)) -> io::Result<()> {
        let (mut rules, was) = match self.in_force()? {
            InForce::Nothing => (Rules::default(), false),
            InForce::Whole(rules) => (rules, true),
            InForce::Part(token) => (Rules { token, ..Rules::default() }, false),
        };
        alter(&mut rules);
        if rules.is_empty() {
            self.system.pfctl(&["-a", pf::ANCHOR, "-F", "rules"], "")?;
            if let Some(token) = rules.token.or(self.token.take()) {
                // Somebody may have taken it back already.
                let _ = self.system.pfctl(&["-X", &token.to_string()], "");
            }
            return Ok(());
        }
        // These are `PermissionDenied` rather than `Unsupported`: no other protection takes the place of this one.
        let refused = |text: &str| io::Error::new(io::ErrorKind::PermissionDenied, text.to_owned());
        let group = self.system.own_group().ok_or_else(|| {
            refused("the service has no group of its own, by which its datagrams are told from others; install the package, which starts it so")
        })?;
        if !self.is_asked()? {
            return Err(refused(
                "another program replaced the rules of pf that macOS comes with, and they do not ask about MAST's; \
                 end it, or load them again: sudo pfctl -f /etc/pf.conf",
            ));
        }
        rules.interface = interface.map(str::to_owned).or(rules.interface);
        rules.token = rules.token.or(self.token);
        if rules.token.is_none() || !pf::is_on(&self.system.pfctl(&["-s", "info"], "")?) {
            // Counted: pf stays on until each who switched it on has given it back, or somebody asks nobody.
            rules.token = pf::token(&self.system.pfctl(&["-E"], "")?);
        }
        self.token = rules.token;
        let text = rules.text(group).map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text))?;
        self.system.pfctl(&["-o", "none", "-a", pf::ANCHOR, "-f", "-"], &text)?;
        if !was {
            // What others' rules let through before goes on without being asked about, otherwise.
            self.system.pfctl(&["-F", "states"], "")?;
        }
        Ok(())
    }

    fn step(&mut self, interface: Option<&str>, step: &Step) -> io::Result<()> {
        let name = || interface.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        match step {
            Step::Raise => self.system.raise(name()?),
            Step::SetMtu(mtu) => self.system.set_mtu(name()?, *mtu),
            Step::AddAddress(address) => match self.system.add_address(name()?, *address) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                done => done,
            },
            Step::RemoveAddress(address) => match self.system.remove_address(name()?, *address) {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::NotFound) =>
                {
                    Ok(())
                }
                done => done,
            },
            Step::AddRoute(prefix, source) => self.add(&self.found(name()?)?, *prefix, *source),
            Step::ChangeRoute(prefix, _, source) => self.change(&self.found(name()?)?, *prefix, *source),
            Step::RemoveRoute(prefix, _) => match self.found(name()?) {
                Ok(found) => self.remove(&found, *prefix),
                // They go with the interface.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            },
            Step::Protect(family) => self.filter(interface, |rules| _ = rules.protect.insert(*family)),
            Step::Unprotect(family) => self.filter(interface, |rules| _ = rules.protect.remove(family)),
            Step::SetGuard(guard) => self.filter(interface, |rules| rules.guard = Some(guard.clone())),
            Step::ClearGuard => self.filter(interface, |rules| rules.guard = None),
            // Answers come back by the socket that asked: the system looks up no way back.
            Step::SetAnswers(answers) => {
                self.answers = Some(answers.clone());
                Ok(())
            }
            Step::ClearAnswers => {
                self.answers = None;
                Ok(())
            }
            Step::SetDns(dns) => {
                self.system.hold(Some(&names::set(&dns.servers)))?;
                self.dns = Some(dns.clone());
                Ok(())
            }
            Step::ClearDns => {
                self.dns = None;
                self.system.hold(None)
            }
        }
    }

    fn dns(&self) -> io::Result<Option<Dns>> {
        let Some(dns) = &self.dns else { return Ok(None) };
        let there = names::servers(&self.system.store(&names::ours())?);
        Ok((there == dns.servers).then(|| dns.clone()))
    }
}

impl<S: System> Host for MacHost<S> {
    fn present(&mut self, interface: Option<&str>) -> io::Result<Present> {
        let mut present = Present { dns: self.dns()?, answers: self.answers.clone(), ..Present::default() };
        match self.in_force()? {
            InForce::Nothing => {}
            // The tunnel of now must be what it lets through.
            InForce::Whole(rules) => {
                if interface.is_none() || rules.interface.as_deref() == interface {
                    present.protection = rules.protect;
                }
                present.guard = rules.guard;
            }
            InForce::Part(_) => {
                present.remnants =
                    vec![Step::ClearGuard, Step::Unprotect(Family::V4), Step::Unprotect(Family::V6)];
            }
        }
        let Some(name) = interface else { return Ok(present) };
        let found = self.found(name)?;
        present.down = found.interface.flags & routing::INTERFACE_UP == 0;
        present.mtu = u16::try_from(found.interface.mtu).ok();
        let link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        present.addresses = found.addresses.iter().map(|a| a.ip).filter(|ip| !link_local(ip)).collect();
        present.routes = self.routes(&found)?;
        Ok(present)
    }

    fn take(&mut self, interface: Option<&str>, steps: &[Step]) -> Vec<io::Result<()>> {
        let context = |step: &Step, error: io::Error| {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied if error.get_ref().is_none() => "; run as root",
                _ => "",
            };
            io::Error::new(error.kind(), format!("cannot {step}: {error}{remedy}"))
        };
        steps.iter().map(|step| self.step(interface, step).map_err(|error| context(step, error))).collect()
    }

    fn around(&mut self, interface: &str, family: Family) -> io::Result<Option<String>> {
        let all = monitor::interfaces(&self.system)?;
        let own = self.found(interface)?.interface.index;
        let halves = |r: &routing::Route| {
            r.prefix.length == 1 && Family::of(r.prefix.address) == family && r.is_for_all() && r.index != own
        };
        let other = monitor::routes(&self.system)?.into_iter().find(halves);
        Ok(other.map(|route| {
            let name = all.get(&route.index).map_or("another", |found| found.interface.name.as_str());
            format!("a route of `{name}` to {} comes before it", route.prefix)
        }))
    }
}
