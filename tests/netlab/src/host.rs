//! Hosts and routers.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    ifaddrs::{InterfaceAddress, getifaddrs},
    net::if_::InterfaceFlags,
};

use crate::{
    error::{Context, Error, Result},
    ethtool::{disable_offloads, enable_offloads},
    namespace::Namespace,
    process::Process,
    route::{self, RT_TABLE_MAIN, Route},
};

/// A host, or a router: a network namespace with its loopback interface up.
///
/// Clones are handles to the same host, which exists until the last of them, and the last of its
/// links and processes, is dropped.
#[derive(Clone)]
pub struct Host {
    namespace: Arc<Namespace>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Host({:?})", self.name())
    }
}

impl Host {
    /// Creates a host whose settings do not depend on the machine it runs on.
    pub(crate) fn new(name: &str, forwarding: bool) -> Result<Self> {
        let namespace = Arc::new(Namespace::new(name)?);
        let forward = if forwarding { "1" } else { "0" };
        // Hosts accept packets on any of their interfaces as long as there is some route back, like systemd's.
        let filter = if forwarding { "0" } else { "2" };
        // The order matters: writing ip_forward resets others to their defaults.
        namespace.set("net/ipv4/ip_forward", forward)?;
        for scope in ["all", "default"] {
            namespace.set(&format!("net/ipv4/conf/{scope}/rp_filter"), filter)?;
        }
        if Path::new("/proc/sys/net/ipv6").exists() {
            namespace.set("net/ipv6/conf/all/forwarding", forward)?;
            for scope in ["all", "default"] {
                namespace.set(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "0")?;
                namespace.set(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
                namespace.set(&format!("net/ipv6/conf/{scope}/accept_ra"), "0")?;
            }
        }
        // The kernel may not have cubic, or not let us choose it; see `set_congestion`.
        let _ = namespace.set("net/ipv4/tcp_congestion_control", "cubic");
        Ok(Self { namespace })
    }

    /// The name given at creation.
    pub fn name(&self) -> &str {
        self.namespace.name()
    }

    pub(crate) fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// Adds an address such as `10.0.0.1/24` or `fd00::1/64` to an interface; it is usable at once.
    pub fn add_address(&self, interface: &str, address: &str) -> Result<()> {
        let index = self.namespace.index(interface)?;
        self.namespace.netlink(|netlink| route::address(netlink, index, address, true))
    }

    /// Removes an address, and with it the routes that depend on it.
    pub fn del_address(&self, interface: &str, address: &str) -> Result<()> {
        let index = self.namespace.index(interface)?;
        self.namespace.netlink(|netlink| route::address(netlink, index, address, false))
    }

    /// Adds a route to a prefix, or to `default` (of the gateway's family; use `::/0` when there is no
    /// gateway). A metric of 0 is the kernel's default.
    pub fn add_route(&self, prefix: &str, via: Option<&str>, interface: &str, metric: u32) -> Result<()> {
        self.change_route(prefix, via, interface, metric, RT_TABLE_MAIN, true)
    }

    /// The same in a table of its own, which a [`source_rule`](Self::add_source_rule) can name.
    pub fn add_route_in(&self, table: u8, prefix: &str, via: Option<&str>, interface: &str) -> Result<()> {
        self.change_route(prefix, via, interface, 0, table, true)
    }

    /// What has this source, an address or prefix, is sent by a routing table of its own.
    pub fn add_source_rule(&self, source: &str, table: u8) -> Result<()> {
        self.namespace.netlink(|netlink| route::source_rule(netlink, source, table))
    }

    /// Takes addresses from interfaces and gives them to others, each by the names of both and with its prefix, in one
    /// request: the kernel tells of all that in a row.
    pub fn move_addresses(&self, moves: &[(&str, &str, &str)]) -> Result<()> {
        let index = |name| self.namespace.index(name);
        let moves = moves.iter().map(|(from, to, address)| Ok((index(from)?, index(to)?, *address)));
        let moves = moves.collect::<Result<Vec<_>>>()?;
        self.namespace.netlink(|netlink| route::move_addresses(netlink, &moves))
    }

    /// Gives an interface another name, while it is up as well; the kernel has to be able to, as since version 6.2.
    pub fn rename(&self, interface: &str, name: &str) -> Result<()> {
        let index = self.namespace.index(interface)?;
        self.namespace.netlink(|netlink| route::rename(netlink, index, name))
    }

    /// The number of an interface.
    pub fn index(&self, interface: &str) -> Result<u32> {
        self.namespace.index(interface)
    }

    /// Removes a route described as it was added.
    pub fn del_route(&self, prefix: &str, via: Option<&str>, interface: &str, metric: u32) -> Result<()> {
        self.change_route(prefix, via, interface, metric, RT_TABLE_MAIN, false)
    }

    fn change_route(
        &self,
        prefix: &str,
        via: Option<&str>,
        interface: &str,
        metric: u32,
        table: u8,
        add: bool,
    ) -> Result<()> {
        let via =
            via.map(|text| text.parse::<IpAddr>().map_err(|_| Error::Prefix(text.to_owned()))).transpose()?;
        let index = self.namespace.index(interface)?;
        self.namespace
            .netlink(|netlink| route::route(netlink, &Route { prefix, via, index, metric, table }, add))
    }

    /// Silently discards packets for a prefix that are routed here; nobody gets an ICMP message.
    ///
    /// Only the destination counts. Packets for the host's own addresses still arrive. Programs of this
    /// very host that send there get an error from the kernel (`EINVAL`).
    pub fn blackhole(&self, prefix: &str) -> Result<()> {
        self.namespace.netlink(|netlink| route::blackhole(netlink, prefix, true))
    }

    /// Ends what [`blackhole`](Self::blackhole) began.
    pub fn unblackhole(&self, prefix: &str) -> Result<()> {
        self.namespace.netlink(|netlink| route::blackhole(netlink, prefix, false))
    }

    /// Sets an interface's administrative state. Going down, it loses its routes and IPv6 addresses.
    pub fn set_up(&self, interface: &str, up: bool) -> Result<()> {
        self.namespace.netlink(|netlink| route::set_up(netlink, interface, up))
    }

    /// Sets the MTU of an interface, up to 1500 on a link.
    pub fn set_mtu(&self, interface: &str, mtu: u32) -> Result<()> {
        self.namespace.netlink(|netlink| route::set_mtu(netlink, interface, mtu))
    }

    /// Lets an interface of a [`wire`](crate::Lab::wire) have the offloads of a good network card (segmentation
    /// of TCP and UDP, checksums, coalescing of what arrives), or none, as it is at the start. The interfaces of
    /// emulated links must have none.
    pub fn set_offloads(&self, interface: &str, on: bool) -> Result<()> {
        self.run(|| if on { enable_offloads(interface) } else { disable_offloads(interface) })?
    }

    /// Writes a setting of this host, for example `net/ipv4/icmp_echo_ignore_all`.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        self.namespace.set(path, value)
    }

    /// The first IPv4 address of an interface, if any.
    pub fn ipv4_address(&self, interface: &str) -> Result<Option<Ipv4Addr>> {
        let entries = self.interfaces()?;
        let mut addresses = entries.iter().filter(|entry| entry.interface_name == interface);
        Ok(addresses.find_map(|entry| Some(entry.address?.as_sockaddr_in()?.ip())))
    }

    fn interfaces(&self) -> Result<Vec<InterfaceAddress>> {
        let list = || getifaddrs().map(Iterator::collect::<Vec<_>>);
        self.namespace.call(list)?.context("list interfaces")
    }

    /// Whether an interface is up and has carrier.
    pub fn is_running(&self, interface: &str) -> Result<bool> {
        Ok(self.flags(interface)?.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING))
    }

    fn flags(&self, interface: &str) -> Result<InterfaceFlags> {
        let entries = self.interfaces()?;
        let entry = entries.iter().find(|entry| entry.interface_name == interface);
        entry.map(|entry| entry.flags).ok_or_else(|| Error::NoInterface {
            host: self.name().to_owned(),
            interface: interface.to_owned(),
        })
    }

    /// Waits until the kernel has noticed a change of carrier, normally far below a millisecond. An
    /// interface that is down or gone is not waited for.
    pub(crate) fn settle(&self, interface: &str, carrier: bool) {
        let deadline = Instant::now() + Duration::from_secs(2);
        let settled = |flags: InterfaceFlags| {
            !flags.contains(InterfaceFlags::IFF_UP) || flags.contains(InterfaceFlags::IFF_RUNNING) == carrier
        };
        while Instant::now() < deadline && !self.flags(interface).map_or(true, settled) {
            thread::sleep(Duration::from_micros(200));
        }
        // The flags change a moment before the interface starts to send; a packet in between would be
        // lost, and if it is to resolve an address, cost a second. An interface that is gone is settled.
        let _ = self.namespace.netlink(|netlink| route::settle(netlink, interface));
    }

    /// Runs a closure on a new thread inside the host's network namespace and waits for its result.
    ///
    /// Sockets opened there belong to the host for good, wherever they are used. Threads started from
    /// the closure are in the namespace too. A panic is passed on.
    pub fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T> {
        self.namespace.run(action)
    }

    /// Starts a child process in the host's network namespace.
    ///
    /// The kernel kills it when this process dies, however that happens.
    pub fn spawn(&self, command: Command) -> Result<Process> {
        Process::spawn(self, command)
    }
}
