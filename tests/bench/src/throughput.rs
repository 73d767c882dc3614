//! How fast a tunnel is, and what it costs: TCP by iperf3, small UDP packets, and an idle echo, between two hosts
//! that one veth pair joins.

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use mast_netlab::traffic::{EchoClient, EchoServer, Mark};
use serde_json::{Map, Value};

use crate::tunnel::{Bed, Tunnel};
use crate::{BenchError, Result, io, ms, packets, usage};

const PATIENCE: Duration = Duration::from_secs(15);
/// The first echoes resolve addresses and shake hands.
const WARM_UP: Duration = Duration::from_millis(500);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// TCP payload that arrived, in Gbit/s.
    Rate,
    /// Small UDP packets that arrived, in thousands a second.
    Packets,
    /// The share of the packets sent that did not arrive, in percent.
    Lost,
    /// The median round trip of an echo, in microseconds.
    RoundTrip,
    /// The 99th percentile of the round trips, in microseconds.
    RoundTripP99,
    /// Processor time of both tunnel processes for 10^9 bytes of payload, in seconds.
    PerGigabyte,
    /// Processor time of both tunnel processes for a packet that arrived, in microseconds.
    PerPacket,
    /// The most memory of the larger tunnel process, in megabytes (10^6 bytes).
    Memory,
}

impl Metric {
    /// Its name in JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::Rate => "gbit_per_s",
            Self::Packets => "kpps",
            Self::Lost => "lost_percent",
            Self::RoundTrip => "rtt_p50_us",
            Self::RoundTripP99 => "rtt_p99_us",
            Self::PerGigabyte => "cpu_s_per_gb",
            Self::PerPacket => "cpu_us_per_packet",
            Self::Memory => "peak_rss_mb",
        }
    }

    /// As a table names it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Rate => "Gbit/s",
            Self::Packets => "kpps received",
            Self::Lost => "lost %",
            Self::RoundTrip => "round trip µs",
            Self::RoundTripP99 => "p99 µs",
            Self::PerGigabyte => "CPU s/GB",
            Self::PerPacket => "CPU µs/packet",
            Self::Memory => "peak memory MB",
        }
    }

    /// Digits after the point.
    pub fn digits(self) -> usize {
        match self {
            Self::Rate => 2,
            Self::RoundTrip | Self::RoundTripP99 | Self::Memory => 0,
            _ => 1,
        }
    }
}

/// What one run measured.
#[derive(Debug, Clone, Default)]
pub struct Figure(Vec<(Metric, f64)>);

impl Figure {
    /// One of its values, if this run has it.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.0.iter().find(|(m, _)| *m == metric).map(|(_, value)| *value)
    }

    /// As it is written to a file.
    pub fn json(&self) -> Value {
        Value::Object(
            self.0.iter().map(|(m, value)| (m.key().to_owned(), (*value).into())).collect::<Map<_, _>>(),
        )
    }
}

/// What flows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// TCP, congestion control cubic.
    Tcp {
        /// Streams at once.
        streams: u32,
        /// From the server to the laptop.
        down: bool,
    },
    /// UDP packets with 64 bytes of payload from the laptop to the server.
    Packets {
        /// Thousands a second that are offered.
        kpps: u32,
    },
    /// A UDP echo of 160 bytes, 100 a second, and nothing else.
    Idle,
}

impl Load {
    /// In words.
    pub fn words(self) -> String {
        match self {
            Self::Tcp { streams, down } => {
                let direction = if down { "server to laptop" } else { "laptop to server" };
                let plural = if streams == 1 { "" } else { "s" };
                format!("TCP, {streams} stream{plural}, {direction}")
            }
            Self::Packets { kpps } => format!("UDP, {kpps},000 packets of 64 bytes a second"),
            Self::Idle => "Idle, an echo 100 times a second".into(),
        }
    }

    /// In a picture.
    pub fn label(self) -> String {
        match self {
            Self::Tcp { streams, down } => format!("{streams} {}", if down { "down" } else { "up" }),
            Self::Packets { kpps } => format!("{kpps} kpps offered"),
            Self::Idle => "idle".into(),
        }
    }

    /// The figure by which tunnels are compared, and whether more of it is better.
    pub fn chief(self) -> (Metric, bool) {
        match self {
            Self::Tcp { .. } => (Metric::Rate, true),
            Self::Packets { .. } => (Metric::Packets, true),
            Self::Idle => (Metric::RoundTrip, false),
        }
    }

    /// The columns of its table.
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Self::Tcp { .. } => &[Metric::Rate, Metric::PerGigabyte, Metric::Memory],
            Self::Packets { .. } => &[Metric::Packets, Metric::Lost, Metric::PerPacket, Metric::Memory],
            Self::Idle => &[Metric::RoundTrip, Metric::RoundTripP99],
        }
    }
}

/// Makes a tunnel, lets traffic flow through it for some time, and says what came of it.
///
/// # Errors
/// When the tunnel cannot be made, or the traffic does not flow.
pub fn measure(tunnel: &Tunnel, offloads: bool, load: Load, time: Duration) -> Result<Figure> {
    let bed = Bed::new(tunnel, offloads)?;
    let before = used(&bed);
    let mut figure = match load {
        Load::Tcp { streams, down } => {
            let (rate, bytes) = tcp(&bed, streams, down, time)?;
            let cost = (used(&bed) - before) / (bytes / 1e9);
            vec![(Metric::Rate, rate / 1e9), (Metric::PerGigabyte, cost)]
        }
        Load::Packets { kpps } => {
            let to = SocketAddr::new(bed.to, 9);
            let delivery = packets::run(&bed.laptop, &bed.server, to, f64::from(kpps) * 1e3, time)?;
            let cost = (used(&bed) - before) / delivery.received.max(1) as f64 * 1e6;
            vec![
                (Metric::Packets, delivery.kpps()),
                (Metric::Lost, delivery.lost() * 1e2),
                (Metric::PerPacket, cost),
            ]
        }
        Load::Idle => idle(&bed, time)?,
    };
    if bed.processes().is_empty() {
        figure.retain(|(metric, _)| !matches!(metric, Metric::PerGigabyte | Metric::PerPacket));
    }
    let memory = bed.processes().into_iter().filter_map(usage::peak_memory).reduce(f64::max);
    figure.extend(memory.map(|bytes| (Metric::Memory, bytes / 1e6)));
    Ok(Figure(figure))
}

/// Seconds of processor time that the tunnel's processes have used.
fn used(bed: &Bed) -> f64 {
    bed.processes().into_iter().map(usage::processor).sum()
}

/// Runs iperf3, and says which rate in bit/s and how many bytes arrived.
fn tcp(bed: &Bed, streams: u32, down: bool, time: Duration) -> Result<(f64, f64)> {
    let to = bed.to.to_string();
    let mut listen = Command::new("iperf3");
    listen.args(["-s", "-1", "-B", &to]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut listening = bed.server.spawn(listen)?;
    // It says nothing when it listens.
    thread::sleep(Duration::from_millis(300));
    let mut command = Command::new("iperf3");
    command
        .args(["-c", &to, "-C", "cubic", "-J", "-P", &streams.to_string()])
        .args(["-t", &time.as_secs().max(1).to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if down {
        command.arg("-R");
    }
    let mut client = bed.laptop.spawn(command)?;
    // More than a pipe holds is written with many streams: it is read while it comes.
    let out = client.child().stdout.take();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        out.map_or(Ok(0), |mut out| out.read_to_string(&mut text)).map(|_| text)
    });
    let status = client.wait(time + PATIENCE)?;
    let text = reader.join().map_err(|_| BenchError::Program("the reader of iperf3 has ended".into()))?;
    let text = text.map_err(io("read what iperf3 says"))?;
    let _ = listening.wait(PATIENCE);
    let report: Value = serde_json::from_str(&text).unwrap_or_default();
    let sum = &report["end"]["sum_received"];
    let (rate, bytes) = (sum["bits_per_second"].as_f64(), sum["bytes"].as_f64());
    let (Some(rate), Some(bytes)) = (rate, bytes.filter(|b| *b > 0.0 && status.success())) else {
        let why = report["error"].as_str().unwrap_or("no report").to_owned();
        return Err(BenchError::Program(format!("iperf3 failed: {why}")));
    };
    Ok((rate, bytes))
}

fn idle(bed: &Bed, time: Duration) -> Result<Vec<(Metric, f64)>> {
    let echoes = EchoServer::start(&bed.server, SocketAddr::new(bed.to, 7))?;
    let echo = EchoClient::start(&bed.laptop, echoes.address(), EchoClient::INTERVAL)?;
    thread::sleep(WARM_UP);
    let mark = Mark::now();
    thread::sleep(time);
    let report = echo.finish(mark);
    let (Some(median), Some(p99)) = (report.rtt_median, report.rtt_p99) else {
        return Err(BenchError::Program("no echo came back".into()));
    };
    Ok(vec![(Metric::RoundTrip, ms(median) * 1e3), (Metric::RoundTripP99, ms(p99) * 1e3)])
}

/// Why it cannot be measured here, if so.
pub fn obstacle() -> Option<String> {
    let there = Command::new("iperf3").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    there.is_err().then(|| "iperf3 is missing: apt-get install iperf3".into())
}
