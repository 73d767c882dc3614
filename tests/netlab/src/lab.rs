//! The lab itself: the owner of links.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use crate::{
    error::Result,
    host::Host,
    link::{Link, prepare},
    namespace::Namespace,
    nat::{Nat, NatKind},
    profile::LinkProfile,
    route::{self, End},
};

/// A network of hosts, routers and links. Dropping it stops all its links; its hosts vanish with
/// their last handle.
///
/// Any number of labs may exist side by side.
pub struct Lab {
    /// Holds the hidden halves of all links.
    wire: Arc<Namespace>,
    links: Mutex<Vec<Link>>,
    next: AtomicU32,
    seed: u64,
}

impl Lab {
    /// Creates an empty lab. Needs root, or [`enter`](crate::enter) before it.
    pub fn new() -> Result<Self> {
        Self::with_seed(1)
    }

    /// Creates an empty lab whose random losses and jitter follow from a seed.
    pub fn with_seed(seed: u64) -> Result<Self> {
        let wire = Arc::new(Namespace::new("wire")?);
        // Keeps the hidden interfaces silent. Without IPv6 there is no such file and no need.
        let _ = wire.set("net/ipv6/conf/default/disable_ipv6", "1");
        Ok(Self { wire, links: Mutex::new(Vec::new()), next: AtomicU32::new(0), seed })
    }

    /// Creates a host. The name is for messages only.
    pub fn host(&self, name: &str) -> Result<Host> {
        Host::new(name, false)
    }

    /// Creates a host that forwards IPv4 and IPv6 packets.
    pub fn router(&self, name: &str) -> Result<Host> {
        Host::new(name, true)
    }

    /// Connects two hosts with a link, up and with carrier. The names are those of the interfaces.
    pub fn link(
        &self,
        a: &Host,
        a_interface: &str,
        b: &Host,
        b_interface: &str,
        profile: &LinkProfile,
    ) -> Result<Link> {
        self.link_at(a, (a_interface, 0), b, b_interface, profile)
    }

    /// The same, with the number that the interface of the first host gets: that of one that is gone, for example.
    pub fn link_at(
        &self,
        a: &Host,
        (a_interface, index): (&str, u32),
        b: &Host,
        b_interface: &str,
        profile: &LinkProfile,
    ) -> Result<Link> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let seed = self.seed.wrapping_mul(1_000_003).wrapping_add(u64::from(number));
        let link =
            Link::new(&self.wire, number, (a, a_interface, index), (b, b_interface, 0), profile, seed)?;
        self.links.lock().unwrap_or_else(PoisonError::into_inner).push(link.clone());
        a.settle(a_interface, true);
        b.settle(b_interface, true);
        Ok(link)
    }

    /// Connects two hosts directly, without emulation: instant, and as fast as the machine.
    pub fn wire(&self, a: &Host, a_interface: &str, b: &Host, b_interface: &str) -> Result<()> {
        self.wire.netlink(|netlink| {
            let near = End { name: a_interface, index: 0, namespace: &**a.namespace() };
            let far = End { name: b_interface, index: 0, namespace: &**b.namespace() };
            route::create_pair(netlink, near, far)
        })?;
        prepare(a, a_interface)?;
        prepare(b, b_interface)?;
        a.settle(a_interface, true);
        b.settle(b_interface, true);
        Ok(())
    }

    /// Turns a router into an IPv4 NAT between an inside and an outside interface.
    ///
    /// The outside interface must have its address already. Needs the program `nft`.
    pub fn nat(&self, router: &Host, inside: &str, outside: &str, kind: NatKind) -> Result<Nat> {
        Nat::new(router, inside, outside, kind)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for link in self.links.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            link.stop();
        }
    }
}

impl std::fmt::Debug for Lab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Lab").field("links", &*links).finish()
    }
}
