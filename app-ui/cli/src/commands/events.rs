//! `events`.

use std::process::ExitCode;

use mast_control::{Event, Notice, What, words};

use super::{Context, Outcome};
use crate::args::EventsArgs;
use crate::failure::{Failure, NOT_PERMITTED};
use crate::output::events;
use crate::output::text::cleaned;

pub async fn show(context: &mut Context, args: &EventsArgs) -> Outcome {
    // Subscribing first: nothing is missed between the list and the stream, and the list removes what comes twice.
    let mut subscription = match args.follow {
        true => Some(context.client().await?.subscribe().await?),
        false => None,
    };
    let status = context.client().await?.status().await?;
    if status.redacted {
        return Err(Failure::Other(
            NOT_PERMITTED,
            format!("what happened is not for everybody: {}", words::REDACTED),
        ));
    }
    let past = status.events;
    if args.format.json && !args.follow {
        context.out.json(&past)?;
        return Ok(ExitCode::SUCCESS);
    }
    for event in &past {
        one(context, event, args.format.json)?;
    }
    if past.is_empty() && !args.format.json && !args.follow {
        context.out.line("Nothing happened yet.")?;
    }
    while let Some(stream) = &mut subscription {
        match stream.next().await {
            Ok(Notice::Event(event)) if past.contains(&event) => {}
            Ok(Notice::Event(event)) => one(context, &event, args.format.json)?,
            Ok(Notice::StatusChanged) => {}
            Ok(Notice::Missed(count)) => {
                one(context, &Event::now("", What::Missed { count }), args.format.json)?
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn one(context: &mut Context, event: &Event, json: bool) -> std::io::Result<()> {
    if json {
        context.out.json_line(event)
    } else {
        context.out.line(events::sentence(&cleaned(event.clone()), true))
    }
}
