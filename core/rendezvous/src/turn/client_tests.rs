//! The client against a server that is played, in a time that is too.

use std::net::IpAddr;

use stun_types::attribute::{ErrorCode as Code, Nonce, Realm};
use stun_types::message::{
    IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageClass, MessageWrite,
    MessageWriteExt, MessageWriteVec, Method,
};
use turn_types::attribute::{
    ChannelNumber, Data, Lifetime, RequestedAddressFamily, XorPeerAddress, XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, DATA, REFRESH, SEND};

use super::*;
use crate::turn::peers::{MOST_PEERS, MOST_WAITING};

const RELAYED: &str = "192.0.2.10:50000";
const PEER: &str = "198.51.100.2:7";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn parcel(peer: &str, payload: &[u8]) -> Parcel {
    Parcel { peer: at(peer), payload: payload.to_vec() }
}

/// A server of one user, `alice` with the password `secret`.
struct Played {
    nonce: &'static str,
    relayed: SocketAddr,
    lifetime: u32,
    /// Answers to nothing.
    deaf: bool,
    /// Refuses all of this method.
    refuses: Option<(Method, u16)>,
    /// Has no addresses of IPv4.
    v6_alone: bool,
    got: Vec<Method>,
    datagrams: Vec<(SocketAddr, Vec<u8>)>,
    on_channels: Vec<(u16, Vec<u8>)>,
}

impl Played {
    fn new() -> Self {
        Self {
            nonce: "first",
            relayed: at(RELAYED),
            lifetime: 600,
            deaf: false,
            refuses: None,
            v6_alone: false,
            got: Vec::new(),
            datagrams: Vec::new(),
            on_channels: Vec::new(),
        }
    }

    fn key(&self) -> IntegrityKey {
        let credentials = LongTermKeyCredentials::new("alice".into(), "secret".into(), "realm".into());
        credentials.make_key(IntegrityAlgorithm::Sha1)
    }

    fn error(&self, message: &Message<'_>, code: u16, challenge: bool) -> Vec<u8> {
        let mut answer = Message::builder_error(message, MessageWriteVec::new());
        answer.add_attribute(&Code::new(code, "no").unwrap()).unwrap();
        if challenge {
            answer.add_attribute(&Realm::new("realm").unwrap()).unwrap();
            answer.add_attribute(&Nonce::new(self.nonce).unwrap()).unwrap();
        } else {
            answer.add_message_integrity_with_key(&self.key(), IntegrityAlgorithm::Sha1).unwrap();
        }
        answer.finish()
    }

    fn take(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if let Some((number, data)) = message::from_channel(bytes) {
            self.on_channels.push((number, bytes[data].to_vec()));
            return None;
        }
        let message = Message::from_bytes(bytes).unwrap();
        self.got.push(message.method());
        if message.method() == SEND {
            let peer = message.attribute::<XorPeerAddress>().unwrap().addr(message.transaction_id());
            self.datagrams.push((peer, message.attribute::<Data>().unwrap().data().to_vec()));
            return None;
        }
        if self.deaf {
            return None;
        }
        let Ok(nonce) = message.attribute::<Nonce>() else { return Some(self.error(&message, 401, true)) };
        if message.validate_integrity_with_key(&self.key()).is_err() {
            return Some(self.error(&message, 401, true));
        }
        if nonce.nonce() != self.nonce {
            return Some(self.error(&message, 438, true));
        }
        if let Some((_, code)) = self.refuses.filter(|(method, _)| *method == message.method()) {
            return Some(self.error(&message, code, false));
        }
        let v6 = message.attribute::<RequestedAddressFamily>().is_ok();
        if self.v6_alone && message.method() == ALLOCATE && !v6 {
            return Some(self.error(&message, 440, false));
        }
        let mut answer = Message::builder_success(&message, MessageWriteVec::new());
        if message.method() == ALLOCATE {
            let id = message.transaction_id();
            answer.add_attribute(&XorRelayedAddress::new(self.relayed, id)).unwrap();
        }
        if matches!(message.method(), ALLOCATE | REFRESH) {
            answer.add_attribute(&Lifetime::new(self.lifetime)).unwrap();
        }
        if message.method() == CHANNEL_BIND {
            assert!((0x4000..=0x4fff).contains(&message.attribute::<ChannelNumber>().unwrap().channel()));
        }
        answer.add_message_integrity_with_key(&self.key(), IntegrityAlgorithm::Sha1).unwrap();
        Some(answer.finish())
    }
}

/// The two, and the time.
struct Scene {
    now: Instant,
    client: Client,
    server: Played,
    sent: usize,
}

impl Scene {
    fn with(server: Played) -> Self {
        Self::of(server, "secret", false)
    }

    fn of(server: Played, password: &str, stream: bool) -> Self {
        let now = Instant::now();
        let client = Client::new(now, Access::new("alice", password), stream);
        let mut scene = Self { now, client, server, sent: 0 };
        scene.exchange();
        scene
    }

    fn new() -> Self {
        let scene = Self::with(Played::new());
        assert_eq!(scene.client.stage(), &Stage::Allocated(at(RELAYED)));
        scene
    }

    /// Carries all there is, both ways.
    fn exchange(&mut self) {
        while let Some(outgoing) = self.client.take(self.now) {
            self.sent += 1;
            assert!(outgoing.bytes.len() <= LONGEST + 60);
            if let Some(answer) = self.server.take(&outgoing.bytes) {
                assert_eq!(self.client.receive(self.now, &answer), None);
            }
        }
    }

    fn send(&mut self, peer: &str, payload: &[u8]) {
        self.client.send(self.now, parcel(peer, payload));
        self.exchange();
    }

    /// Lets time pass, and everything that is due in it happen.
    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        for _ in 0..10_000 {
            let due = self.client.due(self.now);
            if due > end || matches!(self.client.stage(), Stage::Over(_) | Stage::Deleted) {
                self.now = end;
                return;
            }
            self.now = due.max(self.now);
            self.client.tick(self.now);
            self.exchange();
        }
        panic!("it never rests");
    }

    fn count(&self, method: Method) -> usize {
        self.server.got.iter().filter(|got| **got == method).count()
    }

    /// A datagram of a peer, as the server passes it on.
    fn from(&mut self, peer: &str, payload: &[u8]) -> Option<Parcel> {
        let mut message = Message::builder_indication(DATA, MessageWriteVec::new());
        let id = message.transaction_id();
        message.add_attribute(&XorPeerAddress::new(at(peer), id)).unwrap();
        message.add_attribute(&Data::new(payload)).unwrap();
        let bytes = message.finish();
        let (peer, data) = self.client.receive(self.now, &bytes)?;
        Some(Parcel { peer, payload: bytes[data].to_vec() })
    }
}

#[test]
fn an_address_takes_two_requests_and_a_datagram_one_more() {
    let mut scene = Scene::new();
    assert_eq!(scene.server.got, [ALLOCATE, ALLOCATE]);
    scene.send(PEER, b"hello");
    assert_eq!(scene.server.got[2..], [CREATE_PERMISSION, SEND]);
    assert_eq!(scene.server.datagrams, [(at(PEER), b"hello".to_vec())]);
    assert_eq!(scene.from(PEER, b"hi"), Some(parcel(PEER, b"hi")));
    // Of IPv6, whose addresses are written in another way.
    assert_eq!(scene.from("[2001:db8::1]:9", b"hi"), None);
}

#[test]
fn a_peer_is_put_on_a_channel_with_the_fourth_datagram() {
    let mut scene = Scene::new();
    for round in 0..6 {
        scene.send(PEER, &[round]);
    }
    assert_eq!(scene.count(CHANNEL_BIND), 1);
    assert_eq!(scene.server.datagrams.len(), 4);
    assert_eq!(scene.server.on_channels, [(0x4000, vec![4]), (0x4000, vec![5])]);
    assert_eq!(scene.client.peers().channels(), 1);
    let bytes = message::on_channel(0x4000, b"back").unwrap();
    assert_eq!(scene.client.receive(scene.now, &bytes), Some((at(PEER), 4..8)));
    // Of nobody.
    let bytes = message::on_channel(0x4001, b"back").unwrap();
    assert_eq!(scene.client.receive(scene.now, &bytes), None);
}

#[test]
fn a_refused_channel_is_done_without() {
    let mut scene = Scene::new();
    scene.server.refuses = Some((CHANNEL_BIND, 400));
    for round in 0..50 {
        scene.send(PEER, &[round]);
    }
    assert_eq!((scene.count(CHANNEL_BIND), scene.server.datagrams.len()), (1, 50));
}

#[test]
fn a_refused_peer_costs_one_request_a_minute() {
    let mut scene = Scene::new();
    scene.server.refuses = Some((CREATE_PERMISSION, 403));
    for _ in 0..600 {
        scene.send(PEER, b"hello");
        scene.pass(1);
    }
    assert_eq!(scene.count(CREATE_PERMISSION), 10);
    assert!(scene.server.datagrams.is_empty());
    assert_eq!(scene.client.stage(), &Stage::Allocated(at(RELAYED)));
}

#[test]
fn idle_it_sends_a_message_each_25_seconds() {
    let mut scene = Scene::new();
    let before = scene.sent;
    scene.pass(3600);
    assert_eq!(scene.sent - before, 3600 / 25);
    assert_eq!(scene.count(REFRESH), 3600 / 25);
}

#[test]
fn in_use_it_renews_and_asks_no_more_than_that() {
    let mut scene = Scene::new();
    for _ in 0..3600 {
        scene.send(PEER, b"there");
        assert!(scene.from(PEER, b"and back").is_some());
        scene.pass(1);
    }
    // The first and each four minutes; the address each nine.
    assert_eq!((scene.count(CREATE_PERMISSION), scene.count(CHANNEL_BIND)), (1, 15));
    assert_eq!(scene.count(REFRESH), 6);
    assert_eq!(scene.server.datagrams.len() + scene.server.on_channels.len(), 3600);
}

#[test]
fn a_peer_that_is_not_sent_to_lapses_and_comes_back() {
    let mut scene = Scene::new();
    for _ in 0..5 {
        scene.send(PEER, b"there");
    }
    scene.pass(1200);
    // Renewed while it was fresh.
    let renewed = scene.count(CHANNEL_BIND);
    assert!((2..=4).contains(&renewed), "{renewed}");
    assert_eq!(scene.from(PEER, b"late"), None);
    scene.send(PEER, b"again");
    assert_eq!((scene.count(CREATE_PERMISSION), scene.count(CHANNEL_BIND)), (2, renewed + 1));
    // With its old number.
    scene.send(PEER, b"and again");
    assert_eq!(scene.server.on_channels.last(), Some(&(0x4000, b"and again".to_vec())));
}

#[test]
fn a_wrong_password_is_told_apart_and_not_tried_twice() {
    let scene = Scene::of(Played::new(), "wrong", false);
    assert_eq!(scene.client.stage(), &Stage::Over(Failure::Credentials));
    assert_eq!(scene.server.got, [ALLOCATE, ALLOCATE]);
}

#[test]
fn what_a_server_refuses_is_told_apart() {
    for (code, failure) in [
        (403, Failure::Forbidden),
        (486, Failure::Quota),
        (508, Failure::Capacity),
        (300, Failure::Elsewhere),
        (442, Failure::Code(442)),
    ] {
        let mut server = Played::new();
        server.refuses = Some((ALLOCATE, code));
        assert_eq!(Scene::with(server).client.stage(), &Stage::Over(failure));
    }
}

#[test]
fn a_server_without_addresses_of_ipv4_gives_one_of_ipv6() {
    let mut server = Played::new();
    (server.v6_alone, server.relayed) = (true, at("[2001:db8::10]:50000"));
    let mut scene = Scene::with(server);
    assert_eq!(scene.client.stage(), &Stage::Allocated(at("[2001:db8::10]:50000")));
    scene.send(PEER, b"of the other family");
    scene.send("[2001:db8::1]:9", b"hello");
    assert_eq!(scene.server.datagrams, [(at("[2001:db8::1]:9"), b"hello".to_vec())]);
    assert_eq!(scene.from("[2001:db8::1]:9", b"hi"), Some(parcel("[2001:db8::1]:9", b"hi")));
}

#[test]
fn a_nonce_that_is_over_is_replaced() {
    let mut scene = Scene::new();
    scene.server.nonce = "second";
    scene.send(PEER, b"hello");
    assert_eq!(scene.server.datagrams.len(), 1);
    scene.server.nonce = "third";
    scene.pass(30);
    assert_eq!(scene.count(REFRESH), 2);
    assert_eq!(scene.client.stage(), &Stage::Allocated(at(RELAYED)));
}

#[test]
fn a_server_that_has_forgotten_all_is_found_out() {
    for code in [437, 441, 400] {
        let mut scene = Scene::new();
        scene.server.refuses = Some((REFRESH, code));
        scene.pass(26);
        assert_eq!(scene.client.stage(), &Stage::Over(Failure::Lost));
    }
    let mut scene = Scene::new();
    scene.server.refuses = Some((CREATE_PERMISSION, 437));
    scene.send(PEER, b"hello");
    assert_eq!(scene.client.stage(), &Stage::Over(Failure::Lost));
    // What waited is not lost with it.
    let mut peers = scene.client.into_peers();
    peers.start_anew();
    assert_eq!(peers.take_waiting(scene.now, at(PEER).ip()).len(), 1);
}

#[test]
fn a_silent_server_is_given_up_within_ten_seconds() {
    for stream in [false, true] {
        let mut server = Played::new();
        server.deaf = true;
        let mut scene = Scene::of(server, "secret", stream);
        scene.pass(9);
        assert_eq!(scene.client.stage(), &Stage::Asking);
        scene.pass(1);
        assert_eq!(scene.client.stage(), &Stage::Over(Failure::Silent));
        assert_eq!(scene.sent, if stream { 1 } else { 5 });
    }
    let mut scene = Scene::new();
    scene.server.deaf = true;
    scene.pass(35);
    assert_eq!(scene.client.stage(), &Stage::Over(Failure::Lost));
}

#[test]
fn an_address_that_is_given_up_is_deleted() {
    let mut scene = Scene::new();
    scene.client.delete(scene.now);
    scene.exchange();
    assert_eq!(scene.client.stage(), &Stage::Deleted);
    assert_eq!(scene.count(REFRESH), 1);
}

#[test]
fn a_lifetime_of_nothing_floods_nobody() {
    let mut server = Played::new();
    server.lifetime = 0;
    let mut scene = Scene::with(server);
    let before = scene.sent;
    scene.pass(600);
    assert!(scene.sent - before <= 60, "{}", scene.sent - before);
    let mut server = Played::new();
    server.lifetime = u32::MAX;
    let mut scene = Scene::with(server);
    scene.pass(600);
    assert_eq!(scene.client.stage(), &Stage::Allocated(at(RELAYED)));
}

#[test]
fn what_waits_is_bounded() {
    let mut scene = Scene::new();
    scene.server.deaf = true;
    for peer in 0..200_u8 {
        for round in 0..40_u8 {
            scene.client.send(scene.now, parcel(&format!("198.51.100.{peer}:7"), &[peer, round]));
        }
    }
    let dropped = scene.client.peers().dropped as usize;
    assert_eq!(dropped, 200 * 40 - MOST_PEERS * MOST_WAITING);
    assert!(scene.client.pending.len() <= 2 * MOST_PEERS);
    // The newest are there, in their order.
    let waiting = scene.client.peers_mut().take_waiting(scene.now, IpAddr::from([198, 51, 100, 199]));
    let rounds: Vec<u8> = waiting.iter().map(|(_, payload)| payload[1]).collect();
    assert_eq!(rounds, (24..40).collect::<Vec<u8>>());
    // What is old when it may go is left out.
    scene.client.send(scene.now, parcel(PEER, b"old"));
    let later = scene.now + Duration::from_secs(4);
    assert!(scene.client.peers_mut().take_waiting(later, at(PEER).ip()).is_empty());
}

#[test]
fn what_nobody_can_carry_is_dropped() {
    let mut scene = Scene::new();
    scene.send("198.51.100.2:0", b"no port");
    scene.send("0.0.0.0:7", b"no address");
    scene.send(PEER, &[0; LONGEST + 1]);
    assert_eq!((scene.server.got.len(), scene.client.peers().dropped), (2, 3));
    scene.send(PEER, &[0; LONGEST]);
    assert_eq!(scene.server.datagrams.len(), 1);
    assert_eq!(scene.from(PEER, &[0; LONGEST + 1]), None);
}

#[test]
fn answers_of_others_are_not_believed() {
    let mut scene = Scene::new();
    scene.server.deaf = true;
    scene.client.delete(scene.now);
    let request = scene.client.take(scene.now).unwrap().bytes;
    let request = Message::from_bytes(&request).unwrap();
    // Without a signature, with a wrong one, and to another request.
    let mut answers = vec![Message::builder_success(&request, MessageWriteVec::new()).finish()];
    let other = LongTermKeyCredentials::new("alice".into(), "guess".into(), "realm".into());
    let other = other.make_key(IntegrityAlgorithm::Sha1);
    let mut wrong = Message::builder_success(&request, MessageWriteVec::new());
    wrong.add_message_integrity_with_key(&other, IntegrityAlgorithm::Sha1).unwrap();
    answers.push(wrong.finish());
    let stranger = Message::builder_request(REFRESH, MessageWriteVec::new()).finish();
    let mut unasked =
        Message::builder_success(&Message::from_bytes(&stranger).unwrap(), MessageWriteVec::new());
    unasked.add_message_integrity_with_key(&scene.server.key(), IntegrityAlgorithm::Sha1).unwrap();
    answers.push(unasked.finish());
    for answer in answers {
        assert_eq!(scene.client.receive(scene.now, &answer), None);
        assert_eq!(scene.client.stage(), &Stage::Allocated(at(RELAYED)));
    }
}

#[test]
fn garbage_does_no_harm() {
    let mut scene = Scene::new();
    scene.send(PEER, b"hello");
    scene.server.deaf = true;
    scene.client.delete(scene.now);
    let request = scene.client.take(scene.now).unwrap().bytes;
    let answer = {
        let message = Message::from_bytes(&request).unwrap();
        assert!(message.has_class(MessageClass::Request));
        scene.server.error(&message, 438, true)
    };
    let mut message = Message::builder_indication(DATA, MessageWriteVec::new());
    let id = message.transaction_id();
    message.add_attribute(&XorPeerAddress::new(at(PEER), id)).unwrap();
    message.add_attribute(&Data::new(&[1; 100])).unwrap();
    let indication = message.finish();
    let mut random = 0x1234_5678_9abc_def1_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize
    };
    for _ in 0..200_000 {
        let mut bytes = match next() % 3 {
            0 => indication.clone(),
            1 => answer.clone(),
            _ => (0..next() % 200).map(|_| next() as u8).collect(),
        };
        for _ in 0..next() % 6 {
            if !bytes.is_empty() {
                let at = next() % bytes.len();
                bytes[at] = next() as u8;
            }
        }
        bytes.truncate(next() % (bytes.len() + 20));
        if let Some((_, data)) = scene.client.receive(scene.now, &bytes) {
            assert!(data.end <= bytes.len());
        }
        scene.client.out.clear();
        assert!(scene.client.pending.len() <= 1);
    }
}
