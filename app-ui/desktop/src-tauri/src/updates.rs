//! Updates by the app itself, where no package manager brings them. Off unless the app was built with the feature
//! `updater`, and with `MAST_UPDATES_ADDRESS` and `MAST_UPDATES_KEY` in its environment; even then it looks only when it
//! is told to, in the tray's menu.
//!
//! What is offered is described by a file at an address (`https`), in the form of Tauri's updater. Only what was signed by
//! the key (minisign) for the very version that the file names is handed to the system's installer, which asks for an
//! administrator by itself. `installer/updates` makes that file.

use tauri::{AppHandle, Builder, Config, Runtime, Wry};

/// Where updates are described, and the public key of who signs them.
#[derive(Debug, Clone)]
pub struct Channel {
    /// An address that begins with `https://`.
    pub address: String,
    /// A public key of minisign, in base64, as Tauri's updater has it.
    pub key: String,
}

impl Channel {
    /// What the app was built with.
    pub fn built_in() -> Option<Self> {
        let (address, key) = (option_env!("MAST_UPDATES_ADDRESS"), option_env!("MAST_UPDATES_KEY"));
        let whole = || Some(Self { address: address?.to_owned(), key: key?.to_owned() });
        whole().filter(|_| cfg!(feature = "updater"))
    }
}

#[cfg(feature = "updater")]
pub use on::*;

/// The app was not built to look.
#[cfg(not(feature = "updater"))]
pub fn offer<R: Runtime>(_app: &AppHandle<R>) {}

#[cfg(feature = "updater")]
mod on {
    use std::path::Path;
    use std::time::Duration;

    use tauri_plugin_dialog::{DialogExt, MessageDialogButtons, MessageDialogKind};
    use tauri_plugin_updater::{Update, UpdaterExt};

    use super::*;
    use crate::system::HERE;

    /// A server that says nothing for that long is given up.
    const PATIENCE: Duration = Duration::from_secs(30);

    impl Channel {
        /// Has the plugin look there. Without encryption (`http`) only where a test says so.
        pub fn configure(&self, config: &mut Config, without_tls: bool) {
            let words = serde_json::json!({
                "endpoints": [self.address],
                "pubkey": self.key,
                // Else an older version could be served under a newer one's name.
                "requireSignedVersion": true,
                "dangerousInsecureTransportProtocol": without_tls,
            });
            config.plugins.0.insert("updater".into(), words);
        }
    }

    /// What is newer than this version, if anything is.
    ///
    /// # Errors
    /// When it cannot be found out: why.
    pub async fn look<R: Runtime>(app: &AppHandle<R>) -> Result<Option<Update>, String> {
        let failed = |error| format!("it could not be found out whether there is an update: {error}");
        let updater = app.updater_builder().timeout(PATIENCE).build().map_err(failed)?;
        updater.check().await.map_err(failed)
    }

    /// Fetches an update and makes sure of whom it is.
    ///
    /// # Errors
    /// When it does not come, or was not signed as this version by the right key: why.
    pub async fn fetch(update: &Update) -> Result<Vec<u8>, String> {
        // Large, and over any link: it may take its time.
        let mut update = update.clone();
        update.timeout = None;
        let whole = update.download(|_, _| {}, || {}).await;
        whole.map_err(|error| format!("the update to {} was not taken: {error}", update.version))
    }

    /// Hands a package to the system's installer. It lies where only this user writes.
    async fn hand_over(package: Vec<u8>, name: &str) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("the installer could not be started: {error}");
        let folder = tempfile::Builder::new().prefix("mast-update").tempdir().map_err(failed)?;
        let file = folder.path().join(Path::new(name).file_name().unwrap_or("update".as_ref()));
        std::fs::write(&file, package).map_err(failed)?;
        let words = HERE.install(&file).ok_or("on this system the packages' own tools update MAST")?;
        let (program, arguments) = words.split_first().ok_or("there is no installer")?;
        // The installer reads it after this returns.
        let _kept = folder.keep();
        let status = tokio::process::Command::new(program).args(arguments).status().await.map_err(failed)?;
        if status.success() {
            Ok(())
        } else {
            Err("the installer was not started: permission was not given".into())
        }
    }

    /// Looks, asks, fetches, and starts the installer; whatever comes of it is said in a dialog.
    pub fn offer<R: Runtime>(app: &AppHandle<R>) {
        let app = app.clone();
        tauri::async_runtime::spawn(async move {
            let say = |text: &str, kind| app.dialog().message(text).title("MAST").kind(kind).show(|_| {});
            let update = match look(&app).await {
                Ok(Some(update)) => update,
                Ok(None) => return say("MAST is up to date.", MessageDialogKind::Info),
                Err(why) => return say(&why, MessageDialogKind::Error),
            };
            let (answer, asked) = tokio::sync::oneshot::channel();
            app.dialog()
                .message(format!(
                    "MAST {} is there. Connections wait about a second while it is put in place.",
                    update.version
                ))
                .title("MAST")
                .buttons(MessageDialogButtons::OkCancelCustom("Install".into(), "Not now".into()))
                .show(|yes| {
                    // Nobody waits where the app ends.
                    let _ = answer.send(yes);
                });
            if asked.await != Ok(true) {
                return;
            }
            let done = async { hand_over(fetch(&update).await?, update.download_url.path()).await };
            if let Err(why) = done.await {
                say(&why, MessageDialogKind::Error);
            }
        });
    }
}

/// Has a builder of the app look for updates, if it was built to.
pub fn with(builder: Builder<Wry>, config: &mut Config) -> Builder<Wry> {
    #[cfg(feature = "updater")]
    if let Some(channel) = Channel::built_in() {
        channel.configure(config, false);
        return builder.plugin(tauri_plugin_updater::Builder::new().build());
    }
    let _ = config;
    builder
}
