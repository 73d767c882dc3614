//! Peers come and go by the command line, and what it says of them is true.

use std::path::Path;
use std::time::Duration;

use mast_control::{PeerState, Verdict};
use mast_e2e::{Answer, PATIENCE, Scene, Session, active, lab, mast, mast_program, sleep, within};
use mast_netlab::{Host, Lab, LinkProfile};
use mast_stage::{Daemon, Train, TrainProfile};
use serde_json::Value;

fn apart() -> Scene {
    Scene::apart(Train::new(&TrainProfile::default()).unwrap_or_else(|e| panic!("{e}")))
}

fn invite(daemon: &Daemon, words: &[&str]) -> String {
    mast(daemon, &[&["invite"], words].concat()).good().out.trim().to_owned()
}

fn json(answer: Answer) -> Value {
    let answer = answer.good();
    serde_json::from_str(&answer.out).unwrap_or_else(|e| panic!("{e}: {answer}"))
}

#[test]
fn an_invite_makes_two_peers() {
    lab(|| {
        let scene = apart();
        let link = invite(&scene.server, &["--name", "my laptop"]);
        assert!(link.starts_with("mast://1/") && !link.contains(char::is_whitespace), "{link}");
        let added = mast(&scene.laptop, &["peer", "add", &link]).good();
        assert!(added.out.contains("Added server"), "{added}");
        scene.wait_for_both_uplinks();
        assert_eq!(scene.server.peer().unwrap().name, "my laptop");
        let status = mast(&scene.laptop, &["status"]).good();
        assert!(status.out.contains("server") && status.out.to_lowercase().contains("connected"), "{status}");
    });
}

#[test]
fn an_invite_that_cannot_be_accepted_is_explained() {
    lab(|| {
        let scene = apart();
        let Scene { laptop, server, .. } = &scene;
        let refuse = |link: &str, words: &[&str]| {
            mast(laptop, &["peer", "add", link]).bad(1, words);
        };

        let expired = invite(server, &["--expires", "1s"]);
        let link = invite(server, &[]);
        let cut = &link[..link.len() - 7];
        refuse(cut, &["not complete"]);
        let mut altered = link.clone().into_bytes();
        altered[30] = if altered[30] == b'A' { b'B' } else { b'A' };
        refuse(std::str::from_utf8(&altered).unwrap(), &["altered"]);
        refuse(&link.replace("mast://1/", "mast://9/"), &["version"]);
        refuse(&link.replace("mast://1/", "https://1/"), &["neither an invite"]);
        refuse("mast:", &["mast://"]);
        refuse("mast://", &[]);
        refuse("", &[]);
        let own = invite(laptop, &[]);
        refuse(&own, &["this very machine"]);
        sleep(1100);
        refuse(&expired, &["expired"]);
        assert!(laptop.status().unwrap().peers.is_empty() && server.status().unwrap().peers.is_empty());

        // By now the good one is still good: nothing of this has used it up.
        mast(laptop, &["peer", "add", &link]).good();
        refuse(&link, &["a peer already"]);
    });
}

#[test]
fn an_invite_is_good_for_one_machine() {
    lab(|| {
        let net = three();
        let Three { server, one, two, .. } = &net;
        let link = invite(server, &[]);
        mast(one, &["peer", "add", &link]).good();
        mast(two, &["peer", "add", &link]).bad(1, &["used already"]);
        let link = invite(server, &[]);
        mast(two, &["peer", "add", &link]).good();
        assert_eq!(server.status().unwrap().peers.len(), 2);
    });
}

#[test]
fn an_inviter_that_does_not_answer_is_reported_in_time() {
    lab(|| {
        let mut scene = apart();
        let link = invite(&scene.server, &[]);
        scene.server.kill();
        let start = std::time::Instant::now();
        mast(&scene.laptop, &["peer", "add", &link]).bad(1, &["no answer from server"]);
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    });
}

#[test]
fn removing_a_peer_tells_the_other_end() {
    lab(|| {
        let scene = Scene::new();
        let Scene { laptop, server, .. } = &scene;
        mast(laptop, &["peer", "remove", "nobody"]).bad(1, &["nobody", "server"]);
        mast(laptop, &["peer", "remove", "server"]).good();
        assert!(laptop.status().unwrap().peers.is_empty());
        within(Duration::from_secs(3), "the server knows", || {
            let status = server.status().unwrap();
            status.events.iter().any(|e| e.reason.contains("removed"))
                && status.peers.first().is_none_or(|p| p.state != PeerState::Connected)
        });
        sleep(2000);
        assert!(laptop.status().unwrap().peers.is_empty());
        // Both can begin anew.
        if !server.status().unwrap().peers.is_empty() {
            mast(server, &["peer", "remove", "laptop"]).good();
        }
        let link = invite(server, &[]);
        mast(laptop, &["peer", "add", &link]).good();
        scene.wait_for_both_uplinks();
    });
}

/// A server and two others, each with one uplink.
struct Three {
    server: Daemon,
    one: Daemon,
    two: Daemon,
    _core: Host,
    _lab: Lab,
}

fn three() -> Three {
    let lab = Lab::new().unwrap_or_else(|e| panic!("{e}"));
    let core = lab.router("core").unwrap();
    let program = mast_program();
    let host = |name: &str, net: u8| {
        let host = lab.host(name).unwrap();
        lab.link(&host, "eth0", &core, name, &LinkProfile::delay(Duration::from_millis(5))).unwrap();
        host.add_address("eth0", &format!("10.{net}.0.2/24")).unwrap();
        core.add_address(name, &format!("10.{net}.0.1/24")).unwrap();
        host.add_route("default", Some(&format!("10.{net}.0.1")), "eth0", 0).unwrap();
        Daemon::start(&program, &host, "").unwrap_or_else(|e| panic!("{e}"))
    };
    let (server, one, two) = (host("server", 1), host("one", 2), host("two", 3));
    Three { server, one, two, _core: core, _lab: lab }
}

#[test]
fn three_hosts_talk_to_each_other() {
    lab(|| {
        let net = three();
        let Three { server, one, two, .. } = &net;
        for (inviter, joiner) in [(server, one), (server, two), (one, two)] {
            let link = invite(inviter, &[]);
            mast(joiner, &["peer", "add", &link]).good();
        }
        let sessions =
            [(one, server), (two, server), (two, one)].map(|(client, server)| Session::start(client, server));
        for daemon in [server, one, two] {
            let status = daemon.status().unwrap();
            assert!(status.peers.iter().all(|p| p.state == PeerState::Connected), "{status:#?}");
            let mut eids: Vec<_> =
                status.peers.iter().flat_map(|p| [&p.eid.local_v4, &p.eid.remote_v4]).collect();
            eids.sort();
            eids.dedup();
            assert_eq!(eids.len(), 4, "each pair has its own IPv4 EIDs: {eids:?}");
        }
        // One less, and the others do not mind.
        let mark = sessions[0].mark();
        mast(server, &["peer", "remove", "two"]).good();
        sleep(500);
        sessions[0].without_loss("another peer is removed", mark);
        let [first, _, third] = sessions;
        first.survives();
        third.survives();
    });
}

#[test]
fn names_cannot_act_on_a_terminal() {
    lab(|| {
        let scene = apart();
        let Scene { laptop, server, .. } = &scene;
        let link = invite(server, &[]);
        // As the user of the command line, who may well copy what somebody sent him.
        let evil = "ev\u{1b}[31mil\u{202e}live\u{7}";
        let refused = mast(laptop, &["peer", "add", &link, "--name", evil]);
        if refused.code == 0 {
            assert!(!laptop.peer().unwrap().name.contains(char::is_control));
            mast(laptop, &["peer", "remove", &laptop.peer().unwrap().name]).good();
            mast(server, &["peer", "remove", &server.peer().unwrap().name]).good();
        } else {
            assert!(
                !refused.err.contains('\u{1b}') && !refused.err.contains('\u{202e}'),
                "{:?}",
                refused.err
            );
        }
        let link = invite(server, &[]);
        let name = "Büro ☕ مكتب";
        mast(laptop, &["peer", "add", &link, "--name", name]).good();
        assert_eq!(laptop.peer().unwrap().name, name);
        let clean = |text: &str| {
            text.chars().all(|c| (!c.is_control() || c == '\n') && !('\u{202a}'..='\u{202e}').contains(&c))
        };
        for words in [&["status"][..], &["peers"], &["paths"], &["events"], &["status", "--json"]] {
            let answer = mast(laptop, words).good();
            assert!(clean(&answer.out), "{words:?}: {:?}", answer.out);
        }
        assert!(mast(laptop, &["peers"]).out.contains(name));
    });
}

#[test]
fn a_host_cannot_call_itself_what_a_terminal_would_act_upon() {
    lab(|| {
        // The configuration of the other end is in somebody else's hands.
        let train = Train::new(&TrainProfile::default()).unwrap_or_else(|e| panic!("{e}"));
        let program = mast_program();
        let server = Daemon::start(&program, &train.server, "").unwrap_or_else(|e| panic!("{e}"));
        let file = server.directory().join("mastd.toml");
        let mut server = server;
        assert!(server.stop().unwrap().success());
        std::fs::write(&file, "name = \"a\\u202Eb\\u200Bc\"\n").unwrap();
        match server.launch() {
            // Refused where it is set: as good.
            Err(error) => assert!(error.to_string().contains("name"), "{error}"),
            Ok(()) => {
                let laptop = Daemon::start(&program, &train.laptop, "").unwrap_or_else(|e| panic!("{e}"));
                let link = invite(&server, &[]);
                mast(&laptop, &["peer", "add", &link]).good();
                assert_eq!(laptop.peer().unwrap().name, "abc");
            }
        }
    });
}

#[test]
fn a_pin_to_what_is_not_there_lists_what_is() {
    lab(|| {
        let scene = Scene::new();
        mast(&scene.laptop, &["pin", "wlan7"]).bad(1, &["wlan7", "wifi", "cell"]);
        mast(&scene.laptop, &["pin", "cell", "--peer", "nobody"]).bad(1, &["nobody", "server"]);
        mast(&scene.laptop, &["pin"]).bad(2, &["IFACE"]);
        assert_eq!(active(&scene.laptop).as_deref(), Some("wifi"));
        let pinned = mast(&scene.laptop, &["pin", "cell"]).good();
        assert!(pinned.out.contains("cell"), "{pinned}");
        scene.wait_active("cell");
        let status = json(mast(&scene.laptop, &["status", "--json"]));
        let policy = &status["peers"][0]["policy"];
        assert_eq!(
            (&policy["mode"], &policy["pin"][0], &policy["fallback"]),
            (&"pin".into(), &"cell".into(), &true.into())
        );
        mast(&scene.laptop, &["unpin"]).good();
        scene.wait_active("wifi");
    });
}

/// Checks that an object has exactly these fields, or at least them.
fn has_fields(value: &Value, place: &str, fields: &[&str]) {
    for field in fields {
        assert!(value.get(field).is_some(), "no {place}.{field} in {value:#}");
    }
}

#[test]
fn the_status_for_programs_has_every_field() {
    lab(|| {
        let scene = Scene::new();
        let session = Session::start(&scene.laptop, &scene.server);
        scene.laptop.pin(&["cell"], false).unwrap();
        scene.wait_active("cell");
        sleep(3500);
        let status = json(mast(&scene.laptop, &["status", "--json"]));
        has_fields(&status, "", &["up", "name", "version", "public_key", "interfaces", "peers", "events"]);
        assert_eq!(status["up"], true);
        let interfaces = status["interfaces"].as_array().unwrap();
        assert_eq!(interfaces.len(), 2, "{interfaces:#?}");
        for interface in interfaces {
            has_fields(
                interface,
                "interfaces[]",
                &["name", "kind", "network", "addresses", "metered", "usable"],
            );
            assert_eq!(interface["usable"], true);
        }
        assert_eq!(
            (&interfaces[0]["kind"], &interfaces[0]["addresses"][0]),
            (&"wifi".into(), &"10.1.0.2".into())
        );
        assert_eq!((&interfaces[1]["kind"], &interfaces[1]["metered"]), (&"cellular".into(), &true.into()));
        let peer = &status["peers"][0];
        let fields = [
            "name",
            "public_key",
            "state",
            "kind",
            "eid",
            "policy",
            "rx_bytes",
            "tx_bytes",
            "last_heard_ms",
            "paths",
        ];
        has_fields(peer, "peers[]", &fields);
        has_fields(&peer["eid"], "eid", &["local_v4", "local_v6", "remote_v4", "remote_v6"]);
        assert!(peer["eid"].as_object().unwrap().values().all(Value::is_string), "{:#}", peer["eid"]);
        has_fields(&peer["policy"], "policy", &["mode", "pin", "fallback"]);
        assert_eq!((&peer["state"], &peer["kind"]), (&"connected".into(), &"mast".into()));
        assert!(
            peer["rx_bytes"].as_u64().unwrap() > 10_000 && peer["last_heard_ms"].as_u64().unwrap() < 1000
        );
        let paths = peer["paths"].as_array().unwrap();
        let fields = [
            "id",
            "interface",
            "local",
            "remote",
            "state",
            "active",
            "srtt_ms",
            "loss",
            "mtu",
            "rx_bytes",
            "tx_bytes",
        ];
        for path in paths {
            has_fields(path, "paths[]", &fields);
        }
        let carries = paths.iter().find(|p| p["active"] == true).unwrap();
        assert_eq!(carries["interface"], "cell");
        let server = ["10.9.0.2:6278", "[2001:db8:9::2]:6278"];
        assert!(server.iter().any(|s| carries["remote"] == *s), "{carries}");
        let srtt = carries["srtt_ms"].as_f64().unwrap();
        assert!((55.0..120.0).contains(&srtt), "{srtt} ms over a link of 60 ms");
        assert!(carries["mtu"].as_u64().unwrap() >= 1280);
        let events = status["events"].as_array().unwrap();
        let event = events.iter().find(|e| e["to"] == "cell").expect("the move is told");
        has_fields(event, "events[]", &["time", "peer", "from", "to", "reason", "gap_ms"]);
        assert_eq!((&event["peer"], &event["from"]), (&"server".into(), &"wifi".into()));
        assert!(event["time"].as_str().unwrap().ends_with('Z'), "{event}");

        // The other commands tell the same.
        assert_eq!(json(mast(&scene.laptop, &["events", "--json"])), status["events"]);
        assert_eq!(json(mast(&scene.laptop, &["peers", "--json"]))[0]["eid"], peer["eid"]);
        assert_eq!(
            json(mast(&scene.laptop, &["paths", "--json"]))[0]["paths"].as_array().unwrap().len(),
            paths.len()
        );
        let table = mast(&scene.laptop, &["paths"]).good();
        assert!(table.out.contains("wifi") && table.out.contains("10.9.0.2:6278"), "{table}");
        let table = mast(&scene.laptop, &["peers"]).good();
        assert!(table.out.contains("server") && table.out.contains("pinned to cell"), "{table}");
        let story = mast(&scene.laptop, &["events"]).good();
        assert!(story.out.contains("cell"), "{story}");
        let doctor = mast(&scene.laptop, &["doctor"]).good();
        assert!(doctor.out.contains("Nothing is wrong"), "{doctor}");
        has_fields(&json(mast(&scene.laptop, &["doctor", "--json"])), "", &["checks", "counters"]);
        let version = json(mast(&scene.laptop, &["version", "--json"]));
        assert_eq!(version["mast"], version["mastd"], "{version}");
        session.survives();
    });
}

/// How long until `state` is honest after the other host has vanished without a word.
fn vanishes(busy: bool, limit: Duration) {
    let scene = Scene::new();
    let session = busy.then(|| Session::start(&scene.laptop, &scene.server));
    if !busy {
        sleep(1000);
    }
    for first in [1, 2, 9] {
        scene.train.addressing.silence(&scene.train.core, first, true).unwrap();
    }
    let time =
        within(limit, "the state is honest", || scene.laptop.peer().unwrap().state != PeerState::Connected);
    println!("vanished while {}: told after {:.1} s", if busy { "busy" } else { "idle" }, time.as_secs_f64());
    let status = mast(&scene.laptop, &["status"]);
    assert!(status.out.contains("does not answer"), "{status}");
    drop(session);
}

#[test]
fn a_host_that_vanishes_is_missed_soon_when_busy() {
    lab(|| vanishes(true, Duration::from_secs(3)));
}

#[test]
fn a_host_that_vanishes_is_missed_in_time_when_idle() {
    lab(|| vanishes(false, Duration::from_secs(50)));
}

#[test]
fn a_drill_with_two_paths_shows_each_and_restores() {
    lab(|| {
        let scene = Scene::new();
        let drill = mast(&scene.laptop, &["drill"]).good();
        println!("{}", drill.out);
        assert!(
            drill.out.contains("wifi") && drill.out.contains("cell") && drill.out.contains("Passed"),
            "{drill}"
        );
        scene.wait_for_both_uplinks();
        let report = mast(&scene.laptop, &["drill", "--json"]).good();
        let report: mast_control::DrillReport = serde_json::from_str(&report.out).unwrap();
        assert_eq!(report.verdict, Verdict::Passed, "{report:?}");
        assert_eq!(report.steps.len(), 2);
        assert!(
            report.steps.iter().all(|s| s.lost < 30 && s.gap_ms.is_some_and(|g| g < 1500.0)),
            "{report:?}"
        );
        scene.wait_for_both_uplinks();
    });
}

#[test]
fn a_drill_with_one_path_is_refused() {
    lab(|| {
        let scene = Scene::new();
        scene.train.set_cell(false).unwrap();
        within(PATIENCE, "one path", || {
            scene.laptop.peer().unwrap().paths.iter().all(|p| p.interface == "wifi")
        });
        mast(&scene.laptop, &["drill"]).bad(1, &["second network"]);
        assert_eq!(active(&scene.laptop).as_deref(), Some("wifi"));
        mast(&scene.laptop, &["drill", "--peer", "nobody"]).bad(1, &["nobody"]);
    });
}

#[test]
fn a_service_that_does_not_run_is_an_exit_code_of_its_own() {
    lab(|| {
        let mut scene = apart();
        assert!(scene.laptop.stop().unwrap().success());
        for words in [&["status"][..], &["pin", "wifi"], &["doctor"], &["drill"]] {
            mast(&scene.laptop, words).bad(3, &["not running"]);
        }
        assert!(!Path::new(&scene.laptop.control()).exists());
        mast(&scene.laptop, &["down"]).good();
    });
}
