//! Who may change things.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::aside::{Aside, Hung};
use crate::error::ControlError;
use crate::native;

/// Members of this group may change what the service does.
pub const GROUP: &str = "mast";

/// The user database may be asked over a network, and not answer.
static USERS: Aside = Aside::new("mast-users", 16);
/// How long it may take. Whoever greets waits for it.
const LOOK_UP: Duration = Duration::from_secs(2);
/// So long what was found of a user decides what it is shown. What it may change is looked up each time.
const FRESH: Duration = Duration::from_secs(2);
/// So many look-ups of one user may be without an answer, so that one cannot take the threads of all.
const UNANSWERED: usize = 2;
/// Users of whom it is remembered what was found.
const REMEMBERED: usize = 256;

/// Who is at the other end of a connection, by the word of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user, in the system's own words: on Unix, its number.
    pub user: String,
    /// An administrator, whom nobody shuts out.
    pub administrator: bool,
    /// What the client calls itself. Anybody can claim anything here.
    pub client: String,
    /// Whether it may change things, by the rule, when it asked.
    pub steers: bool,
    /// What the system's own rule goes by. None where the transport is not the system's.
    pub(crate) account: Option<native::Account>,
}

impl Caller {
    /// Somebody who comes another way than the system's own; the system's rule lets only administrators change things.
    pub fn foreign(user: impl Into<String>, administrator: bool) -> Self {
        Self { user: user.into(), administrator, client: String::new(), steers: false, account: None }
    }
}

type Rule = dyn Fn(&Caller) -> bool + Send + Sync;

/// Who may change things, and what the others see.
#[derive(Clone)]
pub struct Access {
    /// Who may without anybody being asked. Never blocks.
    certain: fn(&Caller) -> bool,
    rule: Arc<Rule>,
    /// What is for those who may change things is shown to everybody.
    open: bool,
    found: Arc<Mutex<BTreeMap<String, Arc<Found>>>>,
}

/// What is known of one user.
#[derive(Default)]
struct Found {
    /// Whether it may change things, or why that is not known, and when that was found. Who looks it up holds this.
    verdict: tokio::sync::Mutex<Option<(Instant, Result<bool, Hung>)>>,
    /// Look-ups without an answer.
    unanswered: AtomicUsize,
}

/// A look-up that has no answer yet.
struct Unanswered(Arc<Found>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.unanswered.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Access {
    /// The system's: administrators, the service's own user, and members of [`GROUP`].
    ///
    /// Membership is looked up at each change, so it counts as soon as it is granted, without a new login.
    pub fn system() -> Self {
        Self::of(
            |caller| caller.administrator || caller.account.is_some_and(native::is_own),
            |caller| caller.account.is_some_and(native::is_member),
        )
    }

    /// Any other rule. It may block, and even hang: it is called on threads of its own, and not waited for long.
    pub fn custom(rule: impl Fn(&Caller) -> bool + Send + Sync + 'static) -> Self {
        Self::of(|_| false, rule)
    }

    fn of(certain: fn(&Caller) -> bool, rule: impl Fn(&Caller) -> bool + Send + Sync + 'static) -> Self {
        Self { certain, rule: Arc::new(rule), open: false, found: Arc::default() }
    }

    /// The same, with everything shown to everybody: addresses of peers, names of networks, what happened, and usage.
    #[must_use]
    pub fn open(mut self, open: bool) -> Self {
        self.open = open;
        self
    }

    /// Whether nobody is to be kept from anything by the caller, and the other way round.
    pub(crate) fn is_certain(&self, caller: &Caller) -> bool {
        caller.administrator || (self.certain)(caller)
    }

    /// Refuses the caller unless the rule allows it to change things. What is not known by then is not allowed.
    pub(crate) async fn check(&self, caller: &Caller, method: &str) -> Result<(), ControlError> {
        match self.find(caller, Duration::ZERO).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(refuse(caller, method).await),
            Err(Hung::Broken) => Err(ControlError::internal("the access check broke down")),
            Err(hung) => Err(ControlError::not_permitted(format!(
                "`{method}` needs permission, and it is not known whether you belong to group `{GROUP}`: the user \
                 database does not answer ({hung}); run with sudo, or try again"
            ))),
        }
    }

    /// Whether the caller may change things, as far as is known; it may have been found a moment ago.
    pub(crate) async fn steers(&self, caller: &Caller) -> bool {
        self.find(caller, FRESH).await == Ok(true)
    }

    /// Whether the caller sees everything.
    pub(crate) async fn sees(&self, caller: &Caller) -> bool {
        self.open || self.steers(caller).await
    }

    /// Refuses the caller unless it sees everything.
    pub(crate) async fn check_sees(&self, caller: &Caller, method: &str) -> Result<(), ControlError> {
        if self.open { Ok(()) } else { self.check(caller, method).await }
    }

    /// What the rule says, or said so long ago at most. Several that ask for one user at once share one look-up.
    async fn find(&self, caller: &Caller, age: Duration) -> Result<bool, Hung> {
        if (self.certain)(caller) {
            return Ok(true);
        }
        let since = Instant::now().checked_sub(age);
        let found = self.of_user(&caller.user);
        let mut verdict = found.verdict.lock().await;
        if let Some((at, verdict)) = &*verdict
            && since.is_none_or(|since| *at >= since)
        {
            return *verdict;
        }
        let (rule, asked) = (Arc::clone(&self.rule), caller.clone());
        let before = found.unanswered.fetch_add(1, Ordering::Relaxed);
        let pending = Unanswered(Arc::clone(&found));
        let answer = if before >= UNANSWERED {
            Err(Hung::Busy(before))
        } else {
            let look_up = move || {
                let _pending = pending;
                rule(&asked)
            };
            USERS.within(LOOK_UP, look_up).await
        };
        *verdict = Some((Instant::now(), answer));
        answer
    }

    fn of_user(&self, user: &str) -> Arc<Found> {
        let mut all = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            all.retain(|_, found| Arc::strong_count(found) > 1);
        }
        Arc::clone(all.entry(user.to_owned()).or_default())
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Access")
    }
}

/// The refusal, with the remedy: for that the user database is asked once more.
async fn refuse(caller: &Caller, method: &str) -> ControlError {
    let account = caller.account;
    let remedy = USERS.within(LOOK_UP, move || native::remedy(account)).await;
    let remedy = remedy.unwrap_or_else(|_| format!("run with sudo, or add yourself to group `{GROUP}`"));
    ControlError::not_permitted(format!("`{method}` needs permission: {remedy}"))
}
