//! What it costs a gateway when all of its peers lose an uplink at once.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Parser;
use mast_bench::crowd::{self, Crowd};
use mast_bench::report::{Goal, markdown, median, verdicts, write_json};
use mast_bench::{Result, io, ms, usage};
use mast_control::{PathState, PeerStatus};
use mast_netlab::Lab;
use mast_stage::{Daemon, Program, StageError};
use serde_json::json;

const PORT: u16 = 6278;
/// Longer than first contact of all peers, and then the second path of each, may take.
const LIMIT: Duration = Duration::from_secs(120);
/// Nothing happens for so long before the uplink is lost: what the gateway does anyway is taken off.
const QUIET: Duration = Duration::from_secs(5);
/// The switch is over when the gateway has used less than a tenth of a processor for so long.
const STILL: Duration = Duration::from_millis(500);
/// A peer of the larger crowd may cost so many times one of the smallest.
const LINEAR: f64 = 1.3;

/// Measures the processor time of a gateway when its better uplink goes down under all of its peers.
#[derive(Parser)]
struct Arguments {
    /// How many peers, one measurement each
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1_000, 2_000])]
    peers: Vec<usize>,
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: u32,
    /// Write everything to a file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What one run measured.
struct Figure {
    /// Processor time of the gateway, less what it uses anyway.
    processor: Duration,
    /// From the loss of the uplink until the gateway was still.
    time: Duration,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Before any thread: the whole process moves into a network of its own.
    if let Err(error) = mast_netlab::enter() {
        eprintln!("switch: {error}");
        return ExitCode::FAILURE;
    }
    match measure_all(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("switch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all(arguments: &Arguments) -> Result<bool> {
    let head = ["peers", "runs", "processor, ms", "for each peer, µs", "still after, ms"];
    let mut table = vec![head.map(String::from).to_vec()];
    let (mut all, mut goals, mut first) = (Vec::new(), Vec::new(), None);
    for &peers in &arguments.peers {
        let mut figures = Vec::new();
        for run in 1..=arguments.runs {
            let figure = measure(peers)?;
            eprintln!("{peers} peers, {run}/{}: {:.1} ms", arguments.runs, ms(figure.processor));
            figures.push(figure);
        }
        let processor = median(figures.iter().map(|f| ms(f.processor))).unwrap_or(f64::NAN);
        let time = median(figures.iter().map(|f| ms(f.time))).unwrap_or(f64::NAN);
        let each = processor * 1e3 / peers as f64;
        table.push(vec![
            peers.to_string(),
            figures.len().to_string(),
            format!("{processor:.1}"),
            format!("{each:.1}"),
            format!("{time:.0}"),
        ]);
        all.push(json!({
            "peers": peers,
            "processor_ms": figures.iter().map(|f| ms(f.processor)).collect::<Vec<_>>(),
            "still_after_ms": figures.iter().map(|f| ms(f.time)).collect::<Vec<_>>(),
            "median_processor_us_per_peer": each,
        }));
        match first {
            None => first = Some((peers, each)),
            Some((least, base)) => {
                let what = format!("a peer of {peers}, times one of {least}");
                goals.push(Goal::most(what, LINEAR, Some(each / base)));
            }
        }
    }
    println!("{}\nTargets:\n\n{}", markdown(&table), verdicts(&goals));
    if let Some(path) = &arguments.json {
        let targets = goals.iter().map(Goal::json).collect::<Vec<_>>();
        write_json(path, &json!({ "runs": all, "targets": targets }))?;
    }
    Ok(goals.iter().all(|goal| goal.met() != Some(false)))
}

fn measure(peers: usize) -> Result<Figure> {
    let lab = Lab::new()?;
    let (host, others) = (lab.host("gateway")?, lab.host("crowd")?);
    for (interface, net) in [("eth0", 9), ("eth1", 10)] {
        lab.wire(&host, interface, &others, interface)?;
        host.add_address(interface, &format!("10.{net}.0.2/16"))?;
        others.add_address(interface, &format!("10.{net}.0.1/16"))?;
        host.add_route("default", Some(&format!("10.{net}.0.1")), interface, u32::from(net as u8))?;
    }
    for at in 0..peers.min(crowd::ADDRESSES) {
        others.add_address("eth0", &format!("{}/16", crowd::address(at)))?;
    }

    let mut gateway = Daemon::start(&Program::built()?, &host, "")?;
    let key = BASE64_STANDARD.decode(gateway.status()?.public_key).ok();
    let key = key.and_then(|k| <[u8; 32]>::try_from(k).ok());
    let key = key.ok_or_else(|| StageError::Late("the gateway tells no public key".into()))?;
    gateway.stop()?;
    let path = gateway.directory().join("mastd.toml");
    let mut config = std::fs::read_to_string(&path).map_err(io("read the configuration"))?;
    for at in 0..peers {
        let key = BASE64_STANDARD.encode(crowd::key(at));
        let _ = write!(config, "\n[[peer]]\nname = \"peer{at}\"\npublic_key = \"{key}\"\n");
    }
    std::fs::write(&path, config).map_err(io("write the configuration"))?;
    gateway.launch()?;
    let address = SocketAddr::new(IpAddr::from([10, 9, 0, 2]), PORT);
    let crowd = Crowd::start(&others, peers, key, address)?;
    let deadline = Instant::now() + LIMIT;
    while crowd.connected() < peers && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    // Each peer can be reached over both uplinks, and is sent to over the better one.
    let ready = |peer: &&PeerStatus| {
        let over = |interface: &str, active: bool| {
            let mut paths = peer.paths.iter().filter(|p| p.interface == interface);
            paths.any(|p| p.state == PathState::Validated && p.active == active)
        };
        over("eth0", true) && over("eth1", false)
    };
    gateway.wait("two paths to each peer", LIMIT, |s| {
        // Looking costs the gateway something, too.
        thread::sleep(Duration::from_secs(1));
        s.peers.iter().filter(ready).count() == peers
    })?;

    let id = gateway.id().ok_or_else(|| StageError::Late("the gateway is gone".into()))?;
    let (before, start) = (usage::precise(id), Instant::now());
    thread::sleep(QUIET);
    let anyway = (usage::precise(id).saturating_sub(before)).as_secs_f64() / start.elapsed().as_secs_f64();

    let (before, start) = (usage::precise(id), Instant::now());
    host.set_up("eth0", false)?;
    let (mut used, mut time) = (Duration::ZERO, Duration::ZERO);
    let mut last = before;
    while start.elapsed() < LIMIT {
        thread::sleep(STILL);
        let now = usage::precise(id);
        if now.saturating_sub(last) < STILL / 10 && !used.is_zero() {
            break;
        }
        last = now;
        time = start.elapsed();
        used = now.saturating_sub(before);
    }
    let moved = |peer: &&PeerStatus| peer.paths.iter().any(|p| p.active && p.interface == "eth1");
    let count = gateway.status()?.peers.iter().filter(moved).count();
    if count < peers {
        return Err(StageError::Late(format!("only {count} of {peers} peers have moved")).into());
    }
    Ok(Figure { processor: used.saturating_sub(time.mul_f64(anyway)), time })
}
