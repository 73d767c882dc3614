//! Whatever is declared one after the other, and whatever the system refuses meanwhile: what is there always fits
//! together, and once nothing is refused it is what is declared.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{IpAddr, Ipv4Addr};

use mast_conformance::World;
use mast_conformance::fake::{FakeSystem, NAME};
use mast_engine::Reconciler;
use mast_engine::declared::Declared;
use mast_engine::os::{Family, Platform, Prefix, TunWish};
use proptest::prelude::*;

fn own(n: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, n).into()
}

fn range(n: u8) -> Prefix {
    Prefix { address: Ipv4Addr::new(10, n, 0, 0).into(), length: 16 }
}

/// One round: what is declared, which call is refused, what somebody takes away, whether that is looked at.
#[derive(Debug, Clone)]
struct Round {
    declared: Declared,
    refuse: Option<usize>,
    taken: Option<u8>,
    verify: bool,
}

prop_compose! {
    fn rounds()(
        addresses in prop::collection::btree_set(1_u8..5, 0..4),
        routes in prop::collection::btree_map(1_u8..6, prop::option::of(1_u8..5), 0..5),
        v4 in any::<bool>(),
        v6 in any::<bool>(),
        refuse in prop::option::of(0_usize..8),
        taken in prop::option::of(1_u8..5),
        verify in any::<bool>(),
    ) -> Round {
        let protection = [(v4, Family::V4), (v6, Family::V6)];
        Round {
            declared: Declared {
                interface: Some(NAME.into()),
                // A preferred source is always an own address, as the engine has it.
                routes: routes
                    .into_iter()
                    .map(|(n, source)| (range(n), source.filter(|s| addresses.contains(s)).map(own)))
                    .collect(),
                addresses: addresses.into_iter().map(own).collect(),
                protection: protection.into_iter().filter(|(on, _)| *on).map(|(_, f)| f).collect(),
                ..Declared::default()
            },
            refuse,
            taken,
            verify,
        }
    }
}

/// Whether what is there is what is declared.
fn as_declared(system: &FakeSystem, declared: &Declared) -> bool {
    let there = system.interface().unwrap();
    there.addresses == declared.addresses.iter().copied().collect()
        && there.routes == declared.routes.iter().copied().collect()
        && system.protection() == declared.protection
}

proptest! {
    #[test]
    fn what_is_there_fits_together_and_ends_as_declared(rounds in prop::collection::vec(rounds(), 1..12)) {
        let system = FakeSystem::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let wish = TunWish { name: "mast0".into(), mtu: 1280 };
        let tun = runtime.block_on(system.create_tun(&wish)).unwrap();
        let mut reconciler = Reconciler::new(system.host().unwrap());
        let mut trusted = true;
        for round in &rounds {
            if let Some(taken) = round.taken {
                system.take_address(NAME, own(taken));
                trusted = false;
            }
            if let Some(number) = round.refuse {
                system.refuse_call(number);
            }
            let outcome = reconciler.apply(&round.declared, round.verify);
            trusted |= round.verify && outcome.refused.is_empty();
            let there = system.interface().unwrap();
            for source in there.routes.values().flatten() {
                prop_assert!(there.addresses.contains(source), "{there:?}");
            }
            if outcome.refused.is_empty() && trusted {
                prop_assert!(as_declared(&system, &round.declared), "{:?} {there:?}", round.declared);
            }
        }
        let last = &rounds.last().unwrap().declared;
        system.refuse_call(usize::MAX / 2);
        let outcome = reconciler.apply(last, true);
        prop_assert!(outcome.refused.is_empty(), "{outcome:?}");
        prop_assert!(as_declared(&system, last));
        prop_assert_eq!(reconciler.apply(last, true).taken, 0);
        drop(tun);
    }
}
