//! What answers late or never (names, disks), or refuses to be written, holds up neither datagrams nor people.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mast_e2e::{PATIENCE, Scene, Session, has_interface, lab, mast, mast_program, pair, sleep, within};
use mast_stage::{Daemon, Program, Train, TrainProfile};

/// No silence of a session that is not touched may be longer.
const UNDISTURBED: Duration = Duration::from_millis(100);
/// Whoever asks at a prompt waits so long at most.
const ANSWERS: Duration = Duration::from_secs(5);
/// A stop takes so long at most.
const STOPS: Duration = Duration::from_secs(1);

/// A service that asks name servers on its own host, which never answer. The system's resolver gives up after half a
/// minute.
fn asks_in_vain() -> Program {
    mast_program().prepared(
        "printf 'nameserver 127.0.0.%s\\n' 1 2 3 > $STAGE/resolv.conf
         echo 'hosts: dns' > $STAGE/nsswitch.conf
         mount --bind $STAGE/resolv.conf /etc/resolv.conf
         mount --bind $STAGE/nsswitch.conf /etc/nsswitch.conf",
    )
}

/// So many peers whose addresses are names.
fn strangers(count: u8) -> String {
    (0..count).map(|n| stranger(n, &format!("s{n}.example"))).collect()
}

/// A peer of this number and host. Its key comes behind those of lower numbers.
fn stranger(n: u8, host: &str) -> String {
    let letter = |n: u8| char::from(b'A' + n % 26);
    let key = format!("{}{}{}=", letter(n / 26), letter(n), "A".repeat(41));
    format!("[[peer]]\nname = \"s{n}\"\npublic_key = \"{key}\"\nendpoints = [\"{host}:6278\"]\n")
}

/// A name server that answers to one name alone, and tells when it is asked for it first.
fn answers_to(host: &str, socket: UdpSocket) -> mpsc::Receiver<Instant> {
    let wanted: Vec<u8> = host.split('.').flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat()).collect();
    let (asked, first) = mpsc::channel();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let question = &question[..length];
            if question.get(12..12 + wanted.len()) != Some(&wanted[..]) {
                continue;
            }
            let end = 12 + wanted.len() + 5;
            let v4 = question[end - 3] == 1;
            let mut answer = question[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(v4), 0, 0, 0, 0]);
            if v4 {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
            }
            let _ = socket.send_to(&answer, from);
            if asked.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    first
}

/// How long a command takes, and what it says.
fn timed(daemon: &Daemon, words: &[&str]) -> (Duration, mast_e2e::Answer) {
    let begun = Instant::now();
    let answer = mast(daemon, words);
    (begun.elapsed(), answer)
}

fn answers_soon(daemon: &Daemon) {
    for words in [&["status"][..], &["peers"], &["doctor"], &["paths"]] {
        let (took, answer) = timed(daemon, words);
        assert!(took < ANSWERS, "{words:?} took {took:?}: {answer}");
    }
}

fn doctor_says(daemon: &Daemon, words: &[&str]) {
    let answer = mast(daemon, &["doctor"]);
    assert_eq!(answer.code, 1, "{answer}");
    assert!(words.iter().all(|word| answer.out.contains(word)), "{words:?} in: {answer}");
}

fn stops_soon(daemon: &mut Daemon) {
    let begun = Instant::now();
    daemon.stop().unwrap_or_else(|e| panic!("{e}"));
    let took = begun.elapsed();
    println!("stopped within {took:?}");
    assert!(took < STOPS, "{took:?}");
    assert!(!has_interface(daemon.host(), "mast0"));
}

#[test]
fn names_that_nobody_answers_to_hold_up_nothing() {
    lab(|| {
        let train = Train::new(&TrainProfile::default()).unwrap_or_else(|e| panic!("{e}"));
        let server = Daemon::start(&mast_program(), &train.server, "").unwrap_or_else(|e| panic!("{e}"));
        let bind = |n: u8| {
            train.laptop.run(|| UdpSocket::bind(SocketAddr::from(([127, 0, 0, n], 53))).unwrap()).unwrap()
        };
        let deaf = [1, 2, 3].map(bind);
        let laptop =
            Daemon::start(&asks_in_vain(), &train.laptop, &strangers(12)).unwrap_or_else(|e| panic!("{e}"));
        // All of them are asked for.
        within(PATIENCE, "names are asked for", || {
            deaf[0].set_nonblocking(true).unwrap();
            deaf[0].recv(&mut [0; 512]).is_ok()
        });
        // Threads that wait pile up.
        sleep(15_000);
        let begun = Instant::now();
        pair(&server, &laptop);
        let mut scene = Scene { laptop, server, train };
        println!("paired within {:?}", begun.elapsed());
        assert!(begun.elapsed() < ANSWERS, "{:?}", begun.elapsed());
        let session = Session::start(&scene.laptop, &scene.server);
        let mark = session.mark();
        let file = scene.laptop.directory().join("office.conf");
        let text = "[Interface]\nPrivateKey = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\nAddress = 10.66.0.2/32\n[Peer]\n\
                    PublicKey = AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\nAllowedIPs = 10.66.0.0/24\n\
                    Endpoint = office.example:51820\n";
        std::fs::write(&file, text).unwrap();
        let (took, added) = timed(&scene.laptop, &["peer", "add", file.to_str().unwrap()]);
        assert!(took < ANSWERS, "{took:?}: {added}");
        added.good();
        // Its route is there without its name.
        within(ANSWERS, "the route of the peer that was added", || {
            let table = scene
                .laptop
                .host()
                .run(|| std::fs::read_to_string("/proc/thread-self/net/route"))
                .unwrap()
                .unwrap();
            table.lines().any(|l| l.starts_with("mast0") && l.contains("0000420A"))
        });
        answers_soon(&scene.laptop);
        sleep(25_000);
        let notice = session.since(mark);
        println!("while names are not answered: {notice}");
        assert!(notice.gap() <= UNDISTURBED, "{:?}", notice.echo);
        for word in ["down", "up"] {
            let (took, answer) = timed(&scene.laptop, &[word]);
            println!("{word}: {took:?}");
            assert!(took < STOPS, "{word} took {took:?}: {answer}");
        }
        session.wait_running();
        session.survives();
        stops_soon(&mut scene.laptop);
    });
}

#[test]
fn fifty_names_that_nobody_answers_to_hold_up_none_that_is_answered() {
    lab(|| {
        let train = Train::new(&TrainProfile::default()).unwrap_or_else(|e| panic!("{e}"));
        let bind = |n: u8| {
            train.laptop.run(|| UdpSocket::bind(SocketAddr::from(([127, 0, 0, n], 53))).unwrap()).unwrap()
        };
        let asked = answers_to("home.example", bind(1));
        let _deaf = [2, 3].map(bind);
        // Its key is the last, and so it is the last in every order.
        let peers = strangers(50) + &stranger(60, "home.example");
        let mut laptop =
            Daemon::start(&asks_in_vain(), &train.laptop, &peers).unwrap_or_else(|e| panic!("{e}"));
        let begun = Instant::now();
        let first = asked.recv_timeout(PATIENCE * 4).expect("it is asked for");
        println!("home.example is asked for after {:?}", first.saturating_duration_since(begun));
        assert!(first < begun + Duration::from_secs(2), "{:?}", first - begun);
        println!("{}", mast(&laptop, &["doctor"]));
        answers_soon(&laptop);
        // It does not answer there, and is asked for again when its time has come, beside those that are silent.
        let again = std::iter::from_fn(|| asked.recv_timeout(Duration::from_secs(70)).ok())
            .find(|at| *at > first + Duration::from_secs(5));
        let again = again.expect("it is asked for again");
        println!("and again after {:?}", again - first);
        assert!(again < first + Duration::from_secs(63), "{:?}", again - first);
        stops_soon(&mut laptop);
    });
}

#[test]
fn a_plain_wireguard_session_runs_on_while_names_are_not_answered() {
    lab(|| {
        let net = crate::wireguard::net_of("10.66.0.1/32", &asks_in_vain(), &strangers(12));
        let bind = |n: u8| {
            net.train.laptop.run(|| UdpSocket::bind(SocketAddr::from(([127, 0, 0, n], 53))).unwrap()).unwrap()
        };
        let _deaf = [1, 2, 3].map(bind);
        let office = net.laptop.status().unwrap().peers.into_iter().find(|p| p.name == "office").unwrap();
        let session = Session::between(&net.train.laptop, &net.train.server, &office.eid);
        sleep(15_000);
        let mark = session.mark();
        answers_soon(&net.laptop);
        sleep(20_000);
        let notice = session.since(mark);
        println!("while names are not answered: {notice}");
        assert!(notice.gap() <= UNDISTURBED, "{:?}", notice.echo);
        for word in ["down", "up"] {
            let (took, answer) = timed(&net.laptop, &[word]);
            assert!(took < STOPS, "{word} took {took:?}: {answer}");
        }
        session.wait_running();
        session.survives();
    });
}

/// Puts something in place of a file of the state that whoever opens it waits for.
fn hang_disk(daemon: &Daemon) {
    let story = daemon.directory().join("state/story.jsonl");
    let _ = std::fs::remove_file(&story);
    assert!(Command::new("mkfifo").arg(&story).status().unwrap().success());
    assert!(std::fs::metadata(&story).unwrap().file_type().is_fifo());
}

#[test]
fn a_disk_that_hangs_holds_up_nothing() {
    lab(|| {
        let mut scene = Scene::new();
        let session = Session::start(&scene.laptop, &scene.server);
        let mark = session.mark();
        hang_disk(&scene.laptop);
        // Something happens that is written down.
        let (took, answer) = timed(&scene.laptop, &["pin", "cell"]);
        scene.wait_active("cell");
        println!("pin: {took:?} {answer}");
        assert!(took < ANSWERS, "{took:?}");
        // The story is written a moment after the move, and what comes behind it is not kept.
        let mut turn = 0;
        within(PATIENCE, "what is changed is said not to be kept", || {
            turn += 1;
            let words: &[&str] = if turn % 2 == 1 { &["mode", "auto"] } else { &["pin", "cell"] };
            let (took, answer) = timed(&scene.laptop, words);
            assert!(took < ANSWERS, "{words:?} took {took:?}: {answer}");
            let told = answer.good();
            told.err.contains("has not answered") && told.err.contains("in effect")
        });
        answers_soon(&scene.laptop);
        let status = mast(&scene.laptop, &["status"]).good();
        assert!(status.out.contains("not on the disk"), "{status}");
        doctor_says(&scene.laptop, &["not on the disk", "has not answered"]);
        sleep(2000);
        let notice = session.since(mark);
        println!("while the disk hangs: {notice}");
        assert!(notice.gap() <= UNDISTURBED * 2, "a move and a disk that hangs: {:?}", notice.echo);
        let (took, answer) = timed(&scene.laptop, &["down"]);
        assert!(took < STOPS, "{took:?}: {answer}");
        assert!(!has_interface(scene.laptop.host(), "mast0"));
        let (_, answer) = timed(&scene.laptop, &["up"]);
        answer.good();
        session.wait_running();
        stops_soon(&mut scene.laptop);
        // What cannot be read is waited for, and a stop is heard all the same.
        let mut command = scene.laptop.command();
        command.stdin(std::process::Stdio::null());
        let mut process = scene.laptop.host().spawn(command).unwrap();
        sleep(1000);
        assert!(process.poll().unwrap().is_none(), "it waits");
        let begun = Instant::now();
        process.kill(mast_netlab::Signal::SIGTERM).unwrap();
        process.wait(PATIENCE).unwrap();
        assert!(begun.elapsed() < STOPS, "{:?}", begun.elapsed());
    });
}

/// A service whose state is on a small disk of its own, which this much is free of.
fn on_small_disk(free: &str) -> Program {
    mast_program().prepared(&format!(
        "mkdir -p $STAGE/state
         mount -t tmpfs -o mode=700,size=64k tmpfs $STAGE/state
         dd if=/dev/zero of=$STAGE/state/ballast bs=4k count={free} 2>/dev/null || true"
    ))
}

/// Runs something where the service's mounts are seen.
fn beside(daemon: &Daemon, script: &str) {
    let id = daemon.id().unwrap().to_string();
    let mut command = Command::new("nsenter");
    command
        .args(["--mount", "--preserve-credentials", "--target", &id, "sh", "-ec", script])
        .env("STAGE", daemon.directory());
    let mut process = daemon.host().spawn(command).unwrap();
    let status = process.wait(PATIENCE).unwrap();
    assert!(status.success(), "{script}: {status}");
}

fn pair_on(program: &Program) -> Scene {
    let train = Train::new(&TrainProfile::default()).unwrap_or_else(|e| panic!("{e}"));
    let server = Daemon::start(&mast_program(), &train.server, "").unwrap_or_else(|e| panic!("{e}"));
    let laptop = Daemon::start(program, &train.laptop, "").unwrap_or_else(|e| panic!("{e}"));
    pair(&server, &laptop);
    let scene = Scene { laptop, server, train };
    scene.wait_for_both_uplinks();
    scene
}

#[test]
fn a_full_disk_is_a_warning_and_is_written_to_when_there_is_room() {
    lab(|| {
        // Full before the very first start: not even the key can be kept.
        let scene = pair_on(&on_small_disk("64"));
        let session = Session::start(&scene.laptop, &scene.server);
        let key = scene.laptop.status().unwrap().public_key;
        let pinned = mast(&scene.laptop, &["pin", "cell"]).good();
        assert!(pinned.err.contains("in effect") && pinned.err.contains("make room"), "{pinned}");
        scene.wait_active("cell");
        let status = mast(&scene.laptop, &["status"]).good();
        assert!(status.out.contains("not on the disk"), "{status}");
        doctor_says(&scene.laptop, &["not on the disk"]);
        assert!(!scene.laptop.log().contains("panicked"), "{}", scene.laptop.log());
        session.wait_running();
        beside(&scene.laptop, "rm $STAGE/state/ballast");
        within(PATIENCE, "it is kept", || scene.laptop.status().unwrap().unkept.is_none());
        let unpinned = mast(&scene.laptop, &["mode", "auto"]).good();
        assert!(unpinned.err.is_empty(), "{unpinned}");
        beside(&scene.laptop, "test -s $STAGE/state/private.key && test -s $STAGE/state/settings.json");
        beside(&scene.laptop, "grep -qs public_key $STAGE/state/peers.json $STAGE/state/peers.journal");
        assert_eq!(scene.laptop.status().unwrap().public_key, key);
        session.survives();
    });
}

#[test]
fn a_read_only_disk_is_no_reason_not_to_start() {
    lab(|| {
        let mut scene = Scene::new();
        let before = scene.laptop.peer().unwrap();
        scene.laptop.stop().unwrap();
        let state = scene.laptop.directory().join("state");
        let listed = |at: &Path| {
            let mut all: Vec<_> = std::fs::read_dir(at)
                .unwrap()
                .map(|e| e.unwrap().path())
                .map(|p| (std::fs::read(&p).unwrap(), p))
                .collect();
            all.sort();
            all
        };
        let kept = listed(&state);
        let script = "mount --bind $STAGE/state $STAGE/state && mount -o remount,bind,ro $STAGE/state";
        scene.laptop.set_program(&mast_program().prepared(script));
        scene.laptop.launch().unwrap_or_else(|e| panic!("{e}"));
        scene.wait_for_both_uplinks();
        assert_eq!(scene.laptop.peer().unwrap().eid, before.eid);
        let pinned = mast(&scene.laptop, &["pin", "cell"]).good();
        assert!(pinned.err.contains("in effect") && pinned.err.contains("read-only"), "{pinned}");
        scene.wait_active("cell");
        doctor_says(&scene.laptop, &["not on the disk", "read-only"]);
        stops_soon(&mut scene.laptop);
        assert_eq!(listed(&state), kept, "nothing of it was touched");
    });
}
