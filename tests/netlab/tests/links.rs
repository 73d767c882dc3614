//! Links do what their profiles say.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use mast_netlab::{Host, Lab, Link, LinkProfile, isolated_test};

/// Two hosts, 10.0.0.1 and 10.0.0.2, with one link.
fn pair(profile: &LinkProfile) -> (Lab, Host, Host, Link) {
    let lab = Lab::new().unwrap();
    let a = lab.host("a").unwrap();
    let b = lab.host("b").unwrap();
    let link = lab.link(&a, "eth0", &b, "eth0", profile).unwrap();
    a.add_address("eth0", "10.0.0.1/24").unwrap();
    b.add_address("eth0", "10.0.0.2/24").unwrap();
    a.add_address("eth0", "fd00::1/64").unwrap();
    b.add_address("eth0", "fd00::2/64").unwrap();
    (lab, a, b, link)
}

fn socket(host: &Host, address: &str) -> UdpSocket {
    let socket = host.run(|| UdpSocket::bind(address).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket
}

#[test]
fn delay_is_precise() {
    isolated_test("delay_is_precise", || {
        let (_lab, a, b, _link) = pair(&LinkProfile::delay(Duration::from_millis(20)));
        for (from, to) in [("10.0.0.1:0", "10.0.0.2:7"), ("[fd00::1]:0", "[fd00::2]:7")] {
            let (client, server) = (socket(&a, from), socket(&b, to));
            std::thread::spawn(move || {
                let mut data = [0; 64];
                while let Ok((length, peer)) = server.recv_from(&mut data) {
                    server.send_to(&data[..length], peer).unwrap();
                }
            });
            let mut times: Vec<_> = (0..60)
                .map(|_| {
                    let start = Instant::now();
                    client.send_to(b"ping", to).unwrap();
                    client.recv(&mut [0; 64]).unwrap();
                    start.elapsed()
                })
                .collect();
            times.sort();
            println!("{to}: min {:?} median {:?} max {:?}", times[0], times[30], times[59]);
            assert!(times[0] >= Duration::from_millis(40));
            assert!(times[30] < Duration::from_micros(41_500), "median {:?}", times[30]);
        }
    });
}
