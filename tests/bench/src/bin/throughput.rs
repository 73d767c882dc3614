//! How fast MAST is beside other tunnels, in the same run, one after the other.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mast_bench::throughput::{Bed, Figure, Load, Tunnel, is_there, obstacle};
use mast_bench::{BenchError, Result};
use serde_json::{Value, json};

/// Measures throughput, processor time and memory of tunnels between two hosts that a veth pair joins. A newer
/// wireguard-go is measured as well where the environment variable WIREGUARD_GO names one.
#[derive(Parser)]
struct Arguments {
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: u32,
    /// How long each time
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Write everything to a file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ready = obstacle().map_or(Ok(()), |why| Err(BenchError::Missing(why)));
    // Before any thread: the whole process moves into a network of its own.
    match ready.and_then(|()| Ok(mast_netlab::enter()?)).and_then(|()| measure(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throughput: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let newer = std::env::var("WIREGUARD_GO").ok();
    let tunnels: Vec<Tunnel> = [Tunnel::None, Tunnel::Mast, Tunnel::WireGuard("wireguard-go".into())]
        .into_iter()
        .chain(newer.map(Tunnel::WireGuard))
        .filter(|tunnel| {
            let there = is_there(tunnel);
            if !there {
                eprintln!("throughput: {} is missing and left out", tunnel.name());
            }
            there
        })
        .collect();
    let loads = [(1, false), (1, true), (4, false), (4, true)];
    let mut all = Vec::new();
    for (streams, reverse) in loads {
        let load = Load { streams, reverse, time: Duration::from_secs(arguments.seconds) };
        let mut figures: Vec<Vec<Figure>> = vec![Vec::new(); tunnels.len()];
        // One after the other, again and again, so that whatever else the machine does meets all alike.
        for _ in 0..arguments.runs {
            for (tunnel, figures) in tunnels.iter().zip(&mut figures) {
                figures.push(Bed::new(tunnel)?.measure(load)?);
            }
        }
        all.push(table(load, &tunnels, &figures));
    }
    if let Some(path) = &arguments.json {
        let text = format!("{:#}\n", Value::Array(all));
        std::fs::write(path, text)
            .map_err(|source| BenchError::Io { what: format!("write {}", path.display()), source })?;
    }
    Ok(())
}

fn table(load: Load, tunnels: &[Tunnel], figures: &[Vec<Figure>]) -> Value {
    let direction = if load.reverse { "server to laptop" } else { "laptop to server" };
    println!("\nTCP, {} stream(s), {direction}; medians:\n", load.streams);
    println!("| tunnel | Gbit/s | times wireguard-go | CPU s/GB | memory |\n|---|---|---|---|---|");
    let rate = |figures: &[Figure]| median(figures.iter().map(|f| f.gbit));
    let peer = tunnels.iter().zip(figures).find(|(t, _)| matches!(t, Tunnel::WireGuard(_)));
    let peer = peer.and_then(|(_, figures)| rate(figures));
    let mut rows = Vec::new();
    for (tunnel, figures) in tunnels.iter().zip(figures) {
        let gbit = rate(figures);
        let ratio = gbit.zip(peer).map(|(own, peer)| own / peer);
        let processor = median(figures.iter().filter_map(|f| f.processor));
        let memory = median(figures.iter().filter_map(|f| f.memory)).map(|bytes| bytes / 1e6);
        println!(
            "| {} | {} | {} | {} | {} |",
            tunnel.name(),
            shown(gbit, 2, ""),
            shown(ratio, 1, ""),
            shown(processor, 1, ""),
            shown(memory, 0, " MB")
        );
        rows.push(
            json!({ "tunnel": tunnel.name(), "runs": figures.iter().map(Figure::json).collect::<Vec<_>>() }),
        );
    }
    json!({ "streams": load.streams, "reverse": load.reverse, "tunnels": rows })
}

fn shown(value: Option<f64>, digits: usize, unit: &str) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}{unit}"))
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
