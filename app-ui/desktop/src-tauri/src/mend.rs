//! The one step that mends what keeps the app from the service. It needs an administrator, whom the system asks.

use serde::Serialize;
use tokio::process::Command;

use crate::refusal::Refusal;
use crate::system::HERE;

/// A step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Remedy {
    /// What the button says.
    pub label: String,
    /// The command as one would type it.
    pub command: String,
}

impl Remedy {
    /// Starts the service, now and at every boot.
    pub fn start() -> Self {
        Self { label: "Start the service".into(), command: HERE.start().into() }
    }

    /// Starts the service anew.
    pub fn restart() -> Self {
        Self { label: "Restart the service".into(), command: HERE.restart().into() }
    }

    /// Lets the user change things, where a step of this kind is one.
    pub fn join_group() -> Option<Self> {
        let (variable, in_shell) = HERE.user();
        let user = std::env::var(variable).ok().filter(|u| is_name(u)).unwrap_or_else(|| in_shell.into());
        Some(Self { label: "Let me change things".into(), command: HERE.join(&user)? })
    }

    /// Does it, as administrator.
    ///
    /// # Errors
    /// When nobody can be asked, the user declined, or the step failed.
    pub async fn take(&self) -> Result<(), Refusal> {
        if self.command.contains(HERE.user().1) {
            return Err(Refusal::new(format!("it is not known who you are: type `{}`", self.command)));
        }
        let words = HERE.elevated(&self.command);
        let (program, arguments) =
            words.split_first().ok_or_else(|| Refusal::new("there is no such step"))?;
        let output = Command::new(program).args(arguments).output().await;
        let output = output.map_err(|error| {
            Refusal::new(format!("nobody can be asked for permission ({error}): type `{}`", self.command))
        })?;
        match output.status.code() {
            Some(0) if output.stdout.starts_with(b"declined") => {
                Err(Refusal::new(format!("permission was not given: type `{}`", self.command)))
            }
            Some(0) => Ok(()),
            Some(126 | 127) => {
                Err(Refusal::new(format!("permission was not given: type `{}`", self.command)))
            }
            _ => {
                let told = String::from_utf8_lossy(&output.stderr);
                let told = told.lines().last().unwrap_or_default();
                Err(Refusal::new(format!("`{}` failed: {told}", self.command)))
            }
        }
    }
}

/// Whether an administrator can be asked.
pub fn is_possible() -> bool {
    HERE.can_ask()
}

fn is_name(user: &str) -> bool {
    !user.is_empty() && user.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}
