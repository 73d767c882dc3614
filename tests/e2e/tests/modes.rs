//! Two paths at once.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mast_control::{PolicyMode, PolicySet};
use mast_e2e::{GAP, PATIENCE, Scene, Session, each_addressing, sleep};
use mast_netlab::LinkProfile;
use mast_netlab::traffic::{FileServer, download};
use mast_stage::{Addressing, Daemon, TrainProfile};

each_addressing!(
    in_redundant_mode_nobody_notices_a_path_that_dies,
    in_bonded_mode_both_paths_carry_one_stream
);

/// The cellular path counts as metered.
fn set(daemon: &Daemon, mode: PolicyMode, metered: bool) {
    let policy = PolicySet { peer: None, mode, pin: vec![], fallback: true, small: false, metered };
    daemon.ask(async |c| c.policy_set(policy.clone()).await).unwrap_or_else(|e| panic!("{e}"));
}

fn both(scene: &Scene, mode: PolicyMode, metered: bool) {
    set(&scene.laptop, mode, metered);
    set(&scene.server, mode, metered);
}

/// Bytes that have gone out over each path, by interface.
fn sent(daemon: &Daemon) -> [u64; 2] {
    let paths = daemon.peer().unwrap().paths;
    ["wifi", "cell"].map(|i| paths.iter().filter(|p| p.interface == i).map(|p| p.tx_bytes).sum())
}

fn in_redundant_mode_nobody_notices_a_path_that_dies(addressing: Addressing) {
    let scene = Scene::with(addressing);
    both(&scene, PolicyMode::Redundant, false);
    assert_eq!(scene.laptop.peer().unwrap().policy.mode, PolicyMode::Redundant);
    let session = Session::start(&scene.laptop, &scene.server);
    let before = sent(&scene.laptop);
    sleep(1_000);
    let after = sent(&scene.laptop);
    assert!(after[1] < before[1] + 2_000, "a metered path without leave: {before:?} {after:?}");
    both(&scene, PolicyMode::Redundant, true);
    let before = sent(&scene.laptop);
    sleep(1_000);
    let after = sent(&scene.laptop);
    assert!(after[0] > before[0] + 5_000 && after[1] > before[1] + 5_000, "{before:?} {after:?}");
    let mark = session.mark();
    scene.train.blackhole_wifi(true).unwrap();
    let notice = session.without_loss("a silent path of two", mark);
    // The other path is 20 ms longer.
    assert!(notice.gap() < Duration::from_millis(100), "{notice}");
    scene.train.blackhole_wifi(false).unwrap();
    session.survives();
}

fn in_bonded_mode_both_paths_carry_one_stream(addressing: Addressing) {
    let (wifi, cell) = (40_000_000, 25_000_000);
    let link = |delay, rate: u32| {
        let rate = u64::from(rate);
        LinkProfile::delay(Duration::from_millis(delay)).with_rate(rate, (rate / 80) as usize)
    };
    let scene =
        Scene::of(&TrainProfile { wifi: link(10, wifi), cell: link(30, cell), addressing, nat: false });
    both(&scene, PolicyMode::Bonded, true);
    let remote = scene.laptop.peer().unwrap().eid.remote_v4.unwrap().parse::<IpAddr>().unwrap();
    let files = FileServer::start(scene.server.host(), SocketAddr::new(remote, 0)).unwrap();
    let fetch = || {
        let report = download(scene.laptop.host(), files.address(), 24 << 20, 3, PATIENCE * 4);
        report.unwrap_or_else(|e| panic!("{e}\n{}", scene.laptop.log())).rate_bps() / 1e6
    };
    let received = || {
        let paths = scene.laptop.peer().unwrap().paths;
        ["wifi", "cell"].map(|i| paths.iter().filter(|p| p.interface == i).map(|p| p.rx_bytes).sum::<u64>())
    };
    let before = received();
    // The best of a few: other programs may want the processors, too.
    let mut rate: f64 = 0.0;
    for _ in 0..3 {
        rate = rate.max(fetch());
        if rate * 1e6 > f64::from(wifi) * 1.1 {
            break;
        }
    }
    let after = received();
    println!("{rate:.0} Mbit/s, {before:?} to {after:?}");
    for at in 0..2 {
        assert!(after[at] > before[at] + (2 << 20), "path {at} has its part: {before:?} to {after:?}");
    }
    assert!(rate * 1e6 > f64::from(wifi) * 1.1, "{rate:.0} Mbit/s is no more than one path alone has");
    // A path that dies midway takes only its part away.
    let session = Session::start(&scene.laptop, &scene.server);
    let mark = session.mark();
    scene.train.blackhole_wifi(true).unwrap();
    fetch();
    session.with_gap("a silent path of two", mark, GAP);
    session.survives();
}
