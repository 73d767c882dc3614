//! One uplink of a host, and what happens to it.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use mast_netlab::{Host, Lab, Link, LinkProfile, Nat, NatKind};

use crate::{Addressing, Net, Result};

/// The first numbers of the networks in which the other ends are.
const FAR: [u8; 2] = [8, 9];
/// The first number of the networks between providers and the core.
const BETWEEN: u8 = 3;
/// The host in each network, and its router.
const HOST: u8 = 2;
const ROUTER: u8 = 1;

/// What tells an uplink from the others.
#[derive(Debug, Clone)]
pub struct UplinkProfile {
    /// The interface's name.
    pub name: &'static str,
    /// The first number of its networks; it begins in `Net(net, 0)`.
    pub net: u8,
    /// The metric of its default routes.
    pub metric: u32,
    /// How the link is.
    pub link: LinkProfile,
    /// The provider translates addresses of IPv4.
    pub nat: bool,
}

/// A host's interface, the link behind it, and its provider's router.
///
/// ```text
///  host NAME 10.NET.S.2 ──── link ──── 10.NET.S.1 isp ──── core
/// ```
pub struct Uplink {
    /// The interface's name.
    pub name: &'static str,
    /// The link.
    pub link: Link,
    /// The provider's router.
    pub isp: Host,
    /// The translation of addresses, if the provider has one.
    pub nat: Option<Nat>,
    host: Host,
    core: Host,
    net: u8,
    /// The second number of its network, which a renumbering changes.
    subnet: AtomicU8,
    metric: u32,
    addressing: Addressing,
    /// What is black-holed: towards the other ends, and from them.
    silent: [AtomicBool; 2],
}

impl Uplink {
    /// Builds it between a host and the router in the middle.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new(
        lab: &Lab,
        host: &Host,
        core: &Host,
        profile: &UplinkProfile,
        addressing: Addressing,
    ) -> Result<Self> {
        let UplinkProfile { name, net, metric, .. } = *profile;
        let isp = lab.router(&format!("isp-{name}"))?;
        let link = lab.link(host, name, &isp, "down", &profile.link)?;
        lab.wire(&isp, "up", core, name)?;
        let between = Net(BETWEEN, net);
        addressing.add(&isp, "up", between, HOST)?;
        addressing.add(core, name, between, ROUTER)?;
        addressing.add_default(&isp, "up", between, ROUTER, 0)?;
        addressing.add_routes(core, net, name, between, HOST)?;
        let translated = profile.nat && addressing.v4();
        let nat =
            translated.then(|| lab.nat(&isp, "down", "up", NatKind::EndpointIndependent)).transpose()?;
        let uplink = Self {
            name,
            link,
            isp,
            nat,
            host: host.clone(),
            core: core.clone(),
            net,
            subnet: AtomicU8::new(0),
            metric,
            addressing,
            silent: [AtomicBool::new(false), AtomicBool::new(false)],
        };
        uplink.appear(0)?;
        Ok(uplink)
    }

    /// The network it is in.
    pub fn net(&self) -> Net {
        Net(self.net, self.subnet.load(Ordering::Relaxed))
    }

    /// The network between the provider and the core; the provider's router is number 2 in it. From its IPv4 address
    /// comes what a NAT has translated.
    pub fn outside(&self) -> Net {
        Net(BETWEEN, self.net)
    }

    /// The host gets addresses in a network of this uplink, and default routes.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn appear(&self, subnet: u8) -> Result<()> {
        self.subnet.store(subnet, Ordering::Relaxed);
        self.addressing.add(&self.isp, "down", self.net(), ROUTER)?;
        self.addressing.add(&self.host, self.name, self.net(), HOST)?;
        self.add_routes()
    }

    /// The host loses its addresses, and its routes.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn vanish(&self) -> Result<()> {
        self.withdraw()?;
        self.addressing.remove(&self.host, self.name, self.net(), HOST)
    }

    /// The same of a host whose interface is down: it has kept its addresses of IPv4 alone, and no route.
    fn vanish_down(&self) -> Result<()> {
        self.addressing.remove(&self.isp, "down", self.net(), ROUTER)?;
        if self.addressing.v4() {
            Addressing::V4.remove(&self.host, self.name, self.net(), HOST)?;
        }
        Ok(())
    }

    /// The provider takes its network away; routes of IPv6 do not go with the addresses.
    fn withdraw(&self) -> Result<()> {
        self.addressing.remove(&self.isp, "down", self.net(), ROUTER)?;
        if self.addressing.v6() {
            Addressing::V6.del_default(&self.host, self.name, self.net(), ROUTER, self.metric)?;
        }
        Ok(())
    }

    /// Another network from one moment to the next: the old addresses are taken away first.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn renumber(&self, subnet: u8) -> Result<()> {
        self.vanish()?;
        self.appear(subnet)
    }

    /// The interface, which is down, comes up in another network.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn return_elsewhere(&self, subnet: u8) -> Result<()> {
        self.vanish_down()?;
        self.host.set_up(self.name, true)?;
        self.appear(subnet)
    }

    /// Sets the interface down, as a user would, or up, with its addresses and routes as DHCP would.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set_up(&self, up: bool) -> Result<()> {
        self.host.set_up(self.name, up)?;
        if up {
            // Interfaces that go down lose their IPv6 addresses.
            if self.addressing.v6() {
                Addressing::V6.add(&self.host, self.name, self.net(), HOST)?;
            }
            self.add_routes()?;
        }
        Ok(())
    }

    /// Gives the host its default routes.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn add_routes(&self) -> Result<()> {
        self.addressing.add_default(&self.host, self.name, self.net(), ROUTER, self.metric)
    }

    /// Takes the host's default routes away, and nothing else.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn del_routes(&self) -> Result<()> {
        self.addressing.del_default(&self.host, self.name, self.net(), ROUTER, self.metric)
    }

    /// Discards silently in the routers what goes `up` to the other ends, what comes `down` from them, both, or
    /// nothing any more, whatever version of IP it is. The link stays up, and no host is told anything.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn blackhole(&self, up: bool, down: bool) -> Result<()> {
        if self.silent[0].swap(up, Ordering::Relaxed) != up {
            FAR.into_iter().try_for_each(|first| self.addressing.silence(&self.isp, first, up))?;
        }
        if self.silent[1].swap(down, Ordering::Relaxed) != down {
            self.addressing.silence(&self.core, self.net, down)?;
            // What a NAT has translated is answered to its router.
            self.addressing.silence_host(&self.core, self.outside(), HOST, down)?;
        }
        Ok(())
    }
}
