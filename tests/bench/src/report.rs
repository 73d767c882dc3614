//! What all measurements do with their figures: medians, tables, targets, files.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::{Result, io};

/// The middle one of some values; of an even number, the upper of the two in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// A value as a table shows it, or a dash.
pub fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

/// A table in Markdown whose columns are aligned; the first line is its head.
pub fn markdown(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|text| text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (at, line) in lines.iter().enumerate() {
        for (text, &width) in line.iter().zip(&widths) {
            let _ = write!(out, "| {text:<width$} ");
        }
        out.push_str("|\n");
        if at == 0 {
            for width in &widths {
                let _ = write!(out, "|{}", "-".repeat(width + 2));
            }
            out.push_str("|\n");
        }
    }
    out
}

/// Something to be reached, and what was.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// What, with its unit.
    pub what: String,
    /// At least this.
    pub least: f64,
    /// At most this.
    pub most: f64,
    /// What was measured, if anything.
    pub value: Option<f64>,
}

impl Goal {
    /// A figure that shall not be less.
    pub fn least(what: impl Into<String>, least: f64, value: Option<f64>) -> Self {
        Self { what: what.into(), least, most: f64::INFINITY, value }
    }

    /// A figure that shall not be more.
    pub fn most(what: impl Into<String>, most: f64, value: Option<f64>) -> Self {
        Self { what: what.into(), least: f64::NEG_INFINITY, most, value }
    }

    /// Whether it is met; nothing where nothing was measured.
    pub fn met(&self) -> Option<bool> {
        self.value.map(|value| (self.least..=self.most).contains(&value))
    }

    fn verdict(&self) -> String {
        let bound = match (self.least.is_finite(), self.most.is_finite()) {
            (true, true) => format!("{} to {}", self.least, self.most),
            (true, false) => format!("≥ {}", self.least),
            _ => format!("≤ {}", self.most),
        };
        let word = match self.met() {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "not measured",
        };
        format!("{}: {} ({bound}) {word}", self.what, shown(self.value, 3))
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let bound = |bound: f64| bound.is_finite().then_some(bound);
        json!({
            "what": self.what,
            "least": bound(self.least),
            "most": bound(self.most),
            "value": self.value,
            "met": self.met(),
        })
    }
}

/// The goals, one a line.
pub fn verdicts(goals: &[Goal]) -> String {
    goals.iter().fold(String::new(), |mut out, goal| {
        let _ = writeln!(out, "- {}", goal.verdict());
        out
    })
}

/// Writes a file.
///
/// # Errors
/// When that fails.
pub fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(io(format!("write {}", path.display())))
}

/// Writes a file of JSON.
///
/// # Errors
/// When that fails.
pub fn write_json(path: &Path, value: &Value) -> Result<()> {
    write(path, &format!("{value:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_sorted_values() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), Some(3.0));
        assert_eq!(median([]), None);
    }

    #[test]
    fn a_table_is_as_wide_as_its_words() {
        let line = |words: [&str; 2]| words.map(str::to_owned).to_vec();
        let text = markdown(&[line(["a", "wide"]), line(["–", "b"])]);
        assert_eq!(text, "| a | wide |\n|---|------|\n| – | b    |\n");
    }

    #[test]
    fn a_goal_is_met_missed_or_unknown() {
        assert_eq!(Goal::least("share", 0.92, Some(0.93)).met(), Some(true));
        assert_eq!(Goal::least("share", 0.92, Some(0.91)).met(), Some(false));
        assert_eq!(Goal::most("lost", 0.0, Some(1.0)).met(), Some(false));
        assert_eq!(Goal::most("lost", 0.0, None).met(), None);
        let text = verdicts(&[Goal::least("share", 0.92, Some(0.5)), Goal::most("lost", 0.0, None)]);
        assert_eq!(text, "- share: 0.500 (≥ 0.92) NOT MET\n- lost: – (≤ 0) not measured\n");
    }
}
