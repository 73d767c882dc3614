//! Instructions of the protocol's work for each datagram, counted by valgrind: the same on a busy machine as on a
//! quiet one.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use mast_bench::report::{Goal, markdown, shown, verdicts, write_json};
use mast_bench::sealing::{CIPHERS, Operation, pair};
use mast_bench::{BenchError, Result, io};
use serde_json::{Value, json};

/// Turns of the shorter and of the longer count; their difference leaves out what is done once.
const TURNS: [u32; 2] = [50, 250];
/// So much more than before is a regression: what is counted moves by far less when the code does not.
const MARGIN: f64 = 1.02;

/// Counts the instructions of sealing and opening datagrams with valgrind's callgrind.
#[derive(Parser)]
struct Arguments {
    /// Write everything to a file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Compare with a file that --json wrote before: more than 2 % above it is a target not met
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Only do the work, in the counted process: an operation, a cipher, and how often
    #[arg(long, hide = true, num_args = 3)]
    work: Option<Vec<String>>,
}

/// What one datagram costs.
struct Row {
    operation: Operation,
    cipher: &'static str,
    instructions: f64,
}

impl Row {
    fn name(&self) -> String {
        format!("{}, {}", self.operation.name(), self.cipher)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.work {
        Some(words) => work(words).map(|()| true),
        None => count(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Seals, and where it is asked for opens, so often.
fn work(words: &[String]) -> Result<()> {
    let wrong = || BenchError::Program("--work takes an operation, a cipher, and a number".into());
    let [operation, cipher, turns] = words else { return Err(wrong()) };
    let operation = Operation::ALL.into_iter().find(|o| o.name() == operation).ok_or_else(wrong)?;
    let (_, aead) = CIPHERS.into_iter().find(|(name, _)| name == cipher).ok_or_else(wrong)?;
    let turns: u32 = turns.parse().map_err(|_| wrong())?;
    let (mut sealer, mut opener) = pair(aead)?;
    let mut frames = operation.frames();
    for _ in 0..turns {
        let sealed = sealer.seal(&mut frames, operation.frame());
        if !sealed || operation.opens() && !opener.open(&mut frames, operation.frame()) {
            return Err(BenchError::Program("a datagram could not be sealed, or not be opened".into()));
        }
    }
    Ok(())
}

fn count(arguments: &Arguments) -> Result<bool> {
    let before = arguments.against.as_ref().map(read).transpose()?;
    let mut rows: Vec<Row> = Vec::new();
    for operation in Operation::ALL {
        for (cipher, _) in CIPHERS {
            let [fewer, more] = TURNS.map(|turns| collected(operation, cipher, turns));
            let turns = f64::from(TURNS[1] - TURNS[0]) * operation.datagrams() as f64;
            let mut instructions = (more? - fewer?) / turns;
            // What is opened has to be sealed first, which was counted by itself.
            if operation.opens() {
                let sealed = rows.iter().rev().find(|row| {
                    row.cipher == cipher
                        && !row.operation.opens()
                        && row.operation.frame() == operation.frame()
                });
                instructions -= sealed.map_or(0.0, |row| row.instructions);
            }
            rows.push(Row { operation, cipher, instructions });
        }
    }
    print(&rows);
    let goals: Vec<Goal> = before
        .iter()
        .flat_map(|before| rows.iter().filter_map(move |row| Some((row, known(before, row)?))))
        .map(|(row, before)| {
            let what = format!("{}: times that before", row.name());
            Goal::most(what, MARGIN, Some(row.instructions / before))
        })
        .collect();
    if !goals.is_empty() {
        println!("\nTargets:\n\n{}", verdicts(&goals));
    }
    if let Some(path) = &arguments.json {
        let row = |row: &Row| {
            json!({
                "operation": row.operation.name(),
                "cipher": row.cipher,
                "frame_bytes": row.operation.frame(),
                "instructions_per_datagram": row.instructions,
            })
        };
        let all = json!({
            "operations": rows.iter().map(row).collect::<Vec<_>>(),
            "targets": goals.iter().map(Goal::json).collect::<Vec<_>>(),
        });
        write_json(path, &all)?;
    }
    Ok(goals.iter().all(|goal| goal.met() != Some(false)))
}

fn print(rows: &[Row]) {
    println!("Instructions for a datagram, counted by callgrind:\n");
    let head = ["operation", "cipher", "bytes of a frame", "instructions", "for a byte"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| {
        let bytes = row.operation.frame();
        vec![
            row.operation.name().to_owned(),
            row.cipher.to_owned(),
            bytes.to_string(),
            shown(Some(row.instructions), 0),
            shown(Some(row.instructions / bytes as f64), 2),
        ]
    }));
    print!("{}", markdown(&lines));
}

/// All instructions of a process that does the work so often.
fn collected(operation: Operation, cipher: &str, turns: u32) -> Result<f64> {
    let this = std::env::current_exe().map_err(io("find this program"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args(["--work", operation.name(), cipher, &turns.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            BenchError::Missing(format!("cannot run valgrind: apt-get install valgrind ({error})"))
        })?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let number = text.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    let failed = || {
        let last = text.lines().rev().find(|line| !line.starts_with("==")).unwrap_or("it said nothing");
        BenchError::Program(format!("valgrind failed: {last}"))
    };
    number.filter(|_| output.status.success()).ok_or_else(failed)
}

fn read(path: &PathBuf) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(io(format!("read {}", path.display())))?;
    serde_json::from_str(&text)
        .map_err(|error| BenchError::Program(format!("{} is not what --json wrote: {error}", path.display())))
}

/// What an operation took before.
fn known(before: &Value, row: &Row) -> Option<f64> {
    let same = |value: &&Value| {
        value["operation"].as_str() == Some(row.operation.name())
            && value["cipher"].as_str() == Some(row.cipher)
    };
    before["operations"].as_array()?.iter().find(same)?["instructions_per_datagram"].as_f64()
}
