//! What the bare loop does to frames: cutting, sealing, opening, putting together.

use std::fs::File;
use std::io::{self, IoSlice, Write};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::{LONGEST, SEGMENTS};
use crate::{BenchError, Result};

const KEY: [u8; 32] = *b"a measuring device has no secret";
/// The note and the counter.
pub(super) const HEAD: usize = 16;
pub(super) const TAG: usize = 16;
/// The header of a TUN device's frames (struct virtio_net_hdr).
pub(super) const VNET: usize = 10;
const NEEDS_CHECKSUM: u8 = 1;
/// Kinds of frames of several datagrams.
const TCP_V4: u8 = 1;
const TCP_V6: u8 = 4;
const UDP_BOTH: u8 = 5;
const ECN: u8 = 0x80;
/// Protocols of IP.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Flags of TCP.
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
const FIN: u8 = 0x01;
const CWR: u8 = 0x80;
/// The longest headers of IPv6 and TCP.
const HEADERS: usize = 100;

/// Where a checksum is still partial: `start` and `offset` of struct virtio_net_hdr.
type Partial = Option<(u16, u16)>;

/// The cipher with the key that both ends have.
pub(super) fn key() -> Result<LessSafeKey> {
    let key =
        UnboundKey::new(&AES_256_GCM, &KEY).map_err(|_| BenchError::Program("no AES-256-GCM".into()))?;
    Ok(LessSafeKey::new(key))
}

/// The same in both directions, which no real tunnel may do.
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// A frame of the host.
pub(super) struct Frame<'a> {
    bytes: &'a [u8],
    partial: Partial,
    several: Option<Layout>,
}

/// How a frame of several datagrams is cut, and what the headers of all of them have in common.
struct Layout {
    v4: bool,
    udp: bool,
    transport: usize,
    header: usize,
    size: usize,
    /// The sum of the IPv4 header without length, identification and checksum.
    network: u32,
    /// The sum of the pseudo header without the length.
    pseudo: u32,
}

impl<'a> Frame<'a> {
    /// Reads what comes from the virtual interface; `None` where it makes no sense.
    pub fn read(read: &'a [u8]) -> Option<Self> {
        let (vnet, bytes) = read.split_first_chunk::<VNET>()?;
        let native = |at: usize| u16::from_ne_bytes([vnet[at], vnet[at + 1]]);
        let partial = (vnet[0] & NEEDS_CHECKSUM != 0).then(|| (native(6), native(8)));
        let udp = match vnet[1] & !ECN {
            0 => return Some(Self { bytes, partial, several: None }),
            TCP_V4 | TCP_V6 => false,
            UDP_BOTH => true,
            _ => return None,
        };
        let (v4, transport, size) =
            (bytes.first()? >> 4 == 4, usize::from(partial?.0), usize::from(native(4)));
        let header = transport + if udp { 8 } else { usize::from(bytes.get(transport + 12)? >> 4) * 4 };
        if size == 0 || bytes.len() <= header || transport < if v4 { 20 } else { 40 } {
            return None;
        }
        let network = sum(bytes.get(..2)?) + sum(bytes.get(6..10)?) + sum(bytes.get(12..transport)?);
        let addresses = sum(bytes.get(if v4 { 12..20 } else { 8..40 })?);
        let pseudo = addresses + u32::from(if udp { UDP } else { TCP });
        let several = Some(Layout { v4, udp, transport, header, size, network, pseudo });
        Some(Self { bytes, partial, several })
    }

    /// How many datagrams it is.
    pub fn count(&self) -> usize {
        self.several.as_ref().map_or(1, |l| (self.bytes.len() - l.header).div_ceil(l.size))
    }

    /// The length of one of them.
    pub fn length(&self, at: usize) -> usize {
        let Some(l) = &self.several else { return self.bytes.len() };
        l.header + (self.bytes.len() - l.header).saturating_sub(at * l.size).min(l.size)
    }

    /// Copies one of them to its place.
    fn write(&self, at: usize, out: &mut [u8]) -> Option<()> {
        let Some(l) = &self.several else {
            return self.bytes.get(..out.len()).map(|b| out.copy_from_slice(b));
        };
        let length = out.len();
        let (header, payload) = out.split_at_mut_checked(l.header)?;
        header.copy_from_slice(self.bytes.get(..l.header)?);
        payload.copy_from_slice(self.bytes.get(l.header + at * l.size..)?.get(..payload.len())?);
        let segment = (length - l.transport) as u16;
        if l.v4 {
            let id = word(header, 4)?.wrapping_add(at as u16);
            put(header, 2, length as u16)?;
            put(header, 4, id)?;
            put(header, 10, !fold(l.network + length as u32 + u32::from(id)))?;
        } else {
            put(header, 4, segment)?;
        }
        let transport = header.get_mut(l.transport..)?;
        let partial = fold(l.pseudo + u32::from(segment));
        if l.udp {
            put(transport, 4, segment)?;
            return put(transport, 6, partial);
        }
        put(transport, 16, partial)?;
        let field = transport.get_mut(4..)?.first_chunk_mut()?;
        *field = u32::from_be_bytes(*field).wrapping_add((at * l.size) as u32).to_be_bytes();
        let (first, last) = (at == 0, at + 1 == self.count());
        *transport.get_mut(13)? &= !(if first { 0 } else { CWR } | if last { 0 } else { PSH | FIN });
        Some(())
    }
}

/// Puts one datagram of a frame into its place in the outbox, and seals it there.
pub(super) fn seal(key: &LessSafeKey, counter: u64, frame: &Frame, at: usize, out: &mut [u8]) -> Option<()> {
    let (head, rest) = out.split_first_chunk_mut::<HEAD>()?;
    let (body, room) = rest.split_last_chunk_mut::<TAG>()?;
    frame.write(at, body)?;
    let (start, offset) = frame.partial.unwrap_or_default();
    let ([a, b], [c, d]) = (start.to_be_bytes(), offset.to_be_bytes());
    head[..8].copy_from_slice(&[u8::from(frame.partial.is_some()), 0, a, b, c, d, 0, 0]);
    head[8..].copy_from_slice(&counter.to_be_bytes());
    let tag = key.seal_in_place_separate_tag(nonce(counter), Aad::from(&*head), body).ok()?;
    room.copy_from_slice(tag.as_ref());
    Some(())
}

/// Opens one where it lies, if it is newer than the last; tells what its note says.
pub(super) fn unseal(key: &LessSafeKey, last: &mut u64, sealed: &mut [u8]) -> Option<Partial> {
    let (head, body) = sealed.split_first_chunk_mut::<HEAD>()?;
    let (note, counter) = head.split_first_chunk::<8>()?;
    let counter = u64::from_be_bytes(*counter.first_chunk()?);
    if counter <= *last {
        return None;
    }
    let [partial, _, a, b, c, d, ..] = *note;
    key.open_in_place(nonce(counter), Aad::from(&*head), body).ok()?;
    *last = counter;
    Some((partial != 0).then(|| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))))
}

/// An inner datagram within the batch.
pub(super) struct Opened {
    pub from: usize,
    pub to: usize,
    pub partial: Partial,
}

impl Opened {
    fn bytes<'a>(&self, batch: &'a [u8]) -> &'a [u8] {
        batch.get(self.from..self.to).unwrap_or_default()
    }

    /// The lengths of its headers of IP, and of these and TCP, if it is part of a stream that may be put together.
    fn stream(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        let (start, plain) = (usize::from(self.partial?.0), bytes.first_chunk::<20>()?);
        let fragment = u16::from_be_bytes([plain[6], plain[7]]) & 0x3fff != 0;
        let whole = match plain[0] {
            0x45 => start == 20 && plain[9] == TCP && !fragment,
            first => first >> 4 == 6 && start == 40 && plain[6] == TCP,
        };
        let header = start + usize::from(bytes.get(start + 12)? >> 4) * 4;
        let stream = bytes.get(start + 13)? & !PSH == ACK && start + 20 <= header && header < bytes.len();
        (whole && stream && header <= HEADERS).then_some((start, header))
    }
}

/// How many datagrams, the first of these and those after it, are one frame.
pub(super) fn together(batch: &[u8], datagrams: &[Opened]) -> usize {
    let Some((first, rest)) = datagrams.split_first() else { return 0 };
    let bytes = first.bytes(batch);
    let Some((start, header)) = first.stream(bytes) else { return 1 };
    let size = bytes.len() - header;
    let sequence = |bytes: &[u8]| bytes.get(start + 4..)?.first_chunk().map(|s| u32::from_be_bytes(*s));
    let (mut count, mut last, mut length) = (1, bytes, bytes.len());
    for other in rest.iter().take(SEGMENTS - 1) {
        let next = other.bytes(batch);
        let ends = last.len() < bytes.len() || last.get(start + 13).is_none_or(|flags| flags & PSH != 0);
        if ends || other.stream(next) != Some((start, header)) || next.len() > bytes.len() {
            break;
        }
        // Everything but lengths, identification, checksums, sequence and flags.
        let same = |from: usize, to: usize| bytes.get(from..to) == next.get(from..to);
        let network =
            if start == 20 { same(0, 2) && same(6, 10) && same(12, 20) } else { same(0, 4) && same(6, 40) };
        let transport = same(start, start + 4) && same(start + 8, start + 13) && same(start + 14, start + 16);
        let follows = sequence(next) == sequence(bytes).map(|s| s.wrapping_add((count * size) as u32));
        let payload = next.len() - header;
        if !(network && transport && same(start + 18, header) && follows) || length + payload > LONGEST {
            break;
        }
        (count, last, length) = (count + 1, next, length + payload);
    }
    count
}

/// Writes datagrams to the virtual interface as one frame.
pub(super) fn hand_over(tun: &File, batch: &[u8], datagrams: &[Opened]) -> io::Result<()> {
    let Some((first, rest)) = datagrams.split_first() else { return Ok(()) };
    let bytes = first.bytes(batch);
    let mut vnet = [0; VNET];
    let mut note = |at: usize, value: u16| vnet[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    if let Some((start, offset)) = first.partial {
        note(6, start);
        note(8, offset);
        vnet[0] = NEEDS_CHECKSUM;
    }
    let Some((start, header)) = first.stream(bytes).filter(|_| !rest.is_empty()) else {
        return (&*tun).write_vectored(&[IoSlice::new(&vnet), IoSlice::new(bytes)]).map(drop);
    };
    let payload = |one: &Opened| one.to - one.from - header;
    let length = header + datagrams.iter().map(payload).sum::<usize>();
    vnet[1] = if start == 20 { TCP_V4 } else { TCP_V6 };
    vnet[2..4].copy_from_slice(&(header as u16).to_ne_bytes());
    vnet[4..6].copy_from_slice(&(payload(first) as u16).to_ne_bytes());
    let mut room = [0; HEADERS];
    let push = rest.last().and_then(|last| last.bytes(batch).get(start + 13)).map_or(0, |flags| flags & PSH);
    let Some(headers) = joined(room.get_mut(..header), bytes, start, length, push) else { return Ok(()) };
    let mut parts = [IoSlice::new(&[]); SEGMENTS + 2];
    let all =
        [&vnet, headers].into_iter().chain(datagrams.iter().filter_map(|d| d.bytes(batch).get(header..)));
    for (part, bytes) in parts.iter_mut().zip(all) {
        *part = IoSlice::new(bytes);
    }
    (&*tun).write_vectored(parts.get(..datagrams.len() + 2).unwrap_or_default()).map(drop)
}

/// The headers of a frame of this length, whose first datagram is this.
fn joined<'a>(
    room: Option<&'a mut [u8]>,
    first: &[u8],
    start: usize,
    length: usize,
    push: u8,
) -> Option<&'a [u8]> {
    let out = room?;
    out.copy_from_slice(first.get(..out.len())?);
    let segment = (length - start) as u16;
    let addresses = if start == 20 {
        put(out, 2, length as u16)?;
        put(out, 10, 0)?;
        put(out, 10, !fold(sum(out.get(..20)?)))?;
        12..20
    } else {
        put(out, 4, segment)?;
        8..40
    };
    let partial = fold(sum(out.get(addresses)?) + u32::from(TCP) + u32::from(segment));
    put(out, start + 16, partial)?;
    *out.get_mut(start + 13)? |= push;
    Some(out)
}

/// The sum of big-endian words of 16 bits, not folded.
fn sum(bytes: &[u8]) -> u32 {
    bytes.as_chunks::<2>().0.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum()
}

fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|w| u16::from_be_bytes(*w))
}

fn put(bytes: &mut [u8], at: usize, value: u16) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = value.to_be_bytes();
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

    use std::io::Read;

    use super::*;

    /// A frame of TCP as the virtual interface hands it over, whose segments have 1,000 bytes.
    fn frame(v6: bool, payload: usize) -> Vec<u8> {
        let (start, mut ip) = if v6 { (40_u16, vec![0xfd; 40]) } else { (20, vec![10; 20]) };
        if v6 {
            ip[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, TCP, 64]);
        } else {
            ip[..12].copy_from_slice(&[0x45, 0, 0, 0, 0xff, 0xff, 0x40, 0, 64, TCP, 0, 0]);
        }
        ip.extend([1, 2, 3, 4, 0xff, 0xff, 0xff, 0, 0, 0, 0, 9, 0x50, ACK | PSH, 4, 0, 0, 0, 0, 0]);
        let length = ip.len() + payload;
        let room = &mut vec![0; ip.len()];
        let headers = joined(Some(room), &ip, usize::from(start), length, 0).unwrap();
        let mut out = vec![NEEDS_CHECKSUM, if v6 { TCP_V6 } else { TCP_V4 }];
        for value in [headers.len() as u16, 1_000, start, 16] {
            out.extend(value.to_ne_bytes());
        }
        out.extend(headers);
        out.extend((0..payload).map(|n| (n / 7) as u8));
        out
    }

    #[test]
    fn a_frame_arrives_as_it_was() {
        for (v6, payload) in [(false, 5_500), (true, 5_500), (false, 2_000), (true, 1_001)] {
            let sent = frame(v6, payload);
            let read = Frame::read(&sent).unwrap();
            assert_eq!(read.count(), payload.div_ceil(1_000));
            let (key, mut batch, mut opened, mut last) = (key().unwrap(), Vec::new(), Vec::new(), 0);
            for at in 0..read.count() {
                let mut sealed = vec![0; HEAD + read.length(at) + TAG];
                seal(&key, at as u64 + 1, &read, at, &mut sealed).unwrap();
                let mut bent = sealed.clone();
                bent[HEAD + 30] ^= 1;
                assert!(unseal(&key, &mut last, &mut bent).is_none());
                let again = &mut sealed.clone();
                let partial = unseal(&key, &mut last, &mut sealed).unwrap();
                assert!(unseal(&key, &mut last, again).is_none(), "the counter has to grow");
                let from = batch.len() + HEAD;
                batch.extend(&sealed);
                opened.push(Opened { from, to: batch.len() - TAG, partial });
            }
            assert_eq!(together(&batch, &opened), read.count());
            let mut file = tempfile::NamedTempFile::new().unwrap();
            hand_over(file.as_file(), &batch, &opened).unwrap();
            let mut written = Vec::new();
            std::io::Seek::rewind(&mut file).unwrap();
            file.read_to_end(&mut written).unwrap();
            assert!(written == sent, "{v6} {payload}");
            // Without its second segment, the first goes alone.
            opened.remove(1);
            assert_eq!(together(&batch, &opened), 1);
        }
    }

    #[test]
    fn nonsense_is_left_out() {
        let sent = frame(false, 3_000);
        for (at, value) in [(1, 3), (4, 0), (6, 0xff), (VNET + 32, 0xff)] {
            let mut bent = sent.clone();
            bent[at] = value;
            bent[5] = if at == 4 { 0 } else { bent[5] };
            bent.truncate(if at == VNET + 32 { VNET + 60 } else { bent.len() });
            assert!(Frame::read(&bent).is_none_or(|frame| frame.length(0) > 0 && at == 6));
        }
        assert!(Frame::read(&sent[..VNET - 1]).is_none());
    }
}
