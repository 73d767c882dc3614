//! Work that may hang, on threads of its own.
//!
//! Name servers, the user database and disks may answer late or never, and what waits for them cannot be called back. So
//! it shares no thread with anything else: not with the runtime, not with the runtime's pool for what blocks (which is
//! bounded, so that a few that hang hold up the rest), and not with work of another kind.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// Threads for one kind of work.
#[derive(Debug)]
pub struct Aside {
    name: &'static str,
    most: usize,
    busy: AtomicUsize,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Hung {
    /// As many threads as there may be wait for earlier work, or the system gives no more.
    #[error("{0} earlier requests are not answered yet")]
    Busy(usize),
    /// It took too long. The work goes on, and nobody waits for it.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Late(Duration),
    /// The work broke down.
    #[error("it broke down")]
    Broken,
}

/// Gives back the place of a thread, even when its work panics.
struct Place(&'static AtomicUsize);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl Aside {
    /// At most so many at a time. The name, of at most 15 bytes, is what the threads are called.
    pub const fn new(name: &'static str, most: usize) -> Self {
        Self { name, most, busy: AtomicUsize::new(0) }
    }

    /// Begins. What comes of it can be waited for as long as anybody likes.
    ///
    /// # Errors
    /// When too many are at work.
    pub fn begin<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Hung> {
        let took = self.busy.fetch_update(Ordering::Acquire, Ordering::Relaxed, |busy| {
            (busy < self.most).then_some(busy + 1)
        });
        took.map_err(Hung::Busy)?;
        let place = Place(&self.busy);
        let (reply, answer) = oneshot::channel();
        let started = thread::Builder::new().name(self.name.to_owned()).spawn(move || {
            let done = work();
            drop(place);
            // Whoever waited may have lost patience.
            let _ = reply.send(done);
        });
        started.map(|_| answer).map_err(|_| Hung::Busy(self.busy.load(Ordering::Relaxed)))
    }

    /// Does it, and waits for it so long at most.
    ///
    /// # Errors
    /// When there is no answer by then.
    pub async fn within<T: Send + 'static>(
        &'static self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Hung> {
        let answer = self.begin(work)?;
        match timeout(limit, answer).await {
            Ok(done) => done.map_err(|_| Hung::Broken),
            Err(_) => Err(Hung::Late(limit)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn what_hangs_holds_up_nobody_and_is_bounded() {
        static WORK: Aside = Aside::new("test", 2);
        static OTHER: Aside = Aside::new("other", 2);
        let mut ends = Vec::new();
        for _ in 0..2 {
            let (end, hang) = mpsc::channel::<()>();
            let late = WORK.within(SOON, move || hang.recv().is_ok()).await;
            assert_eq!(late, Err(Hung::Late(SOON)));
            ends.push(end);
        }
        assert_eq!(WORK.within(SOON, || 1).await, Err(Hung::Busy(2)));
        assert_eq!(OTHER.within(Duration::from_secs(9), || 2).await, Ok(2));
        drop(ends);
        // They have ended, and their places are free.
        let free = async {
            while WORK.within(SOON, || 3).await != Ok(3) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(9), free).await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_costs_no_place() {
        static WORK: Aside = Aside::new("test", 1);
        for _ in 0..3 {
            let broken = loop {
                match WORK.within(Duration::from_secs(9), || panic!("on purpose")).await {
                    // The place is given back a moment after the answer.
                    Err(Hung::Busy(_)) => tokio::task::yield_now().await,
                    other => break other,
                }
            };
            assert_eq!(broken, Err::<(), _>(Hung::Broken));
        }
    }
}
