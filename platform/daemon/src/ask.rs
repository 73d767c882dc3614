//! The names of peers, looked up past the tunnel that cannot be there before they are known.
//!
//! While everything goes through a tunnel, the system's resolver asks through it, or nobody. So the service asks as well:
//! over each uplink, the name servers that the networks gave, from sockets that leak protection lets out. What is asked
//! is the names of peers and nothing else, a few questions at a time, and each for a short while.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use mast_control::aside::Aside;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, TYPE};

/// Each waits a few seconds at most.
static QUESTIONS: Aside = Aside::new("mast-questions", 8);
/// So long one server may take.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// So many servers are asked, over so many uplinks.
const SERVERS: usize = 3;
const UPLINKS: usize = 4;
/// So many addresses of a name are of use.
const MOST: usize = 32;
const PORT: u16 = 53;
/// Addresses of both versions.
pub(crate) const KINDS: [TYPE; 2] = [TYPE::A, TYPE::AAAA];
/// What networks said of name servers, wherever it is: a resolver on this very host cannot ask past the tunnel.
const FILES: [&str; 3] =
    ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"];

/// The addresses of a host; none where no name server knew any.
pub(crate) async fn addresses(host: &str, uplinks: &[String]) -> Option<Vec<IpAddr>> {
    let (host, uplinks) = (host.to_owned(), uplinks.to_vec());
    let asked = QUESTIONS.begin(move || {
        let text = |file| std::fs::read_to_string(file).unwrap_or_default();
        let servers = FILES.iter().map(|file| servers(&text(file))).find(|servers| !servers.is_empty());
        let servers = servers.unwrap_or_default();
        servers
            .into_iter()
            .take(SERVERS)
            .map(|server| ask(&host, server, &uplinks))
            .find(|all| !all.is_empty())
    });
    asked.ok()?.await.ok()?
}

/// The servers that are named, but for those on this host.
pub(crate) fn servers(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    // The zone is whichever uplink it is asked over.
    let addresses = lines.filter_map(|rest| rest.trim().split('%').next()?.parse::<IpAddr>().ok());
    addresses.filter(|address| !address.is_loopback() && !address.is_unspecified()).collect()
}

/// Asks one server over all uplinks.
fn ask(host: &str, server: IpAddr, uplinks: &[String]) -> Vec<IpAddr> {
    let mut open: Vec<(UdpSocket, u16, usize)> = Vec::new();
    let id = RandomState::new().build_hasher().finish() as u16;
    for uplink in uplinks.iter().take(UPLINKS) {
        let Ok(socket) = mast_platform::own_socket(uplink, SocketAddr::new(server, PORT)) else { continue };
        let asked = KINDS.into_iter().filter_map(|kind| question(host, id, kind));
        let sent = asked.filter(|question| socket.send(question).is_ok()).count();
        if sent > 0 && socket.set_read_timeout(Some(Duration::from_millis(20))).is_ok() {
            open.push((socket, id, sent));
        }
    }
    let until = Instant::now() + PATIENCE;
    let mut found = Vec::new();
    let mut buffer = [0; 4096];
    while !open.is_empty() && Instant::now() < until {
        for (socket, id, missing) in &mut open {
            let Ok(length) = socket.recv(&mut buffer) else { continue };
            let Some(addresses) = answer(&buffer[..length], host, *id) else { continue };
            *missing -= 1;
            for address in addresses {
                if found.len() < MOST && !found.contains(&address) {
                    found.push(address);
                }
            }
        }
        // One that knows is enough.
        if open.iter().any(|(_, _, missing)| *missing == 0) {
            break;
        }
    }
    found
}

pub(crate) fn question(host: &str, id: u16, kind: TYPE) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(Name::new(host).ok()?, kind.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().ok()
}

/// The addresses in an answer to this question; none where it is none.
pub(crate) fn answer(message: &[u8], host: &str, id: u16) -> Option<Vec<IpAddr>> {
    let packet = Packet::parse(message).ok()?;
    let same = |name: &Name<'_>| name.to_string().eq_ignore_ascii_case(host.trim_end_matches('.'));
    let answers = packet.has_flags(PacketFlag::RESPONSE) && packet.id() == id;
    if !answers || !packet.questions.iter().any(|q| same(&q.qname)) {
        return None;
    }
    let of = |data: &RData<'_>| match data {
        RData::A(a) => Some(IpAddr::V4(Ipv4Addr::from(a.address))),
        RData::AAAA(a) => Some(IpAddr::V6(Ipv6Addr::from(a.address))),
        _ => None,
    };
    Some(packet.answers.iter().filter_map(|record| of(&record.rdata)).collect())
}

#[cfg(test)]
mod tests {
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::A;

    use super::*;

    #[test]
    fn name_servers_of_networks_are_asked_and_those_of_this_host_are_not() {
        let text = "search lan\nnameserver 127.0.0.53\nnameserver 10.1.0.1 \n nameserver fe80::1%wlan0\nnameserver x\n";
        let found: Vec<String> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.1.0.1", "fe80::1"]);
    }

    #[test]
    fn only_an_answer_to_the_question_counts() {
        let asked = question("vpn.example.org", 7, TYPE::A).unwrap();
        assert_eq!(answer(&asked, "vpn.example.org", 7), None, "a question is none");
        let reply = |id: u16, name: &'static str| {
            let mut packet = Packet::new_reply(id);
            let question = Question::new(Name::new(name).unwrap(), TYPE::A.into(), CLASS::IN.into(), false);
            packet.questions.push(question);
            let data = RData::A(A { address: Ipv4Addr::new(192, 0, 2, 7).into() });
            packet.answers.push(ResourceRecord::new(Name::new(name).unwrap(), CLASS::IN, 60, data));
            packet.build_bytes_vec().unwrap()
        };
        let right = reply(7, "VPN.example.org");
        assert_eq!(answer(&right, "vpn.example.org", 7), Some(vec!["192.0.2.7".parse().unwrap()]));
        assert_eq!(answer(&right, "vpn.example.org", 8), None);
        assert_eq!(answer(&reply(7, "other.example.org"), "vpn.example.org", 7), None);
        for end in 0..right.len() {
            // Whatever is cut off, nothing breaks.
            let _ = answer(&right[..end], "vpn.example.org", 7);
        }
    }
}
