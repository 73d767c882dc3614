//! What the parts of the running service share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mast_control::{Event, Notice};
use mast_engine::EngineHandle;
use mast_engine::api::{Change, Happening, InterfaceTraffic, PlainPeer, PublicKey};
use mast_engine::os::Family;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast, mpsc};

use crate::chronicle::Chronicle;
use crate::convert;
use crate::history::Samples;
use crate::key::Holder;
use crate::store::Store;
use crate::usage::{self, Meter};

/// How many notices a slow user interface may lag behind.
const NOTICES: usize = 256;
/// How many events a status shows.
pub(crate) const EVENTS: usize = 50;

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
    /// The private key and its place.
    pub key: tokio::sync::Mutex<Holder>,
    /// Peers changed: there may be names to be looked up.
    pub look_up: Notify,
    store: Mutex<Store>,
    /// A pause began, or was ended by hand.
    pub pause_changed: Notify,
    notices: broadcast::Sender<Notice>,
    chronicle: Mutex<Chronicle>,
    samples: Mutex<Samples>,
    meter: Mutex<Meter>,
    /// Why the state could not be saved the last time.
    unsaved: Mutex<Option<String>>,
    /// The state is saved by one at a time: what was read from memory first must not be written last.
    saving: Arc<tokio::sync::Mutex<()>>,
    /// Leak protection is changed by one at a time: what was found out first must not be applied last.
    guarding: tokio::sync::Mutex<()>,
}

impl Daemon {
    pub fn new(engine: EngineHandle, store: Store, facts: Facts, key: Holder) -> Arc<Self> {
        let chronicle = Chronicle::open(store.dir().path());
        Arc::new(Self {
            engine,
            facts,
            key: tokio::sync::Mutex::new(key),
            look_up: Notify::new(),
            store: Mutex::new(store),
            notices: broadcast::Sender::new(NOTICES),
            pause_changed: Notify::new(),
            chronicle: Mutex::new(chronicle),
            samples: Mutex::default(),
            meter: Mutex::default(),
            unsaved: Mutex::default(),
            saving: Arc::default(),
            guarding: tokio::sync::Mutex::default(),
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

    /// What a status says is no longer the same.
    pub fn status_changed(&self) {
        self.tell(Notice::StatusChanged);
    }

    fn tell(&self, notice: Notice) {
        // Nobody listens: that is fine.
        let _ = self.notices.send(notice);
    }

    /// Tells the user something that is no business of the engine.
    pub fn note(&self, peer: &str, reason: impl Into<String>) {
        let event = Event::now(peer, reason);
        tracing::info!(peer = event.peer, reason = event.reason, "noted");
        self.remember(event);
    }

    fn remember(&self, event: Event) {
        self.chronicle().push(event.clone());
        self.tell(Notice::Event(event));
    }

    fn chronicle(&self) -> MutexGuard<'_, Chronicle> {
        self.chronicle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Round trips of the last hour.
    pub fn samples(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds in what the interfaces carried, and tells of budgets. True when there is something new to save.
    pub fn fold(&self, traffic: Vec<InterfaceTraffic>) -> bool {
        let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        let warnings = self.store().accounts.fold(&mut meter, traffic, &usage::month());
        for warning in warnings {
            self.note("", warning);
        }
        true
    }

    /// The last events, oldest first.
    pub fn events(&self, limit: usize) -> Vec<Event> {
        self.chronicle().last(limit)
    }

    /// What is known of plain WireGuard peers.
    pub fn plain_peers(&self) -> BTreeMap<PublicKey, PlainPeer> {
        let peers = self.store().peers();
        peers.into_iter().filter_map(|p| Some((p.public_key, p.plain?))).collect()
    }

    /// Has leak protection be as the user wants it and as the peers are now.
    ///
    /// # Errors
    /// In words, when the system refuses; then it is as it was.
    pub async fn guard(&self) -> Result<(), String> {
        let _guarding = self.guarding.lock().await;
        let snapshot = self.engine.snapshot().await.map_err(|error| error.to_string())?;
        let full = snapshot.up && snapshot.peers.iter().any(|p| p.full_tunnel == Some(true));
        let on = full && self.store().leak_protection();
        // Both versions of IP, also where the tunnel is for one only: the other would be a way around it.
        let families: &[Family] = if on { &[Family::V4, Family::V6] } else { &[] };
        match tokio::task::spawn_blocking(move || mast_platform::guard(families)).await {
            Ok(Ok(changed)) => {
                if changed {
                    tracing::info!(on, "leak protection");
                }
                Ok(())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
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
                    let mut event = convert::event(happening);
                    if event.from.is_some() && event.to.is_some() {
                        event.sessions = self.sessions(&event.peer).await;
                    }
                    self.remember(event);
                    self.tell(Notice::StatusChanged);
                }
                Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "events were not passed on"),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// How many sessions of this host go to a peer now; none where there are none, or nobody knows.
    async fn sessions(&self, peer: &str) -> Option<u64> {
        let snapshot = self.engine.snapshot().await.ok()?;
        let peer = snapshot.peers.into_iter().find(|p| p.name == peer)?;
        let (local, remote): (Vec<IpAddr>, Vec<IpAddr>) = match self.plain_peers().remove(&peer.public_key) {
            // It may lead anywhere.
            Some(plain) => (plain.addresses.iter().map(|a| a.address).collect(), Vec::new()),
            None => {
                let v4 = peer.eid_v4.map(|pair| IpAddr::from(pair.other));
                let v6 = peer.eid_v6.map(|(_, other)| IpAddr::from(other));
                (Vec::new(), v4.into_iter().chain(v6).collect())
            }
        };
        // The tables of a host with many sockets take a while.
        let count =
            tokio::task::spawn_blocking(move || mast_platform::sessions(&local, &remote)).await.ok()?;
        u64::try_from(count).ok().filter(|n| *n > 0)
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
        let turn = Arc::clone(&self.saving).lock_owned().await;
        let unsaved = self.store().unsaved();
        let page = self.chronicle().unwritten();
        // Waiting for the disk must not hold up datagrams.
        let written = tokio::task::spawn_blocking(move || {
            let told = page.map_or(Ok(()), |page| page.write());
            let (saved, result) = unsaved.write();
            // The turn ends with the writing, even when whoever asked for it is gone.
            (turn, saved, result.map_err(|e| e.to_string()).and(told.map_err(|e| format!("the story: {e}"))))
        });
        let written = written.await;
        let result = match written {
            Ok((_turn, saved, result)) => {
                self.store().saved(saved);
                result
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
