//! Whether datagrams that leave with one call arrive as those do that leave alone.
//!
//! Some kernels mangle what they cut (Linux 7.0 to 7.1.4, batches whose datagrams are all of one length), and a look at the
//! kernel does not show it: what is sealed does not open at the other end, and is lost. So where much of what went in batches
//! over an uplink is lost, datagrams go one by one for a moment. If they arrive, it stays at that until the uplink
//! changes; if they are lost as well, it was not the batches, and that is not asked again. What is lost is known from
//! the other end's reports; plain WireGuard peers make none.

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
    /// One by one: it does.
    Single,
    /// Many at a time: what is lost is lost anyhow.
    Sound,
}

/// Fewer datagrams say more about chance than about batches.
const ENOUGH: u64 = 20;
/// A share that no link loses that can be used, and a share that any may.
const MUCH: f64 = 0.3;
const LITTLE: f64 = 0.06;
/// At least this share of the datagrams left in batches.
const BATCHED: f64 = 0.3;
/// Reports tell of what was sent earlier.
const SETTLE: Duration = Duration::from_millis(300);
/// Without enough datagrams by then, nothing was found out.
const PATIENCE: Duration = Duration::from_secs(10);
/// What was counted before that counts no more: links change.
const WINDOW: Duration = Duration::from_secs(4);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);

/// What went over one path since it was looked, and what the other end reported then.
#[derive(Debug)]
struct Count {
    path: PathKey,
    since: Instant,
    from: Option<PathReport>,
    sent: u64,
    batched: u64,
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

    /// So many datagrams left over a path with one call.
    pub fn note(&mut self, now: Instant, path: PathKey, count: usize) {
        let count = count as u64;
        let batched = if count > 1 { count } else { 0 };
        let room = self.counts.len() < 8;
        match self.counts.iter_mut().find(|c| c.path == path) {
            Some(entry) => {
                entry.sent += count;
                entry.batched += batched;
            }
            // More paths than that carry nothing at the same time.
            None if room => {
                self.counts.push(Count { path, since: now, from: None, sent: count, batched });
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
            if decided || matches!(state, Segmentation::Single | Segmentation::Sound) {
                return false;
            }
            let Some(report) = reported(&count.path) else { return age < PATIENCE };
            let Some(from) = count.from.filter(|from| from.epoch == report.epoch) else {
                if state == Segmentation::Untried || age >= SETTLE {
                    *count = Count { path: count.path, since: now, from: Some(report), sent: 0, batched: 0 };
                }
                return true;
            };
            let sent = report.highest.saturating_sub(from.highest);
            let arrived = report.received.saturating_sub(from.received).min(sent);
            let lost = (sent - arrived) as f64 / sent.max(1) as f64;
            let enough = sent >= ENOUGH;
            let then = match state {
                Segmentation::Untried => {
                    let batches = count.batched as f64 >= BATCHED * count.sent.max(1) as f64;
                    if enough && lost >= MUCH && batches { Some(Segmentation::Trial) } else { None }
                }
                Segmentation::Trial if enough && lost <= LITTLE => Some(Segmentation::Single),
                Segmentation::Trial if enough || age >= PATIENCE => Some(Segmentation::Sound),
                _ => None,
            };
            if let Some(then) = then {
                verdicts.push(Verdict { interface, then });
                return false;
            }
            // From here on anew.
            state == Segmentation::Trial || !enough && age < WINDOW
        });
        verdicts
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    /// A path of which a share is lost: of batches, and of single datagrams.
    struct Link {
        batches: f64,
        singles: f64,
        report: PathReport,
        arrived: f64,
    }

    impl Link {
        fn send(&mut self, count: usize) {
            let lost = if count > 1 { self.batches } else { self.singles };
            self.report.highest += count as u64;
            self.arrived += count as f64 * (1.0 - lost);
            self.report.received = self.arrived as u64;
        }
    }

    /// How an uplink stands in the end, and after how long; `burst` leave at a time, every 20 ms.
    fn outcome(batches: f64, singles: f64, burst: usize) -> (Segmentation, Duration) {
        let start = Instant::now();
        let path = PathKey::direct(InterfaceId(3), IpAddr::from([192, 0, 2, 1]), ([192, 0, 2, 9], 7).into());
        let mut link = Link {
            batches,
            singles,
            report: PathReport { path: 0, epoch: 1, highest: 0, received: 0, reordered: 0, silent: false },
            arrived: 0.0,
        };
        let (mut watch, mut state, mut now) = (Watch::new(start), Segmentation::Untried, start);
        while now < start + Duration::from_secs(20) {
            if matches!(state, Segmentation::Single | Segmentation::Sound) {
                break;
            }
            let at_a_time = if state == Segmentation::Trial { 1 } else { burst };
            for _ in 0..burst / at_a_time {
                link.send(at_a_time);
                watch.note(now, path, at_a_time);
            }
            if watch.is_due(now) {
                for verdict in watch.look(now, |_| Some(link.report), |_| state) {
                    assert_eq!(verdict.interface, InterfaceId(3));
                    state = verdict.then;
                }
            }
            now += Duration::from_millis(20);
        }
        (state, now - start)
    }

    #[test]
    fn batches_that_are_lost_where_single_ones_are_not_go_one_by_one() {
        for burst in [2, 8, 40] {
            let (state, after) = outcome(1.0, 0.0, burst);
            assert_eq!(state, Segmentation::Single, "{burst}");
            assert!(after < Duration::from_secs(3), "{burst}: {after:?}");
        }
        // Half of them are of one length.
        assert_eq!(outcome(0.5, 0.01, 10).0, Segmentation::Single);
    }

    #[test]
    fn a_link_that_loses_either_is_not_blamed_on_batches() {
        for loss in [0.4, 0.9] {
            assert_eq!(outcome(loss, loss, 10).0, Segmentation::Sound, "{loss}");
        }
    }

    #[test]
    fn usual_losses_ask_no_question() {
        for loss in [0.0, 0.03, 0.15] {
            assert_eq!(outcome(loss, 0.0, 10).0, Segmentation::Untried, "{loss}");
        }
        assert_eq!(outcome(1.0, 0.9, 1).0, Segmentation::Untried, "nothing left in batches");
    }
}
