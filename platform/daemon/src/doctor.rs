//! `doctor`: looks for what is wrong, and says what to do.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mast_control::{Check, ControlError, DoctorReport};
use mast_engine::api::{PeerSnapshot, Snapshot};
use mast_proto::PeerState;

use crate::convert::refusal;
use crate::daemon::Daemon;

/// No clock that is right shows less: this was written in 2026.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);
/// A clock that was set back by less is no harm.
const TOLERANCE: Duration = Duration::from_secs(60);

/// Looks at everything.
pub(crate) async fn report(daemon: &Daemon) -> Result<DoctorReport, ControlError> {
    let snapshot = daemon.engine.snapshot().await.map_err(refusal)?;
    let directory = daemon.store().dir().path().to_path_buf();
    // Both ask the system and may wait for it.
    let asked = tokio::task::spawn_blocking(move || (mast_platform::probe(), newest(&directory)));
    let (probed, newest) = asked.await.map_err(|error| ControlError::internal(error.to_string()))?;
    let mut checks: Vec<Check> = probed
        .into_iter()
        .map(|check| {
            // A failed check's explanation holds the remedy, too.
            Check { name: check.name.to_owned(), ok: check.ok, detail: check.explanation, remedy: None }
        })
        .collect();
    checks.push(tunnel(&snapshot, daemon));
    checks.push(uplinks(&snapshot));
    checks.push(match daemon.unsaved() {
        None => pass("state", "the state is saved"),
        Some(why) => fail("state", why, "mend it, or a restart forgets what was changed"),
    });
    checks.push(clock(SystemTime::now(), newest));
    checks.extend(snapshot.peers.iter().map(|p| peer(p, snapshot.up)));
    let counters = snapshot.counters.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    Ok(DoctorReport { checks, counters })
}

fn pass(name: impl Into<String>, detail: impl Into<String>) -> Check {
    Check { name: name.into(), ok: true, detail: detail.into(), remedy: None }
}

fn fail(name: impl Into<String>, detail: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check { name: name.into(), ok: false, detail: detail.into(), remedy: Some(remedy.into()) }
}

fn tunnel(snapshot: &Snapshot, daemon: &Daemon) -> Check {
    let (interface, port) = (&daemon.facts.interface, daemon.facts.port);
    if !snapshot.up {
        return fail("tunnel", "MAST is down", "run `mast up`");
    }
    let port = if port == 0 { "ports chosen by the system".to_owned() } else { format!("UDP port {port}") };
    pass("tunnel", format!("MAST is up: interface {interface}, {port}"))
}

fn uplinks(snapshot: &Snapshot) -> Check {
    let usable: Vec<_> = snapshot
        .interfaces
        .iter()
        .filter(|(i, c)| i.usable && !c.excluded)
        .map(|(i, _)| i.name.as_str())
        .collect();
    match usable.as_slice() {
        [] if snapshot.interfaces.is_empty() => fail(
            "uplinks",
            "this machine has no network interface that leads out",
            "connect to a network; if one is there, see `ignore` in the configuration",
        ),
        [] => {
            let names: Vec<_> = snapshot.interfaces.iter().map(|(i, _)| i.name.as_str()).collect();
            fail(
                "uplinks",
                format!("no interface is connected: {}", names.join(", ")),
                "connect to a network",
            )
        }
        [one] => pass("uplinks", format!("{one} is connected; with a second network, either may fail")),
        several => pass("uplinks", format!("{} are connected", several.join(", "))),
    }
}

fn peer(peer: &PeerSnapshot, up: bool) -> Check {
    let name = format!("peer {}", peer.name);
    let heard = match peer.last_heard {
        Some(ago) => format!("last heard {} s ago", ago.as_secs()),
        None => "never heard".to_owned(),
    };
    match peer.state {
        PeerState::Connected => pass(name, format!("connected, {heard}")),
        PeerState::Down if !up => pass(name, "not wanted: MAST is down"),
        PeerState::Down if peer.paths.is_empty() => fail(
            name,
            "it switched itself off, or no address of it can be tried",
            "run `mast up` there; if it has moved for good, exchange an invite again",
        ),
        PeerState::Down => fail(name, format!("it is off, {heard}"), "run `mast up` there"),
        PeerState::Connecting => fail(
            name,
            format!("no answer on any of {} paths yet, {heard}", peer.paths.len()),
            "see that mastd runs there, that its UDP port can be reached, and that both were paired with each other",
        ),
        PeerState::Unreachable => fail(
            name,
            format!("it fell silent on all {} paths, {heard}", peer.paths.len()),
            "see that it has network, and that a firewall or portal here does not hold back UDP",
        ),
    }
}

/// When anything was last written to the state directory.
fn newest(directory: &Path) -> Option<SystemTime> {
    let files = std::fs::read_dir(directory).ok()?;
    files.filter_map(|file| file.ok()?.metadata().ok()?.modified().ok()).max()
}

/// Peers refuse handshakes that look older than earlier ones, and invites end by the clock.
fn clock(now: SystemTime, newest: Option<SystemTime>) -> Check {
    const REMEDY: &str = "set the clock, or switch on time synchronisation: `timedatectl set-ntp true`";
    let now_since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    if now_since < EARLIEST {
        return fail("clock", "the clock is years behind: peers refuse what seems older than before", REMEDY);
    }
    match newest.and_then(|newest| newest.duration_since(now).ok()).filter(|back| *back > TOLERANCE) {
        Some(back) => {
            let detail = format!(
                "the clock was set back by {} s: peers refuse what seems older than before",
                back.as_secs()
            );
            fail("clock", detail, REMEDY)
        }
        None => pass("clock", "the clock goes forward"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks() {
        let now = UNIX_EPOCH + EARLIEST + Duration::from_secs(1000);
        assert!(clock(now, None).ok);
        assert!(clock(now, Some(now - Duration::from_secs(9))).ok);
        assert!(clock(now, Some(now + Duration::from_secs(9))).ok);
        assert!(!clock(now, Some(now + Duration::from_secs(900))).ok);
        assert!(!clock(UNIX_EPOCH, None).ok);
    }
}
