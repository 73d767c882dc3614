//! Waking a thread that waits for sockets.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};

/// Something to wait for along with sockets, and a flag that says to end.
pub(crate) struct Wake {
    waker: UnixStream,
    sleeper: UnixStream,
    stop: AtomicBool,
}

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        let (waker, sleeper) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        sleeper.set_nonblocking(true)?;
        Ok(Self { waker, sleeper, stop: AtomicBool::new(false) })
    }

    /// Makes the current or next [`wait`](Self::wait) return at once.
    pub(crate) fn wake(&self) {
        // It only fails when much is waiting to be read, and then the thread is awake anyway.
        let _ = (&self.waker).write(&[0]);
    }

    /// Tells the thread to end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Waits until a socket is readable, a time has come, or somebody wakes the thread.
    pub(crate) fn wait(&self, sockets: [BorrowedFd<'_>; 2], until: Option<Instant>) {
        let timeout = until.map(|due| TimeSpec::from_duration(due.saturating_duration_since(Instant::now())));
        let [first, second] = sockets;
        let mut fds =
            [self.sleeper.as_fd(), first, second].map(|socket| PollFd::new(socket, PollFlags::POLLIN));
        // An interrupted wait is only a shorter one.
        let _ = ppoll(&mut fds, timeout, None);
        if fds[0].any() == Some(true) {
            // Whoever wrote to it has set a flag first.
            let _ = (&self.sleeper).read(&mut [0; 64]);
        }
    }

    /// The same for a single socket.
    pub(crate) fn wait_for(&self, socket: &impl AsFd, until: Option<Instant>) {
        self.wait([socket.as_fd(), socket.as_fd()], until);
    }
}
