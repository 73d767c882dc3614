//! A pause of the tunnel, which ends by itself.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mast_control::What;

use crate::convert::refusal;
use crate::daemon::Daemon;

/// The clock may be set meanwhile, and the machine may sleep: look at least so often.
const LOOK: Duration = Duration::from_secs(30);

/// Ends pauses when their time has come, until the engine ends.
pub(crate) async fn run(daemon: Arc<Daemon>) {
    loop {
        let until = daemon.store().paused_until();
        let Some(until) = until else {
            daemon.pause_changed.notified().await;
            continue;
        };
        let left = until.duration_since(SystemTime::now()).unwrap_or_default();
        if left.is_zero() {
            daemon.store().set_paused_until(None);
            daemon.save().await;
            match daemon.engine.up().await {
                Ok(()) => {
                    daemon.note("", What::PauseOver);
                    if let Err(why) = daemon.guard().await {
                        daemon.note("", What::ProtectionRefused { error: why });
                    }
                }
                Err(error) => {
                    let error = refusal(error).message;
                    daemon.note("", What::PauseStuck { error });
                }
            }
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(left.min(LOOK)) => {}
            () = daemon.pause_changed.notified() => {}
        }
    }
}
