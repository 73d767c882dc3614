//! What differs per operating system: virtual interface, interface monitor, bound sockets, routes.
//!
//! - `linux`: TUN device, rtnetlink monitor and configuration, device-bound UDP sockets, checks for `doctor`,
//!   clean-up after a killed predecessor. Its documentation says which interfaces count as uplinks.
//! - `windows`: Wintun device, IP Helper monitor and configuration, `IP_UNICAST_IF` sockets. What of it is not the system
//!   itself is tried against a played one on every system. Its documentation says what is not built.
//! - `macos`: utun device, monitor and configuration by routing messages, `IP_BOUND_IF` sockets, pf, tried the same way.
//!
//! [`Native`] is the platform the crate was built for. On systems that are not supported yet the crate compiles,
//! and every operation of `Native` fails with [`std::io::ErrorKind::Unsupported`].

#[cfg(any(target_os = "linux", target_os = "macos", windows))]
mod group;
#[cfg(any(windows, target_os = "macos", test))]
mod labels;
#[cfg(target_os = "linux")]
pub mod linux;
#[cfg(any(target_os = "macos", test))]
pub mod macos;
#[cfg(any(target_os = "linux", windows, target_os = "macos", test))]
mod near;
mod overrides;
#[cfg(feature = "played")]
mod played;
#[cfg(any(target_os = "linux", windows, test))]
mod radio;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod readiness;
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
mod unsupported;
#[cfg(any(windows, test))]
pub mod windows;

pub use overrides::Overrides;

#[cfg(all(target_os = "linux", not(feature = "played")))]
pub use linux::Linux as Native;
#[cfg(target_os = "linux")]
pub use linux::{interface_number, own_datagrams, own_group, own_socket, own_stream};
#[cfg(all(target_os = "macos", not(feature = "played")))]
pub use macos::MacOs as Native;
#[cfg(target_os = "macos")]
pub use macos::{interface_number, own_datagrams, own_group, own_socket, own_stream};
#[cfg(feature = "played")]
pub use played::Native;
#[cfg(not(any(target_os = "linux", target_os = "macos", windows, feature = "played")))]
pub use unsupported::Native;
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
pub use unsupported::{interface_number, own_datagrams, own_group, own_socket, own_stream};
#[cfg(all(windows, not(feature = "played")))]
pub use windows::Windows as Native;
#[cfg(windows)]
pub use windows::{interface_number, own_datagrams, own_group, own_socket, own_stream};
