//! Tables, chains and rules of nftables, as netlink has them. What MAST does with them is in `marking.rs` and `guard.rs`.

use nix::errno::Errno;

use super::netlink::{CREATE, NetlinkError, Request, Requests};

pub(super) const NETLINK_NETFILTER: isize = libc::NETLINK_NETFILTER as isize;
/// The group in which the kernel announces changes.
pub(super) const GROUP: u32 = libc::NFNLGRP_NFTABLES as u32;
const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
const APPEND: u16 = 0x800;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const DEL_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const GET_RULE: u16 = SUBSYSTEM << 8 | 7;
/// Both versions of IP.
const INET: u8 = 1;
/// The length of what every message begins with, in bytes.
pub(super) const HEADER: usize = 4;

/// The table belongs to the connection that made it, since Linux 5.12: nobody else changes it, not even by flushing the
/// whole ruleset, and it goes with the process, however that ends.
pub(super) const OWNER: u32 = 2;
/// With that, since Linux 6.9: it stays when its owner goes, and is anybody's then.
pub(super) const PERSIST: u32 = 4;

/// In every message about a table, chain or rule: the table's name.
pub(super) const TABLE: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const VALUE: u16 = 1;
const VERDICT: u16 = 2;
/// The register that everything goes through, and that of verdicts.
const REGISTER: u32 = 1;
const VERDICT_REGISTER: u32 = 0;
const JUMP: i32 = -3;

const META_MARK: u32 = 3;
const META_IIF: u32 = 4;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
const FIB_TYPE: u32 = 3;
const FIB_DESTINATION: u32 = 2;
const TYPE_LOCAL: u32 = 2;
const NAT_DESTINATION: u32 = 1;
/// `NFT_CT_STATUS`, and `IPS_DST_NAT` in it.
const CONNECTION_STATUS: u32 = 2;
const CONNECTION_LED: u32 = 1 << 5;
/// The longest name of an interface, with a zero.
const NAME_LENGTH: usize = 16;

/// Where in the stack a chain is asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hook {
    Arriving = 0,
    Forwarded = 2,
    Sent = 3,
    Leaving = 4,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict {
    Drop = 0,
    Accept = 1,
}

/// A table, by its name with a zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table(pub(super) &'static [u8]);

impl Table {
    fn request(self, kind: u16, flags: u16) -> Request {
        // `struct nfgenmsg`
        Request::new(kind, flags, &[INET, 0, 0, 0]).attribute(TABLE, self.0)
    }

    pub(super) fn make(self, flags: u32) -> Request {
        self.request(NEW_TABLE, CREATE).attribute(TABLE_FLAGS, &flags.to_be_bytes())
    }

    pub(super) fn find(self) -> Request {
        self.request(GET_TABLE, 0)
    }

    pub(super) fn delete(self) -> Request {
        self.request(DEL_TABLE, 0)
    }

    /// Those of other tables may be in the answer, too.
    pub(super) fn chains(self) -> Request {
        self.request(GET_CHAIN, 0)
    }

    pub(super) fn rules(self) -> Request {
        self.request(GET_RULE, 0)
    }

    /// A chain that is asked about every packet at a place; what none of its rules decides has the verdict `policy`.
    pub(super) fn chain(self, name: &[u8], hook: Hook, priority: i32, policy: Verdict) -> Request {
        self.subchain(name)
            .nested(CHAIN_HOOK, |at| {
                at.attribute(HOOK_NUMBER, &(hook as u32).to_be_bytes())
                    .attribute(HOOK_PRIORITY, &priority.to_be_bytes())
            })
            .attribute(CHAIN_POLICY, &(policy as u32).to_be_bytes())
            .attribute(CHAIN_TYPE, b"filter\0")
    }

    /// A chain that translates addresses at a place.
    pub(super) fn translating(self, name: &[u8], hook: Hook, priority: i32) -> Request {
        self.subchain(name)
            .nested(CHAIN_HOOK, |at| {
                at.attribute(HOOK_NUMBER, &(hook as u32).to_be_bytes())
                    .attribute(HOOK_PRIORITY, &priority.to_be_bytes())
            })
            .attribute(CHAIN_TYPE, b"nat\0")
    }

    /// Whether there is such a table.
    pub(super) fn exists(self, requests: &mut Requests) -> Result<bool, NetlinkError> {
        match requests.get(self.find()) {
            Ok(table) => Ok(table.is_some()),
            Err(error) if error.errno == Errno::ENOENT => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A chain to which others jump.
    pub(super) fn subchain(self, name: &[u8]) -> Request {
        self.request(NEW_CHAIN, CREATE).attribute(CHAIN_NAME, name)
    }

    /// A rule at the end of a chain.
    pub(super) fn rule(self, chain: &[u8], fill: impl FnOnce(Expressions) -> Expressions) -> Request {
        self.request(NEW_RULE, CREATE | APPEND)
            .attribute(RULE_CHAIN, chain)
            .nested(RULE_EXPRESSIONS, |list| fill(Expressions(list)).0)
    }
}

/// Whether the kernel has nothing of the kind, rather than that it refuses.
pub(super) fn is_missing(error: &NetlinkError) -> bool {
    use Errno::{EAFNOSUPPORT, ENOSYS, EOPNOTSUPP, EPROTONOSUPPORT};
    matches!(error.errno, EAFNOSUPPORT | EOPNOTSUPP | EPROTONOSUPPORT | ENOSYS)
}

/// What a rule looks at and does, one after the other.
pub(super) struct Expressions(Request);

impl Expressions {
    fn add(self, name: &[u8], data: impl FnOnce(Request) -> Request) -> Self {
        Self(self.0.nested(ELEMENT, |element| {
            element.attribute(EXPRESSION_NAME, name).nested(EXPRESSION_DATA, data)
        }))
    }

    fn load(self, key: u32) -> Self {
        self.add(b"meta\0", |data| numbers(data, &[(1, REGISTER), (2, key)]))
    }

    fn load_bytes(self, base: u32, offset: u32, length: usize) -> Self {
        self.add(b"payload\0", |data| {
            numbers(data, &[(1, REGISTER), (2, base), (3, offset), (4, length as u32)])
        })
    }

    fn equals(self, value: &[u8]) -> Self {
        self.add(b"cmp\0", |data| {
            numbers(data, &[(1, REGISTER), (2, 0)]).nested(3, |wanted| wanted.attribute(VALUE, value))
        })
    }

    fn bitwise(self, mask: &[u8], xor: &[u8]) -> Self {
        self.add(b"bitwise\0", |data| {
            numbers(data, &[(1, REGISTER), (2, REGISTER), (3, mask.len() as u32)])
                .nested(4, |value| value.attribute(VALUE, mask))
                .nested(5, |value| value.attribute(VALUE, xor))
        })
    }

    /// `oifname NAME`
    pub(super) fn leaves_by(self, interface: &str) -> Self {
        self.load(META_OIFNAME).equals(&padded(interface))
    }

    /// `iifname NAME`
    pub(super) fn came_by(self, interface: &str) -> Self {
        self.load(META_IIFNAME).equals(&padded(interface))
    }

    /// `meta mark MARK`
    pub(super) fn has_mark(self, mark: u32) -> Self {
        self.load(META_MARK).equals(&mark.to_ne_bytes())
    }

    /// `meta nfproto ipv4|ipv6`
    pub(super) fn of_version(self, number: u8) -> Self {
        self.load(META_NFPROTO).equals(&[number])
    }

    /// `meta l4proto PROTOCOL`
    pub(super) fn carries(self, protocol: i32) -> Self {
        self.load(META_L4PROTO).equals(&[protocol as u8])
    }

    /// The first bytes of the transport header, from an offset on.
    pub(super) fn transport(self, offset: u32, bytes: &[u8]) -> Self {
        self.load_bytes(TRANSPORT, offset, bytes.len()).equals(bytes)
    }

    /// `ip daddr RANGE`, of an address that lies at an offset of the header.
    pub(super) fn goes_to(self, offset: u32, range: &[u8], bits: usize) -> Self {
        let bytes = bits.div_ceil(8);
        let list = self.load_bytes(NETWORK, offset, bytes);
        let range = range.get(..bytes).unwrap_or(range);
        match bits % 8 {
            0 => list.equals(range),
            rest => {
                let mut mask = vec![0xff; bytes];
                mask[bytes - 1] = 0xff << (8 - rest);
                list.bitwise(&mask, &vec![0; bytes]).equals(range)
            }
        }
    }

    /// `fib daddr type local`
    pub(super) fn goes_to_this_host(self) -> Self {
        self.add(b"fib\0", |data| numbers(data, &[(1, REGISTER), (2, FIB_TYPE), (3, FIB_DESTINATION)]))
            .equals(&TYPE_LOCAL.to_ne_bytes())
    }

    /// `meta mark set iif & mask ^ xor`
    pub(super) fn mark_by_interface(self, mask: u32, xor: u32) -> Self {
        self.load(META_IIF)
            .bitwise(&mask.to_ne_bytes(), &xor.to_ne_bytes())
            .add(b"meta\0", |data| numbers(data, &[(2, META_MARK), (3, REGISTER)]))
    }

    /// `dnat to ADDRESS`
    pub(super) fn lead_to(self, family: i32, address: &[u8]) -> Self {
        self.add(b"immediate\0", |data| {
            numbers(data, &[(1, REGISTER)]).nested(2, |value| value.attribute(VALUE, address))
        })
        .add(b"nat\0", |data| numbers(data, &[(1, NAT_DESTINATION), (2, family as u32), (3, REGISTER)]))
    }

    /// `ct status dnat`
    pub(super) fn was_led_elsewhere(self) -> Self {
        let status = CONNECTION_LED.to_ne_bytes();
        self.add(b"ct\0", |data| numbers(data, &[(1, REGISTER), (2, CONNECTION_STATUS)]))
            .bitwise(&status, &[0; 4])
            .equals(&status)
    }

    /// `masquerade`
    pub(super) fn masquerade(self) -> Self {
        self.add(b"masq\0", |data| data)
    }

    /// The verdict.
    pub(super) fn then(self, verdict: Verdict) -> Self {
        self.decide(|data| numbers(data, &[(1, verdict as u32)]))
    }

    /// `jump CHAIN`
    pub(super) fn jump(self, chain: &[u8]) -> Self {
        self.decide(|data| data.attribute(1, &JUMP.to_be_bytes()).attribute(2, chain))
    }

    fn decide(self, code: impl FnOnce(Request) -> Request) -> Self {
        self.add(b"immediate\0", |data| {
            numbers(data, &[(1, VERDICT_REGISTER)]).nested(2, |value| value.nested(VERDICT, code))
        })
    }
}

fn padded(interface: &str) -> [u8; NAME_LENGTH] {
    let mut name = [0; NAME_LENGTH];
    for (to, from) in name.iter_mut().take(NAME_LENGTH - 1).zip(interface.bytes()) {
        *to = from;
    }
    name
}

fn numbers(data: Request, pairs: &[(u16, u32)]) -> Request {
    pairs.iter().fold(data, |data, (kind, number)| data.attribute(*kind, &number.to_be_bytes()))
}
