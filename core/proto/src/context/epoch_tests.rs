#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;

use super::super::keys::Keys;
use super::*;
use crate::crypto::{Aead, Role};

const PATH: PathId = PathId(3);

fn epoch(id: u8, offer: Offer, since: Instant) -> EpochState {
    let keys = EpochKeys::derive(
        Role::Target,
        Aead::ChaCha20Poly1305,
        Epoch(id),
        (b"INIT", &[1; 32]),
        (b"INIT-ACK", &[2; 32]),
    );
    EpochState::new(Epoch(id), keys.unwrap(), offer, since, true)
}

/// One that the other end began.
fn target(since: Instant) -> EpochState {
    let mut epoch = epoch(2, offer(16), since);
    (epoch.initiator, epoch.confirmed) = (false, false);
    epoch
}

fn first(epoch: &mut EpochState, path: PathId, count: u64) -> Option<u64> {
    epoch.next_counters(path, count).map(|(_, first)| first)
}

fn offer(count: u32) -> Offer {
    Offer { first: 1, further: (2..=count).collect() }
}

#[test]
fn each_path_has_an_index_of_its_own_as_long_as_there_are_some() {
    let now = Instant::now();
    let mut epoch = epoch(0, offer(16), now);
    let mut seen = BTreeSet::new();
    for path in 0..16 {
        let (index, counter) = epoch.next_counters(PathId(path), 3).unwrap();
        assert!(seen.insert(index) && counter == 0);
        assert_eq!(epoch.next_counters(PathId(path), 1), Some((index, 3)), "and keeps it");
    }
    let (last, _) = epoch.next_counters(PathId(15), 1).unwrap();
    assert_eq!(epoch.next_counters(PathId(16), 1), Some((last, 0)), "then they share the last");
    assert_eq!(epoch.next_counters(PathId(99), 1), Some((last, 0)));
    assert!(epoch.knows(PathId(99)) && !epoch.knows(PathId(98)));
}

#[test]
fn a_new_epoch_is_due_before_the_indices_run_out() {
    let now = Instant::now();
    let mut epoch = epoch(0, offer(16), now);
    let idle = epoch.due(2);
    for path in 0..12 {
        assert_eq!(epoch.due(2), idle, "{path} paths");
        epoch.next_counters(PathId(path), 1);
    }
    assert_eq!(epoch.due(2), now + timing::REKEY_INDICES);
    assert_eq!(epoch.due(9), idle, "where another epoch would soon be short of them, too, it is in vain");
    assert_eq!(epoch.end(), idle + timing::EPOCH_END, "its end is that of its keys");
}

#[test]
fn an_end_that_offers_one_index_sees_it_in_all_datagrams() {
    let now = Instant::now();
    let mut epoch = epoch(0, offer(1), now);
    let idle = epoch.due(1);
    for path in 0..20 {
        assert_eq!(epoch.next_counters(PathId(path), 1), Some((ContextIndex(1), 0)));
    }
    assert_eq!(epoch.due(1), idle);
}

#[test]
fn a_new_epoch_does_not_give_way_to_an_idle_one() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut keys = Keys::default();
    for (id, seconds) in [(0, 0), (2, 10), (4, 20)] {
        keys.agree(at(seconds), epoch(id, offer(1), at(seconds)));
        let place = keys.position(Epoch(id)).unwrap();
        keys.at(place).unwrap().heard = Some(at(seconds + 5));
    }
    // Each end begins one at the same moment, and neither was heard yet.
    keys.agree(at(30), epoch(6, offer(1), at(30)));
    keys.agree(at(30), epoch(1, offer(1), at(30)));
    assert!(!keys.has(0) && keys.has(2) && keys.has(4) && keys.has(6) && keys.has(1));
}

#[test]
fn reports_what_arrived_or_that_nothing_did() {
    let mut epoch = target(Instant::now());
    assert_eq!(epoch.report(PATH, false), None, "nothing is worth telling");
    let silence = epoch.report(PATH, true).unwrap();
    assert_eq!((silence.highest, silence.received, silence.silent), (0, 0, true));
    for counter in [4, 9, 7, 9] {
        epoch.accept(PATH, counter);
    }
    let report = epoch.report(PATH, false).unwrap();
    assert_eq!((report.path, report.epoch), (PATH.0, 2));
    assert_eq!((report.highest, report.received, report.reordered), (9, 3, 1));
    assert_eq!(epoch.report(PathId(4), false), None, "another path");
    epoch.rest();
    assert_eq!(epoch.report(PATH, false), Some(report), "rest forgets nothing");
}

#[test]
fn a_peer_makes_this_end_remember_so_many_paths_and_no_more() {
    let mut epoch = target(Instant::now());
    let (last, beyond) = (PathId(127), PathId(128));
    assert!(epoch.may_be_new(last, 0) && epoch.accept(last, 0));
    assert!(!epoch.may_be_new(last, 0) && !epoch.accept(last, 0), "a replay");
    assert!(!epoch.may_be_new(beyond, 0) && !epoch.accept(beyond, 0));
}

#[test]
fn counters_go_on_and_come_to_an_end() {
    let mut epoch = target(Instant::now());
    assert_eq!(first(&mut epoch, PATH, 3), Some(0));
    assert_eq!(first(&mut epoch, PATH, 1), Some(3));
    assert_eq!(epoch.counter(PATH), 4);
    assert_eq!(first(&mut epoch, PathId(0), 1), Some(0), "each path has its own");
    assert!(!epoch.worn());
    let left = EpochState::MAX_COUNTER - 4;
    assert_eq!(epoch.next_counters(PATH, left + 1), None, "more than there are");
    assert_eq!(first(&mut epoch, PATH, left), Some(4));
    assert!(epoch.worn());
    assert_eq!(epoch.next_counters(PATH, 1), None);
    assert_eq!(epoch.due(1), epoch.since, "whatever the time");
}

#[test]
fn what_carried_data_ends_sooner_than_what_did_not() {
    let since = Instant::now();
    let mut epoch = target(since);
    assert!(epoch.due(1) >= since + timing::EPOCH_IDLE);
    epoch.note_used(since + Duration::from_secs(1));
    assert_eq!(epoch.due(1), since + timing::REKEY + timing::REKEY_EXTRA);
    assert!(epoch.end() > epoch.due(1));
    epoch.initiator = true;
    assert_eq!(epoch.due(1), since + timing::REKEY, "who began it begins the next");
}

/// A clock may begin with the machine: nothing then is as long ago as a night.
#[test]
fn what_a_night_has_passed_over_is_over() {
    let since = Instant::now();
    let mut epoch = target(since);
    epoch.note_used(since);
    let (due, end) = (epoch.due(1), epoch.end());
    epoch.age(Duration::from_secs(10));
    assert_eq!((epoch.due(1), epoch.end()), (due - Duration::from_secs(10), end - Duration::from_secs(10)));
    for night in [Duration::from_secs(8 * 3600), Duration::MAX] {
        epoch.age(night);
        assert_eq!((epoch.due(1), epoch.end()), (since, since));
    }
}

#[test]
fn only_reports_that_can_be_true_are_believed() {
    let mut epoch = target(Instant::now());
    epoch.next_counters(PATH, 10);
    let report = |highest, received, reordered, silent| PathReport {
        path: PATH.0,
        epoch: 2,
        highest,
        received,
        reordered,
        silent,
    };
    for (report, plausible) in [
        (report(9, 10, 0, false), true),
        (report(9, 10, 10, false), true),
        (report(10, 10, 0, false), false),
        (report(9, 11, 0, false), false),
        (report(4, 6, 0, false), false),
        (report(4, 5, 6, false), false),
        (report(0, 0, 0, true), true),
    ] {
        assert_eq!(epoch.is_plausible(&report), plausible, "{report:?}");
    }
    let unsent = PathReport { path: 9, ..report(0, 0, 0, false) };
    assert!(!epoch.is_plausible(&unsent), "nothing went there");
    assert!(epoch.is_plausible(&PathReport { silent: true, ..unsent }), "and nothing arrived");
}
