//! A real `mastd` on a host, and what is asked of it through its control socket.

use std::fs::File;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mast_control::{Client, ClientError, Invite, PeerAdd, PeerStatus, PolicyMode, PolicySet, Status};
use mast_netlab::{Host, Process, Signal};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{Result, StageError, io};

/// A start may take so long: mostly it is a tenth of a second, but the kernel is slow with ten thousand addresses.
const START: Duration = Duration::from_secs(60);

/// How the service is started.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    as_mastd: bool,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    prepared: Option<String>,
}

impl Program {
    /// The program that runs now, if it is `mast`.
    pub fn this() -> Self {
        Self::at("/proc/self/exe".into())
    }

    /// `mast` as cargo built it, beside the test or benchmark that runs now.
    ///
    /// # Errors
    /// When it has not been built, with the command that builds it.
    pub fn built() -> Result<Self> {
        Ok(Self::at(Self::mast()?))
    }

    /// `mast` at this path.
    pub fn at(path: PathBuf) -> Self {
        Self { path, as_mastd: true, environment: Vec::new(), arguments: Vec::new(), prepared: None }
    }

    /// The same, after a shell script that may change the mounts that it sees, which are nobody else's. The service's
    /// directory is `$STAGE` there.
    #[must_use]
    pub fn prepared(mut self, script: &str) -> Self {
        self.prepared = Some(script.to_owned());
        self
    }

    /// The same with an environment variable.
    #[must_use]
    pub fn with(mut self, variable: &str, value: &str) -> Self {
        self.environment.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// The same with an argument.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Whether it takes its arguments, as a `mastd` that was built for it does.
    pub fn takes_its_arguments(&self) -> bool {
        let mut command = Command::new(&self.path);
        if self.as_mastd {
            command.arg0("mastd");
        }
        command.args(&self.arguments).arg("--version");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// The path of `mast` as cargo built it.
    ///
    /// # Errors
    /// When it has not been built, with the command that builds it.
    pub fn mast() -> Result<PathBuf> {
        let here = std::env::current_exe().map_err(io("find this program"))?;
        let found = here.ancestors().skip(1).take(3).map(|d| d.join("mast")).find(|p| p.is_file());
        found.ok_or_else(|| {
            StageError::Late(
                "`mast` is not built: run `cargo build --release` (or `cargo build`) first".into(),
            )
        })
    }
}

/// A running `mastd`. Dropping it kills the process.
pub struct Daemon {
    name: String,
    host: Host,
    program: Program,
    process: Option<Process>,
    directory: TempDir,
    runtime: Runtime,
}

impl Daemon {
    /// Starts `mastd` on a host and waits until it answers. `config` is appended to its configuration file.
    ///
    /// # Errors
    /// When it does not start within a minute; its log is in the message.
    pub fn start(program: &Program, host: &Host, config: &str) -> Result<Self> {
        let directory = TempDir::with_prefix("mast-stage-").map_err(io("make a directory"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(io("start a runtime"))?;
        let name = host.name().to_owned();
        let text = format!("name = \"{name}\"\n{config}");
        std::fs::write(directory.path().join("mastd.toml"), text).map_err(io("write a configuration"))?;
        let mut daemon =
            Self { name, host: host.clone(), program: program.clone(), process: None, directory, runtime };
        daemon.launch()?;
        Ok(daemon)
    }

    /// The command that starts it: for a variation of it, as its output goes where that of this program goes.
    pub fn command(&self) -> Command {
        let mut command = match &self.program.prepared {
            Some(script) => {
                let mut command = Command::new("sh");
                command
                    .arg("-c")
                    .arg(format!("set -e\n{script}\nexec \"$0\" \"$@\""))
                    .arg(&self.program.path);
                command.env("STAGE", self.directory.path());
                if self.program.as_mastd {
                    command.arg("--as-mastd");
                }
                command
            }
            None => {
                let mut command = Command::new(&self.program.path);
                if self.program.as_mastd {
                    command.arg0("mastd");
                }
                command
            }
        };
        command
            .arg("--config")
            .arg(self.directory.path().join("mastd.toml"))
            .arg("--state-dir")
            .arg(self.directory.path().join("state"))
            .arg("--control")
            .arg(self.control())
            .args(&self.program.arguments)
            .env_remove("NOTIFY_SOCKET")
            .envs(self.program.environment.iter().map(|(variable, value)| (variable, value)))
            .stdin(Stdio::null());
        command
    }

    /// Has it be started otherwise from now on.
    pub fn set_program(&mut self, program: &Program) {
        self.program = program.clone();
    }

    /// Starts the process, again after it has ended; its state is kept.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn launch(&mut self) -> Result<()> {
        let log =
            File::options().create(true).append(true).open(self.log_path()).map_err(io("open a log"))?;
        let mut command = self.command();
        command.stdout(Stdio::null()).stderr(log);
        let mut process = self.host.spawn(command)?;
        let deadline = Instant::now() + START;
        loop {
            match self.runtime.block_on(Client::connect(self.control())) {
                Ok(_) => break,
                Err(error) => {
                    let ended = process.poll()?;
                    if ended.is_some() || Instant::now() > deadline {
                        return Err(StageError::Late(format!(
                            "mastd on {} does not start: {error}\n{}",
                            self.name,
                            self.log()
                        )));
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.process = Some(process);
        Ok(())
    }

    /// Ends the process in an orderly way and says whether it took that well.
    ///
    /// # Errors
    /// When it does not end within five seconds.
    pub fn stop(&mut self) -> Result<std::process::ExitStatus> {
        let Some(mut process) = self.process.take() else {
            return Err(StageError::Late(format!("mastd on {} is not running", self.name)));
        };
        process.kill(Signal::SIGTERM)?;
        Ok(process.wait(Duration::from_secs(5))?)
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Sends the process a signal.
    ///
    /// # Errors
    /// When it is not running.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        match &mut self.process {
            Some(process) => Ok(process.kill(signal)?),
            None => Err(StageError::Late(format!("mastd on {} is not running", self.name))),
        }
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The host it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its control socket.
    pub fn control(&self) -> PathBuf {
        self.directory.path().join("control.sock")
    }

    /// Its directory, which holds `mastd.toml` and `state`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Runs something with a fresh connection to the control socket.
    ///
    /// # Errors
    /// What the daemon answers, or that it does not.
    pub fn ask<T>(&self, what: impl AsyncFnOnce(&mut Client) -> Result<T, ClientError>) -> Result<T> {
        let control = self.control();
        let result = self.runtime.block_on(async {
            let mut client = Client::connect(control).await?;
            what(&mut client).await
        });
        result.map_err(|source| StageError::Control { daemon: self.name.clone(), source })
    }

    /// `mast status`.
    ///
    /// # Errors
    /// As [`Daemon::ask`].
    pub fn status(&self) -> Result<Status> {
        self.ask(async |c| c.status().await)
    }

    /// What it says of its first peer.
    ///
    /// # Errors
    /// As [`Daemon::ask`], and when it has none.
    pub fn peer(&self) -> Result<PeerStatus> {
        let none = || StageError::Late(format!("mastd on {} has no peer", self.name));
        self.status()?.peers.into_iter().next().ok_or_else(none)
    }

    /// `mast invite`, and `mast peer add` at the other daemon; then waits until both hosts have their EIDs.
    ///
    /// # Errors
    /// As [`Daemon::ask`], and when they do not get there.
    pub fn pair(&self, other: &Self) -> Result<()> {
        let invited = self.ask(async |c| c.invite(Invite::default()).await)?;
        let added = other
            .ask(async |c| c.peer_add(PeerAdd { link: Some(invited.link), ..PeerAdd::default() }).await)?;
        other.wait_eids(|p| p.name == added.name)?;
        let key = other.status()?.public_key;
        self.wait_eids(|p| p.public_key == key)
    }

    /// Waits until the host has the EIDs for a peer.
    fn wait_eids(&self, which: impl Fn(&PeerStatus) -> bool) -> Result<()> {
        let mut eids = Vec::new();
        self.wait("EIDs", Duration::from_secs(10), |s| {
            let peer = s.peers.iter().find(|p| which(p) && p.state.as_str() == "connected");
            let found = peer.and_then(|p| Some([p.eid.local_v4.clone()?, p.eid.local_v6.clone()?]));
            eids = found.into_iter().flatten().filter_map(|a| a.parse::<IpAddr>().ok()).collect();
            eids.len() == 2
        })?;
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.host.run(|| eids.iter().all(|a| UdpSocket::bind((*a, 0)).is_ok()))? {
            if Instant::now() > deadline {
                return Err(StageError::Late(format!("{} does not get the addresses {eids:?}", self.name)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// `mast pin`, or `mast unpin` for an empty list.
    ///
    /// # Errors
    /// As [`Daemon::ask`].
    pub fn pin(&self, order: &[&str], only: bool) -> Result<()> {
        let mode = if order.is_empty() { PolicyMode::Auto } else { PolicyMode::Pin };
        let pin = order.iter().map(|&s| s.to_owned()).collect();
        self.ask(async |c| {
            c.policy_set(PolicySet { mode, pin, fallback: !only, ..PolicySet::default() }).await
        })
    }

    /// Waits until its status is as wanted.
    ///
    /// # Errors
    /// When that takes too long; the last status and the log are in the message.
    pub fn wait(
        &self,
        what: &str,
        limit: Duration,
        mut wanted: impl FnMut(&Status) -> bool,
    ) -> Result<Status> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.status()?;
            if wanted(&status) {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(StageError::Late(format!(
                    "mastd on {}: no {what} within {limit:?}\n{status:#?}\n{}",
                    self.name,
                    self.log()
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until data to the first peer goes over an interface, and the peer answers.
    ///
    /// # Errors
    /// As [`Daemon::wait`].
    pub fn wait_active(&self, interface: &str, limit: Duration) -> Result<Status> {
        self.wait(&format!("data over {interface}"), limit, |s| {
            s.peers.first().is_some_and(|p| {
                p.state.as_str() == "connected"
                    && p.paths.iter().any(|x| x.active && x.interface == interface)
            })
        })
    }
}
