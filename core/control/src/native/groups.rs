//! The groups of a user, by the user database.

use std::ffi::CString;

use nix::unistd::{Gid, User};

#[cfg(not(target_vendor = "apple"))]
pub(super) fn groups_of(user: &User) -> Vec<Gid> {
    CString::new(user.name.as_str())
        .ok()
        .and_then(|name| nix::unistd::getgrouplist(&name, user.gid).ok())
        .unwrap_or_default()
}

/// The crate nix has it for other systems alone. On a Mac it also tells of groups that are in groups, as the
/// administrators of a directory are.
#[cfg(target_vendor = "apple")]
pub(super) fn groups_of(user: &User) -> Vec<Gid> {
    /// Far more than anybody is in.
    const MOST: usize = 1024;
    let Ok(name) = CString::new(user.name.as_str()) else { return Vec::new() };
    let mut groups = [0; MOST];
    let mut count = MOST as nix::libc::c_int;
    // SAFETY: the name ends with a zero and outlives the call; the system writes at most `count` numbers into the room
    // for as many, and how many there are into `count`.
    let fits = unsafe {
        nix::libc::getgrouplist(
            name.as_ptr(),
            user.gid.as_raw().cast_signed(),
            groups.as_mut_ptr(),
            &raw mut count,
        )
    };
    // With too little room the first of them are there.
    let count = if fits < 0 { MOST } else { usize::try_from(count).unwrap_or_default().min(MOST) };
    groups.iter().take(count).map(|group| Gid::from_raw(group.cast_unsigned())).collect()
}
