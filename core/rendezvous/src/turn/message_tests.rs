//! Messages as bytes.

use std::net::{Ipv4Addr, Ipv6Addr};

use turn_types::message::DATA as DATA_METHOD;

use super::*;

#[test]
fn a_name_that_is_too_long_is_an_error() {
    let mut access = Access::new(&"x".repeat(600), "secret");
    let id = TransactionId::generate();
    assert!(
        access.request(Ask::Allocate(AddressFamily::IPV4), id).is_ok(),
        "unsigned it does not name anybody"
    );
    let request = access.request(Ask::Allocate(AddressFamily::IPV4), id).unwrap();
    let request = Message::from_bytes(&request).unwrap();
    let mut error = Message::builder_error(&request, MessageWriteVec::new());
    error.add_attribute(&ErrorCode::new(401, "who?").unwrap()).unwrap();
    error.add_attribute(&Realm::new("realm").unwrap()).unwrap();
    error.add_attribute(&Nonce::new("nonce").unwrap()).unwrap();
    let answer = access.answer(&error.finish(), Ask::Allocate(AddressFamily::IPV4), false);
    assert_eq!(answer, Answer::Challenge { code: 401, changed: true });
    assert!(access.request(Ask::Refresh(0), id).is_err());
}

#[test]
fn the_better_algorithm_is_taken_and_the_offer_repeated() {
    let mut access = Access::new("alice", "secret");
    let id = TransactionId::generate();
    let request = access.request(Ask::Refresh(600), id).unwrap();
    let request = Message::from_bytes(&request).unwrap();
    let offered = [PasswordAlgorithmValue::SHA256, PasswordAlgorithmValue::MD5];
    let mut error = Message::builder_error(&request, MessageWriteVec::new());
    error.add_attribute(&ErrorCode::new(401, "who?").unwrap()).unwrap();
    error.add_attribute(&Realm::new("realm").unwrap()).unwrap();
    // The first bit of those after the cookie: the server knows algorithms.
    error.add_attribute(&Nonce::new("obMatJos2gAAAnonce").unwrap()).unwrap();
    error.add_attribute(&PasswordAlgorithms::new(&offered)).unwrap();
    access.answer(&error.finish(), Ask::Refresh(600), false);
    let signed = access.request(Ask::Refresh(600), id).unwrap();
    let signed = Message::from_bytes(&signed).unwrap();
    assert_eq!(signed.attribute::<PasswordAlgorithms>().unwrap().algorithms(), offered);
    let chosen = signed.attribute::<PasswordAlgorithm>().unwrap().algorithm();
    assert_eq!(chosen, PasswordAlgorithmValue::SHA256);
    let key = LongTermKeyCredentials::new("alice".into(), "secret".into(), "realm".into());
    let key = key.make_key(IntegrityAlgorithm::Sha256);
    assert_eq!(signed.validate_integrity_with_key(&key).unwrap(), IntegrityAlgorithm::Sha256);
}

#[test]
fn indications_are_read_as_they_are_written() {
    let addresses: [IpAddr; 2] =
        [Ipv4Addr::new(198, 51, 100, 2).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 1, 2, 3, 4).into()];
    for address in addresses {
        for length in [0, 1, 3, 4, 1500] {
            let peer = SocketAddr::new(address, 4321);
            let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut bytes = indication(peer, &payload).unwrap();
            assert!(from_indication(&bytes).is_none(), "it goes the other way");
            let data = MessageType::from_class_method(MessageClass::Indication, DATA_METHOD);
            data.write_into(&mut bytes[..2]);
            let (from, at) = from_indication(&bytes).unwrap();
            assert_eq!((from, &bytes[at]), (peer, payload.as_slice()));
            bytes.push(0);
            assert!(from_indication(&bytes).is_none(), "its length is wrong");
        }
    }
}

#[test]
fn lengths_are_those_of_the_first_four_bytes() {
    assert_eq!(length([0x00, 0x01, 0x00, 0x08]), Some((28, 28)));
    assert_eq!(length([0x40, 0x00, 0x00, 0x05]), Some((12, 9)));
    assert_eq!(length([0x7f, 0xff, 0xff, 0xff]), Some((65_540, 65_539)));
    assert_eq!(length([0x00, 0x01, 0x00, 0x07]), None);
    assert_eq!(length([0x80, 0x00, 0x00, 0x00]), None);
}
