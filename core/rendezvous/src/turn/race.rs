//! Reaching a relay: all its addresses are tried, one after the other, without waiting for the one before to fail
//! (RFC 8305). The first that answers wins; only that one is asked for an address in earnest, so that none is left behind.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_rustls::rustls::ClientConfig;

use super::client::{Client, Stage};
use super::failure::{Failure, in_turn};
use super::message::Access;
use super::wire::{LONGEST_MESSAGE, Wire};
use super::{Bind, Family, Server, Transport, tls};

/// The most addresses of one relay.
const MOST_ADDRESSES: usize = 8;
/// After this long without an answer the next is tried beside it (RFC 8305, 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Connecting, and the handshake of TLS.
const PATIENCE: Duration = Duration::from_secs(10);

/// A relay that answers.
pub struct Reached {
    pub wire: Wire,
    pub client: Client,
    pub server: SocketAddr,
}

/// What every try needs.
pub struct Road<B> {
    pub server: Server,
    pub bind: B,
    pub tls: Arc<ClientConfig>,
}

/// Tries all addresses.
pub async fn race<B: Bind>(road: &Arc<Road<B>>) -> Result<Reached, Failure> {
    let mut next = in_turn(&road.server.at, MOST_ADDRESSES).into_iter().peekable();
    let mut tries = JoinSet::new();
    let mut failure = Failure::NoAddress;
    loop {
        if let Some(at) = next.next() {
            let road = Arc::clone(road);
            tries.spawn(async move { reach(&road, at).await });
        } else if tries.is_empty() {
            return Err(failure);
        }
        tokio::select! {
            Some(reached) = tries.join_next() => match reached {
                Ok(Ok(reached)) => return Ok(reached),
                Ok(Err(other)) if other.weight() > failure.weight() => failure = other,
                // Ended by force, which only who drops all of this does.
                Ok(Err(_)) | Err(_) => {}
            },
            () = sleep(STAGGER), if next.peek().is_some() => {}
        }
    }
}

async fn reach<B: Bind>(road: &Road<B>, at: SocketAddr) -> Result<Reached, Failure> {
    let mut wire = timeout(PATIENCE, connect(road, at)).await.unwrap_or(Err(Failure::Silent))?;
    let access = Access::new(&road.server.username, &road.server.password);
    let mut client = Client::new(Instant::now(), access, road.server.transport != Transport::Udp);
    let mut buffer = Vec::with_capacity(LONGEST_MESSAGE);
    loop {
        match client.stage() {
            Stage::Over(failure) => return Err(failure.clone()),
            // What it says next is sent by whoever goes on with it.
            _ if client.heard() => return Ok(Reached { wire, client, server: at }),
            _ => {}
        }
        flush(&mut client, &mut wire).map_err(|error| Failure::of_io(&error))?;
        tokio::select! {
            received = wire.receive(&mut buffer) => {
                received.map_err(|error| Failure::of_io(&error))?;
                client.receive(Instant::now(), &buffer);
            }
            () = sleep_until(client.due(Instant::now()).into()) => client.tick(Instant::now()),
        }
    }
}

async fn connect<B: Bind>(road: &Road<B>, at: SocketAddr) -> Result<Wire, Failure> {
    let failed = |error: io::Error| Failure::of_io(&error);
    if road.server.transport == Transport::Udp {
        let socket = road.bind.udp(Family::of(at)).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let socket = UdpSocket::from_std(socket).map_err(failed)?;
        // Connected, nobody else is heard, and that nothing listens there is told.
        socket.connect(at).await.map_err(failed)?;
        // Until it is known to be, nothing is sent.
        socket.writable().await.map_err(failed)?;
        return Ok(Wire::Datagrams(socket));
    }
    let stream = road.bind.tcp(at).await.map_err(failed)?;
    // Datagrams do not wait for each other.
    stream.set_nodelay(true).map_err(failed)?;
    if road.server.transport == Transport::Tls {
        return Ok(Wire::stream(tls::connect(&road.tls, &road.server.host, stream).await?));
    }
    Ok(Wire::stream(stream))
}

/// Sends what there is to be sent.
pub fn flush(client: &mut Client, wire: &mut Wire) -> io::Result<()> {
    let now = Instant::now();
    while let Some(outgoing) = client.take(now) {
        if !wire.send(&outgoing)? && outgoing.parcel {
            client.peers_mut().dropped = client.peers().dropped.saturating_add(1);
        }
    }
    Ok(())
}
