//! Finding peers by a presence service (XMPP; RFC 6120, XEP-0163): each machine publishes where it is, sealed for each of
//! its peers (`core/PROTOCOL.md`, section 25), as an item of its account, and hears of theirs.
//!
//! The account may be one's own everyday account, one for all of one's machines, or one for each: an item is per machine,
//! chats never go to this session, and to everybody else the items are random bytes.
//!
//! # How soon
//!
//! A peer hears of new addresses a round trip of each end after they are known. When the own address changes, the old
//! connection is dropped at once, and the session goes on over a new one (XEP-0198), which takes some nine round trips to
//! the server.
//!
//! # What it costs
//!
//! At most one publication a second, of 2.2 kB for up to 4 peers and 35 kB for 64; without news one an hour, a question
//! each 2 minutes, and for each account of peers two questions each half hour, never more than one a minute.

mod account;
mod budget;
mod chores;
mod connect;
mod failure;
mod resolve;
mod session;
mod stanzas;
mod stream;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

pub use self::account::{Account, BadAccount, Jid};
use self::connect::{Connection, Connector};
use self::failure::{Failure, Pauses};
use self::session::{End, Memory, Session};
use self::stream::Stream;
use crate::{Health, Own, PeerKey, Posts, Rendezvous};

/// A session that lasted for so long was a good one: the next try is made at once.
const GOOD: Duration = Duration::from_secs(30);
/// Never more connections than one in this time, whatever happens.
const LEAST_PAUSE: Duration = Duration::from_millis(200);
/// An address change is told in several pieces.
const SETTLE: Duration = Duration::from_millis(30);
/// A connection that is being made is begun anew when addresses change; so many times in a row.
const MOST_RESTARTS: usize = 5;

/// Makes sockets for connections to an address, one for each way out of this host, the best first: not connected, and such
/// as do not block.
pub type Sockets = Arc<dyn Fn(SocketAddr) -> io::Result<Vec<TcpStream>> + Send + Sync>;

/// The rendezvous by presence.
pub struct Presence {
    account: Arc<Account>,
    peers: BTreeMap<PeerKey, Jid>,
    sockets: Option<Sockets>,
}

impl Presence {
    /// Publishes to an account, and listens to those of peers. Peers without one may still find this end.
    pub fn new(account: Account, peers: BTreeMap<PeerKey, Jid>) -> Self {
        Self { account: Arc::new(account), peers, sockets: None }
    }

    /// Uses these sockets, such as those that are kept out of the tunnel, instead of the system's ordinary ones.
    pub fn with_sockets(mut self, sockets: Sockets) -> Self {
        self.sockets = Some(sockets);
        self
    }

    async fn keep_up(&self, connector: &mut Connector, posts: &mut Posts) {
        let mut memory = Memory::default();
        let mut pauses = Pauses::default();
        let mut begun = Instant::now();
        loop {
            let failure = match self.once(connector, posts, &mut memory).await {
                Ok(()) => return,
                Err(failure) => failure,
            };
            // What was lost is made up for at once; only if that fails there is something to tell.
            let good = begun.elapsed() >= GOOD;
            if good {
                pauses = Pauses::default();
            }
            tracing::debug!(?failure, "no presence session");
            let made_up_for = failure == Failure::Moved || (good && failure.by_network());
            if !made_up_for {
                set_health(&posts.health, failure.health(self.account.jid().as_str(), self.account.domain()));
                if !wait(pauses.next(), &failure, &mut posts.own, &mut pauses).await {
                    return;
                }
            }
            sleep_until(begun + LEAST_PAUSE).await;
            begun = Instant::now();
        }
    }

    /// One connection, until it fails; or until there is nobody who would be told.
    async fn once(
        &self,
        connector: &mut Connector,
        posts: &mut Posts,
        memory: &mut Memory,
    ) -> Result<(), Failure> {
        let Some(connection) = connect(connector, &mut posts.own).await? else { return Ok(()) };
        let local = connection.local;
        // Kept until there is a session, as the attempt may be lost to one more move.
        let earlier = memory.resumable.clone();
        let (stream, resumed) = Stream::begin(connection, self.account.resource(), earlier).await?;
        memory.resumable = None;
        tracing::debug!(resumed, "a presence session");
        match Session::new(&self.account, &self.peers, posts, memory, stream, local, resumed).serve().await {
            End::Over => Ok(()),
            End::Failed(failure) => Err(failure),
        }
    }
}

impl Rendezvous for Presence {
    fn name(&self) -> &'static str {
        "presence"
    }

    async fn run(self, mut posts: Posts) {
        match Connector::new(Arc::clone(&self.account), self.sockets.clone()) {
            Ok(mut connector) => self.keep_up(&mut connector, &mut posts).await,
            Err(why) => {
                let why = format!("The presence server's certificates cannot be checked: {why}.");
                let remedy = "Correct what `authority` names.".to_owned();
                set_health(&posts.health, Health::Failed { why, remedy });
                while posts.own.changed().await.is_ok() {}
            }
        }
    }
}

/// Connects, and begins anew when addresses change meanwhile: what was begun may never be answered. None if there is nobody
/// who would be told.
async fn connect(
    connector: &mut Connector,
    own: &mut watch::Receiver<Own>,
) -> Result<Option<Connection>, Failure> {
    own.mark_unchanged();
    for _ in 0..MOST_RESTARTS {
        tokio::select! {
            connection = connector.connect() => return connection.map(Some),
            changed = own.changed() => if changed.is_err() { return Ok(None) },
        }
        sleep(SETTLE).await;
    }
    connector.connect().await.map(Some)
}

/// Waits until the next try; not so long if the network changes, and that may help. False if there is nobody who would be
/// told.
async fn wait(
    pause: Duration,
    failure: &Failure,
    own: &mut watch::Receiver<Own>,
    pauses: &mut Pauses,
) -> bool {
    let end = Instant::now() + pause;
    loop {
        match timeout(end.saturating_duration_since(Instant::now()), own.changed()).await {
            Err(_) => return true,
            Ok(Err(_)) => return false,
            Ok(Ok(())) if failure.by_network() => {
                *pauses = Pauses::default();
                sleep(SETTLE).await;
                return true;
            }
            Ok(Ok(())) => {}
        }
    }
}

fn set_health(health: &watch::Sender<Health>, now: Health) {
    health.send_if_modified(|before| {
        let news = *before != now;
        if news {
            *before = now;
        }
        news
    });
}
