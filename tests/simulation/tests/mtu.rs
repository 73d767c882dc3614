//! Paths that carry less than Ethernet does and tell nobody: data keeps flowing, and what fits is found. Virtual time.

use std::time::Duration;

use mast_proto::Policy;
use mast_simulation::{Access, HostId, World, ms};

/// wine's own heap becomes slow with what was freed in it: hours of virtual time took minutes.
#[cfg(windows)]
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// UDP and IPv4 headers, and what a data frame adds to a datagram.
const OUTER: usize = 28 + mast_proto::DATA_OVERHEAD;
/// What the virtual interface hands over at most.
const INNER: usize = 1400;
/// A size found is no further than this below what fits.
const PRECISION: usize = 16;

/// A laptop with Wi-Fi (40 ms round trip) and a server, each sending 100 large datagrams a second to the other.
fn pair(seed: u64, wifi: Access) -> (World, HostId, HostId) {
    let mut world = World::new(seed);
    let laptop = world.host(&[wifi]);
    let server = world.host(&[Access::new("eth0", ms(0))]);
    world.introduce(laptop, server);
    world.run(ms(500));
    world.set_size(INNER);
    world.echo(laptop, server, ms(10));
    (world, laptop, server)
}

fn wifi() -> Access {
    Access::new("wifi", ms(20))
}

/// The size of the path that carries data, as IP packet.
fn outer(world: &World, own: HostId, other: HostId) -> usize {
    let path = world.context(own, other).paths().find(|p| p.active);
    path.map_or(0, |p| p.mtu + OUTER)
}

fn assert_found(world: &World, own: HostId, other: HostId, packet: usize, what: &str) {
    let found = outer(world, own, other);
    assert!(found <= packet && found + PRECISION >= packet, "{what}: found {found} of {packet}");
    assert_eq!(world.context(own, other).inner_mtu(), Some(found - OUTER));
}

/// Nothing of a second of traffic may be lost.
fn assert_flows(world: &mut World, laptop: HostId, server: HostId, what: &str) {
    let first = world.echo_number(laptop, server);
    world.run(ms(1_200));
    let last = world.echo_number(laptop, server) - 20;
    assert_eq!(world.unanswered(laptop, server, first..last), 0, "{what}");
}

#[test]
fn an_ethernet_path_costs_one_probe() {
    let (mut world, laptop, server) = pair(1, wifi());
    world.take_largest(laptop, server);
    world.run(ms(5_000));
    assert_eq!(world.take_largest(laptop, server), 1500);
    assert_eq!(outer(&world, laptop, server), 1500);
    world.run(ms(60_000));
    // Proven once; nothing is lost, so that nothing is doubted.
    assert_eq!(world.take_largest(laptop, server), INNER + OUTER);
    let report = world.echo_report(laptop, server);
    assert!(report.longest_gap <= ms(55), "{report:?}");
}

#[test]
fn a_path_that_was_always_small() {
    for packet in [1492, 1463, 1420, 1400, 1380, 1350, 1344, 1300, 1280] {
        for seed in 0..10 {
            let (mut world, laptop, server) = pair(seed, wifi().mtu(packet));
            world.run(ms(1_000));
            let report = world.echo_report(laptop, server);
            // Two timeouts, 270 ms; and as long again for the answers, which begin when the first large datagram arrives.
            assert!(report.longest_gap <= ms(700), "{packet}, seed {seed}: {report:?}");
            world.run(ms(5_000));
            for (own, other) in [(laptop, server), (server, laptop)] {
                assert_found(&world, own, other, packet, &format!("always {packet}, seed {seed}"));
                assert!(world.switches(own, other).len() <= 1, "{:?}", world.switches(own, other));
            }
            let lost = world.context(laptop, server).paths().find_map(|p| p.loss);
            assert!(lost.is_none_or(|share| share < 0.01), "{packet}: {lost:?}");
            assert_flows(&mut world, laptop, server, "after the search");
        }
    }
}

#[test]
fn a_long_path_that_was_always_small() {
    let mut access = Access::new("wifi", ms(100));
    access.mtu_out = 1400;
    let (mut world, laptop, server) = pair(3, access);
    world.run(ms(3_000));
    let report = world.echo_report(laptop, server);
    assert!(report.longest_gap <= ms(1_000), "{report:?}");
    assert_found(&world, laptop, server, 1400, "200 ms round trip");
}

#[test]
fn a_path_shrinks_silently() {
    for packet in [1450, 1400, 1300, 1280] {
        for seed in 0..20 {
            let (mut world, laptop, server) = pair(seed, wifi());
            world.run(ms(5_000 + seed * 37));
            world.echo(laptop, server, ms(10));
            let access = world.access(laptop, "wifi");
            (access.mtu_out, access.mtu_in) = (packet, packet);
            world.run(ms(10_000));
            let report = world.echo_report(laptop, server);
            assert!(report.longest_gap <= ms(1_000), "{packet}, seed {seed}: {report:?}");
            if packet < INNER + OUTER {
                for (own, other) in [(laptop, server), (server, laptop)] {
                    assert_found(&world, own, other, packet, &format!("shrunk to {packet}, seed {seed}"));
                }
            }
            assert_flows(&mut world, laptop, server, "after it shrank");
        }
    }
}

/// Small datagrams of another application pass all the time, so that the path is never silent.
#[test]
fn large_data_vanishes_among_small() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let laptop = world.host(&[wifi()]);
        let server = world.host(&[Access::new("eth0", ms(0))]);
        world.introduce(laptop, server);
        world.run(ms(500));
        world.echo(laptop, server, ms(10));
        world.run(ms(2_000));
        let large = |world: &mut World, number: usize| {
            for _ in 0..number {
                world.set_size(INNER);
                world.run(ms(10));
                world.set_size(200);
                world.run(ms(90));
            }
        };
        large(&mut world, 20);
        world.access(laptop, "wifi").mtu_out = 1300;
        large(&mut world, 25);
        assert_found(&world, laptop, server, 1300, &format!("seed {seed}"));
        assert_eq!(outer(&world, server, laptop), 1500, "the other direction is as it was");
        let first = world.echo_number(laptop, server);
        large(&mut world, 10);
        let last = world.echo_number(laptop, server) - 20;
        assert_eq!(world.unanswered(laptop, server, first..last), 0, "seed {seed}");
    }
}

#[test]
fn each_direction_has_its_own_size() {
    for (out, back) in [(1300, 1500), (1500, 1300), (1400, 1320)] {
        let mut access = wifi();
        (access.mtu_out, access.mtu_in) = (out, back);
        let (mut world, laptop, server) = pair(7, access);
        world.run(ms(6_000));
        assert_found(&world, laptop, server, out, "out");
        assert_found(&world, server, laptop, back, "back");
        assert_flows(&mut world, laptop, server, "after the search");
    }
}

#[test]
fn a_path_that_grew_is_used_after_ten_minutes() {
    let (mut world, laptop, server) = pair(8, wifi().mtu(1400));
    world.run(ms(10_000));
    assert_found(&world, laptop, server, 1400, "before");
    let access = world.access(laptop, "wifi");
    (access.mtu_out, access.mtu_in) = (1500, 1500);
    world.run(Duration::from_secs(580));
    assert_found(&world, laptop, server, 1400, "not earlier");
    world.run(Duration::from_secs(30));
    for (own, other) in [(laptop, server), (server, laptop)] {
        assert_eq!(outer(&world, own, other), 1500);
        world.forget_mtu(own, other);
    }
    world.take_largest(laptop, server);
    assert_flows(&mut world, laptop, server, "after it grew");
    assert_eq!(world.take_largest(laptop, server), INNER + OUTER);
}

#[test]
fn a_path_that_stays_small_is_asked_seldom() {
    let (mut world, laptop, server) = pair(9, wifi().mtu(1400));
    world.run(ms(10_000));
    let before = world.access(laptop, "wifi").too_large;
    world.run(Duration::from_secs(3_600));
    let access = world.access(laptop, "wifi");
    // Six rounds of two sizes and three tries, both ways.
    let asked = access.too_large - before;
    assert!(asked <= 2 * 6 * 6, "{asked}");
    let first = world.echo_number(laptop, server);
    world.run(Duration::from_secs(1_300));
    let last = world.echo_number(laptop, server) - 20;
    assert_eq!(world.unanswered(laptop, server, first..last), 0, "asking costs no data");
}

#[test]
fn nothing_is_asked_before_large_data() {
    let mut world = World::new(10);
    let laptop = world.host(&[wifi(), Access::new("cell", ms(30)).metered()]);
    let server = world.host(&[Access::new("eth0", ms(0))]);
    world.introduce(laptop, server);
    world.echo(laptop, server, ms(10));
    world.run(ms(20_000));
    assert!(world.take_largest(laptop, server) < 600);
    world.stop_echo(laptop, server);
    world.run(ms(2_000_000));
    assert!(world.take_largest(laptop, server) < 600);
    // Large data asks the path that carries it, and no other.
    world.access(laptop, "cell").mtu_out = 1300;
    world.set_size(INNER);
    world.echo(laptop, server, ms(10));
    world.run(ms(5_000));
    assert_eq!(world.active(laptop, server).as_deref(), Some("wifi"));
    assert_eq!(world.access(laptop, "cell").too_large, 0);
}

/// Data moves to a path that is smaller than the one before.
#[test]
fn failover_to_a_smaller_path() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let laptop = world.host(&[wifi(), Access::new("cell", ms(30)).mtu(1340)]);
        let server = world.host(&[Access::new("eth0", ms(0))]);
        world.introduce(laptop, server);
        world.run(ms(500));
        world.set_size(INNER);
        world.echo(laptop, server, ms(10));
        world.run(ms(5_000));
        for silent in [false, true] {
            world.echo(laptop, server, ms(10));
            match silent {
                false => world.set_up(laptop, "wifi", false),
                true => world.blackhole(laptop, "wifi", true),
            }
            world.run(ms(8_000));
            assert_eq!(world.active(laptop, server).as_deref(), Some("cell"));
            let report = world.echo_report(laptop, server);
            assert!(report.longest_gap <= ms(1_000), "silent {silent}, seed {seed}: {report:?}");
            assert_found(&world, laptop, server, 1340, "cell");
            match silent {
                false => world.set_up(laptop, "wifi", true),
                true => world.blackhole(laptop, "wifi", false),
            }
            for (own, other) in [(laptop, server), (server, laptop)] {
                world.forget_mtu(own, other);
            }
            world.run(ms(15_000));
            assert_eq!(world.active(laptop, server).as_deref(), Some("wifi"));
        }
    }
}

/// Loss that has nothing to do with size: the size found may not suffer.
#[test]
fn random_loss_does_not_shrink_a_path() {
    for (loss, most) in [(0.01, 1), (0.03, 2), (0.05, 5)] {
        let small: Vec<u32> = (0..12)
            .map(|seed| {
                let (mut world, laptop, server) = pair(seed, wifi().addresses(1, 0).loss(loss).jitter(ms(8)));
                let is_small = |_| {
                    world.run(ms(1_000));
                    u32::from(outer(&world, laptop, server) < 1500)
                };
                (0..600).map(is_small).sum()
            })
            .collect();
        // Chance may lose the same size three times and no other.
        let often = small.iter().filter(|s| **s > 6).count();
        assert!(often <= most, "{loss}: smaller for {small:?} of 600 s each");
    }
}

#[test]
fn a_lossy_small_path_is_found_all_the_same() {
    for seed in 0..20 {
        let (mut world, laptop, server) = pair(seed, wifi().mtu(1400).loss(0.03));
        world.run(ms(10_000));
        let found = outer(&world, laptop, server);
        assert!((1280..=1400).contains(&found), "seed {seed}: {found}");
        let first = world.echo_number(laptop, server);
        world.run(ms(10_000));
        let last = world.echo_number(laptop, server) - 20;
        let share = world.unanswered(laptop, server, first..last) as f64 / (last - first) as f64;
        assert!(share < 0.15, "seed {seed}: {share} lost");
    }
}

/// Where several paths carry data, each has its own size, and what all of them take is what counts.
#[test]
fn several_paths_at_once() {
    let bonded = Policy::Bonded { metered: true };
    let redundant = Policy::Redundant { small: false, metered: true };
    for (policy, seed) in [(bonded, 21), (redundant, 22)] {
        let mut world = World::new(seed);
        let laptop = world.host(&[wifi().mtu(1400), Access::new("cell", ms(30)).mtu(1300)]);
        let server = world.host(&[Access::new("eth0", ms(0))]);
        world.introduce(laptop, server);
        for (own, other) in [(laptop, server), (server, laptop)] {
            world.set_policy(own, other, policy.clone());
        }
        world.run(ms(500));
        world.set_size(INNER);
        world.echo(laptop, server, ms(2));
        world.run(ms(10_000));
        let report = world.echo_report(laptop, server);
        assert!(report.longest_gap <= ms(1_000), "{policy:?}: {report:?}");
        for (own, other) in [(laptop, server), (server, laptop)] {
            let context = world.context(own, other);
            let smallest = context.paths().map(|p| p.mtu).min();
            assert_eq!(context.inner_mtu(), smallest, "{policy:?}");
            let found = smallest.unwrap_or(0) + OUTER;
            assert!(found <= 1300 && found + PRECISION >= 1300, "{policy:?}: {found}");
        }
        assert_flows(&mut world, laptop, server, "over several paths");
    }
}
