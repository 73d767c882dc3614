//! What an interface can ask for.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{ControlError, ErrorCode};
use crate::status::PolicyMode;

/// A request that the service answers; greeting and subscribing are the server's own business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `status`: everything at once.
    Status,
    /// `up`: carry traffic.
    Up,
    /// `down`: stop carrying traffic and take back every change to the system.
    Down,
    /// `peer.add`: accept an invite or read a WireGuard file.
    PeerAdd(PeerAdd),
    /// `peer.remove`: forget a peer.
    PeerRemove(PeerRemove),
    /// `invite`: make a link with which another host becomes a peer.
    Invite(Invite),
    /// `policy.set`: pin or unpin.
    PolicySet(PolicySet),
    /// `doctor`: look for what is wrong.
    Doctor,
}

/// Parameters of `hello`. Unknown fields are ignored, so that versions can be compared at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::PROTOCOL`] of the client.
    pub protocol: u32,
    /// The client's name and version, for logs.
    #[serde(default)]
    pub client: String,
}

/// Parameters of `peer.add`: exactly one of `link` and `file`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerAdd {
    /// An invite, `mast://…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// A WireGuard configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PeerFile>,
    /// What to call the peer; the name in the invite or of the file otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A file, by value: the service may not be able to read where the user can.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerFile {
    /// Its name without directories.
    pub name: String,
    /// All of its text.
    pub contents: String,
}

// Both hold secrets, which must not reach a log.
impl fmt::Debug for PeerAdd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerAdd")
            .field("link", &self.link.as_ref().map(|_| "(secret)"))
            .field("file", &self.file)
            .field("name", &self.name)
            .finish()
    }
}

impl fmt::Debug for PeerFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerFile").field("name", &self.name).field("contents", &"(secret)").finish()
    }
}

/// Parameters of `peer.remove`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerRemove {
    /// The peer's name.
    pub name: String,
}

/// Parameters of `invite`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// How long the link may be accepted, in seconds.
    #[serde(default = "an_hour")]
    pub expires_s: u64,
    /// What to call the peer that accepts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

fn an_hour() -> u64 {
    3600
}

impl Default for Invite {
    fn default() -> Self {
        Self { expires_s: an_hour(), name: None }
    }
}

/// Parameters of `policy.set`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySet {
    /// The peer's name; without one, every peer and the default for those to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Who chooses.
    pub mode: PolicyMode,
    /// Interface names, kinds, or networks as `network:NAME`, in order; only with [`PolicyMode::Pin`].
    #[serde(default)]
    pub pin: Vec<String>,
    /// Whether other paths may be used while no pinned one works.
    #[serde(default = "yes")]
    pub fallback: bool,
}

fn yes() -> bool {
    true
}

/// Parameters of `drill`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// The peer's name.
    pub peer: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// A request with the methods that the server handles by itself.
#[derive(Debug)]
pub(crate) enum Method {
    Hello(Hello),
    Subscribe,
    Drill(Drill),
    Call(Request),
}

impl Method {
    /// Reads a method and its parameters.
    pub(crate) fn parse(method: &str, params: Option<Value>) -> Result<Self, ControlError> {
        let call = match method {
            "hello" => return Ok(Self::Hello(read(params)?)),
            "events.subscribe" => return read::<Nothing>(params).map(|_| Self::Subscribe),
            "drill" => return Ok(Self::Drill(read(params)?)),
            "status" => read::<Nothing>(params).map(|_| Request::Status)?,
            "up" => read::<Nothing>(params).map(|_| Request::Up)?,
            "down" => read::<Nothing>(params).map(|_| Request::Down)?,
            "doctor" => read::<Nothing>(params).map(|_| Request::Doctor)?,
            "peer.add" => Request::PeerAdd(read::<PeerAdd>(params)?.checked()?),
            "peer.remove" => Request::PeerRemove(read(params)?),
            "invite" => Request::Invite(read::<Invite>(params)?.checked()?),
            "policy.set" => Request::PolicySet(read::<PolicySet>(params)?.checked()?),
            other => {
                let shown: String = other.chars().take(64).collect();
                return Err(ControlError::new(
                    ErrorCode::UnknownMethod,
                    format!("there is no method {shown:?} in protocol {}", crate::PROTOCOL),
                ));
            }
        };
        Ok(Self::Call(call))
    }

    /// Whether it needs permission.
    pub(crate) fn changes(&self) -> bool {
        match self {
            Self::Hello(_) | Self::Subscribe | Self::Call(Request::Status | Request::Doctor) => false,
            Self::Drill(_) | Self::Call(_) => true,
        }
    }
}

impl Request {
    /// The method's name.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Up => "up",
            Self::Down => "down",
            Self::PeerAdd(_) => "peer.add",
            Self::PeerRemove(_) => "peer.remove",
            Self::Invite(_) => "invite",
            Self::PolicySet(_) => "policy.set",
            Self::Doctor => "doctor",
        }
    }

    /// The parameters as they travel.
    pub(crate) fn params(&self) -> Value {
        match self {
            Self::Status | Self::Up | Self::Down | Self::Doctor => json!({}),
            Self::PeerAdd(p) => json!(p),
            Self::PeerRemove(p) => json!(p),
            Self::Invite(p) => json!(p),
            Self::PolicySet(p) => json!(p),
        }
    }
}

impl PeerAdd {
    fn checked(self) -> Result<Self, ControlError> {
        match (&self.link, &self.file) {
            (Some(_), None) | (None, Some(_)) => Ok(self),
            (None, None) => Err(ControlError::bad_params("missing: give either `link` or `file`")),
            (Some(_), Some(_)) => Err(ControlError::bad_params("`link` and `file` exclude each other")),
        }
    }
}

impl Invite {
    fn checked(self) -> Result<Self, ControlError> {
        const WEEK: u64 = 7 * 24 * 3600;
        if (1..=WEEK).contains(&self.expires_s) {
            Ok(self)
        } else {
            Err(ControlError::bad_params(format!("`expires_s` must be 1 to {WEEK} (a week)")))
        }
    }
}

impl PolicySet {
    fn checked(self) -> Result<Self, ControlError> {
        match self.mode {
            PolicyMode::Unknown => Err(ControlError::bad_params("`mode` must be \"auto\" or \"pin\"")),
            PolicyMode::Pin if self.pin.is_empty() => {
                Err(ControlError::bad_params("`pin` must name an interface, a kind or a network"))
            }
            PolicyMode::Pin if self.pin.len() > 16 => {
                Err(ControlError::bad_params("`pin` may have at most 16 entries"))
            }
            PolicyMode::Auto if !self.pin.is_empty() => {
                Err(ControlError::bad_params("`pin` must be empty when `mode` is \"auto\""))
            }
            PolicyMode::Auto | PolicyMode::Pin => Ok(self),
        }
    }
}

/// Reads parameters; an error names the field.
fn read<T: DeserializeOwned>(params: Option<Value>) -> Result<T, ControlError> {
    let params = match params {
        None | Some(Value::Null) => json!({}),
        Some(params @ Value::Object(_)) => params,
        Some(_) => return Err(ControlError::bad_params("`params` must be an object with named fields")),
    };
    serde_path_to_error::deserialize(params).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { String::new() } else { format!("`{path}`: ") };
        ControlError::bad_params(format!("{place}{}", error.inner()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(method: &str, params: Value) -> String {
        let error = Method::parse(method, Some(params)).expect_err("must be refused");
        assert_eq!(error.code, ErrorCode::BadParams);
        error.message
    }

    #[test]
    fn refusals_name_the_field() {
        assert!(refusal("invite", json!({"expires_s": "soon"})).starts_with("`expires_s`: invalid type"));
        assert!(refusal("invite", json!({"expires_s": 0})).contains("`expires_s`"));
        assert!(refusal("peer.remove", json!({})).contains("missing field `name`"));
        assert!(refusal("status", json!({"verbose": true})).contains("unknown field `verbose`"));
        assert!(refusal("policy.set", json!({"mode": "random"})).contains("`mode`"));
        assert!(refusal("policy.set", json!({"mode": "pin", "pin": ["a", 1]})).starts_with("`pin[1]`"));
        assert!(refusal("policy.set", json!({"mode": "pin"})).contains("`pin`"));
        assert!(refusal("peer.add", json!({})).contains("`link` or `file`"));
        assert!(
            refusal("peer.add", json!({"file": {"name": "x"}}))
                .starts_with("`file`: missing field `contents`")
        );
        assert!(refusal("status", json!([1])).contains("object"));
    }

    #[test]
    fn requests_read_back_what_was_written() {
        let requests = [
            Request::Status,
            Request::Up,
            Request::Down,
            Request::Doctor,
            Request::PeerAdd(PeerAdd { link: Some("mast://x".into()), ..PeerAdd::default() }),
            Request::PeerRemove(PeerRemove { name: "home".into() }),
            Request::Invite(Invite { expires_s: 60, name: Some("laptop".into()) }),
            Request::PolicySet(PolicySet {
                peer: Some("home".into()),
                mode: PolicyMode::Pin,
                pin: vec!["wifi".into()],
                fallback: false,
            }),
        ];
        for request in requests {
            match Method::parse(request.method(), Some(request.params())) {
                Ok(Method::Call(read)) => assert_eq!(read, request),
                other => panic!("{request:?} became {other:?}"),
            }
        }
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let file = PeerFile { name: "wg0.conf".into(), contents: "PrivateKey = hush".into() };
        let add = PeerAdd { link: Some("mast://hush".into()), file: Some(file), name: None };
        assert!(!format!("{add:?}").contains("hush"));
    }
}
