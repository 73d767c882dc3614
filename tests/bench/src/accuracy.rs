//! How exact the lab itself is: the echo without any tunnel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use mast_netlab::traffic::{EchoClient, EchoReport, EchoServer};
use mast_stage::Train;
use socket2::SockRef;

use crate::{Result, Setting, io};

/// What the echo sees over each of the two links.
pub struct Accuracy {
    /// Over Wi-Fi.
    pub wifi: EchoReport,
    /// Over cellular.
    pub cell: EchoReport,
}

/// Measures for some seconds.
///
/// # Errors
/// When the lab cannot be built.
pub fn measure(period: Duration, setting: &Setting) -> Result<Accuracy> {
    let train = Train::new(&setting.profile())?;
    let target = train.server_address();
    let any =
        if target.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let server = EchoServer::start(&train.server, SocketAddr::new(target, 7))?;
    let over = |interface: &str| -> Result<EchoReport> {
        let open = || {
            let socket = UdpSocket::bind((any, 0))?;
            SockRef::from(&socket).bind_device(Some(interface.as_bytes()))?;
            Ok(socket)
        };
        let socket = train.laptop.run(open)?.map_err(io("open a socket"))?;
        let echo = EchoClient::with_socket(socket, server.address(), EchoClient::INTERVAL)?;
        // The first packets resolve addresses.
        thread::sleep(Duration::from_millis(500));
        let mark = echo.mark();
        thread::sleep(period);
        Ok(echo.finish(mark))
    };
    Ok(Accuracy { wifi: over("wifi")?, cell: over("cell")? })
}
