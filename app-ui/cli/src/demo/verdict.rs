//! What the demonstration found.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

/// One thing that was done to the network.
#[derive(Debug, Clone)]
pub struct Step {
    /// In few words.
    pub name: &'static str,
    /// The interface that carried data afterwards.
    pub over: String,
    /// The longest silence of the echo, in which an outage on purpose is counted too.
    pub gap: Duration,
    /// Of that, an outage on purpose.
    pub outage: Duration,
    /// The longest silence of the download.
    pub stall: Duration,
    /// Echo requests that stayed unanswered.
    pub lost: u64,
}

/// The end of the demonstration.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The TCP connection lived to its end.
    pub survived: bool,
    /// What arrived is what was sent.
    pub sha256_ok: bool,
    /// The hash of what arrived, in hexadecimal.
    pub sha256: String,
    /// Bytes downloaded.
    pub bytes: u64,
    /// How long the download took.
    pub elapsed: Duration,
    /// Why it did not survive.
    pub failure: Option<String>,
    /// What was done meanwhile.
    pub steps: Vec<Step>,
}

fn ms(d: Duration) -> f64 {
    (d.as_secs_f64() * 10_000.0).round() / 10.0
}

impl Verdict {
    /// The demonstration could not be carried out.
    pub fn failed() -> Self {
        Self {
            survived: false,
            sha256_ok: false,
            sha256: String::new(),
            bytes: 0,
            elapsed: Duration::ZERO,
            failure: None,
            steps: Vec::new(),
        }
    }

    /// For programs.
    pub fn json(&self) -> String {
        let steps: Vec<_> = self
            .steps
            .iter()
            .map(|s| {
                json!({
                    "name": s.name,
                    "over": s.over,
                    "gap_ms": ms(s.gap),
                    "outage_ms": ms(s.outage),
                    "tcp_stall_ms": ms(s.stall),
                    "lost": s.lost,
                })
            })
            .collect();
        json!({
            "survived": self.survived,
            "sha256_ok": self.sha256_ok,
            "bytes": self.bytes,
            "elapsed_s": (self.elapsed.as_secs_f64() * 10.0).round() / 10.0,
            "sha256": self.sha256,
            "failure": self.failure,
            "steps": steps,
        })
        .to_string()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "\n  {:<44} {:>9}  {:>9}  {:>5}  then over",
            "what happened", "echo gap", "TCP stall", "lost"
        );
        let _ = writeln!(out, "  {}", "─".repeat(84));
        for step in &self.steps {
            let _ = writeln!(
                out,
                "  {:<44} {:>6.0} ms  {:>6.0} ms  {:>5}  {}",
                step.name,
                ms(step.gap),
                ms(step.stall),
                step.lost,
                step.over
            );
        }
        let _ = writeln!(out);
        if self.bytes > 0 {
            let _ = writeln!(
                out,
                "  {:.0} MB over one TCP connection in {:.0} s; SHA-256 {}… {}",
                self.bytes as f64 / 1e6,
                self.elapsed.as_secs_f64(),
                self.sha256.get(..16).unwrap_or(&self.sha256),
                if self.sha256_ok { "is what the server sent" } else { "IS NOT what the server sent" }
            );
        }
        if let Some(failure) = &self.failure {
            let _ = writeln!(out, "  {failure}");
        }
        let _ = writeln!(
            out,
            "  {}\n",
            if self.survived && self.sha256_ok {
                "✔ The session survived everything."
            } else {
                "✘ The session broke."
            }
        );
        out
    }
}
