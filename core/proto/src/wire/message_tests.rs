#![allow(clippy::unwrap_used)]

use super::*;

fn address(at: &str) -> Address {
    Address {
        id: AddressId(3),
        at: at.parse().unwrap(),
        kind: AddressKind::Host,
        priority: 200,
        metered: true,
        flags: AddressFlags::BACKUP,
        link: Some(7),
    }
}

#[test]
fn round_trips() {
    let report = PathReport { path: 1, epoch: 2, highest: 300, received: 299, reordered: 1, silent: true };
    let messages = [
        Message::Init(Init {
            version: VERSION,
            instance: u64::MAX,
            index: 9,
            random: [7; 32],
            aeads: vec![1, 2],
            capabilities: Capabilities(0),
            epoch: 4,
            eid_v6: "fd4d:6173:7400::1".parse().unwrap(),
            eid_v4: Some(EidPair { own: Ipv4Addr::new(100, 64, 0, 2), other: Ipv4Addr::new(100, 64, 0, 3) }),
            name: "laptop".into(),
            further: None,
        }),
        Message::InitAck(InitAck {
            version: VERSION,
            instance: 1,
            index: 9,
            random: [7; 32],
            aead: 2,
            capabilities: Capabilities(0),
            epoch: 4,
            eid_v6: "fd4d:6173:7400::1".parse().unwrap(),
            eid_v4: None,
            name: String::new(),
            answers: [8; 32],
            further: Some((1..=MAX_FURTHER as u32).collect()),
        }),
        Message::Set(Set {
            sequence: 5,
            addresses: vec![address("192.0.2.1:6278"), address("[2001:db8::1]:1")],
            mode: None,
        }),
        Message::Set(Set {
            sequence: 6,
            addresses: vec![address("192.0.2.1:6278")],
            mode: Some(ModeWish { mode: Mode::Bonded, small: false, metered: true }),
        }),
        Message::SetAck(SetAck { sequence: 5 }),
        Message::Probe(Probe { nonce: 1, address: AddressId(0), time: 99, reports: vec![report] }),
        Message::ProbeAck(ProbeAck {
            nonce: 1,
            observed: "192.0.2.1:40000".parse().unwrap(),
            time: 99,
            reports: vec![],
        }),
        Message::Report(Report { reports: vec![report; MAX_REPORTS], missing: None }),
        Message::Report(Report { reports: vec![], missing: Some(vec![0, 7, u32::MAX]) }),
        Message::Shut(Shut { reason: ShutReason::Removed }),
        Message::ShutAck(ShutAck {}),
    ];
    for message in messages {
        let mut bytes = message.encode();
        assert_eq!(Message::decode(&bytes), Ok(message.clone()));
        bytes.extend([0; 100]);
        assert_eq!(Message::decode(&bytes), Ok(message), "padding is ignored");
    }
}

#[test]
fn bounds_hold() {
    let addresses = vec![address("192.0.2.1:1"); MAX_ADDRESSES + 1];
    let set = Set { sequence: 1, addresses, mode: None };
    assert_eq!(Message::decode(&Message::Set(set).encode()), Err(MessageError::TooLong("SET")));
}

#[test]
fn further_indices_are_few_and_none_is_zero() {
    let init = |further| {
        Message::Init(Init {
            version: VERSION,
            instance: 1,
            index: 9,
            random: [7; 32],
            aeads: vec![1],
            capabilities: Capabilities(0),
            epoch: 0,
            eid_v6: Ipv6Addr::LOCALHOST,
            eid_v4: None,
            name: String::new(),
            further: Some(further),
        })
    };
    let most = init(vec![3; MAX_FURTHER]);
    assert_eq!(Message::decode(&most.encode()), Ok(most));
    for refused in [vec![3; MAX_FURTHER + 1], vec![1, 0, 2]] {
        assert_eq!(Message::decode(&init(refused).encode()), Err(MessageError::TooLong("INIT")));
    }
}

#[test]
fn unknown_keys_are_ignored_and_unknown_messages_named() {
    // [4, {0: 5, 77: "later"}]
    let bytes = [0x82, 0x04, 0xa2, 0x00, 0x05, 0x18, 0x4d, 0x65, b'l', b'a', b't', b'e', b'r'];
    assert_eq!(Message::decode(&bytes), Ok(Message::SetAck(SetAck { sequence: 5 })));
    assert_eq!(Message::decode(&[0x82, 0x18, 0x63, 0xa0]), Err(MessageError::Unknown(99)));
}

#[test]
fn a_wish_for_an_unknown_mode_does_no_harm() {
    // [3, {0: 5, 1: [], 2: {0: 9, 77: 1}}]
    let bytes = [0x82, 0x03, 0xa3, 0x00, 0x05, 0x01, 0x80, 0x02, 0xa2, 0x00, 0x09, 0x18, 0x4d, 0x01];
    let wish = ModeWish { mode: Mode::Unknown(9), small: false, metered: false };
    let set = Set { sequence: 5, addresses: vec![], mode: Some(wish) };
    assert_eq!(Message::decode(&bytes), Ok(Message::Set(set)));
}

#[test]
fn numbers_of_later_versions_stay_what_they_are() {
    for number in 0..=u8::MAX {
        assert_eq!(u8::from(AddressKind::from(number)), number);
        assert_eq!(u8::from(Mode::from(number)), number);
        assert_eq!(u8::from(ShutReason::from(number)), number);
    }
}
