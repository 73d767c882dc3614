//! The MAST command line: shows what the service does, and tells it what to do.
//!
//! Under the name `mastd`, or with `--as-mastd` as its first argument, the same program is the service.

mod args;
mod commands;
mod demo;
mod failure;
mod leftovers;
mod output;
mod service;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match service_arguments(std::env::args_os()) {
        Some(arguments) => service::run(arguments),
        None => commands::run(args::Cli::parse()),
    }
}

/// The arguments of the service, if this invocation is for it.
fn service_arguments(mut all: impl Iterator<Item = OsString>) -> Option<Vec<OsString>> {
    let program = all.next().unwrap_or_default();
    if Path::new(&program).file_stem().is_some_and(|name| name == "mastd") {
        return Some(all.collect());
    }
    let first = all.next()?;
    (first == "--as-mastd").then(|| all.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Option<Vec<OsString>> {
        service_arguments(words.iter().map(OsString::from))
    }

    #[test]
    fn the_service_is_recognised() {
        assert_eq!(of(&["/usr/sbin/mastd", "--x"]), Some(vec!["--x".into()]));
        assert_eq!(of(&["mast", "--as-mastd", "--x"]), Some(vec!["--x".into()]));
        assert_eq!(of(&["mast", "status", "--as-mastd"]), None);
        assert_eq!(of(&["mast"]), None);
        assert_eq!(of(&[]), None);
    }
}
