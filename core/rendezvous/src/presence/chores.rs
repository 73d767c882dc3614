//! What is asked of each account now and then: to be told of its items, and for the items themselves.

use std::time::Duration;

use tokio::time::Instant;
use xmpp_parsers::jid::BareJid;

/// Between two questions, where nothing hurries. So an idle session says no more than one a minute.
const PACE: Duration = Duration::from_secs(60);
/// A question that was answered is asked again after this time: the other server may have forgotten.
const AGAIN: Duration = Duration::from_secs(1800);
/// One that was not, sooner: the peer may not have published yet, as when two hosts have just been paired.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LAST_RETRY: Duration = Duration::from_secs(300);
/// Between two questions while a peer is new.
const PACE_OF_NEW: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To be told of new items.
    Subscribe,
    /// For the items.
    Items,
}

#[derive(Debug)]
struct Chore {
    account: BareJid,
    kind: Kind,
    hurried: bool,
    next: Instant,
    retry: Duration,
}

/// All questions, and when each is due.
#[derive(Debug)]
pub(super) struct Chores {
    chores: Vec<Chore>,
    last: Instant,
}

impl Chores {
    /// Asks for the items of all accounts at once, and, in a new session, to be told of new ones; but of the own account's
    /// the server tells by itself.
    pub(super) fn new(
        own: &BareJid,
        others: impl Iterator<Item = BareJid>,
        resumed: bool,
        now: Instant,
    ) -> Self {
        let chore = |account: &BareJid, kind, hurried| Chore {
            account: account.clone(),
            kind,
            hurried,
            next: now + AGAIN,
            retry: FIRST_RETRY,
        };
        let mut chores = vec![chore(own, Kind::Items, true)];
        for account in others.filter(|account| account != own) {
            chores.push(chore(&account, Kind::Subscribe, !resumed));
            chores.push(chore(&account, Kind::Items, true));
        }
        Self { chores, last: now }
    }

    /// When the next question is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.chores.iter().map(|chore| self.due_of(chore)).min()
    }

    fn due_of(&self, chore: &Chore) -> Instant {
        match chore {
            Chore { hurried: true, .. } => self.last,
            // Four times within the first minute or so.
            Chore { retry, .. } if *retry > FIRST_RETRY && *retry < PACE * 2 => {
                chore.next.max(self.last + PACE_OF_NEW)
            }
            _ => chore.next.max(self.last + PACE),
        }
    }

    /// A question that is due. It is not due again before its time, whatever becomes of it.
    pub(super) fn take(&mut self, now: Instant) -> Option<(BareJid, Kind)> {
        let at = self.chores.iter().position(|chore| self.due_of(chore) <= now)?;
        let chore = self.chores.get_mut(at)?;
        if !chore.hurried {
            self.last = now;
        }
        chore.hurried = false;
        chore.next = now + AGAIN;
        Some((chore.account.clone(), chore.kind))
    }

    /// A question was answered: with what was asked for, or not.
    pub(super) fn answered(&mut self, account: &BareJid, kind: Kind, good: bool, now: Instant) {
        let Some(chore) = self.find(account, kind) else { return };
        if good {
            chore.retry = FIRST_RETRY;
            chore.next = now + AGAIN;
        } else {
            chore.next = now + chore.retry;
            chore.retry = (chore.retry * 2).min(LAST_RETRY);
        }
    }

    /// Asks for the items of an account at once.
    pub(super) fn hurry(&mut self, account: &BareJid) {
        if let Some(chore) = self.find(account, Kind::Items) {
            chore.hurried = true;
        }
    }

    fn find(&mut self, account: &BareJid, kind: Kind) -> Option<&mut Chore> {
        self.chores.iter_mut().find(|chore| chore.account == *account && chore.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jid(text: &str) -> BareJid {
        BareJid::new(text).unwrap()
    }

    fn chores(resumed: bool) -> (Chores, Instant) {
        let now = Instant::now();
        let others = ["own@a", "bob@b", "carol@c"].map(jid);
        (Chores::new(&jid("own@a"), others.into_iter(), resumed, now), now)
    }

    #[test]
    fn a_new_session_asks_for_everything_at_once_and_a_resumed_one_for_items() {
        for (resumed, expected) in [(false, 5), (true, 3)] {
            let (mut chores, now) = chores(resumed);
            let asked: Vec<_> = std::iter::from_fn(|| chores.take(now)).collect();
            assert_eq!(asked.len(), expected);
            assert!(!asked.contains(&(jid("own@a"), Kind::Subscribe)));
        }
    }

    #[test]
    fn an_idle_session_asks_at_most_once_a_minute() {
        let (mut chores, start) = chores(false);
        while let Some((account, kind)) = chores.take(start) {
            chores.answered(&account, kind, account == jid("own@a"), start);
        }
        // None of the others has published anything for a day.
        let (mut now, mut asked) = (start, Vec::new());
        while now < start + Duration::from_secs(24 * 3600) {
            now = now.max(chores.due().unwrap());
            let (account, kind) = chores.take(now).unwrap();
            asked.push(now);
            chores.answered(&account, kind, account == jid("own@a"), now);
        }
        let soon = asked.iter().filter(|at| **at < start + Duration::from_secs(100)).count();
        assert_eq!(soon, 16, "four times each while they are new");
        let later = &asked[soon..];
        assert!(later.windows(2).all(|pair| pair[1] - pair[0] >= PACE));
        assert!(later.len() > 500);
    }

    #[test]
    fn what_was_answered_is_asked_again_after_half_an_hour() {
        let (mut chores, now) = chores(false);
        while let Some((account, kind)) = chores.take(now) {
            chores.answered(&account, kind, true, now);
        }
        assert_eq!(chores.due(), Some(now + AGAIN));
        chores.hurry(&jid("bob@b"));
        assert_eq!(chores.take(now), Some((jid("bob@b"), Kind::Items)));
        assert_eq!(chores.take(now), None);
    }
}
