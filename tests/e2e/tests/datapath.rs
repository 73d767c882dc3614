//! Large transfers through real daemons: whatever the two kernels can or cannot do at once, every byte arrives.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use mast_control::Eids;
use mast_e2e::{PATIENCE, lab, mast, mast_program, pair};
use mast_netlab::traffic::{FileServer, download};
use mast_netlab::{Host, Lab};
use mast_stage::Daemon;
use nix::sys::socket::{setsockopt, sockopt};

const BYTES: u64 = 24 << 20;

/// Two hosts side by side, each with a daemon that is allowed so much of what its kernel can do.
struct Two {
    laptop: Daemon,
    server: Daemon,
    eid: Eids,
    _lab: Lab,
}

impl Two {
    fn new(offloads: [&str; 2], card: bool) -> Self {
        let lab = Lab::new().unwrap_or_else(|e| panic!("{e}"));
        let hosts = ["laptop", "server"].map(|name| lab.host(name).unwrap());
        lab.wire(&hosts[0], "eth0", &hosts[1], "eth0").unwrap();
        for (host, number) in hosts.iter().zip([1, 2]) {
            host.add_address("eth0", &format!("10.7.0.{number}/24")).unwrap();
            host.set_offloads("eth0", card).unwrap();
        }
        let start = |host: &Host, offloads: &str| {
            let program = mast_program().with("MAST_OFFLOADS", offloads);
            Daemon::start(&program, host, "").unwrap_or_else(|e| panic!("{e}"))
        };
        let (laptop, server) = (start(&hosts[0], offloads[0]), start(&hosts[1], offloads[1]));
        pair(&server, &laptop);
        let eid = laptop.peer().unwrap().eid;
        Self { laptop, server, eid, _lab: lab }
    }

    /// Everything of a file arrives as it was, in each direction and IP version.
    fn transfer(&self, what: &str) {
        let Eids { local_v4, local_v6, remote_v4, remote_v6 } = &self.eid;
        for (from, to, address) in [
            (&self.server, &self.laptop, remote_v4),
            (&self.laptop, &self.server, local_v6),
            (&self.server, &self.laptop, remote_v6),
            (&self.laptop, &self.server, local_v4),
        ] {
            let address = SocketAddr::new(address.as_ref().unwrap().parse::<IpAddr>().unwrap(), 0);
            let files = FileServer::start(from.host(), address).unwrap();
            let report = download(to.host(), files.address(), BYTES, 7, PATIENCE * 3);
            let report = report.unwrap_or_else(|e| panic!("{what}, {address}: {e}\n{}", to.log()));
            println!("{what}, from {address}: {:.0} Mbit/s", report.rate_bps() / 1e6);
        }
    }
}

#[test]
fn all_bytes_arrive_whatever_the_kernels_can_do() {
    lab(|| {
        for offloads in [["all", "all"], ["all", "none"], ["none", "all"], ["tcp", "checksum"]] {
            Two::new(offloads, true).transfer(&format!("{offloads:?}"));
        }
        Two::new(["all", "all"], false).transfer("a card without offloads");
    });
}

/// Everything that leaves with one call and is of one length is lost, as some kernels mangle it: that is found out, and
/// remembered.
#[test]
fn datagrams_go_one_by_one_where_batches_are_lost() {
    lab(|| {
        let two = Two::new(["mangled", "mangled"], true);
        let known = |daemon: &Daemon| {
            let doctor = mast(daemon, &["doctor"]);
            doctor.out.contains("one by one") && doctor.out.contains("eth0")
        };
        // Either end needs a stream of its own that lasts long enough to be sure.
        let found = (0..10).any(|_| {
            two.transfer("batches are lost");
            known(&two.laptop) && known(&two.server)
        });
        assert!(found, "{}\n{}", two.laptop.log(), two.server.log());
        // Whoever knows it says so, and nothing is lost at first.
        let config = two.laptop.directory().join("mastd.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, format!("udp_segmentation = false\n{text}")).unwrap();
        let mut two = two;
        two.laptop.stop().unwrap();
        two.laptop.launch().unwrap_or_else(|e| panic!("{e}"));
        two.laptop
            .wait("a connection", PATIENCE, |s| s.peers[0].state.as_str() == "connected")
            .unwrap_or_else(|e| panic!("{e}"));
        two.transfer("switched off");
        let doctor = mast(&two.laptop, &["doctor"]);
        assert!(!doctor.out.contains("mangles"), "{doctor}");
    });
}

/// A program that hands over many datagrams at once, as QUIC does: each arrives by itself, and in order.
#[test]
fn datagrams_that_a_program_sends_at_once_arrive_one_by_one() {
    lab(|| {
        for offloads in [["all", "all"], ["all", "none"], ["none", "all"]] {
            let two = Two::new(offloads, true);
            let ip: IpAddr = two.eid.remote_v4.as_ref().unwrap().parse().unwrap();
            let socket = |host: &Host, at: SocketAddr| host.run(|| UdpSocket::bind(at)).unwrap().unwrap();
            let receiver = socket(two.server.host(), SocketAddr::new(ip, 0));
            receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let sender = socket(two.laptop.host(), SocketAddr::from(([0, 0, 0, 0], 0)));
            setsockopt(&sender, sockopt::UdpGsoSegment, &1_000).unwrap();
            for round in 0..20_u8 {
                let payload: Vec<u8> = (0..20_500_u32).map(|n| (n / 1_000) as u8 ^ round).collect();
                sender.send_to(&payload, receiver.local_addr().unwrap()).unwrap();
                let mut buffer = [0; 2_000];
                for part in payload.chunks(1_000) {
                    let length = receiver.recv(&mut buffer).unwrap_or_else(|e| panic!("{offloads:?}: {e}"));
                    assert_eq!(&buffer[..length], part, "{offloads:?}, round {round}");
                }
            }
        }
    });
}
