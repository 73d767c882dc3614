//! The MAST protocol as a sans-IO state machine
mod context;
mod crypto;
mod eid;
mod estimate;
mod hold;
mod interface;
mod policy;
pub mod wire;

pub use context::*;
pub use crypto::{Aead, EpochKeys, Random, Replay, ReplayWindow, Role, SealError, SequenceWindow, TAG_LEN};
pub use eid::{EID_V6_PREFIX, EidBook, EidPool, eid_v6};
pub use hold::{Hold, HoldLimits};
pub use interface::{Interface, InterfaceId, InterfaceKind};
pub use policy::{Advantage, Merit, Policy, Selector};
