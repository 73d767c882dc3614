//! What the commands that only read print.

mod common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use common::{Stage, moved, peer, status};
use mast_control::layers::{self, Facts};
use mast_control::{
    Access, Part, PathState, PathStatus, PeerState, PolicyMode, PolicyStatus, Status, Verdict, part,
};

#[test]
fn status_begins_with_one_honest_sentence() {
    let stage = Stage::new(status());
    let ran = stage.run(&["status"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(
        lines,
        [
            "Connected to home over wlan0 (Wi-Fi 'Tr[31main'), 41 ms.",
            "home is at 100.64.0.1; policy: auto",
            "",
            "   INTERFACE  NETWORK    OVER  REMOTE             STATE        RTT  LOSS",
            "*  wlan0      Tr[31main  IPv4  198.51.100.1:6278  validated  41 ms   0 %",
            "   wwan0                 IPv4  198.51.100.1:6278  validated  41 ms   0 %",
            "",
            "2026-01-01 12:04:31 wifi → cell: went silent, gap 140 ms",
        ]
    );
}

#[test]
fn one_link_is_one_line_and_what_fails_is_said() {
    let mut dual = status();
    let [wifi, cell] = [0, 1].map(|at| dual.peers[0].paths[at].clone());
    let v6 = |id, path: &PathStatus| PathStatus {
        id,
        active: false,
        local: "2001:db8::2".into(),
        remote: "[2001:db8::1]:6278".into(),
        ..path.clone()
    };
    let failed = |path: PathStatus| PathStatus { state: PathState::Failed, active: false, ..path };
    let cell = PathStatus { active: true, ..cell };
    dual.peers[0].paths = vec![failed(wifi.clone()), failed(v6(3, &wifi)), v6(4, &cell), cell];
    let stage = Stage::new(dual);
    let ran = stage.run(&["status", "home"]);
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(
        lines[0],
        "Connected to home over wwan0 (cellular, metered), 41 ms; Wi-Fi ‘Tr[31main’ does not answer."
    );
    assert!(lines[4].contains("IPv4 and IPv6") && lines[4].contains("failed"), "{}", ran.out);
    assert!(lines[5].starts_with("*  wwan0") && lines[5].contains("IPv4 and IPv6"), "{}", ran.out);
    assert_eq!(lines.len(), 6, "{}", ran.out);
    let paths = stage.run(&["paths"]);
    assert_eq!(paths.out.matches("2001:db8::2").count(), 2, "each path has its local address: {}", paths.out);
    assert_eq!(stage.run(&["status", "home", "--json"]).json()["peer"]["name"], "home");
    assert_eq!(stage.run(&["status", "hom"]).code, 1);
}

#[test]
fn silence_is_not_called_connected() {
    let mut silent = status();
    silent.peers = vec![peer("home", PeerState::Unreachable)];
    let ran = Stage::new(silent.clone()).run(&["status"]);
    assert!(ran.out.starts_with("home does not answer on any path, last heard 12 s ago.\n"), "{}", ran.out);
    assert!(!ran.out.contains('*'));

    silent.peers[0].policy =
        PolicyStatus { mode: PolicyMode::Pin, pin: vec!["wifi".into()], ..PolicyStatus::default() };
    let ran = Stage::new(silent.clone()).run(&["status"]);
    assert!(ran.out.contains("Only wifi may be used: `mast unpin`"), "{}", ran.out);

    silent.peers[0].state = PeerState::Connecting;
    let ran = Stage::new(silent.clone()).run(&["status"]);
    assert!(ran.out.starts_with("Connecting to home over wlan0, wwan0: no answer yet."), "{}", ran.out);

    silent.peers[0].state = PeerState::Down;
    silent.interfaces.clear();
    let ran = Stage::new(silent).run(&["status"]);
    assert!(
        ran.out.starts_with("home is not being tried: this machine has no usable network."),
        "{}",
        ran.out
    );
}

#[test]
fn a_full_tunnel_that_is_not_in_force_is_not_called_connected() {
    let why = "the full tunnel is not in force for IPv4: what goes anywhere leaves over `tun1`";
    let mut partial = status();
    partial.peers = vec![peer("home", PeerState::Partial)];
    partial.peers[0].troubles = vec![why.into()];
    partial.refused = vec![why.into(), "cannot set leak protection for IPv6: not permitted".into()];
    let ran = Stage::new(partial.clone()).run(&["status"]);
    let lines: Vec<_> = ran.out.lines().collect();
    assert!(lines[0].ends_with(&format!(" Not all is as it should be: {why}.")), "{}", ran.out);
    assert_eq!(ran.out.matches(why).count(), 1, "{}", ran.out);
    assert!(ran.out.contains("Not set on this machine: cannot set leak protection"), "{}", ran.out);
    assert_eq!(Stage::new(partial.clone()).run(&["status", "--json"]).json()["peers"][0]["state"], "partial");
    partial.peers.push(peer("work", PeerState::Connected));
    let ran = Stage::new(partial).run(&["status"]);
    assert!(ran.out.contains("Not all is as it should be with home"), "{}", ran.out);
}

#[test]
fn a_pin_that_does_not_hold_is_said() {
    let mut astray = status();
    astray.peers[0].policy = PolicyStatus {
        mode: PolicyMode::Pin,
        pin: vec!["cellular".into()],
        fallback: true,
        ..PolicyStatus::default()
    };
    let ran = Stage::new(astray.clone()).run(&["status"]);
    assert!(ran.out.contains("41 ms, because nothing pinned (cellular) works now."), "{}", ran.out);
    astray.peers[0].policy.pin = vec!["wifi".into()];
    let ran = Stage::new(astray).run(&["status"]);
    assert!(ran.out.contains("41 ms.\n"), "{}", ran.out);
}

#[test]
fn a_mode_that_lacks_a_path_says_so() {
    let mut doubled = status();
    let small = PolicyStatus { mode: PolicyMode::Redundant, small: true, ..PolicyStatus::default() };
    doubled.peers[0].policy = small;
    let ran = Stage::new(doubled.clone()).run(&["status"]);
    assert!(ran.out.contains("policy: redundant (small datagrams only)\nredundant needs two"), "{}", ran.out);
    assert!(ran.out.contains("the others that work are metered: choose the mode again with `--metered`"));
    doubled.peers[0].policy.metered = true;
    let ran = Stage::new(doubled.clone()).run(&["status"]);
    assert!(ran.out.contains("(small datagrams only; metered paths, too)\n\n"), "{}", ran.out);
    doubled.peers[0].policy.mode = PolicyMode::Bonded;
    doubled.peers[0].paths.pop();
    let ran = Stage::new(doubled.clone()).run(&["status"]);
    assert!(ran.out.contains("bonded needs two links to home, and only one works now"), "{}", ran.out);
    let json = Stage::new(doubled).run(&["status", "--json"]).json();
    let policy = &json["peers"][0]["policy"];
    assert_eq!((&policy["mode"], &policy["metered"]), (&"bonded".into(), &true.into()));
}

#[test]
fn the_modes_in_force_are_shown() {
    let mut two = status();
    two.peers.push(peer("office", PeerState::Connected));
    two.peers[1].policy = PolicyStatus { mode: PolicyMode::Bonded, ..PolicyStatus::default() };
    two.peers[1].own_policy = true;
    let stage = Stage::new(two);
    let ran = stage.run(&["mode"]);
    let lines: Vec<_> = ran.out.lines().map(|l| l.split("  ").map(str::trim).collect::<Vec<_>>()).collect();
    let words = |line: usize| lines[line].iter().filter(|w| !w.is_empty()).copied().collect::<Vec<_>>();
    assert_eq!(words(1), ["home", "auto", "all peers", "auto, pin, redundant, bonded"], "{}", ran.out);
    assert_eq!(words(2), ["office", "bonded", "this peer", "auto, pin, redundant, bonded"], "{}", ran.out);
    assert!(lines[3][0].starts_with("bonded needs two links to office"), "{}", ran.out);
    let json = stage.run(&["mode", "--peer", "office", "--json"]).json();
    assert_eq!(json.as_array().map(Vec::len), Some(1));
    assert_eq!((&json[0]["peer"], &json[0]["mode"]), (&"office".into(), &"bonded".into()));
    assert!(!stage.run(&["mode", "--peer", "office"]).out.contains("home"));
    let unknown = stage.run(&["mode", "--peer", "offce"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("there is: home, office"), "{}", unknown.err);
}

#[test]
fn none_and_several_peers() {
    let none = Status { peers: vec![], ..status() };
    assert!(
        Stage::new(none.clone()).run(&["status"]).out.starts_with("MAST is up, but there is no peer yet")
    );
    assert!(Stage::new(Status { up: false, ..none }).run(&["status"]).out.starts_with("MAST is down"));
    let mut several = status();
    several.peers.push(peer("work", PeerState::Unreachable));
    let ran = Stage::new(several).run(&["status"]);
    assert!(ran.out.starts_with("Connected to 1 of 2 peers; not to work.\n"), "{}", ran.out);
    assert!(ran.out.contains("12:04:31 home: wifi → cell: went silent"), "{}", ran.out);
}

#[test]
fn off_and_paused_differ() {
    let off = Status { up: false, ..status() };
    let paused = Status { paused_until: Some("2026-01-01T13:04:00Z".into()), ..off.clone() };
    assert!(Stage::new(off).run(&["status"]).out.starts_with("MAST is down"));
    let ran = Stage::new(paused).run(&["status"]);
    assert!(ran.out.starts_with("MAST is paused until 2026-01-01 13:04 UTC"), "{}", ran.out);
}

#[test]
fn what_is_known_of_the_layers_is_listed_while_a_peer_does_not_answer() {
    let mut silent = status();
    silent.peers = vec![peer("home", PeerState::Unreachable)];
    layers::fill(&mut silent, &Facts::default());
    let stage = Stage::new(silent);
    let ran = stage.run(&["status"]);
    let line = |layer: &str| ran.out.lines().find(|l| l.starts_with(layer)).unwrap_or_default().to_owned();
    assert!(line("Link").contains("ok"), "{}", ran.out);
    assert!(line("UDP").contains("not known"), "{}", ran.out);
    assert!(line("Peer").contains("BAD") && line("Peer").contains("it does not answer"), "{}", ran.out);
    let json = stage.run(&["status", "--json"]).json();
    assert_eq!(json["layers"][0]["code"], "connected");
    assert!(!Stage::new(status()).run(&["status"]).out.contains("LAYER"), "all is well");
}

#[test]
fn who_takes_part_is_named_with_who_does_not_and_why() {
    let mut told = status();
    told.peers[0].paths[0].part = Part::Carries;
    told.peers[0].paths[1].part = Part::Metered;
    told.peers[0].uplinks = part::of_uplinks(&told.interfaces, &told.peers[0].paths);
    for words in [&["status"][..], &["mode"]] {
        let ran = Stage::new(told.clone()).run(words);
        assert!(
            ran.out.contains("auto: Wi-Fi ‘Tr[31main’ carries. Left out: wwan0: metered."),
            "{}",
            ran.out
        );
    }
}

#[test]
fn paths_show_everything() {
    let ran = Stage::new(status()).run(&["paths"]);
    assert_eq!(ran.code, 0);
    for word in ["192.0.2.2:6278", "1420", "1.2 MB", "89 B", "* carries the traffic now"] {
        assert!(ran.out.contains(word), "{word} is not in {}", ran.out);
    }
    let marked: Vec<_> = ran.out.lines().filter(|line| line.starts_with("*  ")).collect();
    assert_eq!(marked.len(), 1);
}

#[test]
fn json_is_the_data_itself() {
    let stage = Stage::new(status());
    let read: Status = serde_json::from_value(stage.run(&["status", "--json"]).json()).unwrap();
    assert_eq!(read, status());
    assert_eq!(stage.run(&["paths", "--json"]).json()[0]["paths"][0]["active"], true);
    assert_eq!(stage.run(&["peers", "--json"]).json()[0]["name"], "home");
    assert_eq!(stage.run(&["events", "--json"]).json()[0]["gap_ms"], 140.0);
    assert_eq!(stage.run(&["version", "--json"]).json()["mastd"], "0.1.0");
}

#[test]
fn peers_are_listed() {
    let ran = Stage::new(status()).run(&["peers"]);
    assert!(ran.out.contains("home  connected  mast  100.64.0.1"), "{}", ran.out);
}

#[test]
fn events_follow_until_the_service_stops() {
    let mut stage = Stage::new(status());
    assert_eq!(
        stage.run(&["events"]).out,
        "2026-01-01 12:04:31 home: wifi → cell: went silent, gap 140 ms\n"
    );

    let mut child = stage
        .command(&["events", "--follow", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<mast_control::Event>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next(), moved("12:04:31"));
    assert_eq!(next(), moved("13:00"));
    stage.script.notices.send(moved("14:00").into()).unwrap();
    assert_eq!(next(), moved("14:00"));
    stage.stop();
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn verdicts_are_exit_codes() {
    let stage = Stage::new(status());
    let ran = stage.run(&["drill"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("Passed: no datagram was lost") && ran.out.contains("87 ms"), "{}", ran.out);
    assert_eq!(ran.err, "silencing wlan0 to home\n");
    assert_eq!(stage.run(&["drill", "--peer", "home", "--json"]).json()["steps"][0]["to"], "wwan0");

    let ran = stage.run(&["doctor"]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("BAD  firewall") && ran.out.contains("→ open UDP port 6278"), "{}", ran.out);
    assert!(ran.out.contains("replayed") && ran.out.ends_with("One thing is wrong.\n"), "{}", ran.out);

    let failing = |script: &mut common::Script| {
        script.verdict = Verdict::Failed;
        script.doctor.checks.pop();
        script.status.peers.push(peer("work", PeerState::Connected));
    };
    let stage = Stage::with(status(), failing, Access::custom(|_| true));
    assert_eq!(stage.run(&["drill", "--peer", "home"]).code, 1);
    assert_eq!(stage.run(&["doctor"]).code, 0);
    let ran = stage.run(&["drill"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("--peer: home, work"), "{}", ran.err);
}

#[test]
fn output_that_nobody_reads_is_no_error() {
    let stage = Stage::new(status());
    let mut child = stage.command(&["status"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ran = common::Ran::of(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}
