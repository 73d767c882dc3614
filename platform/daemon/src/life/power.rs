//! What macOS says of its sleep and wake: messages, of which some wait for an answer.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Asked;

/// `kIOMessageCanSystemSleep` of `IOKit/IOMessage.h`: whether it may, since nobody uses it.
const MAY_SLEEP: u32 = 0xe000_0270;
/// `kIOMessageSystemWillSleep`: it will, and waits for whoever is not ready.
const WILL_SLEEP: u32 = 0xe000_0280;
/// `kIOMessageSystemHasPoweredOn`: it is awake, and its devices are.
const AWAKE: u32 = 0xe000_0300;
/// How long the service may take to be ready for a sleep. The system waits for 30 s, and then sleeps anyway.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked of the service, and who waits until it has been done: this being dropped tells them.
type Request = (Asked, Option<SyncSender<()>>);

/// The end that the system talks to, on a thread of its own.
#[derive(Debug)]
pub(super) struct Ear(UnboundedSender<Request>);

/// The end that the service listens to.
#[derive(Debug)]
pub(super) struct Power {
    requests: UnboundedReceiver<Request>,
    /// Who waits for what was last asked.
    waits: Option<SyncSender<()>>,
}

/// Both ends.
pub(super) fn ends() -> (Ear, Power) {
    let (to, requests) = unbounded_channel();
    (Ear(to), Power { requests, waits: None })
}

impl Ear {
    /// Takes a message of the system, and lets it go on to sleep when the service is ready: at the latest after
    /// [`PATIENCE`].
    pub fn hear(&self, message: u32, let_sleep: impl FnOnce()) {
        match message {
            // A tunnel keeps nobody awake.
            MAY_SLEEP => let_sleep(),
            WILL_SLEEP => {
                let (done, wait) = sync_channel(1);
                if self.0.send((Asked::Sleep, Some(done))).is_ok() {
                    // Its error is the answer: the other end is gone.
                    let _ = wait.recv_timeout(PATIENCE);
                }
                let_sleep();
            }
            // Nobody listens any more when the service has ended.
            AWAKE => _ = self.0.send((Asked::Wake, None)),
            _ => {}
        }
    }
}

impl Power {
    /// Waits until something is asked. What was asked before has then been done. May be cancelled.
    pub async fn asked(&mut self) -> Asked {
        self.waits = None;
        match self.requests.recv().await {
            Some((asked, waits)) => {
                self.waits = waits;
                asked
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use super::*;

    /// Has the system say something on its thread; whether it may sleep by now.
    fn say(ear: &Arc<Ear>, message: u32) -> (Arc<AtomicBool>, std::thread::JoinHandle<()>) {
        let (ear, may) = (Arc::clone(ear), Arc::new(AtomicBool::new(false)));
        let sleeps = Arc::clone(&may);
        (may, std::thread::spawn(move || ear.hear(message, || sleeps.store(true, Ordering::SeqCst))))
    }

    #[tokio::test]
    async fn the_system_sleeps_when_the_service_is_ready_and_not_before() {
        let (ear, mut power) = ends();
        let ear = Arc::new(ear);
        let (may, thread) = say(&ear, WILL_SLEEP);
        assert_eq!(power.asked().await, Asked::Sleep);
        std::thread::sleep(Duration::from_millis(200));
        assert!(!may.load(Ordering::SeqCst), "the service is not ready yet");
        let begun = Instant::now();
        say(&ear, AWAKE).1.join().unwrap();
        // To ask for the next is to be ready.
        assert_eq!(power.asked().await, Asked::Wake);
        thread.join().unwrap();
        assert!(may.load(Ordering::SeqCst) && begun.elapsed() < PATIENCE);
    }

    #[tokio::test]
    async fn asking_again_after_a_cancelled_wait_loses_nothing() {
        let (ear, mut power) = ends();
        let ear = Arc::new(ear);
        for _ in 0..3 {
            assert!(tokio::time::timeout(Duration::from_millis(5), power.asked()).await.is_err());
        }
        let (may, thread) = say(&ear, WILL_SLEEP);
        assert_eq!(power.asked().await, Asked::Sleep);
        drop(power);
        thread.join().unwrap();
        assert!(may.load(Ordering::SeqCst), "a service that ends holds nobody up");
    }

    #[test]
    fn a_service_that_hangs_or_has_ended_keeps_nothing_from_sleeping() {
        let (ear, power) = ends();
        let ear = Arc::new(ear);
        let begun = Instant::now();
        let (may, thread) = say(&ear, WILL_SLEEP);
        thread.join().unwrap();
        let took = begun.elapsed();
        assert!(may.load(Ordering::SeqCst) && took >= PATIENCE && took < Duration::from_secs(25), "{took:?}");
        drop(power);
        let begun = Instant::now();
        for (message, sleeps) in [(WILL_SLEEP, true), (MAY_SLEEP, true), (AWAKE, false), (0xe000_0290, false)]
        {
            let (may, thread) = say(&ear, message);
            thread.join().unwrap();
            assert_eq!(may.load(Ordering::SeqCst), sleeps, "{message:x}");
        }
        assert!(begun.elapsed() < PATIENCE);
    }
}
