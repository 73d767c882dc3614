//! Messages of multicast DNS, as far as they are used here.

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::tag::{SEALED_LEN, Tag};

/// The most names of one message, in each of its sections, that are read; and the most that are written.
pub(super) const MOST: usize = 4;
/// Nothing longer is read, in bytes.
pub(super) const LONGEST: usize = 1472;
/// How long others may keep a record, in seconds (RFC 6762, section 10).
const TTL: u32 = 120;
/// The class of the Internet, and that what others keep under the name is to be replaced (RFC 6762, section 10.2); of a
/// question, that its answer may come by unicast (section 5.4).
const FLUSH_IN: u16 = 0x8001;

/// Characters of a tag in hexadecimal.
const HEX: usize = 32;

/// What is asked for one peer.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    /// The peer's name.
    pub theirs: Tag,
    /// The own name.
    pub ours: Tag,
    /// What is sealed under it.
    pub sealed: Vec<u8>,
}

/// A message that was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    pub is_answer: bool,
    /// Names that are asked for.
    pub asked: Vec<Tag>,
    /// What is sealed, by name.
    pub records: Vec<(Tag, Vec<u8>)>,
}

/// Asks, for at most [`MOST`] peers.
pub(super) fn ask(asks: &[Ask]) -> Option<Vec<u8>> {
    // Multicast DNS has no numbers (RFC 6762, section 18.1).
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    for ask in asks.iter().take(MOST) {
        let mut query = Query::query(name(&ask.theirs)?, RecordType::TXT);
        query.set_query_class(DNSClass::IN);
        message.add_query(query);
        message.add_authority(record(&ask.ours, &ask.sealed, DNSClass::IN)?);
    }
    message.to_vec().ok()
}

/// Answers.
pub(super) fn answer(ours: &Tag, sealed: &[u8]) -> Option<Vec<u8>> {
    let mut message = Message::new(0, MessageType::Response, OpCode::Query);
    message.metadata.authoritative = true;
    message.add_answer(record(ours, sealed, DNSClass::Unknown(FLUSH_IN))?);
    message.to_vec().ok()
}

fn name(tag: &Tag) -> Option<Name> {
    let label: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    Name::from_labels([label.as_bytes(), b"local"]).ok()
}

fn record(tag: &Tag, sealed: &[u8], class: DNSClass) -> Option<Record> {
    let text = RData::TXT(TXT::from_bytes(vec![sealed]));
    let mut record = Record::from_rdata(name(tag)?, TTL, text);
    record.dns_class = class;
    Some(record)
}

/// All that looks like a tag, without reading the message: of what others say in a network nothing more is looked at.
pub(super) fn tags(datagram: &[u8]) -> impl Iterator<Item = Tag> + '_ {
    let starts = datagram.iter().enumerate().filter(|(_, byte)| usize::from(**byte) == HEX);
    starts.filter_map(|(at, _)| tag(datagram.get(at + 1..at + 1 + HEX)?))
}

/// The tag that a label is; in lower case, as it is written.
fn tag(label: &[u8]) -> Option<Tag> {
    if label.len() != HEX {
        return None;
    }
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut tag = Tag::default();
    for (byte, pair) in tag.iter_mut().zip(label.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(tag)
}

fn tag_of(name: &Name) -> Option<Tag> {
    let mut labels = name.iter();
    let (first, second, none) = (labels.next()?, labels.next()?, labels.next());
    (none.is_none() && second.eq_ignore_ascii_case(b"local")).then(|| tag(first))?
}

fn is_internet(class: DNSClass) -> bool {
    let class = u16::from(class);
    class == u16::from(DNSClass::IN) || class == FLUSH_IN
}

/// Reads a message.
pub(super) fn read(datagram: &[u8]) -> Option<Read> {
    if datagram.len() > LONGEST {
        return None;
    }
    let message = Message::from_vec(datagram).ok()?;
    // RFC 6762, sections 18.3 and 18.11: anything else is of another protocol.
    if message.metadata.op_code != OpCode::Query || message.metadata.response_code != ResponseCode::NoError {
        return None;
    }
    let is_answer = message.metadata.message_type == MessageType::Response;
    let records = if is_answer { &message.answers } else { &message.authorities };
    let mut read = Read { is_answer, ..Read::default() };
    if !is_answer {
        let asked = message
            .queries
            .iter()
            .filter(|query| query.query_type() == RecordType::TXT && is_internet(query.query_class()));
        read.asked = asked.filter_map(|query| tag_of(query.name())).take(MOST).collect();
    }
    let sealed = records.iter().filter(|record| is_internet(record.dns_class)).filter_map(|record| {
        let RData::TXT(text) = &record.data else { return None };
        let [one] = &*text.txt_data else { return None };
        (one.len() == SEALED_LEN).then(|| Some((tag_of(&record.name)?, one.to_vec())))?
    });
    read.records = sealed.take(MOST).collect();
    Some(read)
}
