//! The header that a TUN device puts before each frame (`struct virtio_net_hdr`, virtio 1.2, 5.1.6): how the frame is
//! to be cut into datagrams, and which checksum is still to be completed.

use mast_engine::os::{Offload, Several};

/// Its length in bytes.
pub(super) const HEADER: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const NONE: u8 = 0;
const TCP_V4: u8 = 1;
const TCP_V6: u8 = 4;
const UDP: u8 = 5;
/// The stream uses congestion marks.
const ECN: u8 = 0x80;

/// What a frame's header says.
pub(super) fn decode(header: &[u8; HEADER]) -> Offload {
    let word = |at: usize| {
        let bytes = header.get(at..at + 2).and_then(|b| b.try_into().ok());
        bytes.map_or(0, u16::from_ne_bytes)
    };
    let [flags, kind, ..] = *header;
    let several = match kind & !ECN {
        NONE => None,
        kind => Some(Several {
            udp: kind == UDP,
            // What is of neither kind was never asked for; a size of zero makes it be dropped.
            size: if matches!(kind, TCP_V4 | TCP_V6 | UDP) { word(4) } else { 0 },
            header: word(2),
        }),
    };
    Offload { partial: (flags & NEEDS_CHECKSUM != 0).then(|| (word(6), word(8))), several }
}

/// The header of a frame that goes to the host.
pub(super) fn encode(offload: Offload, v6: bool) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    let (mut kind, mut length, mut size) = (NONE, 0, 0);
    if let Some(several) = offload.several {
        kind = match (several.udp, v6) {
            (true, _) => UDP,
            (false, false) => TCP_V4,
            (false, true) => TCP_V6,
        };
        (length, size) = (several.header, several.size);
    }
    let (start, offset) = offload.partial.unwrap_or_default();
    out[0] = if offload.partial.is_some() { NEEDS_CHECKSUM } else { 0 };
    out[1] = kind;
    for (at, value) in [(2, length), (4, size), (6, start), (8, offset)] {
        if let Some(field) = out.get_mut(at..at + 2) {
            field.copy_from_slice(&value.to_ne_bytes());
        }
    }
    out
}

/// How many of the better offloads are left unused: 0 for none, and 3 for all of them. For looking at how an older kernel
/// would do.
pub(super) fn limit() -> u8 {
    std::env::var("MAST_OFFLOADS").ok().map_or(0, |value| match value.as_str() {
        "tcp" => 1,
        "checksum" => 2,
        "none" => 3,
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let partial = Some((20, 16));
        for (several, v6) in [
            (None, false),
            (Some(Several { udp: false, size: 1_360, header: 52 }), false),
            (Some(Several { udp: false, size: 1_340, header: 72 }), true),
            (Some(Several { udp: true, size: 1_200, header: 48 }), true),
        ] {
            let offload = Offload { partial, several };
            assert_eq!(decode(&encode(offload, v6)), offload);
        }
        assert_eq!(decode(&[0; HEADER]), Offload::default());
        let odd = decode(&[0, 3, 1, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(odd.several.map(|s| s.size), Some(0));
    }
}
