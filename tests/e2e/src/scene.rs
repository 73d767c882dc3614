//! A laptop with two uplinks and a server, each with a real daemon, paired and connected over both uplinks.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mast_control::{Event, PathState, Status};
use mast_stage::{Addressing, Daemon, Net, Program, Train, TrainProfile};

use crate::{PATIENCE, within};

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
        Self::of(&TrainProfile::default())
    }

    /// With these versions of IP.
    pub fn with(addressing: Addressing) -> Self {
        Self::of(&TrainProfile::default().with(addressing))
    }

    /// On a network like this.
    pub fn of(profile: &TrainProfile) -> Self {
        let scene = Self::apart(Train::new(profile).unwrap_or_else(|e| panic!("{e}")));
        pair(&scene.server, &scene.laptop);
        scene.wait_for_both_uplinks();
        scene
    }

    /// On a given network, and the daemons not paired yet.
    pub fn apart(train: Train) -> Self {
        let program = mast_program();
        let server = Daemon::start(&program, &train.server, "").unwrap_or_else(|e| panic!("{e}"));
        let laptop = Daemon::start(&program, &train.laptop, "").unwrap_or_else(|e| panic!("{e}"));
        Self { laptop, server, train }
    }

    /// Waits until the laptop is connected over Wi-Fi, and cellular works, too, each with all versions of IP.
    pub fn wait_for_both_uplinks(&self) {
        let both = |s: &Status| {
            let Some(peer) = s.peers.first().filter(|p| p.eid.remote_v4.is_some()) else { return false };
            let good = |interface: &str, version: &IpAddr| {
                peer.paths.iter().any(|p| {
                    let same = ip(&p.remote).is_some_and(|r| r.is_ipv4() == version.is_ipv4());
                    p.interface == interface && p.state == PathState::Validated && same
                })
            };
            let versions = self.train.addressing.addresses(Train::SITE, 2);
            ["wifi", "cell"].iter().all(|i| versions.iter().all(|v| good(i, v)))
        };
        self.laptop.wait("working paths over both uplinks", PATIENCE, both).unwrap_or_else(|e| panic!("{e}"));
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

/// The address in what is told of an end of a path, with a port or without.
pub fn ip(text: &str) -> Option<IpAddr> {
    text.parse::<SocketAddr>().ok().map(|a| a.ip()).or_else(|| text.parse().ok())
}

/// The address to which a daemon sends data.
pub fn remote(daemon: &Daemon) -> Option<IpAddr> {
    let peer = daemon.peer().unwrap_or_else(|e| panic!("{e}"));
    ip(&peer.paths.into_iter().find(|p| p.active)?.remote)
}

/// Waits until a daemon sends data to host 2 of a network.
pub fn sends_to(daemon: &Daemon, net: Net) {
    let there = || remote(daemon).is_some_and(|ip| Addressing::Both.addresses(net, 2).contains(&ip));
    within(PATIENCE, &format!("data to {net:?}"), there);
}

/// What a daemon tells of the past.
pub fn events(daemon: &Daemon) -> Vec<Event> {
    daemon.status().unwrap_or_else(|e| panic!("{e}")).events
}

/// Whether a move was told.
pub fn has_moved(daemon: &Daemon, from: Option<&str>, to: Option<&str>) -> bool {
    events(daemon).iter().any(|e| e.from.as_deref() == from && e.to.as_deref() == to)
}

/// Waits until a daemon's latest move from an interface to another is one between these, for one of these reasons; how long it
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
        // A move from one version of IP to the other over the same link is another matter.
        found = all.iter().rev().find(|e| e.to.is_some() && e.from != e.to).filter(|e| is_it(e)).cloned();
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
