//! Two services on a played system: they pair, carry an echo, and go on when an uplink falls silent. The control API, the
//! state and the sockets are the system's own, so that this runs wherever the program does.
//!
//! Needs the feature `played`, which no service that is shipped has.
#![cfg(feature = "played")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mast_control::{Client, Invite, PathState, PeerAdd, PeerState, Status};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// A service, and this test's end of its virtual interface.
struct Host {
    directory: TempDir,
    number: u8,
    service: Child,
    frames: UdpSocket,
    to: SocketAddr,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.service.kill();
        let _ = self.service.wait();
    }
}

fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Host {
    fn start(number: u8, name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let frames = UdpSocket::bind("127.0.0.1:0").unwrap();
        frames.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let to: SocketAddr = ([127, 0, 0, 1], free_port()).into();
        let write = |file: &str, text: String| fs::write(directory.path().join(file), text).unwrap();
        write("frames", format!("{to} {}\n", frames.local_addr().unwrap()));
        write("mastd.toml", format!("name = \"{name}\"\nport = {}\n", free_port()));
        let log = fs::File::create(directory.path().join("log")).unwrap();
        set_uplinks(&directory, number, ["up", "up"]);
        let service = Command::new(env!("CARGO_BIN_EXE_mastd"))
            .env("MAST_PLAYED", directory.path())
            .arg("--config")
            .arg(directory.path().join("mastd.toml"))
            .arg("--state-dir")
            .arg(directory.path().join("state"))
            .arg("--control")
            .arg(control(&directory))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { directory, number, service, frames, to }
    }

    async fn client(&self) -> Client {
        let begun = Instant::now();
        loop {
            match Client::connect(control(&self.directory)).await {
                Ok(client) => return client,
                Err(error) if begun.elapsed() > PATIENCE => panic!("{error}\n{}", self.log()),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn until(&self, what: &str, is: impl Fn(&Status) -> bool) -> Status {
        let begun = Instant::now();
        let mut client = self.client().await;
        loop {
            let status = client.status().await.unwrap();
            if is(&status) {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "never: {what}\n{status:#?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Asks the other host for an echo, again and again until it comes; how long that took.
    fn echo(&self, from: Ipv6Addr, to: Ipv6Addr, number: u16) -> Duration {
        let begun = Instant::now();
        let mut buffer = [0; 2000];
        loop {
            self.frames.send_to(&request(from, to, number), self.to).unwrap();
            if let Ok((length, _)) = self.frames.recv_from(&mut buffer)
                && is_reply(&buffer[..length], to, from, number)
            {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < PATIENCE, "no echo {number}\n{}", self.log());
        }
    }
}

fn control(directory: &TempDir) -> PathBuf {
    directory.path().join("control.sock")
}

fn set_uplinks(directory: &TempDir, number: u8, states: [&str; 2]) {
    let [first, second] = states;
    // Of 127.0.0.0/8, or of the IPv6 network that `MAST_LOOPBACK` names: under wine there must be one, where not every
    // address of 127.0.0.0/8 has a socket of its own.
    let address = |uplink: u8| match std::env::var("MAST_LOOPBACK") {
        Ok(network) => format!("{network}{number:x}:{uplink:x}"),
        Err(_) => format!("127.77.{number}.{uplink}"),
    };
    let text = format!("1 eth0 {} {first}\n2 wlan0 {} {second}\n", address(1), address(2));
    // Whole or not at all.
    fs::write(directory.path().join("uplinks.new"), text).unwrap();
    fs::rename(directory.path().join("uplinks.new"), directory.path().join("uplinks")).unwrap();
}

/// An ICMPv6 echo request.
fn request(from: Ipv6Addr, to: Ipv6Addr, number: u16) -> Vec<u8> {
    let mut message = vec![128, 0, 0, 0, 0x4d, 0x41];
    message.extend(number.to_be_bytes());
    message.extend(b"echo of a played host");
    let mut frame = vec![0x60, 0, 0, 0];
    frame.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend([58, 64]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    let mut sum: u32 = 58 + u32::try_from(message.len()).unwrap();
    for part in [&from.octets()[..], &to.octets(), &message] {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).unwrap();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    frame.extend(message);
    frame
}

fn is_reply(frame: &[u8], from: Ipv6Addr, to: Ipv6Addr, number: u16) -> bool {
    frame.len() >= 48
        && frame[40] == 129
        && frame[8..24] == from.octets()
        && frame[24..40] == to.octets()
        && frame[46..48] == number.to_be_bytes()
}

#[tokio::test]
async fn two_services_pair_carry_an_echo_and_outlive_an_uplink() {
    let (gate, laptop) = (Host::start(1, "gate"), Host::start(2, "laptop"));
    let invited = gate.client().await.invite(Invite::default()).await.unwrap();
    let add = PeerAdd { link: Some(invited.link), file: None, name: None };
    let added = laptop.client().await.peer_add(add).await.unwrap();
    assert_eq!(added.name, "gate");
    let connected = |status: &Status| {
        status.peers.first().is_some_and(|peer| {
            let alive = peer.paths.iter().filter(|path| path.state == PathState::Validated).count();
            peer.state == PeerState::Connected && peer.eid.remote_v6.is_some() && alive >= 2
        })
    };
    gate.until("connected", connected).await;
    let status = laptop.until("connected", connected).await;
    let eid = &status.peers[0].eid;
    let own: Ipv6Addr = eid.local_v6.as_deref().unwrap().parse().unwrap();
    let other: Ipv6Addr = eid.remote_v6.as_deref().unwrap().parse().unwrap();
    for number in 0..20 {
        laptop.echo(own, other, number);
    }
    // Each uplink falls silent in turn, without the system saying a word; and one goes for good.
    for (number, states) in [(100, ["mute", "up"]), (200, ["up", "mute"]), (300, ["down", "up"])] {
        set_uplinks(&laptop.directory, laptop.number, states);
        // Until what is sent goes over the other: before that nothing was survived.
        let left = if states[0] == "up" { "eth0" } else { "wlan0" };
        let (begun, mut longest, mut asked) = (Instant::now(), Duration::ZERO, number);
        loop {
            longest = longest.max(laptop.echo(own, other, asked));
            asked += 1;
            let status = laptop.client().await.status().await.unwrap();
            if status.peers[0].paths.iter().any(|path| path.active && path.interface == left) {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{states:?}: not over {left}\n{status:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        longest = longest.max(laptop.echo(own, other, asked));
        println!("{states:?}: over {left} after {asked} echoes, the longest took {longest:?}");
        assert!(longest < Duration::from_secs(20), "{states:?}: {longest:?}");
        // Both are back before the next.
        set_uplinks(&laptop.directory, laptop.number, ["up", "up"]);
        laptop.until("both again", connected).await;
    }
    laptop.client().await.down().await.unwrap();
    gate.until("down", |status| status.peers[0].state == PeerState::Down).await;
    laptop.client().await.up().await.unwrap();
    laptop.until("up again", connected).await;
    laptop.echo(own, other, 400);
}
