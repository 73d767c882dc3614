//! What shall be set on the host because of MAST, and what a system must be able to do for it.
//!
//! The engine declares the whole of it; the [`Reconciler`](crate::Reconciler) compares that with what is there and takes the [`Step`]s
//! between. A system implements [`Host`]: it reads, and takes single steps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::IpAddr;

use mast_proto::InterfaceId;

use crate::os::{Family, Prefix};

/// Everything that shall be set on the host. What MAST set before and is not declared any more is taken away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// The virtual interface that has the addresses and routes. Without one there are none.
    pub interface: Option<String>,
    /// The virtual interface's MTU in bytes; none leaves it as it is.
    pub mtu: Option<u16>,
    /// Own EIDs, each a host prefix.
    pub addresses: Vec<IpAddr>,
    /// Where each range of peers' EIDs leads: into the virtual interface, with the preferred source, if any. A default
    /// route overrides the host's own and leaves it in place.
    pub routes: Vec<(Prefix, Option<IpAddr>)>,
    /// The versions of IP of which nothing may leave by a default route but the virtual interface's. Protection
    /// outlives the service: that is its purpose.
    pub protection: BTreeSet<Family>,
    /// What may leave at all, whatever the routes say. It outlives the service, too.
    pub guard: Option<Guard>,
    /// What peers answer is taken, whatever the routes say.
    pub answers: Option<Answers>,
    /// How names are resolved, if not as the host does.
    pub dns: Option<Dns>,
}

/// What peers answer. Hosts that look up the way back to whoever sent a datagram, and drop it if that is another than
/// the way by which it came, must take it all the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answers {
    /// The UDP port of the service's sockets.
    pub port: u16,
    /// The uplinks by which answers may come, with their names.
    pub uplinks: BTreeMap<InterfaceId, String>,
    /// Routes of the tunnel may cover the addresses of peers, or protection refuses the way back to them. Otherwise the
    /// way back leads over some uplink, if perhaps another.
    pub covered: bool,
}

/// What may leave the host while everything shall go through the tunnel: what goes into the virtual interface, the
/// service's own datagrams, what an interface needs to get an address and to find its neighbours, and what stays on the
/// host. Routes decide nothing of it, since networks can set them.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guard {
    /// The versions of IP that are held back. Others leave as they like.
    pub families: BTreeSet<Family>,
    /// The virtual interface: its name, and the one that was wished for.
    pub interfaces: BTreeSet<String>,
    /// Private and link-local ranges may be spoken with directly, but for name servers there.
    pub local_network: bool,
}

/// How leak protection stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Protection {
    /// There is nothing to protect: it is off, or no full tunnel is wanted.
    #[default]
    Idle,
    /// Nothing leaves but what may.
    InForce,
    /// The system has no packet filter: routes alone decide, which the network can set.
    RoutesOnly {
        /// What it lacks.
        why: String,
    },
    /// It is wanted, and not there.
    Missing {
        /// Why.
        why: String,
    },
}

impl Guard {
    /// The versions of IP that are held back where these are to go into a full tunnel: IPv6 beside one for IPv4 is a way
    /// around it that few think of. A tunnel for IPv6 alone is there to have IPv6 at all, mostly over IPv4: that is left
    /// alone.
    pub fn held_back(full: impl Fn(Family) -> bool) -> BTreeSet<Family> {
        let (v4, v6) = (full(Family::V4), full(Family::V6));
        let held = [(v4, Family::V4), (v4 || v6, Family::V6)];
        held.into_iter().filter_map(|(yes, family)| yes.then_some(family)).collect()
    }
}

/// How names are resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dns {
    /// Who is asked, by way of the virtual interface: the first of each version of IP, in the place of whichever server
    /// of that version a program of this host asks over another interface.
    pub servers: Vec<IpAddr>,
}

/// What is set on the host now, as far as it may be MAST's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// The virtual interface was taken down by somebody.
    pub down: bool,
    /// The MTU of the virtual interface in bytes, where that can be told and changed.
    pub mtu: Option<u16>,
    /// All addresses of the virtual interface, whoever set them.
    pub addresses: BTreeSet<IpAddr>,
    /// All routes into the virtual interface, whoever set them.
    pub routes: BTreeMap<Prefix, Option<IpAddr>>,
    /// Ranges to which routes over other interfaces come before those into the virtual interface, with their names.
    pub shadowed: BTreeMap<Prefix, String>,
    /// The versions of IP that are protected.
    pub protection: BTreeSet<Family>,
    /// What was set last of what may leave, if all of it is there.
    pub guard: Option<Guard>,
    /// Which answers are taken: what was set last, if all of it is there.
    pub answers: Option<Answers>,
    /// How names are resolved because of MAST.
    pub dns: Option<Dns>,
    /// What takes away that of which only a part is there, as after a crash: routes, protection, ways for answers.
    pub remnants: Vec<Step>,
}

/// One change. A system makes it whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Takes the virtual interface up again.
    Raise,
    /// Gives the virtual interface its MTU again, in bytes.
    SetMtu(u16),
    /// Gives the virtual interface an address, usable at once. Done if it has it.
    AddAddress(IpAddr),
    /// Takes an address from it. Done if it has it not.
    RemoveAddress(IpAddr),
    /// Makes a route into it, with the preferred source. Refused if there is another route to the same range.
    AddRoute(Prefix, Option<IpAddr>),
    /// Changes the preferred source of such a route from the first to the second.
    ChangeRoute(Prefix, Option<IpAddr>, Option<IpAddr>),
    /// Removes such a route, or what there is of it. Done if there is none.
    RemoveRoute(Prefix, Option<IpAddr>),
    /// Lets nothing of this version of IP leave by another default route than the virtual interface's.
    Protect(Family),
    /// Ends that, or what there is of it.
    Unprotect(Family),
    /// Lets nothing else leave, in the place of what was set before, without a moment between. Refused as
    /// `Unsupported` where the system has nothing of the kind.
    SetGuard(Guard),
    /// Ends that, or what there is of it.
    ClearGuard,
    /// Has answers be taken, in the place of what was set before.
    SetAnswers(Answers),
    /// Ends that, or what there is of it.
    ClearAnswers,
    /// Has names resolved so.
    SetDns(Dns),
    /// Has names resolved as before.
    ClearDns,
}

/// What a [`Guard`] is called.
const GUARD: &str = "the packet filter of leak protection";

impl Step {
    /// What is done, and to what: "add", "the route to 10.0.0.0/8".
    fn words(&self) -> (&'static str, String) {
        let protection = |family: &Family| format!("leak protection for {family}");
        match self {
            Self::Raise => ("take up", "the virtual interface".into()),
            Self::SetMtu(_) => ("set", "the MTU of the virtual interface".into()),
            Self::AddAddress(address) => ("add", format!("the address {address}")),
            Self::RemoveAddress(address) => ("remove", format!("the address {address}")),
            Self::AddRoute(prefix, _) => ("add", format!("the route to {prefix}")),
            Self::ChangeRoute(prefix, ..) => ("change", format!("the route to {prefix}")),
            Self::RemoveRoute(prefix, _) => ("remove", format!("the route to {prefix}")),
            Self::Protect(family) => ("set", protection(family)),
            Self::Unprotect(family) => ("end", protection(family)),
            Self::SetGuard(_) => ("set", GUARD.into()),
            Self::ClearGuard => ("end", GUARD.into()),
            Self::SetAnswers(_) => {
                ("set", "what has answers of peers pass strict reverse-path filters".into())
            }
            Self::ClearAnswers => {
                ("end", "what has answers of peers pass strict reverse-path filters".into())
            }
            Self::SetDns(_) => ("set", "the name servers".into()),
            Self::ClearDns => ("give back", "the name servers".into()),
        }
    }

    /// What it is about, such as "the route to 10.0.0.0/8".
    pub fn subject(&self) -> String {
        self.words().1
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, subject) = self.words();
        write!(f, "{verb} {subject}")
    }
}

/// A host on which MAST sets something. The calls may block; they are made on a thread where that harms nobody.
pub trait Host: Send + 'static {
    /// Reads what is set.
    ///
    /// # Errors
    /// `NotFound` when there is no such virtual interface; else what the system says. A version of IP that the system
    /// does not have is no error.
    fn present(&mut self, interface: Option<&str>) -> io::Result<Present>;

    /// Takes steps in this order, with as few calls of the system as it can, and says of each what became of it. One
    /// that is refused leaves nothing of itself behind, and keeps none of the others from being taken.
    ///
    /// # Errors
    /// Each with what to do about it in the text. There are as many results as steps.
    fn take(&mut self, interface: Option<&str>, steps: &[Step]) -> Vec<io::Result<()>>;

    /// Where the host sends what has no route of its own, in words, if that is not (all) into the virtual interface,
    /// whose routes are there: rules and routes of others may come before them.
    ///
    /// # Errors
    /// When the system cannot be asked.
    fn around(&mut self, _interface: &str, _family: Family) -> io::Result<Option<String>> {
        Ok(None)
    }
}
