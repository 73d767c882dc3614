//! How much of two links one TCP connection gets: through MAST with both links at once, through MAST over the better
//! one, and with the kernel's Multipath TCP.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use mast_control::PolicyMode;
use mast_netlab::LinkProfile;
use mast_stage::{Addressing, Program, Train, TrainProfile};

use crate::mast::{Options, Stage};
use crate::stream::{Stream, Transport};
use crate::{BenchError, Result, Setting, address, mptcp, overruns};

/// A connection finds out what there is; this is not counted.
pub const START_UP: Duration = Duration::from_secs(2);
/// A figure of the course over time is of so long.
pub const BUCKET: Duration = Duration::from_millis(250);
/// How long a full queue takes to drain, as in routers and modems that are neither starved nor bloated.
const QUEUE: Duration = Duration::from_millis(100);
/// The share of a full Ethernet frame (1,514 bytes) that plain TCP over IPv4 has for its payload (1,448).
///
/// What both links carry at best of any payload is this share of their rates: that is the whole of which shares are
/// taken, so that a tunnel's own overhead counts as a loss.
pub const PAYLOAD: f64 = 1448.0 / 1514.0;
const PORT: u16 = 8000;

/// What carries the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// MAST over all links at once.
    Bonded,
    /// MAST over the better link.
    Auto,
    /// The kernel's Multipath TCP without a tunnel.
    Mptcp,
}

impl Way {
    /// All of them, in the order in which they are measured.
    pub const ALL: [Self; 3] = [Self::Bonded, Self::Auto, Self::Mptcp];

    /// As a table names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bonded => "MAST, bonded",
            Self::Auto => "MAST, auto",
            Self::Mptcp => "Multipath TCP",
        }
    }
}

/// A link as a case has it.
#[derive(Debug, Clone, Copy)]
pub struct Uplink {
    /// In Mbit/s, of whole Ethernet frames.
    pub mbit: u64,
    /// The round trip.
    pub rtt: Duration,
    /// The probability that a packet is lost, from 0 to 1, in each direction.
    pub loss: f64,
}

impl Uplink {
    const fn new(mbit: u64, rtt_ms: u64) -> Self {
        Self { mbit, rtt: Duration::from_millis(rtt_ms), loss: 0.0 }
    }

    fn rate(&self) -> u64 {
        self.mbit * 1_000_000
    }

    /// With a queue that drains in 100 ms.
    fn profile(&self) -> LinkProfile {
        let queue = self.rate() as f64 / 8.0 * QUEUE.as_secs_f64();
        LinkProfile::delay(self.rtt / 2).with_loss(self.loss).with_rate(self.rate(), queue as usize)
    }
}

/// Two links, and what happens to them.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// As given to `--case`.
    pub name: &'static str,
    /// In words.
    pub words: &'static str,
    /// The better one.
    pub wifi: Uplink,
    /// The other one.
    pub cell: Uplink,
    /// In the middle of what is measured, the better one has this rate, in Mbit/s.
    pub later: Option<u64>,
    /// The share that is aimed at in bonded mode, from 0 to 1.
    pub share: f64,
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 5] = {
        let uneven = Self {
            name: "uneven",
            words: "50 Mbit/s at 20 ms + 30 Mbit/s at 60 ms",
            wifi: Uplink::new(50, 20),
            cell: Uplink::new(30, 60),
            later: None,
            share: 0.92,
        };
        [
            uneven,
            Self {
                name: "lopsided",
                words: "100 Mbit/s at 20 ms + 10 Mbit/s at 60 ms",
                wifi: Uplink::new(100, 20),
                cell: Uplink::new(10, 60),
                share: 0.9,
                ..uneven
            },
            Self {
                name: "equal",
                words: "50 Mbit/s at 30 ms, twice",
                wifi: Uplink::new(50, 30),
                cell: Uplink::new(50, 30),
                ..uneven
            },
            Self {
                name: "loss",
                words: "50 Mbit/s at 20 ms + 30 Mbit/s at 60 ms that loses 1 %",
                cell: Uplink { loss: 0.01, ..Uplink::new(30, 60) },
                share: 0.85,
                ..uneven
            },
            Self {
                name: "halved",
                words: "50 Mbit/s at 20 ms, midway 25, + 30 Mbit/s at 60 ms",
                later: Some(25),
                share: 0.85,
                ..uneven
            },
        ]
    };

    fn profile(&self, addressing: Addressing) -> TrainProfile {
        TrainProfile { wifi: self.wifi.profile(), cell: self.cell.profile(), addressing, nat: false }
    }

    /// The rates of both links together over the time that is measured, in bit/s.
    fn whole(&self) -> f64 {
        self.of(&self.wifi, self.later) + self.of(&self.cell, None)
    }

    fn of(&self, uplink: &Uplink, later: Option<u64>) -> f64 {
        let later = later.map_or(uplink.rate(), |mbit| mbit * 1_000_000);
        (uplink.rate() + later) as f64 / 2.0
    }
}

/// What one run measured, after the start-up.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Payload that arrived, in Mbit/s.
    pub mbit: f64,
    /// Of what both links can carry of payload, from 0 to 1.
    pub share: f64,
    /// Of the sum of both links' rates, from 0 to 1.
    pub of_rates: f64,
    /// How full the Wi-Fi link was, from 0 to 1, whatever it carried.
    pub wifi: f64,
    /// How full the cellular link was.
    pub cell: f64,
    /// Payload that arrived, in Mbit/s, in each quarter of a second from the start of the connection on.
    pub course: Vec<f64>,
}

/// Bytes that a link has delivered in one direction.
fn delivered(uplink: &mast_stage::Uplink, down: bool) -> f64 {
    let stats = uplink.link.stats();
    (if down { stats.b_to_a.bytes } else { stats.a_to_b.bytes }) as f64
}

/// What must live as long as the connection.
enum Net {
    Mast(Box<Stage>),
    Mptcp(Box<Train>),
}

impl Net {
    fn new(case: &Case, way: Way, program: &Program, addressing: Addressing) -> Result<Self> {
        let mast = |mode| {
            let setting = Setting { addressing, ..Setting::default() };
            let options = Options { program: program.clone(), metered: false, mode, setting, plain: false };
            Ok(Self::Mast(Box::new(Stage::with(&case.profile(addressing), &options)?)))
        };
        match way {
            Way::Bonded => mast(PolicyMode::Bonded),
            Way::Auto => mast(PolicyMode::Auto),
            Way::Mptcp => {
                let train = Box::new(Train::new(&case.profile(addressing))?);
                mptcp::enable(&train)?;
                Ok(Self::Mptcp(train))
            }
        }
    }

    fn train(&self) -> &Train {
        match self {
            Self::Mast(stage) => &stage.train,
            Self::Mptcp(train) => train,
        }
    }

    fn connect(&self, down: bool) -> Result<Stream> {
        let train = self.train();
        let (transport, to) = match self {
            Self::Mast(stage) => (Transport::Tcp, SocketAddr::new(stage.eid()?, PORT)),
            Self::Mptcp(_) => (Transport::Mptcp, address(Train::SERVER, PORT)?),
        };
        let stream = Stream::greedy(transport, &train.laptop, &train.server, to, down)?;
        if let Self::Mptcp(train) = self {
            mptcp::wait_joined(&train.laptop, 1)?;
        }
        Ok(stream)
    }
}

/// Carries out a case once, for `time` after the start-up, from the server to the laptop (`down`) or the other way.
/// Nothing when the emulator could not keep up.
///
/// # Errors
/// When the stage cannot be set, or a daemon refuses the mode.
pub fn run(
    case: &Case,
    way: Way,
    program: &Program,
    addressing: Addressing,
    down: bool,
    time: Duration,
) -> Result<Option<Figure>> {
    let net = Net::new(case, way, program, addressing)?;
    let train = net.train();
    let start = Instant::now();
    let stream = net.connect(down)?;
    let pause = |until: Instant| thread::sleep(until.saturating_duration_since(Instant::now()));
    pause(start + START_UP);
    let before = [delivered(&train.wifi, down), delivered(&train.cell, down)];
    let since = Instant::now();
    pause(since + time / 2);
    if let Some(mbit) = case.later {
        train.wifi.link.set_profile(&Uplink { mbit, ..case.wifi }.profile());
    }
    pause(since + time);
    let until = Instant::now();
    let after = [delivered(&train.wifi, down), delivered(&train.cell, down)];
    if overruns(train) > 0 {
        return Ok(None);
    }
    let seconds = until.duration_since(since).as_secs_f64();
    let rate = |bytes: f64| bytes * 8.0 / seconds;
    let payload = rate(stream.bytes(since, until) as f64);
    if payload == 0.0 {
        return Err(BenchError::Program(format!("{}: nothing arrived", way.name())));
    }
    let [wifi, cell] = [after[0] - before[0], after[1] - before[1]].map(rate);
    let buckets = until.duration_since(start).as_millis() / BUCKET.as_millis();
    let course = (0..u32::try_from(buckets).unwrap_or(0))
        .map(|at| stream.bytes(start + BUCKET * at, start + BUCKET * (at + 1)) as f64)
        .map(|bytes| bytes * 8.0 / BUCKET.as_secs_f64() / 1e6);
    Ok(Some(Figure {
        mbit: payload / 1e6,
        share: payload / (case.whole() * PAYLOAD),
        of_rates: payload / case.whole(),
        wifi: wifi / case.of(&case.wifi, case.later),
        cell: cell / case.of(&case.cell, None),
        course: course.collect(),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

    use super::*;

    #[test]
    fn a_rate_that_changes_midway_counts_half_and_half() {
        let case = |name| *Case::ALL.iter().find(|c| c.name == name).unwrap();
        assert_eq!(case("uneven").whole(), 80e6);
        assert_eq!(case("halved").whole(), 67.5e6);
    }

    #[test]
    fn a_full_queue_drains_in_100_ms() {
        let profile = Uplink::new(80, 20).profile();
        assert_eq!(profile.queue_bytes, 1_000_000);
        assert_eq!(profile.delay, Duration::from_millis(10));
    }
}
