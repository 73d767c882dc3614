//! What is installed beside the program: the systemd unit, and the users that it needs.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;
use std::process::Command;

/// The most that `systemd-analyze security` may say, in tenths: 0 is locked up, 100 is root without any limit.
const MOST: u32 = 15;

fn installer(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../installer", name].iter().collect()
}

fn unit() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(installer("mastd.service")).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn value<'a>(unit: &'a [(String, String)], key: &str) -> &'a str {
    unit.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str()).unwrap_or_default()
}

#[test]
fn the_service_runs_as_a_user_with_two_capabilities_and_what_it_needs() {
    let unit = unit();
    let both = "CAP_NET_ADMIN CAP_NET_RAW";
    for (key, expected) in [
        ("User", "mast"),
        ("CapabilityBoundingSet", both),
        ("AmbientCapabilities", both),
        ("LimitCORE", "0"),
        ("MemorySwapMax", "0"),
        ("StateDirectoryMode", "0700"),
        ("BindPaths", "/dev/net/tun"),
        // The virtual interface's own settings are files there.
        ("ReadWritePaths", "-/proc/sys/net/ipv6/conf"),
    ] {
        assert_eq!(value(&unit, key), expected, "{key}");
    }
    let users = std::fs::read_to_string(installer("mast.sysusers.conf")).unwrap();
    let has = |kind: &str, name: &str| {
        users.lines().any(|line| line.split_whitespace().take(2).collect::<Vec<_>>() == [kind, name])
    };
    assert!(has("u", value(&unit, "User")) && has("g", value(&unit, "Group")), "{users}");
    // Its members steer, and read nothing of the service's.
    assert!(has("g", mast_control::GROUP) && value(&unit, "Group") != mast_control::GROUP, "{users}");
}

/// All unicast addresses are allowed, and nothing else is.
#[test]
fn the_unit_lets_every_unicast_address_through() {
    let allowed: Vec<(u128, u32, bool)> = unit()
        .iter()
        .filter(|(key, _)| key == "IPAddressAllow")
        .flat_map(|(_, value)| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .map(|range| {
            let (address, length) = range.split_once('/').unwrap();
            match address.parse().unwrap() {
                std::net::IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, length.parse().unwrap(), true),
                std::net::IpAddr::V6(v6) => (v6.to_bits(), length.parse().unwrap(), false),
            }
        })
        .collect();
    let is_allowed = |bits: u128, v4: bool| {
        allowed.iter().any(|&(base, length, of_v4)| v4 == of_v4 && (bits ^ base) >> (128 - length) == 0)
    };
    for first in 0..=255_u8 {
        let bits = u128::from(first) << 120 | 1;
        assert_eq!(is_allowed(bits, true), first < 224, "IPv4 {first}");
        assert_eq!(is_allowed(bits, false), first != 0xff, "IPv6 {first:02x}");
    }
}

#[test]
fn the_sandbox_is_as_tight_as_it_is_said_to_be() {
    let analyze = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", &format!("--threshold={MOST}")])
        .arg(installer("mastd.service"))
        .output();
    let Ok(output) = analyze else { return eprintln!("skipped: there is no systemd-analyze") };
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if error.contains("offline") && !output.status.success() {
        return eprintln!("skipped: {error}");
    }
    let verdict = text.lines().last().unwrap_or_default();
    println!("{verdict}");
    assert!(output.status.success(), "more than {MOST} tenths: {verdict} {error}");
}
