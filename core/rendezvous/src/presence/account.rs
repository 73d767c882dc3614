//! The account by which a machine publishes.

use std::fmt;
use std::str::FromStr;

use ring::hmac;
use thiserror::Error;
use xmpp_parsers::jid::BareJid;
use zeroize::Zeroizing;

use super::resolve::Server;

/// The longest password, in bytes.
const LONGEST_PASSWORD: usize = 1024;

/// An account of a presence service, such as `alice@example.org`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Jid(BareJid);

impl Jid {
    pub(super) fn bare(&self) -> &BareJid {
        &self.0
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for Jid {
    type Err = BadAccount;

    fn from_str(text: &str) -> Result<Self, BadAccount> {
        match BareJid::new(text) {
            Ok(jid) if jid.node().is_some() => Ok(Self(jid)),
            _ => Err(BadAccount::Jid),
        }
    }
}

impl fmt::Display for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// What is wrong with an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadAccount {
    /// It is not like `alice@example.org`.
    #[error("an account has to be like alice@example.org")]
    Jid,
    /// There is none, or it is too long.
    #[error("a password has to have 1 to {LONGEST_PASSWORD} bytes, on one line")]
    Password,
    /// It is not like `xmpp.example.org:5222`.
    #[error(
        "a server has to be like xmpp.example.org, xmpp.example.org:5222, or 192.0.2.1:5223 (TLS begins at once on 5223 and 443)"
    )]
    Server,
}

/// The account of this machine, which others of the same owner may have as well.
pub struct Account {
    jid: Jid,
    pub(super) password: Zeroizing<String>,
    pub(super) server: Option<Server>,
    pub(super) authority: Option<Vec<u8>>,
    item: String,
    resource: String,
}

impl Account {
    /// An account, and a secret of this machine that does not change, from which it names its item and session: others must
    /// be able neither to guess them nor to tell by them which machine it is.
    pub fn new(jid: Jid, password: Zeroizing<String>, secret: &[u8; 32]) -> Result<Self, BadAccount> {
        let short = (1..=LONGEST_PASSWORD).contains(&password.len());
        if !short || password.chars().any(char::is_control) {
            return Err(BadAccount::Password);
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let name = |label: &str| {
            let tag = hmac::sign(&key, label.as_bytes());
            tag.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let item = name("MAST v1 presence item");
        let resource = format!("mast-{}", name("MAST v1 presence session"));
        Ok(Self { jid, password, server: None, authority: None, item, resource })
    }

    /// Names the server, which is else found by the domain. Its certificate has to be the domain's all the same.
    pub fn with_server(mut self, server: &str) -> Result<Self, BadAccount> {
        self.server = Some(Server::parse(server).ok_or(BadAccount::Server)?);
        Ok(self)
    }

    /// Trusts a certificate authority, in PEM, beside those that everybody trusts.
    pub fn with_authority(mut self, pem: Vec<u8>) -> Self {
        self.authority = Some(pem);
        self
    }

    /// Its name.
    pub fn jid(&self) -> &Jid {
        &self.jid
    }

    pub(super) fn domain(&self) -> &str {
        self.jid.0.domain().as_str()
    }

    pub(super) fn user(&self) -> &str {
        self.jid.0.node().map_or("", |node| node.as_str())
    }

    /// The id of this machine's item.
    pub(super) fn item(&self) -> &str {
        &self.item
    }

    /// What this machine's session is called. Always the same, so that one that was lost makes room for the next.
    pub(super) fn resource(&self) -> &str {
        &self.resource
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("jid", &self.jid)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(password: &str, secret: u8) -> Result<Account, BadAccount> {
        let password = Zeroizing::new(password.to_owned());
        Account::new("alice@example.org".parse().unwrap(), password, &[secret; 32])
    }

    #[test]
    fn jids_are_read() {
        assert_eq!("Alice@Example.org".parse::<Jid>().unwrap().as_str(), "alice@example.org");
        for bad in ["", "example.org", "@example.org", "a@", "a@b/c", "a b@example.org"] {
            assert_eq!(bad.parse::<Jid>(), Err(BadAccount::Jid), "{bad}");
        }
    }

    #[test]
    fn passwords_are_bounded_and_never_shown() {
        for bad in ["", "a\nb", &"x".repeat(1025)] {
            assert_eq!(account(bad, 1).unwrap_err(), BadAccount::Password);
        }
        assert!(!format!("{:?}", account("hunter2", 1).unwrap()).contains("hunter2"));
    }

    #[test]
    fn machines_of_one_account_do_not_collide() {
        let (one, same, other) =
            (account("p", 1).unwrap(), account("q", 1).unwrap(), account("p", 2).unwrap());
        assert_eq!((one.item(), one.resource()), (same.item(), same.resource()));
        assert_ne!(one.item(), other.item());
        assert_ne!(one.resource(), other.resource());
        assert!(!one.resource().contains(one.item()), "who learns one does not know the other");
    }
}
