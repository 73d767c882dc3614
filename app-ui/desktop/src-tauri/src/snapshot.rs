//! Everything that the page shows, at one moment.

use std::collections::BTreeMap;

use mast_control::words::Now;
use mast_control::{PeerState, Status};
use serde::Serialize;

use crate::link::Service;
use crate::now;
use crate::portal;
use crate::secrets;
use crate::shared::{Shared, View};
use crate::throughput::Throughput;

/// What the page renders.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// How the app stands with the service.
    pub service: Service,
    /// How things are, in a sentence.
    pub now: Now,
    /// The last status that may be believed.
    pub status: Option<Status>,
    /// Bytes a second, by interface.
    pub throughput: BTreeMap<String, Throughput>,
    /// The app's own settings.
    pub settings: AppSettings,
    /// Grows when the story must be read again; what happens comes as `events`.
    pub story_version: u64,
}

/// The app's own settings, as the page wants them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AppSettings {
    /// `system`, `light` or `dark`.
    pub theme: String,
    /// A language of the page.
    pub language: String,
    /// Whether the app starts with the session.
    pub start_at_login: bool,
    /// Whether to tell of what happens.
    pub notifications: bool,
    /// The key store.
    pub key_store: secrets::Store,
    /// Whether a presence password is kept.
    pub presence: bool,
    /// This app's version.
    pub version: &'static str,
}

impl Snapshot {
    /// Everything as it is now.
    pub fn of(shared: &Shared, start_at_login: bool) -> Self {
        // The events are not for the snapshot: they are given out once.
        let mut view = {
            let view = shared.view();
            View { events: Vec::new(), ..view.clone() }
        };
        if let Some(status) = &mut view.status {
            portal::tell(status, view.portal);
            // Grows all the time, and matters only when nothing is heard.
            for peer in status.peers.iter_mut().filter(|p| p.state.answers()) {
                peer.last_heard_ms = None;
            }
        }
        let settings = shared.settings();
        Self {
            now: now::of(&view.service, view.status.as_ref()),
            service: view.service,
            status: view.status,
            throughput: shared.meters().shown(),
            settings: AppSettings {
                theme: settings.theme,
                language: settings.language,
                start_at_login,
                notifications: settings.notifications,
                key_store: secrets::store(),
                presence: settings.presence,
                version: env!("CARGO_PKG_VERSION"),
            },
            story_version: view.story_version,
        }
    }
}
