//! Why there is no allocation, in words, and how long until the next try.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use stun_types::attribute::ErrorCode;
use tokio_rustls::rustls::{self, CertificateError};

use super::{Server, State, Transport};

/// The first pause after a failure that passes by itself; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest of those: who comes home finds a relay that works within a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The first pause where a user has to mend something: asked more often, some servers lock an account.
const LONG_PAUSE: Duration = Duration::from_secs(60);
/// The longest of those.
const LONGEST_LONG_PAUSE: Duration = Duration::from_secs(600);

/// Why there is no allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Wrong name or password.
    Credentials,
    /// The account may not use it.
    Forbidden,
    /// The account uses too much already.
    Quota,
    /// The server is full.
    Capacity,
    /// Another server is to be asked.
    Elsewhere,
    /// Another error of TURN.
    Code(u16),
    /// It answers something else.
    NotTurn,
    /// It speaks no TLS.
    NotTls,
    /// Its certificate is signed by nobody known.
    Issuer,
    /// Its certificate is for another name.
    OtherName,
    /// Its certificate is not valid now.
    Time,
    /// Something else about its certificate or TLS.
    Tls(String),
    /// The name of the server cannot be one.
    Host,
    /// The name of the user is too long.
    Name,
    /// No answer.
    Silent,
    /// Nothing listens there.
    Refused,
    /// The stream was closed.
    Closed,
    /// The network does not lead there.
    Network(String),
    /// There is no address to ask.
    NoAddress,
    /// There was an allocation, and it is gone.
    Lost,
}

impl Failure {
    /// By the code of an error (RFC 8656, 19; RFC 8489, 14.8).
    pub fn of(code: u16) -> Self {
        match code {
            ErrorCode::UNAUTHORIZED | ErrorCode::WRONG_CREDENTIALS => Self::Credentials,
            ErrorCode::FORBIDDEN => Self::Forbidden,
            ErrorCode::ALLOCATION_QUOTA_REACHED => Self::Quota,
            ErrorCode::INSUFFICIENT_CAPACITY => Self::Capacity,
            ErrorCode::TRY_ALTERNATE => Self::Elsewhere,
            code => Self::Code(code),
        }
    }

    /// By what the system, or TLS, says.
    pub fn of_io(error: &io::Error) -> Self {
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Self::of_tls(tls);
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::Silent,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Closed,
            io::ErrorKind::InvalidData => Self::NotTurn,
            _ => Self::Network(error.to_string()),
        }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(trouble) => match trouble {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Issuer,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::OtherName
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::Time,
                other => Self::Tls(format!("{other:?}").chars().take(80).collect()),
            },
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            other => Self::Tls(other.to_string().chars().take(80).collect()),
        }
    }

    /// Of several, the one that says most: what a server says comes before what the network does.
    pub fn weight(&self) -> u8 {
        match self {
            Self::NoAddress => 0,
            // It is the same at every address.
            Self::Host | Self::Name => u8::MAX,
            Self::Network(_) => 1,
            Self::Silent => 2,
            Self::Closed | Self::Refused | Self::Lost => 3,
            Self::NotTls | Self::NotTurn => 4,
            Self::Issuer | Self::OtherName | Self::Time | Self::Tls(_) => 5,
            Self::Elsewhere | Self::Code(_) | Self::Capacity | Self::Quota => 6,
            Self::Forbidden | Self::Credentials => 7,
        }
    }

    /// Whether nothing but a user's deed helps.
    fn is_lasting(&self) -> bool {
        matches!(self, Self::Credentials | Self::Forbidden | Self::Host | Self::Name | Self::NoAddress)
    }

    /// In words.
    pub fn state(&self, server: &Server) -> State {
        let (host, over) = (&server.host, server.transport);
        let stream = match over {
            Transport::Udp => "where UDP is blocked, reach the same relay over TCP or TLS",
            Transport::Tcp => "where all but the web is blocked, reach the same relay over TLS on port 443",
            Transport::Tls => "see whether the relay runs, and whether a firewall stands between",
        };
        let account = "correct the user name and password of this relay in the configuration";
        let (why, remedy) = match self {
            Self::Credentials => {
                (format!("the relay {host} refuses this user name and password (401)"), account)
            }
            Self::Forbidden => (
                format!("the relay {host} forbids its use (403)"),
                "ask whoever runs the relay whether this account may use it",
            ),
            Self::Quota => (
                format!("the relay {host} gives this account no further address (486)"),
                "use fewer devices with this account, or have its quota raised; it is tried again",
            ),
            Self::Capacity => (
                format!("the relay {host} has no address left (508)"),
                "wait, or name another relay; it is tried again",
            ),
            Self::Elsewhere => (
                format!("the relay {host} sends its users to another server (300)"),
                "ask whoever runs the relay for that server's name, and put it into the configuration",
            ),
            Self::Code(code) => (
                format!("the relay {host} refuses to give an address ({code})"),
                "ask whoever runs the relay what it wants",
            ),
            Self::NotTurn => (
                format!("what answers at {host} over {over} is no relay"),
                "check the host, the port and the transport of this relay",
            ),
            Self::NotTls => (
                format!("what answers at {host} does not speak TLS"),
                "check the port of this relay, or choose tcp as its transport",
            ),
            Self::Issuer => (
                format!("the certificate of the relay {host} is signed by nobody whom this host trusts"),
                "if the relay is yours, name the certificate of its authority in the configuration; otherwise somebody \
                 stands between, such as a portal of the network",
            ),
            Self::OtherName => (
                format!("the certificate of the relay is not for the name {host}"),
                "name the relay as its certificate does",
            ),
            Self::Time => (
                format!("the certificate of the relay {host} is not valid at this time"),
                "check this host's clock, or have the relay's certificate renewed",
            ),
            Self::Tls(what) => {
                (format!("TLS with the relay {host} fails: {what}"), "check the relay's certificate")
            }
            Self::Host => (
                format!("{host:?} cannot be the name of a relay"),
                "correct the host of this relay in the configuration",
            ),
            Self::Name => ("the user name for the relay is longer than 508 bytes".to_owned(), account),
            Self::Silent => (format!("the relay {host} does not answer over {over}"), stream),
            Self::Refused => (
                format!("nothing listens at the relay {host} over {over}"),
                "check the port and the transport of this relay, and whether it runs",
            ),
            Self::Closed => (format!("the relay {host} closes the connection over {over}"), stream),
            Self::Network(what) => (
                format!("the network does not lead to the relay {host}: {what}"),
                "nothing, if the network comes back; it is tried again",
            ),
            Self::NoAddress => (
                format!("the relay {host} has no address"),
                "check the host of this relay in the configuration",
            ),
            Self::Lost => (
                format!("the relay {host} has given up this host's address"),
                "nothing; another is asked for",
            ),
        };
        State::Failed { why, remedy: remedy.to_owned() }
    }
}

/// Pauses between tries.
#[derive(Debug, Default)]
pub struct Backoff {
    tries: u32,
    lasting: u32,
}

impl Backoff {
    /// All is well.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The pause after a failure; a fifth more or less, so that all who lost one relay do not come back together.
    pub fn pause(&mut self, failure: &Failure, random: u128) -> Duration {
        let (first, longest, tries) = match failure.is_lasting() {
            true => (LONG_PAUSE, LONGEST_LONG_PAUSE, &mut self.lasting),
            false => (PAUSE, LONGEST_PAUSE, &mut self.tries),
        };
        let pause = first.saturating_mul(1 << (*tries).min(10)).min(longest);
        *tries = tries.saturating_add(1);
        let fifth = u32::try_from(random % 40).unwrap_or(0);
        pause * (80 + fifth) / 100
    }
}

/// The addresses to be tried, the two families in turn (RFC 8305, 4), at most `most`.
pub fn in_turn(addresses: &[SocketAddr], most: usize) -> Vec<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (mut first, mut second): (Vec<_>, Vec<_>) =
        addresses.iter().partition(|at| at.is_ipv4() == first_is_v4);
    first.dedup();
    second.dedup();
    let longest = first.len().max(second.len());
    let turns = (0..longest).flat_map(|at| [first.get(at).copied(), second.get(at).copied()]);
    turns.flatten().take(most).collect()
}
