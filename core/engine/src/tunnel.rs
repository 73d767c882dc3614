//! The virtual interface: that it is there. It is made beside the task that moves datagrams.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::api::What;
use crate::engine::Engine;
use crate::os::{Platform, TunWish};

/// A virtual interface that vanished is made again after so long.
const TUN_RETRY: Duration = Duration::from_secs(2);

/// The virtual interface, or what is done to have one.
pub(crate) struct Tunnel<T> {
    pub tun: Option<T>,
    making: Option<JoinHandle<io::Result<T>>>,
    retry: Option<Instant>,
    told: bool,
}

impl<T> Default for Tunnel<T> {
    fn default() -> Self {
        Self { tun: None, making: None, retry: None, told: false }
    }
}

impl<T> Tunnel<T> {
    /// When it is to be made again.
    pub fn retry(&self) -> Option<Instant> {
        self.retry
    }

    /// Waits for one that is being made. Cancel-safe.
    pub async fn made(&mut self) -> io::Result<T> {
        let Some(making) = &mut self.making else { return std::future::pending().await };
        let made = making.await;
        self.making = None;
        made.map_err(io::Error::other)?
    }

    /// None is wanted any more.
    pub fn clear(&mut self) {
        if let Some(making) = self.making.take() {
            // If it comes all the same, it is dropped, and goes.
            making.abort();
        }
        *self = Self::default();
    }
}

impl<P: Platform> Engine<P> {
    /// Begins to make the virtual interface.
    pub(crate) fn make_tun(&mut self) {
        let platform = Arc::clone(&self.platform);
        let wish = TunWish { name: self.settings.tun_name.clone(), mtu: self.settings.mtu };
        self.tunnel.retry = None;
        self.tunnel.making = Some(tokio::spawn(async move { platform.create_tun(&wish).await }));
    }

    /// The virtual interface is there, or cannot be made now.
    pub(crate) fn tun_made(&mut self, now: Instant, made: io::Result<P::Tun>) {
        if !self.up {
            return;
        }
        match made {
            Ok(tun) => self.set_tun(tun),
            Err(error) => {
                if !std::mem::replace(&mut self.tunnel.told, true) {
                    tracing::warn!(%error, "the virtual interface cannot be made yet");
                    self.story.tell("", What::TunnelLost { error: error.to_string() });
                }
                self.tunnel.retry = Some(now + TUN_RETRY);
            }
        }
    }

    /// The virtual interface vanished underneath.
    pub(crate) fn lose_tun(&mut self, now: Instant, error: &io::Error) {
        tracing::error!(%error, "the virtual interface failed; making it again");
        self.story.tell("", What::TunnelLost { error: error.to_string() });
        self.tunnel.clear();
        self.tunnel.retry = Some(now + TUN_RETRY);
        self.upkeep.note_change();
    }

    pub(crate) fn set_tun(&mut self, tun: P::Tun) {
        self.tunnel = Tunnel { tun: Some(tun), ..Tunnel::default() };
        // It is new, and has nothing of what an earlier one had.
        self.upkeep.note_new();
    }
}
