//! One look-up of one name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_net::{DnsError, NetError};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{ConnectionProvider, Resolver};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ask::Servers;
use super::name::{HostName, key_in};
use super::order::ordered;
use crate::{MOST_ADDRESSES, PeerKey};

/// So long a look-up may take, whatever servers do.
const PATIENCE: Duration = Duration::from_secs(8);
/// So many targets of a service are looked up.
const TARGETS: usize = 8;
/// So many addresses of one target are of use: others have room.
const EACH: usize = 8;
/// So many records of an answer are looked at.
const RECORDS: usize = 64;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It leads to these addresses, the best first; none where it leads nowhere. That holds for so long.
    Leads(Vec<SocketAddr>, Duration),
    /// It is another host's, for so long at least.
    Stranger(Duration),
    /// Nobody answered, or not in a way that says anything of the peer: why.
    Failed(String),
}

/// Looks up where the peer of this name is. Every way is tried at once; the first that knows is believed.
pub(crate) async fn look_up(servers: &Servers, name: &HostName, peer: &PeerKey) -> Outcome {
    let looking = async {
        let mut ways = JoinSet::new();
        let (name, peer) = (name.clone(), *peer);
        let usual = servers.usual().await;
        let mut failed = None;
        match usual {
            Ok(resolver) => {
                let name = name.clone();
                ways.spawn(async move { ask(&resolver, &name, &peer).await });
            }
            Err(why) => failed = Some(why),
        }
        for resolver in servers.past().await {
            let name = name.clone();
            ways.spawn(async move { ask(&resolver, &name, &peer).await });
        }
        let mut nowhere = None;
        while let Some(done) = ways.join_next().await {
            match done {
                Ok(Outcome::Leads(list, ttl)) if list.is_empty() => {
                    nowhere = nowhere.or(Some(Outcome::Leads(list, ttl)));
                }
                Ok(Outcome::Failed(why)) => failed = failed.or(Some(why)),
                Ok(known) => return known,
                Err(_) => {}
            }
        }
        nowhere.unwrap_or_else(|| Outcome::Failed(failed.unwrap_or_else(|| "nobody answered".to_owned())))
    };
    let late = |_| Outcome::Failed("no name server answered in time".to_owned());
    timeout(PATIENCE, looking).await.unwrap_or_else(late)
}

async fn ask<P: ConnectionProvider>(resolver: &Resolver<P>, name: &HostName, peer: &PeerKey) -> Outcome {
    let service = name.service();
    let (targets, keys) = tokio::join!(
        records(resolver, &service, RecordType::SRV),
        records(resolver, &service, RecordType::TXT)
    );
    let (targets, keys) = match (targets, keys) {
        (Ok(targets), Ok(keys)) => (targets, keys),
        (Err(why), _) | (_, Err(why)) => return Outcome::Failed(why),
    };
    let mut ttl = targets.ttl.min(keys.ttl);
    let known: Vec<PeerKey> = keys
        .data
        .iter()
        .filter_map(|data| if let RData::TXT(text) = data { key_in(text) } else { None })
        .collect();
    // Who writes records by hand may leave the key out: the contexts ask for it anyway.
    if !known.is_empty() && !known.contains(peer) {
        return Outcome::Stranger(ttl);
    }
    let targets = targets.data.into_iter().filter_map(|data| match data {
        RData::SRV(target) if target.port != 0 && !target.target.is_root() => Some(target),
        _ => None,
    });
    let targets: Vec<_> = ordered(targets.collect()).into_iter().take(TARGETS).collect();
    let mut asking = JoinSet::new();
    for (place, target) in targets.iter().enumerate() {
        for kind in [RecordType::A, RecordType::AAAA] {
            let (resolver, host) = (resolver.clone(), target.target.clone());
            asking.spawn(async move { (place, records(&resolver, &host, kind).await) });
        }
    }
    let mut found: Vec<Vec<IpAddr>> = vec![Vec::new(); targets.len()];
    let mut failed = None;
    while let Some(done) = asking.join_next().await {
        match done {
            Ok((place, Ok(answer))) => {
                ttl = ttl.min(answer.ttl);
                let addresses = answer.data.into_iter().filter_map(|data| match data {
                    RData::A(at) => Some(IpAddr::V4(at.0)),
                    RData::AAAA(at) => Some(IpAddr::V6(at.0)),
                    _ => None,
                });
                if let Some(list) = found.get_mut(place) {
                    list.extend(addresses.filter(|at| is_of_use(*at)));
                }
            }
            Ok((_, Err(why))) => failed = Some(why),
            Err(_) => {}
        }
    }
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for (target, mut list) in targets.iter().zip(found) {
        // The order in which answers came is chance.
        list.sort_by_key(|at| (at.is_ipv4(), *at));
        list.dedup();
        for at in list.into_iter().take(EACH).map(|at| SocketAddr::new(at.to_canonical(), target.port)) {
            if addresses.len() < MOST_ADDRESSES && !addresses.contains(&at) {
                addresses.push(at);
            }
        }
    }
    match failed {
        // A target that cannot be looked up says nothing; that others can is enough.
        Some(why) if addresses.is_empty() => Outcome::Failed(why),
        _ => Outcome::Leads(addresses, ttl),
    }
}

/// Records of one kind, and how long they hold.
struct Answer {
    data: Vec<RData>,
    ttl: Duration,
}

/// The records of a name; none where it has none of that kind.
async fn records<P: ConnectionProvider>(
    resolver: &Resolver<P>,
    name: &Name,
    kind: RecordType,
) -> Result<Answer, String> {
    match resolver.lookup(name.clone(), kind).await {
        Ok(found) => {
            let of_kind = found.answers().iter().filter(|record| record.record_type() == kind).take(RECORDS);
            let of_kind: Vec<&Record> = of_kind.collect();
            let seconds = found.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
            let data = of_kind.into_iter().map(|record| record.data.clone()).collect();
            Ok(Answer { data, ttl: Duration::from_secs(seconds.into()) })
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            let seconds = none.negative_ttl.unwrap_or(0);
            Ok(Answer { data: Vec::new(), ttl: Duration::from_secs(seconds.into()) })
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Whether a peer can be at an address. One with a zone means another host on each link.
pub(crate) fn is_of_use(at: IpAddr) -> bool {
    match at.to_canonical() {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            first != 0
                && !v4.is_loopback()
                && !v4.is_multicast()
                && v4 != Ipv4Addr::BROADCAST
                && !v4.is_link_local()
        }
        IpAddr::V6(v6) => {
            !v6.is_unspecified() && !v6.is_loopback() && !v6.is_multicast() && !v6.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_stand_for_no_other_host_are_left_out() {
        for junk in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "224.0.0.1",
            "239.255.255.250",
            "255.255.255.255",
            "169.254.1.1",
            "::",
            "::1",
            "ff02::1",
            "fe80::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(!is_of_use(junk.parse().unwrap()), "{junk}");
        }
        for good in ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fd00::1", "::ffff:192.0.2.1"] {
            assert!(is_of_use(good.parse().unwrap()), "{good}");
        }
    }
}
