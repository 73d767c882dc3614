//! Getting a process into namespaces where it may build a lab.

use std::{
    env,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{self, Command, ExitStatus},
    sync::atomic::{AtomicI32, Ordering},
    thread,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    },
    unistd::{getegid, geteuid, getpid, getppid},
};

use crate::error::{Context, Error, Result};
use crate::netlink::Netlink;
use crate::route;

/// Set in a process that is already isolated.
const INSIDE: &str = "MAST_NETLAB_INSIDE";

/// Moves the whole process into a fresh network namespace, and as an ordinary user into a fresh user
/// namespace in which it is root.
///
/// Call it at the start of `main`, before any thread. It is not strictly needed as root, where each
/// host gets a namespace of its own anyway.
pub fn enter() -> Result<()> {
    match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => {}
        Err(Errno::EPERM) => Maps::new().isolate().map_err(explain)?,
        Err(source) => return Err(Error::System { what: "create a network namespace".to_owned(), source }),
    }
    raise_loopback()
}

/// A fresh namespace has its loopback interface down, and programs beside the lab may talk over it.
fn raise_loopback() -> Result<()> {
    route::set_up(&Netlink::route()?, "lo", true)
}

/// The maps of a user namespace, prepared in advance: between fork and exec nothing may allocate.
struct Maps {
    users: Vec<u8>,
    groups: Vec<u8>,
}

impl Maps {
    fn new() -> Self {
        let map = |id: u32| format!("0 {id} 1\n").into_bytes();
        Self { users: map(geteuid().as_raw()), groups: map(getegid().as_raw()) }
    }

    /// Moves the process, which must have one thread only, into new namespaces where it is root.
    fn isolate(&self) -> io::Result<()> {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
        let write = |path: &str, bytes: &[u8]| OpenOptions::new().write(true).open(path)?.write_all(bytes);
        write("/proc/self/setgroups", b"deny")?;
        write("/proc/self/uid_map", &self.users)?;
        write("/proc/self/gid_map", &self.groups)
    }
}

fn explain(error: io::Error) -> Error {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EINVAL) => Error::Threads,
        Some(source @ (Errno::EPERM | Errno::EACCES | Errno::ENOSPC | Errno::EUSERS)) => {
            Error::Permission { what: "a user namespace", source }
        }
        _ => Error::Io { what: "enter a user namespace".to_owned(), source: error },
    }
}

/// Whether this process may create network namespaces as it is.
fn may_create() -> bool {
    // A thread's new namespace goes away with it.
    thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET).is_ok()).join().unwrap_or(false)
}

/// Like [`enter`], but for processes that may have threads already: if needed, runs the same program
/// with the same arguments isolated, and ends this process with its exit status.
///
/// Returns when the process can build labs. Signals sent to the outer process reach the inner one,
/// which does not outlive it.
pub fn reexec_isolated() -> Result<()> {
    if env::var_os(INSIDE).is_some() {
        return raise_loopback();
    }
    if may_create() {
        return Ok(());
    }
    let mut arguments = env::args_os();
    let name = arguments.next();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = name {
        command.arg0(name);
    }
    command.args(arguments);
    let status = run_isolated(command)?;
    match status.code() {
        Some(code) => process::exit(code),
        None => process::exit(128 + status.signal().unwrap_or(0)),
    }
}

/// Runs a test that builds labs, as root or not.
///
/// Where namespaces can be created right away, it simply calls `test`. As an ordinary user it runs the
/// test binary once more, in isolation and for this one test; `name` must therefore be the test's full
/// name as the test harness prints it, and the caller must be that very test.
///
/// # Panics
///
/// When the isolated test fails, or cannot be run.
pub fn isolated_test(name: &str, test: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        raise_loopback().unwrap_or_else(|error| panic!("cannot run {name}: {error}"));
        return test();
    }
    if may_create() {
        return test();
    }
    let mut command = Command::new("/proc/self/exe");
    command.args([name, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"]);
    match run_isolated(command) {
        Ok(status) => assert!(status.success(), "the isolated test {name} failed: {status}"),
        Err(error) => panic!("cannot run {name}: {error}"),
    }
}

/// Runs a command in new namespaces until it ends.
fn run_isolated(mut command: Command) -> Result<ExitStatus> {
    let maps = Maps::new();
    let parent = getpid();
    let isolate = move || {
        maps.isolate()?;
        // Entering a user namespace clears this, so it comes after.
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        if getppid() == parent { Ok(()) } else { Err(io::Error::from(Errno::ESRCH)) }
    };
    // SAFETY: the closure makes system calls only; paths and maps are short or prepared, so that
    // nothing is allocated.
    unsafe { command.pre_exec(isolate) };
    let mut child = command.env(INSIDE, "1").spawn().map_err(explain)?;
    forward_signals(child.id().cast_signed())?;
    let status = child.wait().context("wait for the isolated process");
    FORWARD_TO.store(0, Ordering::Relaxed);
    status
}

static FORWARD_TO: AtomicI32 = AtomicI32::new(0);

/// Passes signals on to a child, so that it decides when both end.
fn forward_signals(child: i32) -> Result<()> {
    FORWARD_TO.store(child, Ordering::Relaxed);
    let action = SigAction::new(
        SigHandler::SigAction(forward),
        SaFlags::SA_SIGINFO | SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        // SAFETY: the handler only reads an atomic and calls kill, both of which signal handlers may.
        unsafe { sigaction(signal, &action) }.context("install a signal handler")?;
    }
    Ok(())
}

extern "C" fn forward(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    /// From the terminal, which has signalled the child as well.
    const SI_KERNEL: i32 = 0x80;
    let child = FORWARD_TO.load(Ordering::Relaxed);
    // SAFETY: the kernel passes a valid `siginfo_t` to handlers installed with SA_SIGINFO.
    let from_terminal = unsafe { (*info).si_code } == SI_KERNEL;
    if child > 0 && !from_terminal {
        // SAFETY: no pointers are involved; an id that is gone makes it fail without harm.
        unsafe { libc::kill(child, signal) };
    }
}
