//! What a NAT or a firewall lets in: asked of a STUN server that has two addresses (RFC 5780, section 4.4), once for each address
//! of this host and each mapping of it.
//!
//! The server is asked to answer from elsewhere. Its answer from another address shows that everybody is let in; from another
//! port alone, that everybody at an address is that this host spoke to. Silence says that neither is, or that the server does
//! not do so: that is told from an answer with an error where it sends one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use mast_proto::{InterfaceId, PathKey};
use stun_types::attribute::{AttributeType, RawAttribute};
use stun_types::message::{
    BINDING, Message, MessageClass, MessageType, MessageWrite, MessageWriteExt, MessageWriteVec,
};

use crate::sockets::is_plausible;

/// Where a server is besides (RFC 5780, 7.4).
const OTHER_ADDRESS: AttributeType = AttributeType::new(0x802c);
/// From where it is asked to answer (RFC 5780, 7.2).
const CHANGE_REQUEST: AttributeType = AttributeType::new(0x0003);
const CHANGE_ADDRESS: u8 = 4;
const CHANGE_PORT: u8 = 2;
/// The first pause without an answer; it doubles.
const RTO: Duration = Duration::from_millis(500);
/// So often each is sent: 3.5 s until silence counts as an answer.
const TRIES: u32 = 3;

/// Who is let in, beside those that this host spoke to (RFC 4787, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Filtering {
    /// No server has told.
    #[default]
    Unknown,
    /// Everybody.
    Independent,
    /// Who is at an address that this host spoke to.
    Address,
    /// Nobody.
    AddressAndPort,
}

/// What a server is asked about one address of this host.
#[derive(Debug)]
struct Question {
    over: PathKey,
    /// Where else the server is.
    other: SocketAddr,
    /// Whether it is asked to answer from the same address and another port.
    near: bool,
    id: u128,
    tries: u32,
    due: Option<Instant>,
    verdict: Filtering,
}

/// All that is asked of it.
#[derive(Debug, Default)]
pub(crate) struct Questions(Vec<Question>);

impl Questions {
    /// A server answered over a path, and said this. It is asked about the address, unless one was.
    pub fn begin(&mut self, now: Instant, over: PathKey, answer: &Message<'_>) {
        let known = self.0.iter().any(|question| question.is_of(over.interface, over.local));
        let other = other_address(answer);
        let elsewhere = |other: &SocketAddr| {
            is_plausible(other)
                && other.is_ipv4() == over.remote.is_ipv4()
                && other.ip() != over.remote.ip()
                && other.port() != over.remote.port()
        };
        if let Some(other) = other.filter(elsewhere).filter(|_| !known) {
            let (id, verdict) = (0, Filtering::Unknown);
            self.0.push(Question { over, other, near: false, id, tries: 0, due: Some(now), verdict });
        }
    }

    /// What was learned of an address no longer holds.
    pub fn forget(&mut self, interface: InterfaceId, local: IpAddr) {
        self.0.retain(|question| !question.is_of(interface, local));
    }

    /// Nothing more is learned of an address: where the server is besides is spoken to for another reason.
    pub fn close(&mut self, interface: InterfaceId, local: IpAddr) {
        for question in self.0.iter_mut().filter(|question| question.is_of(interface, local)) {
            question.due = None;
        }
    }

    /// Keeps to those over these.
    pub fn retain(&mut self, wanted: &[PathKey]) {
        self.0.retain(|question| wanted.contains(&question.over));
    }

    /// When something is due.
    pub fn due(&self) -> Option<Instant> {
        self.0.iter().filter_map(|question| question.due).min()
    }

    /// What is to be sent now.
    pub fn take_due(&mut self, now: Instant, mut random: impl FnMut() -> u128) -> Vec<(PathKey, Vec<u8>)> {
        let mut requests = Vec::new();
        for question in self.0.iter_mut().filter(|question| question.due.is_some_and(|due| now >= due)) {
            if question.tries == TRIES {
                if question.near {
                    (question.verdict, question.due) = (Filtering::AddressAndPort, None);
                    continue;
                }
                (question.near, question.tries) = (true, 0);
            }
            if question.tries == 0 {
                question.id = random();
            }
            question.due = Some(now + RTO * 2_u32.pow(question.tries));
            question.tries += 1;
            let change = if question.near { CHANGE_PORT } else { CHANGE_ADDRESS | CHANGE_PORT };
            requests.push((question.over, request(question.id, change)));
        }
        requests
    }

    /// Takes in a datagram. Whether it was an answer that was waited for.
    pub fn handle(&mut self, over: PathKey, datagram: &[u8]) -> bool {
        let Ok(message) = Message::from_bytes(datagram) else { return false };
        let id = u128::from(message.transaction_id());
        let asked = |question: &&mut Question| {
            question.due.is_some()
                && question.tries > 0
                && question.id == id
                && question.is_of(over.interface, over.local)
        };
        let Some(question) = self.0.iter_mut().find(asked) else { return false };
        if message.method() != BINDING {
            return false;
        }
        let (server, other) = (question.over.remote, question.other);
        let from = if question.near { SocketAddr::new(server.ip(), other.port()) } else { other };
        question.verdict = match message.class() {
            MessageClass::Success if over.remote == from && question.near => Filtering::Address,
            MessageClass::Success if over.remote == from => Filtering::Independent,
            // It does not do so, and says that from where it was asked; or answers as if it had not been asked to.
            _ if over.remote == server => Filtering::Unknown,
            _ => return false,
        };
        question.due = None;
        true
    }

    /// What was learned of an address.
    pub fn of(&self, interface: InterfaceId, local: IpAddr) -> Filtering {
        let question = self.0.iter().find(|question| question.is_of(interface, local));
        question.map_or(Filtering::Unknown, |question| question.verdict)
    }
}

impl Question {
    /// Whether it is about this address of this host.
    fn is_of(&self, interface: InterfaceId, local: IpAddr) -> bool {
        (self.over.interface, self.over.local) == (interface, local)
    }
}

/// Where a server is besides, as it says.
pub(crate) fn other_address(answer: &Message<'_>) -> Option<SocketAddr> {
    answer.raw_attribute(OTHER_ADDRESS).and_then(|attribute| address(&attribute.value))
}

/// An address as MAPPED-ADDRESS has it (RFC 8489, 14.1).
fn address(value: &[u8]) -> Option<SocketAddr> {
    let (family, port) = (*value.get(1)?, u16::from_be_bytes([*value.get(2)?, *value.get(3)?]));
    let ip: IpAddr = match (family, value.get(4..)?) {
        (1, ip) => Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?).into(),
        (2, ip) => Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn request(id: u128, change: u8) -> Vec<u8> {
    let kind = MessageType::from_class_method(MessageClass::Request, BINDING);
    let mut message = Message::builder(kind, id.into(), MessageWriteVec::new());
    // It fails where there are two of a kind.
    let _ = message.add_attribute(&RawAttribute::new(CHANGE_REQUEST, &[0, 0, 0, change]));
    message.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn over(remote: &str) -> PathKey {
        PathKey::direct(InterfaceId(1), "10.0.0.2".parse().unwrap(), at(remote))
    }

    const SERVER: &str = "192.0.2.10:3478";
    const OTHER: &str = "198.51.100.10:3479";
    const NEAR: &str = "192.0.2.10:3479";

    /// What a server at two addresses says of the second.
    fn says(other: &[u8]) -> Vec<u8> {
        let kind = MessageType::from_class_method(MessageClass::Success, BINDING);
        let mut message = Message::builder(kind, 1_u128.into(), MessageWriteVec::new());
        message.add_attribute(&RawAttribute::new(OTHER_ADDRESS, other)).unwrap();
        message.finish()
    }

    fn begun(now: Instant) -> Questions {
        let mut questions = Questions::default();
        let said = says(&[0, 1, 0x0d, 0x97, 198, 51, 100, 10]);
        questions.begin(now, over(SERVER), &Message::from_bytes(&said).unwrap());
        questions
    }

    /// The verdict where the server answers each request from there.
    fn verdict(answers: impl Fn(u8) -> Option<(MessageClass, &'static str)>) -> (Filtering, usize) {
        let mut now = Instant::now();
        let (mut questions, mut next, mut sent) = (begun(now), 100, 0);
        while let Some(due) = questions.due() {
            now = now.max(due);
            let requests = questions.take_due(now, || {
                next += 1;
                next
            });
            for (path, request) in requests {
                sent += 1;
                let asked = Message::from_bytes(&request).unwrap();
                let change = asked.raw_attribute(CHANGE_REQUEST).unwrap().value[3];
                let Some((class, from)) = answers(change) else { continue };
                let kind = MessageType::from_class_method(class, BINDING);
                let answer = Message::builder(kind, asked.transaction_id(), MessageWriteVec::new()).finish();
                assert!(!questions.handle(over("203.0.113.7:9"), &answer), "from a stranger");
                assert!(questions.handle(PathKey { remote: at(from), ..path }, &answer));
                assert!(!questions.handle(PathKey { remote: at(from), ..path }, &answer), "once more");
            }
        }
        (questions.of(InterfaceId(1), "10.0.0.2".parse().unwrap()), sent)
    }

    #[test]
    fn who_is_let_in_shows_by_from_where_answers_come() {
        use MessageClass::{Error, Success};
        assert_eq!(verdict(|_| Some((Success, OTHER))).0, Filtering::Independent);
        let near = |change| (change == CHANGE_PORT).then_some((Success, NEAR));
        assert_eq!(verdict(near).0, Filtering::Address);
        assert_eq!(verdict(|_| None), (Filtering::AddressAndPort, 6));
        // A server that does not do so.
        assert_eq!(verdict(|_| Some((Error, SERVER))), (Filtering::Unknown, 1));
        assert_eq!(verdict(|_| Some((Success, SERVER))), (Filtering::Unknown, 1));
    }

    #[test]
    fn a_server_that_is_nowhere_else_is_not_asked() {
        let now = Instant::now();
        let whole = [0, 1, 0x0d, 0x97, 198, 51, 100, 10];
        let cut = (0..whole.len()).map(|length| whole[..length].to_vec());
        let wrong = [
            vec![0, 1, 0x0d, 0x96, 198, 51, 100, 10],
            vec![0, 1, 0x0d, 0x97, 192, 0, 2, 10],
            vec![0, 1, 0x0d, 0x97, 224, 0, 0, 1],
            vec![0, 1, 0, 0, 198, 51, 100, 10],
            vec![0, 3, 0x0d, 0x97, 198, 51, 100, 10],
            vec![0, 2, 0x0d, 0x97, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        ];
        for other in cut.chain(wrong) {
            let (mut questions, said) = (Questions::default(), says(&other));
            questions.begin(now, over(SERVER), &Message::from_bytes(&said).unwrap());
            assert_eq!(questions.due(), None, "{other:?}");
        }
        let mut questions = begun(now);
        questions.begin(now, over(SERVER), &Message::from_bytes(&says(&whole)).unwrap());
        assert_eq!(questions.0.len(), 1, "one is asked");
        questions.retain(&[]);
        assert_eq!(questions.due(), None);
    }
}
