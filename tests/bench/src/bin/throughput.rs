//! How fast MAST is beside other tunnels, in the same run, one after the other.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use mast_bench::chart::Bars;
use mast_bench::report::{Goal, markdown, median, shown, verdicts, write, write_json};
use mast_bench::throughput::{Figure, Load, Metric, measure, obstacle};
use mast_bench::tunnel::{REFERENCE, Tunnel};
use mast_bench::{BenchError, Result, io};
use serde_json::{Value, json};

/// Measures throughput, packets a second, round trips, processor time and memory of tunnels between two hosts that a
/// veth pair joins.
///
/// Beside MAST: wireguard-go, and where they are installed boringtun-cli and gotatun. The environment variables
/// BORINGTUN and GOTATUN name other programs in their place, and WIREGUARD_GO one more wireguard-go.
///
/// The "bare loop" is no usable tunnel but a measuring device: the least that any tunnel of this kind does, with a key
/// that everybody knows, without a handshake, without protection from replays, without paths. It says how near MAST is
/// to what the machine can do.
#[derive(Parser)]
struct Arguments {
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Streams of TCP at once
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 4],
          value_parser = clap::value_parser!(u32).range(1..=128))]
    streams: Vec<u32>,
    /// How long each time
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Whether the veth pair does segmentation, coalescing and checksums, as network cards do
    #[arg(long, value_enum, default_value_t = Offloads::Off)]
    offloads: Offloads,
    /// Only these: tcp, packets, idle
    #[arg(long, value_enum, value_name = "NAME")]
    load: Vec<Kind>,
    /// Thousands of small packets a second that are offered
    #[arg(long, value_name = "KPPS", value_delimiter = ',', default_values_t = [50, 100, 200],
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    kpps: Vec<u32>,
    /// Only tunnels whose name in the table contains this; the veth pair, the bare loop and wireguard-go are always
    /// measured
    #[arg(long, value_name = "WORD")]
    tunnel: Vec<String>,
    /// Only tunnels of exactly these names, and nothing beside them
    #[arg(long, value_name = "NAME", conflicts_with = "tunnel")]
    only: Vec<String>,
    /// Write everything to a file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw pictures into a directory
    #[arg(long, value_name = "DIRECTORY")]
    svg: Option<PathBuf>,
    /// Only be one end of the bare loop: its own address and port, and the peer's
    #[arg(long, hide = true, num_args = 2, value_name = "ADDRESS")]
    bare: Option<Vec<String>>,
    /// Both directions of the bare loop by turns
    #[arg(long, hide = true, requires = "bare")]
    one_thread: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Offloads {
    On,
    Off,
    Both,
}

impl Offloads {
    fn states(self) -> &'static [bool] {
        match self {
            Self::On => &[true],
            Self::Off => &[false],
            Self::Both => &[false, true],
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Tcp,
    Packets,
    Idle,
}

/// What came of a load with every tunnel.
struct Outcome {
    offloads: bool,
    load: Load,
    figures: Vec<Vec<Figure>>,
}

impl Outcome {
    /// The median of a tunnel's runs.
    fn value(&self, at: usize, metric: Metric) -> Option<f64> {
        median(self.figures.get(at)?.iter().filter_map(|f| f.get(metric)))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some([own, peer]) = arguments.bare.as_deref() {
        return match mast_bench::bare::run(own, peer, arguments.one_thread) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("throughput: the bare loop: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let ready = obstacle().map_or(Ok(()), |why| Err(BenchError::Missing(why)));
    // Before any thread: the whole process moves into a network of its own.
    match ready.and_then(|()| Ok(mast_netlab::enter()?)).and_then(|()| run(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("throughput: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    fn loads(&self) -> Vec<Load> {
        let wants = |kind| self.load.is_empty() || self.load.contains(&kind);
        let ways = |streams: &u32| [false, true].map(|down| Load::Tcp { streams: *streams, down });
        let tcp = self.streams.iter().flat_map(ways);
        let packets = self.kpps.iter().map(|kpps| Load::Packets { kpps: *kpps });
        let mut loads = Vec::new();
        loads.extend(tcp.filter(|_| wants(Kind::Tcp)));
        loads.extend(packets.filter(|_| wants(Kind::Packets)));
        loads.extend(wants(Kind::Idle).then_some(Load::Idle));
        loads
    }

    fn tunnels(&self) -> Vec<Tunnel> {
        let (mut tunnels, missing) = Tunnel::available();
        for words in missing {
            eprintln!("throughput: left out, {words}");
        }
        let wants =
            |t: &Tunnel| self.tunnel.is_empty() || self.tunnel.iter().any(|word| t.name().contains(word));
        if self.only.is_empty() {
            tunnels.retain(|t| wants(t) || matches!(t, Tunnel::None | Tunnel::Bare) || is_reference(t));
        } else {
            tunnels.retain(|t| self.only.contains(&t.name()));
        }
        tunnels
    }
}

fn is_reference(tunnel: &Tunnel) -> bool {
    *tunnel == Tunnel::WireGuard(REFERENCE.into())
}

fn run(arguments: &Arguments) -> Result<bool> {
    if let Some(directory) = &arguments.svg {
        std::fs::create_dir_all(directory).map_err(io(format!("make {}", directory.display())))?;
    }
    let tunnels = arguments.tunnels();
    let time = Duration::from_secs(arguments.seconds);
    let (mut outcomes, mut failed) = (Vec::new(), Vec::new());
    for offloads in arguments.offloads.states() {
        for load in arguments.loads() {
            let mut figures: Vec<Vec<Figure>> = vec![Vec::new(); tunnels.len()];
            // One after the other, again and again, so that whatever else the machine does meets all alike.
            for _ in 0..arguments.runs {
                for (tunnel, figures) in tunnels.iter().zip(&mut figures) {
                    match measure(tunnel, *offloads, load, time) {
                        Ok(figure) => figures.push(figure),
                        Err(error) => {
                            let text = error.to_string();
                            let words = text.lines().next().unwrap_or_default();
                            failed.push(format!("{}, {}: {words}", tunnel.name(), load.words()));
                            eprintln!("throughput: {}: {error}", tunnel.name());
                        }
                    }
                }
            }
            let outcome = Outcome { offloads: *offloads, load, figures };
            print(&tunnels, &outcome);
            outcomes.push(outcome);
        }
    }
    let goals = goals(&tunnels, &outcomes);
    println!("\nTargets:\n\n{}", verdicts(&goals));
    for words in &failed {
        println!("- FAILED: {words}");
    }
    if let Some(path) = &arguments.json {
        write_json(path, &json(arguments, &tunnels, &outcomes, &goals, &failed))?;
    }
    if let Some(directory) = &arguments.svg {
        draw(directory, &tunnels, &outcomes)?;
    }
    Ok(failed.is_empty() && goals.iter().all(|goal| goal.met() != Some(false)))
}

/// A tunnel's chief figure over that of the reference in the same runs.
fn ratio(tunnels: &[Tunnel], outcome: &Outcome, at: usize) -> Option<f64> {
    let (metric, _) = outcome.load.chief();
    let reference = tunnels.iter().position(is_reference)?;
    Some(outcome.value(at, metric)? / outcome.value(reference, metric)?)
}

fn print(tunnels: &[Tunnel], outcome: &Outcome) {
    let offloads = if outcome.offloads { "on" } else { "off" };
    println!("\n{}; offloads {offloads}; medians:\n", outcome.load.words());
    let metrics = outcome.load.metrics();
    let mut head = vec!["tunnel".to_owned()];
    head.extend(metrics.iter().map(|m| m.words().to_owned()));
    head.push(format!("times {REFERENCE}"));
    let mut lines = vec![head];
    for (at, tunnel) in tunnels.iter().enumerate() {
        let mut line = vec![tunnel.name()];
        line.extend(metrics.iter().map(|m| shown(outcome.value(at, *m), m.digits())));
        line.push(shown(ratio(tunnels, outcome, at), 2));
        lines.push(line);
    }
    print!("{}", markdown(&lines));
}

/// Of one stream of TCP where the veth pair has offloads: how many times its peer MAST shall be.
const STREAM: f64 = 12.0;
/// Of what a bare loop of the same system calls and the same cipher reached, which was 10.1 : 0.70 times its peer.
const OF_BARE: f64 = 0.9 * 10.1 / 0.70;
/// Of what the bare loop of this very run reaches.
const BARE: f64 = 0.95;
/// Times the bare loop's processor time for a gigabyte.
const BARE_COST: f64 = 1.15;
/// A plain WireGuard peer shall be so many times the peer.
const PLAIN: f64 = 5.0;
/// Processor seconds for a gigabyte, both ends.
const COST: f64 = 1.5;

/// MAST is at least as quick as its peer, and costs no more; one stream is far quicker.
fn goals(tunnels: &[Tunnel], outcomes: &[Outcome]) -> Vec<Goal> {
    let Some(own) = tunnels.iter().position(|t| *t == Tunnel::Mast) else { return Vec::new() };
    let Some(peer) = tunnels.iter().position(is_reference) else { return Vec::new() };
    let mut goals = Vec::new();
    for outcome in outcomes {
        let what = |figure: &str| {
            let offloads = if outcome.offloads { "on" } else { "off" };
            format!("{}, offloads {offloads}: {figure}, times {REFERENCE}", outcome.load.words())
        };
        let times = |at| ratio(tunnels, outcome, at);
        if let (Load::Tcp { streams: 1, .. }, true) = (outcome.load, outcome.offloads) {
            let figure = what(Metric::Rate.words());
            goals.push(Goal::least(figure.clone(), STREAM, times(own)));
            goals.push(Goal::least(format!("{figure}, nine tenths of a bare loop's"), OF_BARE, times(own)));
            if let Some(plain) = tunnels.iter().position(|t| *t == Tunnel::MastPlain) {
                goals.push(Goal::least(format!("{figure}, plain WireGuard"), PLAIN, times(plain)));
            }
            let cost = outcome.value(own, Metric::PerGigabyte);
            goals.push(Goal::most(format!("{}, offloads on: CPU s/GB", outcome.load.words()), COST, cost));
        }
        if let (Load::Tcp { .. }, true) = (outcome.load, outcome.offloads)
            && let Some(bare) = tunnels.iter().position(|t| *t == Tunnel::Bare)
        {
            let share = |metric| Some(outcome.value(own, metric)? / outcome.value(bare, metric)?);
            let words = |metric: Metric| {
                format!("{}, offloads on: {}, times the bare loop", outcome.load.words(), metric.words())
            };
            goals.push(Goal::least(words(Metric::Rate), BARE, share(Metric::Rate)));
            goals.push(Goal::most(words(Metric::PerGigabyte), BARE_COST, share(Metric::PerGigabyte)));
        }
        if outcome.load == Load::Idle {
            let peers = tunnels.iter().enumerate().filter(|(_, t)| matches!(t, Tunnel::WireGuard(_)));
            let best = peers.filter_map(|(at, _)| outcome.value(at, Metric::RoundTrip)).reduce(f64::min);
            let times = outcome.value(own, Metric::RoundTrip).zip(best).map(|(own, best)| own / best);
            let offloads = if outcome.offloads { "on" } else { "off" };
            let words =
                format!("{}, offloads {offloads}: round trip, times the best peer", outcome.load.words());
            goals.push(Goal::most(words, 1.0, times));
        }
        let ratio = times(own);
        let (metric, more) = outcome.load.chief();
        goals.push(if more {
            Goal::least(what(metric.words()), 1.0, ratio)
        } else {
            Goal::most(what(metric.words()), 1.0, ratio)
        });
        let cost =
            outcome.load.metrics().iter().find(|m| matches!(m, Metric::PerGigabyte | Metric::PerPacket));
        if let Some(cost) = cost {
            let of = |at| outcome.value(at, *cost);
            let ratio = of(own).zip(of(peer)).map(|(own, peer)| own / peer);
            goals.push(Goal::most(what(cost.words()), 1.0, ratio));
        }
    }
    goals
}

fn json(
    arguments: &Arguments,
    tunnels: &[Tunnel],
    outcomes: &[Outcome],
    goals: &[Goal],
    failed: &[String],
) -> Value {
    let results: Vec<Value> = outcomes
        .iter()
        .map(|outcome| {
            let rows = tunnels.iter().enumerate().map(|(at, tunnel)| {
                let runs = outcome.figures.get(at).map(Vec::as_slice).unwrap_or_default();
                let medians = outcome.load.metrics().iter().filter_map(|metric| {
                    Some((metric.key().to_owned(), Value::from(outcome.value(at, *metric)?)))
                });
                json!({
                    "tunnel": tunnel.name(),
                    "median": medians.collect::<serde_json::Map<_, _>>(),
                    "times_reference": ratio(tunnels, outcome, at),
                    "runs": runs.iter().map(Figure::json).collect::<Vec<_>>(),
                })
            });
            json!({
                "load": outcome.load.words(),
                "offloads": outcome.offloads,
                "tunnels": rows.collect::<Vec<_>>(),
            })
        })
        .collect();
    let versions = tunnels.iter().filter_map(|t| Some((t.name(), Value::from(t.version()?))));
    json!({
        "runs": arguments.runs,
        "seconds": arguments.seconds,
        "reference": REFERENCE,
        "versions": versions.collect::<serde_json::Map<_, _>>(),
        "results": results,
        "targets": goals.iter().map(Goal::json).collect::<Vec<_>>(),
        "failed": failed,
    })
}

/// One picture for each kind of load and figure, for each state of the offloads.
fn draw(directory: &Path, tunnels: &[Tunnel], outcomes: &[Outcome]) -> Result<()> {
    type Which = fn(&Load) -> bool;
    let tcp: Which = |load| matches!(load, Load::Tcp { .. });
    let packets: Which = |load| matches!(load, Load::Packets { .. });
    let idle: Which = |load| *load == Load::Idle;
    let pictures = [
        ("tcp", "TCP through the tunnel", tcp, Metric::Rate),
        ("processor", "Processor time of both ends for a gigabyte", tcp, Metric::PerGigabyte),
        ("packets", "Packets of 64 bytes that arrive", packets, Metric::Packets),
        ("round-trip", "Round trip of an idle tunnel, median", idle, Metric::RoundTrip),
    ];
    for offloads in [false, true] {
        for (name, title, which, metric) in &pictures {
            let chosen: Vec<&Outcome> =
                outcomes.iter().filter(|o| o.offloads == offloads && which(&o.load)).collect();
            if chosen.is_empty() {
                continue;
            }
            let state = if offloads { "on" } else { "off" };
            let series = tunnels
                .iter()
                .enumerate()
                .map(|(at, tunnel)| (tunnel.name(), chosen.iter().map(|o| o.value(at, *metric)).collect()));
            let bars = Bars {
                title: format!("{title}, offloads {state}"),
                unit: metric.words().to_owned(),
                groups: chosen.iter().map(|o| o.load.label()).collect(),
                series: series.collect(),
            };
            write(&directory.join(format!("throughput-{name}-{state}.svg")), &bars.svg())?;
        }
    }
    Ok(())
}
