//! A chain of nftables that marks what arrives at the service's port by the interface by which it came.
//!
//! The table belongs to the connection that made it: nobody else changes it, and it goes with the process.

use std::io;

use nix::errno::Errno;

use super::answers::{BASE, NUMBER};
use super::netlink::{NetlinkError, Requests};
use super::nftables::{Hook, NETLINK_NETFILTER, OWNER, Table, Verdict};

const TABLE: Table = Table(b"mast\0");
const CHAIN: &[u8] = b"arrivals\0";
/// Before connection tracking, and before the chains in which distributions' firewalls look up the way back.
const PRIORITY: i32 = -310;

/// What marks, as long as it is kept.
#[derive(Debug)]
pub(super) struct Marking {
    pub(super) port: u16,
    requests: Requests,
}

impl Marking {
    /// Marks what arrives at this UDP port of this host, unless somebody marked it before.
    pub(super) fn new(port: u16) -> Result<Self, NetlinkError> {
        let mut requests = Requests::open(NETLINK_NETFILTER)?;
        // One that an earlier run left, where the kernel knows no owners.
        match requests.transaction(vec![TABLE.delete()]) {
            Err(error) if !matches!(error.errno, Errno::ENOENT | Errno::EPERM) => return Err(error),
            _ => {}
        }
        let all = |flags: u32| {
            // `meta l4proto udp th dport PORT fib daddr type local meta mark 0 meta mark set iif & 0xffff ^ BASE`
            let rule = TABLE.rule(CHAIN, |rule| {
                rule.carries(libc::IPPROTO_UDP)
                    .transport(2, &port.to_be_bytes())
                    .goes_to_this_host()
                    .has_mark(0)
                    .mark_by_interface(NUMBER, BASE)
            });
            vec![TABLE.make(flags), TABLE.chain(CHAIN, Hook::Arriving, PRIORITY, Verdict::Accept), rule]
        };
        match requests.transaction(all(OWNER)) {
            Err(error) if matches!(error.errno, Errno::EOPNOTSUPP | Errno::EINVAL) => {
                requests.transaction(all(0))?;
            }
            done => done?,
        }
        Ok(Self { port, requests })
    }

    /// Whether it still does.
    pub(super) fn is_there(&mut self) -> bool {
        self.requests.get(TABLE.find()).is_ok_and(|table| table.is_some())
    }
}

impl Drop for Marking {
    fn drop(&mut self) {
        let removed = self.requests.transaction(vec![TABLE.delete()]);
        if let Err(error) = removed.map_err(io::Error::from) {
            tracing::debug!(%error, "the table of nftables was gone");
        }
    }
}
