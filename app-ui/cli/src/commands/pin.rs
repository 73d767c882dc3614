//! `pin` and `unpin`.

use std::process::ExitCode;

use mast_control::{Client, PolicyMode, PolicySet, words};

use super::{Context, Outcome};
use crate::args::{PinArgs, UnpinArgs};
use crate::output::text::{clean, cleaned};

pub async fn pin(context: &mut Context, args: PinArgs) -> Outcome {
    if args.follow {
        return follow(context, args.peer).await;
    }
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
    set(context, policy, format!("{whose} is pinned to {list}. {rest}")).await
}

pub async fn unpin(context: &mut Context, args: UnpinArgs) -> Outcome {
    let whose = whose(args.peer.as_deref());
    let policy = PolicySet { peer: args.peer, ..PolicySet::default() };
    set(context, policy, format!("{whose} uses the best path again.")).await
}

/// Sets a policy, says what was done, and which peers it does not concern because they have one of their own.
pub async fn set(context: &mut Context, policy: PolicySet, said: String) -> Outcome {
    let of_all = policy.peer.is_none();
    let mut client = context.client().await?;
    client.policy_set(policy).await?;
    let kept = if of_all { kept(&mut client).await } else { None };
    context.out.line(said)?;
    if let Some(kept) = kept {
        context.out.line(kept)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Which peers keep what was chosen for them alone.
async fn kept(client: &mut Client) -> Option<String> {
    // What was asked is done, whether or not this can be told.
    let status = cleaned(client.status().await.ok()?);
    let own: Vec<_> = status.peers.iter().filter(|p| p.own_policy).collect();
    match own.as_slice() {
        [] => None,
        [one] => Some(format!(
            "{} keeps its own choice ({}): `mast pin --follow --peer {}` gives that up.",
            one.name,
            words::policy(&one.policy),
            one.name
        )),
        several => {
            let names: Vec<_> = several.iter().map(|p| p.name.as_str()).collect();
            Some(format!(
                "{} keep choices of their own: `mast pin --follow` has all follow again, with `--peer NAME` one.",
                words::list(&names)
            ))
        }
    }
}

/// Has a peer, or all, follow the choice for all again.
async fn follow(context: &mut Context, peer: Option<String>) -> Outcome {
    let mut client = context.client().await?;
    let names = match &peer {
        Some(name) => vec![name.clone()],
        None => client.status().await?.peers.into_iter().filter(|p| p.own_policy).map(|p| p.name).collect(),
    };
    for name in &names {
        client.policy_clear(name).await?;
    }
    let policy = client.status().await?.policy.map(cleaned);
    let all = policy.map_or_else(String::new, |p| format!(" ({})", words::policy(&p)));
    context.out.line(match &peer {
        Some(peer) => format!("{} follows the choice for all again{all}.", whose(Some(peer))),
        None => format!("{} follows the choice for all{all}.", whose(None)),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The subject of a sentence on what was chosen.
pub fn whose(peer: Option<&str>) -> String {
    peer.map_or_else(|| "Traffic with every peer".to_owned(), |peer| format!("Traffic with {}", clean(peer)))
}
