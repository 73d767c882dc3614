//! The service in the same program, for the demonstration and for systems that ship one file.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the service until it is told to stop.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    mastd::main(arguments)
}
