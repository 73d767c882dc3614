//! What the commands that change something ask of the service, and how refusals are told.

mod common;

use std::path::Path;

use common::{Ran, Stage, command, status};
use mast_control::{
    Access, Invite, PeerAdd, PeerFile, PeerRemove, PeerState, PolicyClear, PolicyMode, PolicySet, Request,
};

fn run(socket: &Path, words: &[&str]) -> Ran {
    Ran::of(command(socket, words).output().expect("the program runs"))
}

#[test]
fn pin_and_unpin() {
    let stage = Stage::new(status());
    let ran = stage.run(&["pin", "wifi", "network:Train", "--peer", "home"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.starts_with("Traffic with home is pinned to wifi, then network:Train."), "{}", ran.out);
    assert_eq!(stage.run(&["pin", "wwan0", "--only"]).code, 0);
    assert_eq!(stage.run(&["unpin"]).code, 0);
    let policy = |peer: Option<&str>, mode, pin: &[&str], fallback| {
        Request::PolicySet(PolicySet {
            peer: peer.map(Into::into),
            mode,
            pin: pin.iter().map(|p| (*p).to_owned()).collect(),
            fallback,
            ..PolicySet::default()
        })
    };
    let expected = [
        policy(Some("home"), PolicyMode::Pin, &["wifi", "network:Train"], true),
        policy(None, PolicyMode::Pin, &["wwan0"], false),
        policy(None, PolicyMode::Auto, &[], true),
    ];
    assert_eq!(stage.asked(), expected);
}

#[test]
fn who_has_a_choice_of_its_own_keeps_it_and_can_follow_again() {
    let mut two = status();
    let mut office = common::peer("office", PeerState::Connected);
    (office.own_policy, office.policy.mode) = (true, PolicyMode::Pin);
    office.policy.pin = vec!["wwan0".into()];
    two.peers.push(office);
    let stage = Stage::new(two);
    let ran = stage.run(&["pin", "wifi"]);
    assert!(ran.out.contains("office keeps its own choice (only wwan0)"), "{}", ran.out);
    assert!(ran.out.contains("`mast pin --follow --peer office`"), "{}", ran.out);
    let ran = stage.run(&["pin", "--follow", "--peer", "office"]);
    assert!(ran.out.starts_with("Traffic with office follows the choice for all again"), "{}", ran.out);
    assert_eq!(stage.run(&["mode", "pin", "--follow"]).code, 0);
    let clear = || Request::PolicyClear(PolicyClear { peer: "office".into() });
    assert_eq!(stage.asked()[1..], [clear(), clear()], "only who has a choice of its own");
    let shown = stage.run(&["status"]).out;
    assert!(shown.contains("policy: only wwan0, its own"), "{shown}");
    for wrong in [&["pin", "--follow", "wifi"][..], &["pin", "--follow", "--only"]] {
        assert_eq!(stage.run(wrong).code, 2, "{wrong:?}");
    }
}

#[test]
fn modes_are_chosen() {
    let stage = Stage::new(status());
    let told = |words: &[&str]| {
        let ran = stage.run(words);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{words:?}");
        ran.out
    };
    let out = told(&["mode", "redundant", "--peer", "home", "--small"]);
    assert!(out.starts_with("Traffic with home is sent over the two best paths at once. Small"), "{out}");
    assert!(out.contains("`--metered` lets them"), "{out}");
    let out = told(&["mode", "redundant", "--metered"]);
    assert!(out.contains("twice the data") && out.ends_with("Metered paths take part.\n"), "{out}");
    let out = told(&["mode", "bonded", "--metered"]);
    assert!(out.starts_with("Traffic with every peer is spread over all good paths."), "{out}");
    told(&["mode", "bonded"]);
    told(&["mode", "pin", "wifi", "wwan0", "--only"]);
    told(&["mode", "auto", "--peer", "home"]);
    let set = |mode| PolicySet { mode, ..PolicySet::default() };
    let home = Some("home".to_owned());
    let expected = [
        PolicySet { peer: home.clone(), small: true, ..set(PolicyMode::Redundant) },
        PolicySet { metered: true, ..set(PolicyMode::Redundant) },
        PolicySet { metered: true, ..set(PolicyMode::Bonded) },
        set(PolicyMode::Bonded),
        PolicySet { pin: vec!["wifi".into(), "wwan0".into()], fallback: false, ..set(PolicyMode::Pin) },
        PolicySet { peer: home, ..set(PolicyMode::Auto) },
    ];
    assert_eq!(stage.asked(), expected.map(Request::PolicySet));
    for wrong in [&["mode", "bonded", "--small"][..], &["mode", "auto", "--metered"], &["mode", "fast"]] {
        assert_eq!(stage.run(wrong).code, 2, "{wrong:?}");
    }
}

#[test]
fn an_unknown_interface_is_told_with_those_there_are() {
    let ran = Stage::new(status()).run(&["pin", "wlan9"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert_eq!(
        ran.err,
        "mast: there is no interface, kind or network `wlan9`\n      there is: wlan0, wwan0, network:Tr[31main\n"
    );
}

#[test]
fn peers_come_and_go() {
    let stage = Stage::new(status());
    let file = stage.directory.path().join("wg0.conf");
    std::fs::write(&file, "[Interface]\n").unwrap();
    let link = stage.directory.path().join("link.txt");
    std::fs::write(&link, "mast://from-file\n").unwrap();

    assert_eq!(
        stage.run(&["peer", "add", "mast://x", "--name", "home"]).out,
        "Added home. It is at 100.64.0.1.\nNote: `DNS = 10.0.0.1` (line 4) is not set: the system's own name servers stay.\n"
    );
    assert_eq!(
        stage.run(&["peer", "add", file.to_str().unwrap(), "--json"]).json()["eid"]["remote_v4"],
        "100.64.0.1"
    );
    assert_eq!(stage.run(&["peer", "add", link.to_str().unwrap()]).code, 0);
    assert_eq!(stage.run(&["peer", "remove", "home"]).out, "Removed home.\n");
    let missing = stage.run(&["peer", "add", "nowhere.conf"]);
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("neither an invite (mast://…) nor a file"), "{}", missing.err);
    let unknown = stage.run(&["peer", "remove", "hom"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("there is: home"), "{}", unknown.err);

    let add = |link: Option<&str>, name: Option<&str>| PeerAdd {
        link: link.map(Into::into),
        file: None,
        name: name.map(Into::into),
    };
    let contents = PeerFile { name: "wg0.conf".into(), contents: "[Interface]\n".into() };
    let expected = [
        Request::PeerAdd(add(Some("mast://x"), Some("home"))),
        Request::PeerAdd(PeerAdd { file: Some(contents), ..add(None, None) }),
        Request::PeerAdd(add(Some("mast://from-file"), None)),
        Request::PeerRemove(PeerRemove { name: "home".into() }),
        Request::PeerRemove(PeerRemove { name: "hom".into() }),
    ];
    assert_eq!(stage.asked(), expected);
}

#[test]
fn an_invite_alone_is_on_standard_output() {
    let stage = Stage::new(status());
    let ran = stage.run(&["invite", "--expires", "15m", "--name", "phone"]);
    assert_eq!(ran.out, "mast://secret\n");
    assert!(ran.err.contains("Valid until 2026-01-01 00:00:00"), "{}", ran.err);
    assert_eq!(stage.asked(), [Request::Invite(Invite { expires_s: 900, name: Some("phone".into()) })]);
    assert_eq!(stage.run(&["invite", "--expires", "soon"]).code, 2);
}

#[test]
fn up_and_down() {
    let stage = Stage::new(status());
    assert_eq!(stage.run(&["up"]).out, "MAST is up.\n");
    assert_eq!(stage.run(&["down"]).out, "MAST is down.\n");
    assert_eq!(stage.asked(), [Request::Up, Request::Down]);
}

#[test]
fn without_permission_the_way_to_get_it_is_told() {
    let stage = Stage::with(status(), |_| {}, Access::custom(|_| false));
    let way = if cfg!(windows) { "net localgroup mast" } else { "sudo usermod -aG mast" };
    for words in [&["up"][..], &["pin", "wifi"], &["invite"], &["drill"]] {
        let ran = stage.run(words);
        assert_eq!(ran.code, 4, "{words:?}");
        assert!(ran.err.contains(way), "{}", ran.err);
    }
    assert_eq!(stage.run(&["status"]).code, 0);
}

#[test]
fn without_a_service_the_way_to_start_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    for words in [&["status"][..], &["up"], &["paths"], &["doctor"], &["events", "--follow"]] {
        let ran = run(&socket, words);
        assert_eq!(ran.code, 3, "{words:?}");
        let start = if cfg!(windows) { "sc start mastd" } else { "sudo systemctl start mastd" };
        assert!(ran.err.contains(start), "{}", ran.err);
    }
    assert!(run(&socket, &["version"]).out.contains("mastd is not running"));
}

#[test]
#[cfg(unix)]
fn down_clears_what_a_killed_service_left() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let ran = run(&socket, &["down"]);
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("Removed what it had left: the control socket"), "{}", ran.out);
    assert!(!socket.exists());
    let ran = run(&socket, &["down"]);
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("left nothing behind"), "{}", ran.out);
}

#[test]
fn nonsense_is_a_usage_error() {
    let nowhere = Path::new("/nonexistent/control.sock");
    for words in [&["frobnicate"][..], &[], &["pin"], &["mode", "pin"], &["peer"], &["completions", "basic"]]
    {
        assert_eq!(run(nowhere, words).code, 2, "{words:?}");
    }
    let help = run(nowhere, &["--help"]);
    assert_eq!(help.code, 0);
    assert!(help.out.contains("Exit codes:") && help.out.contains("not permitted"), "{}", help.out);
}

#[test]
fn completions_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(Path::new("/nonexistent"), &["completions", shell]);
        assert_eq!(ran.code, 0);
        assert!(ran.out.contains("mast") && ran.out.contains("doctor") && ran.out.contains("redundant"));
    }
}
