//! `invite`.

use std::process::ExitCode;

use mast_control::Invite;

use super::{Context, Outcome};
use crate::args::InviteArgs;
use crate::output::text::cleaned;
use crate::output::units;

pub async fn make(context: &mut Context, args: InviteArgs) -> Outcome {
    let request = Invite { expires_s: args.expires, name: args.name };
    let invited = context.client().await?.invite(request).await?;
    if args.format.json {
        context.out.json(&invited)?;
        return Ok(ExitCode::SUCCESS);
    }
    let invited = cleaned(invited);
    // The link alone on standard output, so that it can be piped.
    context.out.line(&invited.link)?;
    eprintln!("Valid until {}. On the other host: mast peer add LINK", units::clock(&invited.expires));
    eprintln!("Whoever has the link can become a peer: send it over a channel that you trust.");
    Ok(ExitCode::SUCCESS)
}
