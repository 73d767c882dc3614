//! A network namespace, held open by a file descriptor and a worker thread.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

use crate::{
    error::{Context, Error, Result},
    netlink::Netlink,
    route,
};

type Job = Box<dyn FnOnce() + Send>;

/// An anonymous network namespace.
///
/// Its worker thread lives as long as this value; it starts the namespace's child processes, which
/// the kernel kills when the thread ends.
pub(crate) struct Namespace {
    name: String,
    fd: OwnedFd,
    netlink: Mutex<Netlink>,
    jobs: Mutex<Option<Sender<Job>>>,
    worker: Option<JoinHandle<()>>,
}

impl Namespace {
    /// Creates a namespace whose loopback interface is up.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let (ready, created) = channel();
        let worker = thread::Builder::new()
            .name(format!("netlab {name}"))
            .spawn(move || work(&queue, &ready))
            .context("start a worker thread")?;
        let (fd, netlink) = created.recv().map_err(|_| Error::WorkerGone(name.to_owned()))??;
        let namespace = Self {
            name: name.to_owned(),
            fd,
            netlink: Mutex::new(netlink),
            jobs: Mutex::new(Some(jobs)),
            worker: Some(worker),
        };
        namespace.netlink(|netlink| route::set_up(netlink, "lo", true))?;
        Ok(namespace)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Uses the namespace's route socket.
    pub(crate) fn netlink<T>(&self, action: impl FnOnce(&Netlink) -> Result<T>) -> Result<T> {
        action(&self.netlink.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs something short on the worker thread.
    pub(crate) fn call<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let gone = || Error::WorkerGone(self.name.clone());
        let (answer, result) = channel();
        let job: Job = Box::new(move || drop(answer.send(job())));
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        jobs.ok_or_else(gone)?.send(job).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())
    }

    /// Runs a closure on a new thread inside the namespace and waits for it; a panic is passed on.
    pub(crate) fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T> {
        let fd = self.fd.as_fd();
        let inside = move || {
            setns(fd, CloneFlags::CLONE_NEWNET).context("enter a network namespace")?;
            Ok(action())
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new()
                .name(format!("netlab {}", self.name))
                .spawn_scoped(scope, inside)
                .context("start a thread")?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Writes a file below `/proc/sys` as seen inside the namespace.
    pub(crate) fn set(&self, path: &str, value: &str) -> Result<()> {
        let full = Path::new("/proc/sys").join(path);
        let (path, text) = (full.clone(), value.to_owned());
        let written = self.call(move || write_setting(&path, &text))?;
        written.map_err(|source| Error::Setting { path: full, value: value.to_owned(), source })
    }

    /// The index of an interface.
    pub(crate) fn index(&self, interface: &str) -> Result<u32> {
        let name = interface.to_owned();
        self.call(move || nix::net::if_::if_nametoindex(name.as_str()))?
            .map_err(|_| Error::NoInterface { host: self.name.clone(), interface: interface.to_owned() })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(worker) = self.worker.take()
            && worker.thread().id() != thread::current().id()
        {
            // A worker only fails by a panic in a job, which its caller has seen.
            let _ = worker.join();
        }
    }
}

/// The life of a worker thread.
fn work(queue: &Receiver<Job>, ready: &Sender<Result<(OwnedFd, Netlink)>>) {
    let created = create();
    let failed = created.is_err();
    if ready.send(created).is_err() || failed {
        return;
    }
    while let Ok(job) = queue.recv() {
        job();
    }
}

/// Moves the calling thread into a new network namespace and returns handles to it.
fn create() -> Result<(OwnedFd, Netlink)> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|source| match source {
        Errno::EPERM => Error::Permission { what: "a network namespace", source },
        source => Error::System { what: "create a network namespace".to_owned(), source },
    })?;
    let file = File::open("/proc/thread-self/ns/net").context("open /proc/thread-self/ns/net")?;
    separate_mounts();
    Ok((file.into(), Netlink::route()?))
}

/// Gives the thread, and the processes it starts, a `/sys` that shows the namespace's interfaces.
///
/// Best effort: containers may forbid it, and few programs look there.
fn separate_mounts() {
    const NONE: Option<&str> = None;
    if unshare(CloneFlags::CLONE_NEWNS).is_ok()
        && mount(NONE, "/", NONE, MsFlags::MS_SLAVE | MsFlags::MS_REC, NONE).is_ok()
    {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), flags, NONE);
    }
}

/// Writes a setting, making a read-only `/proc/sys` writable for this thread if that is allowed.
fn write_setting(path: &Path, value: &str) -> io::Result<()> {
    match fs::write(path, value) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            const NONE: Option<&str> = None;
            mount(NONE, "/proc/sys", NONE, MsFlags::MS_REMOUNT | MsFlags::MS_BIND, NONE)
                .map_err(|_| error)?;
            fs::write(path, value)
        }
        result => result,
    }
}
