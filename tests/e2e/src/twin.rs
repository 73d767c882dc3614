//! Two hosts with two uplinks each.
//!
//! ```text
//!            wifi 10.1.0.2 ── isp-wifi ─┐      ┌─ isp-left ── left 10.8.0.2
//!  laptop ─┤                            ├ core ┤                            ├─ server
//!            cell 10.2.0.2 ── isp-cell ─┘      └─ isp-right ─ right 10.9.0.2
//! ```

use std::time::Duration;

use mast_control::PathState;
use mast_netlab::{Host, Lab, LinkProfile};
use mast_stage::{Addressing, Daemon, Uplink, UplinkProfile};

use crate::{PATIENCE, mast_program, pair};

/// The network and its daemons.
pub struct Twin {
    /// The daemon of the mobile host.
    pub laptop: Daemon,
    /// The daemon of the other host.
    pub server: Daemon,
    /// The laptop's better uplink.
    pub wifi: Uplink,
    /// The laptop's other one.
    pub cell: Uplink,
    /// The server's better uplink.
    pub left: Uplink,
    /// The server's other one.
    pub right: Uplink,
    /// Hosts last as long as something refers to them.
    _core: Host,
    _lab: Lab,
}

impl Twin {
    /// Builds the network, starts and pairs the daemons, and waits until they are connected over all uplinks.
    pub fn new(addressing: Addressing) -> Self {
        let lab = Lab::new().unwrap_or_else(|e| panic!("{e}"));
        let (laptop, server) = (lab.host("laptop").unwrap(), lab.host("server").unwrap());
        let core = lab.router("core").unwrap();
        let uplink = |host, name, net, metric, delay| {
            let link = LinkProfile::delay(Duration::from_millis(delay));
            let profile = UplinkProfile { name, net, metric, link, nat: false };
            Uplink::new(&lab, host, &core, &profile, addressing).unwrap_or_else(|e| panic!("{e}"))
        };
        let wifi = uplink(&laptop, "wifi", 1, 100, 10);
        let cell = uplink(&laptop, "cell", 2, 200, 20);
        let left = uplink(&server, "eth-left", 8, 100, 5);
        let right = uplink(&server, "eth-right", 9, 200, 25);
        let program = mast_program();
        let server = Daemon::start(&program, &server, "").unwrap_or_else(|e| panic!("{e}"));
        let laptop = Daemon::start(&program, &laptop, "").unwrap_or_else(|e| panic!("{e}"));
        pair(&server, &laptop);
        let all = |daemon: &Daemon, interfaces: [&str; 2]| {
            let waited = daemon.wait("working paths on both uplinks", PATIENCE, |s| {
                interfaces.iter().all(|i| {
                    s.peers[0].paths.iter().any(|p| p.interface == *i && p.state == PathState::Validated)
                })
            });
            waited.unwrap_or_else(|e| panic!("{e}"));
        };
        all(&laptop, ["wifi", "cell"]);
        all(&server, ["eth-left", "eth-right"]);
        Self { laptop, server, wifi, cell, left, right, _core: core, _lab: lab }
    }
}
