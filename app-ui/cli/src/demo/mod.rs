//! `mast demo`: shows on this machine alone what MAST does.

use std::process::ExitCode;

/// Runs the demonstration.
pub fn run(_json: bool) -> ExitCode {
    eprintln!("mast: this build does not contain the demonstration");
    ExitCode::FAILURE
}
