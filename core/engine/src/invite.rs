//! Invites: what a link holds, and what both ends derive from its secret.
//!
//! ```text
//! mast://1/ base64url( checksum || CBOR {0: key, 1: secret, 2: name, 3: [address…], 4: expiry, ?5: account} )
//! checksum = first 4 bytes of SHA-256(CBOR)
//! ```
//!
//! The secret is good for one pairing. From it come the temporary key pair of whoever accepts, the preshared key of
//! the pairing session, and the preshared key that the two peers use ever after:
//!
//! ```text
//! prk  = HKDF-Extract-SHA256(salt = "MAST v1 invite", ikm = secret)
//! k    = HKDF-Expand(prk, label || context, 32)
//! ```

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use ring::{digest, hkdf};
use zeroize::{Zeroize, Zeroizing};

use crate::api::{InviteId, InviteRecord, PublicKey, SecretKey};
use crate::name;
use crate::sockets::is_plausible;

/// What every link of this version begins with.
const SCHEME: &str = "mast://1/";
/// The most addresses in a link.
pub(crate) const MAX_ADDRESSES: usize = 8;
const MAX_LINK: usize = 4096;
const CHECKSUM: usize = 4;
/// The longest account in a link, in bytes.
const LONGEST_ACCOUNT: usize = 256;

/// What a link tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub public_key: PublicKey,
    pub secret: SecretKey,
    pub name: String,
    pub addresses: Vec<SocketAddr>,
    pub expires: SystemTime,
    /// The inviter's account at a presence service.
    pub account: Option<String>,
}

/// Why a link cannot be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkError {
    /// It is no link of MAST.
    Foreign,
    /// Another version made it.
    Version,
    /// It is not complete, or was altered.
    Damaged,
}

/// It is wiped from memory when it goes.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Body {
    #[cbor(n(0), with = "minicbor::bytes")]
    public_key: [u8; 32],
    #[cbor(n(1), with = "minicbor::bytes")]
    secret: [u8; 32],
    #[n(2)]
    name: String,
    #[n(3)]
    addresses: Vec<ByteVec>,
    #[n(4)]
    expires: u64,
    #[n(5)]
    account: Option<String>,
}

impl Drop for Body {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl Link {
    /// The link's text.
    pub fn encode(&self) -> String {
        let addresses = self.addresses.iter().take(MAX_ADDRESSES).map(|at| {
            let mut bytes = match at.ip() {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            bytes.extend(at.port().to_be_bytes());
            ByteVec::from(bytes)
        });
        let expires = self.expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let body = Body {
            public_key: self.public_key,
            secret: *self.secret,
            name: self.name.clone(),
            addresses: addresses.collect(),
            expires,
            account: self.account.clone(),
        };
        // Room for all of it: a buffer that grows leaves a copy behind.
        let mut encoded = Zeroizing::new(Vec::with_capacity(MAX_LINK));
        // Writing to a vector cannot fail.
        let written = minicbor::encode(&body, &mut *encoded);
        debug_assert!(written.is_ok());
        sealed(&encoded)
    }

    /// Reads a link. Forgives what mail and chat programs do to one: space, line breaks, quotes, punctuation.
    pub fn decode(text: &str) -> Result<Self, LinkError> {
        if text.len() > MAX_LINK {
            return Err(LinkError::Foreign);
        }
        let mut all = Zeroizing::new(String::with_capacity(text.len()));
        all.extend(text.chars().filter(|c| !c.is_whitespace()));
        let text = all.as_str();
        let text = text.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
        let (scheme, rest) = text.split_once("://").ok_or(LinkError::Foreign)?;
        if !scheme.eq_ignore_ascii_case("mast") {
            return Err(LinkError::Foreign);
        }
        let (version, body) = rest.split_once('/').ok_or(LinkError::Damaged)?;
        if version != "1" {
            let number = version.parse::<u32>().is_ok();
            return Err(if number { LinkError::Version } else { LinkError::Foreign });
        }
        let bytes = URL_SAFE_NO_PAD.decode(body).map(Zeroizing::new).map_err(|_| LinkError::Damaged)?;
        let (sum, cbor) = bytes.split_first_chunk::<CHECKSUM>().ok_or(LinkError::Damaged)?;
        if *sum != checksum(cbor) {
            return Err(LinkError::Damaged);
        }
        // Whole, and still not to be read.
        let body: Body = minicbor::decode(cbor).map_err(|_| LinkError::Version)?;
        let addresses = body.addresses.iter().filter_map(|b| address(b)).filter(is_plausible);
        let expires = UNIX_EPOCH.checked_add(Duration::from_secs(body.expires)).ok_or(LinkError::Version)?;
        Ok(Self {
            public_key: body.public_key,
            secret: SecretKey::new(body.secret),
            name: name::clean(&body.name).unwrap_or_else(|| "peer".to_owned()),
            addresses: addresses.take(MAX_ADDRESSES).collect(),
            expires,
            account: account(body.account.as_deref()),
        })
    }
}

/// What may be an account: a few printable words of a stranger's. Whoever uses it sees whether it is one.
pub(crate) fn account(text: Option<&str>) -> Option<String> {
    let sound =
        |text: &&str| (1..=LONGEST_ACCOUNT).contains(&text.len()) && !text.chars().any(char::is_control);
    text.filter(sound).map(str::to_owned)
}

/// A link with this body.
pub(crate) fn sealed(body: &[u8]) -> String {
    let bytes = Zeroizing::new([&checksum(body)[..], body].concat());
    format!("{SCHEME}{}", URL_SAFE_NO_PAD.encode(&*bytes))
}

fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let ip = match *ip {
        [a, b, c, d] => IpAddr::from([a, b, c, d]),
        _ => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let hash = digest::digest(&digest::SHA256, bytes);
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

/// What is derived from an invite's secret.
pub(crate) struct Derived(hkdf::Prk);

impl Derived {
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hkdf::Salt::new(hkdf::HKDF_SHA256, b"MAST v1 invite").extract(secret))
    }

    /// The private key that whoever accepts uses for the pairing session only.
    pub fn temporary_key(&self) -> Zeroizing<[u8; 32]> {
        self.expand(&[b"temporary key"])
    }

    /// The preshared key of the pairing session.
    pub fn pairing_key(&self) -> Zeroizing<[u8; 32]> {
        self.expand(&[b"pairing key"])
    }

    /// The preshared key of the two peers.
    pub fn lasting_key(&self, inviter: &PublicKey, joiner: &PublicKey) -> SecretKey {
        self.expand(&[b"lasting key", inviter, joiner])
    }

    /// Proves that the joiner has the private key to the public key that it names: only it and the inviter know
    /// the secret that their two keys share.
    pub fn proof(&self, inviter: &PublicKey, joiner: &PublicKey, shared: &[u8; 32]) -> [u8; 32] {
        *self.expand(&[b"proof", inviter, joiner, shared])
    }

    /// What the invite is called.
    pub fn id(&self) -> InviteId {
        let id = self.expand(&[b"id"]);
        InviteId(id.first_chunk().copied().unwrap_or_default())
    }

    fn expand(&self, info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let mut out = Zeroizing::new([0; 32]);
        let filled = self.0.expand(info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut *out));
        // 32 bytes are always to be had of HKDF-SHA256.
        debug_assert!(filled.is_ok());
        out
    }
}

impl InviteRecord {
    /// What it is called, now and after a restart.
    pub fn id(&self) -> InviteId {
        Derived::new(&self.secret).id()
    }

    /// Whether the invite's time is over.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        now >= self.expires
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link {
            public_key: [1; 32],
            secret: SecretKey::new([2; 32]),
            name: "gate".into(),
            addresses: vec!["192.0.2.1:6278".parse().unwrap(), "[2001:db8::1]:6278".parse().unwrap()],
            expires: UNIX_EPOCH + Duration::from_secs(1_900_000_000),
            account: None,
        }
    }

    #[test]
    fn an_account_travels_and_a_strange_one_does_not() {
        let with = |account: &str| Link { account: Some(account.to_owned()), ..link() };
        let read = |link: &Link| Link::decode(&link.encode()).unwrap().account;
        assert_eq!(read(&with("alice@example.org")).as_deref(), Some("alice@example.org"));
        for strange in ["", "a\nb@example.org", &"x".repeat(257)] {
            assert_eq!(read(&with(strange)), None, "{strange}");
        }
    }

    #[test]
    fn round_trip() {
        let text = link().encode();
        assert!(text.starts_with("mast://1/"));
        assert_eq!(Link::decode(&text), Ok(link()));
        let (a, b) = text.split_at(40);
        assert_eq!(Link::decode(&format!("  \"<{a}\n  {b}>\". ")), Ok(link()));
        assert_eq!(Link::decode(&text.replacen("mast", "MAST", 1)), Ok(link()));
    }

    #[test]
    fn errors_are_told_apart() {
        let text = link().encode();
        for end in 10..text.len() {
            assert_eq!(Link::decode(&text[..end]), Err(LinkError::Damaged), "{end}");
        }
        let mut altered = text.clone();
        altered.replace_range(60..61, if &text[60..61] == "A" { "B" } else { "A" });
        assert_eq!(Link::decode(&altered), Err(LinkError::Damaged));
        for foreign in
            ["", "hello", "https://example.com/1/abc", "mast", "mast://example/x", &"x".repeat(9999)]
        {
            assert_eq!(Link::decode(foreign), Err(LinkError::Foreign), "{foreign}");
        }
        assert_eq!(Link::decode(&text.replacen("//1/", "//2/", 1)), Err(LinkError::Version));
        let odd = [&checksum(b"odd")[..], b"odd"].concat();
        assert_eq!(
            Link::decode(&format!("{SCHEME}{}", URL_SAFE_NO_PAD.encode(odd))),
            Err(LinkError::Version)
        );
    }

    #[test]
    fn what_is_derived_differs() {
        let derived = Derived::new(&[2; 32]);
        let keys = [
            *derived.temporary_key(),
            *derived.pairing_key(),
            *derived.lasting_key(&[1; 32], &[3; 32]),
            *derived.lasting_key(&[3; 32], &[1; 32]),
            derived.proof(&[1; 32], &[3; 32], &[0; 32]),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[at + 1..].contains(key));
        }
        assert_eq!(*Derived::new(&[2; 32]).pairing_key(), keys[1]);
    }
}
