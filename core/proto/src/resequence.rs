//! Puts datagrams in order that the other end sent over several paths.
//!
//! What comes in order passes straight through. What comes early is kept until what is missing before it has come, or
//! is not to be waited for any more:
//!
//! - every path over which anything came lately has since delivered some higher numbers: then it was lost, for a path itself
//!   hardly reorders;
//! - or it was waited for longer than the paths were seen to lag behind each other.
//!
//! What comes after it was given up passes at once: late is better than never. Memory and time are bounded whatever
//! numbers the other end sends.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::crypto::SequenceWindow;
use crate::wire::{Flags, MAX_MISSING, PathId};

/// A datagram that is kept, with whatever the owner wants to know of it.
#[derive(Debug)]
pub struct Early<T> {
    /// The IP datagram.
    pub datagram: Vec<u8>,
    /// How to treat it.
    pub flags: Flags,
    /// Where it came from.
    pub origin: T,
}

/// What to do with a datagram that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Deliver it now.
    Deliver,
    /// Keep it: something before it is missing.
    Keep,
}

/// A path of the other end, and the highest numbers that came over it, the highest first.
#[derive(Debug)]
struct Lane {
    path: PathId,
    highest: [u64; Resequencer::<()>::ALLOWANCE],
    at: Instant,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Resequencer<T> {
    /// Of the other end's instance before: to be delivered.
    former: VecDeque<Early<T>>,
    early: BTreeMap<u64, Early<T>>,
    /// What is kept in order of arrival; may name what was delivered since.
    arrivals: VecDeque<(Instant, u64)>,
    bytes: usize,
    /// Everything below was delivered, or is not waited for.
    next: u64,
    /// Nothing below is waited for, because that took too long.
    given_up: u64,
    lanes: Vec<Lane>,
    /// The longest wait of the present and the last [`Self::MEMORY`] that was not in vain.
    lag: [Duration; 2],
    lag_since: Option<Instant>,
    /// By how much the round trips of the paths differ.
    spread: Duration,
    /// How long it takes until what is known to be lost is there again, if the other end sends it again.
    repair: Duration,
    /// When the other end was last asked for what is missing.
    asked: Option<Instant>,
}

impl<T> Default for Resequencer<T> {
    fn default() -> Self {
        Self {
            former: VecDeque::new(),
            early: BTreeMap::new(),
            arrivals: VecDeque::new(),
            bytes: 0,
            next: 0,
            given_up: 0,
            lanes: Vec::new(),
            lag: [Duration::ZERO; 2],
            lag_since: None,
            spread: Duration::ZERO,
            repair: Duration::ZERO,
            asked: None,
        }
    }
}

impl<T> Resequencer<T> {
    /// The most datagrams kept: half of what the window of sequence numbers can tell apart.
    pub const DATAGRAMS: usize = 4096;
    /// The most bytes kept: 160 Mbit/s for 200 ms.
    pub const BYTES: usize = 4 * 1024 * 1024;
    /// Nothing is kept longer: a transport would have sent it again by then.
    pub const MAX_WAIT: Duration = Duration::from_millis(200);
    /// Paths lag by more than half the difference of their round trips: queues fill, radios sleep.
    const MARGIN: Duration = Duration::from_millis(20);
    /// And a single path reorders by so much.
    const REORDERING: Duration = Duration::from_millis(5);
    /// What was seen of the lag is forgotten after this long, or twice that.
    const MEMORY: Duration = Duration::from_secs(2);
    /// After so many higher numbers over its path a datagram counts as lost, as three duplicate acknowledgements
    /// mean loss to TCP.
    const ALLOWANCE: usize = 4;
    /// A path over which nothing came for so long has nothing on its way.
    const LATELY: Duration = Duration::from_secs(5);
    /// As many lanes as a context has paths.
    const MAX_LANES: usize = 32;

    /// Notes that a datagram with this number came over a path, whether new or not.
    pub fn note(&mut self, now: Instant, path: PathId, number: u64) {
        if self.given_up == 0 {
            // Nothing was before the first.
            self.given_up = number;
        }
        let lane = self.lane(now, path);
        lane.at = now;
        if number > lane.highest[0] {
            lane.highest.rotate_right(1);
            lane.highest[0] = number;
        }
    }

    fn lane(&mut self, now: Instant, path: PathId) -> &mut Lane {
        let at = self.lanes.iter().position(|l| l.path == path).unwrap_or_else(|| {
            if self.lanes.len() >= Self::MAX_LANES
                && let Some(oldest) =
                    self.lanes.iter().enumerate().min_by_key(|(_, l)| l.at).map(|(at, _)| at)
            {
                self.lanes.swap_remove(oldest);
            }
            let highest = [0; Resequencer::<()>::ALLOWANCE];
            self.lanes.push(Lane { path, highest, at: now });
            self.lanes.len() - 1
        });
        #[allow(clippy::indexing_slicing, reason = "the place was just found")]
        &mut self.lanes[at]
    }

    /// Notes that a path of the other end lives, so that it may carry data at any time.
    pub fn note_alive(&mut self, now: Instant, path: PathId) {
        self.lane(now, path).at = now;
    }

    /// By how much the round trips of the paths differ, as this end measures them, and how long the other end takes to
    /// send again what this end reports as missing.
    pub fn set_delays(&mut self, spread: Duration, again: Duration) {
        self.spread = spread;
        self.repair = spread / 2 + Self::REORDERING + again;
    }

    /// Numbers that are missing, and by all appearance not on their way, for the other end to send again.
    pub fn missing(&mut self, now: Instant, seen: &SequenceWindow) -> Vec<u32> {
        let Some(last) = self.early.last_key_value().map(|(number, _)| *number) else { return Vec::new() };
        self.asked = Some(now);
        // Behind what came so long ago, nothing is on its way over a slower path.
        let due = self.spread / 2 + Self::REORDERING;
        let aged = self.arrivals.iter().take_while(|(at, _)| now.saturating_duration_since(*at) >= due);
        let below = aged.map(|(_, number)| *number).max().unwrap_or(0).max(self.settled(now));
        let from = self.next.max(self.given_up).max(seen.reach());
        (from..below.min(last)).filter(|n| !seen.has(*n)).map(|n| n as u32).take(MAX_MISSING).collect()
    }

    /// What to do with a new datagram that shall be delivered in order. The window has seen its number.
    pub fn arrive(&mut self, now: Instant, number: u64, length: usize, seen: &SequenceWindow) -> Order {
        let head = self.early.first_key_value().map(|(number, _)| *number);
        if number < self.given_up {
            // It was waited for too shortly.
            self.note_lag(now, self.wait());
        } else if head.is_some_and(|head| number < head)
            && let Some((since, _)) = self.arrivals.front()
        {
            self.note_lag(now, now.saturating_duration_since(*since));
        }
        let full =
            self.early.len() + self.former.len() >= Self::DATAGRAMS || self.bytes + length > Self::BYTES;
        if full {
            let last = self.early.last_key_value().map_or(0, |(number, _)| *number);
            self.given_up = self.given_up.max(last);
            // The owner does not take what is ready: out of order is better than lost.
            let waiting = self.early.len() + self.former.len();
            if waiting >= 2 * Self::DATAGRAMS || self.bytes + length > 2 * Self::BYTES {
                return Order::Deliver;
            }
        }
        let overtakes = !self.former.is_empty() || head.is_some_and(|head| head < number);
        if overtakes || self.waits(number, seen) {
            return Order::Keep;
        }
        self.next = self.next.max(number.saturating_add(1));
        Order::Deliver
    }

    /// Keeps a datagram.
    pub fn keep(&mut self, now: Instant, number: u64, early: Early<T>) {
        if self.arrivals.len() >= 4 * Self::DATAGRAMS
            && let Some((_, oldest)) = self.arrivals.pop_front()
        {
            self.given_up = self.given_up.max(oldest);
        }
        // What was seen long ago tells nothing.
        let old = |since| now.saturating_duration_since(since) > 2 * Self::MEMORY;
        if self.early.is_empty() && self.lag_since.is_some_and(old) {
            self.lag = [Duration::ZERO; 2];
            self.lag_since = None;
        }
        self.bytes += early.datagram.len();
        self.arrivals.push_back((now, number));
        if let Some(before) = self.early.insert(number, early) {
            self.bytes = self.bytes.saturating_sub(before.datagram.len());
        }
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.early.is_empty() && self.former.is_empty()
    }

    /// The next datagram that is to be delivered.
    pub fn pop(&mut self, now: Instant, seen: &SequenceWindow) -> Option<Early<T>> {
        let early = match self.former.pop_front() {
            Some(early) => early,
            None => {
                let head = *self.early.first_key_value()?.0;
                self.expire(now);
                if self.waits(head, seen) {
                    return None;
                }
                let (_, early) = self.early.pop_first()?;
                self.next = self.next.max(head.saturating_add(1));
                while self.arrivals.front().is_some_and(|(_, number)| !self.early.contains_key(number)) {
                    self.arrivals.pop_front();
                }
                early
            }
        };
        self.bytes = self.bytes.saturating_sub(early.datagram.len());
        Some(early)
    }

    /// When to ask the other end for what is missing, should no report go out before.
    pub fn ask_at(&self) -> Option<Instant> {
        let (at, _) = self.arrivals.front()?;
        let due = *at + self.spread / 2 + Self::REORDERING;
        // Not again before the answer may be there; nor what will be given up by then.
        let again =
            self.asked.filter(|asked| asked >= at).map(|asked| asked + self.repair.max(Self::REORDERING));
        Some(again.map_or(due, |again| again.max(due))).filter(|ask| *ask < *at + self.wait())
    }

    /// When the wait for something is over.
    pub fn deadline(&self) -> Option<Instant> {
        let (at, _) = *self.arrivals.front()?;
        let lost = self.settled(at) > self.ready();
        Some(at + if lost { self.repair.min(self.wait()) } else { self.wait() })
    }

    /// Nothing before this number is waited for.
    fn ready(&self) -> u64 {
        self.given_up.max(self.next)
    }

    /// Gives up what was waited for too long. What is ready then is no reason any more to wake the owner, who may have no
    /// room for it.
    pub fn expire(&mut self, now: Instant) {
        loop {
            let ready = self.ready();
            while self.arrivals.pop_front_if(|(_, number)| *number <= ready).is_some() {}
            let Some((at, number)) = self.arrivals.front().copied() else { return };
            let waited = now.saturating_duration_since(at);
            if waited >= self.repair.min(self.wait()) {
                let last = self.early.last_key_value().map_or(0, |(number, _)| *number);
                self.given_up = self.given_up.max(self.settled(now).max(self.settled(at)).min(last));
            }
            if waited >= self.wait() {
                self.arrivals.pop_front();
                if self.early.contains_key(&number) {
                    self.given_up = self.given_up.max(number);
                }
            } else if self.ready() == ready {
                return;
            }
        }
    }

    /// The other end counts anew: what is kept is to be delivered as it is.
    pub fn restart(&mut self) {
        let kept = std::mem::take(&mut self.early).into_values();
        let former = self.former.drain(..).chain(kept).collect();
        *self =
            Self { former, bytes: self.bytes, spread: self.spread, repair: self.repair, ..Self::default() };
    }

    /// Whether something before `number` is missing and may still come.
    fn waits(&mut self, number: u64, seen: &SequenceWindow) -> bool {
        let mut next = self.next.max(self.given_up).max(seen.reach());
        while next < number && seen.has(next) {
            next += 1;
        }
        self.next = self.next.max(next.min(number));
        next < number
    }

    /// Below this number, what has not come by now was lost on its path.
    fn settled(&self, now: Instant) -> u64 {
        let lately = self.lanes.iter().filter(|l| now.saturating_duration_since(l.at) < Self::LATELY);
        lately.map(|l| l.highest[Self::ALLOWANCE - 1]).min().unwrap_or(0)
    }

    /// For how long something is waited for.
    fn wait(&self) -> Duration {
        let seen = 2 * self.lag[0].max(self.lag[1]);
        seen.max(self.spread / 2 + Self::MARGIN).max(self.repair).min(Self::MAX_WAIT)
    }

    fn note_lag(&mut self, now: Instant, lag: Duration) {
        let since = *self.lag_since.get_or_insert(now);
        if now.saturating_duration_since(since) > Self::MEMORY {
            self.lag = [Duration::ZERO, self.lag[0]];
            self.lag_since = Some(now);
        }
        self.lag[0] = self.lag[0].max(lag.min(Self::MAX_WAIT));
    }
}

#[cfg(test)]
#[path = "resequence_tests.rs"]
mod tests;
