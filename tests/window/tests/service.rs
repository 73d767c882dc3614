//! The service goes away, and comes back.

use std::time::Duration;

use mast_e2e::{PATIENCE, Scene, lab};
use mast_window::{Desk, NetworkManager, Page, Running, Tray};

#[test]
fn a_killed_service_is_noticed_within_a_second_and_found_again() {
    lab(|| {
        let mut scene = Scene::new();
        let desk = Desk::new();
        let _tray = Tray::new(&desk);
        let socket = scene.laptop.control();
        let page = Page::open(&desk, &["--socket", socket.to_str().unwrap()]);
        let light = |page: &Page| page.look("now-light").and_then(|e| e.attribute("data-light"));
        page.wait("a good light", PATIENCE, |p| light(p).as_deref() == Some("good"));

        scene.laptop.kill();
        let took = page.wait("that the service is gone", PATIENCE, |p| light(p).as_deref() != Some("good"));
        println!("noticed after {:.0} ms", took.as_secs_f64() * 1e3);
        // A second, and what WebDriver takes to look.
        assert!(took < Duration::from_millis(1500), "noticed only after {took:?}");

        scene.laptop.launch().unwrap();
        page.wait("a good light again", PATIENCE, |p| light(p).as_deref() == Some("good"));
    });
}

#[test]
fn without_a_service_the_page_says_what_to_do() {
    lab(|| {
        let desk = Desk::new();
        let _tray = Tray::new(&desk);
        let nowhere = desk.home().join("nowhere.sock");
        let page = Page::open(&desk, &["--socket", nowhere.to_str().unwrap()]);
        let text = page.find("service-page").text();
        assert!(!text.to_lowercase().contains("panicked"), "{text}");
        assert!(text.contains("mastd"), "{text}");
    });
}

#[test]
fn a_second_start_shows_the_first() {
    lab(|| {
        let desk = Desk::new();
        let tray = Tray::new(&desk);
        let nowhere = desk.home().join("nowhere.sock");
        let arguments = ["--hidden", "--socket", nowhere.to_str().unwrap()];
        let start = || {
            let mut command = desk.command(Desk::app());
            command.args(arguments);
            Running::start(command)
        };
        let mut first = start();
        tray.wait();
        assert!(start().ends_within(Duration::from_secs(10)), "a second instance stays");
        assert!(!first.ends_within(Duration::from_millis(500)), "the first instance ended");
        assert_eq!(tray.count(), 1);
    });
}

#[test]
fn a_network_that_wants_a_login_is_named() {
    lab(|| {
        let scene = Scene::new();
        let desk = Desk::new();
        let _tray = Tray::new(&desk);
        let manager = NetworkManager::new(&desk);
        let socket = scene.laptop.control();
        let page = Page::open(&desk, &["--socket", socket.to_str().unwrap()]);
        let light = |page: &Page| page.look("now-light").and_then(|e| e.attribute("data-light"));
        page.wait("a good light", PATIENCE, |p| light(p).as_deref() == Some("good"));

        // While a peer answers, nobody needs to know.
        manager.find(NetworkManager::PORTAL);
        scene.train.set_cell(false).unwrap();
        assert_eq!(light(&page).as_deref(), Some("good"));

        scene.train.blackhole_wifi(true).unwrap();
        page.wait("that a login is wanted", PATIENCE, |p| {
            p.text().contains("The network wants a login first.")
        });
        assert_eq!(light(&page).as_deref(), Some("bad"));

        manager.find(NetworkManager::FULL);
        scene.train.blackhole_wifi(false).unwrap();
        page.wait("a good light again", PATIENCE, |p| light(p).as_deref() == Some("good"));
        assert!(!page.text().contains("login"));
    });
}
