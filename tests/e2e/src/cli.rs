//! The command line, as a user runs it.

use std::fmt;
use std::io::Write;
use std::process::{Command, Stdio};

use mast_stage::{Daemon, Program};

/// What a command said.
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Answer {
    /// The answer of a command that must have worked.
    pub fn good(self) -> Self {
        assert_eq!(self.code, 0, "{self}");
        self
    }

    /// The complaint of a command that must have failed with this code; it has to hold these words.
    pub fn bad(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self}");
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in: {self}");
        }
        // A complaint for people: no debug output, no panic, no blank.
        assert!(
            !self.err.contains("panicked") && !self.err.contains("Some(") && !self.err.trim().is_empty(),
            "{self}"
        );
        self
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}\nstdout:\n{}\nstderr:\n{}", self.code, self.out, self.err)
    }
}

/// Runs `mast` against a daemon.
pub fn mast(daemon: &Daemon, words: &[&str]) -> Answer {
    mast_reading(daemon, words, "")
}

/// The same, with something to read.
pub fn mast_reading(daemon: &Daemon, words: &[&str], input: &str) -> Answer {
    let mut command = Command::new(Program::mast().unwrap_or_else(|e| panic!("{e}")));
    command.arg("--control").arg(daemon.control()).args(words);
    command.env_remove("MAST_CONTROL").env("NO_COLOR", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().unwrap();
    // Who reads nothing may have ended.
    let _ = running.stdin.take().unwrap().write_all(input.as_bytes());
    let output = running.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    Answer { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}
