//! Which paths and interfaces take part in carrying data now, and why others do not.

use serde::{Deserialize, Serialize};

use crate::status::{InterfaceStatus, PathStatus};

/// Whether a path or an interface takes part in carrying data now, or why it does not. The first reason that holds
/// counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum Part {
    /// It carries data: all of it, a copy, or a share.
    Carries,
    /// The user said never to use it.
    Excluded,
    /// It has no link, or no address.
    Unusable,
    /// No path leads over it.
    NoPath,
    /// A drill keeps it silent.
    Drill,
    /// The policy does not allow it.
    Policy,
    /// The peer asked not to use it.
    PeerRefuses,
    /// It was not tried yet, or is being tried for the first time.
    Untried,
    /// It does not answer.
    Silent,
    /// It loses or delays too much.
    Unfit,
    /// It stands later in the order.
    Order,
    /// The peer wishes for another first.
    PeerWish,
    /// One of the ends pays for it.
    Metered,
    /// It is strained.
    Strained,
    /// It works over links that carry data already.
    Alike,
    /// It is slower.
    Slower,
    /// Nothing is wrong with it: it stands by.
    Spare,
    /// What this version has no word for.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Part {
    /// The part that a word names.
    pub fn of(word: &str) -> Self {
        serde_json::from_value(word.into()).unwrap_or_default()
    }
}

/// What an interface has to do with the data of a peer now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct UplinkPart {
    /// The interface.
    pub interface: String,
    /// Its part.
    pub part: Part,
}

/// What each interface has to do with the data that goes over these paths: of several paths over one, what the best
/// says.
pub fn of_uplinks(interfaces: &[InterfaceStatus], paths: &[PathStatus]) -> Vec<UplinkPart> {
    let part = |interface: &InterfaceStatus| {
        let over = paths.iter().filter(|p| p.interface == interface.name).map(|p| p.part);
        match over.max_by_key(|part| rank(*part)) {
            Some(Part::Carries) => Part::Carries,
            _ if interface.excluded => Part::Excluded,
            _ if !interface.usable => Part::Unusable,
            Some(part) => part,
            None => Part::NoPath,
        }
    };
    interfaces.iter().map(|i| UplinkPart { interface: i.name.clone(), part: part(i) }).collect()
}

/// How near a path is to carrying data.
fn rank(part: Part) -> u8 {
    match part {
        Part::Carries => 5,
        Part::Spare | Part::Slower | Part::Strained | Part::Metered | Part::PeerWish | Part::Order => 4,
        Part::Alike | Part::Unfit => 3,
        Part::Silent => 2,
        Part::Untried => 1,
        _ => 0,
    }
}
