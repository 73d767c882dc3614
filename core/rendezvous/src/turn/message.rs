//! What is said to a relay and what it says (RFC 8656, 17 and 18; RFC 8489): requests, answers, and the two forms in
//! which datagrams travel, as indications and on channels.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use stun_types::attribute::{
    ErrorCode, Nonce, PasswordAlgorithm, PasswordAlgorithmValue, PasswordAlgorithms, Realm, Username,
};
use stun_types::message::{
    IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageClass, MessageType,
    MessageWrite, MessageWriteExt, MessageWriteVec, StunWriteError, TransactionId,
};
use turn_types::AddressFamily;
use turn_types::attribute::{
    ChannelNumber, Data, Lifetime, RequestedAddressFamily, RequestedTransport, XorPeerAddress,
    XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH, SEND};
use zeroize::Zeroizing;

/// A STUN message begins with this many bytes.
pub const HEADER: usize = 20;
/// So does a datagram on a channel.
pub const CHANNEL_HEADER: usize = 4;
/// What every message of STUN has in the same place.
pub const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// The type of a DATA indication (RFC 8656, 17).
const DATA_INDICATION: u16 = 0x0017;
/// The attributes of one.
const XOR_PEER_ADDRESS: u16 = 0x0012;
const DATA: u16 = 0x0013;
/// What a nonce begins with where the server knows RFC 8489 (9.2).
const NONCE_COOKIE: &str = "obMatJos2";
/// The longest realm and nonce that are taken (RFC 8489, 14.9 and 14.10: less than 128 characters, 763 bytes).
const LONGEST_TEXT: usize = 763;

/// What is asked of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// An address, of this family.
    Allocate(AddressFamily),
    /// That the address be kept for so many seconds; for none, that it be given up.
    Refresh(u32),
    /// That datagrams of this address be let through.
    Permit(IpAddr),
    /// A channel of this number to a peer.
    Bind(SocketAddr, u16),
}

/// What a relay answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes: for how many seconds, and at which address, where it says so.
    Yes { lifetime: Option<u32>, relayed: Option<SocketAddr> },
    /// No, by the code of an error.
    No(u16),
    /// It wants to know who asks, or wants that said anew: [`Access`] has what it takes.
    Challenge { code: u16, changed: bool },
    /// It is not for us, or was made by somebody who does not know the password.
    Invalid,
}

/// Who asks.
#[derive(Debug)]
pub struct Access {
    username: String,
    password: Zeroizing<String>,
    challenge: Option<Challenge>,
}

/// What the server wants requests to be signed with (RFC 8489, 9.2).
#[derive(Debug)]
struct Challenge {
    realm: String,
    nonce: String,
    /// What it offered, to be repeated, so that nobody in between can take the better ones off the list.
    offered: Vec<PasswordAlgorithmValue>,
    algorithm: IntegrityAlgorithm,
    key: IntegrityKey,
}

impl Access {
    pub fn new(username: &str, password: &str) -> Self {
        let password = Zeroizing::new(password.to_owned());
        Self { username: username.to_owned(), password, challenge: None }
    }

    /// Whether requests are signed by now.
    pub fn signs(&self) -> bool {
        self.challenge.is_some()
    }

    /// A request in bytes. Nothing that a user or a server says can make it fail but a name or realm that is too long.
    pub fn request(&self, ask: Ask, id: TransactionId) -> Result<Vec<u8>, StunWriteError> {
        let method = match ask {
            Ask::Allocate(_) => ALLOCATE,
            Ask::Refresh(_) => REFRESH,
            Ask::Permit(_) => CREATE_PERMISSION,
            Ask::Bind(..) => CHANNEL_BIND,
        };
        let kind = MessageType::from_class_method(MessageClass::Request, method);
        let mut message = Message::builder(kind, id, MessageWriteVec::new());
        match ask {
            Ask::Allocate(family) => {
                message.add_attribute(&RequestedTransport::new(RequestedTransport::UDP))?;
                // Left out it means IPv4, also to servers older than the attribute.
                if family == AddressFamily::IPV6 {
                    message.add_attribute(&RequestedAddressFamily::new(family))?;
                }
            }
            Ask::Refresh(seconds) => message.add_attribute(&Lifetime::new(seconds))?,
            Ask::Permit(address) => {
                message.add_attribute(&XorPeerAddress::new(SocketAddr::new(address, 0), id))?;
            }
            Ask::Bind(peer, number) => {
                message.add_attribute(&ChannelNumber::new(number))?;
                message.add_attribute(&XorPeerAddress::new(peer, id))?;
            }
        }
        if let Some(challenge) = &self.challenge {
            message.add_attribute(&Username::new(&self.username)?)?;
            message.add_attribute(&Realm::new(&challenge.realm)?)?;
            message.add_attribute(&Nonce::new(&challenge.nonce)?)?;
            if !challenge.offered.is_empty() {
                message.add_attribute(&PasswordAlgorithms::new(&challenge.offered))?;
                message.add_attribute(&PasswordAlgorithm::new(match challenge.algorithm {
                    IntegrityAlgorithm::Sha1 => PasswordAlgorithmValue::MD5,
                    IntegrityAlgorithm::Sha256 => PasswordAlgorithmValue::SHA256,
                }))?;
            }
            message.add_message_integrity_with_key(&challenge.key, challenge.algorithm)?;
        }
        Ok(message.finish())
    }

    /// Reads an answer to what was asked; `signed`: whether it was with a signature.
    pub fn answer(&mut self, bytes: &[u8], ask: Ask, signed: bool) -> Answer {
        let Ok(message) = Message::from_bytes(bytes) else { return Answer::Invalid };
        let genuine = match &self.challenge {
            Some(challenge) if signed => message.validate_integrity_with_key(&challenge.key).is_ok(),
            _ => false,
        };
        if message.has_class(MessageClass::Success) {
            if signed && !genuine {
                return Answer::Invalid;
            }
            let lifetime = message.attribute::<Lifetime>().ok().map(|lifetime| lifetime.seconds());
            let relayed = message.attribute::<XorRelayedAddress>().ok();
            let relayed = relayed.map(|relayed| relayed.addr(message.transaction_id()));
            return Answer::Yes { lifetime, relayed };
        }
        let Ok(error) = message.attribute::<ErrorCode>() else { return Answer::Invalid };
        match error.code() {
            code @ (ErrorCode::UNAUTHORIZED | ErrorCode::STALE_NONCE) => match self.challenge(&message) {
                Some(changed) => Answer::Challenge { code, changed },
                None => Answer::No(code),
            },
            // Nothing but an address may be refused by somebody who does not know the password (RFC 8489, 9.2.5):
            // there, a user is helped by a wrong reason more than by silence.
            code if genuine || !signed || matches!(ask, Ask::Allocate(_)) => Answer::No(code),
            _ => Answer::Invalid,
        }
    }

    /// Takes a challenge, if there is one, and says whether it differs from the one before.
    fn challenge(&mut self, message: &Message<'_>) -> Option<bool> {
        let realm = message.attribute::<Realm>().ok()?.realm().to_owned();
        let nonce = message.attribute::<Nonce>().ok()?.nonce().to_owned();
        if realm.len() > LONGEST_TEXT || nonce.len() > LONGEST_TEXT {
            return None;
        }
        let offered = match message.attribute::<PasswordAlgorithms>() {
            Ok(offered) if nonce.starts_with(NONCE_COOKIE) => offered.algorithms().to_vec(),
            _ => Vec::new(),
        };
        let algorithm = offered.first().map_or(IntegrityAlgorithm::Sha1, |first| first.as_integrity());
        let before = self.challenge.as_ref();
        let changed = before.is_none_or(|before| before.realm != realm || before.nonce != nonce);
        let key = LongTermKeyCredentials::new(
            self.username.clone(),
            self.password.as_str().to_owned(),
            realm.clone(),
        );
        let key = key.make_key(algorithm);
        self.challenge = Some(Challenge { realm, nonce, offered, algorithm, key });
        Some(changed)
    }
}

/// Which request a message answers, if it is an answer at all.
pub fn answers(bytes: &[u8]) -> Option<TransactionId> {
    // Looked at here, since the library logs whatever it cannot read, and anybody may send garbage.
    let kind = kind(bytes)?;
    let id = bytes.get(8..HEADER)?;
    let id = id.iter().fold(0_u128, |id, byte| id << 8 | u128::from(*byte));
    // The bits of the class (RFC 8489, 5): both answers have the upper one.
    (kind & 0x0100 != 0).then(|| TransactionId::from(id))
}

/// The type of a message, where the header is one of STUN and the length is right.
fn kind(bytes: &[u8]) -> Option<u16> {
    let (kind, length) = (u16_at(bytes, 0)?, u16_at(bytes, 2)?);
    let is = kind & 0xc000 == 0
        && bytes.get(4..8)? == COOKIE
        && length.is_multiple_of(4)
        && HEADER + usize::from(length) == bytes.len();
    is.then_some(kind)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes: [u8; 2] = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
    Some(u16::from_be_bytes(bytes))
}

/// A datagram to a peer, as an indication (RFC 8656, 11.1).
pub fn indication(peer: SocketAddr, payload: &[u8]) -> Result<Vec<u8>, StunWriteError> {
    let id = TransactionId::generate();
    let kind = MessageType::from_class_method(MessageClass::Indication, SEND);
    let mut message = Message::builder(kind, id, MessageWriteVec::with_capacity(HEADER + 32 + payload.len()));
    message.add_attribute(&XorPeerAddress::new(peer, id))?;
    message.add_attribute(&Data::new(payload))?;
    Ok(message.finish())
}

/// From whom a datagram came as an indication, and where in the message it lies. Read by hand, as it may be any garbage.
pub fn from_indication(bytes: &[u8]) -> Option<(SocketAddr, Range<usize>)> {
    if kind(bytes)? != DATA_INDICATION {
        return None;
    }
    let (mut peer, mut data, mut at) = (None, None, HEADER);
    while at < bytes.len() {
        let (attribute, length) = (u16_at(bytes, at)?, usize::from(u16_at(bytes, at + 2)?));
        let value = at + 4..at + 4 + length;
        match attribute {
            XOR_PEER_ADDRESS => peer = Some(address(bytes.get(value)?, bytes.get(4..HEADER)?)?),
            DATA if value.end <= bytes.len() => data = Some(value),
            _ => {}
        }
        at += 4 + length.next_multiple_of(4);
    }
    Some((peer?, data?))
}

/// An address that is written with the cookie and the number of its message over it (RFC 8489, 14.2).
fn address(value: &[u8], over: &[u8]) -> Option<SocketAddr> {
    let (head, rest) = value.split_at_checked(4)?;
    let port = u16_at(head, 2)? ^ u16_at(over, 0)?;
    let plain = |at: usize| Some(rest.get(at)? ^ over.get(at)?);
    let address = match (*head.get(1)?, rest.len()) {
        (1, 4) => IpAddr::from([plain(0)?, plain(1)?, plain(2)?, plain(3)?]),
        (2, 16) => {
            let mut octets = [0; 16];
            for (at, octet) in octets.iter_mut().enumerate() {
                *octet = plain(at)?;
            }
            IpAddr::from(octets)
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// A datagram to a peer on a channel (RFC 8656, 12.4).
pub fn on_channel(number: u16, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(payload.len()).ok()?;
    let mut bytes = Vec::with_capacity(CHANNEL_HEADER + payload.len().next_multiple_of(4));
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(payload);
    Some(bytes)
}

/// On which channel a datagram came, and where in the message it lies.
pub fn from_channel(bytes: &[u8]) -> Option<(u16, Range<usize>)> {
    let number = u16_at(bytes, 0)?;
    let data = CHANNEL_HEADER..CHANNEL_HEADER + usize::from(u16_at(bytes, 2)?);
    (number & 0xc000 == 0x4000 && data.end <= bytes.len()).then_some((number, data))
}

/// How long a message on a stream is with what fills it up, and without, as its first four bytes say; `None`: it is none
/// of a relay (RFC 8656, 12.5: the first two bits tell).
pub fn length(head: [u8; CHANNEL_HEADER]) -> Option<(usize, usize)> {
    let [first, _, high, low] = head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    match first >> 6 {
        0 if length.is_multiple_of(4) => Some((HEADER + length, HEADER + length)),
        1 => Some((CHANNEL_HEADER + length.next_multiple_of(4), CHANNEL_HEADER + length)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
