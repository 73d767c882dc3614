//! The MAST command line: shows what the service does, and tells it what to do.
//!
//! With the feature `demo`, under the name `mastd` or with `--as-mastd` as its first argument, the same program is the
//! service. What is shipped is built without it, and has neither the service nor the test lab in it.

mod args;
mod commands;
#[cfg(feature = "demo")]
mod demo;
mod failure;
mod leftovers;
mod output;
#[cfg(feature = "demo")]
mod service;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    #[cfg(feature = "demo")]
    if let Some(arguments) = service::arguments(std::env::args_os()) {
        return service::run(arguments);
    }
    commands::run(args::Cli::parse())
}
