//! What a context says of its paths: which carry data now, and why the others do not.

use std::collections::BTreeMap;

use mast_proto::{Policy, Selector};
use mast_simulation::{Access, HostId, World, ms};

/// A laptop with Wi-Fi and cellular (40 and 60 ms round trip), which costs where that is said, and a server.
fn world(metered: bool) -> (World, HostId, HostId) {
    let mut world = World::new(7);
    let cell = Access::new("cell", ms(30));
    let cell = if metered { cell.metered() } else { cell };
    let laptop = world.host(&[Access::new("wifi", ms(20)), cell]);
    let server = world.host(&[Access::new("eth0", ms(0))]);
    world.introduce(laptop, server);
    world.run(ms(5_000));
    (world, laptop, server)
}

/// By the numbers of the laptop's interfaces: Wi-Fi is 1. An interface carries where one of its paths does; the others add
/// nothing to it.
fn parts(world: &World, a: HostId, b: HostId) -> BTreeMap<u32, &'static str> {
    let mut parts = BTreeMap::new();
    let context = world.context(a, b);
    for (path, told) in context.paths().zip(context.parts()) {
        let part = parts.entry(path.key.interface.0).or_insert(told.part.as_str());
        if told.part.as_str() == "carries" {
            *part = "carries";
        }
    }
    parts
}

fn told(wifi: &'static str, cell: &'static str) -> BTreeMap<u32, &'static str> {
    BTreeMap::from([(1, wifi), (2, cell)])
}

#[test]
fn a_mode_says_who_takes_part_and_why_the_others_do_not() {
    for metered in [false, true] {
        let (mut world, laptop, server) = world(metered);
        let left = if metered { "metered" } else { "slower" };
        assert_eq!(parts(&world, laptop, server), told("carries", left), "auto, {metered}");

        let several = |metered| [Policy::Redundant { small: false, metered }, Policy::Bonded { metered }];
        for policy in several(false) {
            world.set_policy(laptop, server, policy.clone());
            world.run(ms(2_000));
            let cell = if metered { "metered" } else { "carries" };
            assert_eq!(parts(&world, laptop, server), told("carries", cell), "{policy:?}, {metered}");
        }
        for policy in several(true) {
            world.set_policy(laptop, server, policy.clone());
            world.run(ms(2_000));
            assert_eq!(parts(&world, laptop, server), told("carries", "carries"), "{policy:?}");
        }

        let pin = |fallback| Policy::Pin { order: vec![Selector::parse("cell")], fallback };
        for (fallback, why) in [(true, "order"), (false, "policy")] {
            world.set_policy(laptop, server, pin(fallback));
            world.run(ms(2_000));
            assert_eq!(parts(&world, laptop, server), told(why, "carries"), "{fallback}");
        }
    }
}

#[test]
fn what_is_dead_is_said_to_be_silent() {
    let (mut world, laptop, server) = world(true);
    world.echo(laptop, server, ms(10));
    world.blackhole(laptop, "wifi", true);
    world.run(ms(3_000));
    assert_eq!(parts(&world, laptop, server), told("silent", "carries"));
    world.blackhole(laptop, "wifi", false);
    world.run(ms(30_000));
    assert_eq!(parts(&world, laptop, server)[&1], "carries");
}
