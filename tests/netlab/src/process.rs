//! Child processes inside a host.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{prctl, signal},
    unistd::{Pid, getpid, getppid},
};

use crate::{
    error::{Context, Error, Result},
    host::Host,
};

pub use nix::sys::signal::Signal;

/// A child process inside a host. Dropping it kills and reaps it, and nothing else.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    /// Keeps the thread alive whose end would kill the child.
    _host: Host,
}

impl Process {
    pub(crate) fn spawn(host: &Host, mut command: Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let parent = getpid();
        let die_with_parent = move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the line above.
            if getppid() == parent { Ok(()) } else { Err(io::Error::from(Errno::ESRCH)) }
        };
        // SAFETY: the closure only makes the system calls prctl and getppid and does not allocate.
        unsafe { command.pre_exec(die_with_parent) };
        let spawned = host.namespace().call(move || command.spawn())?;
        let child = spawned.context(format!("start {name} on host {}", host.name()))?;
        Ok(Self { child, name, _host: host.clone() })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The standard library's handle, for example to take the pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal. A process that has already been waited for is left alone.
    pub fn kill(&mut self, signal: Signal) -> Result<()> {
        if self.poll()?.is_some() {
            return Ok(());
        }
        // The child is not reaped, so the id is still its own.
        let id = Pid::from_raw(self.child.id().cast_signed());
        signal::kill(id, signal).context(format!("send {signal} to {}", self.name))
    }

    /// The exit status, if the process has ended.
    pub fn poll(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context(format!("wait for {}", self.name))
    }

    /// Waits for the process to end, at most `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.poll()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(Error::Deadline { what: "a child process", progress: self.name.clone() });
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both only fail when the child has already been reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
