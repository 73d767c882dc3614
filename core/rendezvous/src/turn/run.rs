//! Keeps an address at a relay: gets it, holds it, gets another.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stun_types::message::TransactionId;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until};

use super::client::{Stage, is_fit};
use super::failure::{Backoff, Failure};
use super::peers::Peers;
use super::race::{Reached, Road, flush, race};
use super::wire::LONGEST_MESSAGE;
use super::{Bind, Parcel, Server, State, tls};

/// Later than anything that is due.
const FAR: Duration = Duration::from_secs(3600);
/// So many datagrams are taken at once.
const BATCH: usize = 32;
/// An address that was lent for this long was no mistake of the server: another is asked for at once. One that is
/// taken away sooner counts as a failure, so that nobody is flooded with requests.
const STEADY: Duration = Duration::from_secs(10);
/// As long the server may take to say that an address was given up.
const FAREWELL: Duration = Duration::from_millis(1_500);

/// Keeps one allocation until `to_relay` closes; then deletes it.
///
/// What is in `to_relay` is always taken soon, also while there is no allocation: up to 16 datagrams for each of up to
/// 64 peers wait for three seconds, and then are dropped. What comes from peers is dropped when `from_relay` is full.
pub async fn run<B: Bind>(
    server: Server,
    bind: B,
    mut to_relay: mpsc::Receiver<Parcel>,
    from_relay: mpsc::Sender<Parcel>,
    state: watch::Sender<State>,
) {
    let tls = match tls::config(&server.roots) {
        Ok(tls) => tls,
        Err(failure) => {
            state.send_replace(failure.state(&server));
            // What is sent goes nowhere, and nobody waits.
            while to_relay.recv().await.is_some() {}
            return;
        }
    };
    let road = Arc::new(Road { server, bind, tls });
    let mut backoff = Backoff::default();
    let mut peers = Peers::default();
    state.send_replace(State::Starting);
    loop {
        let reached = tokio::select! {
            reached = race(&road) => reached,
            () = collect(&mut to_relay, &mut peers) => return,
        };
        let failure = match reached {
            Err(failure) => failure,
            Ok(reached) => {
                let mut held =
                    Held { road: &road, to_relay: &mut to_relay, from_relay: &from_relay, state: &state };
                let (ended, left) = held.hold(reached, std::mem::take(&mut peers)).await;
                peers = left;
                peers.start_anew();
                match ended {
                    Ended::Given => return,
                    Ended::Failed { lent, failure } if lent >= Some(STEADY) => {
                        tracing::info!(?failure, "an address at a relay is lost; another is asked for");
                        state.send_replace(State::Starting);
                        backoff.reset();
                        continue;
                    }
                    Ended::Failed { failure, .. } => failure,
                }
            }
        };
        tracing::debug!(?failure, "a relay lends no address");
        let failed = failure.state(&road.server);
        state.send_if_modified(|state| {
            *state != failed && {
                *state = failed;
                true
            }
        });
        let pause = backoff.pause(&failure, TransactionId::generate().into());
        tokio::select! {
            () = sleep(pause) => {}
            () = collect(&mut to_relay, &mut peers) => return,
        }
    }
}

/// Lets datagrams wait, until there are no more.
async fn collect(to_relay: &mut mpsc::Receiver<Parcel>, peers: &mut Peers) {
    while let Some(parcel) = to_relay.recv().await {
        if is_fit(&parcel) {
            peers.wait(Instant::now(), parcel.peer, parcel.payload);
        }
    }
}

/// How an allocation ended.
enum Ended {
    /// It was given up.
    Given,
    /// It was lost after this long, or never was.
    Failed { lent: Option<Duration>, failure: Failure },
}

impl Ended {
    fn failed(since: Option<Instant>, failure: Failure) -> Self {
        Self::Failed { lent: since.map(|since| since.elapsed()), failure }
    }
}

/// What an allocation is held with.
struct Held<'a, B> {
    road: &'a Road<B>,
    to_relay: &'a mut mpsc::Receiver<Parcel>,
    from_relay: &'a mpsc::Sender<Parcel>,
    state: &'a watch::Sender<State>,
}

impl<B: Bind> Held<'_, B> {
    /// Goes on with a server that answered, until it is over.
    async fn hold(&mut self, reached: Reached, peers: Peers) -> (Ended, Peers) {
        let Reached { mut wire, mut client, server } = reached;
        client.adopt(peers);
        let mut since = None;
        let mut full = 0_u64;
        let mut farewell: Option<Instant> = None;
        let mut buffer = Vec::with_capacity(LONGEST_MESSAGE);
        let mut batch = Vec::with_capacity(BATCH);
        let ended = loop {
            let flushed = flush(&mut client, &mut wire);
            let now = Instant::now();
            match client.stage() {
                _ if farewell.is_some_and(|until| until <= now || flushed.is_err()) => break Ended::Given,
                Stage::Deleted => break Ended::Given,
                Stage::Over(failure) => break Ended::failed(since, failure.clone()),
                Stage::Allocated(relayed) if since.is_none() => {
                    since = Some(now);
                    self.allocated(*relayed, server);
                }
                _ => {}
            }
            if let Err(error) = flushed {
                break Ended::failed(since, Failure::of_io(&error));
            }
            let due = client.due(now).min(farewell.unwrap_or(now + FAR));
            tokio::select! {
                count = self.to_relay.recv_many(&mut batch, BATCH), if farewell.is_none() => {
                    if count == 0 {
                        farewell = Some(now + FAREWELL);
                        client.delete(Instant::now());
                    }
                    for parcel in batch.drain(..) {
                        client.send(Instant::now(), parcel);
                    }
                }
                received = wire.receive(&mut buffer) => match received {
                    Ok(()) => {
                        if let Some((peer, data)) = client.receive(Instant::now(), &buffer) {
                            let payload = buffer.get(data).unwrap_or_default().to_vec();
                            if self.from_relay.try_send(Parcel { peer, payload }).is_err() {
                                full = full.saturating_add(1);
                            }
                        }
                    }
                    Err(_) if farewell.is_some() => break Ended::Given,
                    Err(error) => break Ended::failed(since, Failure::of_io(&error)),
                },
                () = sleep_until(due.into()) => client.tick(Instant::now()),
            }
        };
        let (dropped, channels) = (client.peers().dropped, client.peers().channels());
        tracing::debug!(
            dropped,
            full,
            channels,
            "an address at a relay is gone; datagrams left out, out and in"
        );
        (ended, client.into_peers())
    }

    fn allocated(&self, relayed: SocketAddr, server: SocketAddr) {
        tracing::info!(transport = %self.road.server.transport, "a relay lends an address");
        tracing::debug!(%relayed, %server, "at a relay");
        self.state.send_replace(State::Allocated { relayed, server });
    }
}
