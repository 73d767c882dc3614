//! The traffic tools measure what happens to the network.

#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

use std::{
    net::SocketAddr,
    thread::sleep,
    time::{Duration, Instant},
};

use mast_netlab::{
    Error, Host, Lab, Link, LinkProfile, isolated_test,
    traffic::{Download, EchoClient, EchoServer, FileServer, Mark, download},
    when_calm,
};

const MS: Duration = Duration::from_millis(1);

fn pair(profile: &LinkProfile) -> (Lab, Host, Host, Link) {
    let lab = Lab::new().unwrap();
    let a = lab.host("a").unwrap();
    let b = lab.host("b").unwrap();
    let link = lab.link(&a, "eth0", &b, "eth0", profile).unwrap();
    a.add_address("eth0", "10.0.0.1/24").unwrap();
    b.add_address("eth0", "10.0.0.2/24").unwrap();
    (lab, a, b, link)
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], port))
}

#[test]
fn echo_sees_an_outage() {
    isolated_test("echo_sees_an_outage", || {
        let (_lab, a, b, link) = pair(&LinkProfile::delay(10 * MS));
        let server = EchoServer::start(&b, address(7)).unwrap();
        let client = EchoClient::start(&a, server.address(), EchoClient::INTERVAL).unwrap();
        let start = client.mark();
        sleep(500 * MS);
        when_calm("an undisturbed echo", || {
            let calm = client.mark();
            sleep(1000 * MS);
            let report = client.report(calm);
            println!("calm: {report:?}");
            assert!(report.rtt_median.unwrap() >= 20 * MS, "{report:?}");
            let fine = report.lost == 0
                && (95..=101).contains(&report.sent)
                && report.longest_gap < 60 * MS
                && report.rtt_median.unwrap() < 23 * MS;
            fine.then_some(()).ok_or(format!("{report:?}"))
        });

        when_calm("an outage", || {
            let outage = client.mark();
            link.set_drop(false, true);
            sleep(300 * MS);
            link.set_drop(false, false);
            sleep(500 * MS);
            let report = client.report(outage);
            println!("outage: {report:?}");
            assert!(report.longest_gap >= 300 * MS, "{report:?}");
            // The last two or three are on their way.
            let missing = report.sent - report.received;
            let fine = report.longest_gap < 400 * MS && (28..=35).contains(&missing);
            fine.then_some(()).ok_or(format!("{report:?}"))
        });
        let report = client.finish(start);
        assert_eq!(report.sent, report.received + report.lost);
    });
}

#[test]
fn echo_survives_the_loss_of_its_interface() {
    isolated_test("echo_survives_the_loss_of_its_interface", || {
        let (_lab, a, b, _link) = pair(&LinkProfile::default());
        let server = EchoServer::start(&b, address(7)).unwrap();
        let client = EchoClient::start(&a, server.address(), EchoClient::INTERVAL).unwrap();
        sleep(200 * MS);
        let mark = client.mark();
        a.set_up("eth0", false).unwrap();
        sleep(200 * MS);
        assert!(client.report(mark).send_errors > 10, "{:?}", client.report(mark));
        a.set_up("eth0", true).unwrap();
        sleep(300 * MS);
        let report = client.finish(mark);
        assert!(report.received > 10, "{report:?}");
        assert_eq!(report.lost + report.received, report.sent, "{report:?}");
    });
}

#[test]
fn a_download_is_checked_and_timed() {
    isolated_test("a_download_is_checked_and_timed", || {
        let (_lab, a, b, link) = pair(&LinkProfile::delay(5 * MS).with_rate(50_000_000, 128 * 1024));
        let server = FileServer::start(&b, address(80)).unwrap();
        let report = download(&a, server.address(), 1_000_003, 5, 10_000 * MS).unwrap();
        let again = download(&a, server.address(), 1_000_003, 5, 10_000 * MS).unwrap();
        let other = download(&a, server.address(), 1_000_003, 6, 10_000 * MS).unwrap();
        assert_eq!(report.bytes, 1_000_003);
        assert_eq!(report.sha256, again.sha256);
        assert_ne!(report.sha256, other.sha256);

        let running = Download::start(&a, server.address(), 8_000_000, 5, 20_000 * MS).unwrap();
        while running.bytes() < 500_000 {
            sleep(MS);
        }
        let mark = running.mark();
        link.set_drop(true, true);
        sleep(400 * MS);
        link.set_drop(false, false);
        while running.bytes() < 4_000_000 {
            sleep(MS);
        }
        let stall = running.longest_stall(mark);
        assert!(stall > 350 * MS && stall < 2000 * MS, "{stall:?}");
        let report = running.finish().unwrap();
        assert!(report.longest_stall >= stall);
        println!("{report:?} {:.1} Mbit/s", report.rate_bps() / 1e6);
    });
}

#[test]
fn a_download_ends_at_its_deadline() {
    isolated_test("a_download_ends_at_its_deadline", || {
        let (_lab, a, b, link) = pair(&LinkProfile::default());
        let server = FileServer::start(&b, address(80)).unwrap();
        let start = Instant::now();
        let running = Download::start(&a, server.address(), u64::MAX, 5, 500 * MS).unwrap();
        sleep(200 * MS);
        link.set_drop(true, true);
        let result = running.finish();
        assert!(matches!(result, Err(Error::Deadline { .. })), "{result:?}");
        assert!(start.elapsed() < 5000 * MS, "{:?}", start.elapsed());
    });
}

#[test]
fn a_mark_is_a_moment() {
    let mark = Mark::now();
    sleep(MS);
    assert!(mark.elapsed() >= MS);
}
