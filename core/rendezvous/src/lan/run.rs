//! The sockets, and the time.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::station::{Outcome, Station};
use super::wire::LONGEST;
use super::{GROUPS, Link, Near, Open, PORT};
use crate::{Health, Posts};

/// So many datagrams wait to be looked at; what comes beyond is lost, as in any flood.
const WAITING: usize = 256;
/// So many are taken from a socket in [`BREATH`] at most: a network in which anybody sends without an end costs no more.
const TAKEN: u32 = 512;
/// The time in which they are, and the pause after that many.
const BREATH: Duration = Duration::from_millis(100);
/// The pause before a socket that cannot be had is tried again; a network that changes ends it.
const RETRY: Duration = Duration::from_secs(60);
/// The pause after a failed reading.
const FAILED: Duration = Duration::from_secs(1);

/// Something that came over a link.
type Datagram = (u32, SocketAddr, Vec<u8>);

struct Bound {
    /// As it was when the socket was opened.
    of: Link,
    socket: Arc<UdpSocket>,
    reading: AbortHandle,
}

struct Sockets {
    open: Open,
    /// By link and place in [`GROUPS`].
    bound: BTreeMap<(u32, usize), Bound>,
    reading: JoinSet<()>,
    inbox: mpsc::Sender<Datagram>,
    /// Why the last one could not be had.
    failed: Option<String>,
    retry: Option<Instant>,
}

impl Sockets {
    /// Opens those that are missing, and closes those that are of no use any more.
    fn sync(&mut self, now: Instant, links: &[Link]) {
        self.bound.retain(|(number, _), bound| {
            let stays = links.iter().any(|link| link.number == *number && *link == bound.of);
            if !stays {
                bound.reading.abort();
            }
            stays
        });
        (self.failed, self.retry) = (None, None);
        for link in links {
            for (place, group) in GROUPS.into_iter().enumerate() {
                let has = link.addresses.iter().any(|at| at.is_ipv4() == group.is_ipv4());
                if !has || self.bound.contains_key(&(link.number, place)) {
                    continue;
                }
                match self.bind(link, group) {
                    Ok(bound) => drop(self.bound.insert((link.number, place), bound)),
                    Err(error) => {
                        tracing::debug!(interface = link.name, %error, "no socket for multicast");
                        self.failed =
                            Some(format!("UDP port {PORT} cannot be used on {} ({error})", link.name));
                        self.retry = Some(now + RETRY);
                    }
                }
            }
        }
    }

    fn bind(&mut self, link: &Link, group: IpAddr) -> std::io::Result<Bound> {
        let socket = (self.open)(&link.name, group)?;
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let reading = self.reading.spawn(read(link.number, Arc::clone(&socket), self.inbox.clone()));
        Ok(Bound { of: link.clone(), socket, reading })
    }

    /// Sends to all groups over a link.
    async fn send(&self, link: u32, message: &[u8]) {
        for ((_, place), bound) in self.bound.range((link, 0)..=(link, GROUPS.len())) {
            let Some(group) = GROUPS.get(*place) else { continue };
            let to = match *group {
                IpAddr::V4(group) => SocketAddr::from((group, PORT)),
                IpAddr::V6(group) => std::net::SocketAddrV6::new(group, PORT, 0, link).into(),
            };
            // What does not get out now is said again.
            if let Err(error) = bound.socket.send_to(message, to).await {
                tracing::debug!(interface = bound.of.name, %error, "not sent by multicast");
            }
        }
    }

    fn health(&self) -> Health {
        match &self.failed {
            Some(why) if self.bound.is_empty() => Health::Failed {
                why: why.clone(),
                remedy: "have the program that holds the port share it (`disallow-other-stacks=no` of avahi), or write \
                         `lan = false` below `[rendezvous]`; it is tried again by itself"
                    .to_owned(),
            },
            _ => Health::Working,
        }
    }
}

/// Reads what comes over one link, no more than there is time for.
async fn read(link: u32, socket: Arc<UdpSocket>, inbox: mpsc::Sender<Datagram>) {
    // One byte more than is read, so that what is cut off shows.
    let mut buffer = [0; LONGEST + 1];
    let (mut start, mut taken) = (Instant::now(), 0_u32);
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                let datagram = buffer.get(..length).unwrap_or_default();
                // Of others' talk nothing is kept; and what finds no room is lost.
                if length <= LONGEST && super::wire::tags(datagram).next().is_some() {
                    let _ = inbox.try_send((link, from, datagram.to_vec()));
                }
            }
            Err(_) => tokio::time::sleep(FAILED).await,
        }
        if start.elapsed() >= BREATH {
            (start, taken) = (Instant::now(), 0);
        }
        taken += 1;
        if taken >= TAKEN {
            tokio::time::sleep(BREATH).await;
        }
    }
}

pub(super) async fn run(open: Open, mut near: watch::Receiver<Near>, posts: Posts) {
    let Posts { mut own, found, health } = posts;
    let (inbox, mut datagrams) = mpsc::channel(WAITING);
    let mut sockets =
        Sockets { open, bound: BTreeMap::new(), reading: JoinSet::new(), inbox, failed: None, retry: None };
    let mut station = Station::new();
    near.mark_changed();
    loop {
        let due = [station.due(), sockets.retry].into_iter().flatten().min();
        let sleep = async {
            match due {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        let mut news = Vec::new();
        tokio::select! {
            changed = near.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = Instant::now();
                let new = near.borrow_and_update().clone();
                news = station.set(now, new);
                sockets.sync(now, station.links());
            }
            Some((link, from, datagram)) = datagrams.recv() => {
                let Outcome { found, answers } =
                    station.hear(Instant::now(), SystemTime::now(), link, from, &datagram);
                for answer in answers {
                    sockets.send(link, &answer).await;
                }
                news = found;
            }
            () = sleep => {
                let now = Instant::now();
                if sockets.retry.is_some_and(|at| at <= now) {
                    sockets.sync(now, station.links());
                }
                // Without randomness nothing can be said, and by then all of the system fails.
                for (link, message) in station.ask(now, SystemTime::now()).unwrap_or_default() {
                    sockets.send(link, &message).await;
                }
            }
            changed = own.changed() => if changed.is_err() {
                return;
            },
        }
        let now = sockets.health();
        health.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
        // The latest of each peer.
        let mut told = BTreeSet::new();
        news.reverse();
        for one in news.into_iter().filter(|one| told.insert(one.peer)).collect::<Vec<_>>() {
            if found.send(one).await.is_err() {
                return;
            }
        }
    }
}
