//! Stands in on systems that are not supported yet: it compiles, and says so when used.

use std::io::{self, IoSlice};
use std::net::IpAddr;

use mast_engine::declared::{Host, Present, Step};
use mast_engine::os::{Family, InterfaceList, Offload, Offloads, PlainUdp, Platform, Tun, TunWish};
use mast_engine::surroundings::{Check, Surroundings};
use mast_proto::Interface;
use tokio::sync::watch;

use crate::Overrides;

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!("MAST does not support {} yet; it runs on Linux", std::env::consts::OS),
    ))
}

/// The platform of a system that is not supported yet.
#[derive(Debug, Clone, Default)]
pub struct Native(());

impl Native {
    /// Makes the stand-in; what it is asked for fails.
    pub fn new(_overrides: Overrides) -> Self {
        Self(())
    }
}

/// A virtual interface that cannot exist.
#[derive(Debug)]
pub enum NoTun {}

impl Tun for NoTun {
    fn name(&self) -> &str {
        match *self {}
    }
    async fn readable(&self) -> io::Result<()> {
        match *self {}
    }
    fn offloads(&self) -> Offloads {
        match *self {}
    }
    fn try_recv(&self, _buffer: &mut [u8]) -> io::Result<(usize, Offload)> {
        match *self {}
    }
    fn try_send(&self, _parts: &[IoSlice<'_>], _offload: Offload) -> io::Result<()> {
        match *self {}
    }
}

/// A host on which nothing can be set.
#[derive(Debug)]
pub enum NoHost {}

impl Host for NoHost {
    fn present(&mut self, _interface: Option<&str>) -> io::Result<Present> {
        match *self {}
    }
    fn take(&mut self, _interface: Option<&str>, _steps: &[Step]) -> Vec<io::Result<()>> {
        match *self {}
    }
}

impl Platform for Native {
    type Tun = NoTun;
    type Udp = PlainUdp;
    type Host = NoHost;

    async fn create_tun(&self, _wish: &TunWish) -> io::Result<NoTun> {
        unsupported()
    }
    fn host(&self) -> io::Result<NoHost> {
        unsupported()
    }
    fn bind_udp(&self, _interface: &Interface, _family: Family, _port: u16) -> io::Result<PlainUdp> {
        unsupported()
    }
    fn watch_interfaces(&self) -> io::Result<watch::Receiver<InterfaceList>> {
        unsupported()
    }
}

impl Surroundings for Native {
    fn checks(&self) -> Vec<Check> {
        let text = format!("MAST does not support {} yet; it runs on Linux.", std::env::consts::OS);
        vec![Check::fail("system", text)]
    }
    fn sessions(&self, _local: &[IpAddr], _remote: &[IpAddr]) -> usize {
        0
    }
    fn clear_leftovers(&self, _interface: &str) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// The number of the interface of a name: not known here.
pub fn interface_number(_name: &str) -> Option<u32> {
    None
}

/// A socket for a question of the service's own: there is none here.
///
/// # Errors
/// Always.
pub fn own_socket(_interface: &str, _to: std::net::SocketAddr) -> io::Result<std::net::UdpSocket> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A socket of the service's own for datagrams: there is none here.
///
/// # Errors
/// Always.
pub fn own_datagrams(_interface: &str, _family: Family) -> io::Result<std::net::UdpSocket> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A socket of the service's own for a group: there is none here.
///
/// # Errors
/// Always.
pub fn own_group(_interface: &str, _group: std::net::IpAddr, _port: u16) -> io::Result<std::net::UdpSocket> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A socket of the service's own for a connection: there is none here.
///
/// # Errors
/// Always.
pub fn own_stream(_interface: &str, _family: Family) -> io::Result<std::net::TcpStream> {
    Err(io::ErrorKind::Unsupported.into())
}
