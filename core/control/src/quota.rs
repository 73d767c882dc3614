//! What a user without rights may take of the service: connections, requests, time.
//!
//! Whoever may only look must not be able to keep others from it, nor from steering. So each such user has a quota of its
//! own, however many connections it holds: what goes beyond it is not refused but slowed down, and waits in the user's
//! own connections. Administrators and the service's own user have none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

/// So many lines a second, each of up to [`BYTES`]. An interface asks a few times a second at most.
const RATE: f64 = 50.0;
/// So many may come at once.
const BURST: f64 = 200.0;
/// A line costs as many as there are of these in it.
const BYTES: usize = 1024;
/// A call of a user is followed by a pause of so many times what it took: so all its calls together take a fifth of the
/// service's time at most, however many peers there are.
const REST: u32 = 4;
/// And no longer than this, so that one call that had to wait does not shut the user out.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// Users that are remembered after their last connection.
const REMEMBERED: usize = 256;

/// The quotas of all users that have one.
#[derive(Default)]
pub(crate) struct Quotas(Mutex<BTreeMap<String, Arc<Quota>>>);

impl Quotas {
    /// A user's. It is the same for all its connections, also those to come.
    pub fn of(&self, user: &str) -> Arc<Quota> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(quota) = all.get(user) {
            return Arc::clone(quota);
        }
        if all.len() >= REMEMBERED {
            all.retain(|_, quota| Arc::strong_count(quota) > 1 || !quota.is_full());
        }
        Arc::clone(all.entry(user.to_owned()).or_insert_with(|| Arc::new(Quota::new(Instant::now()))))
    }
}

/// One user's.
pub(crate) struct Quota {
    bucket: Mutex<Bucket>,
    /// One call at a time, until its answer is read: so a user has one answer in memory, however large.
    turn: Arc<Semaphore>,
}

struct Bucket {
    /// Below nothing, it is owed.
    level: f64,
    at: Instant,
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * RATE).min(BURST);
        self.at = now;
    }
}

impl Quota {
    fn new(now: Instant) -> Self {
        let bucket = Mutex::new(Bucket { level: BURST, at: now });
        Self { bucket, turn: Arc::new(Semaphore::new(1)) }
    }

    fn bucket(&self) -> std::sync::MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self) -> bool {
        let mut bucket = self.bucket();
        bucket.refill(Instant::now());
        bucket.level >= BURST
    }

    /// Waits until so many bytes that came are paid for.
    pub async fn pay(&self, bytes: usize) {
        let owed = {
            let mut bucket = self.bucket();
            bucket.refill(Instant::now());
            // Precise enough: a line is bounded.
            bucket.level -= (1 + bytes / BYTES) as f64;
            -bucket.level
        };
        if owed > 0.0 {
            sleep(Duration::from_secs_f64(owed / RATE)).await;
        }
    }

    /// Waits until no other call of the user is under way, nor rests.
    pub async fn turn(&self) -> Turn {
        // It is never closed.
        let permit = Arc::clone(&self.turn).acquire_owned().await.ok();
        Turn { permit, begun: Instant::now(), took: None }
    }
}

/// A call that is under way, until its answer is read. However it ends, a rest follows.
pub(crate) struct Turn {
    permit: Option<OwnedSemaphorePermit>,
    begun: Instant,
    took: Option<Duration>,
}

impl Turn {
    /// The call has its answer. How long that takes to be read is the user's own affair.
    pub fn answered(&mut self) {
        self.took = Some(self.begun.elapsed());
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let pause = self.took.unwrap_or_else(|| self.begun.elapsed()) * REST;
        let permit = self.permit.take();
        // Without a runtime there is nobody to come next.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                sleep(pause.min(LONGEST_REST)).await;
                drop(permit);
            });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_user_is_slowed_down_and_no_other() {
        let quotas = Quotas::default();
        let (one, other) = (quotas.of("1000"), quotas.of("1001"));
        let begun = Instant::now();
        // From several connections.
        let lines = (0..4).map(|_| {
            let quota = quotas.of("1000");
            tokio::spawn(async move {
                for _ in 0..250 {
                    quota.pay(40).await;
                }
            })
        });
        for task in lines.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(15) && took < Duration::from_secs(25), "{took:?}");
        let begun = Instant::now();
        other.pay(40).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        // What is large costs more.
        one.pay(200 * BYTES).await;
        assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_a_user_come_one_by_one_and_rest() {
        let quotas = Quotas::default();
        let begun = Instant::now();
        let calls = (0..5).map(|_| {
            let quota = quotas.of("1000");
            tokio::spawn(async move {
                let turn = quota.turn().await;
                sleep(Duration::from_millis(10)).await;
                drop(turn);
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
        assert!(begun.elapsed() >= Duration::from_millis(4 * 50), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn users_that_came_once_are_forgotten() {
        let quotas = Quotas::default();
        for user in 0..10 * REMEMBERED {
            quotas.of(&user.to_string());
        }
        assert!(quotas.0.lock().unwrap().len() <= REMEMBERED);
        let owing = quotas.of("owing");
        owing.pay(1 << 20).await;
        drop(owing);
        for user in 0..10 * REMEMBERED {
            quotas.of(&user.to_string());
        }
        assert!(!quotas.of("owing").is_full());
    }
}
