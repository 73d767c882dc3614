//! A session on a connection, which outlives the connection (XEP-0198).

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::timeout;
use tokio_xmpp::Stanza;
use tokio_xmpp::xmlstream::{FallibleStreamElement, ReadError, StreamElementError, XmppStreamElement};
use xmpp_parsers::bind::{BindQuery, BindResponse};
use xmpp_parsers::iq::Iq;
use xmpp_parsers::jid::FullJid;
use xmpp_parsers::ping::Ping;
use xmpp_parsers::sm::{A, Enable, Nonza, R, Resume, StreamId};

use super::budget::Budget;
use super::connect::{Connection, Elements, broken, next};
use super::failure::{Failure, quoted};

/// A few elements are written at once unless the connection is dead.
const WRITE: Duration = Duration::from_secs(10);
/// A session begins within this time, once there is a connection.
const BEGIN: Duration = Duration::from_secs(10);
const BIND: &str = "bind";

/// What a session needs to go on over another connection.
#[derive(Debug, Clone)]
pub(super) struct Resumable {
    previous: StreamId,
    /// How many of the server's stanzas were handled.
    handled: u32,
    session: FullJid,
}

/// A session on a connection.
pub(super) struct Stream {
    elements: Elements,
    budget: Budget,
    /// This session's name.
    pub(super) session: FullJid,
    /// Whether the server counts stanzas; with the name to go on by, if it goes on at all.
    managed: bool,
    previous: Option<StreamId>,
    handled: u32,
}

/// What was read.
pub(super) type Element = Option<Result<FallibleStreamElement, ReadError>>;

impl Stream {
    /// Goes on with a session, or else begins a new one. Tells which.
    pub(super) async fn begin(
        connection: Connection,
        resource: &str,
        earlier: Option<Resumable>,
    ) -> Result<(Self, bool), Failure> {
        timeout(BEGIN, Self::try_begin(connection, resource, earlier)).await.map_err(|_| Failure::Silent)?
    }

    async fn try_begin(
        connection: Connection,
        resource: &str,
        earlier: Option<Resumable>,
    ) -> Result<(Self, bool), Failure> {
        let Connection { mut elements, features, budget, .. } = connection;
        let offered = features.stream_management.is_some();
        if let Some(Resumable { previous, handled, session }) = earlier.filter(|_| offered)
            && resume(&mut elements, &previous, handled).await?
        {
            let stream = Self { elements, budget, session, managed: true, previous: Some(previous), handled };
            return Ok((stream, true));
        }
        let session = bind(&mut elements, resource).await?;
        let mut stream = Self { elements, budget, session, managed: false, previous: None, handled: 0 };
        if offered {
            stream.manage().await?;
        }
        Ok((stream, false))
    }

    async fn manage(&mut self) -> Result<(), Failure> {
        let enable = Nonza::Enable(Enable { max: None, resume: true });
        self.elements.send(&XmppStreamElement::SM(enable)).await?;
        loop {
            match next(&mut self.elements).await? {
                XmppStreamElement::SM(Nonza::Enabled(enabled)) => {
                    self.managed = true;
                    self.previous = enabled.id.filter(|_| enabled.resume);
                    return Ok(());
                }
                XmppStreamElement::SM(Nonza::Failed(_)) => return Ok(()),
                // No presence was sent yet, so nothing that matters can come.
                XmppStreamElement::Stanza(_) => {}
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// What is needed to go on over another connection, if the server goes on.
    pub(super) fn resumable(&self) -> Option<Resumable> {
        let previous = self.previous.clone()?;
        Some(Resumable { previous, handled: self.handled, session: self.session.clone() })
    }

    /// The next element; nothing is lost if this is given up. [`digest`](Self::digest) it before the next.
    pub(super) async fn read(&mut self) -> Element {
        self.elements.next().await
    }

    /// Does what an element asks the stream for, and gives the stanza, if it was one.
    pub(super) async fn digest(&mut self, element: Element) -> Result<Option<Stanza>, Failure> {
        let element = match element.ok_or_else(|| Failure::Lost("it was closed".into()))? {
            Ok(element) => element,
            Err(ReadError::SoftTimeout) => {
                self.ask_for_a_sign_of_life().await?;
                return Ok(None);
            }
            Err(error) => return Err(broken(error)),
        };
        self.budget.refill();
        match element {
            FallibleStreamElement::Ok(XmppStreamElement::Stanza(stanza)) => {
                self.handled = self.handled.wrapping_add(1);
                return Ok(Some(stanza));
            }
            FallibleStreamElement::Ok(XmppStreamElement::SM(Nonza::Req(R))) => {
                self.write(&XmppStreamElement::SM(Nonza::Ack(A::new(self.handled)))).await?;
            }
            FallibleStreamElement::Ok(XmppStreamElement::StreamError(error)) => {
                return Err(Failure::Lost(quoted(&error.0.to_string())));
            }
            // Of no interest, or of a kind that is not known here.
            FallibleStreamElement::Err(StreamElementError::InvalidStanza { error, .. }) => {
                self.handled = self.handled.wrapping_add(1);
                tracing::debug!(%error, "a stanza that cannot be understood");
            }
            FallibleStreamElement::Ok(_) | FallibleStreamElement::Err(_) => {}
        }
        Ok(None)
    }

    async fn ask_for_a_sign_of_life(&mut self) -> Result<(), Failure> {
        if self.managed {
            return self.write(&XmppStreamElement::SM(Nonza::Req(R))).await;
        }
        self.send(Iq::from_get("alive", Ping)).await
    }

    /// Sends a stanza.
    pub(super) async fn send(&mut self, stanza: impl Into<Stanza>) -> Result<(), Failure> {
        self.write(&XmppStreamElement::Stanza(stanza.into())).await
    }

    async fn write(&mut self, element: &XmppStreamElement) -> Result<(), Failure> {
        timeout(WRITE, self.elements.send(element)).await.map_err(|_| Failure::Silent)??;
        Ok(())
    }

    /// Ends the session in good order, so that the server does not wait for it to go on.
    pub(super) async fn end(mut self) {
        let _ = timeout(Duration::from_secs(1), self.elements.shutdown()).await;
    }
}

/// Whether the server goes on with the session.
async fn resume(elements: &mut Elements, previous: &StreamId, handled: u32) -> Result<bool, Failure> {
    let resume = Resume { h: handled, previd: previous.clone() };
    elements.send(&XmppStreamElement::SM(Nonza::Resume(resume))).await?;
    match next(elements).await? {
        XmppStreamElement::SM(Nonza::Resumed(_)) => Ok(true),
        XmppStreamElement::SM(Nonza::Failed(_)) => Ok(false),
        other => Err(unexpected(&other)),
    }
}

async fn bind(elements: &mut Elements, resource: &str) -> Result<FullJid, Failure> {
    let bind = Iq::from_set(BIND, BindQuery::new(Some(resource.to_owned())));
    elements.send(&XmppStreamElement::Stanza(bind.into())).await?;
    loop {
        match next(elements).await? {
            XmppStreamElement::Stanza(Stanza::Iq(Iq::Result { id, payload: Some(payload), .. }))
                if id == BIND =>
            {
                let bound = BindResponse::try_from(payload)
                    .map_err(|_| Failure::Lost("it gives the session no name".into()))?;
                return Ok(bound.jid);
            }
            XmppStreamElement::Stanza(Stanza::Iq(Iq::Error { id, error, .. })) if id == BIND => {
                return Err(Failure::Account(quoted(&format!("{:?}", error.defined_condition))));
            }
            XmppStreamElement::Stanza(_) => {}
            other => return Err(unexpected(&other)),
        }
    }
}

fn unexpected(element: &XmppStreamElement) -> Failure {
    match element {
        XmppStreamElement::StreamError(error) => Failure::Lost(quoted(&error.0.to_string())),
        _ => Failure::Lost("the server says what was not asked".into()),
    }
}
