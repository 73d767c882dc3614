//! `version`.

use std::process::ExitCode;

use mast_control::ClientError;
use serde_json::json;

use super::{Context, Outcome};
use crate::args::Format;
use crate::failure::Failure;
use crate::output::text::clean;

pub async fn show(context: &mut Context, format: Format) -> Outcome {
    let own = env!("CARGO_PKG_VERSION");
    let (service, note) = match context.client().await {
        Ok(client) => (Some(client.server().version.clone()), String::new()),
        Err(Failure::Client(ClientError::NotRunning { .. })) => (None, "is not running".to_owned()),
        Err(Failure::Client(error)) => (None, format!("cannot be asked: {error}")),
        Err(failure) => return Err(failure),
    };
    if format.json {
        context.out.json(&json!({"mast": own, "mastd": service, "protocol": mast_control::PROTOCOL}))?;
        return Ok(ExitCode::SUCCESS);
    }
    context.out.line(format!("mast {own} (control protocol {})", mast_control::PROTOCOL))?;
    context.out.line(clean(&format!("mastd {}", service.unwrap_or(note))))?;
    Ok(ExitCode::SUCCESS)
}
