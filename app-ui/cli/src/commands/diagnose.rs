//! `drill` and `doctor`: both end with a verdict.

use std::process::ExitCode;

use mast_control::{Client, DrillReport, Finding, LayerState, Verdict};

use super::{Context, Outcome};
use crate::args::{DrillArgs, Format};
use crate::failure::{FAILED, Failure};
use crate::output::table::Table;
use crate::output::text::{clean, cleaned};
use crate::output::{Style, units};

pub async fn drill(context: &mut Context, args: DrillArgs) -> Outcome {
    let mut client = context.client().await?;
    let peer = match args.peer {
        Some(peer) => peer,
        None => only_peer(&mut client).await?,
    };
    let json = args.format.json;
    let report = client
        .drill(&peer, |progress| {
            if !json {
                eprintln!("{}", clean(&progress.message));
            }
        })
        .await?;
    let code = verdict(report.verdict == Verdict::Passed);
    if json {
        context.out.json(&report)?;
    } else {
        tell_drill(context, &cleaned(report))?;
    }
    Ok(code)
}

async fn only_peer(client: &mut Client) -> Result<String, Failure> {
    let peers = client.status().await?.peers;
    match peers.as_slice() {
        [peer] => Ok(peer.name.clone()),
        [] => Err(Failure::Other(FAILED, "there is no peer to drill with: `mast peer add LINK`".to_owned())),
        several => {
            let names: Vec<_> = several.iter().map(|peer| peer.name.as_str()).collect();
            Err(Failure::Usage(format!("choose one of several peers with --peer: {}", names.join(", "))))
        }
    }
}

fn tell_drill(context: &mut Context, report: &DrillReport) -> std::io::Result<()> {
    let mut table = Table::new(&["SILENCED", ">PATH", "WENT TO", ">GAP", ">SENT", ">LOST"]);
    for step in &report.steps {
        let cells = vec![
            step.interface.clone(),
            step.path.to_string(),
            step.to.clone().unwrap_or_else(|| "nowhere".to_owned()),
            step.gap_ms.map_or_else(|| "no return".to_owned(), units::millis),
            step.sent.to_string(),
            step.lost.to_string(),
        ];
        table.row(None, cells);
    }
    table.print(&mut context.out)?;
    let (style, word) = match report.verdict {
        Verdict::Passed => (Style::Good, "Passed"),
        Verdict::Failed => (Style::Bad, "Failed"),
        Verdict::Inconclusive => (Style::Strong, "Inconclusive"),
    };
    let detail = if report.detail.is_empty() { String::new() } else { format!(": {}", report.detail) };
    context.out.line(format!("{}{detail}", context.out.paint(style, word)))
}

pub async fn doctor(context: &mut Context, format: Format) -> Outcome {
    let report = context.client().await?.doctor().await?;
    let bad = report.checks.iter().filter(|check| !check.ok).count();
    if format.json {
        context.out.json(&report)?;
        return Ok(verdict(bad == 0));
    }
    let report = cleaned(report);
    let width = report.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    for check in &report.checks {
        let untold = matches!(check.finding, Finding::Layer { state: LayerState::Unknown, .. });
        let (style, word) = match check.ok {
            _ if untold => (Style::Open, "?   "),
            true => (Style::Good, "ok  "),
            false => (Style::Bad, "BAD "),
        };
        let line = format!("{} {:width$}  {}", context.out.paint(style, word), check.name, check.detail);
        context.out.line(line.trim_end())?;
        if let Some(remedy) = check.remedy.as_ref().filter(|_| !check.ok) {
            context.out.line(format!("     {:width$}  → {remedy}", ""))?;
        }
    }
    let mut counters = Table::new(&["COUNTER", ">VALUE"]);
    for (name, value) in report.counters.iter().filter(|(_, value)| **value > 0) {
        counters.row(None, vec![name.clone(), value.to_string()]);
    }
    context.out.line("")?;
    counters.print(&mut context.out)?;
    context.out.line(match bad {
        0 => "Nothing is wrong.".to_owned(),
        1 => "One thing is wrong.".to_owned(),
        several => format!("{several} things are wrong."),
    })?;
    context.redacted(report.redacted)?;
    Ok(verdict(bad == 0))
}

fn verdict(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}
