//! A chain of nftables that marks what arrives at the service's port by the interface by which it came.
//!
//! The table belongs to the connection that made it (`NFT_TABLE_F_OWNER`, since Linux 5.12): nobody else changes it, not
//! even by flushing the whole ruleset, and it goes with the process, however that ends.

use std::io;

use nix::errno::Errno;

use super::answers::{BASE, NUMBER};
use super::netlink::{CREATE, NetlinkError, Request, Requests};

const NETLINK_NETFILTER: isize = libc::NETLINK_NETFILTER as isize;
const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
const APPEND: u16 = 0x800;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const DEL_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
/// Both versions of IP.
const INET: u8 = 1;
const TABLE: &[u8] = b"mast\0";
const CHAIN: &[u8] = b"arrivals\0";
/// Before connection tracking, and before the chains in which distributions' firewalls look up the way back.
const PRIORITY: i32 = -310;
const OWNER: u32 = 2;

const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_PREROUTING: u32 = 0;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const VALUE: u16 = 1;
/// The register that everything goes through.
const REGISTER: u32 = 1;

const META_IIF: u32 = 4;
const META_MARK: u32 = 3;
const META_L4PROTO: u32 = 16;
const TRANSPORT: u32 = 2;
const FIB_TYPE: u32 = 3;
const FIB_DESTINATION: u32 = 2;
const TYPE_LOCAL: u32 = 2;

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
        match requests.transaction(vec![named(DEL_TABLE, 0, TABLE_NAME)]) {
            Err(error) if !matches!(error.errno, Errno::ENOENT | Errno::EPERM) => return Err(error),
            _ => {}
        }
        let all = |flags: u32| {
            let table = named(NEW_TABLE, CREATE, TABLE_NAME).attribute(TABLE_FLAGS, &flags.to_be_bytes());
            vec![table, chain(), rule(port)]
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
        self.requests.get(named(GET_TABLE, 0, TABLE_NAME)).is_ok_and(|table| table.is_some())
    }
}

impl Drop for Marking {
    fn drop(&mut self) {
        let removed = self.requests.transaction(vec![named(DEL_TABLE, 0, TABLE_NAME)]);
        if let Err(error) = removed.map_err(io::Error::from) {
            tracing::debug!(%error, "the table of nftables was gone");
        }
    }
}

fn named(kind: u16, flags: u16, name: u16) -> Request {
    // `struct nfgenmsg`
    Request::new(kind, flags, &[INET, 0, 0, 0]).attribute(name, TABLE)
}

fn chain() -> Request {
    named(NEW_CHAIN, CREATE, CHAIN_TABLE)
        .attribute(CHAIN_NAME, CHAIN)
        .nested(CHAIN_HOOK, |hook| {
            hook.attribute(HOOK_NUMBER, &HOOK_PREROUTING.to_be_bytes())
                .attribute(HOOK_PRIORITY, &PRIORITY.to_be_bytes())
        })
        .attribute(CHAIN_TYPE, b"filter\0")
}

/// `meta l4proto udp th dport PORT fib daddr type local meta mark 0 meta mark set iif & 0xffff ^ BASE`
fn rule(port: u16) -> Request {
    named(NEW_RULE, CREATE | APPEND, RULE_TABLE).attribute(RULE_CHAIN, CHAIN).nested(
        RULE_EXPRESSIONS,
        |list| {
            let list = load(list, META_L4PROTO);
            let list = equals(list, &[libc::IPPROTO_UDP as u8]);
            let list = expression(list, b"payload\0", |data| {
                numbers(data, &[(1, REGISTER), (2, TRANSPORT), (3, 2), (4, 2)])
            });
            let list = equals(list, &port.to_be_bytes());
            let list = expression(list, b"fib\0", |data| {
                numbers(data, &[(1, REGISTER), (2, FIB_TYPE), (3, FIB_DESTINATION)])
            });
            let list = equals(list, &TYPE_LOCAL.to_ne_bytes());
            let list = load(list, META_MARK);
            let list = equals(list, &0_u32.to_ne_bytes());
            let list = load(list, META_IIF);
            let list = expression(list, b"bitwise\0", |data| {
                numbers(data, &[(1, REGISTER), (2, REGISTER), (3, 4)])
                    .nested(4, |mask| mask.attribute(VALUE, &NUMBER.to_ne_bytes()))
                    .nested(5, |xor| xor.attribute(VALUE, &BASE.to_ne_bytes()))
            });
            expression(list, b"meta\0", |data| numbers(data, &[(2, META_MARK), (3, REGISTER)]))
        },
    )
}

fn expression(list: Request, name: &[u8], data: impl FnOnce(Request) -> Request) -> Request {
    list.nested(ELEMENT, |element| element.attribute(EXPRESSION_NAME, name).nested(EXPRESSION_DATA, data))
}

fn numbers(data: Request, pairs: &[(u16, u32)]) -> Request {
    pairs.iter().fold(data, |data, (kind, number)| data.attribute(*kind, &number.to_be_bytes()))
}

fn load(list: Request, key: u32) -> Request {
    expression(list, b"meta\0", |data| numbers(data, &[(1, REGISTER), (2, key)]))
}

fn equals(list: Request, value: &[u8]) -> Request {
    expression(list, b"cmp\0", |data| {
        numbers(data, &[(1, REGISTER), (2, 0)]).nested(3, |wanted| wanted.attribute(VALUE, value))
    })
}
