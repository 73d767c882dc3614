//! The names of peers, looked up past the tunnel that cannot be there before they are known.
//!
//! While everything goes through a tunnel, the system's resolver asks through it, or nobody. So the service asks as well:
//! over each uplink, the name servers that the networks gave, from sockets that leak protection lets out. What is asked
//! is the names of peers and nothing else, a few questions at a time, and each for a short while.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use mast_control::aside::Aside;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, TYPE};
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::turns::Standing;

/// Only to read what the networks said: a disk may hang.
static READING: Aside = Aside::new("mast-questions", 2);
/// So long that may take.
const READ: Duration = Duration::from_secs(1);
/// So many names are asked for at a time, each over a few sockets, and each for a few seconds at most. Those that did
/// not answer before have a quarter of that.
static PLACES: Semaphore = Semaphore::const_new(64);
static SILENT: Semaphore = Semaphore::const_new(16);
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
pub(crate) async fn addresses(host: &str, uplinks: &[String], standing: Standing) -> Option<Vec<IpAddr>> {
    let _silent = if standing == Standing::Silent { Some(SILENT.acquire().await.ok()?) } else { None };
    let _place = PLACES.acquire().await.ok()?;
    for server in networks_servers().await {
        let all = ask(host, server, uplinks, mast_platform::own_socket).await;
        if !all.is_empty() {
            return Some(all);
        }
    }
    None
}

/// The name servers that the networks gave; none where they gave none, or the disk does not say.
pub(crate) async fn networks_servers() -> Vec<SocketAddr> {
    let read = READING.within(READ, || {
        let text = |file| std::fs::read_to_string(file).unwrap_or_default();
        FILES.iter().map(|file| servers(&text(file))).find(|servers| !servers.is_empty())
    });
    let found = read.await.ok().flatten().unwrap_or_default();
    found.into_iter().take(SERVERS).map(|server| SocketAddr::new(server, PORT)).collect()
}

/// The name servers that programs of this host ask.
pub(crate) async fn system_servers() -> Result<Vec<SocketAddr>, String> {
    READING.within(READ, mast_rendezvous::dns::system_servers).await.map_err(|hung| hung.to_string())?
}

/// The servers that are named, but for those on this host.
pub(crate) fn servers(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    // The zone is whichever uplink it is asked over.
    let addresses = lines.filter_map(|rest| rest.trim().split('%').next()?.parse::<IpAddr>().ok());
    addresses.filter(|address| !address.is_loopback() && !address.is_unspecified()).collect()
}

/// Asks one server over all uplinks; whoever knows first is enough.
pub(crate) async fn ask(
    host: &str,
    server: SocketAddr,
    uplinks: &[String],
    socket: impl Fn(&str, SocketAddr) -> io::Result<std::net::UdpSocket>,
) -> Vec<IpAddr> {
    let id = RandomState::new().build_hasher().finish() as u16;
    let mut asking = JoinSet::new();
    for uplink in uplinks.iter().take(UPLINKS) {
        let Ok(socket) = socket(uplink, server) else { continue };
        if socket.set_nonblocking(true).is_err() {
            continue;
        }
        // Before the runtime has it, which knows only later that it takes something.
        let asked = KINDS.into_iter().filter_map(|kind| question(host, id, kind));
        let sent = asked.filter(|question| socket.send(question).is_ok()).count();
        let Ok(socket) = UdpSocket::from_std(socket) else { continue };
        if sent > 0 {
            let host = host.to_owned();
            asking.spawn(async move { hear(socket, &host, id, sent).await });
        }
    }
    while let Some(heard) = asking.join_next().await {
        match heard {
            Ok(all) if !all.is_empty() => return all,
            _ => {}
        }
    }
    Vec::new()
}

/// What comes back to so many questions, in time.
async fn hear(socket: UdpSocket, host: &str, id: u16, questions: usize) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut buffer = [0; 4096];
    let mut missing = questions;
    let until = Instant::now() + PATIENCE;
    while missing > 0 {
        // A refusal of one question says nothing of the other.
        let length = match timeout_at(until, socket.recv(&mut buffer)).await {
            Ok(Ok(length)) => length,
            Ok(Err(_)) => {
                missing -= 1;
                continue;
            }
            Err(_) => break,
        };
        let Some(addresses) = answer(&buffer[..length], host, id) else { continue };
        missing -= 1;
        for address in addresses {
            if found.len() < MOST && !found.contains(&address) {
                found.push(address);
            }
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

    #[tokio::test]
    async fn what_one_uplink_knows_is_taken_though_another_is_silent_and_one_question_stays_open() {
        let (deaf, server) = (bound(), bound());
        let (silent, knows) = (deaf.local_addr().unwrap(), server.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            for _ in 0..2 {
                let (length, from) = server.recv_from(&mut buffer).unwrap();
                let asked = Packet::parse(&buffer[..length]).unwrap();
                let mut packet = Packet::new_reply(asked.id());
                packet.questions = asked.questions.clone();
                if asked.questions[0].qtype == TYPE::A.into() {
                    let data = RData::A(A { address: Ipv4Addr::new(192, 0, 2, 7).into() });
                    packet.answers.push(ResourceRecord::new(
                        asked.questions[0].qname.clone(),
                        CLASS::IN,
                        60,
                        data,
                    ));
                }
                server.send_to(&packet.build_bytes_vec().unwrap(), from).unwrap();
            }
        });
        let socket = |uplink: &str, _| {
            let socket = bound();
            socket.connect(if uplink == "wifi" { silent } else { knows })?;
            Ok(socket)
        };
        let uplinks = ["wifi".to_owned(), "cell".to_owned()];
        let begun = Instant::now();
        let found = ask("vpn.example.org", knows, &uplinks, socket).await;
        assert_eq!(found, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        let begun = Instant::now();
        assert!(ask("vpn.example.org", silent, &uplinks[..1], socket).await.is_empty());
        assert!(begun.elapsed() < PATIENCE * 2, "{:?}", begun.elapsed());
    }

    fn bound() -> std::net::UdpSocket {
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap()
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
