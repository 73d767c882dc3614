//! Aligned columns.

use std::io;

use super::{Out, Style};

/// Rows of cells under a heading. Columns that are empty in every row are left out.
pub struct Table {
    heading: Vec<&'static str>,
    rows: Vec<(Option<Style>, Vec<String>)>,
}

impl Table {
    /// A table without rows. A heading that starts with `>` aligns its column to the right.
    pub fn new(heading: &[&'static str]) -> Self {
        Self { heading: heading.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, style: Option<Style>, cells: Vec<String>) {
        self.rows.push((style, cells));
    }

    /// Writes it, if it has rows.
    pub fn print(&self, out: &mut Out) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let cell = |row: &'_ [String], column: usize| row.get(column).cloned().unwrap_or_default();
        let columns: Vec<Column> = (0..self.heading.len())
            .filter_map(|at| {
                let heading = self.heading.get(at).copied().unwrap_or_default();
                let (right, title) =
                    heading.strip_prefix('>').map_or((false, heading), |title| (true, title));
                let widest = self.rows.iter().map(|(_, row)| width(&cell(row, at))).max().unwrap_or(0);
                (widest > 0).then(|| Column { at, right, title, width: widest.max(width(title)) })
            })
            .collect();
        let compose = |text: &dyn Fn(&Column) -> String| {
            let cells: Vec<_> = columns.iter().map(|column| column.pad(&text(column))).collect();
            cells.join("  ").trim_end().to_owned()
        };
        let heading = compose(&|column| column.title.to_owned());
        out.line(out.paint(Style::Faint, &heading))?;
        for (style, row) in &self.rows {
            let line = compose(&|column| cell(row, column.at));
            out.line(style.map_or_else(|| line.clone(), |style| out.paint(style, &line)))?;
        }
        Ok(())
    }
}

struct Column {
    at: usize,
    right: bool,
    title: &'static str,
    width: usize,
}

impl Column {
    fn pad(&self, text: &str) -> String {
        let space = " ".repeat(self.width.saturating_sub(width(text)));
        if self.right { space + text } else { text.to_owned() + &space }
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}
