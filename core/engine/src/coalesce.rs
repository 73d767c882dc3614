//! Datagrams from peers: segments of one stream go to the host as one frame.
//!
//! The host handles a frame of 64 KiB about as quickly as a single datagram, so that this, more than anything, decides
//! how fast MAST is. The rules are those of Linux' own receive offload: only what cutting the frame up again would
//! yield exactly is put together. Nothing is copied: the datagrams lie where they were received and opened, and the
//! frame is written from there in parts. Each stream keeps its order; whatever does not fit goes by itself.

use std::io::{self, IoSlice};
use std::ops::Range;

use crate::checksum::{self, TCP, UDP};
use crate::os::{Offload, Offloads, Several, Tun};

/// Streams that are put together at the same time. More than this in one batch is rare.
const STREAMS: usize = 32;
/// The most datagrams of one frame (Linux: UDP_MAX_SEGMENTS was 64 before 6.7).
const PARTS: usize = 64;
/// The longest frame in bytes: an IP datagram's length has 16 bits.
const LONGEST: usize = 65_535;
/// The longest headers of what is put together: IPv6 and TCP with all its options.
const HEADER: usize = 100;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// What can be told of a datagram by its headers.
#[derive(Clone, Copy)]
struct Shape {
    protocol: u8,
    transport: usize,
    header: usize,
    payload: usize,
    sequence: u32,
    /// Nothing can follow it in the same frame.
    last: bool,
}

/// A frame in the making.
struct Bundle {
    shape: Shape,
    header: [u8; HEADER],
    /// The length of each payload; the last may be shorter.
    size: usize,
    length: usize,
    next: u32,
    /// Nothing more may follow in it.
    closed: bool,
    partial: bool,
    /// Datagrams within the batch.
    parts: Vec<Range<usize>>,
}

impl Bundle {
    fn new() -> Self {
        let shape = Shape { protocol: 0, transport: 0, header: 0, payload: 0, sequence: 0, last: true };
        Self {
            shape,
            header: [0; HEADER],
            size: 0,
            length: 0,
            next: 0,
            closed: true,
            partial: false,
            parts: Vec::with_capacity(PARTS),
        }
    }

    /// Takes in what follows. `push` is the flag of TCP, if that has it.
    fn add(&mut self, part: Range<usize>, payload: usize, push: u8) {
        self.length += payload;
        self.next = self.next.wrapping_add(payload as u32);
        if push != 0
            && let Some(flags) = self.header.get_mut(self.shape.transport + 13)
        {
            *flags |= push;
        }
        self.parts.push(part);
        self.closed = push != 0 || payload < self.size || self.parts.len() == PARTS;
    }
}

/// Collects the datagrams of a batch, and writes them to the virtual interface.
#[derive(Default)]
pub(crate) struct Coalescer {
    offloads: Offloads,
    /// In order of their first datagram; only the first `used` count, the others are room for later ones.
    bundles: Vec<Bundle>,
    used: usize,
    /// Datagrams that the host refused since it was last asked.
    refused: u64,
}

impl Coalescer {
    /// From now on for an interface that can do this.
    pub fn suit(&mut self, offloads: Offloads) {
        self.offloads = offloads;
    }

    /// Takes in the datagram in a range of the batch. `partial` says that its checksum is so. Writes what was taken in
    /// before where there is no room for more.
    pub fn push<T: Tun>(&mut self, tun: &T, batch: &mut [u8], range: Range<usize>, partial: bool) {
        let Some(datagram) = batch.get_mut(range.clone()) else { return };
        let mut partial = partial;
        if partial && !self.offloads.checksum {
            if !checksum::complete(datagram) {
                self.refused += 1;
                return;
            }
            partial = false;
        }
        let datagram = &*datagram;
        if partial
            && let Some(bundle) = self.bundles.get_mut(..self.used).and_then(<[_]>::last_mut)
            && let Some(flags) = continues(bundle, datagram)
        {
            let payload = datagram.len() - bundle.shape.header;
            bundle.add(range, payload, flags);
            return;
        }
        let shape = self.shape(datagram, partial);
        if let Some(shape) = shape {
            if let Some(bundle) = self.latest(datagram, shape.transport, shape.protocol).filter(|b| !b.closed)
            {
                if bundle.partial == partial && follows(bundle, datagram, &shape) {
                    let flags = if shape.last { PSH } else { 0 };
                    bundle.add(range, shape.payload, flags);
                    return;
                }
                bundle.closed = true;
            }
        } else if let Some((transport, protocol)) = checksum::transport(datagram)
            && let Some(bundle) = self.latest(datagram, transport, protocol)
        {
            // What comes after this one must not overtake it.
            bundle.closed = true;
        }
        if self.used == STREAMS {
            self.flush(tun, batch);
        }
        self.open(batch, range, shape, partial);
    }

    /// The latest bundle of a datagram's stream: earlier ones are closed.
    fn latest(&mut self, datagram: &[u8], transport: usize, protocol: u8) -> Option<&mut Bundle> {
        self.bundles.iter_mut().take(self.used).rev().find(|b| {
            b.shape.protocol == protocol
                && b.shape.transport == transport
                && is_same_stream(&b.header, datagram, transport)
        })
    }

    fn open(&mut self, batch: &[u8], range: Range<usize>, shape: Option<Shape>, partial: bool) {
        if self.bundles.len() == self.used {
            self.bundles.push(Bundle::new());
        }
        let (Some(bundle), Some(datagram)) = (self.bundles.get_mut(self.used), batch.get(range.clone()))
        else {
            return;
        };
        self.used += 1;
        bundle.parts.clear();
        bundle.parts.push(range);
        bundle.partial = partial;
        bundle.closed = true;
        bundle.shape.protocol = 0;
        let Some(shape) = shape else { return };
        if let (Some(to), Some(from)) = (bundle.header.get_mut(..shape.header), datagram.get(..shape.header))
        {
            to.copy_from_slice(from);
            bundle.shape = shape;
            bundle.size = shape.payload;
            bundle.length = datagram.len();
            bundle.next = shape.sequence.wrapping_add(shape.payload as u32);
            bundle.closed = shape.last;
        }
    }

    /// The shape of a datagram that may be part of a frame of several.
    fn shape(&self, datagram: &[u8], partial: bool) -> Option<Shape> {
        if !self.offloads.tcp && !self.offloads.udp {
            return None;
        }
        let (transport, protocol) = checksum::transport(datagram)?;
        let v4 = datagram.first()? >> 4 == 4;
        // No options; and exactly as long as it says.
        let length = if v4 {
            usize::from(u16::from_be_bytes([*datagram.get(2)?, *datagram.get(3)?]))
        } else {
            40 + usize::from(u16::from_be_bytes([*datagram.get(4)?, *datagram.get(5)?]))
        };
        if v4 && transport != 20 || length != datagram.len() {
            return None;
        }
        let (header, sequence, last) = match protocol {
            TCP if self.offloads.tcp => {
                let head: &[u8; 20] = datagram.get(transport..)?.first_chunk()?;
                let flags = head[13];
                // With any other flag it means more than its bytes.
                if flags & !PSH != ACK || head[12] < 0x50 {
                    return None;
                }
                let sequence = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
                (transport + usize::from(head[12] >> 4) * 4, sequence, flags & PSH != 0)
            }
            UDP if self.offloads.udp => {
                let head: &[u8; 8] = datagram.get(transport..)?.first_chunk()?;
                if usize::from(u16::from_be_bytes([head[4], head[5]])) != datagram.len() - transport {
                    return None;
                }
                (transport + 8, 0, false)
            }
            _ => return None,
        };
        let payload = datagram.len().checked_sub(header).filter(|p| *p > 0)?;
        if !partial && !checksum::is_right(datagram, transport, protocol) {
            return None;
        }
        Some(Shape { protocol, transport, header, payload, sequence, last })
    }

    /// Writes everything to the virtual interface.
    pub fn flush<T: Tun>(&mut self, tun: &T, batch: &[u8]) {
        for bundle in self.bundles.iter_mut().take(self.used) {
            if let [one] = bundle.parts.as_slice() {
                let datagram = batch.get(one.clone()).unwrap_or_default();
                self.refused += u64::from(!write_one(tun, datagram, bundle.partial));
            } else {
                self.refused += write_several(tun, batch, bundle, &mut self.offloads);
            }
        }
        self.used = 0;
    }

    /// How many datagrams the host has refused since this was last called.
    pub fn refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }
}

/// Whether a datagram belongs to the stream that has this header: the same addresses and ports.
fn is_same_stream(header: &[u8; HEADER], datagram: &[u8], transport: usize) -> bool {
    let addresses = if transport == 20 { 12..20 } else { 8..40 };
    let ports = transport..transport + 4;
    header.get(addresses.clone()) == datagram.get(addresses)
        && header.get(ports.clone()) == datagram.get(ports)
        && header.first().map(|b| b >> 4) == datagram.first().map(|b| b >> 4)
}

/// The quick answer, for nearly all of a quick stream: a segment of TCP that comes right after what the latest bundle
/// holds, with a partial checksum; and its flag PSH. `None` says nothing.
fn continues(bundle: &Bundle, datagram: &[u8]) -> Option<u8> {
    let shape = &bundle.shape;
    if bundle.closed || !bundle.partial || shape.protocol != TCP || datagram.len() <= shape.header {
        return None;
    }
    let payload = datagram.len() - shape.header;
    if payload > bundle.size || bundle.length + payload > LONGEST {
        return None;
    }
    let word = |bytes: &[u8], at: usize| bytes.get(at..)?.first_chunk().map(|w| u64::from_be_bytes(*w));
    let same = |at: usize, mask: u64| {
        let differ = word(&bundle.header, at).zip(word(datagram, at)).map(|(a, b)| (a ^ b) & mask);
        differ == Some(0)
    };
    const ALL: u64 = u64::MAX;
    // All but lengths, identification and checksums; up to the ports.
    let (network, length) = if shape.transport == 20 {
        let network = same(0, 0xffff_0000_0000_ffff) && same(8, 0xffff_0000_ffff_ffff) && same(16, ALL);
        (network, datagram.get(2..4)?)
    } else {
        let network = same(0, 0xffff_ffff_0000_ffff) && [8, 16, 24, 32].into_iter().all(|at| same(at, ALL));
        let ports = bundle.header.get(40..44) == datagram.get(40..44);
        (network && ports, datagram.get(4..6)?)
    };
    let claimed = usize::from(u16::from_be_bytes(*length.first_chunk()?));
    let t = shape.transport;
    if !network || claimed != datagram.len() - if t == 20 { 0 } else { 40 } {
        return None;
    }
    let segment: &[u8; 20] = datagram.get(t..)?.first_chunk()?;
    let before: &[u8; 20] = bundle.header.get(t..)?.first_chunk()?;
    let sequence = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]);
    // What is acknowledged, the header's length, the flags, the window; and no urgent data.
    let follows = sequence == bundle.next
        && segment[8..13] == before[8..13]
        && segment[13] & !PSH == before[13] & !PSH
        && segment[14..16] == before[14..16]
        && segment[18..20] == before[18..20]
        && bundle.header.get(t + 20..shape.header) == datagram.get(t + 20..shape.header);
    follows.then_some(segment[13] & PSH)
}

/// Whether a datagram of the same stream comes right after what a bundle holds, and differs in nothing else.
fn follows(bundle: &Bundle, datagram: &[u8], shape: &Shape) -> bool {
    let same = |range: Range<usize>| bundle.header.get(range.clone()) == datagram.get(range);
    let t = shape.transport;
    let network = if t == 20 {
        // But for length, identification and checksum.
        same(0..2) && same(6..10)
    } else {
        same(0..4) && same(6..8)
    };
    let transport = match shape.protocol {
        TCP => {
            let flags = |bytes: &[u8]| bytes.get(t + 13).map(|f| f & !PSH);
            shape.sequence == bundle.next
                && shape.header == bundle.shape.header
                && same(t + 8..t + 13)
                && flags(&bundle.header) == flags(datagram)
                && same(t + 14..t + 16)
                && same(t + 18..shape.header)
        }
        _ => true,
    };
    network && transport && shape.payload <= bundle.size && bundle.length + shape.payload <= LONGEST
}

fn write_one<T: Tun>(tun: &T, datagram: &[u8], partial: bool) -> bool {
    let mut offload = Offload::default();
    if partial {
        let place = checksum::transport(datagram)
            .and_then(|(start, protocol)| Some((start as u16, checksum::field(protocol)? as u16)));
        let Some(place) = place.filter(|(start, offset)| usize::from(start + offset + 2) <= datagram.len())
        else {
            return false;
        };
        offload.partial = Some(place);
    }
    tun.try_send(&[IoSlice::new(datagram)], offload).is_ok()
}

/// Writes a bundle of several datagrams as one frame; tells how many the host refused.
fn write_several<T: Tun>(tun: &T, batch: &[u8], bundle: &mut Bundle, offloads: &mut Offloads) -> u64 {
    let shape = bundle.shape;
    let Some(header) = bundle.header.get_mut(..shape.header) else { return bundle.parts.len() as u64 };
    let put = |header: &mut [u8], at: usize, value: usize| {
        if let Some(field) = header.get_mut(at..at + 2) {
            field.copy_from_slice(&(value as u16).to_be_bytes());
        }
    };
    let segment = bundle.length - shape.transport;
    if shape.transport == 20 {
        put(header, 2, bundle.length);
        checksum::seal_header(header.get_mut(..20).unwrap_or_default());
    } else {
        put(header, 4, segment);
    }
    let partial = checksum::fold(checksum::pseudo(header, shape.protocol, segment));
    let udp = shape.protocol == UDP;
    let field = if udp { 6 } else { 16 };
    put(header, shape.transport + field, partial.into());
    if udp {
        put(header, shape.transport + 4, segment);
    }
    let mut slices = [IoSlice::new(&[]); PARTS + 1];
    if let Some(first) = slices.first_mut() {
        *first = IoSlice::new(header);
    }
    for (slice, part) in slices.iter_mut().skip(1).zip(&bundle.parts) {
        *slice = IoSlice::new(batch.get(part.start + shape.header..part.end).unwrap_or_default());
    }
    let offload = Offload {
        partial: Some((shape.transport as u16, field as u16)),
        several: Some(Several { udp, size: bundle.size as u16, header: shape.header as u16 }),
    };
    let result = tun.try_send(slices.get(..=bundle.parts.len()).unwrap_or_default(), offload);
    match result {
        Ok(()) => 0,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            // The device promised more than it keeps: one by one from now on.
            if udp {
                offloads.udp = false
            } else {
                offloads.tcp = false
            }
            let one = |part: &Range<usize>| {
                let datagram = batch.get(part.clone()).unwrap_or_default();
                u64::from(!write_one(tun, datagram, bundle.partial))
            };
            bundle.parts.iter().map(one).sum()
        }
        Err(_) => bundle.parts.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::segment::Frame;
    use crate::segment::tests::{several, tcp_frame};

    /// Keeps what is written to it, and cuts frames up again as a host would.
    struct Host {
        offloads: Offloads,
        written: Mutex<Vec<(usize, Vec<Vec<u8>>)>>,
        refuses: bool,
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
            let length = bytes.len();
            let frame = Frame::read(&mut bytes, offload).unwrap();
            let datagrams = (0..frame.count()).map(|at| {
                let mut out = vec![0; frame.length(at)];
                frame.write(at, &mut out);
                if frame.partial {
                    checksum::complete(&mut out);
                }
                out
            });
            self.written.lock().unwrap().push((length, datagrams.collect()));
            Ok(())
        }
    }

    const ALL: Offloads = Offloads { checksum: true, tcp: true, udp: true };

    /// What a host receives of these datagrams, and in how many frames.
    fn through(
        datagrams: &[Vec<u8>],
        partial: bool,
        offloads: Offloads,
        refuses: bool,
    ) -> (usize, Vec<Vec<u8>>) {
        let host = Host { offloads, written: Mutex::default(), refuses };
        let mut coalescer = Coalescer::default();
        coalescer.suit(offloads);
        let mut batch = Vec::new();
        let mut ranges = Vec::new();
        for datagram in datagrams {
            batch.extend([0xee; 20]);
            ranges.push(batch.len()..batch.len() + datagram.len());
            batch.extend(datagram);
        }
        for range in ranges {
            coalescer.push(&host, &mut batch, range, partial);
        }
        coalescer.flush(&host, &batch);
        let written = host.written.into_inner().unwrap();
        (written.len(), written.into_iter().flat_map(|(_, d)| d).collect())
    }

    fn cut(mut frame: Vec<u8>, size: u16, complete: bool) -> Vec<Vec<u8>> {
        let frame = Frame::read(&mut frame, several(false, size)).unwrap();
        (0..frame.count())
            .map(|at| {
                let mut out = vec![0; frame.length(at)];
                frame.write(at, &mut out);
                if complete {
                    checksum::complete(&mut out);
                }
                out
            })
            .collect()
    }

    /// A stream without the flag that says "congestion window reduced", which only the first segment may have.
    fn stream(v6: bool, payload: usize) -> Vec<u8> {
        let mut frame = tcp_frame(v6, payload);
        let start = if v6 { 40 } else { 20 };
        frame[start + 13] = 0x18;
        frame
    }

    #[test]
    fn a_stream_goes_as_one_frame_and_arrives_as_it_was() {
        for v6 in [false, true] {
            let whole = cut(stream(v6, 30_000), 1_400, true);
            for partial in [true, false] {
                let (frames, datagrams) =
                    through(&cut(stream(v6, 30_000), 1_400, !partial), partial, ALL, false);
                assert_eq!(frames, 1);
                assert_eq!(datagrams, whole);
            }
            let (frames, datagrams) = through(&cut(stream(v6, 30_000), 1_400, false), true, ALL, true);
            assert_eq!(
                (frames, datagrams),
                (22, whole.clone()),
                "a device that does not take them after all"
            );
            let none = Offloads::default();
            let (frames, datagrams) = through(&cut(stream(v6, 30_000), 1_400, false), true, none, false);
            assert_eq!(
                (frames, datagrams),
                (22, whole),
                "checksums are completed for a device without offload"
            );
        }
    }

    #[test]
    fn streams_that_are_mixed_keep_their_order() {
        let mut mixed = Vec::new();
        let streams: Vec<_> = (0..20_u8)
            .map(|n| {
                let mut frame = stream(n % 2 == 0, 8_000);
                let at = if n % 2 == 0 { 40 } else { 20 };
                frame[at] = n;
                cut(frame, 1_000, true)
            })
            .collect();
        for at in 0..8 {
            mixed.extend(streams.iter().map(|s| s[at].clone()));
        }
        let (frames, datagrams) = through(&mixed, false, ALL, false);
        assert!(frames < mixed.len(), "{frames}");
        for stream in streams {
            let port = |d: &Vec<u8>| (d[0] >> 4, d[if d[0] >> 4 == 6 { 40 } else { 20 }]);
            let got: Vec<_> = datagrams.iter().filter(|d| port(d) == port(&stream[0])).cloned().collect();
            assert_eq!(got, stream);
        }
    }

    #[test]
    fn what_is_not_exactly_the_next_segment_goes_by_itself() {
        let segments = cut(stream(false, 5_600), 1_400, false);
        let through = |segments: &[Vec<u8>]| through(segments, true, ALL, false);
        assert_eq!(through(&segments).0, 1);
        // A gap; another acknowledgement; another window; other options; another class; FIN; a byte too much.
        for (at, value) in [(24, 1_u8), (31, 77), (35, 77), (43, 77), (1, 3), (33, 0x11), (3, 1)] {
            let mut bent = segments.clone();
            bent[2][at] ^= value;
            let (frames, datagrams) = through(&bent);
            assert!(frames > 1, "byte {at}");
            assert_eq!(datagrams.len(), 4, "byte {at}");
        }
        let mut swapped = segments.clone();
        swapped.swap(1, 2);
        let order: Vec<_> = through(&swapped).1.iter().map(|d| d[27]).collect();
        let expected: Vec<_> = swapped.iter().map(|d| d[27]).collect();
        assert_eq!(order, expected, "never put in another order");
        let empty = cut(stream(false, 1), 1, false).into_iter().map(|mut d| {
            d.truncate(52);
            d[3] = 52;
            d
        });
        assert_eq!(through(&empty.clone().chain(empty).collect::<Vec<_>>()).0, 2, "bare acknowledgements");
    }

    /// Whatever bit of a segment differs, the quick answer is yes only where the thorough one is.
    #[test]
    fn the_quick_answer_is_never_more_generous() {
        for v6 in [false, true] {
            let segments = cut(stream(v6, 3_000), 1_000, false);
            let mut coalescer = Coalescer::default();
            coalescer.suit(ALL);
            coalescer.open(&segments[0], 0..segments[0].len(), coalescer.shape(&segments[0], true), true);
            let next = &segments[1];
            assert_eq!(continues(&coalescer.bundles[0], next), Some(0), "{v6}");
            let mut refused = 0;
            for bit in 0..8 * (next.len() - 1_000) {
                let mut bent = next.clone();
                bent[bit / 8] ^= 1 << (bit % 8);
                let quick = continues(&coalescer.bundles[0], &bent);
                let shape = coalescer.shape(&bent, true);
                let thorough = shape.filter(|shape| {
                    coalescer.latest(&bent, shape.transport, shape.protocol).is_some()
                        && follows(&coalescer.bundles[0], &bent, shape)
                });
                assert!(quick.is_none() || thorough.is_some(), "{v6} bit {bit}");
                assert_eq!(quick.is_some_and(|push| push != 0), quick.is_some() && thorough.unwrap().last);
                refused += usize::from(quick.is_none());
            }
            assert!(refused > 200, "{refused}");
            assert_eq!(continues(&coalescer.bundles[0], &segments[2]), None, "out of turn");
            assert_eq!(continues(&coalescer.bundles[0], &next[..40]), None, "cut short");
        }
    }

    #[test]
    fn a_wrong_checksum_is_not_made_right() {
        let mut segments = cut(stream(false, 2_800), 1_400, true);
        segments[1][60] ^= 1;
        let (frames, datagrams) = through(&segments, false, ALL, false);
        assert_eq!((frames, datagrams), (2, segments));
    }

    #[test]
    fn garbage_goes_through_unharmed() {
        let mut random = 1_u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize
        };
        let whole = cut(stream(false, 60_000), 1_400, false);
        for _ in 0..2_000 {
            let datagrams: Vec<Vec<u8>> = (0..8)
                .map(|_| {
                    let mut d = whole[next() % whole.len()].clone();
                    for _ in 0..next() % 4 {
                        let at = next() % 60;
                        d[at] = next() as u8;
                    }
                    d.truncate(next() % d.len());
                    d
                })
                .collect();
            let mut coalescer = Coalescer::default();
            for offloads in [ALL, Offloads::default()] {
                coalescer.suit(offloads);
                let mut batch = datagrams.concat();
                let mut at = 0;
                for d in &datagrams {
                    coalescer.push(&Quiet, &mut batch, at..at + d.len(), next() % 2 == 0);
                    at += d.len();
                }
                coalescer.flush(&Quiet, &batch);
            }
        }
    }

    /// Takes anything.
    struct Quiet;

    impl Tun for Quiet {
        fn name(&self) -> &str {
            "mast0"
        }
        fn offloads(&self) -> Offloads {
            ALL
        }
        async fn readable(&self) -> io::Result<()> {
            Ok(())
        }
        fn try_recv(&self, _: &mut [u8]) -> io::Result<(usize, Offload)> {
            Err(io::ErrorKind::WouldBlock.into())
        }
        fn try_send(&self, _: &[IoSlice<'_>], _: Offload) -> io::Result<()> {
            Ok(())
        }
    }
}
