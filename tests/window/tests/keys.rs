//! The private key in the user's key store.

use mast_control::KeyPlace;
use mast_e2e::{PATIENCE, Scene, lab, within};
use mast_window::{Desk, Page, Tray};

#[test]
fn the_key_is_there_while_the_user_is_logged_in() {
    lab(|| {
        let mut scene = Scene::new();
        let key = scene.laptop.status().unwrap().public_key;
        // A service that gets its key goes on as another server on the same socket: for a moment nobody answers.
        let place = |scene: &Scene| scene.laptop.status().ok().map(|status| status.key);
        let desk = Desk::new();
        let tray = Tray::new(&desk);
        let socket = scene.laptop.control();
        let arguments = ["--socket", socket.to_str().unwrap()];
        {
            let page = Page::open(&desk, &arguments);
            page.find("nav-settings").click();
            choose(&page, "login");
            within(PATIENCE, "the service has it on loan", || place(&scene) == Some(KeyPlace::Session));
        }

        // Without anybody logged in, the service waits for it.
        scene.laptop.kill();
        scene.laptop.launch().unwrap();
        assert_eq!(place(&scene), Some(KeyPlace::Locked));

        // Logged in again.
        let page = Page::open(&desk, &arguments);
        within(PATIENCE, "the service has it again", || place(&scene) == Some(KeyPlace::Session));
        let status = scene
            .laptop
            .wait("the peer", PATIENCE, |s| s.peers.first().is_some_and(|p| p.state.as_str() == "connected"));
        assert_eq!(status.unwrap().public_key, key);

        // And back to where it was.
        page.find("nav-settings").click();
        choose(&page, "service");
        within(PATIENCE, "the service keeps it", || place(&scene) == Some(KeyPlace::File));
        drop(page);
        scene.laptop.kill();
        scene.laptop.launch().unwrap();
        assert_eq!(place(&scene), Some(KeyPlace::File));
        assert_eq!(scene.laptop.status().unwrap().public_key, key);
        drop(tray);
    });
}

#[test]
fn without_a_key_store_nothing_is_lost_and_the_reason_is_told() {
    lab(|| {
        let scene = Scene::new();
        let desk = Desk::without_keys();
        let _tray = Tray::new(&desk);
        let socket = scene.laptop.control();
        let page = Page::open(&desk, &["--socket", socket.to_str().unwrap()]);
        page.find("nav-settings").click();
        page.wait("the key store's absence", PATIENCE, |p| p.text().to_lowercase().contains("key store"));
        assert_eq!(scene.laptop.status().unwrap().key, KeyPlace::File);
    });
}

/// Chooses in `key-place`, whether it is a list or a group of radio buttons.
fn choose(page: &Page, place: &str) {
    page.wait("that the key's place can be changed", PATIENCE, |page| {
        let free = "return !!document.querySelector(\"[data-testid='key-place'] input:enabled, select[data-testid='key-place']:enabled, [data-testid='key-place'] select:enabled\")";
        page.run(free) == serde_json::Value::Bool(true)
    });
    let chosen = page.run(&format!(
        "const at = document.querySelector(\"[data-testid='key-place']\");
         const radio = at.querySelector(\"input[value='{place}']\");
         if (radio) {{ radio.click(); return true; }}
         const select = at.matches('select') ? at : at.querySelector('select');
         if (!select) return false;
         select.value = '{place}';
         select.dispatchEvent(new Event('change', {{bubbles: true}}));
         return true;"
    ));
    assert_eq!(chosen, serde_json::Value::Bool(true), "no choice of the key's place");
}
