//! The MAST service: composes the engine and the platform, and answers the control API.
//!
//! [`main`] is the whole program `mastd`; the command line also carries it, for the demonstration.

mod args;
mod ask;
pub mod chronicle;
mod config;
mod convert;
mod daemon;
mod doctor;
pub mod endpoint;
mod failure;
#[doc(hidden)]
pub mod fuzzing;
mod history;
mod keeper;
mod key;
mod lan;
pub mod life;
mod log_ring;
mod logging;
mod nat64;
mod notation;
mod pause;
mod peer_relays;
mod presence;
mod protect;
mod relays;
mod rendezvous;
mod resolve;
mod road;
mod run;
mod service;
pub mod store;
mod stun;
mod turns;
mod usage;
mod wgquick;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use mast_engine::Reconciler;
use mast_engine::declared::{Declared, Host, Step};
use mast_engine::os::Platform;
use mast_engine::surroundings::Surroundings;

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
    if args.clear {
        return clear(&args);
    }
    if args.protect {
        return match logging::start(args.log.as_deref(), false) {
            Ok(()) => protect::only(&args.state_dir),
            Err(failure) => failure.report(),
        };
    }
    life::live(args.service, move || {
        match logging::start(args.log.as_deref(), args.service).and_then(|()| run::run(&args)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                if args.service {
                    // The system is told of errors in the log, too, and nobody sees the standard error.
                    tracing::error!("{failure}");
                    logging::flush(std::time::Duration::from_millis(500));
                }
                failure.report()
            }
        }
    })
}

/// `--clear`: takes back what a service that no longer runs left on the system, and prints each thing in a line.
fn clear(args: &args::Args) -> ExitCode {
    match leftovers(args) {
        Ok(cleared) => {
            for thing in cleared {
                println!("{thing}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("mastd: {error}");
            let refused = error.kind() == std::io::ErrorKind::PermissionDenied;
            ExitCode::from(if refused { NOT_PERMITTED } else { 1 })
        }
    }
}

/// The exit code of `--clear` for a caller that may not.
const NOT_PERMITTED: u8 = 4;

fn leftovers(args: &args::Args) -> std::io::Result<Vec<String>> {
    let path = args.config.clone().unwrap_or_else(|| DEFAULT_CONFIG.into());
    let config = config::Config::load(&path, false);
    // A file that cannot be understood must not keep anything from being cleared.
    let interface = config.map_or_else(|_| config::DEFAULT_INTERFACE.to_owned(), |config| config.interface);
    let mut cleared = Vec::new();
    // What a service that lives has set is not left over, wherever it listens.
    if let Some(living) = mast_control::living() {
        let control = living.control.display();
        return Err(std::io::Error::other(format!(
            "a service lives: process {}, which listens at {control} (if that file is gone, it makes it again within \
             two seconds). Nothing was changed; say `mast --control {control} down`",
            living.process
        )));
    }
    // First, since it keeps the whole machine from the world.
    let platform = mast_platform::Native::new(mast_platform::Overrides::default());
    let mut host = platform.host()?;
    let there = host.present(None)?;
    let outcome = Reconciler::new(host).apply(&Declared::default(), true);
    if let Some(refusal) = outcome.refused.into_iter().next() {
        return Err(std::io::Error::new(refusal.kind, refusal.text));
    }
    let rest = |of: fn(&Step) -> bool| there.remnants.iter().any(of);
    let of_protection = |step: &Step| matches!(step, Step::Unprotect(_) | Step::ClearGuard);
    if !there.protection.is_empty() || rest(of_protection) {
        cleared.push("the rules of leak protection".to_owned());
    }
    if rest(|step| *step == Step::ClearDns) {
        cleared.push("the rules by which names are asked for through the tunnel".to_owned());
    }
    if rest(|step| *step == Step::ClearAnswers) {
        cleared.push("the rules by which answers of peers pass strict filters".to_owned());
    }
    cleared.extend(platform.clear_leftovers(&interface)?);
    if mast_control::remove_stale_socket(&args.control)? {
        cleared.push(format!("the control socket {}", args.control.display()));
    }
    Ok(cleared)
}
