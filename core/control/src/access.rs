//! Who may change things.

use std::fmt;
use std::sync::Arc;

use crate::error::ControlError;
use crate::native;

/// Members of this group may change what the service does.
pub const GROUP: &str = "mast";

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
pub struct Access(Arc<Rule>);

impl Access {
    /// The system's: administrators, the service's own user, and members of [`GROUP`].
    ///
    /// Membership is looked up at each change, so it counts as soon as it is granted, without a new login.
    pub fn system() -> Self {
        Self::custom(|caller| caller.administrator || caller.account.is_some_and(native::may_change))
    }

    /// Any other rule. It may block for a moment: it is not called on the runtime's own threads.
    pub fn custom(rule: impl Fn(&Caller) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(rule))
    }

    /// Refuses the caller unless the rule allows it to change things.
    pub(crate) async fn check(&self, caller: &Caller, method: &str) -> Result<(), ControlError> {
        let (rule, asked, method) = (Arc::clone(&self.0), caller.clone(), method.to_owned());
        // A user database may be asked over a network.
        let verdict =
            tokio::task::spawn_blocking(
                move || {
                    if rule(&asked) { Ok(()) } else { Err(refusal(&asked, &method)) }
                },
            );
        verdict
            .await
            .unwrap_or_else(|error| Err(ControlError::internal(format!("access check failed: {error}"))))
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
