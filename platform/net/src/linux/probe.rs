//! Checks whether the host has what MAST needs.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use mast_engine::os::Offloads;
use mast_engine::surroundings::Check;
use socket2::{Domain, Protocol, Socket, Type};

use super::rtnl::{self, Rtnl};
use super::{answers, batch, netlink, tun};

/// Checks whether the host, as seen by this process, has what MAST needs. Changes nothing that lasts: to know whether
/// a TUN device can be made, one is made and dropped.
pub(super) fn probe() -> Vec<Check> {
    let mut checks = vec![tun_device(), tun_create(), events(), ipv6()];
    checks.extend(offloads());
    checks.extend(reverse_path());
    checks
}

fn tun_device() -> Check {
    const NAME: &str = "tun-device";
    match OpenOptions::new().read(true).write(true).open(tun::DEVICE_NODE) {
        Ok(_) => Check::pass(NAME, format!("{} is there", tun::DEVICE_NODE)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Check::fail(NAME, format!("{} may not be opened: run as root ({error})", tun::DEVICE_NODE))
        }
        Err(error) => Check::fail(
            NAME,
            format!(
                "{0} cannot be opened: load the module with `modprobe tun`, and give a container the device \
                 (`--device {0}`) ({error})",
                tun::DEVICE_NODE
            ),
        ),
    }
}

fn tun_create() -> Check {
    const NAME: &str = "tun-create";
    match tun::open("mastprobe%d") {
        Ok(_) => Check::pass(NAME, "a virtual interface can be made"),
        Err(error) => Check::fail(NAME, error.to_string()),
    }
}

/// What makes MAST quick. Without it everything works, and costs more of the processor: so these never fail.
fn offloads() -> Vec<Check> {
    const TUN: &str = "tun-offloads";
    const UDP: &str = "udp-offloads";
    let mut checks = Vec::new();
    if let Ok(opened) = tun::open("mastprobe%d") {
        let Offloads { checksum, tcp, udp } = opened.offloads;
        let text = match (checksum, tcp, udp) {
            (_, true, true) => "the virtual interface takes streams of TCP and UDP at once",
            (_, true, false) => {
                "the virtual interface takes streams of TCP at once; those of UDP only since Linux 6.2, until then \
                 calls and QUIC cost more of the processor"
            }
            (true, ..) => {
                "the virtual interface takes one datagram at a time: MAST works, and large transfers cost more of the \
                 processor"
            }
            _ => {
                "the virtual interface has no offloads: MAST works, and large transfers cost more of the processor"
            }
        };
        checks.push(Check::pass(TUN, text));
    }
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP));
    if let Ok(socket) = socket {
        let text = match batch::offloads(&socket) {
            (true, true) => "datagrams are sent and received many at once",
            (true, false) => {
                "datagrams are sent many at once, and received one by one: that came with Linux 5.0"
            }
            _ => "datagrams are sent one by one: many at once came with Linux 4.18",
        };
        checks.push(Check::pass(UDP, text));
    }
    checks
}

fn events() -> Check {
    const NAME: &str = "interface-events";
    let tried = || -> io::Result<usize> {
        netlink::Events::open(&rtnl::GROUPS)?;
        Ok(Rtnl::open()?.links()?.len())
    };
    match tried() {
        Ok(count) => {
            Check::pass(NAME, format!("the kernel tells of {count} interfaces and of changes to them"))
        }
        Err(error) => Check::fail(
            NAME,
            format!(
                "the kernel does not tell of interfaces: allow sockets of the family AF_NETLINK ({error})"
            ),
        ),
    }
}

fn ipv6() -> Check {
    const NAME: &str = "ipv6";
    if !Path::new("/proc/net/if_inet6").exists() {
        return Check::fail(NAME, "the kernel has no IPv6: remove the kernel parameter ipv6.disable=1");
    }
    match setting("ipv6/conf/all/disable_ipv6") {
        Some(value) if value != 0 => Check::fail(
            NAME,
            "IPv6 is switched off: networks that have only IPv6 cannot be used; switch it on with \
             `sysctl net.ipv6.conf.all.disable_ipv6=0`",
        ),
        _ => Check::pass(NAME, "IPv6 is on"),
    }
}

/// Strict reverse-path filtering drops what arrives over any but the best uplink. The larger of the setting for all
/// interfaces and that for one counts.
fn reverse_path() -> Option<Check> {
    const NAME: &str = "reverse-path-filter";
    let all = setting("ipv4/conf/all/rp_filter")?;
    let mut strict: Vec<String> = fs::read_dir("/proc/sys/net/ipv4/conf")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !matches!(name.as_str(), "all" | "default" | "lo"))
        .filter(|name| setting(&format!("ipv4/conf/{name}/rp_filter")).is_some_and(|own| own.max(all) == 1))
        .collect();
    strict.sort();
    let strict = strict.join(", ");
    Some(if strict.is_empty() {
        Check::pass(NAME, "packets may arrive over any uplink")
    } else if answers::are_possible() {
        Check::pass(
            NAME,
            format!("strict on {strict}; rules of MAST's own have what peers answer pass while it is up"),
        )
    } else {
        Check::fail(
            NAME,
            format!(
                "packets that arrive over another than the best uplink are dropped on {strict}, and the kernel has no \
                 policy routing by which MAST could have them pass: loosen it with \
                 `sysctl net.ipv4.conf.all.rp_filter=2`"
            ),
        )
    })
}

fn setting(path: &str) -> Option<u32> {
    fs::read_to_string(format!("/proc/sys/net/{path}")).ok()?.trim().parse().ok()
}
