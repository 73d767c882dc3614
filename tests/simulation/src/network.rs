//! What lies between hosts: access links, and NATs in front of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// A small deterministic generator (xorshift64*).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds must not give neighbouring sequences (splitmix64).
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((z ^ (z >> 31)) | 1)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        (self.draw() >> 11) % n.max(1)
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        ((self.draw() >> 11) as f64 / (1_u64 << 53) as f64) < p
    }
}

/// A link of limited rate, each way, with a queue that drops what does not fit.
#[derive(Debug, Clone)]
pub struct Bottleneck {
    /// In bit/s.
    pub rate: u64,
    /// What the queue holds, in time.
    pub queue: Duration,
    /// The longest that something waited.
    pub longest: Duration,
    /// Outward and inward, when all that waits will have left.
    free: [Option<Instant>; 2],
}

impl Bottleneck {
    /// IPv4 and UDP headers.
    const OVERHEAD: u64 = 28;

    /// How long a UDP payload takes that comes at `at`; `None` when there is no room.
    pub(crate) fn pass(&mut self, at: Instant, inward: bool, payload: usize) -> Option<Duration> {
        let free = &mut self.free[usize::from(inward)];
        let from = free.map_or(at, |free| free.max(at));
        if from - at > self.queue {
            return None;
        }
        self.longest = self.longest.max(from - at);
        let bits = (payload as u64 + Self::OVERHEAD) * 8;
        let until = from + Duration::from_nanos(bits * 1_000_000_000 / self.rate.max(1));
        *free = Some(until);
        Some(until - at)
    }
}

/// One interface of a host and the link behind it.
#[derive(Debug, Clone)]
pub struct Access {
    /// The interface's name.
    pub name: String,
    /// One-way delay between the host and the core of the network.
    pub delay: Duration,
    /// Extra delay, random up to this, per datagram.
    pub jitter: Duration,
    /// Share of datagrams lost, each way.
    pub loss: f64,
    /// Share of datagrams that arrive twice.
    pub duplication: f64,
    /// How much it carries each way, with what waits for that.
    pub bottleneck: Option<Bottleneck>,
    /// The largest IP packet that leaves over it, in bytes; larger ones vanish, and nobody is told.
    pub mtu_out: usize,
    /// The largest one that arrives over it.
    pub mtu_in: usize,
    /// Packets that vanished for their size.
    pub too_large: u64,
    /// Whether it costs money.
    pub metered: bool,
    /// What its system says of it beside that.
    pub outlook: mast_proto::Outlook,
    /// Whether a NAT stands before its IPv4.
    pub nat: bool,
    /// How many addresses of IPv4 it has.
    pub v4: u8,
    /// How many of IPv6.
    pub v6: u8,
    /// Datagrams leave and vanish.
    pub deaf_out: bool,
    /// Datagrams for it vanish.
    pub deaf_in: bool,
    /// Whether the system sees it up.
    pub up: bool,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) id: u32,
    nat_ip: Ipv4Addr,
    nat_next: u16,
    nat_ports: BTreeMap<(IpAddr, u16), u16>,
}

impl Access {
    /// A clean link of a one-way delay, with an address of each version of IP.
    pub fn new(name: &str, delay: Duration) -> Self {
        Self {
            name: name.into(),
            delay,
            jitter: Duration::ZERO,
            loss: 0.0,
            duplication: 0.0,
            bottleneck: None,
            mtu_out: 1500,
            mtu_in: 1500,
            too_large: 0,
            metered: false,
            outlook: mast_proto::Outlook::default(),
            nat: false,
            v4: 1,
            v6: 1,
            deaf_out: false,
            deaf_in: false,
            up: true,
            ips: Vec::new(),
            id: 0,
            nat_ip: Ipv4Addr::UNSPECIFIED,
            nat_next: 20_000,
            nat_ports: BTreeMap::new(),
        }
    }

    /// With a price.
    pub fn metered(mut self) -> Self {
        self.metered = true;
        self
    }

    /// Which carries IP packets of up to so many bytes, each way.
    pub fn mtu(mut self, bytes: usize) -> Self {
        self.mtu_out = bytes;
        self.mtu_in = bytes;
        self
    }

    /// Behind a NAT with endpoint-independent mapping, which lets in what comes to a mapping.
    pub fn nat(mut self) -> Self {
        self.nat = true;
        self
    }

    /// With so many addresses of IPv4 and IPv6.
    pub fn addresses(mut self, v4: u8, v6: u8) -> Self {
        (self.v4, self.v6) = (v4, v6);
        self
    }

    /// With a share of datagrams lost, each way.
    pub fn loss(mut self, share: f64) -> Self {
        self.loss = share;
        self
    }

    /// With a rate in bit/s each way, and a queue of so much time before it.
    pub fn rate(mut self, rate: u64, queue: Duration) -> Self {
        self.bottleneck = Some(Bottleneck { rate, queue, free: [None; 2], longest: Duration::ZERO });
        self
    }

    /// With random extra delay, and so reordering.
    pub fn jitter(mut self, most: Duration) -> Self {
        self.jitter = most;
        self
    }

    /// Moves it to another subnet.
    pub(crate) fn renumber(&mut self, number: u32) {
        self.nat_ip = Ipv4Addr::from_bits(Ipv4Addr::new(203, 0, 0, 0).to_bits() + number);
        let subnet = if self.nat { Ipv4Addr::new(10, 0, 0, 0) } else { Ipv4Addr::new(11, 0, 0, 0) };
        let v4 = |host: u8| Ipv4Addr::from_bits(subnet.to_bits() + (number << 8) + 2 + u32::from(host));
        let v6 = |host: u8| {
            let prefix = (u128::from(number) << 64) | (2 + u128::from(host));
            Ipv6Addr::from_bits(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0).to_bits() | prefix)
        };
        self.ips = (0..self.v4).map(v4).map(IpAddr::V4).chain((0..self.v6).map(v6).map(IpAddr::V6)).collect();
        self.nat_ports.clear();
    }

    /// The NAT forgets its mappings and gives out others.
    pub(crate) fn rebind(&mut self) {
        self.nat_ports.clear();
        self.nat_next = self.nat_next.wrapping_add(100).max(20_000);
    }

    /// The source that the network sees of what leaves from an address; none if it is not there (any more).
    pub(crate) fn outside(&mut self, from: SocketAddr) -> Option<SocketAddr> {
        if !self.ips.contains(&from.ip()) {
            return None;
        }
        if !self.nat || from.is_ipv6() {
            return Some(from);
        }
        let inner = (from.ip(), from.port());
        let mapped = self.nat_ports.get(&inner).copied();
        let outer = mapped.unwrap_or_else(|| {
            self.nat_next += 1;
            self.nat_ports.insert(inner, self.nat_next);
            self.nat_next
        });
        Some(SocketAddr::new(IpAddr::V4(self.nat_ip), outer))
    }

    /// The address behind it that a datagram from the network reaches.
    pub(crate) fn inside(&self, to: SocketAddr) -> Option<IpAddr> {
        if to.ip() == IpAddr::V4(self.nat_ip) && self.nat {
            return self.nat_ports.iter().find(|(_, outer)| **outer == to.port()).map(|((ip, _), _)| *ip);
        }
        let open = !self.nat || to.is_ipv6();
        (open && self.ips.contains(&to.ip())).then_some(to.ip())
    }
}
