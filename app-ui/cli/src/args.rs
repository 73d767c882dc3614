//! The command line's words.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

const EXIT_CODES: &str = "\
Exit codes:
  0  it worked; a drill passed; doctor found nothing wrong
  1  it failed, or the verdict is negative
  2  the command line does not make sense
  3  the service is not running
  4  not permitted";

/// Keeps connections alive while this machine moves between networks.
#[derive(Debug, Parser)]
#[command(name = "mast", version, after_help = EXIT_CODES, propagate_version = false, disable_help_subcommand = true)]
pub struct Cli {
    /// The service's control socket
    #[arg(long, global = true, value_name = "SOCKET", env = "MAST_CONTROL", hide_env_values = true)]
    #[arg(default_value = mast_control::DEFAULT_SOCKET)]
    pub control: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct Format {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start carrying traffic
    Up,
    /// Stop carrying traffic and take back every change to the system, even after a crash of the service
    Down,
    /// Show whether peers answer, over which links, and what happened lately
    Status(StatusArgs),
    /// Have the service try now what it has not heard of lately
    Check(CheckArgs),
    /// Show every path in detail
    Paths(Format),
    /// List the peers
    Peers(Format),
    /// Add or remove a peer
    #[command(subcommand)]
    Peer(PeerCommand),
    /// Make a link with which another host becomes a peer; it holds a secret. Or list and revoke those that were made
    Invite(InviteArgs),
    /// Show by which account peers find this machine while it moves, or log in to a presence service (XMPP) and out
    Presence(PresenceArgs),
    /// Say whose this host's private key is: who may take it into a key store, beside root
    #[command(subcommand)]
    Key(KeyCommand),
    /// Show how paths are used, or choose it: the best one, those you name, or several at once
    Mode(ModeArgs),
    /// Choose which interfaces carry traffic, in order
    Pin(PinArgs),
    /// Let the service choose again
    Unpin(UnpinArgs),
    /// Refuse, rather than send around it, what belongs into a full tunnel that cannot carry it; or show whether
    Protect(ProtectArgs),
    /// Show what happened
    Events(EventsArgs),
    /// Silence each path in turn, for a moment, and measure what traffic notices
    Drill(DrillArgs),
    /// Look for what is wrong
    Doctor(Format),
    /// Show on this machine alone what MAST does
    #[cfg(feature = "demo")]
    Demo(Format),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Show the versions of this program and of the running service
    Version(Format),
}

/// What to do with a peer.
#[derive(Debug, Subcommand)]
pub enum PeerCommand {
    /// Accept an invite, or add the peers of a WireGuard file
    Add {
        /// An invite (mast://…), a WireGuard configuration file, or - to read either from standard input
        #[arg(value_name = "LINK|FILE")]
        source: String,
        /// What to call the peer
        #[arg(long)]
        name: Option<String>,
        /// How to print the result.
        #[command(flatten)]
        format: Format,
    },
    /// Let everything go to a WireGuard server whose AllowedIPs are a default route, or only the rest of them
    FullTunnel {
        /// Its name
        name: String,
        /// Whether everything goes to it
        switch: Switch,
    },
    /// Choose what a peer may know of this machine
    Set(PeerSetArgs),
    /// Forget a peer
    Remove {
        /// The peer's name
        name: String,
    },
}

/// Arguments of `peer set`.
#[derive(Debug, Args)]
pub struct PeerSetArgs {
    /// Its name
    pub name: String,
    /// What to choose.
    #[command(flatten)]
    pub choice: PeerChoice,
}

/// What a peer may know: one or more of these.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = true)]
pub struct PeerChoice {
    /// Whether MAST is spoken with the peer of a WireGuard file, if that can; without it is taken for WireGuard alone, and
    /// told nothing
    #[arg(long)]
    pub mast: Option<Switch>,
    /// Which addresses of this machine it is told; from where datagrams come it sees whatever you choose
    #[arg(long, value_name = "WHICH")]
    pub addresses: Option<Told>,
    /// Whether it is your own: it is told private addresses, too, that it may be unable to use
    #[arg(long)]
    pub own: Option<Switch>,
    /// The account of a presence service at which it is found; empty: none that is known
    #[arg(long, value_name = "ACCOUNT")]
    pub presence: Option<String>,
}

/// Which addresses are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Told {
    /// Those that are of use to it
    All,
    /// Of these, those that are not private
    PublicOnly,
    /// Those that relays lend, and no other
    RelayedOnly,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Only this peer; the others cost nothing then
    pub peer: Option<String>,
    /// How to print it.
    #[command(flatten)]
    pub format: Format,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Only this peer; otherwise all
    pub peer: Option<String>,
}

/// Arguments of `presence`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct PresenceArgs {
    /// What to do; how it stands is shown without.
    #[command(subcommand)]
    pub command: Option<PresenceCommand>,
    /// How to print how it stands.
    #[command(flatten)]
    pub format: Format,
}

/// What to do with the account.
#[derive(Debug, Subcommand)]
pub enum PresenceCommand {
    /// Have this machine found by an account, such as alice@example.org; the password is asked for, or read from standard input
    Login {
        /// The account, of any provider; your machines may share one
        account: String,
        /// The server, if DNS does not know it: xmpp.example.org, or with a port; TLS begins at once on 5223 and 443
        #[arg(long)]
        server: Option<String>,
        /// A certificate authority to be trusted beside those that everybody trusts, as a PEM file
        #[arg(long, value_name = "FILE")]
        authority: Option<PathBuf>,
    },
    /// Use no account any more, and forget its password
    Logout,
}

/// What to do with the private key.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Let a user have it, who is to belong to group `mast` as well; only root may say so
    Owner {
        /// The user's name or number
        #[arg(required_unless_present = "nobody")]
        user: Option<String>,
        /// Nobody but root
        #[arg(long, conflicts_with = "user")]
        nobody: bool,
    },
}

/// What to do with invites that were made.
#[derive(Debug, Subcommand)]
pub enum InviteCommand {
    /// List the invites that were made, without their secrets
    List(Format),
    /// Let nobody accept an invite any more
    Revoke {
        /// The invite, as `mast invite list` calls it
        id: String,
    },
}

/// Arguments of `invite`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct InviteArgs {
    /// What to do; a link is made without.
    #[command(subcommand)]
    pub command: Option<InviteCommand>,
    /// How long the link may be accepted: 30s, 15m, 1h, 7d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = seconds)]
    pub expires: u64,
    /// What to call the peer that accepts it
    #[arg(long)]
    pub name: Option<String>,
    /// How to print the result.
    #[command(flatten)]
    pub format: Format,
}

/// Arguments of `mode`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ModeArgs {
    /// What to choose; what is in force is shown without.
    #[command(subcommand)]
    pub mode: Option<ModeCommand>,
    /// Show only this peer
    #[arg(long)]
    pub peer: Option<String>,
    /// How to print what is in force.
    #[command(flatten)]
    pub format: Format,
}

/// How paths are used.
#[derive(Debug, Subcommand)]
pub enum ModeCommand {
    /// The best path carries everything, and metered paths come last; the same as unpin
    Auto(UnpinArgs),
    /// The first of these interfaces that works carries everything; the same as pin
    Pin(PinArgs),
    /// Everything goes over the two best paths at once: no gap when one dies, twice the data
    Redundant(RedundantArgs),
    /// Traffic is spread over all good paths by what each can carry
    Bonded(BondedArgs),
}

/// Arguments of `mode redundant`.
#[derive(Debug, Args)]
pub struct RedundantArgs {
    /// Only for this peer; otherwise for all without a choice of their own, and for those to come
    #[arg(long)]
    pub peer: Option<String>,
    /// Only small datagrams, as calls and shells send them; bulk goes over one path
    #[arg(long)]
    pub small: bool,
    /// Metered paths take part, too
    #[arg(long)]
    pub metered: bool,
}

/// Arguments of `mode bonded`.
#[derive(Debug, Args)]
pub struct BondedArgs {
    /// Only for this peer; otherwise for all without a choice of their own, and for those to come
    #[arg(long)]
    pub peer: Option<String>,
    /// Metered paths take part, too
    #[arg(long)]
    pub metered: bool,
}

/// Arguments of `pin`.
#[derive(Debug, Args)]
pub struct PinArgs {
    /// Interfaces (wlan0), kinds (wifi, cellular, ethernet) or networks (network:Train), the most wanted first
    #[arg(value_name = "IFACE", required_unless_present = "follow", num_args = 1..=16)]
    pub interfaces: Vec<String>,
    /// Only for this peer; otherwise for all without a choice of their own, and for those to come
    #[arg(long)]
    pub peer: Option<String>,
    /// Rather no traffic than traffic over anything else
    #[arg(long)]
    pub only: bool,
    /// Instead: let the peer, or without `--peer` every peer, follow the choice for all again
    #[arg(long, conflicts_with_all = ["interfaces", "only"])]
    pub follow: bool,
}

/// Arguments of `unpin`.
#[derive(Debug, Args)]
pub struct UnpinArgs {
    /// Only for this peer; otherwise for all without a choice of their own, and for those to come
    #[arg(long)]
    pub peer: Option<String>,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// On
    On,
    /// Off
    Off,
}

/// Arguments of `protect`.
#[derive(Debug, Args)]
pub struct ProtectArgs {
    /// Switches it; without, shows what is set
    pub switch: Option<Switch>,
    /// Whether the local network may be spoken with all the same: private ranges, but no name servers there
    #[arg(long, value_name = "SWITCH")]
    pub local_network: Option<Switch>,
    /// How to print what is set.
    #[command(flatten)]
    pub format: Format,
}

/// Arguments of `events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Keep waiting for more
    #[arg(long, short)]
    pub follow: bool,
    /// How to print them; one object a line with --follow.
    #[command(flatten)]
    pub format: Format,
}

/// Arguments of `drill`.
#[derive(Debug, Args)]
pub struct DrillArgs {
    /// Which peer; not needed when there is only one
    #[arg(long)]
    pub peer: Option<String>,
    /// How to print the result.
    #[command(flatten)]
    pub format: Format,
}

/// Reads a time span.
fn seconds(text: &str) -> Result<u64, String> {
    let help = || "write a number and s, m, h or d, such as 15m".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text.get(digits.len()..) {
        Some("s") => 1,
        Some("m" | "min") => 60,
        Some("h") => 3600,
        Some("d") => 24 * 3600,
        _ => return Err(help()),
    };
    let number: u64 = digits.parse().map_err(|_| help())?;
    match number.checked_mul(unit) {
        Some(total @ 1..=604_800) => Ok(total),
        _ => Err("it must be between 1s and 7d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn time_spans() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("15m"), Ok(900));
        assert_eq!(seconds("1h"), Ok(3600));
        assert_eq!(seconds("7d"), Ok(604_800));
        for wrong in ["", "h", "0s", "8d", "1", "-1h", "1.5h", "99999999999999999999d", "1é"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
