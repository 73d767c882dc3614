//! What the parts of the running service share.

use std::future::poll_fn;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mast_control::{Event, Notice, Notices, What};
use mast_engine::api::{Change, Happening, InterfaceTraffic, InviteId};
use mast_engine::surroundings::Surroundings;
use mast_engine::{EngineHandle, Heard, Reader, Tidings};
use mast_platform::Native;
use tokio::sync::{Notify, mpsc};
use zeroize::Zeroizing;

use crate::chronicle::Chronicle;
use crate::convert;
use crate::doctor::Latest;
use crate::history::Samples;
use crate::keeper::{Keeper, PATIENCE};
use crate::key::Holder;
use crate::nat64::Prefixes;
use crate::peer_relays::Shown;
use crate::relays::Health;
use crate::rendezvous;
use crate::store::Store;
use crate::usage::{self, Meter};

/// How many notices may wait for a slow user interface: one for each of 10,000 peers, with room.
const NOTICES: usize = 16_384;
/// What happened is passed on in batches of at most so many, between which others have their turn.
const BATCH: usize = 1024;
/// Sessions are counted for so many moves of a batch at most: it means reading the system's tables, and nobody reads
/// the sessions of thousands of moves.
const COUNTED: usize = 8;
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
    /// What finds peers that move.
    pub rendezvous: rendezvous::Shared,
    store: Mutex<Store>,
    /// A pause began, or was ended by hand.
    pub pause_changed: Notify,
    /// When the pause that was asked of this process ends, by a clock that nobody sets.
    pub pause_ends: std::sync::Mutex<Option<std::time::Instant>>,
    notices: Tidings<Notice>,
    chronicle: Mutex<Chronicle>,
    samples: Mutex<Samples>,
    meter: Mutex<Meter>,
    /// What the engine changed and nobody has taken note of.
    changes: Mutex<mpsc::UnboundedReceiver<Change>>,
    /// Puts the state on the disk.
    pub keeper: Keeper,
    /// Why the state is not on the disk, as the user was told.
    unsaved: Mutex<Option<String>>,
    /// Invites that were used, and who used them does not know.
    used_invites: Mutex<Vec<InviteId>>,
    /// How IPv4 is reached over uplinks that have IPv6 alone.
    pub nat64: Prefixes,
    /// How relays fare.
    pub relays: Health,
    /// Which peers are relays.
    pub peer_relays: Shown,
    /// What the doctor found for those who may not change things.
    pub latest_report: Latest,
}

/// What a service begins with.
pub(crate) struct Beginning {
    pub engine: EngineHandle,
    pub changes: mpsc::UnboundedReceiver<Change>,
    pub store: Store,
    pub chronicle: Chronicle,
    pub facts: Facts,
    pub key: Holder,
    /// A private key that is not on the disk yet.
    pub unkept: Option<Zeroizing<[u8; 32]>>,
}

impl Daemon {
    pub fn new(beginning: Beginning) -> Arc<Self> {
        let Beginning { engine, changes, store, chronicle, facts, key, unkept } = beginning;
        Arc::new(Self {
            engine,
            facts,
            key: tokio::sync::Mutex::new(key),
            look_up: Notify::new(),
            rendezvous: rendezvous::Shared::default(),
            store: Mutex::new(store),
            notices: Tidings::new(NOTICES),
            pause_changed: Notify::new(),
            pause_ends: std::sync::Mutex::new(None),
            chronicle: Mutex::new(chronicle),
            samples: Mutex::default(),
            meter: Mutex::default(),
            changes: Mutex::new(changes),
            keeper: Keeper::new(unkept),
            unsaved: Mutex::default(),
            used_invites: Mutex::default(),
            nat64: Prefixes::default(),
            relays: Health::default(),
            peer_relays: Shown::default(),
            latest_report: Latest::default(),
        })
    }

    /// The state. Never held while waiting for anything.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is new from now on.
    pub fn subscribe(&self) -> Subscription {
        Subscription::new(&self.notices)
    }

    /// What a status says is no longer the same, for another reason than an event.
    pub fn status_changed(&self) {
        self.notices.tell_once(&Notice::StatusChanged);
    }

    /// Tells the user something that is no business of the engine.
    pub fn note(&self, peer: &str, what: What) {
        self.note_event(Event::now(peer, what));
    }

    /// Tells the user something for which there is no code.
    pub fn note_text(&self, peer: &str, text: impl Into<String>) {
        self.note_event(Event::told(peer, text));
    }

    fn note_event(&self, event: Event) {
        tracing::info!(peer = event.peer, reason = event.reason, "noted");
        self.remember(event);
    }

    fn remember(&self, event: Event) {
        self.chronicle().push(event.clone());
        self.notices.tell(&event.into());
    }

    pub(crate) fn chronicle(&self) -> MutexGuard<'_, Chronicle> {
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

    /// Tells the engine which uplinks have carried all of their budgets: nothing that works is left for them.
    pub async fn tell_spent(&self) {
        let spent = self.store().accounts.spent(&usage::month());
        // It fails only where the engine has ended.
        let _ = self.engine.spend(spent).await;
    }

    /// The last events, oldest first.
    pub fn events(&self, limit: usize) -> Vec<Event> {
        self.chronicle().last(limit)
    }

    /// Has the host be as the user wants it and as the peers are now, leak protection above all.
    ///
    /// # Errors
    /// In words, when the system refuses leak protection.
    pub async fn guard(&self) -> Result<(), String> {
        let (on, local_network) = {
            let store = self.store();
            (store.leak_protection(), store.local_network())
        };
        self.engine.protect(on, local_network).await.map_err(|error| error.to_string())
    }

    /// Why something that changed is not on the disk, if so.
    pub fn unsaved(&self) -> Option<String> {
        self.keeper.failure()
    }

    /// Notes what the user is told of the disk, and returns what was told before.
    pub(crate) fn told_unsaved(&self, failure: Option<&str>) -> Option<String> {
        let mut told = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *told, failure.map(str::to_owned))
    }

    /// Passes on what happens, until the engine ends.
    pub async fn pass_on(&self, mut happenings: Reader<Happening>) {
        while let Some(first) = happenings.next().await {
            let rest = std::iter::from_fn(|| happenings.try_next());
            let mut events: Vec<Event> =
                std::iter::once(first).chain(rest).take(BATCH).map(event_of).collect();
            if events.iter().filter(|event| event.is_move()).count() <= COUNTED {
                for event in events.iter_mut().filter(|event| event.is_move()) {
                    event.sessions = self.sessions(&event.peer).await;
                }
            }
            for event in events {
                self.remember(event);
            }
            tokio::task::yield_now().await;
        }
    }

    /// How many sessions of this host go to a peer now; none where there are none, or nobody knows.
    async fn sessions(&self, peer: &str) -> Option<u64> {
        let peer = self.engine.peer(peer).await.ok()?;
        let (local, remote): (Vec<IpAddr>, Vec<IpAddr>) = match peer.plain {
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
            tokio::task::spawn_blocking(move || Native::default().sessions(&local, &remote)).await.ok()?;
        u64::try_from(count).ok().filter(|n| *n > 0)
    }

    fn changes(&self) -> MutexGuard<'_, mpsc::UnboundedReceiver<Change>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what the engine changed until now. Whatever it answered to was changed before.
    pub fn take_changes(&self, first: Option<Change>) {
        let mut any = false;
        let mut next = first.or_else(|| self.changes().try_recv().ok());
        while let Some(change) = next {
            if let Change::InviteUsed(id) = change {
                self.used_invites().push(id);
            }
            self.store().apply(change);
            any = true;
            next = self.changes().try_recv().ok();
        }
        if any {
            self.status_changed();
            self.look_up.notify_one();
            self.rendezvous.changed.notify_one();
        }
    }

    fn used_invites(&self) -> MutexGuard<'_, Vec<InviteId>> {
        self.used_invites.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has those be told who used an invite that no restart lets be used again.
    pub async fn settle_invites(&self) {
        let settled: Vec<InviteId> = {
            let store = self.store();
            self.used_invites().extract_if(.., |id| store.is_used_up(*id)).collect()
        };
        for id in settled {
            // It fails only where the engine has ended.
            let _ = self.engine.invite_kept(id).await;
        }
    }

    /// Keeps what must outlive a restart, until the engine ends.
    pub async fn keep(&self) {
        while let Some(change) = poll_fn(|context| self.changes().poll_recv(context)).await {
            self.take_changes(Some(change));
            self.keeper.ask();
            // What never was on the disk need not be there.
            self.settle_invites().await;
        }
        self.store().fold();
        // Told where it matters; the service ends.
        let _ = self.save(PATIENCE).await;
    }
}

/// What happened, or the mark of a gap.
fn event_of(heard: Heard<Happening>) -> Event {
    match heard {
        Heard::Told(happening) => convert::event(happening),
        Heard::Missed(count) => {
            tracing::warn!(count, "events were not passed on");
            Event::now("", What::Missed { count })
        }
    }
}

/// What a user interface is told.
pub(crate) struct Subscription(Reader<Notice>);

impl Subscription {
    /// Reads what is told from now on.
    pub fn new(notices: &Tidings<Notice>) -> Self {
        Self(notices.subscribe())
    }
}

impl Notices for Subscription {
    async fn next(&mut self) -> Option<Notice> {
        Some(match self.0.next().await? {
            Heard::Told(notice) => notice,
            Heard::Missed(count) => Notice::Missed(count),
        })
    }
}
