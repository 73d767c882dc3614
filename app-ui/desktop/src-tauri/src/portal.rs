//! Whether the network wants a login first, which NetworkManager finds out by itself. Asking somebody's server as well
//! would cost traffic and tell where the user is; so where NetworkManager is not, a portal is not recognised.

use std::sync::Arc;

use mast_control::{Layer, PeerState, Status, Trouble, TroubleCause};

use crate::shared::Shared;

/// NetworkManager's `NM_CONNECTIVITY_PORTAL`.
#[cfg(target_os = "linux")]
const PORTAL: u32 = 2;

/// Puts the login before whatever else the service supposes, while no peer answers.
pub fn tell(status: &mut Status, portal: bool) {
    let answered = status.peers.iter().any(|p| p.state.answers());
    let guess =
        status.trouble.as_ref().is_none_or(|t| matches!(t.layer, Layer::Peer | Layer::Dns | Layer::Unknown));
    let tried =
        status.up && !status.peers.is_empty() && status.interfaces.iter().any(|i| i.usable && !i.excluded);
    if portal && !answered && guess && tried {
        status.trouble = Some(Trouble::new(TroubleCause::Portal));
    }
}

/// Follows NetworkManager for as long as the app runs.
#[cfg(target_os = "linux")]
pub fn follow(shared: Arc<Shared>) {
    let work = move || {
        if let Err(error) = listen(&shared) {
            eprintln!("mast-desktop: login pages of networks are not recognised: {error}");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("mast-portal".into()).spawn(work) {
        eprintln!("mast-desktop: no thread: {error}");
    }
}

/// Follows nobody yet.
#[cfg(not(target_os = "linux"))]
pub fn follow(_: Arc<Shared>) {}

#[cfg(target_os = "linux")]
fn listen(shared: &Shared) -> zbus::Result<()> {
    const NAME: &str = "org.freedesktop.NetworkManager";
    let bus = zbus::blocking::Connection::system()?;
    let manager = zbus::blocking::Proxy::new(&bus, NAME, "/org/freedesktop/NetworkManager", NAME)?;
    let set = |connectivity: zbus::Result<u32>| {
        let portal = connectivity.is_ok_and(|c| c == PORTAL);
        if std::mem::replace(&mut shared.view().portal, portal) != portal {
            shared.changed.notify_one();
        }
    };
    let changes = manager.receive_property_changed::<u32>("Connectivity");
    // It need not run now: it tells when it does.
    set(manager.get_property("Connectivity"));
    for change in changes {
        set(change.get());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn layer(state: &str, trouble: &str, usable: bool) -> Option<Layer> {
        let mut status: Status = from_value(json!({
            "up": true, "name": "", "version": "", "public_key": "",
            "interfaces": [{"name": "wifi", "kind": "wifi", "usable": usable}],
            "trouble": {"layer": trouble, "detail": ""},
            "peers": [{"name": "nas", "public_key": "", "state": state, "kind": "mast", "eid": {},
                       "policy": {"mode": "auto"}}],
        }))
        .unwrap();
        tell(&mut status, true);
        status.trouble.map(|t| t.layer)
    }

    #[test]
    fn a_login_page_counts_only_while_nothing_answers() {
        assert_eq!(layer("unreachable", "peer", true), Some(Layer::Portal));
        assert_eq!(layer("connecting", "dns", true), Some(Layer::Portal));
        assert_eq!(layer("connected", "peer", true), Some(Layer::Peer));
        assert_eq!(layer("unreachable", "link", false), Some(Layer::Link));
    }
}
