//! Makes what goes into packages beside the programs. `mast-contents pages DIR` writes man pages and completions from
//! the command lines themselves; `mast-contents parts DIR [TARGET]` writes the bill of materials (CycloneDX) and the
//! licenses of everything that the programs are made of on a target (this machine's system unless it is named), from what
//! cargo and npm have locked.

mod pages;
mod parts;

/// What the service's command line takes from there: as it is on Linux, whose pages these are.
mod life {
    pub const DEFAULT_CONFIG: &str = "/etc/mast/mastd.toml";
    pub const DEFAULT_STATE: &str = "/var/lib/mast";
}

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["pages", directory] => pages::write(Path::new(directory)),
        ["parts", directory] => parts::write(Path::new(directory), &parts::own_target()),
        ["parts", directory, target] => parts::write(Path::new(directory), target),
        _ => Err("usage: mast-contents pages DIR, or parts DIR [TARGET]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mast-contents: {error}");
            ExitCode::FAILURE
        }
    }
}
