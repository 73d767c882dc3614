//! Whether datagrams that leave with one call arrive as those do that leave alone.
//!
//! Some kernels mangle what they cut (Linux 7.0 to 7.1.4, batches whose datagrams are all of one length), and a look at the
//! kernel does not show it: what is sealed does not open at the other end, and is lost. So where nearly all of what went
//! in such batches over an uplink is lost, datagrams go one by one for a moment. If they are lost as well, it was not the
//! batches, and that is not asked again for a while. If they arrive, they go in batches once more, since a queue that was full or a
//! link that faded looks the same for a moment; and if those are lost again and single ones again are not, it stays at one
//! by one until the uplink changes. What is lost is known from the other end's reports; plain WireGuard peers make
//! none.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mast_proto::wire::PathReport;
use mast_proto::{InterfaceId, PathKey};

/// How datagrams leave over an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Segmentation {
    /// Many at a time, where the system can.
    #[default]
    Untried,
    /// One by one, to see whether that helps.
    Trial,
    /// Many at a time: one by one helped, which may have been chance.
    Suspected,
    /// One by one once more.
    Retrial,
    /// One by one: it helped again.
    Single,
    /// Many at a time: what is lost is lost anyhow. Asked again after a while, since another loss may have come between,
    /// and a link over which all batches are lost is as good as dead.
    Sound,
}

impl Segmentation {
    /// Whether datagrams leave many at a time.
    pub fn is_many(self) -> bool {
        matches!(self, Self::Untried | Self::Suspected | Self::Sound)
    }
}

/// Fewer single datagrams say more about chance than about batches.
const ENOUGH: u64 = 20;
/// So many of one batch or two: a stream that lost them stands, and has no more to lose for a while.
const FEW: f64 = 6.0;
/// The share of batches that is lost where they are mangled: no queue that is full and no link that can be used loses
/// as much.
const MUCH: f64 = 0.7;
/// A share that single datagrams may lose and still have helped: the receiver's queue overflows when a stream that stood
/// comes to life, and a link loses some of all.
const SOME: f64 = 0.35;
/// Reports tell of what was sent earlier.
const SETTLE: Duration = Duration::from_millis(300);
/// Without enough datagrams by then, nothing was found out.
const PATIENCE: Duration = Duration::from_secs(10);
/// After that long it is asked again whether batches are sound.
const AGAIN: Duration = Duration::from_secs(20);
/// What was counted before that counts no more: links change.
const WINDOW: Duration = Duration::from_secs(4);
/// So many runs are remembered one by one.
const AHEAD: usize = 16;
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);

/// What went over one path since it was looked, and what the other end reported then.
#[derive(Debug)]
struct Count {
    path: PathKey,
    since: Instant,
    from: Option<PathReport>,
    sent: u64,
    /// Those that left with others of their length alone, as far as reports tell of them; and of those that they do not
    /// tell of yet, how many had left by the end of each run, and how many it has.
    even: u64,
    ahead: VecDeque<(u64, u64)>,
    /// What is reported since is of what was sent since.
    settled: bool,
}

impl Count {
    fn new(now: Instant, path: PathKey, from: Option<PathReport>) -> Self {
        Self { path, since: now, from, sent: 0, even: 0, ahead: VecDeque::new(), settled: false }
    }

    fn note(&mut self, count: u64, even: bool) {
        self.sent += count;
        if !even || count < 2 {
            return;
        }
        let full = self.ahead.len() >= AHEAD;
        match self.ahead.back_mut() {
            // Of so many it does not matter which.
            Some(last) if full => *last = (self.sent, last.1 + count),
            _ => self.ahead.push_back((self.sent, count)),
        }
    }
}

/// What is counted for one peer.
#[derive(Debug)]
pub(crate) struct Watch {
    looked: Instant,
    counts: Vec<Count>,
}

/// What follows for an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub interface: InterfaceId,
    pub then: Segmentation,
}

impl Watch {
    pub fn new(now: Instant) -> Self {
        Self { looked: now, counts: Vec::new() }
    }

    /// So many datagrams left over a path with one call, all of one length or not; `reported` is what the other end
    /// reported of it before they did.
    pub fn note(
        &mut self,
        now: Instant,
        path: PathKey,
        count: usize,
        even: bool,
        reported: impl FnOnce(&PathKey) -> Option<PathReport>,
    ) {
        let count = count as u64;
        let room = self.counts.len() < 8;
        match self.counts.iter_mut().find(|c| c.path == path) {
            Some(entry) => entry.note(count, even),
            // More paths than that carry nothing at the same time.
            None if room => {
                let mut entry = Count::new(now, path, reported(&path));
                entry.note(count, even);
                self.counts.push(entry);
            }
            None => {}
        }
    }

    /// Whether it is time to look.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = now.saturating_duration_since(self.looked) >= LOOK;
        if due {
            self.looked = now;
        }
        due
    }

    /// Looks at what the other end reported; `state` is how an uplink stands.
    pub fn look(
        &mut self,
        now: Instant,
        reported: impl Fn(&PathKey) -> Option<PathReport>,
        state: impl Fn(InterfaceId) -> Segmentation,
    ) -> Vec<Verdict> {
        let mut verdicts: Vec<Verdict> = Vec::new();
        self.counts.retain_mut(|count| {
            let interface = count.path.interface;
            let (state, age) = (state(interface), now.saturating_duration_since(count.since));
            let decided = verdicts.iter().any(|v| v.interface == interface);
            if decided || state == Segmentation::Single {
                return false;
            }
            if state == Segmentation::Sound {
                let again = age >= AGAIN;
                if again {
                    verdicts.push(Verdict { interface, then: Segmentation::Untried });
                }
                return !again;
            }
            let Some(report) = reported(&count.path) else { return age < PATIENCE };
            // Without one, all that it tells of is new.
            let from = count.from.unwrap_or(PathReport { highest: 0, received: 0, ..report });
            if from.epoch != report.epoch || !state.is_many() && !count.settled && age >= SETTLE {
                *count = Count { settled: true, ..Count::new(now, count.path, Some(report)) };
                return true;
            }
            if !state.is_many() && !count.settled {
                return true;
            }
            let sent = report.highest.saturating_sub(from.highest);
            let arrived = report.received.saturating_sub(from.received).min(sent);
            let lost = (sent - arrived) as f64;
            let enough = sent >= ENOUGH;
            while let Some(run) = count.ahead.pop_front_if(|(end, _)| *end <= sent) {
                count.even += run.1;
            }
            let even = count.even as f64;
            let mangled = even >= FEW && lost >= MUCH * even;
            let arrive = enough && lost <= SOME * sent as f64;
            let then = match state {
                Segmentation::Untried if mangled => Some(Segmentation::Trial),
                Segmentation::Suspected if mangled => Some(Segmentation::Retrial),
                Segmentation::Suspected if even >= ENOUGH as f64 => Some(Segmentation::Untried),
                Segmentation::Trial if arrive => Some(Segmentation::Suspected),
                Segmentation::Retrial if arrive => Some(Segmentation::Single),
                Segmentation::Trial | Segmentation::Retrial if enough || age >= PATIENCE => {
                    Some(Segmentation::Sound)
                }
                _ => None,
            };
            if let Some(then) = then {
                verdicts.push(Verdict { interface, then });
                // The first batches after a trial say the most.
                *count = Count::new(now, count.path, Some(report));
                return then == Segmentation::Suspected;
            }
            // From here on anew.
            !state.is_many() || !enough && age < WINDOW
        });
        verdicts
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    /// A path of which a share is lost: of batches of one length, and of all else.
    struct Link {
        even: f64,
        else_: f64,
        report: PathReport,
        arrived: f64,
    }

    impl Link {
        fn new(even: f64, else_: f64) -> Self {
            let report =
                PathReport { path: 0, epoch: 1, highest: 0, received: 0, reordered: 0, silent: false };
            Self { even, else_, report, arrived: 0.0 }
        }

        fn send(&mut self, count: usize, even: bool, faded: bool) {
            let lost = if faded {
                1.0
            } else if count > 1 && even {
                self.even
            } else {
                self.else_
            };
            self.report.highest += count as u64;
            self.arrived += count as f64 * (1.0 - lost);
            self.report.received = self.arrived as u64;
        }
    }

    fn path() -> PathKey {
        PathKey::direct(InterfaceId(3), IpAddr::from([192, 0, 2, 1]), ([192, 0, 2, 9], 7).into())
    }

    /// How an uplink stands in the end, or once it is single or sound, and after how long; `burst` leave at a time, every
    /// `pause`, and every so many bursts one is of several lengths. `fades` makes the link lose all for a while.
    fn outcome_of(
        link: Link,
        burst: usize,
        uneven: usize,
        pause: Duration,
        fades: impl Fn(Duration) -> bool,
    ) -> (Segmentation, Duration) {
        outcome_until(&[Segmentation::Single, Segmentation::Sound], link, burst, uneven, pause, fades)
    }

    fn outcome_until(
        last: &[Segmentation],
        mut link: Link,
        burst: usize,
        uneven: usize,
        pause: Duration,
        fades: impl Fn(Duration) -> bool,
    ) -> (Segmentation, Duration) {
        let start = Instant::now();
        let (mut watch, mut state, mut now) = (Watch::new(start), Segmentation::Untried, start);
        let mut shown = None;
        for round in 0.. {
            if now >= start + Duration::from_secs(60) || last.contains(&state) {
                break;
            }
            let even = uneven == 0 || round % uneven != 0;
            let faded = fades(now - start);
            let before = shown;
            let at_a_time = if state.is_many() { burst } else { 1 };
            for _ in 0..burst / at_a_time {
                link.send(at_a_time, even, faded);
                watch.note(now, path(), at_a_time, even, |_| before);
            }
            // What comes alone has the other end report.
            link.send(1, false, faded);
            watch.note(now, path(), 1, true, |_| before);
            if !faded {
                shown = Some(link.report);
            }
            if watch.is_due(now) {
                for verdict in watch.look(now, |_| shown, |_| state) {
                    assert_eq!(verdict.interface, InterfaceId(3));
                    state = verdict.then;
                }
            }
            now += pause;
        }
        (state, now - start)
    }

    fn outcome(even: f64, else_: f64, burst: usize) -> (Segmentation, Duration) {
        outcome_of(Link::new(even, else_), burst, 0, Duration::from_millis(20), |_| false)
    }

    #[test]
    fn batches_that_are_lost_where_single_ones_are_not_go_one_by_one() {
        for burst in [2, 8, 40] {
            let (state, after) = outcome(1.0, 0.0, burst);
            assert_eq!(state, Segmentation::Single, "{burst}");
            assert!(after < Duration::from_secs(5), "{burst}: {after:?}");
        }
        // Every other burst is of one length; and a link that loses some of all.
        let half =
            |even, else_| outcome_of(Link::new(even, else_), 10, 2, Duration::from_millis(20), |_| false);
        assert_eq!(half(1.0, 0.01).0, Segmentation::Single);
        assert_eq!(half(0.95, 0.03).0, Segmentation::Single);
        // A receiver that is too busy for what comes once it comes.
        assert_eq!(outcome(1.0, 0.25, 10).0, Segmentation::Single);
    }

    /// A stream whose windows are lost sends little: one of ten, and the one that it sends again, is all there is.
    #[test]
    fn a_stream_that_stands_is_found_out_by_what_little_it_sends() {
        for pause in [200, 400, 1_600] {
            let pause = Duration::from_millis(pause);
            let (state, after) = outcome_of(Link::new(1.0, 0.0), 10, 0, pause, |_| false);
            assert_eq!(state, Segmentation::Single, "{pause:?}");
            assert!(after < pause * 15, "{pause:?}: {after:?}");
        }
    }

    #[test]
    fn a_link_that_loses_either_is_not_blamed_on_batches() {
        for loss in [0.75, 0.9] {
            assert_eq!(outcome(loss, loss, 10).0, Segmentation::Sound, "{loss}");
        }
    }

    /// A fade that hides what single datagrams do is no verdict for ever.
    #[test]
    fn a_trial_in_a_fade_is_made_again() {
        for length in [1_000, 3_000] {
            let faded = |since: Duration| (300..length).contains(&since.as_millis());
            let pause = Duration::from_millis(20);
            let link = || Link::new(1.0, 0.0);
            let (state, _) = outcome_until(&[Segmentation::Single], link(), 10, 0, pause, faded);
            assert_eq!(state, Segmentation::Single, "{length} ms");
        }
        // What is lost anyhow is not blamed, however often it is asked.
        let (state, _) = outcome_until(
            &[Segmentation::Single],
            Link::new(0.8, 0.8),
            10,
            0,
            Duration::from_millis(20),
            |_| false,
        );
        assert_ne!(state, Segmentation::Single);
    }

    #[test]
    fn losses_that_a_full_queue_makes_ask_no_question() {
        for loss in [0.0, 0.03, 0.15, 0.5] {
            assert_eq!(outcome(loss, 0.0, 10).0, Segmentation::Untried, "{loss}");
        }
        assert_eq!(outcome(1.0, 0.9, 1).0, Segmentation::Untried, "nothing left in batches");
    }

    /// For a moment a fade looks like lost batches, and what comes after it like single ones that helped.
    #[test]
    fn a_fade_is_not_blamed_on_batches() {
        for length in [120, 300, 700] {
            for every in [5_000, 9_000] {
                let faded = |since: Duration| since.as_millis() % every > every - length;
                let pause = Duration::from_millis(20);
                let (state, _) = outcome_of(Link::new(0.0, 0.0), 10, 0, pause, faded);
                assert_eq!(state, Segmentation::Untried, "{length} ms every {every} ms");
            }
        }
    }
}
