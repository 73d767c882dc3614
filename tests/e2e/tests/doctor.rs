//! What `mast doctor` finds that no status shows. Needs `nft`.

use std::process::{Command, Stdio};

use mast_e2e::{Answer, PATIENCE, Scene, Session, lab, mast, within};
use mast_netlab::Host;
use mast_stage::{Daemon, Train, TrainProfile};

/// Runs a program on a host.
fn run(host: &Host, program: &str, words: &[&str]) {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    let mut process = host.spawn(command).unwrap_or_else(|e| panic!("{program}: {e}"));
    let status = process.wait(PATIENCE).unwrap();
    assert!(status.success(), "{program} {words:?}: {status}");
}

/// The line of a check, and its remedy.
fn check(daemon: &Daemon, word: &str) -> Option<String> {
    let Answer { out, .. } = mast(daemon, &["doctor"]);
    let mut lines = out.lines().skip_while(|line| !line.contains(word));
    Some(lines.by_ref().take(4).collect::<Vec<_>>().join(" ")).filter(|text| !text.is_empty())
}

#[test]
fn a_firewall_that_drops_answers_is_found_in_both_versions_of_ip() {
    lab(|| {
        let scene = Scene::new();
        let (laptop, host) = (&scene.laptop, scene.laptop.host());
        let session = Session::start(laptop, &scene.server);
        let mark = session.mark();
        let well =
            check(laptop, "reaches this machine").unwrap_or_else(|| panic!("{}", mast(laptop, &["doctor"])));
        assert!(well.contains("server"), "{well}");
        let seen = session.since(mark);
        assert!(seen.gap() < mast_e2e::GAP / 10 && seen.echo.lost == 0, "it disturbs nothing: {seen}");
        // The usual default of firewalls: in comes what answers.
        run(host, "nft", &["add table inet fw"]);
        run(host, "nft", &["add chain inet fw in { type filter hook input priority 0; }"]);
        run(host, "nft", &["add rule inet fw in iifname mast0 ct state established,related accept"]);
        run(host, "nft", &["add rule inet fw in iifname mast0 drop"]);
        assert!(check(laptop, "reaches this machine").is_some(), "{}", mast(laptop, &["doctor"]));
        for (rule, version, other) in [
            ("ip saddr 100.64.0.0/10 iifname != \"tailscale0\" drop", "IPv4 from 100.", "IPv6 from"),
            ("meta nfproto ipv6 iifname mast0 drop", "IPv6 from fd", "IPv4 from"),
        ] {
            run(host, "nft", &["flush chain inet fw in"]);
            run(host, "nft", &[&format!("add rule inet fw in {rule}")]);
            let answer = mast(laptop, &["doctor"]);
            assert!(answer.code == 1 && answer.out.contains("dropped on this machine"), "{answer}");
            assert!(answer.out.contains(version) && !answer.out.contains(other), "{answer}");
        }
        run(host, "nft", &["flush chain inet fw in"]);
        run(host, "nft", &["add chain inet fw out { type filter hook output priority 0; }"]);
        run(host, "nft", &["add rule inet fw out oifname mast0 drop"]);
        let answer = mast(laptop, &["doctor"]);
        assert!(answer.out.contains("does not reach mast0"), "{answer}");
        run(host, "nft", &["delete table inet fw"]);
        assert!(check(laptop, "reaches this machine").is_some(), "{}", mast(laptop, &["doctor"]));
    });
}

#[test]
fn an_uplink_over_which_nothing_ever_came_is_named() {
    lab(|| {
        let train = Train::new(&TrainProfile::default()).unwrap_or_else(|e| panic!("{e}"));
        train.cell.blackhole(true, true).unwrap();
        let scene = Scene::apart(train);
        mast_e2e::pair(&scene.server, &scene.laptop);
        scene.wait_active("wifi");
        within(PATIENCE, "it is named", || check(&scene.laptop, "no answer ever came").is_some());
        let found = check(&scene.laptop, "no answer ever came").unwrap();
        assert!(found.contains("cell") && found.contains("wifi works"), "{found}");
        scene.train.cell.blackhole(false, false).unwrap();
        scene.wait_for_both_uplinks();
        assert_eq!(check(&scene.laptop, "no answer ever came"), None);
    });
}
