//! Keys, replay windows, and random values.

mod indices;
mod keys;
mod random;
mod replay;

pub use indices::{IndexKey, Indices};
pub use keys::{Aead, EpochKeys, Role, SealError, TAG_LEN};
pub use random::Random;
pub use replay::{Replay, ReplayWindow, SequenceWindow};
