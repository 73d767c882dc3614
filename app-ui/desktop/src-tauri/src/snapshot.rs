//! Everything that the page shows, at one moment.

use std::collections::BTreeMap;

use mast_control::Status;
use mast_control::words::Now;
use serde::Serialize;

use crate::link::Service;
use crate::now;
use crate::panel;
use crate::portal;
use crate::said::{self, PeerWords, StoryEvent};
use crate::secrets;
use crate::shared::{Shared, View};
use crate::throughput::Throughput;

/// What the page renders.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Snapshot {
    /// How the app stands with the service.
    pub service: Service,
    /// How things are, in a sentence.
    pub now: Now,
    /// The last status that may be believed.
    pub status: Option<Status>,
    /// What is to be said of each peer, by name.
    pub words: BTreeMap<String, PeerWords>,
    /// What happened last.
    pub last: Option<StoryEvent>,
    /// Bytes a second, by interface.
    pub throughput: BTreeMap<String, Throughput>,
    /// The app's own settings.
    pub settings: AppSettings,
    /// Grows when the story must be read again; what happens comes as `events`.
    pub story_version: u64,
}

/// The app's own settings, as the page wants them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct AppSettings {
    /// `system`, `light` or `dark`.
    pub theme: String,
    /// Whether the app starts with the session.
    pub start_at_login: bool,
    /// Whether to tell of what happens.
    pub notifications: bool,
    /// The tray icon.
    pub tray: panel::Tray,
    /// The key store.
    pub key_store: secrets::Store,
    /// This app's version.
    pub version: &'static str,
}

impl Snapshot {
    /// Everything as it is now.
    pub fn of(shared: &Shared, start_at_login: bool) -> Self {
        // The events are not for the snapshot: they are given out once.
        let mut view = {
            let view = shared.view();
            View { events: Vec::new(), notable: Vec::new(), ..view.clone() }
        };
        view.events.clear();
        let settings = shared.settings();
        let settings = AppSettings {
            theme: settings.theme,
            start_at_login,
            notifications: settings.notifications,
            key_store: secrets::store(),
            tray: view.panel.place.into(),
            version: env!("CARGO_PKG_VERSION"),
        };
        Self::made(view, shared.meters().shown(), settings)
    }

    /// What the page renders of what is known.
    pub fn made(mut view: View, throughput: BTreeMap<String, Throughput>, settings: AppSettings) -> Self {
        if let Some(status) = &mut view.status {
            portal::tell(status, view.portal.as_ref());
            // They grow all the time, and matter only when nothing is heard.
            for peer in status.peers.iter_mut().filter(|p| p.state.answers()) {
                peer.last_heard_ms = None;
                peer.paths.iter_mut().for_each(|path| path.answered_ms = None);
            }
        }
        let status = view.status.as_ref();
        Self {
            now: now::of(&view.service, status),
            words: status.map(said::of_peers).unwrap_or_default(),
            last: status.and_then(|s| Some(StoryEvent::of(s.events.last()?, status))),
            service: view.service,
            status: view.status,
            throughput,
            settings,
            story_version: view.story_version,
        }
    }

    /// The snapshot as text, but for the times of checks, which go on while nothing changes.
    pub fn without_times(&self) -> String {
        fn strip(value: &mut serde_json::Value) {
            match value {
                serde_json::Value::Array(items) => items.iter_mut().for_each(strip),
                serde_json::Value::Object(fields) => {
                    fields.remove("checked");
                    fields.values_mut().for_each(strip);
                }
                _ => {}
            }
        }
        let mut value = serde_json::to_value(self).unwrap_or_default();
        strip(&mut value);
        value.to_string()
    }
}
