//! What a peer may know of this host, in words.

use crate::status::{AddressesTold, PeerStatus};

/// What was chosen, in sentences; none where nothing was.
pub fn disclosure(peer: &PeerStatus) -> Vec<String> {
    let name = &peer.name;
    let mut told = Vec::new();
    if peer.mast == Some(true) {
        told.push(format!(
            "MAST is offered to {name}, which came from a WireGuard file: if it answers, it is told where this machine can \
             be reached."
        ));
    }
    // Nothing else is told where MAST is not spoken.
    if peer.mast == Some(false) {
        return told;
    }
    match peer.addresses {
        AddressesTold::PublicOnly => {
            told.push(format!("{name} is told no private addresses of this machine."));
        }
        AddressesTold::RelayedOnly => told.push(format!(
            "{name} is told no addresses of this machine, since there are no relays yet; from where datagrams come it sees \
             all the same."
        )),
        AddressesTold::All | AddressesTold::Unknown => {}
    }
    if peer.own {
        told.push(format!(
            "{name} is your own: it is told private addresses of this machine, too, that it may be unable to use."
        ));
    }
    told
}
