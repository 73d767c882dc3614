//! Users and groups of Unix.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User};
use tokio::net::UnixStream;

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

/// A member of the group. It asks the user database.
pub(crate) fn is_member(Account { uid, gid }: Account) -> bool {
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

/// What somebody can do who may not change things.
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

/// A user by name or number, in the words of [`Caller::user`]. It asks the user database.
pub fn user_id(text: &str) -> Option<String> {
    if let Ok(number) = text.parse::<u32>() {
        return Some(number.to_string());
    }
    User::from_name(text).ok().flatten().map(|user| user.uid.to_string())
}
