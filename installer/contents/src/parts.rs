//! What the programs are made of: crates that are linked into them, and packages in the app's page.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

type Done<T> = Result<T, Box<dyn Error>>;

/// The programs' crates.
const ROOTS: [&str; 3] = ["mast-cli", "mastd", "mast-desktop"];
/// Only the demonstration has these, and tests of the app (cargo says of features what all of the workspace wants): neither
/// is packaged.
const NOT_PACKAGED: [&str; 3] = ["mast-netlab", "mast-stage", "ts-rs"];
/// The version of Wintun's library that is shipped, and its SHA-256 for x86_64: `installer/windows/build` packages no other.
const WINTUN: (&str, &str) = ("0.14.1", "e5da8447dc2c320edc0fc52fa01885c103de8c118481f683643cacc3220dafce");
/// What a license is called in its package.
const NAMES: [&str; 6] = ["license", "licence", "copying", "copyright", "notice", "unlicense"];

/// One part.
struct Part {
    name: String,
    version: String,
    license: String,
    /// As package URLs have it.
    url: String,
    sha256: Option<String>,
    directory: PathBuf,
}

/// This machine's system.
pub fn own_target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Writes `mast.cdx.json` and `third-party-licenses.txt` of what is linked for a target.
pub fn write(directory: &Path, target: &str) -> Done<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let mut parts = crates(&root, target)?;
    parts.extend(driver(&parts));
    parts.extend(packages(&root.join("app-ui/desktop/page"))?);
    parts.sort_by(|a, b| a.url.cmp(&b.url));
    parts.dedup_by(|a, b| a.url == b.url);
    fs::create_dir_all(directory)?;
    let bill = serde_json::to_string_pretty(&bill(&parts))? + "\n";
    fs::write(directory.join("mast.cdx.json"), bill)?;
    fs::write(directory.join("third-party-licenses.txt"), licenses(&parts)?)?;
    Ok(())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// The library of the virtual interface's driver, which is shipped beside the programs where they use it.
fn driver(parts: &[Part]) -> Option<Part> {
    let own = parts.iter().find(|part| part.name == "wintun")?;
    Some(Part {
        name: "wintun.dll".to_owned(),
        version: WINTUN.0.to_owned(),
        license: "see wintun-license.txt".to_owned(),
        url: format!("pkg:generic/wintun@{}", WINTUN.0),
        sha256: Some(WINTUN.1.to_owned()),
        directory: own.directory.join("wintun"),
    })
}

/// The crates that are linked into the programs on a target, but for MAST's own.
fn crates(root: &Path, target: &str) -> Done<Vec<Part>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words = ["metadata", "--format-version", "1", "--locked", "--filter-platform", target];
    let output = Command::new(cargo).args(words).current_dir(root).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages: BTreeMap<&str, &Value> = list(&metadata, "packages").map(|p| (text(p, "id"), p)).collect();
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"], "nodes").map(|n| (text(n, "id"), n)).collect();
    let name = |id: &str| packages.get(id).map_or("", |p| text(p, "name"));
    let mut wanted: Vec<&str> = packages.keys().copied().filter(|id| ROOTS.contains(&name(id))).collect();
    let mut seen: BTreeSet<&str> = wanted.iter().copied().collect();
    while let Some(id) = wanted.pop() {
        let Some(node) = nodes.get(id) else { continue };
        for dependency in list(node, "deps") {
            let linked = list(dependency, "dep_kinds").any(|kind| kind["kind"].is_null());
            let id = text(dependency, "pkg");
            if linked && !NOT_PACKAGED.contains(&name(id)) && seen.insert(id) {
                wanted.push(id);
            }
        }
    }
    let checksums = checksums(&fs::read_to_string(root.join("Cargo.lock"))?);
    let of = |p: &&&Value| !p["source"].is_null();
    let parts = seen.iter().filter_map(|id| packages.get(id)).filter(of).map(|p| {
        let (name, version) = (text(p, "name").to_owned(), text(p, "version").to_owned());
        let manifest = Path::new(text(p, "manifest_path"));
        let stated = text(p, "license");
        let in_file = format!("see {}", text(p, "license_file"));
        Part {
            url: format!("pkg:cargo/{name}@{version}"),
            sha256: checksums.get(&(name.clone(), version.clone())).cloned(),
            license: if stated.is_empty() { in_file } else { stated.replace('/', " OR ") },
            directory: manifest.parent().unwrap_or(manifest).to_owned(),
            name,
            version,
        }
    });
    Ok(parts.collect())
}

/// What cargo has locked: SHA-256 by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let field = |block: &str, key: &str| {
        let line = block.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(" = \""))?;
        Some(line.trim_end_matches('"').to_owned())
    };
    lock.split("[[package]]")
        .filter_map(|b| Some(((field(b, "name")?, field(b, "version")?), field(b, "checksum")?)))
        .collect()
}

/// The packages that may be in the app's page: all that it depends on, and the compiler, whose run time is in it.
fn packages(page: &Path) -> Done<Vec<Part>> {
    let lock: Value = serde_json::from_str(&fs::read_to_string(page.join("package-lock.json"))?)?;
    let mut parts = Vec::new();
    for name in ["@tauri-apps/api", "svelte"] {
        let package = &lock["packages"][format!("node_modules/{name}")];
        let version = text(package, "version").to_owned();
        if version.is_empty() {
            return Err(format!("package-lock.json has no {name}").into());
        }
        parts.push(Part {
            url: format!("pkg:npm/{}@{version}", name.replace('@', "%40")),
            name: name.to_owned(),
            license: text(package, "license").to_owned(),
            sha256: None,
            directory: page.join("node_modules").join(name),
            version,
        });
    }
    Ok(parts)
}

/// CycloneDX 1.5. Without a serial number and a time, so that the same parts make the same bill.
fn bill(parts: &[Part]) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    let component = |part: &Part| {
        let mut component = json!({
            "type": "library", "bom-ref": part.url, "name": part.name, "version": part.version, "purl": part.url,
            "licenses": [if part.license.starts_with("see ") {
                json!({"license": {"name": part.license}})
            } else {
                json!({"expression": part.license})
            }],
        });
        if let Some(sha256) = &part.sha256 {
            component["hashes"] = json!([{"alg": "SHA-256", "content": sha256}]);
        }
        component
    };
    json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": {
            "type": "application", "bom-ref": format!("mast@{version}"), "name": "mast", "version": version,
            "licenses": [{"expression": "Apache-2.0 OR MIT"}],
        }},
        "components": parts.iter().map(component).collect::<Vec<_>>(),
    })
}

/// Every license text once, with the parts that it came with.
fn licenses(parts: &[Part]) -> Done<String> {
    let mut texts: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    let mut out = String::from(
        "MAST is under Apache-2.0 or MIT, at your choice. Its programs are made with these parts:\n\n",
    );
    for part in parts {
        writeln!(out, "  {} {}: {}", part.name, part.version, part.license)?;
        let mut files: Vec<PathBuf> = fs::read_dir(&part.directory)?.flatten().map(|e| e.path()).collect();
        files.sort();
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            if !file.is_file() || !NAMES.iter().any(|n| name.starts_with(n)) {
                continue;
            }
            let text = String::from_utf8_lossy(&fs::read(&file)?).replace("\r\n", "\n");
            // Many have the same text, but for blanks.
            let words: Vec<&str> = text.split_whitespace().collect();
            let digest = Sha256::digest(words.join(" "));
            let key = digest.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
            let entry = texts.entry(key).or_insert_with(|| (text.trim().to_owned(), Vec::new()));
            let whose = format!("{} {}", part.name, part.version);
            if !entry.1.contains(&whose) {
                entry.1.push(whose);
            }
        }
    }
    let mut all: Vec<_> = texts.into_values().collect();
    all.sort_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
    for (text, whose) in all {
        let line = "-".repeat(78);
        write!(out, "\n{line}\n{}\n{line}\n\n{text}\n", whose.join(", "))?;
    }
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_linked_has_a_license_and_nothing_of_the_tests_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let parts = crates(&root, &own_target()).unwrap();
        let has = |name: &str| parts.iter().any(|p| p.name == name);
        assert!(has("ring") && has("gotatun") && has("tauri") && has("tokio"));
        assert!(driver(&parts).is_none());
        assert!(!has("proptest") && !has("criterion") && !has("mastd") && !has("ts-rs"));
        for part in &parts {
            assert!(!part.license.is_empty() && part.license != "see ", "{} has no license", part.name);
            assert!(part.sha256.is_some(), "{} is not locked", part.name);
        }
        let bill = bill(&parts);
        assert_eq!(bill["components"].as_array().unwrap().len(), parts.len());
        let licenses = licenses(&parts).unwrap();
        assert!(licenses.contains("Permission is hereby granted") && licenses.contains("Apache License"));
    }

    #[test]
    fn what_is_linked_for_windows_has_its_own_parts_and_the_drivers_library() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let parts = crates(&root, "x86_64-pc-windows-gnu").unwrap();
        let has = |name: &str| parts.iter().any(|p| p.name == name);
        assert!(has("wintun") && has("windows-sys") && !has("netlink-sys") && !has("nix"));
        let driver = driver(&parts).unwrap();
        let library = fs::read(driver.directory.join("bin/amd64/wintun.dll")).unwrap();
        let sum =
            Sha256::digest(library).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert_eq!(driver.sha256.as_deref(), Some(sum.as_str()));
        assert!(licenses(&[driver]).unwrap().contains("Prebuilt Binaries License"));
    }
}
