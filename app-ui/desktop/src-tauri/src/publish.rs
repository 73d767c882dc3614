//! Shows what changed: to the page, in the tray, and where it matters as a notification.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tauri::{AppHandle, Emitter, Runtime};
use tauri_plugin_notification::NotificationExt;

use crate::notify::{self, Judge};
use crate::said::StoryEvent;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::{tray, window};

/// Not more often than this.
const LEAST: Duration = Duration::from_millis(100);
/// A page that was just loading may have missed the last snapshot.
const AGAIN: Duration = Duration::from_secs(5);

/// Shows changes for as long as the app runs.
pub async fn run<R: Runtime>(app: AppHandle<R>, shared: Arc<Shared>) {
    let mut judge = Judge::default();
    let mut tray = tray::Shown::default();
    let mut sent: Option<(Instant, String)> = None;
    loop {
        let wait =
            judge.due().map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(Instant::now()));
        tokio::select! {
            () = shared.changed.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        let events = std::mem::take(&mut shared.view().events);
        let snapshot = Snapshot::of(&shared, window::starts_at_login(&app));
        let panel = shared.view().panel;
        tray.update(&app, &snapshot, panel);
        let budgets = std::mem::take(&mut shared.view().notable);
        let budgets = budgets.iter().filter_map(|event| notify::of_event(event));
        for told in budgets.chain(judge.take(Instant::now(), &snapshot.now, snapshot.status.as_ref())) {
            if shared.settings().notifications {
                let shown = app.notification().builder().title(told.title).body(told.body).show();
                if let Err(error) = shown {
                    eprintln!("mast-desktop: no notification: {error}");
                }
            }
        }
        if shared.is_visible() {
            if !events.is_empty() {
                let told: Vec<_> =
                    events.iter().map(|e| StoryEvent::of(e, snapshot.status.as_ref())).collect();
                // A window that is just closing is no error.
                let _ = app.emit_to(window::LABEL, "events", &told);
            }
            // A page draws anew what it gets, so it gets only what is new.
            let new = snapshot.without_times();
            let known = |(at, old): &(Instant, String)| *old == new && at.elapsed() < AGAIN;
            if !sent.as_ref().is_some_and(known) {
                let _ = app.emit_to(window::LABEL, "snapshot", &snapshot);
                sent = Some((Instant::now(), new));
            }
        } else {
            sent = None;
        }
        tokio::time::sleep(LEAST).await;
    }
}
