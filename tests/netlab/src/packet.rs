//! Packet sockets: raw frames in and out, many at a time.

use std::{
    mem::{size_of, zeroed},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use nix::errno::Errno;

use crate::sockopt;

/// Room for a frame of an interface with an MTU of 1500, with some to spare.
pub(crate) const FRAME: usize = 2048;
/// How many frames one system call moves at most.
pub(crate) const BATCH: usize = 64;

const SOL_PACKET: i32 = 263;
const PACKET_STATISTICS: i32 = 6;
const PACKET_IGNORE_OUTGOING: i32 = 23;
const RECEIVE_BUFFER: i32 = 16 << 20;

/// One frame.
pub(crate) struct Frame {
    data: Box<[u8; FRAME]>,
    length: usize,
}

impl Frame {
    pub(crate) fn new() -> Self {
        Self { data: Box::new([0; FRAME]), length: 0 }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data[..self.length]
    }
}

/// A raw packet socket bound to one interface.
pub(crate) struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Opens a non-blocking socket on an interface of the calling thread's namespace.
    pub(crate) fn open(index: u32) -> nix::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers are involved; protocol 0 receives nothing until the socket is bound.
        let fd = Errno::result(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: the descriptor was just created and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        sockopt::set_int(&fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
        // Only the real root may go past the system's limit.
        for (forced, plain) in
            [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
        {
            sockopt::set_int(&fd, libc::SOL_SOCKET, forced, RECEIVE_BUFFER)
                .or_else(|_| sockopt::set_int(&fd, libc::SOL_SOCKET, plain, RECEIVE_BUFFER))?;
        }
        // SAFETY: an all-zero `sockaddr_ll` is valid.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index.cast_signed();
        // SAFETY: the pointer and the length describe `address`, which outlives the call.
        let result = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        Errno::result(result)?;
        Ok(Self { fd })
    }

    /// Receives up to [`BATCH`] frames into the first buffers and returns how many.
    ///
    /// A frame that does not fit is given a length of zero.
    pub(crate) fn receive(&self, frames: &mut [Frame]) -> nix::Result<usize> {
        // SAFETY: all-zero `iovec`s and `mmsghdr`s are valid.
        let (mut parts, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { zeroed() };
        let count = frames.len().min(BATCH);
        for ((frame, part), message) in frames.iter_mut().zip(&mut parts).zip(&mut messages) {
            part.iov_base = frame.data.as_mut_ptr().cast();
            part.iov_len = FRAME;
            message.msg_hdr.msg_iov = ptr::from_mut(part);
            message.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: the first `count` messages point at buffers of `FRAME` bytes that are borrowed mutably
        // for the whole call.
        let received = Errno::result(unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        })?;
        let received = usize::try_from(received).unwrap_or(0);
        for (frame, message) in frames.iter_mut().zip(&messages).take(received) {
            let fits = message.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
            frame.length = if fits { (message.msg_len as usize).min(FRAME) } else { 0 };
        }
        Ok(received)
    }

    /// Sends up to [`BATCH`] frames and returns how many the interface took.
    pub(crate) fn send<'a>(&self, frames: impl Iterator<Item = &'a Frame>) -> nix::Result<usize> {
        // SAFETY: all-zero `iovec`s and `mmsghdr`s are valid.
        let (mut parts, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { zeroed() };
        let mut count = 0;
        for ((frame, part), message) in frames.zip(&mut parts).zip(&mut messages) {
            part.iov_base = frame.data.as_ptr().cast_mut().cast();
            part.iov_len = frame.length;
            message.msg_hdr.msg_iov = ptr::from_mut(part);
            message.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        // SAFETY: the first `count` messages point at frames borrowed for the whole call; sending does
        // not write to them.
        let sent = Errno::result(unsafe {
            libc::sendmmsg(self.fd.as_raw_fd(), messages.as_mut_ptr(), count, libc::MSG_DONTWAIT as _)
        })?;
        Ok(usize::try_from(sent).unwrap_or(0))
    }

    /// How many frames the kernel had no room for since the last call.
    pub(crate) fn overruns(&self) -> u64 {
        // `struct tpacket_stats`: packets, drops.
        let mut statistics = [0_u32; 2];
        let mut length = size_of::<[u32; 2]>() as libc::socklen_t;
        // SAFETY: the pointer and the length describe `statistics`, which outlives the call.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                SOL_PACKET,
                PACKET_STATISTICS,
                statistics.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if result == 0 { u64::from(statistics[1]) } else { 0 }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
