//! Which path is chosen, since when, and what the moves between them cost: the state behind `select`.
//!
//! It knows of paths by number and ends only. Whether one works, is allowed, or is better, is not its business.

use std::time::{Duration, Instant};

use super::{Event, PathKey, Reason};
use crate::wire::{Flags, PathId};

/// For so long after the user changed the policy it is followed without hysteresis.
const FORCE: Duration = Duration::from_secs(5);
/// Copies over the standby may end the silence this long before the move.
const RECENT: Duration = Duration::from_secs(2);
/// A switch is told without its gap when nothing was heard for so long.
const TELL: Duration = Duration::from_secs(3);

/// A move that is told when the silence that came with it is over.
#[derive(Debug, Clone, Copy)]
struct Move {
    from: Option<PathKey>,
    to: Option<PathKey>,
    reason: Reason,
    at: Instant,
}

/// What is chosen.
#[derive(Debug, Default)]
pub(super) struct Selection {
    active: Option<PathId>,
    /// What would carry data if the other end had no wish.
    preferred: Option<PathId>,
    force_until: Option<Instant>,
    /// Some path has carried data.
    begun: bool,
    /// What is sent until then may overtake what is on its way over the path that was left.
    overtakes_until: Option<Instant>,
    /// When data moved to the active path.
    moved: Option<Instant>,
    /// The active path that was lost, until another takes over.
    lost: Option<PathKey>,
    /// Since when no path is active, after the other end was heard.
    outage_since: Option<Instant>,
    /// When data was last heard before the active path became suspect or was lost.
    gap_from: Option<Instant>,
    /// The latest silence, once over.
    gap: Option<(Instant, Duration)>,
    untold: Option<Move>,
    /// When it was last looked whether some path has been better for long enough.
    looked: Option<Instant>,
}

impl Selection {
    /// The path that carries this end's data now.
    pub fn active(&self) -> Option<PathId> {
        self.active
    }

    /// Whether this path carries it.
    pub fn is_active(&self, id: PathId) -> bool {
        self.active == Some(id)
    }

    /// What would carry data if the other end had no wish.
    pub fn preferred(&self) -> Option<PathId> {
        self.preferred
    }

    /// That is now this.
    pub fn prefer(&mut self, id: Option<PathId>) {
        self.preferred = id;
    }

    /// The user changed the policy: it is followed without hysteresis for a moment.
    pub fn force(&mut self, now: Instant) {
        self.force_until = Some(now + FORCE);
    }

    /// Whether the policy is followed without hysteresis.
    pub fn is_forced(&self, now: Instant) -> bool {
        self.force_until.is_some_and(|until| now < until)
    }

    /// When data moved to the active path.
    pub fn moved(&self) -> Option<Instant> {
        self.moved
    }

    /// The active path does not work any more, or is gone.
    pub fn lose(&mut self, key: PathKey) {
        self.lost = Some(key);
        self.active = None;
    }

    /// Whether there is a move to this path to be made: data is elsewhere, or what carried it was lost.
    pub fn would_move(&self, to: Option<PathId>) -> bool {
        self.active != to || to.is_none() && self.lost.is_some()
    }

    /// Moves data to a path. `from` is where it is, unless that was lost before; `lead` for how long what is sent there
    /// overtakes what is on its way. Where it was, and why it moved as far as that is known now.
    pub fn move_to(
        &mut self,
        now: Instant,
        (from, to): (Option<PathKey>, Option<PathId>),
        why: Reason,
        lead: Option<Duration>,
    ) -> (Option<PathKey>, Reason) {
        self.overtakes_until = lead.map(|lead| now + lead);
        let lost = self.lost.take();
        let from = from.or(lost);
        self.moved = Some(now);
        self.active = to;
        if to.is_some() {
            self.outage_since = None;
        }
        let reason = match (from, why) {
            (None, _) if !std::mem::replace(&mut self.begun, true) => Reason::Connected,
            (None, Reason::Better) => Reason::Restored,
            _ => why,
        };
        (from, reason)
    }

    /// The move is to be told.
    pub fn tell_later(&mut self, at: Instant, from: Option<PathKey>, to: Option<PathKey>, reason: Reason) {
        self.untold = Some(Move { from, to, reason, at });
    }

    /// The system says why a path is gone, a moment after a datagram could not be sent over it.
    pub fn refine(&mut self, path: PathKey, why: Reason) {
        if let Some(untold) = &mut self.untold
            && untold.from == Some(path)
            && untold.reason == Reason::Unreachable
        {
            untold.reason = why;
        }
    }

    /// When a move is told at the latest.
    pub fn tell_at(&self) -> Option<Instant> {
        self.untold.map(|m| m.at + TELL)
    }

    /// The move that is to be told, if its silence is over, nothing is to be heard (`busy` is false), or `anyway`.
    pub fn tell(&mut self, now: Instant, busy: bool, anyway: bool) -> Option<Event> {
        let Move { from, to, reason, at } = self.untold?;
        let waiting = self.gap_from.is_some() && to.is_some() && busy;
        if waiting && !anyway && now.saturating_duration_since(at) < TELL {
            return None;
        }
        self.untold = None;
        // A silence that was over long before has nothing to do with this move.
        let recent = |end: Instant| end + RECENT >= at;
        let gap = self.gap.take().filter(|(end, _)| recent(*end)).map(|(_, gap)| gap);
        (from != to).then_some(Event::Switched { from, to, reason, gap })
    }

    /// How the receiver shall treat what is sent now.
    pub fn ordered(&self, now: Instant, flags: Flags) -> Flags {
        match self.overtakes_until {
            Some(until) if now < until => flags.with(Flags::ORDERED),
            _ => flags,
        }
    }

    /// No path is active.
    pub fn note_outage(&mut self, now: Instant) {
        if self.active.is_none() {
            self.outage_since.get_or_insert(now);
        }
    }

    /// Since when none is.
    pub fn outage_since(&self) -> Option<Instant> {
        self.outage_since
    }

    /// The active path fell silent or is gone: from when on nothing was heard.
    pub fn open_gap(&mut self, heard: Option<Instant>) {
        if self.gap_from.is_none() {
            self.gap_from = heard;
            self.gap = None;
        }
    }

    /// The active path is not suspect after all.
    pub fn discard_gap(&mut self) {
        if self.untold.is_none() && self.lost.is_none() {
            self.gap_from = None;
        }
    }

    /// Data was heard over a path: whatever silence there was is over, unless it is the last of what was under way on
    /// the path that was left. Whether a move may have to be told.
    pub fn close_gap(&mut self, now: Instant, over: Option<PathKey>) -> bool {
        let left = self.untold.and_then(|m| m.from).or(self.lost);
        if over.is_none() || over == left {
            return false;
        }
        if let Some(from) = self.gap_from.take() {
            self.gap = Some((now, now.saturating_duration_since(from)));
        }
        self.untold.is_some()
    }

    /// Of these times at which some path has been better for long enough, the next that was not looked at.
    pub fn next_look(&self, due: impl Iterator<Item = Instant>) -> Option<Instant> {
        due.filter(|at| self.looked.is_none_or(|looked| *at > looked)).min()
    }

    /// It is looked at now.
    pub fn note_looked(&mut self, now: Instant) {
        self.looked = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::InterfaceId;

    fn key(n: u8) -> PathKey {
        PathKey::direct(InterfaceId(n.into()), [10, n, 0, 2].into(), ([192, 0, 2, 1], 6278).into())
    }

    #[test]
    fn a_move_is_told_with_the_silence_that_came_with_it() {
        let start = Instant::now();
        let ms = Duration::from_millis(1);
        let mut selection = Selection::default();
        let (from, reason) = selection.move_to(start, (None, Some(PathId(0))), Reason::Better, None);
        assert_eq!((from, reason), (None, Reason::Connected));
        selection.open_gap(Some(start));
        selection.lose(key(1));
        assert!(selection.would_move(None) && selection.active().is_none());
        let (from, reason) =
            selection.move_to(start + 90 * ms, (None, Some(PathId(1))), Reason::Silent, Some(20 * ms));
        assert_eq!((from, reason), (Some(key(1)), Reason::Silent));
        assert_eq!(selection.ordered(start + 100 * ms, Flags::NONE), Flags::ORDERED);
        assert_eq!(selection.ordered(start + 110 * ms, Flags::NONE), Flags::NONE);
        selection.tell_later(start + 90 * ms, from, Some(key(2)), reason);
        assert_eq!(selection.tell(start + 90 * ms, true, false), None, "it is still silent");
        assert!(!selection.close_gap(start + 95 * ms, Some(key(1))), "the last of what was under way");
        assert!(selection.close_gap(start + 120 * ms, Some(key(2))));
        let told = Event::Switched {
            from: Some(key(1)),
            to: Some(key(2)),
            reason: Reason::Silent,
            gap: Some(120 * ms),
        };
        assert_eq!(selection.tell(start + 120 * ms, true, false), Some(told));
        assert_eq!(selection.tell(start + 120 * ms, true, true), None, "once");
    }

    #[test]
    fn each_time_is_looked_at_once() {
        let start = Instant::now();
        let ms = Duration::from_millis(1);
        let mut selection = Selection::default();
        let due = || [start + ms, start + 2 * ms].into_iter();
        assert_eq!(selection.next_look(due()), Some(start + ms));
        selection.note_looked(start + ms);
        assert_eq!(selection.next_look(due()), Some(start + 2 * ms));
        selection.note_looked(start + 2 * ms);
        assert_eq!(selection.next_look(due()), None);
    }

    #[test]
    fn there_is_a_move_where_data_is_elsewhere_or_what_carried_it_was_lost() {
        use crate::interface::InterfaceId;

        let now = Instant::now();
        let key = PathKey::direct(InterfaceId(1), [198, 51, 100, 1].into(), ([192, 0, 2, 1], 6278).into());
        let mut selection = Selection::default();
        assert!(!selection.would_move(None), "nothing carries, and nothing did");
        assert!(selection.would_move(Some(PathId(1))));
        let (from, why) = selection.move_to(now, (None, Some(PathId(1))), Reason::Better, None);
        assert_eq!((from, why), (None, Reason::Connected));
        assert!(!selection.would_move(Some(PathId(1))) && selection.would_move(Some(PathId(2))));
        assert!(selection.would_move(None));
        selection.lose(key);
        assert!(selection.would_move(None), "that is to be told");
        let (from, why) = selection.move_to(now, (None, Some(PathId(2))), Reason::Better, None);
        assert_eq!((from, why), (Some(key), Reason::Better));
        assert!(!selection.would_move(Some(PathId(2))));
    }
}
