//! Why the service could not run, for whoever started it.

use std::process::ExitCode;

use mast_control::{ControlError, ServerError};
use mast_state::StateError;

use crate::config::ConfigError;
use crate::store::StoreError;

/// Why the service ends before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line does not make sense.
    #[error("{0}")]
    Usage(String),
    /// The configuration does not make sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine does not start.
    #[error("{0}")]
    Engine(ControlError),
    /// The control socket cannot be opened.
    #[error("{}", explain(.0))]
    Control(ServerError),
    /// The engine has ended by itself.
    #[error("the engine has stopped by itself: see the log, and report it")]
    Ended,
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::Store(error.into())
    }
}

fn explain(error: &ServerError) -> String {
    let remedy = match error {
        ServerError::AlreadyRunning { .. } => "stop that one, or give this one another place with --control",
        ServerError::NotASocket { .. } => return error.to_string(),
        ServerError::Bind { .. } => {
            "make its directory, owned by the user that runs mastd, or choose another place with --control"
        }
    };
    format!("{error}; {remedy}")
}

impl Failure {
    /// The exit code that tells scripts.
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => 2,
            _ => 1,
        }
    }

    /// Tells the user, in one block, and returns the exit code.
    pub fn report(&self) -> ExitCode {
        // Not through the log: it is for whoever reads the screen, whatever the level.
        eprintln!("mastd: {self}");
        ExitCode::from(self.code())
    }
}
