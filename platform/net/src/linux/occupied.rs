//! Which IPv4 addresses belong to the networks that this host is in: no peer may have one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mast_engine::os::Prefix;

use super::rtnl::{Assigned, Link, Route};

/// Where programs and systemd-resolved find the name servers.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
/// How often they are read at most.
const PAUSE: Duration = Duration::from_secs(5);
/// How long the first reading is waited for.
const FIRST: Duration = Duration::from_millis(50);
/// More than this is no network that a host is in, but a table of the Internet.
const MOST: usize = 1_000;

/// The names of the virtual interfaces of this process.
pub(super) type Own = Arc<Mutex<BTreeSet<String>>>;

/// Name servers, read by threads of their own: a disk may hang.
#[derive(Debug, Default)]
pub(super) struct Resolvers {
    found: Arc<Mutex<BTreeSet<Ipv4Addr>>>,
    busy: Arc<AtomicBool>,
    read: Option<Instant>,
}

impl Resolvers {
    /// Those that are known, which may be some seconds old.
    fn known(&mut self) -> BTreeSet<Ipv4Addr> {
        let due = self.read.is_none_or(|at| at.elapsed() >= PAUSE);
        if due && !self.busy.swap(true, Ordering::AcqRel) {
            let first = self.read.replace(Instant::now()).is_none();
            let (found, busy) = (Arc::clone(&self.found), Arc::clone(&self.busy));
            let reading = thread::Builder::new().name("mast-resolvers".to_owned()).spawn(move || {
                let texts = FILES.iter().filter_map(|file| fs::read_to_string(file).ok());
                let all = texts.flat_map(|text| servers(&text)).collect();
                *found.lock().unwrap_or_else(PoisonError::into_inner) = all;
                busy.store(false, Ordering::Release);
            });
            let started = Instant::now();
            while first && reading.is_ok() && self.busy.load(Ordering::Acquire) && started.elapsed() < FIRST {
                thread::sleep(Duration::from_millis(1));
            }
            if reading.is_err() {
                self.busy.store(false, Ordering::Release);
            }
        }
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) fn servers(text: &str) -> Vec<Ipv4Addr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    lines.filter_map(|rest| rest.trim().parse::<Ipv4Addr>().ok()).filter(|a| !a.is_loopback()).collect()
}

/// Gateways, ranges on links and behind them, addresses of interfaces other than this process's own, and name servers, each with what
/// it is.
pub(super) fn occupied<'a>(
    links: &[Link],
    addresses: &[Assigned],
    routes: impl IntoIterator<Item = &'a Route>,
    resolvers: &mut Resolvers,
    own: &Own,
) -> BTreeMap<Prefix, String> {
    let own = own.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let others = links.iter().filter(|l| !l.is_loopback() && !own.contains(&l.name));
    let others: BTreeMap<u32, &str> = others.map(|l| (l.index, l.name.as_str())).collect();
    let mut all = BTreeMap::new();
    let mut add = |prefix: Prefix, what: String| {
        if prefix.address.is_ipv4() && prefix.length > 1 && all.len() < MOST {
            all.entry(prefix.masked()).or_insert(what);
        }
    };
    for route in routes {
        let Some(name) = others.get(&route.index) else { continue };
        match route.gateway {
            Some(gateway) => add(Prefix::host(gateway), format!("the gateway of {name}")),
            None => add(route.prefix, format!("in the network of {name}")),
        }
    }
    for assigned in addresses {
        let Some(name) = others.get(&assigned.index) else { continue };
        add(Prefix::host(assigned.address), format!("an address of {name}"));
        if let Some(opposite) = assigned.opposite {
            // Of a carrier, by way of PPP: its gateway.
            add(Prefix::host(opposite), format!("the other end of {name}"));
        }
        let network = assigned.opposite.unwrap_or(assigned.address);
        let prefix = Prefix { address: network, length: assigned.prefix_length };
        add(prefix, format!("in the network of {name}"));
    }
    for server in resolvers.known() {
        add(Prefix::host(IpAddr::V4(server)), "a name server".to_owned());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read() {
        let text = "# x\nnameserver 100.64.0.1\nsearch lan\n nameserver\t10.0.0.53 \nnameserver 127.0.0.53\n\
                    nameserver fe80::1%3\nnameserver\n";
        let found: Vec<String> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["100.64.0.1", "10.0.0.53"]);
        let mut resolvers = Resolvers::default();
        let known = resolvers.known();
        assert_eq!(resolvers.known(), known);
    }
}
