//! Rendezvous by DNS.
//!
//! A peer with a name is found by the records of a service (RFC 2782), and a host that has a name publishes them itself,
//! by UPDATE (RFC 2136) signed with TSIG (RFC 8945). Of the name `laptop.example.org` these are
//!
//! ```text
//! _mast._udp.laptop.example.org. 30 SRV  0 0 6278 laptop.example.org.
//! _mast._udp.laptop.example.org. 30 TXT  "v=mast1 k=PUBLIC-KEY-IN-BASE64"
//! laptop.example.org.            30 AAAA 2001:db8::1
//! laptop.example.org.            30 A    192.0.2.1
//! ```
//!
//! with one SRV for each port, the further ones to `mast1.laptop.example.org` to `mast3`. The key says whose the name is:
//! one with another's key is not used, as it leads to somebody else. Who writes records by hand may leave the key out.
//! Whether an address is a peer's is seen by its context alone, by keys; so nothing here needs DNSSEC.
//!
//! Everybody can read DNS: what is told is [`Own::public`](crate::Own::public), and where that is empty the records go.

mod ask;
mod look_up;
mod name;
mod order;
#[cfg(test)]
mod pool_tests;
mod publish;
mod seek;
mod update;

use tokio::sync::{mpsc, watch};

pub use ask::{Connect, Known, Past, PastTunnel, Servers, system_servers};
pub use name::HostName;
pub use publish::{Publish, TTL};
pub use seek::{Wish, Wishes};
pub use update::Key;

use crate::{Health, PeerKey, Posts, Rendezvous};

/// So many lost peers may wait to be looked up at once; others are looked up when their time comes.
const LOST: usize = 1024;

/// What the service says to a running [`Dns`].
#[derive(Debug)]
pub struct Wanted {
    /// Which peers are to be found, and by which names.
    pub wishes: watch::Sender<Wishes>,
    /// Peers that no path leads to any more: they are looked up at once, each once in two seconds at most.
    pub lost: mpsc::Sender<PeerKey>,
}

/// Finds peers by their names in DNS, and publishes where this host is.
#[derive(Debug)]
pub struct Dns {
    servers: Servers,
    publish: Option<Publish>,
    wishes: watch::Receiver<Wishes>,
    lost: mpsc::Receiver<PeerKey>,
}

impl Dns {
    /// Makes one that asks these servers, and publishes the own name if there is one.
    pub fn new(servers: Servers, publish: Option<Publish>) -> (Self, Wanted) {
        let (wishes, wished) = watch::channel(Wishes::new());
        let (lost, hear) = mpsc::channel(LOST);
        (Self { servers, publish, wishes: wished, lost: hear }, Wanted { wishes, lost })
    }
}

impl Rendezvous for Dns {
    fn name(&self) -> &'static str {
        "dns"
    }

    async fn run(self, posts: Posts) {
        let Self { servers, publish, wishes, lost } = self;
        let Posts { own, found, health } = posts;
        let (publishing, mut published) = watch::channel(Health::Starting);
        let (seeking, mut sought) = watch::channel(Health::Starting);
        let seeker = seek::Seeker { servers, wishes, lost, found, health: seeking };
        let telling = async move {
            loop {
                let now = worse(&published.borrow_and_update(), &sought.borrow_and_update());
                health.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
                tokio::select! {
                    Ok(()) = published.changed() => {}
                    Ok(()) = sought.changed() => {}
                    else => return,
                }
            }
        };
        // The first ends when there is nothing more to tell, the second when nobody wants to know.
        tokio::select! {
            () = publish::run(publish, own, publishing) => {}
            () = seeker.run() => {}
            () = telling => {}
        }
    }
}

/// Reads any bytes as all that is read here ([`crate::fuzzing`]).
pub(crate) fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(name) = text.parse::<HostName>() {
        assert_eq!(name.to_string().parse::<HostName>(), Ok(name.clone()), "{text}");
        assert!(name.service().to_ascii().starts_with("_mast._udp."), "{text}");
        assert!(name.below("mast3").to_ascii().starts_with("mast3."), "{text}");
    }
    let parts = data.chunks(255).collect();
    let read = name::key_in(&hickory_proto::rr::rdata::TXT::from_bytes(parts));
    if let Some(key) = read {
        assert!(text.contains(name::record_of(&key).trim_start_matches("v=mast1 ")), "{text}");
    }
    update::fuzz(data);
}

/// What matters of two: what failed, then what has not begun.
fn worse(published: &Health, sought: &Health) -> Health {
    match (published, sought) {
        (Health::Failed { .. }, _) => published.clone(),
        (_, Health::Failed { .. }) => sought.clone(),
        (Health::Starting, _) | (_, Health::Starting) => Health::Starting,
        (Health::Working, Health::Working) => Health::Working,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_though_all_else_works() {
        let failed = Health::Failed { why: "a".into(), remedy: "b".into() };
        assert_eq!(worse(&failed, &Health::Working), failed);
        assert_eq!(worse(&Health::Starting, &failed), failed);
        assert_eq!(worse(&Health::Starting, &Health::Working), Health::Starting);
        assert_eq!(worse(&Health::Working, &Health::Working), Health::Working);
    }
}
