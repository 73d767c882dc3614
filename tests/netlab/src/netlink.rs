//! A blocking netlink socket and the few messages the lab needs.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
    },
};

use crate::error::{Context, Error, Result};

const HEADER: usize = 16;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST_ACK: u16 = 0x0001 | 0x0004;
/// `NLM_F_CREATE | NLM_F_EXCL`.
pub(crate) const CREATE: u16 = 0x0400 | 0x0200;
const SOL_NETLINK: i32 = 270;
const NETLINK_EXT_ACK: i32 = 11;
const NLMSG_ERROR: u16 = 2;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLA_F_NESTED: u16 = 0x8000;

/// A request under construction.
pub(crate) struct Message {
    data: Vec<u8>,
}

impl Message {
    /// Starts a request with its type, extra flags and fixed header.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut data = Vec::with_capacity(256);
        data.extend_from_slice(&0_u32.to_ne_bytes());
        data.extend_from_slice(&kind.to_ne_bytes());
        data.extend_from_slice(&(REQUEST_ACK | flags).to_ne_bytes());
        data.extend_from_slice(&1_u32.to_ne_bytes());
        data.extend_from_slice(&0_u32.to_ne_bytes());
        data.extend_from_slice(fixed);
        let mut message = Self { data };
        message.pad();
        message
    }

    fn pad(&mut self) {
        while !self.data.len().is_multiple_of(4) {
            self.data.push(0);
        }
    }

    /// Appends fixed bytes, as the header that precedes a veth peer's attributes.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.data.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Appends an attribute.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        // Attributes are interface names, addresses and numbers: never near 64 KiB.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.data.extend_from_slice(&length.to_ne_bytes());
        self.data.extend_from_slice(&kind.to_ne_bytes());
        self.data.extend_from_slice(value);
        self.pad();
        self
    }

    /// Appends a 32-bit attribute.
    pub(crate) fn number(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Appends a NUL-terminated string.
    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Appends an attribute whose content is built by a closure.
    pub(crate) fn nested(mut self, kind: u16, content: impl FnOnce(Self) -> Self) -> Self {
        let start = self.data.len();
        self.data.extend_from_slice(&[0; 4]);
        let mut message = content(self);
        let length = u16::try_from(message.data.len() - start).unwrap_or(u16::MAX);
        message.data[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        message.data[start + 2..start + 4].copy_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        message
    }
}

/// A netlink socket, bound to the namespace of the thread that opened it.
pub(crate) struct Netlink {
    fd: OwnedFd,
}

impl Netlink {
    /// Opens a route socket in the calling thread's network namespace.
    pub(crate) fn route() -> Result<Self> {
        Self::open(SockProtocol::NetlinkRoute)
    }

    /// Opens a netfilter socket in the calling thread's network namespace.
    pub(crate) fn netfilter() -> Result<Self> {
        Self::open(SockProtocol::NetlinkNetFilter)
    }

    fn open(protocol: SockProtocol) -> Result<Self> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
            .context("open a netlink socket")?;
        // Explanations from the kernel are a help, not a need.
        let _ = crate::sockopt::set_int(&fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
        Ok(Self { fd })
    }

    /// Sends a request and waits for the kernel's acknowledgement.
    pub(crate) fn request(&self, what: impl Into<String>, message: Message) -> Result<()> {
        self.send([message]).context("send to the kernel")?;
        self.acknowledged(what.into())
    }

    /// Sends several requests as one datagram, which the kernel carries out in a row, and waits until all are
    /// acknowledged.
    pub(crate) fn batch(&self, what: &str, messages: Vec<Message>) -> Result<()> {
        let count = messages.len();
        self.send(messages).context("send to the kernel")?;
        // All answers are read, whatever the first ones say.
        let answers: Vec<_> = (0..count).map(|_| self.acknowledged(what.to_owned())).collect();
        answers.into_iter().collect()
    }

    fn send(&self, messages: impl IntoIterator<Item = Message>) -> nix::Result<()> {
        let mut data = Vec::new();
        for mut message in messages {
            let length = u32::try_from(message.data.len()).unwrap_or(u32::MAX);
            message.data[..4].copy_from_slice(&length.to_ne_bytes());
            data.append(&mut message.data);
        }
        sendto(self.fd.as_raw_fd(), &data, &NetlinkAddr::new(0, 0), MsgFlags::empty()).map(|_| ())
    }

    fn acknowledged(&self, what: String) -> Result<()> {
        let mut answer = vec![0; 32 * 1024];
        loop {
            let length = recv(self.fd.as_raw_fd(), &mut answer, MsgFlags::empty()).context(what.as_str())?;
            if let Some(result) = parse_answer(&answer[..length]) {
                return result.map_err(|(source, extra)| Error::Netlink { what, source, extra });
            }
        }
    }
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

/// Finds the acknowledgement in a datagram of messages.
fn parse_answer(mut data: &[u8]) -> Option<std::result::Result<(), (Errno, String)>> {
    while data.len() >= HEADER {
        let length = u32_at(data, 0)? as usize;
        if length < HEADER || length > data.len() {
            return None;
        }
        if u16_at(data, 4)? == NLMSG_ERROR {
            let code = u32_at(data, HEADER)?.cast_signed();
            if code == 0 {
                return Some(Ok(()));
            }
            let extra = explanation(&data[..length]).unwrap_or_default();
            return Some(Err((Errno::from_raw(-code), extra)));
        }
        data = data.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// The text the kernel attached to an error.
fn explanation(message: &[u8]) -> Option<String> {
    let flags = u16_at(message, 6)?;
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let echoed = if flags & NLM_F_CAPPED == 0 { u32_at(message, HEADER + 4)? as usize } else { HEADER };
    let mut at = HEADER + 4 + echoed.next_multiple_of(4);
    loop {
        let length = usize::from(u16_at(message, at)?);
        if length < 4 {
            return None;
        }
        if u16_at(message, at + 2)? & 0x3fff == NLMSGERR_ATTR_MSG {
            let text = message.get(at + 4..at + length)?;
            return Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
        }
        at += length.next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let message = Message::new(16, 0, &[1, 2, 3, 4]).nested(18, |m| m.text(1, "veth"));
        let tail = &message.data[HEADER + 4..];
        assert_eq!(u16_at(tail, 0), Some(16));
        assert_eq!(u16_at(tail, 2), Some(18 | NLA_F_NESTED));
        assert_eq!(u16_at(tail, 4), Some(9));
        assert_eq!(&tail[8..16], b"veth\0\0\0\0");
    }

    #[test]
    fn errors_carry_the_kernels_words() {
        // An attribute the kernel does not know how to serve: setting a link that does not exist.
        let answer = Netlink::route()
            .and_then(|n| n.request("delete a link", Message::new(17, 0, &[0; 16]).text(3, "no-such-link")));
        assert!(
            matches!(answer, Err(Error::Netlink { source: Errno::ENODEV | Errno::EPERM, .. })),
            "{answer:?}"
        );
    }
}
