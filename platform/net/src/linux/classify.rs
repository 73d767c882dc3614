//! Which devices are uplinks, and what they are attached to. The rules are explained in the module above.

use std::collections::{BTreeMap, BTreeSet};

use mast_engine::api::LeftOut;
use mast_proto::InterfaceKind;

use super::rtnl::{Link, Route};
use super::sysfs::Facts;

const ARPHRD_ETHER: u16 = 1;
const ARPHRD_RAWIP: u16 = 519;

/// Virtual devices that stand for hardware.
const LIKE_HARDWARE: [&str; 6] = ["wwan", "rmnet", "vlan", "bond", "team", "hsr"];
/// Virtual devices that lead nowhere, or through another uplink.
const NEVER: [&str; 25] = [
    "tun",
    "wireguard",
    "dummy",
    "ifb",
    "nlmon",
    "vcan",
    "vxcan",
    "vrf",
    "ipip",
    "sit",
    "gre",
    "gretap",
    "erspan",
    "ip6gre",
    "ip6gretap",
    "ip6erspan",
    "ip6tnl",
    "vti",
    "vti6",
    "xfrm",
    "vxlan",
    "geneve",
    "gtp",
    "bareudp",
    "ovpn",
];
/// Drivers of phones' tethering only.
const PHONE_DRIVERS: [&str; 2] = ["rndis_host", "ipheth"];
/// Drivers of both phones and USB Ethernet adapters. Adapters carry an address of their maker, phones make one up.
const SHARED_DRIVERS: [&str; 2] = ["cdc_ether", "cdc_ncm"];
/// Drivers of modems.
const MODEM_DRIVERS: [&str; 4] = ["cdc_mbim", "qmi_wwan", "sierra_net", "hso"];
/// In the first octet of a hardware address: made up, not assigned by a maker.
const LOCALLY_ADMINISTERED: u8 = 0x02;

/// The indices of the devices that are uplinks, and why the others are not. `named` are those that the user names: they
/// are used whatever they are. The loopback interface and MAST's own never are.
pub(super) fn uplinks(
    links: &[Link],
    routes: &BTreeSet<Route>,
    excluded: &dyn Fn(&str) -> bool,
    named: &dyn Fn(&str) -> bool,
) -> (BTreeSet<u32>, BTreeMap<u32, LeftOut>) {
    let masters: BTreeMap<u32, Option<&str>> =
        links.iter().map(|l| (l.index, l.virtual_type.as_deref())).collect();
    // A VRF only groups its members; bridges and bonds stand for theirs.
    let is_port = |l: &Link| {
        l.master.is_some_and(|m| masters.get(&m).is_some_and(|virtual_type| *virtual_type != Some("vrf")))
    };
    let has_hardware = links.iter().any(stands_for_hardware);
    let has_default = |l: &Link| routes.iter().any(|r| r.index == l.index && r.is_default());
    let has_hardware_port =
        |bridge: &Link| links.iter().any(|l| l.master == Some(bridge.index) && stands_for_hardware(l));
    let left_out = |l: &Link| {
        if excluded(&l.name) {
            return Some(LeftOut::Ignored);
        }
        if named(&l.name) {
            return None;
        }
        let used = match l.virtual_type.as_deref() {
            _ if is_port(l) => return Some(LeftOut::Port),
            Some(t) if NEVER.contains(&t) => return Some(LeftOut::Tunnel),
            Some("bridge") => has_hardware_port(l) || has_default(l),
            _ => stands_for_hardware(l) || !has_hardware || has_default(l),
        };
        (!used).then_some(LeftOut::Inside)
    };
    let (mut uplinks, mut others) = (BTreeSet::new(), BTreeMap::new());
    for link in links.iter().filter(|l| !l.is_loopback()) {
        match left_out(link) {
            None => drop(uplinks.insert(link.index)),
            Some(why) => drop(others.insert(link.index, why)),
        }
    }
    (uplinks, others)
}

fn stands_for_hardware(link: &Link) -> bool {
    !link.is_loopback() && link.virtual_type.as_deref().is_none_or(|t| LIKE_HARDWARE.contains(&t))
}

/// What a device is attached to.
pub(super) fn kind(link: &Link, facts: Option<&Facts>) -> InterfaceKind {
    by_facts(link, facts).or_else(|| by_name(&link.name)).unwrap_or_else(|| by_type(link))
}

fn by_facts(link: &Link, facts: Option<&Facts>) -> Option<InterfaceKind> {
    if link.hardware_type == ARPHRD_RAWIP || matches!(link.virtual_type.as_deref(), Some("wwan" | "rmnet")) {
        return Some(InterfaceKind::Cellular);
    }
    let facts = facts?;
    let made_up = link.address.first().is_some_and(|octet| octet & LOCALLY_ADMINISTERED != 0);
    let driver = facts.driver.as_deref().unwrap_or_default();
    if facts.wireless || facts.device_type.as_deref() == Some("wlan") {
        return Some(InterfaceKind::Wifi);
    }
    if matches!(facts.device_type.as_deref(), Some("wwan" | "bluetooth"))
        || PHONE_DRIVERS.contains(&driver)
        || MODEM_DRIVERS.contains(&driver)
        || (SHARED_DRIVERS.contains(&driver) && made_up)
    {
        return Some(InterfaceKind::Cellular);
    }
    (facts.device && link.virtual_type.is_none() && link.hardware_type == ARPHRD_ETHER)
        .then_some(InterfaceKind::Ethernet)
}

fn by_name(name: &str) -> Option<InterfaceKind> {
    let any = |prefixes: &[&str]| prefixes.iter().any(|p| name.starts_with(p));
    if any(&["wl", "wifi"]) {
        Some(InterfaceKind::Wifi)
    } else if any(&["ww", "cell", "rmnet"]) {
        Some(InterfaceKind::Cellular)
    } else if any(&["en", "eth"]) {
        Some(InterfaceKind::Ethernet)
    } else {
        None
    }
}

fn by_type(link: &Link) -> InterfaceKind {
    match link.virtual_type.as_deref() {
        Some("bridge" | "bond" | "team" | "vlan" | "hsr") => InterfaceKind::Ethernet,
        _ => InterfaceKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use mast_engine::os::Prefix;

    use super::*;

    fn link(index: u32, name: &str, virtual_type: Option<&str>) -> Link {
        Link {
            index,
            name: name.to_owned(),
            flags: 0,
            hardware_type: ARPHRD_ETHER,
            operstate: 6,
            virtual_type: virtual_type.map(str::to_owned),
            master: None,
            mtu: 1500,
            address: vec![0, 1, 2, 3, 4, 5],
        }
    }

    fn port(index: u32, name: &str, virtual_type: Option<&str>, master: u32) -> Link {
        Link { master: Some(master), ..link(index, name, virtual_type) }
    }

    fn default_route(index: u32) -> Route {
        let prefix = Prefix { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), length: 0 };
        Route { index, prefix, gateway: None, source: None, metric: 0 }
    }

    fn names(links: &[Link], routes: &[Route]) -> Vec<String> {
        let chosen = uplinks(links, &routes.iter().copied().collect(), &|name| name == "mast0", &|_| false).0;
        links.iter().filter(|l| chosen.contains(&l.index)).map(|l| l.name.clone()).collect()
    }

    #[test]
    fn a_laptop_with_containers_and_virtual_machines() {
        let lo = Link { flags: libc::IFF_LOOPBACK as u32, ..link(1, "lo", None) };
        let links = [
            lo,
            link(2, "enp1s0", None),
            link(3, "wlp2s0", None),
            link(4, "docker0", Some("bridge")),
            port(5, "veth12ab", Some("veth"), 4),
            link(6, "virbr0", Some("bridge")),
            port(7, "vnet0", Some("tun"), 6),
            link(8, "tailscale0", Some("tun")),
            link(9, "mast0", Some("tun")),
            link(10, "wg0", Some("wireguard")),
            link(11, "cali77", Some("veth")),
            link(12, "wwan0", Some("wwan")),
        ];
        assert_eq!(names(&links, &[default_route(2), default_route(8)]), ["enp1s0", "wlp2s0", "wwan0"]);
    }

    #[test]
    fn a_bridge_over_hardware_stands_for_it() {
        let links =
            [link(2, "br0", Some("bridge")), port(3, "eth0", None, 2), link(4, "docker0", Some("bridge"))];
        assert_eq!(names(&links, &[]), ["br0"]);
    }

    #[test]
    fn a_bridge_or_veth_with_the_default_route_is_an_uplink() {
        let links = [link(2, "br0", Some("bridge")), link(3, "eth0", None), link(4, "vetha", Some("veth"))];
        assert_eq!(names(&links, &[default_route(2), default_route(4)]), ["br0", "eth0", "vetha"]);
        assert_eq!(names(&links, &[]), ["eth0"]);
    }

    #[test]
    fn without_hardware_a_veth_is_an_uplink() {
        let links =
            [link(2, "eth0", Some("veth")), link(3, "dummy0", Some("dummy")), link(4, "br", Some("bridge"))];
        assert_eq!(names(&links, &[]), ["eth0"]);
    }

    #[test]
    fn what_is_named_is_used_whatever_it_is() {
        let lo = Link { flags: libc::IFF_LOOPBACK as u32, ..link(1, "lo", None) };
        let links = [
            lo,
            link(2, "eth0", None),
            link(3, "tun0", Some("tun")),
            link(4, "wg0", Some("wireguard")),
            link(5, "br9", Some("bridge")),
            port(6, "veth1", Some("veth"), 5),
            link(7, "dummy0", Some("dummy")),
            link(8, "mast0", Some("tun")),
        ];
        let named = |name: &str| ["lo", "tun0", "wg0", "br9", "veth1", "dummy0", "mast0"].contains(&name);
        let (used, left) = uplinks(&links, &BTreeSet::new(), &|name| name == "mast0", &named);
        assert_eq!(used, [2, 3, 4, 5, 6, 7].into());
        assert_eq!(left, [(8, LeftOut::Ignored)].into());
        let (used, left) = uplinks(&links, &BTreeSet::new(), &|_| false, &|_| false);
        assert_eq!(used, [2].into());
        use LeftOut::{Inside, Port, Tunnel};
        let why = [(3, Tunnel), (4, Tunnel), (5, Inside), (6, Port), (7, Tunnel), (8, Tunnel)];
        assert_eq!(left, why.into());
    }

    #[test]
    fn members_of_a_vrf_count() {
        let links = [link(2, "blue", Some("vrf")), port(3, "eth0", None, 2)];
        assert_eq!(names(&links, &[]), ["eth0"]);
    }

    #[test]
    fn kinds() {
        let facts =
            |driver: &str| Facts { device: true, driver: Some(driver.to_owned()), ..Facts::default() };
        let wireless = Facts { wireless: true, ..facts("iwlwifi") };
        let modem = Facts { device_type: Some("wwan".to_owned()), ..facts("qmi_wwan") };
        let made_up = Link { address: vec![2, 0, 0, 0, 0, 1], ..link(2, "enx0200", None) };
        let raw_ip = Link { hardware_type: ARPHRD_RAWIP, ..link(2, "x0", None) };
        for (link, facts, expected) in [
            (link(2, "enp1s0", None), Some(wireless), InterfaceKind::Wifi),
            (link(2, "eth0", None), Some(modem), InterfaceKind::Cellular),
            (link(2, "usb0", None), Some(facts("rndis_host")), InterfaceKind::Cellular),
            (made_up, Some(facts("cdc_ncm")), InterfaceKind::Cellular),
            (link(2, "enx0001", None), Some(facts("cdc_ncm")), InterfaceKind::Ethernet),
            (link(2, "odd", None), Some(facts("e1000e")), InterfaceKind::Ethernet),
            (raw_ip, None, InterfaceKind::Cellular),
            (link(2, "wifi0", Some("veth")), None, InterfaceKind::Wifi),
            (link(2, "wifi0", Some("veth")), Some(Facts::default()), InterfaceKind::Wifi),
            (link(2, "cell0", Some("veth")), None, InterfaceKind::Cellular),
            (link(2, "eth0", Some("veth")), None, InterfaceKind::Ethernet),
            (link(2, "br0", Some("bridge")), None, InterfaceKind::Ethernet),
            (link(2, "foo", Some("veth")), None, InterfaceKind::Other),
        ] {
            assert_eq!(kind(&link, facts.as_ref()), expected, "{link:?}");
        }
    }
}
