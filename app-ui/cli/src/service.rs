//! The service in the same program, for the demonstration and for systems that ship one file.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the service until it is told to stop.
pub fn run(_arguments: Vec<OsString>) -> ExitCode {
    eprintln!("mast: this build does not contain the service");
    ExitCode::FAILURE
}
