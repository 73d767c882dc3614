//! Leak protection as the settings want it, before the service runs: in force before anything that can fail, and as long
//! as nothing else says otherwise.
//!
//! The first step needs nothing but one file of the state directory, which says what the next start is to hold back: no
//! configuration, no lock, no key, no port. When the settings have been read, they count.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use mast_control::{Protection, words};
use mast_engine::Reconciler;
use mast_engine::declared::{Declared, Guard};
use mast_engine::os::Platform;
use mast_platform::{Native, Overrides};

use crate::{logging, store};

/// A disk that takes longer holds up the start anyway.
const PATIENCE: Duration = Duration::from_secs(2);

/// Puts in force what the last run left word of. A service that lives goes on as it is.
pub(crate) fn at_once(state_dir: &Path) {
    let (done, wait) = mpsc::channel();
    let path = state_dir.to_path_buf();
    let work = move || {
        let _ = begin(path);
        // Nobody may wait any more.
        let _ = done.send(());
    };
    match std::thread::Builder::new().name("mast-protection".to_owned()).spawn(work) {
        Ok(_) => drop(wait.recv_timeout(PATIENCE)),
        Err(error) => tracing::error!(%error, "leak protection comes later than it should"),
    }
}

/// `--protect`: does that and no more.
pub(crate) fn only(state_dir: &Path) -> ExitCode {
    let state = begin(state_dir.to_path_buf());
    logging::flush(Duration::from_millis(100));
    match state {
        Protection::Missing { .. } => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn begin(state_dir: PathBuf) -> Protection {
    let guard = store::kept_guard(&state_dir).filter(|_| mast_control::living().is_none());
    guard.map(|guard| set(Some(guard))).unwrap_or_default()
}

/// Has the host hold back this and no more, and says how that stands.
pub(crate) fn set(guard: Option<Guard>) -> Protection {
    let wanted = guard.is_some();
    let state = match apply(guard) {
        Err(why) => Protection::Missing { why },
        Ok(_) if !wanted => Protection::Idle,
        Ok(Some(why)) => Protection::RoutesOnly { why },
        Ok(None) => Protection::InForce,
    };
    if let Some(text) = words::protection(&state) {
        tracing::error!("{text}");
    }
    state
}

/// What the system lacks for it, or why it refuses.
fn apply(guard: Option<Guard>) -> Result<Option<String>, String> {
    let host = Native::new(Overrides::default()).host().map_err(|error| error.to_string())?;
    let protection = guard.as_ref().map(|g| g.families.clone()).unwrap_or_default();
    let outcome = Reconciler::new(host).apply(&Declared { protection, guard, ..Declared::default() }, true);
    match outcome.refused.into_iter().next() {
        Some(refusal) => Err(refusal.text),
        None => Ok(outcome.lacking),
    }
}
