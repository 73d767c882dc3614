//! The user's key store: the private key of the service where the user wants it there.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use keyring::{Entry, Error};
use mast_control::{HandedKey, KeyUnlock, Request};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::system::HERE;

/// Under which name secrets are kept.
const SERVICE: &str = "MAST";
const PRIVATE_KEY: &str = "private key";
/// What was found out of the key store is believed for so long.
const BELIEVED: Duration = Duration::from_secs(30);

/// A key store, and whether it can be used now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Store {
    /// What it is called.
    pub name: &'static str,
    /// Whether it can be used.
    pub usable: bool,
    /// Why not, and what to do.
    pub detail: String,
}

static STORE: Mutex<Option<(Instant, Store)>> = Mutex::new(None);

/// The key store of this desktop.
pub fn store() -> Store {
    let mut known = STORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((at, store)) = known.as_ref()
        && at.elapsed() < BELIEVED
    {
        return store.clone();
    }
    let name = HERE.key_store();
    let looked = Entry::new(SERVICE, PRIVATE_KEY).and_then(|entry| entry.get_password().map(drop));
    let store = match looked {
        Ok(()) | Err(Error::NoEntry) => Store { name, usable: true, detail: String::new() },
        Err(error) => Store { name, usable: false, detail: explain(&error) },
    };
    *known = Some((Instant::now(), store.clone()));
    store
}

fn explain(error: &Error) -> String {
    match error {
        Error::NoStorageAccess(why) => format!(
            "The key store is locked or missing ({why}). Unlock it with your password manager, or install one such as \
             gnome-keyring, and log in again."
        ),
        Error::PlatformFailure(why) => format!(
            "There is no key store that answers ({why}). Install one such as gnome-keyring, and log in again."
        ),
        other => format!("The key store refused: {other}."),
    }
}

fn refusal(error: &Error) -> Refusal {
    Refusal::new(explain(error))
}

/// The key store may wait for the user to unlock it: not on a thread that others need.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Refusal::new(format!("the key store broke down: {error}"))))
}

fn read(what: &str) -> Result<Zeroizing<String>, Error> {
    Entry::new(SERVICE, what)?.get_password().map(Zeroizing::new)
}

fn write(what: &str, secret: &str) -> Result<(), Error> {
    Entry::new(SERVICE, what)?.set_password(secret)
}

fn forget(what: &str) -> Result<(), Error> {
    match Entry::new(SERVICE, what)?.delete_credential() {
        Err(Error::NoEntry) => Ok(()),
        other => other,
    }
}

/// Moves the private key from the service into the key store. The service forgets its file only once it is there.
///
/// # Errors
/// When the service or the key store refuses; the key is then where it was.
pub async fn hand_over(shared: &Shared) -> Result<(), Refusal> {
    let handed: HandedKey = shared.ask(&Request::KeyHandOver).await?;
    let key = Zeroizing::new(handed.private_key.clone());
    let stored = {
        let key = key.clone();
        apart(move || {
            write(PRIVATE_KEY, &key).and_then(|()| read(PRIVATE_KEY)).map_err(|e| refusal(&e)).and_then(
                |back| {
                    if *back == *key {
                        Ok(())
                    } else {
                        Err(Refusal::new("the key store gave back something else"))
                    }
                },
            )
        })
    };
    if let Err(error) = stored.await {
        shared.tell(&Request::KeyKeep).await?;
        return Err(error);
    }
    // The confirmation: from here on only the key store has it.
    shared.tell(&Request::KeyUnlock(KeyUnlock { private_key: key.to_string() })).await
}

/// Has the service keep the private key again.
///
/// # Errors
/// When the service refuses; the key is then still in the key store.
pub async fn take_back(shared: &Shared) -> Result<(), Refusal> {
    shared.tell(&Request::KeyKeep).await?;
    apart(|| forget(PRIVATE_KEY).map_err(|e| refusal(&e))).await
}

/// The service waits for its key: if it is in this user's key store, the service gets it.
pub async fn unlock(shared: &Shared) {
    let key = apart(|| read(PRIVATE_KEY).map_err(|e| refusal(&e))).await;
    let result = match key {
        Ok(key) => shared.tell(&Request::KeyUnlock(KeyUnlock { private_key: key.to_string() })).await,
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        eprintln!("mast-desktop: the service cannot have its key: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the key store of this system takes, it gives back, and forgets.
    #[test]
    #[ignore = "needs a key store: the one of Windows is there under wine, those of Linux are tried by tests/window"]
    fn a_secret_is_kept_given_back_and_forgotten() {
        let what = format!("test {}", std::process::id());
        assert!(matches!(read(&what), Err(Error::NoEntry)));
        for secret in ["AAAA", "of many bytes: äöü€"] {
            write(&what, secret).unwrap();
            assert_eq!(*read(&what).unwrap(), secret);
        }
        forget(&what).unwrap();
        assert!(matches!(read(&what), Err(Error::NoEntry)));
        forget(&what).unwrap();
        assert!(store().usable, "{:?}", store());
    }
}
