//! What the user knows better than the system.

use std::collections::BTreeMap;

use mast_proto::InterfaceKind;

/// What the configuration says of interfaces, by interface name; it wins over what the system says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Whether traffic costs money. Without an entry, cellular interfaces are metered and others are not.
    pub metered: BTreeMap<String, bool>,
    /// What the interface is attached to.
    pub kind: BTreeMap<String, InterfaceKind>,
    /// The name of the network behind the interface.
    pub network: BTreeMap<String, String>,
    /// Interfaces that MAST shall not use and not list.
    pub ignore: Vec<String>,
    /// Interfaces that are used whatever they are, since the configuration names them.
    pub named: Vec<String>,
    /// The virtual interface.
    pub own: String,
    /// Datagrams leave one by one.
    pub no_segments: bool,
    /// Others can change the packet filter of leak protection while the service runs, as on Linux before 6.9.
    pub shared_filter: bool,
}
