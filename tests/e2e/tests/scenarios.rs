//! The scenarios of section 1.2 of the seed draft (draft-crocker-mast-analysis), by name. In each a TCP download and
//! a 100 Hz echo survive, nothing is delivered wrongly, and both daemons tell what happened as it was.

use std::time::Duration;

use mast_e2e::{
    GAP, PATIENCE, Scene, Session, Twin, active, events, has_moved, lab, pair, sleep, told, within,
};
use mast_stage::{Daemon, Train, TrainProfile};

const NONE_AT_ALL: Duration = Duration::from_secs(2);

fn moves_to(daemon: &Daemon, interface: &str) {
    daemon.wait_active(interface, PATIENCE * 2).unwrap_or_else(|e| panic!("{e}"));
}

/// The address to which a daemon sends data.
fn remote(daemon: &Daemon) -> String {
    let peer = daemon.peer().unwrap();
    peer.paths.into_iter().find(|p| p.active).map(|p| p.remote).unwrap_or_default()
}

fn sends_to(daemon: &Daemon, address: &str) {
    within(PATIENCE, &format!("data to {address}"), || remote(daemon).starts_with(&format!("{address}:")));
}

#[test]
fn end_host_mobility() {
    lab(|| {
        let scene = Scene::new();
        let Scene { laptop, server, train } = &scene;
        // One uplink at a time.
        train.set_cell(false).unwrap();
        let session = Session::start(laptop, server);

        let mark = session.mark();
        laptop.host().del_address("wifi", "10.1.0.2/24").unwrap();
        within(PATIENCE, "the laptop says that it is cut off", || {
            laptop.peer().unwrap().state.as_str() != "connected"
        });
        sleep(2000);
        assert_eq!(active(laptop), None, "without any address nothing can carry data");
        train.isp_wifi.del_address("down", "10.1.0.1/24").unwrap();
        train.isp_wifi.add_address("down", "10.1.5.1/24").unwrap();
        laptop.host().add_address("wifi", "10.1.5.2/24").unwrap();
        laptop.host().add_route("default", Some("10.1.5.1"), "wifi", 100).unwrap();
        let returns = session.mark();
        moves_to(laptop, "wifi");
        session.with_gap("after a time without any address", returns, GAP);
        println!("end_host_mobility: from the last answer to the first: {:?}", session.since(mark).gap());
        sends_to(server, "10.1.5.2");

        // From one network to another that has nothing to do with it, with nothing in between.
        train.set_wifi(false).unwrap();
        sleep(1000);
        let returns = session.mark();
        train.set_cell(true).unwrap();
        moves_to(laptop, "cell");
        session.with_gap("from Wi-Fi to cellular with a second of nothing", returns, GAP);
        sends_to(server, "10.2.0.2");
        session.survives();
        let moves = events(laptop);
        assert!(has_moved(laptop, Some("wifi"), None), "the outage was not told: {moves:#?}");
        assert!(has_moved(laptop, None, Some("cell")), "the end of the outage was not told: {moves:#?}");
    });
}

#[test]
fn end_host_multihoming() {
    lab(|| {
        let scene = Scene::new();
        let Scene { laptop, server, train } = &scene;
        let session = Session::start(laptop, server);

        let mark = session.mark();
        train.blackhole_wifi(true).unwrap();
        moves_to(laptop, "cell");
        let notice = session.with_gap("one uplink dies", mark, GAP);
        let event = told(laptop, "wifi", "cell", &["went silent", "peer hears nothing"]);
        let gap = Duration::from_secs_f64(event.gap_ms.expect("a silence was measured") / 1e3);
        assert!(gap < notice.gap() + Duration::from_millis(300), "told {gap:?}, noticed {:?}", notice.gap());
        sends_to(server, "10.2.0.2");

        train.blackhole_wifi(false).unwrap();
        let mark = session.mark();
        moves_to(laptop, "wifi");
        session.without_loss("it comes back", mark);
        told(laptop, "cell", "wifi", &["better path"]);
        sends_to(server, "10.1.0.2");
        session.survives();
    });
}

#[test]
fn combined_mobility_and_multihoming() {
    lab(|| {
        let scene = Scene::new();
        let Scene { laptop, server, train } = &scene;
        let session = Session::start(laptop, server);

        // Out of the reach of one Wi-Fi, into that of another, with cellular in between.
        let mark = session.mark();
        train.set_wifi(false).unwrap();
        moves_to(laptop, "cell");
        session.with_gap("Wi-Fi is gone", mark, GAP);
        told(laptop, "wifi", "cell", &["link down"]);
        train.isp_wifi.del_address("down", "10.1.0.1/24").unwrap();
        train.isp_wifi.add_address("down", "10.1.7.1/24").unwrap();
        laptop.host().del_address("wifi", "10.1.0.2/24").unwrap();
        laptop.host().add_address("wifi", "10.1.7.2/24").unwrap();
        laptop.host().set_up("wifi", true).unwrap();
        laptop.host().add_route("default", Some("10.1.7.1"), "wifi", 100).unwrap();
        let mark = session.mark();
        moves_to(laptop, "wifi");
        session.without_loss("another Wi-Fi", mark);
        sends_to(server, "10.1.7.2");

        // The standby changes its network unnoticed, and then has to carry.
        let mark = session.mark();
        laptop.host().del_address("cell", "10.2.0.2/24").unwrap();
        train.isp_cell.del_address("down", "10.2.0.1/24").unwrap();
        train.isp_cell.add_address("down", "10.2.3.1/24").unwrap();
        laptop.host().add_address("cell", "10.2.3.2/24").unwrap();
        laptop.host().add_route("default", Some("10.2.3.1"), "cell", 200).unwrap();
        session.without_loss("the standby changes its network", mark);
        let mark = session.mark();
        train.wifi.set_carrier_a(false).unwrap();
        moves_to(laptop, "cell");
        session.with_gap("and has to carry", mark, GAP);
        sends_to(server, "10.2.3.2");
        session.survives();
    });
}

#[test]
fn network_renumbering() {
    lab(|| {
        let scene = Scene::new();
        let Scene { laptop, server, train } = &scene;
        let session = Session::start(laptop, server);

        // With care: the server has both addresses for a while.
        let mark = session.mark();
        train.core.add_address("server", "10.9.7.1/24").unwrap();
        server.host().add_address("eth0", "10.9.7.2/24").unwrap();
        sleep(2000);
        server.host().del_address("eth0", "10.9.0.2/24").unwrap();
        server.host().del_route("default", Some("10.9.0.1"), "eth0", 0).unwrap();
        server.host().add_route("default", Some("10.9.7.1"), "eth0", 0).unwrap();
        sends_to(laptop, "10.9.7.2");
        session.with_gap("the server's network is renumbered with care", mark, GAP);

        // Without: from one moment to the next.
        let mark = session.mark();
        server.host().del_address("eth0", "10.9.7.2/24").unwrap();
        server.host().add_address("eth0", "10.9.8.2/24").unwrap();
        train.core.add_address("server", "10.9.8.1/24").unwrap();
        server.host().add_route("default", Some("10.9.8.1"), "eth0", 0).unwrap();
        sends_to(laptop, "10.9.8.2");
        session.with_gap("the server's network is renumbered at once", mark, NONE_AT_ALL);

        // The laptop's.
        let mark = session.mark();
        train.renumber_wifi(0, 5).unwrap();
        session.with_gap("the laptop's network is renumbered", mark, GAP);
        moves_to(laptop, "wifi");
        sends_to(server, "10.1.5.2");
        session.survives();
    });
}

#[test]
fn site_multihoming() {
    lab(|| {
        // The server's site has two providers, and an interface to each.
        let twin = Twin::new();
        let Twin { laptop, server, left, .. } = &twin;
        let session = Session::start(laptop, server);
        sends_to(laptop, "10.8.0.2");

        let mark = session.mark();
        left.fail(true);
        sends_to(laptop, "10.9.0.2");
        moves_to(server, "eth-right");
        session.with_gap("one provider of the server fails", mark, GAP);
        told(server, "eth-left", "eth-right", &["went silent", "peer hears nothing"]);

        let mark = session.mark();
        left.fail(false);
        sends_to(laptop, "10.8.0.2");
        moves_to(server, "eth-left");
        session.without_loss("and comes back", mark);
        session.survives();
    });
}

#[test]
#[ignore = "datagrams leave from the interface's first address, not from the one that was asked"]
fn site_multihoming_with_one_link() {
    lab(|| {
        // The server's site has two providers, and the server an address of each on its only interface.
        let train = Train::new(&TrainProfile::default()).unwrap_or_else(|e| panic!("{e}"));
        train.core.add_address("server", "10.9.5.1/24").unwrap();
        train.server.add_address("eth0", "10.9.5.2/24").unwrap();
        let scene = Scene::apart(train);
        pair(&scene.server, &scene.laptop);
        scene.wait_for_both_paths();
        let Scene { laptop, server, train } = &scene;
        let session = Session::start(laptop, server);
        let first = remote(laptop);
        let (lost, other) = match first.starts_with("10.9.0.2:") {
            true => ("10.9.0.0/24", "10.9.5.2"),
            false => ("10.9.5.0/24", "10.9.0.2"),
        };
        let mark = session.mark();
        train.core.blackhole(lost).unwrap();
        sends_to(laptop, other);
        session.with_gap("one provider of a server with one link fails", mark, GAP);
        session.survives();
    });
}

#[test]
fn combined_all() {
    lab(|| {
        let twin = Twin::new();
        let Twin { laptop, server, wifi, cell, left, right, .. } = &twin;
        let session = Session::start(laptop, server);

        let mark = session.mark();
        wifi.set_up(false);
        moves_to(laptop, "cell");
        session.with_gap("the laptop loses Wi-Fi", mark, GAP);
        told(laptop, "wifi", "cell", &["link down"]);

        let mark = session.mark();
        left.fail(true);
        moves_to(server, "eth-right");
        session.with_gap("the server loses a provider", mark, GAP);

        let mark = session.mark();
        wifi.return_elsewhere(4);
        moves_to(laptop, "wifi");
        session.without_loss("the laptop is in another Wi-Fi", mark);

        let mark = session.mark();
        right.vanish();
        right.appear(6);
        sends_to(laptop, "10.9.6.2");
        session.with_gap("the server's last network is renumbered", mark, NONE_AT_ALL);

        let mark = session.mark();
        cell.set_up(false);
        left.fail(false);
        moves_to(server, "eth-left");
        session.without_loss("the provider is back, a standby is gone", mark);
        sends_to(laptop, "10.8.0.2");
        session.survives();
    });
}
