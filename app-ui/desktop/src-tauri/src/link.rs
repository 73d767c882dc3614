//! The link to the service: kept, and found again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mast_control::{Client, ClientError, KeyPlace, Side, Subscription};
use serde::Serialize;

use crate::mend::Remedy;
use crate::news::News;
use crate::secrets;
use crate::shared::Shared;
use crate::system::HERE;

/// What the app calls itself, for the service's log.
pub const NAME: &str = concat!("mast-desktop ", env!("CARGO_PKG_VERSION"));
/// Between two tries while somebody waits.
const RETRY: Duration = Duration::from_millis(250);
/// Between two tries while nobody does.
const RETRY_HIDDEN: Duration = Duration::from_secs(3);
/// What was last known is shown for this long after the service was lost.
const BELIEVED: Duration = Duration::from_secs(1);
/// A service that does not come back within this time was stopped.
const LOST: Duration = Duration::from_secs(10);
/// How often a visible window is brought up to date.
const LIVE: Duration = Duration::from_secs(1);
/// Not more often than this, whatever happens.
const LEAST: Duration = Duration::from_millis(100);
/// Of more peers than this, everything is asked for as seldom as when nothing happens.
const MANY: usize = 200;

/// How the app stands with the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Service {
    /// One word.
    pub state: State,
    /// A sentence; empty when all is well.
    pub detail: String,
    /// The one step that mends it.
    pub remedy: Option<Remedy>,
    /// The command to be typed where that fails.
    pub by_hand: Option<String>,
    /// The service's version.
    pub version: Option<String>,
    /// Whether the user may change things.
    pub may_change: bool,
}

/// One word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum State {
    /// Connected.
    Ok,
    /// At the start, for a moment.
    #[default]
    Connecting,
    /// Not installed.
    Missing,
    /// Installed, does not run.
    Stopped,
    /// It was there until a moment ago.
    Lost,
    /// Older than this app.
    Old,
    /// Newer than this app.
    New,
    /// Its socket may not be opened.
    Forbidden,
    /// It answers nonsense, or nothing.
    Broken,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            state: State::Connecting,
            detail: String::new(),
            remedy: None,
            by_hand: None,
            version: None,
            may_change: false,
        }
    }
}

impl Service {
    fn of(state: State, detail: impl Into<String>, remedy: Option<Remedy>) -> Self {
        let by_hand = remedy.as_ref().map(|r| r.command.clone());
        let remedy = remedy.filter(|_| crate::mend::is_possible());
        Self { state, detail: detail.into(), remedy, by_hand, ..Self::default() }
    }

    fn connected(client: &Client) -> Self {
        let server = client.server();
        let mut service = Self { version: Some(server.version.clone()), may_change: true, ..Self::default() };
        service.state = State::Ok;
        if !server.may_change {
            let remedy = Remedy::join_group();
            service.may_change = false;
            service.detail = format!(
                "You see whether it works, and cannot change it: {}. With whom, over which networks, what happened and how \
                 much was carried may be hidden.",
                HERE.outside()
            );
            service.by_hand = remedy.as_ref().map(|r| r.command.clone());
            service.remedy = remedy.filter(|_| crate::mend::is_possible());
        }
        service
    }

    /// Why there is no connection. `lost` says how long ago there was one.
    fn without(error: &ClientError, lost: Option<Duration>, installed: bool) -> Self {
        match error {
            ClientError::NotRunning { .. } | ClientError::Closed if lost.is_some_and(|l| l < LOST) => {
                Self::of(
                    State::Lost,
                    "The service (mastd) stopped a moment ago. Trying to reach it again.",
                    None,
                )
            }
            ClientError::NotRunning { .. } if !installed => Self {
                by_hand: Some(HERE.build().into()),
                ..Self::of(State::Missing, "The service (mastd) is not installed. The README says how.", None)
            },
            ClientError::NotRunning { .. } | ClientError::Closed => Self::of(
                State::Stopped,
                "The service (mastd) is installed, but it does not run.",
                Some(Remedy::start()),
            ),
            ClientError::PermissionDenied { path } => Self::of(
                State::Forbidden,
                format!("You may not talk to the service (mastd): {} is closed to you.", path.display()),
                Remedy::join_group(),
            ),
            ClientError::Version(mismatch) => match mismatch.older() {
                Side::Service => Self::of(
                    State::Old,
                    format!("The service (mastd) is too old for this app: {mismatch}."),
                    None,
                ),
                Side::Client => Self::of(
                    State::New,
                    format!("This app is too old for the service (mastd): {mismatch}."),
                    None,
                ),
            },
            other => Self::of(
                State::Broken,
                format!("The service (mastd) cannot be understood: {other}."),
                Some(Remedy::restart()),
            ),
        }
    }
}

/// Keeps the link for as long as the app runs.
pub async fn keep(shared: Arc<Shared>) {
    let mut lost: Option<Instant> = None;
    loop {
        let error = match Client::connect_as(&shared.socket, NAME).await {
            Ok(client) => {
                let error = follow(&shared, client).await;
                lost = Some(Instant::now());
                error
            }
            Err(error) => error,
        };
        let since = lost.map(|at| at.elapsed());
        {
            let mut view = shared.view();
            view.service = Service::without(&error, since, is_installed());
            if since.is_none_or(|s| s >= BELIEVED) {
                view.status = None;
            }
        }
        shared.changed.notify_one();
        let waits = shared.is_visible() || since.is_some_and(|s| s < LOST);
        tokio::select! {
            () = tokio::time::sleep(if waits { RETRY } else { RETRY_HIDDEN }) => {}
            () = shared.refresh.notified() => {}
        }
    }
}

/// Follows what the service says, until the connection ends.
async fn follow(shared: &Shared, mut client: Client) -> ClientError {
    let subscribed = match Client::connect_as(&shared.socket, NAME).await {
        Ok(second) => second.subscribe().await,
        Err(error) => Err(error),
    };
    let mut notices = match subscribed {
        Ok(notices) => notices,
        Err(error) => return error,
    };
    // What happened before is not among the notices.
    shared.view().story_version += 1;
    let mut unlocking = false;
    loop {
        let status = match client.status().await {
            Ok(status) => status,
            Err(error) => return error,
        };
        let asked = Instant::now();
        let locked = status.key == KeyPlace::Locked;
        let pause = if status.peers.len() > MANY { LIVE } else { LEAST };
        if shared.is_visible() {
            shared.meters().take(asked, &status);
        }
        {
            let mut view = shared.view();
            view.service = Service::connected(&client);
            view.status = Some(status);
        }
        shared.changed.notify_one();
        if locked && !std::mem::replace(&mut unlocking, true) {
            secrets::unlock(shared).await;
        }
        if let Err(error) = hear(shared, &mut client, &mut notices, asked).await {
            return error;
        }
        tokio::time::sleep_until((asked + pause).into()).await;
    }
}

/// Takes in what happens, peer by peer, until everything must be asked for again.
async fn hear(
    shared: &Shared,
    client: &mut Client,
    notices: &mut Subscription,
    asked: Instant,
) -> Result<(), ClientError> {
    loop {
        // Nothing is asked while nothing happens and nobody looks.
        let live = async {
            if shared.is_visible() {
                tokio::time::sleep_until((asked + LIVE).into()).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let first = tokio::select! {
            () = live => {
                if client.server().may_change {
                    // Somebody looks, and wants no old news. A service that has no paths to try says so.
                    match client.check(None).await {
                        Ok(()) | Err(ClientError::Refused(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                return Ok(());
            }
            () = shared.refresh.notified() => return Ok(()),
            notice = notices.next() => notice?,
        };
        let mut news = News::default();
        news.add(first);
        tokio::time::sleep(LEAST).await;
        while let Ok(more) = tokio::time::timeout(Duration::ZERO, notices.next()).await {
            news.add(more?);
        }
        shared.view().take(&news, shared.is_visible());
        let mut all = news.is_of_all();
        for name in &news.peers {
            if all {
                break;
            }
            match client.peer(name).await {
                Ok(view) => all |= !shared.view().replace(view),
                Err(ClientError::Refused(_)) => all = true,
                Err(error) => return Err(error),
            }
        }
        shared.changed.notify_one();
        if all {
            return Ok(());
        }
    }
}

fn is_installed() -> bool {
    let own = std::env::current_exe().ok();
    HERE.services(own.as_deref().and_then(Path::parent)).iter().any(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use mast_control::Mismatch;

    use super::*;

    #[test]
    fn every_failure_has_its_word_and_its_remedy() {
        let gone = || ClientError::NotRunning { path: "/x".into() };
        let state = |error: &ClientError, lost, installed| Service::without(error, lost, installed).state;
        assert_eq!(state(&gone(), None, false), State::Missing);
        assert_eq!(state(&gone(), None, true), State::Stopped);
        assert_eq!(state(&gone(), Some(Duration::from_secs(1)), true), State::Lost);
        assert_eq!(state(&gone(), Some(Duration::from_secs(60)), true), State::Stopped);
        assert_eq!(state(&ClientError::Closed, Some(Duration::ZERO), true), State::Lost);
        assert_eq!(state(&ClientError::PermissionDenied { path: "/x".into() }, None, true), State::Forbidden);
        assert_eq!(state(&ClientError::Timeout, None, true), State::Broken);
        let version = |client, service| {
            ClientError::Version(Mismatch { client, service, service_version: Some("0.9.0".into()) })
        };
        assert_eq!(state(&version(2, Some(1)), None, true), State::Old);
        assert_eq!(state(&version(1, Some(2)), None, true), State::New);
        assert_eq!(state(&version(2, None), None, true), State::Old);
        let app = Service::without(&version(1, Some(2)), None, true).detail;
        assert!(app.starts_with("This app is too old") && app.contains("upgrade this program"), "{app}");
        let stopped = Service::without(&gone(), None, true);
        assert_eq!(stopped.by_hand.as_deref(), Some(HERE.start()), "what to type");
    }
}
