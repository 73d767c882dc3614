//! The network: a laptop with two uplinks, and a server.

use std::time::Duration;

use mast_netlab::{Host, Lab, Link, LinkProfile};

use crate::Result;

/// How the two uplinks are.
#[derive(Debug, Clone)]
pub struct TrainProfile {
    /// The Wi-Fi link.
    pub wifi: LinkProfile,
    /// The cellular link.
    pub cell: LinkProfile,
}

impl Default for TrainProfile {
    /// 40 ms round trip on Wi-Fi, 60 ms on cellular, no rate limit.
    fn default() -> Self {
        Self {
            wifi: LinkProfile::delay(Duration::from_millis(20)),
            cell: LinkProfile::delay(Duration::from_millis(30)),
        }
    }
}

/// Which versions of IP the hosts and routers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// IPv4, as in the picture.
    V4,
    /// IPv6: `2001:db8:1::2` in place of `10.1.0.2`, and so on.
    V6,
    /// Both.
    Both,
}

impl Addressing {
    fn has(self, v6: bool) -> bool {
        self == Self::Both || (self == Self::V6) == v6
    }
}

/// The network on stage. Dropping it takes it down.
pub struct Train {
    /// The mobile host, with interfaces `wifi` and `cell`.
    pub laptop: Host,
    /// The host that stays, with interface `eth0`.
    pub server: Host,
    /// The router behind the Wi-Fi.
    pub isp_wifi: Host,
    /// The router behind the cellular link.
    pub isp_cell: Host,
    /// The router in the middle.
    pub core: Host,
    /// The Wi-Fi link.
    pub wifi: Link,
    /// The cellular link.
    pub cell: Link,
    addressing: Addressing,
    /// All of it.
    pub lab: Lab,
}

impl Train {
    /// The server's address.
    pub const SERVER: &'static str = "10.9.0.2";
    const WIFI_V6: &'static str = "2001:db8:1::2/64";
    const CELL_V6: &'static str = "2001:db8:2::2/64";
    /// The metric of the Wi-Fi's default route, the better one.
    const WIFI_METRIC: u32 = 100;
    /// The metric of the cellular default route.
    const CELL_METRIC: u32 = 200;

    /// Builds the network, with IPv4.
    ///
    /// # Errors
    /// When the system does not allow namespaces, with what to do about it.
    pub fn new(profile: &TrainProfile) -> Result<Self> {
        Self::with(profile, Addressing::V4)
    }

    /// Builds the network.
    ///
    /// # Errors
    /// As [`Train::new`].
    pub fn with(profile: &TrainProfile, addressing: Addressing) -> Result<Self> {
        let lab = Lab::new()?;
        let laptop = lab.host("laptop")?;
        let server = lab.host("server")?;
        let (isp_wifi, isp_cell) = (lab.router("isp-wifi")?, lab.router("isp-cell")?);
        let core = lab.router("core")?;
        let wifi = lab.link(&laptop, "wifi", &isp_wifi, "down", &profile.wifi)?;
        let cell = lab.link(&laptop, "cell", &isp_cell, "down", &profile.cell)?;
        lab.wire(&isp_wifi, "up", &core, "wifi")?;
        lab.wire(&isp_cell, "up", &core, "cell")?;
        lab.wire(&core, "server", &server, "eth0")?;
        let train = Self { laptop, server, isp_wifi, isp_cell, core, wifi, cell, addressing, lab };
        let Self { laptop, server, isp_wifi, isp_cell, core, .. } = &train;
        for (host, interface, v4, v6) in [
            (laptop, "wifi", "10.1.0.2/24", Self::WIFI_V6),
            (isp_wifi, "down", "10.1.0.1/24", "2001:db8:1::1/64"),
            (laptop, "cell", "10.2.0.2/24", Self::CELL_V6),
            (isp_cell, "down", "10.2.0.1/24", "2001:db8:2::1/64"),
            (isp_wifi, "up", "10.3.1.2/24", "2001:db8:31::2/64"),
            (core, "wifi", "10.3.1.1/24", "2001:db8:31::1/64"),
            (isp_cell, "up", "10.3.2.2/24", "2001:db8:32::2/64"),
            (core, "cell", "10.3.2.1/24", "2001:db8:32::1/64"),
            (core, "server", "10.9.0.1/24", "2001:db8:9::1/64"),
            (server, "eth0", "10.9.0.2/24", "2001:db8:9::2/64"),
        ] {
            for address in
                [Some(v4).filter(|_| addressing.has(false)), Some(v6).filter(|_| addressing.has(true))]
            {
                address.map(|a| host.add_address(interface, a)).transpose()?;
            }
        }
        for (host, prefix, v4, v6, interface) in [
            (server, "default", "10.9.0.1", "2001:db8:9::1", "eth0"),
            (isp_wifi, "default", "10.3.1.1", "2001:db8:31::1", "up"),
            (isp_cell, "default", "10.3.2.1", "2001:db8:32::1", "up"),
        ] {
            for via in [Some(v4).filter(|_| addressing.has(false)), Some(v6).filter(|_| addressing.has(true))]
            {
                via.map(|v| host.add_route(prefix, Some(v), interface, 0)).transpose()?;
            }
        }
        if addressing.has(false) {
            core.add_route("10.1.0.0/16", Some("10.3.1.2"), "wifi", 0)?;
            core.add_route("10.2.0.0/16", Some("10.3.2.2"), "cell", 0)?;
        }
        if addressing.has(true) {
            core.add_route("2001:db8:1::/64", Some("2001:db8:31::2"), "wifi", 0)?;
            core.add_route("2001:db8:2::/64", Some("2001:db8:32::2"), "cell", 0)?;
        }
        train.wifi_route()?;
        train.cell_route()?;
        Ok(train)
    }

    fn wifi_route(&self) -> Result<()> {
        self.default_routes("wifi", "10.1.0.1", "2001:db8:1::1", Self::WIFI_METRIC)
    }

    fn cell_route(&self) -> Result<()> {
        self.default_routes("cell", "10.2.0.1", "2001:db8:2::1", Self::CELL_METRIC)
    }

    fn default_routes(&self, interface: &str, v4: &str, v6: &str, metric: u32) -> Result<()> {
        if self.addressing.has(false) {
            self.laptop.add_route("default", Some(v4), interface, metric)?;
        }
        if self.addressing.has(true) {
            self.laptop.add_route("default", Some(v6), interface, metric)?;
        }
        Ok(())
    }

    /// Interfaces that go down lose their IPv6 addresses.
    fn v6_address(&self, interface: &str, address: &str) -> Result<()> {
        if self.addressing.has(true) { Ok(self.laptop.add_address(interface, address)?) } else { Ok(()) }
    }

    /// Sets the laptop's Wi-Fi interface down, as a user would, or up, with its routes as DHCP would.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set_wifi(&self, up: bool) -> Result<()> {
        self.laptop.set_up("wifi", up)?;
        if up {
            self.v6_address("wifi", Self::WIFI_V6)?;
            self.wifi_route()?;
        }
        Ok(())
    }

    /// The same for the cellular interface.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set_cell(&self, up: bool) -> Result<()> {
        self.laptop.set_up("cell", up)?;
        if up {
            self.v6_address("cell", Self::CELL_V6)?;
            self.cell_route()?;
        }
        Ok(())
    }

    /// Black-holes the Wi-Fi path silently in the routers, in both directions, or heals it. The laptop's link
    /// stays up, and no host is told anything.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn blackhole_wifi(&self, on: bool) -> Result<()> {
        if on {
            self.isp_wifi.blackhole("10.9.0.0/24")?;
            self.core.blackhole("10.1.0.0/16")?;
        } else {
            self.isp_wifi.unblackhole("10.9.0.0/24")?;
            self.core.unblackhole("10.1.0.0/16")?;
        }
        Ok(())
    }

    /// The Wi-Fi gets another subnet, `10.1.N.0/24`; the old address is taken away first.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn renumber_wifi(&self, from: u8, to: u8) -> Result<()> {
        self.laptop.del_address("wifi", &format!("10.1.{from}.2/24"))?;
        self.isp_wifi.del_address("down", &format!("10.1.{from}.1/24"))?;
        self.isp_wifi.add_address("down", &format!("10.1.{to}.1/24"))?;
        self.laptop.add_address("wifi", &format!("10.1.{to}.2/24"))?;
        Ok(self.laptop.add_route("default", Some(&format!("10.1.{to}.1")), "wifi", Self::WIFI_METRIC)?)
    }
}
