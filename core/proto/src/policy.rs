//! Which path shall carry data: the user's policy, and how two paths compare under it.

use std::time::Duration;

use crate::interface::{Interface, InterfaceKind};
use crate::wire::{Mode, ModeWish};

/// Names one or more interfaces in a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// By the interface's name.
    Interface(String),
    /// By its kind.
    Kind(InterfaceKind),
    /// By the name of the network that it is attached to.
    Network(String),
}

impl Selector {
    /// Reads a selector: a kind (`wifi`, `cellular`, `ethernet`, `other`), `network:NAME`, or else the name of an
    /// interface. `interface:NAME` names an interface that is called like a kind.
    ///
    /// An interface that is called like a kind is still meant by `wifi` when it is of that kind; an exact name
    /// wins over the kind where both would match (see [`Policy::rank`]).
    pub fn parse(word: &str) -> Self {
        if let Some(network) = word.strip_prefix("network:") {
            Self::Network(network.to_owned())
        } else if let Some(name) = word.strip_prefix("interface:") {
            Self::Interface(name.to_owned())
        } else if let Some(kind) = InterfaceKind::from_word(word) {
            Self::Kind(kind)
        } else {
            Self::Interface(word.to_owned())
        }
    }

    /// Whether an interface is meant.
    pub fn matches(&self, interface: &Interface) -> bool {
        match self {
            Self::Interface(name) => *name == interface.name,
            Self::Kind(kind) => *kind == interface.kind,
            Self::Network(network) => interface.network.as_ref() == Some(network),
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Interface(name) if InterfaceKind::from_word(name).is_some() => {
                write!(f, "interface:{name}")
            }
            Self::Interface(name) => f.write_str(name),
            Self::Kind(kind) => kind.fmt(f),
            Self::Network(network) => write!(f, "network:{network}"),
        }
    }
}

/// The user's policy for a context.
///
/// A mode of several paths is told to the other end, which sends by it as well, unless a policy of its own is set there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Policy {
    /// Unmetered before metered, then health, then round-trip time; in the mode that the other end wishes, if any.
    #[default]
    Auto,
    /// The interfaces named, in this order.
    Pin {
        /// Best first.
        order: Vec<Selector>,
        /// Whether other interfaces may be used while none of these works.
        fallback: bool,
    },
    /// Every datagram goes out over the two best paths, and the receiver takes the copy that comes first.
    Redundant {
        /// Only small datagrams, as interactive programs and calls send them: bulk goes over one path.
        small: bool,
        /// Paths that either end pays for take part, too.
        metered: bool,
    },
    /// Datagrams are spread over all good paths by what each can carry, and the receiver puts them in order.
    Bonded {
        /// Paths that either end pays for take part, too.
        metered: bool,
    },
}

impl Policy {
    /// The place of an interface in a pin, the lower the better; `None` when it must not be used.
    pub fn rank(&self, interface: &Interface) -> Option<usize> {
        match self {
            Self::Auto | Self::Redundant { .. } | Self::Bonded { .. } => Some(0),
            Self::Pin { order, fallback } => {
                order.iter().position(|s| s.matches(interface)).or_else(|| fallback.then_some(order.len()))
            }
        }
    }

    /// What this policy asks of the other end.
    pub(crate) fn wish(&self) -> Option<ModeWish> {
        match *self {
            Self::Auto | Self::Pin { .. } => None,
            Self::Redundant { small, metered } => Some(ModeWish { mode: Mode::Redundant, small, metered }),
            Self::Bonded { metered } => Some(ModeWish { mode: Mode::Bonded, small: false, metered }),
        }
    }

    /// The policy that follows the other end's wish; `None` for a mode that this version does not know.
    pub(crate) fn wished(wish: ModeWish) -> Option<Self> {
        let ModeWish { mode, small, metered } = wish;
        match mode {
            Mode::Redundant => Some(Self::Redundant { small, metered }),
            Mode::Bonded => Some(Self::Bonded { metered }),
            Mode::Unknown(_) => None,
        }
    }

    /// Whether it uses several paths at a time.
    pub(crate) fn is_several(&self) -> bool {
        matches!(self, Self::Redundant { .. } | Self::Bonded { .. })
    }

    /// `auto`, `pin`, `redundant` or `bonded`.
    pub fn mode(&self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Pin { .. } => "pin",
            Self::Redundant { .. } => "redundant",
            Self::Bonded { .. } => "bonded",
        }
    }
}

/// What selection knows of a path. Compared field by field, in this order; lower is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Merit {
    /// It loses or delays so much that any other is better: see [`Fitness::Unfit`](crate::Fitness).
    pub unfit: bool,
    /// Place in the pin of this end.
    pub rank: usize,
    /// Place in the other end's wish: 255 less the priority in its SET; more where it is a backup.
    pub wish: u16,
    /// Whether either end pays for the traffic.
    pub metered: bool,
    /// Whether it goes through a relay, which somebody else pays for, and which adds a way.
    pub relayed: bool,
    /// Loss in coarse steps, so that noise does not decide; or that it is strained.
    pub sickness: u8,
    /// Smoothed round trip.
    pub rtt: Duration,
}

/// Why one path is better than another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advantage {
    /// It is fit, and the other is not.
    Fitness,
    /// This end's policy says so.
    Policy,
    /// The other end wishes so.
    Wish,
    /// It needs no relay, and costs no more.
    Direct,
    /// Cheaper, healthier or clearly quicker.
    Quality,
}

impl Merit {
    /// Loss in coarse steps.
    pub fn sickness(loss: Option<f64>) -> u8 {
        match loss {
            Some(share) if share > 0.30 => 2,
            Some(share) if share > 0.10 => 1,
            _ => 0,
        }
    }

    /// Whether this path is better than `other`, which carries the data now, and by what. A quicker path must be
    /// a fifth and 5 ms quicker, or two alike would take turns.
    pub fn advantage_over(&self, other: &Self) -> Option<Advantage> {
        use std::cmp::Ordering::{Equal, Greater, Less};
        match self.unfit.cmp(&other.unfit) {
            Less => return Some(Advantage::Fitness),
            Greater => return None,
            Equal => {}
        }
        match self.rank.cmp(&other.rank) {
            Less => return Some(Advantage::Policy),
            Greater => return None,
            Equal => {}
        }
        match self.wish.cmp(&other.wish) {
            Less => return Some(Advantage::Wish),
            Greater => return None,
            Equal => {}
        }
        match (self.metered, self.relayed).cmp(&(other.metered, other.relayed)) {
            Less if self.metered == other.metered => return Some(Advantage::Direct),
            Less => return Some(Advantage::Quality),
            Greater => return None,
            Equal => {}
        }
        let better = match self.sickness.cmp(&other.sickness) {
            Less => true,
            Greater => false,
            Equal => self.rtt.mul_f64(1.2) + Duration::from_millis(5) < other.rtt,
        };
        better.then_some(Advantage::Quality)
    }

    /// A total order for choosing afresh, without regard for what carries the data now.
    pub fn key(&self) -> (bool, usize, u16, bool, bool, u8, Duration) {
        (self.unfit, self.rank, self.wish, self.metered, self.relayed, self.sickness, self.rtt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::InterfaceId;

    fn interface(name: &str, kind: InterfaceKind, network: Option<&str>) -> Interface {
        Interface {
            id: InterfaceId(1),
            name: name.into(),
            kind,
            network: network.map(Into::into),
            metered: false,
            addresses: vec![],
            link_local: None,
            usable: true,
            outlook: Default::default(),
            relayed: Vec::new(),
            reflexive: Vec::new(),
        }
    }

    #[test]
    fn pins() {
        let train = interface("wlan0", InterfaceKind::Wifi, Some("Train"));
        let wired = interface("eth0", InterfaceKind::Ethernet, None);
        let modem = interface("wwan0", InterfaceKind::Cellular, None);
        let order = vec![Selector::parse("eth0"), Selector::parse("network:Train")];
        let only = Policy::Pin { order: order.clone(), fallback: false };
        let first = Policy::Pin { order, fallback: true };
        assert_eq!([&wired, &train, &modem].map(|i| only.rank(i)), [Some(0), Some(1), None]);
        assert_eq!([&wired, &train, &modem].map(|i| first.rank(i)), [Some(0), Some(1), Some(2)]);
        assert_eq!(Policy::Auto.rank(&modem), Some(0));
    }

    #[test]
    fn selectors_read_as_they_print() {
        for word in ["wifi", "network:Train 7", "eth0", "interface:wifi"] {
            assert_eq!(Selector::parse(word).to_string(), word);
        }
    }

    #[test]
    fn what_is_chosen_afresh_is_fit_then_wanted_then_cheap_then_well_then_quick() {
        let best = Merit {
            unfit: false,
            rank: 1,
            wish: 3,
            metered: false,
            relayed: false,
            sickness: 1,
            rtt: Duration::from_millis(20),
        };
        let second = Duration::from_secs(1);
        let ordered = [
            Merit { rank: 0, wish: 9, metered: true, sickness: 9, rtt: second, ..best },
            Merit { wish: 2, metered: true, sickness: 9, rtt: second, ..best },
            Merit { sickness: 0, rtt: second, ..best },
            best,
            Merit { rtt: second, ..best },
            Merit { sickness: 2, ..best },
            Merit { metered: true, sickness: 0, rtt: Duration::ZERO, ..best },
            Merit { wish: 4, sickness: 0, rtt: Duration::ZERO, ..best },
            Merit { rank: 2, wish: 0, sickness: 0, rtt: Duration::ZERO, ..best },
            Merit { unfit: true, rank: 0, wish: 0, sickness: 0, rtt: Duration::ZERO, ..best },
        ];
        for pair in ordered.windows(2) {
            assert!(pair[0].key() < pair[1].key(), "{pair:?}");
        }
    }

    #[test]
    fn close_round_trips_do_not_decide() {
        let merit = |ms| Merit {
            unfit: false,
            rank: 0,
            wish: 0,
            metered: false,
            relayed: false,
            sickness: 0,
            rtt: Duration::from_millis(ms),
        };
        assert_eq!(merit(40).advantage_over(&merit(60)), Some(Advantage::Quality));
        assert_eq!(merit(50).advantage_over(&merit(60)), None);
        assert_eq!(merit(1).advantage_over(&merit(5)), None);
    }
}
