//! The virtual interface: two rings, of which a thread waits for the host's.
//!
//! The host takes a frame of up to 64 KiB whatever the MTU, about as quickly as a single datagram, so that segments of one
//! stream of TCP go to it as one; but it reads whole datagrams alone, so that the checksum is completed here. What it
//! hands over itself is one datagram a frame.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::thread;

use mast_engine::checksum;
use mast_engine::os::{Offload, Offloads, Tun};
use tokio::sync::Notify;

use super::Own;
use super::system::{Ring, WHOLE};

/// Headers in bytes: those of IPv6 and of TCP with all its options.
const HEADERS: usize = 100;
/// The most parts of a frame: the headers, the rest of the first part, and one for each segment.
const PARTS: usize = 66;

/// A virtual interface. It goes when this is dropped.
#[derive(Debug)]
pub struct WindowsTun<R: Ring> {
    ring: Arc<R>,
    ready: Arc<Notify>,
    own: Own,
    waiting: Option<thread::JoinHandle<()>>,
}

impl<R: Ring> WindowsTun<R> {
    pub(super) fn new(ring: R, own: Own) -> io::Result<Self> {
        let (ring, ready) = (Arc::new(ring), Arc::new(Notify::new()));
        super::locked(&own).insert(ring.luid());
        let mut made = Self { ring, ready, own, waiting: None };
        let (waiting, ready) = (Arc::clone(&made.ring), Arc::clone(&made.ready));
        let wait = move || {
            while waiting.wait() {
                ready.notify_one();
                // Not again at once, while what was told of is taken: the ring's event stays set until it is empty.
                thread::yield_now();
            }
            // Whoever reads finds out why.
            ready.notify_one();
        };
        made.waiting = Some(thread::Builder::new().name("mast-adapter".to_owned()).spawn(wait)?);
        Ok(made)
    }
}

impl<R: Ring> Drop for WindowsTun<R> {
    fn drop(&mut self) {
        self.ring.end();
        // The adapter goes with the last who holds it; and its name is free again when this returns.
        if let Some(waiting) = self.waiting.take() {
            let _ = waiting.join();
        }
        super::locked(&self.own).remove(&self.ring.luid());
    }
}

impl<R: Ring> Tun for WindowsTun<R> {
    fn name(&self) -> &str {
        self.ring.name()
    }

    fn offloads(&self) -> Offloads {
        Offloads { checksum: true, tcp: true, udp: false }
    }

    async fn readable(&self) -> io::Result<()> {
        self.ready.notified().await;
        Ok(())
    }

    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, Offload)> {
        let taken = self.ring.take(buffer);
        if taken.is_ok() {
            // There may be more; the next wait must not miss it.
            self.ready.notify_one();
        }
        Ok((taken?, WHOLE))
    }

    fn try_send(&self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<()> {
        // Many datagrams of UDP in one would be one to the host.
        if offload.several.is_some_and(|several| several.udp) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match offload.partial {
            Some(place) => {
                self.complete(parts, place).unwrap_or_else(|| Err(io::ErrorKind::InvalidInput.into()))
            }
            None => self.ring.give(parts),
        }
    }
}

impl<R: Ring> WindowsTun<R> {
    /// Gives the host a frame whose checksum is completed. `None` where it has no place in the first part.
    fn complete(&self, parts: &[IoSlice<'_>], (start, offset): (u16, u16)) -> Option<io::Result<()>> {
        let (start, field) = (usize::from(start), usize::from(start) + usize::from(offset));
        let (first, others) = parts.split_first()?;
        let mut head = [0; HEADERS];
        let (headers, rest) = first.split_at_checked(field + 2)?;
        let head = head.get_mut(..headers.len())?;
        head.copy_from_slice(headers);
        let others_bytes = others.iter().map(|part| &**part);
        let sum = checksum::of_parts([first.get(start..)?].into_iter().chain(others_bytes));
        // Zero would mean "no checksum" to UDP, and to TCP both mean the same (RFC 768).
        let sum = if sum == 0 { 0xffff } else { sum };
        head.get_mut(field..)?.copy_from_slice(&sum.to_be_bytes());
        let mut all = [IoSlice::new(&[]); PARTS];
        let used = all.get_mut(..others.len() + 2)?;
        for (slice, part) in
            used.iter_mut().zip([&*head, rest].into_iter().chain(others.iter().map(|part| &**part)))
        {
            *slice = IoSlice::new(part);
        }
        Some(self.ring.give(used))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use mast_engine::os::Several;

    use super::*;

    #[derive(Debug, Default)]
    struct Taker {
        frames: Mutex<Vec<Vec<u8>>>,
        ended: AtomicBool,
    }

    impl Ring for Taker {
        fn take(&self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }
        fn give(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
            self.frames.lock().unwrap().push(parts.iter().flat_map(|part| part.iter().copied()).collect());
            Ok(())
        }
        fn wait(&self) -> bool {
            thread::yield_now();
            !self.ended.load(Ordering::Relaxed)
        }
        fn end(&self) {
            self.ended.store(true, Ordering::Relaxed);
        }
        fn name(&self) -> &str {
            "mast0"
        }
        fn luid(&self) -> u64 {
            7
        }
    }

    /// RFC 1071, word by word.
    fn folded(bytes: &[u8]) -> u16 {
        let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        let mut sum: u32 = bytes.chunks(2).map(word).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    /// Headers with the sum of the pseudo header where the checksum shall be, and where that is.
    fn headers(v6: bool, protocol: u8, payload: usize) -> (Vec<u8>, (u16, u16)) {
        let (own, offset) = if protocol == 6 { (32, 16) } else { (8, 6) };
        let ip = if v6 { 40 } else { 20 };
        let mut bytes: Vec<u8> = (0..ip + own).map(|at| (at * 37) as u8).collect();
        bytes[0] = if v6 { 0x60 } else { 0x45 };
        let addresses = bytes[if v6 { 8..40 } else { 12..20 }].to_vec();
        let length = u16::try_from(own + payload).unwrap().to_be_bytes();
        let pseudo = folded(&[addresses, length.to_vec(), vec![0, protocol]].concat());
        bytes[ip + offset..ip + offset + 2].copy_from_slice(&pseudo.to_be_bytes());
        (bytes, (u16::try_from(ip).unwrap(), u16::try_from(offset).unwrap()))
    }

    /// What a host makes of it: the sum over all of the segment, its pseudo header included, must be all ones.
    fn is_right(frame: &[u8], v6: bool, protocol: u8) -> bool {
        let ip = if v6 { 40 } else { 20 };
        let addresses = frame[if v6 { 8..40 } else { 12..20 }].to_vec();
        let length = u16::try_from(frame.len() - ip).unwrap().to_be_bytes();
        folded(&[addresses, length.to_vec(), vec![0, protocol], frame[ip..].to_vec()].concat()) == 0xffff
    }

    #[test]
    fn a_host_that_reads_whole_datagrams_alone_gets_right_checksums() {
        let tun = WindowsTun::new(Taker::default(), Own::default()).unwrap();
        for v6 in [false, true] {
            // Segments of odd and even lengths, so that parts begin at odd places.
            for sizes in [vec![1400; 40], vec![1399; 45], vec![1, 2, 3, 5], vec![64]] {
                let payload: Vec<u8> =
                    (0..sizes.iter().sum()).map(|at: usize| (at * 7 % 251) as u8).collect();
                let (head, place) = headers(v6, 6, payload.len());
                let mut parts = vec![IoSlice::new(&head)];
                let mut at = 0;
                for size in &sizes {
                    parts.push(IoSlice::new(&payload[at..at + size]));
                    at += size;
                }
                let header = u16::try_from(head.len()).unwrap();
                let several = Some(Several { udp: false, size: sizes[0] as u16, header });
                tun.try_send(&parts, Offload { partial: Some(place), several }).unwrap();
                let frame = tun.ring.frames.lock().unwrap().pop().unwrap();
                assert!(is_right(&frame, v6, 6), "{v6} {sizes:?}");
                assert_eq!(frame.len(), head.len() + payload.len());
                assert_eq!(frame[head.len()..], payload);
                // But for the checksum the headers are as they were.
                let field = usize::from(place.0 + place.1);
                assert_eq!(
                    (&frame[..field], &frame[field + 2..head.len()]),
                    (&head[..field], &head[field + 2..])
                );
            }
            // One datagram of either protocol, in one part; a sum of zero is sent as all ones.
            for (protocol, payload) in [(6, &b"segment"[..]), (17, b"datagram"), (17, b"odd")] {
                let (head, place) = headers(v6, protocol, payload.len());
                let whole = [head, payload.to_vec()].concat();
                tun.try_send(&[IoSlice::new(&whole)], Offload { partial: Some(place), several: None })
                    .unwrap();
                assert!(is_right(&tun.ring.frames.lock().unwrap().pop().unwrap(), v6, protocol));
            }
            let (mut head, place) = headers(v6, 17, 2);
            let missing = 0xffff - folded(&head[usize::from(place.0)..]);
            head.extend(missing.to_be_bytes());
            tun.try_send(&[IoSlice::new(&head)], Offload { partial: Some(place), several: None }).unwrap();
            let frame = tun.ring.frames.lock().unwrap().pop().unwrap();
            let field = usize::from(place.0 + place.1);
            assert_eq!(frame[field..field + 2], [0xff, 0xff]);
        }
    }

    #[test]
    fn what_the_host_would_not_understand_is_refused() {
        let tun = WindowsTun::new(Taker::default(), Own::default()).unwrap();
        assert_eq!(tun.offloads(), Offloads { checksum: true, tcp: true, udp: false });
        let (head, place) = headers(true, 17, 20);
        let several = Some(Several { udp: true, size: 10, header: 48 });
        let parts = [IoSlice::new(&head), IoSlice::new(&[1; 10]), IoSlice::new(&[2; 10])];
        let refused = tun.try_send(&parts, Offload { partial: Some(place), several }).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        // A place that is not in the headers.
        for place in [(40, 70), (u16::MAX, 6), (40, 200)] {
            let offload = Offload { partial: Some(place), several: None };
            assert_eq!(
                tun.try_send(&parts, offload).unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{place:?}"
            );
        }
        let too_many = vec![IoSlice::new(&head); PARTS];
        let offload = Offload { partial: Some(place), several: None };
        assert_eq!(tun.try_send(&too_many, offload).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(tun.ring.frames.lock().unwrap().is_empty());
    }
}
