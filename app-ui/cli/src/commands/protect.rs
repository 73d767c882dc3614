//! `protect`, and `peer full-tunnel`: what goes into a tunnel, and what never goes around it.

use std::process::ExitCode;

use mast_control::{PeerSet, SettingsSet, words};
use serde::Serialize;

use super::{Context, Outcome};
use crate::args::{ProtectArgs, Switch};
use crate::output::text::clean;

/// What is set, as `--json` has it.
#[derive(Serialize)]
struct Protection<'a> {
    leak_protection: bool,
    local_network: bool,
    /// How it stands.
    #[serde(flatten)]
    standing: &'a mast_control::Protection,
    /// The peers that everything goes to.
    full_tunnels: &'a [String],
}

pub async fn run(context: &mut Context, args: ProtectArgs) -> Outcome {
    if args.switch.is_some() || args.local_network.is_some() {
        let is_on = |switch: Switch| switch == Switch::On;
        let (leak_protection, local_network) = (args.switch.map(is_on), args.local_network.map(is_on));
        let set = SettingsSet { leak_protection, local_network, ..SettingsSet::default() };
        context.client().await?.settings_set(set).await?;
    }
    let status = context.client().await?.status().await?;
    let on = status.settings.leak_protection;
    let full: Vec<_> =
        status.peers.iter().filter(|p| p.full_tunnel == Some(true)).map(|p| clean(&p.name)).collect();
    if args.format.json {
        context.out.json(&Protection {
            leak_protection: on,
            local_network: status.settings.local_network,
            standing: &status.protection,
            full_tunnels: &full,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let told = match (on, full.is_empty()) {
        (true, false) => format!(
            "Leak protection is on: what belongs into the tunnel to {} is refused while that cannot carry it, even when \
             mastd does not run. Only `mast down`, a pause and `mast protect off` let it go another way.",
            full.join(", ")
        ),
        (true, true) => {
            "Leak protection is on. It has nothing to refuse now: not everything goes to any peer.".to_owned()
        }
        (false, _) => {
            "Leak protection is off: while a tunnel cannot carry what belongs into it, that may go around it."
                .to_owned()
        }
    };
    context.out.line(told)?;
    if on && !status.settings.local_network {
        context.out.line("The local network is held back, too.")?;
    }
    if let Some(text) = words::protection(&status.protection) {
        context.out.line(format!("{text}."))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn full_tunnel(context: &mut Context, name: String, switch: Switch) -> Outcome {
    let on = switch == Switch::On;
    let told = if on {
        format!("Everything goes to {}.", clean(&name))
    } else {
        format!("Not everything goes to {} any more.", clean(&name))
    };
    context.client().await?.peer_set(PeerSet { name, full_tunnel: Some(on), ..PeerSet::default() }).await?;
    context.out.line(told)?;
    Ok(ExitCode::SUCCESS)
}
