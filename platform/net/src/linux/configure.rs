//! Addresses and routes of the virtual interface: finds what differs, changes that, and takes it back on failure.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use mast_engine::os::{Prefix, VirtualNetwork};
use nix::errno::Errno;

use super::netlink::NetlinkError;
use super::rtnl::Rtnl;

/// How long an address may take to come into effect. It is mostly far less than a millisecond.
const EFFECT: Duration = Duration::from_secs(1);
/// How often that is looked at.
const EFFECT_POLL: Duration = Duration::from_micros(200);

/// Addresses, and the preferred source of each route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    addresses: BTreeSet<IpAddr>,
    routes: BTreeMap<Prefix, Option<IpAddr>>,
}

impl State {
    /// What `network` comes to: prefixes without host bits, default routes in two halves, so that the host's own
    /// default route stays and is merely overridden.
    fn desired(network: &VirtualNetwork) -> Self {
        let mut state =
            Self { addresses: network.addresses.iter().copied().collect(), routes: BTreeMap::new() };
        for &(prefix, source) in &network.routes {
            for part in halves(masked(prefix)) {
                state.routes.insert(part, source);
            }
        }
        state
    }
}

fn masked(prefix: Prefix) -> Prefix {
    let (address, length) = match prefix.address {
        IpAddr::V4(a) => {
            let length = prefix.length.min(32);
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            (IpAddr::V4((a.to_bits() & mask).into()), length)
        }
        IpAddr::V6(a) => {
            let length = prefix.length.min(128);
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            (IpAddr::V6((a.to_bits() & mask).into()), length)
        }
    };
    Prefix { address, length }
}

fn halves(prefix: Prefix) -> Vec<Prefix> {
    if prefix.length != 0 {
        return vec![prefix];
    }
    let upper = match prefix.address {
        IpAddr::V4(_) => IpAddr::V4((1 << 31).into()),
        IpAddr::V6(_) => IpAddr::V6((1 << 127).into()),
    };
    [prefix.address, upper].map(|address| Prefix { address, length: 1 }).to_vec()
}

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    AddAddress(IpAddr),
    DeleteAddress(IpAddr),
    AddRoute(Prefix, Option<IpAddr>),
    /// From the first preferred source to the second.
    ChangeRoute(Prefix, Option<IpAddr>, Option<IpAddr>),
    DeleteRoute(Prefix, Option<IpAddr>),
}

impl Step {
    fn inverse(self) -> Self {
        match self {
            Self::AddAddress(address) => Self::DeleteAddress(address),
            Self::DeleteAddress(address) => Self::AddAddress(address),
            Self::AddRoute(prefix, source) => Self::DeleteRoute(prefix, source),
            Self::ChangeRoute(prefix, from, to) => Self::ChangeRoute(prefix, to, from),
            Self::DeleteRoute(prefix, source) => Self::AddRoute(prefix, source),
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AddAddress(address) => write!(f, "add the address {address}"),
            Self::DeleteAddress(address) => write!(f, "remove the address {address}"),
            Self::AddRoute(prefix, _) => write!(f, "add the route to {prefix}"),
            Self::ChangeRoute(prefix, ..) => write!(f, "change the route to {prefix}"),
            Self::DeleteRoute(prefix, _) => write!(f, "remove the route to {prefix}"),
        }
    }
}

/// What leads from one state to another. New things first, so that there is no moment without; addresses before the
/// routes that prefer them, and the reverse when they go.
fn steps(from: &State, to: &State) -> Vec<Step> {
    let mut steps: Vec<Step> =
        to.addresses.difference(&from.addresses).map(|&a| Step::AddAddress(a)).collect();
    for (&prefix, &source) in &to.routes {
        match from.routes.get(&prefix) {
            None => steps.push(Step::AddRoute(prefix, source)),
            Some(&before) if before != source => steps.push(Step::ChangeRoute(prefix, before, source)),
            Some(_) => {}
        }
    }
    let gone = from.routes.iter().filter(|(prefix, _)| !to.routes.contains_key(prefix));
    steps.extend(gone.map(|(&prefix, &source)| Step::DeleteRoute(prefix, source)));
    steps.extend(from.addresses.difference(&to.addresses).map(|&a| Step::DeleteAddress(a)));
    steps
}

/// Sets the addresses and routes of one interface.
#[derive(Debug)]
pub(super) struct Configurator {
    rtnl: Rtnl,
    index: u32,
    name: String,
    /// What was set here; others may have set or removed things.
    set: State,
}

impl Configurator {
    pub(super) fn new(rtnl: Rtnl, index: u32, name: String) -> Self {
        Self { rtnl, index, name, set: State::default() }
    }

    pub(super) fn configure(&mut self, network: &VirtualNetwork) -> io::Result<()> {
        let desired = State::desired(network);
        let present = self.present()?;
        let mut done = Vec::new();
        for step in steps(&present, &desired) {
            if let Err(error) = self.take(step) {
                let refused = self.explain(step, &error);
                // What is undone last was done first.
                for step in done.into_iter().rev().map(Step::inverse) {
                    if let Err(error) = self.take(step) {
                        tracing::warn!(%error, interface = self.name, "cannot {step} to undo a failed change");
                    }
                }
                return Err(refused);
            }
            done.push(step);
        }
        self.set = desired;
        Ok(())
    }

    /// What was set here and is still there. Takes the interface up if somebody took it down.
    fn present(&mut self) -> io::Result<State> {
        let link = self.rtnl.link(&self.name).map_err(io::Error::from)?;
        let Some(link) = link.filter(|l| l.index == self.index) else {
            let text = format!("the virtual interface `{}` was removed", self.name);
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        };
        if !link.is_up() {
            tracing::warn!(interface = self.name, "somebody took the virtual interface down; taking it up");
            self.rtnl.set_up(self.index).map_err(io::Error::from)?;
        }
        let mut present = State::default();
        if !self.set.addresses.is_empty() {
            let list = self.rtnl.addresses().map_err(io::Error::from)?;
            let own = list.iter().filter(|a| a.index == self.index).map(|a| a.address);
            present.addresses = own.filter(|a| self.set.addresses.contains(a)).collect();
        }
        if !self.set.routes.is_empty() {
            let list = self.rtnl.routes().map_err(io::Error::from)?;
            let own =
                list.iter().filter(|r| r.index == self.index && self.set.routes.contains_key(&r.prefix));
            present.routes = own.map(|r| (r.prefix, r.source)).collect();
        }
        Ok(present)
    }

    /// Adds an address and waits until datagrams to it are taken: the kernel puts an IPv6 address into effect a
    /// little after it has said that it is there.
    fn add_address(&mut self, address: IpAddr) -> Result<(), NetlinkError> {
        self.rtnl.add_address(self.index, address)?;
        let added = Instant::now();
        while !self.rtnl.is_local(address).unwrap_or(true) {
            if added.elapsed() > EFFECT {
                tracing::warn!(%address, interface = self.name, "the address takes long to come into effect");
                break;
            }
            std::thread::sleep(EFFECT_POLL);
        }
        Ok(())
    }

    fn take(&mut self, step: Step) -> Result<(), NetlinkError> {
        let (result, done_already): (_, &[Errno]) = match step {
            Step::AddAddress(address) => (self.add_address(address), &[Errno::EEXIST]),
            Step::DeleteAddress(address) => {
                (self.rtnl.delete_address(self.index, address), &[Errno::EADDRNOTAVAIL])
            }
            Step::AddRoute(prefix, source) => (self.rtnl.put_route(self.index, prefix, source, false), &[]),
            Step::ChangeRoute(prefix, _, source) => {
                (self.rtnl.put_route(self.index, prefix, source, true), &[])
            }
            Step::DeleteRoute(prefix, source) => {
                (self.rtnl.delete_route(self.index, prefix, source), &[Errno::ESRCH])
            }
        };
        match result {
            Err(error) if done_already.contains(&error.errno) => Ok(()),
            other => other,
        }
    }

    fn explain(&self, step: Step, error: &NetlinkError) -> io::Error {
        let remedy = match (step, error.errno) {
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
        let kind = io::Error::from(error.errno).kind();
        io::Error::new(
            kind,
            format!("cannot {step} on the virtual interface `{}`: {error}{remedy}", self.name),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(address: &str, length: u8) -> Prefix {
        Prefix { address: address.parse().unwrap(), length }
    }

    fn state(addresses: &[&str], routes: &[(&str, u8, Option<&str>)]) -> State {
        State::desired(&VirtualNetwork {
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            routes: routes.iter().map(|&(a, l, s)| (prefix(a, l), s.map(|s| s.parse().unwrap()))).collect(),
        })
    }

    #[test]
    fn default_routes_become_halves_and_host_bits_go() {
        let state = state(
            &[],
            &[("0.0.0.0", 0, None), ("::1", 0, None), ("10.1.2.3", 8, None), ("fd00::5", 16, None)],
        );
        let prefixes: Vec<String> = state.routes.keys().map(ToString::to_string).collect();
        assert_eq!(prefixes, ["0.0.0.0/1", "10.0.0.0/8", "128.0.0.0/1", "::/1", "8000::/1", "fd00::/16"]);
    }

    #[test]
    fn only_differences_are_changed_in_a_safe_order() {
        let from =
            state(&["10.0.0.1", "10.0.0.2"], &[("10.1.0.0", 16, Some("10.0.0.1")), ("10.2.0.0", 16, None)]);
        let to =
            state(&["10.0.0.2", "10.0.0.3"], &[("10.1.0.0", 16, Some("10.0.0.3")), ("10.3.0.0", 16, None)]);
        let text: Vec<String> = steps(&from, &to).iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "add the address 10.0.0.3",
                "change the route to 10.1.0.0/16",
                "add the route to 10.3.0.0/16",
                "remove the route to 10.2.0.0/16",
                "remove the address 10.0.0.1",
            ]
        );
        assert!(steps(&to, &to).is_empty());
    }

    #[test]
    fn what_is_done_and_undone_leaves_nothing() {
        let (from, to) = (state(&["10.0.0.1"], &[("10.1.0.0", 16, None)]), state(&["10.0.0.2"], &[]));
        for step in steps(&from, &to) {
            assert_eq!(step.inverse().inverse(), step);
        }
    }
}
