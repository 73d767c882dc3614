//! A drill: takes each path of a peer away in turn, and measures what the transports would notice.
//!
//! Echo requests go over the normal data road at 100 Hz. For each path:
//!
//! | phase | length | what |
//! |---|---|---|
//! | warm | 300 ms | the path is there; echoes flow |
//! | away | 1.5 s | the context treats the path as gone; echoes flow |
//! | drain | 300 ms | nothing is sent; the last replies come in, and the path is given back |
//! | settle | up to 900 ms | until the path is validated again |

use std::time::{Duration, Instant};

use mast_proto::PathKey;
use tokio::sync::mpsc;

use crate::api::DrillStep;
use crate::peer::PeerId;

const INTERVAL: Duration = Duration::from_millis(10);
const WARM: Duration = Duration::from_millis(300);
const AWAY: Duration = Duration::from_millis(1500);
const DRAIN: Duration = Duration::from_millis(300);
const SETTLE: Duration = Duration::from_millis(900);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Warm,
    Away,
    Drain,
    Settle,
}

/// What the drill wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Send an echo request with this sequence number.
    Echo(u16),
    /// Take this path away, or give it back.
    Exclude(Option<PathKey>),
    /// Tell of this path.
    Tell(PathKey),
    /// It is over.
    Done,
}

/// What the drill must know of the context.
pub(crate) struct View {
    pub active: Option<PathKey>,
    /// The path of this step carries data again, or could.
    pub validated: Vec<PathKey>,
}

pub(crate) struct Drill {
    pub peer: PeerId,
    pub identifier: u16,
    steps: mpsc::Sender<DrillStep>,
    todo: Vec<PathKey>,
    path: PathKey,
    phase: Phase,
    phase_ends: Instant,
    next_echo: Instant,
    sequence: u16,
    /// The first sequence number of this step.
    first: u16,
    replied: u32,
    heard: Instant,
    longest: Duration,
}

impl Drill {
    /// `None` with fewer than two validated paths. The active one goes first.
    pub fn new(
        now: Instant,
        peer: PeerId,
        identifier: u16,
        view: &View,
        steps: mpsc::Sender<DrillStep>,
    ) -> Option<Self> {
        if view.validated.len() < 2 {
            return None;
        }
        let mut drill = Self {
            peer,
            identifier,
            steps,
            todo: view.validated.clone(),
            path: *view.validated.first()?,
            phase: Phase::Settle,
            phase_ends: now,
            next_echo: now,
            sequence: 0,
            first: 0,
            replied: 0,
            heard: now,
            longest: Duration::ZERO,
        };
        drill.begin(now, view.active);
        Some(drill)
    }

    /// Begins with the next path: the active one if it was not drilled yet, as another's absence is not felt.
    fn begin(&mut self, now: Instant, active: Option<PathKey>) -> bool {
        let at = self.todo.iter().position(|p| Some(*p) == active).unwrap_or(0);
        if at >= self.todo.len() {
            return false;
        }
        self.path = self.todo.remove(at);
        self.phase = Phase::Warm;
        self.phase_ends = now + WARM;
        self.next_echo = now;
        self.first = self.sequence;
        self.replied = 0;
        self.heard = now;
        self.longest = Duration::ZERO;
        true
    }

    pub fn timeout(&self) -> Instant {
        match self.phase {
            Phase::Warm | Phase::Away => self.next_echo.min(self.phase_ends),
            Phase::Drain => self.phase_ends,
            Phase::Settle => self.next_echo,
        }
    }

    /// What is due now.
    pub fn poll(&mut self, now: Instant, view: &View) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.steps.is_closed() {
            return vec![Act::Exclude(None), Act::Done];
        }
        match self.phase {
            Phase::Warm if now >= self.phase_ends => {
                self.phase = Phase::Away;
                self.phase_ends = now + AWAY;
                acts.push(Act::Exclude(Some(self.path)));
            }
            Phase::Away if now >= self.phase_ends => {
                self.note_silence(now);
                self.phase = Phase::Drain;
                self.phase_ends = now + DRAIN;
            }
            Phase::Drain if now >= self.phase_ends => {
                acts.push(Act::Tell(self.path));
                acts.push(Act::Exclude(None));
                self.phase = Phase::Settle;
                self.phase_ends = now + SETTLE;
                self.next_echo = now;
            }
            Phase::Settle => {
                let settled = now >= self.phase_ends || view.validated.contains(&self.path);
                if settled && !self.begin(now, view.active) {
                    acts.push(Act::Done);
                }
            }
            Phase::Warm | Phase::Away | Phase::Drain => {}
        }
        if now >= self.next_echo {
            // An echo that is late is not made up for: that would be a burst.
            let due = self.next_echo + INTERVAL;
            self.next_echo = if due > now { due } else { now + INTERVAL };
            if matches!(self.phase, Phase::Warm | Phase::Away) {
                acts.push(Act::Echo(self.sequence));
                self.sequence = self.sequence.wrapping_add(1);
            }
        }
        acts
    }

    /// An echo reply came; whether it belongs to the drill.
    pub fn reply(&mut self, now: Instant, identifier: u16, sequence: u16) -> bool {
        if identifier != self.identifier {
            return false;
        }
        if sequence.wrapping_sub(self.first) < self.sent() {
            if matches!(self.phase, Phase::Warm | Phase::Away) {
                self.note_silence(now);
                self.heard = now;
            }
            self.replied += 1;
        }
        true
    }

    /// The figures of this step.
    pub fn tell(&self, interface: String, to: Option<String>) {
        let sent = u32::from(self.sent());
        let step = DrillStep {
            interface,
            remote: self.path.remote,
            to,
            gap: self.longest,
            sent,
            lost: sent.saturating_sub(self.replied),
        };
        // Whoever asked is slow or gone.
        let _ = self.steps.try_send(step);
    }

    fn sent(&self) -> u16 {
        self.sequence.wrapping_sub(self.first)
    }

    fn note_silence(&mut self, now: Instant) {
        self.longest = self.longest.max(now.saturating_duration_since(self.heard));
    }
}

#[cfg(test)]
mod tests {
    use mast_proto::InterfaceId;

    use super::*;

    #[test]
    fn each_path_once_and_in_bounded_time() {
        let start = Instant::now();
        let path = |n| PathKey { interface: InterfaceId(n), remote: "192.0.2.1:1".parse().unwrap() };
        let mut view = View { active: Some(path(2)), validated: vec![path(1), path(2)] };
        let (sender, mut steps) = mpsc::channel(8);
        let mut drill = Drill::new(start, PeerId(1), 7, &view, sender).unwrap();
        let (mut now, mut excluded, mut order) = (start, None, Vec::new());
        'all: loop {
            for act in drill.poll(now, &view) {
                match act {
                    // While the path is away 80 ms pass without an answer.
                    Act::Echo(sequence) if excluded.is_none_or(|at| now > at + Duration::from_millis(80)) => {
                        assert!(drill.reply(now, 7, sequence));
                    }
                    Act::Echo(_) => {}
                    Act::Exclude(Some(path)) => {
                        excluded = Some(now);
                        order.push(path);
                        view.active = view.validated.iter().copied().find(|p| *p != path);
                    }
                    Act::Exclude(None) => excluded = None,
                    Act::Tell(_) => drill.tell("wlan0".into(), None),
                    Act::Done => break 'all,
                }
            }
            assert!(drill.timeout() > now, "{:?}", drill.phase);
            now = drill.timeout();
        }
        assert_eq!(order, [path(2), path(1)]);
        assert!(now < start + Duration::from_secs(6));
        for _ in 0..2 {
            let step = steps.try_recv().unwrap();
            assert!(
                step.gap >= Duration::from_millis(80) && step.gap <= Duration::from_millis(110),
                "{step:?}"
            );
            assert!(step.sent > 170 && step.lost == 9 || step.lost == 8, "{step:?}");
        }
        assert!(!drill.reply(now, 8, 0));
    }

    #[test]
    fn one_path_is_not_enough() {
        let now = Instant::now();
        let path = PathKey { interface: InterfaceId(1), remote: "192.0.2.1:1".parse().unwrap() };
        let view = View { active: Some(path), validated: vec![path] };
        assert!(Drill::new(now, PeerId(1), 7, &view, mpsc::channel(8).0).is_none());
    }
}
