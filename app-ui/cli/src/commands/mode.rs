//! `mode`: how paths are used, shown and chosen.

use std::process::ExitCode;

use mast_control::{PeerView, PolicyMode, PolicySet, PolicyStatus, Status, UplinkPart, words};
use serde::Serialize;

use super::pin::{pin, set, unpin, whose};
use super::{Context, Outcome};
use crate::args::{BondedArgs, Format, ModeArgs, ModeCommand, RedundantArgs};
use crate::output::table::Table;
use crate::output::text::cleaned;

pub async fn run(context: &mut Context, args: ModeArgs) -> Outcome {
    match args.mode {
        None => show(context, args.peer.as_deref(), args.format).await,
        Some(ModeCommand::Auto(args)) => unpin(context, args).await,
        Some(ModeCommand::Pin(args)) => pin(context, args).await,
        Some(ModeCommand::Redundant(args)) => redundant(context, args).await,
        Some(ModeCommand::Bonded(args)) => bonded(context, args).await,
    }
}

/// What `mode --json` tells of a peer.
#[derive(Serialize)]
struct Told<'a> {
    peer: &'a str,
    #[serde(flatten)]
    policy: &'a PolicyStatus,
    own_policy: bool,
    modes: &'a [PolicyMode],
    uplinks: &'a [UplinkPart],
}

async fn show(context: &mut Context, peer: Option<&str>, format: Format) -> Outcome {
    let mut client = context.client().await?;
    let status = match peer {
        None => client.status().await?,
        Some(name) => {
            let PeerView { up, peer, interfaces, redacted: _ } = client.peer(name).await?;
            Status { up, peers: vec![peer], interfaces, ..Status::default() }
        }
    };
    if format.json {
        let told = status.peers.iter().map(|p| Told {
            peer: &p.name,
            policy: &p.policy,
            own_policy: p.own_policy,
            modes: &p.modes,
            uplinks: &p.uplinks,
        });
        context.out.json(&told.collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    if status.peers.is_empty() {
        context.out.line("There is no peer yet: `mast peer add LINK` or `mast invite`.")?;
        return Ok(ExitCode::SUCCESS);
    }
    let status = cleaned(status);
    let mut table = Table::new(&["PEER", "MODE", "CHOSEN FOR", "CAN BE"]);
    for peer in &status.peers {
        let modes: Vec<_> = peer.modes.iter().map(|mode| mode.as_str()).collect();
        let chosen = if peer.own_policy { "this peer" } else { "all peers" };
        let cells = vec![peer.name.clone(), words::policy(&peer.policy), chosen.to_owned(), modes.join(", ")];
        table.row(None, cells);
    }
    table.print(&mut context.out)?;
    for peer in &status.peers {
        if let Some(part) = words::takes_part(peer, &status) {
            context.out.line(format!("{} — {part}", peer.name))?;
        }
        if let Some(missing) = words::missing(peer, &status, super::METERED) {
            context.out.line(missing)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn redundant(context: &mut Context, args: RedundantArgs) -> Outcome {
    let whose = whose(args.peer.as_deref());
    let what = if args.small {
        "Small datagrams of it go over two paths, bulk over one."
    } else {
        "It needs twice the data, and has no gap when one of them dies."
    };
    let policy = PolicySet {
        peer: args.peer,
        mode: PolicyMode::Redundant,
        small: args.small,
        metered: args.metered,
        ..PolicySet::default()
    };
    let said = format!("{whose} is sent over the two best paths at once. {what}{}", cost(args.metered));
    set(context, policy, said).await
}

async fn bonded(context: &mut Context, args: BondedArgs) -> Outcome {
    let whose = whose(args.peer.as_deref());
    let policy = PolicySet {
        peer: args.peer,
        mode: PolicyMode::Bonded,
        metered: args.metered,
        ..PolicySet::default()
    };
    set(context, policy, format!("{whose} is spread over all good paths.{}", cost(args.metered))).await
}

fn cost(metered: bool) -> &'static str {
    if metered { " Metered paths take part." } else { " Metered paths take no part: `--metered` lets them." }
}
