//! The panel of the desktop: whether it has a place for the tray icon, and whether it is dark.

use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::time::Duration;

use serde::Serialize;
use tauri::{AppHandle, Runtime};

use crate::shared::Shared;
#[cfg(target_os = "linux")]
use crate::window;

/// A panel may come up later than the app when the user logs in. Nobody misses the icon for so long.
#[cfg(target_os = "linux")]
const GRACE: Duration = Duration::from_secs(8);

/// Whether the tray icon can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum Place {
    /// It can, as far as is known.
    #[default]
    Shown,
    /// No program shows tray icons.
    NoHost,
    /// The library that puts them up is missing.
    NoLibrary,
}

/// The tray icon, for the page.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Tray {
    /// Whether it can be seen.
    pub place: Place,
    /// Where it cannot: why, and what to do.
    pub detail: String,
}

impl From<Place> for Tray {
    fn from(place: Place) -> Self {
        let why = match place {
            Place::Shown => return Self::default(),
            Place::NoHost => {
                "No panel of this desktop shows tray icons. On GNOME, switch on the extension AppIndicator (package \
                 gnome-shell-extension-appindicator); elsewhere, add the system tray to the panel."
            }
            Place::NoLibrary => {
                "The library for tray icons is missing: install libayatana-appindicator3-1 and start MAST again."
            }
        };
        let more = "Closing this window keeps MAST running; start MAST again to open it.";
        Self { place, detail: format!("{why} {more}") }
    }
}

/// What is known of the panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panel {
    /// Whether the icon can be seen.
    pub place: Place,
    /// Whether it is dark: the icon is light then.
    pub dark: bool,
}

impl Default for Panel {
    fn default() -> Self {
        Self { place: Place::default(), dark: is_dark(Scheme::None) }
    }
}

/// What the desktop prefers.
#[cfg_attr(target_os = "macos", allow(dead_code, reason = "it colours the icon itself"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    None,
    Dark,
    Light,
}

/// The variable decides; then the panels of GNOME and Ubuntu are dark whatever the theme; others follow the theme, and
/// most of those that do not tell are dark.
fn is_dark(scheme: Scheme) -> bool {
    match std::env::var("MAST_PANEL").as_deref() {
        Ok("light") => return false,
        Ok("dark") => return true,
        _ => {}
    }
    let desktop = std::env::var("XDG_CURRENT_DESKTOP").unwrap_or_default();
    scheme != Scheme::Light || desktop.split(':').any(|name| matches!(name, "GNOME" | "Unity" | "ubuntu"))
}

impl Shared {
    fn set_panel(&self, change: impl FnOnce(&mut Panel)) {
        let mut view = self.view();
        let before = view.panel;
        change(&mut view.panel);
        if view.panel != before {
            self.changed.notify_one();
        }
    }

    /// The library for tray icons is missing.
    pub fn no_tray_library(&self) {
        self.set_panel(|panel| panel.place = Place::NoLibrary);
    }
}

/// Follows the panel for as long as the app runs. Where it shows no icon, the window opens: there is no other way to it.
#[cfg(target_os = "linux")]
pub fn follow<R: Runtime>(app: &AppHandle<R>, shared: &Arc<Shared>, hidden: bool) {
    let seen = Arc::clone(shared);
    let work = move || {
        if let Err(error) = dbus::listen(&seen) {
            eprintln!("mast-desktop: the panel is not known: {error}");
            seen.set_panel(|panel| {
                if panel.place == Place::Shown {
                    panel.place = Place::NoHost;
                }
            });
        }
    };
    if let Err(error) = std::thread::Builder::new().name("mast-panel".into()).spawn(work) {
        eprintln!("mast-desktop: no thread: {error}");
    }
    if hidden {
        let (app, shared) = (app.clone(), Arc::clone(shared));
        tauri::async_runtime::spawn(async move {
            tokio::time::sleep(GRACE).await;
            if shared.view().panel.place != Place::Shown {
                let show = app.clone();
                // It fails only where the app ends.
                let _ = app.run_on_main_thread(move || window::show(&show, None));
            }
        });
    }
}

/// Follows the colour of the taskbar for as long as the app runs. It always has a place for the icon.
#[cfg(windows)]
pub fn follow<R: Runtime>(_: &AppHandle<R>, shared: &Arc<Shared>, _: bool) {
    let shared = Arc::clone(shared);
    let seen = move |light| {
        let scheme = if light { Scheme::Light } else { Scheme::Dark };
        shared.set_panel(|panel| panel.dark = is_dark(scheme));
    };
    let work = move || {
        taskbar::follow(seen).unwrap_or_else(|e| eprintln!("mast-desktop: the taskbar's colour: {e}"))
    };
    if let Err(error) = std::thread::Builder::new().name("mast-panel".into()).spawn(work) {
        eprintln!("mast-desktop: no thread: {error}");
    }
}

/// Follows nobody: a Mac always has a place, and colours the icon itself.
#[cfg(target_os = "macos")]
pub fn follow<R: Runtime>(_: &AppHandle<R>, _: &Arc<Shared>, _: bool) {}

#[cfg(windows)]
mod taskbar {
    use std::io;
    use std::ptr::{null, null_mut};

    use windows_sys::Win32::Foundation::{ERROR_SUCCESS, WIN32_ERROR};
    use windows_sys::Win32::System::Registry::{
        HKEY, HKEY_CURRENT_USER, KEY_READ, REG_NOTIFY_CHANGE_LAST_SET, RRF_RT_REG_DWORD, RegCloseKey,
        RegGetValueW, RegNotifyChangeKeyValue, RegOpenKeyExW,
    };
    use windows_sys::w;

    struct Key(HKEY);

    impl Drop for Key {
        fn drop(&mut self) {
            // SAFETY: it was opened, and is closed once.
            unsafe { RegCloseKey(self.0) };
        }
    }

    fn done(code: WIN32_ERROR) -> io::Result<()> {
        match code {
            ERROR_SUCCESS => Ok(()),
            code => Err(io::Error::from_raw_os_error(code.cast_signed())),
        }
    }

    /// Tells whether the taskbar is light, now and whenever the user changes colours. Sleeps in between.
    pub(super) fn follow(seen: impl Fn(bool)) -> io::Result<()> {
        let mut key = Key(null_mut());
        let path = w!("Software\\Microsoft\\Windows\\CurrentVersion\\Themes\\Personalize");
        // SAFETY: the path is a string that ends, and the key is written to what lives.
        done(unsafe { RegOpenKeyExW(HKEY_CURRENT_USER, path, 0, KEY_READ, &mut key.0) })?;
        loop {
            seen(is_light(&key));
            // SAFETY: the key is open; without an event it is waited for here.
            done(unsafe { RegNotifyChangeKeyValue(key.0, 0, REG_NOTIFY_CHANGE_LAST_SET, null_mut(), 0) })?;
        }
    }

    /// A Windows that does not say has a dark one.
    fn is_light(key: &Key) -> bool {
        let (mut value, mut size) = (0_u32, 4_u32);
        let name = w!("SystemUsesLightTheme");
        // SAFETY: the value has room for as many bytes as is said, and only such a number is asked for.
        let code = unsafe {
            let to = (&raw mut value).cast();
            RegGetValueW(key.0, null(), name, RRF_RT_REG_DWORD, null_mut(), to, &mut size)
        };
        code == ERROR_SUCCESS && value != 0
    }
}

#[cfg(target_os = "linux")]
mod dbus {
    use zbus::blocking::{Connection, MessageIterator, Proxy, fdo::DBusProxy};
    use zbus::zvariant::{OwnedValue, Value};

    use super::{Place, Scheme, is_dark};
    use crate::shared::Shared;

    const WATCHER: &str = "org.kde.StatusNotifierWatcher";
    const PORTAL: &str = "org.freedesktop.portal.Desktop";
    const SETTINGS: &str = "org.freedesktop.portal.Settings";

    pub(super) fn listen(shared: &Shared) -> zbus::Result<()> {
        // Answers would come among the signals, so that they are asked for elsewhere.
        let (signals, bus) = (Connection::session()?, Connection::session()?);
        let control = DBusProxy::new(&signals)?;
        for rule in [
            format!("type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{WATCHER}'"),
            format!("type='signal',interface='{WATCHER}'"),
            format!(
                "type='signal',interface='{SETTINGS}',member='SettingChanged',arg0='org.freedesktop.appearance'"
            ),
        ] {
            control.add_match_rule(rule.as_str().try_into()?)?;
        }
        let messages = MessageIterator::from(&signals);
        look(shared, &bus);
        for message in messages {
            if message?.message_type() == zbus::message::Type::Signal {
                look(shared, &bus);
            }
        }
        Ok(())
    }

    fn look(shared: &Shared, bus: &Connection) {
        let host = has_host(bus);
        let dark = is_dark(scheme(bus));
        shared.set_panel(|panel| {
            panel.dark = dark;
            if panel.place != Place::NoLibrary {
                panel.place = if host { Place::Shown } else { Place::NoHost };
            }
        });
    }

    /// Whether some panel shows the icons that are registered.
    fn has_host(bus: &Connection) -> bool {
        let watcher = Proxy::new(bus, WATCHER, "/StatusNotifierWatcher", WATCHER);
        watcher.is_ok_and(|w| w.get_property::<bool>("IsStatusNotifierHostRegistered").unwrap_or(false))
    }

    /// What the desktop prefers, where it says so.
    fn scheme(bus: &Connection) -> Scheme {
        let ask = || -> zbus::Result<u32> {
            let portal = Proxy::new(bus, PORTAL, "/org/freedesktop/portal/desktop", SETTINGS)?;
            let answer: OwnedValue = portal.call("Read", &("org.freedesktop.appearance", "color-scheme"))?;
            // A variant in a variant, as this method always answered.
            let mut value: Value<'_> = answer.into();
            while let Value::Value(inner) = value {
                value = *inner;
            }
            Ok(value.downcast()?)
        };
        match ask() {
            Ok(1) => Scheme::Dark,
            Ok(2) => Scheme::Light,
            _ => Scheme::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_icon_is_shown_it_is_said_how_to_get_one_and_what_closing_does() {
        assert!(Tray::from(Place::Shown).detail.is_empty());
        for place in [Place::NoHost, Place::NoLibrary] {
            let said = Tray::from(place).detail;
            assert!(said.contains("install") || said.contains("switch on"), "{said}");
            assert!(said.contains("keeps MAST running"), "{said}");
        }
    }
}
