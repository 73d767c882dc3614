//! Notices that the control socket's file is gone, at no cost while it is there.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior};

/// How often it is looked where the system does not tell, and while the file cannot be made again.
const PAUSE: Duration = Duration::from_millis(1500);
/// Whoever cleans up or replaces files may not be done with it yet.
const SETTLE: Duration = Duration::from_millis(1000);

/// Says when to look.
pub(super) struct Look {
    watch: Option<Watch>,
    pause: Interval,
    /// Something happened, and it is looked then.
    until: Option<Instant>,
}

impl Look {
    /// At a file of this directory.
    pub fn new(directory: &Path) -> Self {
        let mut pause = tokio::time::interval_at(Instant::now() + PAUSE, PAUSE);
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { watch: Watch::new(directory), pause, until: None }
    }

    /// Waits until it is time. `missing`: the file is known to be gone. May be cancelled.
    pub async fn due(&mut self, missing: bool) {
        if self.until.is_none() {
            match &self.watch {
                Some(watch) if !missing => watch.changed().await,
                _ => {
                    self.pause.tick().await;
                    return;
                }
            }
            self.until = Some(Instant::now() + SETTLE);
        }
        if let Some(until) = self.until {
            tokio::time::sleep_until(until).await;
            self.until = None;
        }
    }
}

#[cfg(target_os = "linux")]
use linux::Watch;

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::{Arc, Weak};

    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    use tokio::sync::Notify;

    use super::Path;

    /// Told by the kernel that names in a directory changed. A thread waits for it: a descriptor cannot be handed to the
    /// runtime without unsafe code.
    pub(super) struct Watch(Arc<Notify>);

    impl Watch {
        /// `None` where the system has no watches left.
        pub fn new(directory: &Path) -> Option<Self> {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC).ok()?;
            let wanted = AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_MOVED_FROM
                | AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_DELETE_SELF
                | AddWatchFlags::IN_MOVE_SELF;
            inotify.add_watch(directory, wanted).ok()?;
            let notify = Arc::new(Notify::new());
            let told = Arc::downgrade(&notify);
            let thread = std::thread::Builder::new().name("mast-socket".to_owned());
            thread.spawn(move || wait(&inotify, &told)).ok()?;
            Some(Self(notify))
        }

        pub async fn changed(&self) {
            self.0.notified().await;
        }
    }

    /// Until nobody wants to know any more, which shows at the latest when the socket's own file goes.
    fn wait(inotify: &Inotify, told: &Weak<Notify>) {
        while inotify.read_events().is_ok() {
            match told.upgrade() {
                Some(notify) => notify.notify_one(),
                None => return,
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
struct Watch;

#[cfg(not(target_os = "linux"))]
impl Watch {
    fn new(_: &Path) -> Option<Self> {
        None
    }

    async fn changed(&self) {
        std::future::pending().await
    }
}
