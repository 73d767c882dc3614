//! What the network hands to the protocol: headers, control messages, sealed datagrams.

use mast_proto::wire::{ContextIndex, Epoch, Flags, Header, Kind, Message, PathId};
use mast_proto::{Aead, EpochKeys, Role, TAG_LEN};

/// A control message, as it lies in a datagram and in a WireGuard session.
pub fn message(data: &[u8]) {
    if let Ok(header) = Header::decode(data) {
        assert_eq!(data.get(..16), Some(&header.encode()[..]), "a header is what was read");
        assert!(Header::is_mast(data));
    }
    let Ok(message) = Message::decode(data) else { return };
    let bytes = message.encode();
    assert_eq!(Message::decode(&bytes), Ok(message.clone()), "what is read is written, and read again");
    let padded = [&bytes[..], &[0; 40]].concat();
    assert_eq!(Message::decode(&padded), Ok(message), "padding says nothing");
}

/// A sealed datagram, or one that was sealed and changed: first the way, then places and values, or the datagram.
pub fn sealed(data: &[u8]) {
    let Some((&how, rest)) = data.split_first() else { return };
    let aead = if how & 1 == 0 { Aead::ChaCha20Poly1305 } else { Aead::Aes256Gcm };
    let keys = |role| EpochKeys::derive(role, aead, Epoch(3), (b"init", &[1; 32]), (b"ack", &[2; 32]));
    let (Ok(initiator), Ok(target)) = (keys(Role::Initiator), keys(Role::Target)) else {
        panic!("no keys");
    };
    if how & 2 == 0 {
        let mut datagram = rest.to_vec();
        if let Ok(header) = Header::decode(rest) {
            // Who watches the comparison of the tags, as libFuzzer does, finds the right one: it is one that is sealed.
            if let Ok(content) = target.open(&header, &mut datagram) {
                let mut again = [&[0; 16][..], content, &[0; TAG_LEN]].concat();
                assert_eq!((initiator.seal(&header, &mut again), &again[..]), (Ok(()), rest), "forged");
            }
        }
        return;
    }
    let header = Header {
        kind: Kind::Data,
        flags: Flags::NONE,
        path: PathId(1),
        epoch: Epoch(3),
        index: ContextIndex(5),
        counter: 77,
    };
    let content = rest.len() % 64;
    let mut original = vec![0x5a; 16 + content + TAG_LEN];
    if initiator.seal(&header, &mut original).is_err() {
        panic!("there is room");
    }
    let mut datagram = original.clone();
    let (pairs, _) = rest.as_chunks::<2>();
    for [at, value] in pairs {
        let at = usize::from(*at) % datagram.len();
        if let Some(byte) = datagram.get_mut(at) {
            *byte = *value;
        }
    }
    if how & 4 != 0 {
        datagram.truncate(usize::from(how >> 3) * 3);
    }
    let changed = datagram != original;
    let Ok(header) = Header::decode(&datagram) else { return };
    match target.open(&header, &mut datagram) {
        Ok(opened) => assert!(!changed && opened == vec![0x5a; content], "what was changed is opened"),
        Err(_) => assert!(changed, "what is as it was is refused"),
    }
    assert!(initiator.open(&header, &mut original).is_err(), "one's own datagram comes back");
}
