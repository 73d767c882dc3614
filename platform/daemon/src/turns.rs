//! Who may ask the system's resolver next.
//!
//! The resolver waits for name servers that do not answer, half a minute or more, and cannot be told to stop: each such
//! question costs a thread for that long. So there are few threads, and whose question was not answered the last time may
//! have a quarter of them only: it waits for its like, and for nobody else. A name that answers always finds a thread.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

/// So many questions at a time. Threads are made when they are needed; one that waits costs some 50 kB.
const ALL: usize = 64;
/// Of these, what may wait for names that have not been asked for yet: the rest is kept for those that did answer.
const UNPROVEN: usize = 56;
/// And for names that did not answer in time when they were last asked for.
const SILENT: usize = 16;
/// How long one question is waited for. Its thread stays until the resolver gives up.
const LOOK_UP: Duration = Duration::from_secs(10);

/// What is known of a name from before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Standing {
    /// It was not asked for yet.
    #[default]
    New,
    /// There was an answer, be it that there is no such name.
    Answers,
    /// There was none in time.
    Silent,
}

/// Asks for the addresses of a host, and waits as long as it takes.
type Ask = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The threads that ask the resolver.
pub(crate) struct Turns {
    ask: Arc<Ask>,
    all: Arc<Semaphore>,
    unproven: Arc<Semaphore>,
    silent: Arc<Semaphore>,
    patience: Duration,
}

/// Those of this process.
pub(crate) static NAMES: LazyLock<Turns> = LazyLock::new(|| {
    Turns::new(|host, port| {
        let found = (host, port).to_socket_addrs()?;
        Ok(found.map(|at| SocketAddr::new(at.ip().to_canonical(), at.port())).collect())
    })
});

impl Turns {
    /// Threads for this resolver.
    pub fn new(ask: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        let (all, unproven, silent) = (places(ALL), places(UNPROVEN), places(SILENT));
        Self { ask: Arc::new(ask), all, unproven, silent, patience: LOOK_UP }
    }

    /// What a host stands for. It waits for a thread, which names that do not answer may delay where it is of their kind.
    ///
    /// # Errors
    /// What the resolver says, or [`io::ErrorKind::TimedOut`] where it said nothing within [`LOOK_UP`].
    pub async fn look_up(&self, host: &str, port: u16, standing: Standing) -> io::Result<Vec<SocketAddr>> {
        let place = self.place(standing).await?;
        let (reply, answer) = oneshot::channel();
        let (ask, host) = (Arc::clone(&self.ask), host.to_owned());
        thread::Builder::new().name("mast-names".to_owned()).spawn(move || {
            let answer = ask(&host, port);
            drop(place);
            // Whoever waited may have lost patience.
            let _ = reply.send(answer);
        })?;
        match timeout(self.patience, answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(io::Error::other("the resolver broke down"))),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Those that may take fewer places wait for one among their like first, and hold none of the others' meanwhile.
    async fn place(&self, standing: Standing) -> io::Result<Vec<OwnedSemaphorePermit>> {
        let wanted: &[&Arc<Semaphore>] = match standing {
            Standing::Silent => &[&self.silent, &self.unproven, &self.all],
            Standing::New => &[&self.unproven, &self.all],
            Standing::Answers => &[&self.all],
        };
        let mut place = Vec::with_capacity(wanted.len());
        for places in wanted {
            let permit = Arc::clone(places).acquire_owned().await;
            place.push(permit.map_err(|_| io::Error::other("no more names are asked for"))?);
        }
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Mutex, PoisonError};

    use tokio::task::JoinSet;
    use tokio::time::Instant;

    use super::*;

    /// A resolver that never answers for hosts whose names begin with `silent`, until it is let go.
    struct Deaf {
        turns: Arc<Turns>,
        /// How many threads wait now, and how many did at most.
        waiting: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
        asked: Arc<Mutex<BTreeSet<String>>>,
        release: Sender<()>,
    }

    fn deaf() -> Deaf {
        let (release, held) = channel::<()>();
        let held: Arc<Mutex<Receiver<()>>> = Arc::new(Mutex::new(held));
        let (waiting, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let asked = Arc::new(Mutex::new(BTreeSet::new()));
        let (count, peak, hosts) = (Arc::clone(&waiting), Arc::clone(&most), Arc::clone(&asked));
        let turns = Turns::new(move |host, port| {
            hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned());
            if host.starts_with("silent") {
                peak.fetch_max(count.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let _ = held.lock().unwrap_or_else(PoisonError::into_inner).recv();
                count.fetch_sub(1, Ordering::SeqCst);
                return Err(io::ErrorKind::TimedOut.into());
            }
            Ok(vec![([192, 0, 2, 1], port).into()])
        });
        Deaf { turns: Arc::new(turns), waiting, most, asked, release }
    }

    impl Deaf {
        /// Asks for so many names that do not answer.
        fn ask(&self, count: usize, standing: Standing) -> JoinSet<io::ErrorKind> {
            let mut asking = JoinSet::new();
            for n in 0..count {
                let turns = Arc::clone(&self.turns);
                asking.spawn(async move {
                    turns.look_up(&format!("silent{n}"), 7, standing).await.unwrap_err().kind()
                });
            }
            asking
        }

        /// Until so many threads wait. They are the system's, which virtual time knows nothing of.
        async fn wait_for(&self, count: usize) {
            for _ in 0..10_000 {
                if self.waiting.load(Ordering::SeqCst) == count {
                    return;
                }
                tokio::task::yield_now().await;
                thread::sleep(Duration::from_millis(1));
            }
            panic!("{} threads wait, not {count}", self.waiting.load(Ordering::SeqCst));
        }

        async fn answers_at_once(&self, standing: Standing) {
            let begun = Instant::now();
            let found = self.turns.look_up("home", 9, standing).await.unwrap();
            assert_eq!(found, ["192.0.2.1:9".parse().unwrap()]);
            assert!(begun.elapsed() < Duration::from_secs(1), "{standing:?}: {:?}", begun.elapsed());
        }
    }

    #[tokio::test]
    async fn fifty_names_that_are_not_answered_hold_up_none_that_is() {
        let deaf = deaf();
        let _asking = deaf.ask(50, Standing::New);
        deaf.wait_for(50).await;
        deaf.answers_at_once(Standing::New).await;
        deaf.answers_at_once(Standing::Answers).await;
    }

    #[tokio::test]
    async fn threads_are_bounded_and_what_answered_once_finds_one() {
        let deaf = deaf();
        let _new = deaf.ask(300, Standing::New);
        deaf.wait_for(UNPROVEN).await;
        deaf.answers_at_once(Standing::Answers).await;
        assert!(deaf.most.load(Ordering::SeqCst) <= ALL);
    }

    #[tokio::test]
    async fn what_was_silent_waits_for_its_like_alone_and_has_its_turn() {
        let deaf = deaf();
        let mut silent = deaf.ask(50, Standing::Silent);
        deaf.wait_for(SILENT).await;
        deaf.answers_at_once(Standing::New).await;
        assert_eq!(deaf.most.load(Ordering::SeqCst), SILENT);
        for _ in 0..50 {
            deaf.release.send(()).unwrap();
        }
        while let Some(done) = silent.join_next().await {
            assert_eq!(done.unwrap(), io::ErrorKind::TimedOut);
        }
        assert_eq!(deaf.asked.lock().unwrap().len(), 51, "all of them were asked for");
    }

    #[tokio::test]
    async fn a_question_is_waited_for_so_long_and_keeps_its_thread() {
        let mut deaf = deaf();
        Arc::get_mut(&mut deaf.turns).unwrap().patience = Duration::from_millis(50);
        let mut asking = deaf.ask(1, Standing::New);
        assert_eq!(asking.join_next().await.unwrap().unwrap(), io::ErrorKind::TimedOut);
        assert_eq!(deaf.turns.all.available_permits(), ALL - 1);
        deaf.release.send(()).unwrap();
        for _ in 0..10_000 {
            if deaf.turns.all.available_permits() == ALL {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("its place is given back");
    }
}
