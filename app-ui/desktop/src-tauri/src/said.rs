//! Sentences for the page, made where all sentences are made: in `mast_control::words`.

use std::collections::BTreeMap;

use mast_control::{Event, Part, Status, words};
use serde::Serialize;

/// Something that happened, with its sentence.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct StoryEvent {
    /// What the service told.
    #[serde(flatten)]
    pub event: Event,
    /// The same in words, without its time and peer.
    pub sentence: String,
}

impl StoryEvent {
    /// An event in words; interfaces are called as `status` knows them.
    pub fn of(event: &Event, status: Option<&Status>) -> Self {
        let sentence = match status {
            Some(status) => words::told(event, status),
            None => words::told(event, &Status::default()),
        };
        Self { event: event.clone(), sentence }
    }
}

/// What is to be said of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct PeerWords {
    /// Its policy.
    pub policy: String,
    /// What each interface has to do with its data now, those that carry first.
    pub uplinks: Vec<UplinkWords>,
    /// What its mode lacks, and the remedy.
    pub missing: Option<String>,
    /// How fit each of its paths is, in their order; empty where a path does not work.
    pub fitness: Vec<String>,
}

/// What an interface has to do with a peer's data now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct UplinkWords {
    /// What people call it.
    pub called: String,
    /// Whether it carries data.
    pub carries: bool,
    /// Why it does not; empty where it does.
    pub why: String,
}

/// What is to be said of every peer, by name.
pub fn of_peers(status: &Status) -> BTreeMap<String, PeerWords> {
    let of = |peer: &mast_control::PeerStatus| {
        let mut uplinks: Vec<_> = peer
            .uplinks
            .iter()
            .map(|uplink| UplinkWords {
                called: words::called(status, &uplink.interface),
                carries: uplink.part == Part::Carries,
                why: words::part(uplink.part).to_owned(),
            })
            .collect();
        uplinks.sort_by_key(|uplink| !uplink.carries);
        PeerWords {
            policy: words::policy(&peer.policy),
            uplinks,
            missing: words::missing(peer, status, "choose ‘Over metered networks, too’"),
            fitness: peer.paths.iter().map(|path| words::fitness(path, status)).collect(),
        }
    };
    status.peers.iter().map(|peer| (peer.name.clone(), of(peer))).collect()
}
