//! What a datagram of the host lets one expect of a plain WireGuard peer, and which datagram is the answer.
//!
//! That something comes does not tell that anything arrives: a path may lose one direction alone. A segment of TCP is
//! acknowledged by number (RFC 9293, section 3.4), an echo request is answered by number (RFC 792, RFC 4443), and either
//! proves both directions for the moment at which the question left. Of other datagrams nobody knows.

/// What a datagram of the host lets one expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expects {
    /// A segment that the other host acknowledges: with data, or one that opens or closes a connection.
    Acknowledgement,
    /// The answer to an echo request.
    Echo,
    /// Nobody knows: UDP, fragments, and the rest.
    Unknown,
}

impl Expects {
    pub const KINDS: usize = 3;
}

/// A datagram of the host that is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    pub expects: Expects,
    /// The two hosts and the connection between them, hashed: the same for both directions.
    flow: u32,
    /// The least that an acknowledgement says, or the number of an echo request.
    number: u32,
}

/// What a datagram of the peer tells of the host's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Everything of this flow up to this number.
    UpTo(Question),
    /// Everything of this flow: it is refused.
    Refused { flow: u32 },
    /// A router or a host complains of what it got: so it got it.
    Complaint,
    /// Nothing.
    Nothing,
}

/// An IP datagram, as far as it matters here.
struct Parts<'a> {
    from: &'a [u8],
    to: &'a [u8],
    protocol: u8,
    rest: &'a [u8],
    fragment: bool,
}

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

impl<'a> Parts<'a> {
    fn of(datagram: &'a [u8]) -> Option<Self> {
        match datagram.first()? >> 4 {
            4 => {
                let length = usize::from(datagram.first()? & 15) * 4;
                let total = usize::from(u16::from_be_bytes([*datagram.get(2)?, *datagram.get(3)?]));
                Some(Self {
                    from: datagram.get(12..16)?,
                    to: datagram.get(16..20)?,
                    protocol: *datagram.get(9)?,
                    rest: datagram.get(length..total.min(datagram.len()))?,
                    fragment: datagram.get(6)? & 0x3f != 0 || *datagram.get(7)? != 0,
                })
            }
            6 => {
                let length = usize::from(u16::from_be_bytes([*datagram.get(4)?, *datagram.get(5)?]));
                Some(Self {
                    from: datagram.get(8..24)?,
                    to: datagram.get(24..40)?,
                    protocol: *datagram.get(6)?,
                    rest: datagram.get(40..(40 + length).min(datagram.len()))?,
                    fragment: false,
                })
            }
            _ => None,
        }
    }

    fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_be_bytes(self.rest.get(at..at + 4)?.try_into().ok()?))
    }

    fn half(&self, at: usize) -> Option<u32> {
        Some(u32::from(u16::from_be_bytes(self.rest.get(at..at + 2)?.try_into().ok()?)))
    }

    /// How many bytes of data a segment of TCP has, and its flags.
    fn segment(&self) -> Option<(usize, u8)> {
        let offset = usize::from(self.rest.get(12)? >> 4) * 4;
        Some((self.rest.len().saturating_sub(offset), *self.rest.get(13)?))
    }

    /// The flow, as whoever sends `there` sees it.
    fn flow(&self, there: bool, ports: (u32, u32)) -> u32 {
        let (near, far) = if there { (self.from, self.to) } else { (self.to, self.from) };
        let ports = if there { ports } else { (ports.1, ports.0) };
        let numbers = [ports.0.to_be_bytes(), ports.1.to_be_bytes()];
        // FNV-1a. Two flows of one hash among the few that are asked about only make a silence a little less certain.
        let bytes = near.iter().chain(far).chain(numbers.iter().flatten());
        bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
    }

    fn ports(&self) -> Option<(u32, u32)> {
        Some((self.half(0)?, self.half(2)?))
    }
}

impl Question {
    /// What this datagram of the host lets one expect; nothing of an acknowledgement alone, or of an answer.
    pub fn of(datagram: &[u8]) -> Option<Self> {
        let unknown = Self { expects: Expects::Unknown, flow: 0, number: 0 };
        let parts = Parts::of(datagram)?;
        match parts.protocol {
            _ if parts.fragment => Some(unknown),
            TCP => {
                let (length, flags) = parts.segment()?;
                let control = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
                let last = parts.word(4)?.wrapping_add(length as u32).wrapping_add(control);
                let asks = control > 0 || length > 0;
                asks.then_some(Self {
                    expects: Expects::Acknowledgement,
                    flow: parts.flow(true, parts.ports()?),
                    number: last,
                })
            }
            ICMP | ICMP_V6 => {
                let request = if parts.protocol == ICMP { 8 } else { 128 };
                if *parts.rest.first()? != request {
                    return None;
                }
                let id = parts.half(4)?;
                let flow = parts.flow(true, (id, id));
                Some(Self { expects: Expects::Echo, flow, number: parts.half(6)? })
            }
            _ => Some(unknown),
        }
    }

    /// Whether it opens a connection, which is answered by nobody where there is no such host.
    pub fn opens(datagram: &[u8]) -> bool {
        Parts::of(datagram)
            .filter(|parts| parts.protocol == TCP && !parts.fragment)
            .and_then(|parts| parts.segment())
            .is_some_and(|(_, flags)| flags & SYN != 0)
    }

    /// Whether it is of the same kind and flow.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.expects, self.flow) == (other.expects, other.flow)
    }
}

impl Answer {
    /// What this datagram of the peer tells.
    pub fn of(datagram: &[u8]) -> Self {
        Self::read(datagram).unwrap_or(Self::Nothing)
    }

    fn read(datagram: &[u8]) -> Option<Self> {
        let parts = Parts::of(datagram).filter(|parts| !parts.fragment)?;
        match parts.protocol {
            TCP => {
                let (_, flags) = parts.segment()?;
                let flow = parts.flow(false, parts.ports()?);
                if flags & RST != 0 {
                    return Some(Self::Refused { flow });
                }
                let number = parts.word(8)?;
                let question = Question { expects: Expects::Acknowledgement, flow, number };
                (flags & ACK != 0).then_some(Self::UpTo(question))
            }
            ICMP | ICMP_V6 => {
                let v6 = parts.protocol == ICMP_V6;
                let kind = *parts.rest.first()?;
                if kind == if v6 { 129 } else { 0 } {
                    let id = parts.half(4)?;
                    let flow = parts.flow(false, (id, id));
                    let number = parts.half(6)?;
                    return Some(Self::UpTo(Question { expects: Expects::Echo, flow, number }));
                }
                // Errors: RFC 792 and RFC 4443.
                let complaint = if v6 { kind < 128 } else { matches!(kind, 3 | 4 | 11 | 12) };
                complaint.then_some(Self::Complaint)
            }
            _ => None,
        }
    }

    /// Whether this is the answer to a question.
    pub fn settles(&self, question: &Question) -> bool {
        match self {
            Self::UpTo(answer) if !answer.is_like(question) => false,
            // Numbers begin anew at their ends.
            Self::UpTo(answer) if question.expects == Expects::Echo => {
                (answer.number.wrapping_sub(question.number) as u16) < 0x8000
            }
            Self::UpTo(answer) => answer.number.wrapping_sub(question.number) < 0x8000_0000,
            Self::Refused { flow } => question.expects == Expects::Acknowledgement && question.flow == *flow,
            Self::Complaint => true,
            Self::Nothing => false,
        }
    }
}

/// A number for a segment of TCP with data: its flow, and where in it the data belongs.
pub(super) fn segment(datagram: &[u8]) -> Option<u64> {
    let parts = Parts::of(datagram).filter(|parts| parts.protocol == TCP && !parts.fragment)?;
    let (length, _) = parts.segment()?;
    let flow = parts.flow(false, parts.ports()?);
    (length > 0).then_some(u64::from(flow) << 32 | u64::from(parts.word(4)?))
}

/// Whether it is TCP, the first fragment of a segment or the whole.
pub(super) fn is_tcp(datagram: &[u8]) -> bool {
    let protocol = match datagram.first().map(|b| b >> 4) {
        Some(4) => datagram.get(9),
        _ => datagram.get(6),
    };
    protocol == Some(&TCP)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment between 10.0.0.1 port 1000 and 10.0.0.2 port 80, or back.
    fn tcp(v6: bool, back: bool, (seq, ack): (u32, u32), flags: u8, data: usize) -> Vec<u8> {
        let (from, to) = if back { (2, 1) } else { (1, 2) };
        let ports = if back { [0, 80, 3, 232] } else { [3, 232, 0, 80] };
        let mut rest = ports.to_vec();
        rest.extend(seq.to_be_bytes());
        rest.extend(ack.to_be_bytes());
        rest.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
        rest.resize(20 + data, 0);
        ip(v6, TCP, (from, to), &rest)
    }

    fn ip(v6: bool, protocol: u8, (from, to): (u8, u8), rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; if v6 { 40 } else { 20 }];
        if v6 {
            bytes[0] = 0x60;
            bytes[4..6].copy_from_slice(&(rest.len() as u16).to_be_bytes());
            (bytes[6], bytes[23], bytes[39]) = (protocol, from, to);
        } else {
            bytes[0] = 0x45;
            bytes[2..4].copy_from_slice(&(rest.len() as u16 + 20).to_be_bytes());
            (bytes[9], bytes[15], bytes[19]) = (protocol, from, to);
        }
        bytes.extend(rest);
        bytes
    }

    fn echo(v6: bool, back: bool, number: u16) -> Vec<u8> {
        let kind = match (v6, back) {
            (false, false) => 8,
            (false, true) => 0,
            (true, false) => 128,
            (true, true) => 129,
        };
        let [high, low] = number.to_be_bytes();
        let rest = [kind, 0, 0, 0, 7, 7, high, low];
        ip(v6, if v6 { ICMP_V6 } else { ICMP }, if back { (2, 1) } else { (1, 2) }, &rest)
    }

    #[test]
    fn data_is_answered_by_its_acknowledgement_and_no_other() {
        for v6 in [false, true] {
            for start in [5, u32::MAX - 10] {
                let question = Question::of(&tcp(v6, false, (start, 9), ACK, 100)).unwrap();
                let answers =
                    |ack: u32, data| Answer::of(&tcp(v6, true, (9, ack), ACK, data)).settles(&question);
                assert!(answers(start.wrapping_add(100), 0));
                assert!(answers(start.wrapping_add(2_000), 1_400));
                assert!(!answers(start, 1_400), "data of the peer's own that acknowledges nothing new");
                assert!(!answers(start.wrapping_add(99), 0));
                assert!(Answer::of(&tcp(v6, true, (9, 0), RST, 0)).settles(&question));
            }
            let opening = tcp(v6, false, (7, 0), SYN, 0);
            assert!(Question::opens(&opening));
            let question = Question::of(&opening).unwrap();
            assert!(Answer::of(&tcp(v6, true, (1, 8), SYN | ACK, 0)).settles(&question));
            assert_eq!(Question::of(&tcp(v6, false, (7, 9), ACK, 0)), None);
            let other =
                ip(v6, TCP, (1, 2), &[&[3, 233, 0, 80], &tcp(false, false, (5, 9), ACK, 9)[24..]].concat());
            let other = Question::of(&other).unwrap();
            assert!(!Answer::of(&tcp(v6, true, (9, 500), ACK, 0)).settles(&other), "another connection");
        }
    }

    #[test]
    fn an_echo_is_answered_by_its_number_or_a_later_one() {
        for v6 in [false, true] {
            let question = Question::of(&echo(v6, false, u16::MAX)).unwrap();
            for (number, settles) in [(u16::MAX, true), (0, true), (3, true), (u16::MAX - 1, false)] {
                assert_eq!(Answer::of(&echo(v6, true, number)).settles(&question), settles, "{number}");
            }
            assert_eq!(Question::of(&echo(v6, true, 1)), None);
            let unreachable = ip(v6, if v6 { ICMP_V6 } else { ICMP }, (9, 1), &[if v6 { 1 } else { 3 }; 40]);
            assert!(Answer::of(&unreachable).settles(&question));
        }
    }

    #[test]
    fn a_segment_that_comes_again_is_known() {
        let number = |seq, data| segment(&tcp(false, true, (seq, 1), ACK, data));
        assert_eq!(number(9, 100), number(9, 100));
        assert_ne!(number(9, 100), number(109, 100));
        assert_eq!(number(9, 0), None);
        assert_eq!(segment(&echo(false, true, 1)), None);
        let like = ip(false, 17, (1, 2), &tcp(false, false, (9, 1), ACK, 100)[20..]);
        assert_eq!(segment(&like), None, "of another protocol");
        let mut part = tcp(false, true, (9, 1), ACK, 100);
        part[6] = 0x20;
        assert_eq!(segment(&part), None, "the rest of it is elsewhere");
    }

    #[test]
    fn what_is_cut_short_is_no_answer() {
        for whole in [tcp(false, true, (1, 2), ACK, 9), tcp(true, true, (1, 2), ACK, 9), echo(true, true, 1)]
        {
            for length in 0..whole.len() {
                let part = &whole[..length];
                let _ = (Question::of(part), Answer::of(part), segment(part), is_tcp(part));
            }
        }
    }
}
