//! Links between hosts.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use crate::{
    emulator::Emulator,
    error::{Context, Result},
    ethtool::disable_offloads,
    host::Host,
    namespace::Namespace,
    packet::PacketSocket,
    profile::{LinkProfile, LinkStats},
    route::{self, End},
};

/// A direction of a link: its ends are called a and b in the order given to [`Lab::link`](crate::Lab::link).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first end to the second.
    AToB,
    /// From the second end to the first.
    BToA,
}

/// A link between two hosts whose delay, loss, rate and carrier can be changed while it carries packets.
///
/// Clones are handles to the same link, which exists until the lab is dropped, or until
/// [`remove`](Self::remove).
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

struct Inner {
    /// Each end's host and interface.
    ends: [(Host, String); 2],
    wire: Arc<Namespace>,
    /// The other sides of the ends' interfaces, in the wire namespace.
    hidden: [String; 2],
    emulator: Arc<Emulator>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Link {
    /// Builds a link; `number` makes its hidden interfaces unique within the wire namespace. An end is its host, and
    /// the name and the number of its interface; the kernel chooses for a number of 0.
    pub(crate) fn new(
        wire: &Arc<Namespace>,
        number: u32,
        a: (&Host, &str, u32),
        b: (&Host, &str, u32),
        profile: &LinkProfile,
        seed: u64,
    ) -> Result<Self> {
        let hidden = [format!("l{number}a"), format!("l{number}b")];
        // Indices unlike those of hosts: the kernel reports a loss of carrier at once only if an
        // interface's index differs from its peer's, and up to a second later otherwise.
        let indices = [1000 + 2 * number, 1001 + 2 * number];
        for (((host, interface, number), name), index) in [a, b].into_iter().zip(&hidden).zip(indices) {
            wire.netlink(|netlink| {
                let near = End { name, index, namespace: &**wire };
                let far = End { name: interface, index: number, namespace: &**host.namespace() };
                route::create_pair(netlink, near, far)
            })?;
            let name = name.clone();
            wire.run(|| disable_offloads(&name))??;
            prepare(host, interface)?;
            wire.netlink(|netlink| route::set_up(netlink, &name, true))?;
        }
        let open = |index| PacketSocket::open(index).context("open a packet socket");
        let [first, second] = indices;
        let sockets = wire.run(|| Ok([open(first)?, open(second)?]))??;
        let emulator = Arc::new(Emulator::new(sockets, profile).context("set up a link")?);
        let runner = Arc::clone(&emulator);
        let thread = thread::Builder::new()
            .name(format!("link {}", a.1))
            .spawn(move || {
                before_others();
                runner.run(seed);
            })
            .context("start a link's thread")?;
        Ok(Self {
            inner: Arc::new(Inner {
                ends: [(a.0.clone(), a.1.to_owned()), (b.0.clone(), b.1.to_owned())],
                wire: Arc::clone(wire),
                hidden,
                emulator,
                thread: Mutex::new(Some(thread)),
            }),
        })
    }

    /// Changes the link's profile in both directions; packets already on their way keep their time.
    pub fn set_profile(&self, profile: &LinkProfile) {
        self.set_profile_towards(Direction::AToB, profile);
        self.set_profile_towards(Direction::BToA, profile);
    }

    /// Changes the profile of one direction.
    pub fn set_profile_towards(&self, direction: Direction, profile: &LinkProfile) {
        self.inner.emulator.set_profile(direction as usize, profile);
    }

    /// Silently discards everything that enters the link in the chosen directions, address resolution
    /// included.
    pub fn set_drop(&self, a_to_b: bool, b_to_a: bool) {
        self.inner.emulator.set_discard([a_to_b, b_to_a]);
    }

    /// Gives or takes the carrier of both ends, and returns when their hosts' kernels have noticed; the
    /// administrative state stays.
    pub fn set_carrier(&self, carrier: bool) -> Result<()> {
        self.set_carrier_a(carrier)?;
        self.set_carrier_b(carrier)
    }

    /// Gives or takes the carrier of the first end.
    pub fn set_carrier_a(&self, carrier: bool) -> Result<()> {
        self.inner.set_carrier(0, carrier)
    }

    /// Gives or takes the carrier of the second end.
    pub fn set_carrier_b(&self, carrier: bool) -> Result<()> {
        self.inner.set_carrier(1, carrier)
    }

    /// What the link has carried and dropped since it was made.
    pub fn stats(&self) -> LinkStats {
        let emulator = &self.inner.emulator;
        LinkStats { a_to_b: emulator.stats(0), b_to_a: emulator.stats(1) }
    }

    /// Deletes the interfaces of both ends, as when an adapter is pulled out. The link is then useless.
    pub fn remove(&self) -> Result<()> {
        self.inner.stop();
        for name in &self.inner.hidden {
            self.inner.wire.netlink(|netlink| route::delete_link(netlink, name))?;
        }
        Ok(())
    }

    /// Ends the thread that carries packets.
    pub(crate) fn stop(&self) {
        self.inner.stop();
    }
}

/// Readies a new interface of a host.
pub(crate) fn prepare(host: &Host, interface: &str) -> Result<()> {
    host.run(|| disable_offloads(interface))??;
    host.set_up(interface, true)
}

impl Inner {
    fn set_carrier(&self, end: usize, carrier: bool) -> Result<()> {
        self.wire.netlink(|netlink| route::set_up(netlink, &self.hidden[end], carrier))?;
        let (host, interface) = &self.ends[end];
        host.settle(interface, carrier);
        Ok(())
    }

    fn stop(&self) {
        self.emulator.stop();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic there has been printed already, and there is nothing left to save.
            let _ = thread.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(a, x), (b, y)] = &self.inner.ends;
        write!(f, "Link({} {x} - {y} {})", a.name(), b.name())
    }
}

/// Puts the calling thread before the ordinary ones, where that is permitted: wires do not wait until somebody has time.
fn before_others() {
    // SAFETY: it touches no memory. Zero is the calling thread; a refusal leaves everything as it is.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -15) };
}
