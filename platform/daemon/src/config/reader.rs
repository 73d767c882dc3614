//! Reads values out of a TOML tree and collects what is wrong with them, each with its line.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::notation::suggestion;

/// A TOML value, and where it stands.
pub(super) type Value<'i> = toml::Spanned<DeValue<'i>>;

/// Something wrong in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// In which file.
    pub file: PathBuf,
    /// In which line, from 1.
    pub line: usize,
    /// What, and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.message)
    }
}

/// Something read, and its line.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub value: T,
    pub line: usize,
}

/// The problems found so far.
pub(super) struct Report<'a> {
    file: &'a Path,
    /// Where each line but the first begins.
    lines: Vec<usize>,
    problems: Vec<Problem>,
}

impl<'a> Report<'a> {
    pub fn new(file: &'a Path, text: &str) -> Self {
        let lines = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        Self { file, lines, problems: Vec::new() }
    }

    /// The problems, in the order of the file.
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|p| p.line);
        self.problems
    }

    /// The line that a place of the text is in.
    pub fn line(&self, span: &Range<usize>) -> usize {
        1 + self.lines.partition_point(|begin| *begin <= span.start)
    }

    pub fn problem(&mut self, line: usize, message: impl Into<String>) {
        self.problems.push(Problem { file: self.file.to_owned(), line, message: message.into() });
    }

    /// Opens a table that may hold the keys named, and no others.
    pub fn section<'r, 'i>(
        &'r mut self,
        table: &'r DeTable<'i>,
        name: &str,
        known: &[&str],
    ) -> Section<'r, 'a, 'i> {
        let dot = if name.is_empty() { "" } else { "." };
        for (key, _) in table {
            let word = key.get_ref().as_ref();
            if !known.contains(&word) {
                let line = self.line(&key.span());
                self.problem(line, format!("unknown key `{name}{dot}{word}`: {}", suggestion(word, known)));
            }
        }
        Section { report: self, table, prefix: format!("{name}{dot}") }
    }
}

/// A table being read.
pub(super) struct Section<'r, 'a, 'i> {
    pub report: &'r mut Report<'a>,
    table: &'r DeTable<'i>,
    prefix: String,
}

impl<'r, 'i> Section<'r, '_, 'i> {
    /// A key's value, whatever it is.
    pub fn value(&self, key: &str) -> Option<&'r Value<'i>> {
        self.table.get(key)
    }

    /// The line of a value.
    pub fn line(&self, value: &Value<'_>) -> usize {
        self.report.line(&value.span())
    }

    /// Says what is wrong with a key's value.
    pub fn wrong(&mut self, line: usize, key: &str, message: &str) {
        let message = format!("`{}{key}`: {message}", self.prefix);
        self.report.problem(line, message);
    }

    /// Reads a value of a type; `wanted` names it with an example.
    fn typed<T>(
        &mut self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&DeValue<'i>) -> Option<T>,
    ) -> Option<At<T>> {
        let value = self.value(key)?;
        let line = self.line(value);
        match read(value.get_ref()) {
            Some(value) => Some(At { value, line }),
            None => {
                self.wrong(line, key, &format!("must be {wanted}, not {}", value.get_ref().type_str()));
                None
            }
        }
    }

    /// Reads a string and makes something of it; the error of `read` says what is wrong.
    pub fn string<T>(
        &mut self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<At<T>> {
        let At { value, line } =
            self.typed(key, &format!("a string, {wanted}"), |v| v.as_str().map(str::to_owned))?;
        match read(&value) {
            Ok(value) => Some(At { value, line }),
            Err(why) => {
                self.wrong(line, key, &why);
                None
            }
        }
    }

    /// Reads `true` or `false`.
    pub fn boolean(&mut self, key: &str) -> Option<At<bool>> {
        self.typed(key, "true or false", DeValue::as_bool)
    }

    /// Reads a whole number of a range.
    pub fn number(&mut self, key: &str, range: std::ops::RangeInclusive<u16>, note: &str) -> Option<At<u16>> {
        let (low, high) = (*range.start(), *range.end());
        let wanted = format!("a number from {low} to {high}{note}");
        let found = self.typed(key, &wanted, |v| {
            v.as_integer().map(|i| (i64::from_str_radix(i.as_str(), i.radix()).ok(), i.as_str().to_owned()))
        })?;
        let (number, text) = found.value;
        match number.and_then(|n| u16::try_from(n).ok()).filter(|n| range.contains(n)) {
            Some(value) => Some(At { value, line: found.line }),
            None => {
                self.wrong(found.line, key, &format!("must be {wanted}, not {text}"));
                None
            }
        }
    }

    /// Reads a list of strings, each made into something.
    pub fn list<T>(
        &mut self,
        key: &str,
        wanted: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<At<Vec<T>>> {
        let wanted = format!("a list of strings, {wanted}");
        let value = self.value(key)?;
        let line = self.line(value);
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(line, key, &format!("must be {wanted}, not {}", value.get_ref().type_str()));
            return None;
        };
        let mut list = Vec::new();
        for element in array {
            let line = self.line(element);
            match element.get_ref().as_str() {
                Some(text) => match read(text) {
                    Ok(value) => list.push(value),
                    Err(why) => self.wrong(line, key, &why),
                },
                None => {
                    let found = element.get_ref().type_str();
                    self.wrong(line, key, &format!("must be {wanted}; one entry is of type {found}"));
                }
            }
        }
        Some(At { value: list, line })
    }

    /// A key's value as a table.
    pub fn table(&mut self, key: &str, wanted: &str) -> Option<At<&'r DeTable<'i>>> {
        let value = self.value(key)?;
        let line = self.line(value);
        match value.get_ref().as_table() {
            Some(value) => Some(At { value, line }),
            None => {
                self.wrong(line, key, &format!("must be {wanted}, not {}", value.get_ref().type_str()));
                None
            }
        }
    }
}
