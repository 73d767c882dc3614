//! Addresses at relays (TURN, RFC 8656), over each uplink, for as long as a peer may need them.
//!
//! They are asked for when a peer is missed, beside the direct paths, so that they cost no time; they are given back when all
//! peers have been reached without one for a while. What comes of each is told to the engine, and to the doctor.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use mast_control::Check;
use mast_engine::api::Happening;
use mast_engine::os::Family;
use mast_engine::{Reader, RelayLink};
use mast_proto::Interface;
use mast_rendezvous::turn::{self, Bind, CertificateDer, Parcel, Server, State};
use rustls_pki_types::pem::PemObject;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::config::RelayConfig;
use crate::daemon::Daemon;
use crate::resolve::{is_loss, past};
use crate::turns::{NAMES, Standing};

/// How often it is looked whether relays are needed, and over which uplinks.
const LOOK: Duration = Duration::from_millis(500);
/// The same while they are not.
const REST: Duration = Duration::from_secs(2);
/// What nobody needed for so long is given back.
pub(crate) const LINGER: Duration = Duration::from_secs(120);
/// The most uplinks over which relays are used.
const UPLINKS: usize = 3;
/// So many datagrams wait for a relay, or from one.
pub(crate) const WAITING: usize = 512;
/// The pause after a name that could not be looked up.
const RETRY: Duration = Duration::from_secs(5);

/// How each relay fares, by uplink and server.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<BTreeMap<(String, String), State>>);

impl Health {
    fn set(&self, of: &(String, String), state: Option<State>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            Some(state) => drop(all.insert(of.clone(), state)),
            None => drop(all.remove(of)),
        }
    }

    /// What the doctor says of them.
    pub fn checks(&self) -> Vec<Check> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let check = |((uplink, server), state): (&(String, String), &State)| {
            let name = format!("relay {server}");
            match state {
                State::Starting => Check::told(name, true, format!("asked for an address, over {uplink}")),
                State::Allocated { relayed, .. } => {
                    Check::told(name, true, format!("lends this host the address {relayed}, over {uplink}"))
                }
                State::Failed { why, remedy } => {
                    Check::told(name, false, format!("over {uplink}: {why}: {remedy}"))
                }
            }
        };
        all.iter().map(check).collect()
    }
}

/// Uses relays as they are needed, until the service ends.
pub(crate) async fn run(daemon: Arc<Daemon>, relays: Vec<RelayConfig>, mut happenings: Reader<Happening>) {
    if relays.is_empty() {
        return;
    }
    let relays: Vec<Arc<RelayConfig>> = relays.into_iter().map(Arc::new).collect();
    // By uplink, its address, and the relay's place: another address is another ask (RFC 8656 has none moved).
    let mut kept: BTreeMap<(String, IpAddr, usize), oneshot::Sender<()>> = BTreeMap::new();
    let mut needed = None;
    loop {
        let Ok(outline) = daemon.engine.outline().await else { return };
        if outline.needs_relay {
            needed = Some(Instant::now());
        }
        let wanted = outline.up && needed.is_some_and(|at| at.elapsed() < LINGER);
        let usable = outline.interfaces.iter().filter(|(i, choice)| i.usable && !choice.excluded);
        let first = |i: &Interface| i.addresses.iter().copied().min_by_key(IpAddr::is_ipv6);
        let uplinks: Vec<(String, IpAddr)> =
            usable.filter_map(|(i, _)| Some((i.name.clone(), first(i)?))).take(UPLINKS).collect();
        // What is dropped is told so, and gives its address back.
        kept.retain(|(uplink, own, _), stop| {
            let there = uplinks.iter().any(|(name, address)| name == uplink && address == own);
            wanted && there && !stop.is_closed()
        });
        for (uplink, own) in uplinks.iter().filter(|_| wanted) {
            for (number, relay) in relays.iter().enumerate() {
                kept.entry((uplink.clone(), *own, number)).or_insert_with(|| {
                    let (stop, stopped) = oneshot::channel();
                    tokio::spawn(keep(Arc::clone(&daemon), uplink.clone(), Arc::clone(relay), stopped));
                    stop
                });
            }
        }
        tokio::select! {
            () = tokio::time::sleep(if outline.needs_relay { LOOK } else { REST }) => {}
            woken = watch(&mut happenings) => if !woken { return },
        }
    }
}

/// Waits until a peer may have no path left; `false` when the engine has ended.
pub(crate) async fn watch(happenings: &mut Reader<Happening>) -> bool {
    loop {
        match happenings.next().await {
            Some(heard) if is_loss(&heard) => return true,
            Some(_) => {}
            None => return false,
        }
    }
}

/// Keeps an address at one relay, over one uplink, until it is told to stop.
async fn keep(
    daemon: Arc<Daemon>,
    uplink: String,
    relay: Arc<RelayConfig>,
    mut stopped: oneshot::Receiver<()>,
) {
    let of = (uplink.clone(), format!("{} ({})", relay.server, relay.transport));
    daemon.relays.set(&of, Some(State::Starting));
    let server = tokio::select! {
        server = reached(&daemon, &relay, &of) => server,
        _ = &mut stopped => return daemon.relays.set(&of, None),
    };
    let (to_relay, from_engine) = mpsc::channel(WAITING);
    let (to_engine, from_relay) = mpsc::channel(WAITING);
    let (told, mut state) = watch::channel(State::Starting);
    let running = turn::run(server, Uplink(uplink.clone()), from_engine, to_engine, told);
    let following = async {
        let from_relay = Arc::new(Mutex::new(from_relay));
        let mut number = None;
        loop {
            let changed = tokio::select! {
                changed = state.changed() => changed.is_ok(),
                // Its sender is dropped where it shall end.
                _ = &mut stopped => false,
            };
            if let Some(gone) = number.take() {
                // It fails only where the engine has ended.
                let _ = daemon.engine.remove_relay(gone).await;
            }
            if !changed {
                break;
            }
            let now = state.borrow_and_update().clone();
            if let State::Allocated { relayed, .. } = now {
                let link = Link::new(to_relay.clone(), Arc::clone(&from_relay), turn::LONGEST);
                match daemon.engine.add_relay(&uplink, relayed, Box::new(link)).await {
                    Ok(added) => number = Some(added),
                    Err(error) => tracing::debug!(uplink, %error, "a relay is not used"),
                }
            }
            daemon.relays.set(&of, Some(now));
        }
        // With it goes the address.
        drop(to_relay);
    };
    tokio::join!(running, following);
    daemon.relays.set(&of, None);
}

/// The relay, with the addresses that its name stands for.
async fn reached(daemon: &Daemon, relay: &RelayConfig, of: &(String, String)) -> Server {
    let failed = |why: String, remedy: &str| {
        daemon.relays.set(of, Some(State::Failed { why, remedy: remedy.to_owned() }));
    };
    loop {
        let uplinks = past(daemon).await;
        let roots = relay.ca.as_deref().map_or(Ok(Vec::new()), authorities);
        match (relay.server.resolve(&uplinks, Standing::New, &NAMES).await, roots) {
            (Ok(at), Ok(roots)) if !at.is_empty() => {
                return Server {
                    host: relay.server.host(),
                    at: daemon.nat64.reached(&of.0, at),
                    transport: relay.transport,
                    username: relay.username.clone(),
                    password: relay.password.clone(),
                    roots,
                };
            }
            (_, Err(error)) => failed(
                format!("the file that `ca` names cannot be used ({error})"),
                "it must hold certificates as PEM, and the service must be able to read it",
            ),
            (Err(error), _) => failed(
                format!("`{}` cannot be looked up ({error})", relay.server),
                "see whether the name is right; it is tried again",
            ),
            (Ok(_), _) => {
                failed(format!("`{}` stands for no address", relay.server), "see whether the name is right")
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all.map_err(|error| error.to_string())? {
        none if none.is_empty() => Err("there is no certificate in it".to_owned()),
        all => Ok(all),
    }
}

/// Sockets over one uplink.
struct Uplink(String);

impl Bind for Uplink {
    fn udp(&self, family: turn::Family) -> io::Result<std::net::UdpSocket> {
        mast_platform::own_datagrams(&self.0, of(family))
    }

    async fn tcp(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = mast_platform::own_stream(&self.0, of(turn::Family::of(to)))?;
        let stream = TcpSocket::from_std_stream(socket).connect(to).await?;
        // What waits to be joined by more comes late.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

fn of(family: turn::Family) -> Family {
    match family {
        turn::Family::V4 => Family::V4,
        turn::Family::V6 => Family::V6,
    }
}

/// The engine's end of a relay.
pub(crate) struct Link {
    to: mpsc::Sender<Parcel>,
    from: Arc<Mutex<mpsc::Receiver<Parcel>>>,
    next: Option<Parcel>,
    /// What is longer does not fit, in bytes.
    longest: usize,
}

impl Link {
    /// The end of such channels.
    pub fn new(to: mpsc::Sender<Parcel>, from: Arc<Mutex<mpsc::Receiver<Parcel>>>, longest: usize) -> Self {
        Self { to, from, next: None, longest }
    }
}

impl RelayLink for Link {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.next.is_none() {
            let mut from = self.from.lock().unwrap_or_else(PoisonError::into_inner);
            match from.poll_recv(cx) {
                Poll::Ready(Some(parcel)) => self.next = Some(parcel),
                // It ends, and is taken away.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }

    fn receive(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let next = self.next.take().or_else(|| {
            let mut from = self.from.lock().unwrap_or_else(PoisonError::into_inner);
            from.try_recv().ok()
        });
        next.map(|Parcel { peer, payload }| (peer, payload))
    }

    fn send(&mut self, to: SocketAddr, payload: &[u8]) -> bool {
        payload.len() <= self.longest
            && self.to.try_send(Parcel { peer: to, payload: payload.to_vec() }).is_ok()
    }
}
