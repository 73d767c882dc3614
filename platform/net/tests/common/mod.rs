//! Runs a test in a network namespace of its own, and changes that with the `ip` command.

#![allow(dead_code, reason = "not every test file uses everything")]

use std::future::Future;
use std::process::Command;
use std::thread;
use std::time::Duration;

use mast_engine::os::InterfaceList;
use mast_proto::Interface;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use tokio::sync::watch;

/// Set in the processes that tests start of themselves.
pub const INSIDE: &str = "MAST_PLATFORM_TEST_INSIDE";
/// Far longer than anything takes on an idle machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `test` on a thread in a fresh network namespace with a runtime of its own. An ordinary user gets there by way
/// of a user namespace, in a process of its own; for that the test's own name is needed.
pub fn in_namespace<F, Fut>(name: &str, test: F)
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()>,
{
    let body = move || {
        if unshare(CloneFlags::CLONE_NEWNET) == Err(Errno::EPERM) {
            return false;
        }
        ip("link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
        true
    };
    let done = thread::spawn(body).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    if !done {
        again(name, &["--user", "--map-root-user", "--net"]);
    }
}

/// Whether this process may open the node through which TUN devices are made; distributions let everybody, some
/// minimal systems only root.
pub fn may_open_tun() -> bool {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    if let Err(error) = &opened {
        eprintln!("left out, since this user may not open /dev/net/tun: {error}");
    }
    opened.is_ok() || nix::unistd::geteuid().is_root() && std::env::var_os(INSIDE).is_none()
}

/// Runs one test of this program again, in other namespaces.
pub fn again(name: &str, namespaces: &[&str]) {
    assert!(std::env::var_os(INSIDE).is_none(), "this user may not create namespaces");
    let status = Command::new("unshare")
        .args(namespaces)
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("the `unshare` command of util-linux is needed to run this test as an ordinary user");
    assert!(status.success(), "{name} failed in {namespaces:?}");
}

/// Runs `ip` in the namespace of this thread and returns what it prints.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("the `ip` command of iproute2 is needed to run this test");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a pair of connected interfaces, both up, the first with an address.
pub fn pair(name: &str, peer: &str, address: &str) {
    ip(&format!("link add {name} type veth peer name {peer}"));
    ip(&format!("link set {peer} up"));
    ip(&format!("link set {name} up"));
    ip(&format!("addr add {address} dev {name}"));
}

/// Waits for what happens when a descriptor is closed. A child that another test is just starting has a copy of every
/// descriptor for a moment.
pub fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !happened() {
        assert!(started.elapsed() < PATIENCE, "not so: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the list is as wanted.
pub async fn wait_for(
    receiver: &mut watch::Receiver<InterfaceList>,
    what: &str,
    wanted: impl FnMut(&InterfaceList) -> bool,
) -> InterfaceList {
    let seen = tokio::time::timeout(PATIENCE, receiver.wait_for(wanted)).await;
    if let Ok(list) = seen {
        return list.unwrap().clone();
    }
    drop(seen);
    panic!("not seen: {what}; last: {:#?}", *receiver.borrow());
}

/// The interface of a name.
pub fn find<'a>(list: &'a InterfaceList, name: &str) -> Option<&'a Interface> {
    list.interfaces.iter().find(|i| i.name == name)
}

/// Whether the interface of a name is there and can be used.
pub fn usable(list: &InterfaceList, name: &str) -> bool {
    find(list, name).is_some_and(|i| i.usable)
}
