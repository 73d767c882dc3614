//! The redundant mode: nobody notices that a path is lost.

use mast_proto::{PathState, Policy, Selector};
use mast_simulation::{Access, HostId, World, ms};

const ALL: Policy = Policy::Redundant { small: false, metered: false };
const SMALL: Policy = Policy::Redundant { small: true, metered: false };

/// A laptop with these ways (40 and 60 ms round trip), a server, both redundant, an echo at 100 Hz.
fn redundant(seed: u64, cell: Access, policy: &Policy) -> (World, HostId, HostId) {
    let mut world = World::new(seed);
    let laptop = world.host(&[Access::new("wifi", ms(20)), cell]);
    let server = world.host(&[Access::new("eth0", ms(0))]);
    world.introduce(laptop, server);
    world.set_policy(laptop, server, policy.clone());
    world.set_policy(server, laptop, policy.clone());
    world.run(ms(500));
    world.echo(laptop, server, ms(10));
    world.run(ms(5_000));
    assert_eq!(world.active(laptop, server).as_deref(), Some("wifi"));
    world.echo(laptop, server, ms(10));
    (world, laptop, server)
}

fn cell() -> Access {
    Access::new("cell", ms(30))
}

/// Bytes sent over each pair of links, Wi-Fi first.
fn sent(world: &World, a: HostId, b: HostId) -> Vec<u64> {
    let mut links = std::collections::BTreeMap::new();
    for path in world.context(a, b).paths() {
        *links.entry((path.key.interface, path.peer_link)).or_default() += path.tx_bytes;
    }
    links.into_values().collect()
}

#[test]
fn the_loss_of_either_path_is_not_noticed() {
    for name in ["wifi", "cell"] {
        for seed in 0..20 {
            let (mut world, laptop, server) = redundant(seed, cell(), &ALL);
            let first = world.echo_number(laptop, server);
            world.run(ms(500 + seed * 7));
            world.blackhole(laptop, name, true);
            world.run(ms(3_000));
            let state = |world: &World| {
                let cell = |p: &mast_proto::PathView| (p.key.interface.0 == 2) == (name == "cell");
                world.context(laptop, server).paths().find(cell).map(|p| p.state)
            };
            assert_eq!(state(&world), Some(PathState::Failed), "seed {seed}: {name} is known to be dead");
            world.blackhole(laptop, name, false);
            world.run(ms(20_000));
            assert_eq!(state(&world), Some(PathState::Validated), "seed {seed}: {name} is back");
            let last = world.echo_number(laptop, server) - 20;
            assert_eq!(world.unanswered(laptop, server, first..last), 0, "seed {seed}: {name}");
            // The other path is 10 ms slower each way; an answer may be on its way over each.
            let report = world.echo_report(laptop, server);
            assert!(report.longest_gap <= ms(10 + 20 + 2), "seed {seed}: {name}: {report:?}");
        }
    }
}

#[test]
fn random_loss_on_both_paths_is_covered() {
    let (mut world, laptop, server) = redundant(1, cell(), &ALL);
    for name in ["wifi", "cell"] {
        world.access(laptop, name).loss = 0.05;
    }
    world.echo(laptop, server, ms(10));
    world.run(ms(60_000));
    let report = world.echo_report(laptop, server);
    let lost = (report.sent - report.received) as f64 / report.sent as f64;
    // One path alone loses 5 % each way.
    assert!(lost < 0.01, "{lost}: {report:?}");
}

#[test]
fn with_one_path_only_it_is_like_any_other() {
    let lost = [Policy::Auto, ALL].map(|policy| {
        let mut world = World::new(3);
        let laptop = world.host(&[Access::new("wifi", ms(20))]);
        let server = world.host(&[Access::new("eth0", ms(0))]);
        world.introduce(laptop, server);
        world.set_policy(laptop, server, policy);
        world.run(ms(500));
        world.echo(laptop, server, ms(10));
        world.run(ms(2_000));
        let first = world.echo_number(laptop, server) - 10;
        world.blackhole(laptop, "wifi", true);
        world.run(ms(200));
        world.blackhole(laptop, "wifi", false);
        world.run(ms(2_000));
        let last = world.echo_number(laptop, server) - 20;
        world.unanswered(laptop, server, first..last)
    });
    // A silence of 200 ms, and what was on its way; how much of that goes again is a matter of when it ends.
    assert!(lost[1] > 0 && lost.iter().all(|lost| *lost <= 26), "{lost:?}");
}

#[test]
fn large_datagrams_have_no_copy_where_only_small_ones_shall() {
    for (size, copied) in [(200, true), (1_000, false)] {
        let (mut world, laptop, server) = redundant(4, cell(), &SMALL);
        world.set_size(size);
        let before = sent(&world, laptop, server);
        world.run(ms(5_000));
        let after = sent(&world, laptop, server);
        let grown: Vec<_> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
        assert_eq!(grown[1] > grown[0] / 2, copied, "{size} bytes: {grown:?}");
    }
}

#[test]
fn a_metered_path_gets_copies_only_where_it_may() {
    for may in [false, true] {
        let policy = Policy::Redundant { small: false, metered: may };
        let (mut world, laptop, server) = redundant(5, cell().metered(), &policy);
        for (a, b) in [(laptop, server), (server, laptop)] {
            let before = sent(&world, a, b);
            world.run(ms(5_000));
            let after = sent(&world, a, b);
            let grown: Vec<_> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
            let (most, least) = (grown.iter().max().unwrap(), grown.iter().min().unwrap());
            assert_eq!(*least > most / 2, may, "the server heeds what the laptop pays for: {grown:?}");
        }
    }
}

/// As [`redundant`], with what each end wants.
fn ends(seed: u64, cell: Access, laptop_wants: &Policy, server_wants: &Policy) -> (World, HostId, HostId) {
    let (mut world, laptop, server) = redundant(seed, cell, &Policy::Auto);
    world.set_policy(laptop, server, laptop_wants.clone());
    world.set_policy(server, laptop, server_wants.clone());
    world.run(ms(500));
    world.echo(laptop, server, ms(10));
    (world, laptop, server)
}

/// What one end sends over its paths within two seconds: the least of them by the most.
fn share(world: &mut World, a: HostId, b: HostId) -> f64 {
    let before = sent(world, a, b);
    world.run(ms(2_000));
    let after = sent(world, a, b);
    let grown = || after.iter().zip(&before).map(|(a, b)| (a - b) as f64);
    grown().fold(f64::INFINITY, f64::min) / grown().fold(0.0, f64::max)
}

#[test]
fn what_one_end_wants_holds_both_ways() {
    for name in ["wifi", "cell"] {
        for seed in 0..10 {
            let (mut world, laptop, server) = ends(seed, cell(), &ALL, &Policy::Auto);
            let first = world.echo_number(laptop, server);
            world.run(ms(500 + seed * 7));
            world.blackhole(laptop, name, true);
            world.run(ms(3_000));
            world.blackhole(laptop, name, false);
            world.run(ms(20_000));
            let last = world.echo_number(laptop, server) - 20;
            assert_eq!(world.unanswered(laptop, server, first..last), 0, "seed {seed}: {name}");
            // Were it one way only, the answers would be late while the server finds out.
            let report = world.echo_report(laptop, server);
            assert!(report.longest_gap <= ms(10 + 20 + 2), "seed {seed}: {name}: {report:?}");
        }
    }
}

#[test]
fn a_wish_is_followed_at_once_and_until_it_is_taken_back() {
    let (mut world, laptop, server) = redundant(6, cell(), &Policy::Auto);
    assert!(share(&mut world, server, laptop) < 0.2, "nobody wants copies");
    for (policy, size, copied) in
        [(&ALL, 1_000, true), (&SMALL, 1_000, false), (&SMALL, 200, true), (&Policy::Auto, 200, false)]
    {
        world.set_size(size);
        world.set_policy(laptop, server, policy.clone());
        // The SET's way.
        world.run(ms(50));
        let share = share(&mut world, server, laptop);
        assert_eq!(share > 0.5, copied, "{policy:?}, {size} bytes: {share}");
    }
}

#[test]
fn a_wish_is_forgotten_when_its_end_starts_anew() {
    let (mut world, laptop, server) = ends(7, cell(), &ALL, &Policy::Auto);
    assert!(share(&mut world, server, laptop) > 0.5);
    world.restart(laptop);
    world.set_policy(laptop, server, Policy::Auto);
    world.run(ms(2_000));
    world.echo(laptop, server, ms(10));
    assert!(share(&mut world, server, laptop) < 0.2);
}

#[test]
fn an_end_with_a_policy_of_its_own_follows_no_wish() {
    let pin = Policy::Pin { order: vec![Selector::parse("eth0")], fallback: true };
    for own in [&pin, &SMALL] {
        let (mut world, laptop, server) = ends(8, cell(), &ALL, own);
        world.set_size(1_000);
        assert!(share(&mut world, server, laptop) < 0.2, "{own:?}");
        assert!(share(&mut world, laptop, server) > 0.5, "the laptop's own datagrams have copies");
    }
}

#[test]
fn a_wish_covers_what_its_own_end_pays_for_and_no_more() {
    for may in [false, true] {
        let policy = Policy::Redundant { small: false, metered: may };
        let (mut world, laptop, server) = ends(9, cell().metered(), &policy, &Policy::Auto);
        assert_eq!(share(&mut world, server, laptop) > 0.5, may, "the laptop pays");

        let mut world = World::new(9);
        let laptop = world.host(&[Access::new("wifi", ms(20))]);
        let server = world.host(&[Access::new("eth0", ms(0)), Access::new("lte", ms(10)).metered()]);
        world.introduce(laptop, server);
        world.set_policy(laptop, server, policy.clone());
        world.run(ms(3_000));
        world.echo(laptop, server, ms(10));
        world.run(ms(1_000));
        assert!(
            world.context(server, laptop).paths().filter(|p| p.state == PathState::Validated).count() > 1
        );
        // Reports of the laptop's own copies are a fifth of what copies would be.
        assert!(share(&mut world, server, laptop) < 0.3, "the server pays, and has not agreed");
        world.set_policy(server, laptop, policy.clone());
        assert_eq!(share(&mut world, server, laptop) > 0.5, may, "the server pays, and says so");
    }
}
