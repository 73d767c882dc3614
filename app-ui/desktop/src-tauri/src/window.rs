//! The window: made when it is wanted, and gone when it is closed, so that a closed one costs nothing.

use std::sync::Arc;

use tauri::{AppHandle, Emitter, Manager, Runtime, WebviewUrl, WebviewWindowBuilder, WindowEvent};
use tauri_plugin_autostart::ManagerExt;
use tauri_plugin_dialog::{DialogExt, MessageDialogKind};

use crate::shared::Shared;
use crate::system::HERE;

/// The window's label.
pub const LABEL: &str = "main";

/// Has the window come back where it was, and as large as it was.
pub fn memory<R: Runtime>() -> tauri::plugin::TauriPlugin<R> {
    use tauri_plugin_window_state::{Builder, StateFlags};
    // Whether it is shown is for the app to say.
    Builder::new().with_state_flags(StateFlags::SIZE | StateFlags::POSITION | StateFlags::MAXIMIZED).build()
}

/// Shows the window, at a section where one is named.
pub fn show<R: Runtime>(app: &AppHandle<R>, section: Option<&str>) {
    let shared = Arc::clone(&app.state::<Arc<Shared>>());
    if let Some(window) = app.get_webview_window(LABEL) {
        // Each fails only with the window itself.
        let _ = window.unminimize();
        let _ = window.show();
        let _ = window.set_focus();
        if let Some(section) = section {
            let _ = app.emit_to(LABEL, "show", section);
        }
        shared.set_visible(true);
        return;
    }
    let page = format!("index.html#/{}", section.unwrap_or_default());
    let window = WebviewWindowBuilder::new(app, LABEL, WebviewUrl::App(page.into()))
        .title("MAST")
        .inner_size(1000.0, 720.0)
        .min_inner_size(360.0, 480.0)
        .build();
    match window {
        Ok(window) => {
            shared.set_visible(true);
            let app = app.clone();
            window.on_window_event(move |event| match event {
                WindowEvent::Destroyed => shared.set_visible(false),
                WindowEvent::Focused(true) => shared.set_visible(true),
                WindowEvent::Resized(_) => {
                    let window = app.get_webview_window(LABEL);
                    let minimized = window.is_some_and(|w| w.is_minimized().unwrap_or(false));
                    shared.set_visible(!minimized);
                }
                _ => {}
            });
        }
        Err(error) => {
            eprintln!("mast-desktop: no window: {error}");
            if let Some(text) = HERE.without_window(tauri::webview_version().is_ok()) {
                let dialog = app.dialog().message(text).title("MAST").kind(MessageDialogKind::Error);
                dialog.show(|_| {});
            }
        }
    }
}

/// Whether the app starts with the user's session.
pub fn starts_at_login<R: Runtime>(app: &AppHandle<R>) -> bool {
    // Absent in tests.
    app.try_state::<tauri_plugin_autostart::AutoLaunchManager>()
        .is_some_and(|_| app.autolaunch().is_enabled().unwrap_or(false))
}
