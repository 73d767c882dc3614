//! Puts on the disk what must outlive a restart.
//!
//! A disk may be full, read-only, or hang. None of that is a reason not to run: what was changed is in effect all the
//! same, whoever changed it is told that it is not kept, and it is tried again until it is. One task writes, each time all
//! that changed by then, on a thread that nothing else waits for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mast_control::What;
use mast_control::aside::Aside;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use crate::daemon::Daemon;

/// What waits for the state's disk. The keeper has one thread at a time, doctor and the key the others.
pub(crate) static DISK: Aside = Aside::new("mast-disk", 4);

/// How long whoever changed something waits for it to be kept. A disk at work takes up to some seconds, and then the answer
/// is that it is not kept *yet*.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// The same for what ends the tunnel.
pub(crate) const HASTE: Duration = Duration::from_millis(500);
/// A disk that has not answered for so long is told of.
const HANGS: Duration = Duration::from_secs(2);
/// The first pause before what could not be written is tried again; it doubles.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest one.
const RETRY_MAX: Duration = Duration::from_secs(15);

/// How far the writing is.
#[derive(Debug, Clone, Default)]
struct Written {
    /// The number of the latest request that this covers.
    number: u64,
    /// Why it is not on the disk.
    failure: Option<String>,
}

/// What is asked of the keeper, and what became of it.
#[derive(Debug)]
pub(crate) struct Keeper {
    asked: watch::Sender<u64>,
    written: watch::Sender<Written>,
    /// Since when a write has not come back.
    since: Mutex<Option<Instant>>,
    /// A new private key that is not on the disk.
    key: Mutex<Option<Arc<Zeroizing<[u8; 32]>>>>,
}

impl Keeper {
    /// `key`: a private key that is still to be written.
    pub fn new(key: Option<Zeroizing<[u8; 32]>>) -> Self {
        Self {
            asked: watch::Sender::new(0),
            written: watch::Sender::default(),
            since: Mutex::default(),
            key: Mutex::new(key.map(Arc::new)),
        }
    }

    /// Has what changed until now be written, without waiting for it. The number tells this request from others.
    pub fn ask(&self) -> u64 {
        let mut number = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            number = *asked;
        });
        number
    }

    /// Waits until a request is done.
    async fn wait(&self, number: u64) -> Result<(), String> {
        let mut written = self.written.subscribe();
        match written.wait_for(|written| written.number >= number).await {
            Ok(written) => written.failure.clone().map_or(Ok(()), Err),
            Err(_) => Err("the service is ending".to_owned()),
        }
    }

    /// Why something that changed is not on the disk, if so.
    pub fn failure(&self) -> Option<String> {
        let hangs = self.hangs_for().filter(|since| *since >= HANGS).map(hanging);
        hangs.or_else(|| self.written.borrow().failure.clone())
    }

    fn hangs_for(&self) -> Option<Duration> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).map(|since| since.elapsed())
    }

    fn set_since(&self, since: Option<Instant>) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Another key is to be written, or none.
    pub fn set_key(&self, key: Option<Arc<Zeroizing<[u8; 32]>>>) {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = key;
    }

    fn key(&self) -> Option<Arc<Zeroizing<[u8; 32]>>> {
        self.key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn hanging(since: Duration) -> String {
    format!("the disk of the state directory has not answered for {} s", since.as_secs().max(1))
}

impl Daemon {
    /// Has what changed be on the disk, and waits for that so long at most.
    ///
    /// # Errors
    /// Why it is not there, or not yet. It is tried again all the same.
    pub async fn save(&self, patience: Duration) -> Result<(), String> {
        let number = self.keeper.ask();
        match timeout(patience, self.keeper.wait(number)).await {
            Ok(done) => done,
            Err(_) => Err(hanging(self.keeper.hangs_for().unwrap_or(patience))),
        }
    }

    /// Writes whatever is asked for, until it is aborted.
    pub async fn write(self: Arc<Self>) {
        let mut asked = self.keeper.asked.subscribe();
        let mut pause = RETRY_FIRST;
        loop {
            let number = *asked.borrow_and_update();
            if self.keeper.written.borrow().number < number || self.keeper.written.borrow().failure.is_some()
            {
                let failure = self.write_once().await.err();
                self.tell_unsaved(failure.as_deref());
                pause = if failure.is_some() { (pause * 2).min(RETRY_MAX) } else { RETRY_FIRST };
                self.keeper.written.send_replace(Written { number, failure });
                self.settle_invites().await;
            }
            let failed = self.keeper.written.borrow().failure.is_some();
            tokio::select! {
                changed = asked.changed() => if changed.is_err() { return },
                () = sleep(pause), if failed => {}
            }
        }
    }

    /// One write of all that changed.
    async fn write_once(&self) -> Result<(), String> {
        let unsaved = self.store().unsaved();
        let page = self.chronicle().unwritten();
        let (dir, key) = (Arc::clone(self.store().dir()), self.keeper.key());
        self.keeper.set_since(Some(Instant::now()));
        let work = DISK.begin(move || {
            let kept = key.map_or(Ok(()), |key| dir.write_private_key(&key));
            let (saved, result) = unsaved.write();
            let lost = page.and_then(|page| page.write().err().map(|error| (page, error)));
            (kept, saved, result, lost)
        });
        let mut work = match work {
            Ok(work) => work,
            Err(hung) => {
                self.keeper.set_since(None);
                self.chronicle().write_afresh();
                return Err(format!("the disk of the state directory does not answer: {hung}"));
            }
        };
        // However late it comes: until then nothing else may be written.
        let done = match timeout(HANGS, &mut work).await {
            Ok(done) => done,
            Err(_) => {
                self.tell_unsaved(Some(&hanging(HANGS)));
                work.await
            }
        };
        self.keeper.set_since(None);
        let Ok((kept, saved, result, lost)) = done else {
            self.chronicle().write_afresh();
            return Err("writing the state broke down".to_owned());
        };
        self.store().saved(saved);
        if kept.is_ok() {
            self.keeper.set_key(None);
        }
        let told = match lost {
            Some((page, error)) => {
                self.chronicle().put_back(&page);
                Err(format!("the story cannot be written: {error}"))
            }
            None => Ok(()),
        };
        let kept = kept.map_err(|error| error.to_string());
        kept.and(result.map_err(|error| error.to_string())).and(told)
    }

    /// Tells, once, that something is not kept, or is again.
    fn tell_unsaved(&self, failure: Option<&str>) {
        let before = self.told_unsaved(failure);
        if before.as_deref() == failure {
            return;
        }
        match failure {
            Some(error) => {
                tracing::error!(error, "what changed is in effect, and not on the disk");
                self.note("", What::Unsaved { error: error.to_owned() });
            }
            None => {
                tracing::info!("what changed is on the disk again");
                self.note_text("", "what was changed is on the disk again");
            }
        }
        self.status_changed();
    }
}
