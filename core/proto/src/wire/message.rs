//! The control messages, in CBOR (RFC 8949): an array of the message's number and a map with integer keys.
//!
//! Unknown keys are ignored and unknown message numbers are skipped, so that a later version can add to them.
//! Every list and text is bounded; what exceeds a bound is refused whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use minicbor::{Decode, Decoder, Encode, Encoder};
use thiserror::Error;

/// The version of the protocol that this crate speaks.
pub const VERSION: u8 = 1;
/// The most addresses a SET may list.
pub const MAX_ADDRESSES: usize = 16;
/// The most paths a receive report may cover.
pub const MAX_REPORTS: usize = 32;
/// The most missing sequence numbers that a REPORT may name.
pub const MAX_MISSING: usize = 64;
/// The longest name in bytes of UTF-8.
pub const MAX_NAME: usize = 64;
/// The most further indices in INIT and INIT-ACK.
pub const MAX_FURTHER: usize = 31;

/// Why a control message was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MessageError {
    /// Not CBOR, or not of the shape of its message.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A list or text exceeds its bound.
    #[error("{0} is longer than allowed")]
    TooLong(&'static str),
    /// A message that this version does not know. It is skipped without harm.
    #[error("unknown message {0}")]
    Unknown(u64),
}

/// The sender's number for one of its addresses; stable while the address is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct AddressId(#[n(0)] pub u8);

impl AddressId {
    /// What another host sees of an address has the address's number plus this.
    pub const REFLEXIVE: u8 = 128;
}

/// How the sender came to know one of its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// Configured on an interface of the host (0).
    Host,
    /// Seen by another host, behind a NAT (1).
    Reflexive,
    /// Lent by a relay (2).
    Relayed,
    /// Paths start from it, and nothing can be sent to it unasked; which address it is, is not told (3).
    Outward,
    /// Of a later version: kept, and not used.
    Unknown(u8),
}

impl From<u8> for AddressKind {
    fn from(number: u8) -> Self {
        match number {
            0 => Self::Host,
            1 => Self::Reflexive,
            2 => Self::Relayed,
            3 => Self::Outward,
            other => Self::Unknown(other),
        }
    }
}

impl From<AddressKind> for u8 {
    fn from(kind: AddressKind) -> Self {
        match kind {
            AddressKind::Host => 0,
            AddressKind::Reflexive => 1,
            AddressKind::Relayed => 2,
            AddressKind::Outward => 3,
            AddressKind::Unknown(number) => number,
        }
    }
}

/// Wishes about an address beyond its priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct AddressFlags(#[n(0)] pub u8);

impl AddressFlags {
    /// Use only while no other address works.
    pub const BACKUP: Self = Self(1);
    /// Do not send here at all.
    pub const DO_NOT_USE: Self = Self(2);

    /// Whether all of `other` is set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What an endpoint can do beyond the base protocol; each is used when both ends offer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct Capabilities(#[n(0)] pub u32);

/// A pair of IPv4 EIDs for one host pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EidPair {
    /// The EID of the end that sends the pair.
    pub own: Ipv4Addr,
    /// The EID of the end that receives it.
    pub other: Ipv4Addr,
}

/// Proposes a host-pair context, or a new epoch of one. Travels inside a WireGuard session only.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Init {
    /// Protocol version.
    #[n(0)]
    pub version: u8,
    /// Random for each start of the sender's process: a change tells that it lost its contexts.
    #[n(1)]
    pub instance: u64,
    /// The index that the sender wants to see in datagrams.
    #[n(2)]
    pub index: u32,
    /// Input of the key schedule.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub random: [u8; 32],
    /// AEADs that the sender can do, best first.
    #[n(4)]
    pub aeads: Vec<u8>,
    /// What it can do beyond the base protocol.
    #[n(5)]
    pub capabilities: Capabilities,
    /// The epoch that the keys will have.
    #[n(6)]
    pub epoch: u8,
    /// The sender's IPv6 EID.
    #[cbor(n(7), with = "eid_v6")]
    pub eid_v6: Ipv6Addr,
    /// The IPv4 EIDs that it proposes.
    #[cbor(n(8), with = "eid_pair")]
    pub eid_v4: Option<EidPair>,
    /// How it calls itself.
    #[n(9)]
    pub name: String,
    /// Further indices, so that each path may have one of its own: 1 to 31.
    #[n(10)]
    pub further: Option<Vec<u32>>,
}

/// Accepts an [`Init`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct InitAck {
    /// Protocol version.
    #[n(0)]
    pub version: u8,
    /// As in [`Init`].
    #[n(1)]
    pub instance: u64,
    /// As in [`Init`].
    #[n(2)]
    pub index: u32,
    /// Input of the key schedule.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub random: [u8; 32],
    /// The AEAD chosen from the list offered.
    #[n(4)]
    pub aead: u8,
    /// What the sender can do beyond the base protocol.
    #[n(5)]
    pub capabilities: Capabilities,
    /// The epoch accepted.
    #[n(6)]
    pub epoch: u8,
    /// The sender's IPv6 EID.
    #[cbor(n(7), with = "eid_v6")]
    pub eid_v6: Ipv6Addr,
    /// The pair proposed, seen from this end; or another, where the proposed one clashes here.
    #[cbor(n(8), with = "eid_pair")]
    pub eid_v4: Option<EidPair>,
    /// How it calls itself.
    #[n(9)]
    pub name: String,
    /// The random value of the INIT that is answered.
    #[cbor(n(10), with = "minicbor::bytes")]
    pub answers: [u8; 32],
    /// As in [`Init`].
    #[n(11)]
    pub further: Option<Vec<u32>>,
}

/// One address of a [`Set`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Address {
    /// The sender's number for it.
    #[n(0)]
    pub id: AddressId,
    /// Where datagrams reach it.
    #[cbor(n(1), with = "socket_addr")]
    pub at: SocketAddr,
    /// How it is known.
    #[cbor(n(2), with = "number")]
    pub kind: AddressKind,
    /// The sender's wish for its inbound traffic: the highest that works.
    #[n(3)]
    pub priority: u8,
    /// Whether traffic to it costs its owner money.
    #[n(4)]
    pub metered: bool,
    /// Further wishes.
    #[n(5)]
    pub flags: AddressFlags,
    /// The sender's number for the link that the address belongs to: an interface, with all its addresses. Without it
    /// each address is a link of its own.
    #[n(6)]
    pub link: Option<u8>,
}

/// A mode that uses several paths at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A copy of each datagram over a second path (1).
    Redundant,
    /// Datagrams spread over all good paths (2).
    Bonded,
    /// Of a later version: there is no wish.
    Unknown(u8),
}

impl From<u8> for Mode {
    fn from(number: u8) -> Self {
        match number {
            1 => Self::Redundant,
            2 => Self::Bonded,
            other => Self::Unknown(other),
        }
    }
}

impl From<Mode> for u8 {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Redundant => 1,
            Mode::Bonded => 2,
            Mode::Unknown(number) => number,
        }
    }
}

/// The mode that the sender of a [`Set`] wishes for its inbound traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ModeWish {
    /// Which.
    #[cbor(n(0), with = "number")]
    pub mode: Mode,
    /// Redundant: only small datagrams have a copy.
    #[cbor(n(1), default)]
    pub small: bool,
    /// Paths that the sender pays for take part, too.
    #[cbor(n(2), default)]
    pub metered: bool,
}

/// The complete list of the sender's addresses, and what it wishes beside.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Set {
    /// Grows with each change; an older list never replaces a newer one.
    #[n(0)]
    pub sequence: u64,
    /// All of them.
    #[n(1)]
    pub addresses: Vec<Address>,
    /// The mode it wishes; left out where the receiver may do as it likes.
    #[n(2)]
    pub mode: Option<ModeWish>,
}

/// Acknowledges a [`Set`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SetAck {
    /// Of the list acknowledged.
    #[n(0)]
    pub sequence: u64,
}

/// What has arrived over one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PathReport {
    /// The path, by the number of the end that the report goes to.
    #[n(0)]
    pub path: u8,
    /// The epoch that the counters belong to.
    #[n(1)]
    pub epoch: u8,
    /// The highest counter seen.
    #[n(2)]
    pub highest: u64,
    /// How many datagrams were authentic and new.
    #[n(3)]
    pub received: u64,
    /// How many of them came after one with a higher counter.
    #[n(4)]
    pub reordered: u64,
    /// The reporting end should hear something over this path now, and does not.
    #[n(5)]
    pub silent: bool,
}

/// Validates and measures a path.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Probe {
    /// Ties the answer to the question.
    #[n(0)]
    pub nonce: u64,
    /// Which of the sender's addresses the path starts from.
    #[n(1)]
    pub address: AddressId,
    /// The sender's clock in microseconds, from an arbitrary start.
    #[n(2)]
    pub time: u64,
    /// What has arrived here.
    #[n(3)]
    pub reports: Vec<PathReport>,
}

/// Answers a [`Probe`], over the same path.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ProbeAck {
    /// Of the probe.
    #[n(0)]
    pub nonce: u64,
    /// Where the probe seemed to come from.
    #[cbor(n(1), with = "socket_addr")]
    pub observed: SocketAddr,
    /// The probe's time, returned.
    #[n(2)]
    pub time: u64,
    /// What has arrived here.
    #[n(3)]
    pub reports: Vec<PathReport>,
}

/// Tells what has arrived, when there is no probe to carry it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Report {
    /// What has arrived here.
    #[n(0)]
    pub reports: Vec<PathReport>,
    /// Sequence numbers that are missing here; left out where there are none.
    #[n(1)]
    pub missing: Option<Vec<u32>>,
}

/// Why a context ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutReason {
    /// The service stops or was switched off; it may come back (0).
    Down,
    /// The peer was removed (1).
    Removed,
    /// Of a later version: taken for [`ShutReason::Down`].
    Unknown(u8),
}

impl From<u8> for ShutReason {
    fn from(number: u8) -> Self {
        match number {
            0 => Self::Down,
            1 => Self::Removed,
            other => Self::Unknown(other),
        }
    }
}

impl From<ShutReason> for u8 {
    fn from(reason: ShutReason) -> Self {
        match reason {
            ShutReason::Down => 0,
            ShutReason::Removed => 1,
            ShutReason::Unknown(number) => number,
        }
    }
}

/// Ends the context.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Shut {
    /// Why.
    #[cbor(n(0), with = "number")]
    pub reason: ShutReason,
}

/// Acknowledges a [`Shut`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ShutAck {}

/// A control message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is documented at its type")]
pub enum Message {
    Init(Init),
    InitAck(InitAck),
    Set(Set),
    SetAck(SetAck),
    Probe(Probe),
    ProbeAck(ProbeAck),
    Report(Report),
    Shut(Shut),
    ShutAck(ShutAck),
}

macro_rules! numbers {
    ($($number:literal $name:ident,)*) => {
        impl Message {
            /// The message's name, as in the specification.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => stringify!($name),)* }
            }

            /// The message's bytes.
            pub fn encode(&self) -> Vec<u8> {
                let mut out = Vec::with_capacity(128);
                let mut encoder = Encoder::new(&mut out);
                // Writing to a vector cannot fail, and the messages hold nothing that has no encoding.
                let result = match self {
                    $(Self::$name(body) => encoder.array(2).and_then(|e| e.u8($number)).and_then(|e| e.encode(body)).map(drop),)*
                };
                debug_assert!(result.is_ok());
                out
            }

            /// Reads a message. Bytes after it are padding.
            ///
            /// # Errors
            /// When it is malformed, exceeds a bound, or is of a kind that this version does not know.
            pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
                let mut decoder = Decoder::new(bytes);
                let malformed = |_| MessageError::Malformed("message");
                if decoder.array().map_err(malformed)? != Some(2) {
                    return Err(MessageError::Malformed("message"));
                }
                let message = match decoder.u64().map_err(malformed)? {
                    $($number => Self::$name(decoder.decode().map_err(|_| MessageError::Malformed(stringify!($name)))?),)*
                    other => return Err(MessageError::Unknown(other)),
                };
                message.check()?;
                Ok(message)
            }
        }
    };
}

numbers! {
    1 Init,
    2 InitAck,
    3 Set,
    4 SetAck,
    5 Probe,
    6 ProbeAck,
    7 Report,
    8 Shut,
    9 ShutAck,
}

impl Message {
    fn check(&self) -> Result<(), MessageError> {
        let further =
            |list: Option<&Vec<u32>>| list.is_none_or(|list| list.len() <= MAX_FURTHER && !list.contains(&0));
        let (what, fits) = match self {
            Self::Init(m) => {
                let fits = m.name.len() <= MAX_NAME && m.aeads.len() <= 16;
                ("INIT", fits && further(m.further.as_ref()))
            }
            Self::InitAck(m) => ("INIT-ACK", m.name.len() <= MAX_NAME && further(m.further.as_ref())),
            Self::Set(m) => ("SET", m.addresses.len() <= MAX_ADDRESSES),
            Self::Probe(m) => ("PROBE", m.reports.len() <= MAX_REPORTS),
            Self::ProbeAck(m) => ("PROBE-ACK", m.reports.len() <= MAX_REPORTS),
            Self::Report(m) => {
                let missing = m.missing.as_ref().map_or(0, Vec::len);
                ("REPORT", m.reports.len() <= MAX_REPORTS && missing <= MAX_MISSING)
            }
            Self::SetAck(_) | Self::Shut(_) | Self::ShutAck(_) => return Ok(()),
        };
        if fits { Ok(()) } else { Err(MessageError::TooLong(what)) }
    }
}

/// An IP address and a port as one byte string: 4 or 16 bytes, then the port, big-endian.
mod socket_addr {
    use super::*;

    pub fn encode<C, W: minicbor::encode::Write>(
        at: &SocketAddr,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let mut bytes = match at.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        bytes.extend(at.port().to_be_bytes());
        e.bytes(&bytes)?.ok()
    }

    pub fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<SocketAddr, minicbor::decode::Error> {
        let bytes = d.bytes()?;
        let malformed = || minicbor::decode::Error::message("an address has 6 or 18 bytes");
        let (ip, port) = bytes.split_last_chunk::<2>().ok_or_else(malformed)?;
        let ip = if let Ok(v4) = <[u8; 4]>::try_from(ip) {
            IpAddr::from(v4)
        } else {
            IpAddr::from(<[u8; 16]>::try_from(ip).map_err(|_| malformed())?)
        };
        Ok(SocketAddr::new(ip, u16::from_be_bytes(*port)))
    }
}

/// A small enumeration that later versions may add to.
mod number {
    use super::*;

    pub fn encode<C, T: Copy + Into<u8>, W: minicbor::encode::Write>(
        value: &T,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u8((*value).into())?.ok()
    }

    pub fn decode<C, T: From<u8>>(d: &mut Decoder<'_>, _: &mut C) -> Result<T, minicbor::decode::Error> {
        Ok(d.u8()?.into())
    }
}

mod eid_v6 {
    use super::*;

    pub fn encode<C, W: minicbor::encode::Write>(
        eid: &Ipv6Addr,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&eid.octets())?.ok()
    }

    pub fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Ipv6Addr, minicbor::decode::Error> {
        let bytes = <[u8; 16]>::try_from(d.bytes()?)
            .map_err(|_| minicbor::decode::Error::message("an IPv6 EID has 16 bytes"))?;
        Ok(bytes.into())
    }
}

/// A pair of IPv4 EIDs: 8 bytes, the sender's first; empty for none.
mod eid_pair {
    use super::*;

    pub fn encode<C, W: minicbor::encode::Write>(
        pair: &Option<EidPair>,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        match pair {
            Some(pair) => e.bytes(&[pair.own.octets(), pair.other.octets()].concat())?.ok(),
            None => e.bytes(&[])?.ok(),
        }
    }

    pub fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Option<EidPair>, minicbor::decode::Error> {
        match d.bytes()? {
            [] => Ok(None),
            &[a, b, c, d, e, f, g, h] => {
                Ok(Some(EidPair { own: Ipv4Addr::new(a, b, c, d), other: Ipv4Addr::new(e, f, g, h) }))
            }
            _ => Err(minicbor::decode::Error::message("a pair of IPv4 EIDs has 8 bytes")),
        }
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
