//! Links: what fails together, and is paid for together.
//!
//! A link is an interface at the end that has it. A path joins one of this end's to one of the other's, and most often
//! several paths do: one for each version of IP, one for each pair of addresses. So whoever wants *two different* ways
//! (a standby, copies, the redundant and the bonded mode, the order of probing) asks how many links two paths share.

use super::path::Path;
use super::{Context, PathState};
use crate::interface::InterfaceId;
use crate::wire::AddressId;

/// One of the other end's links, as far as this end can tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerLink {
    /// By the number in its SET.
    Number(u8),
    /// Its SET gives no number: then each of its addresses is a link of its own.
    Address(AddressId),
    /// Nothing is known of the address yet.
    Unknown(std::net::IpAddr),
}

/// A link of either end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Link {
    /// This end's interface.
    Own(InterfaceId),
    /// The other end's.
    Peer(PeerLink),
}

/// How alike two paths are: how many links they share, then whether they are of one version of IP. The less the better
/// for whoever wants two different ways.
pub(super) type Likeness = (u8, bool);

impl Context {
    /// Whether a path is of a link.
    pub(super) fn is_of(&self, path: &Path, link: Link) -> bool {
        match link {
            Link::Own(interface) => path.key.interface == interface,
            Link::Peer(link) => self.peer.link(path) == link,
        }
    }

    /// At how many ends two paths share a link: 0 to 2.
    pub(super) fn shared(&self, one: &Path, other: &Path) -> u8 {
        u8::from(one.key.interface == other.key.interface)
            + u8::from(self.peer.link(one) == self.peer.link(other))
    }

    /// How alike two paths are.
    pub(super) fn likeness(&self, one: &Path, other: &Path) -> Likeness {
        (self.shared(one, other), one.key.remote.is_ipv6() == other.key.remote.is_ipv6())
    }

    /// Whether another path joins the same two links, and carries data or comes first.
    pub(super) fn is_second_of_its_links(&self, path: &Path) -> bool {
        !self.selection.is_active(path.id)
            && self.paths.iter().any(|p| {
                p.id != path.id
                    && p.state == PathState::Validated
                    && (self.selection.is_active(p.id) || p.id < path.id)
                    && self.shared(p, path) == 2
            })
    }

    /// A drill silences the link of this path.
    pub(super) fn is_silenced(&self, path: &Path) -> bool {
        self.silenced.is_some_and(|link| self.is_of(path, link))
    }

    /// The active path fell silent. What shares a link with it is doubted until something is heard over it.
    pub(super) fn doubt_alike(&mut self, at: usize) {
        let Some(silent) = self.paths.get(at) else { return };
        let doubts: Vec<u8> = self
            .paths
            .iter()
            .map(|p| {
                if p.id == silent.id || p.state != PathState::Validated { 0 } else { self.shared(p, silent) }
            })
            .collect();
        for (path, doubt) in self.paths.iter_mut().zip(doubts) {
            path.doubt = path.doubt.max(doubt);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::context::{AddressSource, ContextConfig, PeerKind};
    use crate::crypto::Aead;
    use crate::crypto::IndexKey;
    use crate::hold::HoldLimits;
    use crate::interface::{Interface, InterfaceKind};
    use crate::policy::Policy;
    use crate::wire::{Address, AddressFlags, AddressKind, Set};

    const MS: Duration = Duration::from_millis(1);

    fn far(n: u8, v6: bool) -> SocketAddr {
        let ip =
            if v6 { IpAddr::from([0x2001, 0xdb8, 0, 9, 0, 0, 0, n.into()]) } else { [192, 0, 2, n].into() };
        SocketAddr::new(ip, 6278)
    }

    /// Two interfaces with both versions of IP, and a peer with two addresses of each; every path works.
    fn context(now: Instant, policy: Policy) -> Context {
        let config = ContextConfig {
            indices: IndexKey::new([1; 32]).indices(1),
            instance: 1,
            lower: true,
            name: "host".into(),
            aeads: vec![Aead::ChaCha20Poly1305],
            eid_v6: "fd4d:6173:7400::1".parse().unwrap(),
            eid_v4: None,
            port: 6278,
            expect: Some(PeerKind::Mast),
            disclosure: Default::default(),
            policy,
            hold: HoldLimits::default(),
            seed: [3; 32],
        };
        let mut context = Context::new(config, now);
        let interface = |n: u8| Interface {
            id: InterfaceId(n.into()),
            name: format!("eth{n}"),
            kind: InterfaceKind::Ethernet,
            network: None,
            metered: false,
            addresses: vec![[10, n, 0, 2].into(), [0x2001, 0xdb8, 0, n.into(), 0, 0, 0, 2].into()],
            link_local: None,
            usable: true,
            outlook: Default::default(),
            relayed: Vec::new(),
            reflexive: Vec::new(),
        };
        context.handle_interfaces(now, [interface(1), interface(2)].into());
        let all = [far(1, false), far(1, true), far(2, false), far(2, true)];
        context.set_addresses(now, AddressSource::Configuration, all);
        assert_eq!(context.paths.len(), 8);
        for path in &mut context.paths {
            path.state = PathState::Validated;
            path.rtt.sample(path.key.interface.0 * 20 * MS);
        }
        context.select(now, crate::context::Reason::Better);
        context
    }

    /// The peer's SET, with these links for its four addresses.
    fn tell(context: &mut Context, now: Instant, sequence: u64, links: [Option<u8>; 4]) {
        let ends = [far(1, false), far(1, true), far(2, false), far(2, true)];
        let address = |(n, (at, link)): (usize, (SocketAddr, Option<u8>))| Address {
            id: AddressId(u8::try_from(n).unwrap()),
            at,
            kind: AddressKind::Host,
            priority: 100,
            metered: false,
            flags: AddressFlags::default(),
            link,
        };
        let addresses = ends.into_iter().zip(links).enumerate().map(address).collect();
        assert!(context.peer.take(Set { sequence, addresses, mode: None }));
        context.select(now, crate::context::Reason::PeerWish);
    }

    #[test]
    fn the_second_way_shares_the_fewest_links_and_then_the_family() {
        let now = Instant::now();
        let mut context = context(now, Policy::Redundant { small: false, metered: true });
        tell(&mut context, now, 1, [Some(0), Some(0), Some(1), Some(1)]);
        let at = context.active_at().unwrap();
        let [first, standby, second] =
            [at, context.standby().unwrap(), context.second(at).unwrap()].map(|at| &context.paths[at]);
        for other in [standby, second] {
            assert_eq!(context.shared(first, other), 0);
            assert_ne!(first.key.remote.is_ipv6(), other.key.remote.is_ipv6());
        }
        // With one link at each end there is no second way, but a standby of the other family.
        tell(&mut context, now, 2, [Some(0); 4]);
        for path in context.paths.iter_mut().filter(|p| p.key.interface == InterfaceId(2)) {
            path.state = PathState::Failed;
        }
        assert_eq!(context.second(at), None, "a copy would fill the same link twice");
        assert!(context.standby().is_some());
    }

    #[test]
    fn a_link_of_the_bond_counts_once() {
        let now = Instant::now();
        let mut context = context(now, Policy::Bonded { metered: true });
        tell(&mut context, now, 1, [Some(0), Some(0), Some(1), Some(1)]);
        let all: Vec<_> = context.paths.iter().enumerate().collect();
        let bond = context.one_a_link(all);
        assert_eq!(bond.len(), 2, "two links at each end carry two paths' worth");
        assert_eq!(context.shared(bond[0].1, bond[1].1), 0);
        tell(&mut context, now, 2, [Some(0); 4]);
        let all: Vec<_> = context.paths.iter().enumerate().collect();
        assert_eq!(context.one_a_link(all).len(), 2, "each of this end's links once");
    }

    #[test]
    fn what_shares_a_link_with_a_silence_is_doubted_and_nothing_else() {
        let now = Instant::now();
        let mut context = context(now, Policy::Auto);
        tell(&mut context, now, 1, [Some(0), Some(0), Some(1), Some(1)]);
        let at = context.active_at().unwrap();
        let failed = (at + 1) % context.paths.len();
        context.paths[failed].state = PathState::Failed;
        context.doubt_alike(at);
        let silent = context.paths[at].key;
        for (n, path) in context.paths.iter().enumerate() {
            let near = path.key.interface == silent.interface;
            let far = path.key.remote.port() == silent.remote.port()
                && [far(1, false), far(1, true)].contains(&path.key.remote)
                    == [far(1, false), far(1, true)].contains(&silent.remote);
            let expected = if n == at || n == failed { 0 } else { u8::from(near) + u8::from(far) };
            assert_eq!(path.doubt, expected, "{:?} and {silent:?}", path.key);
        }
    }

    #[test]
    fn of_paths_that_join_the_same_links_one_is_watched_closely() {
        let now = Instant::now();
        let mut context = context(now, Policy::Auto);
        tell(&mut context, now, 1, [Some(0), Some(0), Some(1), Some(1)]);
        let active = context.active_at().unwrap();
        for (n, path) in context.paths.iter().enumerate() {
            let twins: Vec<usize> = (0..context.paths.len())
                .filter(|m| *m != n && context.shared(&context.paths[*m], path) == 2)
                .collect();
            assert_eq!(twins.len(), 1, "one of each version of IP");
            let first = n == active || twins[0] != active && path.id < context.paths[twins[0]].id;
            assert_eq!(context.is_second_of_its_links(path), !first, "{:?}", path.key);
        }
    }

    #[test]
    fn numbers_that_make_no_sense_do_no_harm() {
        let now = Instant::now();
        let mut context = context(now, Policy::Redundant { small: false, metered: true });
        let before = context.active_path();
        let mut sequence = 0;
        let mut random = 7_u8;
        for round in 0..300 {
            sequence += 1;
            random = random.wrapping_mul(91).wrapping_add(37);
            let links = match round % 4 {
                0 => [Some(random), Some(255), Some(0), None],
                1 => [Some(3); 4],
                2 => [0, 1, 2, 3].map(|n| Some(random.wrapping_add(n))),
                _ => [None; 4],
            };
            tell(&mut context, now + round * MS, sequence, links);
            assert_eq!((context.paths.len(), context.active_path()), (8, before), "{links:?}");
            let at = context.active_at().unwrap();
            let interface = |at: usize| context.paths[at].key.interface;
            assert_ne!(interface(context.standby().unwrap()), interface(at), "{links:?}");
            assert_ne!(interface(context.second(at).unwrap()), interface(at), "{links:?}");
            context.doubt_alike(at);
            for path in &mut context.paths {
                assert!(path.doubt <= 2);
                path.doubt = 0;
            }
        }
    }
}
