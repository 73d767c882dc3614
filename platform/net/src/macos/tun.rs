//! The virtual interface: utun, whose frames have four bytes before them, the version of IP as a socket names it, in network
//! order.

use std::io::{self, IoSlice};

use mast_engine::os::{Offload, Offloads, Tun};

use super::Own;
use super::routing::{INET, INET6};
use super::system::Utun;

/// Frames are whole on their way in and out.
const WHOLE: Offload = Offload { partial: None, several: None };
/// A frame comes in so many parts at most.
const PARTS: usize = 8;

/// A virtual interface. It goes when this is dropped.
#[derive(Debug)]
pub struct MacTun<U: Utun> {
    utun: U,
    own: Own,
}

impl<U: Utun> MacTun<U> {
    pub(super) fn new(utun: U, own: Own) -> Self {
        super::locked(&own).insert(utun.name().to_owned());
        Self { utun, own }
    }
}

impl<U: Utun> Drop for MacTun<U> {
    fn drop(&mut self) {
        super::locked(&self.own).remove(self.utun.name());
    }
}

/// What goes before a frame.
fn header(first: u8) -> Option<[u8; 4]> {
    match first >> 4 {
        4 => Some([0, 0, 0, INET]),
        6 => Some([0, 0, 0, INET6]),
        _ => None,
    }
}

impl<U: Utun> Tun for MacTun<U> {
    fn name(&self) -> &str {
        self.utun.name()
    }

    fn offloads(&self) -> Offloads {
        Offloads::default()
    }

    async fn readable(&self) -> io::Result<()> {
        self.utun.readable().await
    }

    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, Offload)> {
        let mut before = [0; 4];
        let length = self.utun.take(&mut before, buffer)?;
        // One that is too short for a header is no frame: whoever reads drops what is empty.
        Ok((length.saturating_sub(before.len()), WHOLE))
    }

    fn try_send(&self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<()> {
        let first = parts.iter().find_map(|part| part.first().copied());
        let Some(before) = first.and_then(header).filter(|_| offload == WHOLE) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if parts.len() > PARTS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut all = [IoSlice::new(&[]); 1 + PARTS];
        for (slot, part) in all.iter_mut().zip([IoSlice::new(&before)].iter().chain(parts)) {
            *slot = *part;
        }
        self.utun.give(all.get(..1 + parts.len()).unwrap_or_default())
    }
}
