//! A hundred gateways for a hundred thousand clients, of which ten die at once: what `docs/gateways.md` says of it.
//!
//! The order in which a client tries gateways is the product's own ([`super::order`]). The rest is a model of what is measured
//! with real ones: how soon silence is noticed, the pace of a race, and how many handshakes a second a gateway answers
//! without a cookie.

use std::collections::BTreeSet;

use hickory_proto::rr::Name;
use hickory_proto::rr::rdata::SRV;

use super::order::ordered;

const CLIENTS: usize = 100_000;
const GATEWAYS: usize = 100;
const DEAD: usize = 10;
/// Gateways of one name: as many as a client looks up.
const NAMED: usize = 8;
/// How far apart they are, so that two names have few in common.
const STEPS: [usize; NAMED] = [0, 1, 6, 15, 31, 48, 71, 85];

/// In milliseconds: silence is noticed, with a margin around what the lab shows at round trips of 20 to 120 ms.
const NOTICED: (u64, u64) = (400, 2000);
const ROUND_TRIP: (u64, u64) = (10, 120);
/// Between two initiations of a race.
const STAGGER: u64 = 50;
/// Handshakes a second that a gateway answers without a cookie; with one it takes a round trip more.
const FREE: u32 = 100;

/// A sequence that is the same in each run (Knuth's MMIX).
struct Chance(u64);

impl Chance {
    fn within(&mut self, (least, most): (u64, u64)) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        least + (self.0 >> 33) % (most - least + 1)
    }
}

/// The gateways of a client's name, in the order in which it tries them.
fn order(client: usize) -> Vec<usize> {
    let name = client % GATEWAYS;
    let record = |step: &usize| {
        let gateway = u16::try_from((name + step) % GATEWAYS).unwrap();
        SRV::new(0, 10, gateway + 1, Name::root())
    };
    let records = ordered(STEPS.iter().map(record).collect());
    records.into_iter().map(|record| usize::from(record.port) - 1).collect()
}

struct Outcome {
    /// Clients of each gateway, before and after.
    before: Vec<u32>,
    after: Vec<u32>,
    /// How long each client that lost its gateway was without one, sorted, in milliseconds.
    without: Vec<u64>,
    stranded: usize,
    /// The most initiations that came to one gateway within a second.
    busiest: u32,
}

fn run(seed: u64) -> Outcome {
    let mut chance = Chance(seed);
    let mut dead = BTreeSet::new();
    while dead.len() < DEAD {
        dead.insert(usize::try_from(chance.within((0, 99))).unwrap());
    }
    let (mut before, mut after) = (vec![0; GATEWAYS], vec![0; GATEWAYS]);
    // Initiations by gateway and second.
    let mut asked = vec![[0_u32; 16]; GATEWAYS];
    let mut races = Vec::new();
    let mut stranded = 0;
    for client in 0..CLIENTS {
        let order = order(client);
        before[order[0]] += 1;
        if !dead.contains(&order[0]) {
            after[order[0]] += 1;
            continue;
        }
        let others = order[1..].to_vec();
        match others.iter().position(|gateway| !dead.contains(gateway)) {
            Some(place) => races.push((chance.within(NOTICED), chance.within(ROUND_TRIP), place, others)),
            None => stranded += 1,
        }
    }
    races.sort_unstable();
    let mut without = Vec::new();
    for (noticed, round_trip, place, others) in races {
        let first = noticed + STAGGER * u64::try_from(place).unwrap();
        let answered = first + round_trip;
        // Whoever is asked before the first answer is there: the race goes on until then.
        for (at, gateway) in others.iter().enumerate() {
            let moment = noticed + STAGGER * u64::try_from(at).unwrap();
            if moment < answered && !dead.contains(gateway) {
                asked[*gateway][usize::try_from(moment / 1000).unwrap()] += 1;
            }
        }
        let chosen = others[place];
        let busy = asked[chosen][usize::try_from(first / 1000).unwrap()] > FREE;
        // The handshake, the agreement on keys, and where a cookie is asked for, that.
        without.push(first + round_trip * if busy { 3 } else { 2 });
        after[chosen] += 1;
    }
    without.sort_unstable();
    let busiest = asked.iter().flatten().copied().max().unwrap_or(0);
    Outcome { before, after, without, stranded, busiest }
}

#[test]
fn ten_gateways_of_a_hundred_die_and_their_clients_spread_over_the_others() {
    for seed in 1..=5 {
        let outcome = run(seed);
        let alive: Vec<u32> = outcome.after.iter().copied().filter(|clients| *clients > 0).collect();
        let percentile = |percent: usize| outcome.without[outcome.without.len() * percent / 100];
        let (most, least) = (alive.iter().max().unwrap(), alive.iter().min().unwrap());
        println!(
            "seed {seed}: {} clients moved; back after {} ms (median), {} ms (99 %), {} ms (last); \
             {least} to {most} clients a gateway; {} initiations a second at most",
            outcome.without.len(),
            percentile(50),
            percentile(99),
            outcome.without.last().unwrap(),
            outcome.busiest,
        );
        assert_eq!(outcome.before.iter().sum::<u32>() as usize, CLIENTS);
        assert_eq!(outcome.stranded, 0, "eight gateways of a name do not die at once");
        assert_eq!(outcome.after.iter().sum::<u32>() as usize, CLIENTS);
        assert_eq!(alive.len(), GATEWAYS - DEAD);
        assert!(outcome.before.iter().all(|clients| (800..1200).contains(clients)), "{:?}", outcome.before);
        assert!(*most < 1700, "{most} clients at one gateway");
        assert!(*outcome.without.last().unwrap() < 3500);
        assert!(outcome.busiest < 1000, "{} initiations a second", outcome.busiest);
    }
}
