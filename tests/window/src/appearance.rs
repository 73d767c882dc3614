//! The desktop's preference for light or dark, as its portal tells it (`org.freedesktop.portal.Settings`).

use std::sync::{Arc, Mutex};

use zbus::blocking::Connection;
use zbus::zvariant::{OwnedValue, Value};

use crate::Desk;

const PATH: &str = "/org/freedesktop/portal/desktop";

struct Settings {
    scheme: Arc<Mutex<u32>>,
}

#[zbus::interface(name = "org.freedesktop.portal.Settings")]
impl Settings {
    fn read(&self, _namespace: &str, _key: &str) -> OwnedValue {
        // A variant in a variant, as this method always answered.
        let value = Value::new(Value::from(*self.scheme.lock().unwrap()));
        value.try_into().unwrap()
    }
}

/// The portal.
pub struct Appearance {
    bus: Connection,
    scheme: Arc<Mutex<u32>>,
}

impl Appearance {
    /// The desktop prefers dark.
    pub const DARK: u32 = 1;
    /// The desktop prefers light.
    pub const LIGHT: u32 = 2;

    /// Puts up the portal.
    pub fn new(desk: &Desk, scheme: u32) -> Self {
        let bus = desk.connection();
        let scheme = Arc::new(Mutex::new(scheme));
        bus.object_server().at(PATH, Settings { scheme: Arc::clone(&scheme) }).unwrap();
        bus.request_name("org.freedesktop.portal.Desktop").unwrap();
        Self { bus, scheme }
    }

    /// The user prefers another.
    pub fn set(&self, scheme: u32) {
        *self.scheme.lock().unwrap() = scheme;
        let changed = ("org.freedesktop.appearance", "color-scheme", Value::from(scheme));
        let interface = "org.freedesktop.portal.Settings";
        self.bus.emit_signal(None::<&str>, PATH, interface, "SettingChanged", &changed).unwrap();
    }
}
