//! What a restart must find again, kept in the state directory.
//!
//! `peers.json`, `invites.json` and `settings.json` hold what was changed through the control API and what was
//! learned; the private key is the platform's business. The configuration file comes first: a peer that stands
//! there is taken from there, and the state only adds what was learned of it. A policy that was set by command
//! counts until the configuration file's own policy is changed.

mod format;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mast_control::AtStart;
use mast_engine::api::{Change, InterfaceChoice, InviteRecord, PeerConfig, PublicKey};
use mast_proto::Policy;
use mast_state::{StateDir, StateError};

use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::usage::Accounts;
use format::{
    Invites, Peers, Settings, StateFile, StoredChoice, StoredInvite, StoredPeer, StoredPolicy, VERSION,
};

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

/// What the configuration file says of a peer.
#[derive(Debug, Clone)]
struct Configured {
    policy: Option<StoredPolicy>,
}

/// The state, in memory and in files.
#[derive(Debug)]
pub struct Store {
    dir: Arc<StateDir>,
    peers: Peers,
    invites: Invites,
    settings: Settings,
    /// What the uplinks carried.
    pub(crate) accounts: Accounts,
    /// The peers of the configuration file.
    configured: BTreeMap<PublicKey, Configured>,
    /// The default policy of the configuration file.
    configured_policy: Option<StoredPolicy>,
    hosts: BTreeMap<PublicKey, Vec<Endpoint>>,
    /// Peers whose next removal is not meant.
    kept: BTreeSet<PublicKey>,
    /// The files as they were last written, by name.
    written: BTreeMap<&'static str, Vec<u8>>,
}

impl Store {
    /// Reads the state and puts it together with the configuration.
    ///
    /// # Errors
    /// When a file is damaged, of a newer version, or contradicts the configuration. Nothing is changed then.
    pub fn load(dir: StateDir, config: &Config) -> Result<Self, StoreError> {
        let mut store = Self {
            peers: read(&dir)?,
            invites: read(&dir)?,
            settings: read(&dir)?,
            accounts: read(&dir)?,
            dir: Arc::new(dir),
            configured: BTreeMap::new(),
            configured_policy: config.policy.as_ref().map(StoredPolicy::of),
            hosts: BTreeMap::new(),
            kept: BTreeSet::new(),
            written: BTreeMap::new(),
        };
        for stored in &store.peers.peers {
            let path = || store.dir.path().join(Peers::NAME);
            let hosts: Result<Vec<_>, _> = stored.hosts.iter().map(|h| Endpoint::parse(h)).collect();
            let hosts =
                hosts.map_err(|why| StoreError::Damaged { path: path(), why, content: Peers::CONTENT })?;
            store.hosts.insert(*stored.public_key.0, hosts);
        }
        store.merge(config)?;
        Ok(store)
    }

    fn merge(&mut self, config: &Config) -> Result<(), StoreError> {
        let keys: HashSet<PublicKey> = config.peers.iter().map(|p| p.peer.public_key).collect();
        // Taken out of the configuration file since.
        self.peers.peers.retain(|p| !p.configured || keys.contains(&*p.public_key.0));
        for configured in &config.peers {
            let peer = &configured.peer;
            let stranger =
                |p: &&StoredPeer| p.name == peer.name && *p.public_key.0 != peer.public_key && !p.configured;
            if self.peers.peers.iter().any(|p| stranger(&p)) {
                return Err(StoreError::Name { name: peer.name.clone() });
            }
            let policy = peer.policy.as_ref().map(StoredPolicy::of);
            let mut merged = StoredPeer::of(peer);
            merged.configured = true;
            merged.policy_configured.clone_from(&policy);
            match self.peers.peers.iter_mut().find(|p| *p.public_key.0 == peer.public_key) {
                Some(stored) => {
                    for learned in &stored.endpoints {
                        if !merged.endpoints.contains(learned) {
                            merged.endpoints.push(*learned);
                        }
                    }
                    merged.kind = merged.kind.or(stored.kind);
                    match (&mut merged.plain, &stored.plain) {
                        (None, _) => merged.eid_v4 = merged.eid_v4.or(stored.eid_v4),
                        (Some(plain), Some(before)) => plain.split = before.split,
                        (Some(_), None) => {}
                    }
                    if stored.policy_configured == policy {
                        merged.policy = stored.policy.take();
                    }
                    merged.extra = std::mem::take(&mut stored.extra);
                    *stored = merged;
                }
                None => self.peers.peers.push(merged),
            }
            let names = configured.endpoints.iter().filter(|e| e.address().is_none());
            self.hosts.insert(peer.public_key, names.cloned().collect());
            self.configured.insert(peer.public_key, Configured { policy });
        }
        Ok(())
    }

    /// The peers, in the order in which they were added.
    pub fn peers(&self) -> Vec<PeerConfig> {
        self.peers.peers.iter().map(StoredPeer::peer).collect()
    }

    /// The invites that have not expired.
    pub fn invites(&self) -> Vec<InviteRecord> {
        self.invites.invites.iter().filter_map(StoredInvite::invite).collect()
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
        self.settings.handed_key.as_ref().and_then(|text| crate::words::key(text).ok())
    }

    /// Notes that the private key is in a user's key store, or no more.
    pub fn set_handed_key(&mut self, public: Option<PublicKey>) {
        self.settings.handed_key = public.as_ref().map(crate::words::key_text);
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

    /// Until when the tunnel is paused.
    pub fn paused_until(&self) -> Option<SystemTime> {
        self.settings.paused_until.map(|at| UNIX_EPOCH + Duration::from_secs(at))
    }

    /// Notes until when the tunnel is paused, to the second.
    pub fn set_paused_until(&mut self, until: Option<SystemTime>) {
        let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.settings.paused_until = until.map(seconds);
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
        &self.dir
    }

    /// Whether a peer stands in the configuration file, and so cannot be removed by command.
    pub fn is_configured(&self, name: &str) -> bool {
        self.peers.peers.iter().any(|p| p.name == name && self.configured.contains_key(&*p.public_key.0))
    }

    /// The peers some of whose endpoints are host names, with these.
    pub fn hosts(&self) -> Vec<(PublicKey, Vec<Endpoint>)> {
        let there = |key: &PublicKey| self.peers.peers.iter().any(|p| *p.public_key.0 == *key);
        let wanted = self.hosts.iter().filter(|(key, hosts)| !hosts.is_empty() && there(key));
        wanted.map(|(key, hosts)| (*key, hosts.clone())).collect()
    }

    /// The host names of peers of which no address is known.
    pub fn unknown_hosts(&self) -> Vec<String> {
        let bare: Vec<_> = self.peers.peers.iter().filter(|p| p.endpoints.is_empty()).collect();
        let of = |key: &PublicKey| bare.iter().any(|p| *p.public_key.0 == *key);
        let hosts = self.hosts.iter().filter(|(key, _)| of(key)).flat_map(|(_, hosts)| hosts);
        hosts.map(ToString::to_string).collect()
    }

    /// Remembers host names of a peer; they are saved with it.
    pub fn set_hosts(&mut self, key: PublicKey, hosts: Vec<Endpoint>) {
        if let Some(stored) = self.peers.peers.iter_mut().find(|p| *p.public_key.0 == key) {
            stored.hosts = hosts.iter().map(ToString::to_string).collect();
        }
        self.hosts.insert(key, hosts);
    }

    /// Keeps a peer when the engine next removes it: it is added anew at once, and whatever comes between the two
    /// must not lose it.
    pub fn keep(&mut self, key: PublicKey) {
        self.kept.insert(key);
    }

    /// Forgets the host names of a peer that is removed for good.
    pub fn forget_hosts(&mut self, key: PublicKey) {
        self.hosts.remove(&key);
    }

    /// Takes over a change, in memory.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Peer(peer) => self.apply_peer(&peer),
            Change::PeerRemoved(key) => {
                if !self.kept.remove(&key) {
                    self.peers.peers.retain(|p| *p.public_key.0 != key);
                }
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
        }
    }

    fn apply_peer(&mut self, peer: &PeerConfig) {
        let mut new = StoredPeer::of(peer);
        if let Some(configured) = self.configured.get(&peer.public_key) {
            new.configured = true;
            new.policy_configured.clone_from(&configured.policy);
        } else if let Some(hosts) = self.hosts.get(&peer.public_key) {
            new.hosts = hosts.iter().map(ToString::to_string).collect();
        }
        match self.peers.peers.iter_mut().find(|p| p.public_key == new.public_key) {
            Some(stored) => {
                new.extra = std::mem::take(&mut stored.extra);
                *stored = new;
            }
            None => self.peers.peers.push(new),
        }
    }

    /// The files that changed since they were last written.
    ///
    /// Writing waits for the disk and is for another thread; hence in two steps.
    pub fn unsaved(&self) -> Unsaved {
        let files =
            [content(&self.peers), content(&self.invites), content(&self.settings), content(&self.accounts)];
        let changed = |(name, content): &(&'static str, Vec<u8>)| self.written.get(name) != Some(content);
        Unsaved { dir: Arc::clone(&self.dir), files: files.into_iter().flatten().filter(changed).collect() }
    }

    /// Notes what was written.
    pub fn saved(&mut self, saved: Saved) {
        self.written.extend(saved.0);
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

/// Files to be written.
#[derive(Debug)]
pub struct Unsaved {
    dir: Arc<StateDir>,
    files: Vec<(&'static str, Vec<u8>)>,
}

/// Files that were written.
#[derive(Debug)]
pub struct Saved(Vec<(&'static str, Vec<u8>)>);

impl Unsaved {
    /// Writes the files, each in one step, and as many as possible.
    pub fn write(self) -> (Saved, Result<(), StoreError>) {
        let (mut saved, mut result) = (Vec::new(), Ok(()));
        for (name, content) in self.files {
            match self.dir.write_atomic(name, &content) {
                Ok(()) => saved.push((name, content)),
                Err(error) => result = Err(error.into()),
            }
        }
        (Saved(saved), result)
    }
}

fn content<F: StateFile>(file: &F) -> Option<(&'static str, Vec<u8>)> {
    // Only maps with keys that are no strings cannot be written; there are none.
    let mut content = serde_json::to_vec_pretty(file).ok()?;
    content.push(b'\n');
    Some((F::NAME, content))
}

fn read<F: StateFile>(dir: &StateDir) -> Result<F, StoreError> {
    let Some(content) = dir.read(F::NAME)? else { return Ok(F::default()) };
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
    file.map_err(|why| StoreError::Damaged { path: path(), why, content: F::CONTENT })
}

#[cfg(test)]
mod tests;
