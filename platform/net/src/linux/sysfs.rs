//! What `/sys/class/net` adds to netlink: which bus, which driver, wireless or not.

use std::fs;
use std::path::{Path, PathBuf};

use super::rtnl::Link;

/// What sysfs says of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// An IEEE 802.11 device.
    pub(super) wireless: bool,
    /// Backed by hardware.
    pub(super) device: bool,
    /// `DEVTYPE` of its uevent, such as `wwan`.
    pub(super) device_type: Option<String>,
    /// The name of the driver.
    pub(super) driver: Option<String>,
}

/// Reads what sysfs says of `link`. Nothing if there is no entry, or if the entry is of another device: sysfs may show
/// another network namespace.
pub(super) fn read(root: &Path, link: &Link) -> Option<Facts> {
    let path = entry(root, &link.name)?;
    let index: u32 = line(&path.join("ifindex"))?.parse().ok()?;
    if index != link.index || !same_address(&line(&path.join("address"))?, &link.address) {
        return None;
    }
    let device_type = fs::read_to_string(path.join("uevent"))
        .ok()
        .and_then(|text| text.lines().find_map(|l| l.strip_prefix("DEVTYPE=").map(str::to_owned)));
    let driver = fs::read_link(path.join("device/driver"))
        .ok()
        .and_then(|target| Some(target.file_name()?.to_string_lossy().into_owned()));
    Some(Facts {
        wireless: path.join("wireless").exists() || path.join("phy80211").exists(),
        device: path.join("device").exists(),
        device_type,
        driver,
    })
}

/// The entry of a name; interface names cannot contain slashes, but the kernel is not asked to prove it here.
fn entry(root: &Path, name: &str) -> Option<PathBuf> {
    (!name.contains('/') && name != "." && name != "..").then(|| root.join(name))
}

fn line(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn same_address(text: &str, address: &[u8]) -> bool {
    let written: Vec<String> = address.iter().map(|b| format!("{b:02x}")).collect();
    text.eq_ignore_ascii_case(&written.join(":"))
}
