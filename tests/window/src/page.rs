//! The window, through WebDriver.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::{Desk, Running};

/// How long anything on the page may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The app's window.
pub struct Page {
    agent: ureq::Agent,
    session: String,
    _driver: Running,
}

/// Something on the page.
pub struct Element<'p> {
    page: &'p Page,
    id: String,
}

/// The key that WebDriver gives elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

impl Page {
    /// Starts the app with these arguments, and takes hold of its window.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn open(desk: &Desk, arguments: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = desk.command("WebKitWebDriver");
        command
            .args([&format!("--port={port}"), "--host=127.0.0.1"])
            .env("TAURI_WEBVIEW_AUTOMATION", "true")
            .stdout(Stdio::null());
        let driver = Running::start(command);
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(60)))
            .http_status_as_error(false);
        let agent = ureq::Agent::new_with_config(config.build());
        let root = format!("http://127.0.0.1:{port}");
        let start = Instant::now();
        while agent.get(format!("{root}/status")).call().is_err() {
            assert!(start.elapsed() < PATIENCE, "WebKitWebDriver does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        let options = json!({"binary": Desk::app(), "args": arguments});
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "wry", "webkitgtk:browserOptions": options,
        }}});
        let answer = post(&agent, &format!("{root}/session"), &wanted);
        let id = answer["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {answer}"));
        Self { session: format!("{root}/session/{id}"), agent, _driver: driver }
    }

    /// The element with this `data-testid`, once it is there.
    ///
    /// # Panics
    /// When it does not come.
    pub fn find(&self, id: &str) -> Element<'_> {
        let start = Instant::now();
        loop {
            if let Some(element) = self.look(id) {
                return element;
            }
            assert!(start.elapsed() < PATIENCE, "there is no `{id}` on the page:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// The element with this `data-testid`, if it is there now.
    pub fn look(&self, id: &str) -> Option<Element<'_>> {
        let query = json!({"using": "css selector", "value": format!("[data-testid='{id}']")});
        let answer = post(&self.agent, &format!("{}/element", self.session), &query);
        let id = answer[ELEMENT].as_str()?.to_owned();
        Some(Element { page: self, id })
    }

    /// All text of the page.
    pub fn text(&self) -> String {
        self.run("return document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Runs a script in the page.
    pub fn run(&self, script: &str) -> Value {
        post(&self.agent, &format!("{}/execute/sync", self.session), &json!({"script": script, "args": []}))
    }

    /// Presses and releases keys, one after the other, wherever the focus is. Special keys are WebDriver's.
    pub fn press(&self, keys: &[char]) {
        let strokes: Vec<_> = keys
            .iter()
            .flat_map(|key| {
                let value = key.to_string();
                [
                    json!({"type": "keyDown", "value": value}),
                    json!({"type": "keyUp", "value": value}),
                    json!({"type": "pause", "duration": 60}),
                ]
            })
            .collect();
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]});
        post(&self.agent, &format!("{}/actions", self.session), &actions);
    }

    /// Waits until something is so on the page.
    ///
    /// # Panics
    /// When it takes longer than `limit`.
    pub fn wait(&self, what: &str, limit: Duration, mut so: impl FnMut(&Self) -> bool) -> Duration {
        let start = Instant::now();
        while !so(self) {
            assert!(start.elapsed() < limit, "not within {limit:?} on the page: {what}\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
        start.elapsed()
    }

    /// Saves a picture of the page.
    pub fn picture(&self, path: &Path) {
        let answer = self.agent.get(format!("{}/screenshot", self.session)).call().unwrap();
        let answer: Value = answer.into_body().read_json().unwrap();
        let data = answer["value"].as_str().unwrap_or_default();
        std::fs::write(path, base64::engine::general_purpose::STANDARD.decode(data).unwrap()).unwrap();
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // The driver ends the app; where it does not, ending its process group will.
        let _ = self.agent.delete(&self.session).call();
    }
}

impl Element<'_> {
    /// Clicks it with the mouse.
    pub fn click(&self) {
        let answer = self.post("click", &json!({}));
        assert!(answer.is_null(), "cannot be clicked: {answer}");
    }

    /// Types into it.
    pub fn write(&self, text: &str) {
        let answer = self.post("value", &json!({"text": text}));
        assert!(answer.is_null(), "cannot be typed into: {answer}");
    }

    /// Puts the focus on it.
    pub fn focus(&self) {
        let script = json!({"script": "arguments[0].focus()", "args": [{ELEMENT: self.id}]});
        post(&self.page.agent, &format!("{}/execute/sync", self.page.session), &script);
    }

    /// Its text.
    pub fn text(&self) -> String {
        self.get("text").as_str().unwrap_or_default().to_owned()
    }

    /// One of its attributes.
    pub fn attribute(&self, name: &str) -> Option<String> {
        self.get(&format!("attribute/{name}")).as_str().map(str::to_owned)
    }

    fn post(&self, what: &str, body: &Value) -> Value {
        post(&self.page.agent, &format!("{}/element/{}/{what}", self.page.session, self.id), body)
    }

    fn get(&self, what: &str) -> Value {
        let url = format!("{}/element/{}/{what}", self.page.session, self.id);
        let answer: Value = self.page.agent.get(url).call().unwrap().into_body().read_json().unwrap();
        answer["value"].clone()
    }
}

/// The value of an answer; an error is a value, too.
fn post(agent: &ureq::Agent, url: &str, body: &Value) -> Value {
    let answer: Value = agent.post(url).send_json(body).unwrap().into_body().read_json().unwrap();
    answer["value"].clone()
}
