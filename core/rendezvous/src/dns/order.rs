//! In which order the targets of a service are tried (RFC 2782).

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use hickory_proto::rr::rdata::SRV;

/// The targets in the order in which they are to be tried: by priority, and within one by chance, by their weights.
pub(crate) fn ordered(mut records: Vec<SRV>) -> Vec<SRV> {
    records.sort_by_key(|record| record.priority);
    let mut ordered = Vec::with_capacity(records.len());
    for same in records.chunk_by(|a, b| a.priority == b.priority) {
        shuffle(same.to_vec(), &mut ordered, chance);
    }
    ordered
}

/// Adds targets of one priority, each with the chance that its weight gives it; those without weight come last but for a
/// small chance, as RFC 2782 asks.
fn shuffle(mut left: Vec<SRV>, ordered: &mut Vec<SRV>, chance: impl Fn(u64) -> u64) {
    left.sort_by_key(|record| record.weight);
    while !left.is_empty() {
        let total: u64 = left.iter().map(|record| u64::from(record.weight)).sum();
        let drawn = chance(total);
        let mut sum = 0;
        let place = left.iter().position(|record| {
            sum += u64::from(record.weight);
            sum >= drawn
        });
        ordered.push(left.remove(place.unwrap_or(0)));
    }
}

/// A number from 0 to `most`. It spreads load and guards nothing, so that the keys of a hash map are chance enough.
fn chance(most: u64) -> u64 {
    RandomState::new().build_hasher().finish() % (most + 1)
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Name;

    use super::*;

    fn srv(priority: u16, weight: u16, port: u16) -> SRV {
        SRV::new(priority, weight, port, Name::root())
    }

    fn ports(records: &[SRV]) -> Vec<u16> {
        records.iter().map(|record| record.port).collect()
    }

    #[test]
    fn the_lowest_priority_comes_first_whatever_the_weights_are() {
        for _ in 0..50 {
            let found = ordered(vec![srv(20, 65535, 3), srv(10, 0, 1), srv(10, 65535, 2)]);
            assert_eq!(ports(&found)[2], 3);
        }
    }

    #[test]
    fn weights_decide_within_a_priority() {
        let mut found = Vec::new();
        let all = vec![srv(1, 1, 1), srv(1, 3, 3), srv(1, 0, 0)];
        shuffle(all.clone(), &mut found, |_| 0);
        assert_eq!(ports(&found), [0, 1, 3], "without weight there is a small chance");
        found.clear();
        shuffle(all, &mut found, |most| most);
        assert_eq!(ports(&found), [3, 1, 0]);
        let first = |_| ports(&ordered(vec![srv(1, 10, 1), srv(1, 90, 2)]))[0];
        let heavy = (0..1000).map(first).filter(|port| *port == 2).count();
        assert!((820..970).contains(&heavy), "{heavy} of 1000");
    }

    #[test]
    fn no_targets_are_no_targets() {
        assert!(ordered(Vec::new()).is_empty());
    }
}
