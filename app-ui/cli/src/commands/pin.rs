//! `pin` and `unpin`.

use std::process::ExitCode;

use mast_control::{PolicyMode, PolicySet};

use super::{Context, Outcome};
use crate::args::{PinArgs, UnpinArgs};
use crate::output::text::clean;

pub async fn pin(context: &mut Context, args: PinArgs) -> Outcome {
    let whose = whose(args.peer.as_deref());
    let list = clean(&args.interfaces.join(", then "));
    let (them, work) =
        if args.interfaces.len() == 1 { ("it", "it does not work") } else { ("them", "none of them works") };
    let rest = if args.only {
        format!("Without {them}, there is no traffic.")
    } else {
        format!("Other paths are used only while {work}.")
    };
    let policy = PolicySet {
        peer: args.peer,
        mode: PolicyMode::Pin,
        pin: args.interfaces,
        fallback: !args.only,
        ..PolicySet::default()
    };
    context.client().await?.policy_set(policy).await?;
    context.out.line(format!("{whose} is pinned to {list}. {rest}"))?;
    Ok(ExitCode::SUCCESS)
}

pub async fn unpin(context: &mut Context, args: UnpinArgs) -> Outcome {
    let whose = whose(args.peer.as_deref());
    let policy = PolicySet { peer: args.peer, ..PolicySet::default() };
    context.client().await?.policy_set(policy).await?;
    context.out.line(format!("{whose} uses the best path again."))?;
    Ok(ExitCode::SUCCESS)
}

/// The subject of a sentence on what was chosen.
pub fn whose(peer: Option<&str>) -> String {
    peer.map_or_else(|| "Traffic with every peer".to_owned(), |peer| format!("Traffic with {}", clean(peer)))
}
