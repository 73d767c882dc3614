//! What a killed predecessor left behind.

use std::io;

use super::rtnl::{self, Rtnl};
use super::tun;

/// Deletes the interface `tun_name` if it is a TUN device that no process holds, and returns what was removed, as
/// sentences. An interface of another type, or one that is in use, is left alone: making the virtual interface then
/// says what is wrong. A device of a process that was killed goes by itself, unless it was made persistent.
///
/// # Errors
/// When the system cannot be asked, or refuses.
pub(super) fn clear_leftovers(tun_name: &str) -> io::Result<Vec<String>> {
    let mut rtnl = Rtnl::open()?;
    let Some(link) = rtnl.link(tun_name).map_err(io::Error::from)? else { return Ok(Vec::new()) };
    if link.virtual_type.as_deref() != Some("tun") {
        return Ok(Vec::new());
    }
    // Whoever attaches holds it: nobody else does now, nor can until it is deleted.
    let attached = match tun::open(tun_name) {
        Ok(attached) => attached,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    rtnl.execute(rtnl::delete_link(link.index)).map_err(io::Error::from)?;
    drop(attached);
    Ok(vec![format!("the TUN device `{tun_name}`, which no process held")])
}
