//! The ciphers and the key schedule against vectors of others.
//!
//! A datagram's nonce begins with zeros and its associated data is its header, so that no published vector is one of a
//! whole datagram; what is published is run on the algorithms that [`Aead`] names, and a datagram is then compared with
//! what the parts say.

use ring::hmac;

use super::*;
use crate::wire::{ContextIndex, Flags, Kind, PathId};

fn bytes(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn check(aead: Aead, key: &str, nonce: &str, aad: &str, plain: &str, sealed: &str) {
    let key = LessSafeKey::new(UnboundKey::new(aead.algorithm(), &bytes(key)).unwrap());
    let nonce = || Nonce::try_assume_unique_for_key(&bytes(nonce)).unwrap();
    let mut text = bytes(plain);
    key.seal_in_place_append_tag(nonce(), aead::Aad::from(bytes(aad)), &mut text).unwrap();
    assert_eq!(text, bytes(sealed));
    let opened = key.open_in_place(nonce(), aead::Aad::from(bytes(aad)), &mut text).unwrap();
    assert_eq!(opened, bytes(plain));
    let mut wrong = bytes(sealed);
    if let Some(last) = wrong.last_mut() {
        *last ^= 1;
    }
    assert!(key.open_in_place(nonce(), aead::Aad::from(bytes(aad)), &mut wrong).is_err());
}

/// RFC 8439, 2.8.2.
#[test]
fn chacha20_poly1305_of_the_rfc() {
    check(
        Aead::ChaCha20Poly1305,
        "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
        "070000004041424344454647",
        "50515253c0c1c2c3c4c5c6c7",
        "4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a204966204920636f756c64206f
         6666657220796f75206f6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73637265656e20776f756c642062
         652069742e",
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e06
         0b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d265
         86cec64b6116 1ae10b594f09e26a7e902ecbd0600691",
    );
}

/// McGrew and Viega, The Galois/Counter Mode of Operation, test cases 13 to 16, which NIST took over for AES-256.
#[test]
fn aes_256_gcm_of_its_authors() {
    let zeros = "0000000000000000000000000000000000000000000000000000000000000000";
    check(Aead::Aes256Gcm, zeros, "000000000000000000000000", "", "", "530f8afbc74536b9a963b4f1c4cb738b");
    check(
        Aead::Aes256Gcm,
        zeros,
        "000000000000000000000000",
        "",
        "00000000000000000000000000000000",
        "cea7403d4d606b6e074ec5d3baf39d18 d0d1c8a799996bf0265b98b5d48ab919",
    );
    let key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
    check(
        Aead::Aes256Gcm,
        key,
        "cafebabefacedbaddecaf888",
        "",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0d
         e657ba637b391aafd255",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba
         7a0abcc9f662898015ad b094dac5d93471bdec1a502270e3cc6c",
    );
    check(
        Aead::Aes256Gcm,
        key,
        "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0d
         e657ba637b39",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba
         7a0abcc9f662 76fc6ece0f4e1768cddf8853bb2d551b",
    );
}

/// RFC 5869, A.1: the hash, and the two steps as [`EpochKeys::derive`] takes them.
#[test]
fn hkdf_of_the_rfc() {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &bytes("000102030405060708090a0b0c"));
    let prk = salt.extract(&[0x0b; 22]);
    let mut okm = [0; 42];
    let info = bytes("f0f1f2f3f4f5f6f7f8f9");
    prk.expand(&[&info[..5], &info[5..]], KeyLength(42)).unwrap().fill(&mut okm).unwrap();
    let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
    assert_eq!(okm[..], bytes(expected));
}

/// A datagram is what RFC 2104's HMAC, by way of RFC 5869, and the cipher make of the messages.
#[test]
fn a_datagram_is_what_its_parts_say() {
    let (init, ack) = (b"an INIT".as_slice(), b"its INIT-ACK".as_slice());
    let (r_i, r_t) = ([0x11; 32], [0x22; 32]);
    let hash = digest::digest(&digest::SHA256, &[b"MAST v1 transcript", init, ack].concat());
    let mac = |key: &[u8], data: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    let prk = mac(hash.as_ref(), &[r_i, r_t].concat());
    for (role, label) in
        [(Role::Initiator, b"MAST v1 key initiator".as_slice()), (Role::Target, b"MAST v1 key target")]
    {
        let okm = mac(prk.as_ref(), &[label, &[9], &[1]].concat());
        for aead in [Aead::Aes256Gcm, Aead::ChaCha20Poly1305] {
            let keys = EpochKeys::derive(role, aead, Epoch(9), (init, &r_i), (ack, &r_t)).unwrap();
            let header = Header {
                kind: Kind::Control,
                flags: Flags::NONE,
                path: PathId(0xa5),
                epoch: Epoch(9),
                index: ContextIndex(0x0102_0304),
                counter: 0x0102_0304_0506_0708,
            };
            let mut datagram = [&[0; 16][..], b"content", &[0; 16]].concat();
            keys.seal(&header, &mut datagram).unwrap();
            let key = LessSafeKey::new(UnboundKey::new(aead.algorithm(), okm.as_ref()).unwrap());
            let mut expected = b"content".to_vec();
            let nonce = [0, 0, 0, 0xa5, 1, 2, 3, 4, 5, 6, 7, 8];
            let nonce = Nonce::assume_unique_for_key(nonce);
            key.seal_in_place_append_tag(nonce, aead::Aad::from(header.encode()), &mut expected).unwrap();
            assert_eq!(datagram, [&header.encode()[..], &expected].concat());
        }
    }
}
