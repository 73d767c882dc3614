//! The header of a sealed datagram: 16 bytes, in clear, authenticated as associated data.
//!
//! ```text
//!  0               1               2               3
//! +---------------+---------------+---------------+---------------+
//! |     type      |    path id    |     epoch     |     flags     |
//! +---------------+---------------+---------------+---------------+
//! |                    receiver's context index                   |
//! +---------------------------------------------------------------+
//! |                                                               |
//! +                        path counter                           +
//! |                                                               |
//! +---------------------------------------------------------------+
//! ```
//!
//! All fields are big-endian. The types lie outside WireGuard's (1–4) and STUN's (0x00–0x3f with the magic
//! cookie), so that all three share one UDP port.

use thiserror::Error;

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 16;

/// The receiver's number for a host-pair context. Random, so that it tells an observer nothing, and never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContextIndex(pub u32);

/// The *sender's* number for a path. Each end numbers its own paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathId(pub u8);

/// Which key a datagram is sealed with. Even epochs were started by the end with the lower public key, odd ones
/// by the other, so that both can start one at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u8);

/// What a sealed datagram holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A sequence number and an IP datagram between EIDs.
    Data,
    /// A control message.
    Control,
}

/// How the receiver treats the datagram in a data frame. Control messages have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The checksum of the inner TCP or UDP header covers the pseudo header only, as hosts with checksum offload hand it
    /// over: the receiver completes it, or lets its own offload do so. The tag protects the rest on the way.
    pub const PARTIAL: Self = Self(1);
    /// The sender uses several paths at once, or has just moved to a quicker one: the receiver waits a little for
    /// lower sequence numbers before it delivers the datagram.
    pub const ORDERED: Self = Self(2);
    const KNOWN: u8 = 3;

    /// Whether all of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and those of `other`.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The header of a sealed datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Data or control.
    pub kind: Kind,
    /// How to treat the datagram in a data frame; none in a control message.
    pub flags: Flags,
    /// The sender's path.
    pub path: PathId,
    /// The key.
    pub epoch: Epoch,
    /// The receiver's context.
    pub index: ContextIndex,
    /// Counts the datagrams that the sender sealed for this path in this epoch, data and control alike.
    pub counter: u64,
}

/// Why some bytes are not the header of a sealed datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Shorter than header and authentication tag.
    #[error("{0} bytes cannot hold a header and a tag")]
    Short(usize),
    /// The first byte is not a MAST type.
    #[error("type {0:#04x} is not one of MAST")]
    Type(u8),
    /// A flag is set that this version does not define. Flags change how the rest is read, so it cannot be ignored.
    #[error("unknown flags {0:#04x}")]
    Flags(u8),
}

impl Header {
    const DATA: u8 = 0x60;
    const CONTROL: u8 = 0x61;

    /// Whether a UDP payload claims to be a sealed datagram of MAST.
    pub fn is_mast(datagram: &[u8]) -> bool {
        matches!(datagram.first(), Some(&(Self::DATA | Self::CONTROL)))
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0] = match self.kind {
            Kind::Data => Self::DATA,
            Kind::Control => Self::CONTROL,
        };
        out[1] = self.path.0;
        out[2] = self.epoch.0;
        out[3] = self.flags.0;
        out[4..8].copy_from_slice(&self.index.0.to_be_bytes());
        out[8..16].copy_from_slice(&self.counter.to_be_bytes());
        out
    }

    /// Reads the header of a datagram.
    ///
    /// # Errors
    /// When the datagram is too short, of another type, or has unknown flags.
    pub fn decode(datagram: &[u8]) -> Result<Self, HeaderError> {
        if datagram.len() < HEADER_LEN + crate::crypto::TAG_LEN {
            return Err(HeaderError::Short(datagram.len()));
        }
        let Some(&[kind, path, epoch, flags, i0, i1, i2, i3, ref counter @ ..]) =
            datagram.first_chunk::<HEADER_LEN>()
        else {
            return Err(HeaderError::Short(datagram.len()));
        };
        let kind = match kind {
            Self::DATA => Kind::Data,
            Self::CONTROL => Kind::Control,
            other => return Err(HeaderError::Type(other)),
        };
        if flags & !Flags::KNOWN != 0 || (kind == Kind::Control && flags != 0) {
            return Err(HeaderError::Flags(flags));
        }
        Ok(Self {
            kind,
            flags: Flags(flags),
            path: PathId(path),
            epoch: Epoch(epoch),
            index: ContextIndex(u32::from_be_bytes([i0, i1, i2, i3])),
            counter: u64::from_be_bytes(*counter),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let header = Header {
            kind: Kind::Control,
            flags: Flags::NONE,
            path: PathId(7),
            epoch: Epoch(3),
            index: ContextIndex(0xdead_beef),
            counter: 0x0102_0304_0506_0708,
        };
        let mut datagram = header.encode().to_vec();
        datagram.extend([0; 16]);
        assert_eq!(Header::decode(&datagram), Ok(header));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert_eq!(Header::decode(&[0x60; 31]), Err(HeaderError::Short(31)));
        assert_eq!(Header::decode(&[4; 40]), Err(HeaderError::Type(4)));
        let mut flagged = [0; 40];
        flagged[0] = 0x60;
        flagged[3] = 3;
        let flags = Flags::PARTIAL.with(Flags::ORDERED);
        assert_eq!(Header::decode(&flagged).map(|h| h.flags), Ok(flags));
        flagged[3] = 4;
        assert_eq!(Header::decode(&flagged), Err(HeaderError::Flags(4)));
        (flagged[0], flagged[3]) = (0x61, 1);
        assert_eq!(Header::decode(&flagged), Err(HeaderError::Flags(1)), "a control message has no flags");
    }
}
