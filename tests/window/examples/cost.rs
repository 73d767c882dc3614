//! What the app costs: how soon its window is there, and memory and processor while nothing happens, with the window
//! open and closed. `cargo run --release -p mast-window --example cost`.
//!
//! Memory is what the app and the web processes that it started have for themselves (private and changed), and their
//! proportional share of everything (PSS), which counts the libraries' files as well; processor time is of one core. The window runs on a virtual screen, where the processor draws.

use std::time::{Duration, Instant};

use mast_e2e::Scene;
use mast_window::{Desk, Page, Tray};

const WATCHED: Duration = Duration::from_secs(20);
const STARTS: usize = 5;

fn main() {
    mast_netlab::enter().unwrap_or_else(|e| panic!("{e}"));
    let scene = Scene::new();
    let desk = Desk::new();
    let _tray = Tray::new(&desk);
    let socket = scene.laptop.control();
    let arguments = ["--socket", socket.to_str().expect("a path in Unicode")];

    let mut opened = Vec::new();
    for _ in 0..STARTS {
        let page = Page::open(&desk, &arguments);
        page.find("now-light");
        let mut painted = None;
        page.wait("the first picture", Duration::from_secs(10), |page| {
            painted = page
                .run(
                    "const paint = performance.getEntriesByName('first-contentful-paint')[0]; \
                     return paint ? performance.timeOrigin + paint.startTime : null",
                )
                .as_f64();
            painted.is_some()
        });
        let started = app().map(started).expect("the app runs");
        opened.push(painted.expect("the page was painted") - started);
    }
    opened.sort_by(f64::total_cmp);
    println!(
        "window   first painted {:.0} / {:.0} / {:.0} ms after the start of the process (least, median, most of {STARTS})",
        opened[0],
        opened[STARTS / 2],
        opened[STARTS - 1]
    );

    let page = Page::open(&desk, &arguments);
    page.find("now-light");
    // A minute of throughput fills up first.
    std::thread::sleep(Duration::from_secs(60));
    watch("open");
    page.find("nav-interfaces").click();
    watch("open, interfaces");
    drop(page);

    let hidden = desk.command(Desk::app()).args(arguments).arg("--hidden").spawn();
    let mut hidden = hidden.expect("the app starts");
    watch("closed");
    let _ = hidden.kill();
    let _ = hidden.wait();
}

/// Lets the app be for a while and says what it used.
fn watch(what: &str) {
    std::thread::sleep(Duration::from_secs(5));
    let before = used();
    let start = Instant::now();
    std::thread::sleep(WATCHED);
    let Used { processor, private, shared } = used();
    let share = (processor - before.processor) / start.elapsed().as_secs_f64() * 100.0;
    let (private, shared) = (private / 1e6, shared / 1e6);
    println!(
        "{what:<17} {share:.2} % of a core, {private:.0} MB of its own, {shared:.0} MB with its share of files"
    );
}

/// Processor seconds, and bytes.
#[derive(Default)]
struct Used {
    processor: f64,
    private: f64,
    shared: f64,
}

/// What the app used, and what it started.
fn used() -> Used {
    let Some(app) = app() else { panic!("the app is gone") };
    let all: Vec<(u32, u32)> = processes();
    let mut ours = vec![app];
    let mut at = 0;
    while let Some(&parent) = ours.get(at) {
        ours.extend(all.iter().filter(|(_, p)| *p == parent).map(|(id, _)| *id));
        at += 1;
    }
    let mut sum = Used::default();
    for id in ours {
        let stat = stat(id);
        let ticks: f64 = [11, 12].iter().filter_map(|&i| stat.get(i)?.parse::<f64>().ok()).sum();
        sum.processor += ticks / 100.0;
        let rollup = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
        let bytes = |name: &str| {
            let line = rollup.lines().find_map(|l| l.strip_prefix(name));
            line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
        };
        sum.private += bytes("Private_Dirty:");
        sum.shared += bytes("Pss:");
    }
    sum
}

/// The newest process of the app.
fn app() -> Option<u32> {
    let named = |id: u32| {
        std::fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|c| c.trim() == "mast-desktop")
    };
    processes().into_iter().map(|(id, _)| id).filter(|id| named(*id)).max()
}

/// Every process and its parent.
fn processes() -> Vec<(u32, u32)> {
    let entries = std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let ids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|id| Some((id, stat(id).get(1)?.parse().ok()?))).collect()
}

/// The fields of `/proc/ID/stat` after the name.
fn stat(id: u32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    text.rsplit_once(") ").map(|(_, rest)| rest.split(' ').map(str::to_owned).collect()).unwrap_or_default()
}

/// When a process was started, in milliseconds since 1970.
fn started(id: u32) -> f64 {
    let uptime = std::fs::read_to_string("/proc/uptime").expect("/proc/uptime");
    let uptime: f64 = uptime.split(' ').next().and_then(|t| t.parse().ok()).expect("the uptime");
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let ticks: f64 = stat(id).get(19).and_then(|t| t.parse().ok()).expect("the time of the start");
    (now - uptime + ticks / 100.0) * 1e3
}
