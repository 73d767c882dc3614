//! The life of the service: restarts, crashes, and reasons not to start.

use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mast_control::{PeerState, PeerStatus};
use mast_e2e::{GAP, PATIENCE, Scene, Session, has_interface, lab, mast, mast_program, sleep, within};
use mast_netlab::{Host, Lab, Signal};
use mast_stage::{Daemon, Program};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// A session goes on so soon after the daemon is back.
const RETURN: Duration = Duration::from_secs(5);

/// Everything of the host's network that a daemon could leave behind: interfaces, addresses, routes, rules, sockets.
fn traces(host: &Host) -> Vec<String> {
    let files =
        ["net/dev", "net/route", "net/fib_trie", "net/if_inet6", "net/ipv6_route", "net/udp", "net/udp6"];
    host.run(|| {
        files
            .iter()
            .map(|f| {
                let text = std::fs::read_to_string(format!("/proc/thread-self/{f}")).unwrap_or_default();
                match *f {
                    // Without counters.
                    "net/dev" => text
                        .lines()
                        .filter_map(|l| l.split_once(':'))
                        .map(|(name, _)| name.trim().to_owned())
                        .collect::<Vec<_>>()
                        .join(" "),
                    "net/route" => text
                        .lines()
                        .skip(1)
                        .map(|l| l.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
                        .collect::<Vec<_>>()
                        .join("\n"),
                    "net/ipv6_route" => {
                        // Destination and device; multicast routes come and go with the interfaces' own talk.
                        let routes = text.lines().filter(|l| !l.starts_with("ff"));
                        let mut routes: Vec<_> = routes
                            .map(|l| {
                                l.split_whitespace()
                                    .enumerate()
                                    .filter(|(i, _)| [0, 1, 4, 9].contains(i))
                                    .map(|(_, w)| w)
                                    .collect::<Vec<_>>()
                                    .join(" ")
                            })
                            .collect();
                        routes.sort();
                        routes.dedup();
                        routes.join("\n")
                    }
                    "net/udp" | "net/udp6" => text
                        .lines()
                        .skip(1)
                        .filter_map(|l| l.split_whitespace().nth(1))
                        .collect::<Vec<_>>()
                        .join(" "),
                    // Without the shape of the tree.
                    "net/fib_trie" => {
                        text.lines().filter(|l| !l.contains("+--")).collect::<Vec<_>>().join("\n")
                    }
                    _ => text,
                }
            })
            .collect()
    })
    .unwrap()
}

fn same_eids(before: &PeerStatus, daemon: &Daemon) {
    let after =
        daemon.wait("an EID", PATIENCE, |s| s.peers.first().is_some_and(|p| p.eid.remote_v4.is_some()));
    let after = after.unwrap_or_else(|e| panic!("{e}")).peers.remove(0);
    assert_eq!((&before.eid, &before.name, &before.public_key), (&after.eid, &after.name, &after.public_key));
}

/// A daemon goes away for a moment, in one way or the other, and the session does not end.
fn restart(which: fn(&mut Scene) -> &mut Daemon, orderly: bool) {
    let mut scene = Scene::new();
    let before = which(&mut scene).peer().unwrap();
    let session = Session::start(&scene.laptop, &scene.server);
    let daemon = which(&mut scene);
    if orderly {
        let status = daemon.stop().unwrap_or_else(|e| panic!("{e}"));
        assert!(status.success(), "{status}\n{}", daemon.log());
        assert!(!daemon.control().exists(), "the control socket is still there");
    } else {
        daemon.kill();
    }
    // The kernel takes the interface of a dead process away in its own time.
    within(PATIENCE, "the virtual interface is gone", || !has_interface(daemon.host(), "mast0"));
    sleep(1000);
    let mark = session.mark();
    daemon.launch().unwrap_or_else(|e| panic!("{e}"));
    let what =
        format!("{} {} and started again", daemon.host().name(), if orderly { "stopped" } else { "killed" });
    session.wait_running();
    let notice = session.since(mark);
    println!("{what}: {notice}");
    assert!(notice.gap() < RETURN, "{what}: {:?}", notice.echo);
    same_eids(&before, which(&mut scene));
    session.survives();
}

#[test]
fn a_session_survives_a_restart_of_the_laptops_service() {
    lab(|| restart(|s| &mut s.laptop, true));
}

#[test]
fn a_session_survives_a_restart_of_the_servers_service() {
    lab(|| restart(|s| &mut s.server, true));
}

/// What a package manager does: the new program takes the place of the old one, which runs on from memory; then the
/// service is started anew. Here on both ends in the same moment, which is the worst.
#[test]
fn a_session_survives_an_upgrade_of_both_ends_at_once() {
    lab(|| {
        let installed = tempfile::tempdir().unwrap();
        let path = installed.path().join("mast");
        let unpack = || {
            let new = installed.path().join("mast.new");
            std::fs::copy(Program::mast().unwrap(), &new).unwrap();
            std::fs::rename(new, &path).unwrap();
        };
        unpack();
        let mut scene = Scene::new();
        let programs = [&mut scene.laptop, &mut scene.server];
        for daemon in programs {
            daemon.stop().unwrap();
            daemon.set_program(&Program::at(path.clone()));
            daemon.launch().unwrap_or_else(|e| panic!("{e}"));
        }
        scene.wait_for_both_uplinks();
        let before = scene.laptop.peer().unwrap();
        let session = Session::start(&scene.laptop, &scene.server);
        let runs =
            |daemon: &Daemon| std::fs::read_link(format!("/proc/{}/exe", daemon.id().unwrap())).unwrap();
        let mark = session.mark();
        unpack();
        // Nothing of it is noticed.
        sleep(1000);
        let unpacked = session.since(mark);
        assert!(unpacked.gap() < Duration::from_millis(300), "{:?}", unpacked.echo);
        for daemon in [&scene.laptop, &scene.server] {
            assert!(runs(daemon).to_string_lossy().ends_with("(deleted)"), "{:?}", runs(daemon));
        }
        let mark = session.mark();
        let begun = Instant::now();
        scene.laptop.stop().unwrap();
        scene.server.stop().unwrap();
        scene.laptop.launch().unwrap_or_else(|e| panic!("{e}"));
        scene.server.launch().unwrap_or_else(|e| panic!("{e}"));
        let took = begun.elapsed();
        session.wait_running();
        let notice = session.since(mark);
        println!("both ends upgraded within {took:?}: {notice}");
        for daemon in [&scene.laptop, &scene.server] {
            assert_eq!(runs(daemon), path);
        }
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(notice.gap() < RETURN + took, "{:?}", notice.echo);
        same_eids(&before, &scene.laptop);
        session.survives();
    });
}

#[test]
fn a_session_survives_a_crash_of_the_laptops_service() {
    lab(|| restart(|s| &mut s.laptop, false));
}

#[test]
fn a_session_survives_a_crash_of_the_servers_service() {
    lab(|| restart(|s| &mut s.server, false));
}

#[test]
fn an_orderly_end_leaves_nothing_behind() {
    lab(|| {
        let train =
            mast_stage::Train::new(&mast_stage::TrainProfile::default()).unwrap_or_else(|e| panic!("{e}"));
        let before = [&train.laptop, &train.server].map(traces);
        let mut scene = Scene::apart(train);
        mast_e2e::pair(&scene.server, &scene.laptop);
        scene.wait_for_both_uplinks();
        assert_ne!(traces(scene.laptop.host()), before[0], "the traces of a running service are seen");
        assert!(scene.laptop.stop().unwrap().success());
        // The other end is told, and says so.
        within(Duration::from_secs(2), "the server knows", || {
            scene.server.peer().unwrap().state != PeerState::Connected
        });
        let told = mast_e2e::events(&scene.server);
        assert!(told.iter().any(|e| e.reason.contains("switched")), "{told:#?}");
        assert!(scene.server.stop().unwrap().success());
        let after = [scene.laptop.host(), scene.server.host()].map(traces);
        assert_eq!(before, after);
        let left: Vec<_> =
            std::fs::read_dir(scene.laptop.directory()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name == "control.sock"), "{left:?}");
    });
}

#[test]
fn down_and_up_again_keep_the_session() {
    lab(|| {
        let scene = Scene::new();
        let Scene { laptop, server, .. } = &scene;
        let before = laptop.peer().unwrap();
        let session = Session::start(laptop, server);
        mast(laptop, &["down"]).good();
        assert!(!has_interface(laptop.host(), "mast0"), "the virtual interface is still there");
        let status = laptop.status().unwrap();
        assert!(!status.up && status.peers[0].state == PeerState::Down, "{status:#?}");
        assert!(mast(laptop, &["status"]).good().out.contains("down"));
        within(Duration::from_secs(2), "the server knows", || {
            server.peer().unwrap().state != PeerState::Connected
        });
        sleep(1000);
        let mark = session.mark();
        mast(laptop, &["up"]).good();
        session.with_gap("down and up", mark, RETURN);
        same_eids(&before, laptop);
        mast(laptop, &["up"]).good();
        session.survives();
    });
}

#[test]
fn down_outlives_a_restart() {
    lab(|| {
        let mut scene = Scene::new();
        mast(&scene.laptop, &["down"]).good();
        assert!(scene.laptop.stop().unwrap().success());
        scene.laptop.launch().unwrap_or_else(|e| panic!("{e}"));
        assert!(!scene.laptop.status().unwrap().up);
        assert!(!has_interface(scene.laptop.host(), "mast0"));
        mast(&scene.laptop, &["up"]).good();
        scene.wait_active("wifi");
    });
}

/// Runs a command to its end and returns its exit code and its standard error.
fn fails(host: &Host, mut command: Command) -> (i32, String) {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = host.spawn(command).unwrap();
    let status = process.wait(PATIENCE).unwrap_or_else(|e| panic!("it goes on: {e}"));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut process.child().stderr.take().unwrap(), &mut text).unwrap();
    (status.code().unwrap_or(-1), text)
}

fn complains(host: &Host, command: Command, words: &[&str]) {
    let (code, text) = fails(host, command);
    assert!(code == 1 || code == 2, "exit code {code}: {text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

/// A host with an uplink, and a daemon there that has been stopped.
fn stopped() -> ((Lab, Host), Daemon) {
    let lab = Lab::new().unwrap_or_else(|e| panic!("{e}"));
    let (host, router) = (lab.host("alone").unwrap(), lab.router("router").unwrap());
    lab.wire(&host, "eth0", &router, "down").unwrap();
    host.add_address("eth0", "10.1.0.2/24").unwrap();
    router.add_address("down", "10.1.0.1/24").unwrap();
    host.add_route("default", Some("10.1.0.1"), "eth0", 0).unwrap();
    let mut daemon = Daemon::start(&mast_program(), &host, "").unwrap_or_else(|e| panic!("{e}"));
    assert!(daemon.stop().unwrap().success());
    ((lab, router), daemon)
}

#[test]
fn a_second_service_on_the_same_state_is_refused() {
    lab(|| {
        let (_lab, mut daemon) = stopped();
        daemon.launch().unwrap_or_else(|e| panic!("{e}"));
        complains(daemon.host(), daemon.command(), &["another mastd", "state"]);
        // And did the first one no harm.
        assert!(daemon.status().unwrap().up);
        assert!(has_interface(daemon.host(), "mast0"));
    });
}

#[test]
fn a_port_that_is_taken_is_named() {
    lab(|| {
        let (_lab, mut daemon) = stopped();
        let socket = daemon.host().run(|| UdpSocket::bind(("0.0.0.0", 6278)).unwrap()).unwrap();
        complains(daemon.host(), daemon.command(), &["6278", "in use", "eth0"]);
        assert!(!has_interface(daemon.host(), "mast0"));
        drop(socket);
        daemon.launch().unwrap_or_else(|e| panic!("{e}"));
    });
}

#[test]
fn a_system_without_virtual_interfaces_is_explained() {
    lab(|| {
        let (_lab, daemon) = stopped();
        let mut command = daemon.command();
        let hide = || {
            const NONE: Option<&str> = None;
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(NONE, "/", NONE, MsFlags::MS_SLAVE | MsFlags::MS_REC, NONE)?;
            mount(Some("none"), "/dev/net", Some("tmpfs"), MsFlags::empty(), NONE)?;
            Ok(())
        };
        // SAFETY: the closure makes system calls with constant arguments and does not allocate.
        unsafe { command.pre_exec(hide) };
        complains(daemon.host(), command, &["/dev/net/tun is missing"]);
    });
}

#[test]
fn a_missing_permission_is_named() {
    lab(|| {
        let (_lab, daemon) = stopped();
        let mut command = daemon.command();
        let drop_it = || {
            const CAP_NET_ADMIN: libc::c_ulong = 12;
            // SAFETY: no pointers are involved.
            match unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_NET_ADMIN, 0, 0, 0) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: the closure makes one system call and does not allocate.
        unsafe { command.pre_exec(drop_it) };
        complains(daemon.host(), command, &["CAP_NET_ADMIN"]);
    });
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_with_its_line() {
    lab(|| {
        let (_lab, daemon) = stopped();
        let file = daemon.directory().join("mastd.toml");
        std::fs::write(&file, "name = \"alone\"\nprot = 7\n").unwrap();
        let (code, text) = fails(daemon.host(), daemon.command());
        assert_eq!(code, 2, "{text}");
        assert!(text.contains("did you mean `port`") && text.contains('2'), "{text}");
    });
}

#[test]
fn half_a_minute_frozen_is_survived() {
    lab(|| {
        // As long as the lid of a laptop is closed, its processes do nothing: the nearest thing to a sleeping machine.
        let mut scene = Scene::new();
        let session = Session::start(&scene.laptop, &scene.server);
        scene.laptop.signal(Signal::SIGSTOP).unwrap();
        sleep(30_000);
        // Nobody says that he is connected with somebody who has been silent for half a minute of traffic.
        assert_ne!(scene.server.peer().unwrap().state, PeerState::Connected);
        let mark = session.mark();
        scene.laptop.signal(Signal::SIGCONT).unwrap();
        scene.wait_active("wifi");
        session.with_gap("frozen for 30 s", mark, GAP * 2);
        session.survives();
    });
}
