//! A drill: takes each link to a peer away in turn, with all its paths, and measures what the transports would notice.
//!
//! The links are this host's, where it has several that work; else the peer's. Echo requests go over the normal data road
//! at 100 Hz. For each link:
//!
//! | phase | length | what |
//! |---|---|---|
//! | warm | 300 ms | the link is there; echoes flow |
//! | away | 1.5 s | the context treats the link as gone; echoes flow |
//! | drain | 300 ms | nothing is sent; the last replies come in, and the link is given back |
//! | settle | up to 900 ms | until a path of the link is validated again |

use std::time::{Duration, Instant};

use mast_proto::Link;
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
    /// Take this link away, or give it back.
    Silence(Option<Link>),
    /// Tell of this link.
    Tell(Link),
    /// It is over.
    Done,
}

/// What the drill must know of the context.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// The link of the path that carries data.
    pub active: Option<Link>,
    /// The links that carry data, or could.
    pub working: Vec<Link>,
}

/// What a step took away.
pub(crate) struct Taken {
    pub interface: String,
    pub remote: std::net::SocketAddr,
    pub paths: usize,
}

pub(crate) struct Drill {
    pub peer: PeerId,
    pub identifier: u16,
    steps: mpsc::Sender<DrillStep>,
    todo: Vec<Link>,
    link: Link,
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
    /// `None` with fewer than two links that work. The active one goes first.
    pub fn new(
        now: Instant,
        peer: PeerId,
        identifier: u16,
        view: &View,
        steps: mpsc::Sender<DrillStep>,
    ) -> Option<Self> {
        if view.working.len() < 2 {
            return None;
        }
        let mut drill = Self {
            peer,
            identifier,
            steps,
            todo: view.working.clone(),
            link: *view.working.first()?,
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

    /// Whether the links are this host's.
    pub fn is_of_own(&self) -> bool {
        matches!(self.link, Link::Own(_))
    }

    /// Begins with the next link: the active one if it was not drilled yet, as another's absence is not felt.
    fn begin(&mut self, now: Instant, active: Option<Link>) -> bool {
        let at = self.todo.iter().position(|p| Some(*p) == active).unwrap_or(0);
        if at >= self.todo.len() {
            return false;
        }
        self.link = self.todo.remove(at);
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
            return vec![Act::Silence(None), Act::Done];
        }
        match self.phase {
            Phase::Warm if now >= self.phase_ends => {
                self.phase = Phase::Away;
                self.phase_ends = now + AWAY;
                acts.push(Act::Silence(Some(self.link)));
            }
            Phase::Away if now >= self.phase_ends => {
                self.note_silence(now);
                self.phase = Phase::Drain;
                self.phase_ends = now + DRAIN;
            }
            Phase::Drain if now >= self.phase_ends => {
                acts.push(Act::Tell(self.link));
                acts.push(Act::Silence(None));
                self.phase = Phase::Settle;
                self.phase_ends = now + SETTLE;
                self.next_echo = now;
            }
            Phase::Settle => {
                let settled = now >= self.phase_ends || view.working.contains(&self.link);
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
    pub fn tell(&self, taken: Taken, to: Option<String>) {
        let sent = u32::from(self.sent());
        let Taken { interface, remote, paths } = taken;
        let step = DrillStep {
            interface,
            remote,
            paths,
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
    fn each_link_once_and_in_bounded_time() {
        let start = Instant::now();
        let link = |n| Link::Own(InterfaceId(n));
        let mut view = View { active: Some(link(2)), working: vec![link(1), link(2)] };
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
                    Act::Silence(Some(link)) => {
                        excluded = Some(now);
                        order.push(link);
                        view.active = view.working.iter().copied().find(|l| *l != link);
                    }
                    Act::Silence(None) => excluded = None,
                    Act::Tell(_) => {
                        let remote = "192.0.2.1:1".parse().unwrap();
                        drill.tell(Taken { interface: "wlan0".into(), remote, paths: 2 }, None);
                    }
                    Act::Done => break 'all,
                }
            }
            assert!(drill.timeout() > now, "{:?}", drill.phase);
            now = drill.timeout();
        }
        assert_eq!(order, [link(2), link(1)]);
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
    fn one_link_is_not_enough() {
        let now = Instant::now();
        let link = Link::Own(InterfaceId(1));
        let view = View { active: Some(link), working: vec![link] };
        assert!(Drill::new(now, PeerId(1), 7, &view, mpsc::channel(8).0).is_none());
    }
}
