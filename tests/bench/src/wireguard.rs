//! For scale: the same events with plain WireGuard, in user space as MAST is.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mast_netlab::traffic::{EchoClient, EchoServer, Mark};
use mast_netlab::{Host, Process};
use mast_stage::Train;

use crate::figures::{Metric, Sample};
use crate::mast::{Outcome, Step};
use crate::mptcp::command;
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
const PORT: u16 = 51820;
const LAPTOP: &str = "10.77.0.1";
const SERVER: &str = "10.77.0.2";

/// Why it cannot be measured here, if so.
pub fn obstacle(setting: &Setting) -> Option<String> {
    if !setting.addressing.v4() {
        return Some("it is set up over IPv4 here".into());
    }
    let missing = |program: &str| {
        let run = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        run.is_err()
    };
    (missing("wireguard-go") || missing("wg"))
        .then(|| "wireguard-go is missing: apt-get install wireguard-go wireguard-tools".into())
}

/// Runs `wg` with some input and returns what it prints.
fn wg(argument: &str, input: &str) -> Result<String> {
    let mut child = Command::new("wg")
        .arg(argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(io("run wg"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(io("write to wg"))?;
    }
    let output = child.wait_with_output().map_err(io("run wg"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The arguments that keep a WireGuard in user space in the foreground.
fn foreground(program: &str) -> &'static [&'static str] {
    // These two run as the user who logged in, unless told not to, and then cannot make an interface again.
    let careful = ["boringtun", "gotatun"].iter().any(|name| file_name(program).starts_with(name));
    if careful { &["--foreground", "--disable-drop-privileges"] } else { &["-f"] }
}

/// The last part of a path.
pub(crate) fn file_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// A running WireGuard.
pub(crate) struct End {
    process: Process,
    socket: PathBuf,
}

impl End {
    fn start(host: &Host, program: &str, interface: &str, config: &str, address: &str) -> Result<Self> {
        let mut command_line = Command::new(program);
        command_line
            .args(foreground(program))
            .arg(interface)
            .env("LOG_LEVEL", "silent")
            .env("WG_LOG_LEVEL", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = host.spawn(command_line)?;
        let socket = Path::new("/var/run/wireguard").join(format!("{interface}.sock"));
        let mut end = Self { process, socket };
        let deadline = Instant::now() + Duration::from_secs(5);
        while !end.socket.exists() {
            if Instant::now() > deadline || end.process.poll()?.is_some() {
                return Err(BenchError::Program(format!("{program} does not start")));
            }
            thread::sleep(Duration::from_millis(10));
        }
        let mut file = tempfile::NamedTempFile::new().map_err(io("make a file"))?;
        file.write_all(config.as_bytes()).map_err(io("write a file"))?;
        let path = file.path().to_string_lossy().into_owned();
        command(host, "wg", &["setconf", interface, &path])?;
        host.add_address(interface, address)?;
        host.set_mtu(interface, 1420)?;
        host.set_up(interface, true)?;
        Ok(end)
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // It is killed, and leaves its socket behind.
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// The two ends' keys, and what their configurations say.
pub(crate) struct Keys {
    laptop: String,
    server: String,
}

impl Keys {
    /// The laptop's address inside the tunnel.
    pub const LAPTOP: &'static str = LAPTOP;
    /// The server's address inside the tunnel.
    pub const SERVER: &'static str = SERVER;

    /// Draws them.
    pub fn draw() -> Result<Self> {
        Ok(Self { laptop: wg("genkey", "")?, server: wg("genkey", "")? })
    }

    fn server(&self) -> Result<String> {
        Ok(format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\n\n\
             [Peer]\nPublicKey = {}\nAllowedIPs = {LAPTOP}/32\n",
            self.server,
            wg("pubkey", &self.laptop)?
        ))
    }

    /// The laptop's configuration, the server being at an address; of `wg setconf`, and with `quick` of wg-quick.
    pub fn laptop(&self, endpoint: &str, quick: bool) -> Result<String> {
        let address = if quick { format!("Address = {LAPTOP}/24\n") } else { String::new() };
        Ok(format!(
            "[Interface]\nPrivateKey = {}\n{address}\n\
             [Peer]\nPublicKey = {}\nAllowedIPs = {SERVER}/32\nEndpoint = {endpoint}:{PORT}\n\
             PersistentKeepalive = 25\n",
            self.laptop,
            wg("pubkey", &self.server)?
        ))
    }
}

/// A name for an interface, whose socket lies where those of the whole machine are.
fn interface(end: char) -> String {
    format!("wg{end}{}", std::process::id())
}

/// Starts the server's end alone.
pub(crate) fn serve(server: &Host, program: &str, keys: &Keys) -> Result<End> {
    End::start(server, program, &interface('s'), &keys.server()?, &format!("{SERVER}/24"))
}

/// Two hosts with a running WireGuard each.
pub(crate) struct Pair {
    laptop: End,
    server: End,
}

impl Pair {
    /// Joins two hosts; the server is at `endpoint` outside the tunnel.
    pub fn start(laptop: &Host, server: &Host, program: &str, endpoint: &str) -> Result<Self> {
        let keys = Keys::draw()?;
        let server = serve(server, program, &keys)?;
        let config = keys.laptop(endpoint, false)?;
        let laptop = End::start(laptop, program, &interface('l'), &config, &format!("{LAPTOP}/24"))?;
        Ok(Self { laptop, server })
    }

    /// Their numbers.
    pub fn processes(&self) -> [u32; 2] {
        [self.laptop.id(), self.server.id()]
    }
}

/// Carries out a step once. With `managed`, a network manager takes the interface's address away as soon as its
/// link is gone.
///
/// # Errors
/// When the tunnel cannot be made.
pub fn run(step: Step, managed: bool, setting: &Setting) -> Result<Outcome> {
    let train = Train::new(&setting.profile())?;
    let _pair = Pair::start(&train.laptop, &train.server, "wireguard-go", Train::SERVER)?;
    let echoes = EchoServer::start(&train.server, address(SERVER, 7)?)?;
    let echo = EchoClient::start(&train.laptop, echoes.address(), EchoClient::INTERVAL)?;
    let stream = Stream::paced(
        Transport::Tcp,
        &train.laptop,
        &train.server,
        address(SERVER, 8000)?,
        (setting.mbit, true),
    )?;
    thread::sleep(WARM_UP);
    drift();
    let (mark, since) = (Mark::now(), Instant::now());
    thread::sleep(BEFORE);

    let start = Instant::now();
    match step {
        Step::Down => train.set_wifi(false)?,
        Step::Carrier => train.wifi.link.set_carrier_a(false)?,
        Step::Blackhole => train.blackhole_wifi(true)?,
        _ => return Err(BenchError::Missing("there is no such step with WireGuard".into())),
    }
    if managed {
        train.laptop.del_address("wifi", "10.1.0.2/24")?;
    }
    thread::sleep(IN_FLIGHT);
    let late = Mark::now();
    let silent = || echo.report(late).received == 0 || stream.first_after(start + IN_FLIGHT).is_none();
    while silent() && start.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(5));
    }
    if start.elapsed() < PATIENCE {
        thread::sleep(AFTER);
    }
    let end = Instant::now();
    let gap = ms(echo.report(mark).longest_gap);
    let lost = echo.finish(mark).lost;
    if overruns(&train) > 0 {
        return Ok(Outcome::Overrun);
    }
    Ok(Outcome::Measured(
        Sample::default()
            .with(Metric::Gap, gap)
            .with(Metric::Beyond, gap - ms(setting.delays.cell))
            .with(Metric::Lost, lost as f64)
            .with(Metric::Down, ms(stream.longest_silence(since, end))),
    ))
}
