//! Nothing is left behind. One test, because it looks at the whole process.

#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

use std::{
    env, fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use mast_netlab::{Lab, LinkProfile, isolated_test};

const DOOMED: &str = "NETLAB_TEST_DOOMED";

fn interfaces() -> String {
    fs::read_to_string("/proc/thread-self/net/dev")
        .unwrap()
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned() + " "))
        .collect()
}

fn tasks() -> Vec<String> {
    fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| !name.starts_with("nothing_"))
        .collect()
}

fn children() -> String {
    fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
        .collect()
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(10));
    }
}

/// Builds a lab with a process in it.
fn build() -> (Lab, mast_netlab::Process) {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a").unwrap(), lab.host("b").unwrap());
    lab.link(&a, "eth0", &b, "eth0", &LinkProfile::default()).unwrap();
    let mut command = Command::new("sleep");
    command.arg("1000");
    let process = a.spawn(command).unwrap();
    (lab, process)
}

#[test]
fn nothing_is_left_behind() {
    isolated_test("nothing_is_left_behind", || {
        if env::var_os(DOOMED).is_some() {
            let (_lab, process) = build();
            println!("\npid {}", process.id());
            sleep(Duration::from_secs(1000));
        }
        let (before, threads) = (interfaces(), tasks().len());
        let built = build();
        assert_eq!(interfaces(), before, "a lab is invisible from outside");
        assert!(!children().is_empty());
        drop(built);
        assert_eq!(interfaces(), before);
        assert_eq!(children(), "");
        eventually("threads end", || tasks().len() <= threads);
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
        drop(build());
        eventually("descriptors are closed", || {
            fs::read_dir("/proc/self/fd").unwrap().count() <= descriptors
        });

        // Even when there is no chance to tidy up.
        let mut doomed = Command::new(env::current_exe().unwrap())
            .args(["nothing_is_left_behind", "--exact", "--nocapture"])
            .env(DOOMED, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(doomed.stdout.take().unwrap());
        let line = output.lines().map_while(Result::ok).find(|line| line.starts_with("pid "));
        let process = line.expect("the doomed process builds its lab").replace("pid ", "/proc/");
        assert!(fs::metadata(&process).is_ok());
        doomed.kill().unwrap();
        doomed.wait().unwrap();
        eventually("the process in the host is killed", || fs::metadata(&process).is_err());
    });
}
