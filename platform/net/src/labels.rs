//! What is in force, read back from the rules themselves: each carries a label with its number, how many there are, and
//! what they are for, `mast 3/17 p46 g46l …`. A set of which one is missing is none.

use std::collections::BTreeSet;

use mast_engine::declared::Guard;
use mast_engine::os::Family;

/// The label of one of so many.
pub(crate) fn label(at: usize, count: usize, what: &str) -> String {
    format!("mast {at}/{count} {what}")
}

/// `p46 g46l`: the versions of IP that are protected, those that are guarded, and whether the local network is let through.
pub(crate) fn words(protect: &BTreeSet<Family>, guard: Option<&Guard>) -> String {
    let guard = guard.map_or("-".to_owned(), |guard| {
        format!("{}{}", digits(&guard.families), if guard.local_network { "l" } else { "n" })
    });
    format!("p{} g{guard}", digits(protect))
}

/// What [`words`] wrote; the guard has no interfaces yet.
pub(crate) fn meaning(protect: &str, guard: &str) -> Option<(BTreeSet<Family>, Option<Guard>)> {
    let protect = families(protect.strip_prefix('p')?)?;
    let guard = match guard.strip_prefix('g')? {
        "-" => None,
        guard => {
            let (held, local_network) = match (guard.strip_suffix('l'), guard.strip_suffix('n')) {
                (Some(held), _) => (held, true),
                (_, Some(held)) => (held, false),
                _ => return None,
            };
            Some(Guard { families: families(held)?, interfaces: BTreeSet::new(), local_network })
        }
    };
    Some((protect, guard))
}

/// The versions of IP of which anything is held back.
pub(crate) fn held(protect: &BTreeSet<Family>, guard: Option<&Guard>) -> BTreeSet<Family> {
    protect.iter().chain(guard.iter().flat_map(|guard| &guard.families)).copied().collect()
}

fn digits(families: &BTreeSet<Family>) -> String {
    families.iter().map(|family| if *family == Family::V4 { '4' } else { '6' }).collect()
}

fn families(digits: &str) -> Option<BTreeSet<Family>> {
    let family = |digit| match digit {
        '4' => Some(Family::V4),
        '6' => Some(Family::V6),
        _ => None,
    };
    digits.chars().map(family).collect()
}

/// Labels, as they are read.
#[derive(Debug, Default)]
pub(crate) struct Labels<'a> {
    found: BTreeSet<usize>,
    meant: Option<(usize, &'a str)>,
    odd: bool,
    any: bool,
}

impl<'a> Labels<'a> {
    /// One that was read.
    pub fn note(&mut self, label: &'a str) {
        self.any = true;
        let parts = label.strip_prefix("mast ").and_then(|rest| rest.split_once(' '));
        let parts = parts.and_then(|(at, what)| Some((at.split_once('/')?, what)));
        let numbers = parts.and_then(|((at, of), what)| Some((at.parse().ok()?, of.parse().ok()?, what)));
        let Some((at, of, what)) = numbers else { return self.note_odd() };
        self.odd |= self.meant.is_some_and(|before| before != (of, what)) || !self.found.insert(at);
        self.meant = Some((of, what));
    }

    /// Something that has no such label, which makes the whole a part.
    pub fn note_odd(&mut self) {
        (self.any, self.odd) = (true, true);
    }

    /// What they all say, if they are whole. An error if there are some, and they are not.
    pub fn whole(self) -> Result<Option<&'a str>, ()> {
        match self.meant {
            Some((of, what)) if !self.odd && self.found.iter().copied().eq(1..=of) => Ok(Some(what)),
            None if !self.any => Ok(None),
            _ => Err(()),
        }
    }
}
