//! What the service told since the last look.

use std::collections::BTreeSet;
use std::sync::Arc;

use mast_control::{Event, Notice, PeerView, Status};

use crate::notify;
use crate::shared::View;

/// With more peers than this, everything is asked for at once.
const FEW: usize = 8;
/// How many events the view keeps, as many as a status shows.
const EVENTS: usize = 50;

/// What the service told.
#[derive(Debug, Default)]
pub struct News {
    /// What happened, in order.
    pub events: Vec<Arc<Event>>,
    /// With which peers.
    pub peers: BTreeSet<String>,
    /// Something else changed.
    pub other: bool,
    /// Something was left out.
    pub gap: bool,
}

impl News {
    /// Takes in a notice.
    pub fn add(&mut self, notice: Notice) {
        match notice {
            Notice::Event(event) => {
                if event.peer.is_empty() {
                    self.other = true;
                } else {
                    self.peers.insert(event.peer.clone());
                }
                self.events.push(event);
            }
            Notice::StatusChanged => self.other = true,
            Notice::Missed(_) => self.gap = true,
        }
    }

    /// Whether asking for everything is right, or cheaper than asking for each peer.
    pub fn is_of_all(&self) -> bool {
        self.other || self.gap || self.peers.len() > FEW
    }
}

impl View {
    /// Takes in what happened. A page that can be seen is given the events; one that cannot reads the story again.
    pub fn take(&mut self, news: &News, visible: bool) {
        if let Some(status) = &mut self.status {
            status.events.extend(news.events.iter().map(|event| Event::clone(event)));
            let old = status.events.len().saturating_sub(EVENTS);
            status.events.drain(..old);
        }
        self.notable.extend(news.events.iter().filter(|e| notify::of_event(e).is_some()).cloned());
        if news.gap || !visible {
            self.story_version += 1;
            self.events.clear();
        } else {
            self.events.extend(news.events.iter().cloned());
        }
    }

    /// Takes in how it stands with one peer. False where that peer is not known yet.
    pub fn replace(&mut self, view: PeerView) -> bool {
        let Some(status) = &mut self.status else { return false };
        let Some(known) = status.peers.iter_mut().find(|peer| peer.name == view.peer.name) else {
            return false;
        };
        *known = view.peer;
        let Status { up, interfaces, .. } = status;
        (*up, *interfaces) = (view.up, view.interfaces);
        true
    }
}

#[cfg(test)]
mod tests {
    use mast_control::{PeerState, What};
    use serde_json::{from_value, json};

    use super::*;

    fn peer(name: &str, state: &str) -> serde_json::Value {
        json!({"name": name, "public_key": "", "state": state, "kind": "mast", "eid": {}, "policy": {"mode": "auto"}})
    }

    fn view() -> View {
        let status = json!({"up": true, "name": "", "version": "", "public_key": "",
            "peers": [peer("nas", "connected"), peer("office", "connected")]});
        View { status: Some(from_value(status).unwrap()), ..View::default() }
    }

    #[test]
    fn an_event_is_shown_with_its_content_and_one_peer_is_asked_for() {
        let (mut view, mut news) = (view(), News::default());
        news.add(Event::now("nas", What::Silent).into());
        assert!(!news.is_of_all() && news.peers.contains("nas"));
        view.take(&news, true);
        assert_eq!((view.events.len(), view.story_version), (1, 0), "the page is given it");
        let answer = json!({"up": true, "peer": peer("nas", "unreachable")});
        assert!(view.replace(from_value(answer).unwrap()));
        let states: Vec<_> = view.status.unwrap().peers.iter().map(|peer| peer.state).collect();
        assert_eq!(states, [PeerState::Unreachable, PeerState::Connected]);
    }

    #[test]
    fn a_gap_or_a_page_that_cannot_be_seen_leads_to_the_whole_story() {
        let mut news = News::default();
        news.add(Event::now("nas", What::Silent).into());
        let mut hidden = view();
        hidden.take(&news, false);
        assert_eq!((hidden.events.len(), hidden.story_version), (0, 1));
        news.add(Notice::Missed(9));
        let mut gap = view();
        gap.take(&news, true);
        assert!(news.is_of_all());
        assert_eq!((gap.events.len(), gap.story_version), (0, 1));
    }

    #[test]
    fn of_many_peers_everything_is_asked_for_and_little_is_kept() {
        let (mut view, mut news) = (view(), News::default());
        for number in 0..10_000 {
            news.add(Event::now(format!("peer{number}"), What::Silent).into());
        }
        assert!(news.is_of_all());
        view.take(&news, true);
        assert_eq!(view.status.unwrap().events.len(), EVENTS);
        let mut other = News::default();
        other.add(Notice::StatusChanged);
        assert!(other.is_of_all());
    }
}
