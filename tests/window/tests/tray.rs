//! The tray icon, with the window closed.

use std::path::Path;

use mast_e2e::{PATIENCE, Scene, lab, within};
use mast_window::{Desk, Running, Tray};

struct Corner {
    app: Running,
    tray: Tray,
    scene: Scene,
    _desk: Desk,
}

impl Corner {
    fn new() -> Self {
        let scene = Scene::new();
        let desk = Desk::new();
        let tray = Tray::new(&desk);
        let mut command = desk.command(Desk::app());
        command.arg("--hidden").arg("--socket").arg(scene.laptop.control());
        let app = Running::start(command);
        tray.wait();
        Self { app, tray, scene, _desk: desk }
    }

    fn is_up(&self) -> bool {
        self.scene.laptop.status().unwrap().up
    }
}

#[test]
fn the_tunnel_is_toggled_from_the_tray() {
    lab(|| {
        let corner = Corner::new();
        within(PATIENCE, "an item that switches off", || corner.tray.find("Turn off").is_some());
        let up = corner.tray.icon();
        assert!(Path::new(&up).is_absolute() || !up.is_empty(), "no icon: {up}");
        corner.tray.click("Turn off");
        within(PATIENCE, "the tunnel is down", || !corner.is_up());
        within(PATIENCE, "another icon", || corner.tray.icon() != up);
        corner.tray.click("Turn on");
        within(PATIENCE, "the tunnel is up", || corner.is_up());
    });
}

#[test]
fn a_path_is_pinned_from_the_tray() {
    lab(|| {
        let corner = Corner::new();
        let marked = |label: &str| corner.tray.find(label).is_some_and(|i| i.on);
        within(PATIENCE, "`Automatic` is marked", || marked("Automatic"));
        corner.tray.click("cell");
        corner.scene.wait_active("cell");
        within(PATIENCE, "`cell` is marked, and nothing else", || marked("cell") && !marked("Automatic"));
        corner.tray.click("Automatic");
        corner.scene.wait_active("wifi");
    });
}

#[test]
fn a_pause_and_its_end() {
    lab(|| {
        let corner = Corner::new();
        corner.tray.click("Pause for an hour");
        within(PATIENCE, "a pause", || corner.scene.laptop.status().unwrap().paused_until.is_some());
        corner.tray.click("Resume");
        within(PATIENCE, "the tunnel is up", || corner.is_up());
    });
}

#[test]
fn quitting_leaves_the_tunnel_as_it_is() {
    lab(|| {
        let mut corner = Corner::new();
        corner.tray.click("Quit");
        assert!(corner.app.ends_within(PATIENCE), "the app does not quit");
        assert!(corner.is_up());
    });
}
