//! Who may change things.

use std::ffi::CString;
use std::fmt;
use std::sync::Arc;

use nix::unistd::{Gid, Group, Uid, User};
use tokio::net::UnixStream;

use crate::error::ControlError;

/// Members of this group may change what the service does.
pub const GROUP: &str = "mast";

/// Who is at the other end of a connection, as the kernel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user's number.
    pub uid: u32,
    /// The primary group's number.
    pub gid: u32,
    /// What the client calls itself. Anybody can claim anything here.
    pub client: String,
}

impl Caller {
    pub(crate) fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Self { uid: credentials.uid(), gid: credentials.gid(), client: String::new() })
    }
}

type Rule = dyn Fn(&Caller) -> bool + Send + Sync;

/// The rule that says who may change things.
#[derive(Clone)]
pub struct Access(Arc<Rule>);

impl Access {
    /// Root, the service's own user, and members of [`GROUP`].
    ///
    /// Membership is looked up at each change, so it counts as soon as it is granted, without a new login.
    pub fn system() -> Self {
        Self::custom(|caller| {
            let uid = Uid::from_raw(caller.uid);
            uid.is_root() || uid == Uid::effective() || is_member(uid, Gid::from_raw(caller.gid))
        })
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

fn is_member(uid: Uid, gid: Gid) -> bool {
    let Ok(Some(group)) = Group::from_name(GROUP) else { return false };
    if group.gid == gid {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(uid) else { return false };
    group.mem.contains(&user.name) || groups_of(&user).contains(&group.gid)
}

#[cfg(not(target_vendor = "apple"))]
fn groups_of(user: &User) -> Vec<Gid> {
    CString::new(user.name.as_str())
        .ok()
        .and_then(|name| nix::unistd::getgrouplist(&name, user.gid).ok())
        .unwrap_or_default()
}

#[cfg(target_vendor = "apple")]
fn groups_of(user: &User) -> Vec<Gid> {
    vec![user.gid]
}

fn refusal(caller: &Caller, method: &str) -> ControlError {
    let user = match User::from_uid(Uid::from_raw(caller.uid)) {
        Ok(Some(user)) => user.name,
        _ => "USER".to_owned(),
    };
    let create = match Group::from_name(GROUP) {
        Ok(None) => format!("sudo groupadd --system {GROUP} && "),
        _ => String::new(),
    };
    ControlError::not_permitted(format!(
        "`{method}` needs permission: run with sudo, or add yourself to group `{GROUP}`: \
         {create}sudo usermod -aG {GROUP} {user}"
    ))
}
