//! Which of a random sample of mutants of `core/proto` its tests and the simulation notice.
//!
//! `tests/mutants/run` calls it: `mast-mutants LIST TREE COUNT SEED [FILE]` in a copy of the sources, with the list that
//! `cargo mutants --list --json` makes. All mutants of the sample go into one build ([`weave`]), from which the compiler
//! first sorts out those that it refuses; each is then chosen by an environment variable, and the tests run until one
//! fails. Those of constants, and of functions that return `impl Trait`, cannot be chosen so, and are left out; how many
//! they are is said. Arithmetic that goes wrong and assertions that do not hold count as noticed, as in a build for tests.
//!
//! `MAST_SKIP` names tests to be left out, with commas between; `MAST_WORKERS` is how many mutants are tried at once.

mod weave;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use weave::Mutant;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The crowd counts memory and time, and says nothing of the protocol; the library of the simulation has no tests.
const LEFT_OUT: [&str; 2] = ["crowd", "mast_simulation"];
/// Of the stories of the simulation with an adversary.
const STORIES: &str = "20";

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [list, tree, count, seed, rest @ ..] = &arguments[..] else {
        return Err("LIST TREE COUNT SEED [FILE]".into());
    };
    let (tree, count, mut seed) = (PathBuf::from(tree), count.parse::<usize>()?, seed.parse::<u64>()?);
    let of = |mutant: &Mutant| rest.is_empty() || rest.iter().any(|part| mutant.name.contains(part.as_str()));
    let mut all: Vec<Mutant> = read(Path::new(list))?.into_iter().filter(of).collect();
    let known = all.len();
    // Fisher and Yates, with splitmix64.
    for last in (1..all.len()).rev() {
        all.swap(last, (random(&mut seed) % (last as u64 + 1)) as usize);
    }
    if count > 0 {
        all.truncate(count);
    }
    let drawn = all.len();

    let mut sources = BTreeMap::new();
    for mutant in &all {
        let file = tree.join(&mutant.file);
        sources.entry(file.clone()).or_insert(std::fs::read_to_string(&file)?);
    }
    let root = tree.join("core/proto/src/lib.rs");
    let plain_root = std::fs::read_to_string(&root)?;
    sources.insert(root, format!("{plain_root}{}", weave::ANSWER));
    let mut refused = BTreeSet::new();
    let woven = loop {
        let mut woven = BTreeSet::new();
        for (file, text) in &sources {
            let here = |m: &&Mutant| tree.join(&m.file) == *file && !refused.contains(&m.id);
            let here: Vec<Mutant> = all.iter().filter(here).cloned().collect();
            let (text, found) = weave::weave(text, &here)?;
            woven.extend(found);
            std::fs::write(file, text)?;
        }
        let more = refusals(&tree)?;
        if more.is_empty() {
            break woven;
        }
        refused.extend(more);
    };
    let left_out: Vec<&Mutant> =
        all.iter().filter(|m| !woven.contains(&m.id) && !refused.contains(&m.id)).collect();
    for mutant in &left_out {
        println!("left out  {}", mutant.name);
    }

    let mut tests = build(&tree)?;
    for test in &mut tests {
        let begun = Instant::now();
        if run(test, 0, Duration::from_secs(1_800))? != End::Passed {
            return Err(format!("{} fails without any mutant", test.name).into());
        }
        test.takes = begun.elapsed();
        println!("{:6.1} s  {}", test.takes.as_secs_f64(), test.name);
    }
    tests.sort_by_key(|test| test.takes);
    let _ = std::io::stdout().flush();

    let queue: Mutex<VecDeque<&Mutant>> = Mutex::new(all.iter().filter(|m| woven.contains(&m.id)).collect());
    let results = Mutex::new((0, 0, 0));
    let broken = AtomicBool::new(false);
    let workers = std::env::var("MAST_WORKERS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(mutant) = queue.lock().ok().and_then(|mut queue| queue.pop_front()) {
                    let mut end = "missed";
                    let mut by = "";
                    for test in &tests {
                        match run(test, mutant.id, test.takes * 5 + Duration::from_secs(20)) {
                            Ok(End::Passed) => continue,
                            Ok(End::Failed) => end = "caught",
                            Ok(End::Late) => end = "timeout",
                            Err(_) => broken.store(true, Ordering::Relaxed),
                        }
                        by = &test.name;
                        break;
                    }
                    let Ok(mut results) = results.lock() else { return };
                    match end {
                        "missed" => results.2 += 1,
                        "timeout" => results.1 += 1,
                        _ => results.0 += 1,
                    }
                    println!("{end:8}  {}  {by}", mutant.name);
                    let _ = std::io::stdout().flush();
                }
            });
        }
    });
    if broken.load(Ordering::Relaxed) {
        return Err("a test could not be run".into());
    }
    let (caught, late, missed) = results.into_inner().unwrap_or_default();
    let viable = caught + late + missed;
    println!(
        "{known} mutants, {drawn} drawn: {} refused by the compiler, {} left out, {viable} viable: {caught} caught, {late} never end, \
         {missed} missed; {:.1} % caught",
        refused.len(),
        left_out.len(),
        100.0 * f64::from(caught + late) / f64::from(viable.max(1))
    );
    Ok(())
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn read(list: &Path) -> Outcome<Vec<Mutant>> {
    let all: Value = serde_json::from_slice(&std::fs::read(list)?)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or_default() as usize;
    let of = |(at, value): (usize, &Value)| Mutant {
        id: at as u32 + 1,
        name: text(&value["name"]),
        file: text(&value["file"]),
        genre: text(&value["genre"]),
        start: (number(&value["span"]["start"]["line"]), number(&value["span"]["start"]["column"])),
        replacement: text(&value["replacement"]),
    };
    Ok(all.as_array().ok_or("no list")?.iter().enumerate().map(of).collect())
}

fn cargo(tree: &Path, arguments: &[&str]) -> Outcome<(bool, Vec<Value>)> {
    let mut command = Command::new("cargo");
    command.current_dir(tree).args(arguments).args(["--release", "--message-format=json"]);
    command.args(["--config", "profile.release.package.mast-proto.overflow-checks=true"]);
    command.args(["--config", "profile.release.package.mast-proto.debug-assertions=true"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let messages = lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok()).collect();
    Ok((child.wait()?.success(), messages))
}

/// The mutants that the compiler refuses; none when it refuses nothing.
fn refusals(tree: &Path) -> Outcome<BTreeSet<u32>> {
    let (passed, messages) = cargo(tree, &["check", "-p", "mast-proto"])?;
    let mut found = BTreeSet::new();
    let mut texts: BTreeMap<String, Vec<_>> = BTreeMap::new();
    let errors = messages.iter().map(|m| &m["message"]).filter(|m| m["level"] == "error");
    for error in errors.clone() {
        for span in error["spans"].as_array().into_iter().flatten() {
            let file = span["file_name"].as_str().unwrap_or_default();
            let places = match texts.get(file) {
                Some(places) => places,
                None => {
                    let text = std::fs::read_to_string(tree.join(file)).unwrap_or_default();
                    texts.entry(file.to_owned()).or_insert(weave::places(&text)?)
                }
            };
            let at = span["byte_start"].as_u64().unwrap_or_default() as usize;
            let around = places.iter().filter(|(_, range)| range.contains(&at));
            found.extend(around.min_by_key(|(_, range)| range.len()).map(|(id, _)| *id));
        }
    }
    if !passed && found.is_empty() {
        let told: Vec<&str> = errors.filter_map(|e| e["rendered"].as_str()).collect();
        return Err(format!("not compiled, and no mutant is the reason: {}", told.concat()).into());
    }
    Ok(found)
}

struct Test {
    name: String,
    program: PathBuf,
    directory: PathBuf,
    /// So long, without any mutant.
    takes: Duration,
}

fn build(tree: &Path) -> Outcome<Vec<Test>> {
    let (passed, messages) =
        cargo(tree, &["test", "--no-run", "--lib", "--tests", "-p", "mast-proto", "-p", "mast-simulation"])?;
    if !passed {
        return Err("the tests are not compiled".into());
    }
    let skipped = std::env::var("MAST_SKIP").unwrap_or_default();
    let mut tests = Vec::new();
    for message in messages.iter().filter(|m| m["profile"]["test"] == true) {
        let (Some(program), Some(name)) =
            (message["executable"].as_str(), message["target"]["name"].as_str())
        else {
            continue;
        };
        let manifest = PathBuf::from(message["manifest_path"].as_str().unwrap_or_default());
        if !LEFT_OUT.contains(&name) && !skipped.split(',').any(|skipped| skipped == name) {
            let directory = manifest.parent().unwrap_or(tree).to_owned();
            tests.push(Test {
                name: name.to_owned(),
                program: program.into(),
                directory,
                takes: Duration::ZERO,
            });
        }
    }
    Ok(tests)
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Passed,
    Failed,
    Late,
}

/// Runs a test until it ends, or one of its cases failed.
fn run(test: &Test, mutant: u32, limit: Duration) -> Outcome<End> {
    let mut command = Command::new(&test.program);
    command.current_dir(&test.directory).env("MAST_MUTANT", mutant.to_string());
    if test.name == "chaos" {
        command.env("MAST_SEEDS", STORIES);
    }
    command
        .env("RUST_BACKTRACE", "0")
        .env("PROPTEST_FAILURE_PERSISTENCE", "off")
        .env("PROPTEST_MAX_SHRINK_ITERS", "0");
    command
        .args(["--test-threads", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    let mut child = command.spawn()?;
    let output = BufReader::new(child.stdout.take().ok_or("no output")?);
    let failed = std::sync::Arc::new(AtomicBool::new(false));
    let seen = failed.clone();
    let reader = std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if line.ends_with("FAILED") {
                seen.store(true, Ordering::Relaxed);
            }
        }
    });
    let end = wait(&mut child, &failed, limit)?;
    let _ = reader.join();
    Ok(end)
}

fn wait(child: &mut Child, failed: &AtomicBool, limit: Duration) -> Outcome<End> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { End::Passed } else { End::Failed });
        }
        let late = begun.elapsed() > limit;
        if late || failed.load(Ordering::Relaxed) {
            child.kill()?;
            child.wait()?;
            return Ok(if late { End::Late } else { End::Failed });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
