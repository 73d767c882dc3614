//! Frames of the virtual interface that are several datagrams under one header: into single ones.
//!
//! A host with segmentation offload hands over up to 64 KiB of a stream at once, as one datagram that is too long for
//! any link. What it says of it comes from the kernel, but it is checked like anything else: nonsense is dropped.

use std::ops::Range;

use crate::checksum::{self, TCP, UDP};
use crate::os::{Offload, Several};

/// The most datagrams in one frame: 65,535 bytes at the least segment size of Linux (48 bytes) are fewer.
const MOST: usize = 1536;

/// A frame, and how its datagrams lie in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    bytes: &'a [u8],
    /// The length of the headers, and the length of each payload, where there are several datagrams.
    several: Option<Layout>,
    /// The checksums are partial.
    pub partial: bool,
}

#[derive(Debug, Clone, Copy)]
struct Layout {
    udp: bool,
    transport: usize,
    header: usize,
    size: usize,
    /// The sum of what the IPv4 headers have in common: all but length, identification and checksum.
    network: u64,
    /// The sum of what the pseudo headers have in common: all but the length.
    pseudo: u64,
}

impl<'a> Frame<'a> {
    /// Reads what the device says of a frame; `None` when the frame is not what it says. A partial checksum of what is
    /// neither TCP nor UDP, or not to be found again at the other end, is completed.
    pub fn read(bytes: &'a mut [u8], offload: Offload) -> Option<Self> {
        let Some(several) = offload.several else {
            let partial = match offload.partial {
                None => false,
                Some((start, offset)) => {
                    let (start, offset) = (usize::from(start), usize::from(offset));
                    let found = checksum::transport(bytes);
                    let usual = found.is_some_and(|(at, protocol)| {
                        at == start && checksum::field(protocol) == Some(offset)
                    });
                    if start + offset + 2 > bytes.len()
                        || !usual && !checksum::complete_at(bytes, start, offset)
                    {
                        return None;
                    }
                    usual
                }
            };
            return Some(Self { bytes, several: None, partial });
        };
        let layout = Self::layout(bytes, several)?;
        // A frame of one segment is the datagram itself, with its checksum still partial.
        Some(Self { bytes, several: Some(layout), partial: true })
    }

    fn layout(bytes: &[u8], Several { udp, size, .. }: Several) -> Option<Layout> {
        let (transport, protocol) = checksum::transport(bytes)?;
        let header = match (udp, protocol) {
            (true, UDP) => transport + 8,
            (false, TCP) => {
                let length = usize::from(bytes.get(transport + 12)? >> 4) * 4;
                if length < 20 {
                    return None;
                }
                transport + length
            }
            _ => return None,
        };
        let size = usize::from(size);
        let payload = bytes.len().checked_sub(header)?;
        if size == 0 || payload == 0 || payload.div_ceil(size) > MOST || header + size > usize::from(u16::MAX)
        {
            return None;
        }
        let v4 = bytes.first()? >> 4 == 4;
        let common = [0..2, 6..10, 12..transport];
        let part = |range: Range<usize>| bytes.get(range).map_or(0, checksum::sum);
        let network = if v4 { common.into_iter().map(part).sum() } else { 0 };
        let pseudo = checksum::pseudo(bytes, protocol, 0);
        Some(Layout { udp, transport, header, size, network, pseudo })
    }

    /// The frame as it was read: its first bytes are the headers.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many datagrams there are.
    pub fn count(&self) -> usize {
        self.several.map_or(1, |l| (self.bytes.len() - l.header).div_ceil(l.size))
    }

    /// The length of one of them; 0 where there is none.
    pub fn length(&self, at: usize) -> usize {
        match self.several {
            None => self.bytes.len(),
            Some(l) => {
                let left = self.bytes.len().saturating_sub(l.header + at.saturating_mul(l.size));
                if left == 0 { 0 } else { l.header + left.min(l.size) }
            }
        }
    }

    /// Writes one of them into `out`, which has its length.
    pub fn write(&self, at: usize, out: &mut [u8]) {
        let Some(layout) = self.several else {
            out.copy_from_slice(self.bytes);
            return;
        };
        let (Some((header, payload)), Some(from)) =
            (out.split_at_mut_checked(layout.header), self.bytes.get(layout.header + at * layout.size..))
        else {
            return;
        };
        let (Some(from), Some(original)) = (from.get(..payload.len()), self.bytes.get(..layout.header))
        else {
            return;
        };
        payload.copy_from_slice(from);
        header.copy_from_slice(original);
        let last = at + 1 == self.count();
        finish(header, layout, at, payload.len(), last);
    }
}

/// Makes a copy of the common header that of one datagram.
fn finish(header: &mut [u8], layout: Layout, at: usize, payload: usize, last: bool) {
    let length = header.len() + payload;
    let segment = length - layout.transport;
    let put = |header: &mut [u8], at: usize, value: u16| {
        if let Some(field) = header.get_mut(at..at + 2) {
            field.copy_from_slice(&value.to_be_bytes());
        }
    };
    if header.first().is_some_and(|b| b >> 4 == 4) {
        put(header, 2, length as u16);
        let id = header.get(4..6).and_then(|i| i.try_into().ok()).map_or(0, u16::from_be_bytes);
        let id = id.wrapping_add(at as u16);
        put(header, 4, id);
        put(header, 10, !checksum::fold(layout.network + length as u64 + u64::from(id)));
    } else {
        put(header, 4, segment as u16);
    }
    let partial = checksum::fold(layout.pseudo + segment as u64);
    let Some(transport) = header.get_mut(layout.transport..) else { return };
    if layout.udp {
        put(transport, 4, segment as u16);
        put(transport, 6, partial);
        return;
    }
    put(transport, 16, partial);
    if let Some(field) = transport.get_mut(4..8) {
        let first = field.first_chunk().copied().map_or(0, u32::from_be_bytes);
        field.copy_from_slice(&first.wrapping_add((at * layout.size) as u32).to_be_bytes());
    }
    if let Some(flags) = transport.get_mut(13) {
        const CWR: u8 = 0x80;
        const PSH_FIN: u8 = 0x09;
        if at > 0 {
            *flags &= !CWR;
        }
        if !last {
            *flags &= !PSH_FIN;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A frame of TCP as a host with offload hands it over.
    pub fn tcp_frame(v6: bool, payload: usize) -> Vec<u8> {
        let mut out = if v6 { vec![0x60; 40] } else { vec![0x45; 20] };
        let start = out.len();
        if v6 {
            out[..8].copy_from_slice(&[0x60, 2, 0, 0, 0, 0, TCP, 64]);
            out[4..6].copy_from_slice(&((32 + payload) as u16).to_be_bytes());
            out[8..40].copy_from_slice(&[0xfd; 32]);
            out[39] = 2;
        } else {
            out[1] = 2;
            out[2..4].copy_from_slice(&((52 + payload) as u16).to_be_bytes());
            out[4..12].copy_from_slice(&[0xff, 0xfe, 0x40, 0, 64, TCP, 0, 0]);
            out[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
            checksum::seal_header(&mut out);
        }
        out.extend([
            0x12, 0x34, 0x00, 0x50, 0xff, 0xff, 0xff, 0x00, 0, 0, 0, 9, 0x80, 0x99, 4, 0, 0, 0, 0, 0,
        ]);
        out.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        out.extend((0..payload).map(|n| (n / 3) as u8));
        let partial = checksum::fold(checksum::pseudo(&out, TCP, out.len() - start));
        out[start + 16..start + 18].copy_from_slice(&partial.to_be_bytes());
        out
    }

    pub fn several(udp: bool, size: u16) -> Offload {
        Offload { partial: Some((0, 0)), several: Some(Several { udp, size, header: 0 }) }
    }

    /// All datagrams of a frame, with their checksums completed.
    fn split(mut bytes: Vec<u8>, offload: Offload) -> Vec<Vec<u8>> {
        let frame = Frame::read(&mut bytes, offload).unwrap();
        (0..frame.count())
            .map(|at| {
                let mut out = vec![0; frame.length(at)];
                frame.write(at, &mut out);
                if frame.partial {
                    assert!(checksum::complete(&mut out));
                }
                out
            })
            .collect()
    }

    #[test]
    fn a_stream_is_cut_into_right_segments() {
        for v6 in [false, true] {
            let start = if v6 { 40 } else { 20 };
            let frame = tcp_frame(v6, 3_000);
            let segments = split(frame.clone(), several(false, 1_400));
            assert_eq!(segments.len(), 3);
            let mut payload = Vec::<u8>::new();
            for (at, segment) in segments.iter().enumerate() {
                assert!(checksum::is_right(segment, start, TCP));
                if !v6 {
                    assert_eq!(checksum::fold(checksum::sum(&segment[..20])), 0xffff);
                    let id = u16::from_be_bytes([segment[4], segment[5]]);
                    assert_eq!(id, 0xfffe_u16.wrapping_add(at as u16));
                }
                let length = if v6 { &segment[4..6] } else { &segment[2..4] };
                let length = usize::from(u16::from_be_bytes(length.try_into().unwrap()));
                assert_eq!(length, segment.len() - if v6 { 40 } else { 0 });
                let sequence = u32::from_be_bytes(segment[start + 4..start + 8].try_into().unwrap());
                assert_eq!(sequence, 0xffff_ff00_u32.wrapping_add(at as u32 * 1_400));
                let flags = [0x90, 0x10, 0x19][at];
                assert_eq!(segment[start + 13], flags, "CWR first, PSH and FIN last");
                payload.extend(&segment[start + 32..]);
            }
            assert_eq!(payload, frame[start + 32..]);
        }
    }

    #[test]
    fn datagrams_of_udp() {
        let mut frame = crate::inner::wrap(&[7; 250]);
        let partial = checksum::fold(checksum::pseudo(&frame, UDP, frame.len() - 40));
        frame[46..48].copy_from_slice(&partial.to_be_bytes());
        let datagrams = split(frame, several(true, 100));
        assert_eq!(datagrams.iter().map(Vec::len).collect::<Vec<_>>(), [148, 148, 98]);
        for datagram in datagrams {
            assert!(checksum::is_right(&datagram, 40, UDP));
            assert_eq!(usize::from(datagram[45]), datagram.len() - 40);
        }
    }

    #[test]
    fn a_single_datagram_stays_as_it_is() {
        let bytes = tcp_frame(false, 100);
        let mut copy = bytes.clone();
        let partial = Offload { partial: Some((20, 16)), several: None };
        let frame = Frame::read(&mut copy, partial).unwrap();
        assert!(frame.partial && frame.count() == 1);
        let mut out = vec![0; frame.length(0)];
        frame.write(0, &mut out);
        assert_eq!(out, bytes);
        // A checksum that the other end would not find is completed here.
        let mut other = bytes.clone();
        other[9] = 132;
        let odd = Offload { partial: Some((20, 8)), several: None };
        assert!(Frame::read(&mut other, odd).is_some_and(|f| !f.partial));
        assert_ne!(other, bytes);
    }

    #[test]
    fn nonsense_is_refused() {
        let bytes = tcp_frame(false, 3_000);
        for offload in [several(true, 1_400), several(false, 0), several(false, 1), several(false, 65_500)] {
            assert!(Frame::read(&mut bytes.clone(), offload).is_none(), "{offload:?}");
        }
        for partial in [(65_535, 65_535), (3_051, 0), (3_040, 16)] {
            let offload = Offload { partial: Some(partial), several: None };
            assert!(Frame::read(&mut bytes.clone(), offload).is_none(), "{offload:?}");
        }
        for (at, value) in [(0, 0x41), (0, 0x25), (9, UDP), (6, 0x20), (32, 0x10), (32, 0xf0)] {
            let mut bent = bytes.clone();
            bent[at] = value;
            let frame = Frame::read(&mut bent, several(false, 1_400));
            assert!(frame.is_none() || (at, value) == (32, 0xf0), "{at}: {value:#x}");
        }
        for end in 0..200.min(bytes.len()) {
            for udp in [false, true] {
                let mut cut = bytes[..end].to_vec();
                if let Some(frame) = Frame::read(&mut cut, several(udp, 7)) {
                    for at in 0..frame.count() {
                        frame.write(at, &mut vec![0; frame.length(at)]);
                    }
                }
            }
        }
    }
}
