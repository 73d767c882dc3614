//! Which name is looked up when.
//!
//! A look-up that succeeds replaces what the name led to, and so takes away as well; one that fails says nothing of the
//! peer, and replaces nothing until what was found has grown too old.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::ask::Servers;
use super::look_up::{Outcome, look_up};
use super::name::HostName;
use crate::{Found, Health, MOST_ADDRESSES, PeerKey};

/// The shortest pause between two look-ups of a name, whatever its TTL is and whoever asks.
const SHORTEST: Duration = Duration::from_secs(5);
/// The longest, whatever its TTL is.
const LONGEST: Duration = Duration::from_secs(3600);
/// The longest while a peer is wanted and does not answer: it may have moved, and others keep records for their TTL anyway.
const LOST: Duration = Duration::from_secs(60);
/// The shortest while it answers: then it says itself where else it is.
const CONNECTED: Duration = Duration::from_secs(600);
/// A peer that was just lost is looked up at once, but no sooner after the look-up before.
const URGENT: Duration = Duration::from_secs(2);
/// The pause after the first failure; it doubles, up to [`LOST`].
const RETRY: Duration = Duration::from_secs(2);
/// What was found outlives its TTL by so much while no name server answers: where the peer was is a better guess than none.
const OUTLIVES: Duration = Duration::from_secs(3600);
/// So many names are looked up at a time.
const AT_ONCE: usize = 16;
/// So many names of one peer are looked up.
const NAMES: usize = 4;

/// A peer that is to be found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// Its names; the first four.
    pub names: Vec<HostName>,
    /// It answers now: there is no hurry.
    pub connected: bool,
}

/// All of them.
pub type Wishes = BTreeMap<PeerKey, Wish>;

type Key = (PeerKey, HostName);

/// What is known of one name.
struct Entry {
    due: Instant,
    begun: Option<Instant>,
    running: bool,
    /// Its peer was lost meanwhile.
    again: bool,
    failures: u32,
    ttl: Duration,
    addresses: Vec<SocketAddr>,
    /// The addresses hold until then.
    until: Instant,
}

/// Looks up names, and tells what they lead to.
pub(crate) struct Seeker {
    pub servers: Servers,
    pub wishes: watch::Receiver<Wishes>,
    /// Peers that were lost just now.
    pub lost: mpsc::Receiver<PeerKey>,
    pub found: mpsc::Sender<Found>,
    pub health: watch::Sender<Health>,
}

impl Seeker {
    /// Runs until nobody wants to know what is found.
    pub async fn run(self) {
        let Self { servers, mut wishes, mut lost, found, health } = self;
        let mut names = Names::default();
        let mut running: JoinSet<(Key, Outcome)> = JoinSet::new();
        let (mut wished, mut heard) = (true, true);
        names.sync(&wishes.borrow_and_update(), Instant::now());
        loop {
            health.send_if_modified(|before| {
                let now = names.health();
                let other = *before != now;
                *before = now;
                other
            });
            for (peer, name) in names.take_due(Instant::now(), AT_ONCE.saturating_sub(running.len())) {
                let servers = servers.clone();
                running.spawn(async move {
                    let outcome = look_up(&servers, &name, &peer).await;
                    ((peer, name), outcome)
                });
            }
            let next = names.next().filter(|_| running.len() < AT_ONCE);
            let told = tokio::select! {
                () = async { match next { Some(at) => sleep_until(at).await, None => pending().await } } => None,
                Some(done) = running.join_next() => match done {
                    Ok((key, outcome)) => {
                        let peer = key.0;
                        names.take(key, outcome, Instant::now()).then_some(peer)
                    }
                    Err(_) => None,
                },
                changed = wishes.changed(), if wished => {
                    wished = changed.is_ok();
                    names.sync(&wishes.borrow_and_update(), Instant::now());
                    None
                }
                peer = lost.recv(), if heard => {
                    heard = peer.is_some();
                    if let Some(peer) = peer {
                        names.hurry(peer, Instant::now());
                    }
                    None
                }
            };
            if let Some(peer) = told
                && found.send(names.found(peer, Instant::now())).await.is_err()
            {
                return;
            }
        }
    }
}

/// The names that are looked up, by what is due first.
#[derive(Default)]
struct Names {
    entries: BTreeMap<Key, Entry>,
    due: BTreeSet<(Instant, Key)>,
    connected: BTreeSet<PeerKey>,
    /// What is another host's.
    strange: BTreeSet<Key>,
    /// What nobody answers for, and why.
    failing: BTreeMap<Key, String>,
    fine: BTreeSet<Key>,
}

impl Names {
    /// Takes over who is to be found.
    fn sync(&mut self, wishes: &Wishes, now: Instant) {
        let mut before = std::mem::take(&mut self.entries);
        let gone = std::mem::replace(&mut self.connected, connected(wishes));
        self.due.clear();
        for (peer, wish) in wishes {
            for name in wish.names.iter().take(NAMES) {
                let key = (*peer, name.clone());
                let mut entry = before.remove(&key).unwrap_or_else(|| Entry::new(now));
                if gone.contains(peer) && !wish.connected {
                    // It has no time any more.
                    entry.due = entry.due.min(entry.soonest(now, entry.pause(false)));
                }
                self.due.extend((!entry.running).then(|| (entry.due, key.clone())));
                self.entries.insert(key, entry);
            }
        }
        let there = |key: &Key| self.entries.contains_key(key);
        self.strange.retain(there);
        self.failing.retain(|key, _| there(key));
        self.fine.retain(there);
    }

    /// The names that are to be looked up now, so many at most.
    fn take_due(&mut self, now: Instant, most: usize) -> Vec<Key> {
        let mut all = Vec::new();
        while all.len() < most
            && let Some((at, key)) = self.due.pop_first()
        {
            if at > now {
                self.due.insert((at, key));
                break;
            }
            if let Some(entry) = self.entries.get_mut(&key) {
                (entry.running, entry.again, entry.begun) = (true, false, Some(now));
                all.push(key);
            }
        }
        all
    }

    fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A peer was lost: its names are looked up as soon as may be.
    fn hurry(&mut self, peer: PeerKey, now: Instant) {
        let names = self.entries.range_mut((peer, HostName::least())..);
        for (key, entry) in names.take_while(|((of, _), _)| *of == peer) {
            if entry.running {
                entry.again = true;
                continue;
            }
            let soonest = entry.soonest(now, URGENT);
            if soonest < entry.due {
                self.due.remove(&(entry.due, key.clone()));
                entry.due = soonest;
                self.due.insert((soonest, key.clone()));
            }
        }
    }

    /// Takes over what came of a look-up; whether there is something to tell.
    fn take(&mut self, key: Key, outcome: Outcome, now: Instant) -> bool {
        let connected = self.connected.contains(&key.0);
        let Some(entry) = self.entries.get_mut(&key) else { return false };
        entry.running = false;
        // It may have been looked up twice: it was taken out and came back meanwhile.
        self.due.remove(&(entry.due, key.clone()));
        self.strange.remove(&key);
        self.failing.remove(&key);
        self.fine.remove(&key);
        let mut told = true;
        match outcome {
            Outcome::Leads(addresses, ttl) => {
                (entry.addresses, entry.ttl, entry.failures) = (addresses, ttl, 0);
                entry.until = now + entry.pause(connected) + OUTLIVES;
                self.fine.insert(key.clone());
            }
            Outcome::Stranger(ttl) => {
                (entry.addresses, entry.ttl, entry.failures) = (Vec::new(), ttl, 0);
                self.strange.insert(key.clone());
            }
            Outcome::Failed(why) => {
                entry.failures = entry.failures.saturating_add(1);
                // It is told once that it is too old.
                told = entry.until <= now && !entry.addresses.is_empty();
                if told {
                    entry.addresses.clear();
                }
                tracing::debug!(name = %key.1, why, "a peer's name could not be looked up");
                self.failing.insert(key.clone(), why);
            }
        }
        let pause = if std::mem::take(&mut entry.again) { URGENT } else { entry.pause(connected) };
        entry.due = entry.soonest(now, pause);
        self.due.insert((entry.due, key));
        told
    }

    /// Where a peer is, as all its names say: the first of each, then the second of each, and so on.
    fn found(&self, peer: PeerKey, now: Instant) -> Found {
        let names = self.entries.range((peer, HostName::least())..);
        let of_peer = names.take_while(|((of, _), _)| *of == peer).map(|(_, entry)| entry);
        let of_peer: Vec<&Entry> = of_peer.filter(|e| !e.addresses.is_empty() && e.until > now).collect();
        let lifetime = of_peer.iter().map(|entry| entry.until - now).min().unwrap_or(LONGEST);
        let mut addresses = Vec::new();
        for place in 0..MOST_ADDRESSES {
            for at in of_peer.iter().filter_map(|entry| entry.addresses.get(place)) {
                if addresses.len() < MOST_ADDRESSES && !addresses.contains(at) {
                    addresses.push(*at);
                }
            }
        }
        Found { peer, addresses, lifetime }
    }

    /// What of it the user can mend comes first.
    fn health(&self) -> Health {
        if let Some((_, name)) = self.strange.first() {
            return Health::Failed {
                why: format!("`{name}` has the key of another host in DNS, and is not used"),
                remedy: format!(
                    "correct the name in `endpoints`, or the record: `{}` of type TXT",
                    name.service().to_ascii().trim_end_matches('.')
                ),
            };
        }
        if let Some(((_, name), why)) = self.failing.first_key_value() {
            return Health::Failed {
                why: format!("`{name}` cannot be looked up: {why}"),
                remedy: "see that this host's name servers can be reached; it is tried again by itself"
                    .to_owned(),
            };
        }
        if self.fine.is_empty() && !self.entries.is_empty() { Health::Starting } else { Health::Working }
    }
}

fn connected(wishes: &Wishes) -> BTreeSet<PeerKey> {
    wishes.iter().filter(|(_, wish)| wish.connected).map(|(peer, _)| *peer).collect()
}

impl Entry {
    fn new(now: Instant) -> Self {
        Self {
            due: now,
            begun: None,
            running: false,
            again: false,
            failures: 0,
            ttl: Duration::ZERO,
            addresses: Vec::new(),
            until: now,
        }
    }

    /// How long it is left alone.
    fn pause(&self, connected: bool) -> Duration {
        match (self.failures, connected) {
            (0, true) => self.ttl.clamp(CONNECTED, LONGEST),
            (0, false) => self.ttl.clamp(SHORTEST, LOST),
            (n, _) => (RETRY * (1 << n.saturating_sub(1).min(6))).min(LOST),
        }
    }

    /// When it may be looked up with such a pause since the look-up before.
    fn soonest(&self, now: Instant, pause: Duration) -> Instant {
        self.begun.map_or(now, |begun| (begun + pause).max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(connected: bool) -> Wishes {
        BTreeMap::from([([1; 32], Wish { names: vec!["a.example".parse().unwrap()], connected })])
    }

    fn at(n: u8) -> SocketAddr {
        ([192, 0, 2, n], 6278).into()
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// What becomes due after the first look-up, how long after that began.
    fn pause_after(outcome: Outcome, connected: bool) -> Duration {
        let (mut names, now) = (Names::default(), Instant::now());
        names.sync(&wishes(connected), now);
        let [key] = names.take_due(now, 16).try_into().unwrap();
        names.take(key, outcome, now);
        names.next().unwrap() - now
    }

    #[test]
    fn a_ttl_is_heeded_between_bounds() {
        let leads = |ttl| Outcome::Leads(vec![at(1)], seconds(ttl));
        assert_eq!(pause_after(leads(0), false), SHORTEST);
        assert_eq!(pause_after(leads(30), false), seconds(30));
        assert_eq!(pause_after(leads(86_400), false), LOST, "it may have moved");
        assert_eq!(pause_after(leads(30), true), CONNECTED, "it says itself where it is");
        assert_eq!(pause_after(leads(1_000), true), seconds(1_000));
        assert_eq!(pause_after(leads(86_400), true), LONGEST);
        assert_eq!(pause_after(Outcome::Stranger(seconds(30)), false), seconds(30));
        assert_eq!(pause_after(Outcome::Failed("no".into()), false), RETRY);
    }

    #[test]
    fn a_peer_that_was_lost_is_looked_up_at_once_but_not_again_and_again() {
        let (mut names, now) = (Names::default(), Instant::now());
        names.sync(&wishes(true), now);
        let [key] = names.take_due(now, 16).try_into().unwrap();
        names.take(key.clone(), Outcome::Leads(vec![at(1)], seconds(30)), now);
        let later = now + seconds(100);
        names.hurry(key.0, later);
        assert_eq!(names.take_due(later, 16).len(), 1);
        names.hurry(key.0, later);
        assert!(names.take_due(later, 16).is_empty(), "it is on its way");
        names.take(key.clone(), Outcome::Leads(vec![at(1)], seconds(30)), later);
        assert_eq!(names.next(), Some(later + URGENT), "it was lost while it was on its way");
        for _ in 0..100 {
            names.hurry(key.0, later);
        }
        assert!(names.take_due(later + seconds(1), 16).is_empty());
        assert_eq!(names.take_due(later + URGENT, 16).len(), 1);
        names.hurry([9; 32], later);
    }

    #[test]
    fn a_peer_that_is_no_longer_connected_has_no_time() {
        let (mut names, now) = (Names::default(), Instant::now());
        names.sync(&wishes(true), now);
        let [key] = names.take_due(now, 16).try_into().unwrap();
        names.take(key, Outcome::Leads(vec![at(1)], seconds(30)), now);
        names.sync(&wishes(false), now + seconds(40));
        assert_eq!(names.take_due(now + seconds(40), 16).len(), 1);
    }

    #[test]
    fn failures_replace_nothing_and_are_tried_less_and_less_often() {
        let (mut names, mut now) = (Names::default(), Instant::now());
        names.sync(&wishes(false), now);
        let [key] = names.take_due(now, 16).try_into().unwrap();
        assert!(names.take(key.clone(), Outcome::Leads(vec![at(1)], seconds(30)), now));
        assert_eq!(names.health(), Health::Working);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            now = names.next().unwrap();
            assert_eq!(names.take_due(now, 16).len(), 1);
            assert!(!names.take(key.clone(), Outcome::Failed("silent".into()), now));
            pauses.push((names.next().unwrap() - now).as_secs());
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(names.found(key.0, now).addresses, [at(1)]);
        assert!(matches!(names.health(), Health::Failed { .. }));
        let old = now + OUTLIVES + LONGEST;
        assert!(names.take(key.clone(), Outcome::Failed("silent".into()), old), "too old");
        assert!(names.found(key.0, old).addresses.is_empty());
        assert!(!names.take(key.clone(), Outcome::Failed("silent".into()), old), "told once");
        names.take(key.clone(), Outcome::Leads(vec![at(2)], seconds(30)), old);
        assert_eq!(names.found(key.0, old).addresses, [at(2)]);
    }

    #[test]
    fn a_stranger_is_told_of_and_takes_what_was_found_before() {
        let (mut names, now) = (Names::default(), Instant::now());
        names.sync(&wishes(false), now);
        let [key] = names.take_due(now, 16).try_into().unwrap();
        names.take(key.clone(), Outcome::Leads(vec![at(1)], seconds(30)), now);
        assert!(names.take(key.clone(), Outcome::Stranger(seconds(30)), now));
        assert!(names.found(key.0, now).addresses.is_empty());
        let Health::Failed { why, remedy } = names.health() else { panic!("it is used") };
        assert!(why.contains("a.example") && remedy.contains("_mast._udp.a.example"), "{why} {remedy}");
        names.sync(&Wishes::new(), now);
        assert_eq!(names.health(), Health::Working);
        assert!(!names.take(key, Outcome::Stranger(seconds(30)), now), "it is wanted no more");
    }

    #[test]
    fn names_take_turns_and_so_many_run_at_once() {
        let (mut names, now) = (Names::default(), Instant::now());
        let many = |from: u8| (0..MOST_ADDRESSES as u8).map(|n| at(from + n)).collect::<Vec<_>>();
        let both = vec!["a.example".parse().unwrap(), "b.example".parse().unwrap()];
        names.sync(&BTreeMap::from([([1; 32], Wish { names: both, connected: false })]), now);
        let [first] = names.take_due(now, 1).try_into().unwrap();
        let [second] = names.take_due(now, 1).try_into().unwrap();
        names.take(first, Outcome::Leads(many(0), seconds(30)), now);
        names.take(second, Outcome::Leads(many(100), seconds(30)), now);
        let found = names.found([1; 32], now);
        assert_eq!(found.addresses.len(), MOST_ADDRESSES);
        assert_eq!(found.addresses[..4], [at(0), at(100), at(1), at(101)]);
        assert!(found.lifetime > OUTLIVES);
    }
}
