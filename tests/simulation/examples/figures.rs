//! Prints the figures of the scenarios over many seeds: `cargo run --release -p mast-simulation --example figures`.

use std::time::Duration;

use mast_simulation::{Access, HostId, World, ms};

fn train(seed: u64) -> (World, HostId, HostId) {
    let mut world = World::new(seed);
    let laptop = world.host(&[Access::new("wifi", ms(20)), Access::new("cell", ms(30))]);
    let server = world.host(&[Access::new("eth0", ms(0))]);
    world.introduce(laptop, server);
    world.echo(laptop, server, ms(10));
    world.run(ms(6_000 + seed * 7));
    world.echo(laptop, server, ms(10));
    (world, laptop, server)
}

fn figure(name: &str, act: impl Fn(&mut World, HostId)) {
    let mut gaps: Vec<Duration> = (0..200)
        .map(|seed| {
            let (mut world, laptop, server) = train(seed);
            act(&mut world, laptop);
            world.run(ms(2_000));
            world.echo_report(laptop, server).longest_gap
        })
        .collect();
    gaps.sort_unstable();
    let at = |share: f64| gaps[((gaps.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{name:<24} min {:>6.1}  median {:>6.1}  p99 {:>6.1}  max {:>6.1} ms",
        at(0.0),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

fn main() {
    figure("link down", |w, l| w.set_up(l, "wifi", false));
    figure("silent blackhole", |w, l| w.blackhole(l, "wifi", true));
    figure("deaf outward", |w, l| w.access(l, "wifi").deaf_out = true);
    figure("deaf inward", |w, l| w.access(l, "wifi").deaf_in = true);
    figure("renumbered", |w, l| w.renumber(l, "wifi"));
}
