//! Changes of the records of one name: UPDATE (RFC 2136), signed with TSIG (RFC 8945).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::op::{Message, OpCode, Query, ResponseCode, UpdateMessage};
use hickory_proto::rr::rdata::tsig::{TsigAlgorithm, TsigError};
use hickory_proto::rr::rdata::{A, AAAA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::name::{HostName, record_of};
use crate::PeerKey;

/// So long an answer may take: to the connection, and to the question.
const PATIENCE: Duration = Duration::from_secs(3);
/// How far two clocks may be apart, in seconds; RFC 8945 recommends it.
const FUDGE: u16 = 300;
/// So many ports are published, each of which needs a name; others are left out.
const PORTS: usize = 4;
/// So many addresses of one port are published.
const EACH: usize = 8;
/// The longest secret, in bytes; hashes use no more than their block.
const LONGEST_SECRET: usize = 128;

/// The key by which a server knows who may change a name.
#[derive(Clone)]
pub struct Key(TSigner);

impl Key {
    /// Reads a key: its name, its algorithm (`hmac-sha256`, `hmac-sha384` or `hmac-sha512`), and its secret in base64.
    ///
    /// # Errors
    /// In words that name what is wrong and never the secret.
    pub fn new(name: &str, algorithm: &str, secret: &str) -> Result<Self, String> {
        let name = HostName::from_str(name).map_err(|_| format!("`{name}` is no name of a key"))?;
        let algorithm = match algorithm.to_ascii_lowercase().as_str() {
            "hmac-sha256" => TsigAlgorithm::HmacSha256,
            "hmac-sha384" => TsigAlgorithm::HmacSha384,
            "hmac-sha512" => TsigAlgorithm::HmacSha512,
            _ => {
                return Err(format!(
                    "`{algorithm}` is none of the algorithms hmac-sha256, hmac-sha384 and hmac-sha512"
                ));
            }
        };
        let secret = STANDARD.decode(secret.trim()).map(Zeroizing::new);
        let secret = secret.map_err(|_| "the secret of the key is not base64".to_owned())?;
        if secret.is_empty() || secret.len() > LONGEST_SECRET {
            return Err(format!("the secret of the key has {} bytes: it must have 1 to 128", secret.len()));
        }
        let signer = TSigner::new(secret.to_vec(), algorithm, name.host().clone(), FUDGE);
        signer.map(Self).map_err(|error| error.to_string())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.signer_name())
    }
}

/// Why a name could not be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The server cannot be reached, or does not answer: why.
    Unreachable(String),
    /// It does not know the key, or has nothing that the key may change: some servers say the same of both.
    UnknownKey,
    /// It knows the key with another secret.
    OtherSecret,
    /// Its clock is another.
    Clock,
    /// It has no zone that the name is in.
    NotInZone,
    /// The key may not change the name: what it says.
    Refused(ResponseCode),
    /// What it answers is no answer.
    Nonsense(&'static str),
}

impl Refusal {
    /// Why, in a sentence.
    pub fn why(&self, server: SocketAddr, name: &HostName) -> String {
        match self {
            Self::Unreachable(why) => format!("the name server {server} cannot be reached: {why}"),
            Self::UnknownKey => {
                format!("the name server {server} does not know the key, or not for `{name}` (BADKEY)")
            }
            Self::OtherSecret => format!("the name server {server} has another secret for the key (BADSIG)"),
            Self::Clock => {
                format!("the clocks of this host and of the name server {server} are too far apart (BADTIME)")
            }
            Self::NotInZone => format!("`{name}` is in no zone of the name server {server}"),
            Self::Refused(code) => {
                format!("the name server {server} refuses the change of `{name}` ({code})")
            }
            Self::Nonsense(what) => format!("the name server {server} answers nonsense: {what}"),
        }
    }

    /// What helps, in a sentence.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => {
                "see that `server` is right and can be reached over TCP; it is tried again by itself"
            }
            Self::UnknownKey => {
                "correct `key_name` and `key_algorithm`, or have the server allow the key to change the name"
            }
            Self::OtherSecret => "put the secret that the server has into `key_file`",
            Self::Clock => "set both clocks; they may be five minutes apart",
            Self::NotInZone => {
                "correct `publish`, or `server`: it must be the primary server of the name's zone"
            }
            Self::Refused(_) => {
                "allow the key to change A, AAAA, SRV and TXT of this name by UPDATE at the server"
            }
            Self::Nonsense(_) => "see that `server` is the primary name server of the zone",
        }
    }
}

/// What is said of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Whose it is.
    pub key: PeerKey,
    /// Where that is, the best first; with none, the name is forgotten.
    pub addresses: Vec<SocketAddr>,
    /// How long others may keep it, in seconds.
    pub ttl: u32,
}

/// Replaces what the server says of a name.
pub(crate) async fn replace(
    server: SocketAddr,
    name: &HostName,
    key: &Key,
    entry: &Entry,
) -> Result<(), Refusal> {
    let zone = zone(server, name).await?;
    let mut message = message(&zone, name, entry);
    let Some(mut verifier) = sealed(&mut message, key) else {
        return Err(Refusal::Nonsense("the change cannot be signed"));
    };
    let answer = exchange(server, &message).await?;
    judge(&answer, message.id, |bytes| verifier.verify(bytes).is_ok())
}

/// Signs a message; what answers must be signed with that.
fn sealed(message: &mut Message, key: &Key) -> Option<hickory_proto::rr::TSigVerifier> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    message.finalize(&key.0, now.as_secs()).ok().flatten()
}

/// Which zone a name is in: the server's answer names it, whether the name is there or not.
async fn zone(server: SocketAddr, name: &HostName) -> Result<Name, Refusal> {
    let service = name.service();
    let mut question = Message::query();
    question.metadata.recursion_desired = false;
    question.add_query(Query::query(service.clone(), RecordType::SOA));
    let bytes = exchange(server, &question).await?;
    let answer = Message::from_vec(&bytes).map_err(|_| Refusal::Nonsense("it cannot be read"))?;
    if answer.id != question.id {
        return Err(Refusal::Nonsense("it is of another question"));
    }
    if answer.response_code == ResponseCode::ServFail {
        return Err(Refusal::Unreachable("it has a failure (SERVFAIL)".to_owned()));
    }
    let start = answer.answers.iter().chain(&answer.authorities).find(|r| r.record_type() == RecordType::SOA);
    let zone =
        start.map(|record| record.name.clone()).filter(|zone| zone.zone_of(&service) && !zone.is_root());
    zone.ok_or(Refusal::NotInZone)
}

/// The names to which services lead, one for each port. All are replaced each time, so that none stays behind.
fn targets(name: &HostName) -> impl Iterator<Item = Name> + '_ {
    (0..PORTS).map(|place| if place == 0 { name.host().clone() } else { name.below(&format!("mast{place}")) })
}

/// The change, whole: it is done in one, or not at all (RFC 2136, section 3.4).
fn message(zone: &Name, name: &HostName, entry: &Entry) -> Message {
    let mut section = Query::query(zone.clone(), RecordType::SOA);
    section.set_query_class(DNSClass::IN);
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    message.metadata.recursion_desired = false;
    message.add_zone(section);
    let service = name.service();
    let mut forget = |of: &Name, kind| {
        // RFC 2136, section 2.5.2: the class ANY removes all records of that kind.
        let mut record = Record::update0(of.clone(), 0, kind);
        record.dns_class = DNSClass::ANY;
        message.add_update(record);
    };
    for kind in [RecordType::SRV, RecordType::TXT] {
        forget(&service, kind);
    }
    for target in targets(name) {
        for kind in [RecordType::A, RecordType::AAAA] {
            forget(&target, kind);
        }
    }
    if entry.addresses.is_empty() {
        return message;
    }
    let mut add = |of: &Name, data| message.add_update(Record::from_rdata(of.clone(), entry.ttl, data));
    add(&service, RData::TXT(TXT::new(vec![record_of(&entry.key)])));
    for (priority, ((port, addresses), target)) in (0..).zip(by_port(&entry.addresses).zip(targets(name))) {
        add(&service, RData::SRV(SRV::new(priority, 0, port, target.clone())));
        for address in addresses {
            let data = match address {
                IpAddr::V4(v4) => RData::A(A(v4)),
                IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
            };
            add(&target, data);
        }
    }
    message
}

/// The addresses of each port, the best first.
fn by_port(addresses: &[SocketAddr]) -> impl Iterator<Item = (u16, Vec<IpAddr>)> {
    let mut ports: Vec<(u16, Vec<IpAddr>)> = Vec::new();
    for at in addresses {
        let (port, ip) = (at.port(), at.ip().to_canonical());
        match ports.iter_mut().find(|(of, _)| *of == port) {
            Some((_, list)) if list.len() >= EACH || list.contains(&ip) => {}
            Some((_, list)) => list.push(ip),
            None => ports.push((port, vec![ip])),
        }
    }
    ports.into_iter()
}

/// Sends a message over TCP, where answers cannot be forged from afar nor be cut short, and takes what answers.
async fn exchange(server: SocketAddr, message: &Message) -> Result<Vec<u8>, Refusal> {
    let bytes = message.to_vec().map_err(|_| Refusal::Nonsense("the question cannot be written"))?;
    let length = u16::try_from(bytes.len()).map_err(|_| Refusal::Nonsense("the question is too long"))?;
    let unreachable = |error: io::Error| Refusal::Unreachable(error.to_string());
    let silent = |_| Refusal::Unreachable("it does not answer".to_owned());
    let connecting = timeout(PATIENCE, TcpStream::connect(server)).await;
    let mut stream = connecting.map_err(silent)?.map_err(unreachable)?;
    let talk = async {
        // In one piece, as some servers want it.
        let mut whole = length.to_be_bytes().to_vec();
        whole.extend_from_slice(&bytes);
        stream.write_all(&whole).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    timeout(PATIENCE, talk).await.map_err(silent)?.map_err(unreachable)
}

/// What an answer to a change says. Only what is signed counts as done; what refuses need not be, and often is not: that
/// it lacks a signature is no news then.
fn judge(bytes: &[u8], id: u16, mut signed: impl FnMut(&[u8]) -> bool) -> Result<(), Refusal> {
    let answer = Message::from_vec(bytes).map_err(|_| Refusal::Nonsense("it cannot be read"))?;
    if answer.id != id {
        return Err(Refusal::Nonsense("it is of another question"));
    }
    let complaint = answer.signature().and_then(|record| record.data.error);
    match (complaint, answer.response_code) {
        (Some(TsigError::BadKey), _) => Err(Refusal::UnknownKey),
        (Some(TsigError::BadSig | TsigError::BadTrunc), _) => Err(Refusal::OtherSecret),
        (Some(TsigError::BadTime), _) => Err(Refusal::Clock),
        (_, ResponseCode::NoError) if signed(bytes) => Ok(()),
        (_, ResponseCode::NoError) => Err(Refusal::Nonsense("it is not signed with the key")),
        (None, ResponseCode::NotAuth | ResponseCode::NotZone) => Err(Refusal::NotInZone),
        (_, code) => Err(Refusal::Refused(code)),
    }
}

/// Reads any bytes as an answer: what is not signed never counts as done.
pub(super) fn fuzz(data: &[u8]) {
    let id = data.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    assert!(judge(data, id, |_| false).is_err());
    // It may be, and must not panic.
    let _ = judge(data, id, |_| true);
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::MessageType;
    use hickory_proto::rr::rdata::TSIG;
    use hickory_proto::rr::rdata::tsig::make_tsig_record;

    use super::*;

    fn name() -> HostName {
        "laptop.example.org".parse().unwrap()
    }

    fn key() -> Key {
        Key::new("laptop", "HMAC-SHA256", "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U=\n").unwrap()
    }

    fn answer(code: ResponseCode, complaint: Option<TsigError>) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Response, OpCode::Update);
        message.metadata.response_code = code;
        if complaint.is_some() {
            let tsig = TSIG::new(TsigAlgorithm::HmacSha256, 0, FUDGE, Vec::new(), 7, complaint, Vec::new());
            message.set_signature(Box::new(make_tsig_record(Name::from_ascii("laptop.").unwrap(), tsig)));
        }
        message.to_vec().unwrap()
    }

    #[test]
    fn a_refusal_is_told_for_what_it_is_though_it_is_not_signed() {
        use ResponseCode::{NoError, NotAuth, NotImp, NotZone, Refused};
        for (code, complaint, expected) in [
            (NotAuth, Some(TsigError::BadKey), Refusal::UnknownKey),
            (NotAuth, Some(TsigError::BadSig), Refusal::OtherSecret),
            (NotAuth, Some(TsigError::BadTime), Refusal::Clock),
            (NotAuth, None, Refusal::NotInZone),
            (NotZone, None, Refusal::NotInZone),
            (Refused, None, Refusal::Refused(Refused)),
            (NotImp, None, Refusal::Refused(NotImp)),
            (NoError, None, Refusal::Nonsense("it is not signed with the key")),
        ] {
            let said = judge(&answer(code, complaint), 7, |_| false).unwrap_err();
            assert_eq!(said, expected);
            let server = ([192, 0, 2, 53], 53).into();
            assert!(said.why(server, &name()).contains("192.0.2.53:53") && !said.remedy().is_empty());
        }
        assert_eq!(judge(&answer(NoError, None), 7, |_| true), Ok(()));
        assert!(judge(&answer(NoError, None), 8, |_| true).is_err(), "of another question");
        for length in 0..12 {
            assert!(judge(&answer(NoError, None)[..length], 7, |_| true).is_err());
        }
    }

    #[test]
    fn a_change_replaces_all_and_leaves_nothing_behind() {
        let zone = Name::from_ascii("example.org.").unwrap();
        let addresses = ["192.0.2.1:6278", "198.51.100.1:40000", "[2001:db8::1]:6278", "192.0.2.1:6278"]
            .map(|a| a.parse().unwrap());
        let entry = Entry { key: [7; 32], addresses: addresses.to_vec(), ttl: 30 };
        let mut change = message(&zone, &name(), &entry);
        assert!(sealed(&mut change, &key()).is_some());
        let read = Message::from_vec(&change.to_vec().unwrap()).unwrap();
        let (gone, new): (Vec<_>, Vec<_>) =
            read.authorities.iter().partition(|r| r.dns_class == DNSClass::ANY);
        assert_eq!(gone.len(), 2 + 2 * PORTS);
        let text: Vec<String> = new.iter().map(|record| format!("{} {}", record.name, record.data)).collect();
        assert_eq!(text.len(), 1 + 2 + 3, "{text:?}");
        assert!(
            text.iter()
                .any(|t| t.contains("_mast._udp.laptop.example.org. 1 0 40000 mast1.laptop.example.org.")),
            "{text:?}"
        );
        assert!(new.iter().all(|record| record.ttl == 30));
        let none = Entry { addresses: Vec::new(), ..entry };
        assert!(message(&zone, &name(), &none).authorities.iter().all(|r| r.dns_class == DNSClass::ANY));
    }

    #[test]
    fn so_many_addresses_are_published_and_no_more() {
        let many: Vec<SocketAddr> = (0..40).map(|n| ([192, 0, 2, n], 1 + u16::from(n % 7)).into()).collect();
        let zone = Name::from_ascii("example.org.").unwrap();
        let entry = Entry { key: [7; 32], addresses: many, ttl: 30 };
        let records = message(&zone, &name(), &entry).authorities;
        let services = records.iter().filter(|r| matches!(&r.data, RData::SRV(_))).count();
        assert_eq!(services, PORTS);
        let one: Vec<SocketAddr> = (0..40).map(|n| ([192, 0, 2, n], 1).into()).collect();
        assert_eq!(by_port(&one).next().unwrap().1.len(), EACH);
    }

    #[test]
    fn a_key_that_cannot_be_used_is_refused_without_its_secret() {
        for (name, algorithm, secret, expected) in [
            ("a b", "hmac-sha256", "c2VjcmV0", "no name of a key"),
            ("laptop", "hmac-md5", "c2VjcmV0", "none of the algorithms"),
            ("laptop", "hmac-sha256", "geheim!", "not base64"),
            ("laptop", "hmac-sha256", "", "0 bytes"),
        ] {
            let error = Key::new(name, algorithm, secret).unwrap_err();
            assert!(error.contains(expected) && (secret.is_empty() || !error.contains(secret)), "{error}");
        }
        assert!(!format!("{:?}", key()).contains("secret"));
    }
}
