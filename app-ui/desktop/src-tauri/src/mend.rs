//! The one step that mends what keeps the app from the service. It needs an administrator, whom polkit asks.

use std::path::Path;

use serde::Serialize;
use tokio::process::Command;

use crate::refusal::Refusal;

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
        Self { label: "Start the service".into(), command: "sudo systemctl enable --now mastd".into() }
    }

    /// Starts the service anew.
    pub fn restart() -> Self {
        Self { label: "Restart the service".into(), command: "sudo systemctl restart mastd".into() }
    }

    /// Lets the user change things.
    pub fn join_group() -> Self {
        let user = std::env::var("USER").ok().filter(|u| is_name(u)).unwrap_or_else(|| "$USER".into());
        Self { label: "Let me change things".into(), command: format!("sudo usermod -aG mast {user}") }
    }

    /// Does it, as administrator.
    ///
    /// # Errors
    /// When nobody can be asked, the user declined, or the step failed.
    pub async fn take(&self) -> Result<(), Refusal> {
        let mut words = self.command.split_whitespace().skip(1);
        let program = words.next().unwrap_or_default();
        let arguments: Vec<_> = words.collect();
        if arguments.contains(&"$USER") {
            return Err(Refusal::new(format!("it is not known who you are: type `{}`", self.command)));
        }
        let output = Command::new("pkexec").arg(program).args(&arguments).output().await;
        let output = output.map_err(|error| {
            Refusal::new(format!("nobody can be asked for permission ({error}): type `{}`", self.command))
        })?;
        match output.status.code() {
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
    Path::new("/usr/bin/pkexec").exists()
}

fn is_name(user: &str) -> bool {
    !user.is_empty() && user.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}
