//! Integer socket options that no crate in use wraps.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sets a socket option whose value is an `int`.
pub(super) fn set(
    socket: impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed, and pointer and length describe `value`, which
    // the kernel only reads and which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
