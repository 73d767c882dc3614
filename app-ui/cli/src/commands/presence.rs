//! `presence`, `presence login` and `presence logout`.

use std::fs;
use std::io::{self, BufRead, IsTerminal};
use std::path::Path;
use std::process::ExitCode;

use mast_control::{PresenceLogin, PresenceReport, PresenceState, Request};

use super::{Context, Outcome};
use crate::args::{PresenceArgs, PresenceCommand};
use crate::failure::{FAILED, Failure};
use crate::output::Style;
use crate::output::table::Table;
use crate::output::text::{clean, cleaned};

pub async fn run(context: &mut Context, args: PresenceArgs) -> Outcome {
    match args.command {
        None => {
            let report: PresenceReport = context.client().await?.call(&Request::Presence).await?;
            if args.format.json {
                context.out.json(&report)?;
                return Ok(ExitCode::SUCCESS);
            }
            show(context, cleaned(report))
        }
        Some(PresenceCommand::Login { account, server, authority }) => {
            login(context, account, server, authority.as_deref()).await
        }
        Some(PresenceCommand::Logout) => {
            let _: PresenceReport = context.client().await?.call(&Request::PresenceLogout).await?;
            context
                .out
                .line("This machine is found by no account any more, and its password is forgotten.")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn login(
    context: &mut Context,
    account: String,
    server: Option<String>,
    authority: Option<&Path>,
) -> Outcome {
    // Before the password is asked for: who types one wants it used.
    let mut client = context.client().await?;
    let authority = match authority {
        Some(file) => {
            let unreadable = |why: io::Error| {
                let shown = clean(&file.display().to_string());
                Failure::Other(FAILED, format!("{shown} cannot be read: {why}"))
            };
            Some(fs::read_to_string(file).map_err(unreadable)?)
        }
        None => None,
    };
    let password = password(&account)
        .map_err(|why| Failure::Other(FAILED, format!("the password cannot be read: {why}")))?;
    let login = PresenceLogin { account, password, server, authority };
    let report: PresenceReport = client.call(&Request::PresenceLogin(login)).await?;
    let failed = report.state == PresenceState::Failed;
    show(context, cleaned(report))?;
    Ok(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// Asks whoever sits at the terminal, or takes the first line of what comes.
fn password(account: &str) -> io::Result<String> {
    if io::stdin().is_terminal() {
        return rpassword::prompt_password(format!("Password of {}: ", clean(account)));
    }
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

fn show(context: &mut Context, report: PresenceReport) -> Outcome {
    let Some(account) = report.account else {
        context.out.line(
            "This machine is found by no account: `mast presence login ACCOUNT` has peers find it wherever it moves.",
        )?;
        return Ok(ExitCode::SUCCESS);
    };
    let server = report.server.map(|server| format!(" at {server}")).unwrap_or_default();
    match report.state {
        PresenceState::Working => {
            context.out.line(format!("Peers find this machine by {account}{server}."))?
        }
        PresenceState::Failed => {
            context.out.line(format!("Peers do not find this machine by {account}{server} now."))?;
            for line in [report.why, report.remedy].into_iter().flatten() {
                context.out.line(line)?;
            }
        }
        PresenceState::Off | PresenceState::Starting | PresenceState::Unknown => {
            context.out.line(format!(
                "This machine is to be found by {account}{server}; the server has not answered yet, or MAST is down."
            ))?;
        }
    }
    if report.peers.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    context.out.line("")?;
    let mut table = Table::new(&["PEER", "FOUND BY", ""]);
    for peer in report.peers {
        let (style, note) = match peer.assumed {
            true => (Some(Style::Faint), "this machine's own; `mast peer set` names another"),
            false => (None, ""),
        };
        table.row(style, vec![peer.peer, peer.account, note.to_owned()]);
    }
    table.print(&mut context.out)?;
    Ok(ExitCode::SUCCESS)
}
