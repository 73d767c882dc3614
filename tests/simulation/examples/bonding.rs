//! What a bulk transfer makes of several paths: `cargo run --release -p mast-simulation --example bonding`.

use mast_proto::Policy;
use mast_simulation::{Access, HostId, World, ms};

const BONDED: Policy = Policy::Bonded { metered: false };

/// Mbit/s, round trip in ms, share lost.
type Link = (u64, u64, f64);

fn world(links: &[Link], up: bool) -> (World, HostId, HostId) {
    let mut world = World::new(1);
    let names = ["wifi", "cell", "eth0"];
    let access: Vec<_> = links
        .iter()
        .zip(names)
        .map(|((mbit, rtt, loss), name)| {
            Access::new(name, ms(rtt / 2)).rate(mbit * 1_000_000, ms(100)).loss(*loss)
        })
        .collect();
    let laptop = world.host(&access);
    let server = world.host(&[Access::new("eth0", ms(0))]);
    world.introduce(laptop, server);
    world.set_policy(laptop, server, BONDED);
    world.set_policy(server, laptop, BONDED);
    world.run(ms(1_000));
    if up { (world, laptop, server) } else { (world, server, laptop) }
}

fn main() {
    let cases: [(&str, &[Link]); 7] = [
        ("50 at 20 ms + 30 at 60 ms", &[(50, 20, 0.0), (30, 60, 0.0)]),
        ("100 at 10 ms + 10 at 50 ms", &[(100, 10, 0.0), (10, 50, 0.0)]),
        ("30 + 30 at 30 ms", &[(30, 30, 0.0), (30, 30, 0.0)]),
        ("5 at 80 ms + 2 at 40 ms", &[(5, 80, 0.0), (2, 40, 0.0)]),
        ("50 at 20 ms, 1 % loss + 30 at 60 ms", &[(50, 20, 0.01), (30, 60, 0.0)]),
        ("three of 20 at 20, 40, 60 ms", &[(20, 20, 0.0), (20, 40, 0.0), (20, 60, 0.0)]),
        ("one of 50 at 20 ms", &[(50, 20, 0.0)]),
    ];
    for (what, links) in cases {
        for up in [true, false] {
            let (mut world, a, b) = world(links, up);
            let sum: u64 = links.iter().map(|(mbit, ..)| mbit).sum();
            let mut figures = String::new();
            for seconds in [2, 5, 10] {
                world.bulk(a, b);
                world.run(ms(seconds * 1_000));
                let report = world.bulk_report(a, b);
                let rate = report.bytes as f64 * 8.0 / 1e6 / seconds as f64;
                figures += &format!(
                    " | {:5.1} % of the sum in {seconds} s, {} sent again, longest gap {} ms",
                    100.0 * rate / sum as f64,
                    report.retransmitted,
                    report.longest_gap.as_millis()
                );
            }
            println!("{what:<36} {:<4}{figures}", if up { "up" } else { "down" });
        }
    }
}
