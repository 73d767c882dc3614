//! Signals, and systemd where it started the service. launchd, which starts it on a Mac, wants to hear nothing; a Mac says
//! before it sleeps, and when it is awake.

use std::process::ExitCode;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Asked, Life, Told};

/// The configuration file unless told otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/mast/mastd.toml";
/// The state directory unless told otherwise.
#[cfg(not(target_vendor = "apple"))]
pub const DEFAULT_STATE: &str = "/var/lib/mast";
/// The state directory unless told otherwise.
#[cfg(target_vendor = "apple")]
pub const DEFAULT_STATE: &str = "/var/db/mast";

/// Does the work of the service. Here it is a program like any other, whoever starts it.
pub(crate) fn live(_as_service: bool, work: impl FnOnce() -> ExitCode + Send + 'static) -> ExitCode {
    work()
}

/// SIGTERM and SIGINT stop the service; SIGCONT follows when it was held up; SIGHUP asks for a reload, which there is
/// not. That the machine slept, the watch over its interfaces tells, too.
pub(crate) struct Unix {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    go_on: Signal,
    #[cfg(target_os = "macos")]
    power: Option<super::power::Power>,
}

impl Unix {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            go_on: signal(SignalKind::from_raw(nix::libc::SIGCONT))?,
            #[cfg(target_os = "macos")]
            power: super::iokit::listen()
                .inspect_err(|error| tracing::warn!(%error, "a sleep of the machine is noticed afterwards"))
                .ok(),
        })
    }

    /// What the machine says of its sleep, where it does beforehand.
    #[cfg(target_os = "macos")]
    async fn power(power: &mut Option<super::power::Power>) -> Asked {
        match power {
            Some(power) => power.asked().await,
            None => std::future::pending().await,
        }
    }
}

impl Life for Unix {
    async fn asked(&mut self) -> Asked {
        loop {
            #[cfg(target_os = "macos")]
            let power = Self::power(&mut self.power);
            #[cfg(not(target_os = "macos"))]
            let power = std::future::pending();
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.go_on.recv() => return Asked::Wake,
                asked = power => return asked,
                _ = self.hang_up.recv() => {
                    tracing::warn!("SIGHUP: the configuration is read at the start only; restart mastd to apply it");
                    continue;
                }
            };
            tracing::info!(signal = name, "told to stop");
            return Asked::Stop;
        }
    }

    fn tell(&self, told: Told) {
        let state = match told {
            Told::Ready => NotifyState::Ready,
            Told::Alive => NotifyState::Watchdog,
            Told::Stopping => NotifyState::Stopping,
        };
        if let Err(error) = sd_notify::notify(&[state]) {
            tracing::warn!(%error, "systemd could not be told");
        }
    }

    fn alive_every(&self) -> Option<Duration> {
        sd_notify::watchdog_enabled().map(|period| period / 2)
    }
}

/// Keeps what is in memory, keys above all, from other processes of this user and from core dumps.
///
/// # Errors
/// When the system refuses.
pub(crate) fn shut_memory() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false)?;
    Ok(())
}

/// What this machine calls itself; empty if it does not say.
pub(crate) fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

/// Who beside the log is told of errors: nobody, since the journal has them.
pub(crate) fn errors_told() -> Option<std::io::Sink> {
    None
}
