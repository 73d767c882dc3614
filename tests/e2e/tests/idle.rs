//! What it costs to stay connected without traffic.

use std::time::{Duration, Instant};

use mast_e2e::{Scene, cpu_time, lab, resident_bytes, sleep};

const TIME: Duration = Duration::from_secs(80);

#[test]
fn an_idle_connection_costs_next_to_nothing() {
    lab(|| {
        let scene = Scene::new();
        // The talk of the beginning is over.
        sleep(13_000);
        let ids = [scene.laptop.id().unwrap(), scene.server.id().unwrap()];
        let packets = || {
            [&scene.train.wifi.link, &scene.train.cell.link]
                .map(|l| [l.stats().a_to_b, l.stats().b_to_a].map(|d| d.packets))
        };
        let (packets_before, cpu_before, start) = (packets(), ids.map(cpu_time), Instant::now());
        std::thread::sleep(TIME);
        let time = start.elapsed();
        let packets_after = packets();
        for ((name, before), after) in ["wifi", "cell"].into_iter().zip(packets_before).zip(packets_after) {
            let [out, back] = [after[0] - before[0], after[1] - before[1]];
            println!("idle: {name} carried {out} packets out and {back} back in {time:?}");
            // A keepalive is one datagram each way for each version of IP; each may come with address resolution,
            // which is one more or two.
            let keepalives = TIME.as_secs().div_ceil(25) * scene.train.addressing.versions() as u64;
            assert!(out <= keepalives * 3 && back <= keepalives * 3, "{name}: {out} out, {back} back");
        }
        for (name, (id, before)) in ["laptop", "server"].into_iter().zip(ids.into_iter().zip(cpu_before)) {
            let used = cpu_time(id) - before;
            let memory = resident_bytes(id);
            println!("idle: mastd on the {name}: {used:?} of CPU in {time:?}, {:.1} MB", memory as f64 / 1e6);
            assert!(used < time / 100, "{name}: {used:?} of CPU");
            assert!(memory < 20_000_000, "{name}: {memory} bytes");
        }
        // And still it is connected, and knows it.
        for daemon in [&scene.laptop, &scene.server] {
            let peer = daemon.peer().unwrap();
            assert_eq!(peer.state.as_str(), "connected");
            assert!(peer.last_heard_ms.is_some_and(|ms| ms < 35_000), "{:?}", peer.last_heard_ms);
        }
    });
}
