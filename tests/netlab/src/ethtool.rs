//! Switching interface offloads off and on through the ethtool ioctl.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

use crate::error::{Context, Error, Result};

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
const ETH_GSTRING_LEN: usize = 32;

/// Makes every packet on an interface of the calling thread's namespace a packet as on a wire:
/// no segmentation, no coalescing, complete checksums.
pub(crate) fn disable_offloads(interface: &str) -> Result<()> {
    set(interface, is_offload, false)
}

/// Lets an interface of the calling thread's namespace carry many segments as one packet, in and out, and
/// leave checksums to the other end, as network cards do.
pub(crate) fn enable_offloads(interface: &str) -> Result<()> {
    set(interface, is_of_a_card, true)
}

/// Switches the features that are chosen, and makes sure of those that matter.
fn set(interface: &str, chosen: fn(&str) -> bool, on: bool) -> Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .context("open a control socket")?;
    let word = if on { "on" } else { "off" };
    let what = || format!("switch {word} the offloads of {interface}");
    let names = feature_names(&socket, interface).context(what())?;
    let blocks = names.len().div_ceil(32);

    // `struct ethtool_gfeatures`: command, size, then per block available, requested, active, never changed.
    let mut get = vec![0_u32; 2 + 4 * blocks];
    get[0] = ETHTOOL_GFEATURES;
    get[1] = u32::try_from(blocks).unwrap_or(u32::MAX);
    ioctl(&socket, interface, &mut get).context(what())?;

    // `struct ethtool_sfeatures`: command, size, then per block valid, requested.
    let mut set = vec![0_u32; 2 + 2 * blocks];
    set[0] = ETHTOOL_SFEATURES;
    set[1] = get[1];
    for (position, name) in names.iter().enumerate() {
        let (block, bit) = (position / 32, 1_u32 << (position % 32));
        let changeable = get[2 + 4 * block] & !get[2 + 4 * block + 3] & bit != 0;
        if changeable && chosen(name) {
            set[2 + 2 * block] |= bit;
            if on {
                set[2 + 2 * block + 1] |= bit;
            }
        }
    }
    ioctl(&socket, interface, &mut set).context(what())?;

    get[0] = ETHTOOL_GFEATURES;
    ioctl(&socket, interface, &mut get).context(what())?;
    for (position, name) in names.iter().enumerate() {
        let active = get[2 + 4 * (position / 32) + 2] & (1 << (position % 32)) != 0;
        if active != on && chosen(name) && matters(name) {
            let other = if on { "off" } else { "on" };
            return Err(Error::System {
                what: format!("{} ({name} stays {other})", what()),
                source: Errno::ENOTSUP,
            });
        }
    }
    Ok(())
}

/// What a good network card does for the kernel: TCP and UDP segmentation, checksums, and coalescing of what
/// arrives.
fn is_of_a_card(name: &str) -> bool {
    const NAMES: [&str; 7] = [
        "tx-checksum-ip-generic",
        "tx-generic-segmentation",
        "tx-tcp-segmentation",
        "tx-tcp6-segmentation",
        "tx-tcp-ecn-segmentation",
        "tx-udp-segmentation",
        "rx-gro",
    ];
    NAMES.contains(&name) || name.starts_with("tx-scatter-gather")
}

fn is_offload(name: &str) -> bool {
    name.contains("segmentation")
        || name.contains("gro")
        || name.contains("lro")
        || name.contains("tx-checksum")
        || name.contains("scatter-gather")
        || name.starts_with("tx-gso")
}

/// Without these off, the lab would measure something else than a wire; without these on, something else than a
/// network card.
fn matters(name: &str) -> bool {
    name.starts_with("tx-checksum-ip")
        || name == "tx-tcp-segmentation"
        || name == "tx-udp-segmentation"
        || name == "rx-gro"
}

/// The kernel's names of features, in bit order.
fn feature_names(socket: &OwnedFd, interface: &str) -> nix::Result<Vec<String>> {
    // `struct ethtool_sset_info`: command, reserved, 64-bit mask, one count.
    let mut info = [ETHTOOL_GSSET_INFO, 0, 0, 0, 0];
    let mask = (1_u64 << ETH_SS_FEATURES).to_ne_bytes();
    info[2] = u32::from_ne_bytes([mask[0], mask[1], mask[2], mask[3]]);
    info[3] = u32::from_ne_bytes([mask[4], mask[5], mask[6], mask[7]]);
    ioctl(socket, interface, &mut info)?;
    let count = info[4] as usize;

    // `struct ethtool_gstrings`: command, set, length, then the strings.
    let mut strings = vec![0_u32; 3 + count * ETH_GSTRING_LEN / 4];
    strings[0] = ETHTOOL_GSTRINGS;
    strings[1] = ETH_SS_FEATURES;
    strings[2] = info[4];
    ioctl(socket, interface, &mut strings)?;
    let bytes: Vec<u8> = strings[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    Ok(bytes
        .chunks_exact(ETH_GSTRING_LEN)
        .map(|name| {
            String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
        })
        .collect())
}

/// Issues one ethtool command; the kernel reads and writes `command` according to its first words.
fn ioctl(socket: &OwnedFd, interface: &str, command: &mut [u32]) -> nix::Result<()> {
    // SAFETY: an all-zero `ifreq` is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = command.as_mut_ptr().cast();
    // SAFETY: `command` is laid out as its command word demands, with room for as many items as its
    // count word promises, and outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    Errno::result(result).map(drop)
}
