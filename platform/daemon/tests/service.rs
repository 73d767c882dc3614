//! The real `mastd`, in a network namespace of its own.
//!
//! Needs root, or user namespaces for everybody, and `unshare` and `nsenter` of util-linux.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use mast_control::{
    Client, ClientError, ErrorCode, Invite, PeerAdd, PeerFile, PeerState, PolicyMode, PolicySet,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const PLAIN: &str = "[Interface]\nPrivateKey = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\nAddress = 10.8.0.2/24\n\
    DNS = 10.8.0.1\n[Peer]\nPublicKey = AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n\
    AllowedIPs = 10.8.0.0/24\nEndpoint = 192.0.2.1:51820\n";

/// A network namespace, and a directory for the service's files.
struct Lab {
    holder: Child,
    directory: TempDir,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

impl Lab {
    /// None where the system allows no namespaces or no virtual interfaces.
    fn new() -> Option<Self> {
        if File::options().read(true).write(true).open("/dev/net/tun").is_err() {
            eprintln!("skipped: /dev/net/tun is not to be had");
            return None;
        }
        let mut unshare = Command::new("unshare");
        if !is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare.args([
            "--net",
            "--",
            "sh",
            "-c",
            "ip link set lo up 2>/dev/null; echo ready; exec sleep 600",
        ]);
        let mut holder = unshare.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let mut line = String::new();
        let ready = BufReader::new(holder.stdout.take()?).read_line(&mut line);
        if ready.is_err() || line.trim() != "ready" {
            let _ = holder.wait();
            eprintln!("skipped: there are no network namespaces here");
            return None;
        }
        Some(Self { holder, directory: TempDir::new().unwrap() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("run/control.sock")
    }

    /// A program in the namespace.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.holder.id())).arg("--net");
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(program);
        command
    }

    fn mastd(&self, state: &str, socket: &Path) -> Command {
        let mut command = self.inside(env!("CARGO_BIN_EXE_mastd"));
        command
            .arg("--state-dir")
            .arg(self.path(state))
            .arg("--control")
            .arg(socket)
            .args(["--log", "debug"]);
        let config = self.path("mastd.toml");
        if config.exists() {
            command.arg("--config").arg(config);
        }
        command.env_remove("MAST_LOG").stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    async fn start(&self) -> Daemon {
        let child = self.mastd("state", &self.socket()).spawn().unwrap();
        let mut daemon = Daemon { child, socket: self.socket() };
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match Client::connect(&daemon.socket).await {
                Ok(_) => return daemon,
                Err(_) if Instant::now() < deadline && daemon.child.try_wait().unwrap().is_none() => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => {
                    let _ = daemon.child.kill();
                    panic!("mastd did not start: {error}\n{}", daemon.log());
                }
            }
        }
    }

    fn has_interface(&self, name: &str) -> bool {
        let output = self.inside("cat").arg("/proc/net/dev").output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains(&format!("{name}:"))
    }
}

struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    async fn client(&self) -> Client {
        Client::connect(&self.socket).await.unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    fn wait(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, start.elapsed());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("mastd does not end");
    }

    fn log(&mut self) -> String {
        let mut log = String::new();
        let _ = self.child.stderr.take().unwrap().read_to_string(&mut log);
        log
    }
}

fn words(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn file(name: &str) -> PeerAdd {
    PeerAdd {
        file: Some(PeerFile { name: name.to_owned(), contents: PLAIN.to_owned() }),
        ..PeerAdd::default()
    }
}

#[tokio::test]
async fn starts_answers_and_leaves_nothing() {
    let Some(lab) = Lab::new() else { return };
    let mut daemon = lab.start().await;
    let mut client = daemon.client().await;
    let status = client.status().await.unwrap();
    assert!(status.up && status.peers.is_empty() && !status.name.is_empty());
    assert_eq!((status.version.as_str(), status.public_key.len()), (mastd::VERSION, 44));
    assert!(lab.has_interface("mast0"));

    let (code, text) = words(&lab.mastd("state", &lab.path("run/other.sock")).output().unwrap());
    assert_eq!(code, Some(1));
    let pid = daemon.child.id();
    assert!(text.contains("another mastd") && text.contains(&format!("process {pid}")), "{text}");
    let (code, text) = words(&lab.mastd("state2", &lab.socket()).output().unwrap());
    assert_eq!(code, Some(1));
    assert!(text.contains("mast0") && text.contains("another mastd"), "{text}");
    client.status().await.unwrap();
    assert!(lab.has_interface("mast0"), "the second mastd took the interface away");

    daemon.signal(Signal::SIGTERM);
    let (status, took) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(!lab.has_interface("mast0") && !lab.socket().exists());
    let log = daemon.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[tokio::test]
async fn what_was_told_survives_a_kill() {
    let Some(lab) = Lab::new() else { return };
    let mut daemon = lab.start().await;
    let mut client = daemon.client().await;
    let key = client.status().await.unwrap().public_key;
    let added = client.peer_add(file("office.conf")).await.unwrap();
    assert_eq!((added.name.as_str(), added.eid.local_v4.as_deref()), ("office", Some("10.8.0.2")));
    let set = PolicySet {
        peer: Some("office".into()),
        mode: PolicyMode::Pin,
        pin: vec!["wifi".into()],
        fallback: false,
        ..PolicySet::default()
    };
    client.policy_set(set).await.unwrap();
    let status = client.status().await.unwrap();
    assert!(
        status.events.iter().any(|e| e.reason.contains("`DNS = 10.8.0.1` (line 4)")),
        "{:?}",
        status.events
    );
    // What was acknowledged is on its way to the disk; a kill in that moment may lose it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    assert!(lab.socket().exists(), "a killed service leaves its socket");

    let daemon = lab.start().await;
    let mut client = daemon.client().await;
    let status = client.status().await.unwrap();
    assert_eq!(status.public_key, key);
    let [office] = &status.peers[..] else { panic!("{status:?}") };
    assert_eq!(
        (office.policy.mode, office.policy.pin.as_slice()),
        (PolicyMode::Pin, &["wifi".to_owned()][..])
    );

    // All peers are meant, but for that with a policy of its own, until it follows again.
    client.policy_set(PolicySet::default()).await.unwrap();
    let mode = |s: mast_control::Status| (s.policy.map(|p| p.mode), s.peers[0].policy.mode);
    assert_eq!(mode(client.status().await.unwrap()), (Some(PolicyMode::Auto), PolicyMode::Pin));
    client.policy_clear("office").await.unwrap();
    assert_eq!(mode(client.status().await.unwrap()), (Some(PolicyMode::Auto), PolicyMode::Auto));
    client.peer_remove("office").await.unwrap();
    assert!(client.status().await.unwrap().peers.is_empty());
}

#[tokio::test]
async fn modes_of_several_paths_are_remembered() {
    let Some(lab) = Lab::new() else { return };
    std::fs::write(
        lab.path("mastd.toml"),
        "policy = { mode = \"bonded\", metered = true }\n[[peer]]\nname = \"nas\"\n\
         public_key = \"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=\"\n",
    )
    .unwrap();
    let mut daemon = lab.start().await;
    let mut client = daemon.client().await;
    client.peer_add(file("office.conf")).await.unwrap();
    let status = client.status().await.unwrap();
    let [nas, office] = &status.peers[..] else { panic!("{status:?}") };
    assert_eq!((nas.policy.mode, nas.policy.metered, nas.own_policy), (PolicyMode::Bonded, true, false));
    assert_eq!(nas.modes.last(), Some(&PolicyMode::Bonded));
    // A plain WireGuard server can do neither, and says so.
    assert_eq!((office.policy.mode, office.own_policy), (PolicyMode::Auto, false));
    assert_eq!(office.modes, [PolicyMode::Auto, PolicyMode::Pin]);

    let set = PolicySet {
        peer: Some("nas".into()),
        mode: PolicyMode::Redundant,
        small: true,
        ..PolicySet::default()
    };
    client.policy_set(set).await.unwrap();
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    let daemon = lab.start().await;
    let nas = &daemon.client().await.status().await.unwrap().peers[0];
    assert_eq!((nas.policy.mode, nas.own_policy), (PolicyMode::Redundant, true));
    assert!(nas.policy.small && !nas.policy.metered);
}

#[tokio::test]
async fn a_name_is_looked_up_again() {
    let Some(lab) = Lab::new() else { return };
    let mut daemon = lab.start().await;
    let mut add = file("office.conf");
    let contents = &mut add.file.as_mut().unwrap().contents;
    *contents = contents.replace("192.0.2.1", "office.invalid");
    let mut client = daemon.client().await;
    client.peer_add(add).await.unwrap();
    let status = client.status().await.unwrap();
    assert!(status.events.iter().any(|e| e.reason.contains("tried again")), "{:?}", status.events);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    let log = daemon.log();
    // By whoever added it, at once in the background, and two seconds later.
    assert_eq!(log.matches("name could not be looked up").count(), 3, "{log}");
}

#[tokio::test]
async fn down_is_remembered() {
    let Some(lab) = Lab::new() else { return };
    let mut daemon = lab.start().await;
    let mut client = daemon.client().await;
    client.down().await.unwrap();
    assert!(!lab.has_interface("mast0") && !client.status().await.unwrap().up);
    daemon.signal(Signal::SIGINT);
    assert_eq!(daemon.wait().0.code(), Some(0));

    let daemon = lab.start().await;
    let mut client = daemon.client().await;
    assert!(!lab.has_interface("mast0") && !client.status().await.unwrap().up);
    client.up().await.unwrap();
    assert!(lab.has_interface("mast0") && client.status().await.unwrap().up);
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let Some(lab) = Lab::new() else { return };
    std::fs::write(
        lab.path("mastd.toml"),
        "port = 7000\n[[peer]]\nname = \"nas\"\npublic_key = \"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=\"\n",
    )
    .unwrap();
    let daemon = lab.start().await;
    let mut client = daemon.client().await;
    let refused = |error: ClientError| match error {
        ClientError::Refused(error) => error,
        other => panic!("{other}"),
    };
    let error = refused(client.peer_remove("nas").await.unwrap_err());
    assert!(error.message.contains("mastd.toml") && error.message.contains("remove it there"), "{error}");
    let error = refused(client.peer_remove("hom").await.unwrap_err());
    assert_eq!((error.code, error.known), (ErrorCode::NotFound, vec!["nas".to_owned()]));
    let broken = PeerFile { name: "x.conf".into(), contents: "[Interface]\nAdress = 1\n".into() };
    let add = PeerAdd { file: Some(broken), ..PeerAdd::default() };
    let error = refused(client.peer_add(add).await.unwrap_err());
    assert!(error.message.contains("line 2") && error.message.contains("`Address`"), "{error}");
    client.peer_add(file("office.conf")).await.unwrap();
    let error = refused(client.peer_add(file("again.conf")).await.unwrap_err());
    assert_eq!(error.code, ErrorCode::Conflict, "{error}");
    let link = PeerAdd { link: Some("mast://1/nonsense".into()), ..PeerAdd::default() };
    assert_eq!(refused(client.peer_add(link).await.unwrap_err()).code, ErrorCode::Invalid);
    let pin = PolicySet { mode: PolicyMode::Pin, pin: vec!["wlan7".into()], ..PolicySet::default() };
    assert_eq!(refused(client.policy_set(pin).await.unwrap_err()).code, ErrorCode::NotFound);
    let bonded =
        |peer: &str| PolicySet { peer: Some(peer.into()), mode: PolicyMode::Bonded, ..PolicySet::default() };
    let error = refused(client.policy_set(bonded("office")).await.unwrap_err());
    assert_eq!(error.code, ErrorCode::Invalid);
    assert!(error.message.contains("`office` is a plain WireGuard server"), "{error}");
    client.policy_set(bonded("nas")).await.unwrap();
    let small = refused(client.policy_set(PolicySet { small: true, ..bonded("nas") }).await.unwrap_err());
    assert!(small.message.starts_with("`small` does not belong to mode \"bonded\""), "{small}");
    // Without any network there is no address to invite to.
    let error = refused(client.invite(Invite::default()).await.unwrap_err());
    assert!(!error.message.is_empty());
    assert!(matches!(client.drill("nas", |_| {}).await, Err(ClientError::Refused(_))));

    let report = client.doctor().await.unwrap();
    let check = |name: &str| {
        report.checks.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("{name}: {report:?}"))
    };
    assert!(check("tunnel").ok && check("clock").ok && check("state").ok && check("tun-create").ok);
    assert!(check("tunnel").detail.contains("7000"));
    assert!(!check("uplinks").ok && check("uplinks").remedy.is_some());
    assert!(!check("peer nas").ok);
    let status = client.status().await.unwrap();
    assert!(status.peers.iter().all(|p| p.state != PeerState::Connected));
}

#[tokio::test]
async fn a_second_signal_is_not_waited_for() {
    let Some(lab) = Lab::new() else { return };
    let mut daemon = lab.start().await;
    daemon.signal(Signal::SIGHUP);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(daemon.client().await.status().await.is_ok(), "SIGHUP ended it");
    daemon.signal(Signal::SIGTERM);
    daemon.signal(Signal::SIGINT);
    let (status, took) = daemon.wait();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(1));
    assert!(!lab.has_interface("mast0") && !lab.socket().exists());
}

#[tokio::test]
async fn what_cannot_work_is_said_before_anything_is_touched() {
    let Some(lab) = Lab::new() else { return };
    let config = lab.path("mastd.toml");
    std::fs::write(&config, "\nprot = 1\n").unwrap();
    let (code, text) = words(&lab.mastd("state", &lab.socket()).output().unwrap());
    assert_eq!(code, Some(2));
    assert!(text.contains("mastd.toml:2: unknown key `prot`: did you mean `port`?"), "{text}");
    assert!(!lab.path("state").exists());

    std::fs::write(&config, "port = 1\n").unwrap();
    let (code, _) = words(&lab.mastd("state", &lab.socket()).arg("--check").output().unwrap());
    assert_eq!((code, lab.path("state").exists()), (Some(0), false));
    let peer = |endpoint: &str| {
        let key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        format!("[[peer]]\nname = \"nas\"\npublic_key = \"{key}\"\nendpoints = [\"{endpoint}\"]\n")
    };
    for (endpoint, remedy) in [
        ("[fe80::1]:7", "write the zone"),
        ("[2001:db8::1%eth0]:7", "write `[2001:db8::1]:7`"),
        ("127.0.0.1:7", "this machine itself"),
        ("[ff02::1]:7", "write the peer's own address"),
    ] {
        std::fs::write(&config, peer(endpoint)).unwrap();
        let (code, text) = words(&lab.mastd("state", &lab.socket()).arg("--check").output().unwrap());
        assert_eq!(code, Some(2), "{text}");
        assert!(
            text.contains("mastd.toml:4: ") && text.contains(endpoint) && text.contains(remedy),
            "{text}"
        );
    }
    std::fs::write(&config, peer("[fe80::1%nosuch0]:7")).unwrap();
    let mut check = lab.mastd("state", &lab.socket());
    let output = check.arg("--check").stdout(std::process::Stdio::piped()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("[fe80::1%nosuch0]:7") && told.contains("no interface `nosuch0`"), "{told}");
    std::fs::remove_file(&config).unwrap();
    let (code, text) =
        words(&lab.mastd("state", &lab.socket()).arg("--config").arg(&config).output().unwrap());
    assert_eq!(code, Some(2));
    assert!(text.contains("cannot read the configuration"), "{text}");
    let (code, text) = words(&lab.mastd("state", &lab.socket()).arg("--verbose").output().unwrap());
    assert_eq!(code, Some(2));
    assert!(text.contains("--verbose"), "{text}");

    let mut first = lab.start().await;
    first.signal(Signal::SIGTERM);
    first.wait();
    let peers = lab.path("state/peers.json");
    std::fs::write(&peers, "{\"version\": 1, \"pee").unwrap();
    let (code, text) = words(&lab.mastd("state", &lab.socket()).output().unwrap());
    assert_eq!(code, Some(1));
    assert!(text.contains("peers.json is damaged") && text.contains("mv "), "{text}");
    assert_eq!(std::fs::read_to_string(&peers).unwrap(), "{\"version\": 1, \"pee");
    assert!(!lab.has_interface("mast0") && !lab.socket().exists());
}
