//! Users and groups of Unix.

use nix::unistd::{Gid, Group, Uid, User};
use tokio::net::UnixStream;

use super::groups::groups_of;
use crate::access::{Caller, GROUP};

/// A user, as the kernel tells of the other end of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    uid: Uid,
    gid: Gid,
}

pub(super) fn caller(stream: &UnixStream) -> std::io::Result<Caller> {
    let credentials = stream.peer_cred()?;
    let account = Account { uid: Uid::from_raw(credentials.uid()), gid: Gid::from_raw(credentials.gid()) };
    Ok(Caller {
        user: account.uid.to_string(),
        administrator: account.uid.is_root(),
        account: Some(account),
        client: String::new(),
        steers: false,
    })
}

/// Root, and the service's own user.
pub(crate) fn is_own(Account { uid, .. }: Account) -> bool {
    uid.is_root() || uid == Uid::effective()
}

/// Those who administer a Mac: whom the system lets become root by their own password.
#[cfg(target_vendor = "apple")]
const ADMINISTRATORS: Option<&str> = Some("admin");
#[cfg(not(target_vendor = "apple"))]
const ADMINISTRATORS: Option<&str> = None;

/// A member of the group, or where the system has such of that of its administrators. It asks the user database.
pub(crate) fn is_member(Account { uid, gid }: Account) -> bool {
    let mut groups = [Some(GROUP), ADMINISTRATORS].into_iter().flatten();
    let mut user = None;
    groups.any(|name| {
        let Ok(Some(group)) = Group::from_name(name) else { return false };
        if group.gid == gid {
            return true;
        }
        let user = user.get_or_insert_with(|| User::from_uid(uid).ok().flatten());
        let Some(user) = user else { return false };
        group.mem.contains(&user.name) || groups_of(user).contains(&group.gid)
    })
}

/// What somebody can do who may not change things.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn remedy(account: Option<Account>) -> String {
    let user = match account.map(|account| User::from_uid(account.uid)) {
        Some(Ok(Some(user))) => user.name,
        _ => "USER".to_owned(),
    };
    let create = match Group::from_name(GROUP) {
        Ok(None) => format!("sudo groupadd --system {GROUP} && "),
        _ => String::new(),
    };
    format!("run with sudo, or add yourself to group `{GROUP}`: {create}sudo usermod -aG {GROUP} {user}")
}

#[cfg(target_vendor = "apple")]
pub(crate) fn remedy(_account: Option<Account>) -> String {
    "run with sudo, or as a user who may administer this Mac (System Settings, Users & Groups)".to_owned()
}

/// A user by name or number, in the words of [`Caller::user`]. It asks the user database.
pub fn user_id(text: &str) -> Option<String> {
    if let Ok(number) = text.parse::<u32>() {
        return Some(number.to_string());
    }
    User::from_name(text).ok().flatten().map(|user| user.uid.to_string())
}
