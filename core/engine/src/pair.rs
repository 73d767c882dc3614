//! What only the two ends of a pair know.

use gotatun::x25519::{PublicKey as Public, StaticSecret};
use ring::hkdf;

use crate::api::{PublicKey, SecretKey};

/// A secret of this host and a peer: it follows from their two identities (X25519, HKDF-SHA256 of RFC 5869), and is the same
/// at both ends. What it is for is part of it, so that keys for one purpose say nothing of those for another. None where the
/// peer's key is one that leads to the same secret with everybody.
pub fn pair_secret(private: &[u8; 32], peer: &PublicKey, purpose: &str) -> Option<SecretKey> {
    let private = StaticSecret::from(*private);
    let own = *Public::from(&private).as_bytes();
    let shared = private.diffie_hellman(&Public::from(*peer));
    if !shared.was_contributory() {
        return None;
    }
    let (low, high) = if own < *peer { (&own, peer) } else { (peer, &own) };
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, b"MAST v1 pair").extract(shared.as_bytes());
    let info = [purpose.as_bytes(), &[0], low.as_slice(), high.as_slice()];
    let mut secret = SecretKey::default();
    let filled = extracted.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut *secret));
    filled.ok().map(|()| secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::public_key;

    #[test]
    fn both_ends_and_nobody_else_come_to_the_same_secret_for_one_purpose() {
        let [a, b, c] = [[1; 32], [2; 32], [3; 32]];
        let of =
            |own: &[u8; 32], peer: &[u8; 32], purpose| pair_secret(own, &public_key(peer), purpose).unwrap();
        assert_eq!(of(&a, &b, "x"), of(&b, &a, "x"));
        assert_ne!(of(&a, &b, "x"), of(&a, &c, "x"));
        assert_ne!(of(&a, &b, "x"), of(&a, &b, "y"));
    }

    #[test]
    fn a_key_that_leads_everybody_to_the_same_secret_leads_to_none() {
        let mut one = [0; 32];
        one[0] = 1;
        for weak in [[0; 32], one] {
            assert_eq!(pair_secret(&[7; 32], &weak, "x"), None);
        }
    }
}
