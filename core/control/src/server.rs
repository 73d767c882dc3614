//! The service's end.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use crate::access::{Access, Caller};
use crate::connection;
use crate::error::ControlError;
use crate::native::Socket;
use crate::quota::Quotas;
use crate::report::{DrillProgress, DrillReport};
use crate::request::{Drill, Request};
use crate::response::{HelloReply, Notice, Response};
use crate::transport::{Accepted, Listener};
use crate::{DEFAULT_SOCKET, PROTOCOL, wire};

/// How many connections there may be of users that may be kept out; far more than the interfaces of one machine need.
const MAX_CONNECTIONS: usize = 64;
/// How many of them one user may hold. Where there is no room left, whoever comes takes it from the user with the most.
const MAX_PER_USER: usize = 32;
/// How many connections there may be beside those, of administrators and the service's own user.
const MAX_ADMINISTRATORS: usize = 64;
/// How long connections may take to finish their answers at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);
/// How long somebody who is refused a connection may take to read why.
const NOTE_TIMEOUT: Duration = Duration::from_secs(1);
/// So long a user that has too many connections waits to be told.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);
/// So many may wait for that; beyond, they are told nothing.
const MAX_REFUSED: usize = 256;
/// The pause after a failed accept: running out of descriptors must not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the service does for its interfaces.
///
/// Permission has been checked and parameters have been read before anything here is called.
pub trait Service: Send + Sync + 'static {
    /// Answers a request with the [`Response`] that belongs to it.
    ///
    /// Runs in a task of its own and is finished even when the client disappears. Requests of one connection come
    /// one after the other, those of several connections at the same time.
    fn call(
        &self,
        request: Request,
        caller: &Caller,
    ) -> impl Future<Output = Result<Response, ControlError>> + Send;

    /// Silences each path of a peer in turn and reports what became of the traffic.
    ///
    /// The future is dropped when the client disappears, and at shutdown: whatever was silenced must come back then, too.
    /// A full `progress` means a slow reader; `try_send` and forget, or wait, as it suits the drill.
    fn drill(
        &self,
        drill: Drill,
        progress: mpsc::Sender<DrillProgress>,
        caller: &Caller,
    ) -> impl Future<Output = Result<DrillReport, ControlError>> + Send;

    /// A new reader of what happens from now on.
    fn subscribe(&self) -> impl Notices;
}

/// A reader of what happens, in order.
///
/// What waits to be read is bounded: where a reader does not keep up, the oldest notices are left out, and
/// [`Notice::Missed`] in their place tells how many.
pub trait Notices: Send + 'static {
    /// Waits for the next notice; none when the service ends. May be cancelled.
    fn next(&mut self) -> impl Future<Output = Option<Notice>> + Send;
}

/// How the server presents itself.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where to listen.
    pub path: PathBuf,
    /// This endpoint's name.
    pub name: String,
    /// The service's version.
    pub version: String,
    /// Who may change things.
    pub access: Access,
    /// Whether it is found by whoever asks which service lives here ([`crate::living`]).
    pub present: bool,
}

impl ServerOptions {
    /// The usual place and the usual rule.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            path: DEFAULT_SOCKET.into(),
            name: name.into(),
            version: version.into(),
            access: Access::system(),
            present: false,
        }
    }

    /// Another place.
    #[must_use]
    pub fn at(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = path.into();
        self
    }

    /// It is the service of this machine, or of this network namespace.
    #[must_use]
    pub fn present(mut self) -> Self {
        self.present = true;
        self
    }

    /// Another rule.
    #[must_use]
    pub fn with_access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another service answers there.
    #[error("another mastd is already running: it answers at {path}")]
    AlreadyRunning {
        /// Where.
        path: PathBuf,
    },
    /// Something else is in the way.
    #[error("{path} exists and is not a socket: remove it, or choose another place")]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot listen at {path}: {source}")]
    Bind {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What every connection needs to know.
pub(crate) struct Shared {
    pub(crate) greeting: HelloReply,
    pub(crate) access: Access,
    pub(crate) quotas: Quotas,
}

/// A listening server; clients may already connect and wait.
pub struct Server<L = Socket> {
    listener: L,
    path: PathBuf,
    shared: Arc<Shared>,
}

impl Server {
    /// Listens. Must be called within a tokio runtime with time and I/O.
    ///
    /// # Errors
    /// When another service lives at the same place, or the system refuses.
    pub fn bind(options: ServerOptions) -> Result<Self, ServerError> {
        let listener = Socket::bind(&options.path, options.present)?;
        Ok(Self::on(listener, options))
    }
}

impl<L: Listener> Server<L> {
    /// Listens where `listener` does; the path is not looked at.
    pub fn on(listener: L, options: ServerOptions) -> Self {
        let greeting = HelloReply {
            protocol: PROTOCOL,
            version: options.version,
            name: options.name,
            may_change: false,
        };
        let shared = Shared { greeting, access: options.access, quotas: Quotas::default() };
        Self { listener, path: options.path, shared: Arc::new(shared) }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves until `shutdown` is ready, then removes the socket and lets answers under way finish for a second.
    pub async fn run<S: Service>(self, service: Arc<S>, shutdown: impl Future<Output = ()>) {
        let Self { mut listener, shared, .. } = self;
        let (stop, stopped) = watch::channel(false);
        let mut connections = Connections::default();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                ended = connections.tasks.join_next_with_id(), if !connections.tasks.is_empty() => {
                    connections.ended(ended);
                }
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => connections.start(accepted, &service, &shared, &stopped),
                    Err(error) => {
                        tracing::warn!(%error, "a control connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        // Fails only when no connection listens any more.
        let _ = stop.send(true);
        let drain = async { while connections.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_GRACE, drain).await.is_err() {
            tracing::debug!("control connections were cut at shutdown");
        }
    }
}

/// The open connections and whose they are.
struct Connections {
    tasks: JoinSet<()>,
    open: HashMap<Id, Open>,
    latest: u64,
    /// Places for those that are refused, until they have been told.
    refused: Arc<Semaphore>,
}

/// An open connection.
struct Open {
    user: String,
    /// Of somebody who is never kept out.
    certain: bool,
    /// The later, the larger.
    number: u64,
    end: AbortHandle,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            tasks: JoinSet::new(),
            open: HashMap::new(),
            latest: 0,
            refused: Arc::new(Semaphore::new(MAX_REFUSED)),
        }
    }
}

impl Connections {
    fn start<S: Service>(
        &mut self,
        accepted: Accepted,
        service: &Arc<S>,
        shared: &Arc<Shared>,
        stopped: &watch::Receiver<bool>,
    ) {
        let Accepted { reader, mut writer, caller } = accepted;
        let certain = shared.access.is_certain(&caller);
        if !self.has_room(&caller.user, certain) {
            let error = ControlError::unavailable("too many control connections: close some and try again");
            // The note is a courtesy: a fresh socket has room for it, and the connection ends anyway.
            let note = wire::answer::<()>(&Value::Null, Err(error));
            let Ok(place) = Arc::clone(&self.refused).try_acquire_owned() else { return };
            tokio::spawn(async move {
                if !certain {
                    // Whoever tries again at once must not keep the machine busy with it.
                    tokio::time::sleep(REFUSAL_PAUSE).await;
                }
                let _ = tokio::time::timeout(NOTE_TIMEOUT, writer.write_all(&note)).await;
                drop((reader, place));
            });
            return;
        }
        let user = caller.user.clone();
        let quota = (!certain).then(|| shared.quotas.of(&user));
        let task = connection::serve(
            (reader, writer),
            (caller, quota),
            Arc::clone(service),
            Arc::clone(shared),
            stopped.clone(),
        );
        let end = self.tasks.spawn(task);
        self.latest += 1;
        self.open.insert(end.id(), Open { user, certain, number: self.latest, end });
    }

    /// Whether there is room for one more of a user; where there is none, it may be made.
    fn has_room(&mut self, user: &str, certain: bool) -> bool {
        let alike = self.open.values().filter(|open| open.certain == certain).count();
        if certain {
            return alike < MAX_ADMINISTRATORS;
        }
        let mut held: BTreeMap<&str, usize> = BTreeMap::new();
        for open in self.open.values().filter(|open| !open.certain) {
            *held.entry(&open.user).or_default() += 1;
        }
        let own = held.get(user).copied().unwrap_or_default();
        if alike < MAX_CONNECTIONS {
            return own < MAX_PER_USER;
        }
        let Some((most, count)) = held.into_iter().max_by_key(|(_, count)| *count) else { return true };
        if own + 1 >= count {
            return false;
        }
        let theirs = self.open.iter().filter(|(_, open)| open.user == most);
        let Some((id, open)) = theirs.max_by_key(|(_, open)| open.number) else { return false };
        open.end.abort();
        let id = *id;
        tracing::info!(user = most, "a control connection of the user with the most made room for another's");
        // What is left of the task is counted no more.
        self.open.remove(&id);
        true
    }

    fn ended(&mut self, ended: Option<Result<(Id, ()), JoinError>>) {
        let id = match ended {
            None => return,
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => {
                if !error.is_cancelled() {
                    tracing::error!(%error, "a control connection broke down");
                }
                error.id()
            }
        };
        self.open.remove(&id);
    }
}
