//! `status`: the sentence, the paths, the last events.

use std::process::ExitCode;

use mast_control::{PeerStatus, Status};

use super::{Context, Outcome, paths};
use crate::args::Format;
use crate::output::text::cleaned;
use crate::output::{Style, events, summary};

/// How many events are worth showing beside the rest.
const LAST_EVENTS: usize = 5;

pub async fn show(context: &mut Context, format: Format) -> Outcome {
    let status = context.client().await?.status().await?;
    if format.json {
        context.out.json(&status)?;
        return Ok(ExitCode::SUCCESS);
    }
    let status = cleaned(status);
    let (style, sentence) = summary::of_all(&status);
    context.out.line(context.out.paint(style, &sentence))?;
    for peer in &status.peers {
        if status.peers.len() > 1 {
            context.out.line("")?;
            let (style, sentence) = summary::of_peer(peer, &status);
            context.out.line(context.out.paint(style, &sentence))?;
        }
        one_peer(context, peer, &status)?;
    }
    let skip = status.events.len().saturating_sub(LAST_EVENTS);
    if !status.events.is_empty() {
        context.out.line("")?;
    }
    for event in status.events.iter().skip(skip) {
        context.out.line(events::sentence(event, status.peers.len() != 1))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn one_peer(context: &mut Context, peer: &PeerStatus, status: &Status) -> std::io::Result<()> {
    let eids: Vec<_> = [&peer.eid.remote_v4, &peer.eid.remote_v6].into_iter().flatten().cloned().collect();
    if !eids.is_empty() {
        let line =
            format!("{} is at {}; policy: {}", peer.name, eids.join(", "), summary::policy(&peer.policy));
        context.out.line(context.out.paint(Style::Faint, &line))?;
    }
    if let Some(missing) = summary::missing(peer, status) {
        context.out.line(context.out.paint(Style::Strong, &missing))?;
    }
    if !peer.paths.is_empty() {
        context.out.line("")?;
    }
    paths::brief(peer, status).print(&mut context.out)
}
