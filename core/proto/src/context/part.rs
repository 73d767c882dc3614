//! Whether a path takes part in carrying data now, and why it does not: said by what decides it.

use std::time::Instant;

use super::path::Path;
use super::{Context, PathState};
use crate::fitness::{Ailment, Fitness};
use crate::policy::{Merit, Policy};
use crate::wire::{AddressFlags, PathId};

/// What a path has to do with this end's data now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathPart {
    /// This end's number for it.
    pub id: PathId,
    /// Whether it takes part.
    pub part: Part,
    /// What is wrong with it, where it works and is not fit.
    pub ailment: Option<Ailment>,
    /// When the other end last answered over it.
    pub answered: Option<Instant>,
}

/// Whether a path takes part in carrying this end's data now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It carries data: all of it, a copy, or a share.
    Carries,
    /// It does not.
    Left(LeftOut),
}

/// Why a path does not carry data now. What is said first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// A drill keeps it silent.
    Drill,
    /// This end's policy does not allow it.
    Policy,
    /// The other end asked not to use it.
    PeerRefuses,
    /// It was not tried yet, or is being tried for the first time.
    Untried,
    /// It does not answer.
    Silent,
    /// It loses or delays too much.
    Unfit,
    /// It stands later in the order of this end's policy.
    Order,
    /// The other end wishes for another first.
    PeerWish,
    /// One of the ends pays for it.
    Metered,
    /// It is strained, or loses more.
    Strained,
    /// It works over links that carry data already, and would add nothing.
    Alike,
    /// It is slower.
    Slower,
    /// Nothing is wrong with it: others carry already, and it stands by.
    Spare,
}

impl Part {
    /// The word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Carries => "carries",
            Self::Left(why) => match why {
                LeftOut::Drill => "drill",
                LeftOut::Policy => "policy",
                LeftOut::PeerRefuses => "peer-refuses",
                LeftOut::Untried => "untried",
                LeftOut::Silent => "silent",
                LeftOut::Unfit => "unfit",
                LeftOut::Order => "order",
                LeftOut::PeerWish => "peer-wish",
                LeftOut::Metered => "metered",
                LeftOut::Strained => "strained",
                LeftOut::Alike => "alike",
                LeftOut::Slower => "slower",
                LeftOut::Spare => "spare",
            },
        }
    }
}

impl Context {
    /// What each path has to do with this end's data now, in the order of [`Context::paths`].
    pub fn parts(&self) -> Vec<PathPart> {
        let offers = self.offered();
        let of = |(at, path): (usize, &Path)| PathPart {
            id: path.id,
            part: self.part(at, &offers),
            ailment: self.ailment_of(path),
            answered: path.acknowledged,
        };
        self.paths.iter().enumerate().map(of).collect()
    }

    /// Whether a path takes part in carrying this end's data now.
    fn part(&self, at: usize, offers: &[usize]) -> Part {
        let Some(path) = self.paths.get(at) else { return Part::Left(LeftOut::Untried) };
        let active = self.active_at();
        let second = active.and_then(|active| self.second(active));
        let carries = match self.sending_policy() {
            // Where none can be shared, the active one carries alone.
            Policy::Bonded { .. } if !offers.is_empty() => offers.contains(&at),
            _ => active == Some(at) || second == Some(at),
        };
        if carries { Part::Carries } else { Part::Left(self.left_out(path, active)) }
    }

    fn left_out(&self, path: &Path, active: Option<usize>) -> LeftOut {
        if self.is_silenced(path) {
            return LeftOut::Drill;
        }
        if !self.permitted(path) {
            let refused = self.peer.wish(path).1.contains(AddressFlags::DO_NOT_USE);
            return if refused { LeftOut::PeerRefuses } else { LeftOut::Policy };
        }
        match path.state {
            PathState::Candidate | PathState::Validating => return LeftOut::Untried,
            PathState::Suspect | PathState::Failed => return LeftOut::Silent,
            PathState::Validated => {}
        }
        let several = self.sending_policy().is_several();
        let mine = self.merit(path);
        if mine.unfit {
            return LeftOut::Unfit;
        }
        if several && !self.takes_part(path) {
            return LeftOut::Metered;
        }
        let Some(active) = active.and_then(|at| self.paths.get(at)) else { return LeftOut::Spare };
        if self.shared(path, active) == 2 {
            return LeftOut::Alike;
        }
        worse(&mine, &self.merit(active))
    }

    /// What is wrong with a path that works.
    fn ailment_of(&self, path: &Path) -> Option<Ailment> {
        let ails = path.state == PathState::Validated && self.fitness_of(path) != Fitness::Fit;
        ails.then(|| path.watch.as_ref().map(|watch| watch.ailment()).unwrap_or_default())
    }
}

/// In what a path that works is behind the one that carries.
fn worse(mine: &Merit, best: &Merit) -> LeftOut {
    if mine.rank > best.rank {
        LeftOut::Order
    } else if mine.wish > best.wish {
        LeftOut::PeerWish
    } else if mine.metered && !best.metered {
        LeftOut::Metered
    } else if mine.sickness > best.sickness {
        LeftOut::Strained
    } else if mine.rtt > best.rtt {
        LeftOut::Slower
    } else {
        LeftOut::Spare
    }
}
