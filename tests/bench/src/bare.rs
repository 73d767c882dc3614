//! The bare loop: the least that any tunnel of this kind does, to say how near MAST is to what the machine can do.
//!
//! Not a usable tunnel, but a measuring device: the key is a constant that everybody knows, and there is no handshake,
//! no replay protection but a counter that has to grow, no paths, no mobility and no peers. What is left is what moves
//! data: a TUN device and one UDP socket with all their offloads, AES-256-GCM, and a thread for each direction, without a
//! runtime and without a queue between them. Linux only.
//!
//! A datagram is a note for the receiver (where the inner checksum is still partial: `start` and `offset` of struct
//! virtio_net_hdr), a counter, the sealed inner datagram, and its tag.

mod frames;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use mast_netlab::{Host, Process};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{RcvBufForce, SndBufForce, UdpGroSegment};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg, setsockopt};
use ring::aead::LessSafeKey;
use socket2::SockRef;

use self::frames::{Frame, HEAD, Opened, TAG, VNET, hand_over, key, seal, together, unseal};
use crate::mptcp::command;
use crate::{BenchError, Result, io};

const INTERFACE: &str = "bare0";
const PORT: u16 = 6279;
const PATIENCE: Duration = Duration::from_secs(5);
/// What an Ethernet frame holds, less the headers of IPv4 and UDP, and what is added here.
const MTU: usize = 1500 - 28 - HEAD - TAG;
/// The longest datagram of IP.
const LONGEST: usize = 65_535;
/// What one call sends: a datagram of UDP over IPv4, of so many parts (Linux before 6.7).
const SENT: usize = 65_507;
const SEGMENTS: usize = 64;
/// What is received before it is handed on, but for the rest of the last call.
const BATCH: usize = 256 << 10;
const BUFFER: usize = 4 << 20;

/// Two hosts with a running bare loop each.
pub(crate) struct Pair([Process; 2]);

impl Pair {
    /// Starts this very program at both hosts: each with its address outside, and inside the tunnel.
    pub fn start(laptop: (&Host, &str, &str), server: (&Host, &str, &str), one_thread: bool) -> Result<Self> {
        let start = |(host, own, inside): (&Host, &str, &str), peer: &str| {
            let mut run = Command::new("/proc/self/exe");
            run.arg("--bare").args([format!("{own}:{PORT}"), format!("{peer}:{PORT}")]);
            if one_thread {
                run.arg("--one-thread");
            }
            run.stdin(Stdio::null()).stdout(Stdio::null());
            let mut process = host.spawn(run)?;
            let deadline = Instant::now() + PATIENCE;
            while host.set_mtu(INTERFACE, MTU as u32).is_err() {
                if Instant::now() > deadline || process.poll()?.is_some() {
                    return Err(BenchError::Program("the bare loop does not start".into()));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            // A frame of the host then is what one call can send. Where it cannot be set, some take two calls.
            let most = (SENT / (MTU + HEAD + TAG)).to_string();
            let _ = command(host, "ip", &["link", "set", INTERFACE, "gso_max_segs", &most]);
            host.add_address(INTERFACE, &format!("{inside}/24"))?;
            host.set_up(INTERFACE, true)?;
            Ok(process)
        };
        let far = start(server, laptop.1)?;
        Ok(Self([start(laptop, server.1)?, far]))
    }

    /// Their numbers.
    pub fn processes(&self) -> [u32; 2] {
        [self.0[0].id(), self.0[1].id()]
    }
}

/// Moves data between this host and a peer until something fails: both addresses are of UDP. With `one_thread` both
/// directions have their turns, where otherwise each has a thread.
///
/// # Errors
/// When the device or the socket cannot be opened, or fails later.
pub fn run(own: &str, peer: &str, one_thread: bool) -> Result<()> {
    let tun = Arc::new(open()?);
    let socket = UdpSocket::bind(own).map_err(io(format!("bind UDP {own}")))?;
    socket.connect(peer).map_err(io("connect UDP"))?;
    let set_up = |error: Errno| io("set up a socket")(error.into());
    // Only the real root may go past the system's limit.
    if setsockopt(&socket, RcvBufForce, &BUFFER).and(setsockopt(&socket, SndBufForce, &BUFFER)).is_err() {
        let socket = SockRef::from(&socket);
        let enlarged = socket.set_recv_buffer_size(BUFFER).and(socket.set_send_buffer_size(BUFFER));
        enlarged.map_err(io("set up a socket"))?;
    }
    setsockopt(&socket, UdpGroSegment, &true).map_err(set_up)?;
    let socket = Arc::new(socket);
    let (tell, ended) = mpsc::channel();
    if one_thread {
        return by_turns(&tun, &socket);
    }
    let (outward, inward) = (Outward::new()?, Inward::new()?);
    let (device, other, told) = (Arc::clone(&tun), Arc::clone(&socket), tell.clone());
    std::thread::spawn(move || told.send(outward.run(&device, &other)));
    std::thread::spawn(move || tell.send(inward.run(&tun, &socket)));
    ended.recv().map_err(|_| BenchError::Program("a thread has ended".into()))?
}

fn open() -> Result<File> {
    let what = || io("make a virtual interface");
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let tun = options.open("/dev/net/tun").map_err(what())?;
    // SAFETY: an all-zero `ifreq` is a valid one: it holds integers and a union of them.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(INTERFACE.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: the request is an `ifreq` that outlives the call; the kernel reads it and writes the name into it.
    if unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
        return Err(what()(std::io::Error::last_os_error()));
    }
    const TCP: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    const UDP: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    // Datagrams of UDP at once came with Linux 6.2.
    let set = [TCP | UDP, TCP].into_iter().any(|flags| {
        // SAFETY: this request takes its argument by value.
        unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) == 0 }
    });
    if set { Ok(tun) } else { Err(what()(std::io::Error::last_os_error())) }
}

/// From the virtual interface to the peer.
struct Outward {
    key: LessSafeKey,
    frame: Vec<u8>,
    counter: u64,
    outbox: Outbox,
}

impl Outward {
    fn new() -> Result<Self> {
        let outbox = Outbox { bytes: vec![0; SENT], used: 0, count: 0, stride: 0, closed: false };
        Ok(Self { key: key()?, frame: vec![0; VNET + LONGEST], counter: 0, outbox })
    }

    /// Sends what is there, of so many bytes at most.
    fn turn(&mut self, tun: &File, socket: &UdpSocket, most: usize) -> Result<()> {
        let mut taken = 0;
        while taken < most {
            let mut device = tun;
            let length = match device.read(&mut self.frame) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                read => read.map_err(io("read the virtual interface"))?,
            };
            taken += length;
            let Some(frame) = self.frame.get(..length).and_then(Frame::read) else { continue };
            for at in 0..frame.count() {
                self.counter += 1;
                let length = HEAD + frame.length(at) + TAG;
                if !self.outbox.takes(length) {
                    self.outbox.send(socket)?;
                }
                if let Some(room) = self.outbox.bytes.get_mut(self.outbox.used..self.outbox.used + length)
                    && seal(&self.key, self.counter, &frame, at, room).is_some()
                {
                    self.outbox.add(length);
                }
            }
        }
        // What is small goes out together with what else is there.
        self.outbox.send(socket)
    }

    /// Moves data for ever, in a thread of its own.
    fn run(mut self, tun: &File, socket: &UdpSocket) -> Result<()> {
        loop {
            self.turn(tun, socket, usize::MAX)?;
            let mut waiting = [PollFd::new(tun.as_fd(), PollFlags::POLLIN)];
            poll(&mut waiting, PollTimeout::NONE).map_err(|e| io("wait for the host")(e.into()))?;
        }
    }
}

/// Sealed datagrams of one length, but for the last.
struct Outbox {
    bytes: Vec<u8>,
    used: usize,
    count: usize,
    stride: usize,
    /// The last was shorter.
    closed: bool,
}

impl Outbox {
    fn takes(&self, length: usize) -> bool {
        let fits = self.used + length <= SENT && self.count < SEGMENTS && !self.closed;
        self.used == 0 || fits && length <= self.stride
    }

    fn add(&mut self, length: usize) {
        if self.used == 0 {
            self.stride = length;
        }
        (self.used, self.count, self.closed) = (self.used + length, self.count + 1, length < self.stride);
    }

    fn send(&mut self, socket: &UdpSocket) -> Result<()> {
        let parts = [IoSlice::new(self.bytes.get(..self.used).unwrap_or_default())];
        let size = self.stride as u16;
        let several = [ControlMessage::UdpGsoSegments(&size)];
        let several = if self.count > 1 { several.as_slice() } else { &[] };
        let used = std::mem::take(&mut self.used);
        (self.count, self.closed) = (0, false);
        if used == 0 {
            return Ok(());
        }
        match sendmsg::<()>(socket.as_raw_fd(), &parts, several, MsgFlags::empty(), None) {
            // The other end is not there yet, or the queue of the network card is full.
            Ok(_) | Err(Errno::ECONNREFUSED | Errno::ENOBUFS) => Ok(()),
            Err(error) => Err(io("send to the peer")(error.into())),
        }
    }
}

/// From the peer to the virtual interface.
struct Inward {
    key: LessSafeKey,
    batch: Vec<u8>,
    opened: Vec<Opened>,
    last: u64,
}

impl Inward {
    fn new() -> Result<Self> {
        Ok(Self { key: key()?, batch: vec![0; BATCH + LONGEST], opened: Vec::new(), last: 0 })
    }

    /// Hands over what is there, a batch of it at most. The flags are those of the first call.
    fn turn(&mut self, tun: &File, socket: &UdpSocket, mut flags: MsgFlags) -> Result<()> {
        let mut control = cmsg_space!(i32);
        let mut used = 0;
        while used < BATCH {
            let Some(room) = self.batch.get_mut(used..used + LONGEST) else { break };
            let mut parts = [IoSliceMut::new(room)];
            let (length, stride) =
                match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
                    Ok(message) => {
                        let several = message.cmsgs().ok().and_then(|mut all| all.next());
                        let stride = match several {
                            Some(ControlMessageOwned::UdpGroSegments(stride)) => stride as usize,
                            _ => message.bytes,
                        };
                        (message.bytes, stride.max(1))
                    }
                    Err(Errno::EAGAIN) => break,
                    Err(Errno::ECONNREFUSED) => continue,
                    Err(error) => return Err(io("receive from the peer")(error.into())),
                };
            flags = MsgFlags::MSG_DONTWAIT;
            for from in (used..used + length).step_by(stride) {
                let to = (from + stride).min(used + length);
                let sealed = self.batch.get_mut(from..to);
                let arrived = sealed.and_then(|sealed| unseal(&self.key, &mut self.last, sealed));
                self.opened.extend(arrived.map(|partial| Opened {
                    from: from + HEAD,
                    to: to - TAG,
                    partial,
                }));
            }
            used += length;
        }
        let mut rest = self.opened.as_slice();
        while !rest.is_empty() {
            let (these, others) = rest.split_at(together(&self.batch, rest).clamp(1, rest.len()));
            match hand_over(tun, &self.batch, these) {
                // It is not up yet.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => {}
                written => written.map_err(io("write to the virtual interface"))?,
            }
            rest = others;
        }
        self.opened.clear();
        Ok(())
    }

    /// Moves data for ever, in a thread of its own: waits for the first datagram, and takes what else is there.
    fn run(mut self, tun: &File, socket: &UdpSocket) -> Result<()> {
        loop {
            self.turn(tun, socket, MsgFlags::empty())?;
        }
    }
}

/// Both directions by turns, in one thread.
fn by_turns(tun: &File, socket: &UdpSocket) -> Result<()> {
    let (mut outward, mut inward) = (Outward::new()?, Inward::new()?);
    loop {
        let mut waiting =
            [PollFd::new(socket.as_fd(), PollFlags::POLLIN), PollFd::new(tun.as_fd(), PollFlags::POLLIN)];
        poll(&mut waiting, PollTimeout::NONE).map_err(|e| io("wait for the host and the peer")(e.into()))?;
        let [from_peer, from_host] = waiting.map(|w| w.any().unwrap_or(true));
        if from_peer {
            inward.turn(tun, socket, MsgFlags::MSG_DONTWAIT)?;
        }
        if from_host {
            outward.turn(tun, socket, BATCH)?;
        }
    }
}
