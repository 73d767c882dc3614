//! Asking paths what size they carry: [`crate::pmtu`], with the context's paths and messages.

use std::time::Instant;

use super::path::Path;
use super::{Context, DATA_OVERHEAD, PathState};
use crate::crypto::TAG_LEN;
use crate::wire::{HEADER_LEN, Message, Probe};

impl Context {
    /// What WireGuard's data message adds to a datagram, in bytes, which it pads to a multiple of [`Self::PADDING`].
    const WIREGUARD_OVERHEAD: usize = 32;
    const PADDING: usize = 16;

    /// The largest datagram between EIDs, in bytes, that what carries data now can take: the active path, or, where
    /// the mode uses several, the smallest of them; `None` while there is none. What segments and answers to the
    /// host should keep to.
    pub fn inner_mtu(&self) -> Option<usize> {
        let several = self.sending_policy().is_several();
        let used = |p: &&Path| {
            self.selection.is_active(p.id) || several && p.state == PathState::Validated && self.permitted(p)
        };
        let payload = self.paths.iter().filter(used).map(Path::mtu).min()?;
        if self.peer.is_plain() {
            Some(payload.saturating_sub(Self::WIREGUARD_OVERHEAD) / Self::PADDING * Self::PADDING)
        } else {
            Some(payload.saturating_sub(DATA_OVERHEAD))
        }
    }

    /// Only a path that works is asked: silence has other reasons, and is found out otherwise.
    pub(super) fn may_ask(&self, path: &Path) -> bool {
        path.state == PathState::Validated
            && self.keys.can_seal()
            && !self.peer.is_plain()
            && !self.is_silenced(path)
    }

    /// What is due about the size that a path carries.
    pub(super) fn ask_size(&mut self, now: Instant, at: usize) {
        let Some(path) = self.paths.get(at) else { return };
        let from = self.keys.next_of(path.id);
        let Some(path) = self.paths.get_mut(at) else { return };
        let step = path.pmtu.drive(now, path.rtt.rto(), path.loss.share().unwrap_or(0.0));
        let packet = path.pmtu.packet();
        if step.fell {
            // What was lost for its size is not what the path loses.
            path.note_retried(from);
            if let Some(watch) = &mut path.watch {
                watch.absolve();
            }
            path.good_since.get_or_insert(now);
            self.follow_down(at, packet);
        }
        for size in step.ask {
            self.ask(now, at, size);
        }
    }

    /// The other paths between the same links most likely carry no more.
    fn follow_down(&mut self, at: usize, packet: usize) {
        let Some(fell) = self.paths.get(at) else { return };
        let alike: Vec<bool> =
            self.paths.iter().map(|p| p.id != fell.id && self.shared(p, fell) == 2).collect();
        for (path, _) in self.paths.iter_mut().zip(alike).filter(|(_, alike)| *alike) {
            path.pmtu.follow(packet);
        }
    }

    /// Sends a PROBE that is a UDP payload of exactly this size.
    fn ask(&mut self, now: Instant, at: usize, size: usize) {
        let nonce = self.random.u64();
        let Some(path) = self.paths.get(at) else { return };
        let Some(counter) = self.keys.next_of(path.id) else { return };
        let time = now.saturating_duration_since(self.started).as_micros() as u64;
        let probe = Probe { nonce, address: path.address, time, reports: Vec::new() };
        let mut content = Message::Probe(probe).encode();
        // Receivers ignore what follows a message.
        content.resize(content.len().max(size.saturating_sub(HEADER_LEN + TAG_LEN)), 0);
        if self.send_content(now, at, &content)
            && let Some(path) = self.paths.get_mut(at)
        {
            path.pmtu.note_asked(nonce, size, counter);
        }
    }
}
