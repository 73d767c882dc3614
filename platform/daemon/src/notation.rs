//! How values are written in configuration files, and what a misspelt word may have meant.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mast_engine::os::Prefix;
use zeroize::Zeroizing;

/// The longest name of a host or peer in bytes, the same as on the wire.
const MAX_NAME: usize = mast_proto::wire::MAX_NAME;

/// A key as WireGuard writes it.
pub fn key_text(key: &[u8; 32]) -> String {
    STANDARD.encode(key)
}

/// Reads a key; the error says what it should look like, and repeats nothing of it: it may be a secret.
pub fn key(text: &str) -> Result<[u8; 32], String> {
    let bytes = STANDARD.decode(text.trim()).map(Zeroizing::new).map_err(|_| ());
    bytes.and_then(|b| <[u8; 32]>::try_from(b.as_slice()).map_err(|_| ())).map_err(|()| {
        format!(
            "is not a key: a key is 44 characters of base64 ending in `=`, this has {}",
            text.trim().chars().count()
        )
    })
}

/// Reads a name of a host or peer.
pub fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_NAME {
        return Err(format!("must have 1 to {MAX_NAME} bytes, this has {}", text.len()));
    }
    if text.trim() != text || text.chars().any(char::is_control) {
        return Err("must not begin or end with a space, nor hold control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// Reads an IPv4 address that a host may have.
pub fn host_v4(text: &str) -> Result<Ipv4Addr, String> {
    let address: Ipv4Addr =
        text.parse().map_err(|_| format!("`{text}` is not an IPv4 address, such as 100.64.0.1"))?;
    if address.is_unspecified() || address.is_multicast() || address.is_broadcast() || address.is_loopback() {
        return Err(format!("`{text}` is not an address that a host can have"));
    }
    Ok(address)
}

/// Reads `ADDRESS` or `ADDRESS/LENGTH`, as it stands.
pub fn prefix(text: &str) -> Result<Prefix, String> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address
        .parse()
        .map_err(|_| format!("`{text}` is not an address range, such as 10.0.0.0/24 or fd00::/64"))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => most,
        Some(length) => match length.parse() {
            Ok(length) if length <= most => length,
            _ => return Err(format!("`{text}`: the length after `/` must be 0 to {most}")),
        },
    };
    Ok(Prefix { address, length })
}

/// Reads the address of a name server.
pub fn server(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not the address of a name server, such as 10.8.0.1"))
}

/// The range with every bit after its length cleared, so that equal ranges look equal.
pub fn masked(prefix: Prefix) -> Prefix {
    let address = match prefix.address {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.length.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(a.to_bits() & mask).into()
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.length.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(a.to_bits() & mask).into()
        }
    };
    Prefix { address, ..prefix }
}

/// `: did you mean …?` with the nearest of the words, or else all of them.
pub fn suggestion(word: &str, known: &[&str]) -> String {
    let lower = word.to_lowercase();
    let nearest = known.iter().map(|k| (distance(&lower, &k.to_lowercase()), *k)).min();
    match nearest {
        Some((distance, nearest)) if distance <= 1 + nearest.len() / 4 => {
            format!("did you mean `{nearest}`?")
        }
        _ => {
            let all: Vec<_> = known.iter().map(|k| format!("`{k}`")).collect();
            format!("known here: {}", all.join(", "))
        }
    }
}

/// How many characters must be changed, added, left out or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_the_nearest_word_only_when_it_is_near() {
        let known = ["port", "interface", "public_key"];
        assert_eq!(suggestion("prot", &known), "did you mean `port`?");
        assert_eq!(suggestion("PublicKey", &known), "did you mean `public_key`?");
        assert_eq!(suggestion("interfaces", &known), "did you mean `interface`?");
        assert_eq!(suggestion("colour", &known), "known here: `port`, `interface`, `public_key`");
    }

    #[test]
    fn ranges() {
        assert_eq!(prefix("10.1.2.3/24").unwrap().to_string(), "10.1.2.3/24");
        assert_eq!(masked(prefix("10.1.2.3/24").unwrap()).to_string(), "10.1.2.0/24");
        assert_eq!(masked(prefix("10.1.2.3/0").unwrap()).to_string(), "0.0.0.0/0");
        assert_eq!(masked(prefix("fd00::1").unwrap()).to_string(), "fd00::1/128");
        assert_eq!(masked(prefix("fd00::1/0").unwrap()).to_string(), "::/0");
        assert!(prefix("10.0.0.0/33").unwrap_err().contains("0 to 32"));
        assert!(prefix("10.0.0/8").unwrap_err().contains("not an address range"));
    }

    #[test]
    fn keys_read_as_they_are_written() {
        assert_eq!(key(&key_text(&[9; 32])), Ok([9; 32]));
        let error = key("c2VjcmV0").unwrap_err();
        assert!(error.contains("44 characters") && !error.contains("c2V"), "{error}");
    }

    #[test]
    fn names_are_plain_text() {
        assert!(name("my laptop").is_ok());
        assert!(
            name("").is_err()
                && name(" x").is_err()
                && name("a\nb").is_err()
                && name(&"x".repeat(65)).is_err()
        );
    }
}
