//! `status`: the sentence, the links, the last events; of all, or of one peer.

use std::process::ExitCode;

use mast_control::words::{self, Tone};
use mast_control::{LayerState, PeerStatus, PeerView, Status};

use super::{Context, Outcome, paths};
use crate::args::{CheckArgs, StatusArgs};
use crate::output::table::Table;
use crate::output::text::{clean, cleaned};
use crate::output::{Style, events, units};

/// How many events are worth showing beside the rest.
const LAST_EVENTS: usize = 5;

pub async fn show(context: &mut Context, args: StatusArgs) -> Outcome {
    let mut client = context.client().await?;
    if let Some(name) = &args.peer {
        let view = client.peer(name).await?;
        if args.format.json {
            context.out.json(&view)?;
            return Ok(ExitCode::SUCCESS);
        }
        let PeerView { up, peer, interfaces, redacted } = cleaned(view);
        let status = Status { up, peers: vec![peer], interfaces, ..Status::default() };
        for peer in &status.peers {
            sentence(context, words::of_peer(peer, &status))?;
            one_peer(context, peer, &status)?;
        }
        context.redacted(redacted)?;
        return Ok(ExitCode::SUCCESS);
    }
    let status = client.status().await?;
    if args.format.json {
        context.out.json(&status)?;
        return Ok(ExitCode::SUCCESS);
    }
    let status = cleaned(status);
    sentence(context, words::of_all(&status))?;
    if let Some(why) = &status.unkept {
        context.out.line(context.out.paint(Style::Strong, &format!("Not kept: {}.", words::unkept(why))))?;
    }
    if let Some(text) = words::protection(&status.protection) {
        context.out.line(context.out.paint(Style::Bad, &format!("{text}.")))?;
    }
    // What concerns a peer stands with it.
    let told = |text: &&String| !status.peers.iter().any(|p| p.troubles.contains(text));
    for text in status.refused.iter().filter(told) {
        let line = format!("Not set on this machine: {text}.");
        context.out.line(context.out.paint(Style::Strong, &line))?;
    }
    if let Some(left_out) = words::left_out(&status.left_out) {
        context.out.line(context.out.paint(Style::Faint, &format!("Interfaces {left_out}.")))?;
    }
    for peer in &status.peers {
        if status.peers.len() > 1 {
            context.out.line("")?;
            sentence(context, words::of_peer(peer, &status))?;
        }
        one_peer(context, peer, &status)?;
    }
    if status.up && status.peers.iter().any(|peer| !peer.state.answers()) {
        layers(context, &status)?;
    }
    let skip = status.events.len().saturating_sub(LAST_EVENTS);
    if !status.events.is_empty() {
        context.out.line("")?;
    }
    for event in status.events.iter().skip(skip) {
        context.out.line(events::sentence(event, status.peers.len() != 1))?;
    }
    context.redacted(status.redacted)?;
    Ok(ExitCode::SUCCESS)
}

/// `check`: has paths tried.
pub async fn check(context: &mut Context, args: CheckArgs) -> Outcome {
    context.client().await?.check(args.peer.as_deref()).await?;
    let whose = args.peer.map_or_else(|| "every peer".to_owned(), |peer| clean(&peer));
    context.out.line(format!("Trying what was not heard of lately of {whose}: see `mast status`."))?;
    Ok(ExitCode::SUCCESS)
}

/// What is known of each layer, and by what.
fn layers(context: &mut Context, status: &Status) -> std::io::Result<()> {
    if status.layers.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["LAYER", "STATE", "SEEN", "AT"]);
    for layer in &status.layers {
        let style = match layer.state {
            LayerState::Ok => None,
            LayerState::Bad => Some(Style::Bad),
            LayerState::Unknown => Some(Style::Faint),
        };
        let at = layer.checked.as_deref().map(units::clock).unwrap_or_default();
        let (name, state) = (words::layer(layer.layer), words::layer_state(layer.state));
        table.row(style, vec![name.to_owned(), state.to_owned(), words::layer_detail(layer), at]);
    }
    context.out.line("")?;
    table.print(&mut context.out)
}

fn sentence(context: &mut Context, (tone, sentence): (Tone, String)) -> std::io::Result<()> {
    context.out.line(context.out.paint(tone, &sentence))
}

fn one_peer(context: &mut Context, peer: &PeerStatus, status: &Status) -> std::io::Result<()> {
    let eids: Vec<_> = [&peer.eid.remote_v4, &peer.eid.remote_v6].into_iter().flatten().cloned().collect();
    if !eids.is_empty() {
        let own = if peer.own_policy { ", its own" } else { "" };
        let line =
            format!("{} is at {}; policy: {}{own}", peer.name, eids.join(", "), words::policy(&peer.policy));
        context.out.line(context.out.paint(Style::Faint, &line))?;
    }
    if let Some(part) = words::takes_part(peer, status) {
        context.out.line(context.out.paint(Style::Faint, &part))?;
    }
    if let Some(missing) = words::missing(peer, status, super::METERED) {
        context.out.line(context.out.paint(Style::Strong, &missing))?;
    }
    if !peer.paths.is_empty() {
        context.out.line("")?;
    }
    paths::brief(peer, status).print(&mut context.out)
}
