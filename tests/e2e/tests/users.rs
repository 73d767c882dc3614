//! The machine's other users: what they can and cannot do to the service.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mast_e2e::{Scene, Session, lab, mast, mast_program, sleep};
use mast_netlab::Process;
use mast_stage::{Daemon, Program};

/// An account without rights, which every system has.
const NOBODY: u32 = 65534;
/// No silence of a session may be longer, whatever users do.
const UNDISTURBED: Duration = Duration::from_millis(100);
/// Root is answered so soon.
const ROOT_WAITS: Duration = Duration::from_secs(2);

/// Whether somebody else than root can be played here: not in a user namespace, which has one user.
fn has_users() -> bool {
    let played = std::thread::spawn(|| become_user(NOBODY).is_ok()).join().unwrap();
    if !played {
        eprintln!("skipped: needs root to become somebody else");
    }
    played
}

/// Makes this thread, and no other, another user's.
fn become_user(uid: u32) -> std::io::Result<()> {
    for call in [libc::SYS_setresgid, libc::SYS_setresuid] {
        // SAFETY: no pointers are involved. The system call by its number changes the calling thread alone.
        if unsafe { libc::syscall(call, uid, uid, uid) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Lets everybody reach the control socket, as where it is installed, and returns a `mast` that everybody may run.
fn opened(daemon: &Daemon) -> PathBuf {
    std::fs::set_permissions(daemon.directory(), Permissions::from_mode(0o755)).unwrap();
    let program = daemon.directory().join("mast-for-all");
    std::fs::copy(Program::mast().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    program
}

/// What a user does until it is dropped.
struct Attack {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    loops: Vec<Process>,
    held: Arc<AtomicU32>,
}

impl Attack {
    /// 40 loops of doctor, 64 connections that say nothing, 8 that say nonsense without end, and a lock on whatever can be
    /// opened of the service.
    fn begin(daemon: &Daemon, program: &Path) -> Self {
        let (over, held) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let mut threads = Vec::new();
        let mut thread = |work: Box<dyn FnOnce(&AtomicBool) + Send>| {
            let over = Arc::clone(&over);
            threads.push(std::thread::spawn(move || {
                become_user(NOBODY).unwrap();
                work(&over);
            }));
        };
        let control = daemon.control();
        for n in 0..64 {
            let control = control.clone();
            let nonsense = [&b"\n"[..], b" \r\n", b"x\n", b"[[[[[[[[\n"].get(n).copied();
            thread(Box::new(move |over| {
                while !over.load(Ordering::Relaxed) {
                    let Ok(mut stream) = UnixStream::connect(&control) else { continue };
                    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
                    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                    match nonsense {
                        Some(line) => {
                            let flood = line.repeat(64 * 1024 / line.len());
                            while !over.load(Ordering::Relaxed) && stream.write_all(&flood).is_ok() {}
                        }
                        // Until it is thrown out.
                        None => {
                            while !over.load(Ordering::Relaxed)
                                && !matches!(std::io::Read::read(&mut stream, &mut [0; 256]), Ok(0))
                            {
                            }
                        }
                    }
                }
            }));
        }
        let (directory, count) = (daemon.directory().to_path_buf(), Arc::clone(&held));
        thread(Box::new(move |over| {
            let mut files = Vec::new();
            let mut places = vec![directory];
            while let Some(place) = places.pop() {
                let Ok(file) = File::open(&place) else { continue };
                if file.try_lock().is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                    files.push(file);
                }
                places.extend(std::fs::read_dir(&place).into_iter().flatten().map(|e| e.unwrap().path()));
            }
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }));
        let doctor =
            format!("while :; do {} --control {} doctor; done", program.display(), control.display());
        let one = || {
            let mut command = Command::new("sh");
            command.args(["-c", &doctor]).current_dir("/").uid(NOBODY).gid(NOBODY);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            daemon.host().spawn(command).unwrap()
        };
        let loops = (0..40).map(|_| one()).collect();
        Self { over, threads, loops, held }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.loops.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[test]
fn an_ordinary_user_disturbs_nobody() {
    lab(|| {
        if !has_users() {
            return;
        }
        let mut scene = Scene::new();
        let program = opened(&scene.laptop);
        let session = Session::start(&scene.laptop, &scene.server);
        let mark = session.mark();
        let attack = Attack::begin(&scene.laptop, &program);
        let (begun, mut slowest) = (Instant::now(), Duration::ZERO);
        while begun.elapsed() < Duration::from_secs(8) {
            let asked = Instant::now();
            scene.laptop.ask(async |client| client.check(None).await).unwrap_or_else(|e| panic!("{e}"));
            slowest = slowest.max(asked.elapsed());
            sleep(50);
        }
        let notice = session.since(mark);
        println!("while a user does what it can: {notice}; root waited {slowest:?} at most");
        assert!(attack.held.load(Ordering::Relaxed) > 0, "something can be locked");
        assert!(notice.gap() <= UNDISTURBED, "{:?}", notice.echo);
        assert!(slowest < ROOT_WAITS, "{slowest:?}");
        // Nor does it keep the service from its start.
        for _ in 0..3 {
            assert!(scene.laptop.stop().unwrap().success());
            let begun = Instant::now();
            scene.laptop.launch().unwrap_or_else(|e| panic!("{e}"));
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        }
        mast(&scene.laptop, &["down"]).good();
        drop(attack);
        mast(&scene.laptop, &["up"]).good();
        session.survives();
    });
}

/// What a user without rights hears of a command.
fn as_nobody(daemon: &Daemon, program: &Path, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(program);
    command.arg("--control").arg(daemon.control()).args(words).current_dir("/").uid(NOBODY).gid(NOBODY);
    let output = daemon.host().run(move || command.output().unwrap()).unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn others_see_whether_it_works_and_neither_with_whom_nor_where() {
    lab(|| {
        if !has_users() {
            return;
        }
        let scene = Scene::new();
        let program = opened(&scene.laptop);
        let peer = scene.laptop.peer().unwrap();
        let remotes: Vec<_> = peer.paths.iter().map(|p| p.remote.clone()).collect();
        for words in [&["status"][..], &["status", "--json"], &["peers", "--json"], &["paths"], &["doctor"]] {
            let (_, text) = as_nobody(&scene.laptop, &program, words);
            assert!(text.contains(&peer.name), "{words:?}: {text}");
            assert!(!remotes.iter().any(|remote| text.contains(remote)), "{words:?}: {text}");
            assert!(!text.contains(&peer.public_key), "{words:?}: {text}");
        }
        let (_, status) = as_nobody(&scene.laptop, &program, &["status"]);
        assert!(status.contains("members of the group `mast`"), "{status}");
        // Nothing is tried for them.
        let (_, doctor) = as_nobody(&scene.laptop, &program, &["doctor"]);
        assert!(!doctor.contains("tun-create") && !doctor.contains("last-step"), "{doctor}");
        assert!(mast(&scene.laptop, &["doctor"]).out.contains("tun-create"));
        for words in [&["events"][..], &["down"], &["invite"], &["invite", "list"], &["drill"]] {
            let (code, text) = as_nobody(&scene.laptop, &program, words);
            assert_eq!(code, 4, "{words:?}: {text}");
        }
        assert!(scene.laptop.status().unwrap().up);
    });
}

#[test]
fn an_invite_that_was_revoked_makes_nobody_a_peer() {
    lab(|| {
        let train =
            mast_stage::Train::new(&mast_stage::TrainProfile::default()).unwrap_or_else(|e| panic!("{e}"));
        let scene = Scene::apart(train);
        let link = mast(&scene.server, &["invite", "--name", "thief"]).good().out.trim().to_owned();
        let listed = mast(&scene.server, &["invite", "list"]).good().out;
        let line = listed.lines().find(|line| line.contains("thief")).unwrap_or_else(|| panic!("{listed}"));
        assert!(line.contains("open"), "{listed}");
        assert!(!listed.contains(&link[20..40]), "no secret is listed");
        let id = line.split_whitespace().next().unwrap();
        mast(&scene.server, &["invite", "revoke", id]).good();
        assert!(mast(&scene.server, &["invite", "list"]).good().out.contains("revoked"));
        let refused = mast(&scene.laptop, &["peer", "add", &link]);
        assert_eq!(refused.code, 1, "{refused}");
        assert!(scene.server.status().unwrap().peers.is_empty());
        let unknown = mast(&scene.server, &["invite", "revoke", "00000000"]);
        assert!(unknown.code == 1 && unknown.to_string().contains(id), "{unknown}");
    });
}

/// Whoever used an invite is told when that is on the disk: a service that dies in between lets it be used again, by the
/// same, who was never told.
#[test]
fn who_used_an_invite_is_told_when_that_is_on_the_disk() {
    lab(|| {
        let train =
            mast_stage::Train::new(&mast_stage::TrainProfile::default()).unwrap_or_else(|e| panic!("{e}"));
        let mut scene = Scene::apart(train);
        let link = mast(&scene.server, &["invite"]).good().out.trim().to_owned();
        let state = scene.server.directory().join("state");
        let is_used =
            || std::fs::read_to_string(state.join("invites.json")).unwrap().contains("\"used\": true");
        assert!(!is_used());
        // The disk hangs: whoever opens this waits.
        let journal = state.join("peers.journal");
        assert!(!journal.exists());
        assert!(Command::new("mkfifo").arg(&journal).status().unwrap().success());
        let joining = mast(&scene.laptop, &["peer", "add", &link]);
        let there = Command::new("ls").arg("-la").arg(&state).output().unwrap();
        let there = String::from_utf8_lossy(&there.stdout).into_owned();
        let log = scene.server.log();
        assert_eq!(joining.code, 1, "it was told what is not on the disk: {joining}\n{there}\n{log}");
        assert!(!is_used());
        scene.server.kill();
        std::fs::remove_file(&journal).unwrap();
        scene.server.launch().unwrap_or_else(|e| panic!("{e}"));
        mast(&scene.laptop, &["peer", "add", &link]).good();
        assert!(is_used(), "it was told before that was on the disk");
        assert!(mast(&scene.server, &["invite", "list"]).good().out.contains("used"));
        scene.wait_for_both_uplinks();
    });
}

/// A service as the unit starts it: another user than root, with two capabilities, and nothing else to write in /proc/sys
/// than the settings of interfaces.
fn unprivileged() -> Program {
    mast_program().prepared(&format!(
        // The mounts stay for the next start.
        "if ! [ -e $STAGE/tun ]; then
             mknod -m 666 $STAGE/tun c 10 200
             mount --bind $STAGE/tun /dev/net/tun
             mount --bind /proc/sys /proc/sys
             mount --bind /proc/sys/net/ipv6/conf /proc/sys/net/ipv6/conf
             mount -o remount,bind,ro /proc/sys
         fi
         mkdir -p $STAGE/state
         chown -R {NOBODY}:{NOBODY} $STAGE
         exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --no-new-privs \\
             --inh-caps=-all,+net_admin,+net_raw --ambient-caps=-all,+net_admin,+net_raw \\
             --bounding-set=-all,+net_admin,+net_raw -- \"$0\" \"$@\""
    ))
}

/// What the kernel says of a process.
fn of_process(id: u32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').split_whitespace().next().unwrap_or_default().to_owned()
}

#[test]
fn a_user_with_two_capabilities_is_all_that_the_service_needs() {
    lab(|| {
        if !has_users() {
            return;
        }
        let train =
            mast_stage::Train::new(&mast_stage::TrainProfile::default()).unwrap_or_else(|e| panic!("{e}"));
        let server = Daemon::start(&mast_program(), &train.server, "").unwrap_or_else(|e| panic!("{e}"));
        // Like a host on which IPv6 is off by default: the virtual interface has it all the same.
        let off = |value: &str| {
            let value = value.to_owned();
            let file = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
            train.laptop.run(move || std::fs::write(file, value)).unwrap().unwrap();
        };
        off("1");
        let laptop = Daemon::start(&unprivileged(), &train.laptop, "").unwrap_or_else(|e| panic!("{e}"));
        let id = laptop.id().unwrap();
        assert_eq!(of_process(id, "Uid"), NOBODY.to_string());
        let both = format!("{:016x}", 1 << 12 | 1 << 13);
        for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(of_process(id, set), both, "{set}");
        }
        // Its memory is nobody's: what it has of files in /proc is root's then.
        use std::os::unix::fs::MetadataExt;
        assert_eq!(std::fs::metadata(format!("/proc/{id}/maps")).unwrap().uid(), 0);
        mast_e2e::pair(&server, &laptop);
        let mut scene = Scene { laptop, server, train };
        scene.wait_for_both_uplinks();
        let session = Session::start(&scene.laptop, &scene.server);
        mast(&scene.laptop, &["protect", "on"]).good();
        let doctor = mast(&scene.laptop, &["doctor"]);
        assert!(!doctor.out.contains("BAD"), "{doctor}");
        mast(&scene.laptop, &["down"]).good();
        mast(&scene.laptop, &["up"]).good();
        session.survives();
        // What it wrote is its own, and it finds it again.
        let before = scene.laptop.peer().unwrap();
        assert!(scene.laptop.stop().unwrap().success());
        scene.laptop.launch().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(scene.laptop.peer().unwrap().public_key, before.public_key);
    });
}
