//! Looks up the host names among peers' endpoints, and the interfaces that zones name, in the background.
//!
//! What a name stands for is of the list of the source *DNS* (beside it what names of services do, `rendezvous.rs`): each look-up that succeeds replaces what the name stood for,
//! so that an address goes when the name no longer leads there. One that fails replaces nothing: it says nothing of
//! the peer. Nothing else of the peer is touched, whatever comes and goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mast_control::{Note, Noted};
use mast_engine::api::{Happening, Moved, PublicKey, What};
use mast_engine::reach::why_unreachable;
use mast_engine::{Heard, Reader};
use mast_proto::{AddressSource, PeerState};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::daemon::Daemon;
use crate::endpoint::Endpoint;
use crate::rendezvous::Part;
use crate::turns::{NAMES, Standing, Turns};

/// The pause after the first failure; it doubles.
const RETRY: Duration = Duration::from_secs(2);
/// The longest pause while a peer is wanted and does not answer: it may have moved.
const LOST: Duration = Duration::from_secs(60);
/// The pause while it answers: then its addresses come from itself, and a look-up only finds those that it gave up.
const CONNECTED: Duration = Duration::from_secs(600);
/// How often it is seen whether the interface of a zone came, went, or has another number: that takes no time.
const ZONES: Duration = Duration::from_secs(2);
/// The most addresses that the names of one peer give it. Each is tried over each interface.
pub(crate) const MOST: usize = 8;
/// What one name led to: its addresses, or none if it cannot be looked up now; and whether anybody answered.
struct Answer {
    name: Endpoint,
    addresses: Option<Vec<SocketAddr>>,
    standing: Standing,
}

/// A peer with endpoints that are no plain addresses.
struct Watch {
    endpoints: Vec<Endpoint>,
    due: Instant,
    pause: Duration,
    /// So many of its names are being looked up, each by itself.
    running: usize,
    /// Some of them could not be.
    failed: bool,
    /// Who answers for its names, and who does not.
    standing: BTreeMap<Endpoint, Standing>,
    /// What each name stood for when it was last looked up with success.
    found: BTreeMap<Endpoint, Vec<SocketAddr>>,
    /// The addresses that the configuration says, with those whose zones are there, as the engine was given them.
    configured: Vec<SocketAddr>,
    /// What the user was told.
    told: BTreeSet<String>,
}

impl Watch {
    fn new(endpoints: Vec<Endpoint>) -> Self {
        let names = endpoints.iter().any(|e| matches!(e, Endpoint::Name { .. }));
        Self {
            due: Instant::now() + if names { Duration::ZERO } else { FAR },
            endpoints,
            pause: RETRY,
            running: 0,
            failed: false,
            standing: BTreeMap::new(),
            found: BTreeMap::new(),
            configured: Vec::new(),
            told: BTreeSet::new(),
        }
    }

    fn names(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|e| matches!(e, Endpoint::Name { .. }))
    }
}

/// Where nothing is due.
const FAR: Duration = Duration::from_secs(1 << 30);

/// Everything that is watched, by what is due first.
#[derive(Default)]
struct Watches {
    by_key: BTreeMap<PublicKey, Watch>,
    due: BTreeSet<(Instant, PublicKey)>,
    /// Some have zones.
    zones: bool,
}

impl Watches {
    /// Takes over which peers there are.
    fn sync(&mut self, wanted: Vec<(PublicKey, Vec<Endpoint>)>) {
        let mut before = std::mem::take(&mut self.by_key);
        self.due.clear();
        self.zones = wanted.iter().flat_map(|(_, endpoints)| endpoints).any(|e| e.zone().is_some());
        for (key, endpoints) in wanted {
            let same = before.remove(&key).filter(|watch| watch.endpoints == endpoints);
            let watch = same.unwrap_or_else(|| Watch::new(endpoints));
            self.due.insert((watch.due, key));
            self.by_key.insert(key, watch);
        }
    }

    fn schedule(&mut self, key: PublicKey, at: Instant) {
        let Some(watch) = self.by_key.get_mut(&key) else { return };
        self.due.remove(&(watch.due, key));
        watch.due = at;
        self.due.insert((at, key));
    }

    /// The names that are to be looked up now.
    fn take_due(&mut self, now: Instant) -> Vec<(PublicKey, Endpoint, Standing)> {
        let mut all = Vec::new();
        while let Some((at, key)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, key));
            let Some(watch) = self.by_key.get_mut(&key).filter(|w| w.running == 0) else { continue };
            let standing = |name: &Endpoint| watch.standing.get(name).copied().unwrap_or_default();
            let names: Vec<_> = watch.names().map(|name| (key, name.clone(), standing(name))).collect();
            (watch.running, watch.failed) = (names.len(), false);
            all.extend(names);
        }
        all
    }

    /// Some peer has no path left: it may have moved.
    fn hurry(&mut self, at: Instant) {
        let later: Vec<_> = self.due.iter().filter(|(due, _)| *due > at).map(|(_, key)| *key).collect();
        for key in later {
            if self.by_key.get(&key).is_some_and(|watch| watch.names().next().is_some()) {
                self.schedule(key, at);
            }
        }
    }
}

/// Looks up whatever is due, until the engine ends.
pub(crate) async fn run(daemon: Arc<Daemon>, mut happenings: Reader<Happening>) {
    let mut watches = Watches::default();
    let mut running: JoinSet<(PublicKey, Answer)> = JoinSet::new();
    let mut zones = tokio::time::interval(ZONES);
    zones.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = None;
    loop {
        let changed = Some(daemon.store().hosts_changed());
        if seen != changed {
            seen = changed;
            watches.sync(daemon.store().hosts());
        }
        let due = watches.take_due(Instant::now());
        if !due.is_empty() {
            let uplinks: Arc<[String]> = past(&daemon).await.into();
            for (key, name, standing) in due {
                let uplinks = Arc::clone(&uplinks);
                running.spawn(async move { (key, look_up(name, &uplinks, standing, &NAMES).await) });
            }
        }
        let next = watches.due.first().map(|(at, _)| *at);
        tokio::select! {
            () = async { match next { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {}
            Some(done) = running.join_next() => {
                if let Ok((key, answer)) = done {
                    attend(&daemon, &mut watches, key, answer).await;
                }
            }
            _ = zones.tick(), if watches.zones => see_zones(&daemon, &mut watches).await,
            () = daemon.look_up.notified() => {}
            heard = happenings.next() => {
                let Some(first) = heard else { return };
                // Thousands of peers may lose their last path at once.
                let rest = std::iter::from_fn(|| happenings.try_next());
                if std::iter::once(first).chain(rest).fold(false, |lost, heard| lost | is_loss(&heard)) {
                    watches.hurry(Instant::now() + RETRY);
                }
            }
        }
    }
}

/// Whether a peer has no path left, or may have none.
pub(crate) fn is_loss(heard: &Heard<Happening>) -> bool {
    match heard {
        Heard::Told(happening) => matches!(&happening.what, What::Moved(Moved { to: None, .. })),
        Heard::Missed(_) => true,
    }
}

/// Takes over what one of a peer's names led to, and says when they are looked up next once it is the last.
async fn attend(daemon: &Daemon, watches: &mut Watches, key: PublicKey, answer: Answer) {
    let Some(watch) = watches.by_key.get_mut(&key) else { return };
    watch.running = watch.running.saturating_sub(1);
    watch.standing.insert(answer.name.clone(), answer.standing);
    match answer.addresses {
        Some(addresses) => drop(watch.found.insert(answer.name, addresses)),
        None => watch.failed = true,
    }
    let last = watch.running == 0;
    let failed = watch.failed;
    let found = Found::of(watch.names().filter_map(|name| Some((name, watch.found.get(name)?.as_slice()))));
    let mut pause = LOST;
    if last {
        daemon.store().note_look_up(key, !failed);
        if failed && found.addresses.is_empty() {
            pause = watch.pause;
            watch.pause = (pause * 2).min(LOST);
        } else {
            watch.pause = RETRY;
        }
    }
    let Some(name) = daemon.store().peer(&key).map(|peer| peer.name) else { return };
    for note in found.notes.into_iter().map(|note| Note::from(note).text) {
        if watch.told.insert(note.clone()) {
            daemon.note_text(&name, note);
        }
    }
    if !watch.found.is_empty() {
        let all = daemon.rendezvous.merge(key, Part::Names, found.addresses);
        give(daemon, &name, AddressSource::Dns, all).await;
    }
    if last {
        let state = daemon.engine.peer(&name).await.map(|peer| peer.state);
        let pause = if matches!(state, Ok(PeerState::Connected)) { CONNECTED } else { pause };
        watches.schedule(key, Instant::now() + pause);
    }
}

/// Gives the engine the addresses of a source; whether it took them.
pub(crate) async fn give(daemon: &Daemon, name: &str, source: AddressSource, list: Vec<SocketAddr>) -> bool {
    let given = daemon.engine.set_addresses(name, source, list).await;
    // It was removed meanwhile.
    given.inspect_err(|error| tracing::debug!(peer = name, %error, "addresses are not used")).is_ok()
}

/// Gives the engine the addresses whose zones are there, which have the number that their interfaces have now.
async fn see_zones(daemon: &Daemon, watches: &mut Watches) {
    for (key, watch) in &mut watches.by_key {
        let zoned: Vec<&Endpoint> = watch.endpoints.iter().filter(|e| e.zone().is_some()).collect();
        if zoned.is_empty() {
            continue;
        }
        let Some(mut list) = daemon.store().fixed(key) else { continue };
        let Some(name) = daemon.store().peer(key).map(|peer| peer.name) else { continue };
        let mut absent = Vec::new();
        for endpoint in zoned {
            match endpoint.zoned() {
                Some(at) => list.push(at),
                None => absent.push(endpoint.to_string()),
            }
        }
        for endpoint in absent {
            if watch.told.insert(endpoint.clone()) {
                let note = format!("there is no interface for {endpoint} now; it is used when there is");
                daemon.note_text(&name, note);
            }
        }
        if list != watch.configured && give(daemon, &name, AddressSource::Configuration, list.clone()).await {
            watch.configured = list;
        }
    }
}

/// The uplinks over which names are asked for past the tunnel; none while not everything goes through one.
pub(crate) async fn past(daemon: &Daemon) -> Vec<String> {
    match daemon.engine.outline().await {
        Ok(outline) if outline.full_tunnel => {
            let usable = outline.interfaces.into_iter().filter(|(i, choice)| i.usable && !choice.excluded);
            usable.map(|(interface, _)| interface.name).collect()
        }
        _ => Vec::new(),
    }
}

/// What a name leads to.
async fn look_up(name: Endpoint, uplinks: &[String], standing: Standing, turns: &Turns) -> Answer {
    let (addresses, standing) = match name.resolve(uplinks, standing, turns).await {
        Ok(addresses) => (Some(addresses), Standing::Answers),
        Err(error) => {
            tracing::debug!(%name, %error, "a peer's name could not be looked up");
            let silent = error.kind() == std::io::ErrorKind::TimedOut;
            (None, if silent { Standing::Silent } else { Standing::Answers })
        }
    };
    Answer { name, addresses, standing }
}

/// What the names of one peer stand for.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub addresses: Vec<SocketAddr>,
    /// What of it is not used, and why.
    pub notes: Vec<Noted>,
}

impl Found {
    /// Looks up one name, now.
    pub async fn look_up(name: &Endpoint, uplinks: &[String]) -> Self {
        let answer = look_up(name.clone(), uplinks, Standing::New, &NAMES).await;
        Self::of(answer.addresses.iter().map(|all| (name, all.as_slice())))
    }

    /// The first of each name, then the second of each, and so on, so that one with many leaves room for the others.
    fn of<'a>(names: impl Iterator<Item = (&'a Endpoint, &'a [SocketAddr])>) -> Self {
        let mut found = Self::default();
        let mut lists = Vec::new();
        for (name, all) in names {
            let mut useful: Vec<SocketAddr> = Vec::new();
            let mut useless = None;
            for &at in all {
                match why_unreachable(at) {
                    Some(why) => useless = useless.or(Some(why)),
                    None if !useful.contains(&at) => useful.push(at),
                    None => {}
                }
            }
            if let Some(why) = useless {
                found.notes.push(Noted::UselessAddress { name: name.to_string(), problem: why.to_string() });
            }
            lists.push((name, useful));
        }
        let longest = lists.iter().map(|(_, list)| list.len()).max().unwrap_or(0);
        for place in 0..longest {
            for at in lists.iter().filter_map(|(_, list)| list.get(place)) {
                if found.addresses.len() < MOST && !found.addresses.contains(at) {
                    found.addresses.push(*at);
                }
            }
        }
        for (name, list) in lists {
            let used = list.iter().filter(|at| found.addresses.contains(at)).count();
            if used < list.len() {
                found.notes.push(Noted::ManyAddresses {
                    name: name.to_string(),
                    count: list.len(),
                    tried: used,
                });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Endpoint {
        Endpoint::parse(text).unwrap()
    }

    fn at(n: u8) -> SocketAddr {
        ([192, 0, 2, n], 7).into()
    }

    #[tokio::test]
    async fn what_cannot_be_looked_up_says_nothing_of_the_others() {
        let answer = async |text| look_up(name(text), &[], Standing::New, &NAMES).await;
        let found = answer("localhost:7").await.addresses.unwrap();
        assert!(found.contains(&"127.0.0.1:7".parse().unwrap()), "{found:?}");
        let none = answer("no.such.name.invalid:7").await;
        assert_eq!((none.addresses, none.standing), (None, Standing::Answers));
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_told_to_be_of_no_use() {
        let found = Found::look_up(&name("localhost:7"), &[]).await;
        assert!(found.addresses.is_empty(), "{found:?}");
        assert!(
            matches!(&found.notes[0], Noted::UselessAddress { name, problem } if name == "localhost:7" && problem.contains("this machine itself")),
            "{found:?}"
        );
    }

    #[test]
    fn a_name_with_forty_addresses_leaves_room_for_another_and_says_so() {
        let many: Vec<_> = (1..=40).map(at).collect();
        let (big, small) = (name("big.example:7"), name("small.example:7"));
        let few = [at(100), at(101)];
        let found = Found::of([(&big, &many[..]), (&small, &few[..])].into_iter());
        assert_eq!(found.addresses.len(), MOST);
        assert!(few.iter().all(|a| found.addresses.contains(a)), "{found:?}");
        assert_eq!(found.notes.len(), 1, "{found:?}");
        assert!(
            matches!(&found.notes[0], Noted::ManyAddresses { name, count: 40, tried: 6 } if name == "big.example:7"),
            "{found:?}"
        );
    }

    #[test]
    fn a_peer_that_is_watched_stays_watched_as_it_was() {
        let mut watches = Watches::default();
        watches.sync(vec![([1; 32], vec![name("a:1")]), ([2; 32], vec![name("b:1")])]);
        let later = Instant::now() + LOST;
        watches.schedule([1; 32], later);
        watches.sync(vec![([1; 32], vec![name("a:1")]), ([2; 32], vec![name("c:1")])]);
        assert_eq!(watches.by_key[&[1; 32]].due, later);
        assert!(watches.by_key[&[2; 32]].due <= Instant::now(), "another name");
        watches.hurry(Instant::now() + RETRY);
        assert!(watches.by_key[&[1; 32]].due < later);
        watches.sync(Vec::new());
        assert!(watches.due.is_empty());
    }
}
