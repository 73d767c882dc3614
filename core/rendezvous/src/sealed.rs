//! One announcement for several peers, which only they can read (`core/PROTOCOL.md`, section 25).
//!
//! Whoever keeps or carries it, such as a presence service and all who watch an account there, sees random bytes: neither
//! the addresses nor how many, nor for whom, nor whether two publications are for the same peers.
//!
//! [`seal`] makes a publication, [`open`] finds and opens what is for one pair in it, and [`Heard`] lets through what is
//! newer than all before and still holds. [`Sequence`] numbers one's own.

pub(crate) mod content;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;

use crate::{Found, Own, PairSecret, PeerKey};

/// The first byte of a publication.
const VERSION: u8 = 1;
/// Random, so that nothing of a publication can be linked to another.
const SALT_LEN: usize = 16;
/// By which a peer finds its box: a wrong one is found in one of 2^58 publications, and then does not open.
const HINT_LEN: usize = 8;
/// Room for 16 IPv6 addresses and what goes with them, so that the length tells nothing.
const CONTENT_LEN: usize = 384;
const TAG_LEN: usize = 16;
const BOX_LEN: usize = HINT_LEN + CONTENT_LEN + TAG_LEN;
const HEADER_LEN: usize = 1 + SALT_LEN;
/// The number of boxes is a power of two of at least this, so that it tells little of the number of peers.
const LEAST_BOXES: usize = 4;
/// The most boxes, and so the most peers, of a publication.
pub const MOST_BOXES: usize = 64;
/// The most bytes of a publication.
pub const MOST_BYTES: usize = HEADER_LEN + MOST_BOXES * BOX_LEN;

/// How far apart two hosts' clocks may be.
pub const SKEW: Duration = Duration::from_secs(600);
/// The longest time that an announcement may hold, from when it was made.
pub const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How far one's own earlier number may be ahead of the clock: beyond that it is nonsense, and using up the numbers
/// would silence this end for ever.
const FARTHEST_SEQUENCE: u64 = 366 * 24 * 3600 * 1000;

/// What one end tells one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Higher than in any earlier one of this sender to this peer.
    pub sequence: u64,
    /// When it was made, in seconds since 1970.
    pub time: u64,
    /// How long it holds from then on, in seconds.
    pub lifetime: u32,
    /// Where the sender may be reached, the best first; none where nowhere.
    pub addresses: Vec<SocketAddr>,
}

/// Why a publication is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// It is of another version, or none at all.
    #[error("a publication of an unknown version")]
    Version,
    /// It is too long, too short, or no whole number of boxes.
    #[error("a publication whose length is not possible")]
    Length,
    /// Nothing in it is from this sender for this end.
    #[error("nothing in the publication is for this host")]
    NotForUs,
    /// A box has the hint, and was not made by the sender.
    #[error("a forged box")]
    Forged,
    /// A box was made by the sender, and cannot be understood.
    #[error("an announcement that cannot be understood: {0}")]
    Malformed(&'static str),
    /// The number is not higher than that of one before.
    #[error("an announcement that was heard before, or is older than one that was")]
    NotNewer,
    /// It holds no longer.
    #[error("an announcement that holds no longer")]
    Expired,
    /// It was made in the future, beyond [`SKEW`].
    #[error("an announcement from the future: the clock of one of the hosts is wrong")]
    Future,
}

/// The system has no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;

/// Seals for every peer of `own`, up to [`MOST_BOXES`], what it may be told.
pub fn seal(own: &Own, sequence: u64, now: SystemTime, lifetime: Duration) -> Result<Vec<u8>, NoRandomness> {
    let random = SystemRandom::new();
    seal_with(own, sequence, now, lifetime, &mut |bytes| random.fill(bytes).map_err(|_| NoRandomness))
}

/// The same with the caller's randomness.
fn seal_with(
    own: &Own,
    sequence: u64,
    now: SystemTime,
    lifetime: Duration,
    fill: &mut dyn FnMut(&mut [u8]) -> Result<(), NoRandomness>,
) -> Result<Vec<u8>, NoRandomness> {
    let mut header = [VERSION; HEADER_LEN];
    let mut salt = [0; SALT_LEN];
    fill(&mut salt)?;
    header[1..].copy_from_slice(&salt);

    let peers = own.peers.values().take(MOST_BOXES);
    let count = peers.len().next_power_of_two().clamp(LEAST_BOXES, MOST_BOXES);
    let mut boxes = Vec::with_capacity(count);
    for told in peers {
        let announcement = Announcement {
            sequence,
            time: seconds(now),
            lifetime: lifetime.min(LONGEST_LIFETIME).as_secs() as u32,
            addresses: told.addresses.clone(),
        };
        let keys = Keys::new(&salt, &told.secret, &own.key);
        boxes.push(keys.seal(&header, &announcement));
    }
    while boxes.len() < count {
        let mut filler = vec![0; BOX_LEN];
        fill(&mut filler)?;
        boxes.push(filler);
    }
    // Hints are random: in their order, no box tells by its place whose it is, or that it is filler.
    boxes.sort();

    let mut publication = header.to_vec();
    boxes.iter().for_each(|sealed| publication.extend_from_slice(sealed));
    Ok(publication)
}

/// Opens what `sender` announces to the other end of the pair.
pub fn open(publication: &[u8], sender: &PeerKey, secret: &PairSecret) -> Result<Announcement, Refused> {
    if publication.first() != Some(&VERSION) {
        return Err(Refused::Version);
    }
    let (header, boxes) = publication.split_at_checked(HEADER_LEN).ok_or(Refused::Length)?;
    if publication.len() > MOST_BYTES || boxes.is_empty() || !boxes.len().is_multiple_of(BOX_LEN) {
        return Err(Refused::Length);
    }
    let keys = Keys::new(header.get(1..).ok_or(Refused::Length)?, secret, sender);
    let mut refused = Refused::NotForUs;
    for sealed in boxes.chunks_exact(BOX_LEN) {
        let Some(sealed) = sealed.strip_prefix(&keys.hint) else { continue };
        match keys.open(header, sealed) {
            Ok(announcement) => return Ok(announcement),
            Err(why) => refused = why,
        }
    }
    Err(refused)
}

/// What one publication's box for one pair and direction is sealed and found by.
struct Keys {
    hint: [u8; HINT_LEN],
    /// Seals one box ever: the salt is in it.
    key: LessSafeKey,
}

impl Keys {
    fn new(salt: &[u8], secret: &PairSecret, sender: &PeerKey) -> Self {
        let prk = Salt::new(HKDF_SHA256, salt).extract(&secret.0);
        let mut hint = [0; HINT_LEN];
        expand(&prk, &[b"MAST v1 announcement hint", sender], &mut hint);
        let mut key = [0; 32];
        expand(&prk, &[b"MAST v1 announcement key", sender], &mut key);
        // Only a key of another length is refused.
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key).expect("a key of 32 bytes");
        Self { hint, key: LessSafeKey::new(key) }
    }

    fn nonce() -> Nonce {
        Nonce::assume_unique_for_key([0; NONCE_LEN])
    }

    fn seal(&self, header: &[u8], announcement: &Announcement) -> Vec<u8> {
        let mut content = content::encode(announcement);
        content.resize(CONTENT_LEN, 0);
        // Only what is longer than 256 GiB is refused.
        let tag = self
            .key
            .seal_in_place_separate_tag(Self::nonce(), Aad::from(header), &mut content)
            .expect("a short content");
        [&self.hint, content.as_slice(), tag.as_ref()].concat()
    }

    fn open(&self, header: &[u8], sealed: &[u8]) -> Result<Announcement, Refused> {
        let mut sealed = sealed.to_vec();
        let content = self
            .key
            .open_in_place(Self::nonce(), Aad::from(header), &mut sealed)
            .map_err(|_| Refused::Forged)?;
        content::decode(content, content::from_afar)
    }
}

pub(crate) fn expand(prk: &Prk, info: &[&[u8]], out: &mut [u8]) {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    // Only what is longer than 255 hashes is refused.
    prk.expand(info, Length(out.len())).and_then(|okm| okm.fill(out)).expect("a short key");
}

pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn milliseconds(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// The numbers of one's own announcements: the clock's milliseconds, but always higher than the last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sequence(u64);

impl Sequence {
    /// The number of the next.
    pub fn next(&mut self, now: SystemTime) -> u64 {
        self.0 = self.0.saturating_add(1).max(milliseconds(now));
        self.0
    }

    /// Goes on after a number of before a restart, which was found where it had been published: the clock may have been
    /// put back since.
    pub fn after(&mut self, earlier: u64, now: SystemTime) {
        if earlier <= milliseconds(now).saturating_add(FARTHEST_SEQUENCE) {
            self.0 = self.0.max(earlier);
        }
    }
}

/// What was heard of each peer, so that nothing old is believed again.
///
/// It knows what was heard since it was made: after that, whoever keeps publications can bring back an old one that has
/// not expired, once.
#[derive(Debug, Default)]
pub struct Heard {
    sequences: BTreeMap<PeerKey, u64>,
}

impl Heard {
    /// Where the peer is, if that is news.
    pub fn take(
        &mut self,
        peer: PeerKey,
        announcement: Announcement,
        now: SystemTime,
    ) -> Result<Found, Refused> {
        self.take_within(SKEW, peer, announcement, now)
    }

    /// The same, where clocks may be so far apart.
    pub(crate) fn take_within(
        &mut self,
        skew: Duration,
        peer: PeerKey,
        announcement: Announcement,
        now: SystemTime,
    ) -> Result<Found, Refused> {
        let now = seconds(now);
        if announcement.time > now.saturating_add(skew.as_secs()) {
            return Err(Refused::Future);
        }
        let lifetime = Duration::from_secs(announcement.lifetime.into()).min(LONGEST_LIFETIME);
        let end = announcement.time.saturating_add(lifetime.as_secs());
        let left = end.saturating_add(skew.as_secs()).saturating_sub(now);
        if left == 0 {
            return Err(Refused::Expired);
        }
        match self.sequences.get(&peer) {
            Some(heard) if announcement.sequence <= *heard => return Err(Refused::NotNewer),
            _ => self.sequences.insert(peer, announcement.sequence),
        };
        let lifetime = Duration::from_secs(left).min(lifetime);
        Ok(Found { peer, addresses: announcement.addresses, lifetime })
    }
}
