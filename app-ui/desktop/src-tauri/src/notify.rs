//! Which changes are worth a notification: few.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mast_control::words::{self, Light, Now};
use mast_control::{Event, Layer, Status, What};

/// One of a kind at most in this time.
const RATE: Duration = Duration::from_secs(60);
/// What does not last this long is not told.
const SETTLE: Duration = Duration::from_secs(5);

/// What an event is worth telling for by itself, whatever else goes on: a budget, of which the service tells once at
/// each step of a month.
pub fn of_event(event: &Event) -> Option<Told> {
    let What::Budget { percent, .. } = event.what else { return None };
    let title = if percent >= 100 { "A budget is used up" } else { "A budget is nearly used up" };
    let mut body = words::reason(&event.what);
    if let Some(first) = body.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let more = if percent >= 100 { " Nothing that still works is left for it now." } else { "" };
    Some(Told { title: title.into(), body: format!("{body}.{more}") })
}

/// A notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What happened.
    pub title: String,
    /// What it means.
    pub body: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// A peer answers.
    Well,
    /// No peer does, over no path.
    Lost,
    /// The network wants a login.
    Portal,
}

/// Judges each state as it comes.
#[derive(Debug, Default)]
pub struct Judge {
    /// What was last told, or found at the start.
    settled: Option<Kind>,
    /// What it seems to be now, and since when.
    pending: Option<(Kind, Instant)>,
    last: BTreeMap<Kind, Instant>,
}

impl Judge {
    /// When [`Judge::take`] shall be called again even if nothing changes.
    pub fn due(&self) -> Option<Instant> {
        self.pending.map(|(_, since)| since + SETTLE)
    }

    /// Takes in how things are; what is to be told now.
    pub fn take(&mut self, now: Instant, state: &Now, status: Option<&Status>) -> Vec<Told> {
        let Some(kind) = kind(state, status) else {
            // Switched off, or nothing to be said: what comes then is no news but its own.
            self.pending = None;
            if matches!(state.light, Light::Off | Light::Paused) {
                self.settled = None;
            }
            return Vec::new();
        };
        if self.settled.is_none() {
            self.settled = Some(kind);
            // At the start only bad news is news.
            if kind != Kind::Portal {
                return Vec::new();
            }
            self.settled = Some(Kind::Well);
        }
        if self.settled == Some(kind) {
            self.pending = None;
            return Vec::new();
        }
        let since = match self.pending {
            Some((pending, since)) if pending == kind => since,
            _ => {
                self.pending = Some((kind, now));
                now
            }
        };
        if now < since + SETTLE {
            return Vec::new();
        }
        self.pending = None;
        self.settled = Some(kind);
        if self.last.get(&kind).is_some_and(|at| now < *at + RATE) {
            return Vec::new();
        }
        self.last.insert(kind, now);
        let title = match kind {
            Kind::Well => "Connected again",
            Kind::Lost => "Nothing gets through",
            Kind::Portal => "This network wants a login",
        };
        let body = format!("{} {}", state.sentence, state.detail);
        vec![Told { title: title.into(), body: body.trim().into() }]
    }
}

fn kind(state: &Now, status: Option<&Status>) -> Option<Kind> {
    status.filter(|s| !s.peers.is_empty())?;
    match (state.light, state.layer) {
        (Light::Good | Light::Partial, _) => Some(Kind::Well),
        (Light::Bad, Some(Layer::Portal)) => Some(Kind::Portal),
        (Light::Bad, Some(Layer::Service)) => None,
        (Light::Bad, _) => Some(Kind::Lost),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn status() -> Status {
        from_value(json!({"up": true, "name": "", "version": "", "public_key": "", "peers": [{
            "name": "nas", "public_key": "", "state": "connected", "kind": "mast", "eid": {},
            "policy": {"mode": "auto"}}]}))
        .unwrap()
    }

    fn now(light: Light, layer: Option<Layer>) -> Now {
        Now { light, layer, sentence: "So.".into(), detail: String::new() }
    }

    struct Story(Judge, Instant);

    impl Story {
        /// What is told when things are like this for so many seconds.
        fn lasts(&mut self, seconds: u64, state: &Now) -> Vec<String> {
            let mut told = Vec::new();
            for _ in 0..seconds * 10 {
                told.extend(self.0.take(self.1, state, Some(&status())).into_iter().map(|t| t.title));
                self.1 += Duration::from_millis(100);
            }
            told
        }
    }

    #[test]
    fn loss_and_return_are_told_once_and_a_flap_is_not() {
        let (good, bad) = (now(Light::Good, None), now(Light::Bad, Some(Layer::Peer)));
        let mut story = Story(Judge::default(), Instant::now());
        assert!(story.lasts(20, &good).is_empty(), "to be well is no news");
        assert!(story.lasts(4, &bad).is_empty(), "a tunnel under a bridge");
        assert!(story.lasts(20, &good).is_empty());
        assert_eq!(story.lasts(30, &bad), ["Nothing gets through"]);
        assert_eq!(story.lasts(30, &good), ["Connected again"]);
        // Again within the minute: nobody wants to hear it.
        assert!(story.lasts(4, &bad).is_empty());
        assert!(story.lasts(10, &good).is_empty());
        assert_eq!(story.lasts(100, &bad).len(), 1);
    }

    #[test]
    fn a_budget_is_told_in_words_and_nothing_else_of_the_story_is() {
        let told = |percent| {
            let what = What::Budget { uplink: "network:Telco".into(), percent, bytes: 5_000_000_000 };
            of_event(&Event::now("", what)).unwrap()
        };
        assert_eq!(told(80).body, "Telco has carried 80 % of this month's 5.0 GB.");
        assert_eq!(told(100).title, "A budget is used up");
        assert!(of_event(&Event::now("nas", What::Silent)).is_none());
    }

    #[test]
    fn a_portal_is_told_even_at_the_start_and_switching_off_is_not() {
        let portal = now(Light::Bad, Some(Layer::Portal));
        let mut story = Story(Judge::default(), Instant::now());
        assert_eq!(story.lasts(10, &portal), ["This network wants a login"]);
        assert!(story.lasts(10, &now(Light::Off, None)).is_empty());
        assert!(story.lasts(10, &now(Light::Good, None)).is_empty());
        assert!(story.lasts(10, &now(Light::Bad, Some(Layer::Service))).is_empty());
    }
}
