//! One connection of the server.
//!
//! Two halves run side by side. One reads requests and answers them in order; the other writes. Between them is
//! a short queue: who does not read its answers is not read from either, and who does not read for
//! [`WRITE_TIMEOUT`] while something waits is disconnected. So a connection holds a bounded amount of memory, and
//! the service never waits for a client.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::access::Caller;
use crate::error::{ControlError, ErrorCode, Mismatch, Why};
use crate::report::DrillReport;
use crate::request::{Drill, Hello, Method, Request};
use crate::response::{HelloReply, Response};
use crate::server::{Notices, Service, Shared};
use crate::transport::{Reader, Writer};
use crate::wire::{self, Incoming, Lines, Next};
use crate::{MAX_LINE, PROTOCOL};

/// Messages that may wait for a client to read. What the service keeps for its subscribers ([`Notices`]) is more.
const QUEUE: usize = 8;
/// How long one message may take to be read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last messages may take to be read once the conversation is over.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves a connection until either side ends it.
pub(crate) async fn serve<S: Service>(
    (reader, writer): (Reader, Writer),
    caller: Caller,
    service: Arc<S>,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
) {
    let (queue, outbox) = mpsc::channel(QUEUE);
    let write = write(writer, outbox);
    tokio::pin!(write);
    let session = Session { service, shared, caller, queue, greeted: false, subscription: JoinSet::new() };
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

async fn write(mut stream: impl AsyncWrite + Unpin, mut outbox: mpsc::Receiver<Vec<u8>>) {
    while let Some(message) = outbox.recv().await {
        match timeout(WRITE_TIMEOUT, stream.write_all(&message)).await {
            Ok(Ok(())) => {}
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
    queue: mpsc::Sender<Vec<u8>>,
    greeted: bool,
    /// Forwards notices; holds one task at most, which ends only when the connection shall end.
    subscription: JoinSet<()>,
}

impl<S: Service> Session<S> {
    async fn converse(mut self, reader: Reader, mut stopped: watch::Receiver<bool>) {
        let mut lines = Lines::new(reader, MAX_LINE);
        loop {
            let next = tokio::select! {
                next = lines.next() => next,
                _ = self.subscription.join_next(), if !self.subscription.is_empty() => return,
                _ = stopped.wait_for(|stop| *stop) => return,
            };
            let outcome = match next {
                Ok(Next::Line(line)) => self.handle(&line).await,
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
                self.answer(&id, Ok(Response::DONE)).await?;
                if self.subscription.is_empty() {
                    self.subscription.spawn(forward(notices, self.queue.clone()));
                }
                Ok(())
            }
            Ok(Method::Drill(drill)) => {
                let report = self.drill(drill).await?;
                self.answer(&id, report).await
            }
            Ok(Method::Call(call)) => {
                let result = self.call(call).await;
                self.answer(&id, result).await
            }
        }
    }

    /// Reads the method, unless it comes too early or the caller may not use it.
    async fn admit(&self, name: &str, params: Option<Value>) -> Result<Method, ControlError> {
        if !self.greeted && name != "hello" {
            return Err(ControlError::new(
                ErrorCode::HelloFirst,
                format!("say `hello` first, with `protocol` {PROTOCOL}"),
            ));
        }
        let method = Method::parse(name, params)?;
        if method.changes() {
            self.shared.access.check(&self.caller, name).await?;
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
        let may_change = self.shared.access.check(&self.caller, "hello").await.is_ok();
        Ok(HelloReply { may_change, ..self.shared.greeting.clone() })
    }

    /// A change that has begun is finished, whether or not the client is still there: hence a task of its own.
    async fn call(&self, call: Request) -> Result<Response, ControlError> {
        let (service, caller, method) = (Arc::clone(&self.service), self.caller.clone(), call.method());
        let task = tokio::spawn(async move { service.call(call, &caller).await });
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, method, "a control request broke down");
            Err(ControlError::internal(format!("`{method}` broke down inside the service: see its log")))
        })
    }

    async fn drill(&self, drill: Drill) -> Result<Result<DrillReport, ControlError>, Gone> {
        let (sender, mut progress) = mpsc::channel(QUEUE);
        let run = self.service.drill(drill, sender, &self.caller);
        tokio::pin!(run);
        let report = loop {
            tokio::select! {
                biased;
                Some(step) = progress.recv() => self.send(wire::progress(&step)).await?,
                report = &mut run => break report,
            }
        };
        while let Ok(step) = progress.try_recv() {
            self.send(wire::progress(&step)).await?;
        }
        Ok(report)
    }

    async fn answer<T: serde::Serialize>(
        &self,
        id: &Value,
        result: Result<T, ControlError>,
    ) -> Result<(), Gone> {
        self.send(wire::answer(id, result)).await
    }

    async fn send(&self, message: Vec<u8>) -> Result<(), Gone> {
        self.queue.send(message).await.map_err(|_| Gone)
    }
}

/// Forwards notices as fast as the client reads; where it does not keep up, the service leaves some out and says so.
async fn forward(mut notices: impl Notices, queue: mpsc::Sender<Vec<u8>>) {
    while let Some(notice) = notices.next().await {
        if queue.send(wire::notice(&notice)).await.is_err() {
            return;
        }
    }
}
