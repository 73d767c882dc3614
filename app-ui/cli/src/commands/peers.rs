//! `peers`, `peer add`, `peer set` and `peer remove`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use mast_control::{AddressesTold, MAX_LINE, PeerAdd, PeerFile, PeerSet, words};

use super::{Context, Outcome};
use crate::args::{Format, PeerChoice, PeerSetArgs, Switch, Told};
use crate::failure::{FAILED, Failure};
use crate::output::table::Table;
use crate::output::text::{clean, cleaned};
use crate::output::units;

/// More is not even read: the service takes no longer request, whatever is in it.
const MAX_FILE: u64 = MAX_LINE as u64;

pub async fn list(context: &mut Context, format: Format) -> Outcome {
    let status = context.client().await?.status().await?;
    if format.json {
        context.out.json(&status.peers)?;
        return Ok(ExitCode::SUCCESS);
    }
    let status = cleaned(status);
    if status.peers.is_empty() {
        context.out.line("There is no peer yet: `mast peer add LINK` or `mast invite`.")?;
        return Ok(ExitCode::SUCCESS);
    }
    let told: Vec<_> = status.peers.iter().flat_map(words::disclosure).collect();
    let mut table =
        Table::new(&["PEER", "STATE", "KIND", "EID", "", "POLICY", "HEARD", ">RECEIVED", ">SENT"]);
    let redacted = status.redacted;
    for peer in status.peers {
        let cells = vec![
            peer.name,
            peer.state.to_string(),
            peer.kind.to_string(),
            peer.eid.remote_v4.unwrap_or_default(),
            peer.eid.remote_v6.unwrap_or_default(),
            words::policy(&peer.policy),
            peer.last_heard_ms.map_or_else(|| "never".to_owned(), units::ago),
            units::bytes(peer.rx_bytes),
            units::bytes(peer.tx_bytes),
        ];
        table.row(None, cells);
    }
    table.print(&mut context.out)?;
    for line in told {
        context.out.line(line)?;
    }
    context.redacted(redacted)?;
    Ok(ExitCode::SUCCESS)
}

pub async fn add(context: &mut Context, source: &str, name: Option<String>, format: Format) -> Outcome {
    let request = request_of(source, name)?;
    let added = context.client().await?.peer_add(request).await?;
    if format.json {
        context.out.json(&added)?;
        return Ok(ExitCode::SUCCESS);
    }
    let added = cleaned(added);
    let eids: Vec<_> = [added.eid.remote_v4, added.eid.remote_v6].into_iter().flatten().collect();
    let place = if eids.is_empty() { String::new() } else { format!(" It is at {}.", eids.join(", ")) };
    context.out.line(format!("Added {}.{place}", added.name))?;
    for note in added.notes {
        context.out.line(format!("Note: {}.", words::note(&note)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Chooses what a peer may know, and says what that is now.
pub async fn set(context: &mut Context, args: PeerSetArgs) -> Outcome {
    let PeerChoice { mast, addresses, own, presence } = args.choice;
    let is_on = |switch: Switch| switch == Switch::On;
    let addresses = addresses.map(|told| match told {
        Told::All => AddressesTold::All,
        Told::PublicOnly => AddressesTold::PublicOnly,
        Told::RelayedOnly => AddressesTold::RelayedOnly,
    });
    let name = args.name.clone();
    let account = presence.clone();
    let (mast, own) = (mast.map(is_on), own.map(is_on));
    let set = PeerSet { name, mast, addresses, own, presence, ..PeerSet::default() };
    let mut client = context.client().await?;
    client.peer_set(set).await?;
    let peer = cleaned(client.peer(&args.name).await?).peer;
    let mut told = words::disclosure(&peer);
    if peer.mast == Some(false) {
        told.push(format!(
            "{} is taken for a WireGuard server: MAST is not offered to it, and it is told nothing.",
            peer.name
        ));
    } else if told.is_empty() {
        told.push(format!("{} is told the addresses of this machine that are of use to it.", peer.name));
    }
    match account.as_deref() {
        Some("") => {
            told.push(format!("{} is found by this machine's own account, if it has that.", peer.name))
        }
        Some(account) => told.push(format!("{} is found by {}.", peer.name, clean(account))),
        None => {}
    }
    for line in told {
        context.out.line(line)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn remove(context: &mut Context, name: &str) -> Outcome {
    context.client().await?.peer_remove(name).await?;
    context.out.line(format!("Removed {}.", clean(name)))?;
    Ok(ExitCode::SUCCESS)
}

fn request_of(source: &str, name: Option<String>) -> Result<PeerAdd, Failure> {
    let link = |link: &str| PeerAdd { link: Some(link.trim().to_owned()), file: None, name: name.clone() };
    if source.starts_with("mast:") {
        return Ok(link(source));
    }
    let (file_name, contents) = if source == "-" {
        ("stdin.conf".to_owned(), read(io::stdin()).map_err(|why| unreadable("standard input", &why))?)
    } else {
        let path = Path::new(source);
        let contents = File::open(path).and_then(read).map_err(|why| match why.kind() {
            io::ErrorKind::NotFound => Failure::Other(
                FAILED,
                format!("`{source}` is neither an invite (mast://…) nor a file that exists"),
            ),
            _ => unreadable(source, &why),
        })?;
        (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), contents)
    };
    if contents.trim_start().starts_with("mast:") {
        return Ok(link(&contents));
    }
    Ok(PeerAdd { link: None, file: Some(PeerFile { name: file_name, contents }), name })
}

fn unreadable(source: &str, why: &io::Error) -> Failure {
    Failure::Other(FAILED, format!("cannot read {source}: {why}"))
}

fn read(stream: impl Read) -> io::Result<String> {
    let mut contents = Vec::new();
    stream.take(MAX_FILE + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!(
            "it is longer than {} KiB, which is what mastd takes: split it, or put wider ranges for many narrow ones",
            MAX_FILE / 1024
        )));
    }
    // Comments may be in any encoding: what counts is ASCII.
    Ok(String::from_utf8(contents).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}
