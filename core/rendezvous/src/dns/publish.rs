//! When the own name is changed.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::look_up::is_of_use;
use super::name::HostName;
use super::update::{Entry, Key, replace};
use crate::{Health, Own};

/// How long others may keep what is published, in seconds, unless the user says otherwise: as long as a peer that moved
/// may look in vain.
pub const TTL: u32 = 30;
/// The shortest pause between two changes: addresses come and go together.
const SHORTEST: Duration = Duration::from_secs(1);
/// The pause after the first failure; it doubles.
const RETRY: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const LONGEST: Duration = Duration::from_secs(60);
/// It is said again so often, in case the server forgot.
const AGAIN: Duration = Duration::from_secs(3600);

/// The own name, and who may change it where.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The name.
    pub name: HostName,
    /// The primary server of its zone, over TCP.
    pub server: SocketAddr,
    /// The key by which that knows this host.
    pub key: Key,
    /// How long others may keep it, in seconds.
    pub ttl: u32,
}

impl Publish {
    fn entry(&self, own: &Own) -> Entry {
        let of_use = own.public.iter().filter(|at| at.port() != 0 && is_of_use(at.ip()));
        Entry { key: own.key, addresses: of_use.copied().collect(), ttl: self.ttl }
    }
}

/// Keeps the name as this end has to tell, until there is nothing more to tell.
pub(crate) async fn run(
    publish: Option<Publish>,
    mut own: watch::Receiver<Own>,
    health: watch::Sender<Health>,
) {
    let Some(publish) = publish else {
        health.send_replace(Health::Working);
        while own.changed().await.is_ok() {}
        return;
    };
    let mut name = Name::new(publish.entry(&own.borrow_and_update()));
    loop {
        let change = async {
            match name.due() {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = change => {}
            changed = own.changed() => {
                if changed.is_err() {
                    return;
                }
                name.want(publish.entry(&own.borrow_and_update()), Instant::now());
                continue;
            }
        }
        let entry = name.begin(Instant::now());
        let change = replace(publish.server, &publish.name, &publish.key, &entry);
        tokio::pin!(change);
        let answer = loop {
            tokio::select! {
                answer = &mut change => break Some(answer),
                changed = own.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // What is no news must not begin it anew: a server may be slow.
                    if name.want(publish.entry(&own.borrow_and_update()), Instant::now()) {
                        break None;
                    }
                }
            }
        };
        match answer {
            Some(Ok(())) => {
                tracing::debug!(addresses = entry.addresses.len(), "the own name was published");
                health
                    .send_if_modified(|health| std::mem::replace(health, Health::Working) != Health::Working);
                name.end(Some(entry.clone()), Instant::now());
            }
            Some(Err(refusal)) => {
                let why = refusal.why(publish.server, &publish.name);
                tracing::debug!(why, "the own name was not published");
                health.send_replace(Health::Failed { why, remedy: refusal.remedy().to_owned() });
                name.end(None, Instant::now());
            }
            None => {}
        }
    }
}

/// What is to be said of the own name, and when.
struct Name {
    wanted: Entry,
    /// What the server took last.
    done: Option<Entry>,
    failures: u32,
    begun: Option<Instant>,
    due: Instant,
}

impl Name {
    fn new(wanted: Entry) -> Self {
        Self { wanted, done: None, failures: 0, begun: None, due: Instant::now() }
    }

    /// When it is to be changed next. Before it is known who this host is, there is nothing to say.
    fn due(&self) -> Option<Instant> {
        (self.wanted.key != [0; 32]).then_some(self.due)
    }

    /// Takes over what is to be said; whether that is news.
    fn want(&mut self, wanted: Entry, now: Instant) -> bool {
        if wanted == self.wanted {
            return false;
        }
        self.failures = 0;
        self.due = if self.done.as_ref() == Some(&wanted) {
            now + AGAIN
        } else {
            self.begun.map_or(now, |begun| now.max(begun + SHORTEST))
        };
        self.wanted = wanted;
        true
    }

    /// A change begins; what the server says of the name is not known until it ends.
    fn begin(&mut self, now: Instant) -> Entry {
        self.begun = Some(now);
        self.done = None;
        self.wanted.clone()
    }

    /// It ended, with what the server took if it did.
    fn end(&mut self, done: Option<Entry>, now: Instant) {
        if done.is_some() {
            (self.failures, self.due) = (0, now + AGAIN);
        } else {
            self.due = now + (RETRY * (1 << self.failures.min(6))).min(LONGEST);
            self.failures = self.failures.saturating_add(1);
        }
        self.done = done;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u8) -> Entry {
        Entry { key: [7; 32], addresses: vec![([192, 0, 2, n], 6278).into()], ttl: 30 }
    }

    #[test]
    fn changes_come_together_and_failures_are_tried_less_and_less_often() {
        let now = Instant::now();
        let mut name = Name::new(Entry { key: [0; 32], ..entry(1) });
        assert_eq!(name.due(), None, "nobody knows who this is");
        assert!(name.want(entry(1), now));
        assert!(name.due() <= Some(now));
        let begun = name.begin(now);
        name.end(Some(begun), now);
        assert_eq!(name.due(), Some(now + AGAIN));
        assert!(!name.want(entry(1), now), "no news");
        for n in 2..9 {
            assert!(name.want(entry(n), now));
            assert_eq!(name.due(), Some(now + SHORTEST), "however often it changes");
        }
        assert!(name.want(entry(1), now));
        assert_eq!(name.due(), Some(now + AGAIN), "it is what the server has");
        name.want(entry(2), now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            name.begin(now);
            name.end(None, now);
            pauses.push((name.due().unwrap() - now).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        name.want(entry(3), now + LONGEST);
        assert_eq!(name.due(), Some(now + LONGEST), "elsewhere it may be otherwise");
    }

    #[test]
    fn what_was_broken_off_is_said_again() {
        let now = Instant::now();
        let mut name = Name::new(entry(1));
        let begun = name.begin(now);
        name.end(Some(begun), now);
        name.want(entry(2), now);
        name.begin(now + SHORTEST);
        // The server may have taken it.
        assert!(name.want(entry(1), now + SHORTEST));
        assert_eq!(name.due(), Some(now + SHORTEST + SHORTEST));
    }
}
