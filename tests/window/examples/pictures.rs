//! Takes pictures of the real window on real daemons: `cargo run --release -p mast-window --example pictures -- DIR`.

#![allow(clippy::unwrap_used, reason = "a tool of developers")]

use std::path::PathBuf;

use mast_e2e::{PATIENCE, Scene, Session, sleep};
use mast_window::{Desk, Page, Tray};

fn main() {
    let directory = PathBuf::from(std::env::args_os().nth(1).expect("a directory"));
    std::fs::create_dir_all(&directory).unwrap();
    let scene = Scene::new();
    let session = Session::start(&scene.laptop, &scene.server);
    let desk = Desk::new();
    let _tray = Tray::new(&desk);
    let socket = scene.laptop.control();
    let page = Page::open(&desk, &["--socket", socket.to_str().unwrap()]);
    page.wait("a good light", PATIENCE, |p| {
        p.look("now-light").and_then(|l| l.attribute("data-light")).as_deref() == Some("good")
    });
    // Something to tell of, and a minute of traffic.
    scene.train.set_wifi(false).unwrap();
    sleep(3_000);
    scene.train.set_wifi(true).unwrap();
    sleep(30_000);
    for theme in ["light", "dark"] {
        page.run(&format!("document.documentElement.dataset.theme = '{theme}'"));
        for section in [
            "now",
            "interfaces",
            "preference",
            "peers",
            "story",
            "data",
            "add",
            "invite",
            "drill",
            "settings",
        ] {
            page.find(&format!("nav-{section}")).click();
            sleep(1_500);
            page.picture(&directory.join(format!("{section}-{theme}.png")));
        }
    }
    drop(page);
    session.survives();
}
