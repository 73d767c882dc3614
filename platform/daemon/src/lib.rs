//! The MAST service: composes the engine and the platform, and answers the control API.
//!
//! [`main`] is the whole program `mastd`; the command line also carries it, for the demonstration.

mod args;
pub mod config;
mod convert;
mod daemon;
mod doctor;
pub mod endpoint;
mod failure;
mod logging;
mod resolve;
mod run;
mod service;
pub mod store;
pub mod wgquick;
mod words;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

pub use args::{DEFAULT_CONFIG, DEFAULT_STATE};

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs `mastd` with its arguments, without the program's name, until it is told to stop.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let all = std::iter::once(OsString::from("mastd")).chain(arguments);
    let args = match args::Args::try_parse_from(all) {
        Ok(args) => args,
        Err(error) => {
            // Nothing is left to tell where not even this can be told.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match logging::start(args.log.as_deref()).and_then(|()| run::run(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
