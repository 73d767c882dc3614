//! Two hosts with two uplinks each.
//!
//! ```text
//!            wifi 10.1.0.2 ── isp-wifi ─┐      ┌─ isp-left ── left 10.8.0.2
//!  laptop ─┤                            ├ core ┤                            ├─ server
//!            cell 10.2.0.2 ── isp-cell ─┘      └─ isp-right ─ right 10.9.0.2
//! ```

use std::time::Duration;

use mast_control::PathState;
use mast_netlab::{Host, Lab, Link, LinkProfile};
use mast_stage::Daemon;

use crate::{PATIENCE, mast_program, pair};

/// One uplink of a host.
pub struct Uplink {
    /// The interface's name.
    pub name: &'static str,
    host: Host,
    /// The router of its provider.
    pub isp: Host,
    /// The link to it.
    pub link: Link,
    /// The second number of its addresses.
    net: u8,
    /// The third one, which a renumbering changes.
    subnet: std::cell::Cell<u8>,
    metric: u32,
}

impl Uplink {
    fn new(
        lab: &Lab,
        host: &Host,
        core: &Host,
        name: &'static str,
        net: u8,
        metric: u32,
        delay: u64,
    ) -> Self {
        let isp = lab.router(&format!("isp-{name}")).unwrap();
        let profile = LinkProfile::delay(Duration::from_millis(delay));
        let link = lab.link(host, name, &isp, "down", &profile).unwrap();
        lab.wire(&isp, "up", core, name).unwrap();
        isp.add_address("up", &format!("10.3.{net}.2/24")).unwrap();
        core.add_address(name, &format!("10.3.{net}.1/24")).unwrap();
        isp.add_route("default", Some(&format!("10.3.{net}.1")), "up", 0).unwrap();
        core.add_route(&format!("10.{net}.0.0/16"), Some(&format!("10.3.{net}.2")), name, 0).unwrap();
        let uplink =
            Self { name, host: host.clone(), isp, link, net, subnet: std::cell::Cell::new(0), metric };
        uplink.appear(0);
        uplink
    }

    /// The host gets an address in subnet `subnet`, and a default route.
    pub fn appear(&self, subnet: u8) {
        let net = self.net;
        self.subnet.set(subnet);
        self.isp.add_address("down", &format!("10.{net}.{subnet}.1/24")).unwrap();
        self.host.add_address(self.name, &format!("10.{net}.{subnet}.2/24")).unwrap();
        self.route();
    }

    /// The host loses its address, and with it its routes.
    pub fn vanish(&self) {
        let (net, subnet) = (self.net, self.subnet.get());
        self.host.del_address(self.name, &format!("10.{net}.{subnet}.2/24")).unwrap();
        self.isp.del_address("down", &format!("10.{net}.{subnet}.1/24")).unwrap();
    }

    /// Down, and up again in another network.
    pub fn return_elsewhere(&self, subnet: u8) {
        self.vanish();
        self.host.set_up(self.name, true).unwrap();
        self.appear(subnet);
    }

    fn route(&self) {
        let via = format!("10.{}.{}.1", self.net, self.subnet.get());
        self.host.add_route("default", Some(&via), self.name, self.metric).unwrap();
    }

    /// Sets the interface up or down, as a user would.
    pub fn set_up(&self, up: bool) {
        self.host.set_up(self.name, up).unwrap();
        if up {
            self.route();
        }
    }

    /// The provider drops everything silently, or no more.
    pub fn fail(&self, fails: bool) {
        self.link.set_drop(fails, fails);
    }
}

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
    pub fn new() -> Self {
        let lab = Lab::new().unwrap_or_else(|e| panic!("{e}"));
        let (laptop, server) = (lab.host("laptop").unwrap(), lab.host("server").unwrap());
        let core = lab.router("core").unwrap();
        let wifi = Uplink::new(&lab, &laptop, &core, "wifi", 1, 100, 10);
        let cell = Uplink::new(&lab, &laptop, &core, "cell", 2, 200, 20);
        let left = Uplink::new(&lab, &server, &core, "eth-left", 8, 100, 5);
        let right = Uplink::new(&lab, &server, &core, "eth-right", 9, 200, 25);
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

impl Default for Twin {
    fn default() -> Self {
        Self::new()
    }
}
