//! Addresses, routes and the MTU of the virtual interface.
//!
//! A default route overrides the host's own by being two halves, since longer prefixes go before any metric. A route has
//! no preferred source: which address is used is the system's choice among the interface's (RFC 6724), of which there is
//! one of each version of IP. So what was declared is remembered here, and told again.
//!
//! Leak protection outlives the service, and is read from the system each time. It lets through an adapter by what the
//! system knows it by, which another one of the same name has not: so it is set again when that changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mast_engine::declared::{Dns, Guard, Host, Present, Step};
use mast_engine::os::{Family, Prefix};

use super::filters::{self, InForce, Rules};
use super::names;
use super::system::{Adapter, Route, System};

/// Of routes into the virtual interface.
const METRIC: u32 = 0;

/// The hand that sets things.
#[derive(Debug)]
pub struct WindowsHost<S> {
    system: S,
    /// The preferred sources that were asked for, which the system does not keep.
    sources: BTreeMap<Prefix, IpAddr>,
    /// Who is asked for names because of this.
    dns: Option<Dns>,
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
fn is_systems_own(prefix: &Prefix, adapter: &Adapter) -> bool {
    let address = prefix.address;
    address.is_multicast()
        || address == IpAddr::V4(Ipv4Addr::BROADCAST)
        || matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local())
        || adapter.addresses.iter().any(|a| *prefix == Prefix::host(a.ip))
}

impl<S: System> WindowsHost<S> {
    pub(super) fn new(system: S) -> Self {
        Self { system, sources: BTreeMap::new(), dns: None }
    }

    fn adapter(&self, name: &str) -> io::Result<Adapter> {
        let found = self.system.adapters()?.into_iter().find(|a| a.name == name);
        found.ok_or_else(|| {
            let text =
                format!("the virtual interface `{name}` is gone; it is made again when the service restarts");
            io::Error::new(io::ErrorKind::NotFound, text)
        })
    }

    fn routes(&self, adapter: &Adapter) -> io::Result<BTreeMap<Prefix, Option<IpAddr>>> {
        let all = self.system.routes()?.into_iter().filter(|r| r.luid == adapter.luid);
        let mut routes: BTreeMap<_, _> = all
            .map(|route| route.prefix.masked())
            .filter(|prefix| !is_systems_own(prefix, adapter))
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

    fn add(&mut self, adapter: &Adapter, prefix: Prefix, source: Option<IpAddr>) -> io::Result<()> {
        let taken = self.system.routes()?;
        let elsewhere = |part: &Prefix| {
            taken.iter().any(|r| r.luid != adapter.luid && r.prefix.masked() == *part && r.prefix.length > 1)
        };
        let parts = set_for(prefix);
        if parts.iter().any(elsewhere) {
            let text =
                format!("another interface has a route to {prefix}; remove it, or choose another range");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        let mut made = Vec::new();
        for part in parts {
            let route = Route { luid: adapter.luid, prefix: part, gateway: None, metric: METRIC };
            match self.system.add_route(&route) {
                Ok(()) => made.push(route),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    // Whole or not at all.
                    made.iter().for_each(|route| drop(self.system.remove_route(route)));
                    return Err(error);
                }
            }
        }
        self.remember(prefix, source);
        Ok(())
    }

    fn remember(&mut self, prefix: Prefix, source: Option<IpAddr>) {
        match source {
            Some(source) => {
                self.sources.insert(prefix.masked(), source);
            }
            None => {
                self.sources.remove(&prefix.masked());
            }
        }
    }

    fn remove(&mut self, adapter: &Adapter, prefix: Prefix) -> io::Result<()> {
        for part in set_for(prefix) {
            let route = Route { luid: adapter.luid, prefix: part, gateway: None, metric: METRIC };
            match self.system.remove_route(&route) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.sources.remove(&prefix.masked());
        Ok(())
    }

    /// What is in force of the filters. Whoever may not ask did not set any.
    fn in_force(&self) -> io::Result<InForce> {
        match self.system.filters() {
            Ok(labels) => Ok(filters::read(labels.iter().map(String::as_str))),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(InForce::Nothing),
            Err(error) => Err(error),
        }
    }

    /// What the system knows these adapters by now.
    fn known<'a>(
        &self,
        names: impl Iterator<Item = &'a String>,
    ) -> io::Result<BTreeMap<String, Option<u64>>> {
        let all = self.system.adapters()?;
        let luid = |name: &String| all.iter().find(|a| a.name == *name).map(|a| a.luid);
        Ok(names.map(|name| (name.clone(), luid(name))).collect())
    }

    /// Whether the filters let through the adapters and the program of now.
    fn is_current(&self, interface: Option<&str>, rules: &Rules) -> io::Result<bool> {
        Ok(interface.is_none_or(|name| rules.adapters.contains_key(name))
            && self.known(rules.adapters.keys())? == rules.adapters
            && filters::mark(&self.system.program()?) == rules.program)
    }

    fn protection(&self, interface: Option<&str>, present: &mut Present) -> io::Result<()> {
        match self.in_force()? {
            InForce::Nothing => {}
            // Replaced without a moment between where it is wanted.
            InForce::Part => present.remnants.push(Step::ClearGuard),
            InForce::Whole(rules) if self.is_current(interface, &rules)? => {
                (present.protection, present.guard) = (rules.protect, rules.guard);
            }
            InForce::Whole(Rules { protect, guard: Some(guard), .. }) => {
                present.protection = protect;
                // As none can be wanted: it is replaced, or taken away.
                present.guard = Some(Guard { interfaces: BTreeSet::new(), ..guard });
            }
            InForce::Whole(rules) => present.remnants.extend(rules.protect.into_iter().map(Step::Unprotect)),
        }
        Ok(())
    }

    /// Puts other filters in the place of what is in force, at once.
    fn filter(&mut self, interface: Option<&str>, alter: impl FnOnce(&mut Rules)) -> io::Result<()> {
        let before = self.in_force()?;
        let mut rules = match &before {
            InForce::Whole(rules) => rules.clone(),
            InForce::Nothing | InForce::Part => Rules::default(),
        };
        alter(&mut rules);
        if rules.is_empty() {
            return if before == InForce::Nothing { Ok(()) } else { self.system.set_filters(&[]) };
        }
        let program = self.system.program()?;
        let mut names: BTreeSet<String> = interface.map(str::to_owned).into_iter().collect();
        names.extend(rules.guard.iter().flat_map(|guard| guard.interfaces.iter().cloned()));
        rules.adapters = self.known(names.iter())?;
        rules.program = filters::mark(&program);
        if before == InForce::Whole(rules.clone()) {
            return Ok(());
        }
        let filters =
            rules.filters(&program).map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text))?;
        self.system.set_filters(&filters)
    }

    fn step(&mut self, interface: Option<&str>, step: &Step) -> io::Result<()> {
        let adapter = |own: &Self| own.adapter(interface.unwrap_or_default());
        match step {
            Step::AddAddress(address) => {
                let adapter = adapter(self)?;
                match self.system.add_address(adapter.luid, *address) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                    done => done,
                }
            }
            Step::RemoveAddress(address) => {
                let adapter = adapter(self)?;
                match self.system.remove_address(adapter.luid, *address) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    done => done,
                }
            }
            Step::AddRoute(prefix, source) => {
                let adapter = adapter(self)?;
                self.add(&adapter, *prefix, *source)
            }
            Step::ChangeRoute(prefix, _, source) => {
                self.remember(*prefix, *source);
                Ok(())
            }
            Step::RemoveRoute(prefix, _) => {
                let adapter = adapter(self)?;
                self.remove(&adapter, *prefix)
            }
            Step::SetMtu(mtu) => {
                let adapter = adapter(self)?;
                let set = |family| self.system.set_mtu(adapter.luid, family, u32::from(*mtu));
                set(Family::V4)?;
                match set(Family::V6) {
                    // A host without IPv6.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    done => done,
                }
            }
            // Its answers come back by the socket that asked: the system looks up no way back.
            Step::SetAnswers(_) | Step::ClearAnswers => Ok(()),
            Step::Protect(family) => self.filter(interface, |rules| _ = rules.protect.insert(*family)),
            Step::Unprotect(family) => self.filter(interface, |rules| _ = rules.protect.remove(family)),
            Step::SetGuard(guard) => self.filter(interface, |rules| rules.guard = Some(guard.clone())),
            Step::ClearGuard => self.filter(interface, |rules| rules.guard = None),
            Step::SetDns(dns) => {
                let adapter = adapter(self)?;
                names::set(&self.system, adapter.luid, dns)?;
                self.dns = Some(dns.clone());
                Ok(())
            }
            Step::ClearDns => {
                // Its name servers go with the adapter.
                let adapter = interface.and_then(|name| self.adapter(name).ok());
                names::clear(&self.system, adapter.map(|adapter| adapter.luid))?;
                self.dns = None;
                Ok(())
            }
            Step::Raise => {
                let text = format!("cannot {step}: this version of MAST cannot on Windows; do without");
                Err(io::Error::new(io::ErrorKind::Unsupported, text))
            }
        }
    }
}

impl<S: System> Host for WindowsHost<S> {
    fn present(&mut self, interface: Option<&str>) -> io::Result<Present> {
        let mut present = Present::default();
        self.protection(interface, &mut present)?;
        match names::present(&self.system, self.dns.as_ref()) {
            Ok((true, _)) => present.dns.clone_from(&self.dns),
            Ok((false, true)) => present.remnants.push(Step::ClearDns),
            Ok((false, false)) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
        let Some(name) = interface else { return Ok(present) };
        let adapter = self.adapter(name)?;
        let link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        Ok(Present {
            mtu: u16::try_from(adapter.mtu).ok(),
            addresses: adapter.addresses.iter().map(|a| a.ip).filter(|ip| !link_local(ip)).collect(),
            routes: self.routes(&adapter)?,
            ..present
        })
    }

    fn take(&mut self, interface: Option<&str>, steps: &[Step]) -> Vec<io::Result<()>> {
        let context = |step: &Step, error: io::Error| {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => "; run as administrator",
                _ => "",
            };
            io::Error::new(error.kind(), format!("cannot {step}: {error}{remedy}"))
        };
        steps.iter().map(|step| self.step(interface, step).map_err(|error| context(step, error))).collect()
    }

    fn around(&mut self, interface: &str, family: Family) -> io::Result<Option<String>> {
        let adapter = self.adapter(interface)?;
        let halves = |r: &Route| r.prefix.length == 1 && Family::of(r.prefix.address) == family;
        let adapters = self.system.adapters()?;
        let other = self.system.routes()?.into_iter().find(|r| halves(r) && r.luid != adapter.luid);
        Ok(other.map(|route| {
            let name = adapters.iter().find(|a| a.luid == route.luid).map_or("another", |a| a.name.as_str());
            format!("a route of `{name}` to {} stands beside it", route.prefix)
        }))
    }
}
