//! A panel with a place for tray icons: the watcher of StatusNotifierItem, and a hand that opens the menu
//! (`com.canonical.dbusmenu`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use zbus::blocking::{Connection, Proxy};
use zbus::message::Header;
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value};

use crate::Desk;

type Items = Arc<Mutex<Vec<(String, String)>>>;

struct Watcher {
    items: Items,
}

#[zbus::interface(name = "org.kde.StatusNotifierWatcher")]
impl Watcher {
    fn register_status_notifier_item(&self, service: &str, #[zbus(header)] header: Header<'_>) {
        let sender = header.sender().map(ToString::to_string).unwrap_or_default();
        // Either a bus name, or a path at the sender.
        let item = match service.starts_with('/') {
            true => (sender, service.to_owned()),
            false => (service.to_owned(), "/StatusNotifierItem".to_owned()),
        };
        self.items.lock().unwrap().push(item);
    }

    fn register_status_notifier_host(&self, _service: &str) {}

    #[zbus(property)]
    fn registered_status_notifier_items(&self) -> Vec<String> {
        self.items.lock().unwrap().iter().map(|(bus, path)| format!("{bus}{path}")).collect()
    }

    #[zbus(property)]
    fn is_status_notifier_host_registered(&self) -> bool {
        true
    }

    #[zbus(property)]
    fn protocol_version(&self) -> i32 {
        0
    }
}

/// The panel. It must be there before the app.
pub struct Tray {
    bus: Connection,
    items: Items,
}

/// An item of the tray icon's menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    id: i32,
    /// What it says, without the mark of its access key.
    pub label: String,
    /// Whether it can be clicked.
    pub enabled: bool,
    /// Whether it is marked, where it can be.
    pub on: bool,
    /// Whether it is one of several that exclude each other, or can be marked by itself: `radio`, `checkmark`, or
    /// empty.
    pub toggle: String,
    /// The items of its submenu.
    pub children: Vec<Item>,
}

impl Tray {
    /// Puts up the panel.
    pub fn new(desk: &Desk) -> Self {
        let bus = desk.connection();
        let items = Items::default();
        let watcher = Watcher { items: Arc::clone(&items) };
        bus.object_server().at("/StatusNotifierWatcher", watcher).unwrap();
        bus.request_name("org.kde.StatusNotifierWatcher").unwrap();
        Self { bus, items }
    }

    /// Waits for the app's icon.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait(&self) {
        let start = Instant::now();
        while self.items.lock().unwrap().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(20), "no tray icon comes");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How many programs put up an icon; one may do so again.
    pub fn count(&self) -> usize {
        let items = self.items.lock().unwrap();
        items.iter().map(|(bus, _)| bus).collect::<std::collections::BTreeSet<_>>().len()
    }

    fn item(&self) -> (String, String) {
        self.items.lock().unwrap().last().cloned().expect("no tray icon")
    }

    /// The name of the icon's picture, a file's path.
    pub fn icon(&self) -> String {
        let (bus, path) = self.item();
        let item = Proxy::new(&self.bus, bus, path, "org.kde.StatusNotifierItem").unwrap();
        item.get_property::<String>("IconName").unwrap()
    }

    fn proxy(&self) -> Proxy<'static> {
        let (bus, path) = self.item();
        let item = Proxy::new(&self.bus, bus.clone(), path, "org.kde.StatusNotifierItem").unwrap();
        let menu: OwnedObjectPath = item.get_property("Menu").unwrap();
        Proxy::new_owned(self.bus.clone(), bus, menu, "com.canonical.dbusmenu").unwrap()
    }

    /// The menu as it is now.
    pub fn menu(&self) -> Vec<Item> {
        let names: Vec<&str> = Vec::new();
        let message = self.proxy().call_method("GetLayout", &(0_i32, -1_i32, names)).unwrap();
        let (_, root): (u32, Layout) = message.body().deserialize().unwrap();
        read(root).children
    }

    /// The item that begins so, in the menu or a submenu.
    pub fn find(&self, label: &str) -> Option<Item> {
        fn search(items: &[Item], label: &str) -> Option<Item> {
            items.iter().find_map(|i| {
                if i.label.starts_with(label) { Some(i.clone()) } else { search(&i.children, label) }
            })
        }
        search(&self.menu(), label)
    }

    /// Clicks the item that begins so, once it is there.
    ///
    /// # Panics
    /// When it does not come.
    pub fn click(&self, label: &str) {
        let start = Instant::now();
        loop {
            if let Some(item) = self.find(label).filter(|i| i.enabled) {
                let nothing = Value::from(0_i32);
                self.proxy().call_method("Event", &(item.id, "clicked", nothing, 0_u32)).unwrap();
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "no `{label}` in the menu: {:#?}",
                self.menu()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Number, properties, children: `(ia{sv}av)`.
type Layout = (i32, HashMap<String, OwnedValue>, Vec<OwnedValue>);

fn read((id, properties, children): Layout) -> Item {
    let text = |name: &str| properties.get(name).and_then(|v| String::try_from(v.clone()).ok());
    let flag = |name: &str| properties.get(name).and_then(|v| bool::try_from(v).ok());
    let state = properties.get("toggle-state").and_then(|v| i32::try_from(v).ok());
    Item {
        id,
        label: text("label").unwrap_or_default().replace('_', ""),
        enabled: flag("enabled").unwrap_or(true),
        on: state == Some(1),
        toggle: text("toggle-type").unwrap_or_default(),
        children: children
            .into_iter()
            .map(|child| read(Layout::try_from(Value::from(child)).unwrap()))
            .collect(),
    }
}
