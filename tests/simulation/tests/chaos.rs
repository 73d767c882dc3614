//! Thousands of random networks, each from a seed: interfaces come and go, fall silent, lose, delay, move and are
//! rebound; hosts restart; an adversary replays, bends and reflects. Whatever happens, the reference model's rules
//! hold:
//!
//! - once some path has worked for a while, data flows again, and both ends say so;
//! - nothing is delivered twice or changed (checked at each delivery);
//! - no datagram that is not authentic and new is delivered or changes anything (checked at each attack);
//! - paths and held bytes stay bounded (checked at each step);
//! - data does not flap: it moves at most a few times for each thing that happened.
//!
//! `MAST_SEEDS` sets how many seeds are run, `MAST_SEED` runs a single one.

use mast_proto::PeerState;
use mast_simulation::{Access, HostId, Rng, World, ms};

struct Story {
    world: World,
    hosts: [HostId; 2],
    names: [Vec<&'static str>; 2],
    rng: Rng,
    happened: usize,
    log: Vec<String>,
}

fn access(rng: &mut Rng, name: &str, nat: bool) -> Access {
    let mut access = Access::new(name, ms(1 + rng.below(60)));
    if rng.chance(0.3) {
        access = access.loss(rng.below(50) as f64 / 1000.0);
    }
    if rng.chance(0.5) {
        access = access.jitter(ms(rng.below(20)));
    }
    access.duplication = if rng.chance(0.3) { 0.05 } else { 0.0 };
    if name == "cell" && rng.chance(0.5) {
        access = access.metered();
    }
    if nat { access.nat() } else { access }
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0xC4A0_5000);
        let mut world = World::new(seed);
        world.hostility = 0.02;
        let all = ["wifi", "cell", "eth0"];
        // The second host is a server without NAT half of the time, else another mobile host.
        let counts = [1 + rng.below(3) as usize, if rng.chance(0.5) { 1 } else { 1 + rng.below(3) as usize }];
        let names = counts.map(|n| all[..n].to_vec());
        let nats = rng.chance(0.4);
        let first: Vec<_> = names[0].iter().map(|n| access(&mut rng, n, nats)).collect();
        let second: Vec<_> = names[1].iter().map(|n| access(&mut rng, n, false)).collect();
        let hosts = [world.host(&first), world.host(&second)];
        world.introduce(hosts[0], hosts[1]);
        Self { world, hosts, names, rng, happened: 0, log: Vec::new() }
    }

    fn note(&mut self, what: String) {
        self.happened += 1;
        self.log.push(format!("{:?} {what}", self.world.elapsed()));
    }

    /// One random thing happens.
    fn happen(&mut self) {
        let side = self.rng.below(2) as usize;
        let host = self.hosts[side];
        let other = self.hosts[1 - side];
        let at = self.rng.below(self.names[side].len() as u64) as usize;
        let name = self.names[side][at];
        // Only the first host may move while nobody else can tell where it is: two that move at the same time
        // need a rendezvous.
        let may_move = side == 0;
        match self.rng.below(12) {
            0 | 1 if may_move => {
                self.world.set_up(host, name, false);
                self.note(format!("{side} {name} down"));
            }
            2 | 3 => {
                self.world.set_up(host, name, true);
                self.note(format!("{side} {name} up"));
            }
            4 if may_move => {
                self.world.renumber(host, name);
                self.note(format!("{side} {name} renumbered"));
            }
            5 => {
                let on = self.rng.chance(0.5);
                self.world.blackhole(host, name, on);
                self.note(format!("{side} {name} silent {on}"));
            }
            6 => {
                let out = self.rng.chance(0.5);
                let access = self.world.access(host, name);
                if out {
                    access.deaf_out = true
                } else {
                    access.deaf_in = true
                }
                self.note(format!("{side} {name} deaf, outward {out}"));
            }
            7 if may_move => {
                self.world.rebind(host, name);
                self.note(format!("{side} {name} rebound"));
            }
            8 => {
                let delay = ms(1 + self.rng.below(150));
                let loss = self.rng.below(80) as f64 / 1000.0;
                let access = self.world.access(host, name);
                access.delay = delay;
                access.loss = loss;
                self.note(format!("{side} {name} delay {delay:?} loss {loss}"));
            }
            9 => {
                let order: Vec<&str> = if self.rng.chance(0.5) { vec![name] } else { vec![] };
                self.world.pin(host, other, &order, false);
                self.note(format!("{side} pin {order:?}"));
            }
            10 if self.rng.chance(0.3) => {
                self.world.restart(host);
                self.note(format!("{side} restart"));
            }
            _ => {}
        }
    }

    /// Everything is repaired; soon data must flow again.
    fn heal(&mut self) {
        for side in 0..2 {
            for name in self.names[side].clone() {
                let access = self.world.access(self.hosts[side], name);
                access.deaf_in = false;
                access.deaf_out = false;
                access.loss = access.loss.min(0.02);
                if self.rng.chance(0.7) || name == self.names[side][0] {
                    self.world.set_up(self.hosts[side], name, true);
                }
            }
        }
        self.note("healed".into());
    }
}

fn story(seed: u64) -> usize {
    let mut s = Story::new(seed);
    let [a, b] = s.hosts;
    s.world.echo(a, b, ms(40));
    s.world.run(ms(3_000));
    for _chapter in 0..3 {
        for _ in 0..1 + s.rng.below(6) {
            s.happen();
            let pause = if s.rng.chance(0.3) { s.rng.below(300) } else { s.rng.below(8_000) };
            s.world.run(ms(pause));
        }
        s.heal();
        s.world.run(ms(20_000));
        s.world.echo(a, b, ms(40));
        s.world.run(ms(4_000));
        let report = s.world.echo_report(a, b);
        let paths = |x, y| s.world.context(x, y).paths().collect::<Vec<_>>();
        assert!(
            report.received * 10 >= report.sent * 7 && report.longest_gap < ms(1_500),
            "seed {seed}: {report:?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}",
            s.log,
            s.world.switches(a, b),
            paths(a, b),
            paths(b, a),
        );
        for (x, y) in [(a, b), (b, a)] {
            assert_eq!(s.world.state(x, y), PeerState::Connected, "seed {seed}: {:#?}", s.log);
        }
    }
    for (x, y) in [(a, b), (b, a)] {
        let moves = s.world.switches(x, y).len();
        assert!(
            moves <= 8 + 5 * s.happened,
            "seed {seed}: {moves} moves for {:#?}\n{:#?}",
            s.log,
            s.world.switches(x, y).iter().rev().take(30).collect::<Vec<_>>()
        );
    }
    s.world.refused as usize
}

#[test]
fn whatever_happens() {
    if let Some(seed) = std::env::var("MAST_SEED").ok().and_then(|s| s.parse().ok()) {
        story(seed);
        return;
    }
    let seeds: u64 = std::env::var("MAST_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(2_000);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let refused: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|t| scope.spawn(move || (t..seeds).step_by(threads as usize).map(story).sum::<usize>()))
            .collect();
        workers.into_iter().map(|w| w.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).sum()
    });
    println!("{seeds} stories, {refused} attacks refused");
    assert!(refused as u64 > seeds, "the adversary must have had its chance");
}
