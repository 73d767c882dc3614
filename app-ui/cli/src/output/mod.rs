//! How things are written for people, and for programs.

pub mod events;
pub mod table;
pub mod text;
pub mod units;

use std::io::{self, IsTerminal, Write};

use mast_control::words::Tone;
use serde::Serialize;

/// Standard output, and whether it shows colours.
pub struct Out {
    stream: io::Stdout,
    colours: bool,
}

/// A way to set words apart; always in addition to a mark or a word, never alone.
#[derive(Debug, Clone, Copy)]
pub enum Style {
    /// What matters most.
    Strong,
    /// What is well.
    Good,
    /// What is so in part, or not yet.
    Open,
    /// What is not.
    Bad,
    /// What can be skipped.
    Faint,
}

impl From<Tone> for Style {
    fn from(tone: Tone) -> Self {
        match tone {
            Tone::Good => Self::Good,
            Tone::Open => Self::Open,
            Tone::Bad => Self::Bad,
        }
    }
}

impl Out {
    /// Standard output as the environment wants it.
    pub fn new() -> Self {
        let stream = io::stdout();
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        let colours = stream.is_terminal() && !unwanted;
        Self { stream, colours }
    }

    /// Writes a line at once.
    pub fn line(&mut self, line: impl AsRef<str>) -> io::Result<()> {
        let mut stream = self.stream.lock();
        writeln!(stream, "{}", line.as_ref())?;
        stream.flush()
    }

    /// Writes data over several lines.
    pub fn json(&mut self, data: &impl Serialize) -> io::Result<()> {
        let pretty = serde_json::to_string_pretty(data)?;
        self.line(text::escape(&pretty))
    }

    /// Writes data in one line.
    pub fn json_line(&mut self, data: &impl Serialize) -> io::Result<()> {
        let compact = serde_json::to_string(data)?;
        self.line(text::escape(&compact))
    }

    /// Sets words apart where that is wanted.
    pub fn paint(&self, style: impl Into<Style>, words: &str) -> String {
        if !self.colours || words.is_empty() {
            return words.to_owned();
        }
        let code = match style.into() {
            Style::Strong => "1",
            Style::Good => "32",
            Style::Open => "33",
            Style::Bad => "31",
            Style::Faint => "2",
        };
        format!("\x1b[{code}m{words}\x1b[0m")
    }
}
