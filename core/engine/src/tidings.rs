//! News for readers that may be slow: in order, none lost up to a bound, and with a mark where there is a gap.
//!
//! Whoever tells never waits and never fails. A reader has a queue of its own, which takes memory only while
//! something waits in it. Where it is full, the oldest gives way, and the reader is told how many did.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

/// Tells news to all readers.
#[derive(Debug)]
pub struct Tidings<T> {
    readers: Arc<Mutex<Vec<Weak<Inbox<T>>>>>,
    most: usize,
}

/// Reads news.
#[derive(Debug)]
pub struct Reader<T>(Arc<Inbox<T>>);

/// What a reader finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard<T> {
    /// Something was told.
    Told(T),
    /// So much was told before what comes next, and is lost.
    Missed(u64),
}

#[derive(Debug)]
struct Inbox<T> {
    queue: Mutex<Queue<T>>,
    ready: Notify,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<T>,
    missed: u64,
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is done under the lock that could leave it half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Clone for Tidings<T> {
    fn clone(&self) -> Self {
        Self { readers: Arc::clone(&self.readers), most: self.most }
    }
}

impl<T: Clone + PartialEq> Tidings<T> {
    /// News, of which at most so many wait for a reader; at least 1.
    pub fn new(most: usize) -> Self {
        Self { readers: Arc::default(), most: most.max(1) }
    }

    /// A reader of what is told from now on.
    pub fn subscribe(&self) -> Reader<T> {
        let queue = Queue { waiting: VecDeque::new(), missed: 0, closed: false };
        let inbox = Arc::new(Inbox { queue: Mutex::new(queue), ready: Notify::new() });
        lock(&self.readers).push(Arc::downgrade(&inbox));
        Reader(inbox)
    }

    /// Tells all readers, and returns for how many of them something older was lost by it.
    pub fn tell(&self, news: &T) -> u64 {
        self.put(news, false)
    }

    /// Tells all readers that do not wait for the same already.
    pub fn tell_once(&self, news: &T) {
        self.put(news, true);
    }

    fn put(&self, news: &T, once: bool) -> u64 {
        let mut lost = 0;
        lock(&self.readers).retain(|reader| {
            let Some(inbox) = reader.upgrade() else { return false };
            let mut queue = lock(&inbox.queue);
            if once && queue.waiting.back() == Some(news) {
                return true;
            }
            if queue.waiting.len() >= self.most {
                queue.waiting.pop_front();
                queue.missed += 1;
                lost += 1;
            }
            queue.waiting.push_back(news.clone());
            drop(queue);
            inbox.ready.notify_one();
            true
        });
        lost
    }

    /// There will be no more; what waits can still be read.
    pub fn close(&self) {
        for inbox in lock(&self.readers).drain(..).filter_map(|reader| reader.upgrade()) {
            lock(&inbox.queue).closed = true;
            inbox.ready.notify_one();
        }
    }
}

impl<T> Reader<T> {
    /// Waits for news; none when there will be no more. May be cancelled.
    pub async fn next(&mut self) -> Option<Heard<T>> {
        loop {
            if let Some(heard) = self.try_next() {
                return Some(heard);
            }
            if lock(&self.0.queue).closed {
                return None;
            }
            // What is told in between leaves a permit.
            self.0.ready.notified().await;
        }
    }

    /// News that wait already.
    pub fn try_next(&mut self) -> Option<Heard<T>> {
        let mut queue = lock(&self.0.queue);
        match std::mem::take(&mut queue.missed) {
            0 => {
                let next = queue.waiting.pop_front();
                if queue.waiting.is_empty() {
                    // A burst must not cost memory for ever.
                    queue.waiting.shrink_to(64);
                }
                next.map(Heard::Told)
            }
            missed => Some(Heard::Missed(missed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_reader_hears_everything_in_order() {
        let tidings = Tidings::new(100);
        let (mut one, mut other) = (tidings.subscribe(), tidings.subscribe());
        for number in 0..100 {
            assert_eq!(tidings.tell(&number), 0);
        }
        for number in 0..100 {
            assert_eq!(one.next().await, Some(Heard::Told(number)));
            assert_eq!(other.try_next(), Some(Heard::Told(number)));
        }
        assert_eq!(one.try_next(), None);
        tidings.tell(&7);
        tidings.close();
        assert_eq!((one.next().await, one.next().await), (Some(Heard::Told(7)), None));
    }

    #[tokio::test]
    async fn a_gap_is_marked_where_it_is_and_counted() {
        let tidings = Tidings::new(10);
        let mut slow = tidings.subscribe();
        drop(tidings.subscribe());
        let lost: u64 = (0..25).map(|number| tidings.tell(&number)).sum();
        assert_eq!(lost, 15);
        assert_eq!(slow.next().await, Some(Heard::Missed(15)));
        for number in 15..25 {
            assert_eq!(slow.next().await, Some(Heard::Told(number)));
        }
        assert_eq!(slow.try_next(), None);
    }

    #[tokio::test]
    async fn who_waits_is_woken_and_the_same_is_told_once() {
        let tidings = Tidings::new(10);
        let mut reader = tidings.subscribe();
        let waiting = tokio::spawn(async move {
            let first = reader.next().await;
            (first, reader)
        });
        tokio::task::yield_now().await;
        tidings.tell_once(&1);
        let (first, mut reader) = waiting.await.unwrap();
        assert_eq!(first, Some(Heard::Told(1)));
        for news in [2, 2, 1, 2] {
            tidings.tell_once(&news);
        }
        let told: Vec<_> = std::iter::from_fn(|| reader.try_next()).collect();
        assert_eq!(told, [Heard::Told(2), Heard::Told(1), Heard::Told(2)]);
    }
}
