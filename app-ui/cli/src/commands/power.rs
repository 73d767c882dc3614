//! `up` and `down`.

use std::io::ErrorKind;
use std::process::ExitCode;

use mast_control::ClientError;

use super::{Context, Outcome};
use crate::failure::{FAILED, Failure, NOT_PERMITTED};
use crate::leftovers::clear_leftovers;

pub async fn up(context: &mut Context) -> Outcome {
    context.client().await?.up().await?;
    context.out.line("MAST is up.")?;
    Ok(ExitCode::SUCCESS)
}

pub async fn down(context: &mut Context) -> Outcome {
    match context.client().await {
        Ok(mut client) => {
            client.down().await?;
            context.out.line("MAST is down.")?;
        }
        Err(Failure::Client(ClientError::NotRunning { .. })) => {
            let cleared = clear_leftovers(&context.socket).map_err(|error| {
                let code = if error.kind() == ErrorKind::PermissionDenied { NOT_PERMITTED } else { FAILED };
                let hint = if code == NOT_PERMITTED { ": run `sudo mast down`" } else { "" };
                Failure::Other(
                    code,
                    format!("mastd is not running; what it left cannot be removed ({error}){hint}"),
                )
            })?;
            let told = match cleared.as_slice() {
                [] => "MAST is down: mastd is not running, and it left nothing behind.".to_owned(),
                things => {
                    format!(
                        "MAST is down: mastd is not running. Removed what it had left: {}.",
                        things.join(", ")
                    )
                }
            };
            context.out.line(told)?;
        }
        Err(failure) => return Err(failure),
    }
    Ok(ExitCode::SUCCESS)
}
