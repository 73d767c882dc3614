//! What the demonstration shows while it runs: a few lines that change in place on a terminal, plain lines elsewhere.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use mast_control::{PathState, PathStatus, PeerStatus, Status};

use crate::output::events::sentence;

/// The terminal, a pipe, or nothing at all beside JSON.
pub struct Screen {
    silent: bool,
    terminal: bool,
    colour: bool,
    /// Lines that are redrawn.
    live: Cell<usize>,
}

impl Screen {
    /// For the standard output; silent beside JSON.
    pub fn new(json: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none();
        Self { silent: json, terminal, colour, live: Cell::new(0) }
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        if self.silent {
            return;
        }
        self.clear();
        println!("{line}");
    }

    /// A step begins.
    pub fn step(&self, number: usize, of: usize, name: &str) {
        let line = format!("  [{number}/{of}] {name}");
        self.say(&if self.colour { format!("\x1b[1m{line}\x1b[0m") } else { line });
    }

    /// The lines that change.
    pub fn live(&self, bytes: u64, of: u64, rate: f64, gap: Duration, status: &Status) {
        if self.silent || !self.terminal {
            return;
        }
        let mut lines = vec![String::new()];
        let width = 40;
        let filled = (bytes as usize * width / of.max(1) as usize).min(width);
        lines.push(format!(
            "  download {}{} {:>3.0} of {:.0} MB  {:>5.1} Mbit/s",
            "█".repeat(filled),
            "░".repeat(width - filled),
            bytes as f64 / 1e6,
            of as f64 / 1e6,
            rate / 1e6
        ));
        match status.peers.first() {
            Some(peer) => lines.extend(self.peer(peer)),
            None => lines.push("  no peer yet".into()),
        }
        lines.push(format!("  longest silence now: {:.0} ms", gap.as_secs_f64() * 1e3));
        let shown = status.events.len().min(3);
        lines.extend(
            status
                .events
                .iter()
                .skip(status.events.len() - shown)
                .map(|e| format!("    {}", sentence(e, false))),
        );
        lines.extend(std::iter::repeat_n(String::new(), 3 - shown));
        self.clear();
        for line in &lines {
            println!("{line}");
        }
        self.live.set(lines.len());
        let _ = std::io::stdout().flush();
    }

    fn peer(&self, peer: &PeerStatus) -> Vec<String> {
        let mut lines = Vec::new();
        for name in ["wifi", "cell"] {
            // Each has a path for either version of IP: the one that carries data, or else any that works.
            let of = |p: &&PathStatus| p.interface == name;
            let path = (peer.paths.iter().filter(of).find(|p| p.active))
                .or_else(|| peer.paths.iter().filter(of).find(|p| p.state == PathState::Validated))
                .or_else(|| peer.paths.iter().find(of));
            let line = match path {
                None => format!("    {name:<5} gone"),
                Some(path) => {
                    let rtt = path.srtt_ms.map_or("    –".into(), |r| format!("{r:>5.1}"));
                    let mark = if path.active { "●" } else { " " };
                    let carries = if path.active { "carries the data" } else { "" };
                    format!("  {mark} {name:<5} {rtt} ms  {:<10} {carries}", path.state.as_str())
                }
            };
            let active = path.is_some_and(|p| p.active);
            lines.push(if self.colour && active { format!("\x1b[32m{line}\x1b[0m") } else { line });
        }
        lines.push(format!("  the other end: {}", peer.state.as_str()));
        lines
    }

    fn clear(&self) {
        let lines = self.live.take();
        if lines > 0 {
            print!("\x1b[{lines}A\x1b[J");
        }
    }
}
