//! The command line of `mastd`.

use std::path::PathBuf;

use clap::Parser;

pub use crate::life::{DEFAULT_CONFIG, DEFAULT_STATE};

const NOTES: &str = "\
The same defaults hold for every user. Where they cannot be written to, as in an
unprivileged user namespace (unshare --user --map-root-user --net), give
--state-dir and --control.

Exit codes:
  0  it was told to stop, and did
  1  it failed
  2  the command line or the configuration does not make sense
  4  --clear: not permitted";

/// The MAST service: keeps connections alive while this machine moves between networks.
#[derive(Debug, Parser)]
#[command(name = "mastd", version, after_help = NOTES)]
pub struct Args {
    /// The configuration file; the default one may be absent
    #[arg(long, value_name = "FILE", help = format!("The configuration file; the default one may be absent [default: {DEFAULT_CONFIG}]"))]
    pub config: Option<PathBuf>,
    /// Where keys, peers and settings are kept; made if it is not there
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE)]
    pub state_dir: PathBuf,
    /// Where `mast` and other user interfaces find the service
    #[arg(long, value_name = "SOCKET", default_value = mast_control::DEFAULT_SOCKET)]
    pub control: PathBuf,
    /// How much to log: error, warn, info, debug, trace, or a filter such as mast_engine=debug
    /// [default: the variable MAST_LOG, or info]
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
    /// Check the configuration and end
    #[arg(long)]
    pub check: bool,
    /// Take back what a service that no longer runs left on the system, say what that was, and end
    #[arg(long)]
    pub clear: bool,
    /// Put leak protection in force as the last run left word of it, and end: for a boot, before there is a network
    #[arg(long, conflicts_with_all = ["check", "clear"])]
    pub protect: bool,
    /// Started by the service control of Windows
    #[arg(long, hide = true)]
    pub service: bool,
    /// For benchmarks: plain (WireGuard with everybody), aes, chacha20, lane
    #[cfg(feature = "measuring")]
    #[arg(long, hide = true, value_name = "WORD", value_parser = measure)]
    pub measure: Option<mast_engine::Measure>,
}

#[cfg(feature = "measuring")]
fn measure(word: &str) -> Result<mast_engine::Measure, String> {
    mast_engine::Measure::named(word).ok_or_else(|| format!("`{word}` is nothing that can be measured"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }
}
