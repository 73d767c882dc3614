//! Whether the network wants a login first, which NetworkManager finds out by itself. Asking somebody's server as well
//! would cost traffic and tell where the user is; so where NetworkManager is not, a portal is not recognised.

use std::sync::Arc;

#[cfg(any(target_os = "linux", test))]
use mast_control::timestamp;
use mast_control::{Evidence, Layer, LayerState, LayerStatus, Status, layers};

use crate::shared::Shared;

/// NetworkManager's `NM_CONNECTIVITY_PORTAL`.
#[cfg(target_os = "linux")]
const PORTAL: u32 = 2;
/// NetworkManager's `NM_CONNECTIVITY_FULL`.
#[cfg(target_os = "linux")]
const FULL: u32 = 4;

/// What NetworkManager found, and when, as the control API writes times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    portal: bool,
    at: String,
}

#[cfg(test)]
impl Word {
    pub fn new(portal: bool, at: String) -> Self {
        Self { portal, at }
    }
}

/// Puts what NetworkManager found where the service does not know, and a login before whatever else the service supposes,
/// while no peer answers.
pub fn tell(status: &mut Status, word: Option<&Word>) {
    let Some(word) = word else { return };
    let evidence = if word.portal { Evidence::Portal } else { Evidence::Online };
    let unknown = |l: &&mut LayerStatus| l.layer == Layer::Portal && l.state == LayerState::Unknown;
    let Some(layer) = status.layers.iter_mut().find(unknown) else { return };
    *layer = LayerStatus::new(evidence, Some(word.at.clone()));
    status.trouble = layers::trouble(status);
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
        let found = match connectivity {
            Ok(PORTAL) => Some(true),
            Ok(FULL) => Some(false),
            // It does not know either.
            _ => None,
        };
        shared.view().portal = found.map(|portal| Word { portal, at: timestamp::now() });
        shared.changed.notify_one();
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
    use mast_control::layers::Facts;
    use serde_json::{from_value, json};

    use super::*;

    fn layer(state: &str, usable: bool, portal: bool) -> (Option<Layer>, Option<LayerState>) {
        let path = if state == "connected" { "validated" } else { "failed" };
        let mut status: Status = from_value(json!({
            "up": true, "name": "", "version": "", "public_key": "",
            "interfaces": [{"name": "wifi", "kind": "wifi", "usable": usable}],
            "peers": [{"name": "nas", "public_key": "", "state": state, "kind": "mast", "eid": {},
                       "policy": {"mode": "auto"}, "paths": [{"id": 0, "interface": "wifi", "local": "",
                       "remote": "", "state": path, "active": false}]}],
        }))
        .unwrap();
        layers::fill(&mut status, &Facts::default());
        tell(&mut status, Some(&Word { portal, at: timestamp::now() }));
        let found = status.layers.iter().find(|l| l.layer == Layer::Portal).map(|l| l.state);
        (status.trouble.map(|t| t.layer), found)
    }

    #[test]
    fn a_login_page_counts_only_while_nothing_answers() {
        assert_eq!(layer("unreachable", true, true), (Some(Layer::Portal), Some(LayerState::Bad)));
        assert_eq!(layer("connecting", true, true), (Some(Layer::Portal), Some(LayerState::Bad)));
        assert_eq!(layer("connected", true, true), (None, Some(LayerState::Ok)));
        assert_eq!(layer("unreachable", false, true), (Some(Layer::Link), None));
        assert_eq!(layer("unreachable", true, false), (Some(Layer::Peer), Some(LayerState::Ok)));
    }
}
