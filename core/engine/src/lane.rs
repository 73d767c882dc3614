//! The lane: a second thread, which seals and sends where one thread is not enough.
//!
//! The engine stays the only owner of everything. It prepares a run, which takes what the context has to know of it, and
//! hands it over as it lies in its outbox, with the keys and the socket; the thread seals it, hands it to the system, and
//! gives back the outbox with what came of it. One handover for a run and none for a datagram, first in and first out, so
//! that nothing overtakes anything. What else goes over a path that has runs under way goes the same way.
//!
//! Nothing is handed over unless one thread is busy all of the time: a lone request does not wait for a thread to wake,
//! and nobody pays for a second thread that brings nothing. On one processor there is none at all.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::task::{Context, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use mast_proto::{PathKey, Unsealed};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::os::{NotSent, SendRefused, Udp};
use crate::outbox::Outbox;
use crate::peer::PeerId;
use crate::road::{PATIENCE, Run};

/// Runs that are under way at most: one that is sealed and sent, and enough behind it that the engine need not be woken
/// for each.
const RUNS: usize = 4;
/// The engine waits for so many outboxes at once, where it has to wait at all.
const WORTH_WAKING: usize = 2;
/// Single datagrams that are under way at most, beside the runs: probes, reports, and what is sent again.
const SINGLES: usize = 64;
/// The thread tells once in so many runs what it has used.
const LOOK: u8 = 16;
/// Where a socket says that it has room and has none.
const PAUSE: Duration = Duration::from_micros(100);

/// What is sent.
enum Cargo {
    /// What was put together, and what is left to do before it is sent.
    Run(Outbox, Option<Unsealed>),
    /// One datagram, sealed.
    Single(Vec<u8>),
}

struct Job<U> {
    cargo: Cargo,
    /// Whose it is.
    peer: PeerId,
    path: PathKey,
    class: u8,
    socket: Arc<U>,
}

impl<U: Udp> Job<U> {
    fn run(&self) -> Run<'_> {
        match &self.cargo {
            Cargo::Run(outbox, _) => outbox.run(self.path, self.class),
            Cargo::Single(datagram) => Run {
                path: self.path,
                class: self.class,
                stride: datagram.len(),
                payload: datagram,
                carried: 0,
            },
        }
    }

    /// Seals and sends it. A run waits for room for a while.
    fn carry_out(&mut self, waker: &Waker) -> Result<(), NotSent> {
        let patient = match &mut self.cargo {
            Cargo::Run(outbox, unsealed) => {
                let stride = outbox.stride();
                if let Some(unsealed) = unsealed.take() {
                    unsealed.seal(outbox.sealed_mut(), stride);
                }
                true
            }
            Cargo::Single(_) => false,
        };
        let Run { path, class, stride, payload, .. } = self.run();
        let mut until = None;
        loop {
            let not_sent = match self.socket.try_send(path.local, path.remote, class, stride, payload) {
                Ok(()) => return Ok(()),
                Err(not_sent) => not_sent,
            };
            if not_sent != (NotSent { sent: 0, why: SendRefused::Full }) || !patient {
                return Err(not_sent);
            }
            let now = Instant::now();
            let left = until.get_or_insert(now + PATIENCE).saturating_duration_since(now);
            if left.is_zero() {
                return Err(not_sent);
            }
            let ready = self.socket.poll_writable(&mut Context::from_waker(waker)).is_ready();
            thread::park_timeout(if ready { PAUSE } else { left });
        }
    }
}

/// What came back.
pub(crate) struct Done<U> {
    job: Job<U>,
    /// What the system said.
    pub result: Result<(), NotSent>,
}

impl<U: Udp> Done<U> {
    /// Whose it was.
    pub fn peer(&self) -> PeerId {
        self.job.peer
    }

    /// What was sent, or was to be.
    pub fn run(&self) -> Run<'_> {
        self.job.run()
    }

    /// Through which socket.
    pub fn socket(&self) -> &Arc<U> {
        &self.job.socket
    }
}

/// What both threads look at.
#[derive(Default)]
struct Shared {
    /// Handed over and not done.
    under_way: AtomicUsize,
    /// Processor time that the thread has used, in nanoseconds.
    worked: AtomicU64,
    /// The engine waits for outboxes.
    wanted: AtomicBool,
    /// Wakes the engine.
    back: Notify,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The thread, and what is on its way to it and back.
struct Line<U> {
    jobs: Option<SyncSender<Job<U>>>,
    done: Receiver<Done<U>>,
    /// The paths of what was handed over and has not been taken back, the oldest first.
    under_way: VecDeque<PathKey>,
    spare: Vec<Outbox>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl<U: Udp> Line<U> {
    fn start(clock: Clock) -> io::Result<Self> {
        let (jobs, inbox) = sync_channel(RUNS + SINGLES);
        let (outbox, done) = sync_channel(RUNS + SINGLES);
        let shared = Arc::new(Shared::default());
        let (told, runtime) = (Arc::clone(&shared), Handle::try_current().ok());
        let thread = thread::Builder::new()
            .name("mast-lane".into())
            .spawn(move || work(&inbox, &outbox, &told, &clock, runtime.as_ref()))?;
        Ok(Self {
            jobs: Some(jobs),
            done,
            under_way: VecDeque::new(),
            spare: (0..RUNS).map(|_| Outbox::new()).collect(),
            shared,
            thread: Some(thread),
        })
    }

    /// There is room for it: no more is ever under way than fits.
    fn hand_over(&mut self, job: Job<U>) {
        let path = job.path;
        self.shared.under_way.fetch_add(1, Ordering::SeqCst);
        if self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok()) {
            self.under_way.push_back(path);
        } else {
            self.shared.under_way.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl<U> Drop for Line<U> {
    fn drop(&mut self) {
        // What is on its way still leaves.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread does, until nothing can come any more.
fn work<U: Udp>(
    jobs: &Receiver<Job<U>>,
    done: &SyncSender<Done<U>>,
    shared: &Shared,
    clock: &Clock,
    runtime: Option<&Handle>,
) {
    // Sockets tell of room through it.
    let _inside = runtime.map(Handle::enter);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut count = 0_u8;
    while let Ok(mut job) = jobs.recv() {
        let result = job.carry_out(&waker);
        count = count.wrapping_add(1);
        if count.is_multiple_of(LOOK)
            && let Some(worked) = clock()
        {
            shared.worked.store(worked.as_nanos() as u64, Ordering::Relaxed);
        }
        let failed = result.is_err();
        if done.send(Done { job, result }).is_err() {
            return;
        }
        let left = shared.under_way.fetch_sub(1, Ordering::SeqCst).saturating_sub(1);
        let awaited = left + WORTH_WAKING <= RUNS && shared.wanted.swap(false, Ordering::SeqCst);
        if failed || awaited {
            shared.back.notify_one();
        }
    }
}

/// Processor time that the thread which asks has used, where the system tells.
pub(crate) type Clock = Arc<dyn Fn() -> Option<Duration> + Send + Sync>;

/// Whether a second thread is worth it: there is much to send, and one thread is busy all of the time with it. Where it
/// is not, the second would cost processor time and bring nothing: what it seals has to come from the other's memory.
struct Load {
    /// Full runs add to it; what is not full takes away.
    much: u8,
    clock: Clock,
    /// When it was looked at last, and the processor time that both threads had used by then.
    since: Option<(Instant, Duration)>,
    /// The second thread is worth it.
    worth: bool,
}

impl Load {
    const MUCH: u8 = 16;
    const FULL: u8 = 2;
    /// It is looked at so often.
    const WINDOW: Duration = Duration::from_millis(50);
    /// Percent of the time, of one processor, at which one thread is busy all of the time.
    const BUSY: u32 = 90;
    /// And below which one could do what two do.
    const ENOUGH: u32 = 80;

    fn new(clock: Clock) -> Self {
        Self { much: 0, clock, since: None, worth: false }
    }

    /// A run leaves. `second` is the processor time that the second thread has used.
    fn note(&mut self, now: Instant, full: bool, second: Duration) {
        self.much = if full { Self::MUCH.min(self.much + Self::FULL) } else { self.much.saturating_sub(1) };
        if self.much == 0 {
            (self.since, self.worth) = (None, false);
            return;
        }
        if self.much < Self::MUCH && self.since.is_none() {
            return;
        }
        let (start, before) = match self.since {
            Some(since) if now < since.0 + Self::WINDOW => return,
            since => since.unwrap_or((now, Duration::MAX)),
        };
        let Some(used) = (self.clock)().map(|own| own + second) else { return };
        self.since = Some((now, used));
        if before == Duration::MAX {
            return;
        }
        let percent = |of: u32| now.saturating_duration_since(start) * of / 100;
        let used = used.saturating_sub(before);
        self.worth = used >= percent(if self.worth { Self::ENOUGH } else { Self::BUSY });
    }
}

/// See the [module's documentation](self).
pub(crate) struct Lane<U> {
    /// The machine can do two things at once.
    allowed: bool,
    load: Load,
    line: Option<Line<U>>,
    /// Nothing is put together until there are outboxes again.
    waiting: bool,
}

impl<U: Udp> Lane<U> {
    /// None is made before it is worth it, and never where no more than one thread can work at once.
    pub fn new(processors: usize, clock: Clock) -> Self {
        Self { allowed: processors > 1, load: Load::new(clock), line: None, waiting: false }
    }

    /// Whether what was put together goes this way: because that is worth it, or something that went before it is still
    /// under way. `full` says whether there was hardly room for more.
    pub fn takes(&mut self, now: Instant, full: bool) -> bool {
        if !self.allowed {
            return false;
        }
        let worked = self.line.as_ref().map_or(0, |line| line.shared.worked.load(Ordering::Relaxed));
        self.load.note(now, full, Duration::from_nanos(worked));
        if self.load.worth && self.line.is_none() {
            match Line::start(Arc::clone(&self.load.clock)) {
                Ok(line) => self.line = Some(line),
                Err(error) => {
                    tracing::debug!(%error, "no second thread");
                    self.allowed = false;
                }
            }
        }
        self.line.as_ref().is_some_and(|line| self.load.worth || !line.under_way.is_empty())
    }

    /// Whether a run can be handed over. If not, the engine waits for [`Lane::back`].
    pub fn has_room(&mut self) -> bool {
        let Some(line) = &self.line else { return false };
        self.waiting = line.spare.is_empty();
        !self.waiting
    }

    /// Whether the engine waits for outboxes.
    pub fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Whether it has enough of them, and need not wait any longer.
    pub fn resume(&mut self) -> bool {
        let resumed = self.waiting && self.has_enough();
        self.waiting &= !resumed;
        resumed
    }

    fn has_enough(&self) -> bool {
        self.line.as_ref().is_none_or(|line| line.spare.len() >= WORTH_WAKING)
    }

    /// Whether anything is under way.
    pub fn is_empty(&self) -> bool {
        self.line.as_ref().is_none_or(|line| line.under_way.is_empty())
    }

    /// Whether anything over this path is under way, and there is room for one datagram more.
    pub fn carries(&self, path: PathKey) -> bool {
        let fits = |line: &Line<U>| {
            line.under_way.len() < RUNS + SINGLES - line.spare.len() && line.under_way.contains(&path)
        };
        self.line.as_ref().is_some_and(fits)
    }

    /// Hands over the front of what was put together, which is prepared for a path, and leaves the rest.
    pub fn run(
        &mut self,
        outbox: &mut Outbox,
        unsealed: Option<Unsealed>,
        peer: PeerId,
        (path, socket): (PathKey, Arc<U>),
    ) {
        let Some((line, mut other)) = self.line.as_mut().and_then(|l| l.spare.pop().map(|o| (l, o))) else {
            return;
        };
        let class = outbox.class();
        outbox.part(&mut other);
        line.hand_over(Job { cargo: Cargo::Run(other, unsealed), peer, path, class, socket });
    }

    /// Hands over one datagram.
    pub fn single(&mut self, datagram: &[u8], peer: PeerId, (path, socket): (PathKey, Arc<U>)) {
        if let Some(line) = &mut self.line {
            line.hand_over(Job { cargo: Cargo::Single(datagram.to_vec()), peer, path, class: 0, socket });
        }
    }

    /// What has come back, one at a time, in the order in which it was handed over. See [`Lane::give_back`].
    pub fn next_done(&mut self) -> Option<Done<U>> {
        let line = self.line.as_mut().filter(|line| !line.under_way.is_empty())?;
        match line.done.try_recv() {
            Ok(done) => {
                line.under_way.pop_front();
                Some(done)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                tracing::error!("the second thread has ended");
                self.allowed = false;
                self.stop();
                None
            }
        }
    }

    /// Takes back the outbox.
    pub fn give_back(&mut self, done: Done<U>) {
        if let (Some(line), Cargo::Run(mut outbox, _)) = (&mut self.line, done.job.cargo) {
            outbox.clear();
            line.spare.push(outbox);
        }
    }

    /// Ends when something failed that was under way, or outboxes came back that the engine waits for.
    pub fn back(&self) -> impl Future<Output = ()> + Send + '_ {
        let enough = self.has_enough();
        let line = self.line.as_ref().filter(|line| !line.under_way.is_empty());
        let (shared, waiting) = (line.map(|line| &*line.shared), self.waiting);
        async move {
            if waiting && enough {
                return;
            }
            let Some(shared) = shared else { return std::future::pending().await };
            if waiting {
                shared.wanted.store(true, Ordering::SeqCst);
                if shared.under_way.load(Ordering::SeqCst) + WORTH_WAKING <= RUNS {
                    return;
                }
            }
            shared.back.notified().await;
        }
    }

    /// Ends the thread, after everything has left.
    pub fn stop(&mut self) {
        self.line = None;
        self.waiting = false;
        (self.load.since, self.load.worth) = (None, false);
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
