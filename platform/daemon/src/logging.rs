//! The log, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::failure::Failure;
use crate::log_ring::Ring;

/// The variable that is asked when the command line does not say.
const VARIABLE: &str = "MAST_LOG";
/// The parts that a bare level is meant for; libraries tell of warnings only.
const OURS: [&str; 5] = ["mastd", "mast_engine", "mast_platform", "mast_control", "mast_proto"];

/// Starts to log.
///
/// # Errors
/// When the level makes no sense.
pub fn start(level: Option<&str>) -> Result<(), Failure> {
    let variable = std::env::var(VARIABLE).ok().filter(|v| !v.is_empty());
    let (source, level) = match (level, &variable) {
        (Some(level), _) => ("--log", level),
        (None, Some(level)) => (VARIABLE, level.as_str()),
        (None, None) => (VARIABLE, "info"),
    };
    let filter = filter(level).map_err(|why| {
        Failure::Usage(format!(
            "{source}: `{level}` {why}: use error, warn, info, debug or trace, or a filter such as mast_engine=debug"
        ))
    })?;
    // systemd's journal adds the time itself.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let terminal = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let terminal = if journal { terminal.without_time().boxed() } else { terminal.boxed() };
    let ring = fmt::layer().with_writer(Ring).with_ansi(false);
    // In one process with a program that logs already, that one decides.
    let _ = tracing_subscriber::registry().with(filter).with(terminal).with(ring).try_init();
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    if level.contains(['=', ',']) {
        return EnvFilter::try_new(level).map_err(|error| format!("is no filter ({error})"));
    }
    level.parse::<tracing_subscriber::filter::LevelFilter>().map_err(|_| "is no level".to_owned())?;
    let ours: Vec<_> = OURS.iter().map(|target| format!("{target}={level}")).collect();
    EnvFilter::try_new(format!("warn,{}", ours.join(","))).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters() {
        for level in ["error", "warn", "info", "debug", "trace", "off", "mast_engine=trace,warn"] {
            assert!(filter(level).is_ok(), "{level}");
        }
        assert!(filter("loud").is_err());
        assert!(filter("mastd=loud").is_err());
    }
}
