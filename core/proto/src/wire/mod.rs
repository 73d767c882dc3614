//! What travels: the 16-byte header of sealed datagrams and the control messages inside them.

mod header;
mod message;

pub use header::{ContextIndex, Epoch, Flags, HEADER_LEN, Header, HeaderError, Kind, PathId};
pub use message::{
    Address, AddressFlags, AddressId, AddressKind, Capabilities, EidPair, Init, InitAck, MAX_ADDRESSES,
    MAX_MISSING, MAX_NAME, MAX_REPORTS, Message, MessageError, Mode, ModeWish, PathReport, Probe, ProbeAck,
    Report, Set, SetAck, Shut, ShutAck, ShutReason, VERSION,
};
