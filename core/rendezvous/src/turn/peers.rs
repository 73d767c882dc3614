//! Whom a relay is used for: which peers may answer, on which channel each is, and what waits until it may be sent.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// The most peers at once; the one not sent to for longest makes room.
pub const MOST_PEERS: usize = 64;
/// The most datagrams that wait for one peer; the oldest makes room.
pub const MOST_WAITING: usize = 16;
/// The most permissions: those of peers that made room hold for a while.
const MOST_PERMISSIONS: usize = 2 * MOST_PEERS;
/// What waited longer than that is of no use to anybody: what it carries has been sent again.
const STALE: Duration = Duration::from_secs(3);
/// How long a permission holds (RFC 8656, 9).
const PERMISSION: Duration = Duration::from_secs(300);
/// How long a channel does (RFC 8656, 12).
const CHANNEL: Duration = Duration::from_secs(600);
/// As much ahead of their end both are asked for again: time for every try, and for a server's clock that is a little fast.
const AHEAD: Duration = Duration::from_secs(60);
/// Peers that nothing was sent to for that long keep neither.
const IDLE: Duration = Duration::from_secs(600);
/// A permission that was refused is asked for again after this: a relay's rules change seldom.
const REFUSED: Duration = Duration::from_secs(60);
/// A channel that was refused: a number and a peer that were together stay so for five minutes after the ten that
/// a channel holds (RFC 8656, 12).
const CHANNEL_REFUSED: Duration = Duration::from_secs(900);
/// From this datagram to a peer on, a channel is worth its request: it saves some 32 bytes each time.
const CHANNEL_FROM: u32 = 4;
/// The numbers of channels (RFC 8656, 12).
const NUMBERS: RangeInclusive<u16> = 0x4000..=0x4fff;

/// What is to be asked for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// A permission.
    Permit(IpAddr),
    /// A channel.
    Bind(SocketAddr, u16),
}

/// How a datagram may be sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Way {
    /// As an indication.
    Indication(Vec<u8>),
    /// On this channel.
    Channel(u16, Vec<u8>),
    /// Not yet: it waits.
    Later,
    /// Never: the relay refuses this peer.
    Refused,
}

#[derive(Debug)]
struct Peer {
    waiting: VecDeque<(Instant, Vec<u8>)>,
    sent: u32,
    last: Instant,
    channel: Channel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Channel {
    None,
    Asked(u16),
    Bound { number: u16, until: Instant, asked: bool },
    Refused { until: Instant },
}

#[derive(Debug, Clone, Copy)]
enum Permission {
    Asked,
    Given { until: Instant, asked: bool },
    Refused { until: Instant },
}

/// All of them.
#[derive(Debug, Default)]
pub struct Peers {
    peers: BTreeMap<SocketAddr, Peer>,
    permissions: BTreeMap<IpAddr, Permission>,
    /// How many channels there were.
    channels: u16,
    /// Datagrams that were left out.
    pub dropped: u64,
}

impl Peers {
    /// Forgets what an allocation had that is gone; what waits goes on waiting for the next.
    pub fn start_anew(&mut self) {
        self.permissions.clear();
        self.channels = 0;
        self.peers.retain(|_, peer| !peer.waiting.is_empty());
        for peer in self.peers.values_mut() {
            (peer.channel, peer.sent) = (Channel::None, 0);
        }
    }

    /// Lets a datagram wait.
    pub fn wait(&mut self, now: Instant, to: SocketAddr, payload: Vec<u8>) {
        let peer = self.peer(now, to);
        peer.waiting.push_back((now, payload));
        if peer.waiting.len() > MOST_WAITING {
            peer.waiting.pop_front();
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    fn peer(&mut self, now: Instant, to: SocketAddr) -> &mut Peer {
        if !self.peers.contains_key(&to) && self.peers.len() >= MOST_PEERS {
            let oldest = self.peers.iter().min_by_key(|(_, peer)| peer.last).map(|(at, _)| *at);
            if let Some(peer) = oldest.and_then(|oldest| self.peers.remove(&oldest)) {
                self.dropped = self.dropped.saturating_add(peer.waiting.len() as u64);
            }
        }
        let new = || Peer { waiting: VecDeque::new(), sent: 0, last: now, channel: Channel::None };
        let peer = self.peers.entry(to).or_insert_with(new);
        peer.last = now;
        peer
    }

    /// How a datagram goes now.
    pub fn send(&mut self, now: Instant, to: SocketAddr, payload: Vec<u8>) -> Way {
        match self.permissions.get(&to.ip()) {
            Some(Permission::Given { until, .. }) if *until > now => {
                let peer = self.peer(now, to);
                peer.sent = peer.sent.saturating_add(1);
                match peer.channel {
                    Channel::Bound { number, until, .. } if until > now => Way::Channel(number, payload),
                    _ => Way::Indication(payload),
                }
            }
            Some(Permission::Refused { until }) if *until > now => Way::Refused,
            _ => {
                self.wait(now, to, payload);
                Way::Later
            }
        }
    }

    /// What waited for an address, which may be sent to now.
    pub fn take_waiting(&mut self, now: Instant, address: IpAddr) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut taken = Vec::new();
        for (at, peer) in self.peers.iter_mut().filter(|(at, _)| at.ip() == address) {
            for (since, payload) in peer.waiting.drain(..) {
                if since + STALE > now {
                    taken.push((*at, payload));
                } else {
                    self.dropped = self.dropped.saturating_add(1);
                }
            }
        }
        taken
    }

    /// What is to be asked for now; it counts as asked.
    pub fn wishes(&mut self, now: Instant) -> Vec<Wish> {
        self.lapse(now);
        let mut wishes = Vec::new();
        for (at, peer) in &mut self.peers {
            let room = self.permissions.len() < MOST_PERMISSIONS;
            let permission = self.permissions.get_mut(&at.ip());
            let active = peer.last + IDLE > now;
            match permission {
                None if !peer.waiting.is_empty() && room => {
                    self.permissions.insert(at.ip(), Permission::Asked);
                    wishes.push(Wish::Permit(at.ip()));
                    continue;
                }
                Some(Permission::Given { until, asked: asked @ false }) if active => {
                    // A channel's renewal renews the permission with it (RFC 8656, 12): one message for both.
                    if *until <= now + AHEAD {
                        *asked = true;
                        if let Channel::Bound { number, asked: asked @ false, .. } = &mut peer.channel {
                            *asked = true;
                            wishes.push(Wish::Bind(*at, *number));
                        } else {
                            wishes.push(Wish::Permit(at.ip()));
                        }
                    }
                }
                Some(Permission::Given { .. }) => {}
                _ => continue,
            }
            match &mut peer.channel {
                Channel::None if peer.sent >= CHANNEL_FROM => {
                    // After so many a number could be one that the server still holds for another peer.
                    if let Some(number) =
                        NUMBERS.start().checked_add(self.channels).filter(|n| NUMBERS.contains(n))
                    {
                        self.channels = self.channels.saturating_add(1);
                        peer.channel = Channel::Asked(number);
                        wishes.push(Wish::Bind(*at, number));
                    }
                }
                Channel::Bound { number, until, asked: asked @ false } if active && *until <= now + AHEAD => {
                    *asked = true;
                    wishes.push(Wish::Bind(*at, *number));
                }
                _ => {}
            }
        }
        wishes
    }

    /// Forgets what is over.
    fn lapse(&mut self, now: Instant) {
        self.permissions.retain(|_, permission| match permission {
            Permission::Asked => true,
            Permission::Given { until, .. } | Permission::Refused { until } => *until > now,
        });
        for peer in self.peers.values_mut() {
            // A channel that is over keeps its number: for five minutes more the peer may have this one and no other.
            if matches!(peer.channel, Channel::Refused { until } if until <= now) {
                peer.channel = Channel::None;
            }
        }
        self.peers.retain(|_, peer| peer.last + IDLE + CHANNEL_REFUSED > now);
    }

    /// When [`wishes`](Self::wishes) has something next, but for what is sent in between.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let permissions = self.permissions.iter().filter_map(|(address, permission)| match permission {
            Permission::Given { until, asked: false } => {
                let mut peers = self.peers.iter().filter(|(at, _)| at.ip() == *address);
                peers.any(|(_, peer)| peer.last + IDLE > now).then(|| *until - AHEAD)
            }
            _ => None,
        });
        let channels = self.peers.values().filter_map(|peer| match peer.channel {
            Channel::Bound { until, asked: false, .. } if peer.last + IDLE > now => Some(until - AHEAD),
            _ => None,
        });
        permissions.chain(channels).min()
    }

    /// The relay lets datagrams of this address through, or does not.
    pub fn permitted(&mut self, now: Instant, address: IpAddr, yes: bool) {
        let permission = if yes {
            Permission::Given { until: now + PERMISSION, asked: false }
        } else {
            for (_, peer) in self.peers.iter_mut().filter(|(at, _)| at.ip() == address) {
                self.dropped = self.dropped.saturating_add(peer.waiting.len() as u64);
                peer.waiting.clear();
            }
            Permission::Refused { until: now + REFUSED }
        };
        self.permissions.insert(address, permission);
    }

    /// The relay did not say whether it does: it is asked again, when there is something to be sent.
    pub fn permission_unanswered(&mut self, now: Instant, address: IpAddr) {
        match self.permissions.get_mut(&address) {
            Some(Permission::Given { until, asked }) if *until > now => *asked = false,
            _ => {
                self.permissions.remove(&address);
            }
        }
    }

    /// A peer has its channel, or does not; `None`: the relay did not say.
    pub fn bound(&mut self, now: Instant, at: SocketAddr, number: u16, yes: Option<bool>) {
        if let Some(peer) = self.peers.get_mut(&at) {
            peer.channel = match (yes, peer.channel) {
                (Some(true), _) => Channel::Bound { number, until: now + CHANNEL, asked: false },
                (Some(false), _) => Channel::Refused { until: now + CHANNEL_REFUSED },
                (None, Channel::Bound { until, .. }) => Channel::Bound { number, until, asked: false },
                (None, _) => {
                    peer.sent = 0;
                    Channel::None
                }
            };
        }
        match yes {
            Some(true) => self.permitted(now, at.ip(), true),
            // The permission may have been renewed by this.
            _ => self.permission_unanswered(now, at.ip()),
        }
    }

    /// Who is on a channel.
    pub fn on(&self, number: u16) -> Option<SocketAddr> {
        let is = |peer: &Peer| match peer.channel {
            Channel::Bound { number: own, .. } | Channel::Asked(own) => own == number,
            _ => false,
        };
        self.peers.iter().find(|(_, peer)| is(peer)).map(|(at, _)| *at)
    }

    /// Whether datagrams of an address are let through.
    pub fn permits(&self, address: IpAddr) -> bool {
        matches!(self.permissions.get(&address), Some(Permission::Given { .. }))
    }

    /// How many are on channels.
    pub fn channels(&self) -> usize {
        self.peers.values().filter(|peer| matches!(peer.channel, Channel::Bound { .. })).count()
    }
}
