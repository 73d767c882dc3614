//! `doctor`: looks for what is wrong, and says what to do.

mod last_step;
mod silent;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mast_control::aside::Aside;
use mast_control::layers::{self, Facts};
use mast_control::{
    Check, ControlError, DoctorReport, Finding, Layer, LayerStatus, PeerState, Protection, words,
};
use mast_engine::api::{PeerSnapshot, Snapshot};
use mast_engine::declared::Protection as Held;
use mast_engine::surroundings::Surroundings;
use mast_rendezvous::Health;

use crate::convert::{self, refusal};
use crate::daemon::Daemon;
use crate::keeper::DISK;
use crate::stun;

/// The kernel holds up requests while a driver is busy.
static PROBES: Aside = Aside::new("mast-doctor", 2);
/// So long each of what is asked may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// No clock that is right shows less: this was written in 2026.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);
/// What was refused so lately is refused most likely still: a path that fails is tried again as often.
const LATELY: Duration = Duration::from_secs(90);
/// A clock that was set back by less is no harm.
const TOLERANCE: Duration = Duration::from_secs(60);

/// What the last who may not change things was told, and when: for the next of them.
#[derive(Default)]
pub(crate) struct Latest(tokio::sync::Mutex<Option<(Instant, DoctorReport)>>);

/// So long it is told again.
const LATEST: Duration = Duration::from_secs(5);

/// The report for whoever may not change things: nothing is tried for it, on the system or on the road, and however many
/// ask, it is made once in a while.
pub(crate) async fn report_to_others(daemon: &Daemon) -> Result<DoctorReport, ControlError> {
    let mut latest = daemon.latest_report.0.lock().await;
    if let Some((at, report)) = &*latest
        && at.elapsed() < LATEST
    {
        return Ok(report.clone());
    }
    let report = look(daemon, false).await?;
    *latest = Some((Instant::now(), report.clone()));
    Ok(report)
}

/// Looks at everything.
pub(crate) async fn report(daemon: &Daemon) -> Result<DoctorReport, ControlError> {
    look(daemon, true).await
}

/// What the system can do: to know that, devices are made and dropped.
async fn probed() -> Vec<Check> {
    match PROBES.within(PATIENCE, || mast_platform::Native::default().checks()).await {
        // A failed check's explanation holds the remedy, too.
        Ok(probed) => probed.into_iter().map(|c| Check::told(c.name, c.ok, c.explanation)).collect(),
        Err(hung) => {
            vec![Check::told("system", false, format!("what this system can do is not known: {hung}"))]
        }
    }
}

/// With `tries`, also at what shows only when it is tried.
async fn look(daemon: &Daemon, tries: bool) -> Result<DoctorReport, ControlError> {
    let snapshot = daemon.engine.snapshot().await.map_err(refusal)?;
    let directory = daemon.store().dir().path().to_path_buf();
    // Each may wait for the system, and neither for the other.
    let probed = async { if tries { probed().await } else { Vec::new() } };
    let newest = DISK.within(PATIENCE, move || newest(&directory));
    let (mut checks, newest) = tokio::join!(probed, newest);
    checks.push(tunnel(&snapshot, daemon));
    checks.push(uplinks(&snapshot));
    checks.extend(firewall(&snapshot));
    checks.extend(host(&snapshot));
    checks.extend(protection(&snapshot));
    checks.extend(names(&snapshot));
    checks.extend(silent::uplinks(&snapshot));
    checks.extend(single(&snapshot));
    checks.extend(strangers(&snapshot));
    if tries {
        checks.extend(last_step::check(daemon, &snapshot).await);
    }
    checks.push(match daemon.unsaved() {
        None => Check::new("state", Finding::Saved),
        Some(error) => Check::new("state", Finding::Unsaved { error }),
    });
    checks.push(match newest {
        Ok(newest) => clock(SystemTime::now(), newest),
        Err(hung) => {
            let why = format!("not known: the disk of the state directory does not answer ({hung})");
            Check::told("clock", false, why)
        }
    });
    checks.extend(stun::checks(&snapshot));
    checks.extend(daemon.nat64.checks());
    checks.extend(daemon.relays.checks());
    checks.extend(daemon.peer_relays.checks());
    checks.extend(daemon.rendezvous.healths().into_iter().map(rendezvous));
    checks.extend(layers(&snapshot, daemon));
    checks.extend(snapshot.peers.into_iter().map(|p| peer(p, snapshot.up)));
    let counters = snapshot.counters.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    Ok(DoctorReport { checks, counters, redacted: false })
}

fn tunnel(snapshot: &Snapshot, daemon: &Daemon) -> Check {
    let (interface, port) = (daemon.facts.interface.clone(), daemon.facts.port);
    Check::new("tunnel", if snapshot.up { Finding::Up { interface, port } } else { Finding::Down })
}

fn uplinks(snapshot: &Snapshot) -> Check {
    let all = || snapshot.interfaces.iter();
    let interfaces: Vec<_> =
        all().filter(|(i, c)| i.usable && !c.excluded).map(|(i, _)| i.name.clone()).collect();
    let finding = if !interfaces.is_empty() {
        Finding::Uplinks { interfaces }
    } else if snapshot.interfaces.is_empty() {
        Finding::NoInterface
    } else {
        Finding::Unconnected { interfaces: all().map(|(i, _)| i.name.clone()).collect() }
    };
    Check::new("uplinks", finding)
}

/// What is set on the host: each thing that is not as it should be.
fn host(snapshot: &Snapshot) -> Vec<Check> {
    const NAME: &str = "addresses and routes";
    if snapshot.refused.is_empty() {
        return Vec::from_iter(snapshot.up.then(|| Check::told(NAME, true, "set, and in force")));
    }
    snapshot.refused.iter().map(|text| Check::told(NAME, false, text)).collect()
}

/// Leak protection, where there is something to hold back.
fn protection(snapshot: &Snapshot) -> Option<Check> {
    const NAME: &str = "leak protection";
    let state = convert::protection(snapshot.protection.clone());
    match words::protection(&state) {
        Some(text) => Some(Check::told(NAME, false, text)),
        None if state == Protection::Idle => None,
        None => Some(Check::told(NAME, true, "in force: nothing leaves around the tunnel but what may")),
    }
}

/// Where everything goes to a peer, names do; name servers of the local network are not asked.
fn names(snapshot: &Snapshot) -> Option<Check> {
    let mut plain = snapshot.peers.iter().filter_map(|peer| peer.plain.as_ref());
    let full = plain.by_ref().find(|plain| plain.full_tunnel() == Some(true))?;
    const NAME: &str = "names";
    if let Some(server) = full.dns.first() {
        let text = format!("asked of {server}, through the tunnel to which everything goes");
        return Some(Check::told(NAME, true, text));
    }
    let held = snapshot.protection != Held::Idle;
    held.then(|| {
        let text = "everything goes through a tunnel for which no name server is known, and leak protection refuses \
                    those of the local network: write `DNS = ADDRESS` into the file of the peer and add it again, or have \
                    this machine ask a public one";
        Check::told(NAME, false, text)
    })
}

/// One of what finds peers that move.
fn rendezvous((name, health, what): (&'static str, Health, String)) -> Check {
    let (ok, text) = match health {
        Health::Starting => (true, format!("{what}; nobody has answered yet")),
        Health::Working => (true, what),
        Health::Failed { why, remedy } => (false, format!("{why}; {remedy}")),
    };
    Check::told(format!("rendezvous by {name}"), ok, text)
}

/// What is known of UDP over each interface that is used, and of the peers' names.
fn layers(snapshot: &Snapshot, daemon: &Daemon) -> Vec<Check> {
    if !snapshot.up || snapshot.peers.is_empty() {
        return Vec::new();
    }
    let mut status = convert::status(snapshot.clone(), "", Vec::new());
    layers::fill(&mut status, &Facts { names: daemon.store().names(), ..Facts::default() });
    let of = |name: String, layers: &[LayerStatus], wanted: Layer| {
        layers.iter().find(|l| l.layer == wanted).map(|layer| Check::new(name, Finding::from(layer)))
    };
    let used = status.interfaces.iter().filter(|i| i.usable && !i.excluded);
    let uplinks = used
        .filter_map(|i| of(format!("uplink {}", i.name), &i.layers, Layer::Nat))
        // One that fails is looked into, and told, with what may be the reason.
        .filter(|check| check.ok);
    let names = status.peers.iter().filter_map(|p| of(format!("name of {}", p.name), &p.layers, Layer::Dns));
    uplinks.chain(names).collect()
}

/// Whether a rule of this host forbade lately to send.
pub(crate) fn is_forbidden(snapshot: &Snapshot) -> bool {
    snapshot.forbidden.is_some_and(|ago| ago < LATELY)
}

/// What the system says for certain comes before any guess about the peers.
fn firewall(snapshot: &Snapshot) -> Option<Check> {
    let ago = snapshot.forbidden.filter(|ago| *ago < LATELY)?;
    let count =
        snapshot.counters.iter().find(|(name, _)| *name == "send_not_permitted").map_or(1, |(_, n)| *n);
    Some(Check::new("firewall", Finding::Forbidden { seconds: ago.as_secs(), count }))
}

/// Datagrams leave one by one where batches were lost.
fn single(snapshot: &Snapshot) -> Option<Check> {
    let interfaces = snapshot.single.clone();
    (!interfaces.is_empty()).then(|| Check::new("udp-segmentation", Finding::BatchesLost { interfaces }))
}

/// Handshakes that opened with this host's key, of somebody whose key no peer has: a machine that was paired once, here
/// or there, and is not any more.
fn strangers(snapshot: &Snapshot) -> Option<Check> {
    let (_, count) = snapshot.counters.iter().find(|(name, _)| *name == "handshake_of_stranger")?;
    Some(Check::new("keys", Finding::Strangers { count: *count }))
}

fn peer(peer: PeerSnapshot, up: bool) -> Check {
    let status = convert::peer(peer);
    let finding = Finding::Peer {
        state: status.state,
        kind: status.kind,
        paths: u32::try_from(status.paths.len()).unwrap_or(u32::MAX),
        heard_s: status.last_heard_ms.map(|ms| ms / 1000),
        unwanted: !up && status.state == PeerState::Down,
        peer: status.name.clone(),
    };
    Check::new(format!("peer {}", status.name), finding)
}

/// When anything was last written to the state directory.
fn newest(directory: &Path) -> Option<SystemTime> {
    let files = std::fs::read_dir(directory).ok()?;
    files.filter_map(|file| file.ok()?.metadata().ok()?.modified().ok()).max()
}

/// Peers refuse handshakes that look older than earlier ones, and invites end by the clock.
fn clock(now: SystemTime, newest: Option<SystemTime>) -> Check {
    let now_since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    if now_since < EARLIEST {
        return Check::new("clock", Finding::ClockYears);
    }
    let back = newest.and_then(|newest| newest.duration_since(now).ok()).filter(|back| *back > TOLERANCE);
    Check::new(
        "clock",
        match back {
            Some(back) => Finding::ClockBack { seconds: back.as_secs() },
            None => Finding::ClockFine,
        },
    )
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
