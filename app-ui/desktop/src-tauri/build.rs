//! Builds the page that the app embeds, and what Tauri needs to know at build time.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The oldest Node.js with which the page can be built.
const NODE: (u32, u32) = (20, 19);

fn main() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../page");
    let mut sources =
        vec!["package.json", "package-lock.json", "index.html", "vite.config.ts", "svelte.config.js"]
            .into_iter()
            .map(|name| page.join(name))
            .collect::<Vec<_>>();
    collect(&page.join("src"), &mut sources);
    println!("cargo:rerun-if-changed={}", page.join("src").display());
    for source in &sources {
        println!("cargo:rerun-if-changed={}", source.display());
    }
    // Gone, it must be built again.
    println!("cargo:rerun-if-changed={}", page.join("dist/index.html").display());
    let newest = sources.iter().filter_map(|p| modified(p)).max();
    if modified(&page.join("dist/index.html")) < newest {
        build(&page);
    }
    tauri_build::build();
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}

fn collect(directory: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|e| e.path()) {
        if path.is_dir() {
            collect(&path, into);
        } else {
            into.push(path);
        }
    }
}

fn build(page: &Path) {
    let version = Command::new("node").arg("--version").output().ok();
    let version = version.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default();
    let mut numbers = version.trim_start_matches('v').split('.').map(|n| n.parse().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    assert!(
        found >= NODE,
        "the page needs Node.js {}.{} or later and npm to be built, and {} is there: run app-ui/desktop/requirements",
        NODE.0,
        NODE.1,
        if version.is_empty() { "none" } else { &version }
    );
    let installed = page.join("node_modules/.package-lock.json");
    if modified(&installed) < modified(&page.join("package-lock.json")) {
        npm(page, &["ci", "--no-audit", "--no-fund"]);
    }
    npm(page, &["run", "build"]);
}

fn npm(page: &Path, arguments: &[&str]) {
    // On Windows it is a script.
    let program = if cfg!(windows) { "npm.cmd" } else { "npm" };
    let output = Command::new(program).args(arguments).current_dir(page).output();
    let output =
        output.unwrap_or_else(|e| panic!("npm cannot be run ({e}): run app-ui/desktop/requirements"));
    assert!(
        output.status.success(),
        "`npm {}` failed in {}:\n{}{}",
        arguments.join(" "),
        page.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
