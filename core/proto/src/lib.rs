//! The MAST protocol as a sans-IO state machine
mod interface;
pub use interface::{Interface, InterfaceId, InterfaceKind};
