//! The steps with MAST.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use mast_control::{PathStatus, PolicyMode, PolicySet};
use mast_netlab::Direction;
use mast_netlab::traffic::{EchoClient, EchoServer, Mark};
use mast_stage::{Addressing, Daemon, Fade, Program, StageError, Train, TrainProfile, Uplink};

use crate::course::Course;
use crate::figures::{Metric, Sample, Statistic, Target};
use crate::setting::{Delays, Setting};
use crate::stream::{Stream, Transport};
use crate::tunnel::{REFERENCE, import};
use crate::wireguard::{End, Keys, serve};
use crate::{Result, drift, io, ms, overruns};

/// And is watched this long after data has moved.
const AFTER: Duration = Duration::from_millis(1500);
/// And is watched from so shortly before: a silence begins with the last packet that came through, and what is on
/// its way when something happens counts if it is lost.
const BEFORE: Duration = Duration::from_millis(250);
/// What still arrives so soon was on its way before.
const IN_FLIGHT: Duration = Duration::from_millis(100);
/// A move that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// What happens in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The Wi-Fi interface is set down.
    Down,
    /// The Wi-Fi interface loses its carrier.
    Carrier,
    /// Routers on the Wi-Fi path discard everything, of both versions of IP, and nobody says so.
    Blackhole,
    /// They discard what the laptop sends.
    BlackholeUp,
    /// They discard what the server sends.
    BlackholeDown,
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
    /// The Wi-Fi fades and then dies without a word: from 35 ms and 30 Mbit/s to 200 ms, a loss of 60 % and 1 Mbit/s, each
    /// way or only one.
    Fade(Faded),
}

/// In which direction a link fades.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faded {
    /// Both.
    Both,
    /// From the laptop to the server.
    Up,
    /// From the server to the laptop.
    Down,
}

impl Faded {
    fn fade() -> Fade {
        Fade::away(Duration::from_micros(17_500), 30_000_000)
    }

    fn carry_out(self, train: &Train) -> Result<()> {
        let directions: &[Direction] = match self {
            Self::Both => &[Direction::AToB, Direction::BToA],
            Self::Up => &[Direction::AToB],
            Self::Down => &[Direction::BToA],
        };
        Self::fade().carry_out(&train.wifi.link, directions, |time| {
            thread::sleep(time);
            Ok::<_, StageError>(())
        })?;
        train.blackhole_wifi(true)?;
        Ok(())
    }
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Down,
        Self::Carrier,
        Self::Blackhole,
        Self::BlackholeUp,
        Self::BlackholeDown,
        Self::PinCell,
        Self::PinWifi,
        Self::Renumber,
        Self::Outage(Duration::from_secs(5)),
        Self::Outage(Duration::from_secs(20)),
        Self::Restored,
        Self::Fade(Faded::Both),
        Self::Fade(Faded::Up),
        Self::Fade(Faded::Down),
    ];

    /// As given to `--step`.
    pub fn name(self) -> String {
        match self {
            Self::Down => "down".into(),
            Self::Carrier => "carrier".into(),
            Self::Blackhole => "blackhole".into(),
            Self::BlackholeUp => "blackhole-up".into(),
            Self::BlackholeDown => "blackhole-down".into(),
            Self::PinCell => "pin-cell".into(),
            Self::PinWifi => "pin-wifi".into(),
            Self::Renumber => "renumber".into(),
            Self::Outage(time) => format!("outage-{}", time.as_secs()),
            Self::Restored => "restored".into(),
            Self::Fade(Faded::Both) => "fade".into(),
            Self::Fade(Faded::Up) => "fade-up".into(),
            Self::Fade(Faded::Down) => "fade-down".into(),
        }
    }

    /// In words.
    pub fn event(self) -> String {
        match self {
            Self::Down => "interface down".into(),
            Self::Carrier => "carrier lost".into(),
            Self::Blackhole => "silent blackhole in the routers".into(),
            Self::BlackholeUp => "silent blackhole towards the server only".into(),
            Self::BlackholeDown => "silent blackhole towards the laptop only".into(),
            Self::PinCell => "planned switch, Wi-Fi to cellular".into(),
            Self::PinWifi => "planned switch, cellular to Wi-Fi".into(),
            Self::Renumber => "address renumbered, old one gone".into(),
            Self::Outage(time) => format!("no address for {} s", time.as_secs()),
            Self::Restored => "path restored".into(),
            Self::Fade(Faded::Both) => "Wi-Fi fades over 6 s and dies".into(),
            Self::Fade(Faded::Up) => "Wi-Fi fades towards the server only, and dies".into(),
            Self::Fade(Faded::Down) => "Wi-Fi fades towards the laptop only, and dies".into(),
        }
    }

    /// What is aimed at. Silences depend on the round trips: other delays than the usual ones have fewer targets.
    pub fn targets(self, setting: &Setting) -> Vec<Target> {
        use Metric::{Back, Beyond, Down, Gap, Lost, LostShare, Resume, TcpResume, Up};
        use Statistic::{Median, P99};
        let most = Target::most;
        let both = |statistic, limit| [most(Up, statistic, limit), most(Down, statistic, limit)];
        let usual = setting.delays == Delays::default();
        let mut targets = match self {
            Self::Down | Self::Carrier | Self::Renumber => vec![most(Beyond, Median, 30.0)],
            Self::Blackhole => vec![most(Lost, Median, 0.0)],
            Self::BlackholeUp | Self::BlackholeDown => vec![],
            Self::PinCell | Self::PinWifi => vec![most(Lost, P99, 0.0), most(Beyond, Median, 5.0)],
            Self::Outage(_) => {
                vec![most(Resume, Median, ms(setting.delays.wifi * 2)), most(TcpResume, Median, 1000.0)]
            }
            Self::Restored => {
                vec![most(Lost, P99, 0.0), Target { least: 3000.0, ..most(Back, Median, 5000.0) }]
            }
            Self::Fade(_) => {
                vec![most(LostShare, Median, 2.0), most(Up, Median, 300.0), most(Down, Median, 300.0)]
            }
        };
        if usual {
            match self {
                Self::Down => targets.extend(both(Median, 70.0)),
                Self::Blackhole => {
                    targets.extend([most(Gap, Median, 200.0), most(Gap, P99, 250.0)]);
                    targets.extend(both(Median, 130.0).into_iter().chain(both(P99, 200.0)));
                }
                Self::BlackholeUp | Self::BlackholeDown => {
                    targets.extend(both(Median, 115.0).into_iter().chain(both(P99, 200.0)));
                }
                _ => {}
            }
        }
        targets
    }

    /// What is aimed at while every datagram goes over both links: nothing is lost, and nothing is later than the
    /// difference of the links makes it.
    pub fn redundant_targets(setting: &Setting) -> Vec<Target> {
        let most = Target::most;
        // One way is half of a round trip, and a gap ends with the first packet after it.
        let difference = ms(setting.delays.cell.saturating_sub(setting.delays.wifi)) / 2.0;
        vec![
            most(Metric::Lost, Statistic::P99, 0.0),
            most(Metric::Beyond, Statistic::Median, 5.0),
            most(Metric::Up, Statistic::Median, difference + 5.0),
            most(Metric::Down, Statistic::Median, difference + 5.0),
        ]
    }

    /// What is aimed at where the server has a plain WireGuard, which answers handshakes and says nothing else: data and
    /// silence are all that this end has to judge by.
    pub fn plain_targets(self, setting: &Setting) -> Vec<Target> {
        use Metric::{Back, Down, Gap, Up};
        let most = |metric, limit| Target::most(metric, Statistic::Median, limit);
        let each = |limit| [Up, Down].map(|metric| most(metric, limit)).to_vec();
        match self {
            Self::Down | Self::Carrier => each(400.0),
            Self::Blackhole => each(900.0),
            Self::BlackholeUp | Self::BlackholeDown => each(1500.0),
            Self::PinCell | Self::PinWifi => {
                vec![most(Gap, ms(setting.delays.wifi.max(setting.delays.cell)) * 2.0 + 100.0)]
            }
            Self::Restored => vec![most(Back, 10_000.0)],
            _ => Vec::new(),
        }
    }

    /// What even an instant switch would cost: the round trip over the new path, or with both paths at hand the
    /// echo's own interval and the difference of the round trips.
    fn inevitable(self, mode: PolicyMode, delays: Delays) -> Option<Duration> {
        let difference = EchoClient::INTERVAL + delays.cell.saturating_sub(delays.wifi);
        match self {
            Self::PinWifi | Self::Restored => Some(EchoClient::INTERVAL),
            Self::PinCell => Some(difference),
            Self::Outage(_) | Self::Fade(_) => None,
            // The copy has been on its way over cellular all along.
            _ if mode == PolicyMode::Redundant => Some(difference),
            _ => Some(delays.cell),
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
    /// The network.
    pub setting: Setting,
    /// The server has a plain WireGuard instead of MAST.
    pub plain: bool,
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
    far: Far,
}

/// What the server has.
enum Far {
    Mast(Box<Daemon>),
    WireGuard { _end: End },
}

impl Stage {
    /// Sets it up and waits until both daemons have settled on Wi-Fi.
    ///
    /// # Errors
    /// When they do not.
    pub fn new(options: &Options) -> Result<Self> {
        Self::set_up(&options.setting.profile(), options, true)
    }

    /// The same with other links, of which either may carry data.
    ///
    /// # Errors
    /// When the daemons do not get both links to work.
    pub fn with(profile: &TrainProfile, options: &Options) -> Result<Self> {
        Self::set_up(profile, options, false)
    }

    fn set_up(profile: &TrainProfile, options: &Options, over_wifi: bool) -> Result<Self> {
        let train = Train::new(profile)?;
        let (laptop, far) = if options.plain {
            let keys = Keys::draw()?;
            let end = serve(&train.server, REFERENCE, &keys)?;
            let laptop = Daemon::start(&options.program, &train.laptop, &options.laptop())?;
            import(&laptop, keys.laptop(Train::SERVER, true)?)?;
            (laptop, Far::WireGuard { _end: end })
        } else {
            let server = Daemon::start(&options.program, &train.server, "")?;
            let laptop = Daemon::start(&options.program, &train.laptop, &options.laptop())?;
            server.pair(&laptop)?;
            (laptop, Far::Mast(Box::new(server)))
        };
        let stage = Self { train, laptop, far };
        if options.plain {
            stage.laptop.wait_active("wifi", PATIENCE)?;
        } else {
            stage.settled(over_wifi)?;
        }
        if options.mode != PolicyMode::Auto {
            for daemon in stage.daemons() {
                let policy = PolicySet { mode: options.mode, ..PolicySet::default() };
                daemon.ask(async |c| c.policy_set(policy).await)?;
            }
        }
        Ok(stage)
    }

    /// The laptop's daemon, and the server's if it has one.
    pub fn daemons(&self) -> Vec<&Daemon> {
        match &self.far {
            Far::Mast(server) => vec![&self.laptop, server],
            Far::WireGuard { .. } => vec![&self.laptop],
        }
    }

    /// Waits until both ends have measured every path between addresses of theirs, and send over the Wi-Fi where
    /// that matters. At one end the laptop's address is the local one, at the other the remote one.
    fn settled(&self, over_wifi: bool) -> Result<()> {
        let uplinks = [&self.train.wifi, &self.train.cell];
        let known = uplinks.map(|uplink| seen_as(uplink, self.train.addressing));
        let [wifi, _] = &known;
        for daemon in self.daemons() {
            daemon.wait("data over one link, with the other at hand", PATIENCE, |status| {
                status.peers.first().is_some_and(|peer| {
                    let works = |addresses: &Vec<IpAddr>| {
                        peer.paths.iter().any(|path| {
                            path.state.as_str() == "validated"
                                && path.srtt_ms.is_some()
                                && ends_at(path, addresses)
                        })
                    };
                    peer.state.as_str() == "connected"
                        && known.iter().flatten().all(works)
                        && peer
                            .paths
                            .iter()
                            .any(|path| path.active && (!over_wifi || wifi.iter().any(|a| ends_at(path, a))))
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

    /// Keeps the daemons' logs, when the event was, and what happened around it.
    fn keep_logs(&self, directory: &Path, run: &str, event: SystemTime, course: &str) -> Result<()> {
        let since = event.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let events = self.laptop.status()?.events;
        let logs = ["laptop", "server"].into_iter().zip(self.daemons().into_iter().map(Daemon::log));
        for (name, text) in logs.chain([
            ("event", format!("{:.6}\n{events:#?}\n", since.as_secs_f64())),
            ("course", course.to_owned()),
        ]) {
            let path = directory.join(format!("{run}-{name}.log"));
            std::fs::write(&path, text).map_err(io(format!("write {}", path.display())))?;
        }
        Ok(())
    }
}

/// The addresses of the laptop on an uplink, for each version of IP as the laptop and as the server may see them.
fn seen_as(uplink: &Uplink, addressing: Addressing) -> Vec<Vec<IpAddr>> {
    let outside = uplink.nat.is_some().then(|| uplink.outside().v4(2).into());
    let own = addressing.addresses(uplink.net(), 2).into_iter();
    own.map(|ip| [ip].into_iter().chain(outside.filter(|_| ip.is_ipv4())).collect()).collect()
}

/// Whether one end of a path is one of these addresses.
fn ends_at(path: &PathStatus, addresses: &[IpAddr]) -> bool {
    let ip = |text: &str| text.parse::<SocketAddr>().ok().map(|a| a.ip()).or_else(|| text.parse().ok());
    [&path.local, &path.remote].iter().any(|end| ip(end).is_some_and(|ip| addresses.contains(&ip)))
}

/// What a run came to.
pub enum Outcome {
    /// Figures.
    Measured(Sample),
    /// The emulator could not keep up.
    Overrun,
}

/// Waits until something has come over each stream after a moment, or for too long, which the figures then show.
fn resumes(streams: &[&Stream], after: Instant) {
    let deadline = Instant::now() + PATIENCE;
    while streams.iter().any(|s| s.first_after(after).is_none()) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Carries out a step once. Logs go to a directory, under a name.
///
/// # Errors
/// When the stage cannot be set, or a daemon does not answer.
pub fn run(step: Step, options: &Options, logs: Option<(&Path, &str)>) -> Result<Outcome> {
    let mut profile = options.setting.profile();
    if let Step::Fade(_) = step {
        profile.wifi = Faded::fade().at(0.0);
    }
    let stage = Stage::set_up(&profile, options, true)?;
    let train = &stage.train;
    let eid = stage.eid()?;
    let echoes = EchoServer::start(&train.server, SocketAddr::new(eid, 7))?;
    let echo = EchoClient::start(&train.laptop, echoes.address(), EchoClient::INTERVAL)?;
    let pace = |port, down| {
        let at = SocketAddr::new(eid, port);
        Stream::paced(Transport::Tcp, &train.laptop, &train.server, at, (options.setting.mbit, down))
    };
    let (down, up) = (pace(8000, true)?, pace(8001, false)?);
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
    thread::sleep(Duration::from_secs(options.setting.warm_up.into()));
    drift();
    let (mark, since) = (Mark::now(), Instant::now());
    thread::sleep(BEFORE);

    let course = logs.is_some().then(|| Course::watch(train));
    let (start, clock) = (Instant::now(), SystemTime::now());
    let mut back = None;
    let mut usable = None;
    match step {
        Step::Down => train.set_wifi(false)?,
        Step::Carrier => train.wifi.link.set_carrier_a(false)?,
        Step::Blackhole => train.blackhole_wifi(true)?,
        Step::BlackholeUp => train.wifi.blackhole(true, false)?,
        Step::BlackholeDown => train.wifi.blackhole(false, true)?,
        Step::PinCell => stage.laptop.pin(&["cell"], false)?,
        Step::PinWifi => stage.laptop.pin(&["wifi"], false)?,
        Step::Renumber => train.renumber_wifi(5)?,
        Step::Outage(time) => {
            train.set_wifi(false)?;
            train.set_cell(false)?;
            thread::sleep(time);
            usable = Some((Mark::now(), Instant::now()));
            train.set_wifi(true)?;
        }
        Step::Restored => train.set_wifi(true)?,
        Step::Fade(faded) => faded.carry_out(train)?,
    }
    match step {
        Step::Outage(_) => {
            let usable = usable.as_ref().map_or(start, |(_, at)| *at);
            resumes(&[&down], usable);
        }
        // One end has to move, and the other may.
        Step::BlackholeUp | Step::BlackholeDown => resumes(&[&up, &down], start + IN_FLIGHT),
        Step::PinWifi | Step::Restored => {
            stage.moved("wifi")?;
            back = Some(start.elapsed());
        }
        _ => stage.moved("cell")?,
    }
    // Before anything else happens: later silences are not those of the return.
    let resumed = usable.map(|(mark, at)| (echo.report(mark), down.first_after(at)));
    thread::sleep(AFTER);
    let end = Instant::now();
    let gap = ms(echo.report(mark).longest_gap);
    let echoed = echo.finish(mark);
    let lost = echoed.lost;
    let [up_gap, down_gap] = [&up, &down].map(|stream| ms(stream.longest_silence(since, end)));
    if let Some((directory, name)) = logs {
        let course = course.map(|course| course.tell(start, [&up, &down])).unwrap_or_default();
        stage.keep_logs(directory, name, clock, &course)?;
    }
    if overruns(train) > 0 {
        return Ok(Outcome::Overrun);
    }
    let mut sample = Sample::default()
        .with(Metric::Gap, gap)
        .with(Metric::Lost, lost as f64)
        .with(Metric::Up, up_gap)
        .with(Metric::Down, down_gap);
    if let Step::Fade(_) = step {
        sample = sample.with(Metric::LostShare, lost as f64 * 100.0 / (echoed.sent as f64).max(1.0));
    }
    if let Some(inevitable) = step.inevitable(options.mode, options.setting.delays) {
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
