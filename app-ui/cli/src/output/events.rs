//! Events in lines.

use mast_control::{Event, words};

use super::units;

/// One line: "12:04:31 wifi → cell: went silent, gap 140 ms".
pub fn sentence(event: &Event, with_peer: bool) -> String {
    format!("{} {}", units::clock(&event.time), words::moved(event, with_peer))
}
