//! Why a request was refused.

use serde::{Deserialize, Serialize};

use crate::event::{SocketCause, lenient};
use crate::status::PolicyMode;
use crate::words;

/// What sort of refusal it is; the number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// Not JSON (−32700).
    Parse,
    /// JSON, but not a request (−32600).
    InvalidRequest,
    /// No such method (−32601).
    UnknownMethod,
    /// Parameters that do not fit; the message names the field (−32602).
    BadParams,
    /// A fault of the service itself (−32603).
    Internal,
    /// The caller may read but not change (−32001).
    NotPermitted,
    /// What the request names does not exist; [`ControlError::known`] lists what does (−32002).
    NotFound,
    /// It cannot be together with what is already there (−32003).
    Conflict,
    /// Well formed, but not acceptable: an expired invite, a broken file (−32004).
    Invalid,
    /// Not now: the service is down or busy (−32005).
    Unavailable,
    /// The two sides speak different versions (−32006).
    Version,
    /// `hello` must come first (−32007).
    HelloFirst,
    /// A number of a newer service.
    Other(i64),
}

impl ErrorCode {
    const KNOWN: [(Self, i64); 12] = [
        (Self::Parse, -32700),
        (Self::InvalidRequest, -32600),
        (Self::UnknownMethod, -32601),
        (Self::BadParams, -32602),
        (Self::Internal, -32603),
        (Self::NotPermitted, -32001),
        (Self::NotFound, -32002),
        (Self::Conflict, -32003),
        (Self::Invalid, -32004),
        (Self::Unavailable, -32005),
        (Self::Version, -32006),
        (Self::HelloFirst, -32007),
    ];

    /// The number on the wire.
    pub fn number(self) -> i64 {
        match self {
            Self::Other(number) => number,
            known => Self::KNOWN.iter().find(|(code, _)| *code == known).map_or(-32603, |(_, n)| *n),
        }
    }

    /// The code of a number.
    pub fn from_number(number: i64) -> Self {
        Self::KNOWN.iter().find(|(_, n)| *n == number).map_or(Self::Other(number), |(code, _)| *code)
    }
}

/// A refusal: its sort, what exactly, and what would have been right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// The sort of refusal.
    pub code: ErrorCode,
    /// What exactly, with its values.
    pub why: Box<Why>,
    /// The same in English, with what can be done, for readers that do not know the code. Only [`Why::Other`] says
    /// more by it than by its code.
    pub message: String,
    /// The field of the parameters that is wrong, where one is.
    pub field: Option<String>,
    /// With [`ErrorCode::NotFound`]: the names that would have been found.
    pub known: Vec<String>,
}

/// What exactly is refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Why {
    /// There is no peer of that name.
    NoPeer {
        /// The name.
        name: String,
    },
    /// There is no interface of that name.
    NoInterface {
        /// The name.
        name: String,
    },
    /// There is no uplink of that name.
    NoUplink {
        /// The name.
        name: String,
    },
    /// A name cannot be that of a peer.
    BadName {
        /// The name.
        name: String,
    },
    /// There is a peer of that name already.
    PeerExists {
        /// The name.
        name: String,
    },
    /// The key is that of a peer already.
    KeyExists {
        /// The peer's name.
        name: String,
    },
    /// The key is this host's own.
    OwnKey,
    /// A peer stands in the configuration file, from where it would come back.
    Configured {
        /// The peer's name.
        name: String,
        /// The file.
        file: String,
    },
    /// Two WireGuard peers claim the same range.
    RangeTaken {
        /// The peer that is refused.
        peer: String,
        /// The range.
        range: String,
        /// The peer to which the range leads already.
        other: String,
    },
    /// A WireGuard file cannot be used.
    BadFile {
        /// Its name.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A plain WireGuard peer cannot use several paths at once.
    PlainMode {
        /// The peer's name.
        peer: String,
        /// The mode asked for.
        mode: PolicyMode,
    },
    /// Not everything can go to this peer.
    NoFullTunnel {
        /// The peer's name.
        peer: String,
    },
    /// MAST can be forbidden with peers of WireGuard files only.
    NotOfFile {
        /// The peer's name.
        peer: String,
    },
    /// A pin names nothing.
    EmptyPin,
    /// MAST is switched off.
    SwitchedOff,
    /// This host has no address that an invite could tell.
    NoAddress,
    /// There are as many invites as can be kept.
    TooManyInvites {
        /// So many.
        most: u32,
    },
    /// The time that an invite shall last is too long.
    TooLong,
    /// Another invite is being accepted.
    Joining,
    /// An invite cannot be accepted.
    Invite {
        /// Why.
        problem: InviteProblem,
        /// Who made it, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inviter: Option<String>,
        /// The UDP port at which the inviter was asked, where it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    },
    /// Another drill runs.
    DrillRuns,
    /// A drill needs MAST at the peer, too.
    DrillPlain {
        /// The peer's name.
        peer: String,
    },
    /// A drill needs at least two links that work.
    DrillLinks {
        /// The peer's name.
        peer: String,
        /// So many work.
        working: u32,
    },
    /// The private key is another machine's.
    OtherKey {
        /// The public key that belongs to it.
        given: String,
        /// The public key of the service.
        expected: String,
    },
    /// The service waits for its private key.
    KeyLocked,
    /// No socket can be had on an interface.
    NoSocket {
        /// The interface.
        interface: String,
        /// The UDP port.
        port: u16,
        /// Why.
        cause: SocketCause,
        /// What the system says.
        error: String,
    },
    /// The system refused.
    System {
        /// What it says.
        error: String,
    },
    /// The service is stopping.
    Stopping,
    /// What was asked is done, and the system refuses leak protection.
    ProtectionRefused {
        /// What the system says.
        error: String,
    },
    /// The two sides speak different versions.
    Version(Mismatch),
    /// What this version has no code for; [`ControlError::message`] says it.
    #[default]
    #[serde(other)]
    Other,
}

/// Why an invite cannot be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InviteProblem {
    /// It is no link of MAST.
    Foreign,
    /// Another version of MAST made it.
    OtherVersion,
    /// It is not complete, or was altered.
    Damaged,
    /// This very host made it.
    Own,
    /// Who made it is a peer already.
    Known,
    /// Its time is over.
    Expired,
    /// It holds no address.
    NoAddress,
    /// The inviter is reached over IPv4 only, and no network of this host has that.
    NeedsIpv4,
    /// The inviter is reached over IPv6 only, and no network of this host has that.
    NeedsIpv6,
    /// The inviter is reached over either, and no network of this host has one.
    NeedsNetwork,
    /// Nothing came back.
    NoAnswer,
    /// The inviter answered, and the pairing did not come to its end.
    Unfinished,
    /// The inviter says that its time is over.
    SaidExpired,
    /// The inviter says that it was used.
    SaidUsed,
    /// The inviter does not take this host's key.
    SaidKey,
    /// The inviter runs another version.
    SaidVersion,
    /// MAST was switched off meanwhile.
    SwitchedOff,
    /// What this version has no code for.
    #[serde(other)]
    Other,
}

/// Two versions of this API that do not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", words::mismatch(self))]
pub struct Mismatch {
    /// The protocol of the interface.
    pub client: u32,
    /// The protocol of the service; none where it does not say, which only services before protocol 2 do.
    #[serde(default)]
    pub service: Option<u32>,
    /// The service's version, where it is known.
    #[serde(default)]
    pub service_version: Option<String>,
}

/// One side of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The interface.
    Client,
    /// `mastd`.
    Service,
}

impl Mismatch {
    /// Which side must be upgraded.
    pub fn older(&self) -> Side {
        // A service that does not say is of the first protocol, and would not have refused that.
        match self.service {
            Some(service) if service > self.client => Side::Client,
            _ => Side::Service,
        }
    }
}

macro_rules! constructors {
    ($($(#[$meta:meta])* $function:ident => $code:ident;)+) => {
        $($(#[$meta])*
        pub fn $function(message: impl Into<String>) -> Self {
            Self::new(ErrorCode::$code, message)
        })+
    };
}

impl ControlError {
    /// A refusal for which there is no code, in words.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, why: Box::default(), message: message.into(), field: None, known: Vec::new() }
    }

    /// A refusal with its code.
    pub fn of(why: Why) -> Self {
        let (code, message) = (why.sort(), words::refusal(&why));
        Self { code, message, why: Box::new(why), field: None, known: Vec::new() }
    }

    /// Parameters that do not fit: which field, and what is wrong with it, in words that continue its name: "must be …".
    pub fn bad_field(field: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        let field = field.into();
        Self::bad_params(format!("`{field}` {problem}")).in_field(field)
    }

    /// Parameters that do not fit: which field, and what is wrong with its value, in words of their own.
    pub fn bad_value(field: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        let field = field.into();
        Self::bad_params(format!("`{field}`: {problem}")).in_field(field)
    }

    /// Adds the field that is wrong.
    #[must_use]
    pub fn in_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Adds the names that would have been found.
    #[must_use]
    pub fn with_known<T: Into<String>>(mut self, known: impl IntoIterator<Item = T>) -> Self {
        self.known = known.into_iter().map(Into::into).collect();
        self
    }

    constructors! {
        /// A fault of the service itself.
        internal => Internal;
        /// What the request names does not exist.
        not_found => NotFound;
        /// It cannot be together with what is already there.
        conflict => Conflict;
        /// Well formed, but not acceptable.
        invalid => Invalid;
        /// Not now.
        unavailable => Unavailable;
        /// The caller may not.
        not_permitted => NotPermitted;
        /// Parameters that do not fit.
        bad_params => BadParams;
    }
}

impl Why {
    /// The sort of refusal that it is.
    pub fn sort(&self) -> ErrorCode {
        match self {
            Self::NoPeer { .. } | Self::NoInterface { .. } | Self::NoUplink { .. } => ErrorCode::NotFound,
            Self::PeerExists { .. }
            | Self::KeyExists { .. }
            | Self::RangeTaken { .. }
            | Self::Joining
            | Self::DrillRuns => ErrorCode::Conflict,
            Self::SwitchedOff
            | Self::NoAddress
            | Self::TooManyInvites { .. }
            | Self::BadName { .. }
            | Self::OwnKey
            | Self::Configured { .. }
            | Self::BadFile { .. }
            | Self::PlainMode { .. }
            | Self::NoFullTunnel { .. }
            | Self::NotOfFile { .. }
            | Self::EmptyPin
            | Self::TooLong
            | Self::Invite { .. }
            | Self::DrillPlain { .. }
            | Self::DrillLinks { .. }
            | Self::OtherKey { .. }
            | Self::Other => ErrorCode::Invalid,
            Self::KeyLocked
            | Self::NoSocket { .. }
            | Self::System { .. }
            | Self::Stopping
            | Self::ProtectionRefused { .. } => ErrorCode::Unavailable,
            Self::Version(_) => ErrorCode::Version,
        }
    }
}

/// The error as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireError {
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<WireErrorData>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct WireErrorData {
    #[serde(flatten, deserialize_with = "lenient")]
    why: Why,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    known: Vec<String>,
}

impl From<ControlError> for WireError {
    fn from(error: ControlError) -> Self {
        let data = WireErrorData { why: *error.why, field: error.field, known: error.known };
        let data = (data != WireErrorData::default()).then_some(data);
        Self { code: error.code.number(), message: error.message, data }
    }
}

impl From<WireError> for ControlError {
    fn from(error: WireError) -> Self {
        let WireErrorData { why, field, known } = error.data.unwrap_or_default();
        let code = ErrorCode::from_number(error.code);
        Self { code, why: Box::new(why), message: error.message, field, known }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        for (code, number) in ErrorCode::KNOWN {
            assert_eq!(code.number(), number);
            assert_eq!(ErrorCode::from_number(number), code);
        }
        assert_eq!(ErrorCode::from_number(7).number(), 7);
    }

    #[test]
    fn a_refusal_travels_with_its_values_and_names_with_commas_stay_whole() {
        let mismatch = Mismatch { client: 2, service: Some(1), service_version: Some("0.1.0".into()) };
        for error in [
            ControlError::of(Why::NoPeer { name: "x, y".into() }).with_known(["home, sweet", "none yet"]),
            ControlError::of(Why::PlainMode { peer: "`mode`".into(), mode: PolicyMode::Bonded })
                .in_field("mode"),
            ControlError::bad_field("pin", "names nothing"),
            ControlError::of(Why::Invite {
                problem: InviteProblem::NoAnswer,
                inviter: None,
                port: Some(6278),
            }),
            ControlError::of(Why::Version(mismatch)),
            ControlError::invalid("`looks like a field` and is none"),
        ] {
            let wire = json!(WireError::from(error.clone()));
            assert_eq!(ControlError::from(from_value::<WireError>(wire).unwrap()), error);
        }
    }

    #[test]
    fn refusals_of_other_versions_keep_their_message() {
        for data in
            [json!(null), json!({"known": ["a"]}), json!({"why": "moon-phase", "known": ["a"], "new": 1})]
        {
            let wire = json!({"code": -32002, "message": "not at new moon", "data": data});
            let error = ControlError::from(from_value::<WireError>(wire).unwrap());
            assert_eq!((*error.why, error.message.as_str()), (Why::Other, "not at new moon"));
            assert_eq!(error.known.is_empty(), data.is_null());
        }
    }

    #[test]
    fn the_older_side_is_the_one_with_the_lower_number() {
        let older = |client, service| Mismatch { client, service, service_version: None }.older();
        assert_eq!(older(1, Some(2)), Side::Client);
        assert_eq!(older(2, Some(1)), Side::Service);
        // Before numbers travelled, there was protocol 1 only.
        assert_eq!(older(2, None), Side::Service);
    }
}
