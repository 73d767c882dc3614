//! What comes in a session: answers, notifications, and questions of others.

use std::time::SystemTime;

use tokio::time::Instant;
use tokio_xmpp::Stanza;
use xmpp_parsers::disco::{DiscoInfoQuery, DiscoInfoResult};
use xmpp_parsers::iq::Iq;
use xmpp_parsers::jid::{BareJid, Jid as AnyJid};
use xmpp_parsers::minidom::Element;
use xmpp_parsers::ping::Ping;
use xmpp_parsers::presence::{Presence, Type};
use xmpp_parsers::stanza_error::{DefinedCondition, StanzaError};

use super::super::chores::Kind;
use super::super::failure::{Failure, quoted};
use super::super::stanzas::{self, Read};
use super::{ANSWERS_IN, End, FIRST_PATIENCE, MOST_ANSWERS, Published, Question, Session};
use crate::sealed::{self, Refused};

impl Session<'_> {
    pub(super) async fn take(&mut self, stanza: Stanza) -> Result<(), End> {
        match stanza {
            Stanza::Message(message) => {
                let from =
                    message.from.map_or_else(|| self.account.jid().bare().clone(), |from| from.to_bare());
                for payload in &message.payloads {
                    let items = stanzas::publications(payload);
                    self.hear(&from, items).await?;
                }
            }
            Stanza::Presence(presence) => self.presence(presence).await?,
            Stanza::Iq(Iq::Result { from, id, payload, .. }) => {
                if let Some(question) = self.answered(from.as_ref(), &id) {
                    self.answer(question, payload).await?;
                }
            }
            Stanza::Iq(Iq::Error { from, id, error, .. }) => {
                if let Some(question) = self.answered(from.as_ref(), &id) {
                    self.refusal(question, &error).await?;
                }
            }
            Stanza::Iq(Iq::Get { from, id, payload, .. }) => self.reply(from, id, Some(payload)).await?,
            Stanza::Iq(Iq::Set { from, id, .. }) => self.reply(from, id, None).await?,
        }
        Ok(())
    }

    /// What an answer is to. The server vouches for whom it is from.
    fn answered(&mut self, from: Option<&AnyJid>, id: &str) -> Option<Question> {
        let own = self.account.jid().bare();
        let asked = self.asked.get(id)?;
        let right = match (&asked.of, from) {
            (None, None) => true,
            (None, Some(from)) => from.to_bare() == *own || from.as_str() == self.account.domain(),
            (Some(of), Some(from)) => from.as_str() == of.as_str(),
            (Some(_), None) => false,
        };
        if !right {
            return None;
        }
        if asked.of.is_none() {
            self.memory.patience = FIRST_PATIENCE;
        }
        self.asked.remove(id).map(|asked| asked.question)
    }

    async fn answer(&mut self, question: Question, payload: Option<Element>) -> Result<(), End> {
        let now = Instant::now();
        match question {
            Question::Publish { key, peers } => {
                self.memory.published = Some(Published { key, peers, at: now });
                self.healthy();
            }
            // The publication that was refused is due again.
            Question::Configure => {}
            Question::Subscribe(account) => self.chores.answered(&account, Kind::Subscribe, true, now),
            Question::Items(account) => {
                self.chores.answered(&account, Kind::Items, true, now);
                let items = payload.as_ref().map(stanzas::publications).unwrap_or_default();
                if account == *self.account.jid().bare() {
                    self.learn_own(&items);
                }
                self.hear(&account, items).await?;
            }
        }
        Ok(())
    }

    async fn refusal(&mut self, question: Question, error: &StanzaError) -> Result<(), Failure> {
        use DefinedCondition::{Conflict, FeatureNotImplemented, ItemNotFound, ServiceUnavailable};
        let now = Instant::now();
        let condition = &error.defined_condition;
        let own = self.account.jid().bare().clone();
        tracing::debug!(?condition, "refused");
        match (question, condition) {
            // Nothing was published yet.
            (Question::Items(account), ItemNotFound) if account == own => self.learn_own(&[]),
            (Question::Items(account), _) if account == own => {
                self.chores.answered(&account, Kind::Items, false, now);
                self.unhealthy(&Failure::NoPep);
            }
            (Question::Items(account), _) => self.chores.answered(&account, Kind::Items, false, now),
            (Question::Subscribe(account), condition) => {
                self.chores.answered(&account, Kind::Subscribe, false, now);
                if !matches!(condition, ItemNotFound | ServiceUnavailable) && !self.asked_for_presence {
                    // Who may see presence is told of items as well.
                    self.asked_for_presence = true;
                    self.stream.send(Presence::subscribe().with_to(account)).await?;
                }
            }
            // The node exists, and is not what it has to be like.
            (Question::Publish { .. }, Conflict) if self.with_settings => {
                self.with_settings = false;
                let id = self.id();
                let iq = stanzas::configure(&id);
                self.ask(id, iq, Question::Configure, None, now + self.memory.patience).await?;
            }
            // Better as it is than not at all.
            (Question::Configure, _) => {}
            (Question::Publish { .. }, condition) => {
                self.retry_at = now + self.retry.next();
                let no_pep = matches!(condition, FeatureNotImplemented | ServiceUnavailable);
                let said = quoted(&format!("{condition:?}"));
                self.unhealthy(&if no_pep { Failure::NoPep } else { Failure::NotPublished(said) });
            }
        }
        Ok(())
    }

    /// Goes on after the number that was published before this process started.
    fn learn_own(&mut self, items: &[Read]) {
        let now = SystemTime::now();
        for item in items.iter().filter(|item| item.id == self.account.item()) {
            for told in self.own.peers.values() {
                if let Ok(earlier) = sealed::open(&item.publication, &self.own.key, &told.secret) {
                    self.memory.sequence.after(earlier.sequence, now);
                }
            }
        }
        self.memory.knows_own = true;
        self.healthy();
    }

    /// Tells where those peers are of whom an account publishes something that is new.
    async fn hear(&mut self, account: &BareJid, items: Vec<Read>) -> Result<(), End> {
        for item in items {
            for (peer, _) in self.peers.iter().filter(|(_, jid)| jid.bare() == account) {
                let Some(told) = self.own.peers.get(peer) else { continue };
                let heard = sealed::open(&item.publication, peer, &told.secret)
                    .and_then(|announcement| self.memory.heard.take(*peer, announcement, SystemTime::now()));
                match heard {
                    Ok(found) => self.posts.found.send(found).await.map_err(|_| End::Over)?,
                    // An item of another machine of that account; or one that came twice.
                    Err(Refused::NotForUs | Refused::NotNewer) => {}
                    Err(why) => tracing::debug!(%why, "an item was not believed"),
                }
            }
        }
        Ok(())
    }

    fn is_known(&self, who: &BareJid) -> bool {
        self.peers.values().any(|jid| jid.bare() == who)
    }

    /// Peers may see the presence of this end, if they ask.
    async fn presence(&mut self, presence: Presence) -> Result<(), Failure> {
        if let (Type::Subscribe, Some(from)) = (presence.type_, presence.from) {
            let from = from.to_bare();
            if self.is_known(&from) && self.may_answer() {
                self.stream.send(Presence::subscribed().with_to(from)).await?;
            }
        }
        Ok(())
    }

    /// Servers ask what this end is able to; others may be told that there is nobody.
    async fn reply(
        &mut self,
        from: Option<AnyJid>,
        id: String,
        asked: Option<Element>,
    ) -> Result<(), Failure> {
        if !self.may_answer() {
            return Ok(());
        }
        let known = from.as_ref().is_none_or(|from| {
            let bare = from.to_bare();
            bare == *self.account.jid().bare()
                || from.as_str() == self.account.domain()
                || self.is_known(&bare)
        });
        let answer = asked.filter(|_| known).and_then(|asked| {
            if let Ok(query) = DiscoInfoQuery::try_from(asked.clone()) {
                let mut capabilities = stanzas::capabilities();
                capabilities.node = query.node;
                return stanzas::is_own_node(capabilities.node.as_deref())
                    .then(|| Iq::from_result(id.clone(), Some(capabilities)));
            }
            Ping::try_from(asked).ok().map(|_| Iq::from_result(id.clone(), None::<DiscoInfoResult>))
        });
        let mut answer = answer.unwrap_or_else(|| Iq::from_error(id, stanzas::unknown()));
        *answer.to_mut() = from;
        self.stream.send(answer).await
    }

    fn may_answer(&mut self) -> bool {
        let (since, count) = &mut self.answers;
        if since.elapsed() >= ANSWERS_IN {
            (*since, *count) = (Instant::now(), 0);
        }
        *count = count.saturating_add(1);
        *count <= MOST_ANSWERS
    }
}
