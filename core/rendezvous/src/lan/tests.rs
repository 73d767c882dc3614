#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use super::station::{Outcome, Station};
use super::tag::{self, SEALED_LEN, Tag};
use super::wire::{self, Ask, Read};
use super::{EPOCH, Link, MOST_PEERS, Near, Neighbour};
use crate::sealed::{Announcement, content};
use crate::{Found, MOST_ADDRESSES, PairSecret, PeerKey};

const ALICE: PeerKey = [0xa1; 32];
const BOB: PeerKey = [0xb0; 32];
const PAIR: PairSecret = PairSecret([7; 32]);
/// The number of the interface, at either end.
const ETH: u32 = 7;

fn clock(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 168, 1, host], 6278))
}

fn near(text: &str) -> SocketAddr {
    format!("[fe80::{text}%{ETH}]:6278").parse().unwrap()
}

fn link(host: u8) -> Link {
    let addresses = vec![address(host), near(&host.to_string())];
    Link { number: ETH, name: "eth0".into(), network: None, addresses }
}

fn peers(all: &[(PeerKey, PairSecret)], missed: bool) -> BTreeMap<PeerKey, Neighbour> {
    all.iter().map(|(key, secret)| (*key, Neighbour { secret: secret.clone(), missed })).collect()
}

fn alice(missed: bool) -> Near {
    Near { key: ALICE, peers: peers(&[(BOB, PAIR)], missed), links: vec![link(1)] }
}

fn bob() -> Near {
    Near { key: BOB, peers: peers(&[(ALICE, PAIR)], true), links: vec![link(2)] }
}

fn station(now: Instant, near: Near) -> Station {
    let mut station = Station::new();
    assert!(station.set(now, near).is_empty());
    station
}

/// Everything that is asked from now on, with when.
fn asked(
    station: &mut Station,
    now: Instant,
    clock: SystemTime,
    until: Duration,
) -> Vec<(Duration, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(due) = station.due().filter(|due| *due <= now + until) {
        let after = due.saturating_duration_since(now);
        let messages = station.ask(due, clock + after).unwrap();
        all.extend(messages.into_iter().map(|(_, message)| (after, message)));
    }
    all
}

/// What Alice asks first.
fn question(now: Instant, clock: SystemTime) -> Vec<u8> {
    let mut alice = station(now, alice(true));
    let due = alice.due().unwrap();
    alice.ask(due, clock).unwrap().remove(0).1
}

fn hear(station: &mut Station, now: Instant, from: SocketAddr, message: &[u8]) -> Outcome {
    station.hear(now, clock(0), ETH, from, message)
}

#[test]
fn two_peers_find_each_other_by_one_question_and_its_answer() {
    let now = Instant::now();
    for from in [1, 2].map(|host| [address(host), near(&host.to_string())]) {
        assert!(from.iter().all(|at| at.port() != 0));
    }
    for version in [0, 1] {
        let from = |host: u8| [address(host), near(&host.to_string())][version];
        let (mut alice, mut bob) = (station(now, alice(true)), station(now, bob()));
        let due = alice.due().unwrap();
        assert!(due > now && due < now + Duration::from_millis(150));
        let messages = alice.ask(due, clock(0)).unwrap();
        let [(ETH, question)] = messages.as_slice() else { panic!("{messages:?}") };
        let heard = hear(&mut bob, now, from(1), question);
        let [Found { peer: ALICE, addresses, lifetime }] = heard.found.as_slice() else {
            panic!("{heard:?}")
        };
        assert_eq!(addresses, &[address(1), near("1")]);
        assert!(*lifetime > Duration::from_secs(3600));
        let [answer] = heard.answers.as_slice() else { panic!("{heard:?}") };
        assert!(answer.len() < question.len(), "no amplification");
        let heard = hear(&mut alice, now, from(2), answer);
        assert!(heard.answers.is_empty(), "an answer is not answered");
        let [Found { peer: BOB, addresses, .. }] = heard.found.as_slice() else { panic!("{heard:?}") };
        assert_eq!(addresses, &[address(2), near("2")]);
    }
}

#[test]
fn clocks_may_be_one_epoch_apart_and_no_more() {
    let now = Instant::now();
    let question = question(now, clock(0));
    for (apart, meets) in [(900, true), (-900, true), (1800, false), (-1800, false)] {
        let far = clock(10_000) - Duration::from_secs(10_000);
        let at = if apart < 0 {
            far - Duration::from_secs(-apart as u64)
        } else {
            far + Duration::from_secs(apart as u64)
        };
        let mut bob = station(now, bob());
        let heard = bob.hear(now, at, ETH, address(1), &question);
        assert_eq!((heard.found.len(), heard.answers.len()), if meets { (1, 1) } else { (0, 0) }, "{apart}");
        if let [answer] = heard.answers.as_slice() {
            let mut alice = station(now, alice(true));
            assert_eq!(hear(&mut alice, now, address(2), answer).found.len(), 1, "{apart}");
        }
    }
}

/// All pieces that are longer than what every message has alike.
fn pieces(message: &[u8]) -> BTreeSet<Vec<u8>> {
    message.windows(24).map(<[u8]>::to_vec).collect()
}

#[test]
fn nothing_that_is_heard_says_who_is_there_or_returns_in_another_epoch() {
    let now = Instant::now();
    let first = question(now, clock(0));
    let later = question(now, clock(EPOCH.as_secs()));
    let again = question(now, clock(1));
    assert_eq!((first.len(), later.len()), (again.len(), again.len()), "lengths say nothing");
    assert!(first.len() < 1200, "{}", first.len());
    assert!(pieces(&first).is_disjoint(&pieces(&later)), "something stays the same");
    assert_ne!(first, again, "what is sealed is never the same");
    let tags = |message: &[u8]| wire::tags(message).collect::<BTreeSet<Tag>>();
    assert_eq!(tags(&first).len(), 8, "four that are asked for, and four that ask");
    assert_eq!(tags(&first).intersection(&tags(&again)).count(), 2, "those of the pair, within an epoch");
    assert!(tags(&first).is_disjoint(&tags(&later)));
    let secret = [address(1).ip(), near("1").ip()].map(|ip| match ip {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    });
    for piece in secret.iter().map(Vec::as_slice).chain([
        &ALICE[..8],
        &BOB[..8],
        &PAIR.0[..8],
        b"eth0",
        b"mast",
        b"MAST",
    ]) {
        assert!(!first.windows(piece.len()).any(|window| window == piece), "{piece:?}");
    }
}

#[test]
fn how_many_are_asked_for_shows_in_fours_alone() {
    let now = Instant::now();
    let mut lengths = BTreeSet::new();
    for count in 1..=4_u8 {
        let all: Vec<_> = (1..=count).map(|n| ([n; 32], PairSecret([n; 32]))).collect();
        let mut station = station(now, Near { peers: peers(&all, true), ..alice(true) });
        let due = station.due().unwrap();
        let messages = station.ask(due, clock(0)).unwrap();
        assert_eq!(messages.len(), 1);
        lengths.insert(messages[0].1.len());
    }
    assert_eq!(lengths.len(), 1, "{lengths:?}");
}

#[test]
fn nobody_else_gets_an_answer() {
    let now = Instant::now();
    let question = question(now, clock(0));
    let nothing = |heard: Outcome| heard.found.is_empty() && heard.answers.is_empty();
    // Another's host, which has other peers.
    let mut stranger =
        station(now, Near { key: [9; 32], peers: peers(&[(ALICE, PairSecret([1; 32]))], true), ..bob() });
    assert!(nothing(hear(&mut stranger, now, address(1), &question)));
    let mut bob = station(now, bob());
    let far: SocketAddr = "[2001:db8::1]:5353".parse().unwrap();
    assert!(nothing(hear(&mut bob, now, far, &question)), "no host of the link");
    assert!(nothing(hear(&mut bob, now, address(66), &question)), "somebody else sends it on");
    assert!(nothing(bob.hear(now, clock(0), 8, address(1), &question)), "a link that is none");
    // A bare question, by whoever heard the name.
    let read = wire::read(&question).unwrap();
    let asks: Vec<Ask> = read
        .asked
        .iter()
        .map(|theirs| Ask { theirs: *theirs, ours: [1; 16], sealed: vec![0; SEALED_LEN] })
        .collect();
    assert!(nothing(hear(&mut bob, now, address(1), &wire::ask(&asks).unwrap())));
    assert!(!nothing(hear(&mut bob, now, address(1), &question)), "and yet the peer does");
    assert!(nothing(hear(&mut bob, now + EPOCH, address(1), &question)), "what was heard before");
}

#[test]
fn who_is_no_peer_any_more_is_neither_asked_for_nor_answered() {
    let now = Instant::now();
    let question = question(now, clock(0));
    let mut bob_station = station(now, bob());
    assert_eq!(hear(&mut bob_station, now, address(1), &question).found.len(), 1);
    let hidden = Near { peers: BTreeMap::new(), ..bob() };
    let told = bob_station.set(now, hidden);
    let [Found { peer: ALICE, addresses, .. }] = told.as_slice() else { panic!("{told:?}") };
    assert!(addresses.is_empty(), "what was found goes");
    assert_eq!(bob_station.due(), None);
    assert!(bob_station.links().is_empty(), "nothing is listened to");
    let later = self::question(now, clock(5));
    let heard = hear(&mut bob_station, now, address(1), &later);
    assert!(heard.found.is_empty() && heard.answers.is_empty());
}

#[test]
fn asking_ceases_once_a_peer_is_there_and_grows_seldom_while_it_is_missed() {
    let now = Instant::now();
    let day = Duration::from_secs(24 * 3600);
    let there = asked(&mut station(now, alice(false)), now, clock(0), day);
    assert_eq!(
        there.len(),
        3,
        "multicast may be lost: {:?}",
        there.iter().map(|(at, _)| at).collect::<Vec<_>>()
    );
    let mut missing = station(now, alice(true));
    let missed = asked(&mut missing, now, clock(0), day);
    println!("a missed peer is asked for {} times in a day", missed.len());
    assert!((30..40).contains(&missed.len()), "{}", missed.len());
    assert!(missed.iter().filter(|(at, _)| *at < Duration::from_secs(20)).count() >= 4);
    // It came, and nothing is asked any more; it is lost, and it is asked for at once.
    let then = now + day;
    missing.set(then, alice(false));
    assert_eq!(missing.due(), None);
    missing.set(then, alice(true));
    assert!(missing.due().unwrap() < then + Duration::from_millis(150));
}

#[test]
fn another_network_is_asked_in_anew_and_what_was_found_in_the_old_one_goes() {
    let now = Instant::now();
    let mut station = station(now, alice(false));
    asked(&mut station, now, clock(0), Duration::from_secs(60));
    let mut bob = self::station(now, bob());
    let question = question(now, clock(0));
    let answer = hear(&mut bob, now, address(1), &question).answers.remove(0);
    assert_eq!(hear(&mut station, now, address(2), &answer).found.len(), 1);
    assert_eq!(station.due(), None);
    // One more address in the same network.
    let mut more = link(1);
    more.addresses.push(address(9));
    assert!(station.set(now, Near { links: vec![more], ..alice(false) }).is_empty());
    assert!(station.due().is_some());
    let other = Link { network: Some("café".into()), ..link(1) };
    let told = station.set(now, Near { links: vec![other], ..alice(false) });
    assert!(
        matches!(told.as_slice(), [Found { peer: BOB, addresses, .. }] if addresses.is_empty()),
        "{told:?}"
    );
    assert!(station.due().is_some());
    station.set(now, Near { links: vec![], ..alice(false) });
    assert_eq!(station.due(), None);
}

#[test]
fn even_a_peer_is_answered_once_a_second() {
    let now = Instant::now();
    let (mut alice, mut bob) = (station(now, alice(true)), station(now, bob()));
    let (mut answers, mut asked) = (0, 0);
    for tenth in 0..100_u32 {
        alice.set(now, Near { links: vec![], ..self::alice(true) });
        alice.set(now, self::alice(true));
        let due = alice.due().unwrap();
        for (_, message) in alice.ask(due, clock(1)).unwrap() {
            asked += 1;
            answers +=
                hear(&mut bob, now + Duration::from_millis(100) * tenth, address(1), &message).answers.len();
        }
    }
    assert_eq!(asked, 100);
    assert!((10..=11).contains(&answers), "{answers}");
}

#[test]
fn a_flood_is_read_no_faster_than_it_may_be_and_leaves_nothing_behind() {
    let now = Instant::now();
    let mut bob = station(now, bob());
    let real = wire::read(&question(now, clock(0))).unwrap();
    let start = Instant::now();
    for n in 0..5_000_u32 {
        let forged = |theirs: &Tag| Ask {
            theirs: *theirs,
            ours: real.records[0].0,
            sealed: vec![n as u8; SEALED_LEN],
        };
        let message = wire::ask(&real.asked.iter().map(forged).collect::<Vec<_>>()).unwrap();
        let heard = hear(&mut bob, now, address(1), &message);
        assert!(heard.found.is_empty() && heard.answers.is_empty());
    }
    println!("5,000 forged messages made and heard in {:?}", start.elapsed());
    // A moment later a peer is heard again.
    let mut alice = station(now, alice(true));
    let message = alice.ask(alice.due().unwrap(), clock(0)).unwrap().remove(0).1;
    assert_eq!(hear(&mut bob, now + Duration::from_secs(1), address(1), &message).answers.len(), 1);
}

#[test]
fn no_more_is_kept_of_a_peer_than_may_be() {
    let now = Instant::now();
    let mut bob = station(now, bob());
    for round in 0..40_u8 {
        let mut moved = link(1);
        moved.addresses = (0..6).map(|n| SocketAddr::from(([192, 168, round, n + 1], 6278))).collect();
        let from = moved.addresses[0];
        let mut alice = station(now, Near { links: vec![moved.clone()], ..alice(true) });
        let then = clock(u64::from(round));
        let message = alice.ask(alice.due().unwrap(), then).unwrap().remove(0).1;
        let heard = bob.hear(now + Duration::from_secs(round.into()), then, ETH, from, &message);
        let [found] = heard.found.as_slice() else { panic!("{heard:?}") };
        assert_eq!(found.addresses[..6], moved.addresses, "the latest first");
        assert!(found.addresses.len() <= MOST_ADDRESSES);
    }
    let many = (0..MOST_PEERS as u32 + 500).map(|n| {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        (key, PairSecret(key))
    });
    let mut crowd = station(now, Near { peers: peers(&many.collect::<Vec<_>>(), true), ..alice(true) });
    let messages = asked(&mut crowd, now, clock(0), Duration::from_millis(990));
    println!("{} messages in the first second, with {MOST_PEERS} peers", messages.len());
    assert!(messages.len() <= 40, "{}", messages.len());
}

#[test]
fn only_what_is_on_the_link_and_another_host_is_believed() {
    let now = Instant::now();
    let mut bad = link(1);
    let zoned: SocketAddr = "[fe80::1%99]:6278".parse().unwrap();
    bad.addresses = ["127.0.0.1:1", "224.0.0.251:1", "255.255.255.255:1", "0.0.0.0:1"]
        .map(|a| a.parse().unwrap())
        .to_vec();
    bad.addresses.extend([address(1), zoned]);
    let mut alice = station(now, Near { links: vec![bad], ..alice(true) });
    let message = alice.ask(alice.due().unwrap(), clock(0)).unwrap().remove(0).1;
    let heard = hear(&mut station(now, bob()), now, address(1), &message);
    assert_eq!(heard.found[0].addresses, [address(1), near("1")], "with the zone of the own interface");
}

#[test]
fn messages_are_read_as_they_are_written() {
    let ask = |n: u8| Ask { theirs: [n; 16], ours: [n + 100; 16], sealed: vec![n; SEALED_LEN] };
    let message = wire::ask(&(0..4).map(ask).collect::<Vec<_>>()).unwrap();
    let read = wire::read(&message).unwrap();
    assert_eq!(read.asked, [0, 1, 2, 3].map(|n| [n; 16]));
    assert_eq!(read.records.len(), 4);
    assert!(!read.is_answer);
    let answer = wire::answer(&[5; 16], &[6; SEALED_LEN]).unwrap();
    let expected = Read { is_answer: true, asked: vec![], records: vec![([5; 16], vec![6; SEALED_LEN])] };
    assert_eq!(wire::read(&answer), Some(expected));
    // The form of RFC 6762: an answer with authority, of nobody's question, that replaces what is kept.
    assert_eq!(&answer[..12], &[0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(&message[..12], &[0, 0, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0]);
    assert!(wire::read(&vec![0; 1473]).is_none());
}

fn counting<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|at| first + at as u8)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The vector of the document.
#[test]
fn what_the_document_shows_is_what_is_sent() {
    let (sender, secret): (PeerKey, _) = (counting(0), PairSecret(counting(0x40)));
    let tag = tag::Names::new(&secret).of(&sender, 2_000_000);
    let announcement = Announcement {
        sequence: 0x0001_9a00_0000_0000,
        time: 1_800_000_000,
        lifetime: 7200,
        addresses: vec![address(1), "[fe80::1]:6278".parse().unwrap()],
    };
    let sealed = tag::seal_with(counting(0xa0), &secret, &sender, &tag, &announcement);
    assert_eq!(tag::open(&sealed, &secret, &sender, &tag), Ok(announcement.clone()));
    let text = include_str!("../../../PROTOCOL.md");
    let block = text.split("```lan\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
    let mut wrong = String::new();
    for (name, bytes) in
        [("tag", &tag[..]), ("content", &content::encode(&announcement)), ("sealed", &sealed)]
    {
        let part = block.split_once(&format!("{name}:\n")).map(|(_, rest)| rest).unwrap_or_default();
        let lines = part.lines().take_while(|line| line.starts_with(' '));
        if lines.map(str::trim).collect::<String>() != hex(bytes) {
            let lines = hex(bytes)
                .as_bytes()
                .chunks(96)
                .map(|l| format!(" {}\n", String::from_utf8_lossy(l)))
                .collect::<String>();
            wrong += &format!("{name}:\n{lines}");
        }
    }
    assert!(wrong.is_empty(), "in the document it has to be\n{wrong}");
}

proptest! {
    #[test]
    fn whatever_arrives_harms_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..1600), cut in 0usize..1200, flip in 0usize..1200) {
        super::fuzz(&bytes);
        let mut real = question(Instant::now(), clock(0));
        let at = flip % real.len();
        real[at] ^= bytes.first().copied().unwrap_or(1);
        real.truncate(cut);
        super::fuzz(&real);
        let now = Instant::now();
        let _ = hear(&mut station(now, bob()), now, address(1), &real);
    }
}
