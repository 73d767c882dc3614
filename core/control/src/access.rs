//! Who may change things.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::aside::{Aside, Hung};
use crate::error::ControlError;
use crate::native;

/// Members of this group may change what the service does.
pub const GROUP: &str = "mast";

/// The user database may be asked over a network, and not answer.
static USERS: Aside = Aside::new("mast-users", 16);
/// How long it may take. Whoever greets waits for it.
const LOOK_UP: Duration = Duration::from_secs(2);

/// Who is at the other end of a connection, by the word of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user, in the system's own words: on Unix, its number.
    pub user: String,
    /// An administrator, whom nobody shuts out.
    pub administrator: bool,
    /// What the client calls itself. Anybody can claim anything here.
    pub client: String,
    /// What the system's own rule goes by. None where the transport is not the system's.
    pub(crate) account: Option<native::Account>,
}

impl Caller {
    /// Somebody who comes another way than the system's own; the system's rule lets only administrators change things.
    pub fn foreign(user: impl Into<String>, administrator: bool) -> Self {
        Self { user: user.into(), administrator, client: String::new(), account: None }
    }
}

type Rule = dyn Fn(&Caller) -> bool + Send + Sync;

/// The rule that says who may change things.
#[derive(Clone)]
pub struct Access {
    /// Who may without anybody being asked. Never blocks.
    certain: fn(&Caller) -> bool,
    rule: Arc<Rule>,
}

impl Access {
    /// The system's: administrators, the service's own user, and members of [`GROUP`].
    ///
    /// Membership is looked up at each change, so it counts as soon as it is granted, without a new login.
    pub fn system() -> Self {
        Self {
            certain: |caller| caller.administrator || caller.account.is_some_and(native::is_own),
            rule: Arc::new(|caller| caller.account.is_some_and(native::is_member)),
        }
    }

    /// Any other rule. It may block, and even hang: it is called on threads of its own, and not waited for long.
    pub fn custom(rule: impl Fn(&Caller) -> bool + Send + Sync + 'static) -> Self {
        Self { certain: |_| false, rule: Arc::new(rule) }
    }

    /// Refuses the caller unless the rule allows it to change things. What is not known by then is not allowed.
    pub(crate) async fn check(&self, caller: &Caller, method: &str) -> Result<(), ControlError> {
        if (self.certain)(caller) {
            return Ok(());
        }
        let (rule, asked, owned) = (Arc::clone(&self.rule), caller.clone(), method.to_owned());
        let verdict =
            USERS.within(LOOK_UP, move || if rule(&asked) { Ok(()) } else { Err(refusal(&asked, &owned)) });
        match verdict.await {
            Ok(verdict) => verdict,
            Err(Hung::Broken) => Err(ControlError::internal("the access check broke down")),
            Err(hung) => Err(ControlError::not_permitted(format!(
                "`{method}` needs permission, and it is not known whether you belong to group `{GROUP}`: the user \
                 database does not answer ({hung}); run with sudo, or try again"
            ))),
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Access")
    }
}

fn refusal(caller: &Caller, method: &str) -> ControlError {
    ControlError::not_permitted(format!("`{method}` needs permission: {}", native::remedy(caller.account)))
}
