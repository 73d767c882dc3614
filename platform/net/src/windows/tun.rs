//! The virtual interface: two rings, of which a thread waits for the host's.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::thread;

use mast_engine::os::{Offload, Offloads, Tun};
use tokio::sync::Notify;

use super::Own;
use super::system::{Ring, WHOLE};

/// A virtual interface. It goes when this is dropped.
#[derive(Debug)]
pub struct WindowsTun<R: Ring> {
    ring: Arc<R>,
    ready: Arc<Notify>,
    own: Own,
    waiting: Option<thread::JoinHandle<()>>,
}

impl<R: Ring> WindowsTun<R> {
    pub(super) fn new(ring: R, own: Own) -> io::Result<Self> {
        let (ring, ready) = (Arc::new(ring), Arc::new(Notify::new()));
        super::locked(&own).insert(ring.luid());
        let mut made = Self { ring, ready, own, waiting: None };
        let (waiting, ready) = (Arc::clone(&made.ring), Arc::clone(&made.ready));
        let wait = move || {
            while waiting.wait() {
                ready.notify_one();
                // Not again at once, while what was told of is taken: the ring's event stays set until it is empty.
                thread::yield_now();
            }
            // Whoever reads finds out why.
            ready.notify_one();
        };
        made.waiting = Some(thread::Builder::new().name("mast-adapter".to_owned()).spawn(wait)?);
        Ok(made)
    }
}

impl<R: Ring> Drop for WindowsTun<R> {
    fn drop(&mut self) {
        self.ring.end();
        // The adapter goes with the last who holds it; and its name is free again when this returns.
        if let Some(waiting) = self.waiting.take() {
            let _ = waiting.join();
        }
        super::locked(&self.own).remove(&self.ring.luid());
    }
}

impl<R: Ring> Tun for WindowsTun<R> {
    fn name(&self) -> &str {
        self.ring.name()
    }

    fn offloads(&self) -> Offloads {
        Offloads::default()
    }

    async fn readable(&self) -> io::Result<()> {
        self.ready.notified().await;
        Ok(())
    }

    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, Offload)> {
        let taken = self.ring.take(buffer);
        if taken.is_ok() {
            // There may be more; the next wait must not miss it.
            self.ready.notify_one();
        }
        Ok((taken?, WHOLE))
    }

    fn try_send(&self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<()> {
        if offload != WHOLE {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.ring.give(parts)
    }
}
