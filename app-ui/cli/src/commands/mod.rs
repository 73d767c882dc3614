//! What each command does; one file per group.

mod diagnose;
mod events;
mod invite;
mod key;
mod mode;
mod paths;
mod peers;
mod pin;
mod power;
mod presence;
mod protect;
mod status;
mod version;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;
use mast_control::{Client, ClientError, words};

use crate::args;
use crate::args::{Cli, Command, KeyCommand, PeerCommand};
#[cfg(feature = "demo")]
use crate::demo;
use crate::failure::{FAILED, Failure};
use crate::output::text::clean;
use crate::output::{Out, Style};

/// How metered links are let take part in a mode of several paths.
const METERED: &str = "choose the mode again with `--metered`";

/// How a command ended: well, or with a negative verdict that it has already told.
pub type Outcome = Result<ExitCode, Failure>;

/// Where the service is and where the words go.
pub struct Context {
    /// The control socket.
    pub socket: PathBuf,
    /// Standard output.
    pub out: Out,
}

impl Context {
    /// Says so where not everything is told.
    pub fn redacted(&mut self, redacted: bool) -> std::io::Result<()> {
        if redacted {
            self.out.line("")?;
            self.out.line(self.out.paint(Style::Faint, words::REDACTED))?;
        }
        Ok(())
    }

    /// Connects to the service.
    pub async fn client(&self) -> Result<Client, Failure> {
        let name = concat!("mast ", env!("CARGO_PKG_VERSION"));
        match Client::connect_as(&self.socket, name).await {
            Ok(mut client) => {
                // Beside the output, which may be read by a program.
                client.when_unkept(|why| {
                    let why = clean(&words::unkept(why));
                    let _ = writeln!(std::io::stderr(), "mast: {why}");
                });
                Ok(client)
            }
            Err(error @ ClientError::NotRunning { .. }) => Err(match mast_control::living() {
                Some(living) => Failure::elsewhere(&self.socket, &living),
                None => error.into(),
            }),
            Err(error) => Err(error.into()),
        }
    }
}

/// Does what the command line says.
pub fn run(cli: Cli) -> ExitCode {
    let context = Context { socket: cli.control, out: Out::new() };
    let command = match cli.command {
        #[cfg(feature = "demo")]
        // The demonstration brings its own runtime and its own service.
        Command::Demo(format) => return demo::run(format.json),
        command => command,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::Other(FAILED, format!("cannot start: {error}")).report(),
    };
    runtime.block_on(dispatch(command, context)).unwrap_or_else(Failure::report)
}

async fn dispatch(command: Command, mut context: Context) -> Outcome {
    let context = &mut context;
    match command {
        Command::Up => power::up(context).await,
        Command::Down => power::down(context).await,
        Command::Status(args) => status::show(context, args).await,
        Command::Check(args) => status::check(context, args).await,
        Command::Paths(format) => paths::show(context, format).await,
        Command::Peers(format) => peers::list(context, format).await,
        Command::Peer(PeerCommand::Add { source, name, format }) => {
            peers::add(context, &source, name, format).await
        }
        Command::Peer(PeerCommand::Remove { name }) => peers::remove(context, &name).await,
        Command::Peer(PeerCommand::Set(args)) => peers::set(context, args).await,
        Command::Peer(PeerCommand::FullTunnel { name, switch }) => {
            protect::full_tunnel(context, name, switch).await
        }
        Command::Invite(args) => invite::run(context, args).await,
        Command::Presence(args) => presence::run(context, args).await,
        Command::Key(KeyCommand::Owner { user, nobody: _ }) => key::owner(context, user).await,
        Command::Mode(args) => mode::run(context, args).await,
        Command::Pin(args) => pin::pin(context, args).await,
        Command::Unpin(args) => pin::unpin(context, args).await,
        Command::Protect(args) => protect::run(context, args).await,
        Command::Events(args) => events::show(context, &args).await,
        Command::Drill(args) => diagnose::drill(context, args).await,
        Command::Doctor(format) => diagnose::doctor(context, format).await,
        #[cfg(feature = "demo")]
        Command::Demo(format) => Ok(demo::run(format.json)),
        Command::Version(format) => version::show(context, format).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut args::Cli::command(), "mast", &mut script);
            context.out.line(String::from_utf8_lossy(&script).trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
