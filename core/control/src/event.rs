//! What happened: a code with its values, and the two ends of a move.

use serde::{Deserialize, Deserializer, Serialize};

use crate::{timestamp, words};

/// Something that happened to a peer's context, or to the service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Event {
    /// When, as [`timestamp`] writes it.
    pub time: String,
    /// The peer's name; empty when it concerns none.
    pub peer: String,
    /// What, or why data moved.
    #[serde(flatten, deserialize_with = "lenient")]
    pub what: What,
    /// The interface that carried traffic before.
    #[serde(default)]
    pub from: Option<String>,
    /// The interface that carries traffic now.
    #[serde(default)]
    pub to: Option<String>,
    /// The path that carried traffic before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub from_path: Option<Ends>,
    /// The path that carries traffic now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub to_path: Option<Ends>,
    /// [`Event::what`] in English, for readers that do not know the code, in words that continue "wifi …": "went
    /// silent". Only [`What::Other`] says more by it than by its code.
    pub reason: String,
    /// How long nothing arrived, in milliseconds.
    #[serde(default)]
    pub gap_ms: Option<f64>,
    /// How many sessions of this host went over from the one interface to the other: open TCP connections and
    /// connected UDP sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub sessions: Option<u64>,
}

impl Event {
    /// An event of this moment.
    pub fn now(peer: impl Into<String>, what: What) -> Self {
        Self::at(timestamp::now(), peer, what)
    }

    /// An event of a moment, as [`timestamp`] writes it.
    pub fn at(time: String, peer: impl Into<String>, what: What) -> Self {
        Self {
            time,
            peer: peer.into(),
            reason: words::reason(&what),
            what,
            from: None,
            to: None,
            from_path: None,
            to_path: None,
            gap_ms: None,
            sessions: None,
        }
    }

    /// An event of this moment for which there is no code.
    pub fn told(peer: impl Into<String>, text: impl Into<String>) -> Self {
        Self { reason: text.into(), ..Self::now(peer, What::Other) }
    }

    /// Whether traffic went over from one path to another.
    pub fn is_move(&self) -> bool {
        self.from.is_some() && self.to.is_some()
    }
}

/// The addresses at the two ends of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Ends {
    /// The local address; none where it is not known any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub local: Option<String>,
    /// The remote address and port.
    pub remote: String,
}

/// What happened. The first thirteen say why data moved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum What {
    /// The interface, or its carrier, is gone.
    LinkDown,
    /// The interface lost the address.
    AddressGone,
    /// Nothing came back.
    Silent,
    /// The other end says that it hears nothing.
    PeerSilent,
    /// The other end no longer has the address.
    PeerAddressGone,
    /// The system says that there is no route.
    NoRoute,
    /// This end's policy.
    Policy,
    /// The other end's wish.
    PeerWish,
    /// Cheaper, healthier or quicker.
    Better,
    /// The first path of all.
    Connected,
    /// A path works again, after none did.
    Restored,
    /// A drill took the path away.
    Drill,
    /// The path worked, but lost or delayed too much, and another one was fit.
    Unfit {
        /// Of a hundred datagrams so many did not arrive.
        #[serde(default)]
        lost_percent: u8,
        /// By how many milliseconds its round trip was longer than it can be.
        #[serde(default)]
        late_ms: u16,
        /// Nothing came through for moments.
        #[serde(default)]
        stalled: bool,
    },
    /// The peer's service started anew.
    Restarted,
    /// The peer switched MAST off.
    PeerOff,
    /// The peer removed this host.
    RemovedByPeer,
    /// The peer came by an invite of this host.
    CameByInvite,
    /// This host accepted the peer's invite.
    InviteAccepted,
    /// The system refuses the virtual interface's addresses or routes.
    RoutesRefused {
        /// What the system says.
        error: String,
    },
    /// Another program changed addresses, routes or rules that the service had set; they are set again.
    PutBack {
        /// What, in words.
        what: String,
        /// It does so again and again.
        again: bool,
    },
    /// The virtual interface failed, and is made again.
    TunnelLost {
        /// What the system says.
        error: String,
    },
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
    /// The system no longer tells of changes of the network.
    WatchEnded,
    /// A host name cannot be looked up yet; it is tried again.
    NameUnknown {
        /// The name.
        host: String,
    },
    /// An uplink has carried a share of its month's budget.
    Budget {
        /// The uplink, as `usage` names it.
        uplink: String,
        /// So many hundredths of the budget.
        percent: u8,
        /// The budget in bytes a month.
        bytes: u64,
    },
    /// The state could not be written.
    Unsaved {
        /// What the system says.
        error: String,
    },
    /// A pause ended by itself.
    PauseOver,
    /// A pause ended, and MAST cannot come up.
    PauseStuck {
        /// Why.
        error: String,
    },
    /// Leak protection cannot be had as it was chosen.
    ProtectionRefused {
        /// What the system says.
        error: String,
    },
    /// More happened at once than is kept for a reader: here is a gap.
    Missed {
        /// So many events were left out.
        count: u64,
    },
    /// What this version has no code for; [`Event::reason`] says it.
    #[default]
    #[serde(other)]
    Other,
}

/// Why a socket cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum SocketCause {
    /// Another program has the port.
    InUse,
    /// The service may not.
    NotPermitted,
    /// Anything else.
    #[serde(other)]
    Other,
}

/// Reads a code with its values; what is absent, or of a newer service, is [`Default`].
pub(crate) fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn an_event_travels_with_its_code_its_values_and_its_english() {
        let event = Event {
            from: Some("wifi".into()),
            to: Some("cell".into()),
            from_path: Some(Ends { local: Some("192.0.2.7".into()), remote: "10.9.0.2:6278".into() }),
            ..Event::now("nas", What::Silent)
        };
        let wire = json!(event);
        assert_eq!((&wire["code"], &wire["reason"]), (&json!("silent"), &json!("went silent")));
        assert_eq!(wire["from_path"]["remote"], "10.9.0.2:6278");
        assert_eq!(from_value::<Event>(wire).unwrap(), event);
        let budget = What::Budget { uplink: "network:Train".into(), percent: 80, bytes: 5_000_000_000 };
        let wire = json!(Event::now("", budget.clone()));
        assert_eq!((&wire["percent"], &wire["bytes"]), (&json!(80), &json!(5_000_000_000_u64)));
        assert_eq!(from_value::<Event>(wire).unwrap().what, budget);
    }

    #[test]
    fn codes_of_other_versions_leave_their_english() {
        for code in [json!(null), json!("teleported"), json!("budget")] {
            let event: Event =
                from_value(json!({"time": "", "peer": "nas", "code": code, "reason": "went elsewhere"}))
                    .unwrap();
            assert_eq!((event.what, event.reason.as_str()), (What::Other, "went elsewhere"));
        }
        let older: Event = from_value(json!({"time": "", "peer": "", "reason": "went silent"})).unwrap();
        assert_eq!(older.what, What::Other);
    }
}
