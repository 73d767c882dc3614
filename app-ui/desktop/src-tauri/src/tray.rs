//! The tray icon and its menu. It works with the window closed.

use std::sync::Arc;

use mast_control::words::{Light, called, policy as policy_words};
use mast_control::{Pause, PolicyMode, PolicySet, Request, Status};
use tauri::image::Image;
use tauri::menu::{CheckMenuItem, IsMenuItem, Menu, MenuItem, PredefinedMenuItem, Submenu};
use tauri::tray::TrayIconBuilder;
use tauri::{AppHandle, Manager, Runtime};
use tauri_plugin_notification::NotificationExt;

use crate::link::State;
use crate::panel::Panel;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::updates::{self, Channel};
use crate::{icon, window};

const ID: &str = "mast";
const HOUR: u64 = 3600;

/// What the menu says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Model {
    light: Light,
    sentence: String,
    /// None where nothing can be changed.
    toggle: Option<bool>,
    paused: bool,
    active: Option<String>,
    /// Name, what it is called, whether data is pinned to it.
    pins: Vec<(String, String, bool)>,
    automatic: bool,
    /// Who has a choice of their own, and keeps it.
    own: Option<String>,
    dark: bool,
}

impl Model {
    fn of(snapshot: &Snapshot, panel: Panel) -> Self {
        let status = snapshot.status.as_ref();
        let usable = snapshot.service.state == State::Ok && snapshot.service.may_change;
        let policy = status.and_then(policy);
        let first =
            policy.as_ref().filter(|p| p.mode == PolicyMode::Pin).and_then(|p| p.pin.first().cloned());
        let active = status.and_then(|s| {
            let path = s.peers.iter().flat_map(|p| &p.paths).find(|p| p.active)?;
            Some(called(s, &path.interface))
        });
        let pins = status.map(|s| {
            let wanted = s.interfaces.iter().filter(|i| !i.excluded);
            wanted.map(|i| (i.name.clone(), called(s, &i.name), first.as_deref() == Some(&i.name))).collect()
        });
        Self {
            light: snapshot.now.light,
            sentence: snapshot.now.sentence.clone(),
            toggle: status.filter(|_| usable).map(|s| s.up),
            paused: status.is_some_and(|s| s.paused_until.is_some()),
            active,
            pins: pins.unwrap_or_default(),
            automatic: policy.is_some_and(|p| p.mode == PolicyMode::Auto),
            own: status.and_then(own),
            dark: panel.dark,
        }
    }
}

/// The policy of all; an older service does not tell it, so that it is that of whoever follows it.
fn policy(status: &Status) -> Option<mast_control::PolicyStatus> {
    let followed = || status.peers.iter().find(|p| !p.own_policy).map(|p| p.policy.clone());
    status.policy.clone().or_else(followed)
}

/// Who has a choice of their own, which a choice for all leaves alone.
fn own(status: &Status) -> Option<String> {
    let own: Vec<_> = status.peers.iter().filter(|p| p.own_policy).collect();
    match own.as_slice() {
        [] => None,
        [one] => Some(format!("{} keeps its own: {}", one.name, policy_words(&one.policy))),
        several => Some(format!("{} peers keep their own", several.len())),
    }
}

/// What the tray shows now.
#[derive(Debug, Default)]
pub struct Shown(Option<Model>);

impl Shown {
    /// Shows what changed; a menu that is open must not blink for nothing.
    pub fn update<R: Runtime>(&mut self, app: &AppHandle<R>, snapshot: &Snapshot, panel: Panel) {
        let model = Model::of(snapshot, panel);
        if self.0.as_ref() == Some(&model) {
            return;
        }
        let Some(tray) = app.tray_by_id(ID) else { return };
        if self.0.as_ref().is_none_or(|m| (m.light, m.dark) != (model.light, model.dark))
            && let Some((pixels, side)) = icon::draw(model.light, model.dark)
        {
            let _ = tray.set_icon(Some(Image::new_owned(pixels, side, side)));
        }
        match menu(app, &model) {
            Ok(menu) => {
                let _ = tray.set_menu(Some(menu));
                let _ = tray.set_tooltip(Some(&model.sentence));
            }
            Err(error) => eprintln!("mast-desktop: no menu: {error}"),
        }
        self.0 = Some(model);
    }
}

/// Puts the icon up.
///
/// # Errors
/// When it cannot be put up: why.
pub fn install<R: Runtime>(app: &AppHandle<R>) -> Result<(), String> {
    // The binding to the library panics where the library is not there. That is no reason to end.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| put_up(app)));
    std::panic::set_hook(usual);
    match done {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(panic) => {
            let why = panic.downcast_ref::<String>().cloned();
            Err(why
                .unwrap_or_else(|| "the library for tray icons cannot be loaded".to_owned())
                .replace('\n', "; "))
        }
    }
}

fn put_up<R: Runtime>(app: &AppHandle<R>) -> tauri::Result<()> {
    let model = Model {
        light: Light::Working,
        sentence: "Looking for the service …".into(),
        toggle: None,
        paused: false,
        active: None,
        pins: Vec::new(),
        automatic: false,
        own: None,
        dark: Panel::default().dark,
    };
    // A Mac colours it itself, as its menu bar is light or dark; elsewhere this means nothing.
    let builder = TrayIconBuilder::with_id(ID).icon_as_template(true);
    let mut builder = builder.menu(&menu(app, &model)?).on_menu_event(|app, event| {
        let id = event.id().as_ref().to_owned();
        chosen(app, &id);
    });
    // Panels read the icon from a file: not where everybody may write.
    if let Some(directory) = std::env::var_os("XDG_RUNTIME_DIR") {
        builder = builder.temp_dir_path(std::path::Path::new(&directory).join("mast"));
    }
    if let Some((pixels, side)) = icon::draw(model.light, model.dark) {
        builder = builder.icon(Image::new_owned(pixels, side, side));
    }
    builder.build(app)?;
    Ok(())
}

fn menu<R: Runtime>(app: &AppHandle<R>, model: &Model) -> tauri::Result<Menu<R>> {
    let item = |id: &str, text: &str, enabled| MenuItem::with_id(app, id, text, enabled, None::<&str>);
    let separator = || PredefinedMenuItem::separator(app);
    let (toggle, able) = match model.toggle {
        Some(true) => ("Turn off", true),
        Some(false) => ("Turn on", true),
        None => ("Turn on", false),
    };
    let active = model.active.as_ref().map_or("No active path".into(), |a| format!("Active path: {a}"));
    let check = |id: String, text: &str, on| CheckMenuItem::with_id(app, id, text, able, on, None::<&str>);
    let automatic = check("auto".into(), "Automatic", model.automatic)?;
    let pins = model.pins.iter().map(|(name, called, on)| check(format!("pin:{name}"), called, *on));
    let pins: Vec<_> = pins.collect::<tauri::Result<_>>()?;
    let mut listed: Vec<&dyn IsMenuItem<R>> = vec![&automatic];
    listed.extend(pins.iter().map(|p| p as &dyn IsMenuItem<R>));
    let own = model.own.as_ref().map(|own| item("own", own, false)).transpose()?;
    listed.extend(own.as_ref().map(|own| own as &dyn IsMenuItem<R>));
    let pin = Submenu::with_id_and_items(app, "pin", "Pin to", able, &listed)?;
    let (pause, label) = if model.paused { ("resume", "Resume") } else { ("pause", "Pause for an hour") };
    let menu = Menu::with_items(
        app,
        &[
            &item("sentence", &model.sentence, false)?,
            &item("active", &active, false)?,
            &separator()?,
            &item("toggle", toggle, able)?,
            &item(pause, label, able && (model.paused || model.toggle == Some(true)))?,
            &pin,
            &separator()?,
            &item("open", "Open MAST", true)?,
            &item("quit", "Quit", true)?,
        ],
    )?;
    if Channel::built_in().is_some() {
        // Above the last one.
        let last = menu.items()?.len().saturating_sub(1);
        menu.insert(&item("update", "Check for updates …", true)?, last)?;
    }
    Ok(menu)
}

fn chosen<R: Runtime>(app: &AppHandle<R>, id: &str) {
    let shared = Arc::clone(&app.state::<Arc<Shared>>());
    let up = shared.view().status.as_ref().is_some_and(|s| s.up);
    let pin = |mode, pin| PolicySet { mode, pin, ..PolicySet::default() };
    let request = match id {
        "open" => return window::show(app, None),
        "update" => return updates::offer(app),
        "quit" => return app.exit(0),
        "toggle" if up => Request::Down,
        "toggle" | "resume" => Request::Up,
        "pause" => Request::Pause(Pause { seconds: HOUR }),
        "auto" => Request::PolicySet(pin(PolicyMode::Auto, Vec::new())),
        other => match other.strip_prefix("pin:") {
            Some(name) => Request::PolicySet(pin(PolicyMode::Pin, vec![crate::commands::selector(name)])),
            None => return,
        },
    };
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        if let Err(Refusal { message, .. }) = shared.tell(&request).await {
            // There is no other place to say it while the window is closed.
            let _ = app.notification().builder().title("MAST could not do that").body(message).show();
        }
    });
}
