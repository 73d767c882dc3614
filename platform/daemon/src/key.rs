//! Where the private key is: in a file of the service, or in a user's key store.
//!
//! The key must never be lost on the way. So the service hands over a copy, and forgets its file only when the same
//! key comes back as the confirmation that it can be read from the key store. Until then, and whenever it is told to
//! keep the key, the file is there.

use std::sync::Arc;

use mast_control::{
    Caller, ControlError, Drill, DrillProgress, DrillReport, HandedKey, KeyPlace, KeyUnlock, Notice, Notices,
    Protection, Request, Response, Server, ServerOptions, Service, Status, Story, Trouble, TroubleCause, Why,
};
use mast_engine::Tidings;
use mast_engine::api::{PublicKey, public_key};
use mast_engine::declared::Guard;
use mast_state::{StateDir, StateError};
use tokio::sync::{Mutex, mpsc, oneshot};
use zeroize::Zeroizing;

use crate::daemon::Subscription;
use crate::failure::Failure;
use crate::{VERSION, notation, protect};

pub(crate) type PrivateKey = Zeroizing<[u8; 32]>;

/// The key of a running service.
pub(crate) struct Holder {
    key: PrivateKey,
    place: KeyPlace,
    /// It was handed over, and the confirmation has not come.
    handed: bool,
}

impl Holder {
    /// A key that came from a file, or from a user.
    pub fn new(key: PrivateKey, place: KeyPlace) -> Self {
        Self { key, place, handed: false }
    }

    /// Where the key is.
    pub fn place(&self) -> KeyPlace {
        self.place
    }

    /// Hands over a copy.
    pub fn hand_over(&mut self) -> HandedKey {
        self.handed = true;
        HandedKey { private_key: notation::key_text(&self.key) }
    }

    /// The key store has it, and so does this service: whether the file shall go now.
    ///
    /// # Errors
    /// When it is another key.
    pub fn confirm(&mut self, unlock: &KeyUnlock) -> Result<bool, ControlError> {
        check(unlock, &public_key(&self.key))?;
        Ok(std::mem::take(&mut self.handed))
    }

    /// The file is gone, or there again.
    pub fn moved(&mut self, place: KeyPlace) {
        self.place = place;
        self.handed = false;
    }

    /// The key, to be written to the file.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }
}

/// Refuses whoever is neither administrator nor the key's owner, who is the user that handed it to a key store, or that
/// root named.
///
/// # Errors
/// With the remedy.
pub(crate) fn check_owner(owner: Option<&str>, caller: &Caller) -> Result<(), ControlError> {
    if caller.administrator || owner == Some(caller.user.as_str()) {
        return Ok(());
    }
    let user = &caller.user;
    Err(ControlError::not_permitted(match owner {
        None => format!(
            "the private key is handed over to root and to its owner only, and it has no owner yet: to be it, run \
             `sudo mast key owner {user}`, and try again"
        ),
        Some(owner) => format!(
            "the private key belongs to user {owner}: only that user and root may have it; to change that, run \
             `sudo mast key owner {user}`"
        ),
    }))
}

/// Reads a key that a user brings.
fn check(unlock: &KeyUnlock, expected: &PublicKey) -> Result<PrivateKey, ControlError> {
    let key = notation::key(&unlock.private_key).map(Zeroizing::new);
    let key = key.map_err(|why| ControlError::bad_value("private_key", why))?;
    let public = public_key(&key);
    if public == *expected {
        return Ok(key);
    }
    let (given, expected) = (notation::key_text(&public), notation::key_text(expected));
    Err(ControlError::of(Why::OtherKey { given, expected }))
}

/// Serves until a user brings the key. Whether the tunnel shall be up is returned with it, where that was said
/// meanwhile; `guard` is what is held back until then, and how that stands.
///
/// # Errors
/// When the control socket cannot be opened.
pub(crate) async fn wait(
    control: &std::path::Path,
    name: &str,
    expected: PublicKey,
    owner: Option<String>,
    guard: (Option<Guard>, Protection),
) -> Result<Brought, Failure> {
    let server = Server::bind(ServerOptions::new(name, VERSION).at(control)).map_err(Failure::Control)?;
    tracing::warn!("{}", mast_control::words::trouble(&TroubleCause::KeyLocked));
    let (found, key) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let service = Arc::new(Locked {
        name: name.to_owned(),
        expected,
        owner,
        found: Mutex::new(Some(found)),
        guard: guard.0,
        held: Mutex::new((guard.1, None)),
        notices: Tidings::new(1),
    });
    let server = tokio::spawn(server.run(Arc::clone(&service), async { drop(stopped.await) }));
    let brought = key.await.map_err(|_| Failure::Ended)?;
    // The answer that it is the right one still goes out.
    drop(stop);
    let _ = server.await;
    let wanted = service.held.lock().await.1;
    Ok(Brought { wanted, ..brought })
}

/// A key that a user brought.
pub(crate) struct Brought {
    pub key: PrivateKey,
    /// The user, where it is not an administrator.
    pub by: Option<String>,
    /// Whether the tunnel is wanted, where that was said meanwhile.
    pub wanted: Option<bool>,
}

/// A service without its key: it can say so, and take the key.
struct Locked {
    name: String,
    expected: PublicKey,
    /// Who alone may bring it, beside administrators. Where nobody knows, that is who has it.
    owner: Option<String>,
    found: Mutex<Option<oneshot::Sender<Brought>>>,
    /// What is to be held back while the tunnel is wanted.
    guard: Option<Guard>,
    /// How that stands, and whether it is wanted, where that was said.
    held: Mutex<(Protection, Option<bool>)>,
    notices: Tidings<Notice>,
}

impl Service for Locked {
    async fn call(&self, request: Request, caller: &Caller) -> Result<Response, ControlError> {
        match request {
            Request::Status => Ok(Status {
                name: self.name.clone(),
                version: VERSION.to_owned(),
                public_key: notation::key_text(&self.expected),
                key: KeyPlace::Locked,
                trouble: Some(Trouble::new(TroubleCause::KeyLocked)),
                protection: self.held.lock().await.0.clone(),
                ..Status::default()
            }
            .into()),
            Request::KeyUnlock(unlock) => {
                if let Some(owner) = &self.owner {
                    check_owner(Some(owner), caller)?;
                }
                let key = check(&unlock, &self.expected)?;
                tracing::info!(user = caller.user, "the private key was brought");
                if let Some(found) = self.found.lock().await.take() {
                    let by = (!caller.administrator).then(|| caller.user.clone());
                    // Fails only when the service is ending.
                    let _ = found.send(Brought { key, by, wanted: None });
                }
                Ok(Response::DONE)
            }
            // Without a tunnel there is nothing to be brought up or down but what is held back.
            Request::Up | Request::Down => {
                let up = request == Request::Up;
                let guard = self.guard.clone().filter(|_| up);
                let set = tokio::task::spawn_blocking(move || protect::set(guard)).await;
                *self.held.lock().await = (set.unwrap_or_default(), Some(up));
                Ok(Response::DONE)
            }
            Request::Story(_) => Ok(Response::Story(Story::default())),
            _ => Err(ControlError::of(Why::KeyLocked)),
        }
    }

    async fn drill(
        &self,
        _: Drill,
        _: mpsc::Sender<DrillProgress>,
        _: &Caller,
    ) -> Result<DrillReport, ControlError> {
        Err(ControlError::of(Why::KeyLocked))
    }

    fn subscribe(&self) -> impl Notices {
        Subscription::new(&self.notices)
    }
}

/// The key at the start.
pub(crate) enum AtStart {
    /// From the file.
    Kept(PrivateKey),
    /// Made anew at the very first start, and not to be written now: why.
    Unkept(PrivateKey, StateError),
    /// To be waited for: the public key that it must have.
    Awaited(PublicKey),
}

/// Finds the key, or makes one.
///
/// # Errors
/// When the file cannot be used.
pub(crate) fn at_start(dir: &StateDir, handed: Option<PublicKey>) -> Result<AtStart, StateError> {
    match (dir.private_key()?, handed) {
        (Some(key), _) => Ok(AtStart::Kept(key)),
        (None, Some(public)) => Ok(AtStart::Awaited(public)),
        (None, None) => {
            let key = StateDir::new_private_key()?;
            match dir.write_private_key(&key) {
                Ok(()) => Ok(AtStart::Kept(key)),
                Err(error) if error.is_unwritable() => Ok(AtStart::Unkept(key, error)),
                Err(error) => Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_goes_only_when_the_right_key_comes_back() {
        let key = Zeroizing::new([8; 32]);
        let mut holder = Holder::new(key.clone(), KeyPlace::File);
        let unlock = |key: &[u8; 32]| KeyUnlock { private_key: notation::key_text(key) };
        assert!(!holder.confirm(&unlock(&key)).unwrap(), "nobody asked for it");
        let handed = holder.hand_over();
        assert_eq!(handed.private_key, notation::key_text(&key));
        let other = holder.confirm(&unlock(&[9; 32])).unwrap_err();
        assert!(other.message.contains("another machine"), "{other}");
        assert!(holder.confirm(&KeyUnlock { private_key: "AAAA".into() }).is_err());
        assert!(holder.confirm(&unlock(&key)).unwrap());
        assert!(!holder.confirm(&unlock(&key)).unwrap());
        holder.hand_over();
        holder.moved(KeyPlace::File);
        assert!(!holder.confirm(&unlock(&key)).unwrap(), "it was kept after all");
    }

    #[test]
    fn the_key_is_for_root_and_its_owner_and_others_are_told_what_to_do() {
        let caller = |user: &str, root| Caller::foreign(user, root);
        assert!(check_owner(None, &caller("0", true)).is_ok());
        assert!(check_owner(Some("1000"), &caller("0", true)).is_ok());
        assert!(check_owner(Some("1000"), &caller("1000", false)).is_ok());
        for owner in [None, Some("1000")] {
            let refused = check_owner(owner, &caller("1001", false)).unwrap_err();
            assert!(refused.message.contains("sudo mast key owner 1001"), "{refused}");
        }
    }

    #[test]
    fn a_key_in_a_key_store_is_waited_for_and_none_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let dir = StateDir::open(directory.path().join("state")).unwrap();
        let kept = |handed| match at_start(&dir, handed).unwrap() {
            AtStart::Kept(key) => Some(key),
            AtStart::Unkept(..) => panic!("this disk can be written"),
            AtStart::Awaited(public) => {
                assert_eq!(Some(public), handed);
                None
            }
        };
        let key = kept(None).unwrap();
        let public = public_key(&key);
        assert_eq!(kept(Some(public)).unwrap(), key);
        dir.forget_private_key().unwrap();
        assert_eq!(kept(Some(public)), None);
        dir.write_private_key(&key).unwrap();
        assert_eq!(kept(None).unwrap(), key);
    }
}
