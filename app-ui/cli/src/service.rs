//! The service in the same program, for the demonstration.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// The word that makes this program the service.
pub const AS_MASTD: &str = "--as-mastd";

/// The arguments of the service, if this invocation is for it.
pub fn arguments(mut all: impl Iterator<Item = OsString>) -> Option<Vec<OsString>> {
    let program = all.next().unwrap_or_default();
    if Path::new(&program).file_stem().is_some_and(|name| name == "mastd") {
        return Some(all.collect());
    }
    let first = all.next()?;
    (first == AS_MASTD).then(|| all.collect())
}

/// Runs the service until it is told to stop.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    mastd::main(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Option<Vec<OsString>> {
        arguments(words.iter().map(OsString::from))
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
