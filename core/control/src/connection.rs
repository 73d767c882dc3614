//! One connection of the server.
//!
//! Two halves run side by side. One reads requests and answers them in order; the other writes. Between them is
//! a short queue: who does not read its answers is not read from either, and who does not read for
//! [`WRITE_TIMEOUT`] while something waits is disconnected. So a connection holds a bounded amount of memory, and
//! the service never waits for a client. Whoever says nothing is greeted by nobody, and disconnected as well; and a user
//! that may be kept out has a quota ([`crate::quota`]).

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use zeroize::Zeroizing;

use crate::access::Caller;
use crate::error::{ControlError, ErrorCode, Mismatch, Why};
use crate::quota::{Quota, Turn};
use crate::report::DrillReport;
use crate::request::{Audience, Drill, Hello, Method, Request};
use crate::response::{HelloReply, Notice, Response};
use crate::server::{Notices, Service, Shared};
use crate::transport::{Reader, Writer};
use crate::wire::{self, Incoming, Lines, Next};
use crate::{MAX_LINE, PROTOCOL};

/// Messages that may wait for a client to read. What the service keeps for its subscribers ([`Notices`]) is more.
const QUEUE: usize = 8;
/// How long one message may take to be read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to say `hello`. All that there are say it at once.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two notices to whoever is not told what happened.
const BLIND_PAUSE: Duration = Duration::from_millis(200);
/// How long the last messages may take to be read once the conversation is over.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// A message on its way to the client, and the call that it answers.
struct Outgoing {
    line: Zeroizing<Vec<u8>>,
    turn: Option<Turn>,
}

/// Serves a connection until either side ends it.
pub(crate) async fn serve<S: Service>(
    (reader, writer): (Reader, Writer),
    (caller, quota): (Caller, Option<Arc<Quota>>),
    service: Arc<S>,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
) {
    let (queue, outbox) = mpsc::channel(QUEUE);
    let write = write(writer, outbox);
    tokio::pin!(write);
    let subscription = JoinSet::new();
    let session = Session { service, shared, caller, quota, queue, greeted: false, subscription };
    tokio::select! {
        // The client is gone or does not read: whatever it asked for is dropped with the session.
        () = &mut write => return,
        () = session.converse(reader, stopped) => {}
    }
    // The session and its end of the queue are gone, so this ends with the last message.
    if timeout(FLUSH_TIMEOUT, write).await.is_err() {
        tracing::debug!("a control client did not read its last messages");
    }
}

async fn write(mut stream: impl AsyncWrite + Unpin, mut outbox: mpsc::Receiver<Outgoing>) {
    while let Some(Outgoing { line, turn }) = outbox.recv().await {
        match timeout(WRITE_TIMEOUT, stream.write_all(&line)).await {
            Ok(Ok(())) => drop(turn),
            Ok(Err(error)) => return tracing::debug!(%error, "a control client is gone"),
            Err(_) => return tracing::info!("a control client that does not read was disconnected"),
        }
    }
}

/// The other half is gone; there is nobody to talk to.
struct Gone;

struct Session<S> {
    service: Arc<S>,
    shared: Arc<Shared>,
    caller: Caller,
    quota: Option<Arc<Quota>>,
    queue: mpsc::Sender<Outgoing>,
    greeted: bool,
    /// Forwards notices; holds one task at most, which ends only when the connection shall end.
    subscription: JoinSet<()>,
}

impl<S: Service> Session<S> {
    async fn converse(mut self, reader: Reader, mut stopped: watch::Receiver<bool>) {
        let mut lines = Lines::new(reader, MAX_LINE);
        let silent = Instant::now() + HELLO_TIMEOUT;
        loop {
            let next = tokio::select! {
                next = lines.next() => Some(next),
                () = sleep_until(silent), if !self.greeted => None,
                _ = self.subscription.join_next(), if !self.subscription.is_empty() => return,
                _ = stopped.wait_for(|stop| *stop) => return,
            };
            let Some(next) = next else {
                // Either way the connection ends here.
                let _ = self.answer::<()>(&Value::Null, Err(hello_first())).await;
                return;
            };
            let outcome = match next {
                Ok(Next::Blank(bytes)) => {
                    self.pay(bytes).await;
                    // Others have their turn.
                    tokio::task::yield_now().await;
                    continue;
                }
                Ok(Next::Line(line)) => {
                    let line = Zeroizing::new(line);
                    self.pay(line.len()).await;
                    self.handle(&line).await
                }
                Ok(Next::TooLong) => {
                    let message = format!("a request may have at most {MAX_LINE} bytes");
                    let error = ControlError::new(ErrorCode::InvalidRequest, message);
                    // Either way the connection ends here.
                    let _ = self.answer::<()>(&Value::Null, Err(error)).await;
                    return;
                }
                Ok(Next::End) => return,
                Err(error) => return tracing::debug!(%error, "a control client is gone"),
            };
            if outcome.is_err() {
                return;
            }
        }
    }

    /// Waits until the user's quota allows what came.
    async fn pay(&self, bytes: usize) {
        if let Some(quota) = &self.quota {
            quota.pay(bytes).await;
        }
    }

    async fn handle(&mut self, line: &[u8]) -> Result<(), Gone> {
        let request = match Incoming::parse(line) {
            Ok(request) => request,
            Err(refused) => {
                let (id, error) = *refused;
                return self.answer::<()>(&id, Err(error)).await;
            }
        };
        let id = request.id;
        match self.admit(&request.method, request.params).await {
            Err(error) => self.answer::<()>(&id, Err(error)).await,
            Ok(Method::Hello(hello)) => {
                let reply = self.greet(hello).await;
                self.answer(&id, reply).await
            }
            Ok(Method::Subscribe) => {
                // Before the answer: nothing that happens after it may be missed.
                let notices = self.service.subscribe();
                let sees = self.shared.access.sees(&self.caller).await;
                self.answer(&id, Ok(Response::DONE)).await?;
                if self.subscription.is_empty() {
                    self.subscription.spawn(forward(notices, sees, self.queue.clone()));
                }
                Ok(())
            }
            Ok(Method::Drill(drill)) => {
                let report = self.drill(drill).await?;
                self.answer(&id, report).await
            }
            Ok(Method::Call(call)) => {
                let (result, turn) = self.call(call).await;
                self.send(wire::answer(&id, result), turn).await
            }
        }
    }

    /// Reads the method, unless it comes too early or the caller may not use it.
    async fn admit(&self, name: &str, params: Option<Value>) -> Result<Method, ControlError> {
        if !self.greeted && name != "hello" {
            return Err(hello_first());
        }
        let method = Method::parse(name, params)?;
        match method.audience() {
            Audience::Everybody => {}
            Audience::Seeing => self.shared.access.check_sees(&self.caller, name).await?,
            Audience::Steering => self.shared.access.check(&self.caller, name).await?,
        }
        Ok(method)
    }

    async fn greet(&mut self, hello: Hello) -> Result<HelloReply, ControlError> {
        if hello.protocol != PROTOCOL {
            return Err(ControlError::of(Why::Version(Mismatch {
                client: hello.protocol,
                service: Some(PROTOCOL),
                service_version: Some(self.shared.greeting.version.clone()),
            })));
        }
        self.greeted = true;
        self.caller.client = hello.client.chars().filter(|c| !c.is_control()).take(64).collect();
        tracing::debug!(client = %self.caller.client, user = %self.caller.user, "control client connected");
        let may_change = self.shared.access.steers(&self.caller).await;
        Ok(HelloReply { may_change, ..self.shared.greeting.clone() })
    }

    /// A change that has begun is finished, whether or not the client is still there: hence a task of its own.
    async fn call(&self, call: Request) -> (Result<Response, ControlError>, Option<Turn>) {
        let (service, method) = (Arc::clone(&self.service), call.method());
        let steers = self.shared.access.steers(&self.caller).await;
        let whole = call.audience() != Audience::Everybody || self.shared.access.sees(&self.caller).await;
        let caller = Caller { steers, ..self.caller.clone() };
        let turn = match self.quota.as_ref().filter(|_| !steers) {
            Some(quota) => Some(quota.turn().await),
            None => None,
        };
        let task = tokio::spawn(async move {
            let mut turn = turn;
            let result = service.call(call, &caller).await;
            let result = if whole { result } else { result.map(Response::redacted) };
            if let Some(turn) = &mut turn {
                turn.answered();
            }
            (result, turn)
        });
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, method, "a control request broke down");
            let text = format!("`{method}` broke down inside the service: see its log");
            (Err(ControlError::internal(text)), None)
        })
    }

    async fn drill(&self, drill: Drill) -> Result<Result<DrillReport, ControlError>, Gone> {
        let (sender, mut progress) = mpsc::channel(QUEUE);
        let run = self.service.drill(drill, sender, &self.caller);
        tokio::pin!(run);
        let report = loop {
            tokio::select! {
                biased;
                Some(step) = progress.recv() => self.send(wire::progress(&step), None).await?,
                report = &mut run => break report,
            }
        };
        while let Ok(step) = progress.try_recv() {
            self.send(wire::progress(&step), None).await?;
        }
        Ok(report)
    }

    async fn answer<T: serde::Serialize>(
        &self,
        id: &Value,
        result: Result<T, ControlError>,
    ) -> Result<(), Gone> {
        self.send(wire::answer(id, result), None).await
    }

    async fn send(&self, line: Vec<u8>, turn: Option<Turn>) -> Result<(), Gone> {
        self.queue.send(Outgoing { line: Zeroizing::new(line), turn }).await.map_err(|_| Gone)
    }
}

fn hello_first() -> ControlError {
    ControlError::new(ErrorCode::HelloFirst, format!("say `hello` first, with `protocol` {PROTOCOL}"))
}

/// Forwards notices as fast as the client reads; where it does not keep up, the service leaves some out and says so.
/// Whoever does not see everything hears only that something changed.
async fn forward(mut notices: impl Notices, sees: bool, queue: mpsc::Sender<Outgoing>) {
    while let Some(notice) = notices.next().await {
        let notice = if sees { notice } else { Notice::StatusChanged };
        let line = Zeroizing::new(wire::notice(&notice));
        if queue.send(Outgoing { line, turn: None }).await.is_err() {
            return;
        }
        if sees {
            continue;
        }
        // However much happens: it is for a display.
        tokio::time::sleep(BLIND_PAUSE).await;
        let mut more = false;
        while let Ok(Some(_)) = timeout(Duration::ZERO, notices.next()).await {
            more = true;
        }
        let line = Zeroizing::new(wire::notice(&Notice::StatusChanged));
        if more && queue.send(Outgoing { line, turn: None }).await.is_err() {
            return;
        }
    }
}
