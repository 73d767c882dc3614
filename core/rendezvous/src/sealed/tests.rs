#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{MOST_ADDRESSES, Told};

const HOUR: Duration = Duration::from_secs(3600);
const ALICE: PeerKey = [0xa1; 32];
const BOB: PeerKey = [0xb0; 32];
const PAIR: PairSecret = PairSecret([7; 32]);

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 6278))
}

fn secret(peer: u8) -> PairSecret {
    PairSecret([peer; 32])
}

/// Alice, who tells each peer `1..=count` as many addresses as its number says, and each others.
fn alice(count: u8) -> Own {
    let told = |peer: u8| Told {
        secret: secret(peer),
        addresses: (0..peer).map(|last| SocketAddr::from(([198, 51, peer, last], 6278))).collect(),
    };
    let peers = (1..=count).map(|peer| ([peer; 32], told(peer))).collect();
    Own { key: ALICE, public: vec![address(250)], peers, ..Own::default() }
}

fn to_bob(addresses: Vec<SocketAddr>) -> Own {
    let peers = BTreeMap::from([(BOB, Told { secret: PAIR, addresses })]);
    Own { key: ALICE, peers, ..Own::default() }
}

fn sealed(own: &Own) -> Vec<u8> {
    seal(own, 5, at(1000), HOUR).unwrap()
}

#[test]
fn every_peer_reads_what_is_for_it_and_nothing_else() {
    let own = alice(16);
    let publication = sealed(&own);
    for (peer, told) in &own.peers {
        let announcement = open(&publication, &ALICE, &told.secret).unwrap();
        assert_eq!(announcement.addresses, told.addresses, "{}", peer[0]);
        assert_eq!((announcement.sequence, announcement.time, announcement.lifetime), (5, 1000, 3600));
    }
    assert_eq!(open(&publication, &ALICE, &secret(17)), Err(Refused::NotForUs), "no peer");
    assert_eq!(open(&publication, &BOB, &secret(1)), Err(Refused::NotForUs), "the other direction");
}

#[test]
fn neither_addresses_nor_peers_show_by_length() {
    let length = |peers, addresses: usize| {
        let mut own = alice(peers);
        for told in own.peers.values_mut() {
            told.addresses = (0..addresses).map(|last| address(last as u8)).collect();
        }
        sealed(&own).len()
    };
    assert_eq!(length(0, 0), length(4, 16));
    assert_eq!(length(1, 0), length(3, 5));
    assert_eq!(length(5, 1), length(8, 16));
    assert_eq!(length(64, 16), MOST_BYTES);
    assert_eq!(length(200, 16), MOST_BYTES, "what does not fit is left out");
}

#[test]
fn nothing_links_two_publications() {
    let own = alice(3);
    let pieces = |publication: &[u8]| -> BTreeSet<Vec<u8>> {
        publication[1..].windows(HINT_LEN).map(<[u8]>::to_vec).collect()
    };
    let (first, second) = (pieces(&sealed(&own)), pieces(&sealed(&own)));
    assert!(first.is_disjoint(&second), "eight bytes are the same in both");
}

#[test]
fn sixteen_ipv6_addresses_fit() {
    let addresses: Vec<_> =
        (1..=20).map(|last| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 65535))).collect();
    let publication = seal(&to_bob(addresses.clone()), u64::MAX, at(u32::MAX.into()), HOUR * 99).unwrap();
    let announcement = open(&publication, &ALICE, &PAIR).unwrap();
    assert_eq!(announcement.addresses, addresses[..MOST_ADDRESSES]);
    assert_eq!(announcement.lifetime, 24 * 3600, "no longer");
}

#[test]
fn every_changed_byte_of_a_box_is_noticed() {
    let publication = sealed(&to_bob(vec![address(1)]));
    let (mut forged, mut unknown, mut untouched) = (0, 0, 0);
    for at in 0..publication.len() {
        let mut changed = publication.clone();
        changed[at] ^= 1;
        match open(&changed, &ALICE, &PAIR) {
            Err(Refused::Forged) => forged += 1,
            Err(Refused::NotForUs | Refused::Version) => unknown += 1,
            Ok(_) => untouched += 1,
            other => panic!("{at}: {other:?}"),
        }
    }
    assert_eq!(forged, CONTENT_LEN + TAG_LEN);
    assert_eq!(unknown, HEADER_LEN + HINT_LEN);
    assert_eq!(untouched, BOX_LEN * (LEAST_BOXES - 1), "filler");
}

#[test]
fn a_forged_box_with_the_right_hint_hides_nothing() {
    let publication = sealed(&to_bob(vec![address(1)]));
    let hint = Keys::new(&publication[1..HEADER_LEN], &PAIR, &ALICE).hint;
    let mut forged = publication[..HEADER_LEN].to_vec();
    forged.extend_from_slice(&hint);
    forged.extend_from_slice(&[0; BOX_LEN - HINT_LEN]);
    assert_eq!(open(&forged, &ALICE, &PAIR), Err(Refused::Forged));
    forged.extend_from_slice(&publication[HEADER_LEN..]);
    assert_eq!(open(&forged, &ALICE, &PAIR).unwrap().addresses, [address(1)]);
}

#[test]
fn a_length_that_cannot_be_is_refused() {
    let publication = sealed(&to_bob(vec![address(1)]));
    for length in [1, HEADER_LEN - 1, HEADER_LEN, HEADER_LEN + 1, publication.len() - 1] {
        assert_eq!(open(&publication[..length], &ALICE, &PAIR), Err(Refused::Length), "{length}");
    }
    let long = [publication, vec![0; MOST_BOXES * BOX_LEN]].concat();
    assert_eq!(open(&long, &ALICE, &PAIR), Err(Refused::Length));
    assert_eq!(open(&[], &ALICE, &PAIR), Err(Refused::Version));
    assert_eq!(open(&[2; 500], &ALICE, &PAIR), Err(Refused::Version));
}

fn announced(sequence: u64, time: u64, lifetime: u32) -> Announcement {
    Announcement { sequence, time, lifetime, addresses: vec![address(1)] }
}

#[test]
fn what_is_not_newer_is_refused() {
    let mut heard = Heard::default();
    let now = at(10_000);
    heard.take(BOB, announced(7, 10_000, 60), now).unwrap();
    for sequence in [0, 6, 7] {
        let again = heard.take(BOB, announced(sequence, 10_000, 60), now);
        assert_eq!(again, Err(Refused::NotNewer), "{sequence}");
    }
    heard.take(ALICE, announced(1, 10_000, 60), now).unwrap();
    heard.take(BOB, announced(8, 10_000, 60), now).unwrap();
}

#[test]
fn what_does_not_hold_is_refused_and_does_not_count() {
    let mut heard = Heard::default();
    let now = at(100_000);
    let skew = SKEW.as_secs();
    let most = u32::try_from(LONGEST_LIFETIME.as_secs()).unwrap();
    let refused =
        |heard: &mut Heard, time, lifetime| heard.take(BOB, announced(9, time, lifetime), now).unwrap_err();
    assert_eq!(refused(&mut heard, 100_000 - 60 - skew, 60), Refused::Expired);
    assert_eq!(refused(&mut heard, 0, 0), Refused::Expired);
    assert_eq!(refused(&mut heard, 100_000 - u64::from(most) - skew, u32::MAX), Refused::Expired, "too long");
    assert_eq!(refused(&mut heard, 100_001 + skew, 60), Refused::Future);
    assert_eq!(refused(&mut heard, u64::MAX, u32::MAX), Refused::Future);

    // Whose clock is behind or ahead is believed within the tolerance, and never for longer than the sender said.
    let left = |sequence, time, lifetime| {
        let mut heard = Heard::default();
        heard.take(BOB, announced(sequence, time, lifetime), now).unwrap().lifetime.as_secs()
    };
    assert_eq!(left(9, 100_000, 60), 60);
    assert_eq!(left(9, 100_000 - 60 - skew + 1, 60), 1);
    assert_eq!(left(9, 100_000 + skew, 60), 60);
    assert_eq!(left(9, 100_000, u32::MAX), LONGEST_LIFETIME.as_secs());
    heard.take(BOB, announced(1, 100_000, 60), now).unwrap();
}

#[test]
fn numbers_rise_whatever_the_clock_does() {
    let mut sequence = Sequence::default();
    assert_eq!(sequence.next(at(50)), 50_000);
    assert_eq!(sequence.next(at(50)), 50_001);
    assert_eq!(sequence.next(at(10)), 50_002, "the clock was put back");
    assert_eq!(sequence.next(at(60)), 60_000);
    // After a restart, with a clock that was put back.
    let mut sequence = Sequence::default();
    sequence.after(60_000, at(20));
    assert_eq!(sequence.next(at(20)), 60_001);
    sequence.after(u64::MAX, at(20));
    assert_eq!(sequence.next(at(20)), 60_002, "a number that uses all up is not believed");
}

/// Seals any content, as a peer that does not keep to the rules would.
fn sealed_content(content: &[u8]) -> Vec<u8> {
    let header = [VERSION; HEADER_LEN];
    let keys = Keys::new(&header[1..], &PAIR, &ALICE);
    let mut content = content.to_vec();
    content.resize(CONTENT_LEN, 0);
    let tag = keys.key.seal_in_place_separate_tag(Keys::nonce(), Aad::from(&header), &mut content).unwrap();
    [&header, keys.hint.as_slice(), &content, tag.as_ref()].concat()
}

#[test]
fn a_peer_that_keeps_to_no_rule_is_refused() {
    let open_content = |content: &[u8]| open(&sealed_content(content), &ALICE, &PAIR);
    let good = content::encode(&announced(1, 2, 3));
    assert_eq!(open_content(&good), Ok(announced(1, 2, 3)));
    let malformed = |content: &[u8]| match open_content(content) {
        Err(Refused::Malformed(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(malformed(&[]), "not the map that it has to be");
    assert_eq!(malformed(&[0xa0]), "something is missing");
    assert_eq!(malformed(&[good.as_slice(), &[1]].concat()), "more than a map");
    // Key 0 twice; a list of 2^64 − 1 addresses; without a length; a text where bytes have to be.
    assert_eq!(malformed(&[0xa2, 0, 1, 0, 1]), "keys out of order");
    let list = |list: &[u8]| [&[0xa4, 0, 1, 1, 1, 2, 1, 3], list].concat();
    let endless = [&[0x9b][..], &[0xff; 8]].concat();
    for bad in [endless.as_slice(), &[0x9f, 0xff], &[0x81, 0x61, b'a']] {
        assert_eq!(malformed(&list(bad)), "not the map that it has to be");
    }
    // A key of a later version is left out.
    let later = [&[0xa5][..], &good[1..], &[0x18, 99, 0x81, 0x61, b'a']].concat();
    assert_eq!(open_content(&later), Ok(announced(1, 2, 3)));
}

#[test]
fn addresses_of_no_other_host_are_left_out() {
    let bad = [
        "0.0.0.0:1",
        "127.0.0.1:1",
        "224.0.0.1:1",
        "255.255.255.255:1",
        "169.254.1.1:1",
        "192.0.2.1:0",
        "[::]:1",
        "[::1]:1",
        "[ff02::1]:1",
        "[fe80::1]:1",
        "[::ffff:127.0.0.1]:1",
    ];
    let mut addresses: Vec<SocketAddr> = bad.iter().map(|text| text.parse().unwrap()).collect();
    addresses.extend([address(1), address(1), "[::ffff:192.0.2.2]:6278".parse().unwrap()]);
    let publication = sealed(&to_bob(addresses));
    assert_eq!(open(&publication, &ALICE, &PAIR).unwrap().addresses, [address(1), address(2)]);
}

/// What `core/PROTOCOL.md` has of this, as hex by name.
fn documented(name: &str) -> Vec<u8> {
    let document = include_str!("../../../PROTOCOL.md");
    let (_, block) = document.split_once("```announcement\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let (_, value) = block.split_once(&format!("{name}:")).unwrap();
    let digits: String = value.chars().take_while(|c| *c != ':').filter(|c| !c.is_whitespace()).collect();
    // The name of the next vector is no hex, and begins after the last digit.
    let digits: Vec<u8> = digits.bytes().take_while(u8::is_ascii_hexdigit).collect();
    let hex = std::str::from_utf8(&digits).unwrap();
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn hex(name: &str, bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines: Vec<String> = digits.chunks(48).map(|line| format!(" {}", line.concat())).collect();
    format!("{name}:\n{}\n", lines.join("\n"))
}

#[test]
fn the_vector_of_the_specification_is_right() {
    let counting = |first: u8| -> [u8; 32] { std::array::from_fn(|at| first + at as u8) };
    let own = Own {
        key: counting(0),
        public: Vec::new(),
        here: Vec::new(),
        peers: BTreeMap::from([(
            BOB,
            Told {
                secret: PairSecret(counting(0x40)),
                addresses: vec![address(1), "[2001:db8::1]:6278".parse().unwrap()],
            },
        )]),
    };
    let mut fill = |bytes: &mut [u8]| {
        // The salt is counted up; filler is zeros, and so comes first.
        if bytes.len() == SALT_LEN {
            bytes.copy_from_slice(&counting(0xa0)[..SALT_LEN]);
        }
        Ok(())
    };
    let publication = seal_with(&own, 0x0001_9a00_0000_0000, at(1_790_000_000), HOUR, &mut fill).unwrap();
    let sealed = &publication[publication.len() - BOX_LEN..];
    let announcement = open(&publication, &own.key, &own.peers[&BOB].secret).unwrap();
    let mut wrong = String::new();
    for (name, bytes) in [
        ("header", &publication[..HEADER_LEN]),
        ("content", &content::encode(&announcement)),
        ("box", sealed),
    ] {
        if documented(name) != bytes {
            wrong += &hex(name, bytes);
        }
    }
    assert!(wrong.is_empty(), "in the document it has to be\n{wrong}");
}

proptest! {
    #[test]
    fn whatever_arrives_harms_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = open(&bytes, &ALICE, &PAIR);
        let mut right = vec![VERSION; HEADER_LEN];
        right.extend_from_slice(&bytes);
        let _ = open(&right, &ALICE, &PAIR);
    }

    #[test]
    fn whatever_a_peer_seals_harms_nothing(
        content in proptest::collection::vec(any::<u8>(), 0..CONTENT_LEN), now in any::<u32>(),
    ) {
        if let Ok(announcement) = open(&sealed_content(&content), &ALICE, &PAIR) {
            prop_assert!(announcement.addresses.len() <= MOST_ADDRESSES);
            let _ = Heard::default().take(ALICE, announcement, at(now.into()));
        }
    }

    #[test]
    fn whatever_an_announcement_says_harms_nothing(
        sequence in any::<u64>(), time in any::<u64>(), lifetime in any::<u32>(), now in any::<u64>(),
    ) {
        let now = at(now % (u64::from(u32::MAX) * 4));
        let mut heard = Heard::default();
        if let Ok(found) = heard.take(BOB, announced(sequence, time, lifetime), now) {
            prop_assert!(found.lifetime <= LONGEST_LIFETIME && !found.lifetime.is_zero());
        }
        let mut own = Sequence::default();
        own.after(sequence, now);
        let next = own.next(now);
        prop_assert!(own.next(now) > next);
    }

    #[test]
    fn what_is_sealed_opens(
        ips in proptest::collection::vec((1u8..=223, any::<[u8; 3]>(), 1u16..), 0..16), sequence in any::<u64>(),
    ) {
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for (first, rest, port) in ips {
            let address = SocketAddr::from(([first, rest[0], rest[1], rest[2]], port));
            if first != 127 && (first, rest[0]) != (169, 254) && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let publication = seal(&to_bob(addresses.clone()), sequence, at(77), HOUR).unwrap();
        let announcement = open(&publication, &ALICE, &PAIR).unwrap();
        prop_assert_eq!(announcement, Announcement { sequence, time: 77, lifetime: 3600, addresses });
    }
}
