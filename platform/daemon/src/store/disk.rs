//! How the state reaches the disk, on another thread than the one that moves datagrams.
//!
//! `peers.json` holds all peers. What changes of one afterwards is added to `peers.journal`, a record for all that
//! changed since the last, until the journal is as large as the file: then the file is written anew, and the journal
//! removed. So a change costs what it holds, however many peers there are. A record names the file that it follows
//! by its digest: one that follows another, as between the two steps of writing anew, does not count.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use mast_engine::api::{InviteId, PublicKey};
use mast_state::{Journal, StateDir, fingerprint};
use serde_json::{Map, Value};

use super::StoreError;
use super::book::Changes;
use super::format::{Batch, Invites, Key, Peers, PeersView, StateFile, StoredPeer};

/// The file of what changed since `peers.json` was written.
pub(super) const JOURNAL: &str = "peers.journal";
/// A journal up to this size, in bytes, is worth no rewriting: it is read in no time.
const SMALL: u64 = 32 << 10;

/// The files, written by one at a time.
#[derive(Debug)]
pub(super) struct Disk {
    dir: Arc<StateDir>,
    turn: Mutex<Turn>,
}

#[derive(Debug)]
struct Turn {
    /// The number of what was written last.
    last: u64,
    journal: Journal,
    /// The digest of `peers.json`.
    follows: String,
    sizes: Sizes,
}

/// How large the files of peers are, and how much was written to them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sizes {
    pub file: u64,
    pub journal: u64,
    /// Since the start, in bytes.
    pub written: u64,
}

impl Sizes {
    /// Whether the journal has grown so far that the file is to be written anew.
    pub fn is_worth_folding(&self) -> bool {
        self.journal >= self.file.max(SMALL)
    }
}

/// What is to be written of the peers.
#[derive(Debug)]
pub(super) enum PeersToWrite {
    Nothing,
    /// What changed.
    Changes,
    /// All of them, and the fields of the file that this version does not know.
    All(Vec<Arc<StoredPeer>>, Map<String, Value>),
}

impl Disk {
    /// Reads the peers: the file, and what the journal adds to it. With the records that do not count.
    pub fn open(dir: Arc<StateDir>) -> Result<(Self, Peers, Vec<Batch>, usize), StoreError> {
        let (peers, content) = super::read::<Peers>(&dir)?;
        let (journal, records) = dir.journal(JOURNAL)?;
        let follows = fingerprint(&content);
        let (mut batches, mut stale) = (Vec::new(), 0);
        for record in records {
            let mut json = serde_json::Deserializer::from_slice(&record);
            let batch: Batch = serde_path_to_error::deserialize(&mut json).map_err(|error| {
                let (path, why) = (dir.path().join(JOURNAL), error.to_string());
                StoreError::Damaged { path, why, content: Peers::CONTENT }
            })?;
            if batch.follows == follows {
                batches.push(batch);
            } else {
                stale += 1;
            }
        }
        let sizes = Sizes { file: content.len() as u64, journal: journal.length(), written: 0 };
        let turn = Turn { last: 0, journal, follows, sizes };
        Ok((Self { dir, turn: Mutex::new(turn) }, peers, batches, stale))
    }

    pub fn dir(&self) -> &Arc<StateDir> {
        &self.dir
    }
}

/// What is to be written.
#[derive(Debug)]
pub struct Unsaved {
    pub(super) disk: Arc<Disk>,
    /// Counts up: what was taken from memory earlier is not written later.
    pub(super) number: u64,
    pub(super) files: Vec<super::Content>,
    pub(super) peers: PeersToWrite,
    pub(super) changes: Changes,
    /// The invites that can be accepted by what is in `files`.
    pub(super) open_invites: BTreeSet<InviteId>,
}

/// What was written.
#[derive(Debug)]
pub struct Saved {
    pub(super) files: Vec<super::Content>,
    /// The changes of peers that were written.
    pub(super) changes: Option<Changes>,
    /// All peers were written.
    pub(super) folded: bool,
    pub(super) sizes: Sizes,
    pub(super) open_invites: BTreeSet<InviteId>,
}

impl Unsaved {
    /// Writes the files, each in one step, and as many as possible. Where something later was written meanwhile, that
    /// holds all of this, and nothing is done.
    pub fn write(self) -> (Saved, Result<(), StoreError>) {
        let mut turn = self.disk.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut saved = Saved {
            files: Vec::new(),
            changes: None,
            folded: false,
            sizes: turn.sizes,
            open_invites: self.open_invites,
        };
        if self.number < turn.last {
            return (saved, Ok(()));
        }
        turn.last = self.number;
        let mut result = Ok(());
        let folded = matches!(self.peers, PeersToWrite::All(..));
        let written = match &self.peers {
            PeersToWrite::Nothing => Ok(()),
            PeersToWrite::Changes => turn.append(&self.changes),
            PeersToWrite::All(peers, extra) => turn.fold(&self.disk.dir, peers, extra),
        };
        match written {
            Ok(()) => {
                saved.changes = Some(self.changes);
                saved.folded = folded;
            }
            Err(error) => result = Err(error),
        }
        // After the peers: of an invite that was used there must be somebody who used it.
        for (name, content) in self.files {
            if result.is_err() && name == Invites::NAME {
                continue;
            }
            match self.disk.dir.write_atomic(name, &content) {
                Ok(()) => saved.files.push((name, content)),
                Err(error) => result = Err(error.into()),
            }
        }
        turn.sizes.journal = turn.journal.length();
        saved.sizes = turn.sizes;
        (saved, result)
    }
}

impl Turn {
    fn append(&mut self, changes: &Changes) -> Result<(), StoreError> {
        let removed: Vec<Key> = changes.removed.iter().map(|key: &PublicKey| Key::of(key)).collect();
        let record = Batch::text(&self.follows, &removed, &changes.peers).ok_or(StoreError::Text)?;
        let before = self.journal.length();
        self.journal.append(&record)?;
        self.sizes.written += self.journal.length() - before;
        Ok(())
    }

    fn fold(
        &mut self,
        dir: &StateDir,
        peers: &[Arc<StoredPeer>],
        extra: &Map<String, Value>,
    ) -> Result<(), StoreError> {
        let content = super::text(&PeersView::new(peers, extra)).ok_or(StoreError::Text)?;
        let digest = fingerprint(&content);
        if digest != self.follows || self.sizes.file == 0 {
            if let Err(error) = dir.write_atomic(Peers::NAME, &content) {
                // It may be the new one all the same, and what is added to the journal must follow the one that is
                // there.
                if let Ok(Some(there)) = dir.read(Peers::NAME) {
                    self.follows = fingerprint(&there);
                }
                return Err(error.into());
            }
            self.sizes.written += content.len() as u64;
            self.sizes.file = content.len() as u64;
            self.follows = digest;
        }
        // One that could not be removed follows another file than this, and does not count.
        self.journal.clear()?;
        Ok(())
    }
}
