//! What the parts of the app share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mast_control::{Client, ClientError, Event, Request, Status};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::args::{self, Args};
use crate::link::Service;
use crate::panel::Panel;
use crate::portal;
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::throughput::Meters;

/// What is known of the service now.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// How the app stands with it.
    pub service: Service,
    /// The last status, as long as it may be believed.
    pub status: Option<Status>,
    /// Grows when the story must be read again: what happens is in `events`.
    pub story_version: u64,
    /// What happened and was not given to the page yet.
    pub events: Vec<Arc<Event>>,
    /// Those of which a notification may be told, until that was judged: the page need not be there.
    pub notable: Vec<Arc<Event>>,
    /// What NetworkManager found of login pages, where it knows.
    pub portal: Option<portal::Word>,
    /// What is known of the panel with the tray icon.
    pub panel: Panel,
}

/// The app.
#[derive(Debug)]
pub struct Shared {
    /// Where the service listens.
    pub socket: PathBuf,
    /// Something changed that is to be shown.
    pub changed: Notify,
    /// The service shall be asked again at once.
    pub refresh: Notify,
    visible: AtomicBool,
    view: Mutex<View>,
    meters: Mutex<Meters>,
    settings: Mutex<Settings>,
    directory: PathBuf,
    /// An invite that the app was started with, until the page takes it.
    offered: Mutex<Option<String>>,
}

impl Shared {
    /// The app's state; its settings are kept in `directory`.
    pub fn new(args: &Args, directory: PathBuf) -> Self {
        Self {
            socket: args.socket.clone(),
            changed: Notify::new(),
            refresh: Notify::new(),
            visible: AtomicBool::new(false),
            view: Mutex::default(),
            meters: Mutex::default(),
            settings: Mutex::new(Settings::load(&directory)),
            directory,
            offered: Mutex::new(args::link(&args.link).map(str::to_owned)),
        }
    }

    /// Somebody wants this invite accepted: the page will ask the user.
    pub fn offer(&self, link: &str) {
        *self.offered.lock().unwrap_or_else(PoisonError::into_inner) = Some(link.to_owned());
    }

    /// Whether an invite waits for the page.
    pub fn is_offered(&self) -> bool {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The invite that waits; once.
    pub fn take_offer(&self) -> Option<String> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What is known of the service. Never held while waiting.
    pub fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes a second, by interface.
    pub fn meters(&self) -> MutexGuard<'_, Meters> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The app's own settings.
    pub fn settings(&self) -> Settings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the app's own settings and keeps them.
    ///
    /// # Errors
    /// When they cannot be written; then nothing is changed.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) -> Result<(), Refusal> {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = settings.clone();
        change(&mut new);
        new.save(&self.directory)?;
        *settings = new;
        drop(settings);
        self.changed.notify_one();
        Ok(())
    }

    /// Whether somebody can see the window.
    pub fn is_visible(&self) -> bool {
        self.visible.load(Ordering::Relaxed)
    }

    /// Notes whether somebody can see the window.
    pub fn set_visible(&self, visible: bool) {
        if self.visible.swap(visible, Ordering::Relaxed) != visible {
            self.refresh.notify_one();
        }
    }

    /// Asks the service something, over a connection of its own.
    ///
    /// # Errors
    /// What the service says, in words for the user.
    pub async fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Refusal> {
        self.with(async |client| client.call(request).await).await
    }

    /// Has the service do something, and looks at what came of it.
    ///
    /// # Errors
    /// As [`Shared::ask`].
    pub async fn tell(&self, request: &Request) -> Result<(), Refusal> {
        let result = self.with(async |client| client.done(request).await).await;
        // Also after a failure: something may have happened.
        self.refresh.notify_one();
        result
    }

    /// Talks to the service, over a connection of its own.
    ///
    /// # Errors
    /// As [`Shared::ask`].
    pub async fn with<T>(
        &self,
        talk: impl AsyncFnOnce(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, Refusal> {
        let mut client = Client::connect_as(&self.socket, crate::link::NAME).await?;
        Ok(talk(&mut client).await?)
    }
}
