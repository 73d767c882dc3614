//! The virtual interface: that it is there, and has the addresses and routes that the peers claim.

use std::time::{Duration, Instant};

use crate::api::What;
use crate::engine::Engine;
use crate::os::{Platform, Tun};
use crate::peer::PeerId;
use crate::routing::Claim;

/// A virtual interface that vanished is made again after so long.
const TUN_RETRY: Duration = Duration::from_secs(2);
/// Setting addresses and routes takes the longer the more there are, and datagrams wait meanwhile. So many times as
/// long as it took, changes are gathered before it is done again: it takes a tenth of the time at most.
const GATHER: u32 = 9;

/// When the addresses and routes of the virtual interface must be set again.
#[derive(Debug, Default)]
pub(crate) struct NetworkDue {
    changed: bool,
    not_before: Option<Instant>,
}

impl NetworkDue {
    /// A peer claims something else now.
    pub fn note_change(&mut self) {
        self.changed = true;
    }

    /// What was changed so far is taken care of.
    pub fn note_set(&mut self) {
        self.changed = false;
    }

    /// Setting them took from `begun` to `now`.
    fn note_took(&mut self, begun: Instant, now: Instant) {
        self.not_before = Some(now + now.saturating_duration_since(begun) * GATHER);
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.changed && self.not_before.is_none_or(|at| now >= at)
    }

    /// When it must be done, unless that is at once or never.
    pub fn at(&self) -> Option<Instant> {
        self.not_before.filter(|_| self.changed)
    }
}

impl<P: Platform> Engine<P> {
    /// What a peer claims may have changed.
    pub(crate) fn reroute(&mut self, id: PeerId) {
        let peer = self.peers.get(&id).filter(|p| p.leaving.is_none());
        let claim = peer.map(|p| Claim::of(p)).unwrap_or_default();
        if self.routing.update(id, claim) {
            self.network_due.note_change();
        }
    }

    pub(crate) async fn configure(&mut self) {
        self.network_due.note_set();
        let Some(tun) = &self.tun else { return };
        let begun = Instant::now();
        let result = tun.configure(&self.routing.network()).await;
        self.network_due.note_took(begun, Instant::now());
        if let Err(error) = result {
            tracing::error!(%error, "cannot set addresses and routes of the virtual interface");
            self.story.tell("", What::RoutesRefused { error: error.to_string() });
        }
    }

    /// The virtual interface vanished underneath.
    pub(crate) fn lose_tun(&mut self, now: Instant, error: &std::io::Error) {
        tracing::error!(%error, "the virtual interface failed; making it again");
        self.story.tell("", What::TunnelLost { error: error.to_string() });
        self.tun = None;
        self.tun_retry = Some(now + TUN_RETRY);
    }

    pub(crate) fn restore_tun(&mut self, now: Instant) {
        self.tun_retry = None;
        if !self.up || self.tun.is_some() {
            return;
        }
        match self.platform.create_tun(&self.settings.tun_name, self.settings.mtu) {
            Ok(tun) => {
                self.tun = Some(tun);
                self.network_due.note_change();
            }
            Err(error) => {
                tracing::debug!(%error, "the virtual interface cannot be made yet");
                self.tun_retry = Some(now + TUN_RETRY);
            }
        }
    }

    pub(crate) fn clear_tun(&mut self) {
        self.tun = None;
        self.tun_retry = None;
    }

    pub(crate) fn set_tun(&mut self, tun: P::Tun) {
        self.tun = Some(tun);
        self.network_due.note_set();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_gathered_for_as_long_as_setting_them_takes() {
        let (start, ms) = (Instant::now(), Duration::from_millis(1));
        let mut due = NetworkDue::default();
        assert!(!due.is_due(start) && due.at().is_none());
        due.note_change();
        assert!(due.is_due(start), "the first at once");
        due.note_set();
        due.note_took(start, start + 10 * ms);
        assert!(!due.is_due(start + 500 * ms) && due.at().is_none(), "nothing changed");
        due.note_change();
        assert!(!due.is_due(start + 99 * ms) && due.is_due(start + 100 * ms));
        assert_eq!(due.at(), Some(start + 100 * ms));
    }
}
