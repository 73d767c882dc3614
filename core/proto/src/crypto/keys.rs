//! The key schedule and the sealing of datagrams.
//!
//! Both ends draw 32 random bytes and exchange them in INIT and INIT-ACK, inside a WireGuard session that has
//! authenticated them. The keys of the epoch are
//!
//! ```text
//! transcript = SHA-256("MAST v1 transcript" || INIT || INIT-ACK)
//! prk        = HKDF-Extract-SHA256(salt = transcript, ikm = initiator's random || target's random)
//! key_i      = HKDF-Expand(prk, "MAST v1 key initiator" || epoch, key length)      initiator → target
//! key_t      = HKDF-Expand(prk, "MAST v1 key target" || epoch, key length)         target → initiator
//! ```
//!
//! A datagram's nonce is `0x000000 || path id || counter`: 96 bits that never repeat under one key, because each
//! path id has its own counter, which goes on when the id is used again. The header is the associated data.

use ring::aead::{self, LessSafeKey, Nonce, UnboundKey};
use ring::{digest, hkdf};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::wire::{Epoch, HEADER_LEN, Header};

/// Length of the authentication tag in bytes, the same for both AEADs.
pub const TAG_LEN: usize = 16;

/// A cipher that seals datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Aead {
    /// AES-256-GCM (RFC 5116): the faster one where the processor has instructions for it.
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439): everywhere else.
    ChaCha20Poly1305,
}

impl Aead {
    /// Its number in INIT.
    pub fn number(self) -> u8 {
        match self {
            Self::Aes256Gcm => 1,
            Self::ChaCha20Poly1305 => 2,
        }
    }

    /// The AEAD of a number in INIT.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Aes256Gcm, Self::ChaCha20Poly1305].into_iter().find(|a| a.number() == number)
    }

    fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }
}

/// Which end of an INIT this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sent it.
    Initiator,
    /// Answered it.
    Target,
}

/// A datagram could not be sealed or opened. Deliberately says no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not authentic")]
pub struct SealError;

/// The two keys of an epoch. Shared by reference: sealing and opening change nothing in it.
pub struct EpochKeys {
    seal: LessSafeKey,
    open: LessSafeKey,
}

impl std::fmt::Debug for EpochKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EpochKeys")
    }
}

/// The library leaves its keys in memory when they go. Another one in the same place overwrites them.
impl Drop for EpochKeys {
    fn drop(&mut self) {
        for key in [&mut self.seal, &mut self.open] {
            if let Ok(nothing) = UnboundKey::new(key.algorithm(), &[0; 32]) {
                *key = LessSafeKey::new(nothing);
                // Nobody reads it, and it is to be written all the same.
                std::hint::black_box(key);
            }
        }
    }
}

struct KeyLength(usize);

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        self.0
    }
}

impl EpochKeys {
    /// Derives the keys of an epoch from the messages that established it, in their encoded form.
    ///
    /// # Errors
    /// Never with the AEADs of today; the type says so because the library's does.
    pub fn derive(
        role: Role,
        aead: Aead,
        epoch: Epoch,
        (init, initiator_random): (&[u8], &[u8; 32]),
        (init_ack, target_random): (&[u8], &[u8; 32]),
    ) -> Result<Self, SealError> {
        let mut transcript = digest::Context::new(&digest::SHA256);
        transcript.update(b"MAST v1 transcript");
        transcript.update(init);
        transcript.update(init_ack);
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, transcript.finish().as_ref());
        let mut ikm = Zeroizing::new([0; 64]);
        ikm[..32].copy_from_slice(initiator_random);
        ikm[32..].copy_from_slice(target_random);
        let prk = salt.extract(&*ikm);
        let key = |label: &[u8]| -> Result<LessSafeKey, SealError> {
            let mut bytes = Zeroizing::new([0; 32]);
            prk.expand(&[label, &[epoch.0]], KeyLength(bytes.len()))
                .and_then(|okm| okm.fill(&mut *bytes))
                .map_err(|_| SealError)?;
            let key = UnboundKey::new(aead.algorithm(), &*bytes).map_err(|_| SealError);
            Ok(LessSafeKey::new(key?))
        };
        let initiator = key(b"MAST v1 key initiator")?;
        let target = key(b"MAST v1 key target")?;
        let (seal, open) = match role {
            Role::Initiator => (initiator, target),
            Role::Target => (target, initiator),
        };
        Ok(Self { seal, open })
    }

    /// Seals in place: `datagram` is [`HEADER_LEN`] bytes of room, the content, and [`TAG_LEN`] bytes of room.
    ///
    /// # Errors
    /// When the room is missing. Then nothing of the content is left in it, so that whatever becomes of it, no plaintext
    /// leaves.
    pub fn seal(&self, header: &Header, datagram: &mut [u8]) -> Result<(), SealError> {
        self.seal_or_leave(header, datagram).inspect_err(|_| datagram.zeroize())
    }

    fn seal_or_leave(&self, header: &Header, datagram: &mut [u8]) -> Result<(), SealError> {
        let length = datagram.len().checked_sub(TAG_LEN).ok_or(SealError)?;
        let (head, rest) = datagram.split_first_chunk_mut::<HEADER_LEN>().ok_or(SealError)?;
        *head = header.encode();
        let (content, tag) = rest.split_at_mut(length.checked_sub(HEADER_LEN).ok_or(SealError)?);
        let made = self
            .seal
            .seal_in_place_separate_tag(nonce(header), aead::Aad::from(&*head), content)
            .map_err(|_| SealError)?;
        tag.copy_from_slice(made.as_ref());
        Ok(())
    }

    /// Opens in place and returns the content, which begins at [`HEADER_LEN`].
    ///
    /// # Errors
    /// When the datagram was not sealed by the other end with this epoch's key.
    pub fn open<'a>(&self, header: &Header, datagram: &'a mut [u8]) -> Result<&'a mut [u8], SealError> {
        let (head, rest) = datagram.split_first_chunk_mut::<HEADER_LEN>().ok_or(SealError)?;
        self.open.open_in_place(nonce(header), aead::Aad::from(&*head), rest).map_err(|_| SealError)
    }
}

fn nonce(header: &Header) -> Nonce {
    let mut bytes = [0; 12];
    bytes[3] = header.path.0;
    bytes[4..].copy_from_slice(&header.counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ContextIndex, Flags, Kind, PathId};

    fn pair(aead: Aead) -> (EpochKeys, EpochKeys) {
        let derive =
            |role| EpochKeys::derive(role, aead, Epoch(2), (b"init", &[1; 32]), (b"ack", &[2; 32])).unwrap();
        (derive(Role::Initiator), derive(Role::Target))
    }

    #[test]
    fn what_cannot_be_sealed_is_not_there_any_more() {
        let (initiator, _) = pair(Aead::Aes256Gcm);
        let header = Header {
            kind: Kind::Data,
            flags: Flags::NONE,
            path: PathId(1),
            epoch: Epoch(2),
            index: ContextIndex(5),
            counter: 77,
        };
        for length in 0..HEADER_LEN + TAG_LEN {
            let mut datagram = vec![b'x'; length];
            assert_eq!(initiator.seal(&header, &mut datagram), Err(SealError), "{length}");
            assert!(datagram.iter().all(|byte| *byte == 0), "plaintext is left of {length} bytes");
        }
    }

    #[test]
    fn seals_and_opens() {
        for aead in [Aead::Aes256Gcm, Aead::ChaCha20Poly1305] {
            let (initiator, target) = pair(aead);
            let header = Header {
                kind: Kind::Data,
                flags: Flags::NONE,
                path: PathId(1),
                epoch: Epoch(2),
                index: ContextIndex(5),
                counter: 77,
            };
            let mut datagram = vec![0; HEADER_LEN];
            datagram.extend(b"content");
            datagram.extend([0; TAG_LEN]);
            initiator.seal(&header, &mut datagram).unwrap();
            for at in 0..datagram.len() {
                let mut bent = datagram.clone();
                bent[at] ^= 1;
                if let Ok(header) = Header::decode(&bent) {
                    assert_eq!(
                        target.open(&header, &mut bent),
                        Err(SealError),
                        "byte {at} changed unnoticed"
                    );
                }
            }
            assert_eq!(initiator.open(&header, &mut datagram.clone()), Err(SealError), "reflected");
            assert_eq!(target.open(&header, &mut datagram).unwrap(), b"content");
        }
    }
}

#[cfg(test)]
#[path = "vectors_tests.rs"]
mod vectors;
