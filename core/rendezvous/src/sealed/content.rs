//! What is inside a box: a CBOR map, and zeros up to a fixed length.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use minicbor::decode::Error as DecodeError;
use minicbor::encode::Error as EncodeError;
use minicbor::{Decoder, Encoder};

use super::{Announcement, Refused};
use crate::MOST_ADDRESSES;

const SEQUENCE: u32 = 0;
const TIME: u32 = 1;
const LIFETIME: u32 = 2;
const ADDRESSES: u32 = 3;

pub(crate) fn encode(announcement: &Announcement) -> Vec<u8> {
    let addresses = announcement.addresses.iter().take(MOST_ADDRESSES);
    let mut encoder = Encoder::new(Vec::new());
    let mut write = || {
        encoder.map(4)?.u32(SEQUENCE)?.u64(announcement.sequence)?.u32(TIME)?.u64(announcement.time)?;
        encoder.u32(LIFETIME)?.u32(announcement.lifetime)?.u32(ADDRESSES)?.array(addresses.len() as u64)?;
        addresses.clone().try_for_each(|address| encoder.bytes(&socket(address)).map(drop))
    };
    let written: Result<(), EncodeError<Infallible>> = write();
    written.expect("a vector takes everything");
    encoder.into_writer()
}

/// Reads one, and leaves out the addresses that do not `fit`.
pub(crate) fn decode(content: &[u8], fit: fn(&SocketAddr) -> bool) -> Result<Announcement, Refused> {
    let mut decoder = Decoder::new(content);
    let announcement =
        map(&mut decoder, fit).map_err(|_| Refused::Malformed("not the map that it has to be"))??;
    let rest = content.get(decoder.position()..).unwrap_or_default();
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Refused::Malformed("more than a map"));
    }
    Ok(announcement)
}

/// Keys come in ascending order, so that none comes twice; those that are not known are for later, and left out.
fn map(
    decoder: &mut Decoder<'_>,
    fit: fn(&SocketAddr) -> bool,
) -> Result<Result<Announcement, Refused>, DecodeError> {
    let (mut sequence, mut time, mut lifetime, mut addresses) = (None, None, None, None);
    let count = decoder.map()?.ok_or_else(|| DecodeError::message("a map without a length"))?;
    let mut last = None;
    for _ in 0..count {
        let key = decoder.u32()?;
        if last.replace(key).is_some_and(|last| key <= last) {
            return Ok(Err(Refused::Malformed("keys out of order")));
        }
        match key {
            SEQUENCE => sequence = Some(decoder.u64()?),
            TIME => time = Some(decoder.u64()?),
            LIFETIME => lifetime = Some(decoder.u32()?),
            ADDRESSES => addresses = Some(list(decoder, fit)?),
            _ => decoder.skip()?,
        }
    }
    let missing = Refused::Malformed("something is missing");
    Ok((|| {
        Some(Announcement { sequence: sequence?, time: time?, lifetime: lifetime?, addresses: addresses? })
    })()
    .ok_or(missing))
}

/// Those that a peer on another host can be reached at: anything else is left out, and so is what comes beyond
/// [`MOST_ADDRESSES`].
fn list(decoder: &mut Decoder<'_>, fit: fn(&SocketAddr) -> bool) -> Result<Vec<SocketAddr>, DecodeError> {
    let count = decoder.array()?.ok_or_else(|| DecodeError::message("a list without a length"))?;
    let mut addresses = Vec::new();
    for _ in 0..count {
        let address = parsed(decoder.bytes()?);
        if let Some(address) = address.filter(fit)
            && addresses.len() < MOST_ADDRESSES
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// The address and the port as in SET (`core/PROTOCOL.md`, section 7).
fn socket(address: &SocketAddr) -> Vec<u8> {
    let mut bytes = match address.ip().to_canonical() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes.extend_from_slice(&address.port().to_be_bytes());
    bytes
}

fn parsed(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let ip = match ip.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?)).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

/// A peer must not make a host talk to itself, or to everybody.
pub(crate) fn of_another_host(address: &SocketAddr) -> bool {
    let ip = address.ip();
    let everybody = ip == IpAddr::V4(Ipv4Addr::BROADCAST) || ip.is_multicast();
    address.port() != 0 && !everybody && !ip.is_unspecified() && !ip.is_loopback()
}

/// Of these, what is link-local means something else on another link.
pub(crate) fn from_afar(address: &SocketAddr) -> bool {
    let here = match address.ip() {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !here && of_another_host(address)
}
