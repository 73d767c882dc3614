//! The scenarios of section 1.2 of the seed draft (draft-crocker-mast-analysis), by name. In each a TCP download and
//! a 100 Hz echo survive, nothing is delivered wrongly, and both daemons tell what happened as it was.

use std::time::Duration;

use mast_e2e::{
    GAP, PATIENCE, Scene, Session, Twin, active, each_addressing, events, has_moved, pair, remote, sends_to,
    sleep, told, within,
};
use mast_stage::{Addressing, Daemon, Net, Train, TrainProfile};

const NONE_AT_ALL: Duration = Duration::from_secs(2);

fn moves_to(daemon: &Daemon, interface: &str) {
    daemon.wait_active(interface, PATIENCE * 2).unwrap_or_else(|e| panic!("{e}"));
}

each_addressing!(
    end_host_mobility,
    end_host_multihoming,
    combined_mobility_and_multihoming,
    network_renumbering,
    site_multihoming,
    site_multihoming_with_one_link,
    combined_all,
);

/// A link that goes down takes its IPv6 addresses along; either may be seen first.
const DOWN: [&str; 2] = ["link down", "address gone"];

fn end_host_mobility(addressing: Addressing) {
    let scene = Scene::with(addressing);
    let Scene { laptop, server, train } = &scene;
    // One uplink at a time.
    train.set_cell(false).unwrap();
    let session = Session::start(laptop, server);

    let mark = session.mark();
    train.wifi.vanish().unwrap();
    within(PATIENCE, "the laptop says that it is cut off", || {
        laptop.peer().unwrap().state.as_str() != "connected"
    });
    sleep(2000);
    assert_eq!(active(laptop), None, "without any address nothing can carry data");
    train.wifi.appear(5).unwrap();
    let returns = session.mark();
    moves_to(laptop, "wifi");
    session.with_gap("after a time without any address", returns, GAP);
    println!("end_host_mobility: from the last answer to the first: {:?}", session.since(mark).gap());
    sends_to(server, Net(1, 5));

    // From one network to another that has nothing to do with it, with nothing in between.
    train.set_wifi(false).unwrap();
    sleep(1000);
    let returns = session.mark();
    train.set_cell(true).unwrap();
    moves_to(laptop, "cell");
    session.with_gap("from Wi-Fi to cellular with a second of nothing", returns, GAP);
    sends_to(server, Net(2, 0));
    session.survives();
    let moves = events(laptop);
    assert!(has_moved(laptop, Some("wifi"), None), "the outage was not told: {moves:#?}");
    assert!(has_moved(laptop, None, Some("cell")), "the end of the outage was not told: {moves:#?}");
}

fn end_host_multihoming(addressing: Addressing) {
    let scene = Scene::with(addressing);
    let Scene { laptop, server, train } = &scene;
    let session = Session::start(laptop, server);

    let mark = session.mark();
    train.blackhole_wifi(true).unwrap();
    moves_to(laptop, "cell");
    let notice = session.with_gap("one uplink dies", mark, GAP);
    let event = told(laptop, "wifi", "cell", &["went silent", "peer hears nothing"]);
    let gap = Duration::from_secs_f64(event.gap_ms.expect("a silence was measured") / 1e3);
    assert!(gap < notice.gap() + Duration::from_millis(300), "told {gap:?}, noticed {:?}", notice.gap());
    sends_to(server, Net(2, 0));

    train.blackhole_wifi(false).unwrap();
    let mark = session.mark();
    moves_to(laptop, "wifi");
    session.without_loss("it comes back", mark);
    // Either end may be the first to find it better.
    told(laptop, "cell", "wifi", &["better path", "peer's wish"]);
    sends_to(server, Net(1, 0));
    session.survives();
}

fn combined_mobility_and_multihoming(addressing: Addressing) {
    let scene = Scene::with(addressing);
    let Scene { laptop, server, train } = &scene;
    let session = Session::start(laptop, server);

    // Out of the reach of one Wi-Fi, into that of another, with cellular in between.
    let mark = session.mark();
    train.set_wifi(false).unwrap();
    moves_to(laptop, "cell");
    session.with_gap("Wi-Fi is gone", mark, GAP);
    told(laptop, "wifi", "cell", &DOWN);
    let mark = session.mark();
    train.wifi.return_elsewhere(7).unwrap();
    moves_to(laptop, "wifi");
    session.without_loss("another Wi-Fi", mark);
    sends_to(server, Net(1, 7));

    // The standby changes its network unnoticed, and then has to carry.
    let mark = session.mark();
    train.cell.renumber(3).unwrap();
    session.without_loss("the standby changes its network", mark);
    let mark = session.mark();
    train.wifi.link.set_carrier_a(false).unwrap();
    moves_to(laptop, "cell");
    session.with_gap("and has to carry", mark, GAP);
    sends_to(server, Net(2, 3));
    session.survives();
}

fn network_renumbering(addressing: Addressing) {
    let scene = Scene::with(addressing);
    let Scene { laptop, server, train } = &scene;
    let session = Session::start(laptop, server);

    // With care: the server has both addresses for a while.
    let mark = session.mark();
    let (old, new) = (Train::SITE, Net(9, 7));
    addressing.add(&train.core, "server", new, 1).unwrap();
    addressing.add(server.host(), "eth0", new, 2).unwrap();
    sleep(2000);
    addressing.remove(server.host(), "eth0", old, 2).unwrap();
    addressing.del_default(server.host(), "eth0", old, 1, 0).unwrap();
    addressing.add_default(server.host(), "eth0", new, 1, 0).unwrap();
    sends_to(laptop, new);
    session.with_gap("the server's network is renumbered with care", mark, GAP);

    // Without: from one moment to the next. Routes of IPv4 go with the last address.
    let mark = session.mark();
    let (old, new) = (new, Net(9, 8));
    if addressing.v6() {
        Addressing::V6.del_default(server.host(), "eth0", old, 1, 0).unwrap();
    }
    addressing.remove(server.host(), "eth0", old, 2).unwrap();
    addressing.add(server.host(), "eth0", new, 2).unwrap();
    addressing.add(&train.core, "server", new, 1).unwrap();
    addressing.add_default(server.host(), "eth0", new, 1, 0).unwrap();
    sends_to(laptop, new);
    session.with_gap("the server's network is renumbered at once", mark, NONE_AT_ALL);

    // The laptop's.
    let mark = session.mark();
    train.renumber_wifi(5).unwrap();
    session.with_gap("the laptop's network is renumbered", mark, GAP);
    moves_to(laptop, "wifi");
    sends_to(server, Net(1, 5));
    session.survives();
}

fn site_multihoming(addressing: Addressing) {
    // The server's site has two providers, and an interface to each.
    let twin = Twin::new(addressing);
    let Twin { laptop, server, left, .. } = &twin;
    let session = Session::start(laptop, server);
    sends_to(laptop, Net(8, 0));

    let mark = session.mark();
    left.link.set_drop(true, true);
    sends_to(laptop, Net(9, 0));
    moves_to(server, "eth-right");
    session.with_gap("one provider of the server fails", mark, GAP);
    told(server, "eth-left", "eth-right", &["went silent", "peer hears nothing"]);

    let mark = session.mark();
    left.link.set_drop(false, false);
    sends_to(laptop, Net(8, 0));
    moves_to(server, "eth-left");
    session.without_loss("and comes back", mark);
    session.survives();
}

fn site_multihoming_with_one_link(addressing: Addressing) {
    // The server's site has two providers, and the server an address of each on its only interface.
    let train = Train::new(&TrainProfile::default().with(addressing)).unwrap_or_else(|e| panic!("{e}"));
    let second = Net(9, 5);
    addressing.add(&train.core, "server", second, 1).unwrap();
    addressing.add(&train.server, "eth0", second, 2).unwrap();
    let scene = Scene::apart(train);
    pair(&scene.server, &scene.laptop);
    scene.wait_for_both_uplinks();
    let Scene { laptop, server, train } = &scene;
    let session = Session::start(laptop, server);
    let first = remote(laptop).expect("it sends data");
    let (lost, other) = match addressing.addresses(second, 2).contains(&first) {
        true => (second, Train::SITE),
        false => (Train::SITE, second),
    };
    // One provider: what goes to its addresses, whatever comes from them.
    let mark = session.mark();
    addressing.silence_host(&train.core, lost, 2, true).unwrap();
    sends_to(laptop, other);
    session.with_gap("one provider of a server with one link fails", mark, GAP);
    session.survives();
}

fn combined_all(addressing: Addressing) {
    let twin = Twin::new(addressing);
    let Twin { laptop, server, wifi, cell, left, right, .. } = &twin;
    let session = Session::start(laptop, server);

    let mark = session.mark();
    wifi.set_up(false).unwrap();
    moves_to(laptop, "cell");
    session.with_gap("the laptop loses Wi-Fi", mark, GAP);
    told(laptop, "wifi", "cell", &DOWN);

    let mark = session.mark();
    left.link.set_drop(true, true);
    moves_to(server, "eth-right");
    session.with_gap("the server loses a provider", mark, GAP);

    let mark = session.mark();
    wifi.return_elsewhere(4).unwrap();
    moves_to(laptop, "wifi");
    session.without_loss("the laptop is in another Wi-Fi", mark);

    let mark = session.mark();
    right.renumber(6).unwrap();
    sends_to(laptop, Net(9, 6));
    session.with_gap("the server's last network is renumbered", mark, NONE_AT_ALL);

    let mark = session.mark();
    cell.set_up(false).unwrap();
    left.link.set_drop(false, false);
    moves_to(server, "eth-left");
    session.without_loss("the provider is back, a standby is gone", mark);
    sends_to(laptop, Net(8, 0));
    session.survives();
}
