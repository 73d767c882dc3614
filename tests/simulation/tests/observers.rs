//! What somebody sees who watches several of a laptop's networks: not that the datagrams are of one context.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use mast_simulation::{Access, HostId, World, ms};

/// A laptop with Wi-Fi and cellular, a server, traffic both ways, and an observer of all that they send.
fn watched(seed: u64) -> (World, HostId, HostId) {
    let mut world = World::new(seed);
    let laptop = world.host(&[Access::new("wifi", ms(20)), Access::new("cell", ms(30))]);
    let server = world.host(&[Access::new("eth0", ms(0))]);
    world.introduce(laptop, server);
    world.run(ms(1_000));
    world.echo(laptop, server, ms(20));
    world.seen = Some(Vec::new());
    (world, laptop, server)
}

/// By the laptop's network: the indices, and the path numbers with their epochs, in each direction.
fn marks(world: &mut World, laptop: HostId) -> BTreeMap<IpAddr, BTreeSet<(bool, u32, u32)>> {
    let mut marks: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (from, source, to, header) in world.seen.take().unwrap_or_default() {
        let up = from == laptop;
        let network = if up { source.ip() } else { to.ip() };
        let of = marks.entry(network).or_default();
        of.insert((up, 1, header.index.0));
        of.insert((up, 2, u32::from(header.epoch.0) << 8 | u32::from(header.path.0)));
    }
    marks
}

fn assert_unlinked(marks: &BTreeMap<IpAddr, BTreeSet<(bool, u32, u32)>>) {
    let mut owners = BTreeMap::new();
    for (network, of) in marks {
        for mark in of {
            if let Some(other) = owners.insert(*mark, *network) {
                panic!("{mark:?} is seen in {other} and in {network}");
            }
        }
    }
}

#[test]
fn two_networks_at_once_have_nothing_in_common() {
    let (mut world, laptop, server) = watched(1);
    // Both are used, and several epochs pass.
    for _ in 0..6 {
        world.run(ms(60_000));
        world.blackhole(laptop, "wifi", true);
        world.run(ms(2_000));
        world.blackhole(laptop, "wifi", false);
    }
    world.run(ms(5_000));
    let marks = marks(&mut world, laptop);
    assert_eq!(marks.len(), 4, "two networks, each of both versions of IP: {marks:?}");
    let indices = |of: &BTreeSet<(bool, u32, u32)>, up| of.iter().filter(|m| m.0 == up && m.1 == 1).count();
    assert!(
        marks.values().all(|of| indices(of, true) >= 3 && indices(of, false) >= 3),
        "epochs have their own: {marks:?}"
    );
    assert_unlinked(&marks);
    assert!(world.connected(laptop, server));
}

#[test]
fn a_laptop_that_moves_is_not_followed() {
    for (seed, pause) in [(1, 45_000), (2, 11_000), (3, 2_500)] {
        let (mut world, laptop, server) = watched(seed);
        for _ in 0..40 {
            world.run(ms(pause));
            world.renumber(laptop, "wifi");
        }
        world.run(ms(5_000));
        let marks = marks(&mut world, laptop);
        assert!(marks.len() > 40, "every network was used");
        assert_unlinked(&marks);
        let report = world.echo_report(laptop, server);
        assert!(report.longest_gap < Duration::from_secs(1), "{report:?}");
        assert!(world.connected(laptop, server));
    }
}
