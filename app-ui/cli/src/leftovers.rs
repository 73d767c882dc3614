//! What a killed service leaves on the system goes away by `mastd --clear`: this program has nothing of the service in
//! it, and knows nothing of what that changes in the system.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::{FAILED, Failure, NOT_PERMITTED};

/// Where the service is installed, other than beside this program.
const PLACES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
/// The exit code of `mastd --clear` for a caller that may not.
const REFUSED: i32 = 4;

/// Takes back what a service that no longer runs had changed; each entry of the result says one thing in words.
pub fn clear(socket: &Path) -> Result<Vec<String>, Failure> {
    let mut command = service().ok_or_else(|| {
        let places = PLACES.join(", ");
        let text = format!(
            "mastd is not running, and is neither beside this program nor in {places}: if a killed one left something \
             behind, its own `mastd --clear` takes that away"
        );
        Failure::Other(FAILED, text)
    })?;
    command.arg("--clear").arg("--control").arg(socket).stdin(Stdio::null());
    let cannot = |why: &dyn std::fmt::Display| {
        Failure::Other(FAILED, format!("mastd is not running; what it left cannot be removed ({why})"))
    };
    let ran = command.output().map_err(|error| cannot(&error))?;
    if ran.status.success() {
        return Ok(String::from_utf8_lossy(&ran.stdout).lines().map(str::to_owned).collect());
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    let why = said.trim().strip_prefix("mastd: ").unwrap_or(said.trim());
    Err(match ran.status.code() {
        Some(REFUSED) => Failure::Other(
            NOT_PERMITTED,
            format!("mastd is not running; what it left cannot be removed ({why}): run `sudo mast down`"),
        ),
        _ => cannot(&why),
    })
}

/// The service's program: this one where it is the service too, else the one that is installed.
fn service() -> Option<Command> {
    let own = std::env::current_exe().ok()?;
    #[cfg(feature = "demo")]
    {
        let mut command = Command::new(own);
        command.arg(crate::service::AS_MASTD);
        Some(command)
    }
    #[cfg(not(feature = "demo"))]
    {
        let beside = own.parent().map(Path::to_owned);
        let places = beside.into_iter().chain(PLACES.map(std::path::PathBuf::from));
        places.map(|place| place.join("mastd")).find(|program| program.is_file()).map(Command::new)
    }
}
