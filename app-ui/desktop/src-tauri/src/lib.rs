//! The desktop app: a window, a tray icon, notifications. It talks to `mastd` through `core/control` alone, and runs
//! as the user.
//!
//! One task keeps the [`link`] to the service and what it says. Whenever that changes, the [`publish`]er makes one
//! [`snapshot`] of it, which the page renders, the [`tray`] shows, and [`notify`] judges. What the page and the
//! tray want done goes through [`commands`].

mod args;
mod bundle;
mod commands;
mod icon;
mod link;
mod mend;
mod news;
mod notify;
mod now;
mod panel;
mod portal;
mod publish;
mod qr;
#[cfg(test)]
mod record;
mod refusal;
mod said;
mod secrets;
mod settings;
mod shared;
mod snapshot;
mod system;
mod throughput;
mod tray;
pub mod updates;
mod window;

use std::process::ExitCode;
use std::sync::Arc;

use tauri::{Manager, RunEvent};

pub use args::Args;
pub use commands::handler;
pub use link::keep as keep_link;
pub use shared::Shared;

/// Runs the app until the user quits it.
pub fn main() -> ExitCode {
    let args = Args::of(std::env::args_os());
    let shared = Arc::new(Shared::new(&args, settings::directory()));
    let hidden = args.hidden;
    let setup = Arc::clone(&shared);
    let mut context = tauri::generate_context!();
    let app = updates::with(tauri::Builder::default(), context.config_mut())
        // First: a second instance shall do nothing else.
        .plugin(tauri_plugin_single_instance::init(|app, arguments, _| {
            if let Some(link) = args::link(&arguments) {
                app.state::<Arc<Shared>>().offer(link);
                window::show(app, Some("add"));
            } else if !arguments.iter().any(|a| a == "--hidden") {
                window::show(app, None);
            }
        }))
        .plugin(tauri_plugin_autostart::init(
            tauri_plugin_autostart::MacosLauncher::LaunchAgent,
            Some(vec!["--hidden"]),
        ))
        .plugin(tauri_plugin_clipboard_manager::init())
        .plugin(tauri_plugin_dialog::init())
        .plugin(tauri_plugin_notification::init())
        .plugin(window::memory())
        .manage(Arc::clone(&shared))
        .invoke_handler(commands::handler())
        .setup(move |app| {
            let has_tray = tray::install(app.handle()).inspect_err(|why| {
                eprintln!("mast-desktop: no tray icon: {why}");
                setup.no_tray_library();
            });
            // Without a tray icon there would be no way to the window.
            if setup.is_offered() {
                window::show(app.handle(), Some("add"));
            } else if has_tray.is_err() || !hidden {
                window::show(app.handle(), None);
            }
            panel::follow(app.handle(), &setup, hidden && has_tray.is_ok());
            portal::follow(Arc::clone(&setup));
            tauri::async_runtime::spawn(link::keep(Arc::clone(&setup)));
            tauri::async_runtime::spawn(publish::run(app.handle().clone(), Arc::clone(&setup)));
            Ok(())
        })
        .build(context);
    let app = match app {
        Ok(app) => app,
        Err(error) => {
            eprintln!("mast-desktop: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    app.run(|app, event| {
        let open = |links: &[String]| {
            if let Some(link) = args::link(links) {
                app.state::<Arc<Shared>>().offer(link);
                window::show(app, Some("add"));
            }
        };
        system::wish(&event, open, || window::show(app, None));
        // The last window was closed: the tray icon stays. Quitting gives a code.
        if let RunEvent::ExitRequested { api, code: None, .. } = event {
            api.prevent_exit();
        }
    });
    ExitCode::SUCCESS
}
