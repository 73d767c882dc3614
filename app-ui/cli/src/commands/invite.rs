//! `invite`, `invite list` and `invite revoke`.

use std::process::ExitCode;

use mast_control::{Invite, InviteRevoke, InviteState, Invites, Request};

use super::{Context, Outcome};
use crate::args::{Format, InviteArgs, InviteCommand};
use crate::output::table::Table;
use crate::output::text::{clean, cleaned};
use crate::output::{Style, units};

pub async fn run(context: &mut Context, args: InviteArgs) -> Outcome {
    match args.command {
        None => make(context, args).await,
        Some(InviteCommand::List(format)) => list(context, format).await,
        Some(InviteCommand::Revoke { id }) => revoke(context, id).await,
    }
}

async fn list(context: &mut Context, format: Format) -> Outcome {
    let invites: Invites = context.client().await?.call(&Request::InviteList).await?;
    if format.json {
        context.out.json(&invites.invites)?;
        return Ok(ExitCode::SUCCESS);
    }
    let invites = cleaned(invites).invites;
    if invites.is_empty() {
        context.out.line("There is no invite: `mast invite` makes one.")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["INVITE", "STATE", "FOR", "VALID UNTIL"]);
    for invite in invites {
        let state = match invite.state {
            InviteState::Open => "open",
            InviteState::Used => "used",
            InviteState::Expired => "expired",
            InviteState::Revoked => "revoked",
            InviteState::Unknown => "unknown",
        };
        let style = (invite.state != InviteState::Open).then_some(Style::Faint);
        let name = invite.name.unwrap_or_default();
        table.row(style, vec![invite.id, state.to_owned(), name, units::clock(&invite.expires)]);
    }
    table.print(&mut context.out)?;
    Ok(ExitCode::SUCCESS)
}

async fn revoke(context: &mut Context, id: String) -> Outcome {
    let said = clean(&id);
    context.client().await?.done(&Request::InviteRevoke(InviteRevoke { id })).await?;
    context.out.line(format!(
        "Nobody can accept invite {said} any more. Whoever accepted it before stays a peer: `mast peer remove`."
    ))?;
    Ok(ExitCode::SUCCESS)
}

async fn make(context: &mut Context, args: InviteArgs) -> Outcome {
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
