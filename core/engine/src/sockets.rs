//! One UDP socket per interface and address family, each bound to its interface.
//!
//! A socket is bound to the wildcard address, so it outlives a change of the interface's address. What cannot be
//! sent is dropped, as on any link: data because that is what a full queue does, control because it is repeated.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use mast_proto::{Interface, InterfaceId, PathKey, SendError, Via};

use crate::nat64::{self, Nat64};
use crate::os::{Arrival, Family, NotReceived, NotSent, Platform, SendRefused, Udp};
use crate::reach::{Unreachable, why_unreachable};
use crate::relays::Relays;
use crate::segments::Segmentation;

/// The first pause before a socket that could not be made is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest one.
const RETRY_MAX: Duration = Duration::from_secs(10);

struct Bound<U> {
    interface: InterfaceId,
    /// A number may pass on to another interface.
    name: String,
    family: Family,
    /// The interface's first address of the family, where the system does not tell what datagrams come to.
    first: IpAddr,
    /// Shared with what is on its way through it.
    socket: Arc<U>,
    /// The interface failed underneath it.
    broken: bool,
    /// Whether datagrams leave many at a time.
    segmentation: Segmentation,
    /// What stands before the IPv4 addresses that are reached over it, while the interface has no IPv4 of its own.
    prefix: Option<Nat64>,
}

/// A socket that should be there, and could not be made.
struct Missing {
    interface: InterfaceId,
    family: Family,
    failures: u32,
    retry: Instant,
}

/// A socket that could not be made, for the first time in a row.
pub(crate) struct Failure {
    /// The interface's name.
    pub interface: String,
    /// Why.
    pub error: io::Error,
}

/// What became of a datagram that was handed to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is on its way.
    Yes,
    /// The system has no room for it now.
    Full,
    /// So many from the front are on their way; for the others the system had no room, and they are lost.
    Partly(usize),
    /// It is lost; the reason is the name of a counter.
    Lost(&'static str),
    /// The context must know.
    Failed(SendError),
}

/// All sockets.
pub(crate) struct Sockets<U> {
    port: u16,
    bound: Vec<Bound<U>>,
    missing: Vec<Missing>,
    /// By the interface's name.
    translated: BTreeMap<String, Nat64>,
    /// Other ways than sockets.
    pub relays: Relays,
}

impl<U: Udp> Sockets<U> {
    /// None yet. All will use the same port; 0 picks one that is free now.
    pub fn new(port: u16) -> io::Result<Self> {
        let port = if port == 0 {
            std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port()
        } else {
            port
        };
        let (bound, missing, translated) = (Vec::new(), Vec::new(), BTreeMap::new());
        Ok(Self { port, bound, missing, translated, relays: Relays::default() })
    }

    /// With which prefix IPv4 addresses are reached over an interface that has IPv6 alone, by its name.
    pub fn translate(&mut self, translated: BTreeMap<String, Nat64>) {
        self.translated = translated;
    }

    /// Whether any are reached so now.
    pub fn is_translating(&self) -> bool {
        self.bound.iter().any(|bound| bound.prefix.is_some())
    }

    /// The port of all of them.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes all.
    pub fn clear(&mut self) {
        self.bound.clear();
        self.missing.clear();
    }

    /// Makes what is missing and due, and drops what is no longer needed.
    pub fn sync<P: Platform<Udp = U>>(
        &mut self,
        platform: &P,
        interfaces: &[Interface],
        now: Instant,
    ) -> Vec<Failure> {
        for broken in self.bound.extract_if(.., |b| b.broken) {
            let (interface, family) = (broken.interface, broken.family);
            self.missing.push(Missing { interface, family, failures: 1, retry: now + RETRY_FIRST });
        }
        // An interface without carrier keeps its sockets: it may be back soon.
        self.bound.retain_mut(|b| {
            let Some(interface) = interfaces.iter().find(|i| i.id == b.interface && i.name == b.name) else {
                return false;
            };
            b.first = first(interface, b.family).unwrap_or(b.first);
            b.prefix = prefix(&self.translated, interface, b.family);
            true
        });
        self.missing.retain(|m| interfaces.iter().any(|i| i.id == m.interface && needs(i, m.family)));
        let mut failures = Vec::new();
        for interface in interfaces {
            for family in [Family::V4, Family::V6] {
                let bound = self.bound.iter().any(|b| b.interface == interface.id && b.family == family);
                let entry =
                    self.missing.iter().position(|m| m.interface == interface.id && m.family == family);
                let early = entry.and_then(|at| self.missing.get(at)).is_some_and(|m| now < m.retry);
                let Some(first) =
                    first(interface, family).filter(|ip| interface.carries(*ip) && !bound && !early)
                else {
                    continue;
                };
                let before = entry.map(|at| self.missing.swap_remove(at).failures).unwrap_or(0);
                match platform.bind_udp(interface, family, self.port) {
                    Ok(socket) => self.bound.push(Bound {
                        interface: interface.id,
                        name: interface.name.clone(),
                        family,
                        first,
                        socket: Arc::new(socket),
                        broken: false,
                        segmentation: Segmentation::default(),
                        prefix: prefix(&self.translated, interface, family),
                    }),
                    Err(error) => {
                        let retry = now + RETRY_MAX.min(RETRY_FIRST * 2_u32.pow(before.min(8)));
                        let failures_now = before.saturating_add(1);
                        self.missing.push(Missing {
                            interface: interface.id,
                            family,
                            failures: failures_now,
                            retry,
                        });
                        if before == 0 {
                            failures.push(Failure { interface: interface.name.clone(), error });
                        }
                    }
                }
            }
        }
        failures
    }

    /// When [`Sockets::sync`] must be called again.
    pub fn retry(&self, now: Instant) -> Option<Instant> {
        if self.bound.iter().any(|b| b.broken) {
            return Some(now);
        }
        self.missing.iter().map(|m| m.retry).min()
    }

    /// How datagrams leave over an interface.
    pub fn segmentation(&self, of: InterfaceId) -> Segmentation {
        self.bound.iter().find(|b| b.interface == of).map(|b| b.segmentation).unwrap_or_default()
    }

    /// Has them leave otherwise, until the interface goes.
    pub fn set_segmentation(&mut self, of: InterfaceId, segmentation: Segmentation) {
        for bound in self.bound.iter_mut().filter(|b| b.interface == of) {
            bound.segmentation = segmentation;
            let several = segmentation.is_many();
            bound.socket.set_segments(several);
        }
    }

    /// The interfaces over which datagrams leave one by one, because batches were lost.
    pub fn single(&self) -> Vec<String> {
        let single = self.bound.iter().filter(|b| b.segmentation == Segmentation::Single);
        let mut names: Vec<String> = single.map(|b| b.name.clone()).collect();
        names.dedup();
        names
    }

    /// Ready when any socket may have something.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ready = self.relays.poll_readable(cx);
        for bound in self.bound.iter().filter(|b| !b.broken) {
            if bound.socket.poll_readable(cx).is_ready() {
                ready = Poll::Ready(());
            }
        }
        ready
    }

    /// How many there are, for [`Sockets::receive`].
    pub fn len(&mut self) -> usize {
        self.bound.len() + self.relays.len()
    }

    /// Datagrams from a socket, if it has any, and the path they came over.
    pub fn receive(&mut self, at: usize, buffer: &mut [u8]) -> Option<(Arrival, PathKey)> {
        if let Some(at) = at.checked_sub(self.bound.len()) {
            return self.relays.receive(at, buffer);
        }
        let bound = self.bound.get_mut(at).filter(|b| !b.broken)?;
        loop {
            match bound.socket.try_recv(buffer) {
                Ok(arrival) => {
                    let remote = canonical(arrival.remote);
                    if let Some(remote) = bound.prefix.and_then(|prefix| prefix.read_from(remote)) {
                        return Some((arrival, PathKey::direct(bound.interface, nat64::SELF.into(), remote)));
                    }
                    let local = arrival.local.map_or(bound.first, |local| local.to_canonical());
                    return Some((arrival, PathKey::direct(bound.interface, local, remote)));
                }
                Err(NotReceived::Empty) => return None,
                Err(NotReceived::Earlier) => {}
                Err(NotReceived::Gone) => {
                    tracing::debug!(interface = bound.interface.0, "a socket failed");
                    bound.broken = true;
                    return None;
                }
            }
        }
    }

    /// Sends datagrams of `stride` bytes each, the last of which may be shorter, over a path.
    pub fn send_run(&mut self, path: PathKey, class: u8, stride: usize, payload: &[u8]) -> Sent {
        if let Via::Relay(number) = path.via {
            return self.relays.send_run(path, number, stride, payload);
        }
        let Some(bound) = self.bound_to(path) else { return Sent::Lost("no_socket") };
        let (local, remote) = match bound.prefix.filter(|_| path.remote.is_ipv4()) {
            Some(prefix) => (bound.first, prefix.write_to(path.remote)),
            None => (path.local, path.remote),
        };
        match bound.socket.try_send(local, remote, class, stride, payload) {
            Ok(()) => Sent::Yes,
            Err(not_sent) => {
                let socket = Arc::clone(&bound.socket);
                self.refused(&socket, stride.min(payload.len()), not_sent)
            }
        }
    }

    /// What the datagrams of a direct path leave by.
    fn bound_to(&self, path: PathKey) -> Option<&Bound<U>> {
        let translated = path.local == IpAddr::V4(nat64::SELF);
        let family = if translated { Family::V6 } else { Family::of(path.remote.ip()) };
        let mut bound = self.bound.iter().filter(|b| b.interface == path.interface && b.family == family);
        bound.find(|b| !translated || b.prefix.is_some())
    }

    /// The socket of a path that takes its addresses as they are. The error is the name of a counter.
    pub fn socket(&self, path: PathKey) -> Result<&Arc<U>, &'static str> {
        let Some(bound) = self.bound_to(path).filter(|bound| bound.prefix.is_none() || path.remote.is_ipv6())
        else {
            return Err("no_socket");
        };
        if path.via == Via::Direct { Ok(&bound.socket) } else { Err("no_relay") }
    }

    /// What it means that a socket refused a run of datagrams, the longest of `size` bytes. It may be one that is no
    /// longer there.
    pub fn refused(&mut self, socket: &Arc<U>, size: usize, NotSent { sent, why }: NotSent) -> Sent {
        match why {
            // Those that left would be doubled if the whole were sent again.
            SendRefused::Full if sent > 0 => Sent::Partly(sent),
            SendRefused::Full => Sent::Full,
            SendRefused::TooBig => Sent::Failed(SendError::TooBig { size }),
            SendRefused::Unreachable => Sent::Failed(SendError::Unreachable),
            SendRefused::Gone => {
                for bound in self.bound.iter_mut().filter(|b| Arc::ptr_eq(&b.socket, socket)) {
                    bound.broken = true;
                }
                Sent::Failed(SendError::Unreachable)
            }
            SendRefused::Refused => Sent::Lost("send_refused_port"),
            // A local firewall; whether it is for good shows in silence.
            SendRefused::NotPermitted => Sent::Lost("send_not_permitted"),
            SendRefused::Other => Sent::Lost("send_failed"),
        }
    }

    /// Sends one datagram over a path.
    pub fn send(&mut self, path: PathKey, datagram: &[u8]) -> Sent {
        self.send_run(path, 0, datagram.len(), datagram)
    }

    /// Ready when a path's socket may have room again, or is no longer there.
    pub fn poll_writable(&self, path: PathKey, cx: &mut Context<'_>) -> Poll<()> {
        match self.bound_to(path).filter(|bound| !bound.broken) {
            Some(bound) => bound.socket.poll_writable(cx),
            None => Poll::Ready(()),
        }
    }

    /// The addresses that this host can be reached at, with the port, at most `limit`; each interface's first of
    /// each family before any second, and how they are seen from outside last.
    pub fn addresses(&self, interfaces: &[Interface], limit: usize) -> Vec<SocketAddr> {
        let usable = interfaces.iter().filter(|i| i.usable);
        let reachable = |i: &Interface, a: &IpAddr| {
            *a != IpAddr::V4(nat64::SELF)
                && self.bound.iter().any(|b| b.interface == i.id && b.family == Family::of(*a))
        };
        let mut ranked: Vec<(usize, IpAddr)> = usable
            .flat_map(|i| {
                [true, false].into_iter().flat_map(move |v4| {
                    let family = i.addresses.iter().filter(move |a| a.is_ipv4() == v4 && reachable(i, a));
                    family.enumerate().map(|(rank, a)| (rank, *a))
                })
            })
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let own = ranked.into_iter().map(|(_, ip)| SocketAddr::new(ip, self.port));
        // A NAT that lets everybody in, or a port that is forwarded.
        let usable = interfaces.iter().filter(|i| i.usable);
        let seen = usable.flat_map(|i| i.addresses.iter().filter_map(|own| i.seen(*own)));
        let mut out: Vec<SocketAddr> = Vec::new();
        for at in own.chain(seen) {
            if out.len() < limit && !out.contains(&at) {
                out.push(at);
            }
        }
        out
    }
}

/// With which prefix a socket reaches IPv4 addresses, too.
fn prefix(all: &BTreeMap<String, Nat64>, interface: &Interface, family: Family) -> Option<Nat64> {
    let wanted = family == Family::V6 && nat64::is_of_use(interface);
    all.get(&interface.name).copied().filter(|_| wanted)
}

fn needs(interface: &Interface, family: Family) -> bool {
    first(interface, family).is_some_and(|ip| interface.carries(ip))
}

fn first(interface: &Interface, family: Family) -> Option<IpAddr> {
    let link_local = interface.link_local.filter(|_| family == Family::V6).map(IpAddr::from);
    let own = |address: &IpAddr| Family::of(*address) == family && *address != IpAddr::V4(nat64::SELF);
    interface.addresses.iter().copied().find(own).or(link_local)
}

/// Without IPv6's flow label, and without its scope but where the address means nothing otherwise (RFC 4007): they would
/// make two paths of one.
fn canonical(remote: SocketAddr) -> SocketAddr {
    match remote {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into()
        }
        _ => SocketAddr::new(remote.ip().to_canonical(), remote.port()),
    }
}

/// Whether an address may be a peer's: a peer is one host, with a port. Loopback goes no further than this host, as
/// some tests want it.
pub(crate) fn is_plausible(at: &SocketAddr) -> bool {
    matches!(why_unreachable(*at), None | Some(Unreachable::Loopback(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many of a run, and refuses the rest.
    struct Refusing(NotSent);

    impl Udp for Refusing {
        fn poll_readable(&self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
        fn poll_writable(&self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
        fn try_recv(&self, _: &mut [u8]) -> Result<Arrival, NotReceived> {
            Err(NotReceived::Empty)
        }
        fn try_send(&self, _: IpAddr, _: SocketAddr, _: u8, _: usize, _: &[u8]) -> Result<(), NotSent> {
            Err(self.0)
        }
    }

    /// What becomes of a run of 3 datagrams of 100 bytes, and whether the socket is to be made again.
    fn outcome(sent: usize, why: SendRefused) -> (Sent, bool) {
        let local = IpAddr::from([192, 0, 2, 1]);
        let bound = Bound {
            interface: InterfaceId(1),
            name: "eth0".into(),
            family: Family::V4,
            first: local,
            socket: Arc::new(Refusing(NotSent { sent, why })),
            broken: false,
            segmentation: Segmentation::default(),
            prefix: None,
        };
        let (missing, translated) = (Vec::new(), BTreeMap::new());
        let mut sockets =
            Sockets { port: 1, bound: vec![bound], missing, translated, relays: Relays::default() };
        let path = PathKey::direct(InterfaceId(1), local, ([192, 0, 2, 9], 7).into());
        let sent = sockets.send_run(path, 0, 100, &[0; 300]);
        (sent, sockets.bound.iter().any(|b| b.broken))
    }

    /// Has one datagram from there, and notes where the last went.
    struct Noting(SocketAddr, std::sync::Mutex<Option<(IpAddr, SocketAddr)>>);

    impl Udp for Noting {
        fn poll_readable(&self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
        fn poll_writable(&self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
        fn try_recv(&self, _: &mut [u8]) -> Result<Arrival, NotReceived> {
            Ok(Arrival { length: 1, stride: 1, remote: self.0, local: None, class: 0 })
        }
        fn try_send(
            &self,
            local: IpAddr,
            remote: SocketAddr,
            _: u8,
            _: usize,
            _: &[u8],
        ) -> Result<(), NotSent> {
            *self.1.lock().unwrap() = Some((local, remote));
            Ok(())
        }
    }

    #[test]
    fn what_is_for_ipv4_leaves_for_the_address_that_stands_for_it_and_comes_from_there() {
        let own: IpAddr = "2001:db8::2".parse().unwrap();
        let (v4, v6): (SocketAddr, SocketAddr) =
            ("192.0.2.33:7".parse().unwrap(), "[64:ff9b::192.0.2.33]:7".parse().unwrap());
        let prefix = Nat64::new("64:ff9b::".parse().unwrap(), 96);
        let sockets = |from: SocketAddr, prefix| Sockets {
            port: 1,
            bound: vec![Bound {
                interface: InterfaceId(1),
                name: "eth0".into(),
                family: Family::V6,
                first: own,
                socket: Arc::new(Noting(from, std::sync::Mutex::new(None))),
                broken: false,
                segmentation: Segmentation::default(),
                prefix,
            }],
            missing: Vec::new(),
            translated: BTreeMap::new(),
            relays: Relays::default(),
        };
        let translated = PathKey::direct(InterfaceId(1), nat64::SELF.into(), v4);
        let other: SocketAddr = "[2001:db8::9]:7".parse().unwrap();
        for (from, path, went) in
            [(v6, translated, v6), (other, PathKey::direct(InterfaceId(1), own, other), other)]
        {
            let mut all = sockets(from, prefix);
            assert_eq!(all.receive(0, &mut [0; 9]).map(|(_, path)| path), Some(path));
            assert_eq!(all.send(path, b"x"), Sent::Yes);
            assert_eq!(*all.bound[0].socket.1.lock().unwrap(), Some((own, went)));
            assert!(all.is_translating());
        }
        // Another thread would hand over the addresses as they are.
        assert!(sockets(v6, prefix).socket(translated).is_err());
        // Without a prefix all that is IPv6.
        let mut plain = sockets(v6, None);
        assert_eq!(plain.receive(0, &mut [0; 9]).map(|(_, path)| path.remote), Some(v6));
        assert_eq!(plain.send(translated, b"x"), Sent::Lost("no_socket"));
    }

    #[test]
    fn each_refusal_means_its_own_thing() {
        let cases = [
            (0, SendRefused::Full, Sent::Full, false),
            // What left is not sent again.
            (2, SendRefused::Full, Sent::Partly(2), false),
            (0, SendRefused::TooBig, Sent::Failed(SendError::TooBig { size: 100 }), false),
            (0, SendRefused::Unreachable, Sent::Failed(SendError::Unreachable), false),
            (1, SendRefused::Gone, Sent::Failed(SendError::Unreachable), true),
            (0, SendRefused::NotPermitted, Sent::Lost("send_not_permitted"), false),
            (0, SendRefused::Refused, Sent::Lost("send_refused_port"), false),
            (0, SendRefused::Other, Sent::Lost("send_failed"), false),
        ];
        for (sent, why, expected, broken) in cases {
            assert_eq!(outcome(sent, why), (expected, broken), "{why:?}");
        }
    }
}
