//! What was measured, against what was aimed at.

use serde_json::{Value, json};

use crate::report::markdown;

/// What is measured in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// The longest silence of the echo, in milliseconds.
    Gap,
    /// The same, less what even an instant switch would cost.
    Beyond,
    /// Echo requests without an answer.
    Lost,
    /// The same in hundredths of those sent.
    LostShare,
    /// The longest silence of the TCP stream from the laptop to the server, in milliseconds.
    Up,
    /// The longest silence of the TCP stream from the server to the laptop, in milliseconds.
    Down,
    /// From the moment a link is usable again to the first echo, in milliseconds.
    Resume,
    /// The same for the TCP stream to the laptop.
    TcpResume,
    /// From the moment a path is back until data is, in milliseconds.
    Back,
}

impl Metric {
    /// All of them, in the order of the columns.
    pub const ALL: [Self; 9] = [
        Self::Gap,
        Self::Beyond,
        Self::Lost,
        Self::LostShare,
        Self::Up,
        Self::Down,
        Self::Resume,
        Self::TcpResume,
        Self::Back,
    ];

    /// Its name in JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::Gap => "gap_ms",
            Self::Beyond => "beyond_ms",
            Self::Lost => "lost",
            Self::LostShare => "lost_percent",
            Self::Up => "tcp_up_ms",
            Self::Down => "tcp_down_ms",
            Self::Resume => "resume_ms",
            Self::TcpResume => "tcp_resume_ms",
            Self::Back => "back_ms",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Beyond => "beyond",
            Self::Lost => "lost",
            Self::LostShare => "lost, %",
            Self::Up => "TCP up",
            Self::Down => "TCP down",
            Self::Resume => "echo after",
            Self::TcpResume => "TCP after",
            Self::Back => "back after",
        }
    }
}

/// Which of many runs counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// The least.
    Min,
    /// The middle one.
    Median,
    /// The 99th percentile; the worst of less than a hundred.
    P99,
}

/// Something to be reached.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Of what.
    pub metric: Metric,
    /// In which run.
    pub statistic: Statistic,
    /// At least this.
    pub least: f64,
    /// At most this.
    pub most: f64,
}

impl Target {
    /// A figure that shall not be larger.
    pub const fn most(metric: Metric, statistic: Statistic, most: f64) -> Self {
        Self { metric, statistic, least: f64::NEG_INFINITY, most }
    }
}

/// What one run measured.
#[derive(Debug, Clone, Default)]
pub struct Sample(Vec<(Metric, f64)>);

impl Sample {
    /// Adds a figure.
    #[must_use]
    pub fn with(mut self, metric: Metric, value: f64) -> Self {
        self.0.push((metric, value));
        self
    }

    /// A figure, if this run has it.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.0.iter().find(|(m, _)| *m == metric).map(|(_, value)| *value)
    }
}

/// All runs of a step.
#[derive(Debug, Default)]
pub struct Row {
    /// Its short name, as given to `--step`.
    pub name: String,
    /// What happened.
    pub event: String,
    /// What is aimed at.
    pub targets: Vec<Target>,
    /// The runs that count.
    pub samples: Vec<Sample>,
    /// Runs repeated because the emulator could not keep up.
    pub discarded: u32,
    /// Runs that could not be carried out.
    pub failed: Vec<String>,
    /// Why there are none.
    pub not_measured: Option<String>,
}

/// The value at a rank from 0 to 1 (nearest rank) of sorted values.
fn rank(sorted: &[f64], at: f64) -> f64 {
    let n = (at * sorted.len() as f64).ceil() as usize;
    sorted.get(n.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

impl Row {
    fn sorted(&self, metric: Metric) -> Vec<f64> {
        let mut values: Vec<f64> = self.samples.iter().filter_map(|s| s.get(metric)).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// A statistic of a figure, if any run has it.
    pub fn figure(&self, metric: Metric, statistic: Statistic) -> Option<f64> {
        let sorted = self.sorted(metric);
        let at = match statistic {
            Statistic::Min => 0.0,
            Statistic::Median => 0.5,
            Statistic::P99 => 0.99,
        };
        (!sorted.is_empty()).then(|| rank(&sorted, at))
    }

    fn judge(&self, target: &Target) -> Option<(f64, bool)> {
        // Runs that failed reached nothing.
        let value = self.figure(target.metric, target.statistic)?;
        Some((value, self.failed.is_empty() && (target.least..=target.most).contains(&value)))
    }

    /// Whether every target is met; nothing without targets or runs.
    pub fn met(&self) -> Option<bool> {
        if self.targets.is_empty() || self.not_measured.is_some() {
            return None;
        }
        Some(self.targets.iter().all(|t| self.judge(t).is_some_and(|(_, met)| met)))
    }

    fn cell(&self, metric: Metric) -> String {
        let [least, median, most] = [Statistic::Min, Statistic::Median, Statistic::P99]
            .map(|statistic| self.figure(metric, statistic));
        match (least, median, most) {
            (Some(least), Some(median), Some(most)) => format!("{least:.0} / {median:.0} / {most:.0}"),
            _ => "–".into(),
        }
    }

    fn verdict(&self) -> String {
        if let Some(why) = &self.not_measured {
            return format!("not measured: {why}");
        }
        let mut parts: Vec<String> = self.targets.iter().map(|t| self.verdict_on(t)).collect();
        if self.discarded > 0 {
            parts.push(format!("{} repeated (overrun)", self.discarded));
        }
        if !self.failed.is_empty() {
            parts.push(format!("{} FAILED", self.failed.len()));
        }
        parts.join("; ")
    }

    fn verdict_on(&self, target: &Target) -> String {
        let judged = self.judge(target);
        let met = judged.is_some_and(|(_, met)| met);
        let value = judged.map_or("–".into(), |(value, _)| format!("{value:.1}"));
        let which = match target.statistic {
            Statistic::Min => "least",
            Statistic::Median => "median",
            Statistic::P99 => "p99",
        };
        let bounds = if target.least.is_finite() {
            format!("{:.0}–{:.0}", target.least, target.most)
        } else {
            format!("≤ {:.0}", target.most)
        };
        let word = if met { "ok" } else { "MISSED" };
        format!("{} {which} {value}, {bounds} {word}", target.metric.words())
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let figures: serde_json::Map<String, Value> = Metric::ALL
            .iter()
            .filter_map(|metric| {
                let of = |statistic| self.figure(*metric, statistic).map(round);
                let values: Vec<f64> =
                    self.samples.iter().filter_map(|s| s.get(*metric)).map(round).collect();
                let figure = json!({
                    "min": of(Statistic::Min)?,
                    "median": of(Statistic::Median)?,
                    "p99": of(Statistic::P99)?,
                    "values": values,
                });
                Some((metric.key().to_owned(), figure))
            })
            .collect();
        json!({
            "step": self.name,
            "event": self.event,
            "runs": self.samples.len(),
            "repeated": self.discarded,
            "failed": self.failed,
            "not_measured": self.not_measured,
            "met": self.met(),
            "verdict": self.verdict(),
            "figures": figures,
        })
    }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The table, which is Markdown too.
pub fn table(rows: &[Row]) -> String {
    let heads = ["event", "runs", "echo gap", "beyond", "lost", "TCP up", "TCP down", "targets"];
    let mut lines = vec![heads.map(str::to_owned).to_vec()];
    for row in rows {
        lines.push(vec![
            row.event.clone(),
            row.samples.len().to_string(),
            row.cell(Metric::Gap),
            row.cell(Metric::Beyond),
            row.cell(Metric::Lost),
            row.cell(Metric::Up),
            row.cell(Metric::Down),
            row.verdict(),
        ]);
    }
    markdown(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(gaps: &[f64]) -> Row {
        Row {
            targets: vec![Target::most(Metric::Gap, Statistic::Median, 30.0)],
            samples: gaps.iter().map(|gap| Sample::default().with(Metric::Gap, *gap)).collect(),
            ..Row::default()
        }
    }

    #[test]
    fn statistics_take_the_nearest_rank() {
        let row = row(&[5.0, 1.0, 3.0, 2.0, 4.0]);
        let of = |statistic| row.figure(Metric::Gap, statistic);
        assert_eq!(of(Statistic::Min), Some(1.0));
        assert_eq!(of(Statistic::Median), Some(3.0));
        assert_eq!(of(Statistic::P99), Some(5.0));
        assert_eq!(row.figure(Metric::Lost, Statistic::Median), None);
    }

    #[test]
    fn a_target_is_met_or_missed() {
        assert_eq!(row(&[10.0, 20.0, 90.0]).met(), Some(true));
        assert_eq!(row(&[10.0, 31.0, 90.0]).met(), Some(false));
        assert_eq!(row(&[]).met(), Some(false));
        let failed = Row { failed: vec!["it broke".into()], ..row(&[10.0]) };
        assert_eq!(failed.met(), Some(false));
    }
}
