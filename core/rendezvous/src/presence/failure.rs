//! Why a presence service cannot be used, in words for the user, and how soon it is tried again.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use tokio_rustls::rustls::{CertificateError, Error as TlsError};
use tokio_xmpp::Error as XmppError;
use tokio_xmpp::error::AuthError;
use xmpp_parsers::sasl::DefinedCondition;

use crate::Health;

/// The first pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest: a wrong password must not look like an attack, and a server that comes back is found within minutes.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// What a server says is quoted up to here.
const MOST_QUOTED: usize = 120;

/// Why there is no session, or why one ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The domain has no address, and no server is named for it.
    UnknownHost(String),
    /// No server could be reached.
    Unreachable(String),
    /// The server's certificate does not prove that it is the domain's.
    Untrusted(String),
    /// The server offers no TLS.
    NoTls,
    /// The name or the password is wrong.
    Password,
    /// The account cannot be used: what the server says.
    Account(String),
    /// There is no way to log in that is safe enough.
    NoMechanism,
    /// The account has no node for addresses, and cannot have one.
    NoPep,
    /// The server does not take what is published: what it says.
    NotPublished(String),
    /// The connection was lost.
    Lost(String),
    /// This host has another address, so the connection is of no use any more.
    Moved,
    /// There is no time left for an answer.
    Silent,
}

impl Failure {
    /// Whether another network may help, so that it is tried again at once when addresses change.
    pub(super) fn by_network(&self) -> bool {
        use Failure::{Account, NoMechanism, NoPep, NotPublished, Password};
        // What hotels and trains answer to whoever has not paid yet has no certificate.
        !matches!(self, Password | Account(_) | NoMechanism | NoPep | NotPublished(_))
    }

    /// What the user reads, and can do.
    pub(super) fn health(&self, jid: &str, domain: &str) -> Health {
        let network = "Nothing needs to be done if this host is offline; else check the name of the server";
        let (why, remedy) = match self {
            Self::UnknownHost(host) => (
                format!("The presence server {host} is unknown"),
                format!("Check the part of {jid} after the @, or name the server (`server`)"),
            ),
            Self::Unreachable(why) => (format!("The presence server of {domain} cannot be reached ({why})"), network.into()),
            Self::Untrusted(why) => (
                format!("The presence server's certificate is not trusted for {domain} ({why})"),
                "Nothing was told to it; ask its operator, or name the authority that signed it (`authority`)".into(),
            ),
            Self::NoTls => (
                format!("The presence server of {domain} offers no TLS"),
                "Nothing was told to it; use an account on another server".into(),
            ),
            Self::Password => (
                format!("The presence server does not accept the password of {jid}"),
                format!("Log in again: mast presence login {jid}"),
            ),
            Self::Account(said) => (
                format!("The presence server does not let {jid} log in ({said})"),
                "Ask its operator, or use another account".into(),
            ),
            Self::NoMechanism => (
                format!("The presence server of {domain} offers no way to log in that is known here"),
                "Use an account on a server that offers SCRAM or PLAIN".into(),
            ),
            Self::NoPep => (
                format!("The presence server of {domain} does not keep what accounts publish (PEP, XEP-0163)"),
                "Ask its operator to turn PEP on, or use an account on another server".into(),
            ),
            Self::NotPublished(said) => (
                format!("The presence server does not take the addresses of this host ({said})"),
                "Peers may not find this host by presence; ask the server's operator".into(),
            ),
            Self::Lost(why) => (format!("The connection to the presence server was lost ({why})"), network.into()),
            Self::Moved => ("This host has another address".into(), network.into()),
            Self::Silent => (format!("The presence server of {domain} does not answer"), network.into()),
        };
        Health::Failed { why: why + ".", remedy: remedy + "." }
    }
}

impl From<XmppError> for Failure {
    fn from(error: XmppError) -> Self {
        match error {
            XmppError::Io(error) => error.into(),
            XmppError::Auth(AuthError::Fail(condition)) => refused(&condition),
            // The server's proof that it knows the password is wrong, or its challenge makes no sense.
            XmppError::Auth(AuthError::Sasl(error)) => Self::Account(quoted(&error.to_string())),
            XmppError::Auth(_) => Self::NoMechanism,
            other => Self::Lost(quoted(&other.to_string())),
        }
    }
}

fn refused(condition: &DefinedCondition) -> Failure {
    match condition {
        DefinedCondition::NotAuthorized | DefinedCondition::CredentialsExpired => Failure::Password,
        DefinedCondition::TemporaryAuthFailure | DefinedCondition::Aborted => {
            Failure::Lost(quoted(&format!("{condition:?}")))
        }
        other => Failure::Account(quoted(&format!("{other:?}"))),
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut {
            return Self::Silent;
        }
        match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
            Some(TlsError::InvalidCertificate(why)) => Self::Untrusted(certificate(why)),
            Some(other) => Self::Lost(quoted(&other.to_string())),
            None => {
                let cause = error.source().map(ToString::to_string);
                Self::Lost(quoted(&cause.unwrap_or_else(|| error.to_string())))
            }
        }
    }
}

fn certificate(why: &CertificateError) -> String {
    use CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext,
        UnknownIssuer,
    };
    match why {
        UnknownIssuer => "no known authority signed it".into(),
        NotValidForName => "it is for another name".into(),
        NotValidForNameContext { presented, .. } => {
            quoted(&format!("it is for another name: {}", presented.join(", ")))
        }
        Expired | ExpiredContext { .. } => "it has expired".into(),
        NotValidYet | NotValidYetContext { .. } => "it is not valid yet".into(),
        other => quoted(&other.to_string()),
    }
}

/// What came from outside, short and on one line.
pub(super) fn quoted(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MOST_QUOTED).collect()
}

/// The pauses between tries: each is twice as long as the one before.
#[derive(Debug)]
pub(super) struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: FIRST_PAUSE }
    }
}

impl Pauses {
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_five_minutes() {
        let mut pauses = Pauses::default();
        let seconds: Vec<u64> = (0..11).map(|_| pauses.next().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn what_a_server_says_is_quoted_in_one_short_line() {
        assert_eq!(quoted("a\nb\x1b[31mc"), "ab[31mc");
        assert_eq!(quoted(&"x".repeat(5000)).len(), MOST_QUOTED);
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_named() {
        let error = TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        let failure = Failure::from(io::Error::new(io::ErrorKind::InvalidData, error));
        let Health::Failed { why, .. } = failure.health("a@example.org", "example.org") else { panic!() };
        assert_eq!(
            why,
            "The presence server's certificate is not trusted for example.org (no known authority signed it)."
        );
        assert!(failure.by_network() && !Failure::Password.by_network());
    }
}
