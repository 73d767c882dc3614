//! The largest UDP payload that a path carries, found by asking (RFC 8899, DPLPMTUD).
//!
//! Routers need not tell what they drop for its size, and what they tell can be forged. So a PROBE padded to the size
//! in question is sent, and its answer is the only proof. Nothing here counts as the path's loss or silence.
//!
//! ```text
//!          large data, unproven or doubted       not answered
//!   rest ─────────────────────────────► verify ───────────────► sound: the size again, and all likely ones below
//!    ▲  ▲                                 │ answered              │
//!    │  └─────────────────────────────────┴───────────────────────┤ the largest that was answered is the limit
//!    │        nothing fits in between                             ▼
//!    └──────────────────────────────────────────────────────── climb: larger ones, one at a time ◄── every 10 min
//! ```
//!
//! A new path is *assumed* to carry Ethernet's size. Most do, and the other choice, to begin at the base, would have the
//! host's TCP learn of a small path that is none, and keep to it for ten minutes. The assumption is put to the test with
//! the first large datagram, and costs two timeouts where it is wrong; a path that carries no large data is never asked.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::context::timing::{
    MTU_ALLOWANCE, MTU_DOUBT, MTU_RAISE, MTU_RELATED, MTU_SOUND_ALLOWANCE, MTU_TRIES,
};
use crate::wire::Epoch;

/// The IP packet that every path is taken to carry, in bytes: IPv6's least MTU, the base of RFC 8899 for it.
const BASE: usize = 1280;
/// The largest IP packet that is tried, in bytes: Ethernet's. Jumbo frames do not cross the Internet.
const CAP: usize = 1500;
/// IP packets that links carry, in bytes: Ethernet, PPPoE, WireGuard over IPv6 and over IPv4 (the latter for cellular and
/// other tunnels, too), the base.
const LIKELY: [usize; 5] = [CAP, 1492, 1420, 1400, BASE];
/// The search ends when what fits and what does not are no further apart, in bytes.
const PRECISION: usize = 16;
/// Searches without any answer, not even to the base, over a path that lives: then the base is all there is.
const MAX_VAIN: u32 = 3;
/// So many missing datagrams, if they are also most of what was sent, are not what a path loses now and then.
const GRAVE: u64 = 4;
/// How probable it may be that a size that fits is taken for one that does not.
const CHANCE: f64 = 1e-5;
/// The most PROBEs of one size in one search. A path that loses more than a tenth has other troubles.
const MOST_TRIES: u32 = 8;
/// The most PROBEs whose fate is remembered.
const MAX_ASKED: usize = 32;

/// A padded PROBE that was sent.
#[derive(Debug, Clone, Copy)]
struct Asked {
    nonce: u64,
    size: usize,
    /// What it was sealed with, to excuse its loss.
    counter: (Epoch, u64),
    /// Of the search under way, so that it counts for what is found.
    current: bool,
    answered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Rest,
    /// `climbing`: the doubt came in the middle of a climb, which goes on afterwards.
    Verify {
        size: usize,
        until: Instant,
        climbing: bool,
    },
    Sound {
        size: usize,
        until: Instant,
    },
    Climb {
        size: usize,
        until: Instant,
    },
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Step {
    /// PROBEs to send, by UDP payload in bytes.
    pub ask: Vec<usize>,
    /// The limit fell: what was lost until now may have been lost for its size.
    pub fell: bool,
}

/// What IP and UDP add, in bytes.
fn headers(v6: bool) -> usize {
    if v6 { 48 } else { 28 }
}

/// How often a size is asked beside the first time before it counts as one that does not fit: so often that chance alone
/// explains it once in a hundred thousand times at most, as far as [`MOST_TRIES`] goes.
fn again(loss: f64) -> u32 {
    // The PROBE or its answer.
    let unanswered = (2.0 * loss).clamp(0.0, 0.9);
    let tries = (CHANCE.ln() / unanswered.ln()).ceil();
    (tries as u32).clamp(MTU_TRIES, MOST_TRIES) - 1
}

/// What is known of a path's size. All sizes are UDP payloads in bytes.
#[derive(Debug)]
pub(crate) struct PathMtu {
    /// Over IPv6, whose headers are longer.
    v6: bool,
    /// What data may use now.
    limit: usize,
    /// The least size that is known not to fit, or one more than the cap.
    ceiling: usize,
    /// The limit was proven since the path last failed.
    proven: bool,
    phase: Phase,
    /// When large data was last to be sent.
    wanted: Option<Instant>,
    /// Since when there is reason to doubt the limit.
    doubted: Option<Instant>,
    /// Most of what was sent is missing: there is no time to lose with a single question.
    grave: bool,
    /// When a search or verification last ended.
    rested: Option<Instant>,
    /// When a search last found what does not fit.
    searched: Option<Instant>,
    vain: u32,
    asked: VecDeque<Asked>,
    /// The latest report of what arrived: epoch, highest counter, how many below it are missing.
    missing: Option<(Epoch, u64, u64)>,
}

impl PathMtu {
    /// Of a path that was not asked yet.
    pub fn new(v6: bool) -> Self {
        let cap = CAP - headers(v6);
        Self {
            v6,
            limit: cap,
            ceiling: cap + 1,
            proven: false,
            phase: Phase::Rest,
            wanted: None,
            doubted: None,
            grave: false,
            rested: None,
            searched: None,
            vain: 0,
            asked: VecDeque::new(),
            missing: None,
        }
    }

    /// The largest UDP payload that data may use now.
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn base(&self) -> usize {
        BASE - headers(self.v6)
    }

    fn cap(&self) -> usize {
        CAP - headers(self.v6)
    }

    /// Likely sizes, ascending. Among them is what an inner IPv6 datagram of the least size needs: with less, the
    /// tunnel is no link for IPv6.
    fn likely(&self) -> [usize; LIKELY.len() + 1] {
        let mut sizes = [BASE + crate::DATA_OVERHEAD; LIKELY.len() + 1];
        for (size, packet) in sizes.iter_mut().zip(LIKELY) {
            *size = packet - headers(self.v6);
        }
        sizes.sort_unstable();
        sizes
    }

    /// Data of this size is to be sent over the path.
    pub fn want(&mut self, now: Instant, size: usize) {
        // Near the limit as well: where the limit is the base nothing is larger.
        if size > self.base() || size + PRECISION > self.limit {
            self.wanted = Some(now);
        }
    }

    /// There is reason to think that large data is lost: data went out, and only small things came through.
    pub fn doubt(&mut self, now: Instant) {
        let related = self.wanted.is_some_and(|at| now.saturating_duration_since(at) < MTU_RELATED);
        // Not while an answer is awaited, which tells by itself.
        let settled = matches!(self.phase, Phase::Rest | Phase::Climb { .. });
        if related && self.proven && settled && self.limit > self.base() {
            self.doubted.get_or_insert(now);
        }
    }

    /// The other end tells what arrived of what this path sealed.
    pub fn note_report(&mut self, now: Instant, epoch: Epoch, highest: u64, received: u64) {
        let missing = (highest.saturating_add(1)).saturating_sub(received);
        match self.missing {
            Some((of, before, _)) if of == epoch && highest <= before => return,
            // Reordering counts a moment later as what it is; a verification in vain is cheap.
            Some((of, before, known)) if of == epoch => {
                let new = missing.saturating_sub(known + self.excused(epoch, before, highest));
                if new > 0 {
                    self.doubt(now);
                }
                self.grave |= self.doubted.is_some() && new >= GRAVE && new * 2 > highest - before;
            }
            _ => {}
        }
        self.missing = Some((epoch, highest, missing));
    }

    /// How many datagrams with counters above `from`, up to `to`, were padded PROBEs that did not fit.
    pub fn excused(&self, epoch: Epoch, from: u64, to: u64) -> u64 {
        let among =
            |a: &&Asked| !a.answered && a.counter.0 == epoch && a.counter.1 > from && a.counter.1 <= to;
        self.asked.iter().filter(among).count() as u64
    }

    /// Whether it is being found out what still fits: what is large is lost until then.
    pub fn is_sounding(&self) -> bool {
        matches!(self.phase, Phase::Sound { .. })
    }

    /// The path failed: what comes back may be another road.
    pub fn restart(&mut self) {
        self.phase = Phase::Rest;
        self.proven = false;
        self.doubted = None;
        self.grave = false;
        self.searched = None;
        self.vain = 0;
        self.missing = None;
    }

    /// The largest IP packet that data may use now, in bytes.
    pub fn packet(&self) -> usize {
        self.limit + headers(self.v6)
    }

    /// Another path between the same links was found to carry packets of so many bytes at most: so does this one, until
    /// it proves that it carries more. Or whoever moves here would lose everything large once more.
    pub fn follow(&mut self, packet: usize) {
        let size = packet.saturating_sub(headers(self.v6)).max(self.base());
        if size < self.limit && self.phase == Phase::Rest {
            self.limit = size;
            self.proven = false;
            self.doubted = None;
            self.grave = false;
            self.searched = None;
        }
    }

    /// When [`PathMtu::drive`] must be called.
    pub fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Verify { until, .. } | Phase::Sound { until, .. } => Some(until),
            Phase::Climb { until, .. } => Some(self.doubt_due().map_or(until, |due| due.min(until))),
            Phase::Rest if !self.proven => {
                let new = self.wanted.filter(|at| self.rested.is_none_or(|rested| *at > rested));
                new.map(|at| self.after_pause(at))
            }
            Phase::Rest => self.doubt_due().or_else(|| self.wanted.filter(|at| self.may_raise(*at))),
        }
    }

    /// When a doubt is looked into.
    fn doubt_due(&self) -> Option<Instant> {
        self.doubted.map(|at| self.after_pause(at))
    }

    fn after_pause(&self, at: Instant) -> Instant {
        self.rested.map_or(at, |rested| at.max(rested + MTU_DOUBT))
    }

    fn may_raise(&self, at: Instant) -> bool {
        self.limit < self.cap()
            && self.searched.is_none_or(|searched| at.saturating_duration_since(searched) >= MTU_RAISE)
    }

    /// Does what is due. `timeout`: by when a PROBE over the path is usually answered; `loss`: the share of datagrams,
    /// from 0 to 1, that the path loses whatever their size.
    pub fn drive(&mut self, now: Instant, timeout: Duration, loss: f64) -> Step {
        if self.due().is_none_or(|due| due > now) {
            return Step::default();
        }
        match self.phase {
            Phase::Rest if self.proven && self.doubted.is_none() => {
                self.ceiling = self.cap() + 1;
                self.begin();
                self.climb(now, timeout)
            }
            Phase::Rest if self.grave => {
                self.begin();
                self.sound(now, timeout, self.limit, again(loss))
            }
            Phase::Rest => {
                self.begin();
                self.verify(now, timeout, false)
            }
            // What is being looked for above matters less than whether what is used still fits.
            Phase::Climb { .. } if self.doubt_due().is_some_and(|due| due <= now) => {
                if self.grave {
                    self.begin();
                    self.sound(now, timeout, self.limit, again(loss))
                } else {
                    self.verify(now, timeout, true)
                }
            }
            Phase::Verify { size, climbing, .. } => {
                if climbing {
                    // What the climb was told before the doubt is no answer to it.
                    self.begin();
                }
                self.sound(now, timeout, size, again(loss) - 1)
            }
            Phase::Sound { size, .. } => self.conclude(now, timeout, size),
            Phase::Climb { size, .. } => {
                let tries = self.asked.iter().filter(|a| a.current && a.size == size).count();
                if self.limit < size && size < self.ceiling {
                    if tries < MTU_TRIES as usize {
                        self.phase = Phase::Climb { size, until: now + timeout + MTU_ALLOWANCE };
                        return Step { ask: vec![size], fell: false };
                    }
                    self.ceiling = size;
                }
                self.climb(now, timeout)
            }
        }
    }

    /// Asks for the size that is used.
    fn verify(&mut self, now: Instant, timeout: Duration, climbing: bool) -> Step {
        self.doubted = None;
        self.phase = Phase::Verify { size: self.limit, until: now + timeout + MTU_ALLOWANCE, climbing };
        Step { ask: vec![self.limit], fell: false }
    }

    /// Asks for a size that seems not to fit, once and so many times `again`, and for all likely ones below it.
    fn sound(&mut self, now: Instant, timeout: Duration, size: usize, again: u32) -> Step {
        self.doubted = None;
        self.grave = false;
        self.phase = Phase::Sound { size, until: now + timeout + MTU_SOUND_ALLOWANCE };
        let mut ask: Vec<usize> = self.likely().into_iter().rev().filter(|s| *s < size).collect();
        ask.insert(0, size);
        ask.extend(std::iter::repeat_n(size, again as usize));
        ask.retain(|size| *size < self.ceiling);
        Step { ask, fell: false }
    }

    fn begin(&mut self) {
        for asked in &mut self.asked {
            asked.current = false;
        }
    }

    fn rest(&mut self, now: Instant) {
        self.phase = Phase::Rest;
        self.rested = Some(now);
        self.doubted = None;
        self.grave = false;
    }

    /// The size that was taken for the limit was not answered: what was answered is the limit from now on.
    fn conclude(&mut self, now: Instant, timeout: Duration, size: usize) -> Step {
        let before = self.limit;
        // What the system refuses now counts for more than that it went a moment ago.
        let fits = |a: &&Asked| a.current && a.answered && a.size < self.ceiling;
        let best = self.asked.iter().filter(fits).map(|a| a.size).max();
        match best {
            Some(best) => {
                self.ceiling = self.ceiling.min(size.max(best + 1));
                self.limit = best;
                self.proven = true;
                self.vain = 0;
                let step = self.climb(now, timeout);
                Step { fell: best < before, ..step }
            }
            None => {
                // Not even the base: the path is silent, which is found out elsewhere, or very small.
                self.rest(now);
                self.vain += 1;
                self.proven = self.vain >= MAX_VAIN;
                if self.proven {
                    self.vain = 0;
                    self.limit = self.base();
                    self.searched = Some(now);
                } else {
                    // Whoever waits for this goes on waiting.
                    self.wanted = self.wanted.map(|_| now + MTU_DOUBT);
                }
                Step { ask: Vec::new(), fell: self.limit < before }
            }
        }
    }

    /// Tries the next larger size, if there is one between what fits and what does not.
    fn climb(&mut self, now: Instant, timeout: Duration) -> Step {
        let between = |size: &usize| *size > self.limit && *size < self.ceiling;
        let room = self.ceiling.saturating_sub(self.limit);
        let middle = self.limit + room / 2;
        let next = self.likely().into_iter().find(between);
        match next.or_else(|| Some(middle).filter(|_| room > PRECISION)) {
            Some(size) if self.limit < self.cap() => {
                self.phase = Phase::Climb { size, until: now + timeout + MTU_ALLOWANCE };
                Step { ask: vec![size], fell: false }
            }
            _ => {
                self.searched = Some(now);
                self.rest(now);
                Step::default()
            }
        }
    }

    /// A PROBE of this size was sent.
    pub fn note_asked(&mut self, nonce: u64, size: usize, counter: (Epoch, u64)) {
        if self.asked.len() >= MAX_ASKED {
            self.asked.pop_front();
        }
        self.asked.push_back(Asked { nonce, size, counter, current: true, answered: false });
    }

    /// Whether an answer is to a PROBE of this search; then it is taken in.
    pub fn acknowledge(&mut self, now: Instant, nonce: u64) -> bool {
        let Some(asked) = self.asked.iter_mut().find(|a| a.nonce == nonce && !a.answered) else {
            return false;
        };
        asked.answered = true;
        let Asked { size, current, .. } = *asked;
        if !current {
            // From before a doubt: what fitted then need not fit now.
            return true;
        }
        match self.phase {
            Phase::Verify { size: wanted, .. } | Phase::Sound { size: wanted, .. } if size >= wanted => {
                self.proven = true;
                self.vain = 0;
                self.raise(size);
                let climbing = matches!(self.phase, Phase::Verify { climbing: true, .. });
                self.rest(now);
                if climbing {
                    self.phase = Phase::Climb { size: self.limit, until: now };
                }
            }
            Phase::Verify { .. } | Phase::Sound { .. } => {}
            Phase::Climb { size: wanted, .. } => {
                self.raise(size);
                if size >= wanted {
                    self.phase = Phase::Climb { size: wanted, until: now };
                }
            }
            Phase::Rest => self.raise(size),
        }
        true
    }

    fn raise(&mut self, size: usize) {
        self.limit = self.limit.max(size);
        if self.ceiling <= size {
            // It came late, not never.
            self.ceiling = self.cap() + 1;
        }
    }

    /// The system refuses to send datagrams of this size over the path's interface.
    pub fn refuse(&mut self, now: Instant, size: usize) {
        if size <= self.base() {
            return;
        }
        self.ceiling = self.ceiling.min(size);
        if self.limit >= size {
            // Certain, so that there is nothing to verify; what fits is asked at once. Until that is known the next
            // likely size is assumed.
            self.limit = self.likely().into_iter().rev().find(|s| *s < size).unwrap_or(self.base());
            if !matches!(self.phase, Phase::Sound { .. }) {
                self.begin();
                self.phase = Phase::Verify { size, until: now, climbing: false };
            }
        } else if let Phase::Climb { size: asked, .. } = self.phase
            && asked >= size
        {
            self.phase = Phase::Climb { size: asked, until: now };
        }
    }
}

#[cfg(test)]
#[path = "pmtu_tests.rs"]
mod tests;
