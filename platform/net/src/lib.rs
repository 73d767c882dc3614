//! What differs per operating system: virtual interface, interface monitor, bound sockets, routes.
//!
//! - `linux`: TUN device, rtnetlink monitor and configuration, device-bound UDP sockets, checks for `doctor`,
//!   clean-up after a killed predecessor. Its documentation says which interfaces count as uplinks.
//! - `windows`, to come: Wintun device, `NotifyIpInterfaceChange` monitor, `IP_UNICAST_IF` sockets.
//! - `macos`, to come: utun device, `PF_ROUTE`/`NWPathMonitor` monitor, `IP_BOUND_IF` sockets.
//!
//! [`Native`] is the platform the crate was built for. On systems that are not supported yet the crate compiles,
//! and every operation of `Native` fails with [`std::io::ErrorKind::Unsupported`].

#[cfg(target_os = "linux")]
pub mod linux;
mod overrides;
#[cfg(not(target_os = "linux"))]
mod unsupported;

pub use overrides::Overrides;

#[cfg(target_os = "linux")]
pub use linux::{Linux as Native, interface_number, own_socket};
#[cfg(not(target_os = "linux"))]
pub use unsupported::{Native, interface_number, own_socket};
