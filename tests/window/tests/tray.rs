//! The tray icon, with the window closed.

use std::path::Path;

use mast_e2e::{PATIENCE, Scene, lab, within};
use mast_window::{Appearance, Desk, Page, Running, Tray};

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
        within(PATIENCE, "an item that pauses", || corner.tray.find("Pause for an hour").is_some());
        let up = corner.tray.icon();
        corner.tray.click("Pause for an hour");
        within(PATIENCE, "a pause", || corner.scene.laptop.status().unwrap().paused_until.is_some());
        within(PATIENCE, "another icon", || corner.tray.icon() != up);
        corner.tray.click("Resume");
        within(PATIENCE, "the tunnel is up", || corner.is_up());
    });
}

#[test]
fn quitting_leaves_the_tunnel_as_it_is() {
    lab(|| {
        let mut corner = Corner::new();
        // A click on a menu that is just being replaced may come too late.
        within(PATIENCE, "an item that switches off", || corner.tray.find("Turn off").is_some());
        corner.tray.click("Quit");
        assert!(corner.app.ends_within(PATIENCE), "the app does not quit");
        assert!(corner.is_up());
    });
}

#[test]
fn where_no_panel_shows_the_icon_the_window_opens_and_says_how_to_get_it() {
    lab(|| {
        let desk = Desk::new();
        let nowhere = desk.home().join("nowhere.sock");
        // Nobody asked for the window, and there is no other way to it.
        let page = Page::open(&desk, &["--hidden", "--socket", nowhere.to_str().unwrap()]);
        let said = page.find("banner-tray").text();
        assert!(said.contains("AppIndicator") && said.contains("keeps MAST running"), "{said}");
        // A panel that comes later has the last word.
        let tray = Tray::new(&desk);
        page.wait("that the icon is seen", PATIENCE, |p| p.look("banner-tray").is_none());
        drop(tray);
    });
}

#[test]
fn the_icon_follows_what_the_desktop_prefers() {
    lab(|| {
        let desk = Desk::new();
        let tray = Tray::new(&desk);
        let appearance = Appearance::new(&desk, Appearance::DARK);
        let nowhere = desk.home().join("nowhere.sock");
        let mut command = desk.command(Desk::app());
        command.arg("--hidden").arg("--socket").arg(nowhere);
        let _app = Running::start(command);
        tray.wait();
        let brightness = |tray: &Tray| -> Option<u64> {
            let picture =
                std::fs::read(tray.icon()).or_else(|_| std::fs::read(format!("{}.png", tray.icon())));
            let picture = image::load_from_memory(&picture.ok()?).ok()?.to_rgba8();
            let seen: Vec<u64> =
                picture.pixels().filter(|p| p.0[3] > 200).map(|p| u64::from(p.0[0])).collect();
            seen.iter().sum::<u64>().checked_div(seen.len() as u64)
        };
        within(PATIENCE, "a light icon", || brightness(&tray).is_some_and(|b| b > 200));
        appearance.set(Appearance::LIGHT);
        within(PATIENCE, "a dark icon", || brightness(&tray).is_some_and(|b| b < 60));
        appearance.set(Appearance::DARK);
        within(PATIENCE, "a light icon again", || brightness(&tray).is_some_and(|b| b > 200));
    });
}
