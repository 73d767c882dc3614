//! Nothing stays as it is for ever: whatever went wrong, a context finds back by itself once it can, and costs little
//! until then.

use std::net::SocketAddr;

use mast_proto::PeerState;
use mast_simulation::{Access, HostId, Rng, World, ms};

fn pair(seed: u64, nat: bool) -> (World, HostId, HostId) {
    let mut world = World::new(seed);
    let wifi = Access::new("wifi", ms(20));
    let laptop = world.host(&[if nat { wifi.nat() } else { wifi }, Access::new("cell", ms(30))]);
    let server = world.host(&[Access::new("eth0", ms(0))]);
    (world, laptop, server)
}

fn connected(seed: u64, nat: bool) -> (World, HostId, HostId) {
    let (mut world, laptop, server) = pair(seed, nat);
    world.introduce(laptop, server);
    world.run(ms(2_000));
    for (own, other) in [(laptop, server), (server, laptop)] {
        assert_eq!(world.state(own, other), PeerState::Connected);
    }
    (world, laptop, server)
}

/// Wakes of a context in an hour without traffic.
fn wakes(world: &mut World, own: HostId, other: HostId) -> u64 {
    world.run(ms(900_000));
    let before = world.wakes(own, other);
    world.run(ms(3_600_000));
    world.wakes(own, other) - before
}

#[test]
fn idle_contexts_sleep() {
    let (mut world, laptop, server) = connected(1, false);
    // A keepalive and its answer for each of two paths, every 25 s.
    assert!(wakes(&mut world, laptop, server) <= 2 * 2 * 3_600 / 25);
    assert!(wakes(&mut world, server, laptop) <= 2 * 2 * 3_600 / 25);
}

#[test]
fn contexts_without_a_network_sleep() {
    let (mut world, laptop, server) = connected(2, false);
    for name in ["wifi", "cell"] {
        world.set_up(laptop, name, false);
    }
    assert!(wakes(&mut world, laptop, server) <= 60, "{} wakes", world.wakes(laptop, server));
    // The other end tries two paths, and contact over them.
    let server_wakes = wakes(&mut world, server, laptop);
    assert!(server_wakes <= 6 * 3_600 / 15, "{server_wakes} wakes");
}

#[test]
fn a_change_that_nobody_heard_of_is_told_later() {
    let (mut world, laptop, server) = connected(3, false);
    world.run(ms(30_000));
    for name in ["wifi", "cell"] {
        world.blackhole(laptop, name, true);
    }
    world.pin(laptop, server, &["cell"], false);
    world.run(ms(15_000));
    for name in ["wifi", "cell"] {
        world.blackhole(laptop, name, false);
    }
    world.run(ms(60_000));
    world.echo(laptop, server, ms(10));
    world.run(ms(1_000));
    let cell = world.context(laptop, server).paths().find(|p| p.active).map(|p| p.key.local);
    let towards = world.context(server, laptop).paths().find(|p| p.active).map(|p| p.key.remote.ip());
    assert_eq!(world.active(laptop, server).as_deref(), Some("cell"));
    assert_eq!(towards, cell, "the server follows the wish");
}

#[test]
fn a_pin_that_is_lifted_before_first_contact() {
    let (mut world, laptop, server) = pair(4, false);
    world.set_up(laptop, "cell", false);
    world.set_up(server, "eth0", false);
    world.introduce(laptop, server);
    world.pin(laptop, server, &["cell"], true);
    world.run(ms(60_000));
    world.set_up(server, "eth0", true);
    world.run(ms(60_000));
    assert_ne!(world.state(laptop, server), PeerState::Connected);
    world.pin(laptop, server, &[], false);
    world.run(ms(1_000));
    assert_eq!(world.state(laptop, server), PeerState::Connected);
}

#[test]
fn a_handshake_that_nothing_follows() {
    let (mut world, laptop, server) = pair(5, false);
    world.no_inits = true;
    world.introduce(laptop, server);
    world.run(ms(100));
    // The initiator is told to stop just after the handshake.
    world.shut(laptop, server);
    world.no_inits = false;
    world.run(ms(5_000));
    assert_eq!(world.state(server, laptop), PeerState::Connected, "the target asks itself");
}

#[test]
fn a_peer_that_never_answers_init_is_asked_with_growing_pauses() {
    let (mut world, laptop, server) = pair(6, false);
    world.no_inits = true;
    world.introduce(laptop, server);
    world.run(ms(600_000));
    let before = world.transmitted(laptop, server);
    world.run(ms(600_000));
    let sent = world.transmitted(laptop, server) - before;
    assert!(sent <= 600, "{sent} datagrams in ten minutes");
    world.no_inits = false;
    world.run(ms(65_000));
    assert_eq!(world.state(laptop, server), PeerState::Connected);
}

#[test]
fn an_init_that_comes_again_late_changes_nothing() {
    let (mut world, laptop, server) = connected(7, false);
    world.echo(laptop, server, ms(10));
    world.run(ms(30_000));
    for restarted in [false, true] {
        if restarted {
            world.restart(laptop);
            world.run(ms(30_000));
        }
        world.echo(laptop, server, ms(10));
        world.repeat_inits(server, laptop);
        world.run(ms(3_000));
        let report = world.echo_report(laptop, server);
        assert!(report.longest_gap <= ms(30), "restarted {restarted}: {report:?}");
    }
}

#[test]
fn mappings_of_a_nat_that_are_gone_are_forgotten() {
    let (mut world, laptop, server) = connected(8, true);
    for round in 0..80 {
        world.rebind(laptop, "wifi");
        world.run(ms(100_000));
        let paths = world.context(server, laptop).paths().count();
        assert!(
            paths <= 8,
            "round {round}: {:#?}",
            world.context(server, laptop).paths().collect::<Vec<_>>()
        );
        assert_eq!(world.state(server, laptop), PeerState::Connected);
    }
    assert!(world.context(server, laptop).known_remotes().len() <= 6);
    // What the laptop lists is still learned.
    world.renumber(laptop, "cell");
    world.blackhole(laptop, "wifi", true);
    world.run(ms(2_000));
    world.echo(laptop, server, ms(10));
    world.run(ms(5_000));
    world.echo(laptop, server, ms(10));
    world.run(ms(1_000));
    assert!(world.echo_report(laptop, server).longest_gap <= ms(100));
}

#[test]
fn more_addresses_than_paths() {
    let (mut world, laptop, server) = pair(9, false);
    world.set_up(server, "eth0", false);
    world.introduce(laptop, server);
    let nowhere: Vec<SocketAddr> = (0..22).map(|n| SocketAddr::from(([192, 0, 2, n + 1], 6278))).collect();
    world.suggest(laptop, server, &nowhere);
    world.run(ms(1_000));
    world.set_up(server, "eth0", true);
    world.run(ms(30_000));
    assert_eq!(
        world.state(laptop, server),
        PeerState::Connected,
        "the address that was known first is tried"
    );
}

#[test]
fn a_drill_ends_with_the_context() {
    let mut world = World::new(10);
    let laptop = world.host(&[Access::new("wifi", ms(20))]);
    let server = world.host(&[Access::new("eth0", ms(0))]);
    world.introduce(laptop, server);
    world.run(ms(2_000));
    world.drill(laptop, server);
    world.shut(laptop, server);
    world.run(ms(2_000));
    world.connect(laptop, server);
    world.run(ms(10_000));
    assert_eq!(world.state(laptop, server), PeerState::Connected);
    world.echo(laptop, server, ms(10));
    world.run(ms(1_000));
    assert!(world.echo_report(laptop, server).longest_gap <= ms(60));
}

fn ending(seed: u64) {
    let mut rng = Rng::new(seed ^ 0xE4D5_0000);
    let (mut world, laptop, server) = pair(seed, rng.chance(0.5));
    world.hostility = 0.02;
    world.introduce(laptop, server);
    if rng.chance(0.3) {
        world.introduce_back(laptop, server);
    }
    world.echo(laptop, server, ms(100));
    let mut log = Vec::new();
    let mut down = [false; 2];
    for _ in 0..12 {
        let (own, other) = if rng.chance(0.6) { (laptop, server) } else { (server, laptop) };
        let name = if own == server {
            "eth0"
        } else if rng.chance(0.5) {
            "wifi"
        } else {
            "cell"
        };
        let what = rng.below(14);
        match what {
            0 => world.drill(own, other),
            1 => world.end_drill(own, other),
            2 => world.shut(own, other),
            3 => world.connect(own, other),
            4 => world.no_inits = rng.chance(0.5),
            5 => world.pin(own, other, &[name], true),
            6 => world.pin(own, other, &[], false),
            7 => world.repeat_inits(own, other),
            8 => world.suggest(own, other, &[SocketAddr::from(([192, 0, 2, rng.below(99) as u8], 6278))]),
            9 => world.set_up(own, name, rng.chance(0.5)),
            10 => world.blackhole(own, name, rng.chance(0.5)),
            11 => world.restart(own),
            12 if own == laptop => world.renumber(own, name),
            13 => world.rebind(own, name),
            _ => {}
        }
        let side = usize::from(own == server);
        down[side] = what == 2 || down[side] && what != 3 && what != 11;
        log.push((world.elapsed(), what, own == laptop, name));
        let pause = [1, 20, 300, 3_000, 40_000, 700_000][rng.below(6) as usize];
        world.run(ms(rng.below(pause)));
    }
    world.no_inits = false;
    for (own, other, names) in [(laptop, server, &["wifi", "cell"][..]), (server, laptop, &["eth0"])] {
        for name in names {
            world.blackhole(own, name, false);
            world.set_up(own, name, true);
        }
        world.end_drill(own, other);
        world.pin(own, other, &[], false);
        if down[usize::from(own == server)] {
            world.connect(own, other);
        }
    }
    // The longest pause between two rounds of contact, and then some.
    world.run(ms(90_000));
    world.echo(laptop, server, ms(100));
    world.run(ms(5_000));
    let report = world.echo_report(laptop, server);
    let paths = |x, y| world.context(x, y).paths().collect::<Vec<_>>();
    assert!(
        report.received * 10 >= report.sent * 9,
        "seed {seed}: {report:?} {:?} {:?} after {log:?}\n{:?}\n{:?}",
        world.state(laptop, server),
        world.state(server, laptop),
        paths(laptop, server),
        paths(server, laptop),
    );
    for (own, other) in [(laptop, server), (server, laptop)] {
        assert_eq!(world.state(own, other), PeerState::Connected, "seed {seed}: {log:#?}");
    }
}

/// What users and adversaries do beside what networks do, in any order. All timers are watched (see `World::run`), and
/// when everything is well again, so are both ends.
#[test]
fn whatever_was_done_both_ends_find_back() {
    if let Some(seed) = std::env::var("MAST_SEED").ok().and_then(|s| s.parse().ok()) {
        ending(seed);
        return;
    }
    let seeds: u64 = std::env::var("MAST_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(300);
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || (half..seeds).step_by(2).for_each(ending));
        }
    });
}
