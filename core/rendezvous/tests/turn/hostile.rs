//! Servers that are none, or wish us ill; and readers that sleep.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mast_netlab::Lab;
use mast_rendezvous::turn::{Parcel, Server, Transport};

use crate::world::{Client, NAME, World, lab, within};

fn server(at: SocketAddr, transport: Transport) -> Server {
    Server {
        host: NAME.to_owned(),
        at: vec![at],
        transport,
        username: "alice".to_owned(),
        password: "secret".to_owned().into(),
        roots: Vec::new(),
    }
}

/// A server for streams on a host: what it does with each, and how many there were.
fn streams(
    host: &mast_netlab::Host,
    does: impl Fn(std::net::TcpStream) + Send + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = host.run(|| TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
    let at = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counts.fetch_add(1, Ordering::Relaxed);
            does(stream);
        }
    });
    (at, count)
}

#[test]
fn other_servers_are_told_from_relays() {
    lab("hostile::other_servers_are_told_from_relays", || async {
        let net = Lab::new().unwrap();
        let host = net.host("host").unwrap();
        let web = |mut stream: std::net::TcpStream| {
            let _ = stream.read(&mut [0; 1000]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        };
        let (at, count) = streams(&host, web);
        let mut client = Client::new(&host, server(at, Transport::Tcp));
        let (why, _) = client.failed().await;
        assert!(why.contains("is no relay"), "{why}");
        // It is tried again, but not often: after 1, 2, and 4 s.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let count = count.load(Ordering::Relaxed);
        assert!((2..=4).contains(&count), "{count} connections in 5 s");
        client.end().await;

        let (at, _) = streams(&host, web);
        let (why, _) = Client::new(&host, server(at, Transport::Tls)).failed().await;
        assert!(why.contains("does not speak TLS"), "{why}");

        let (at, _) = streams(&host, drop);
        let (why, _) = Client::new(&host, server(at, Transport::Tcp)).failed().await;
        assert!(why.contains("closes the connection"), "{why}");

        let kept = std::sync::Mutex::new(Vec::new());
        let (at, _) = streams(&host, move |stream| kept.lock().unwrap().push(stream));
        for transport in [Transport::Tcp, Transport::Tls] {
            let start = Instant::now();
            let (why, _) = Client::new(&host, server(at, transport)).failed().await;
            assert!(why.contains("does not answer") && start.elapsed() < Duration::from_secs(11), "{why}");
        }
        let mut nowhere = server(at, Transport::Tcp);
        nowhere.at.clear();
        let (why, _) = Client::new(&host, nowhere).failed().await;
        assert!(why.contains("has no address"), "{why}");
        let mut unnamed = server(at, Transport::Tls);
        unnamed.host = "not a name".to_owned();
        let (why, _) = Client::new(&host, unnamed).failed().await;
        assert!(why.contains("cannot be the name"), "{why}");
    });
}

#[test]
fn a_flood_of_garbage_holds_nothing_up() {
    lab("hostile::a_flood_of_garbage_holds_nothing_up", || async {
        let net = Lab::new().unwrap();
        let host = net.host("host").unwrap();
        let socket = host.run(|| UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let at = socket.local_addr().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let flood = std::thread::spawn(move || {
            let mut buffer = [0; 2000];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            let mut garbage: Vec<u8> = buffer[..length].to_vec();
            let mut sent = 0_u64;
            while !ends.load(Ordering::Relaxed) {
                // The request itself, an answer that has no end, a channel, and noise.
                for first in [0x00, 0x01, 0x40, 0xff] {
                    garbage[0] = first;
                    garbage.resize(20 + (sent % 1400) as usize, sent as u8);
                    let _ = socket.send_to(&garbage, from);
                    sent += 1;
                }
            }
            sent
        });
        let mut client = Client::new(&host, server(at, Transport::Udp));
        let start = Instant::now();
        // What is sent is taken all the while.
        while client.state.borrow().clone() == mast_rendezvous::turn::State::Starting {
            let parcel = Parcel { peer: "192.0.2.1:7".parse().unwrap(), payload: vec![0; 1000] };
            let to = client.to.as_ref().unwrap();
            within(1, "room for a datagram", to.send(parcel)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (why, _) = client.failed().await;
        assert!(why.contains("is no relay") && start.elapsed() < Duration::from_secs(12), "{why}");
        client.end().await;
        over.store(true, Ordering::Relaxed);
        println!("{} datagrams of garbage in {:.1?}", flood.join().unwrap(), start.elapsed());
    });
}

#[test]
fn a_reader_that_sleeps_holds_nothing_up() {
    lab("hostile::a_reader_that_sleeps_holds_nothing_up", || async {
        let world = World::new();
        world.start(&[]);
        for transport in [Transport::Udp, Transport::Tls] {
            let mut client = world.client(0, world.server(transport));
            let (relayed, _) = client.allocated().await;
            let plain = world.plain_socket();
            let at = plain.local_addr().unwrap();
            client.send(at, b"open").await;
            plain.recv_from(&mut [0; 100]).await.unwrap();
            for _ in 0..2000 {
                plain.send_to(&[1; 200], relayed).await.unwrap();
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            client.send(at, b"still there").await;
            let mut buffer = [0; 100];
            let (length, _) = within(2, "still there", plain.recv_from(&mut buffer)).await.unwrap();
            assert_eq!(&buffer[..length], b"still there");
            let mut read = 0;
            while client.from.try_recv().is_ok() {
                read += 1;
            }
            assert!((1..=256).contains(&read), "{read}");
            client.end().await;
        }
    });
}
