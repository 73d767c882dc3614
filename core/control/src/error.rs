//! Why a request was refused.

use serde::{Deserialize, Serialize};

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

/// A refusal, with a text for the user that says what can be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// The sort of refusal.
    pub code: ErrorCode,
    /// For the user.
    pub message: String,
    /// With [`ErrorCode::NotFound`]: the names that would have been found.
    pub known: Vec<String>,
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
    /// A refusal of any sort.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), known: Vec::new() }
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

/// The error as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireError {
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<WireErrorData>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WireErrorData {
    #[serde(default)]
    known: Vec<String>,
}

impl From<ControlError> for WireError {
    fn from(error: ControlError) -> Self {
        let data = (!error.known.is_empty()).then_some(WireErrorData { known: error.known });
        Self { code: error.code.number(), message: error.message, data }
    }
}

impl From<WireError> for ControlError {
    fn from(error: WireError) -> Self {
        Self {
            code: ErrorCode::from_number(error.code),
            message: error.message,
            known: error.data.map(|d| d.known).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        for (code, number) in ErrorCode::KNOWN {
            assert_eq!(code.number(), number);
            assert_eq!(ErrorCode::from_number(number), code);
        }
        assert_eq!(ErrorCode::from_number(7).number(), 7);
    }
}
