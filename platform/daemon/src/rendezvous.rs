//! The third parties by which peers that move find each other ([`mast_rendezvous`]): which run, what they are told, and
//! what becomes of what they find.
//!
//! They are told what the engine would tell each peer itself (the user's word on that counts), and publicly only what
//! says nothing of a network within, and only where every peer may know it. What they find is one list of addresses for
//! each source, as any other source's; names in DNS have two, those of hosts and those of services, which are merged here.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mast_engine::api::{Happening, Moved, PublicKey, What, pair_secret, public_key};
use mast_engine::reach::why_unreachable;
use mast_engine::{Heard, Reader};
use mast_proto::{AddressSource, AddressesTold, PeerState, is_public};
use mast_rendezvous::dns::{Dns, Key, Past, PastTunnel, Publish, Servers, Wanted, Wish, Wishes};
use mast_rendezvous::{Found, Health, MOST_ADDRESSES, Own, PairSecret, Posts, Told};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::config::{PublishConfig, RendezvousConfig};
use crate::daemon::Daemon;
use crate::keeper::DISK;
use crate::lan::Nearby;
use crate::{ask, presence, resolve};

/// What peers may be told changes with interfaces and relays, which are told of at once; what NATs make of it is seen so
/// often.
const LOOK: Duration = Duration::from_secs(5);
/// Between two looks, whatever happens.
const LEAST: Duration = Duration::from_millis(20);
/// So many secrets of pairs are computed at a time, each in some 50 µs; the others' are a moment later.
const SECRETS: usize = 256;
/// So long the file of a key may take to be read.
const READ: Duration = Duration::from_secs(5);
/// What the secret of a pair is for.
const PURPOSE: &str = "rendezvous";

/// Where addresses of the source *DNS* came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// From names of services, by rendezvous.
    Services,
    /// From names of hosts.
    Names,
}

/// One that runs, as the doctor shows it.
#[derive(Clone)]
struct Running {
    name: &'static str,
    health: watch::Receiver<Health>,
}

/// What the rest of the service knows of it.
#[derive(Default)]
pub(crate) struct Shared {
    /// By [`Part`].
    dns: Mutex<BTreeMap<PublicKey, [Vec<SocketAddr>; 2]>>,
    running: Mutex<Vec<Running>>,
    /// What it does, or why it does not, for the doctor.
    about: Mutex<BTreeMap<&'static str, Result<String, Health>>>,
    /// Peers changed: there may be names to be looked up.
    pub changed: Notify,
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Replaces one part of a peer's list of the source *DNS*, and returns the whole.
    pub fn merge(&self, key: PublicKey, part: Part, list: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let mut dns = locked(&self.dns);
        let parts = dns.entry(key).or_default();
        let [services, names] = parts;
        match part {
            Part::Services => *services = list,
            Part::Names => *names = list,
        }
        let mut all: Vec<SocketAddr> = Vec::new();
        for at in parts.iter().flatten() {
            if !all.contains(at) {
                all.push(*at);
            }
        }
        if all.is_empty() {
            dns.remove(&key);
        }
        all
    }

    /// How one of them fares, where it runs or cannot.
    pub fn health(&self, name: &str) -> Option<Health> {
        if let Some(Err(problem)) = locked(&self.about).get(name) {
            return Some(problem.clone());
        }
        let running = locked(&self.running);
        running.iter().find(|one| one.name == name).map(|one| one.health.borrow().clone())
    }

    /// One is to begin anew, also where nothing about it has changed.
    pub fn restart(&self, name: &'static str) {
        locked(&self.running).retain(|one| one.name != name);
        locked(&self.about).remove(name);
    }

    fn runs(&self, name: &str) -> bool {
        locked(&self.running).iter().any(|one| one.name == name)
    }

    /// How each that has something to do fares, with what it does.
    pub fn healths(&self) -> Vec<(&'static str, Health, String)> {
        let about = locked(&self.about);
        let running = locked(&self.running).clone();
        let known = running.into_iter().filter_map(|one| match about.get(one.name)? {
            Ok(what) => Some((one.name, one.health.borrow().clone(), what.clone())),
            Err(problem) => Some((one.name, problem.clone(), String::new())),
        });
        known.collect()
    }

    fn describe(&self, name: &'static str, about: Option<Result<String, Health>>) {
        let mut all = locked(&self.about);
        match about {
            Some(about) => drop(all.insert(name, about)),
            None => drop(all.remove(name)),
        }
    }
}

/// Runs all of them until the engine ends.
pub(crate) async fn run(daemon: Arc<Daemon>, config: RendezvousConfig, mut happenings: Reader<Happening>) {
    let (publish, problem) = match &config.dns.publish {
        Some(publish) => match publishing(publish).await {
            Ok(publish) => (Some(publish), None),
            Err(why) => {
                tracing::error!(why, "this host's name is not published");
                (None, Some(why))
            }
        },
        None => (None, None),
    };
    let mut house =
        House::new(Arc::clone(&daemon), publish.as_ref().map(|publish| publish.name.to_string()), problem);
    let mut servers = Servers::given(config.dns.resolvers.clone());
    if config.dns.resolvers.is_empty() {
        servers.usual = Arc::new(|| Box::pin(ask::system_servers()));
    }
    servers.past = Some(past_tunnel(Arc::clone(&daemon)));
    let (dns, wanted) = Dns::new(servers, publish);
    house.start(dns, AddressSource::Dns);
    let mut wishes = Sought { wanted, names: BTreeMap::new(), connected: BTreeSet::new(), hosts: None };
    let mut nearby = config.lan.then(|| {
        let (nearby, lan) = Nearby::new(&daemon);
        house.start(lan, AddressSource::Lan);
        nearby
    });
    let account = daemon.store().account().map(|login| login.account.clone());
    // It fails only where the engine has ended.
    let _ = daemon.engine.set_account(account).await;
    let mut whereabouts = daemon.engine.whereabouts();
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        wishes.sync(&daemon).await;
        house.about_dns(wishes.names.len());
        house.about_lan(nearby.as_ref());
        house.keep_present().await;
        let next = house.due.first().map(|(at, ..)| *at);
        tokio::select! {
            _ = ticks.tick(), if house.tells() => house.tell().await,
            Some((source, found)) = house.found.recv() => house.take(source, found).await,
            () = async { match next { Some(at) => sleep_until(at).await, None => pending().await } } => {
                house.expire(Instant::now()).await;
            }
            changed = whereabouts.changed() => {
                if changed.is_err() {
                    return;
                }
                if house.tells() {
                    house.tell().await;
                }
                // Where very much happens, all else has its turn.
                tokio::time::sleep(LEAST).await;
            }
            () = daemon.rendezvous.changed.notified() => house.look_near(nearby.as_mut()).await,
            () = async { match &mut nearby { Some(nearby) => nearby.changed().await, None => pending().await } } => {
                house.look_near(nearby.as_mut()).await;
            }
            heard = happenings.next() => match heard {
                Some(heard) => {
                    wishes.hear(&heard, &daemon).await;
                    if let Some(nearby) = &mut nearby {
                        nearby.hear(&heard, &daemon).await;
                    }
                }
                None => return,
            }
        }
    }
}

/// Reads the key of the own name. The disk may take any time.
///
/// # Errors
/// In words, with the remedy.
pub(crate) fn secret(config: &PublishConfig) -> Result<Key, String> {
    let shown = config.key_file.display();
    let text = mast_state::read_secret(&config.key_file).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(&text).map_err(|_| format!("{shown} is no text"))?;
    Key::new(&config.key_name, &config.key_algorithm, text).map_err(|why| format!("{shown}: {why}"))
}

/// The own name with its key.
async fn publishing(config: &PublishConfig) -> Result<Publish, String> {
    let reading = config.clone();
    let read = DISK.within(READ, move || secret(&reading)).await;
    let shown = config.key_file.display();
    let key = read.map_err(|hung| format!("the disk of {shown} does not answer ({hung})"))??;
    Ok(Publish { name: config.name.clone(), server: config.server, key, ttl: config.ttl })
}

/// While everything goes through a tunnel, name servers are asked past it as well, as for names of hosts.
fn past_tunnel(daemon: Arc<Daemon>) -> PastTunnel {
    Arc::new(move || {
        let daemon = Arc::clone(&daemon);
        Box::pin(async move {
            let uplinks = resolve::past(&daemon).await;
            if uplinks.is_empty() {
                return Vec::new();
            }
            let servers = ask::networks_servers().await;
            let over = |uplink: String| Past {
                servers: servers.clone(),
                connect: Arc::new(move |server| mast_platform::own_socket(&uplink, server)),
            };
            uplinks.into_iter().map(over).collect()
        })
    })
}

/// All that run.
struct House {
    daemon: Arc<Daemon>,
    /// What each of them is told.
    own: watch::Sender<Own>,
    found: mpsc::Receiver<(AddressSource, Found)>,
    finds: mpsc::Sender<(AddressSource, Found)>,
    tasks: JoinSet<()>,
    /// The secrets of pairs, by peer; none of a peer whose key is none.
    secrets: BTreeMap<PublicKey, Option<PairSecret>>,
    /// When what was found is too old.
    until: BTreeMap<(AddressSource, PublicKey), Instant>,
    due: BTreeSet<(Instant, AddressSource, PublicKey)>,
    /// The name that this host has.
    name: Option<String>,
    /// Why it is not published.
    problem: Option<String>,
    /// The peer because of which it is not.
    withheld: Option<String>,
    /// The presence session, and what it is of.
    presence: Option<(presence::Wanted, AbortHandle)>,
    ways: presence::Ways,
}

impl House {
    fn new(daemon: Arc<Daemon>, name: Option<String>, problem: Option<String>) -> Self {
        let (finds, found) = mpsc::channel(64);
        Self {
            daemon,
            own: watch::Sender::default(),
            found,
            finds,
            tasks: JoinSet::new(),
            secrets: BTreeMap::new(),
            until: BTreeMap::new(),
            due: BTreeSet::new(),
            name,
            problem,
            withheld: None,
            presence: None,
            ways: presence::Ways::default(),
        }
    }

    /// Starts one of them; what it finds is of this source.
    fn start(&mut self, one: impl mast_rendezvous::Rendezvous, source: AddressSource) -> AbortHandle {
        let name = one.name();
        let (find, mut found) = mpsc::channel(64);
        let (tell, health) = watch::channel(Health::Starting);
        locked(&self.daemon.rendezvous.running).push(Running { name, health });
        let posts = Posts { own: self.own.subscribe(), found: find, health: tell };
        let finds = self.finds.clone();
        let abort = self.tasks.spawn(one.run(posts));
        self.tasks.spawn(async move {
            while let Some(found) = found.recv().await {
                if finds.send((source, found)).await.is_err() {
                    return;
                }
            }
        });
        abort
    }

    /// Whether there is anybody to be told where this host is.
    fn tells(&self) -> bool {
        self.name.is_some() || self.presence.is_some()
    }

    /// Has the presence session be as it should be now.
    async fn keep_present(&mut self) {
        let shared = &self.daemon.rendezvous;
        let wanted = presence::wanted(&self.daemon).await;
        let kept = match (&self.presence, &wanted) {
            (None, None) => return,
            (Some((of, _)), Some(wanted)) => of == wanted && shared.runs(presence::NAME),
            _ => false,
        };
        if kept {
            return;
        }
        if let Some((_, running)) = self.presence.take() {
            running.abort();
        }
        shared.restart(presence::NAME);
        let Some(wanted) = wanted else { return };
        if let Ok(outline) = self.daemon.engine.outline().await {
            self.ways.set(&outline);
        }
        match presence::begin(&self.daemon, &wanted, &self.ways).await {
            Ok(presence) => {
                let about = format!("as {}", wanted.account());
                self.daemon.rendezvous.describe(presence::NAME, Some(Ok(about)));
                // What was told before may be too old.
                self.tell().await;
                let running = self.start(presence, AddressSource::Presence);
                self.presence = Some((wanted, running));
            }
            Err(problem) => self.daemon.rendezvous.describe(presence::NAME, Some(Err(problem))),
        }
    }

    /// Tells them where this host is, if that is news.
    async fn tell(&mut self) {
        // They fail only where the engine has ended.
        let Ok(outline) = self.daemon.engine.outline().await else { return };
        self.ways.set(&outline);
        let Ok(told) = self.daemon.engine.told().await else { return };
        let key = self.daemon.key.lock().await.key().clone();
        self.learn_secrets(&key, told.iter().map(|(peer, _)| peer));
        let present: BTreeSet<PublicKey> = told.iter().map(|(peer, _)| *peer).collect();
        self.secrets.retain(|peer, _| present.contains(peer));
        self.withheld = {
            let peers = self.daemon.store().peers();
            let relayed = |told| told == AddressesTold::RelayedOnly;
            peers.into_iter().find(|p| p.disclosure.mast && relayed(p.disclosure.addresses)).map(|p| p.name)
        };
        let public = if self.withheld.is_some() { Vec::new() } else { public(&told) };
        let with_secret = |(peer, addresses)| {
            let secret = self.secrets.get(&peer)?.clone()?;
            Some((peer, Told { secret, addresses }))
        };
        let peers = told.into_iter().filter_map(with_secret).collect();
        let usable = outline.interfaces.iter().filter(|(i, choice)| i.usable && !choice.excluded);
        let here = usable.flat_map(|(i, _)| i.addresses.iter().copied()).collect();
        let own = Own { key: public_key(&key), public, here, peers };
        self.own.send_if_modified(|before| {
            let news = *before != own;
            *before = own;
            news
        });
    }

    /// Computes the secrets of pairs that are not known yet, as many as there is time for; whether these are all.
    fn learn_secrets<'a>(&mut self, key: &[u8; 32], peers: impl Iterator<Item = &'a PublicKey>) -> bool {
        let mut fresh = 0;
        for peer in peers {
            if self.secrets.contains_key(peer) {
                continue;
            }
            if fresh == SECRETS {
                return false;
            }
            fresh += 1;
            let secret = pair_secret(key, peer, PURPOSE).map(|secret| PairSecret(*secret));
            self.secrets.insert(*peer, secret);
        }
        true
    }

    /// Has those be looked for in the local network that may be there.
    async fn look_near(&mut self, nearby: Option<&mut Nearby>) {
        let Some(nearby) = nearby else { return };
        let wanted = Nearby::wanted(&self.daemon);
        let key = self.daemon.key.lock().await.key().clone();
        while !self.learn_secrets(&key, wanted.keys()) {
            tokio::task::yield_now().await;
        }
        if !self.tells() {
            // Else those of other peers are of use as well.
            self.secrets.retain(|peer, _| wanted.contains_key(peer));
        }
        nearby.sync(&self.daemon, public_key(&key), wanted, &self.secrets).await;
    }

    /// Takes over what one of them found.
    async fn take(&mut self, source: AddressSource, found: Found) {
        let Found { peer, addresses, lifetime } = found;
        let place = (source, peer);
        if let Some(before) = self.until.remove(&place) {
            self.due.remove(&(before, source, peer));
        }
        let useful = addresses.into_iter().filter(|at| why_unreachable(*at).is_none());
        let addresses: Vec<SocketAddr> = useful.take(MOST_ADDRESSES).collect();
        if !addresses.is_empty()
            && let Some(until) = Instant::now().checked_add(lifetime)
        {
            self.until.insert(place, until);
            self.due.insert((until, source, peer));
        }
        self.give(source, peer, addresses).await;
    }

    /// Withdraws what has grown too old.
    async fn expire(&mut self, now: Instant) {
        while let Some((at, source, peer)) = self.due.pop_first() {
            if at > now {
                self.due.insert((at, source, peer));
                return;
            }
            self.until.remove(&(source, peer));
            self.give(source, peer, Vec::new()).await;
        }
    }

    async fn give(&self, source: AddressSource, peer: PublicKey, list: Vec<SocketAddr>) {
        let list = match source {
            AddressSource::Dns => self.daemon.rendezvous.merge(peer, Part::Services, list),
            _ => list,
        };
        let Some(name) = self.daemon.store().peer(&peer).map(|peer| peer.name) else { return };
        resolve::give(&self.daemon, &name, source, list).await;
    }

    /// Says what is done in the local network.
    fn about_lan(&self, nearby: Option<&Nearby>) {
        let there = self.until.keys().filter(|(source, _)| *source == AddressSource::Lan).count();
        let about = nearby.and_then(|nearby| nearby.about(there)).map(Ok);
        self.daemon.rendezvous.describe("lan", about);
    }

    /// Says what is done by DNS.
    fn about_dns(&self, sought: usize) {
        let about = match (&self.problem, &self.name, &self.withheld) {
            (Some(why), ..) => Some(Err(Health::Failed {
                why: format!("this host's name is not published: {why}"),
                remedy: "mend that, and restart mastd".to_owned(),
            })),
            (None, Some(name), Some(peer)) => Some(Ok(format!(
                "{name} is not published, as {peer} is told relayed addresses only, and everybody can read DNS"
            ))),
            (None, Some(name), None) => {
                Some(Ok(format!("{name} is published; peers that are looked up by name: {sought}")))
            }
            (None, None, _) if sought > 0 => Some(Ok(format!("peers that are looked up by name: {sought}"))),
            (None, None, _) => None,
        };
        self.daemon.rendezvous.describe("dns", about);
    }
}

/// What everybody may read of what peers are told: what most of them are told comes first.
fn public(told: &[(PublicKey, Vec<SocketAddr>)]) -> Vec<SocketAddr> {
    let mut counts: BTreeMap<SocketAddr, (usize, usize)> = BTreeMap::new();
    for (_, addresses) in told {
        for (place, at) in addresses.iter().enumerate().filter(|(_, at)| is_public(at.ip())) {
            let (count, best) = counts.entry(*at).or_insert((0, place));
            (*count, *best) = (*count + 1, (*best).min(place));
        }
    }
    let mut all: Vec<_> = counts.into_iter().collect();
    all.sort_by_key(|(at, (count, best))| (std::cmp::Reverse(*count), *best, *at));
    all.into_iter().map(|(at, _)| at).take(MOST_ADDRESSES).collect()
}

/// Which peers are looked up by names of services.
struct Sought {
    wanted: Wanted,
    /// Their keys, by what they are called.
    names: BTreeMap<String, PublicKey>,
    connected: BTreeSet<PublicKey>,
    /// The state of the store that this is of.
    hosts: Option<u64>,
}

impl Sought {
    /// Takes over who is to be found.
    async fn sync(&mut self, daemon: &Daemon) {
        let now = daemon.store().hosts_changed();
        if self.hosts.replace(now) == Some(now) {
            return;
        }
        let mut wishes = Wishes::new();
        let mut names = BTreeMap::new();
        // Not in the head of the loop: the store is asked in it, too.
        let hosts = daemon.store().hosts();
        for (key, endpoints) in hosts {
            let services: Vec<_> = endpoints.iter().filter_map(|e| e.service().cloned()).collect();
            if services.is_empty() {
                continue;
            }
            if let Some(peer) = daemon.store().peer(&key) {
                wishes.insert(key, Wish { names: services, connected: false });
                names.insert(peer.name, key);
            }
        }
        self.connected.clear();
        for (name, key) in &names {
            if is_connected(daemon, name).await {
                self.connected.insert(*key);
            }
        }
        for (key, wish) in &mut wishes {
            wish.connected = self.connected.contains(key);
        }
        self.names = names;
        self.wanted.wishes.send_if_modified(|before| {
            let news = *before != wishes;
            *before = wishes;
            news
        });
    }

    /// Takes over what happened to peers.
    async fn hear(&mut self, heard: &Heard<Happening>, daemon: &Daemon) {
        match heard {
            Heard::Told(Happening { peer, what: What::Moved(Moved { to, .. }), .. }) => {
                if let Some(key) = self.names.get(peer).copied() {
                    self.note(key, to.is_some());
                }
            }
            Heard::Told(_) => {}
            Heard::Missed(_) => {
                let names = self.names.clone();
                for (name, key) in names {
                    let connected = is_connected(daemon, &name).await;
                    self.note(key, connected);
                }
            }
        }
    }

    fn note(&mut self, key: PublicKey, connected: bool) {
        if connected {
            self.connected.insert(key);
        } else {
            self.connected.remove(&key);
        }
        self.wanted.wishes.send_if_modified(|wishes| match wishes.get_mut(&key) {
            Some(wish) if wish.connected != connected => {
                wish.connected = connected;
                true
            }
            _ => false,
        });
        if !connected {
            // Where very many were lost at once, the others are looked up when their time comes.
            let _ = self.wanted.lost.try_send(key);
        }
    }
}

pub(crate) async fn is_connected(daemon: &Daemon, name: &str) -> bool {
    daemon.engine.peer(name).await.is_ok_and(|peer| peer.state == PeerState::Connected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn two_ways_to_the_same_list_do_not_overwrite_each_other() {
        let shared = Shared::default();
        let (a, b, c) = (at("192.0.2.1:1"), at("192.0.2.2:2"), at("192.0.2.3:3"));
        assert_eq!(shared.merge([1; 32], Part::Names, vec![a, b]), [a, b]);
        assert_eq!(shared.merge([1; 32], Part::Services, vec![c, a]), [c, a, b]);
        assert_eq!(shared.merge([2; 32], Part::Services, vec![b]), [b]);
        assert_eq!(shared.merge([1; 32], Part::Names, Vec::new()), [c, a]);
        assert!(shared.merge([1; 32], Part::Services, Vec::new()).is_empty());
        assert_eq!(locked(&shared.dns).len(), 1, "nothing is kept of who has nothing");
    }

    #[test]
    fn nothing_private_is_public_and_what_all_are_told_comes_first() {
        let told = [
            ([1; 32], vec![at("10.0.0.1:6278"), at("198.51.100.1:6278"), at("203.0.113.1:40001")]),
            ([2; 32], vec![at("198.51.100.1:6278"), at("203.0.113.1:40002"), at("[fd00::1]:6278")]),
            ([3; 32], vec![]),
        ];
        let expected = ["198.51.100.1:6278", "203.0.113.1:40002", "203.0.113.1:40001"].map(at);
        assert_eq!(public(&told), expected);
        let many: Vec<SocketAddr> = (0..200).map(|n| ([192, 0, 2, n], 1).into()).collect();
        assert_eq!(public(&[([1; 32], many)]).len(), MOST_ADDRESSES);
    }

    #[test]
    fn what_has_nothing_to_do_is_not_shown() {
        let shared = Shared::default();
        let (tell, health) = watch::channel(Health::Starting);
        locked(&shared.running).push(Running { name: "dns", health });
        assert!(shared.healths().is_empty());
        shared.describe("dns", Some(Ok("1 peers are looked up".into())));
        tell.send_replace(Health::Working);
        assert_eq!(shared.healths(), [("dns", Health::Working, "1 peers are looked up".to_owned())]);
        let failed = Health::Failed { why: "a".into(), remedy: "b".into() };
        shared.describe("dns", Some(Err(failed.clone())));
        assert_eq!(shared.healths(), [("dns", failed, String::new())]);
    }
}
