//! For scale: the same events with the kernel's Multipath TCP, an application that uses it, and two subflows.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mast_netlab::Host;
use mast_stage::Train;

use crate::figures::{Metric, Sample};
use crate::mast::{Outcome, Step};
use crate::stream::{Stream, Transport};
use crate::{BenchError, Result, Setting, address, drift, io, ms, overruns};

const WARM_UP: Duration = Duration::from_secs(2);
/// What is on its way when something happens counts.
const BEFORE: Duration = Duration::from_millis(250);
const AFTER: Duration = Duration::from_millis(1500);
/// A silence that lasts longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// What still arrives so soon was on its way before.
const IN_FLIGHT: Duration = Duration::from_millis(100);

/// Why it cannot be measured here, if so.
pub fn obstacle(setting: &Setting) -> Option<String> {
    if !setting.addressing.v4() {
        return Some("it is set up over IPv4 here".into());
    }
    if !Transport::Mptcp.exists() {
        return Some("this kernel has no Multipath TCP (or net.mptcp.enabled is 0)".into());
    }
    let version = Command::new("ip").arg("mptcp").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_err().then(|| "`ip` is missing: apt-get install iproute2".into())
}

/// Runs a program on a host to its end.
pub(crate) fn command(host: &Host, program: &str, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = host.spawn(command)?;
    let status = process.wait(Duration::from_secs(5))?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    if let Some(mut errors) = process.child().stderr.take() {
        std::io::Read::read_to_string(&mut errors, &mut text).map_err(io("read what a program says"))?;
    }
    Err(BenchError::Program(format!("{program} {}: {}", arguments.join(" "), text.trim())))
}

fn ip(host: &Host, arguments: &str) -> Result<()> {
    command(host, "ip", &arguments.split(' ').collect::<Vec<_>>())
}

/// How many additional subflows connections of a host have.
fn joined(host: &Host) -> Result<u64> {
    let text = host.run(|| std::fs::read_to_string("/proc/thread-self/net/netstat"))?;
    let text = text.map_err(io("read the kernel's counters"))?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("MPTcpExt: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return Ok(0) };
    let found = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "MPJoinSynAckRx");
    Ok(found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0))
}

/// Lets the connections between the laptop and the server of a train use both of its links at once.
pub(crate) fn enable(train: &Train) -> Result<()> {
    for host in [&train.laptop, &train.server] {
        ip(host, "mptcp limits set subflow 2 add_addr_accepted 2")?;
    }
    ip(&train.laptop, "mptcp endpoint add 10.1.0.2 dev wifi id 1 subflow")?;
    ip(&train.laptop, "mptcp endpoint add 10.2.0.2 dev cell id 2 subflow")
}

/// Waits until so many of the laptop's connections use their second link, too.
pub(crate) fn wait_joined(laptop: &Host, connections: u64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while joined(laptop)? < connections {
        if Instant::now() > deadline {
            return Err(BenchError::Program("Multipath TCP does not use the second path".into()));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Carries out a step once. With `managed`, a path manager in user space withdraws the Wi-Fi's address as soon as
/// the system tells that its link is gone, which is the best that can be had.
///
/// # Errors
/// When the connections cannot be made.
pub fn run(step: Step, managed: bool, setting: &Setting) -> Result<Outcome> {
    let train = Train::new(&setting.profile())?;
    let (laptop, server) = (&train.laptop, &train.server);
    enable(&train)?;
    let echo = Stream::echo(Transport::Mptcp, laptop, server, address(Train::SERVER, 7)?)?;
    let stream =
        Stream::paced(Transport::Mptcp, laptop, server, address(Train::SERVER, 8000)?, (setting.mbit, true))?;
    wait_joined(laptop, 2)?;
    thread::sleep(WARM_UP);
    drift();
    let since = Instant::now();
    thread::sleep(BEFORE);

    let start = Instant::now();
    match step {
        Step::Down => train.set_wifi(false)?,
        Step::Carrier => train.wifi.link.set_carrier_a(false)?,
        Step::Blackhole => train.blackhole_wifi(true)?,
        _ => return Err(BenchError::Missing("there is no such step with Multipath TCP".into())),
    }
    if managed {
        // The connections began over Wi-Fi: that subflow is number 0, whatever the endpoint's number.
        ip(laptop, "mptcp endpoint delete id 1")?;
        ip(laptop, "mptcp endpoint delete id 0 10.1.0.2")?;
    }
    let silent = || {
        let late = start + IN_FLIGHT;
        echo.first_after(late).is_none() || stream.first_after(late).is_none()
    };
    while silent() && start.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(AFTER);
    let end = Instant::now();
    if overruns(&train) > 0 {
        return Ok(Outcome::Overrun);
    }
    let gap = ms(echo.longest_silence(since, end));
    Ok(Outcome::Measured(
        Sample::default()
            .with(Metric::Gap, gap)
            .with(Metric::Beyond, gap - ms(setting.delays.cell))
            .with(Metric::Down, ms(stream.longest_silence(since, end))),
    ))
}
