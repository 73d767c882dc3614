//! The command line.

use std::path::PathBuf;

/// MAST: keeps connections alive while this machine moves between networks. The desktop app.
#[derive(Debug, Clone, clap::Parser)]
#[command(version)]
pub struct Args {
    /// Stay in the tray.
    #[arg(long)]
    pub hidden: bool,
    /// Where the service listens.
    #[arg(long, value_name = "PATH", env = "MAST_SOCKET", default_value = mast_control::DEFAULT_SOCKET)]
    pub socket: PathBuf,
}
