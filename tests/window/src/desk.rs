//! The desktop: display, bus, home directory, key store.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::Running;

/// A desktop of one user. The key store is there, unlocked, unless asked otherwise.
pub struct Desk {
    bus: String,
    display: String,
    home: TempDir,
    keys: Option<Running>,
    // Ended last, in this order.
    _bus: Running,
    _screen: Running,
}

impl Desk {
    /// A desktop with a key store.
    pub fn new() -> Self {
        let mut desk = Self::without_keys();
        desk.unlock_keys();
        desk
    }

    /// A desktop where nobody keeps secrets.
    pub fn without_keys() -> Self {
        let home = TempDir::with_prefix("mast-desk-").unwrap();
        for (directory, mode) in [("run", 0o700), ("config", 0o755), ("data", 0o755), ("cache", 0o755)] {
            let path = home.path().join(directory);
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        }
        let (screen, display) = start_screen();
        let (bus_process, bus) = start_bus(home.path());
        Self { bus, display, home, keys: None, _bus: bus_process, _screen: screen }
    }

    /// Starts the key store, with its default collection open.
    pub fn unlock_keys(&mut self) {
        let mut command = self.command("gnome-keyring-daemon");
        command.args(["--unlock", "--components=secrets", "--foreground"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut keys = Running::start_with_input(command);
        // The password of the collection, which it makes at its first start.
        keys.child().stdin.take().unwrap().write_all(b"correct horse").unwrap();
        self.keys = Some(keys);
        let owned = || {
            let bus = self.connection();
            let names = zbus::blocking::fdo::DBusProxy::new(&bus).unwrap();
            names.name_has_owner("org.freedesktop.secrets".try_into().unwrap()).unwrap()
        };
        for _ in 0..500 {
            if owned() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the key store does not come");
    }

    /// Ends the key store; what it keeps is still on disk.
    pub fn take_keys_away(&mut self) {
        self.keys = None;
    }

    /// A command of this user at this desktop.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let at = |name: &str| self.home.path().join(name);
        command
            .env("HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", at("run"))
            .env("XDG_CONFIG_HOME", at("config"))
            .env("XDG_DATA_HOME", at("data"))
            .env("XDG_CACHE_HOME", at("cache"))
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus)
            // What the system knows, this desktop's tests say.
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus)
            .env("DISPLAY", &self.display)
            .env("GDK_BACKEND", "x11")
            .env("LIBGL_ALWAYS_SOFTWARE", "1")
            .env("NO_AT_BRIDGE", "1")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("WAYLAND_DISPLAY")
            .env_remove("XDG_CURRENT_DESKTOP")
            .env_remove("MAST_PANEL")
            .env_remove("GNOME_KEYRING_CONTROL");
        command
    }

    /// The user's home directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A connection to the session bus.
    pub fn connection(&self) -> zbus::blocking::Connection {
        zbus::blocking::connection::Builder::address(self.bus.as_str()).unwrap().build().unwrap()
    }

    /// The app as cargo built it, beside the test that runs now.
    ///
    /// # Panics
    /// When it has not been built.
    pub fn app() -> PathBuf {
        let here = std::env::current_exe().unwrap();
        let found = here.ancestors().skip(1).take(3).map(|d| d.join("mast-desktop")).find(|p| p.is_file());
        found.expect("`mast-desktop` is not built: run `cargo build --release -p mast-desktop` first")
    }
}

impl Default for Desk {
    fn default() -> Self {
        Self::new()
    }
}

/// The X server chooses a free display and says which.
fn start_screen() -> (Running, String) {
    let (read, write) = nix::unistd::pipe().unwrap();
    let mut command = Command::new("Xvfb");
    command
        .args([
            "-displayfd",
            &write.as_raw_fd().to_string(),
            "-screen",
            "0",
            "1400x1000x24",
            "-nolisten",
            "tcp",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let screen = Running::start(command);
    drop(write);
    let mut number = String::new();
    BufReader::new(std::fs::File::from(read)).read_line(&mut number).unwrap();
    assert!(!number.trim().is_empty(), "the X server does not come up");
    (screen, format!(":{}", number.trim()))
}

fn start_bus(home: &Path) -> (Running, String) {
    let mut command = Command::new("dbus-daemon");
    command
        .args(["--session", "--nofork", "--nopidfile", "--print-address"])
        .arg(format!("--address=unix:dir={}", home.join("run").display()))
        .env("XDG_RUNTIME_DIR", home.join("run"))
        .env("HOME", home)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut bus = Running::start(command);
    let mut address = String::new();
    BufReader::new(bus.child().stdout.take().unwrap()).read_line(&mut address).unwrap();
    assert!(!address.trim().is_empty(), "the session bus does not come up");
    (bus, address.trim().to_owned())
}
