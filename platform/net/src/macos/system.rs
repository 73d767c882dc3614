//! What is asked of macOS, so that a test can play it: routing messages as bytes, words for its tools as text, and the
//! rest as values.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use mast_engine::os::{Family, TunWish, Udp};
use mast_proto::Interface;

/// What of the kernel's tables is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Interfaces and their addresses (`NET_RT_IFLIST`).
    Interfaces,
    /// Routes (`NET_RT_DUMP`).
    Routes,
}

/// What an interface is, beyond what its kind says: Wi-Fi is of the kind of a cable here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Detail {
    /// `IFRTYPE_FUNCTIONAL_…` of `bsd/net/if.h`.
    pub functional: u32,
    /// Traffic costs money, as the system holds it.
    pub expensive: bool,
    /// The user wants little traffic there.
    pub constrained: bool,
}

impl Detail {
    /// `IFRTYPE_FUNCTIONAL_WIRED`.
    pub const WIRED: u32 = 2;
    /// `IFRTYPE_FUNCTIONAL_WIFI_INFRA`.
    pub const WIFI: u32 = 3;
    /// `IFRTYPE_FUNCTIONAL_WIFI_AWDL`: from Apple device to Apple device.
    pub const WIFI_DIRECT: u32 = 4;
    /// `IFRTYPE_FUNCTIONAL_CELLULAR`.
    pub const CELLULAR: u32 = 5;
    /// `IFRTYPE_FUNCTIONAL_INTCOPROC`: to a processor of the machine itself.
    pub const INSIDE: u32 = 6;
}

/// `IN6_IFF_TENTATIVE`, `IN6_IFF_DUPLICATED` and `IN6_IFF_DETACHED` of `bsd/netinet6/in6_var.h`: it can be no source.
pub const UNUSABLE: u32 = 0x2 | 0x4 | 0x8;
/// `IN6_IFF_DEPRECATED`: new traffic should not begin with it.
pub const DEPRECATED: u32 = 0x10;

/// The other end of a virtual interface: frames with four bytes before them, which say the version of IP.
pub trait Utun: Debug + Send + Sync + 'static {
    /// What the system called it.
    fn name(&self) -> &str;
    /// Waits until there may be a frame.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;
    /// Takes the next frame of the host; how long header and frame are together.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; anything else when the interface is gone.
    fn take(&self, header: &mut [u8; 4], frame: &mut [u8]) -> io::Result<usize>;
    /// Hands header and frame to the host, in parts.
    ///
    /// # Errors
    /// What the system says: the frame is lost.
    fn give(&self, parts: &[io::IoSlice<'_>]) -> io::Result<()>;
}

/// What the kernel announces: routing messages.
pub trait Announced: Send + 'static {
    /// Waits for the next, at most so long; how long it is, or nothing when there was none.
    ///
    /// # Errors
    /// What the system says, such as that some were lost.
    fn next(&mut self, buffer: &mut [u8], patience: Duration) -> io::Result<Option<usize>>;
}

/// macOS, or a test that plays it. Calls may block.
pub trait System: Clone + Debug + Send + Sync + 'static {
    /// Its virtual interface.
    type Utun: Utun;
    /// Its sockets.
    type Udp: Udp;
    /// What it announces.
    type Announced: Announced;

    /// A table, as routing messages.
    ///
    /// # Errors
    /// What the system says; so it is below, with `AlreadyExists`, `NotFound` and `PermissionDenied` for what they mean.
    fn table(&self, which: Table) -> io::Result<Vec<u8>>;
    /// Has the kernel do what a routing message asks.
    ///
    /// # Errors
    /// As above.
    fn request(&self, message: &[u8]) -> io::Result<()>;
    /// What an interface is.
    fn detail(&self, name: &str) -> Detail;
    /// How an IPv6 address of an interface stands ([`UNUSABLE`], [`DEPRECATED`]).
    fn address_flags(&self, name: &str, address: IpAddr) -> u32;
    /// Gives an interface an address, a host prefix, usable at once.
    ///
    /// # Errors
    /// As above.
    fn add_address(&self, name: &str, address: IpAddr) -> io::Result<()>;
    /// Takes it away.
    ///
    /// # Errors
    /// As above.
    fn remove_address(&self, name: &str, address: IpAddr) -> io::Result<()>;
    /// Gives an interface an MTU in bytes.
    ///
    /// # Errors
    /// As above.
    fn set_mtu(&self, name: &str, mtu: u16) -> io::Result<()>;
    /// Takes an interface up.
    ///
    /// # Errors
    /// As above.
    fn raise(&self, name: &str) -> io::Result<()>;
    /// Begins to tell of changes.
    ///
    /// # Errors
    /// As above.
    fn announced(&self) -> io::Result<Self::Announced>;
    /// For how long the system has slept in all since it started.
    fn asleep(&self) -> Duration;
    /// Runs `pfctl` with these words, and gives it this to read. What it printed.
    ///
    /// # Errors
    /// What it said when it failed; `PermissionDenied` where only root may.
    fn pfctl(&self, words: &[&str], input: &str) -> io::Result<String>;
    /// The group of this process alone, by which pf knows its sockets; none where it is that of others, too.
    fn own_group(&self) -> Option<u32>;
    /// Asks the dynamic store, in the words of `scutil`. What it printed.
    ///
    /// # Errors
    /// As above.
    fn store(&self, words: &str) -> io::Result<String>;
    /// Opens a session with the dynamic store in the place of the one before, says this in it, and keeps it open: what
    /// it added goes with it, or with this process. With nothing to say there is none any more.
    ///
    /// # Errors
    /// As above.
    fn hold(&self, words: Option<&str>) -> io::Result<()>;
    /// Makes the virtual interface.
    ///
    /// # Errors
    /// As above, with a remedy in the text.
    fn make_utun(&self, wish: &TunWish) -> io::Result<Self::Utun>;
    /// Opens a socket on an interface.
    ///
    /// # Errors
    /// `AddrInUse`, `PermissionDenied`, or `NotFound` when the interface is gone.
    fn bind(&self, interface: &Interface, family: Family, port: u16, batches: bool) -> io::Result<Self::Udp>;
}
