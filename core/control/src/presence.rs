//! The presence service (XMPP) by which peers that move find each other.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::error::ControlError;

/// The longest account, server or password, in bytes.
const LONGEST: usize = 1024;
/// The longest certificate of an authority, in bytes.
const LONGEST_AUTHORITY: usize = 64 * 1024;

/// Parameters of `presence.login`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresenceLogin {
    /// Such as `alice@example.org`.
    pub account: String,
    /// Its password. The service keeps it, sealed where the system can.
    pub password: String,
    /// The server, as `xmpp.example.org`, with a port or without; what DNS says of the account's domain otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The certificate of an authority that is trusted beside those that everybody trusts, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

impl PresenceLogin {
    pub(crate) fn checked(self) -> Result<Self, ControlError> {
        let fields = [
            ("account", Some(&self.account), LONGEST),
            ("password", Some(&self.password), LONGEST),
            ("server", self.server.as_ref(), LONGEST),
            ("authority", self.authority.as_ref(), LONGEST_AUTHORITY),
        ];
        for (name, value, longest) in fields {
            if value.is_some_and(|value| value.is_empty() || value.len() > longest) {
                return Err(ControlError::bad_field(name, format_args!("must have 1 to {longest} bytes")));
            }
        }
        Ok(self)
    }
}

impl Drop for PresenceLogin {
    fn drop(&mut self) {
        self.password.zeroize();
    }
}

impl fmt::Debug for PresenceLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresenceLogin")
            .field("account", &self.account)
            .field("password", &"(secret)")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// The answer to `presence` and to what changes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct PresenceReport {
    /// The account, where there is one.
    #[serde(default)]
    pub account: Option<String>,
    /// The server, where the user named one.
    #[serde(default)]
    pub server: Option<String>,
    /// How it fares.
    #[serde(default)]
    pub state: PresenceState,
    /// Why it cannot be used, in one sentence; only of [`PresenceState::Failed`].
    #[serde(default)]
    pub why: Option<String>,
    /// What helps, in one sentence.
    #[serde(default)]
    pub remedy: Option<String>,
    /// Whose accounts are listened to.
    #[serde(default)]
    pub peers: Vec<PresencePeer>,
}

/// Where a peer is listened for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct PresencePeer {
    /// The peer's name.
    pub peer: String,
    /// Its account.
    pub account: String,
    /// Nobody said which account the peer has: this one is this machine's own, which the user's machines may share.
    #[serde(default)]
    pub assumed: bool,
}

/// How the presence service fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum PresenceState {
    /// There is no account.
    Off,
    /// It has not been answered yet.
    Starting,
    /// Peers that have this machine's account find it, and it them.
    Working,
    /// It cannot be used now.
    Failed,
    /// What this version has no word for.
    #[default]
    #[serde(other)]
    Unknown,
}
