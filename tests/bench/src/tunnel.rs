//! Two hosts that one veth pair joins, with a tunnel between them or none.

use std::net::{IpAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mast_control::{PeerAdd, PeerFile, Status};
use mast_netlab::{Host, Lab};
use mast_stage::{Daemon, Program};

use crate::bare;
use crate::wireguard::{End, Keys, Pair, file_name, serve};
use crate::{BenchError, Result};

const PATIENCE: Duration = Duration::from_secs(15);
const LAPTOP: &str = "10.1.0.1";
const SERVER: &str = "10.1.0.2";
const PORT: u16 = 6278;
/// Of a `mastd` that is built with the feature `measuring`: the cipher that it shall use instead of the one that suits
/// the processor, that it shall use its second thread under load, worth it or not, or speak plain WireGuard with everybody.
const MEASURE: &str = "--measure";

/// Debian's, to which all are compared.
pub const REFERENCE: &str = "wireguard-go";

/// What joins the hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tunnel {
    /// Nothing: the veth pair alone.
    None,
    /// The least that any tunnel does: [`bare`].
    Bare,
    /// The same, with both directions in one thread.
    BareByTurns,
    /// MAST, with the cipher that suits the processor (AES-256-GCM where it has instructions for it).
    Mast,
    /// MAST with its second thread under load, whether it is worth it or not.
    MastLane,
    /// MAST, with ChaCha20-Poly1305.
    MastChaCha,
    /// The service of MAST at both ends, each a plain WireGuard peer to the other.
    MastPlain,
    /// MAST at the laptop, and a plain WireGuard of that name at the server.
    MastTo(String),
    /// Plain WireGuard in user space at both ends: a program that is configured as wireguard-go is.
    WireGuard(String),
}

impl Tunnel {
    /// All that can be measured here; what cannot, is named with the reason.
    pub fn available() -> (Vec<Self>, Vec<String>) {
        let named =
            |variable: &str, program: &str| std::env::var(variable).unwrap_or_else(|_| program.into());
        let newer = std::env::var("WIREGUARD_GO").ok().map(Self::WireGuard);
        let own =
            [Self::Mast, Self::MastLane, Self::MastChaCha, Self::MastPlain, Self::MastTo(REFERENCE.into())];
        let all = [Self::None, Self::Bare, Self::BareByTurns]
            .into_iter()
            .chain(own)
            .chain([Self::WireGuard(REFERENCE.into())])
            .chain(newer)
            .chain([
                Self::WireGuard(named("BORINGTUN", "boringtun-cli")),
                Self::WireGuard(named("GOTATUN", "gotatun")),
            ]);
        let (there, missing): (Vec<_>, Vec<_>) = all.partition(Self::is_there);
        let words = |tunnel: &Self| match tunnel {
            Self::MastLane | Self::MastChaCha | Self::MastPlain => {
                format!("{}: `mast` is built without the feature `measuring`", tunnel.name())
            }
            _ => format!("{}: a program is missing", tunnel.name()),
        };
        (there, missing.iter().map(words).collect())
    }

    /// As a table names it.
    pub fn name(&self) -> String {
        match self {
            Self::None => "none (veth)".into(),
            Self::Bare => "bare loop".into(),
            Self::BareByTurns => "bare loop, one thread".into(),
            Self::Mast => "MAST".into(),
            Self::MastLane => "MAST, two threads".into(),
            Self::MastChaCha => "MAST, ChaCha20".into(),
            Self::MastPlain => "MAST, plain WireGuard".into(),
            Self::MastTo(program) => format!("MAST to {}", file_name(program)),
            Self::WireGuard(program) if self.is_newer() => format!("{program} (newer)"),
            Self::WireGuard(program) => file_name(program).to_owned(),
        }
    }

    /// A wireguard-go that is not Debian's.
    fn is_newer(&self) -> bool {
        matches!(self, Self::WireGuard(program) if program != REFERENCE && file_name(program) == REFERENCE)
    }

    fn program(&self) -> Option<&str> {
        match self {
            Self::MastTo(program) | Self::WireGuard(program) => Some(program),
            _ => None,
        }
    }

    /// What the program says of its version.
    pub fn version(&self) -> Option<String> {
        let output = Command::new(self.program()?).arg("--version").stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().find(|line| !line.trim().is_empty()).map(str::to_owned)
    }

    fn is_there(&self) -> bool {
        let runs = |program: &str| {
            let mut run = Command::new(program);
            run.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            run.status().is_ok()
        };
        let measures = |word| measuring(word).is_ok_and(|program| program.takes_its_arguments());
        match self {
            Self::MastLane => measures("lane"),
            Self::MastChaCha => measures("chacha20"),
            Self::MastPlain => measures("plain"),
            _ => self.program().is_none_or(|program| runs(program) && runs("wg")),
        }
    }
}

enum Ends {
    None,
    Bare(bare::Pair),
    Mast { laptop: Box<Daemon>, server: Box<Daemon> },
    Mixed { laptop: Box<Daemon>, server: End },
    WireGuard(Pair),
}

/// The hosts and the tunnel.
pub struct Bed {
    // Ended in this order.
    ends: Ends,
    /// The server's address inside the tunnel.
    pub to: IpAddr,
    /// The host that asks.
    pub laptop: Host,
    /// The host that serves.
    pub server: Host,
    _lab: Lab,
}

impl Bed {
    /// Joins two hosts and starts a tunnel between them. With `offloads` the veth pair does what network cards do:
    /// segmentation, coalescing, checksums; without, every packet of the kernel is one on the wire.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(tunnel: &Tunnel, offloads: bool) -> Result<Self> {
        let lab = Lab::new()?;
        let (laptop, server) = (lab.host("laptop")?, lab.host("server")?);
        lab.wire(&laptop, "eth0", &server, "eth0")?;
        for (host, address) in [(&laptop, LAPTOP), (&server, SERVER)] {
            host.set_offloads("eth0", offloads)?;
            host.add_address("eth0", &format!("{address}/24"))?;
        }
        let (ends, to) = match tunnel {
            Tunnel::None => (Ends::None, SERVER.to_owned()),
            Tunnel::Bare | Tunnel::BareByTurns => {
                let ends = ((&laptop, LAPTOP, Keys::LAPTOP), (&server, SERVER, Keys::SERVER));
                let pair = bare::Pair::start(ends.0, ends.1, *tunnel == Tunnel::BareByTurns)?;
                (Ends::Bare(pair), Keys::SERVER.to_owned())
            }
            Tunnel::Mast => mast(&Program::built()?, &laptop, &server)?,
            Tunnel::MastLane => mast(&measuring("lane")?, &laptop, &server)?,
            Tunnel::MastChaCha => mast(&measuring("chacha20")?, &laptop, &server)?,
            Tunnel::MastPlain => mast_plain(&laptop, &server)?,
            Tunnel::MastTo(program) => mast_to(program, &laptop, &server)?,
            Tunnel::WireGuard(program) => {
                let pair = Pair::start(&laptop, &server, program, SERVER)?;
                (Ends::WireGuard(pair), Keys::SERVER.to_owned())
            }
        };
        let to = to.parse().map_err(|_| BenchError::Program(format!("{to} is no address")))?;
        let deadline = Instant::now() + PATIENCE;
        while server.run(|| UdpSocket::bind((to, 0)).is_err())? {
            if Instant::now() > deadline {
                return Err(BenchError::Program(format!("the server does not get the address {to}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { ends, to, laptop, server, _lab: lab })
    }

    /// The tunnel's processes.
    pub fn processes(&self) -> Vec<u32> {
        match &self.ends {
            Ends::None => Vec::new(),
            Ends::Bare(pair) => pair.processes().to_vec(),
            Ends::Mast { laptop, server } => laptop.id().into_iter().chain(server.id()).collect(),
            Ends::Mixed { laptop, server } => laptop.id().into_iter().chain([server.id()]).collect(),
            Ends::WireGuard(pair) => pair.processes().to_vec(),
        }
    }
}

/// The server's address inside the tunnel, once data can go there.
fn known(laptop: &Daemon) -> Result<String> {
    let eid = |s: &Status| s.peers.first().and_then(|p| p.eid.remote_v4.clone());
    let ready = |s: &Status| eid(s).is_some() && s.peers.iter().any(|p| p.paths.iter().any(|x| x.active));
    Ok(eid(&laptop.wait("a path", PATIENCE, ready)?).unwrap_or_default())
}

fn mast(program: &Program, laptop: &Host, server: &Host) -> Result<(Ends, String)> {
    let server = Daemon::start(program, server, "")?;
    let laptop = Daemon::start(program, laptop, "")?;
    server.pair(&laptop)?;
    let to = known(&laptop)?;
    Ok((Ends::Mast { laptop: Box::new(laptop), server: Box::new(server) }, to))
}

/// `mast peer add` of a configuration file of wg-quick.
pub(crate) fn import(daemon: &Daemon, contents: String) -> Result<()> {
    let file = PeerFile { name: "other.conf".into(), contents };
    daemon.ask(async |c| c.peer_add(PeerAdd { file: Some(file), ..PeerAdd::default() }).await)?;
    Ok(())
}

/// The service with a switch for measuring.
fn measuring(word: &str) -> Result<Program> {
    Ok(Program::built()?.argument(MEASURE).argument(word))
}

fn mast_plain(laptop: &Host, server: &Host) -> Result<(Ends, String)> {
    // Or they would find out that both speak MAST.
    let program = measuring("plain")?;
    let server = Daemon::start(&program, server, "")?;
    let laptop = Daemon::start(&program, laptop, "")?;
    let (near, far) = (laptop.status()?.public_key, server.status()?.public_key);
    let config = |own: &str, peer: &str, other: &str, endpoint: &str| {
        format!(
            "[Interface]\nAddress = {own}/24\n\n[Peer]\nPublicKey = {peer}\nAllowedIPs = {other}/32\n{endpoint}"
        )
    };
    import(&server, config(Keys::SERVER, &near, Keys::LAPTOP, ""))?;
    let endpoint = format!("Endpoint = {SERVER}:{PORT}\nPersistentKeepalive = 25\n");
    import(&laptop, config(Keys::LAPTOP, &far, Keys::SERVER, &endpoint))?;
    let to = known(&laptop)?;
    Ok((Ends::Mast { laptop: Box::new(laptop), server: Box::new(server) }, to))
}

fn mast_to(program: &str, laptop: &Host, server: &Host) -> Result<(Ends, String)> {
    let keys = Keys::draw()?;
    let server = serve(server, program, &keys)?;
    let laptop = Daemon::start(&Program::built()?, laptop, "")?;
    import(&laptop, keys.laptop(SERVER, true)?)?;
    let to = known(&laptop)?;
    Ok((Ends::Mixed { laptop: Box::new(laptop), server }, to))
}
