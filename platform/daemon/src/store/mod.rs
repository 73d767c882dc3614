//! What a restart must find again, kept in the state directory.
//!
//! `peers.json` with its journal, `invites.json` and `settings.json` hold what was changed through the control API
//! and what was learned; the private key is `mast_state`'s business. The configuration file comes first: a peer that stands
//! there is taken from there, and the state only adds what was learned of it. A policy that was set by command
//! counts until the configuration file's own policy is changed.

mod book;
mod disk;
mod format;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mast_control::layers::NameFact;
use mast_control::{AtStart, timestamp};
use mast_engine::api::{
    AddressSource, Change, InterfaceChoice, InviteId, InviteRecord, PeerConfig, PublicKey,
};
use mast_engine::declared::Guard;
use mast_proto::Policy;
use mast_state::{Secret, StateDir, StateError, fingerprint};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::usage::Accounts;
use book::Book;
use disk::{Disk, PeersToWrite, Sizes};
pub use disk::{Saved, Unsaved};
pub(crate) use format::StoredAccount;
use format::{
    Invites, Peers, Presence, Protection, Settings, StateFile, StoredChoice, StoredDisclosure, StoredInvite,
    StoredPeer, StoredPolicy, VERSION,
};

/// A peer that was removed leaves the disk, with its keys, when the file of peers is written anew: after so long at
/// the latest, and sooner where that was not done lately.
const REMOVED: Duration = Duration::from_secs(60);

/// Why the state cannot be used. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or a file cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// A file holds something else than it should.
    #[error(
        "the state file {0} is damaged: {why}\n  It holds {content}.\n  Restore it from a backup; or, to go on \
         without it: mv {0} {0}.damaged",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
        /// What it is for.
        content: &'static str,
    },
    /// A file was written by a later version.
    #[error(
        "the state file {} is of version {version}, and this mastd knows versions up to {VERSION}: \
         install the newer mastd again",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Cannot happen: what is kept has a text.
    #[error("the peers cannot be written as text: report this")]
    Text,
    /// A peer of the configuration is called like one of the state.
    #[error(
        "two peers are called `{name}`: one of the configuration file, and one that was added by command\n  \
         Rename the one in the configuration file"
    )]
    Name {
        /// The name.
        name: String,
    },
}

/// What the last run left word of that is to be held back. A file that cannot be read says nothing; the settings are read
/// next.
pub(crate) fn kept_guard(directory: &Path) -> Option<Guard> {
    let text = std::fs::read(directory.join(Protection::NAME)).ok()?;
    let kept: Protection = serde_json::from_slice(&text).ok()?;
    kept.guard()
}

/// What the configuration file says of a peer.
#[derive(Debug, Clone)]
struct Configured {
    policy: Option<StoredPolicy>,
    disclosure: Option<StoredDisclosure>,
}

/// The state, in memory and in files.
#[derive(Debug)]
pub struct Store {
    disk: Arc<Disk>,
    peers: Book,
    /// Fields of the file of peers that this version does not know.
    peers_extra: serde_json::Map<String, serde_json::Value>,
    /// How large the files of peers are.
    sizes: Sizes,
    /// The file of peers shall be written anew.
    fold: bool,
    /// When it was.
    folded: Option<Instant>,
    /// A peer was removed since.
    removed: bool,
    /// What was last taken to be written.
    number: u64,
    invites: Invites,
    settings: Settings,
    presence: Presence,
    /// What the uplinks carried.
    pub(crate) accounts: Accounts,
    /// The peers of the configuration file.
    configured: BTreeMap<PublicKey, Configured>,
    /// The default policy of the configuration file.
    configured_policy: Option<StoredPolicy>,
    hosts: BTreeMap<PublicKey, Vec<Endpoint>>,
    /// Whether peers' names could be looked up the last time, and when that was. Not kept.
    looked_up: BTreeMap<PublicKey, (bool, SystemTime)>,
    /// Counts how often which peers have host names changed.
    hosts_changed: u64,
    /// The virtual interface.
    interface: String,
    /// The invites that a restart would find, and let be accepted.
    open_on_disk: BTreeSet<InviteId>,
    /// The digests of the files as they were last written, by name.
    written: BTreeMap<&'static str, String>,
}

impl Store {
    /// Reads the state and puts it together with the configuration.
    ///
    /// # Errors
    /// When a file is damaged, of a newer version, or contradicts the configuration. Nothing is changed then.
    pub fn load(dir: StateDir, config: &Config) -> Result<Self, StoreError> {
        let dir = Arc::new(dir);
        let (disk, file, batches, stale) = Disk::open(Arc::clone(&dir))?;
        let mut store = Self {
            peers: Book::default(),
            peers_extra: file.extra,
            sizes: Sizes::default(),
            fold: true,
            folded: None,
            removed: false,
            number: 0,
            invites: read(&dir)?.0,
            settings: read(&dir)?.0,
            presence: read(&dir)?.0,
            accounts: read(&dir)?.0,
            disk: Arc::new(disk),
            configured: BTreeMap::new(),
            configured_policy: config.policy.as_ref().map(StoredPolicy::of),
            hosts: BTreeMap::new(),
            looked_up: BTreeMap::new(),
            hosts_changed: 0,
            interface: config.interface.clone(),
            open_on_disk: BTreeSet::new(),
            written: BTreeMap::new(),
        };
        store.open_on_disk = store.open_invites();
        for mut peer in file.peers {
            peer.sort();
            store.peers.enter(peer);
        }
        for batch in batches {
            for key in &batch.removed {
                store.peers.take(&key.0);
            }
            for mut peer in batch.peers {
                peer.sort();
                store.peers.enter(peer);
            }
        }
        for stored in store.peers.iter() {
            let hosts: Result<Vec<_>, _> = stored.hosts.iter().map(|h| Endpoint::parse(h)).collect();
            let path = || dir.path().join(Peers::NAME);
            let hosts =
                hosts.map_err(|why| StoreError::Damaged { path: path(), why, content: Peers::CONTENT })?;
            store.hosts.insert(*stored.public_key.0, hosts);
        }
        store.merge(config)?;
        if stale > 0 {
            tracing::warn!(
                records = stale,
                "what the journal adds to another file of peers than this one is left out"
            );
        }
        Ok(store)
    }

    fn merge(&mut self, config: &Config) -> Result<(), StoreError> {
        let keys: HashSet<PublicKey> = config.peers.iter().map(|p| p.peer.public_key).collect();
        // Taken out of the configuration file since.
        let gone = self.peers.iter().filter(|p| p.configured && !keys.contains(&*p.public_key.0));
        let gone: Vec<PublicKey> = gone.map(|p| *p.public_key.0).collect();
        for key in gone {
            self.peers.take(&key);
        }
        for configured in &config.peers {
            let peer = &configured.peer;
            let namesake = self.peers.named(&peer.name);
            if namesake.is_some_and(|p| *p.public_key.0 != peer.public_key && !p.configured) {
                return Err(StoreError::Name { name: peer.name.clone() });
            }
            let policy = peer.policy.as_ref().map(StoredPolicy::of);
            let mut merged = StoredPeer::of(peer);
            merged.configured = true;
            merged.policy_configured.clone_from(&policy);
            let disclosure = StoredDisclosure::of(peer);
            merged.disclosure_configured.clone_from(&disclosure);
            if let Some(stored) = self.peers.get(&peer.public_key) {
                // What the configuration says of addresses counts alone, and so what its names were found to be.
                let named = configured.endpoints.iter().any(|e| e.address().is_none() && e.zone().is_none());
                for (source, list) in &stored.addresses {
                    let own = source == AddressSource::Configuration.as_str();
                    if !own && (named || source != AddressSource::Dns.as_str()) {
                        merged.addresses.insert(source.clone(), list.clone());
                    }
                }
                merged.kind = merged.kind.or(stored.kind);
                merged.account = merged.account.or_else(|| stored.account.clone());
                match (&mut merged.plain, &stored.plain) {
                    (None, _) => merged.eid_v4 = merged.eid_v4.or(stored.eid_v4),
                    (Some(plain), Some(before)) => plain.split = before.split,
                    (Some(_), None) => {}
                }
                if stored.policy_configured == policy {
                    merged.policy.clone_from(&stored.policy);
                }
                if stored.disclosure_configured == disclosure {
                    merged.disclosure.clone_from(&stored.disclosure);
                }
                merged.extra.clone_from(&stored.extra);
            }
            self.peers.enter(merged);
            let names = configured.endpoints.iter().filter(|e| e.address().is_none());
            self.hosts.insert(peer.public_key, names.cloned().collect());
            self.configured.insert(peer.public_key, Configured { policy, disclosure });
        }
        Ok(())
    }

    /// The peers, in the order in which they were added.
    pub fn peers(&self) -> Vec<PeerConfig> {
        self.peers.iter().map(StoredPeer::peer).collect()
    }

    /// A peer.
    pub fn peer(&self, key: &PublicKey) -> Option<PeerConfig> {
        self.peers.get(key).map(StoredPeer::peer)
    }

    /// The key of the peer of a name.
    pub fn key_of(&self, name: &str) -> Option<PublicKey> {
        self.peers.named(name).map(|p| *p.public_key.0)
    }

    /// The invites that have not expired.
    pub fn invites(&self) -> Vec<InviteRecord> {
        self.invites.invites.iter().filter_map(StoredInvite::invite).collect()
    }

    fn open_invites(&self) -> BTreeSet<InviteId> {
        self.invites.invites.iter().filter_map(StoredInvite::open).collect()
    }

    /// Whether no restart can let an invite be accepted again: that it was used is on the disk, or it never was there.
    pub fn is_used_up(&self, invite: InviteId) -> bool {
        !self.open_on_disk.contains(&invite)
    }

    /// The default policy.
    pub fn policy(&self) -> Policy {
        let set = self.settings.policy.as_ref();
        let set = set.filter(|_| self.settings.policy_configured == self.configured_policy);
        set.or(self.configured_policy.as_ref()).map(StoredPolicy::policy).unwrap_or_default()
    }

    /// Whether the tunnel was up; at the very first start it shall be.
    pub fn up(&self) -> bool {
        match self.settings.at_start {
            AtStart::Up => true,
            AtStart::Down => false,
            AtStart::Last | AtStart::Unknown => self.settings.up,
        }
    }

    /// The public key whose private one is in a user's key store.
    pub fn handed_key(&self) -> Option<PublicKey> {
        self.settings.handed_key.as_ref().and_then(|text| crate::notation::key(text).ok())
    }

    /// Notes that the private key is in a user's key store, or no more.
    pub fn set_handed_key(&mut self, public: Option<PublicKey>) {
        self.settings.handed_key = public.as_ref().map(crate::notation::key_text);
    }

    /// The user that may have the private key beside root, in the system's words.
    pub fn key_owner(&self) -> Option<&str> {
        self.settings.key_owner.as_deref()
    }

    /// Notes whose the private key is.
    pub fn set_key_owner(&mut self, user: Option<String>) {
        self.settings.key_owner = user;
    }

    /// What the tunnel does at the start.
    pub fn at_start(&self) -> AtStart {
        self.settings.at_start
    }

    /// Sets what the tunnel does at the start.
    pub fn set_at_start(&mut self, at_start: AtStart) {
        self.settings.at_start = at_start;
    }

    /// Whether leaks are to be kept from happening.
    pub fn leak_protection(&self) -> bool {
        self.settings.leak_protection
    }

    /// Sets whether leaks are to be kept from happening.
    pub fn set_leak_protection(&mut self, on: bool) {
        self.settings.leak_protection = on;
    }

    /// Whether private and link-local ranges may be spoken with directly while leaks are kept from happening.
    pub fn local_network(&self) -> bool {
        self.settings.local_network
    }

    /// Sets that.
    pub fn set_local_network(&mut self, on: bool) {
        self.settings.local_network = on;
    }

    /// What the next start is to hold back, as far as the settings tell.
    pub fn guard(&self) -> Option<Guard> {
        let paused = self.paused_until().is_some_and(|until| until > SystemTime::now());
        let on = self.leak_protection() && !paused && (self.up() || self.paused_until().is_some());
        let full = |family| {
            on && self
                .peers
                .iter()
                .filter(|p| p.plain.is_some())
                .filter_map(|p| p.peer().plain)
                .any(|plain| plain.is_full_for(family))
        };
        let families = Guard::held_back(full);
        let interfaces = [self.interface.clone()].into();
        let local_network = self.local_network();
        (!families.is_empty()).then_some(Guard { families, interfaces, local_network })
    }

    /// Until when the tunnel is paused.
    pub fn paused_until(&self) -> Option<SystemTime> {
        self.settings.paused_until.map(|at| UNIX_EPOCH + Duration::from_secs(at))
    }

    /// Notes until when the tunnel is paused, to the second.
    pub fn set_paused_until(&mut self, until: Option<SystemTime>) {
        let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.settings.paused_until = until.map(seconds);
    }

    /// This machine's account at a presence service.
    pub(crate) fn account(&self) -> Option<&StoredAccount> {
        self.presence.login.as_ref()
    }

    /// Sets it, or none.
    pub(crate) fn set_account(&mut self, login: Option<StoredAccount>) {
        self.presence.login = login;
    }

    /// What the user chose for interfaces, by name.
    pub fn choices(&self) -> BTreeMap<String, InterfaceChoice> {
        let chosen = self.settings.interfaces.iter();
        chosen
            .map(|(name, c)| (name.clone(), InterfaceChoice { metered: c.metered, excluded: c.excluded }))
            .collect()
    }

    /// The state directory.
    pub fn dir(&self) -> &Arc<StateDir> {
        self.disk.dir()
    }

    /// Whether a peer stands in the configuration file, and so cannot be removed by command.
    pub fn is_configured(&self, name: &str) -> bool {
        self.key_of(name).is_some_and(|key| self.configured.contains_key(&key))
    }

    /// The peers some of whose endpoints are host names, with these.
    pub fn hosts(&self) -> Vec<(PublicKey, Vec<Endpoint>)> {
        let wanted =
            self.hosts.iter().filter(|(key, hosts)| !hosts.is_empty() && self.peers.get(key).is_some());
        wanted.map(|(key, hosts)| (*key, hosts.clone())).collect()
    }

    /// Another number when [`Store::hosts`] may say something else.
    pub fn hosts_changed(&self) -> u64 {
        self.hosts_changed
    }

    /// A peer's names were looked up just now; `found`: all of them led to something.
    pub fn note_look_up(&mut self, key: PublicKey, found: bool) {
        self.looked_up.insert(key, (found, SystemTime::now()));
    }

    /// What is known of peers' names.
    pub fn names(&self) -> Vec<NameFact> {
        let named = |key: &PublicKey| Some(self.peers.get(key)?.name.clone());
        let facts = self.hosts.iter().filter_map(|(key, hosts)| {
            let host = hosts.iter().find(|e| matches!(e, Endpoint::Name { .. }))?.to_string();
            let found = self.looked_up.get(key).map(|(found, at)| (*found, timestamp::rfc3339(*at)));
            Some(NameFact { peer: named(key)?, host, found })
        });
        facts.collect()
    }

    /// The addresses of a peer that its configuration says, but for those with a zone.
    pub fn fixed(&self, key: &PublicKey) -> Option<Vec<SocketAddr>> {
        self.peers.get(key).map(|p| p.addresses_of(AddressSource::Configuration).to_vec())
    }

    /// Remembers host names of a peer; they are saved with it.
    pub fn set_hosts(&mut self, key: PublicKey, hosts: Vec<Endpoint>) {
        if let Some(mut stored) = self.peers.get(&key).cloned() {
            stored.hosts = hosts.iter().map(ToString::to_string).collect();
            self.peers.set(stored);
        }
        self.hosts.insert(key, hosts);
        self.hosts_changed += 1;
    }

    /// Forgets the host names of a peer that is removed for good.
    pub fn forget_hosts(&mut self, key: PublicKey) {
        self.looked_up.remove(&key);
        self.hosts_changed += u64::from(self.hosts.remove(&key).is_some());
    }

    /// Takes over a change, in memory.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Peer(peer) => self.apply_peer(&peer),
            Change::PeerRemoved(key) => {
                self.removed |= self.peers.remove(&key);
                self.hosts_changed += u64::from(self.hosts.contains_key(&key));
            }
            Change::Invites(invites) => {
                let mut known = std::mem::take(&mut self.invites.invites);
                self.invites.invites = invites
                    .iter()
                    .map(|invite| {
                        let mut new = StoredInvite::of(invite);
                        if let Some(old) = known.iter_mut().find(|i| i.secret == new.secret) {
                            new.extra = std::mem::take(&mut old.extra);
                        }
                        new
                    })
                    .collect();
            }
            Change::Policy(policy) => {
                self.settings.policy = Some(StoredPolicy::of(&policy));
                self.settings.policy_configured.clone_from(&self.configured_policy);
            }
            Change::Choices(choices) => {
                let stored = choices.into_iter();
                let stored =
                    stored.map(|(n, c)| (n, StoredChoice { metered: c.metered, excluded: c.excluded }));
                self.settings.interfaces = stored.collect();
            }
            Change::Up(up) => self.settings.up = up,
            Change::InviteUsed(_) => {}
        }
    }

    fn apply_peer(&mut self, peer: &PeerConfig) {
        let mut new = StoredPeer::of(peer);
        if let Some(configured) = self.configured.get(&peer.public_key) {
            new.configured = true;
            new.policy_configured.clone_from(&configured.policy);
            new.disclosure_configured.clone_from(&configured.disclosure);
        } else if let Some(hosts) = self.hosts.get(&peer.public_key) {
            new.hosts = hosts.iter().map(ToString::to_string).collect();
        }
        let known = self.peers.get(&peer.public_key);
        if known.is_none() && self.hosts.contains_key(&peer.public_key) {
            self.hosts_changed += 1;
        }
        if let Some(stored) = known {
            new.extra.clone_from(&stored.extra);
        }
        self.peers.set(new);
    }

    /// What changed since it was last written.
    ///
    /// Writing waits for the disk and is for another thread; hence in two steps.
    pub fn unsaved(&mut self) -> Unsaved {
        self.number += 1;
        let protection = Protection::of(self.guard().as_ref());
        let files = [
            content(&self.invites),
            content(&self.settings),
            content(&self.accounts),
            content(&protection),
            content(&self.presence),
        ];
        let changed = |(name, content): &Content| self.written.get(name) != Some(&fingerprint(content));
        let changes = self.peers.changes();
        let removed = self.removed && self.folded.is_none_or(|at| at.elapsed() >= REMOVED);
        let peers = if self.fold || removed || !changes.is_empty() && self.sizes.is_worth_folding() {
            PeersToWrite::All(self.peers.all(), self.peers_extra.clone())
        } else if changes.is_empty() {
            PeersToWrite::Nothing
        } else {
            PeersToWrite::Changes
        };
        Unsaved {
            disk: Arc::clone(&self.disk),
            number: self.number,
            files: files.into_iter().flatten().filter(changed).collect(),
            peers,
            changes,
            open_invites: self.open_invites(),
        }
    }

    /// Notes what was written.
    pub fn saved(&mut self, saved: Saved) {
        if saved.files.iter().any(|(name, _)| *name == Invites::NAME) {
            self.open_on_disk = saved.open_invites;
        }
        self.written.extend(saved.files.iter().map(|(name, content)| (*name, fingerprint(content))));
        self.sizes = saved.sizes;
        if let Some(changes) = &saved.changes {
            self.peers.note_written(changes);
        }
        if saved.folded {
            self.fold = false;
            self.folded = Some(Instant::now());
            // One that was removed while the file was written may be in it.
            self.removed = self.peers.has_removed();
        }
    }

    /// Has the file of peers hold everything when the state is saved next, so that it can do without its journal: an
    /// earlier version does not know that.
    pub fn fold(&mut self) {
        self.fold = true;
    }

    /// Writes at once whatever changed.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&mut self) -> Result<(), StoreError> {
        let (saved, result) = self.unsaved().write();
        self.saved(saved);
        result
    }
}

/// A file's name, and what is in it.
type Content = (&'static str, Zeroizing<Vec<u8>>);

fn content<F: StateFile>(file: &F) -> Option<Content> {
    text(file).map(|content| (F::NAME, content))
}

/// A file as it is written. Only maps with keys that are no strings cannot be; there are none.
fn text<T: serde::Serialize>(file: &T) -> Option<Zeroizing<Vec<u8>>> {
    let mut content = Secret::default();
    serde_json::to_writer_pretty(&mut content, file).ok()?;
    content.write_all(b"\n").ok()?;
    Some(content.into_bytes())
}

/// Reads a file; with its content, none where there is no file.
fn read<F: StateFile>(dir: &StateDir) -> Result<(F, Zeroizing<Vec<u8>>), StoreError> {
    let Some(content) = dir.read(F::NAME)? else { return Ok((F::default(), Zeroizing::default())) };
    let path = || dir.path().join(F::NAME);
    // A later version may write anything but its number differently.
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    if let Ok(Versioned { version }) = serde_json::from_slice(&content)
        && version > VERSION
    {
        return Err(StoreError::Newer { path: path(), version });
    }
    let mut json = serde_json::Deserializer::from_slice(&content);
    let file = serde_path_to_error::deserialize(&mut json).map_err(|error| error.to_string());
    let file = file.and_then(|file| json.end().map(|()| file).map_err(|error| error.to_string()));
    let file = file.map_err(|why| StoreError::Damaged { path: path(), why, content: F::CONTENT })?;
    Ok((file, content))
}

#[cfg(test)]
mod tests;
