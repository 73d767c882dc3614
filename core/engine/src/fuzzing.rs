//! What reads bytes from outside and is private, for `tests/fuzz`: each takes any bytes, and asserts what must hold.
//!
//! Nothing of a service calls these.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use gotatun::packet::{Packet, WgKind};
use mast_proto::{Interface, InterfaceId, InterfaceKind, PathKey};

use crate::coalesce::Coalescer;
use crate::os::{Offload, Offloads, Several, Tun};
use crate::outside::{Outside, is_stun};
use crate::pairing::Message;
use crate::segment::Frame;
use crate::sockets::is_plausible;
use crate::wireguard::{Identity, Indices, Owner, Session, Verified};
use crate::{checksum, clamp, ecn, icmp, inner, invite, mirror, name};

/// The largest frame that a TUN device hands over, in bytes.
const LONGEST: usize = 65_535;

/// An IP datagram from inside a WireGuard session: its addresses, its end, and what it may carry of MAST.
pub fn encapsulated(data: &[u8]) {
    let trimmed = inner::trim(data);
    if let Some(trimmed) = trimmed {
        assert!(data.starts_with(trimmed));
    }
    if let Some(message) = inner::unwrap(data) {
        assert!(message.len() + 48 <= data.len());
        // Pairing and INIT arrive like this.
        let _ = Message::decode(message);
        let _ = mast_proto::wire::Message::decode(message);
    }
    if let Some((source, destination)) = inner::addresses(data) {
        assert_eq!(source.is_ipv4(), destination.is_ipv4());
    }
    if data.len() <= 1_400 {
        assert_eq!(inner::unwrap(&inner::wrap(data)), Some(data), "what is wrapped is found again");
    }
}

/// What may be a STUN server's answer.
pub fn stun(data: &[u8]) {
    let now = Instant::now();
    let server = SocketAddr::from(([192, 0, 2, 1], 3478));
    let mut outside = Outside::new(6278);
    let interface = Interface {
        id: InterfaceId(1),
        name: "eth0".into(),
        kind: InterfaceKind::Ethernet,
        network: None,
        metered: false,
        addresses: vec![[10, 0, 0, 2].into()],
        link_local: None,
        usable: true,
        outlook: Default::default(),
        relayed: Vec::new(),
        reflexive: Vec::new(),
    };
    outside.set_servers(now, vec![server], &[interface]);
    let Some((over, request)) = outside.take_due(now, true, || 7).pop() else { return };
    assert!(is_stun(&request));
    let heard = outside.handle(now, over, data);
    assert!(!heard || is_stun(data), "what is taken is told apart from all else");
    for seen in outside.seen() {
        assert!(heard && seen.at.is_ipv4() && is_plausible(&seen.at), "{seen:?}");
    }
    assert!(!outside.handle(now, over, data), "once");
}

/// A datagram from the host or from a peer: whatever looks into it or changes a field of it.
pub fn datagram(data: &[u8]) {
    let Some((&[mtu0, mtu1, outer, partial], datagram)) = data.split_first_chunk::<4>() else { return };
    let (mtu, partial) = (usize::from(u16::from_be_bytes([mtu0, mtu1])), partial & 1 == 1);
    let length = datagram.len();
    let mut bytes = datagram.to_vec();

    let was_right =
        checksum::transport(&bytes).map(|(at, protocol)| checksum::is_right(&bytes, at, protocol));
    let lowered = clamp::mss(&mut bytes, mtu, partial);
    assert!(!lowered || clamp::is_candidate(datagram), "the quick look overlooks nothing");
    if !partial && was_right == Some(true) {
        let (at, protocol) = checksum::transport(&bytes).unwrap_or_default();
        assert!(checksum::is_right(&bytes, at, protocol), "a right checksum stays right");
    }
    let again = bytes.clone();
    clamp::mss(&mut bytes, mtu, partial);
    assert_eq!(bytes, again, "lowered once is lowered");

    let class = ecn::class_of(&bytes);
    if ecn::combine(outer, &mut bytes) && outer & 3 == 3 && class & 3 != 0 {
        assert_eq!(ecn::class_of(&bytes) & 3, 3, "the mark arrives");
    }
    checksum::complete(&mut bytes);
    checksum::complete_at(&mut bytes, mtu & 0xff, usize::from(outer));
    assert_eq!(bytes.len(), length);

    if let Some(answer) = icmp::too_big(datagram, mtu) {
        assert!(answer.len() <= 1280, "{} bytes of ICMP", answer.len());
        assert!(icmp::too_big(&answer, mtu).is_none(), "an error is not answered with an error");
        let (from, to) = inner::addresses(&answer).unwrap_or_else(|| panic!("an answer is a datagram"));
        assert_eq!(inner::addresses(datagram), Some((to, from)));
    }
    let _ = icmp::echo_reply(datagram);

    let now = Instant::now();
    let mut mirror = mirror::Mirror::default();
    let mut token = mirror::Token::default();
    if let Some(start) = datagram.get(28..28 + token.len()) {
        token.copy_from_slice(start);
    }
    mirror.add(now, token);
    if let Some(answer) = mirror.answer(now, datagram, partial) {
        assert_eq!(answer.len(), length);
    }
}

/// A frame of the virtual interface, and what the device says of it.
pub fn frame(data: &[u8]) {
    let Some((&[kind, s0, s1, h0, h1, p0, p1, o0, o1], bytes)) = data.split_first_chunk::<9>() else {
        return;
    };
    let word = |high, low| u16::from_be_bytes([high, low]);
    let several =
        (kind & 1 != 0).then(|| Several { udp: kind & 2 != 0, size: word(s0, s1), header: word(h0, h1) });
    let partial = (kind & 4 != 0).then(|| (word(p0, p1), word(o0, o1)));
    // A large frame from few bytes: what is there again and again.
    let repeat = usize::from(kind >> 4) * 3 + 1;
    let mut frame = bytes.to_vec();
    if let Some(tail) = bytes.get(40..) {
        for _ in 1..repeat {
            frame.extend(tail);
        }
    }
    frame.truncate(LONGEST);
    let Some(frame) = Frame::read(&mut frame, Offload { partial, several }) else { return };
    let mut payload = 0;
    for at in 0..frame.count() {
        let length = frame.length(at);
        assert!(length > 0 || frame.bytes().is_empty(), "segment {at} of {} is empty", frame.count());
        let mut out = vec![0; length];
        frame.write(at, &mut out);
        payload += length;
    }
    assert!(payload >= frame.bytes().len());
    assert_eq!(frame.length(frame.count()), if several.is_some() { 0 } else { frame.bytes().len() });
}

/// A virtual interface that cuts frames up again, as the kernel does for a program that reads.
struct Host {
    offloads: Offloads,
    refuses: bool,
    written: Mutex<Vec<Vec<u8>>>,
}

impl Tun for Host {
    fn name(&self) -> &str {
        "mast0"
    }
    fn offloads(&self) -> Offloads {
        self.offloads
    }
    async fn readable(&self) -> io::Result<()> {
        Ok(())
    }
    fn try_recv(&self, _: &mut [u8]) -> io::Result<(usize, Offload)> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    fn try_send(&self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<()> {
        if self.refuses && offload.several.is_some() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut bytes: Vec<u8> = parts.iter().flat_map(|p| p.iter().copied()).collect();
        let frame = Frame::read(&mut bytes, offload).unwrap_or_else(|| panic!("{offload:?} is not so"));
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        for at in 0..frame.count() {
            let mut out = vec![0; frame.length(at)];
            frame.write(at, &mut out);
            if frame.partial {
                checksum::complete(&mut out);
            }
            written.push(out);
        }
        Ok(())
    }
}

/// Datagrams from peers, put together for the host: each arrives once, and as it was. The first byte says what the
/// interface can do; then each datagram with its length before it, or as the one before with a few bytes changed.
pub fn coalesced(data: &[u8]) {
    let Some((&first, mut rest)) = data.split_first() else { return };
    let checksums = first & 1 != 0;
    let offloads =
        Offloads { checksum: checksums, tcp: checksums && first & 2 != 0, udp: checksums && first & 4 != 0 };
    let mut datagrams: Vec<Vec<u8>> = Vec::new();
    while let Some((&[length, how], after)) = rest.split_first_chunk::<2>()
        && datagrams.len() < 256
    {
        let length = usize::from(length).min(after.len());
        let (bytes, after) = after.split_at(length);
        rest = after;
        match (datagrams.last(), how & 1) {
            (Some(before), 1) => {
                // The next segment of the same stream, with these changes.
                let mut next = before.clone();
                if let Some((at, 6)) = checksum::transport(before) {
                    let header = before.get(at + 12).map_or(20, |b| usize::from(b >> 4) * 4);
                    let payload = before.len().saturating_sub(at + header) as u32;
                    if let Some(field) = next.get_mut(at + 4..at + 8) {
                        let sequence = field.first_chunk().copied().map_or(0, u32::from_be_bytes);
                        field.copy_from_slice(&sequence.wrapping_add(payload).to_be_bytes());
                    }
                    if before.first().is_some_and(|b| b >> 4 == 4) {
                        let id = next.get(4..6).and_then(|i| i.try_into().ok()).map_or(0, u16::from_be_bytes);
                        next.splice(4..6, id.wrapping_add(1).to_be_bytes());
                        next.get_mut(..at).into_iter().for_each(checksum::seal_header);
                    }
                }
                let (pairs, _) = bytes.as_chunks::<2>();
                for [at, value] in pairs {
                    if let Some(byte) = next.get_mut(usize::from(*at)) {
                        *byte = *value;
                    }
                }
                datagrams.push(next);
            }
            _ => datagrams.push(bytes.to_vec()),
        }
        if let Some(last) = datagrams.last_mut().filter(|_| how & 2 != 0) {
            // As from a host with checksum offload.
            if let Some((at, protocol)) = checksum::transport(last)
                && let Some(field) = checksum::field(protocol)
            {
                let length = last.len() - at;
                let partial = checksum::fold(checksum::pseudo(last, protocol, length));
                if let Some(bytes) = last.get_mut(at + field..at + field + 2) {
                    bytes.copy_from_slice(&partial.to_be_bytes());
                }
            }
        }
    }
    let partial = first & 8 != 0;
    let host = Host { offloads, refuses: first & 16 != 0, written: Mutex::default() };
    let mut coalescer = Coalescer::default();
    coalescer.suit(offloads);
    let mut batch = datagrams.concat();
    let mut at = 0;
    for datagram in &datagrams {
        coalescer.push(&host, &mut batch, at..at + datagram.len(), partial);
        at += datagram.len();
    }
    coalescer.flush(&host, &batch);
    let refused = coalescer.refused();
    let mut written = host.written.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(written.len() as u64 + refused, datagrams.len() as u64, "as many as came");
    if refused > 0 {
        return;
    }
    // Streams may overtake each other. Of a partial checksum, what it holds is only a promise.
    for list in [&mut datagrams, &mut written] {
        list.iter_mut().for_each(|datagram| without_number(datagram, partial));
        list.sort();
    }
    assert_eq!(written, datagrams);
}

/// A datagram without what cutting a frame makes anew: the identification where nothing is fragmented (RFC 6864, 4.1),
/// the sum of the IPv4 header, and a checksum that was partial.
fn without_number(datagram: &mut [u8], partial: bool) {
    let Some((at, protocol)) = checksum::transport(datagram) else { return };
    if partial
        && let Some(field) = checksum::field(protocol).map(|field| at + field)
        && let Some(sum) = datagram.get_mut(field..field + 2)
    {
        sum.fill(0);
    }
    if datagram.first().is_some_and(|b| b >> 4 == 4)
        && datagram.get(6).is_some_and(|b| b & 0x40 != 0)
        && let Some(header) = datagram.get_mut(..at)
    {
        header.iter_mut().skip(4).take(2).for_each(|byte| *byte = 0);
        checksum::seal_header(header);
    }
}

/// An invite, as mail and chat programs hand it on.
pub fn link(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(link) = invite::Link::decode(&text) {
        assert!(link.addresses.len() <= invite::MAX_ADDRESSES);
        assert_eq!(invite::Link::decode(&link.encode()), Ok(link));
    }
    // Behind a checksum that is right, too.
    let _ = invite::Link::decode(&invite::sealed(data));
    if let Some(clean) = name::clean(&text) {
        assert!(clean.len() <= mast_proto::wire::MAX_NAME && !clean.is_empty());
        assert_eq!(name::clean(&clean).as_deref(), Some(&*clean), "what is clean stays");
    }
}

/// A message of the pairing.
pub fn pairing(data: &[u8]) {
    if let Some(message) = Message::decode(data) {
        assert_eq!(Message::decode(&message.encode()), Some(message));
    }
}

/// Two hosts and a session between them; the first has sent what it would.
struct Hosts {
    near: Arc<Identity>,
    session: Session,
    indices: Indices,
    /// What a peer sent: initiation, response, a message; for these to be changed.
    sent: Vec<Vec<u8>>,
}

fn hosts() -> Hosts {
    let near = Arc::new(Identity::new(&[1; 32]));
    let far = Arc::new(Identity::new(&[2; 32]));
    let (mut indices, far_indices) = (Indices::new(), Indices::new());
    let mut session = Session::new(Arc::clone(&near), &far.public(), None, None, &indices);
    let mut other = Session::new(Arc::clone(&far), &near.public(), None, None, &far_indices);
    let now = Instant::now();
    let path = path();
    let mut sent = Vec::new();
    sent.push(other.initiate(true).0.to_vec());
    let (initiation, index) = session.initiate(true);
    let initiation = initiation.to_vec();
    indices.claim(index, Owner::Joining);
    if let Verified::Yes(message) = far.verify(now, path.remote, &initiation)
        && let Ok(outcome) = other.receive(now, path, message)
        && let Some(reply) = outcome.reply
    {
        sent.push(reply.to_vec());
    }
    Hosts { near, session, indices, sent }
}

fn path() -> PathKey {
    PathKey::direct(InterfaceId(1), [192, 0, 2, 1].into(), SocketAddr::from(([192, 0, 2, 2], 6278)))
}

/// Computes the first MAC of a handshake message: from the receiver's public key, and what the MAC covers.
pub type Mac = fn(&[u8; 32], &[u8]) -> [u8; 16];

/// A message of WireGuard: of handshakes, with a MAC that is right where the first byte says so; of sessions.
pub fn wireguard(data: &[u8], mac: Mac) {
    static HOSTS: OnceLock<Mutex<(Hosts, u64)>> = OnceLock::new();
    let hosts = HOSTS.get_or_init(|| Mutex::new((hosts(), 0)));
    let mut guard = hosts.lock().unwrap_or_else(PoisonError::into_inner);
    let (hosts, clock) = &mut *guard;
    // The budget for handshakes is not what is looked at here.
    *clock += 1;
    let now = Instant::now() + std::time::Duration::from_millis(20 * *clock);
    let Some((&how, bytes)) = data.split_first() else { return };
    let mut message = bytes.to_vec();
    if how & 1 != 0 {
        // Changes to what a peer really sent: place and value.
        let at = usize::from(how >> 4) % hosts.sent.len().max(1);
        message = hosts.sent.get(at).cloned().unwrap_or_default();
        let (pairs, _) = bytes.as_chunks::<2>();
        for [at, value] in pairs {
            if let Some(byte) = message.get_mut(usize::from(*at)) {
                *byte = *value;
            }
        }
    }
    let covered = match message.len() {
        148 => 116,
        92 => 60,
        _ => 0,
    };
    if how & 2 != 0
        && let Some((covered, rest)) = message.split_at_mut_checked(covered).filter(|(c, _)| !c.is_empty())
        && let Some(field) = rest.get_mut(..16)
    {
        field.copy_from_slice(&mac(&hosts.near.public(), covered));
    }
    let _ = hosts.indices.owner(&message);
    let path = path();
    match hosts.near.verify(now, path.remote, &message) {
        Verified::Yes(WgKind::HandshakeInit(initiation)) => {
            if let Some(key) = hosts.near.sender(&initiation) {
                assert_ne!(key, [0; 32]);
            }
            let _ = hosts.session.receive(now, path, WgKind::HandshakeInit(initiation));
        }
        Verified::Yes(message) => {
            let _ = hosts.session.receive(now, path, message);
        }
        Verified::Cookie(_) | Verified::No => {}
    }
    if let Ok(kind) = Packet::copy_from(&message[..]).try_into_wg() {
        let _ = hosts.session.receive(now, path, kind);
    }
}
