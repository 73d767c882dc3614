//! Why a command failed, and the exit code that tells scripts.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::ExitCode;

use mast_control::{ClientError, ControlError, ErrorCode, Living, words};

use crate::output::text::clean;

/// It failed, or what was asked turned out bad.
pub const FAILED: u8 = 1;
/// The command line does not make sense; clap uses the same.
pub const USAGE: u8 = 2;
/// The service is not running.
pub const NOT_RUNNING: u8 = 3;
/// The user may not do this.
pub const NOT_PERMITTED: u8 = 4;

/// A command's failure.
#[derive(Debug)]
pub enum Failure {
    /// The service refused, or could not be asked.
    Client(ClientError),
    /// The command line does not make sense, given what exists.
    Usage(String),
    /// Anything else, in words, with the exit code.
    Other(u8, String),
    /// The output could not be written.
    Output(io::Error),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Failure {
    /// Nobody answers at `socket`, but a service lives.
    pub fn elsewhere(socket: &Path, living: &Living) -> Self {
        let (socket, process) = (socket.display(), living.process);
        let text = if living.control.as_os_str().is_empty() {
            format!("nobody answers at {socket}, but a service lives (process {process})")
        } else {
            let control = living.control.display();
            format!(
                "nobody answers at {socket}, but a service lives (process {process}), which listens at {control}: say \
                 `--control {control}`. If that file is gone, it makes it again within two seconds"
            )
        };
        Self::Other(NOT_RUNNING, text)
    }

    /// Tells the user, and returns the exit code.
    pub fn report(self) -> ExitCode {
        match self {
            // Whoever read the output has seen enough.
            Self::Output(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Self::Output(error) => tell(FAILED, &format!("cannot write the output: {error}")),
            Self::Usage(message) => tell(USAGE, &message),
            Self::Other(code, message) => tell(code, &message),
            Self::Client(ClientError::Refused(error)) => refused(&error),
            Self::Client(error) => tell(code_of(&error), &error.to_string()),
        }
    }
}

fn refused(error: &ControlError) -> ExitCode {
    let code = if error.code == ErrorCode::NotPermitted { NOT_PERMITTED } else { FAILED };
    let exit = tell(code, &words::error(error));
    if error.code == ErrorCode::NotFound {
        if error.known.is_empty() {
            eprintln!("      there is none yet");
        } else {
            let known: Vec<_> = error.known.iter().map(|name| clean(name)).collect();
            eprintln!("      there is: {}", known.join(", "));
        }
    }
    exit
}

fn code_of(error: &ClientError) -> u8 {
    match error {
        ClientError::NotRunning { .. } | ClientError::Closed => NOT_RUNNING,
        ClientError::PermissionDenied { .. } => NOT_PERMITTED,
        _ => FAILED,
    }
}

fn tell(code: u8, message: &str) -> ExitCode {
    eprintln!("mast: {}", clean(message));
    ExitCode::from(code)
}
