//! Which sessions of this host go through a tunnel now: what the kernel's tables of sockets say.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host with more sockets than this holds is a server, and its number is of no interest.
const MOST: u64 = 4 << 20;
/// `TCP_ESTABLISHED`; of a UDP socket: it is connected.
const ESTABLISHED: &str = "01";

/// How many TCP connections and connected UDP sockets of this host have one of these local or one of these remote
/// addresses; as many as can be read.
pub(super) fn sessions(local: &[IpAddr], remote: &[IpAddr]) -> usize {
    let tables = ["tcp", "tcp6", "udp", "udp6"].map(|table| {
        let mut text = String::new();
        if let Ok(file) = File::open(format!("/proc/net/{table}")) {
            // A table that is cut off or unreadable counts as far as it goes.
            let _ = file.take(MOST).read_to_string(&mut text);
        }
        text.lines().skip(1).filter(|line| is_one(line, local, remote)).count()
    });
    tables.iter().sum()
}

/// `sl local_address rem_address st …`
pub(super) fn is_one(line: &str, local: &[IpAddr], remote: &[IpAddr]) -> bool {
    let mut fields = line.split_whitespace().skip(1);
    let (Some(from), Some(to), Some(ESTABLISHED)) = (fields.next(), fields.next(), fields.next()) else {
        return false;
    };
    address(from).is_some_and(|a| local.contains(&a)) || address(to).is_some_and(|a| remote.contains(&a))
}

/// `0100007F:1F90`, or four such words: each is the number that the kernel reads from the address's bytes.
fn address(text: &str) -> Option<IpAddr> {
    let (words, _port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(words.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match words.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut octets = [0; 16];
            for (chunk, at) in octets.chunks_exact_mut(4).zip((0..32).step_by(8)) {
                chunk.copy_from_slice(&word(at)?);
            }
            Some(Ipv6Addr::from(octets).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        let word = |octets: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(octets));
        assert_eq!(address(&format!("{}:1F90", word([100, 64, 7, 1]))), Some([100, 64, 7, 1].into()));
        let octets = Ipv6Addr::new(0xfd4d, 0x4153, 0x5400, 0, 0, 0, 0, 1).octets();
        let text: String = octets.chunks(4).map(|c| word([c[0], c[1], c[2], c[3]])).collect();
        assert_eq!(address(&format!("{text}:0016")), Some(octets.into()));
        for bad in ["", ":", "01:02", "0100007F", "ZZZZZZZZ:0000", "é100007:0000"] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }

    #[test]
    fn open_connections_are_counted_and_listening_ones_are_not() {
        let at: IpAddr = [127, 77, 12, 9].into();
        let Ok(listener) = TcpListener::bind((at, 0)) else { return };
        let before = sessions(&[], &[at]);
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!((before, sessions(&[], &[at])), (0, 1), "the other end's remote address is another");
        assert_eq!(sessions(&[at], &[]), 1);
        drop(stream);
    }
}
