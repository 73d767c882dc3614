//! One path: a local address on an interface, a remote address, and what is known of the road between them.
//!
//! ```text
//!                 PROBE-ACK                    silence, no PROBE-ACK, "silent" in a report
//! candidate ─► validating ─► validated (active or standby) ─► suspect
//!                  ▲  │            ▲                            │  │
//!      retry with  │  │ no answer  └──── heard again, PROBE-ACK ┘  │ no answer, and another path answers
//!      backoff     │  ▼                                            ▼
//!                 failed ◄─────────────────────────────────────────┘
//! ```
//!
//! A path is gone, whatever its state, with its interface, with the local address that it used, or when the other
//! end's SET no longer lists the address that it leads to.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::links::PeerLink;
use super::steady::Steady;
use crate::estimate::{LossEstimator, RttEstimator};
use crate::fitness::{Fitness, Watch};
use crate::interface::{InterfaceId, RelayId};
use crate::pmtu::PathMtu;
use crate::wire::{AddressId, Epoch, PathId, PathReport};

/// How datagrams of a path get to the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Via {
    /// Straight from the local to the remote address.
    #[default]
    Direct,
    /// Through a relay, by the owner's number for what it allocated there (RFC 8656). The remote address is the other
    /// end's, as the relay sees it.
    Relay(RelayId),
}

/// The two ends of a path, and what is between them: a path is a local address on an interface, a remote address, and
/// a way from one to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathKey {
    /// The local interface, which its socket is bound to.
    pub interface: InterfaceId,
    /// The interface's address that datagrams leave from and come to.
    pub local: IpAddr,
    /// The remote address.
    pub remote: SocketAddr,
    /// Direct, or through a relay.
    pub via: Via,
}

impl PathKey {
    /// The relay that it goes through.
    pub fn relay(&self) -> Option<RelayId> {
        match self.via {
            Via::Direct => None,
            Via::Relay(number) => Some(number),
        }
    }

    /// A path without a relay.
    pub fn direct(interface: InterfaceId, local: IpAddr, remote: SocketAddr) -> Self {
        Self { interface, local, remote, via: Via::Direct }
    }
}

/// Where a path is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathState {
    /// Known, not tried yet.
    Candidate,
    /// A PROBE is under way, none was answered yet.
    Validating,
    /// A PROBE was answered over it: it may carry data.
    Validated,
    /// It fell silent when something was to be heard.
    Suspect,
    /// It does not answer; it is tried again now and then.
    Failed,
}

impl PathState {
    /// The word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Validating => "validating",
            Self::Validated => "validated",
            Self::Suspect => "suspect",
            Self::Failed => "failed",
        }
    }
}

/// A PROBE that was not answered yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outstanding {
    pub sent: Instant,
    pub timeout: Duration,
    /// How many were sent without an answer, this one included.
    pub tries: u32,
}

#[derive(Debug)]
pub(super) struct Path {
    pub key: PathKey,
    pub id: PathId,
    /// This end's number for the local address.
    pub address: AddressId,
    /// The other end's number for this path, from the header of what it sends.
    pub peer_path: Option<PathId>,
    /// The other end's number for the address that the path leads to, from its PROBEs.
    pub peer_address: Option<AddressId>,
    /// The other end answered a PROBE from the remote address, over this or another interface of this end, so
    /// that nobody else can be flooded through it.
    pub remote_known: bool,
    /// Bytes that may be sent to an address that has not been validated: what came from it, less what went to it.
    pub credit: u32,
    pub state: PathState,
    /// Since when the state is suspect.
    pub suspect_since: Option<Instant>,
    /// The other end says that it hears nothing over this path: only a PROBE-ACK clears that.
    pub peer_silent: bool,
    pub rtt: RttEstimator,
    pub loss: LossEstimator,
    pub probe: Option<Outstanding>,
    /// The latest PROBE could not be sent: to an address that nobody vouches for goes no more than came from it.
    pub unsent: bool,
    /// The latest PROBEs, so that a late answer is measured as what it is: slow, not lost.
    pub nonces: VecDeque<(u64, Instant)>,
    /// When a failed path is tried again.
    pub retry: Option<Instant>,
    pub retry_pause: Duration,
    /// When the last PROBE-ACK came.
    pub acknowledged: Option<Instant>,
    /// When the last PROBE or PROBE-ACK round trip began or ended here: what keeps the NAT binding fresh.
    pub probed: Option<Instant>,
    pub heard: Option<Instant>,
    /// When data was first sent after the path was last heard.
    pub awaiting: Option<Instant>,
    /// Data goes over it without a pause.
    pub steady: Option<Box<Steady>>,
    /// By when the other end must hear something, because it sent data.
    pub owed: Option<Instant>,
    /// Data frames received over it since the other end was last told what arrived.
    pub unreported: u32,
    /// Some of them are put in order: the other end paces itself by what it is told.
    pub unreported_ordered: bool,
    /// Since when it has been validated without a break.
    pub good_since: Option<Instant>,
    pub failed_at: Option<Instant>,
    /// Failures in a row, each within [`Path::FORGIVEN`] of the one before.
    pub failures: u32,
    /// The largest UDP payload.
    pub pmtu: PathMtu,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// Counters at the latest report about this path: epoch, highest, received.
    pub reported: Option<(Epoch, u64, u64)>,
    /// The first counter of an epoch that was sent after the path's last failure.
    pub report_from: Option<(Epoch, u64)>,
    /// Bytes of copies sent here while the active path was suspect.
    pub copied: u32,
    /// At how many ends (1 or 2) it shares a link with an active path that fell silent, while nothing was heard over
    /// it since: most likely it died together with that one.
    pub doubt: u8,
    /// How fit it is, while that is watched.
    pub watch: Option<Box<Watch>>,
}

impl Path {
    /// A path that was good for so long has lived down its failures.
    pub const FORGIVEN: Duration = Duration::from_secs(600);
    /// Back to a failed path only after it has been good for so long; doubled with each failure in a row.
    const HYSTERESIS: Duration = Duration::from_secs(3);
    /// But not beyond this.
    const MAX_HYSTERESIS: Duration = Duration::from_secs(60);
    /// The most bytes of copies to a path while another is suspect: a burst, not a second stream.
    pub const MAX_COPIED: u32 = 320 * 1024;
    /// Of what was on its way over the suspect path: all of a call or a shell, all of a stream of 10 Mbit/s over a round
    /// trip of 50 ms, and the front of an upload.
    pub const COPIED_AT_ONCE: usize = 160 * 1024;

    pub fn new(key: PathKey, id: PathId, address: AddressId) -> Self {
        Self {
            key,
            id,
            address,
            peer_path: None,
            peer_address: None,
            remote_known: false,
            credit: 0,
            state: PathState::Candidate,
            suspect_since: None,
            peer_silent: false,
            rtt: RttEstimator::default(),
            loss: LossEstimator::default(),
            probe: None,
            unsent: false,
            nonces: VecDeque::new(),
            retry: None,
            retry_pause: Duration::ZERO,
            acknowledged: None,
            probed: None,
            heard: None,
            awaiting: None,
            steady: None,
            owed: None,
            unreported: 0,
            unreported_ordered: false,
            good_since: None,
            failed_at: None,
            failures: 0,
            pmtu: PathMtu::new(key.remote.is_ipv6()),
            rx_bytes: 0,
            tx_bytes: 0,
            reported: None,
            report_from: None,
            copied: 0,
            doubt: 0,
            watch: None,
        }
    }

    /// How fit it is to carry data.
    pub fn fitness(&self) -> Fitness {
        self.watch.as_ref().map_or(Fitness::Fit, |watch| watch.fitness())
    }

    /// Since when [`super::Context::select`] saw it as better than the path chosen, for each of its two choices.
    pub fn better_since(&self) -> [Option<Instant>; 2] {
        self.watch.as_ref().map_or([None; 2], |watch| watch.better_since)
    }

    /// It is not better than the path chosen.
    pub fn forget_better(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.better_since = [None; 2];
        }
    }

    /// The largest UDP payload in bytes that data may use now.
    pub fn mtu(&self) -> usize {
        self.pmtu.limit()
    }

    /// So many bytes of UDP payload leave over it.
    pub fn note_sealed(&mut self, bytes: usize) {
        self.tx_bytes += bytes as u64;
        self.note_spent(bytes);
        // Whoever sees this knows that the path lives, but not what arrived over it.
        if self.unreported < super::timing::REPORT_AFTER && !self.unreported_ordered {
            self.owed = None;
        }
    }

    /// What a UDP payload of so many bytes counts, with its headers: many small ones are more than they seem.
    pub fn cost(remote: SocketAddr, bytes: usize) -> u32 {
        let headers = if remote.is_ipv4() { 28 } else { 48 };
        u32::try_from(bytes.saturating_add(headers)).unwrap_or(u32::MAX)
    }

    /// So many bytes of UDP payload go where no more may go than came.
    pub fn note_spent(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_sub(Self::cost(self.key.remote, bytes));
    }

    /// Whether so many bytes may go to an address that nobody vouches for.
    pub fn may_take(&self, bytes: usize) -> bool {
        self.credit >= Self::cost(self.key.remote, bytes)
    }

    /// Whether it may carry data: validated, or suspect and not yet given up.
    pub fn carries(&self) -> bool {
        matches!(self.state, PathState::Validated | PathState::Suspect)
    }

    /// How long it must have been good before data goes back to it.
    pub fn hysteresis(&self) -> Duration {
        match self.failures {
            0 => Self::HYSTERESIS,
            n => (Self::HYSTERESIS * (1 << (n - 1).min(5))).min(Self::MAX_HYSTERESIS),
        }
    }

    /// When an RTT of this path should be over, with room for the other end's delay in reporting.
    pub fn silence_limit(&self) -> Duration {
        (self.rtt.expected() + super::timing::REPORT_DELAY + super::timing::SCHEDULING)
            .max(super::timing::MIN_SILENCE)
    }

    /// Data leaves over it.
    pub fn note_data(&mut self, now: Instant) {
        self.awaiting.get_or_insert(now);
        match &mut self.steady {
            Some(steady) => steady.note_sent(now),
            None => self.steady = Some(Box::new(Steady::new(now))),
        }
    }

    /// When silence over it means something, if something is to be heard.
    pub fn silence_due(&self) -> Option<Instant> {
        let (awaiting, usual) = (self.awaiting?, self.silence_limit());
        Some(match &self.steady {
            Some(steady) => steady.due(awaiting, usual, self.rtt.deviation()),
            None => awaiting + usual,
        })
    }

    pub fn note_validated(&mut self, now: Instant) {
        if self.state != PathState::Validated {
            let since_failure = self.failed_at.map(|at| now.saturating_duration_since(at));
            if self.state != PathState::Suspect || self.good_since.is_none() {
                self.good_since = Some(now);
            }
            if since_failure.is_some_and(|d| d > Self::FORGIVEN) {
                self.failures = 0;
            }
            self.state = PathState::Validated;
        }
        self.suspect_since = None;
        self.peer_silent = false;
        self.probe = None;
        self.retry = None;
        self.retry_pause = Duration::ZERO;
        self.copied = 0;
        self.doubt = 0;
        self.remote_known = true;
    }

    /// A failed path begins anew: what was lost into its silence is not what it loses now.
    /// Reports about what was sent before `from` tell of that silence.
    pub fn note_retried(&mut self, from: Option<(Epoch, u64)>) {
        self.report_from = from;
        self.loss = LossEstimator::default();
        self.reported = None;
        if let Some(watch) = &mut self.watch {
            watch.restart();
        }
    }

    /// It let its user down: it is trusted less for a while.
    fn note_scar(&mut self, now: Instant) {
        let again = self.failed_at.is_some_and(|at| now.saturating_duration_since(at) < Self::FORGIVEN);
        self.failures = if again { self.failures.saturating_add(1) } else { 1 };
        self.failed_at = Some(now);
    }

    /// It works, and is unfit to carry data.
    pub fn note_unfit(&mut self, now: Instant) {
        self.note_scar(now);
        self.good_since = None;
        self.forget_better();
    }

    pub fn note_failed(&mut self, now: Instant) {
        if self.carries() && self.fitness() != Fitness::Unfit {
            self.note_scar(now);
        }
        self.state = PathState::Failed;
        self.rtt.restart();
        self.suspect_since = None;
        self.good_since = None;
        self.forget_better();
        if let Some(watch) = &mut self.watch {
            watch.restart();
        }
        self.awaiting = None;
        self.steady = None;
        self.probe = None;
        self.copied = 0;
        self.doubt = 0;
        self.pmtu.restart();
    }

    /// Takes in what the other end says has arrived.
    pub fn note_report(&mut self, report: &PathReport) {
        let epoch = Epoch(report.epoch);
        if self.report_from.is_some_and(|(of, from)| of == epoch && report.highest < from) {
            return;
        }
        if let Some(watch) = &mut self.watch {
            let excused =
                watch.reported(epoch).map_or(0, |from| self.pmtu.excused(epoch, from, report.highest));
            watch.sent((epoch, report.highest, report.received), excused, self.tx_bytes);
        }
        if let Some((old_epoch, highest, received)) = self.reported
            && old_epoch == epoch
        {
            // PROBEs that were too large for the path say nothing about its loss.
            let excused = self.pmtu.excused(epoch, highest, report.highest);
            let sent = report.highest.saturating_sub(highest).saturating_sub(excused);
            let arrived = report.received.saturating_sub(received);
            // Small samples say more about chance than about the path.
            if sent < 10 {
                return;
            }
            self.loss.sample(sent, sent.saturating_sub(arrived));
        }
        self.reported = Some((epoch, report.highest, report.received));
    }
}

/// What a user interface shows of a path.
#[derive(Debug, Clone, PartialEq)]
pub struct PathView {
    /// Its ends.
    pub key: PathKey,
    /// This end's number for it.
    pub id: PathId,
    /// The other end's link that it leads to, as far as that is known.
    pub peer_link: PeerLink,
    /// Its state.
    pub state: PathState,
    /// Whether it carries this end's data now.
    pub active: bool,
    /// Smoothed round trip, once measured.
    pub srtt: Option<Duration>,
    /// Share of datagrams lost, from 0 to 1, once known.
    pub loss: Option<f64>,
    /// How fit it is to carry data.
    pub fitness: Fitness,
    /// The largest datagram between EIDs that fits, in bytes.
    pub mtu: usize,
    /// Bytes of UDP payload received.
    pub rx_bytes: u64,
    /// Bytes of UDP payload sent.
    pub tx_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(highest: u64, received: u64) -> PathReport {
        PathReport { path: 0, epoch: 2, highest, received, reordered: 0, silent: false }
    }

    fn path() -> Path {
        let local = IpAddr::from([192, 0, 2, 2]);
        let key = PathKey::direct(InterfaceId(1), local, SocketAddr::from(([192, 0, 2, 1], 1)));
        Path::new(key, PathId(0), AddressId(0))
    }

    /// Data of this end's own says that the path lives, but not what arrived: only where little is owed does it do.
    #[test]
    fn data_takes_the_place_of_a_report_where_little_is_owed() {
        let owed = |unreported, ordered| {
            let mut path = path();
            path.owed = Some(Instant::now());
            (path.unreported, path.unreported_ordered) = (unreported, ordered);
            path.note_sealed(100);
            assert_eq!(path.tx_bytes, 100);
            path.owed.is_some()
        };
        let many = crate::context::timing::REPORT_AFTER;
        assert!(!owed(0, false) && !owed(many - 1, false));
        assert!(owed(many, false) && owed(0, true) && owed(many, true));
    }

    /// A report over another path may still tell of the time before a failure; were it the baseline, all that went
    /// into the silence would count as lost once the path is back.
    #[test]
    fn what_was_lost_into_a_silence_is_not_counted_after_it() {
        let mut path = path();
        path.note_report(&report(1_000, 1_000));
        path.note_report(&report(1_100, 1_100));
        assert_eq!(path.loss.share(), Some(0.0));
        // Datagrams 1,101 to 1,599 are lost; 1,600 is the PROBE that brings the path back.
        path.note_retried(Some((Epoch(2), 1_600)));
        path.note_report(&report(1_100, 1_100));
        path.note_report(&report(1_600, 1_101));
        path.note_report(&report(1_700, 1_201));
        assert_eq!(path.loss.share(), Some(0.0));
        path.note_report(&report(1_800, 1_251));
        assert!(path.loss.share().is_some_and(|share| share > 0.1), "what is lost now counts");
    }
}
