//! The thread that carries a link's packets from one end to the other.

use std::{
    collections::VecDeque,
    io,
    os::fd::AsFd,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{errno::Errno, sys::prctl};

use crate::{
    packet::{BATCH, Frame, PacketSocket},
    profile::{DirectionStats, LinkProfile},
    random::Random,
    wake::Wake,
};

/// No link holds more packets than this in one direction, whatever its profile.
const MOST_IN_FLIGHT: usize = 1 << 16;
const ETHERNET_HEADER: usize = 14;

/// What a direction is told to do.
#[derive(Clone)]
struct Orders {
    profile: LinkProfile,
    discard: bool,
}

#[derive(Default)]
struct Counters {
    packets: AtomicU64,
    bytes: AtomicU64,
    lost: AtomicU64,
    queue_full: AtomicU64,
    discarded: AtomicU64,
    undeliverable: AtomicU64,
    overrun: AtomicU64,
}

fn count(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// What the emulator's thread shares with the link's handles.
pub(crate) struct Emulator {
    /// The ends: direction `i` goes from socket `i` to the other.
    sockets: [PacketSocket; 2],
    orders: Mutex<[Orders; 2]>,
    changed: AtomicBool,
    wake: Wake,
    counters: [Counters; 2],
}

impl Emulator {
    pub(crate) fn new(sockets: [PacketSocket; 2], profile: &LinkProfile) -> io::Result<Self> {
        let orders = Orders { profile: profile.clone(), discard: false };
        Ok(Self {
            sockets,
            orders: Mutex::new([orders.clone(), orders]),
            changed: AtomicBool::new(false),
            wake: Wake::new()?,
            counters: Default::default(),
        })
    }

    pub(crate) fn set_profile(&self, direction: usize, profile: &LinkProfile) {
        self.order(|orders| orders[direction].profile = profile.clone());
    }

    pub(crate) fn set_discard(&self, discard: [bool; 2]) {
        self.order(|orders| {
            orders[0].discard = discard[0];
            orders[1].discard = discard[1];
        });
    }

    fn order(&self, change: impl FnOnce(&mut [Orders; 2])) {
        change(&mut self.orders.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.store(true, Ordering::Release);
        self.wake.wake();
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.wake.stop();
    }

    pub(crate) fn stats(&self, direction: usize) -> DirectionStats {
        let counters = &self.counters[direction];
        count(&counters.overrun, self.sockets[direction].overruns());
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DirectionStats {
            packets: read(&counters.packets),
            bytes: read(&counters.bytes),
            lost: read(&counters.lost),
            queue_full: read(&counters.queue_full),
            discarded: read(&counters.discarded),
            undeliverable: read(&counters.undeliverable),
            overrun: read(&counters.overrun),
        }
    }

    /// The body of the thread; returns after [`stop`](Self::stop).
    pub(crate) fn run(&self, seed: u64) {
        // Timers are precise by default to 50 microseconds only; without this they are merely less so.
        let _ = prctl::set_timerslack(1);
        let now = Instant::now();
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let [first, second] = orders;
        let mut lanes = [Lane::new(first, now, seed), Lane::new(second, now, seed ^ 0x5555_5555)];
        let mut frames: Vec<Frame> = (0..BATCH).map(|_| Frame::new()).collect();
        let mut pool = Vec::new();
        while !self.wake.stopped() {
            if self.changed.swap(false, Ordering::AcqRel) {
                let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner).clone();
                for (lane, orders) in lanes.iter_mut().zip(orders) {
                    lane.obey(orders, Instant::now());
                }
            }
            let mut more = false;
            for (i, lane) in lanes.iter_mut().enumerate() {
                match lane.take(&self.sockets[i], &self.counters[i], &mut frames, &mut pool) {
                    Ok(full) => more |= full,
                    // An end that is down; it may come back.
                    Err(Errno::ENETDOWN) => more = true,
                    // The interface is gone for good.
                    Err(Errno::ENODEV | Errno::ENXIO) => return,
                    Err(_) => {}
                }
                more |= lane.deliver(&self.sockets[1 - i], &self.counters[i], &mut pool);
            }
            if !more {
                let due = lanes.iter().filter_map(Lane::next_due).min();
                self.wake.wait([self.sockets[0].as_fd(), self.sockets[1].as_fd()], due);
            }
        }
    }
}

/// A packet on its way.
struct Flying {
    due: Instant,
    frame: Frame,
}

/// One direction of a link.
struct Lane {
    orders: Orders,
    random: Random,
    /// In order of `due`, except that neighbour discovery goes to the front.
    queue: VecDeque<Flying>,
    /// When the rate limit has sent everything accepted so far.
    free_at: Instant,
    last_due: Instant,
}

impl Lane {
    fn new(orders: Orders, now: Instant, seed: u64) -> Self {
        Self { orders, random: Random::new(seed), queue: VecDeque::new(), free_at: now, last_due: now }
    }

    /// Takes new orders; packets already on their way keep their time.
    fn obey(&mut self, orders: Orders, now: Instant) {
        let backlog = self.free_at.saturating_duration_since(now);
        if let (Some(old), Some(new)) = (self.orders.profile.rate_bps, orders.profile.rate_bps) {
            self.free_at = now + backlog.mul_f64(old as f64 / new.max(1) as f64);
        } else {
            self.free_at = now;
        }
        self.orders = orders;
    }

    fn next_due(&self) -> Option<Instant> {
        self.queue.front().map(|flying| flying.due)
    }

    /// Reads what has arrived; true if there may be more.
    fn take(
        &mut self,
        socket: &PacketSocket,
        counters: &Counters,
        frames: &mut [Frame],
        pool: &mut Vec<Frame>,
    ) -> nix::Result<bool> {
        let received = socket.receive(frames)?;
        let now = Instant::now();
        for frame in &mut frames[..received] {
            let express = is_neighbour_discovery(frame.bytes());
            if let Some(due) = self.admit(frame.bytes(), express, now, counters) {
                let frame = std::mem::replace(frame, pool.pop().unwrap_or_else(Frame::new));
                let flying = Flying { due, frame };
                if express {
                    self.queue.push_front(flying);
                } else {
                    self.queue.push_back(flying);
                }
            }
        }
        Ok(received == BATCH)
    }

    /// Decides when a packet is to arrive, if at all.
    fn admit(&mut self, frame: &[u8], express: bool, now: Instant, counters: &Counters) -> Option<Instant> {
        let profile = &self.orders.profile;
        if self.orders.discard {
            count(&counters.discarded, 1);
            return None;
        }
        let too_long = profile.max_packet.is_some_and(|longest| frame.len() > longest + ETHERNET_HEADER);
        if frame.len() < ETHERNET_HEADER || too_long {
            count(&counters.undeliverable, 1);
            return None;
        }
        if express {
            return Some(now);
        }
        if profile.loss > 0.0 && self.random.fraction() < profile.loss {
            count(&counters.lost, 1);
            return None;
        }
        let mut leaves = now;
        if let Some(rate) = profile.rate_bps {
            let rate = rate.max(1) as f64;
            let waiting = self.free_at.saturating_duration_since(now).as_secs_f64() * rate / 8.0;
            if waiting + frame.len() as f64 > profile.queue_bytes.max(frame.len()) as f64 {
                count(&counters.queue_full, 1);
                return None;
            }
            leaves = self.free_at.max(now) + Duration::from_secs_f64(frame.len() as f64 * 8.0 / rate);
            self.free_at = leaves;
        }
        if self.queue.len() >= MOST_IN_FLIGHT {
            count(&counters.queue_full, 1);
            return None;
        }
        let due =
            (leaves + profile.delay + profile.jitter.mul_f64(self.random.fraction())).max(self.last_due);
        self.last_due = due;
        Some(due)
    }

    /// Sends what is due; true if there is more.
    fn deliver(&mut self, socket: &PacketSocket, counters: &Counters, pool: &mut Vec<Frame>) -> bool {
        let now = Instant::now();
        let due = self.queue.iter().take(BATCH).take_while(|flying| flying.due <= now).count();
        if due == 0 {
            return false;
        }
        let frames = self.queue.iter().take(due).map(|flying| &flying.frame);
        let sent = match socket.send(frames) {
            Ok(sent) => sent,
            Err(Errno::EAGAIN) => return true,
            Err(_) => 0,
        };
        for flying in self.queue.drain(..sent) {
            count(&counters.packets, 1);
            count(&counters.bytes, flying.frame.bytes().len() as u64);
            pool.push(flying.frame);
        }
        if sent == 0
            && let Some(flying) = self.queue.pop_front()
        {
            count(&counters.undeliverable, 1);
            pool.push(flying.frame);
        }
        true
    }
}

/// Whether a frame is ARP, or IPv6 router or neighbour discovery.
fn is_neighbour_discovery(frame: &[u8]) -> bool {
    const ICMPV6: u8 = 58;
    match frame.get(12..14) {
        Some([0x08, 0x06]) => true,
        Some([0x86, 0xdd]) => {
            frame.get(20) == Some(&ICMPV6) && frame.get(54).is_some_and(|kind| (133..=136).contains(kind))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(profile: LinkProfile, now: Instant) -> Lane {
        Lane::new(Orders { profile, discard: false }, now, 7)
    }

    #[test]
    fn packets_keep_their_order_under_jitter() {
        let now = Instant::now();
        let profile = LinkProfile::delay(Duration::from_millis(5)).with_jitter(Duration::from_millis(20));
        let mut lane = lane(profile, now);
        let mut last = now;
        for i in 0..1000 {
            let due = lane
                .admit(&[0; 100], false, now + Duration::from_micros(i * 10), &Counters::default())
                .unwrap();
            assert!(due >= last);
            last = due;
        }
    }

    #[test]
    fn a_full_queue_drops_the_newest() {
        let now = Instant::now();
        let mut lane = lane(LinkProfile::default().with_rate(8_000_000, 10_000), now);
        let counters = Counters::default();
        let admitted = (0..20).filter(|_| lane.admit(&[0; 1000], false, now, &counters).is_some()).count();
        assert_eq!(admitted, 10);
        assert_eq!(counters.queue_full.into_inner(), 10);
        assert_eq!(lane.free_at, now + Duration::from_millis(10));
    }

    #[test]
    fn neighbour_discovery_is_recognised() {
        let mut frame = [0; 60];
        assert!(!is_neighbour_discovery(&frame));
        (frame[12], frame[13]) = (0x08, 0x06);
        assert!(is_neighbour_discovery(&frame));
        (frame[12], frame[13], frame[20], frame[54]) = (0x86, 0xdd, 58, 135);
        assert!(is_neighbour_discovery(&frame));
        frame[54] = 128;
        assert!(!is_neighbour_discovery(&frame));
    }
}
