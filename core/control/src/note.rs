//! What of a peer's file is not done, or not as it stands there: a code with its values.

use serde::{Deserialize, Serialize};

use crate::event::lenient;
use crate::words;

/// Something that whoever added a peer should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What, with its values.
    #[serde(flatten, deserialize_with = "lenient")]
    pub what: Noted,
    /// The same in English, for readers that do not know the code, without a full stop. Only [`Noted::Other`] says more
    /// by it than by its code.
    pub text: String,
}

impl From<Noted> for Note {
    fn from(what: Noted) -> Self {
        Self { text: words::noted(&what), what }
    }
}

/// What is not done, or not as it stands in the file. `line` counts from 1.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Noted {
    /// The file is plain WireGuard, written for another program whose additions change nothing here.
    Disguise {
        /// The program, such as `AmneziaWG`.
        dialect: String,
        /// The keys that are left out.
        keys: Vec<String>,
    },
    /// The name servers are not set.
    NameServers {
        /// What the file names.
        servers: String,
        /// Where.
        line: usize,
    },
    /// A command is not run.
    Command {
        /// `PostUp` and the like.
        key: String,
        /// Where.
        line: usize,
    },
    /// A command is not run that forbids traffic beside the tunnel.
    KillSwitch {
        /// `PostUp` and the like.
        key: String,
        /// Where.
        line: usize,
    },
    /// `Table = off`: no route is set, and everything does not go to the peer.
    NoRoutes {
        /// Where.
        line: usize,
    },
    /// `Table` names another table of routes.
    OtherTable {
        /// It.
        table: String,
        /// Where.
        line: usize,
    },
    /// The UDP port is the service's.
    Port {
        /// Where.
        line: usize,
    },
    /// The firewall mark is the service's.
    Mark {
        /// Where.
        line: usize,
    },
    /// A key that means nothing to MAST.
    Unused {
        /// The key.
        key: String,
        /// Where.
        line: usize,
    },
    /// There is no `PrivateKey`: this host's own is used.
    OwnKey,
    /// There is no `Address`.
    NoAddress,
    /// A peer has no `AllowedIPs`: nothing goes to it.
    NothingAllowed {
        /// Where the peer begins.
        line: usize,
    },
    /// Everything of one version of IP goes to the peer, and nothing of the other.
    OneVersion {
        /// `IPv4` or `IPv6`: what goes to it.
        tunnel: String,
    },
    /// Two sections have one key, and are one peer.
    OnePeer {
        /// Where the later begins.
        line: usize,
        /// Where the first does.
        first: usize,
    },
    /// Two peers of the file claim a range: it leads to the later, as WireGuard has it.
    RangeOfLater {
        /// The range.
        range: String,
        /// Where the later peer begins.
        line: usize,
    },
    /// A name leads to an address at which no peer can be.
    UselessAddress {
        /// The name, with its port.
        name: String,
        /// Why.
        problem: String,
    },
    /// A name has more addresses than are tried.
    ManyAddresses {
        /// The name, with its port.
        name: String,
        /// So many.
        count: usize,
        /// So many of them are tried.
        tried: usize,
    },
    /// What this version has no code for; [`Note::text`] says it.
    #[default]
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_note_travels_with_its_code_its_values_and_its_english() {
        let note = Note::from(Noted::KillSwitch { key: "PostUp".into(), line: 7 });
        let wire = json!(note);
        assert_eq!((&wire["code"], &wire["key"]), (&json!("kill-switch"), &json!("PostUp")));
        assert!(note.text.contains("mast protect on"), "{}", note.text);
        assert_eq!(from_value::<Note>(wire).unwrap(), note);
        let newer: Note = from_value(json!({"code": "sang", "text": "it sang"})).unwrap();
        assert_eq!((newer.what, newer.text.as_str()), (Noted::Other, "it sang"));
    }
}
