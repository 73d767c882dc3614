//! A program of the desktop, ended when dropped.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// A program and what it started.
pub struct Running(Child);

impl Running {
    /// Starts a command in a process group of its own.
    ///
    /// # Panics
    /// When it is not installed.
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null());
        Self::start_with_input(command)
    }

    /// The same, with the input that the command says.
    ///
    /// # Panics
    /// When it is not installed.
    pub fn start_with_input(mut command: Command) -> Self {
        let child = command.process_group(0).spawn();
        Self(child.unwrap_or_else(|e| panic!("{:?} does not start: {e}", command.get_program())))
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits until it ends by itself; whether it did.
    pub fn ends_within(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < limit {
            if self.0.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// The child itself.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.0.id().cast_signed());
        // It may have ended by itself.
        let _ = killpg(group, Signal::SIGTERM);
        if !self.ends_within(Duration::from_secs(2)) {
            let _ = killpg(group, Signal::SIGKILL);
            let _ = self.0.wait();
        }
        // Its children are not ours to wait for, but they shall not outlive it.
        let _ = killpg(group, Signal::SIGKILL);
    }
}
