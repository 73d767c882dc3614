//! The handshake that hosts really make, gotatun's by way of [`Session`], against another implementation of Noise: `snow`,
//! which in turn is held to a vector of a third one, cacophony (`cacophony.txt` of its test vectors, also in
//! `tests/vectors` of snow 0.10).
//!
//! gotatun draws its ephemeral keys itself, so that it cannot be run on the vector; both ways of a whole handshake, with
//! and without a preshared key, and messages of the session after it must be understood instead.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use blake2::digest::consts::U16;
use blake2::digest::{Digest, KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac};
use gotatun::packet::Packet;
use mast_proto::{InterfaceId, PathKey, Role};
use snow::{Builder, HandshakeState};

use crate::wireguard::{Identity, Indices, Session, Verified};

const NAME: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
/// Of WireGuard (the WireGuard paper, section 5.4).
const PROLOGUE: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn key(hex: &str) -> [u8; 32] {
    bytes(hex).try_into().unwrap()
}

#[test]
fn snow_agrees_with_the_vector_of_cacophony() {
    let prologue = bytes("4a6f686e2047616c74");
    let psk = key("54686973206973206d7920417573747269616e20706572737065637469766521");
    let build = |own: &str, ephemeral: &str| {
        let (own, ephemeral) = (bytes(own), bytes(ephemeral));
        (own, ephemeral)
    };
    let (static_i, ephemeral_i) = build(
        "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
        "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
    );
    let (static_r, ephemeral_r) = build(
        "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
        "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
    );
    let remote = bytes("31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62");
    let builder = || Builder::new(NAME.parse().unwrap()).prologue(&prologue).unwrap().psk(2, &psk).unwrap();
    let mut initiator = builder()
        .local_private_key(&static_i)
        .unwrap()
        .remote_public_key(&remote)
        .unwrap()
        .fixed_ephemeral_key_for_testing_only(&ephemeral_i)
        .build_initiator()
        .unwrap();
    let mut responder = builder()
        .local_private_key(&static_r)
        .unwrap()
        .fixed_ephemeral_key_for_testing_only(&ephemeral_r)
        .build_responder()
        .unwrap();
    let mut exchange = |payload: &str, expected: &str, by_initiator: bool| {
        let (from, to) =
            if by_initiator { (&mut initiator, &mut responder) } else { (&mut responder, &mut initiator) };
        let (mut out, mut read) = ([0; 256], [0; 256]);
        let length = from.write_message(&bytes(payload), &mut out).unwrap();
        assert_eq!(out[..length], bytes(expected));
        let length = to.read_message(&out[..length], &mut read).unwrap();
        assert_eq!(read[..length], bytes(payload));
    };
    exchange(
        "4c756477696720766f6e204d69736573",
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944001e21de9f98ddd8e2ad57527207feb56253c9c94a\
         9e496782ecfcb2a75fbcaf1b52948cc48daefe660c62119ab5000980c84831215f2441eba616548e832985464cf17e51ee93109008\
         399a21f7e13f",
        true,
    );
    exchange(
        "4d757272617920526f746862617264",
        "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843cb765f2caef0751b8f007572dab0322217755c0632\
         f365717edbf34d33e87a",
        false,
    );
    let hash = bytes("f5191b875290abcd41347ac3622d9679688a7e980229cb937ef748336cfde0e5");
    assert_eq!((initiator.get_handshake_hash(), responder.get_handshake_hash()), (&hash[..], &hash[..]));
    let (mut initiator, mut responder) =
        (initiator.into_transport_mode().unwrap(), responder.into_transport_mode().unwrap());
    let sent = [
        ("462e20412e20486179656b", "8153ca9833bc3c1b91a7e66e5f4d4f5b59bf9e64c2f20d15f0bba7"),
        ("4361726c204d656e676572", "07af0c9c86e1b4e80f36b04ff7688d51141af3debd0332f0a705ef"),
        (
            "4a65616e2d426170746973746520536179",
            "6ab1467c0448cc78394494abaaf23afce0e234315d6e2624dcbfa8a21c1c4d073d",
        ),
        (
            "457567656e2042f6686d20766f6e2042617765726b",
            "dfc346c0d2296ae6cf1acf6f12b8456a1dba228cf8d8b774aacf1c47fc53aa80ebc7a4c292",
        ),
    ];
    for (at, (payload, expected)) in sent.into_iter().enumerate() {
        let mut out = [0; 256];
        let from = if at % 2 == 0 { &mut initiator } else { &mut responder };
        let length = from.write_message(&bytes(payload), &mut out).unwrap();
        assert_eq!(out[..length], bytes(expected));
    }
}

fn path() -> PathKey {
    PathKey::direct(InterfaceId(1), [192, 0, 2, 1].into(), SocketAddr::from(([192, 0, 2, 2], 6278)))
}

/// The first MAC (the WireGuard paper, section 5.4.4), put where the message has it.
fn seal(message: &mut [u8], to: &[u8; 32], at: usize) {
    let key = Blake2s256::new().chain_update(b"mac1----").chain_update(to).finalize();
    let mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(&key).unwrap();
    let mac = mac.chain_update(&message[..at]).finalize().into_bytes();
    message[at..at + 16].copy_from_slice(&mac);
}

fn noise(own: &[u8; 32], psk: &[u8; 32], remote: Option<&[u8; 32]>) -> HandshakeState {
    let builder = Builder::new(NAME.parse().unwrap()).prologue(PROLOGUE).unwrap().psk(2, psk).unwrap();
    let builder = builder.local_private_key(own).unwrap();
    match remote {
        Some(remote) => builder.remote_public_key(remote).unwrap().build_initiator().unwrap(),
        None => builder.build_responder().unwrap(),
    }
}

/// Messages of the session both ways.
fn converse(session: &mut Session, noise: HandshakeState, (own, other): ([u8; 4], [u8; 4])) {
    let noise = noise.into_stateless_transport_mode().unwrap();
    let mut inner = vec![0x45; 20];
    inner[2..4].copy_from_slice(&20_u16.to_be_bytes());
    inner[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    let mut back = Vec::new();
    for counter in 0..3_u64 {
        let mut message = [&[4, 0, 0, 0][..], &own, &counter.to_le_bytes(), &[0; 36]].concat();
        assert_eq!(noise.write_message(counter, &inner, &mut message[16..]).unwrap(), 36);
        let message = Packet::copy_from(&message[..]).try_into_wg().unwrap();
        let outcome = session.receive(Instant::now(), path(), message).unwrap();
        back.push(outcome.complete);
        assert_eq!(outcome.inner.as_deref(), Some(&inner[..]));
    }
    assert!(back[1..].iter().all(Option::is_none));
    for _ in 0..3 {
        let message = session.seal(&inner).unwrap();
        assert_eq!((&message[..4], &message[4..8]), (&[4, 0, 0, 0][..], &other[..]));
        let counter = u64::from_le_bytes(message[8..16].try_into().unwrap());
        let mut out = [0; 64];
        let length = noise.read_message(counter, &message[16..], &mut out).unwrap();
        assert_eq!(out[..length], inner);
    }
}

#[test]
fn another_implementation_answers_this_ones_handshake() {
    for psk in [None, Some([7; 32])] {
        let (own, other) = (Arc::new(Identity::new(&[3; 32])), Identity::new(&[5; 32]));
        let indices = Indices::new();
        let mut session =
            Session::new(Arc::clone(&own), &other.public(), psk.map(Into::into), None, &indices);
        let initiation = session.initiate(true).0.to_vec();
        assert_eq!((initiation.len(), &initiation[..4]), (148, &[1, 0, 0, 0][..]));
        let mut expected = initiation.clone();
        seal(&mut expected, &other.public(), 116);
        assert_eq!(initiation, expected, "its MAC is right");

        let mut noise = noise(&[5; 32], &psk.unwrap_or_default(), None);
        let mut payload = [0; 64];
        let length = noise.read_message(&initiation[8..116], &mut payload).unwrap();
        assert_eq!(length, 12, "the time");
        // TAI64N: seconds since 1970 with this before them.
        assert_eq!(payload[0], 0x40);
        assert_eq!(noise.get_remote_static(), Some(&own.public()[..]));

        let sender: [u8; 4] = initiation[4..8].try_into().unwrap();
        let mut response = [&[2, 0, 0, 0][..], &[9, 9, 9, 9], &sender, &[0; 80]].concat();
        assert_eq!(noise.write_message(&[], &mut response[12..60]).unwrap(), 48);
        seal(&mut response, &own.public(), 60);
        let Verified::Yes(message) = own.verify(Instant::now(), path().remote, &response) else {
            panic!("refused")
        };
        let outcome = session.receive(Instant::now(), path(), message).unwrap();
        assert_eq!(outcome.complete, Some(Role::Initiator));
        assert!(noise.is_handshake_finished());
        converse(&mut session, noise, (sender, [9; 4]));
    }
}

#[test]
fn this_one_answers_another_implementations_handshake() {
    for psk in [None, Some([8; 32])] {
        let (own, other) = (Arc::new(Identity::new(&[3; 32])), Identity::new(&[5; 32]));
        let indices = Indices::new();
        let mut session =
            Session::new(Arc::clone(&own), &other.public(), psk.map(Into::into), None, &indices);
        let mut noise = noise(&[5; 32], &psk.unwrap_or_default(), Some(&own.public()));
        let time = [0x40, 0, 0, 0, 0x70, 0, 0, 0, 0, 0, 0, 1];
        let mut initiation = [&[1, 0, 0, 0][..], &[6, 6, 6, 6], &[0; 140]].concat();
        assert_eq!(noise.write_message(&time, &mut initiation[8..116]).unwrap(), 108);
        seal(&mut initiation, &own.public(), 116);
        let Verified::Yes(message) = own.verify(Instant::now(), path().remote, &initiation) else {
            panic!("refused")
        };
        let outcome = session.receive(Instant::now(), path(), message).unwrap();
        let response = outcome.reply.unwrap();
        assert_eq!((response.len(), &response[..4]), (92, &[2, 0, 0, 0][..]));
        assert_eq!(response[8..12], [6; 4]);
        let sender: [u8; 4] = response[4..8].try_into().unwrap();
        assert_eq!(outcome.index, Some(u32::from_le_bytes(sender)));
        assert_eq!(noise.read_message(&response[12..60], &mut [0; 16]).unwrap(), 0);
        converse(&mut session, noise, (sender, [6; 4]));
    }
}

#[test]
fn with_another_preshared_key_there_is_no_session() {
    let (own, other) = (Arc::new(Identity::new(&[3; 32])), Identity::new(&[5; 32]));
    let indices = Indices::new();
    let mut session = Session::new(Arc::clone(&own), &other.public(), Some([1; 32].into()), None, &indices);
    let initiation = session.initiate(true).0.to_vec();
    let mut noise = noise(&[5; 32], &[2; 32], None);
    noise.read_message(&initiation[8..116], &mut [0; 64]).unwrap();
    let mut response = [&[2, 0, 0, 0][..], &[9, 9, 9, 9], &initiation[4..8], &[0; 80]].concat();
    noise.write_message(&[], &mut response[12..60]).unwrap();
    seal(&mut response, &own.public(), 60);
    let Verified::Yes(message) = own.verify(Instant::now(), path().remote, &response) else {
        panic!("refused")
    };
    assert!(session.receive(Instant::now(), path(), message).is_err());
}
