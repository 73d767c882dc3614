//! A path and its links: addresses that move, interfaces that change name or number, and servers with several
//! providers. What is drilled, copied and left is a link with all that goes over it, not one version of IP.

use std::net::SocketAddr;
use std::time::Duration;

use mast_control::{PathState, Verdict};
use mast_e2e::{
    GAP, PATIENCE, Scene, Session, active, each_addressing, ip, lab, mast, mast_program, pair, sends_to,
    sleep, within,
};
use mast_netlab::{Host, Lab, LinkProfile};
use mast_stage::{Addressing, Daemon, Net, Train, TrainProfile};

each_addressing!(
    a_drill_silences_a_link_with_all_its_paths,
    a_server_with_two_providers_answers_from_the_address_that_was_asked,
    two_addresses_swapped_at_once_are_two_that_moved,
    a_renamed_interface_is_the_same_link,
    a_number_that_passes_to_another_interface_brings_nothing_along,
);

/// Whether a daemon has a working path over an interface, of each version of IP that there is.
fn works(daemon: &Daemon, interface: &str, addressing: Addressing) -> bool {
    let paths = daemon.peer().unwrap().paths;
    let good = |v6: bool| {
        paths.iter().any(|p| {
            p.interface == interface && p.state == PathState::Validated && p.remote.starts_with('[') == v6
        })
    };
    (!addressing.v4() || good(false)) && (!addressing.v6() || good(true))
}

/// The interfaces of which a daemon tells paths.
fn interfaces(daemon: &Daemon) -> Vec<String> {
    let mut names: Vec<_> = daemon.peer().unwrap().paths.into_iter().map(|p| p.interface).collect();
    names.sort();
    names.dedup();
    names
}

fn a_drill_silences_a_link_with_all_its_paths(addressing: Addressing) {
    let scene = Scene::with(addressing);
    let report = mast(&scene.laptop, &["drill", "--json"]).good();
    let report: mast_control::DrillReport = serde_json::from_str(&report.out).unwrap();
    println!("{report:#?}");
    assert_eq!(report.verdict, Verdict::Passed, "{report:#?}");
    let mut drilled: Vec<_> = report.steps.iter().map(|s| s.interface.as_str()).collect();
    drilled.sort_unstable();
    assert_eq!(drilled, ["cell", "wifi"], "each link once");
    for step in &report.steps {
        let other = if step.interface == "wifi" { "cell" } else { "wifi" };
        assert_eq!(step.to.as_deref(), Some(other), "{report:#?}");
    }
    scene.wait_for_both_uplinks();
}

/// The default route of the second provider is in a table of its own, and a rule by source leads there.
fn a_server_with_two_providers_answers_from_the_address_that_was_asked(addressing: Addressing) {
    let train = Train::new(&TrainProfile::default().with(addressing)).unwrap_or_else(|e| panic!("{e}"));
    let second = Net(8, 0);
    train.lab.wire(&train.core, "second", &train.server, "eth1").unwrap();
    addressing.add(&train.core, "second", second, 1).unwrap();
    addressing.add(&train.server, "eth1", second, 2).unwrap();
    for (ip, via) in addressing.addresses(second, 2).iter().zip(addressing.addresses(second, 1)) {
        let all = if ip.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        train.server.add_route_in(102, all, Some(&via.to_string()), "eth1").unwrap();
        train.server.add_source_rule(&ip.to_string(), 102).unwrap();
    }
    let scene = Scene::apart(train);
    pair(&scene.server, &scene.laptop);
    scene.wait_for_both_uplinks();
    let Scene { laptop, server, train } = &scene;
    within(PATIENCE, "the laptop has working paths to both providers", || {
        let paths = laptop.peer().unwrap().paths;
        [Train::SITE, second].iter().flat_map(|net| addressing.addresses(*net, 2)).all(|ip| {
            let at = SocketAddr::new(ip, 6278).to_string();
            paths.iter().any(|p| p.remote == at && p.state == PathState::Validated)
        })
    });
    let session = Session::start(laptop, server);
    let mark = session.mark();
    train.server.set_up("eth0", false).unwrap();
    sends_to(laptop, second);
    session.with_gap("the provider of the main table fails", mark, GAP);
    session.survives();
}

fn two_addresses_swapped_at_once_are_two_that_moved(addressing: Addressing) {
    // One router behind both links, so that its routes move with its addresses.
    let lab = Lab::new().unwrap_or_else(|e| panic!("{e}"));
    let (laptop, server, core) =
        (lab.host("laptop").unwrap(), lab.host("server").unwrap(), lab.router("core").unwrap());
    let nets = [("wifi", Net(1, 0), 10, 100), ("cell", Net(2, 0), 15, 200)];
    for (name, net, delay, metric) in nets {
        let profile = LinkProfile::delay(Duration::from_millis(delay));
        lab.link(&laptop, name, &core, name, &profile).unwrap();
        addressing.add(&core, name, net, 1).unwrap();
        addressing.add(&laptop, name, net, 2).unwrap();
        addressing.add_default(&laptop, name, net, 1, metric).unwrap();
    }
    lab.wire(&core, "server", &server, "eth0").unwrap();
    addressing.add(&core, "server", Train::SITE, 1).unwrap();
    addressing.add(&server, "eth0", Train::SITE, 2).unwrap();
    addressing.add_default(&server, "eth0", Train::SITE, 1, 0).unwrap();
    let start = |host| Daemon::start(&mast_program(), host, "").unwrap_or_else(|e| panic!("{e}"));
    let (server, laptop) = (start(&server), start(&laptop));
    pair(&server, &laptop);
    let both = || ["wifi", "cell"].iter().all(|i| works(&laptop, i, addressing));
    within(PATIENCE, "both links work", both);
    let session = Session::start(&laptop, &server);

    let mark = session.mark();
    let [(_, of_wifi, _, fast), (_, of_cell, _, slow)] = nets;
    let swap = |host: &Host, number: u8| {
        let texts = |net| addressing.with_length(net, number);
        let (wifi, cell) = (texts(of_wifi), texts(of_cell));
        let there = wifi.iter().map(|a| ("wifi", "cell", a.as_str()));
        let back = cell.iter().map(|a| ("cell", "wifi", a.as_str()));
        host.move_addresses(&there.chain(back).collect::<Vec<_>>()).unwrap();
    };
    swap(&core, 1);
    if addressing.v6() {
        // Routes of IPv6 do not go with the addresses.
        Addressing::V6.del_default(laptop.host(), "wifi", of_wifi, 1, fast).unwrap();
        Addressing::V6.del_default(laptop.host(), "cell", of_cell, 1, slow).unwrap();
    }
    swap(laptop.host(), 2);
    addressing.add_default(laptop.host(), "wifi", of_cell, 1, fast).unwrap();
    addressing.add_default(laptop.host(), "cell", of_wifi, 1, slow).unwrap();
    session.with_gap("two addresses are swapped", mark, GAP * 2);
    within(PATIENCE, "both links work with the other's address", || {
        let paths = laptop.peer().unwrap().paths;
        both()
            && paths.iter().all(|path| {
                let net = if path.interface == "wifi" { of_cell } else { of_wifi };
                ip(&path.local).is_some_and(|local| addressing.addresses(net, 2).contains(&local))
            })
    });
    session.survives();
}

fn a_renamed_interface_is_the_same_link(addressing: Addressing) {
    let scene = Scene::with(addressing);
    let Scene { laptop, server, train } = &scene;
    let session = Session::start(laptop, server);
    let mark = session.mark();
    train.laptop.rename("wifi", "wlp3s0").unwrap();
    within(PATIENCE, "the new name is told", || interfaces(laptop) == ["cell", "wlp3s0"]);
    session.without_loss("an interface gets another name", mark);
    assert_eq!(active(laptop).as_deref(), Some("wlp3s0"));
    // It can be lost and pinned by its new name.
    laptop.pin(&["wlp3s0"], true).unwrap_or_else(|e| panic!("{e}"));
    session.wait_running();
    laptop.pin(&[], false).unwrap_or_else(|e| panic!("{e}"));
    let mark = session.mark();
    train.laptop.set_up("wlp3s0", false).unwrap();
    within(PATIENCE, "data over cellular", || active(laptop).as_deref() == Some("cell"));
    session.with_gap("and goes down", mark, GAP);
    session.survives();
}

fn a_number_that_passes_to_another_interface_brings_nothing_along(addressing: Addressing) {
    let scene = Scene::with(addressing);
    let Scene { laptop, server, train } = &scene;
    let session = Session::start(laptop, server);
    let mark = session.mark();
    // The adapter is pulled out, and at once another is there with its number, in another network.
    let index = train.laptop.index("wifi").unwrap();
    train.wifi.link.remove().unwrap();
    let profile = LinkProfile::delay(Duration::from_millis(5));
    train.lab.link_at(&train.laptop, ("wlan1", index), &train.core, "wlan1", &profile).unwrap();
    let net = Net(1, 9);
    addressing.add(&train.core, "wlan1", net, 1).unwrap();
    addressing.add(&train.laptop, "wlan1", net, 2).unwrap();
    addressing.add_default(&train.laptop, "wlan1", net, 1, 50).unwrap();
    assert_eq!(train.laptop.index("wlan1").unwrap(), index);
    within(PATIENCE, "the new interface works", || works(laptop, "wlan1", addressing));
    session.with_gap("another interface gets the number of one that is gone", mark, GAP);
    assert_eq!(interfaces(laptop), ["cell", "wlan1"]);
    within(PATIENCE * 2, "data over it", || active(laptop).as_deref() == Some("wlan1"));
    session.survives();
}

#[test]
fn what_one_link_carries_is_copied_to_the_other() {
    lab(|| {
        use mast_control::{PolicyMode, PolicySet};

        // The server has one interface, so that only the laptop's links tell its paths apart.
        let scene = Scene::new();
        for daemon in [&scene.laptop, &scene.server] {
            let policy = PolicySet {
                mode: PolicyMode::Redundant,
                fallback: true,
                metered: true,
                ..Default::default()
            };
            daemon.ask(async |c| c.policy_set(policy.clone()).await).unwrap_or_else(|e| panic!("{e}"));
        }
        let session = Session::start(&scene.laptop, &scene.server);
        let packets = || {
            [&scene.train.wifi, &scene.train.cell].map(|u| {
                let stats = u.link.stats();
                [stats.a_to_b.packets, stats.b_to_a.packets]
            })
        };
        let before = packets();
        sleep(2000);
        let after = packets();
        for (direction, name) in ["up", "down"].into_iter().enumerate() {
            let of = |link: usize| (after[link][direction] - before[link][direction]) as f64;
            let (wifi, cell) = (of(0), of(1));
            println!("{name}: {wifi} packets over Wi-Fi, {cell} over cellular");
            assert!(wifi > 150.0 && cell > wifi * 0.7 && wifi > cell * 0.7, "{name}: {wifi} and {cell}");
        }
        session.survives();
    });
}
