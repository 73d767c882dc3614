//! What comes from outside is hostile: arbitrary bytes must neither panic nor change anything.

use std::net::SocketAddr;
use std::time::Instant;

use mast_proto::wire::{ContextIndex, Header, Message};
use mast_proto::{
    Aead, Context, ContextConfig, EidBook, HoldLimits, InterfaceId, PathKey, Policy, Received, SequenceWindow,
};
use proptest::prelude::*;

struct NoBook;

impl EidBook for NoBook {
    fn is_free(&self, _: mast_proto::wire::EidPair) -> bool {
        true
    }
    fn propose(&mut self) -> Option<mast_proto::wire::EidPair> {
        None
    }
}

fn context(now: Instant) -> Context {
    let config = ContextConfig {
        index: ContextIndex(0x0102_0304),
        instance: 1,
        lower: true,
        name: "host".into(),
        aeads: vec![Aead::ChaCha20Poly1305],
        eid_v6: "fd4d:6173:7400::1".parse().expect("an address"),
        eid_v4: None,
        port: 6278,
        expect: None,
        policy: Policy::Auto,
        hold: HoldLimits::default(),
        seed: [3; 32],
    };
    Context::new(config, now)
}

fn path() -> PathKey {
    PathKey::direct(InterfaceId(1), [192, 0, 2, 2].into(), SocketAddr::from(([192, 0, 2, 1], 6278)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
        let _ = Header::decode(&bytes);
    }

    #[test]
    fn any_bytes_with_the_frame_of_a_message(number in 0_u8..12, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut framed = vec![0x82, number];
        framed.extend(bytes);
        if let Ok(message) = Message::decode(&framed) {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn a_context_drops_any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0x60_u8..0x62) {
        let now = Instant::now();
        let mut context = context(now);
        if bytes.len() >= 16 {
            bytes[0] = kind;
            bytes[3] = 0;
            bytes[4..8].copy_from_slice(&0x0102_0304_u32.to_be_bytes());
        }
        prop_assert!(matches!(context.handle_datagram(now, path(), &mut bytes), Received::Dropped(_)));
        prop_assert_eq!(context.paths().count(), 0);
        prop_assert!(context.poll_transmit(now).is_none());
    }

    /// What comes through the WireGuard session is authentic, but the peer itself may be hostile.
    #[test]
    fn a_peer_may_say_anything(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 1..20)) {
        let now = Instant::now();
        let mut context = context(now);
        context.connect(now);
        for payload in payloads {
            context.handle_secure(now, path(), &payload, &mut NoBook);
            context.handle_timeout(now);
            prop_assert!(context.paths().count() <= Context::MAX_PATHS);
            let mut sent = 0;
            while context.poll_transmit(now).is_some() {
                sent += 1;
                prop_assert!(sent < 100);
            }
        }
    }

    #[test]
    fn sequence_numbers_come_once(start in any::<u32>(), order in proptest::collection::vec(0_u32..500, 1..300)) {
        let mut window = SequenceWindow::default();
        let mut seen = std::collections::BTreeSet::new();
        for offset in order {
            let new = window.accept(start.wrapping_add(offset)) != mast_proto::Replay::Replayed;
            prop_assert_eq!(new, seen.insert(offset));
        }
    }
}
