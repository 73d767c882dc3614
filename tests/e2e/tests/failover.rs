//! Each way in which a path can be lost, chosen, or come back.

use std::time::Duration;

use mast_e2e::{GAP, PATIENCE, Scene, Session, active, lab, pair, sleep, told, within};
use mast_netlab::NatKind;
use mast_stage::{Addressing, Train, TrainProfile};

/// What is said when nothing comes back.
const SILENCE: [&str; 2] = ["went silent", "peer hears nothing"];

struct Trip {
    session: Session,
    scene: Scene,
}

impl Trip {
    fn new() -> Self {
        Self::of(Scene::new())
    }

    fn of(scene: Scene) -> Self {
        Self { session: Session::start(&scene.laptop, &scene.server), scene }
    }

    /// Something happens to Wi-Fi, data moves to the cellular path, and it is told why.
    fn loses_wifi(&self, what: &str, reasons: &[&str], act: impl FnOnce(&Train)) {
        let mark = self.session.mark();
        act(&self.scene.train);
        self.scene.wait_active("cell");
        let notice = self.session.with_gap(what, mark, GAP);
        let event = told(&self.scene.laptop, "wifi", "cell", reasons);
        if let Some(gap) = event.gap_ms {
            let noticed = notice.gap().as_secs_f64() * 1e3;
            assert!(gap < noticed + 300.0, "{what}: told {gap:.0} ms, noticed {noticed:.0} ms");
        }
    }

    /// Wi-Fi works again, and gets the data back without loss.
    fn wifi_returns(&self, what: &str, act: impl FnOnce(&Train)) {
        let mark = self.session.mark();
        act(&self.scene.train);
        self.scene.wait_active("wifi");
        println!("{what}: took over again after {:.1} s", mark.elapsed().as_secs_f64());
        assert!(mark.elapsed() > Duration::from_secs(1), "{what}: at once, without proving itself");
        self.session.without_loss(what, mark);
    }
}

#[test]
fn a_link_that_goes_down_is_left_at_once() {
    lab(|| {
        let trip = Trip::new();
        trip.loses_wifi("link down", &["link down"], |t| t.set_wifi(false).unwrap());
        trip.wifi_returns("link up", |t| t.set_wifi(true).unwrap());
        trip.session.survives();
    });
}

#[test]
fn a_link_without_carrier_is_left_at_once() {
    lab(|| {
        let trip = Trip::new();
        trip.loses_wifi("carrier lost", &["link down"], |t| t.wifi.set_carrier_a(false).unwrap());
        trip.session.survives();
    });
}

#[test]
fn a_silent_blackhole_is_left() {
    lab(|| {
        let trip = Trip::new();
        trip.loses_wifi("blackhole both ways", &SILENCE, |t| t.blackhole_wifi(true).unwrap());
        trip.wifi_returns("the blackhole is mended", |t| t.blackhole_wifi(false).unwrap());
        trip.session.survives();
    });
}

#[test]
fn a_blackhole_towards_the_server_is_left() {
    lab(|| {
        let trip = Trip::new();
        trip.loses_wifi("blackhole towards the server", &SILENCE, |t| t.wifi.set_drop(true, false));
        trip.session.survives();
    });
}

#[test]
fn a_blackhole_towards_the_laptop_is_left() {
    lab(|| {
        let trip = Trip::new();
        trip.loses_wifi("blackhole towards the laptop", &SILENCE, |t| t.wifi.set_drop(false, true));
        trip.session.survives();
    });
}

#[test]
fn a_renumbered_link_is_left_and_comes_back() {
    lab(|| {
        let trip = Trip::new();
        let mark = trip.session.mark();
        trip.scene.train.renumber_wifi(0, 5).unwrap();
        trip.session.with_gap("renumbered", mark, GAP);
        trip.scene.wait_active("wifi");
        let peer = trip.scene.laptop.peer().unwrap();
        let wifi: Vec<_> =
            peer.paths.iter().filter(|p| p.interface == "wifi").map(|p| p.local.as_str()).collect();
        assert!(wifi.iter().all(|local| local.starts_with("10.1.5.2")), "paths from old addresses: {wifi:?}");
        trip.session.survives();
    });
}

#[test]
fn a_link_without_default_route_is_left_at_once() {
    lab(|| {
        let trip = Trip::new();
        // Of a socket that is bound to it the kernel then thinks that every address is on the link: silence again.
        trip.loses_wifi("default route lost", &["no route", SILENCE[0], SILENCE[1]], |t| {
            t.laptop.del_route("default", Some("10.1.0.1"), "wifi", 100).unwrap();
        });
        trip.wifi_returns("default route back", |t| {
            t.laptop.add_route("default", Some("10.1.0.1"), "wifi", 100).unwrap();
        });
        trip.session.survives();
    });
}

#[test]
fn a_pin_moves_data_there_and_back_without_loss() {
    lab(|| {
        let trip = Trip::new();
        let Trip { scene, session } = &trip;
        for (pin, to) in
            [(&["cell"][..], "cell"), (&["wifi"], "wifi"), (&["cell", "wifi"], "cell"), (&[], "wifi")]
        {
            let mark = session.mark();
            scene.laptop.pin(pin, false).unwrap();
            scene.wait_active(to);
            println!("pin {pin:?}: moved after {:?}", mark.elapsed());
            session.without_loss(&format!("pin {pin:?}"), mark);
        }
        told(&scene.laptop, "cell", "wifi", &["better path", "policy"]);
        let remote = || scene.server.peer().unwrap().paths.into_iter().find(|p| p.active).map(|p| p.remote);
        within(PATIENCE, "the server follows", || remote().is_some_and(|r| r.starts_with("10.1.0.2")));
        trip.session.survives();
    });
}

#[test]
fn a_pin_with_only_lets_nothing_else_carry() {
    lab(|| {
        let trip = Trip::new();
        let Trip { scene, session } = &trip;
        scene.laptop.pin(&["cell"], true).unwrap();
        scene.wait_active("cell");
        session.wait_running();
        let mark = session.mark();
        scene.train.set_cell(false).unwrap();
        within(PATIENCE, "it says that nothing carries", || active(&scene.laptop).is_none());
        let before = scene.train.wifi.stats().a_to_b.bytes;
        sleep(2000);
        let over_wifi = scene.train.wifi.stats().a_to_b.bytes - before;
        println!("--only: {over_wifi} bytes left over Wi-Fi in 2 s");
        // 200 probes of the echo alone would be 40 kB; what may pass is talk between the daemons.
        assert!(over_wifi < 10_000, "{over_wifi} bytes over Wi-Fi, which is not allowed");
        assert_ne!(scene.laptop.peer().unwrap().state.as_str(), "connected");
        assert!(session.since(mark).echo.lost > 0);
        let mark = session.mark();
        scene.train.set_cell(true).unwrap();
        scene.wait_active("cell");
        session.with_gap("--only: the one allowed is back", mark, GAP);
        scene.laptop.pin(&[], false).unwrap();
        scene.wait_active("wifi");
        trip.session.survives();
    });
}

#[test]
fn five_seconds_without_any_path_are_survived() {
    lab(|| {
        let trip = Trip::new();
        let Trip { scene, session } = &trip;
        scene.train.set_wifi(false).unwrap();
        scene.train.set_cell(false).unwrap();
        within(PATIENCE, "the laptop does not claim to be connected", || {
            scene.laptop.peer().unwrap().state.as_str() != "connected"
        });
        within(PATIENCE, "nor does the server", || {
            scene.server.peer().unwrap().state.as_str() != "connected"
        });
        sleep(4500);
        let mark = session.mark();
        scene.train.set_cell(true).unwrap();
        scene.wait_active("cell");
        within(PATIENCE, "TCP goes on", || {
            session.stream.longest_stall(session.mark()) < Duration::from_millis(50)
                && session.since(mark).echo.received > 20
        });
        session.with_gap("all paths away for 5 s, one comes back", mark, GAP);
        trip.session.survives();
    });
}

#[test]
fn a_nat_that_forgets_its_mappings_is_no_obstacle() {
    lab(|| {
        for kind in [NatKind::EndpointIndependent, NatKind::Symmetric] {
            let train = Train::new(&TrainProfile::default()).unwrap_or_else(|e| panic!("{e}"));
            let nat = train.lab.nat(&train.isp_wifi, "down", "up", kind).unwrap_or_else(|e| panic!("{e}"));
            let scene = Scene::apart(train);
            pair(&scene.server, &scene.laptop);
            scene.wait_for_both_paths();
            let trip = Trip::of(scene);
            let Trip { scene, session } = &trip;
            let mark = session.mark();
            nat.rebind().unwrap();
            session.with_gap(&format!("{kind:?} rebinds"), mark, GAP);
            scene.wait_active("wifi");
            // With nowhere else to go.
            scene.train.set_cell(false).unwrap();
            session.wait_running();
            let mark = session.mark();
            nat.rebind().unwrap();
            session.with_gap(&format!("{kind:?} rebinds, no other uplink"), mark, GAP * 2);
            trip.session.survives();
        }
    });
}

#[test]
fn a_server_behind_a_nat_follows_the_laptop() {
    lab(|| {
        let train = Train::new(&TrainProfile::default()).unwrap_or_else(|e| panic!("{e}"));
        // Without a rendezvous one end must be reachable: here it is the laptop, which invites.
        for outside in ["wifi", "cell"] {
            let kind = NatKind::EndpointIndependent;
            train.lab.nat(&train.core, "server", outside, kind).unwrap_or_else(|e| panic!("{e}"));
        }
        let scene = Scene::apart(train);
        pair(&scene.laptop, &scene.server);
        scene.wait_for_both_paths();
        let trip = Trip::of(scene);
        trip.loses_wifi("the reachable end loses its link", &["link down"], |t| t.set_wifi(false).unwrap());
        trip.session.survives();
    });
}

#[test]
fn an_underlay_of_ipv6_alone_carries() {
    lab(|| {
        let scene = Scene::with(Addressing::V6);
        let paths = scene.laptop.peer().unwrap().paths;
        assert!(paths.iter().all(|p| p.remote.starts_with("[2001:db8:9::2]")), "{paths:?}");
        let trip = Trip::of(scene);
        // A link that goes down takes its IPv6 addresses along; either may be seen first.
        let reasons = ["link down", "address gone"];
        trip.loses_wifi("IPv6 alone: link down", &reasons, |t| t.set_wifi(false).unwrap());
        trip.wifi_returns("IPv6 alone: link up", |t| t.set_wifi(true).unwrap());
        trip.session.survives();
    });
}

#[test]
fn either_version_of_ip_may_fail_alone() {
    lab(|| {
        let scene = Scene::with(Addressing::Both);
        let eid = scene.laptop.peer().unwrap().eid;
        // And the session itself is one of IPv6.
        let session = Session::between_v6(scene.laptop.host(), scene.server.host(), &eid);
        let is_v6 = || {
            let paths = scene.laptop.peer().unwrap().paths;
            paths.into_iter().find(|p| p.active).map(|p| p.remote.starts_with('['))
        };
        let over_v6 = is_v6().expect("a path");
        let prefixes = if over_v6 {
            [("2001:db8:9::/64", "2001:db8:1::/64"), ("2001:db8:9::/64", "2001:db8:2::/64")]
        } else {
            [("10.9.0.0/24", "10.1.0.0/16"), ("10.9.0.0/24", "10.2.0.0/16")]
        };
        let mark = session.mark();
        for ((towards, back), isp) in prefixes.into_iter().zip([&scene.train.isp_wifi, &scene.train.isp_cell])
        {
            isp.blackhole(towards).unwrap();
            scene.train.core.blackhole(back).unwrap();
        }
        within(PATIENCE, "the other version carries", || is_v6() == Some(!over_v6));
        session.with_gap("one version of IP fails everywhere", mark, GAP);
        session.survives();
    });
}
