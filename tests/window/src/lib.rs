//! A desktop without a screen: an X server, a session bus, a key store, a place for tray icons, and the app on it.
//!
//! Everything is real but the eyes and the hand: [`Page`] looks and clicks through WebDriver, [`Tray`] through the
//! protocols of panels.

#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

mod appearance;
mod desk;
mod manager;
mod page;
mod program;
mod tray;

pub use appearance::Appearance;
pub use desk::Desk;
pub use manager::NetworkManager;
pub use page::{Element, Page};
pub use program::Running;
pub use tray::{Item, Tray};
