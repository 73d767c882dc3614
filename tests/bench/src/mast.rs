//! The steps with MAST.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use mast_control::{PolicyMode, PolicySet};
use mast_netlab::traffic::{EchoClient, EchoServer, Mark};
use mast_stage::{Daemon, Program, StageError, Train, TrainProfile};

use crate::figures::{Metric, Sample, Statistic, Target};
use crate::stream::{Stream, Transport};
use crate::{CELL_RTT, Result, WIFI_RTT, drift, io, ms, overruns, profile};

/// Traffic flows this long before anything happens.
const WARM_UP: Duration = Duration::from_secs(3);
/// And is watched this long after data has moved.
const AFTER: Duration = Duration::from_millis(1500);
/// And is watched from so shortly before: a silence begins with the last packet that came through, and what is on
/// its way when something happens counts if it is lost.
const BEFORE: Duration = Duration::from_millis(250);
/// A move that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// What happens in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The Wi-Fi interface is set down.
    Down,
    /// The Wi-Fi interface loses its carrier.
    Carrier,
    /// Routers on the Wi-Fi path discard everything, and nobody says so.
    Blackhole,
    /// The user pins cellular.
    PinCell,
    /// The user pins Wi-Fi, after cellular.
    PinWifi,
    /// The Wi-Fi gets another subnet, and the old address is gone.
    Renumber,
    /// Both interfaces are down for a while; then Wi-Fi comes back.
    Outage(Duration),
    /// Wi-Fi was down and comes back.
    Restored,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Down,
        Self::Carrier,
        Self::Blackhole,
        Self::PinCell,
        Self::PinWifi,
        Self::Renumber,
        Self::Outage(Duration::from_secs(5)),
        Self::Outage(Duration::from_secs(20)),
        Self::Restored,
    ];

    /// As given to `--step`.
    pub fn name(self) -> String {
        match self {
            Self::Down => "down".into(),
            Self::Carrier => "carrier".into(),
            Self::Blackhole => "blackhole".into(),
            Self::PinCell => "pin-cell".into(),
            Self::PinWifi => "pin-wifi".into(),
            Self::Renumber => "renumber".into(),
            Self::Outage(time) => format!("outage-{}", time.as_secs()),
            Self::Restored => "restored".into(),
        }
    }

    /// In words.
    pub fn event(self) -> String {
        match self {
            Self::Down => "interface down".into(),
            Self::Carrier => "carrier lost".into(),
            Self::Blackhole => "silent blackhole in the routers".into(),
            Self::PinCell => "planned switch, Wi-Fi to cellular".into(),
            Self::PinWifi => "planned switch, cellular to Wi-Fi".into(),
            Self::Renumber => "address renumbered, old one gone".into(),
            Self::Outage(time) => format!("no address for {} s", time.as_secs()),
            Self::Restored => "path restored".into(),
        }
    }

    /// What is aimed at.
    pub fn targets(self) -> Vec<Target> {
        let most = Target::most;
        match self {
            Self::Down | Self::Carrier | Self::Renumber => {
                vec![most(Metric::Beyond, Statistic::Median, 30.0)]
            }
            Self::Blackhole => {
                vec![most(Metric::Gap, Statistic::Median, 200.0), most(Metric::Gap, Statistic::P99, 250.0)]
            }
            Self::PinCell | Self::PinWifi => {
                vec![most(Metric::Lost, Statistic::P99, 0.0), most(Metric::Beyond, Statistic::Median, 5.0)]
            }
            Self::Outage(_) => vec![
                most(Metric::Resume, Statistic::Median, ms(WIFI_RTT * 2)),
                most(Metric::TcpResume, Statistic::Median, 1000.0),
            ],
            Self::Restored => vec![
                most(Metric::Lost, Statistic::P99, 0.0),
                Target { least: 3000.0, ..most(Metric::Back, Statistic::Median, 5000.0) },
            ],
        }
    }

    /// What is aimed at while every datagram goes over both links: nothing is lost, and nothing is late.
    pub fn redundant_targets() -> Vec<Target> {
        let most = Target::most;
        vec![most(Metric::Lost, Statistic::P99, 0.0), most(Metric::Beyond, Statistic::Median, 5.0)]
    }

    /// What even an instant switch would cost: the round trip over the new path, or with both paths at hand the
    /// echo's own interval and the difference of the round trips.
    fn inevitable(self, mode: PolicyMode) -> Option<Duration> {
        match self {
            // The copy has been on its way over cellular all along.
            Self::Down | Self::Carrier | Self::Blackhole if mode == PolicyMode::Redundant => {
                Some(EchoClient::INTERVAL + (CELL_RTT - WIFI_RTT))
            }
            Self::Down | Self::Carrier | Self::Blackhole | Self::Renumber => Some(CELL_RTT),
            Self::PinCell => Some(EchoClient::INTERVAL + (CELL_RTT - WIFI_RTT)),
            Self::PinWifi | Self::Restored => Some(EchoClient::INTERVAL),
            Self::Outage(_) => None,
        }
    }
}

/// How the daemons are run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program.
    pub program: Program,
    /// Cellular counts as metered, so that it is measured less often while it stands by.
    pub metered: bool,
    /// How many paths carry data, at both ends.
    pub mode: PolicyMode,
}

impl Options {
    fn laptop(&self) -> String {
        format!("[interfaces.cell]\nmetered = {}\n", self.metered)
    }
}

/// The train with two daemons that know each other, and traffic.
pub struct Stage {
    /// The network.
    pub train: Train,
    /// The daemon on the laptop.
    pub laptop: Daemon,
    /// The daemon on the server.
    pub server: Daemon,
}

impl Stage {
    /// Sets it up and waits until both daemons have settled on Wi-Fi.
    ///
    /// # Errors
    /// When they do not.
    pub fn new(options: &Options) -> Result<Self> {
        Self::set_up(&profile(), options, Some("10.1.0.2"))
    }

    /// The same with other links, of which either may carry data.
    ///
    /// # Errors
    /// When the daemons do not get both links to work.
    pub fn with(profile: &TrainProfile, options: &Options) -> Result<Self> {
        Self::set_up(profile, options, None)
    }

    fn set_up(profile: &TrainProfile, options: &Options, over: Option<&str>) -> Result<Self> {
        let train = Train::new(profile)?;
        let server = Daemon::start(&options.program, &train.server, "")?;
        let laptop = Daemon::start(&options.program, &train.laptop, &options.laptop())?;
        server.pair(&laptop)?;
        let stage = Self { train, laptop, server };
        stage.settled(over)?;
        if options.mode != PolicyMode::Auto {
            for daemon in [&stage.laptop, &stage.server] {
                let policy = PolicySet { mode: options.mode, ..PolicySet::default() };
                daemon.ask(async |c| c.policy_set(policy).await)?;
            }
        }
        Ok(stage)
    }

    /// Waits until both ends send over one path, of an address of the laptop where that matters, and have measured
    /// the other too.
    fn settled(&self, over: Option<&str>) -> Result<()> {
        for daemon in [&self.laptop, &self.server] {
            daemon.wait("data over one link, with the other at hand", PATIENCE, |status| {
                status.peers.first().is_some_and(|peer| {
                    // At one end it is the local address, at the other the remote one, with its port.
                    let over =
                        |address: &str| over.is_none_or(|host| address.split(':').next() == Some(host));
                    let good = |state: &str| state == "validated";
                    peer.state.as_str() == "connected"
                        && peer.paths.len() >= 2
                        && peer.paths.iter().all(|p| good(p.state.as_str()) && p.srtt_ms.is_some())
                        && peer
                            .paths
                            .iter()
                            .any(|p| p.active && [&p.local, &p.remote].iter().any(|a| over(a)))
                })
            })?;
        }
        Ok(())
    }

    /// The server's address inside the tunnel.
    ///
    /// # Errors
    /// When it has none.
    pub fn eid(&self) -> Result<IpAddr> {
        let eid = self.laptop.peer()?.eid;
        let eid = eid.remote_v4.or(eid.remote_v6).and_then(|eid| eid.parse().ok());
        Ok(eid.ok_or_else(|| StageError::Late("the peer has no EID".into()))?)
    }

    /// Waits until data has moved to an interface: a run in which it does not has failed.
    fn moved(&self, interface: &str) -> Result<()> {
        self.laptop.wait_active(interface, PATIENCE)?;
        Ok(())
    }

    /// Keeps the daemons' logs, and when the event was.
    fn keep_logs(&self, directory: &Path, run: &str, event: SystemTime) -> Result<()> {
        let since = event.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let events = self.laptop.status()?.events;
        for (name, text) in [
            ("laptop", self.laptop.log()),
            ("server", self.server.log()),
            ("event", format!("{:.6}\n{events:#?}\n", since.as_secs_f64())),
        ] {
            let path = directory.join(format!("{run}-{name}.log"));
            std::fs::write(&path, text).map_err(io(format!("write {}", path.display())))?;
        }
        Ok(())
    }
}

/// What a run came to.
pub enum Outcome {
    /// Figures.
    Measured(Sample),
    /// The emulator could not keep up.
    Overrun,
}

/// Carries out a step once. Logs go to a directory, under a name.
///
/// # Errors
/// When the stage cannot be set, or a daemon does not answer.
pub fn run(step: Step, options: &Options, logs: Option<(&Path, &str)>) -> Result<Outcome> {
    let stage = Stage::new(options)?;
    let train = &stage.train;
    let eid = stage.eid()?;
    let echoes = EchoServer::start(&train.server, SocketAddr::new(eid, 7))?;
    let echo = EchoClient::start(&train.laptop, echoes.address(), EchoClient::INTERVAL)?;
    let stream = Stream::paced(Transport::Tcp, &train.laptop, &train.server, SocketAddr::new(eid, 8000))?;
    match step {
        Step::PinWifi => {
            stage.laptop.pin(&["cell"], false)?;
            stage.moved("cell")?;
        }
        Step::Restored => {
            train.set_wifi(false)?;
            stage.moved("cell")?;
        }
        _ => {}
    }
    thread::sleep(WARM_UP);
    drift();
    let (mark, since) = (Mark::now(), Instant::now());
    thread::sleep(BEFORE);

    let (start, clock) = (Instant::now(), SystemTime::now());
    let mut back = None;
    let mut usable = None;
    match step {
        Step::Down => train.set_wifi(false)?,
        Step::Carrier => train.wifi.set_carrier_a(false)?,
        Step::Blackhole => train.blackhole_wifi(true)?,
        Step::PinCell => stage.laptop.pin(&["cell"], false)?,
        Step::PinWifi => stage.laptop.pin(&["wifi"], false)?,
        Step::Renumber => train.renumber_wifi(0, 5)?,
        Step::Outage(time) => {
            train.set_wifi(false)?;
            train.set_cell(false)?;
            thread::sleep(time);
            usable = Some((Mark::now(), Instant::now()));
            train.set_wifi(true)?;
        }
        Step::Restored => train.set_wifi(true)?,
    }
    match step {
        Step::Outage(_) => {
            let deadline = Instant::now() + PATIENCE;
            let silent = |&(_, at): &(Mark, Instant)| stream.first_after(at).is_none();
            while usable.as_ref().is_some_and(silent) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
        }
        Step::PinWifi | Step::Restored => {
            stage.moved("wifi")?;
            back = Some(start.elapsed());
        }
        _ => stage.moved("cell")?,
    }
    // Before anything else happens: later silences are not those of the return.
    let resumed = usable.map(|(mark, at)| (echo.report(mark), stream.first_after(at)));
    thread::sleep(AFTER);
    let end = Instant::now();
    let gap = ms(echo.report(mark).longest_gap);
    let lost = echo.finish(mark).lost;
    let stall = stream.longest_silence(since, end);
    if let Some((directory, name)) = logs {
        stage.keep_logs(directory, name, clock)?;
    }
    if overruns(train) > 0 {
        return Ok(Outcome::Overrun);
    }
    let mut sample = Sample::default()
        .with(Metric::Gap, gap)
        .with(Metric::Lost, lost as f64)
        .with(Metric::Stall, ms(stall));
    if let Some(inevitable) = step.inevitable(options.mode) {
        sample = sample.with(Metric::Beyond, gap - ms(inevitable));
    }
    if let Some((echo, tcp)) = resumed {
        let tcp = tcp.map_or(f64::INFINITY, ms);
        sample = sample.with(Metric::Resume, ms(echo.longest_gap)).with(Metric::TcpResume, tcp);
    }
    if let (Step::Restored, Some(back)) = (step, back) {
        sample = sample.with(Metric::Back, ms(back));
    }
    Ok(Outcome::Measured(sample))
}
