//! Routers with a small link that drop what is too large for it and say nothing: what such networks do to everybody
//! who relies on ICMP. The tunnel finds out by itself.

use std::process::{Command, Stdio};
use std::time::Duration;

use mast_e2e::{PATIENCE, Scene, Session, each_addressing, pair, remote, within};
use mast_netlab::Host;
use mast_stage::{Addressing, Daemon, Train, TrainProfile};

each_addressing!(a_router_with_a_small_link_says_nothing, an_interface_with_a_small_mtu);

/// UDP and IP headers, and what a data frame adds.
const OUTER_V4: u16 = 28 + 36;
const OUTER_V6: u16 = 48 + 36;
/// A size found is no further than this below what fits.
const PRECISION: u16 = 16;
/// TCP's own timer doubles while its segments vanish; it tries again after 0.2, 0.6, 1.4 and 3 s. What fits is known by the
/// second or third time.
const STALL: Duration = Duration::from_secs(3);

/// The interface of a router carries packets of up to so many bytes; larger ones vanish, and nobody is told.
fn narrow(router: &Host, interface: &str, mtu: u32) {
    router.set_mtu(interface, mtu).unwrap();
    let rules = "add table inet silent
        add chain inet silent output { type filter hook output priority 0; policy accept; }
        flush chain inet silent output
        add rule inet silent output icmp type destination-unreachable drop
        add rule inet silent output icmpv6 type packet-too-big drop
        ";
    let mut command = Command::new("nft");
    let path = std::env::var("PATH").unwrap_or_default();
    command.arg("-f").arg("-").env("PATH", path + ":/usr/sbin:/sbin").stdin(Stdio::piped());
    let mut nft = router.spawn(command).unwrap_or_else(|e| panic!("nft is needed (package nftables): {e}"));
    std::io::Write::write_all(&mut nft.child().stdin.take().unwrap(), rules.as_bytes()).unwrap();
    assert!(nft.wait(PATIENCE).unwrap().success(), "nft refuses the rules");
}

/// Both directions of the Wi-Fi's way to the server.
fn narrow_wifi(train: &Train, mtu: u32) {
    narrow(&train.wifi.isp, "up", mtu);
    narrow(&train.core, "wifi", mtu);
}

/// The largest datagram between EIDs that a daemon sends over the path that carries its data.
fn inner_mtu(daemon: &Daemon) -> u16 {
    let peer = daemon.peer().unwrap();
    peer.paths.into_iter().find(|p| p.active).map_or(0, |p| p.mtu)
}

/// Waits until the server, which sends the download, has found what fits into packets of so many bytes.
fn finds(server: &Daemon, outer: u16) {
    within(PATIENCE, &format!("it is found what fits into {outer} bytes"), || {
        let headers = if remote(server).is_some_and(|ip| ip.is_ipv6()) { OUTER_V6 } else { OUTER_V4 };
        (outer - headers - PRECISION..=outer - headers).contains(&inner_mtu(server))
    });
}

fn a_router_with_a_small_link_says_nothing(addressing: Addressing) {
    let profile = TrainProfile::default().with(addressing);
    let train = Train::new(&profile).unwrap_or_else(|e| panic!("{e}"));
    narrow_wifi(&train, 1420);
    let scene = Scene::apart(train);
    pair(&scene.server, &scene.laptop);
    scene.wait_for_both_uplinks();
    let Scene { laptop, server, train } = &scene;
    let session = Session::start(laptop, server);
    finds(server, 1420);

    // It becomes smaller while the download runs.
    let mark = session.mark();
    narrow_wifi(train, 1320);
    finds(server, 1320);
    session.wait_running();
    let notice = session.since(mark);
    println!("the link shrinks: {notice}");
    assert!(notice.stall < STALL, "TCP stood still for {:?}", notice.stall);
    assert_eq!(mast_e2e::active(laptop).as_deref(), Some("wifi"), "a small path is a path");

    // And a connection that begins now knows from the first segment on.
    let second = Session::start(laptop, server);
    second.survives();
    session.survives();
}

/// The interface of the laptop itself is small: the system says so at once.
fn an_interface_with_a_small_mtu(addressing: Addressing) {
    let scene = Scene::with(addressing);
    let Scene { laptop, server, train } = &scene;
    let session = Session::start(laptop, server);
    let mark = session.mark();
    train.laptop.set_mtu("wifi", 1380).unwrap();
    train.wifi.isp.set_mtu("down", 1380).unwrap();
    finds(server, 1380);
    session.wait_running();
    let notice = session.since(mark);
    println!("the laptop's interface shrinks: {notice}");
    assert!(notice.stall < STALL, "TCP stood still for {:?}", notice.stall);
    session.survives();
}
