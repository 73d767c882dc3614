//! Hosts, routers, links and NATs in Linux network namespaces, for demonstrations, tests and
//! measurements of programs that keep connections alive while a host moves between networks.
//!
//! ```no_run
//! use std::{net::SocketAddr, time::Duration};
//!
//! use mast_netlab::{Lab, LinkProfile, traffic::{EchoClient, EchoServer}};
//!
//! # fn main() -> mast_netlab::Result<()> {
//! mast_netlab::enter()?; // before any thread is started
//! let lab = Lab::new()?;
//! let laptop = lab.host("laptop")?;
//! let router = lab.router("isp")?;
//! let link = lab.link(&laptop, "wifi", &router, "r0", &LinkProfile::delay(Duration::from_millis(10)))?;
//! laptop.add_address("wifi", "10.1.0.2/24")?;
//! router.add_address("r0", "10.1.0.1/24")?;
//! laptop.add_route("default", Some("10.1.0.1"), "wifi", 0)?;
//!
//! let server = EchoServer::start(&router, SocketAddr::from(([10, 1, 0, 1], 7)))?;
//! let client = EchoClient::start(&laptop, server.address(), EchoClient::INTERVAL)?;
//! let mark = client.mark();
//! link.set_carrier_a(false)?;
//! std::thread::sleep(Duration::from_millis(200));
//! link.set_carrier_a(true)?;
//! println!("{:?}", client.finish(mark));
//! # Ok(())
//! # }
//! ```
//!
//! # Where it works
//!
//! On Linux 5.6 or later, as root or as an ordinary user who may create user namespaces, without any
//! other program; only NATs need `nft`, and name servers `knotd`. The caller's own network is never touched:
//!
//! - A program calls [`enter`] first thing in `main`, or [`reexec_isolated`] where it cannot be sure that
//!   no thread has been started.
//! - A test wraps its body in [`isolated_test`], because test harnesses have threads.
//! - As root none of these is needed: every host is a namespace of its own from the start.
//!
//! # What is left behind
//!
//! Nothing. Namespaces have no names and exist only as long as threads and descriptors of this process
//! refer to them; processes started by [`Host::spawn`] are killed by the kernel when this process ends,
//! whichever way. (Their own children are not, unless they see to it themselves.)
//!
//! # How links work
//!
//! Each end of a link is one half of a veth pair. The other halves are in a hidden namespace, where a
//! thread reads packets from one and, after a while, writes them to the other. All offloads are off, so
//! that one packet of the network stack is one packet of the wire. The emulator adds about 0.2 ms to a
//! round trip and carries some 100 000 packets a second. An idle link costs no time.
//!
//! # TCP
//!
//! Some machines default to a congestion control, such as BBR, with which measurements come out
//! differently. Hosts of a lab default to cubic if the kernel permits it; where the algorithm matters,
//! choose it for each socket with [`set_congestion`], as [`traffic`] does.

mod calm;
mod emulator;
mod error;
mod ethtool;
mod host;
mod isolate;
mod lab;
mod link;
mod names;
mod namespace;
mod nat;
mod netlink;
mod packet;
mod presence;
mod process;
mod profile;
mod random;
mod route;
mod sockopt;
pub mod traffic;
mod wake;

pub use calm::when_calm;
pub use error::{Error, Result};
pub use host::Host;
pub use isolate::{enter, isolated_test, reexec_isolated};
pub use lab::Lab;
pub use link::{Direction, Link};
pub use names::NameServer;
pub use nat::{Nat, NatKind};
pub use presence::PresenceServer;
pub use process::{Process, Signal};
pub use profile::{DirectionStats, LinkProfile, LinkStats};
pub use sockopt::set_congestion;
