//! The network: a laptop with two uplinks, and a server.

use std::net::IpAddr;
use std::time::Duration;

use mast_netlab::{Host, Lab, LinkProfile};

use crate::{Addressing, Net, Result, Uplink, UplinkProfile};

/// How the network is.
#[derive(Debug, Clone)]
pub struct TrainProfile {
    /// The Wi-Fi link.
    pub wifi: LinkProfile,
    /// The cellular link.
    pub cell: LinkProfile,
    /// The versions of IP.
    pub addressing: Addressing,
    /// Both providers translate addresses of IPv4; IPv6 is as it is.
    pub nat: bool,
}

impl Default for TrainProfile {
    /// 40 ms round trip on Wi-Fi, 60 ms on cellular, no rate limit, both versions of IP, no NAT.
    fn default() -> Self {
        Self::round_trips(Duration::from_millis(40), Duration::from_millis(60))
    }
}

impl TrainProfile {
    /// With other round trips.
    pub fn round_trips(wifi: Duration, cell: Duration) -> Self {
        let (wifi, cell) = (LinkProfile::delay(wifi / 2), LinkProfile::delay(cell / 2));
        Self { wifi, cell, addressing: Addressing::Both, nat: false }
    }

    /// With these versions of IP.
    #[must_use]
    pub fn with(self, addressing: Addressing) -> Self {
        Self { addressing, ..self }
    }

    /// With a NAT for IPv4 on both uplinks.
    #[must_use]
    pub fn behind_nat(self) -> Self {
        Self { nat: true, ..self }
    }
}

/// The network on stage. Dropping it takes it down.
pub struct Train {
    /// The mobile host, with interfaces `wifi` and `cell`.
    pub laptop: Host,
    /// The host that stays, with interface `eth0`.
    pub server: Host,
    /// The router in the middle.
    pub core: Host,
    /// The Wi-Fi.
    pub wifi: Uplink,
    /// The cellular uplink.
    pub cell: Uplink,
    /// The versions of IP.
    pub addressing: Addressing,
    /// All of it.
    pub lab: Lab,
}

impl Train {
    /// The server's network; the server is number 2 in it.
    pub const SITE: Net = Net(9, 0);
    /// The server's IPv4 address.
    pub const SERVER: &'static str = "10.9.0.2";

    /// Builds the network.
    ///
    /// # Errors
    /// When the system does not allow namespaces, or a NAT's program is missing, with what to do about it.
    pub fn new(profile: &TrainProfile) -> Result<Self> {
        let addressing = profile.addressing;
        let lab = Lab::new()?;
        let (laptop, server, core) = (lab.host("laptop")?, lab.host("server")?, lab.router("core")?);
        let uplink = |name, net, metric, link: &LinkProfile| {
            let profile = UplinkProfile { name, net, metric, link: link.clone(), nat: profile.nat };
            Uplink::new(&lab, &laptop, &core, &profile, addressing)
        };
        let wifi = uplink("wifi", 1, 100, &profile.wifi)?;
        let cell = uplink("cell", 2, 200, &profile.cell)?;
        lab.wire(&core, "server", &server, "eth0")?;
        addressing.add(&core, "server", Self::SITE, 1)?;
        addressing.add(&server, "eth0", Self::SITE, 2)?;
        addressing.add_default(&server, "eth0", Self::SITE, 1, 0)?;
        Ok(Self { laptop, server, core, wifi, cell, addressing, lab })
    }

    /// An address of the server: that of IPv4, if there is one.
    pub fn server_address(&self) -> IpAddr {
        if self.addressing.v4() { Self::SITE.v4(2).into() } else { Self::SITE.v6(2).into() }
    }

    /// Sets the laptop's Wi-Fi interface down, as a user would, or up, with its addresses and routes as DHCP would.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set_wifi(&self, up: bool) -> Result<()> {
        self.wifi.set_up(up)
    }

    /// The same for the cellular interface.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set_cell(&self, up: bool) -> Result<()> {
        self.cell.set_up(up)
    }

    /// Black-holes the Wi-Fi silently in the routers, in both directions and both versions of IP, or heals it. The
    /// laptop's link stays up, and no host is told anything.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn blackhole_wifi(&self, on: bool) -> Result<()> {
        self.wifi.blackhole(on, on)
    }

    /// Discards silently in the routers what comes down to the laptop over the Wi-Fi, or no longer; what it sends arrives.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn deafen_wifi(&self, on: bool) -> Result<()> {
        self.wifi.blackhole(false, on)
    }

    /// The Wi-Fi gets another network, `Net(1, to)`; the old addresses are taken away first.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn renumber_wifi(&self, to: u8) -> Result<()> {
        self.wifi.renumber(to)
    }
}
