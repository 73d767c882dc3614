//! A context whose peer speaks plain WireGuard: what that answers, when, and over which path, is what the input says.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arbitrary::Unstructured;
use mast_proto::wire::{Flags, ShutReason};
use mast_proto::{
    AddressSource, Aead, Context, ContextConfig, Disclosure, HoldLimits, IndexKey, Interface, InterfaceId,
    InterfaceKind, Outlook, PathKey, PeerKind, Policy, Role, SendError, Transmit, eid_v6,
};

use crate::contexts::Free;

const STEPS: usize = 300;
/// See the target of two contexts.
const TURNS: usize = 4;
const BURST: usize = 20_000;
const WAKES: usize = 4_000;

struct Story<'a, 'b> {
    input: &'a mut Unstructured<'b>,
    now: Instant,
    context: Context,
    /// Paths over which a handshake is to be answered.
    asked: Vec<PathKey>,
}

/// Runs the story that the bytes tell.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let now = Instant::now();
    let which = input.arbitrary::<u8>().unwrap_or_default();
    let config = ContextConfig {
        indices: IndexKey::new([7; 32]).indices(7),
        instance: 1,
        lower: which & 1 == 0,
        name: "host".into(),
        aeads: vec![Aead::ChaCha20Poly1305],
        eid_v6: eid_v6(&[1; 32]),
        eid_v4: None,
        port: 6278,
        expect: if which & 2 == 0 { Some(PeerKind::WireGuard) } else { None },
        disclosure: Disclosure { mast: which & 4 == 0, ..Disclosure::default() },
        policy: Policy::Auto,
        hold: HoldLimits::default(),
        seed: [which; 32],
    };
    let mut story = Story { input: &mut input, now, context: Context::new(config, now), asked: Vec::new() };
    story.interfaces();
    let peer = [SocketAddr::from(([198, 51, 100, 1], 51820)), SocketAddr::from(([198, 51, 100, 2], 51820))];
    story.context.set_addresses(now, AddressSource::Configuration, peer);
    story.context.connect(now);
    for _ in 0..STEPS {
        if story.input.is_empty() {
            break;
        }
        story.step();
        story.pump();
        story.check();
    }
}

impl Story<'_, '_> {
    fn byte(&mut self) -> u8 {
        self.input.arbitrary().unwrap_or_default()
    }

    fn interfaces(&mut self) {
        let state = self.byte();
        let list: Vec<_> = (0..3_u8)
            .map(|at| Interface {
                id: InterfaceId(u32::from(at) + 1),
                name: format!("if{at}"),
                kind: InterfaceKind::Ethernet,
                network: None,
                metered: at == 2,
                addresses: vec![[192, 0, 2, at + 1 + (state & 8)].into()],
                link_local: None,
                usable: state >> at & 1 == 0,
                outlook: Outlook::default(),
                relayed: Vec::new(),
                reflexive: Vec::new(),
            })
            .collect();
        self.context.handle_interfaces(self.now, list.into());
    }

    fn path(&mut self) -> PathKey {
        let at = usize::from(self.byte());
        let paths: Vec<_> = self.context.paths().map(|path| path.key).collect();
        let stranger =
            PathKey::direct(InterfaceId(1), [192, 0, 2, 1].into(), ([203, 0, 113, at as u8], 9).into());
        if at & 0x80 != 0 {
            stranger
        } else {
            paths.get(at % paths.len().max(1)).copied().unwrap_or(stranger)
        }
    }

    /// A datagram between programs: of TCP, UDP, ICMP, or anything.
    fn datagram(&mut self) -> Vec<u8> {
        let how = self.byte();
        let mut bytes = vec![0; 28 + usize::from(how)];
        bytes[0] = if how & 1 == 0 { 0x45 } else { 0x60 };
        let protocol = [6, 17, 1, 58][usize::from(how >> 1) % 4];
        bytes[if how & 1 == 0 { 9 } else { 6 }] = protocol;
        for _ in 0..usize::from(how >> 3) % 8 {
            let (at, value) = (usize::from(self.byte()), self.byte());
            if let Some(byte) = bytes.get_mut(at % 80) {
                *byte = value;
            }
        }
        bytes
    }

    fn step(&mut self) {
        match self.byte() % 16 {
            0 | 1 => {
                let millis = 1 + u64::from(self.byte());
                self.pass(millis);
            }
            2 => {
                let millis = [5_000, 15_000, 130_000, 190_000][usize::from(self.byte()) % 4];
                self.now += Duration::from_millis(millis);
                self.wake();
            }
            3 => {
                if let Some(path) = self.asked.pop() {
                    self.context.secure_up(self.now, path, Role::Initiator, true);
                }
            }
            4 => {
                let (path, role) = (self.path(), self.byte());
                let role = if role & 1 == 0 { Role::Target } else { Role::Initiator };
                self.context.secure_up(self.now, path, role, role == Role::Target);
            }
            5 => {
                let path = self.path();
                self.context.secure_superseded(self.now, path);
            }
            6 | 7 => {
                let (path, inner) = (self.path(), self.datagram());
                let inner = Some(&inner[..]).filter(|bytes| bytes.len() & 1 == 0);
                self.context.note_plain_received(self.now, path, 100, inner);
            }
            8..=10 => {
                let datagram = self.datagram();
                let now = self.now;
                if self.context.kind() == Some(PeerKind::WireGuard)
                    && self.context.take_plain(now, Flags::NONE, &datagram)
                {
                    self.context.note_plain_datagram(now, &datagram);
                    if let Some(path) = self.context.plain_path(now) {
                        self.context.note_plain_sent(now, path, datagram.len());
                    }
                }
            }
            11 => self.interfaces(),
            12 => {
                let path = self.path();
                self.context.handle_send_error(self.now, path, SendError::Unreachable);
            }
            13 => {
                let (path, bytes) = (self.path(), self.datagram());
                self.context.handle_secure(self.now, path, &bytes, &mut Free);
            }
            14 => match self.byte() % 3 {
                0 => self.context.shut(self.now, ShutReason::Down),
                _ => self.context.connect(self.now),
            },
            _ => match self.byte() % 3 {
                0 => self.context.revalidate(self.now),
                1 => self.context.check(self.now),
                _ => {
                    let (path, mut bytes) = (self.path(), self.datagram());
                    self.context.handle_datagram(self.now, path, &mut bytes);
                }
            },
        }
    }

    fn pass(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        let mut wakes = 0;
        while let Some(due) = self.context.poll_timeout(self.now).filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.wake();
            wakes += 1;
            assert!(wakes < WAKES, "{wakes} timers in {millis} ms");
        }
        self.now = end;
    }

    fn wake(&mut self) {
        let mut turns = 0;
        while self.context.poll_timeout(self.now).is_some_and(|due| due <= self.now) {
            self.context.handle_timeout(self.now);
            turns += 1;
            assert!(turns <= TURNS, "a timer stays due: {:#?}", self.context.paths().collect::<Vec<_>>());
        }
        self.pump();
    }

    fn pump(&mut self) {
        let mut count = 0;
        let now = self.now;
        while let Some(transmit) = self.context.poll_transmit(now) {
            count += 1;
            assert!(count < BURST);
            match transmit {
                Transmit::Contact { path, .. } => self.asked.push(path),
                Transmit::Datagram { .. } => panic!("sealed for somebody without keys"),
                Transmit::Keepalive { .. } | Transmit::Secure { .. } => {}
            }
        }
        let excess = self.asked.len().saturating_sub(64);
        self.asked.drain(..excess);
        while let Some((datagram, _)) = self.context.poll_plain(now) {
            count += 1;
            assert!(count < BURST);
            self.context.note_plain_datagram(now, &datagram);
            if let Some(path) = self.context.plain_path(now) {
                self.context.note_plain_sent(now, path, datagram.len());
            }
        }
        while self.context.poll_event().is_some() {
            count += 1;
            assert!(count < BURST);
        }
    }

    fn check(&self) {
        assert!(self.context.paths().count() <= Context::MAX_PATHS);
        let bound = 3 * HoldLimits::default().bytes + 2 * 1024 * 1024;
        assert!(self.context.held().0 <= bound);
    }
}
