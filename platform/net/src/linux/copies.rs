//! Notices that this machine may be a copy: restored from a snapshot of a virtual machine, or cloned.
//!
//! Whoever goes on from memory that somebody else goes on from, too, or went on from before, would use keys with counters
//! that were used. Two signs tell of it: the kernel announces a new generation of the machine where the hypervisor has the
//! device for that (vmgenid; since Linux 6.8 as a uevent), and the wall clock jumps against the time since boot, since a restored
//! machine goes on with the time of its snapshot until somebody sets it right.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netlink_sys::{Socket, SocketAddr};
use nix::time::{ClockId, clock_gettime};

/// Kernel to user space, everything about devices.
const NETLINK_KOBJECT_UEVENT: isize = 15;
/// What the kernel sends itself; udev repeats it on another.
const KERNEL: u32 = 1;
/// Clocks are set by less all the time: by NTP, or by what is left of a second when the machine wakes.
const JUMP: Duration = Duration::from_secs(5);

/// Whether an announcement says that the machine has a new generation: `action@path`, then `KEY=value`, each ended by a
/// zero.
fn tells_of_copy(announced: &[u8]) -> bool {
    announced.split(|byte| *byte == 0).any(|line| line == b"NEW_VMGENID=1")
}

/// The kernel's announcements about devices.
pub(super) struct Generations {
    socket: Socket,
}

impl Generations {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_KOBJECT_UEVENT)?;
        socket.set_non_blocking(true)?;
        socket.bind(&SocketAddr::new(0, KERNEL))?;
        Ok(Self { socket })
    }

    /// Takes what was announced: whether there may be more, and whether it tells of a copy.
    pub(super) fn take(&self, buffer: &mut [u8]) -> io::Result<(bool, bool)> {
        let mut copied = false;
        for _ in 0..100 {
            let mut free = &mut *buffer;
            match self.socket.recv_from(&mut free, 0) {
                // Programs of others may send here, too: only the kernel is number 0.
                Ok((length, from)) if from.port_number() == 0 => {
                    copied |= tells_of_copy(buffer.get(..length).unwrap_or_default());
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((false, copied)),
                // What did not fit is not known.
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((true, copied))
    }
}

impl std::os::fd::AsFd for Generations {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// When the machine was started, by the wall clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start(Option<Duration>);

impl Start {
    pub(super) fn now() -> Self {
        let up = clock_gettime(ClockId::CLOCK_BOOTTIME).ok().map(Duration::from);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        Self(wall.zip(up).and_then(|(wall, up)| wall.checked_sub(up)))
    }

    /// Whether the clock was set by more than clocks are set.
    pub(super) fn is_another(self, before: Self) -> bool {
        self.0.zip(before.0).is_some_and(|(now, before)| now.abs_diff(before) > JUMP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_generation_is_told_apart_from_other_events() {
        let told = b"change@/devices/LNXSYSTM:00/QEMUVGID:00\0ACTION=change\0NEW_VMGENID=1\0SEQNUM=2093\0";
        assert!(tells_of_copy(told));
        for other in [
            &b"add@/devices/virtual/net/tun0\0ACTION=add\0SEQNUM=1\0"[..],
            b"NEW_VMGENID=10\0",
            b"X=NEW_VMGENID=1\0",
            b"",
            b"\0\0\0",
        ] {
            assert!(!tells_of_copy(other));
        }
    }

    #[test]
    fn a_clock_that_jumps_is_told_apart_from_one_that_is_set_right() {
        let at = |seconds: f64| Start(Some(Duration::from_secs_f64(seconds)));
        assert!(!at(1_000.0).is_another(at(1_003.0)) && !at(1_003.0).is_another(at(1_000.0)));
        assert!(at(1_000.0).is_another(at(4_600.0)) && at(4_600.0).is_another(at(1_000.0)));
        assert!(!Start(None).is_another(at(0.0)));
        assert!(!Start::now().is_another(Start::now()));
    }
}
