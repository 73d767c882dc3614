//! What is asked and answered, and when; without sockets and clocks, so that it can be tried.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use super::tag::{self, MOST_TOLD, Names, SEALED_LEN, SKEW, Tag};
use super::wire::{self, Ask};
use super::{Link, MOST_LINKS, MOST_PEERS, Near, Neighbour};
use crate::sealed::{Announcement, Heard, NoRandomness, Sequence};
use crate::{Found, MOST_ADDRESSES, PeerKey};

/// The pause before what is asked again for the first time; it doubles (RFC 6762, section 5.2).
const AGAIN: Duration = Duration::from_secs(1);
/// The longest of these pauses (the same).
const SELDOM: Duration = Duration::from_secs(3600);
/// A peer that is not missed is asked for so often, since multicast is not repeated where it is lost.
const TRIES: u32 = 3;
/// A question comes so long after what brought it at the least: hosts may have come to the network together, and would all
/// speak at once (RFC 6762, section 5.2).
const LEAST_WAIT: Duration = Duration::from_millis(20);
/// So much longer it may take.
const SPREAD: u64 = 100;
/// So many are asked for over one link at once.
const AT_ONCE: usize = 32;
/// The pause before the next that many.
const PACE: Duration = Duration::from_millis(250);
/// One peer is answered over one link no sooner again (RFC 6762, section 6).
const ANSWER_PAUSE: Duration = Duration::from_secs(1);
/// How long an announcement holds: longer than the longest pause, and no addresses stay for good.
const LIFETIME: Duration = Duration::from_secs(7200);
/// Addresses of one peer on one link that are remembered: a host may be there with a cable and by radio.
const MOST_HERE: usize = 8;
/// Messages with a name of a pair that are read at once, whoever sent them.
const BURST: u32 = 128;
/// How many more are a second later.
const RATE: u32 = 128;

/// What comes of a message.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Where peers are.
    pub found: Vec<Found>,
    /// What is to be sent over the link by which it came.
    pub answers: Vec<Vec<u8>>,
}

/// When a peer is asked for, and how often it was.
#[derive(Debug, Clone, Copy)]
struct Due {
    at: Instant,
    tries: u32,
}

/// The names of all pairs around one epoch.
#[derive(Default)]
struct Tags {
    epoch: Option<u64>,
    ours: BTreeMap<Tag, PeerKey>,
    theirs: BTreeMap<Tag, PeerKey>,
}

/// How many messages may be read still.
struct Budget {
    left: u32,
    refilled: Option<Instant>,
}

impl Budget {
    fn take(&mut self, now: Instant) -> bool {
        let passed = self.refilled.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        let more = u32::try_from(passed.as_millis().saturating_mul(RATE.into()) / 1000).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.refilled = Some(now);
        }
        self.left.checked_sub(1).map(|left| self.left = left).is_some()
    }
}

/// One host.
pub(super) struct Station {
    near: Near,
    names: BTreeMap<PeerKey, Names>,
    tags: Tags,
    due: BTreeMap<(u32, PeerKey), Due>,
    /// So long nothing more is asked over a link.
    paced: BTreeMap<u32, Instant>,
    heard: BTreeMap<u32, Heard>,
    /// Where peers are, and until when that holds, by link; the latest first.
    places: BTreeMap<PeerKey, BTreeMap<u32, Vec<(SocketAddr, Instant)>>>,
    answered: BTreeMap<(u32, PeerKey), Instant>,
    sequence: Sequence,
    budget: Budget,
}

impl Station {
    pub fn new() -> Self {
        Self {
            near: Near::default(),
            names: BTreeMap::new(),
            tags: Tags::default(),
            due: BTreeMap::new(),
            paced: BTreeMap::new(),
            heard: BTreeMap::new(),
            places: BTreeMap::new(),
            answered: BTreeMap::new(),
            sequence: Sequence::default(),
            budget: Budget { left: BURST, refilled: None },
        }
    }

    /// The links over which something may be said or heard.
    pub fn links(&self) -> &[Link] {
        if self.near.peers.is_empty() { &[] } else { &self.near.links }
    }

    /// Takes over who may be where. What was found and holds no longer is told.
    pub fn set(&mut self, now: Instant, mut near: Near) -> Vec<Found> {
        near.links.truncate(MOST_LINKS);
        while near.peers.len() > MOST_PEERS {
            near.peers.pop_last();
        }
        let before = std::mem::replace(&mut self.near, near);
        let near = &self.near;
        let same_secret = |peer: &PeerKey, is: &Neighbour| {
            before.key == near.key && before.peers.get(peer).is_some_and(|was| was.secret == is.secret)
        };
        let known: BTreeSet<PeerKey> =
            near.peers.iter().filter(|(peer, is)| same_secret(peer, is)).map(|(peer, _)| *peer).collect();
        if known.len() != near.peers.len() || known.len() != before.peers.len() {
            self.names.retain(|peer, _| known.contains(peer));
            for (peer, Neighbour { secret, .. }) in &near.peers {
                self.names.entry(*peer).or_insert_with(|| Names::new(secret));
            }
            self.tags.epoch = None;
        }

        let was = |link: &Link| before.links.iter().find(|was| was.number == link.number);
        let stays = |number: u32| {
            let link = near.links.iter().find(|link| link.number == number);
            link.is_some_and(|link| was(link).is_some_and(|was| is_same_network(was, link)))
        };
        let asked =
            |link: u32, peer: &PeerKey| near.links.iter().any(|l| l.number == link) && known.contains(peer);
        self.due.retain(|(link, peer), _| asked(*link, peer));
        self.answered.retain(|(link, peer), _| asked(*link, peer));
        self.paced.retain(|link, _| near.links.iter().any(|l| l.number == *link));
        self.heard.retain(|link, _| stays(*link));
        let mut withdrawn = Vec::new();
        for (peer, places) in &mut self.places {
            let count = places.len();
            places.retain(|link, _| stays(*link) && near.peers.contains_key(peer));
            if places.len() != count {
                withdrawn.push(*peer);
            }
        }

        for link in &near.links {
            let fresh = was(link) != Some(link);
            let start = now + LEAST_WAIT + Duration::from_millis(spread());
            for (peer, is) in &near.peers {
                let lost = is.missed && before.peers.get(peer).is_some_and(|was| !was.missed);
                let place = (link.number, *peer);
                if fresh || lost || !known.contains(peer) {
                    self.due.insert(place, Due { at: start, tries: 0 });
                } else if !is.missed && self.due.get(&place).is_some_and(|due| due.tries >= TRIES) {
                    self.due.remove(&place);
                }
            }
        }
        withdrawn.into_iter().map(|peer| self.found(now, peer)).collect()
    }

    /// When something is to be asked.
    pub fn due(&self) -> Option<Instant> {
        let at = |((link, _), due): (&(u32, PeerKey), &Due)| match self.paced.get(link) {
            Some(paced) => due.at.max(*paced),
            None => due.at,
        };
        self.due.iter().map(at).min()
    }

    /// What is to be asked now, by link.
    pub fn ask(&mut self, now: Instant, clock: SystemTime) -> Result<Vec<(u32, Vec<u8>)>, NoRandomness> {
        self.paced.retain(|_, until| *until > now);
        let mut messages = Vec::new();
        let epoch = tag::epoch(clock);
        for link in 0..self.near.links.len() {
            let Some(Link { number, addresses, .. }) = self.near.links.get(link).cloned() else { continue };
            if self.paced.contains_key(&number) {
                continue;
            }
            let mut all = self.due.range((number, [0; 32])..=(number, [255; 32]));
            let mut peers: Vec<PeerKey> = all
                .by_ref()
                .filter(|(_, due)| due.at <= now)
                .map(|((_, peer), _)| *peer)
                .take(AT_ONCE + 1)
                .collect();
            if peers.len() > AT_ONCE {
                peers.truncate(AT_ONCE);
                self.paced.insert(number, now + PACE);
            }
            for some in peers.chunks(wire::MOST) {
                let mut asks = Vec::new();
                for peer in some {
                    self.note_asked(now, number, *peer);
                    let Some(names) = self.names.get(peer) else { continue };
                    let (theirs, ours) = (names.of(peer, epoch), names.of(&self.near.key, epoch));
                    if let Some(sealed) = self.seal(clock, peer, &ours, &addresses)? {
                        asks.push(Ask { theirs, ours, sealed });
                    }
                }
                // So that it does not show how many there are.
                while asks.len() < wire::MOST {
                    let sealed = tag::random::<SEALED_LEN>()?.to_vec();
                    asks.push(Ask { theirs: tag::random()?, ours: tag::random()?, sealed });
                }
                asks.sort_by_key(|ask| ask.theirs);
                messages.extend(wire::ask(&asks).map(|message| (number, message)));
            }
        }
        Ok(messages)
    }

    /// A peer is asked for, and says when it is again.
    fn note_asked(&mut self, now: Instant, link: u32, peer: PeerKey) {
        let missed = self.near.peers.get(&peer).is_some_and(|is| is.missed);
        let Some(due) = self.due.get_mut(&(link, peer)) else { return };
        let pause = AGAIN.saturating_mul(1_u32.checked_shl(due.tries).unwrap_or(u32::MAX)).min(SELDOM);
        *due = Due { at: now + pause, tries: due.tries.saturating_add(1) };
        if !missed && due.tries >= TRIES {
            self.due.remove(&(link, peer));
        }
    }

    fn seal(
        &mut self,
        clock: SystemTime,
        peer: &PeerKey,
        ours: &Tag,
        addresses: &[SocketAddr],
    ) -> Result<Option<Vec<u8>>, NoRandomness> {
        let Some(Neighbour { secret, .. }) = self.near.peers.get(peer) else { return Ok(None) };
        let announcement = Announcement {
            sequence: self.sequence.next(clock),
            time: crate::sealed::seconds(clock),
            lifetime: LIFETIME.as_secs() as u32,
            addresses: addresses.iter().copied().take(MOST_TOLD).collect(),
        };
        tag::seal(secret, &self.near.key, ours, &announcement).map(Some)
    }

    /// Somebody said something over a link.
    pub fn hear(
        &mut self,
        now: Instant,
        clock: SystemTime,
        link: u32,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(over) = self.near.links.iter().find(|l| l.number == link).cloned() else { return outcome };
        if !is_of_link(from) {
            return outcome;
        }
        self.name(tag::epoch(clock));
        let known = |tag: &Tag| self.tags.ours.contains_key(tag) || self.tags.theirs.contains_key(tag);
        if !wire::tags(datagram).any(|tag| known(&tag)) || !self.budget.take(now) {
            return outcome;
        }
        let Some(read) = wire::read(datagram) else { return outcome };
        let mut here = BTreeSet::new();
        for (name, sealed) in &read.records {
            let Some(peer) = self.tags.theirs.get(name).copied() else { continue };
            if let Some(found) = self.take(now, clock, link, from, peer, name, sealed) {
                here.insert(peer);
                outcome.found.push(found);
            }
        }
        for name in read.asked {
            // Whoever only repeats what a peer asked gets no answer.
            let Some(peer) = self.tags.ours.get(&name).copied().filter(|peer| here.contains(peer)) else {
                continue;
            };
            let last = self.answered.get(&(link, peer));
            if last.is_some_and(|last| now.saturating_duration_since(*last) < ANSWER_PAUSE) {
                continue;
            }
            self.answered.insert((link, peer), now);
            // Without randomness nothing can be said.
            if let Ok(Some(sealed)) = self.seal(clock, &peer, &name, &over.addresses) {
                outcome.answers.extend(wire::answer(&name, &sealed));
            }
        }
        outcome
    }

    /// Takes over what a peer said of itself, if it is news.
    #[allow(clippy::too_many_arguments, reason = "all of it comes with one datagram")]
    fn take(
        &mut self,
        now: Instant,
        clock: SystemTime,
        link: u32,
        from: SocketAddr,
        peer: PeerKey,
        name: &Tag,
        sealed: &[u8],
    ) -> Option<Found> {
        let secret = &self.near.peers.get(&peer)?.secret;
        let opened = tag::open(sealed, secret, &peer, name);
        let heard = self.heard.entry(link).or_default();
        let judged = opened.and_then(|announcement| {
            // Whoever sends on what another one said is not there.
            let own = announcement.addresses.iter().any(|at| at.ip() == from.ip().to_canonical());
            if own {
                heard.take_within(SKEW, peer, announcement, clock)
            } else {
                Err(crate::sealed::Refused::Forged)
            }
        });
        let found = judged.inspect_err(|why| tracing::debug!(%why, "not believed")).ok()?;
        let until = now.checked_add(found.lifetime)?;
        let mut places: Vec<(SocketAddr, Instant)> =
            found.addresses.into_iter().map(|at| (zoned(at, link), until)).collect();
        let known = self.places.entry(peer).or_default().entry(link).or_default();
        for (at, until) in known.drain(..) {
            if until > now && !places.iter().any(|(new, _)| *new == at) {
                places.push((at, until));
            }
        }
        places.truncate(MOST_HERE);
        *known = places;
        Some(self.found(now, peer))
    }

    /// Where a peer is.
    fn found(&mut self, now: Instant, peer: PeerKey) -> Found {
        let (mut addresses, mut lifetime) = (Vec::new(), Duration::ZERO);
        if let Some(places) = self.places.get(&peer) {
            for (at, until) in places.values().flatten() {
                let left = until.saturating_duration_since(now);
                if !left.is_zero() && addresses.len() < MOST_ADDRESSES && !addresses.contains(at) {
                    addresses.push(*at);
                    lifetime = lifetime.max(left);
                }
            }
        }
        if addresses.is_empty() {
            self.places.remove(&peer);
        }
        Found { peer, addresses, lifetime }
    }

    /// Has the names of the epoch at hand, and those of the epochs beside it: clocks differ.
    fn name(&mut self, epoch: u64) {
        if self.tags.epoch.replace(epoch) == Some(epoch) {
            return;
        }
        let epochs = [epoch.saturating_sub(1), epoch, epoch.saturating_add(1)];
        let of = |owner: Option<PeerKey>| {
            let all = self.names.iter().flat_map(|(peer, names)| {
                epochs.map(|epoch| (names.of(&owner.unwrap_or(*peer), epoch), *peer))
            });
            all.collect::<BTreeMap<_, _>>()
        };
        let (ours, theirs) = (of(Some(self.near.key)), of(None));
        (self.tags.ours, self.tags.theirs) = (ours, theirs);
    }
}

/// Whether a link leads to the network that it led to.
fn is_same_network(was: &Link, is: &Link) -> bool {
    was.network == is.network && was.addresses.iter().any(|at| is.addresses.contains(at))
}

/// Whether a datagram comes from the link itself: with IPv6 all hosts speak from link-local addresses, which no router hands
/// on. What was sent by IPv4 is seen by what is sealed in it.
fn is_of_link(from: SocketAddr) -> bool {
    match from.ip() {
        IpAddr::V4(ip) => {
            !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast()
        }
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// With its zone, where it has none of its own.
fn zoned(at: SocketAddr, link: u32) -> SocketAddr {
    match at {
        SocketAddr::V6(mut at) if at.ip().is_unicast_link_local() => {
            at.set_scope_id(link);
            at.into()
        }
        at => at,
    }
}

/// Milliseconds, by chance.
fn spread() -> u64 {
    tag::random::<1>().map_or(SPREAD, |[byte]| u64::from(byte) * SPREAD / 255)
}

/// Hears any bytes, as they are and as what a peer sealed.
pub(super) fn fuzz(data: &[u8]) {
    use crate::PairSecret;
    let (ours, theirs, secret) = ([1; 32], [2; 32], PairSecret([3; 32]));
    let (now, clock) = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let at = SocketAddr::from(([192, 0, 2, 1], 6278));
    let link = Link { number: 7, name: "eth0".to_owned(), network: None, addresses: vec![at] };
    let peers = BTreeMap::from([(theirs, Neighbour { secret: secret.clone(), missed: true })]);
    let mut station = Station::new();
    station.set(now, Near { key: ours, peers, links: vec![link] });
    station.name(tag::epoch(clock));
    let mut named = data.to_vec();
    if let (Some((tag, _)), Some(place)) = (station.tags.ours.first_key_value(), named.get_mut(..16)) {
        place.copy_from_slice(tag);
    }
    for bytes in [data, &named] {
        let heard = station.hear(now, clock, 7, at, bytes);
        assert!(heard.answers.is_empty() && heard.found.is_empty(), "nobody sealed it");
    }
}
