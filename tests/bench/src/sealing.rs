//! The work of the protocol for each datagram, without a system: two contexts in one thread that know each other.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use mast_proto::wire::{EidPair, Flags};
use mast_proto::{
    AddressSource, Aead, Context, ContextConfig, DATA_HEADROOM, DATA_TAILROOM, EidBook, HoldLimits, IndexKey,
    Interface, InterfaceId, InterfaceKind, Outgoing, PathKey, PeerKind, Policy, Received, Role, Transmit,
    eid_v6,
};

use crate::{BenchError, Result};

/// Frames in a run: what the kernel hands over at once of a TCP stream (64 KiB).
pub const RUN: usize = 44;
/// Bytes of a long frame, with the room around its datagram.
pub const LONG: usize = 1456;
/// Bytes of a short frame: a datagram of 64 bytes, and the room around it.
pub const SHORT: usize = DATA_HEADROOM + 64 + DATA_TAILROOM;

const PORT: u16 = 6278;
/// First contact takes less of virtual time.
const CONTACT: Duration = Duration::from_secs(10);

/// What is done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `Context::seal_run` of [`RUN`] frames of [`LONG`] bytes.
    SealRun,
    /// `Context::handle_run` of them at the other end.
    OpenRun,
    /// `Context::seal_run` of one frame of [`SHORT`] bytes.
    SealShort,
    /// `Context::handle_run` of it at the other end.
    OpenShort,
}

impl Operation {
    /// All of them; one that opens comes after the one that seals what it opens.
    pub const ALL: [Self; 4] = [Self::SealRun, Self::OpenRun, Self::SealShort, Self::OpenShort];

    /// As given on command lines, and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::SealRun => "seal-run",
            Self::OpenRun => "open-run",
            Self::SealShort => "seal-short",
            Self::OpenShort => "open-short",
        }
    }

    /// Whether it is done at the end that receives.
    pub fn opens(self) -> bool {
        matches!(self, Self::OpenRun | Self::OpenShort)
    }

    /// Datagrams at once.
    pub fn datagrams(self) -> usize {
        if matches!(self, Self::SealRun | Self::OpenRun) { RUN } else { 1 }
    }

    /// Bytes of a frame.
    pub fn frame(self) -> usize {
        if matches!(self, Self::SealRun | Self::OpenRun) { LONG } else { SHORT }
    }

    /// Frames to be sealed.
    pub fn frames(self) -> Vec<u8> {
        vec![0x45; self.frame() * self.datagrams()]
    }
}

/// The ciphers, with their names.
pub const CIPHERS: [(&str, Aead); 2] = [("aes", Aead::Aes256Gcm), ("chacha20", Aead::ChaCha20Poly1305)];

/// The end that seals.
pub struct Sealer {
    context: Context,
    now: Instant,
}

/// The end that opens.
pub struct Opener {
    context: Context,
    path: PathKey,
    now: Instant,
    opened: Vec<(Range<usize>, Received)>,
}

impl Sealer {
    /// Seals frames in place; whether all of them may be sent.
    pub fn seal(&mut self, frames: &mut [u8], stride: usize) -> bool {
        let (count, outgoing) = self.context.seal_run(self.now, frames, stride, Flags::NONE);
        count == frames.len().div_ceil(stride.max(1)) && matches!(outgoing, Outgoing::Send(_))
    }
}

impl Opener {
    /// Opens what [`Sealer::seal`] sealed, in place; whether all of it is data, and new.
    pub fn open(&mut self, frames: &mut [u8], stride: usize) -> bool {
        self.context.handle_run(self.now, self.path, frames, stride, &mut self.opened);
        self.opened.drain(..).fold(true, |all, (_, received)| all && matches!(received, Received::Data(..)))
    }
}

/// Two contexts that have agreed on keys, on one link.
///
/// # Errors
/// When they do not agree.
pub fn pair(aead: Aead) -> Result<(Sealer, Opener)> {
    let mut now = Instant::now();
    let end = now + CONTACT;
    let hosts = [1_u8, 2].map(|host| IpAddr::from([192, 0, 2, host]));
    let [near, far] = hosts;
    let mut contexts = [context(now, aead, 1, near), context(now, aead, 2, far)];
    // What each end calls the path.
    let keys = [path(near, far), path(far, near)];
    let [first, _] = &mut contexts;
    first.set_addresses(now, AddressSource::Configuration, [SocketAddr::new(far, PORT)]);
    for context in &mut contexts {
        context.connect(now);
    }
    loop {
        let mut quiet = true;
        for at in [0, 1] {
            let (own, other) = split(&mut contexts, at);
            let back = keys[1 - at];
            while let Some(transmit) = own.poll_transmit(now) {
                quiet = false;
                match transmit {
                    // The handshake of WireGuard is not what is measured: it succeeds at once.
                    Transmit::Contact { path, .. } => {
                        own.secure_up(now, path, Role::Initiator, true);
                        other.secure_up(now, back, Role::Target, true);
                    }
                    // To plain WireGuard peers only.
                    Transmit::Keepalive { .. } => {}
                    Transmit::Secure { payload, .. } => other.handle_secure(now, back, &payload, &mut NoBook),
                    Transmit::Datagram { mut payload, .. } => {
                        other.handle_datagram(now, back, &mut payload);
                    }
                }
            }
            while own.poll_event().is_some() {}
        }
        if !quiet {
            continue;
        }
        let mut ready = contexts.iter().all(|c| c.active_path().is_some());
        if ready {
            // One frame there, to see that it is so.
            let frames = &mut Operation::SealRun.frames();
            let [one, two] = &mut contexts;
            let (count, outgoing) = one.seal_run(now, frames, LONG, Flags::NONE);
            ready = count == RUN && matches!(outgoing, Outgoing::Send(_));
            for frame in frames.chunks_mut(LONG) {
                two.handle_datagram(now, keys[1], frame);
            }
        }
        if ready {
            let [one, two] = contexts;
            return Ok((
                Sealer { context: one, now },
                Opener { context: two, path: keys[1], now, opened: Vec::new() },
            ));
        }
        let due = contexts.iter().filter_map(|c| c.poll_timeout(now)).min();
        now = due.unwrap_or(end).max(now);
        if now >= end {
            return Err(BenchError::Program("two contexts do not agree".into()));
        }
        for context in &mut contexts {
            context.handle_timeout(now);
        }
    }
}

fn split(contexts: &mut [Context; 2], at: usize) -> (&mut Context, &mut Context) {
    let [first, second] = contexts;
    if at == 0 { (first, second) } else { (second, first) }
}

fn path(local: IpAddr, remote: IpAddr) -> PathKey {
    PathKey::direct(InterfaceId(1), local, SocketAddr::new(remote, PORT))
}

fn context(now: Instant, aead: Aead, number: u8, address: IpAddr) -> Context {
    let config = ContextConfig {
        indices: IndexKey::new([number; 32]).indices(1),
        instance: u64::from(number),
        lower: number == 1,
        name: format!("host{number}"),
        aeads: vec![aead],
        eid_v6: eid_v6(&[number; 32]),
        eid_v4: None,
        port: PORT,
        expect: Some(PeerKind::Mast),
        disclosure: Default::default(),
        policy: Policy::Auto,
        hold: HoldLimits::default(),
        seed: [number; 32],
    };
    let mut context = Context::new(config, now);
    let interface = Interface {
        id: InterfaceId(1),
        name: "eth0".into(),
        kind: InterfaceKind::Ethernet,
        network: None,
        metered: false,
        addresses: vec![address],
        link_local: None,
        usable: true,
        outlook: Default::default(),
        relayed: Vec::new(),
        reflexive: Vec::new(),
    };
    context.handle_interfaces(now, [interface].into());
    context
}

/// IPv4 EIDs are not needed.
struct NoBook;

impl EidBook for NoBook {
    fn is_free(&self, _: EidPair) -> bool {
        true
    }
    fn propose(&mut self) -> Option<EidPair> {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

    use super::*;

    /// Whatever comes in a run, the run says of it what would be said of each alone, and notes as much.
    #[test]
    fn a_run_is_opened_as_its_datagrams_are() {
        // Both pairs have the same keys, as they draw the same numbers.
        let (mut sealer, mut together) = pair(Aead::Aes256Gcm).unwrap();
        let (_, mut alone) = pair(Aead::Aes256Gcm).unwrap();
        let mut former = Vec::new();
        for turn in 0..500_usize {
            let mut frames = Operation::SealRun.frames();
            assert!(sealer.seal(&mut frames, LONG));
            let whole = frames.clone();
            match turn % 9 {
                // Nothing is wrong; one is bent; two have changed places; one comes twice; some are missing; the last
                // is short; all came before; the first, and one in the middle, are of somebody else.
                0 => {}
                1 => frames[turn * 97 % whole.len()] ^= 1 << (turn % 8),
                2 => frames[..2 * LONG].rotate_left(LONG),
                3 => frames.copy_within(5 * LONG..6 * LONG, 9 * LONG),
                4 => drop(frames.drain(LONG * 3..LONG * 7)),
                5 => frames.truncate(whole.len() - LONG / 2),
                6 => frames.clone_from(&former),
                7 => frames[..LONG].fill(turn as u8),
                _ => frames[20 * LONG..21 * LONG].fill(turn as u8),
            }
            former = whole;
            let mut apart = frames.clone();
            together.context.handle_run(together.now, together.path, &mut frames, LONG, &mut together.opened);
            assert_eq!(together.opened.len(), apart.len().div_ceil(LONG));
            for ((at, received), datagram) in together.opened.drain(..).zip(apart.chunks_mut(LONG)) {
                let expected = alone.context.handle_datagram(alone.now, alone.path, datagram);
                assert_eq!(received, expected, "turn {turn}, at {at:?}");
                if let Received::Data(range, _) = received {
                    assert_eq!(frames[at][range.clone()], datagram[range]);
                }
            }
            let seen = |opener: &Opener| opener.context.paths().map(|p| p.rx_bytes).collect::<Vec<_>>();
            assert_eq!(seen(&together), seen(&alone), "turn {turn}");
        }
    }

    #[test]
    fn what_is_sealed_can_be_opened_once() {
        for (name, aead) in CIPHERS {
            let (mut sealer, mut opener) = pair(aead).unwrap();
            for operation in Operation::ALL.into_iter().filter(|o| !o.opens()) {
                for turn in 0..1000 {
                    let mut frames = operation.frames();
                    let what = format!("{name}, {}, {turn}", operation.name());
                    assert!(sealer.seal(&mut frames, operation.frame()), "{what}");
                    let mut again = frames.clone();
                    assert!(opener.open(&mut frames, operation.frame()), "{what}");
                    assert!(!opener.open(&mut again, operation.frame()), "{what}");
                }
            }
        }
    }

    /// Runs that are prepared one after the other and sealed later are what they would have been.
    #[test]
    fn what_is_sealed_later_is_sealed_alike() {
        for (name, aead) in CIPHERS {
            // Both pairs have the same keys, as they draw the same numbers.
            let (mut sealer, mut opener) = pair(aead).unwrap();
            let (mut later, _) = pair(aead).unwrap();
            let mut waiting = Vec::new();
            for turn in 0..30 {
                let mut frames = Operation::SealRun.frames();
                frames.truncate(LONG * (turn % 4 + 1) - turn);
                let mut prepared = frames.clone();
                assert!(sealer.seal(&mut frames, LONG));
                let (count, outgoing, unsealed) =
                    later.context.prepare_run(later.now, &mut prepared, LONG, Flags::NONE);
                assert_eq!(count, turn % 4 + 1);
                assert!(matches!(outgoing, Outgoing::Send(_)) && prepared != frames);
                waiting.push((frames, prepared, unsealed.unwrap()));
            }
            for (mut frames, mut prepared, unsealed) in waiting {
                unsealed.seal(&mut prepared, LONG);
                assert!(prepared == frames, "{name}");
                assert!(opener.open(&mut frames, LONG), "{name}");
            }
        }
    }
}
