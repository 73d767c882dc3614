//! Messages on a stream, however it is cut.

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::super::message::{indication, on_channel};
use super::*;

fn parcel(bytes: Vec<u8>) -> Outgoing {
    Outgoing { bytes, parcel: true }
}

#[tokio::test]
async fn messages_stand_one_behind_the_other_at_multiples_of_four() {
    let (near, mut far) = duplex(1 << 16);
    let mut wire = Wire::stream(near);
    let first = indication("192.0.2.1:7".parse().unwrap(), b"hello").unwrap();
    for bytes in [first.clone(), on_channel(0x4000, b"a").unwrap(), on_channel(0x4000, b"bcde").unwrap()] {
        assert!(wire.send(&parcel(bytes)).unwrap());
    }
    let mut buffer = Vec::new();
    let mut written = vec![0; first.len() + 16];
    tokio::select! {
        _ = wire.receive(&mut buffer) => panic!("there is nothing"),
        read = far.read_exact(&mut written) => { read.unwrap(); }
    }
    assert_eq!(written[..first.len()], first);
    assert_eq!(written[first.len()..], *b"\x40\x00\x00\x01a\0\0\0\x40\x00\x00\x04bcde");
    // The same back, in pieces of all lengths.
    for piece in 1..20 {
        let mut got = Vec::new();
        let feed = async {
            for piece in written.chunks(piece) {
                far.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let take = async {
            for _ in 0..3 {
                wire.receive(&mut buffer).await.unwrap();
                got.push(buffer.clone());
            }
        };
        tokio::join!(feed, take);
        assert_eq!(got, [first.clone(), b"\x40\x00\x00\x01a".to_vec(), b"\x40\x00\x00\x04bcde".to_vec()]);
    }
}

#[tokio::test]
async fn what_is_too_long_is_read_over() {
    let (near, mut far) = duplex(1 << 20);
    let mut wire = Wire::stream(near);
    let first = indication("192.0.2.1:7".parse().unwrap(), b"hello").unwrap();
    far.write_all(&first).await.unwrap();
    for length in [2045_usize, 4093, 60_001, 65_535] {
        far.write_all(&[0x40, 0, (length >> 8) as u8, length as u8]).await.unwrap();
        far.write_all(&vec![0x40; length.next_multiple_of(4)]).await.unwrap();
        far.write_all(&on_channel(0x4000, &length.to_be_bytes()[4..]).unwrap()).await.unwrap();
    }
    let mut buffer = Vec::new();
    wire.receive(&mut buffer).await.unwrap();
    assert_eq!(buffer, first);
    for length in [2045_usize, 4093, 60_001, 65_535] {
        wire.receive(&mut buffer).await.unwrap();
        assert_eq!(buffer[4..], length.to_be_bytes()[4..]);
        assert!(buffer.capacity() < 3 * LONGEST_MESSAGE);
    }
}

#[tokio::test]
async fn other_servers_are_found_out_by_their_first_bytes() {
    for greeting in [
        b"HTTP/1.1 400 Bad".as_slice(),
        b"SSH-2.0-OpenSSH",
        b"220 mail.example",
        &[0x15, 3, 3, 0, 2, 2, 70, 0],
    ] {
        let (near, mut far) = duplex(1000);
        let mut wire = Wire::stream(near);
        far.write_all(greeting).await.unwrap();
        let error = wire.receive(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}

#[tokio::test]
async fn a_server_that_does_not_read_costs_datagrams_and_then_the_stream() {
    let (near, _far) = duplex(1000);
    let mut wire = Wire::stream(near);
    let datagram = parcel(on_channel(0x4000, &[0; 1400]).unwrap());
    let taken = (0..1000).filter(|_| wire.send(&datagram).unwrap()).count();
    assert!((40..60).contains(&taken), "{taken}");
    let request = Outgoing { bytes: vec![0; 1000], parcel: false };
    let error = (0..1000).find_map(|_| wire.send(&request).err()).unwrap();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}
