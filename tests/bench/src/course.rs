//! What both links carry around an event, to see who moved when.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mast_stage::Train;

use crate::stream::Stream;

/// How often the links are looked at.
const STEP: Duration = Duration::from_millis(5);
/// For so long.
const LENGTH: Duration = Duration::from_millis(1000);

/// Packets that entered so far: up and down over Wi-Fi, up and down over cellular.
type Counts = [u64; 4];

/// The links are watched by a thread of their own.
pub(crate) struct Course {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Instant, Counts)>>,
}

impl Course {
    /// Begins now.
    pub fn watch(train: &Train) -> Self {
        let links = [train.wifi.link.clone(), train.cell.link.clone()];
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (start, mut seen) = (Instant::now(), Vec::new());
            while !stopped.load(Ordering::Relaxed) && start.elapsed() < LENGTH {
                let [wifi, cell] = [&links[0], &links[1]].map(mast_netlab::Link::stats);
                let counts = [wifi.a_to_b, wifi.b_to_a, cell.a_to_b, cell.b_to_a].map(|d| d.packets);
                seen.push((Instant::now(), counts));
                thread::sleep(STEP);
            }
            seen
        });
        Self { stop, thread }
    }

    /// Ends, and tells in lines of milliseconds since an event what each link delivered, and how many bytes of each
    /// stream came. What routers behind a link discard has been delivered by it.
    pub fn tell(self, event: Instant, streams: [&Stream; 2]) -> String {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join().unwrap_or_default();
        let mut text =
            "ms: packets over wifi up, wifi down, cell up, cell down; bytes of TCP up, down\n".to_owned();
        for pair in seen.windows(2) {
            let [(from, before), (to, after)] = pair else { continue };
            let grown = |at: usize| after[at] - before[at];
            let at = if *to >= event { (*to - event).as_secs_f64() } else { -(event - *to).as_secs_f64() };
            let [up, down] = streams.map(|stream| stream.bytes(*from, *to));
            let _ = writeln!(
                text,
                "{:7.1}: {:4} {:4} {:4} {:4}; {up:6} {down:6}",
                at * 1e3,
                grown(0),
                grown(1),
                grown(2),
                grown(3)
            );
        }
        text
    }
}
