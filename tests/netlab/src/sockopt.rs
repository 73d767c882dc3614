//! Socket options that the standard library does not offer.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// Sets an integer socket option.
pub(crate) fn set_int(fd: &impl AsFd, level: i32, name: i32, value: i32) -> nix::Result<()> {
    set_bytes(fd, level, name, &value.to_ne_bytes())
}

fn set_bytes(fd: &impl AsFd, level: i32, name: i32, value: &[u8]) -> nix::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    let result =
        unsafe { libc::setsockopt(fd.as_fd().as_raw_fd(), level, name, value.as_ptr().cast(), length) };
    Errno::result(result).map(drop)
}

/// Chooses the congestion control of a TCP socket, for example `cubic`.
///
/// Hosts of a lab default to cubic where the kernel lets them; the machine's own default
/// (often bbr) is otherwise inherited, and measurements of TCP should not depend on it.
/// Best effort: says whether it worked.
pub fn set_congestion(socket: &impl AsFd, name: &str) -> bool {
    set_bytes(socket, libc::IPPROTO_TCP, libc::TCP_CONGESTION, name.as_bytes()).is_ok()
}
