//! `up` and `down`.

use std::process::ExitCode;

use mast_control::ClientError;

use super::{Context, Outcome};
use crate::failure::Failure;
use crate::leftovers;

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
            let cleared = leftovers::clear(&context.socket)?;
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
