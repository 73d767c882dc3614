//! A laptop with two uplinks and a server, each with a real daemon, paired and connected over both uplinks.

use std::time::Duration;

use mast_control::{Event, PathState, Status};
use mast_stage::{Addressing, Daemon, Program, Train, TrainProfile};

use crate::PATIENCE;

/// The daemons and their network.
pub struct Scene {
    /// On the host with `wifi` and `cell`.
    pub laptop: Daemon,
    /// On the host with `eth0`.
    pub server: Daemon,
    /// Last, so that the daemons end before their network.
    pub train: Train,
}

impl Scene {
    /// The usual one.
    pub fn new() -> Self {
        Self::with(Addressing::V4)
    }

    /// With other versions of IP.
    pub fn with(addressing: Addressing) -> Self {
        let train = Train::with(&TrainProfile::default(), addressing).unwrap_or_else(|e| panic!("{e}"));
        let scene = Self::apart(train);
        pair(&scene.server, &scene.laptop);
        scene.wait_for_both_paths();
        scene
    }

    /// On a given network, and the daemons not paired yet.
    pub fn apart(train: Train) -> Self {
        let program = mast_program();
        let server = Daemon::start(&program, &train.server, "").unwrap_or_else(|e| panic!("{e}"));
        let laptop = Daemon::start(&program, &train.laptop, "").unwrap_or_else(|e| panic!("{e}"));
        Self { laptop, server, train }
    }

    /// Waits until the laptop is connected over Wi-Fi and the cellular path works, too.
    pub fn wait_for_both_paths(&self) {
        let both = |s: &Status| {
            ["wifi", "cell"].iter().all(|i| {
                s.peers.first().is_some_and(|p| {
                    p.eid.remote_v4.is_some()
                        && p.paths.iter().any(|x| x.interface == *i && x.state == PathState::Validated)
                })
            })
        };
        self.laptop.wait("two working paths", PATIENCE, both).unwrap_or_else(|e| panic!("{e}"));
        self.laptop.wait_active("wifi", PATIENCE).unwrap_or_else(|e| panic!("{e}"));
    }

    /// Waits until the laptop's data goes over an interface.
    pub fn wait_active(&self, interface: &str) {
        self.laptop.wait_active(interface, PATIENCE * 2).unwrap_or_else(|e| panic!("{e}"));
    }
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

/// The `mast` that is tested.
pub fn mast_program() -> Program {
    Program::built().unwrap_or_else(|e| panic!("{e}"))
}

/// Makes two daemons peers, by an invite of the first.
pub fn pair(inviter: &Daemon, joiner: &Daemon) {
    inviter.pair(joiner).unwrap_or_else(|e| panic!("{e}\n{}\n{}", inviter.log(), joiner.log()));
}

/// The interface over which data to a peer goes.
pub fn active(daemon: &Daemon) -> Option<String> {
    let peer = daemon.peer().unwrap_or_else(|e| panic!("{e}"));
    peer.paths.into_iter().find(|p| p.active).map(|p| p.interface)
}

/// What a daemon tells of the past.
pub fn events(daemon: &Daemon) -> Vec<Event> {
    daemon.status().unwrap_or_else(|e| panic!("{e}")).events
}

/// Whether a move was told.
pub fn has_moved(daemon: &Daemon, from: Option<&str>, to: Option<&str>) -> bool {
    events(daemon).iter().any(|e| e.from.as_deref() == from && e.to.as_deref() == to)
}

/// Waits until a daemon's latest event is a move between these interfaces, for one of these reasons; how long it
/// was silent is told a moment later than the move itself.
pub fn told(daemon: &Daemon, from: &str, to: &str, reasons: &[&str]) -> Event {
    let mut found = None;
    let is_it = |e: &Event| {
        e.from.as_deref() == Some(from) && e.to.as_deref() == Some(to) && reasons.contains(&e.reason.as_str())
    };
    let limit = Duration::from_secs(8);
    let start = std::time::Instant::now();
    while found.is_none() {
        let all = events(daemon);
        found = all.iter().rev().find(|e| e.to.is_some()).filter(|e| is_it(e)).cloned();
        assert!(
            found.is_some() || start.elapsed() < limit,
            "the last move told is not from {from} to {to} for one of {reasons:?}: {all:#?}\n{}",
            daemon.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    // It stays the last one.
    found.unwrap()
}
