//! What one gateway costs and does with very many peers.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Parser;
use mast_bench::crowd::{self, Crowd};
use mast_bench::report::{markdown, write_json};
use mast_bench::{Result, io, usage};
use mast_control::Invite;
use mast_control::PeerAdd;
use mast_netlab::Lab;
use mast_stage::{Daemon, Program, StageError};
use serde_json::{Value, json};

const GATEWAY: &str = "10.9.0.2";
const PORT: u16 = 6278;
/// Longer than first contact of all peers, or finding out that the gateway started anew, may take.
const LIMIT: Duration = Duration::from_secs(300);
/// A bulk transfer is measured for so long.
const TRANSFER: Duration = Duration::from_secs(5);

/// Measures a gateway with 1 to 10,000 peers: memory, first contacts, throughput, recovery, idle cost.
#[derive(Parser)]
struct Arguments {
    /// How many peers, one measurement each
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 10, 100, 1_000, 10_000])]
    peers: Vec<usize>,
    /// How long the idle gateway is watched
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    seconds: u64,
    /// Write everything to a file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What was measured with one number of peers.
struct Figures {
    peers: usize,
    start: f64,
    memory: f64,
    contacts: f64,
    contact_processor: f64,
    idle_percent: f64,
    throughput: Option<f64>,
    recovery: f64,
    recovery_median: f64,
}

impl Figures {
    fn row(&self) -> Vec<String> {
        vec![
            self.peers.to_string(),
            format!("{:.2} s", self.start),
            format!("{:.1} KiB", self.memory / 1024.0),
            format!("{:.0}", self.contacts),
            format!("{:.2} ms", self.contact_processor * 1000.0),
            format!("{:.2} %", self.idle_percent),
            self.throughput.map_or("–".into(), |t| format!("{t:.0} Mbit/s")),
            format!("{:.1} s", self.recovery_median),
            format!("{:.1} s", self.recovery),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "peers": self.peers,
            "start_seconds": self.start,
            "memory_bytes_per_peer": self.memory,
            "first_contacts_per_second": self.contacts,
            "gateway_processor_seconds_per_contact": self.contact_processor,
            "idle_processor_percent": self.idle_percent,
            "throughput_mbit_per_second": self.throughput,
            "half_recovered_seconds": self.recovery_median,
            "all_recovered_seconds": self.recovery,
        })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Before any thread: the whole process moves into a network of its own.
    if let Err(error) = mast_netlab::enter() {
        eprintln!("scale: {error}");
        return ExitCode::FAILURE;
    }
    match measure_all(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all(arguments: &Arguments) -> Result<()> {
    let head = [
        "peers",
        "start",
        "memory per peer",
        "first contacts a second",
        "gateway's processor per contact",
        "idle processor",
        "one active",
        "half back after kill",
        "all back",
    ];
    let mut table = vec![head.map(String::from).to_vec()];
    let mut all = Vec::new();
    for &peers in &arguments.peers {
        let figures = measure(peers, Duration::from_secs(arguments.seconds))?;
        eprintln!("{}", figures.row().join(" | "));
        table.push(figures.row());
        all.push(figures.json());
        if let Some(path) = &arguments.json {
            write_json(path, &json!({ "idle_seconds": arguments.seconds, "runs": all }))?;
        }
    }
    println!("{}", markdown(&table));
    Ok(())
}

fn measure(peers: usize, idle: Duration) -> Result<Figures> {
    let lab = Lab::new()?;
    let (host, others, active) = (lab.host("gateway")?, lab.host("crowd")?, lab.host("active")?);
    lab.wire(&host, "eth0", &others, "eth0")?;
    host.add_address("eth0", &format!("{GATEWAY}/16"))?;
    for at in 0..peers.min(crowd::ADDRESSES) {
        others.add_address("eth0", &format!("{}/16", crowd::address(at)))?;
    }
    lab.wire(&host, "eth1", &active, "eth0")?;
    host.add_address("eth1", "10.8.0.1/24")?;
    active.add_address("eth0", "10.8.0.2/24")?;

    let program = Program::built()?;
    let client = Daemon::start(&program, &active, "")?;
    let mut gateway = Daemon::start(&program, &host, "")?;
    // One more peer, which will be active.
    let invited = gateway.ask(async |c| c.invite(Invite::default()).await)?;
    client.ask(async |c| c.peer_add(PeerAdd { link: Some(invited.link), ..PeerAdd::default() }).await)?;
    let key = BASE64_STANDARD.decode(gateway.status()?.public_key).ok();
    let key = key.and_then(|k| <[u8; 32]>::try_from(k).ok());
    let key = key.ok_or_else(|| StageError::Late("the gateway tells no public key".into()))?;
    client.wait("EIDs", Duration::from_secs(10), |s| s.peers.iter().any(|p| p.eid.remote_v4.is_some()))?;
    gateway.stop()?;

    let path = gateway.directory().join("mastd.toml");
    let mut config = std::fs::read_to_string(&path).map_err(io("read the configuration"))?;
    for at in 0..peers {
        let key = BASE64_STANDARD.encode(crowd::key(at));
        let _ = write!(config, "\n[[peer]]\nname = \"peer{at}\"\npublic_key = \"{key}\"\n");
    }
    std::fs::write(&path, config).map_err(io("write the configuration"))?;
    let begun = Instant::now();
    gateway.launch()?;
    let start = begun.elapsed().as_secs_f64();
    let empty = memory(&gateway)?;

    let before = usage::processor(id(&gateway)?);
    let begun = Instant::now();
    let address = SocketAddr::new(IpAddr::from([10, 9, 0, 2]), PORT);
    let crowd = Crowd::start(&others, peers, key, address)?;
    wait("first contacts", || crowd.connected(), peers)?;
    let took = begun.elapsed().as_secs_f64();
    let contact_processor = (usage::processor(id(&gateway)?) - before) / peers as f64;

    // Until a context counts as idle, and its first keepalive has given memory back.
    thread::sleep(Duration::from_secs(40));
    let grown = (memory(&gateway)? - empty).max(0.0) / peers as f64;
    let before = usage::processor(id(&gateway)?);
    thread::sleep(idle);
    let idle_percent = (usage::processor(id(&gateway)?) - before) / idle.as_secs_f64() * 100.0;
    let throughput = transfer(&client, &gateway).inspect_err(|e| eprintln!("scale: no throughput: {e}")).ok();

    gateway.kill();
    let begun = Instant::now();
    gateway.launch()?;
    wait("half of them back", || crowd.renewed(), peers.div_ceil(2))?;
    let recovery_median = begun.elapsed().as_secs_f64();
    wait("all of them back", || crowd.renewed(), peers)?;
    let recovery = begun.elapsed().as_secs_f64();
    let contacts = peers as f64 / took;
    Ok(Figures {
        peers,
        start,
        memory: grown,
        contacts,
        contact_processor,
        idle_percent,
        throughput,
        recovery,
        recovery_median,
    })
}

fn id(daemon: &Daemon) -> Result<u32> {
    Ok(daemon.id().ok_or_else(|| StageError::Late("the gateway is gone".into()))?)
}

/// The resident memory of a daemon, in bytes.
fn memory(daemon: &Daemon) -> Result<f64> {
    let path = format!("/proc/{}/status", id(daemon)?);
    let text = std::fs::read_to_string(&path).map_err(io(format!("read {path}")))?;
    let field = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = field.and_then(|f| f.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kibibytes.ok_or_else(|| StageError::Late(format!("{path} tells no memory")))? * 1024.0)
}

fn wait(what: &str, count: impl Fn() -> usize, wanted: usize) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while count() < wanted {
        if Instant::now() > deadline {
            let text = format!("{what}: only {} of {wanted} within {LIMIT:?}", count());
            return Err(StageError::Late(text).into());
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// One TCP connection through the tunnel, in Mbit/s.
fn transfer(client: &Daemon, gateway: &Daemon) -> Result<f64> {
    let peer = client.peer()?;
    let eid = peer.eid.remote_v4.and_then(|a| a.parse::<IpAddr>().ok());
    let eid = eid.ok_or_else(|| StageError::Late("the gateway has no EID".into()))?;
    let listener = gateway.host().run(|| TcpListener::bind((eid, 0)))?.map_err(io("listen"))?;
    let address = listener.local_addr().map_err(io("listen"))?;
    let stream = client.host().run(|| TcpStream::connect_timeout(&address, Duration::from_secs(10)))?;
    let mut stream = stream.map_err(io("connect through the tunnel"))?;
    let (mut arrived, _) = listener.accept().map_err(io("accept a connection"))?;
    let receiver = thread::spawn(move || {
        let (mut buffer, mut bytes) = (vec![0; 256 * 1024], 0_u64);
        while let Ok(length @ 1..) = arrived.read(&mut buffer) {
            bytes += length as u64;
        }
        bytes
    });
    let begun = Instant::now();
    let block = vec![0; 256 * 1024];
    while begun.elapsed() < TRANSFER {
        stream.write_all(&block).map_err(io("send through the tunnel"))?;
    }
    drop(stream);
    let bytes = receiver.join().unwrap_or_default();
    Ok(bytes as f64 * 8.0 / begun.elapsed().as_secs_f64() / 1e6)
}
