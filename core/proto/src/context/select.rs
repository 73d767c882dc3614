//! Which path carries this end's data, and when to move.
//!
//! A path that works is left for three reasons only: the user's policy, the other end's wish, and a path that is
//! clearly better *and* has been so for some seconds. A path that does not work is left at once.

use std::time::{Duration, Instant};

use super::path::Path;
use super::{Context, Link, PathKey, PathState, Transmit, Via, timing};
use crate::fitness::{Ailment, Fitness};
use crate::policy::{Advantage, Merit};
use crate::wire::{AddressFlags, PathId};

/// Why data moved to another path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The interface, or its carrier, is gone.
    InterfaceDown,
    /// The interface lost the address.
    AddressGone,
    /// Nothing came back.
    Silent,
    /// The other end says that it hears nothing.
    PeerSilent,
    /// The other end no longer has the address.
    PeerAddressGone,
    /// The system says that there is no route.
    Unreachable,
    /// This end's policy.
    Policy,
    /// The other end's wish.
    PeerWish,
    /// Cheaper, healthier or quicker.
    Better,
    /// The first path of all.
    Connected,
    /// A path works again, after none did.
    Restored,
    /// A drill took the path away.
    Drill,
    /// It works, but loses or delays too much, and another one is fit.
    Unfit(Ailment),
}

impl Reason {
    /// In plain words, as in "wifi → cell: went silent".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InterfaceDown => "link down",
            Self::AddressGone => "address gone",
            Self::Silent => "went silent",
            Self::PeerSilent => "peer hears nothing",
            Self::PeerAddressGone => "peer's address gone",
            Self::Unreachable => "no route",
            Self::Policy => "policy",
            Self::PeerWish => "peer's wish",
            Self::Better => "better path",
            Self::Connected => "connected",
            Self::Restored => "path back",
            Self::Drill => "drill",
            Self::Unfit(_) => "unfit",
        }
    }
}

/// Which of the two choices of [`Context::select`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Preferred,
    Active,
}

impl Context {
    /// Whether policy and the other end allow a path at all.
    pub(super) fn permitted(&self, path: &Path) -> bool {
        !self.is_silenced(path)
            && self.locals.interface(path.key.interface).is_some_and(|i| self.config.policy.rank(i).is_some())
            && !self.peer.wish(path).1.contains(AddressFlags::DO_NOT_USE)
    }

    /// Whether this end pays for what goes over a path.
    pub(super) fn is_metered_here(&self, path: &Path) -> bool {
        self.locals.interface(path.key.interface).is_some_and(|i| i.metered)
    }

    /// Whether the other end does.
    pub(super) fn is_metered_there(&self, path: &Path) -> bool {
        self.peer.wish(path).2
    }

    pub(super) fn merit(&self, path: &Path) -> Merit {
        let interface = self.locals.interface(path.key.interface);
        let (priority, flags, peer_metered) = self.peer.wish(path);
        // What strains the active path strains the others of its links.
        let alike = self.active_at().and_then(|at| self.paths.get(at)).filter(|a| self.shared(a, path) == 2);
        let strained = |a: &Path| self.fitness_of(a).min(Fitness::Strained);
        let fitness = self.fitness_of(path).max(alike.map_or(Fitness::Fit, strained));
        let rtt = |path: &Path| path.rtt.smoothed().unwrap_or(Duration::from_secs(1));
        Merit {
            unfit: fitness == Fitness::Unfit,
            rank: interface.and_then(|i| self.config.policy.rank(i)).unwrap_or(usize::MAX),
            wish: u16::from(u8::MAX - priority) + if flags.contains(AddressFlags::BACKUP) { 256 } else { 0 },
            metered: peer_metered || self.is_metered_here(path),
            relayed: path.key.via != Via::Direct,
            sickness: Merit::sickness(path.loss.share()).max(u8::from(fitness != Fitness::Fit)),
            rtt: match alike.filter(|a| a.watch.as_ref().is_some_and(|watch| watch.is_queued())) {
                // Nor is it quicker there: data that fills a queue takes the queue along.
                Some(active) => rtt(path).max(rtt(active)),
                None => rtt(path),
            },
        }
    }

    /// The best validated path beside the active one: one that shares no link with it, if there is any.
    pub(super) fn standby(&self) -> Option<usize> {
        let active = self.active_at().and_then(|at| self.paths.get(at));
        let others = self.paths.iter().enumerate();
        others
            .filter(|(_, p)| {
                !self.selection.is_active(p.id) && p.state == PathState::Validated && self.permitted(p)
            })
            .min_by_key(|(_, p)| (active.map(|a| self.likeness(p, a)), self.merit(p).key()))
            .map(|(at, _)| at)
    }

    /// Looks at all paths, and moves data to another where there is reason to. `why` is the reason if the active
    /// path is gone or not allowed any more.
    ///
    /// Two choices are made in the same way: the *preferred* path, by what this end knows and wants alone, whose
    /// local address is this end's wish in its SET; and the *active* path, which honours the other end's wish as
    /// well. Were the wish taken from the active path, two ends could follow each other in circles.
    pub(super) fn select(&mut self, now: Instant, why: Reason) {
        let preferred = match self.stands(self.selection.preferred()) {
            Some(current) => {
                self.better(now, current, Choice::Preferred).map_or(Some(current), |(id, _)| Some(id))
            }
            None => self.afresh(Choice::Preferred),
        };
        self.selection.prefer(preferred);
        match self.stands(self.selection.active()) {
            Some(current) => {
                if let Some((id, reason)) = self.better(now, current, Choice::Active) {
                    self.move_to(now, Some(id), reason);
                }
            }
            None => {
                let next = self.afresh(Choice::Active);
                self.move_to(now, next, why);
                self.plain_lost(now);
            }
        }
        self.announce(now);
    }

    /// A path that was chosen, if it may still carry data.
    fn stands(&self, id: Option<PathId>) -> Option<PathId> {
        self.paths.iter().find(|p| Some(p.id) == id && p.carries() && self.permitted(p)).map(|p| p.id)
    }

    fn merit_for(&self, path: &Path, choice: Choice) -> Merit {
        let merit = self.merit(path);
        match choice {
            Choice::Active => merit,
            Choice::Preferred => Merit { wish: 0, ..merit },
        }
    }

    /// The best path, without regard for what was chosen before; one that may have died together with that last.
    fn afresh(&self, choice: Choice) -> Option<PathId> {
        let best = |state: PathState| {
            let all = self.paths.iter().filter(move |p| p.state == state && self.permitted(p));
            all.min_by_key(|p| (p.doubt, self.merit_for(p, choice).key())).map(|p| p.id)
        };
        best(PathState::Validated).or_else(|| best(PathState::Suspect)).or_else(|| self.plain_candidate())
    }

    /// A path that there is reason to leave the current one for.
    fn better(&mut self, now: Instant, current: PathId, choice: Choice) -> Option<(PathId, Reason)> {
        let forced = self.selection.is_forced(now);
        // What the user just asked for is done, fit or not.
        let merit_of = |context: &Self, path: &Path| {
            let merit = context.merit_for(path, choice);
            Merit { unfit: merit.unfit && !forced, ..merit }
        };
        let (merit, ailment) = self
            .paths
            .iter()
            .find(|p| p.id == current)
            .map(|p| (merit_of(self, p), p.watch.as_ref().map(|w| w.ailment()).unwrap_or_default()))?;
        let mut untested = Vec::new();
        let mut best: Option<(Merit, PathId, Reason)> = None;
        for at in 0..self.paths.len() {
            let Some(path) = self.paths.get(at) else { break };
            if path.id == current {
                continue;
            }
            let candidate = merit_of(self, path);
            let eligible = path.state == PathState::Validated && path.doubt == 0 && self.permitted(path);
            let advantage = candidate.advantage_over(&merit).filter(|_| eligible);
            let long_enough = |since: Option<Instant>| {
                since.is_some_and(|s| now.saturating_duration_since(s) >= path.hysteresis())
            };
            let (move_now, reason) = match advantage {
                None => (false, Reason::Better),
                // What still works is not left for what would cost more than was meant to be spent.
                Some(Advantage::Fitness) if self.is_spent(path) => (false, Reason::Better),
                Some(Advantage::Fitness) => {
                    let tested = path
                        .acknowledged
                        .is_some_and(|at| now.saturating_duration_since(at) <= timing::TESTED);
                    if !tested && path.probe.is_none() {
                        untested.push(at);
                    }
                    (tested, Reason::Unfit(ailment))
                }
                Some(Advantage::Direct) => {
                    (path.failures == 0 || long_enough(path.good_since), Reason::Better)
                }
                Some(Advantage::Policy) => {
                    (forced || path.failures == 0 || long_enough(path.good_since), Reason::Policy)
                }
                Some(Advantage::Wish) => (true, Reason::PeerWish),
                Some(Advantage::Quality) => (
                    long_enough(path.good_since) && long_enough(path.better_since()[choice as usize]),
                    Reason::Better,
                ),
            };
            let id = path.id;
            if let Some(path) = self.paths.get_mut(at) {
                match (advantage, &mut path.watch) {
                    (None, None) => {}
                    (None, Some(watch)) => watch.better_since[choice as usize] = None,
                    (Some(_), watch) => {
                        let watch = watch.get_or_insert_default();
                        watch.better_since[choice as usize].get_or_insert(now);
                    }
                }
            }
            if move_now && self.paths.get(at).is_some_and(|p| self.plain_stale(now, p)) {
                // It is asked first.
                self.plain_ask(now, at);
                continue;
            }
            if move_now && best.as_ref().is_none_or(|(m, ..)| candidate.key() < m.key()) {
                best = Some((candidate, id, reason));
            }
        }
        for at in untested {
            self.send_probe(now, at);
        }
        best.map(|(_, id, reason)| (id, reason))
    }

    fn move_to(&mut self, now: Instant, to: Option<PathId>, why: Reason) {
        if !self.selection.would_move(to) {
            self.note_outage(now);
            return;
        }
        let (lead, from) = (self.overtaking(to), self.active_path());
        if let Some(at) = self.active_at()
            && let Some(path) = self.paths.get_mut(at)
        {
            // Where data no longer goes, silence says nothing.
            path.awaiting = None;
        }
        // Of what was on its way over a path that loses, part is lost.
        let resend = matches!(why, Reason::PeerWish | Reason::Unfit(_));
        let left = self.selection.active().filter(|_| resend);
        let (from, reason) = self.selection.move_to(now, (from, to), why, lead);
        // What went into the silence of the old path goes again; what it did carry is dropped as come before.
        // What the other end says is worth this once: were it more, a peer that moves to and fro were sent all each time.
        let on_word = matches!(why, Reason::PeerWish | Reason::PeerAddressGone | Reason::PeerSilent);
        self.outflow.begin();
        self.rescue(left, on_word);
        let answered = self.active_at().and_then(|at| self.paths.get(at)).and_then(|p| p.acknowledged);
        self.outflow.resend_unsure(answered, on_word);
        let to_key = self.active_path();
        if let Some(at) = self.active_at() {
            let stale = self.paths.get_mut(at).is_some_and(|p| {
                p.forget_better();
                p.copied = 0;
                p.acknowledged.is_none_or(|a| now.saturating_duration_since(a) > timing::ACTIVE_INTERVAL)
            });
            if stale {
                self.send_probe(now, at);
            } else if let Some(path) = to_key.filter(|_| self.peer.is_plain()) {
                // It sends to where it heard this end last.
                self.transmits.push_back(Transmit::Keepalive { path });
            }
        }
        self.note_outage(now);
        // The move before this one is told as it stands.
        self.tell(now, true);
        self.selection.tell_later(now, from, to_key, reason);
        self.tell(now, false);
        self.announce(now);
    }

    /// For how long data over another path would overtake what is on its way over the active one, which works.
    fn overtaking(&self, to: Option<PathId>) -> Option<Duration> {
        let left = self.paths.get(self.active_at()?).filter(|p| p.state == PathState::Validated)?;
        let next = self.paths.iter().find(|p| Some(p.id) == to)?;
        let lead = left.rtt.smoothed()?.checked_sub(next.rtt.smoothed()?)? / 2;
        Some((lead + timing::OVERTAKING_MARGIN).min(timing::MAX_OVERTAKING))
    }

    fn note_outage(&mut self, now: Instant) {
        if self.last_heard.is_some() {
            self.selection.note_outage(now);
        }
    }

    /// Data was heard over a path.
    pub(super) fn close_gap(&mut self, now: Instant, over: Option<PathKey>) {
        if self.selection.close_gap(now, over) {
            self.tell(now, false);
        }
    }

    /// Tells of a move, if it is time.
    pub(super) fn tell(&mut self, now: Instant, anyway: bool) {
        let busy = self.busy(now);
        if let Some(event) = self.selection.tell(now, busy, anyway) {
            self.emit(event);
        }
    }

    /// When a path has been better for long enough. Each such time is looked at once: the move may have gone to another.
    pub(super) fn better_due(&self) -> Option<Instant> {
        let better = self.paths.iter().flat_map(|p| {
            let due = |since: Option<Instant>| Some(since?.max(p.good_since?) + p.hysteresis());
            p.better_since().map(due).into_iter().flatten()
        });
        self.selection.next_look(better)
    }

    /// What was better must be so all the time until it is moved to: whenever the context wakes, it is looked at.
    pub(super) fn doubt_what_was_better(&mut self, now: Instant) {
        if self.paths.iter().any(|p| p.better_since().iter().any(Option::is_some)) {
            self.select(now, Reason::Better);
        }
    }

    pub(super) fn look_for_better(&mut self, now: Instant) {
        self.selection.note_looked(now);
        self.select(now, Reason::Better);
    }

    /// Treats a link with all its paths as gone (`Some`), for a drill, or ends that (`None`).
    pub fn silence(&mut self, now: Instant, link: Option<Link>) {
        self.silenced = link;
        let Some(link) = link else {
            self.locals.forgive(now);
            self.revalidate(now);
            self.selection.force(now);
            self.announce(now);
            return;
        };
        let silenced: Vec<bool> = self.paths.iter().map(|p| self.is_of(p, link)).collect();
        if let Some(active) = self.active_at().filter(|at| silenced.get(*at) == Some(&true)) {
            let heard = self.paths.get(active).and_then(|p| p.heard);
            self.selection.open_gap(heard);
        }
        for (path, _) in self.paths.iter_mut().zip(silenced).filter(|(_, silenced)| *silenced) {
            // A drill is not a failure: it leaves no scar.
            path.state = PathState::Failed;
            path.probe = None;
            path.awaiting = None;
            path.retry = None;
            path.good_since = None;
            path.doubt = 0;
        }
        self.select(now, Reason::Drill);
        self.announce(now);
    }
}
