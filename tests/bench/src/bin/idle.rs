//! What the service costs when nothing happens: one peer, two uplinks, no traffic.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use mast_bench::mast::{Options, Stage};
use mast_bench::{BenchError, Setting};
use mast_control::PolicyMode;
use mast_netlab::Link;
use mast_stage::{Addressing, Daemon, Program, StageError};
use serde_json::json;

/// Measures memory, processor time and packets of an idle service with one peer and two uplinks.
#[derive(Parser)]
struct Arguments {
    /// How long it is watched
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,
    /// How long it is left alone before that: a context counts as busy for a while after it was in use
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    rest: u64,
    /// Versions of IP: v4, v6, both
    #[arg(long, value_name = "VERSIONS", default_value_t)]
    addressing: Addressing,
    /// Write everything to a file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What a process has used so far.
struct Usage {
    rss: u64,
    processor: Duration,
    wakeups: u64,
}

impl Usage {
    fn of(daemon: &Daemon) -> Result<Self, BenchError> {
        let gone = || StageError::Late(format!("mastd on {} is gone", daemon.host().name()));
        let process = PathBuf::from(format!("/proc/{}", daemon.id().ok_or_else(gone)?));
        let mut usage =
            Self { rss: field(&process.join("status"), "VmRSS:")?, processor: Duration::ZERO, wakeups: 0 };
        let tasks = process.join("task");
        let entries = std::fs::read_dir(&tasks).map_err(reading(&tasks))?;
        for task in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            let path = task.join("schedstat");
            let text = std::fs::read_to_string(&path).map_err(reading(&path))?;
            let nanoseconds = text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
            usage.processor += Duration::from_nanos(nanoseconds);
            usage.wakeups += field(&task.join("status"), "voluntary_ctxt_switches:")?;
        }
        Ok(usage)
    }
}

fn reading(path: &Path) -> impl FnOnce(std::io::Error) -> BenchError {
    let what = format!("read {}", path.display());
    move |source| BenchError::Io { what, source }
}

/// The number after a name in one of the kernel's files.
fn field(path: &Path, name: &str) -> Result<u64, BenchError> {
    let text = std::fs::read_to_string(path).map_err(reading(path))?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0))
}

/// Packets in both directions, and bytes on the wire.
fn carried(link: &Link) -> (u64, u64) {
    let stats = link.stats();
    (stats.a_to_b.packets + stats.b_to_a.packets, stats.a_to_b.bytes + stats.b_to_a.bytes)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Before any thread: the whole process moves into a network of its own.
    if let Err(error) = mast_netlab::enter() {
        eprintln!("idle: {error}");
        return ExitCode::FAILURE;
    }
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("idle: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), BenchError> {
    let setting = Setting { addressing: arguments.addressing, ..Setting::default() };
    let program = Program::built()?;
    let stage =
        Stage::new(&Options { program, metered: false, mode: PolicyMode::Auto, setting, plain: false })?;
    thread::sleep(Duration::from_secs(arguments.rest));
    let daemons: Vec<_> = ["laptop", "server"].into_iter().zip(stage.daemons()).collect();
    let links = [("wifi", &stage.train.wifi.link), ("cell", &stage.train.cell.link)];
    let before = daemons.iter().map(|(_, daemon)| Usage::of(daemon)).collect::<Result<Vec<_>, _>>()?;
    let packets = links.map(|(_, link)| carried(link));
    let start = Instant::now();
    thread::sleep(Duration::from_secs(arguments.seconds));
    let elapsed = start.elapsed().as_secs_f64();
    println!("An idle service with one peer and two uplinks, watched for {elapsed:.0} s:\n");
    println!("| mastd on | memory (RSS) | processor | wakeups |\n|---|---|---|---|");
    let mut of_daemons = Vec::new();
    for ((name, daemon), before) in daemons.into_iter().zip(before) {
        let after = Usage::of(daemon)?;
        let percent = (after.processor - before.processor).as_secs_f64() / elapsed * 100.0;
        let wakeups = (after.wakeups - before.wakeups) as f64 / elapsed;
        println!(
            "| {name} | {:.1} MiB | {percent:.3} % of one core | {wakeups:.2} a second |",
            after.rss as f64 / 1024.0
        );
        of_daemons.push(json!({
            "on": name,
            "rss_kib": after.rss,
            "processor_percent": percent,
            "wakeups_per_second": wakeups,
        }));
    }
    println!("\n| link | packets in 25 s, both ways | bytes in 25 s |\n|---|---|---|");
    let mut of_links = Vec::new();
    for ((name, link), before) in links.into_iter().zip(packets) {
        let after = carried(link);
        let scaled = |count: u64| count as f64 / elapsed * 25.0;
        let (packets, bytes) = (scaled(after.0 - before.0), scaled(after.1 - before.1));
        println!("| {name} | {packets:.1} | {bytes:.0} |");
        of_links.push(json!({ "link": name, "packets_per_25_s": packets, "bytes_per_25_s": bytes }));
    }
    println!("\nPackets include the kernels' own address resolution.");
    if let Some(path) = &arguments.json {
        let all = json!({ "seconds": elapsed, "addressing": arguments.addressing.to_string(), "daemons": of_daemons, "links": of_links });
        std::fs::write(path, format!("{all:#}\n"))
            .map_err(|source| BenchError::Io { what: format!("write {}", path.display()), source })?;
    }
    Ok(())
}
