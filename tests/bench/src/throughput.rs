//! How fast a tunnel is, and what it costs: iperf3 between two hosts that one veth pair joins.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mast_control::Status;
use mast_netlab::{Host, Lab};
use mast_stage::{Daemon, Program};
use serde_json::{Value, json};

use crate::wireguard::{Pair, PairConfig};
use crate::{BenchError, Result, io};

const PATIENCE: Duration = Duration::from_secs(15);
const LAPTOP: &str = "10.1.0.1";
const SERVER: &str = "10.1.0.2";
/// Clock ticks a second in `/proc`: the kernel's interface to user space fixes them.
const TICKS: f64 = 100.0;

/// What joins the hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tunnel {
    /// Nothing: the veth pair alone.
    None,
    /// MAST.
    Mast,
    /// Plain WireGuard in user space: the name of a program that takes wireguard-go's arguments.
    WireGuard(String),
}

impl Tunnel {
    /// As a table names it.
    pub fn name(&self) -> String {
        match self {
            Self::None => "none (veth)".into(),
            Self::Mast => "MAST".into(),
            Self::WireGuard(program) => program.rsplit('/').next().unwrap_or(program).to_owned(),
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// Of the receiver, in Gbit/s of payload.
    pub gbit: f64,
    /// Processor seconds of both tunnel processes for 10^9 bytes of payload; none without a tunnel.
    pub processor: Option<f64>,
    /// The larger process's memory under load, in bytes; none without a tunnel.
    pub memory: Option<f64>,
}

impl Figure {
    /// As it is written to a file.
    pub fn json(&self) -> Value {
        json!({ "gbit_per_s": self.gbit, "cpu_s_per_gb": self.processor, "rss_bytes": self.memory })
    }
}

/// How much traffic.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// TCP streams, congestion control cubic.
    pub streams: u32,
    /// From the server to the laptop.
    pub reverse: bool,
    /// How long.
    pub time: Duration,
}

enum Ends {
    None,
    Mast { laptop: Box<Daemon>, server: Box<Daemon> },
    WireGuard(Pair),
}

/// Two hosts with a tunnel between them.
pub struct Bed {
    // Ended in this order.
    ends: Ends,
    to: String,
    laptop: Host,
    server: Host,
    _lab: Lab,
}

impl Bed {
    /// Joins two hosts and starts a tunnel between them.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(tunnel: &Tunnel) -> Result<Self> {
        let lab = Lab::new()?;
        let (laptop, server) = (lab.host("laptop")?, lab.host("server")?);
        lab.wire(&laptop, "eth0", &server, "eth0")?;
        laptop.add_address("eth0", &format!("{LAPTOP}/24"))?;
        server.add_address("eth0", &format!("{SERVER}/24"))?;
        let (ends, to) = match tunnel {
            Tunnel::None => (Ends::None, SERVER.to_owned()),
            Tunnel::Mast => {
                let program = Program::built()?;
                let server = Daemon::start(&program, &server, "")?;
                let laptop = Daemon::start(&program, &laptop, "")?;
                server.pair(&laptop)?;
                let eid = |s: &Status| s.peers.first().and_then(|p| p.eid.remote_v4.clone());
                let known =
                    |s: &Status| eid(s).is_some() && s.peers.iter().any(|p| p.paths.iter().any(|x| x.active));
                let status = laptop.wait("a path", PATIENCE, known)?;
                let to = eid(&status).unwrap_or_default();
                (Ends::Mast { laptop: Box::new(laptop), server: Box::new(server) }, to)
            }
            Tunnel::WireGuard(program) => {
                let config = PairConfig { program, endpoint: SERVER };
                let pair = Pair::start(&laptop, &server, &config)?;
                let to = Pair::SERVER.to_owned();
                (Ends::WireGuard(pair), to)
            }
        };
        Ok(Self { ends, to, laptop, server, _lab: lab })
    }

    fn processes(&self) -> Vec<u32> {
        match &self.ends {
            Ends::None => Vec::new(),
            Ends::Mast { laptop, server } => laptop.id().into_iter().chain(server.id()).collect(),
            Ends::WireGuard(pair) => pair.processes().to_vec(),
        }
    }

    /// Lets traffic flow.
    ///
    /// # Errors
    /// When iperf3 is missing or fails.
    pub fn measure(&self, load: Load) -> Result<Figure> {
        let mut listen = Command::new("iperf3");
        listen.args(["-s", "-1", "-B", &self.to]).stdin(Stdio::null()).stdout(Stdio::null());
        let mut listening = self.server.spawn(listen)?;
        // It says nothing when it listens.
        thread::sleep(Duration::from_millis(300));
        let mut command = Command::new("iperf3");
        command
            .args(["-c", &self.to, "-C", "cubic", "-J", "-P", &load.streams.to_string()])
            .args(["-t", &load.time.as_secs().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if load.reverse {
            command.arg("-R");
        }
        let before = self.processor();
        let mut client = self.laptop.spawn(command)?;
        let half = Instant::now() + load.time / 2;
        thread::sleep(half.saturating_duration_since(Instant::now()));
        let memory = self
            .processes()
            .into_iter()
            .map(memory)
            .fold(None, |most: Option<f64>, m| Some(most.map_or(m, |most| most.max(m))));
        let status = client.wait(load.time + PATIENCE)?;
        let after = self.processor();
        let mut text = String::new();
        if let Some(mut out) = client.child().stdout.take() {
            out.read_to_string(&mut text).map_err(io("read what iperf3 says"))?;
        }
        let _ = listening.wait(PATIENCE);
        let report: Value = serde_json::from_str(&text).unwrap_or_default();
        let sum = &report["end"]["sum_received"];
        let (rate, bytes) = (sum["bits_per_second"].as_f64(), sum["bytes"].as_f64());
        let (Some(rate), Some(bytes)) = (rate, bytes.filter(|b| *b > 0.0 && status.success())) else {
            let why = report["error"].as_str().unwrap_or("no report").to_owned();
            return Err(BenchError::Program(format!("iperf3 failed: {why}")));
        };
        let processor = (!self.processes().is_empty()).then(|| (after - before) / (bytes / 1e9));
        Ok(Figure { gbit: rate / 1e9, processor, memory })
    }

    /// Seconds that the tunnel's processes have used.
    fn processor(&self) -> f64 {
        self.processes().into_iter().map(processor).sum()
    }
}

fn processor(id: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let after_name = text.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
    // `utime` and `stime`, fields 14 and 15.
    let ticks = after_name.split(' ').skip(11).take(2).filter_map(|t| t.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS
}

fn memory(id: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
}

/// Why it cannot be measured here, if so.
pub fn obstacle() -> Option<String> {
    let there = Command::new("iperf3").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    there.is_err().then(|| "iperf3 is missing: apt-get install iperf3".into())
}

/// Whether a tunnel can be measured here.
pub fn is_there(tunnel: &Tunnel) -> bool {
    match tunnel {
        Tunnel::WireGuard(program) => {
            let mut run = Command::new(program);
            run.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
            run.status().is_ok()
        }
        _ => true,
    }
}

impl From<&str> for Tunnel {
    fn from(name: &str) -> Self {
        match name {
            "none" => Self::None,
            "mast" => Self::Mast,
            program => Self::WireGuard(program.to_owned()),
        }
    }
}
