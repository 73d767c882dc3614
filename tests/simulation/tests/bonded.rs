//! The bonded mode: one transfer over all paths.

use std::time::Duration;

use mast_proto::{Policy, Selector};
use mast_simulation::{Access, BulkReport, HostId, World, ms};

const BONDED: Policy = Policy::Bonded { metered: false };
const NAMES: [&str; 3] = ["wifi", "cell", "eth0"];

/// A laptop with links of so many Mbit/s and such round trips, a server, both bonded.
fn bonded(seed: u64, links: &[(u64, u64)]) -> (World, HostId, HostId) {
    ends(seed, links, BONDED, BONDED)
}

/// The same with what each end wants.
fn ends(
    seed: u64,
    links: &[(u64, u64)],
    laptop_wants: Policy,
    server_wants: Policy,
) -> (World, HostId, HostId) {
    let mut world = World::new(seed);
    let access = links.iter().zip(NAMES);
    let access: Vec<_> = access
        .map(|((mbit, rtt), name)| Access::new(name, ms(rtt / 2)).rate(mbit * 1_000_000, ms(100)))
        .collect();
    let laptop = world.host(&access);
    let server = world.host(&[Access::new("eth0", ms(0))]);
    world.introduce(laptop, server);
    world.set_policy(laptop, server, laptop_wants);
    world.set_policy(server, laptop, server_wants);
    world.run(ms(1_000));
    (world, laptop, server)
}

/// The transfer's figures over the next seconds, and its rate in Mbit/s.
fn measure(world: &mut World, a: HostId, b: HostId, seconds: u64) -> (BulkReport, f64) {
    world.bulk(a, b);
    world.run(Duration::from_secs(seconds));
    let report = world.bulk_report(a, b);
    (report, report.bytes as f64 * 8.0 / 1e6 / seconds as f64)
}

#[test]
fn the_rates_of_the_paths_add_up() {
    let cases: [&[(u64, u64)]; 5] = [
        &[(50, 20), (30, 60)],
        &[(100, 10), (10, 50)],
        &[(30, 30), (30, 30)],
        &[(20, 20), (20, 40), (20, 60)],
        &[(50, 20)],
    ];
    for links in cases {
        let sum: u64 = links.iter().map(|(mbit, _)| mbit).sum();
        for up in [true, false] {
            let (mut world, laptop, server) = bonded(1, links);
            let (a, b) = if up { (laptop, server) } else { (server, laptop) };
            measure(&mut world, a, b, 3);
            let (report, rate) = measure(&mut world, a, b, 5);
            // 4.4 % of what the links carry are headers.
            assert!(rate >= 0.92 * sum as f64, "{links:?}, up {up}: {rate} Mbit/s, {report:?}");
            assert!(report.longest_gap < ms(50), "{links:?}, up {up}: {report:?}");
        }
    }
}

/// What a link loses is sent again below the transport, which would take it for congestion: with 1 % lost, it alone
/// comes to a fiftieth of the sum.
#[test]
fn what_a_link_loses_goes_again() {
    for up in [true, false] {
        let (mut world, laptop, server) = bonded(8, &[(50, 20), (30, 60)]);
        world.access(laptop, "wifi").loss = 0.01;
        let (a, b) = if up { (laptop, server) } else { (server, laptop) };
        measure(&mut world, a, b, 3);
        let (report, rate) = measure(&mut world, a, b, 10);
        assert!(rate >= 0.15 * 80.0, "up {up}: {rate} Mbit/s, {report:?}");
    }
}

#[test]
fn no_queue_stands_before_the_links() {
    let (mut world, laptop, server) = bonded(2, &[(50, 20), (30, 60)]);
    measure(&mut world, laptop, server, 3);
    for name in ["wifi", "cell"] {
        world.access(laptop, name).bottleneck.as_mut().unwrap().longest = ms(0);
    }
    measure(&mut world, laptop, server, 5);
    for name in ["wifi", "cell"] {
        let longest = world.access(laptop, name).bottleneck.as_ref().unwrap().longest;
        assert!(longest < ms(40), "{name}: {longest:?}");
    }
}

#[test]
fn a_link_that_slows_down_takes_only_its_part_away() {
    let (mut world, laptop, server) = bonded(3, &[(50, 20), (30, 60)]);
    measure(&mut world, laptop, server, 4);
    world.access(laptop, "wifi").bottleneck.as_mut().unwrap().rate /= 2;
    measure(&mut world, laptop, server, 4);
    let (report, rate) = measure(&mut world, laptop, server, 5);
    assert!(rate >= 0.85 * 55.0, "{rate} Mbit/s, {report:?}");
    world.access(laptop, "wifi").bottleneck.as_mut().unwrap().rate *= 2;
    measure(&mut world, laptop, server, 6);
    let (report, rate) = measure(&mut world, laptop, server, 5);
    assert!(rate >= 0.85 * 80.0, "{rate} Mbit/s, {report:?}");
}

#[test]
fn a_link_that_falls_silent_leaves_the_others() {
    for name in ["wifi", "cell"] {
        let (mut world, laptop, server) = bonded(4, &[(50, 20), (30, 60)]);
        measure(&mut world, laptop, server, 4);
        world.bulk(laptop, server);
        world.blackhole(laptop, name, true);
        world.run(ms(2_000));
        let report = world.bulk_report(laptop, server);
        assert!(report.longest_gap <= ms(400) && report.timeouts <= 1, "{name}: {report:?}");
        measure(&mut world, laptop, server, 3);
        let rest = if name == "wifi" { 30.0 } else { 50.0 };
        let (report, rate) = measure(&mut world, laptop, server, 5);
        assert!(rate >= 0.85 * rest, "{name}: {rate} Mbit/s, {report:?}");
        world.blackhole(laptop, name, false);
        // Its rate is found out anew, by a stream that grows by a segment each round trip.
        measure(&mut world, laptop, server, 18);
        let (report, rate) = measure(&mut world, laptop, server, 5);
        assert!(rate >= 0.9 * 80.0, "{name} is back: {rate} Mbit/s, {report:?}");
    }
}

#[test]
fn a_metered_link_is_left_alone_unless_it_may_be_used() {
    for metered in [false, true] {
        let mut world = World::new(5);
        let wifi = Access::new("wifi", ms(10)).rate(50_000_000, ms(100));
        let cell = Access::new("cell", ms(30)).rate(30_000_000, ms(100)).metered();
        let laptop = world.host(&[wifi, cell]);
        let server = world.host(&[Access::new("eth0", ms(0))]);
        world.introduce(laptop, server);
        world.set_policy(server, laptop, Policy::Bonded { metered });
        world.run(ms(1_000));
        measure(&mut world, server, laptop, 3);
        let (_, rate) = measure(&mut world, server, laptop, 5);
        let expected = if metered { 80.0 } else { 50.0 };
        assert!((0.92 * expected..expected).contains(&rate), "metered {metered}: {rate} Mbit/s");
    }
}

#[test]
fn an_echo_stays_on_the_quick_path_and_in_order() {
    let (mut world, laptop, server) = bonded(6, &[(50, 20), (30, 60)]);
    world.echo(laptop, server, ms(10));
    let first = world.echo_number(laptop, server);
    world.run(ms(5_000));
    let report = world.echo_report(laptop, server);
    let last = world.echo_number(laptop, server) - 10;
    assert_eq!(world.unanswered(laptop, server, first..last), 0);
    assert!(report.longest_gap <= ms(22) && report.reordered == 0, "{report:?}");
}

#[test]
fn going_over_to_another_policy_loses_nothing() {
    let (mut world, laptop, server) = bonded(7, &[(50, 20), (30, 60)]);
    world.echo(laptop, server, ms(5));
    measure(&mut world, laptop, server, 3);
    let first = world.echo_number(laptop, server);
    for policy in [Policy::Auto, BONDED, Policy::Redundant { small: true, metered: false }, BONDED] {
        world.set_policy(laptop, server, policy);
        world.run(ms(500));
    }
    let last = world.echo_number(laptop, server);
    world.run(ms(1_000));
    // Auto and redundant send as quickly as the host does, and the link drops what is too much.
    let lost = world.unanswered(laptop, server, first..last);
    assert!(lost < 20, "{lost}");
}

#[test]
fn what_the_laptop_wants_holds_for_what_comes_as_well() {
    let pin = Policy::Pin { order: vec![Selector::parse("eth0")], fallback: true };
    for (own, low, high) in [(Policy::Auto, 0.92 * 80.0, 80.0), (pin, 0.85 * 50.0, 50.0)] {
        let (mut world, laptop, server) = ends(9, &[(50, 20), (30, 60)], BONDED, own.clone());
        measure(&mut world, server, laptop, 3);
        let (report, rate) = measure(&mut world, server, laptop, 5);
        assert!((low..high).contains(&rate), "{own:?} at the server: {rate} Mbit/s, {report:?}");
    }
}
