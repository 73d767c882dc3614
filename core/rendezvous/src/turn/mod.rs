//! Relays (TURN, RFC 8656): where two hosts cannot reach each other, both can reach a server that lends one of them an
//! address. Such servers exist already, in offices and at providers of telephony; none is ours.
//!
//! [`run`] keeps one address at one relay, over one uplink: it asks for it, keeps it, lets those peers through that
//! something is sent to, puts them on channels, which cost four bytes a datagram, and asks for another when it is lost. What
//! is carried is sealed by whoever uses this: a relay may read, forge, delay and drop whatever it likes, and is told the
//! addresses of the peers. That it answers and forwards nothing is noticed by those whose datagrams do not arrive.
//!
//! Why not the client of `turn-client-proto`, whose messages these are: it has no way to let a permission lapse, does not tell
//! errors apart, and puts datagrams on a stream without filling them up to four bytes (RFC 8656, 12.5), so that real
//! servers lose count.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;

pub use tokio_rustls::rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

mod client;
mod failure;
mod message;
mod peers;
mod race;
mod run;
mod tls;
mod wire;

pub use run::run;

/// The longest payload that is carried, in bytes, in either direction.
pub const LONGEST: usize = 1500;

/// A datagram through a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// From or to whom, as the relay sees the peer.
    pub peer: SocketAddr,
    /// What it carries, at most [`LONGEST`]; longer ones are dropped.
    pub payload: Vec<u8>,
}

/// How a relay is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By UDP, which is best where it is not blocked.
    Udp,
    /// By TCP.
    Tcp,
    /// By TLS over TCP, which looks like the web on port 443.
    Tls,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        })
    }
}

/// A relay, and who uses it.
pub struct Server {
    /// Its name: that of its certificate with [`Transport::Tls`], and in what users read.
    pub host: String,
    /// Where it is, the best first; at most eight are tried.
    pub at: Vec<SocketAddr>,
    /// How it is reached.
    pub transport: Transport,
    /// The user, at most 508 bytes (RFC 8489, 14.3).
    pub username: String,
    /// The password.
    pub password: Zeroizing<String>,
    /// Authorities that may sign its certificate, besides those of the web.
    pub roots: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Server");
        debug.field("host", &self.host).field("at", &self.at).field("transport", &self.transport);
        debug.finish_non_exhaustive()
    }
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    pub fn of(address: SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Makes sockets that leave over one uplink.
pub trait Bind: Send + Sync + 'static {
    /// A socket that is not connected, of any port.
    ///
    /// # Errors
    ///
    /// Where the uplink has none of that family.
    fn udp(&self, family: Family) -> io::Result<std::net::UdpSocket>;

    /// A stream that is connected. It is dropped, and with that given up, after some seconds.
    ///
    /// # Errors
    ///
    /// Where it cannot be.
    fn tcp(&self, to: SocketAddr) -> impl Future<Output = io::Result<tokio::net::TcpStream>> + Send;
}

/// How a relay fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    /// It has not been reached yet, or an address was lost and another is asked for.
    #[default]
    Starting,
    /// It lends an address.
    Allocated {
        /// The address, at which peers reach this host.
        relayed: SocketAddr,
        /// Which of its own it was reached at.
        server: SocketAddr,
    },
    /// It lends none. It is tried again by and by.
    Failed {
        /// Why: one sentence.
        why: String,
        /// What helps: one sentence.
        remedy: String,
    },
}
