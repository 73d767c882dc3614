//! A system that is played, for tests of whole services without an adapter: its uplinks are loopback addresses that a file
//! lists, what goes through its virtual interface goes over a UDP socket to a test, and what is set on the host is
//! remembered and nothing more. The sockets of the uplinks are the system's own.
//!
//! The folder that `MAST_PLAYED` names holds
//! - `uplinks`: lines of a number, a name, an address, and `up`, `down`, or `mute` (up, and nothing leaves or arrives);
//! - `frames`: two UDP addresses, this end's and the test's.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use mast_conformance::fake::{FakeHost, FakeSystem, FakeTun, uplink};
use mast_engine::os::{Arrival, Family, InterfaceList, NotReceived, NotSent, Platform, TunWish, Udp};
use mast_engine::surroundings::{Check, Surroundings};
use mast_proto::Interface;
use tokio::sync::watch;

use crate::Overrides;

#[cfg(not(windows))]
type Real = mast_engine::os::PlainUdp;
#[cfg(windows)]
type Real = <crate::windows::Windows as Platform>::Udp;

/// The number of no interface: none is chosen by it.
#[cfg(windows)]
const ANY: mast_proto::InterfaceId = mast_proto::InterfaceId(0);
/// How often the file of the uplinks is read.
const LOOK: Duration = Duration::from_millis(50);

type Mute = Arc<Mutex<BTreeSet<u32>>>;

/// The played system.
#[derive(Debug, Clone, Default)]
pub struct Native {
    fake: FakeSystem,
    mute: Mute,
    wire: Arc<Mutex<Wire>>,
}

/// What carries the frames of the virtual interface. The socket outlives it, since its address is the test's to name.
#[derive(Debug, Default)]
struct Wire {
    socket: Option<Arc<tokio::net::UdpSocket>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Native {
    /// The system of the folder.
    pub fn new(_overrides: Overrides) -> Self {
        Self::default()
    }
}

fn folder() -> io::Result<PathBuf> {
    std::env::var_os("MAST_PLAYED").map(PathBuf::from).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "MAST_PLAYED names no folder: this program is for tests alone",
        )
    })
}

impl Native {
    /// Reads the uplinks; what is being written is read the next time.
    fn look(&self) -> io::Result<()> {
        let text = std::fs::read_to_string(folder()?.join("uplinks"))?;
        let mut mute = BTreeSet::new();
        let mut list = Vec::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let &[number, name, address, state] = words.as_slice() else { return Ok(()) };
            let (Ok(number), Ok(address)) = (number.parse::<u32>(), address.parse::<IpAddr>()) else {
                return Ok(());
            };
            let mut one = uplink(number, name, &[address]);
            one.usable = state != "down";
            if state == "mute" {
                mute.insert(number);
            }
            list.push(one);
        }
        *self.mute.lock().unwrap_or_else(PoisonError::into_inner) = mute;
        self.fake.uplinks().send_if_modified(|now| {
            let differs = now.interfaces != list;
            now.interfaces = list;
            differs
        });
        Ok(())
    }
}

/// A socket that may be deaf and dumb.
pub struct PlayedUdp {
    real: Real,
    interface: u32,
    mute: Mute,
}

impl PlayedUdp {
    fn is_mute(&self) -> bool {
        self.mute.lock().unwrap_or_else(PoisonError::into_inner).contains(&self.interface)
    }
}

impl Udp for PlayedUdp {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.real.poll_readable(cx)
    }
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.real.poll_writable(cx)
    }
    fn try_recv(&self, buffer: &mut [u8]) -> Result<Arrival, NotReceived> {
        let arrival = self.real.try_recv(buffer)?;
        if self.is_mute() { Err(NotReceived::Earlier) } else { Ok(arrival) }
    }
    fn try_send(
        &self,
        local: IpAddr,
        remote: SocketAddr,
        class: u8,
        stride: usize,
        payload: &[u8],
    ) -> Result<(), NotSent> {
        if self.is_mute() { Ok(()) } else { self.real.try_send(local, remote, class, stride, payload) }
    }
    fn set_segments(&self, on: bool) {
        self.real.set_segments(on);
    }
}

impl Platform for Native {
    type Tun = FakeTun;
    type Udp = PlayedUdp;
    type Host = FakeHost;

    async fn create_tun(&self, wish: &TunWish) -> io::Result<FakeTun> {
        let text = std::fs::read_to_string(folder()?.join("frames"))?;
        let ends: Vec<SocketAddr> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let &[own, test] = ends.as_slice() else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "`frames` holds two UDP addresses"));
        };
        let tun = self.fake.create_tun(wish).await?;
        let known = self.wire.lock().unwrap_or_else(PoisonError::into_inner).socket.clone();
        let socket = match known {
            Some(socket) => socket,
            None => Arc::new(tokio::net::UdpSocket::bind(own).await?),
        };
        let (fake, sending) = (self.fake.clone(), Arc::clone(&socket));
        let out = tokio::spawn(async move {
            while fake.interface().is_some() {
                if let Some(frame) = fake.receive().await {
                    // The test may have gone.
                    let _ = sending.send_to(&frame, test).await;
                }
            }
        });
        let (fake, receiving) = (self.fake.clone(), Arc::clone(&socket));
        let inward = tokio::spawn(async move {
            let mut frame = vec![0; 65_535];
            while fake.interface().is_some() {
                let received =
                    tokio::time::timeout(Duration::from_secs(1), receiving.recv_from(&mut frame)).await;
                if let Ok(Ok((length, from))) = received
                    && from == test
                {
                    fake.send(frame.get(..length).unwrap_or_default().to_vec());
                }
            }
        });
        let mut wire = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        wire.socket = Some(socket);
        for before in std::mem::replace(&mut wire.tasks, vec![out, inward]) {
            before.abort();
        }
        Ok(tun)
    }

    fn host(&self) -> io::Result<FakeHost> {
        self.fake.host()
    }

    fn bind_udp(&self, interface: &Interface, family: Family, port: u16) -> io::Result<PlayedUdp> {
        #[cfg(not(windows))]
        let real = self.fake.bind_udp(interface, family, port)?;
        #[cfg(windows)]
        let real = {
            // The address alone decides: it is one of the loopback interface, which cannot be chosen.
            let any = Interface { id: ANY, ..interface.clone() };
            crate::windows::Windows::default().bind_udp(&any, family, port)?
        };
        Ok(PlayedUdp { real, interface: interface.id.0, mute: Arc::clone(&self.mute) })
    }

    fn watch_interfaces(&self) -> io::Result<watch::Receiver<InterfaceList>> {
        self.look()?;
        let (played, list) = (self.clone(), self.fake.watch_interfaces()?);
        let uplinks = self.fake.uplinks().clone();
        thread::spawn(move || {
            while !uplinks.is_closed() {
                thread::sleep(LOOK);
                if let Err(error) = played.look() {
                    tracing::debug!(%error, "the uplinks cannot be read");
                }
            }
        });
        Ok(list)
    }
}

impl Surroundings for Native {
    fn checks(&self) -> Vec<Check> {
        self.fake.checks()
    }
    fn sessions(&self, local: &[IpAddr], remote: &[IpAddr]) -> usize {
        self.fake.sessions(local, remote)
    }
    fn clear_leftovers(&self, interface: &str) -> io::Result<Vec<String>> {
        self.fake.clear_leftovers(interface)
    }
}
