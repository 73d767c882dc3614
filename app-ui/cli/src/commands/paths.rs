//! `paths`, and the table that `status` shares with it.

use std::process::ExitCode;

use mast_control::{Fitness, PathState, PathStatus, PeerStatus, Status, Via, words};
use serde_json::json;

use super::{Context, Outcome};
use crate::args::Format;
use crate::output::table::Table;
use crate::output::text::cleaned;
use crate::output::{Style, units};

pub async fn show(context: &mut Context, format: Format) -> Outcome {
    let status = context.client().await?.status().await?;
    if format.json {
        let peers: Vec<_> =
            status.peers.iter().map(|peer| json!({"peer": peer.name, "paths": peer.paths})).collect();
        context.out.json(&peers)?;
        return Ok(ExitCode::SUCCESS);
    }
    let status = cleaned(status);
    if status.peers.iter().all(|peer| peer.paths.is_empty()) {
        context.out.line("There is no path now: `mast status` says why.")?;
        return Ok(ExitCode::SUCCESS);
    }
    full(&status).print(&mut context.out)?;
    context.out.line(context.out.paint(Style::Faint, "* carries the traffic now"))?;
    context.redacted(status.redacted)?;
    Ok(ExitCode::SUCCESS)
}

/// The links to one peer, as much as fits beside a sentence. What is measured is that of each link's best path.
pub fn brief(peer: &PeerStatus, status: &Status) -> Table {
    let mut table = Table::new(&["", "INTERFACE", "NETWORK", "OVER", "REMOTE", "STATE", ">RTT", ">LOSS"]);
    for link in words::links(peer) {
        let Some(best) = link.paths.first() else { continue };
        let cells = vec![
            mark(best),
            link.interface.to_owned(),
            network(best, status),
            link.families(),
            best.remote.clone(),
            state(best, status),
            best.srtt_ms.map(units::millis).unwrap_or_default(),
            best.loss.map(units::percent).unwrap_or_default(),
        ];
        table.row(style(best), cells);
    }
    table
}

/// Every path with everything.
fn full(status: &Status) -> Table {
    let mut table = Table::new(&[
        "",
        "PEER",
        ">PATH",
        "INTERFACE",
        "NETWORK",
        "LOCAL",
        "REMOTE",
        ">FAR LINK",
        "VIA",
        "STATE",
        ">RTT",
        ">LOSS",
        ">MTU",
        ">RECEIVED",
        ">SENT",
    ]);
    for peer in &status.peers {
        for path in words::links(peer).into_iter().flat_map(|link| link.paths) {
            let cells = vec![
                mark(path),
                peer.name.clone(),
                path.id.to_string(),
                path.interface.clone(),
                network(path, status),
                path.local.clone(),
                path.remote.clone(),
                path.peer_link.map(|number| number.to_string()).unwrap_or_default(),
                if path.via == Via::Direct { String::new() } else { path.via.to_string() },
                state(path, status),
                path.srtt_ms.map(units::millis).unwrap_or_default(),
                path.loss.map(units::percent).unwrap_or_default(),
                path.mtu.to_string(),
                units::bytes(path.rx_bytes),
                units::bytes(path.tx_bytes),
            ];
            table.row(style(path), cells);
        }
    }
    table
}

/// What is known of a path; with what is wrong with it though it works.
fn state(path: &PathStatus, status: &Status) -> String {
    match path.fitness {
        Some(Fitness::Strained | Fitness::Unfit) => {
            format!("{}, {}", path.state, words::fitness(path, status))
        }
        _ => path.state.to_string(),
    }
}

fn mark(path: &PathStatus) -> String {
    if path.active { "*" } else { " " }.to_owned()
}

fn style(path: &PathStatus) -> Option<Style> {
    match path.state {
        _ if path.active => Some(Style::Strong),
        PathState::Failed => Some(Style::Faint),
        _ => None,
    }
}

fn network(path: &PathStatus, status: &Status) -> String {
    let interface = status.interfaces.iter().find(|interface| interface.name == path.interface);
    interface.and_then(|interface| interface.network.clone()).unwrap_or_default()
}
