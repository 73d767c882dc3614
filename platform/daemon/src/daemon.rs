//! What the parts of the running service share.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mast_control::{Event, Notice};
use mast_engine::EngineHandle;
use mast_engine::api::{Change, Happening, PlainPeer, PublicKey};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast, mpsc};

use crate::convert;
use crate::store::{Store, StoreError};

/// How many notices a slow user interface may lag behind.
const NOTICES: usize = 256;
/// How many of the service's own events are remembered, and how many of all events are shown.
const EVENTS: usize = 50;

/// What doctor and messages need to know of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub config: PathBuf,
    pub interface: String,
    pub port: u16,
}

/// The running service.
pub(crate) struct Daemon {
    pub engine: EngineHandle,
    pub facts: Facts,
    /// Peers changed: there may be names to be looked up.
    pub look_up: Notify,
    store: Mutex<Store>,
    notices: broadcast::Sender<Notice>,
    notes: Mutex<VecDeque<Event>>,
    /// Why the state could not be saved the last time.
    unsaved: Mutex<Option<String>>,
}

impl Daemon {
    pub fn new(engine: EngineHandle, store: Store, facts: Facts) -> Arc<Self> {
        Arc::new(Self {
            engine,
            facts,
            look_up: Notify::new(),
            store: Mutex::new(store),
            notices: broadcast::Sender::new(NOTICES),
            notes: Mutex::default(),
            unsaved: Mutex::default(),
        })
    }

    /// The state. Never held while waiting for anything.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is new from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    fn tell(&self, notice: Notice) {
        // Nobody listens: that is fine.
        let _ = self.notices.send(notice);
    }

    /// Tells the user something that is no business of the engine.
    pub fn note(&self, peer: &str, reason: impl Into<String>) {
        let event = Event::now(peer, reason);
        tracing::info!(peer = event.peer, reason = event.reason, "noted");
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() >= EVENTS {
            notes.pop_front();
        }
        notes.push_back(event.clone());
        drop(notes);
        self.tell(Notice::Event(event));
    }

    /// The last events of the engine and of the service, oldest first.
    pub fn events(&self, happenings: Vec<Happening>) -> Vec<Event> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut events: Vec<_> = happenings.into_iter().map(convert::event).chain(notes).collect();
        // Equally written times compare as text; a fraction that is left out sorts a moment too late, no more.
        events.sort_by(|a, b| a.time.cmp(&b.time));
        let surplus = events.len().saturating_sub(EVENTS);
        events.split_off(surplus)
    }

    /// What is known of plain WireGuard peers.
    pub fn plain_peers(&self) -> BTreeMap<PublicKey, PlainPeer> {
        let peers = self.store().peers();
        peers.into_iter().filter_map(|p| Some((p.public_key, p.plain?))).collect()
    }

    /// Why the state could not be saved, if so.
    pub fn unsaved(&self) -> Option<String> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Passes on what happens, until the engine ends.
    pub async fn pass_on(&self, mut happenings: broadcast::Receiver<Happening>) {
        loop {
            match happenings.recv().await {
                Ok(happening) => {
                    self.tell(Notice::Event(convert::event(happening)));
                    self.tell(Notice::StatusChanged);
                }
                Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "events were not passed on"),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Keeps what must outlive a restart, until the engine ends.
    pub async fn keep(&self, changes: &mut mpsc::UnboundedReceiver<Change>) {
        while let Some(change) = changes.recv().await {
            self.store().apply(change);
            while let Ok(change) = changes.try_recv() {
                self.store().apply(change);
            }
            self.tell(Notice::StatusChanged);
            self.look_up.notify_one();
            self.save().await;
        }
    }

    /// Saves the state. A failure is told once, and doctor tells of it until it is mended.
    pub async fn save(&self) {
        let unsaved = self.store().unsaved();
        // Waiting for the disk must not hold up datagrams.
        let written = tokio::task::spawn_blocking(|| unsaved.write()).await;
        let result = match written {
            Ok((saved, result)) => {
                self.store().saved(saved);
                result.map_err(|error: StoreError| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        let failure = result.err();
        let before = std::mem::replace(
            &mut *self.unsaved.lock().unwrap_or_else(PoisonError::into_inner),
            failure.clone(),
        );
        if let Some(failure) = failure.filter(|f| before.as_ref() != Some(f)) {
            tracing::error!(error = failure, "the state could not be saved");
            self.note("", format!("the state could not be saved: {failure}"));
        }
    }
}
