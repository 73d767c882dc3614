//! What somebody on a train does with the window.

use std::time::Duration;

use mast_e2e::{PATIENCE, Scene, Session, lab};
use mast_window::{Desk, Page, Tray};

const SPACE: char = ' ';
const UP: char = '\u{E013}';

struct Trip {
    page: Page,
    session: Session,
    scene: Scene,
    _tray: Tray,
    _desk: Desk,
}

impl Trip {
    fn new() -> Self {
        let scene = Scene::new();
        let session = Session::start(&scene.laptop, &scene.server);
        let desk = Desk::new();
        let tray = Tray::new(&desk);
        let socket = scene.laptop.control();
        let page = Page::open(&desk, &["--socket", socket.to_str().unwrap()]);
        Self { page, session, scene, _tray: tray, _desk: desk }
    }

    fn go(&self, section: &str) {
        self.page.find(&format!("nav-{section}")).click();
    }

    /// Waits until the page says that an interface carries the traffic.
    fn shows(&self, interface: &str) {
        let id = format!("interface-{interface}");
        self.page.wait(&format!("{interface} carries the traffic"), PATIENCE, |page| {
            page.look(&id).and_then(|e| e.attribute("data-active")).as_deref() == Some("true")
        });
    }

    fn light(&self) -> String {
        self.page.find("now-light").attribute("data-light").unwrap_or_default()
    }
}

#[test]
fn a_path_is_pinned_by_mouse_and_by_keyboard() {
    lab(|| {
        let trip = Trip::new();
        trip.page.wait("a good light", PATIENCE, |_| trip.light() == "good");
        trip.go("interfaces");
        trip.shows("wifi");

        // By mouse.
        let mark = trip.session.mark();
        trip.go("preference");
        trip.page.find("pin-cell").click();
        trip.scene.wait_active("cell");
        let effect = trip.page.find("pref-effect");
        trip.page.wait("that it took effect", PATIENCE, |_| effect.text().contains("ms"));
        trip.session.without_loss("pinned by mouse", mark);
        trip.go("interfaces");
        trip.shows("cell");

        // And away again.
        trip.go("preference");
        trip.page.find("pref-auto").click();
        trip.scene.wait_active("wifi");

        // By keyboard: the lower row is taken, moved up, and let go.
        let mark = trip.session.mark();
        trip.page.find("pref-grip-cell").focus();
        trip.page.press(&[SPACE, UP, SPACE]);
        trip.scene.wait_active("cell");
        trip.session.without_loss("pinned by keyboard", mark);
        trip.go("interfaces");
        trip.shows("cell");
        trip.session.survives();
    });
}

#[test]
fn the_page_tells_that_wifi_was_lost_and_the_session_moved() {
    lab(|| {
        let trip = Trip::new();
        trip.go("interfaces");
        trip.shows("wifi");
        let mark = trip.session.mark();
        trip.scene.train.set_wifi(false).unwrap();
        trip.shows("cell");
        println!("the page shows it {:.0} ms after the link went down", mark.elapsed().as_secs_f64() * 1e3);
        let usable = trip.page.find("interface-wifi").attribute("data-usable");
        assert_eq!(usable.as_deref(), Some("false"));
        trip.go("story");
        trip.page.wait("the story of it", PATIENCE, |page| {
            page.look("story-list").expect("the list of events");
            // Names are isolated from the text around them, whatever their direction.
            let story: String =
                page.text().chars().filter(|c| !matches!(c, '\u{2066}'..='\u{2069}')).collect();
            story.contains("wifi lost its link → cell in ") && story.contains("kept")
        });
        trip.go("now");
        assert_eq!(trip.light(), "good");
        trip.session.with_gap("link down", mark, mast_e2e::GAP);
        trip.session.survives();
    });
}

#[test]
fn a_network_that_is_never_to_be_used_is_left() {
    lab(|| {
        let trip = Trip::new();
        trip.go("preference");
        trip.page.find("never-wifi").click();
        trip.scene.wait_active("cell");
        // The traffic may be there before the page has heard of it: a click then would ask for the same once more.
        trip.page.wait("the page knows it, too", PATIENCE, |page| {
            page.find("never-wifi").attribute("aria-pressed").as_deref() == Some("true")
        });
        trip.page.find("never-wifi").click();
        trip.scene.wait_active("wifi");
        trip.session.survives();
    });
}

#[test]
fn an_invite_has_a_link_a_code_and_an_end() {
    lab(|| {
        let trip = Trip::new();
        trip.go("invite");
        trip.page.find("invite-make").click();
        let link = trip.page.find("invite-link");
        trip.page.wait("a link", PATIENCE, |_| {
            let shown = link.attribute("value").unwrap_or_default() + &link.text();
            shown.contains("mast://1/") || trip.page.text().contains("mast://1/")
        });
        let first = trip.page.find("invite-expiry").text();
        trip.page.wait("the countdown", Duration::from_secs(5), |p| p.find("invite-expiry").text() != first);
        // And a link that is none.
        trip.go("add");
        trip.page.find("add-link").write("mast://1/nonsense");
        trip.page.find("add-submit").click();
        trip.page.wait("what is wrong with it", PATIENCE, |p| {
            p.look("add-error").is_some_and(|e| e.text().len() > 10)
        });
    });
}
