//! Netlink requests, replies and events, over the sockets of `netlink-sys` and in the framing of `netlink-packet-core`.
//!
//! Messages are read attribute by attribute, and attributes that nobody asks for are passed over. `netlink-packet-route`
//! reads a message in full or not at all: an alias that is not UTF-8 makes an interface invisible to it, as
//! `tests/netlink.rs` shows.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    NLA_F_NESTED, NLA_HEADER_SIZE, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlasIterator,
};
/// Make the object if it does not exist; fail if it does; replace it if it does.
pub(super) use netlink_packet_core::{
    NLM_F_CREATE as CREATE, NLM_F_EXCL as EXCLUSIVE, NLM_F_REPLACE as REPLACE,
};
pub(super) use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike};

const ERROR_ATTRIBUTE_MESSAGE: u16 = 1;
const NETLINK_HEADER_LEN: usize = 16;
/// The kernel writes at most 32 KiB at once.
pub(super) const BUFFER: usize = 64 * 1024;
/// How often a dump is repeated when the objects changed while they were read.
const DUMP_ATTEMPTS: u32 = 4;
/// So many requests are sent together: their acknowledgements fit what a socket may have waiting by default.
const TOGETHER: usize = 64;
/// How long a reply may take. The kernel answers at once, but may have to wait for a driver first.
const REPLY_TIMEOUT_SECONDS: i64 = 10;

/// Why a request was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}{}", .errno.desc(), .detail.as_ref().map(|d| format!(" ({d})")).unwrap_or_default())]
pub(super) struct NetlinkError {
    pub(super) errno: Errno,
    /// The kernel's own words, where it has some.
    pub(super) detail: Option<String>,
}

impl From<Errno> for NetlinkError {
    fn from(errno: Errno) -> Self {
        Self { errno, detail: None }
    }
}

impl From<io::Error> for NetlinkError {
    fn from(error: io::Error) -> Self {
        error.raw_os_error().map_or(Errno::EIO, Errno::from_raw).into()
    }
}

impl From<NetlinkError> for io::Error {
    fn from(error: NetlinkError) -> Self {
        Self::new(Self::from(error.errno).kind(), error.to_string())
    }
}

/// A request being put together: a fixed header of its own and attributes.
#[derive(Debug, Clone)]
pub(super) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    pub(super) fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; NETLINK_HEADER_LEN];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(header);
        Self { bytes }
    }

    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = (value.len() + 4) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// An attribute that holds what `fill` adds.
    pub(super) fn nested(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        let mut filled = fill(self);
        let length = (filled.bytes.len() - start) as u16;
        filled.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled
    }

    /// As the kernel would say it.
    #[cfg(test)]
    pub(super) fn into_message(self) -> Message {
        messages(&self.finish(1, 0)).remove(0)
    }

    fn finish(mut self, sequence: u32, flags: u16) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        let flags = u16_at(&self.bytes, 6).unwrap_or(0) | flags;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// A message from the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u16,
    pub(super) flags: u16,
    sequence: u32,
    pub(super) payload: Vec<u8>,
}

/// The messages of one datagram; ends at the first that is malformed.
pub(super) fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut list = Vec::new();
    while let Ok(buffer) = NetlinkBuffer::new_checked(bytes) {
        list.push(Message {
            kind: buffer.message_type(),
            flags: buffer.flags(),
            sequence: buffer.sequence_number(),
            payload: buffer.payload().to_vec(),
        });
        bytes = bytes.get((buffer.length() as usize).next_multiple_of(4)..).unwrap_or(&[]);
    }
    list
}

/// The attributes in `bytes`, as type and value; ends at the first that is malformed.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).filter_map(|attribute| {
        let (kind, end) = (attribute.kind(), usize::from(attribute.length()));
        Some((kind, attribute.into_inner().get(NLA_HEADER_SIZE..end)?))
    })
}

pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

/// A text value without its terminating zero.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A socket for requests, which are answered in turn. It stays in the network namespace that it was opened in.
#[derive(Debug)]
pub(super) struct Requests {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let socket = Socket::new(protocol)?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(REPLY_TIMEOUT_SECONDS))?;
        // Kernels that lack one of these do without: errors are less telling, dumps are larger.
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// Sends a request and waits until it is carried out.
    pub(super) fn execute(&mut self, request: Request) -> Result<(), NetlinkError> {
        self.exchange(request, NLM_F_ACK).map(drop)
    }

    /// Sends requests many at a time and says of each, in their order, what became of it. None waits for another's
    /// outcome.
    pub(super) fn batch(
        &mut self,
        requests: impl IntoIterator<Item = Request>,
    ) -> Vec<Result<(), NetlinkError>> {
        let mut requests = requests.into_iter();
        let mut results = Vec::new();
        loop {
            let (first, mut bytes) = (self.sequence.wrapping_add(1), Vec::new());
            for request in requests.by_ref().take(TOGETHER) {
                self.sequence = self.sequence.wrapping_add(1);
                bytes.extend(request.finish(self.sequence, NLM_F_ACK));
            }
            if bytes.is_empty() {
                return results;
            }
            let count = self.sequence.wrapping_sub(first) as usize + 1;
            let mut answers: Vec<Option<Result<(), NetlinkError>>> = vec![None; count];
            let failed = self.collect(&bytes, first, &mut answers).err();
            let failed = failed.map_or(Errno::EIO.into(), NetlinkError::from);
            results.extend(answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(failed.clone()))));
        }
    }

    fn collect(
        &mut self,
        bytes: &[u8],
        first: u32,
        answers: &mut [Option<Result<(), NetlinkError>>],
    ) -> io::Result<()> {
        self.socket.send(bytes, 0)?;
        let mut open = answers.len();
        while open > 0 {
            self.receive()?;
            for message in messages(&self.buffer).iter().filter(|m| m.kind == NLMSG_ERROR) {
                let at = message.sequence.wrapping_sub(first) as usize;
                if let Some(answer) = answers.get_mut(at).filter(|a| a.is_none()) {
                    *answer = Some(outcome(message));
                    open -= 1;
                }
            }
        }
        Ok(())
    }

    /// Sends requests of nfnetlink that are carried out together or not at all.
    pub(super) fn transaction(&mut self, requests: Vec<Request>) -> Result<(), NetlinkError> {
        let subsystem = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
        let edge = |kind: i32| Request::new(kind as u16, 0, &[0, 0, subsystem[0], subsystem[1]]);
        let begin = self.sequence.wrapping_add(1);
        let mut bytes = edge(libc::NFNL_MSG_BATCH_BEGIN).finish(begin, 0);
        self.sequence = begin;
        let mut open = requests.len();
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend(request.finish(self.sequence, NLM_F_ACK));
        }
        self.sequence = self.sequence.wrapping_add(1);
        bytes.extend(edge(libc::NFNL_MSG_BATCH_END).finish(self.sequence, 0));
        self.socket.send(&bytes, 0)?;
        let mut done = Ok(());
        while open > 0 {
            self.receive()?;
            for message in messages(&self.buffer).iter().filter(|m| m.kind == NLMSG_ERROR) {
                match message.sequence.wrapping_sub(begin) {
                    // It was not even begun.
                    0 => return outcome(message),
                    at if at <= self.sequence.wrapping_sub(begin) => {
                        open = open.saturating_sub(1);
                        done = done.and(outcome(message));
                    }
                    _ => {}
                }
            }
            // What else is said of it is passed over later, by its number.
            done.clone()?;
        }
        done
    }

    /// Sends a request for one object and waits for it.
    pub(super) fn get(&mut self, request: Request) -> Result<Option<Message>, NetlinkError> {
        Ok(self.exchange(request, NLM_F_ACK)?.0.into_iter().next())
    }

    /// Asks for all objects of a sort. If they keep changing meanwhile, the last answer is returned: changes are
    /// announced as events, too.
    pub(super) fn dump(&mut self, request: &Request) -> Result<Vec<Message>, NetlinkError> {
        let mut attempt = 1;
        loop {
            let (list, interrupted) = self.exchange(request.clone(), NLM_F_DUMP)?;
            if !interrupted || attempt == DUMP_ATTEMPTS {
                return Ok(list);
            }
            attempt += 1;
        }
    }

    /// One datagram into the buffer.
    fn receive(&mut self) -> io::Result<()> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map(drop),
            }
        }
    }

    fn exchange(&mut self, request: Request, flags: u16) -> Result<(Vec<Message>, bool), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.finish(self.sequence, flags);
        self.socket.send(&bytes, 0)?;
        let mut list = Vec::new();
        let mut interrupted = false;
        loop {
            self.receive()?;
            for message in messages(&self.buffer) {
                if message.sequence != self.sequence {
                    continue;
                }
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_ERROR | NLMSG_DONE => return outcome(&message).map(|()| (list, interrupted)),
                    _ => list.push(message),
                }
            }
        }
    }
}

/// What the message that ends an exchange says.
pub(super) fn outcome(message: &Message) -> Result<(), NetlinkError> {
    let code = u32_at(&message.payload, 0).map_or(0, |c| c as i32);
    if code >= 0 {
        return Ok(());
    }
    let attributes_at = if message.kind == NLMSG_ERROR { 4 + NETLINK_HEADER_LEN } else { 4 };
    let detail = (message.flags & NLM_F_ACK_TLVS != 0)
        .then(|| {
            attributes(message.payload.get(attributes_at..).unwrap_or(&[]))
                .find(|a| a.0 == ERROR_ATTRIBUTE_MESSAGE)
        })
        .flatten()
        .map(|(_, value)| text(value));
    Err(NetlinkError { errno: Errno::from_raw(code.saturating_neg()), detail })
}

/// A non-blocking socket on which the kernel announces changes.
#[derive(Debug)]
pub(super) struct Events {
    socket: Socket,
}

/// What was announced.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// These messages.
    Messages(Vec<Message>),
    /// More than fitted: something was lost.
    Lost,
    /// Nothing further at present.
    Nothing,
}

impl Events {
    /// Subscribes to multicast groups of rtnetlink, given by number (at most 31).
    pub(super) fn open(groups: &[u32]) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        let mask = groups.iter().fold(0, |mask, group| mask | 1 << (group - 1));
        socket.bind(&SocketAddr::new(0, mask))?;
        Ok(Self { socket })
    }

    /// Subscribes to a multicast group of another family, by its number.
    pub(super) fn of_group(protocol: isize, group: u32) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.set_non_blocking(true)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.add_membership(group)?;
        Ok(Self { socket })
    }

    /// Takes what was announced, by way of a buffer of [`BUFFER`] bytes.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Announced> {
        let most = buffer.len();
        let mut free = &mut *buffer;
        match self.socket.recv(&mut free, libc::MSG_TRUNC) {
            Ok(length) if length > most => Ok(Announced::Lost),
            Ok(length) => Ok(Announced::Messages(messages(buffer.get(..length).unwrap_or_default()))),
            Err(error) => match NetlinkError::from(error).errno {
                Errno::EAGAIN => Ok(Announced::Nothing),
                Errno::ENOBUFS => Ok(Announced::Lost),
                Errno::EINTR => Ok(Announced::Messages(Vec::new())),
                errno => Err(errno.into()),
            },
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_a_round_trip_and_padding() {
        let request = Request::new(16, 0, &[0; 16])
            .attribute(3, b"eth0\0")
            .nested(18, |r| r.attribute(1, b"veth\0").attribute(2, &[]));
        let bytes = request.finish(7, 0);
        let message = &messages(&bytes)[0];
        assert_eq!((message.kind, message.sequence), (16, 7));
        let found: Vec<_> = attributes(&message.payload[16..]).collect();
        assert_eq!(found[0], (3, &b"eth0\0"[..]));
        assert_eq!(found[1].0, 18);
        let inner: Vec<_> = attributes(found[1].1).collect();
        assert_eq!(inner, [(1, &b"veth\0"[..]), (2, &[][..])]);
    }

    #[test]
    fn malformed_input_ends_quietly() {
        for bytes in [&[][..], &[1], &[3, 0, 1, 0], &[200, 0, 1, 0, 9], &[0; 40]] {
            assert_eq!(attributes(bytes).count(), 0);
            assert!(messages(bytes).is_empty());
        }
    }

    #[test]
    fn an_error_carries_the_kernels_words() {
        let mut payload = (-17i32).to_ne_bytes().to_vec();
        payload.extend_from_slice(&[0; NETLINK_HEADER_LEN]);
        payload
            .extend_from_slice(&Request::new(0, 0, &[]).attribute(1, b"busy\0").bytes[NETLINK_HEADER_LEN..]);
        let message = Message { kind: NLMSG_ERROR, flags: NLM_F_ACK_TLVS, sequence: 1, payload };
        let error = outcome(&message).unwrap_err();
        assert_eq!((error.errno, error.detail.as_deref()), (Errno::EEXIST, Some("busy")));
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::AlreadyExists);
    }
}
