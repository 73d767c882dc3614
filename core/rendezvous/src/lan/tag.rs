//! The names of a pair, and what is sealed under them.

use std::time::{Duration, SystemTime};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use crate::sealed::{Announcement, NoRandomness, Refused, content, expand, seconds};
use crate::{PairSecret, PeerKey};

/// So long a name holds. Clocks may be as far apart.
pub const EPOCH: Duration = Duration::from_secs(900);
/// How old what is sealed can be at most: its name is of the epoch before, or after, and so is the clock.
pub(super) const SKEW: Duration = Duration::from_secs(2 * EPOCH.as_secs());

const SALT_LEN: usize = 16;
/// Room for six IPv6 addresses and what goes with them, so that the length tells nothing.
const CONTENT_LEN: usize = 144;
const TAG_LEN: usize = 16;
/// The length of what is sealed; with its own length in one byte, it fits a string of TXT.
pub(super) const SEALED_LEN: usize = SALT_LEN + CONTENT_LEN + TAG_LEN;
/// The most addresses that are told.
pub(super) const MOST_TOLD: usize = 6;

/// The name of one end of a pair in one epoch, before it is written in hexadecimal.
pub(super) type Tag = [u8; 16];

/// The number of the epoch.
pub(super) fn epoch(clock: SystemTime) -> u64 {
    seconds(clock) / EPOCH.as_secs()
}

/// What names are derived from.
pub(super) struct Names(Prk);

impl Names {
    pub fn new(secret: &PairSecret) -> Self {
        Self(Salt::new(HKDF_SHA256, b"MAST v1 lan").extract(&secret.0))
    }

    /// The name of one end.
    pub fn of(&self, owner: &PeerKey, epoch: u64) -> Tag {
        let mut tag = Tag::default();
        expand(&self.0, &[b"MAST v1 lan tag", owner, &epoch.to_be_bytes()], &mut tag);
        tag
    }
}

/// Random bytes.
pub(super) fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// Seals one end's announcement under its name.
pub(super) fn seal(
    secret: &PairSecret,
    sender: &PeerKey,
    tag: &Tag,
    announcement: &Announcement,
) -> Result<Vec<u8>, NoRandomness> {
    Ok(seal_with(random()?, secret, sender, tag, announcement))
}

/// The same with the caller's randomness.
pub(super) fn seal_with(
    salt: [u8; SALT_LEN],
    secret: &PairSecret,
    sender: &PeerKey,
    tag: &Tag,
    announcement: &Announcement,
) -> Vec<u8> {
    let mut content = content::encode(announcement);
    content.resize(CONTENT_LEN, 0);
    // Only what is longer than 256 GiB is refused.
    let end = key(&salt, secret, sender)
        .seal_in_place_separate_tag(nonce(), Aad::from(tag), &mut content)
        .expect("a short content");
    [salt.as_slice(), &content, end.as_ref()].concat()
}

/// Opens what `sender` sealed.
pub(super) fn open(
    sealed: &[u8],
    secret: &PairSecret,
    sender: &PeerKey,
    tag: &Tag,
) -> Result<Announcement, Refused> {
    let (salt, rest) = sealed.split_at_checked(SALT_LEN).ok_or(Refused::Length)?;
    if sealed.len() != SEALED_LEN {
        return Err(Refused::Length);
    }
    let mut rest = rest.to_vec();
    let opened = key(salt, secret, sender).open_in_place(nonce(), Aad::from(tag), &mut rest);
    content::decode(opened.map_err(|_| Refused::Forged)?, content::of_another_host)
}

/// Seals once: the salt is in it.
fn key(salt: &[u8], secret: &PairSecret, sender: &PeerKey) -> LessSafeKey {
    let prk = Salt::new(HKDF_SHA256, salt).extract(&secret.0);
    let mut key = [0; 32];
    expand(&prk, &[b"MAST v1 lan key", sender], &mut key);
    // Only a key of another length is refused.
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).expect("a key of 32 bytes"))
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}
