//! Endpoint identifiers: the stable inner addresses that transports bind to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ring::digest;

use crate::wire::EidPair;

/// The prefix of every IPv6 EID: a unique local one (RFC 4193) whose global id spells "Mast".
pub const EID_V6_PREFIX: [u8; 6] = [0xfd, 0x4d, 0x61, 0x73, 0x74, 0x00];

/// The IPv6 EID of an endpoint: the prefix and the first 80 bits of SHA-256("MAST v1 EID" || public key).
///
/// The same key always has the same EID, so that it needs no agreement and survives every restart.
pub fn eid_v6(public_key: &[u8; 32]) -> Ipv6Addr {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"MAST v1 EID");
    context.update(public_key);
    let hash = context.finish();
    let mut octets = [0; 16];
    octets[..6].copy_from_slice(&EID_V6_PREFIX);
    for (octet, byte) in octets[6..].iter_mut().zip(hash.as_ref()) {
        *octet = *byte;
    }
    octets.into()
}

/// Whether an address is an IPv6 EID: it leads to a host whatever its own addresses are, and into the tunnel.
pub fn is_eid(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.octets().starts_with(&EID_V6_PREFIX))
}

/// Where IPv4 EIDs are taken from: pairs of neighbours (/31, RFC 3021), private to a host pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EidPool {
    network: Ipv4Addr,
    length: u8,
}

impl Default for EidPool {
    /// 100.64.0.0/10, the shared address space of RFC 6598, which no host's own network may use.
    fn default() -> Self {
        Self { network: Ipv4Addr::new(100, 64, 0, 0), length: 10 }
    }
}

impl EidPool {
    /// A pool; `None` when the length is not from 8 to 30 bits.
    pub fn new(network: Ipv4Addr, length: u8) -> Option<Self> {
        (8..=30).contains(&length).then(|| Self {
            network: Ipv4Addr::from_bits(network.to_bits() & (u32::MAX << (32 - u32::from(length)))),
            length,
        })
    }

    /// The pair that a random number picks; the first address of the /31 is `own` when `low`.
    pub fn pick(&self, random: u64, low: bool) -> EidPair {
        let pairs = 1_u64 << (31 - u32::from(self.length));
        let first = self.network.to_bits() + 2 * (random % pairs) as u32;
        let (a, b) = (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(first + 1));
        if low { EidPair { own: a, other: b } } else { EidPair { own: b, other: a } }
    }

    /// A random pair neither of whose addresses is taken; `None` when the pool seems full.
    pub fn propose(
        &self,
        mut random: impl FnMut() -> u64,
        taken: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<EidPair> {
        (0..64).map(|_| self.pick(random(), true)).find(|p| !taken(p.own) && !taken(p.other))
    }
}

impl EidPair {
    /// The same pair, seen from the other end.
    pub fn flipped(self) -> Self {
        Self { own: self.other, other: self.own }
    }
}

/// What a context must know of the IPv4 EIDs of all other contexts of its host.
pub trait EidBook {
    /// Whether this host can use the pair for the context that asks.
    fn is_free(&self, pair: EidPair) -> bool;
    /// A pair that this host can use, if there is one.
    fn propose(&mut self) -> Option<EidPair>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v6_is_a_function_of_the_key() {
        let eid = eid_v6(&[7; 32]);
        assert_eq!(eid, eid_v6(&[7; 32]));
        assert_ne!(eid, eid_v6(&[8; 32]));
        assert_eq!(eid.octets()[..6], EID_V6_PREFIX);
    }

    #[test]
    fn pairs_are_neighbours_in_the_pool() {
        let pool = EidPool::new(Ipv4Addr::new(100, 99, 1, 7), 24).unwrap();
        for random in 0..1000 {
            let pair = pool.pick(random, true);
            assert_eq!(pair.own.octets()[..3], [100, 99, 1]);
            assert_eq!(pair.own.to_bits() ^ pair.other.to_bits(), 1);
        }
        let full = pool.propose(|| 3, |a| a == pool.pick(3, true).own);
        assert_eq!(full, None);
    }
}
