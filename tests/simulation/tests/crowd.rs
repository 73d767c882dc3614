//! Very many contexts at once: memory and wakeups of each, counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mast_simulation::Crowd;

/// The system's allocator, with a count of the bytes in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps `dealloc`'s contract, and the block came from `System` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes of an idle established context with two paths, without its WireGuard session.
const BYTES: usize = 6 * 1024;
/// The most wakeups a minute of an idle context: one end sends keepalives every 25 s, the other only answers.
const WAKES_PER_MINUTE: f64 = 3.0;

/// `MAST_PAIRS=50000` makes it 100,000 contexts.
fn pairs() -> usize {
    std::env::var("MAST_PAIRS").ok().and_then(|n| n.parse().ok()).unwrap_or(5_000)
}

#[test]
fn ten_thousand_idle_contexts_are_small_and_asleep() {
    let pairs = pairs();
    let begun = Instant::now();
    let before = IN_USE.load(Ordering::Relaxed);
    let mut crowd = Crowd::new(pairs, 1);
    crowd.connect(1_000);
    crowd.run(Duration::from_secs(120));
    assert_eq!(crowd.established(), 2 * pairs, "every context is connected over two paths");
    let established = begun.elapsed();

    let (wakes, sent) = (crowd.wakes(), crowd.sent());
    crowd.run(Duration::from_secs(600));
    assert_eq!(crowd.established(), 2 * pairs);
    let per_minute = |count: u64| count as f64 / (2 * pairs) as f64 / 10.0;
    let (wakes, sent) = (per_minute(crowd.wakes() - wakes), per_minute(crowd.sent() - sent));

    // The harness itself, flights and alarms, is in it: the context alone is smaller.
    let bytes = (IN_USE.load(Ordering::Relaxed) - before) / (2 * pairs);
    println!(
        "{} contexts: {bytes} bytes each, {wakes:.2} wakeups and {sent:.2} datagrams a minute; established after {:.1} s, all {:.1} s",
        2 * pairs,
        established.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
    assert!(bytes <= BYTES, "{bytes} bytes for each context");
    assert!(wakes <= WAKES_PER_MINUTE, "{wakes} wakeups a minute for each context");
    assert!(begun.elapsed() < Duration::from_secs(60), "took {:?}", begun.elapsed());
}
