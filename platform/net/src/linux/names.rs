//! Names go through the tunnel: what a program of this host asks of a name server over another interface is sent to the
//! tunnel's name server instead.
//!
//! It is done where packets leave, by translation of addresses, so that no program has to be told, no file is replaced,
//! and nothing has to be put back: the table belongs to the connection that made it, and goes with the process. Whatever
//! a program asks through the tunnel already, and what it asks of this very host, such as systemd-resolved's stub, is
//! left alone; what that asks of others in turn is not.

use std::net::IpAddr;

use mast_engine::declared::Dns;
use nix::errno::Errno;

use super::netlink::{NetlinkError, Request, Requests};
use super::nftables::{Hook, NETLINK_NETFILTER, OWNER, Table, Verdict, is_missing};
use super::protection::{self, MARK};

const TABLE: Table = Table(b"mast-names\0");
const ASKED: &[u8] = b"asked\0";
const LEAVING: &[u8] = b"leaving\0";
/// As usual for the translation of destinations and of sources.
const DESTINATION: i32 = -100;
const SOURCE: i32 = 100;
const PORT: [u8; 2] = [0, 53];

/// What is set, and the connection that owns it.
#[derive(Debug, Default)]
pub(super) struct Names {
    set: Option<(Dns, Requests)>,
}

impl Names {
    /// What is set and there, and whether there is anything at all.
    pub(super) fn present(&mut self) -> Result<(Option<Dns>, bool), NetlinkError> {
        if let Some((dns, requests)) = &mut self.set {
            let there = TABLE.exists(requests)?;
            return Ok((there.then(|| dns.clone()), there));
        }
        match Requests::open(NETLINK_NETFILTER).map_err(NetlinkError::from) {
            Ok(mut requests) => match TABLE.exists(&mut requests) {
                Ok(some) => Ok((None, some)),
                Err(error) if is_missing(&error) || error.errno == Errno::EPERM => Ok((None, false)),
                Err(error) => Err(error),
            },
            Err(error) if is_missing(&error) => Ok((None, false)),
            Err(error) => Err(error),
        }
    }

    /// Sets it in the place of what there is.
    pub(super) fn set(&mut self, interface: &str, dns: &Dns) -> Result<(), NetlinkError> {
        let mut requests = match self.set.take() {
            Some((_, requests)) => requests,
            None => Requests::open(NETLINK_NETFILTER)?,
        };
        let there = TABLE.exists(&mut requests)?;
        let all = |flags: u32| {
            let mut batch: Vec<Request> = there.then(|| TABLE.delete()).into_iter().collect();
            batch.push(TABLE.make(flags));
            batch.extend(content(interface, dns));
            batch
        };
        match requests.transaction(all(OWNER)) {
            Err(error) if matches!(error.errno, Errno::EOPNOTSUPP | Errno::EINVAL) => {
                requests.transaction(all(0))?;
            }
            done => done?,
        }
        self.set = Some((dns.clone(), requests));
        Ok(())
    }

    /// Ends it, or what there is of it.
    pub(super) fn clear(&mut self) -> Result<(), NetlinkError> {
        let mut requests = match self.set.take() {
            Some((_, requests)) => requests,
            None => Requests::open(NETLINK_NETFILTER)?,
        };
        match requests.transaction(vec![TABLE.delete()]) {
            Err(error) if error.errno != Errno::ENOENT && !is_missing(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

fn content(interface: &str, dns: &Dns) -> Vec<Request> {
    let accept = Verdict::Accept;
    let mut all = vec![
        TABLE.translating(ASKED, Hook::Sent, DESTINATION),
        TABLE.translating(LEAVING, Hook::Leaving, SOURCE),
        TABLE.rule(ASKED, |r| r.leaves_by("lo").then(accept)),
        TABLE.rule(ASKED, |r| r.leaves_by(interface).then(accept)),
        TABLE.rule(ASKED, |r| r.has_mark(MARK).then(accept)),
    ];
    let first = |v4: bool| dns.servers.iter().find(|server| server.is_ipv4() == v4);
    for server in [first(true), first(false)].into_iter().flatten() {
        let (family, address) = match server {
            IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
            IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
        };
        let number = protection::number(mast_engine::os::Family::of(*server));
        for protocol in [libc::IPPROTO_UDP, libc::IPPROTO_TCP] {
            all.push(TABLE.rule(ASKED, |r| {
                r.of_version(number).carries(protocol).transport(2, &PORT).lead_to(family, &address)
            }));
        }
    }
    // From the address that the tunnel has, as the socket chose one before.
    for protocol in [libc::IPPROTO_UDP, libc::IPPROTO_TCP] {
        all.push(TABLE.rule(LEAVING, |r| {
            r.leaves_by(interface).carries(protocol).transport(2, &PORT).was_led_elsewhere().masquerade()
        }));
    }
    all
}
