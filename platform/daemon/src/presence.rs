//! This machine's account at a presence service, and those of its peers: who logs in, who is listened for, and how it fares.
//!
//! The account is of this machine, not of the configuration file: it comes by `mast presence login`, and its password lies
//! sealed in the state directory. A peer's account is known from its invite, or the user says it; of peers without one this
//! machine's own is watched, which costs nothing, and is right where all of the user's machines share one.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mast_control::{ControlError, PresenceLogin, PresencePeer, PresenceReport, PresenceState};
use mast_engine::api::{Outline, PeerConfig, PublicKey, pair_secret, public_key};
use mast_engine::os::Family;
use mast_proto::PeerKind;
use mast_rendezvous::Health;
use mast_rendezvous::presence::{Account, BadAccount, Jid, Presence, Sockets};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use crate::daemon::Daemon;
use crate::store::StoredAccount;

/// So long whoever logs in waits to hear whether that worked.
const LOGIN: Duration = Duration::from_secs(12);
/// How often it is looked meanwhile.
const LOOK: Duration = Duration::from_millis(50);
/// What this machine's secret at a presence service is for.
const PURPOSE: &str = "presence machine";
/// What it is called where users read of it.
pub(crate) const NAME: &str = "presence";

/// What is said of an account, checked.
fn account(login: &PresenceLogin, secret: &[u8; 32]) -> Result<Account, ControlError> {
    let of = |error: BadAccount| match error {
        BadAccount::Jid => ControlError::bad_value("account", error.to_string()),
        BadAccount::Password => ControlError::bad_value("password", error.to_string()),
        BadAccount::Server => ControlError::bad_value("server", error.to_string()),
    };
    let jid: Jid = login.account.parse().map_err(of)?;
    let mut account = Account::new(jid, Zeroizing::new(login.password.clone()), secret).map_err(of)?;
    if let Some(server) = &login.server {
        account = account.with_server(server).map_err(of)?;
    }
    if let Some(pem) = &login.authority {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        if !all.is_ok_and(|all| !all.is_empty()) {
            let why = "must be a certificate as PEM, which begins with `-----BEGIN CERTIFICATE-----`";
            return Err(ControlError::bad_value("authority", why));
        }
        account = account.with_authority(pem.clone().into_bytes());
    }
    Ok(account)
}

/// What is known of this machine alone, and does not change while its key does not: no peer of that name exists.
fn secret(key: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    pair_secret(key, &public_key(key), PURPOSE)
}

/// The peers that are listened for, and where. Only who speaks MAST publishes.
fn listened(own: &Jid, peers: &[PeerConfig]) -> BTreeMap<PublicKey, Jid> {
    let mast = peers.iter().filter(|p| p.disclosure.mast && p.kind != Some(PeerKind::WireGuard));
    mast.map(|p| (p.public_key, known(p).unwrap_or_else(|| own.clone()))).collect()
}

fn known(peer: &PeerConfig) -> Option<Jid> {
    peer.account.as_deref().and_then(|account| account.parse().ok())
}

/// What decides on a session: with anything else, another begins.
#[derive(Clone, PartialEq)]
pub(crate) struct Wanted {
    login: StoredAccount,
    peers: BTreeMap<PublicKey, Jid>,
}

impl Wanted {
    /// This machine's account.
    pub fn account(&self) -> &str {
        &self.login.account
    }
}

/// The names of uplinks over which the service is reached, the best first.
#[derive(Clone, Default)]
pub(crate) struct Ways(Arc<Mutex<Vec<String>>>);

impl Ways {
    /// Takes over which uplinks there are.
    pub fn set(&self, outline: &Outline) {
        let usable = outline.interfaces.iter().filter(|(i, choice)| i.usable && !choice.excluded);
        let mut all: Vec<_> =
            usable.map(|(i, choice)| (choice.metered.unwrap_or(i.metered), &i.name)).collect();
        all.sort();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            all.into_iter().map(|(_, name)| name.clone()).collect();
    }

    /// Makes a socket for each, past every tunnel.
    fn sockets(&self) -> Sockets {
        let Self(ways) = self.clone();
        Arc::new(move |to: SocketAddr| {
            let ways = ways.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
            let mut failure = io::Error::from(io::ErrorKind::NetworkUnreachable);
            let mut sockets: Vec<TcpStream> = Vec::new();
            for way in ways {
                match mast_platform::own_stream(&way, family) {
                    Ok(socket) => sockets.push(socket),
                    Err(error) => failure = error,
                }
            }
            if sockets.is_empty() { Err(failure) } else { Ok(sockets) }
        })
    }
}

/// The session that should be there now: none without an account, and none while MAST is down.
pub(crate) async fn wanted(daemon: &Daemon) -> Option<Wanted> {
    let (login, peers) = {
        let store = daemon.store();
        (store.account()?.clone(), store.peers())
    };
    if !daemon.engine.outline().await.is_ok_and(|outline| outline.up) {
        return None;
    }
    let own: Jid = login.account.parse().ok()?;
    let peers = listened(&own, &peers);
    Some(Wanted { login, peers })
}

/// Begins one.
///
/// # Errors
/// Why that cannot be, and the remedy.
pub(crate) async fn begin(daemon: &Daemon, wanted: &Wanted, ways: &Ways) -> Result<Presence, Health> {
    let failed = |why: String| Health::Failed {
        why,
        remedy: format!("Log in again: mast presence login {}.", wanted.login.account),
    };
    let sealed = wanted.login.password.clone();
    let password = mast_state::unseal(&sealed)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
        .ok_or_else(|| failed("The password that is kept cannot be read.".to_owned()))?;
    let StoredAccount { account: jid, server, authority, .. } = &wanted.login;
    let login = PresenceLogin {
        account: jid.clone(),
        password,
        server: server.clone(),
        authority: authority.clone(),
    };
    let key = daemon.key.lock().await.key().clone();
    let secret = secret(&key).ok_or_else(|| failed("This machine's key is none.".to_owned()))?;
    let account = account(&login, &secret).map_err(|error| failed(format!("{}.", error.message)))?;
    Ok(Presence::new(account, wanted.peers.clone()).with_sockets(ways.sockets()))
}

/// Uses another account from now on.
///
/// # Errors
/// When it cannot be one; then nothing has changed.
pub(crate) async fn login(daemon: &Daemon, login: PresenceLogin) -> Result<PresenceReport, ControlError> {
    let checked = account(&login, &[0; 32])?;
    let jid = checked.jid().to_string();
    let password = mast_state::seal(login.password.as_bytes())
        .map_err(|error| ControlError::unavailable(format!("the password cannot be sealed: {error}")))?;
    let stored = StoredAccount {
        account: jid.clone(),
        password: password.to_string(),
        server: login.server.clone(),
        authority: login.authority.clone(),
    };
    daemon.store().set_account(Some(stored));
    // It fails only where the engine has ended.
    let _ = daemon.engine.set_account(Some(jid)).await;
    daemon.rendezvous.restart(NAME);
    daemon.rendezvous.changed.notify_one();
    let begun = Instant::now();
    loop {
        let report = report(daemon).await;
        if report.state != PresenceState::Starting || begun.elapsed() >= LOGIN {
            return Ok(report);
        }
        sleep(LOOK).await;
    }
}

/// Uses none any more, and forgets its password.
pub(crate) async fn logout(daemon: &Daemon) -> PresenceReport {
    daemon.store().set_account(None);
    // It fails only where the engine has ended.
    let _ = daemon.engine.set_account(None).await;
    daemon.rendezvous.changed.notify_one();
    report(daemon).await
}

/// How it stands.
pub(crate) async fn report(daemon: &Daemon) -> PresenceReport {
    let (login, peers) = {
        let store = daemon.store();
        (store.account().cloned(), store.peers())
    };
    let Some(login) = login else {
        return PresenceReport { state: PresenceState::Off, ..PresenceReport::default() };
    };
    let listened = login.account.parse().map(|own| listened(&own, &peers)).unwrap_or_default();
    let listened = peers.iter().filter_map(|peer| {
        let account = listened.get(&peer.public_key)?.to_string();
        Some(PresencePeer { peer: peer.name.clone(), account, assumed: known(peer).is_none() })
    });
    let (state, why, remedy) = match daemon.rendezvous.health(NAME) {
        Some(Health::Working) => (PresenceState::Working, None, None),
        Some(Health::Failed { why, remedy }) => (PresenceState::Failed, Some(why), Some(remedy)),
        Some(Health::Starting) | None => (PresenceState::Starting, None, None),
    };
    PresenceReport {
        account: Some(login.account.clone()),
        server: login.server.clone(),
        state,
        why,
        remedy,
        peers: listened.collect(),
    }
}

/// What a user says of a peer's account; an empty text says that there is none.
///
/// # Errors
/// When it is no account.
pub(crate) fn of_peer(text: &str) -> Result<Option<String>, ControlError> {
    if text.is_empty() {
        return Ok(None);
    }
    let jid: Result<Jid, BadAccount> = text.parse();
    jid.map(|jid| Some(jid.to_string()))
        .map_err(|error| ControlError::bad_value("presence", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(account: &str, password: &str) -> PresenceLogin {
        with(account, password, None, None)
    }

    fn with(account: &str, password: &str, server: Option<&str>, authority: Option<&str>) -> PresenceLogin {
        let [account, password] = [account, password].map(str::to_owned);
        let [server, authority] = [server, authority].map(|text| text.map(str::to_owned));
        PresenceLogin { account, password, server, authority }
    }

    #[test]
    fn what_cannot_be_an_account_is_refused_by_its_field() {
        let refusal = |login: &PresenceLogin| account(login, &[1; 32]).unwrap_err().message;
        assert!(refusal(&login("alice", "p")).contains("account"));
        assert!(refusal(&login("alice@example.org", "a\nb")).contains("password"));
        assert!(refusal(&with("alice@example.org", "p", Some("a b"), None)).contains("server"));
        for pem in ["", "hello", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            assert!(refusal(&with("alice@example.org", "p", None, Some(pem))).contains("authority"), "{pem}");
        }
        assert_eq!(
            account(&login("Alice@Example.org", "p"), &[1; 32]).unwrap().jid().as_str(),
            "alice@example.org"
        );
    }

    #[test]
    fn a_peers_account_is_one_or_none() {
        assert_eq!(of_peer("").unwrap(), None);
        assert_eq!(of_peer("Bob@Example.org").unwrap().as_deref(), Some("bob@example.org"));
        assert!(of_peer("bob").unwrap_err().message.contains("presence"));
    }

    #[test]
    fn a_machine_has_one_secret_and_another_machine_another() {
        let (one, other) = ([7; 32], [8; 32]);
        assert_eq!(secret(&one), secret(&one));
        assert!(secret(&one).is_some() && secret(&one) != secret(&other));
    }
}
