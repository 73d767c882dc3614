//! A session at work: what this end has to tell is published, and what peers publish is heard.

mod hearing;

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep_until};
use xmpp_parsers::iq::Iq;
use xmpp_parsers::jid::BareJid;

use super::account::{Account, Jid};
use super::chores::{Chores, Kind};
use super::failure::{Failure, Pauses};
use super::stanzas;
use super::stream::{Resumable, Stream};
use super::{SETTLE, set_health};
use crate::sealed::{self, Heard, Sequence};
use crate::{Health, Own, PeerKey, Posts, Told};

/// How long what is published holds: long enough that a host that is asleep over lunch is found again.
const LIFETIME: Duration = Duration::from_secs(2 * 3600);
/// It is published anew when half of that is over.
const REFRESH: Duration = Duration::from_secs(3600);
/// Never more often than this, whatever happens to addresses.
const LEAST_BETWEEN: Duration = Duration::from_secs(1);
/// A publication that is not answered in this time was lost with the network that it went by: it takes a round trip. Twice
/// as long after each that was not, for servers that are really so slow.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);
const LAST_PATIENCE: Duration = Duration::from_secs(24);
/// Others' servers may have to be reached first.
const PATIENCE_WITH_OTHERS: Duration = Duration::from_secs(30);
/// The most accounts that are listened to; what the user has beyond is left out.
const MOST_ACCOUNTS: usize = 64;
/// The most questions of others that are answered in each [`ANSWERS_IN`].
const MOST_ANSWERS: u32 = 20;
const ANSWERS_IN: Duration = Duration::from_secs(10);

/// What is kept from one session to the next.
pub(super) struct Memory {
    heard: Heard,
    sequence: Sequence,
    /// Whether the number of what was published before the start is known.
    knows_own: bool,
    published: Option<Published>,
    last_publication: Option<Instant>,
    patience: Duration,
    pub(super) resumable: Option<Resumable>,
    /// Of the last question. It goes on, so that a late answer is not taken for another.
    id: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            heard: Heard::default(),
            sequence: Sequence::default(),
            knows_own: false,
            published: None,
            last_publication: None,
            patience: FIRST_PATIENCE,
            resumable: None,
            id: 0,
        }
    }
}

struct Published {
    key: PeerKey,
    peers: BTreeMap<PeerKey, Told>,
    at: Instant,
}

/// Why a session ended.
pub(super) enum End {
    /// There is nobody who would be told.
    Over,
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

enum Question {
    Publish { key: PeerKey, peers: BTreeMap<PeerKey, Told> },
    Configure,
    Items(BareJid),
    Subscribe(BareJid),
}

struct Asked {
    question: Question,
    /// Whose answer it has to be; none for the own account.
    of: Option<BareJid>,
    until: Instant,
}

/// A session.
pub(super) struct Session<'a> {
    account: &'a Account,
    peers: &'a BTreeMap<PeerKey, Jid>,
    posts: &'a mut Posts,
    memory: &'a mut Memory,
    stream: Stream,
    /// Where this end's packets come from.
    local: IpAddr,
    own: Own,
    /// What changed is published from then on.
    publish_from: Instant,
    chores: Chores,
    asked: BTreeMap<String, Asked>,
    /// Whether what the node has to be like is said with each publication.
    with_settings: bool,
    retry: Pauses,
    retry_at: Instant,
    /// Whether presence was asked for because subscribing is not possible.
    asked_for_presence: bool,
    answers: (Instant, u32),
    resumed: bool,
}

impl<'a> Session<'a> {
    #[allow(clippy::too_many_arguments, reason = "all that a session is made of")]
    pub(super) fn new(
        account: &'a Account,
        peers: &'a BTreeMap<PeerKey, Jid>,
        posts: &'a mut Posts,
        memory: &'a mut Memory,
        stream: Stream,
        local: IpAddr,
        resumed: bool,
    ) -> Self {
        let now = Instant::now();
        if !resumed {
            // The server may have lost it.
            memory.published = None;
        }
        let mut accounts: Vec<BareJid> = peers.values().map(|jid| jid.bare().clone()).collect();
        accounts.sort();
        accounts.dedup();
        accounts.truncate(MOST_ACCOUNTS);
        let chores = Chores::new(account.jid().bare(), accounts.into_iter(), resumed, now);
        let own = posts.own.borrow_and_update().clone();
        Self {
            account,
            peers,
            posts,
            memory,
            stream,
            local,
            own,
            publish_from: now,
            chores,
            asked: BTreeMap::new(),
            with_settings: true,
            retry: Pauses::default(),
            retry_at: now,
            asked_for_presence: false,
            answers: (now, 0),
            resumed,
        }
    }

    /// Works until the connection fails, or nobody would be told any more.
    pub(super) async fn serve(mut self) -> End {
        let end = self.work().await;
        match end {
            End::Over => self.stream.end().await,
            End::Failed(_) => self.memory.resumable = self.stream.resumable(),
        }
        end
    }

    async fn work(&mut self) -> End {
        if !self.resumed
            && let Err(failure) = self.stream.send(stanzas::presence()).await
        {
            return failure.into();
        }
        loop {
            if let Err(end) = self.step().await {
                return end;
            }
        }
    }

    async fn step(&mut self) -> Result<(), End> {
        self.do_what_is_due().await?;
        let due = self.due();
        tokio::select! {
            element = self.stream.read() => {
                if let Some(stanza) = self.stream.digest(element).await? {
                    self.take(stanza).await?;
                }
            }
            changed = self.posts.own.changed() => {
                changed.map_err(|_| End::Over)?;
                self.own_changed()?;
            }
            () = sleep_until(due) => {}
        }
        Ok(())
    }

    /// When there is something to do next.
    fn due(&self) -> Instant {
        let answers = self.asked.values().map(|asked| asked.until).min();
        // Far enough: there always is a chore.
        let never = Instant::now() + REFRESH;
        [self.publication_due(), self.chores.due(), answers].into_iter().flatten().min().unwrap_or(never)
    }

    async fn do_what_is_due(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        self.miss_answers(now)?;
        if self.publication_due().is_some_and(|due| due <= now) {
            self.publish(now).await?;
        }
        while let Some((account, kind)) = self.chores.take(now) {
            let id = self.id();
            let (iq, question) = match kind {
                Kind::Items => (stanzas::items(&id, &account), Question::Items(account.clone())),
                Kind::Subscribe => (
                    stanzas::subscribe(&id, &account, &self.stream.session),
                    Question::Subscribe(account.clone()),
                ),
            };
            let own = account == *self.account.jid().bare();
            let patience = if own { self.memory.patience } else { PATIENCE_WITH_OTHERS };
            self.ask(id, iq, question, (!own).then_some(account), now + patience).await?;
        }
        Ok(())
    }

    fn id(&mut self) -> String {
        self.memory.id = self.memory.id.wrapping_add(1);
        format!("m{:x}", self.memory.id)
    }

    async fn ask(
        &mut self,
        id: String,
        iq: Iq,
        question: Question,
        of: Option<BareJid>,
        until: Instant,
    ) -> Result<(), Failure> {
        self.asked.insert(id, Asked { question, of, until });
        self.stream.send(iq).await
    }

    /// Without an answer of the own server, the connection is dead; without one of another's, that one is.
    fn miss_answers(&mut self, now: Instant) -> Result<(), Failure> {
        let missed: Vec<String> =
            self.asked.iter().filter(|(_, asked)| asked.until <= now).map(|(id, _)| id.clone()).collect();
        for asked in missed.iter().filter_map(|id| self.asked.remove(id)) {
            match asked.question {
                Question::Items(account) if asked.of.is_some() => {
                    self.chores.answered(&account, Kind::Items, false, now);
                }
                Question::Subscribe(account) => self.chores.answered(&account, Kind::Subscribe, false, now),
                _ => {
                    self.memory.patience = (self.memory.patience * 2).min(LAST_PATIENCE);
                    return Err(Failure::Silent);
                }
            }
        }
        Ok(())
    }
}

/// Telling.
impl Session<'_> {
    fn publication_due(&self) -> Option<Instant> {
        let under_way = self
            .asked
            .values()
            .any(|asked| matches!(asked.question, Question::Publish { .. } | Question::Configure));
        if under_way || !self.memory.knows_own {
            return None;
        }
        let due = match &self.memory.published {
            Some(published) if published.key == self.own.key && published.peers == self.own.peers => {
                published.at + REFRESH
            }
            // Where nothing was published, nothing needs to be taken back.
            None if self.own.peers.is_empty() => return None,
            _ => self.publish_from,
        };
        let earliest = self.memory.last_publication.map_or(due, |last| last + LEAST_BETWEEN);
        Some(due.max(earliest).max(self.retry_at))
    }

    async fn publish(&mut self, now: Instant) -> Result<(), Failure> {
        let time = SystemTime::now();
        let sequence = self.memory.sequence.next(time);
        let publication = match sealed::seal(&self.own, sequence, time, LIFETIME) {
            Ok(publication) => publication,
            Err(error) => {
                tracing::error!(%error, "cannot publish");
                self.retry_at = now + self.retry.next();
                return Ok(());
            }
        };
        let id = self.id();
        let iq = stanzas::publish(&id, self.account.item(), &publication, self.with_settings);
        let question = Question::Publish { key: self.own.key, peers: self.own.peers.clone() };
        self.memory.last_publication = Some(now);
        self.ask(id, iq, question, None, now + self.memory.patience).await
    }

    fn own_changed(&mut self) -> Result<(), Failure> {
        let before = std::mem::replace(&mut self.own, self.posts.own.borrow_and_update().clone());
        self.publish_from = Instant::now() + SETTLE;
        if moved(self.local, &before, &self.own) {
            return Err(Failure::Moved);
        }
        for (peer, jid) in self.peers {
            // What came of it so far could not be opened.
            if self.own.peers.contains_key(peer) && !before.peers.contains_key(peer) {
                self.chores.hurry(jid.bare());
            }
        }
        Ok(())
    }

    fn healthy(&mut self) {
        self.retry = Pauses::default();
        let nothing_to_tell = self.own.peers.is_empty();
        if self.memory.knows_own && (nothing_to_tell || self.memory.published.is_some()) {
            set_health(&self.posts.health, Health::Working);
        }
    }

    fn unhealthy(&mut self, failure: &Failure) {
        let account = self.account;
        set_health(&self.posts.health, failure.health(account.jid().as_str(), account.domain()));
    }
}

/// Whether a connection from an address is of no use any more: the host has it no longer, or it is of no use.
fn moved(local: IpAddr, before: &Own, now: &Own) -> bool {
    let gone =
        UdpSocket::bind((local, 0)).is_err_and(|error| error.kind() == std::io::ErrorKind::AddrNotAvailable);
    gone || (before.here.contains(&local) && !now.here.contains(&local))
}
