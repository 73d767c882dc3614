//! How well a radio is heard, whichever system says so, and whether it is about to fail.

use std::collections::BTreeMap;

/// Weaker than this, in dBm, radios fall back to their slowest rates.
const WEAK: i8 = -78;
/// And are well again from this on.
const WELL: i8 = -72;
/// From here on, a fall by so many dB between two looks is the way out of the house.
const MIDDLING: i8 = -70;
const FALL: i8 = 6;
/// So few frames say nothing.
const FRAMES: u32 = 20;

/// What is known of the station that an interface is associated with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Station {
    /// In dBm, averaged where the driver does so.
    pub signal: Option<i8>,
    /// Frames sent since the association, those repeated, and those given up.
    pub packets: u32,
    pub retries: u32,
    pub failed: u32,
}

impl Station {
    /// Whether it is worth looking again soon.
    fn is_middling(&self) -> bool {
        self.signal.is_some_and(|dbm| dbm <= MIDDLING)
    }

    /// Of the frames sent since `before`, one in twenty was given up, or each was repeated on average.
    fn struggles(&self, before: &Self) -> bool {
        let since = |now: u32, before: u32| now.saturating_sub(before);
        let packets = since(self.packets, before.packets);
        packets >= FRAMES
            && (since(self.failed, before.failed) >= packets.div_ceil(20)
                || since(self.retries, before.retries) >= packets)
    }
}

/// The radios, by their interface's number.
#[derive(Debug, Default)]
pub(crate) struct Radios {
    seen: BTreeMap<u32, (Station, bool)>,
}

impl Radios {
    /// Takes in what is known of an interface's station now; none where it has none. Whether it is about to fail.
    pub(crate) fn look(&mut self, index: u32, station: Option<Station>) -> bool {
        let Some(station) = station else {
            self.seen.remove(&index);
            return false;
        };
        let (before, was_weak) = self.seen.get(&index).copied().unwrap_or((station, false));
        let fell = before.signal.zip(station.signal).is_some_and(|(before, now)| before - now >= FALL);
        let weak = match station.signal {
            Some(dbm) if dbm <= WEAK => true,
            Some(dbm) if dbm <= MIDDLING && fell => true,
            Some(dbm) if dbm < WELL => was_weak,
            _ => false,
        };
        let weak = weak || station.struggles(&before);
        self.seen.insert(index, (station, weak));
        weak
    }

    /// Keeps those of these interfaces only.
    pub(crate) fn retain(&mut self, known: impl Fn(u32) -> bool) {
        self.seen.retain(|index, _| known(*index));
    }

    /// Whether one of them is worth looking at soon.
    pub(crate) fn are_middling(&self) -> bool {
        self.seen.values().any(|(station, weak)| *weak || station.is_middling())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn station(dbm: i8, [packets, retries, failed]: [u32; 3]) -> Option<Station> {
        Some(Station { signal: Some(dbm), packets, retries, failed })
    }

    #[test]
    fn a_weak_radio_is_well_again_only_clearly() {
        let mut radios = Radios::default();
        let mut look = |dbm| radios.look(3, station(dbm, [0; 3]));
        assert_eq!(
            [-50, -72, -77, -79, -77, -73, -71].map(&mut look),
            [false, true, true, true, true, true, false]
        );
        assert!(!radios.look(3, None) && !radios.are_middling());
    }

    #[test]
    fn a_radio_that_repeats_or_gives_up_much_is_weak_whatever_it_hears() {
        let mut radios = Radios::default();
        assert!(!radios.look(3, station(-55, [1_000, 900, 30])), "that was before");
        assert!(!radios.look(3, station(-55, [1_100, 940, 31])));
        assert!(radios.look(3, station(-55, [1_200, 1_060, 31])), "each was repeated");
        assert!(radios.look(3, station(-55, [1_300, 1_070, 40])), "many were given up");
        assert!(!radios.look(3, station(-55, [1_400, 1_080, 40])));
        assert!(!radios.look(3, station(-55, [10, 10, 10])), "another station");
    }
}
