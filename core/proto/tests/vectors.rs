//! The test vectors of `core/PROTOCOL.md`, checked against the code.
//!
//! Each vector is made here from the inputs that the specification names, and compared with what the document says;
//! a vector that is missing there, unknown here, or different fails. What the specification derives step by step
//! (transcript, keys, the reserved encapsulation, what comes from an invite) is made a second time from the formulas
//! of the text, by other code than that of the crate.

#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use mast_proto::wire::{
    Address, AddressFlags, AddressId, AddressKind, Capabilities, ContextIndex, EidPair, Epoch, Flags,
    HEADER_LEN, Header, Init, InitAck, Kind, MAX_ADDRESSES, MAX_MISSING, MAX_NAME, MAX_REPORTS, Message,
    Mode, ModeWish, PathId, PathReport, Probe, ProbeAck, Report, Set, SetAck, Shut, ShutAck, ShutReason,
};
use mast_proto::{Aead, Context, EpochKeys, HoldLimits, Role, TAG_LEN, eid_v6, timing};
use ring::{aead, digest, hkdf};

const DOCUMENT: &str = include_str!("../../PROTOCOL.md");

type Vectors = BTreeMap<String, Vec<u8>>;

/// The vectors of the document: `name: hex` lines in blocks fenced as `vectors`; indented lines go on with the value.
fn documented() -> Vectors {
    let mut vectors = Vectors::new();
    let mut inside = false;
    let mut name = String::new();
    for line in DOCUMENT.lines() {
        match (inside, line.trim_end()) {
            (false, "```vectors") => inside = true,
            (false, _) => {}
            (true, "```") => inside = false,
            (true, line) => {
                let rest = match line.split_once(':') {
                    Some((new, rest)) => {
                        name = new.to_owned();
                        assert!(
                            vectors.insert(name.clone(), Vec::new()).is_none(),
                            "`{name}` stands there twice"
                        );
                        rest
                    }
                    None => line,
                };
                vectors.get_mut(&name).unwrap().extend(bytes(rest.trim()));
            }
        }
    }
    vectors
}

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "an odd number of digits: {hex}");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// As the document writes it.
fn written(name: &str, value: &[u8]) -> String {
    let mut out = format!("{name}:");
    for (row, chunk) in value.chunks(48).enumerate() {
        out.push_str(if value.len() <= 48 || row > 0 { " " } else { "\n " });
        for byte in chunk {
            write!(out, "{byte:02x}").unwrap();
        }
        if (row + 1) * 48 < value.len() {
            out.push('\n');
        }
    }
    out
}

/// `first`, `first + 1`, …
fn counting(first: u8) -> [u8; 32] {
    std::array::from_fn(|i| first.wrapping_add(i as u8))
}

fn report() -> PathReport {
    PathReport { path: 1, epoch: 0, highest: 300, received: 299, reordered: 2, silent: true }
}

/// Every message, by the name of its vector.
fn messages() -> Vec<(&'static str, Message)> {
    let pair = EidPair { own: Ipv4Addr::new(100, 64, 0, 2), other: Ipv4Addr::new(100, 64, 0, 3) };
    let address = |id, at: &str, kind, priority, metered, flags| Address {
        id: AddressId(id),
        at: at.parse().unwrap(),
        kind,
        priority,
        metered,
        flags,
        link: Some(id & 1),
    };
    vec![
        (
            "message.init",
            Message::Init(Init {
                version: 1,
                instance: 0x0102_0304_0506_0708,
                index: 0x1122_3344,
                random: counting(0x20),
                aeads: vec![1, 2],
                capabilities: Capabilities(0),
                epoch: 0,
                eid_v6: eid_v6(&counting(0)),
                eid_v4: Some(pair),
                name: "laptop".into(),
                further: None,
            }),
        ),
        (
            "message.init-ack",
            Message::InitAck(InitAck {
                version: 1,
                instance: 0x1112_1314_1516_1718,
                index: 0x5566_7788,
                random: counting(0x40),
                aead: 1,
                capabilities: Capabilities(0),
                epoch: 0,
                eid_v6: eid_v6(&counting(0x80)),
                eid_v4: Some(pair.flipped()),
                name: "server".into(),
                answers: counting(0x20),
                further: None,
            }),
        ),
        (
            "message.init-ack.further",
            Message::InitAck(InitAck {
                version: 1,
                instance: 0x1112_1314_1516_1718,
                index: 0x5566_7788,
                random: counting(0x40),
                aead: 2,
                capabilities: Capabilities(0),
                epoch: 3,
                eid_v6: eid_v6(&counting(0x80)),
                eid_v4: None,
                name: String::new(),
                answers: counting(0x20),
                further: Some(vec![0x99aa_bbcc, 0xddee_ff01, 7]),
            }),
        ),
        (
            "message.set",
            Message::Set(Set {
                sequence: 5,
                addresses: vec![
                    address(0, "192.0.2.1:6278", AddressKind::Host, 200, false, AddressFlags::default()),
                    address(
                        128,
                        "198.51.100.7:40000",
                        AddressKind::Reflexive,
                        200,
                        false,
                        AddressFlags::default(),
                    ),
                    address(1, "[2001:db8::1]:6278", AddressKind::Host, 99, true, AddressFlags::DO_NOT_USE),
                ],
                mode: None,
            }),
        ),
        (
            "message.set.mode",
            Message::Set(Set {
                sequence: 6,
                addresses: vec![address(
                    0,
                    "192.0.2.1:6278",
                    AddressKind::Host,
                    200,
                    false,
                    AddressFlags::default(),
                )],
                mode: Some(ModeWish { mode: Mode::Redundant, small: true, metered: false }),
            }),
        ),
        ("message.set-ack", Message::SetAck(SetAck { sequence: 5 })),
        (
            "message.probe",
            Message::Probe(Probe {
                nonce: 0x0123_4567_89ab_cdef,
                address: AddressId(0),
                time: 1_000_000,
                reports: vec![report()],
            }),
        ),
        (
            "message.probe-ack",
            Message::ProbeAck(ProbeAck {
                nonce: 0x0123_4567_89ab_cdef,
                observed: "198.51.100.7:40000".parse().unwrap(),
                time: 1_000_000,
                reports: vec![],
            }),
        ),
        ("message.report", Message::Report(Report { reports: vec![report()], missing: None })),
        ("message.shut", Message::Shut(Shut { reason: ShutReason::Removed })),
        ("message.shut-ack", Message::ShutAck(ShutAck {})),
    ]
}

struct Bytes32;

impl hkdf::KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

fn expand(prk: &hkdf::Prk, info: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![0; 32];
    prk.expand(info, Bytes32).unwrap().fill(&mut out).unwrap();
    out
}

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    digest::digest(&digest::SHA256, &parts.concat()).as_ref().to_vec()
}

/// Seals as the text says, with ring alone.
fn seal(
    algorithm: &'static aead::Algorithm,
    key: &[u8],
    header: &[u8],
    path: u8,
    counter: u64,
    content: &[u8],
) -> Vec<u8> {
    let mut nonce = [0; 12];
    nonce[3] = path;
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    let key = aead::LessSafeKey::new(aead::UnboundKey::new(algorithm, key).unwrap());
    let mut sealed = content.to_vec();
    key.seal_in_place_append_tag(
        aead::Nonce::assume_unique_for_key(nonce),
        aead::Aad::from(header),
        &mut sealed,
    )
    .unwrap();
    [header, &sealed].concat()
}

/// The UDP datagram between the reserved addresses (section 5.2).
fn encapsulated(payload: &[u8]) -> Vec<u8> {
    let source = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x6d61, 0x7374, 1).octets();
    let destination = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x6d61, 0x7374, 2).octets();
    let port = 6278_u16.to_be_bytes();
    let length = (payload.len() as u16 + 8).to_be_bytes();
    let pseudo = [&source[..], &destination, &[0, 0], &length, &[0, 0, 0, 17]].concat();
    let summed = [&pseudo[..], &port, &port, &length, &[0, 0], payload, &[0][..payload.len() % 2]].concat();
    let sum = summed.chunks(2).fold(0_u32, |sum, two| {
        let sum = sum + u32::from(u16::from_be_bytes([two[0], two[1]]));
        (sum & 0xffff) + (sum >> 16)
    });
    let checksum = (!(sum as u16)).to_be_bytes();
    let head = [&[0x60, 0, 0, 0][..], &length, &[17, 1], &source, &destination].concat();
    [&head[..], &port, &port, &length, &checksum, payload].concat()
}

/// What the document must say.
fn made() -> Vec<(String, Vec<u8>)> {
    let mut out: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, value: &[u8]| out.push((name.to_owned(), value.to_vec()));

    add("eid.public-key", &counting(0));
    add("eid.address", &eid_v6(&counting(0)).octets());

    let messages = messages();
    for (name, message) in &messages {
        let encoded = message.encode();
        assert_eq!(Message::decode(&encoded).as_ref(), Ok(message), "{name}");
        add(name, &encoded);
    }
    let encoded = |name: &str| messages.iter().find(|(n, _)| *n == name).unwrap().1.encode();
    let (init, ack) = (encoded("message.init"), encoded("message.init-ack"));
    add("carriage.init", &encapsulated(&init));

    let transcript = sha256(&[b"MAST v1 transcript", &init, &ack]);
    let prk =
        hkdf::Salt::new(hkdf::HKDF_SHA256, &transcript).extract(&[counting(0x20), counting(0x40)].concat());
    let key_initiator = expand(&prk, &[b"MAST v1 key initiator", &[0]]);
    let key_target = expand(&prk, &[b"MAST v1 key target", &[0]]);
    add("keys.transcript", &transcript);
    add("keys.initiator", &key_initiator);
    add("keys.target", &key_target);

    // An IPv4 datagram of UDP between the EIDs, with the sequence number before it.
    let mut ip = vec![0x45, 0, 0, 0x20, 0, 1, 0, 0, 64, 17, 0, 0, 100, 64, 0, 2, 100, 64, 0, 3];
    let sum = ip.chunks(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]]))).sum::<u32>();
    ip[10..12].copy_from_slice(&(!((sum & 0xffff) as u16 + (sum >> 16) as u16)).to_be_bytes());
    ip.extend([0x30, 0x39, 0, 7, 0, 12, 0, 0]);
    ip.extend(b"MAST");
    let data = [&7_u32.to_be_bytes()[..], &ip].concat();
    let data_header = Header {
        kind: Kind::Data,
        flags: Flags::NONE,
        path: PathId(1),
        epoch: Epoch(0),
        index: ContextIndex(0x5566_7788),
        counter: 300,
    };
    let control = encoded("message.set-ack");
    let control_header = Header {
        kind: Kind::Control,
        flags: Flags::NONE,
        path: PathId(2),
        epoch: Epoch(0),
        index: ContextIndex(0x1122_3344),
        counter: 0x0102_0304_0506,
    };
    add("frame.data.header", &data_header.encode());
    add("frame.data.content", &data);
    add("frame.control.header", &control_header.encode());
    add("frame.control.content", &control);
    for (name, number, algorithm) in
        [("aes-256-gcm", 1, &aead::AES_256_GCM), ("chacha20-poly1305", 2, &aead::CHACHA20_POLY1305)]
    {
        let aead = Aead::from_number(number).unwrap();
        let keys = |role| {
            EpochKeys::derive(role, aead, Epoch(0), (&init, &counting(0x20)), (&ack, &counting(0x40)))
                .unwrap()
        };
        let frames = [
            ("data", Role::Initiator, Role::Target, data_header, &data, &key_initiator),
            ("control", Role::Target, Role::Initiator, control_header, &control, &key_target),
        ];
        for (kind, from, to, header, content, key) in frames {
            let mut frame = vec![0; HEADER_LEN];
            frame.extend(content);
            frame.extend([0; TAG_LEN]);
            keys(from).seal(&header, &mut frame).unwrap();
            let by_hand = seal(algorithm, key, &header.encode(), header.path.0, header.counter, content);
            assert_eq!(frame, by_hand, "the text and the code differ in {kind} {name}");
            assert_eq!(Header::decode(&frame), Ok(header));
            assert_eq!(keys(to).open(&header, &mut frame.clone()).unwrap(), content);
            add(&format!("frame.{kind}.{name}"), &frame);
        }
    }

    let secret = counting(0xa0);
    let (inviter, joiner, shared) = (counting(0), counting(0x80), counting(0xc0));
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"MAST v1 invite").extract(&secret);
    add("invite.secret", &secret);
    add("invite.temporary-key", &expand(&prk, &[b"temporary key"]));
    add("invite.pairing-key", &expand(&prk, &[b"pairing key"]));
    add("invite.lasting-key", &expand(&prk, &[b"lasting key", &inviter, &joiner]));
    let proof = expand(&prk, &[b"proof", &inviter, &joiner, &shared]);
    add("invite.proof", &proof);
    let mut body = vec![0xa5, 0, 0x58, 32];
    body.extend(inviter);
    body.extend([1, 0x58, 32]);
    body.extend(secret);
    body.extend([2, 0x66]);
    body.extend(b"laptop");
    body.extend([3, 0x81, 0x46, 192, 0, 2, 1, 0x18, 0x86, 4, 0x1a]);
    body.extend(1_900_000_000_u32.to_be_bytes());
    let sum = sha256(&[&body]);
    add("invite.link-bytes", &[&sum[..4], &body].concat());
    let mut join = vec![0x82, 0x18, 101, 0xa4, 0, 1, 1, 0x58, 32];
    join.extend(joiner);
    join.extend([2, 0x66]);
    join.extend(b"server");
    join.extend([3, 0x58, 32]);
    join.extend(proof);
    add("invite.join", &join);
    add("invite.joined", &[&[0x82, 0x18, 102, 0xa1, 0, 0x66][..], b"laptop"].concat());
    add("invite.refused", &[0x82, 0x18, 103, 0xa1, 0, 1]);
    out
}

#[test]
fn the_document_and_the_code_agree() {
    let documented = documented();
    let made = made();
    let wrong: Vec<_> = made
        .iter()
        .filter(|(name, value)| documented.get(name) != Some(value))
        .map(|(name, value)| written(name, value))
        .collect();
    assert!(wrong.is_empty(), "missing in core/PROTOCOL.md, or different there:\n{}", wrong.join("\n"));
    for name in documented.keys() {
        assert!(
            made.iter().any(|(n, _)| n == name),
            "core/PROTOCOL.md has a vector that nothing checks: {name}"
        );
    }
}

/// What section 7 says of keys that are missing, unknown, or of another type, and of enumerations that may grow.
#[test]
fn leniency_is_as_documented() {
    let ok = |hex: &str| Message::decode(&bytes(hex)).is_ok();
    assert!(ok("8204a10005"), "SET-ACK");
    assert!(!ok("8204a0"), "a key is missing");
    assert!(ok("8204a20005184d00"), "an unknown key is ignored");
    assert!(ok("8204bf0005ff"), "a map of indefinite length is read");
    assert!(!ok("9f04a10005ff"), "an outer array of indefinite length is not");
    assert!(ok("8204a1001805"), "an integer need not be in its shortest form");
    assert!(!ok("9f04a0ff"), "nor is one that lacks a key");
    let decoded = |hex: &str| Message::decode(&bytes(hex)).ok();
    let shut = |reason| Some(Message::Shut(Shut { reason }));
    assert_eq!(decoded("8208a10000"), shut(ShutReason::Down));
    assert_eq!(decoded("8208a10001"), shut(ShutReason::Removed));
    assert_eq!(decoded("8208a10002"), shut(ShutReason::Unknown(2)), "an unknown reason of SHUT is read");
    assert_eq!(decoded("8208a10018ff"), shut(ShutReason::Unknown(255)));
    for (wrong, why) in [
        ("8208a0", "a reason is needed"),
        ("8208a100190100", "of one byte"),
        ("8208a10020", "that is not negative"),
        ("8208a1006161", "nor a text"),
    ] {
        assert!(!ok(wrong), "{why}");
    }
    let with_kind = |kind: &str| format!("8203a200050181a600000146c0000201188602{kind}0318c804f40500");
    let kind_of = |kind: &str| match decoded(&with_kind(kind)) {
        Some(Message::Set(set)) => set.addresses.first().map(|a| a.kind),
        _ => None,
    };
    assert_eq!(kind_of("00"), Some(AddressKind::Host));
    assert_eq!(kind_of("01"), Some(AddressKind::Reflexive));
    assert_eq!(kind_of("02"), Some(AddressKind::Relayed));
    assert_eq!(kind_of("03"), Some(AddressKind::Outward));
    assert_eq!(kind_of("04"), Some(AddressKind::Unknown(4)), "an unknown kind of address is read");
    assert_eq!(kind_of("18ff"), Some(AddressKind::Unknown(255)));
    for wrong in ["190100", "20", "6161", "f5", "f6"] {
        assert_eq!(kind_of(wrong), None, "a kind is a number of one byte");
    }
    // What is read is written back as it was.
    for same in ["8208a10002", &with_kind("03"), &with_kind("18ff")] {
        assert_eq!(decoded(same).map(|message| message.encode()), Some(bytes(same)));
    }
    assert!(!ok("8263a0"), "a text for a number");
    assert!(ok("8204a10005000000"), "bytes after the message are padding");
    let without_eids = |key_8: &str| {
        let (head, tail) =
            ("8201aa0001010202030358204".to_owned() + &"0".repeat(63) + "0481010500060007504", "0961");
        ok(&format!("{head}{}{key_8}{tail}61", "0".repeat(31)))
    };
    assert!(without_eids("0840"), "no EIDs are an empty string");
    assert!(!without_eids("08f6"), "and not null");
}

/// The rows of section 18 that name one figure each.
#[test]
fn the_timers_are_as_documented() {
    let ms = |d: std::time::Duration| format!("{} ms", d.as_millis());
    let s = |d: std::time::Duration| format!("{} s", d.as_secs());
    let init: Vec<_> = timing::INIT_RETRY.iter().map(|d| d.as_millis().to_string()).collect();
    let rows = [
        ("REPORT delay", ms(timing::REPORT_DELAY)),
        (
            "REPORT delay of data that is ORDERED",
            format!("{}, or {} data frames", ms(timing::REPORT_DELAY), timing::REPORT_AFTER),
        ),
        ("overtaking: margin, most", {
            let most = timing::MAX_OVERTAKING;
            format!("{}, {}", ms(timing::OVERTAKING_MARGIN), ms(most))
        }),
        ("REPORT beside data", format!("{} data frames", timing::REPORT_AFTER)),
        ("scheduling allowance", ms(timing::SCHEDULING)),
        ("least silence", ms(timing::MIN_SILENCE)),
        (
            "least silence, pause, rhythm of steady data",
            format!(
                "{}; {}; {}",
                ms(timing::STEADY_SILENCE),
                ms(timing::STEADY_PAUSE),
                ms(timing::MAX_RHYTHM)
            ),
        ),
        ("suspicion: PROBEs, spacing", format!("{}, {}", timing::SUSPECT_BURST, ms(timing::SUSPECT_SPACING))),
        (
            "PROBE tries",
            format!("{0}, active {1}", timing::PROBE_TRIES, timing::PROBE_TRIES + timing::SUSPECT_BURST - 1),
        ),
        ("real silence", ms(timing::REAL_SILENCE)),
        ("a PROBE weighs", format!("{} datagrams", timing::PROBE_WEIGHT)),
        ("a PROBE on a standby path weighs", format!("{} datagrams", timing::STANDBY_PROBE_WEIGHT)),
        ("busy", s(timing::BUSY)),
        ("PROBE of the active path", s(timing::ACTIVE_INTERVAL)),
        ("PROBE of a standby", s(timing::STANDBY_INTERVAL)),
        ("PROBE of a metered standby", s(timing::METERED_INTERVAL)),
        (
            "keepalive",
            format!("{}; higher end {}", s(timing::KEEPALIVE), s(timing::KEEPALIVE + timing::TARGET_EXTRA)),
        ),
        (
            "retry of a failed path",
            format!(
                "{} to {}; idle {}; never answered {}",
                s(timing::RETRY.0),
                s(timing::RETRY.1),
                s(timing::IDLE_RETRY),
                s(timing::HOPELESS_RETRY)
            ),
        ),
        ("retry while no path works", {
            let of = |at: usize| timing::OUTAGE_RETRY[at];
            let until = [0, 1, 2].map(|at| of(at).0.as_secs());
            assert_eq!(until, [10, 120, 600]);
            assert_eq!(of(3).0, std::time::Duration::MAX);
            format!(
                "{}, {}, {}, {} (for 10 s, 2 min, 10 min, ever)",
                ms(of(0).1),
                s(of(1).1),
                s(of(2).1),
                s(of(3).1)
            )
        }),
        ("PROBE of the active path in question", ms(timing::QUESTION_INTERVAL)),
        (
            "PROBE of an unfit path",
            format!("{}; metered {}", ms(timing::RECOVERY_INTERVAL), s(timing::METERED_RECOVERY_INTERVAL)),
        ),
        ("a test holds", ms(timing::TESTED)),
        ("contact beside an outage", format!("after {}", ms(timing::RECONTACT))),
        ("stagger of a race", ms(timing::STAGGER)),
        (
            "rounds of contact",
            format!(
                "{} to {}, after {} rounds {}",
                s(timing::CONTACT_RETRY.0),
                s(timing::CONTACT_RETRY.1),
                timing::PATIENT_ROUNDS,
                s(timing::CONTACT_PATIENT)
            ),
        ),
        ("data hurries contact", s(timing::HURRY)),
        ("between handshakes", ms(timing::CONTACT_MIN)),
        ("contact after SHUT", s(timing::SHUT_PAUSE)),
        ("INIT", format!("pauses of {} ms", init.join(", "))),
        ("target's own INIT", s(timing::TARGET_INIT)),
        ("new INITs answered", format!("4 in {}", s(timing::INITS_IN))),
        ("INIT-ACK kept", s(timing::ANSWER_KEPT)),
        (
            "new epoch",
            format!(
                "{} with traffic, {} more for the other end, {} between tries; {} where indices run out",
                s(timing::REKEY),
                s(timing::REKEY_EXTRA),
                s(timing::REKEY_RETRY),
                s(timing::REKEY_INDICES)
            ),
        ),
        ("new epoch without traffic", s(timing::EPOCH_IDLE)),
        ("end of an epoch", format!("{} after a newer one was due", s(timing::EPOCH_END))),
        ("epoch overlap", s(timing::EPOCH_OVERLAP)),
        ("SET and SHUT without an RTO", ms(timing::CONTROL_RETRY)),
        (
            "own initiations, from the second round on",
            format!("{} between interfaces", ms(timing::OWN_STAGGER)),
        ),
        (
            "plain WireGuard: silence",
            format!("{} to {}", ms(timing::PLAIN_SILENCE), ms(timing::PLAIN_LAWFUL)),
        ),
        (
            "plain WireGuard: after a false alarm",
            format!("{} to {}", s(timing::PLAIN_LENIENCE), s(timing::PLAIN_LENIENCE * 4)),
        ),
        (
            "plain WireGuard: a try",
            format!(
                "{} at least, {} without a round trip; {} of a silent path",
                ms(timing::PLAIN_WAIT.0),
                ms(timing::PLAIN_WAIT.1),
                timing::PLAIN_TRIES
            ),
        ),
        ("plain WireGuard: a segment that comes again", format!("once in {}", s(timing::PLAIN_REPEATS))),
        ("plain WireGuard: called back after a try", ms(timing::PLAIN_RECALL)),
        ("plain WireGuard: asked before a move to it", format!("after {}", s(timing::PLAIN_FRESH))),
        ("plain WireGuard: first pause of a race", ms(timing::PLAIN_ROUND)),
        ("plain WireGuard: unreachable", format!("after {}", s(timing::PLAIN_UNREACHABLE))),
        ("fresh", s(timing::FRESH)),
        (
            "padded PROBE",
            format!(
                "RTO and {}; eight at once {}",
                ms(timing::MTU_ALLOWANCE),
                ms(timing::MTU_SOUND_ALLOWANCE)
            ),
        ),
        ("tries of a size", timing::MTU_TRIES.to_string()),
        (
            "doubt of a size",
            format!("{} after large data, once in {}", s(timing::MTU_RELATED), ms(timing::MTU_DOUBT)),
        ),
        ("larger size", s(timing::MTU_RAISE)),
    ];
    for (name, figure) in &rows {
        let row = format!("| {name} | {figure} |");
        assert!(DOCUMENT.contains(&row), "core/PROTOCOL.md, section 18, must say: {row}");
    }
    // Private to their files.
    let elsewhere = [
        "RTO before the first sample",
        "RTO bounds, longest sample",
        "fitness",
        "hysteresis",
        "failures are forgiven",
        "policy without hysteresis",
    ];
    let section = DOCUMENT.split("\n## ").find(|s| s.starts_with("18. Timers")).unwrap();
    let named = section.lines().filter_map(|l| l.strip_prefix("| ")?.split_once(" | ")).skip(1);
    for (name, _) in named {
        let checked = rows.iter().any(|(n, _)| *n == name) || elsewhere.contains(&name);
        assert!(checked, "core/PROTOCOL.md, section 18, has a timer that nothing checks: {name}");
    }
}

/// The rows of section 19 whose limits the crate names.
#[test]
fn the_limits_are_as_documented() {
    let hold = HoldLimits::default();
    for row in [
        format!("| addresses in a SET | {MAX_ADDRESSES} |"),
        format!("| paths in a report | {MAX_REPORTS} |"),
        format!("| missing numbers in a report | {MAX_MISSING} |"),
        format!("| name | {MAX_NAME} bytes of UTF-8 |"),
        format!("| paths of a context; remote addresses remembered | {}; 24 |", Context::MAX_PATHS),
        format!(
            "| held, unsure with a copy, unsure without: flows, datagrams of a flow, bytes of each | {}, {}, {} KiB |",
            hold.flows,
            hold.per_flow,
            hold.bytes / 1024
        ),
    ] {
        assert!(DOCUMENT.contains(&row), "core/PROTOCOL.md, section 19, must say: {row}");
    }
    assert_eq!((hold.tcp_age.as_secs(), hold.other_age.as_secs()), (150, 3), "section 14");
}
