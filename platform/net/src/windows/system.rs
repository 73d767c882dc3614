//! What is asked of Windows, as values: a test can play it.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use mast_engine::os::{Family, Offload, Prefix, TunWish, Udp};
use mast_proto::Interface;

use super::filters::Filter;

/// Tells that something changed. What changed is read; announcements come late, twice, or not at all.
pub type Told = Box<dyn Fn() + Send + Sync>;

/// What an adapter is, as the system has it (IANA's `ifType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(pub u32);

impl Kind {
    /// A cable.
    pub const ETHERNET: Self = Self(6);
    /// A dialled line; other virtual private networks, too.
    pub const PPP: Self = Self(23);
    /// This machine itself.
    pub const LOOPBACK: Self = Self(24);
    /// Made by a program.
    pub const VIRTUAL: Self = Self(53);
    /// Radio.
    pub const WIFI: Self = Self(71);
    /// Inside other datagrams.
    pub const TUNNEL: Self = Self(131);
    /// A mobile network, by GSM and its successors.
    pub const MODEM: Self = Self(243);
    /// A mobile network, by CDMA.
    pub const MODEM_2: Self = Self(244);
}

/// An address of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address itself.
    pub ip: IpAddr,
    /// The length of its on-link prefix in bits.
    pub prefix: u8,
    /// It can be a source: neither tentative nor a duplicate.
    pub usable: bool,
    /// It can be a source, and new traffic should not begin with it.
    pub deprecated: bool,
}

/// An adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// What does not change while it lives, whatever its name.
    pub luid: u64,
    /// Its number, as zones of addresses have it.
    pub index: u32,
    /// What the user calls it, such as `Wi-Fi 2`.
    pub name: String,
    /// What its driver calls it.
    pub description: String,
    /// What it is.
    pub kind: Kind,
    /// It stands for hardware.
    pub hardware: bool,
    /// It is up and has a link.
    pub up: bool,
    /// In bytes.
    pub mtu: u32,
    /// Its addresses, those of links among them.
    pub addresses: Vec<Address>,
    /// Whither it sends what is not on its links.
    pub gateways: Vec<IpAddr>,
    /// Whom programs ask for names over it.
    pub name_servers: Vec<IpAddr>,
}

/// What else the system knows of an adapter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// The name of the network behind it.
    pub network: Option<String>,
    /// Traffic costs money.
    pub metered: Option<bool>,
    /// How well its radio hears its station, in dBm.
    pub signal: Option<i8>,
}

/// A route. Routes have no preferred source here: the adapter's addresses decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The adapter that it leads to.
    pub luid: u64,
    /// Where it leads.
    pub prefix: Prefix,
    /// None where the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Added to the adapter's own: less goes first, after longer prefixes.
    pub metric: u32,
}

/// A value of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `REG_DWORD`.
    Number(u32),
    /// `REG_SZ`.
    Text(String),
    /// `REG_MULTI_SZ`.
    Texts(Vec<String>),
}

/// The two rings of a virtual interface, as frames.
pub trait Ring: std::fmt::Debug + Send + Sync + 'static {
    /// Takes the next frame of the host.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; anything else when the adapter is gone.
    fn take(&self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Hands a frame to the host.
    ///
    /// # Errors
    /// `WouldBlock` when the ring is full; anything else when the adapter is gone.
    fn give(&self, parts: &[io::IoSlice<'_>]) -> io::Result<()>;
    /// Waits on the thread that asks until there may be a frame, the adapter is gone, or [`Ring::end`] was called.
    /// Whether to go on.
    fn wait(&self) -> bool;
    /// Has [`Ring::wait`] end, at once.
    fn end(&self);
    /// What the adapter is called.
    fn name(&self) -> &str;
    /// Which adapter it is.
    fn luid(&self) -> u64;
}

/// The system. What it says may be old by the time it is heard.
pub trait System: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// Its virtual interface.
    type Ring: Ring;
    /// Its sockets.
    type Udp: Udp;
    /// Ends what [`System::notify`] began.
    type Watch: Send + 'static;

    /// All adapters now.
    ///
    /// # Errors
    /// What the system says; so it is below, with `AlreadyExists`, `NotFound` and `PermissionDenied` for what they mean.
    fn adapters(&self) -> io::Result<Vec<Adapter>>;
    /// All routes now.
    ///
    /// # Errors
    /// As above.
    fn routes(&self) -> io::Result<Vec<Route>>;
    /// What else is known of adapters. It may be some seconds old; what is not known is left out.
    fn notes(&self) -> BTreeMap<u64, Notes>;
    /// Gives an adapter an address, a host prefix, usable at once.
    ///
    /// # Errors
    /// As above.
    fn add_address(&self, luid: u64, address: IpAddr) -> io::Result<()>;
    /// Takes it away.
    ///
    /// # Errors
    /// As above.
    fn remove_address(&self, luid: u64, address: IpAddr) -> io::Result<()>;
    /// Makes a route.
    ///
    /// # Errors
    /// As above.
    fn add_route(&self, route: &Route) -> io::Result<()>;
    /// Takes it away.
    ///
    /// # Errors
    /// As above.
    fn remove_route(&self, route: &Route) -> io::Result<()>;
    /// Gives an adapter an MTU in bytes, and has its routes go before others of the same length.
    ///
    /// # Errors
    /// As above.
    fn set_mtu(&self, luid: u64, family: Family, mtu: u32) -> io::Result<()>;
    /// Begins to tell of changes of adapters, addresses and routes, and of what else is known of adapters.
    ///
    /// # Errors
    /// As above.
    fn notify(&self, told: Told) -> io::Result<Self::Watch>;
    /// For how long the system has slept in all since it started.
    fn asleep(&self) -> std::time::Duration;
    /// Makes the virtual interface. May take seconds.
    ///
    /// # Errors
    /// As above, with a remedy in the text.
    fn make_ring(&self, wish: &TunWish) -> io::Result<Self::Ring>;
    /// Opens the sockets of an interface.
    ///
    /// # Errors
    /// `AddrInUse`, `PermissionDenied`, or `NotFound` when the interface is gone.
    fn bind(&self, interface: &Interface, family: Family, port: u16, segments: bool)
    -> io::Result<Self::Udp>;
    /// The labels of MAST's filters.
    ///
    /// # Errors
    /// As above, with a remedy in the text where there is one.
    fn filters(&self) -> io::Result<Vec<String>>;
    /// Puts these in the place of MAST's filters, all at once; none take away all that is MAST's.
    ///
    /// # Errors
    /// As above; then what was there is in force still.
    fn set_filters(&self, filters: &[Filter]) -> io::Result<()>;
    /// The program of this process, as filters name it.
    ///
    /// # Errors
    /// As above.
    fn program(&self) -> io::Result<Arc<[u8]>>;
    /// Programs other than Windows itself that have filters which block something.
    ///
    /// # Errors
    /// As above.
    fn blockers(&self) -> io::Result<Vec<String>>;
    /// The keys below one of the machine's registry.
    ///
    /// # Errors
    /// As above.
    fn keys(&self, path: &str) -> io::Result<Vec<String>>;
    /// The values of such a key.
    ///
    /// # Errors
    /// As above.
    fn values(&self, path: &str) -> io::Result<BTreeMap<String, Value>>;
    /// Makes such a key with these values and no others, which does not outlive a boot.
    ///
    /// # Errors
    /// As above.
    fn write_key(&self, path: &str, values: &BTreeMap<String, Value>) -> io::Result<()>;
    /// Removes such a key with all below it.
    ///
    /// # Errors
    /// As above.
    fn delete_key(&self, path: &str) -> io::Result<()>;
    /// Gives an adapter these name servers, in the place of what it has.
    ///
    /// # Errors
    /// As above; `Unsupported` before Windows 10, version 2004.
    fn set_name_servers(&self, luid: u64, servers: &[IpAddr]) -> io::Result<()>;
    /// Has the system's resolver forget what it knows; `by_policy`, if rules of group policy changed, too.
    fn names_changed(&self, by_policy: bool);
    /// What `doctor` says of the driver.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    fn driver(&self) -> Result<String, String>;
}

/// Frames are whole on their way in and out.
pub const WHOLE: Offload = Offload { partial: None, several: None };
