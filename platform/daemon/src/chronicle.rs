//! What happened, as far back as it is remembered: in memory, and line by line in a file of the state directory.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use mast_control::Event;

/// The most events.
pub(crate) const EVENTS: usize = 10_000;
/// The file's name in the state directory.
const FILE: &str = "story.jsonl";

/// The events, oldest first.
#[derive(Debug)]
pub(crate) struct Chronicle {
    path: PathBuf,
    events: VecDeque<Event>,
    /// So many of the newest are not in the file yet.
    unwritten: usize,
    /// Lines of the file, those too that are no longer remembered.
    lines: usize,
}

impl Chronicle {
    /// Reads the file. What cannot be understood, such as a line cut off by a crash, is left out: the story of the past
    /// is worth no refusal to start.
    pub fn open(directory: &std::path::Path) -> Self {
        let path = directory.join(FILE);
        let text = std::fs::read(&path).unwrap_or_default();
        let mut events = VecDeque::new();
        let mut lines = 0;
        for line in text.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            lines += 1;
            if let Ok(event) = serde_json::from_slice(line) {
                events.push_back(event);
                if events.len() > EVENTS {
                    events.pop_front();
                }
            }
        }
        // A line that was cut off would swallow the next one.
        if text.last().is_some_and(|b| *b != b'\n') {
            lines = usize::MAX;
        }
        Self { path, events, unwritten: 0, lines }
    }

    /// Remembers an event.
    pub fn push(&mut self, event: Event) {
        self.events.push_back(event);
        self.unwritten += 1;
        if self.events.len() > EVENTS {
            self.events.pop_front();
        }
        self.unwritten = self.unwritten.min(self.events.len());
    }

    /// The newest events, oldest first.
    pub fn last(&self, limit: usize) -> Vec<Event> {
        let skip = self.events.len().saturating_sub(limit);
        self.events.iter().skip(skip).cloned().collect()
    }

    /// What is to be written, if anything is. Writing waits for the disk and is for another thread.
    pub fn unwritten(&mut self) -> Option<Page> {
        if self.unwritten == 0 {
            return None;
        }
        let afresh = self.lines.saturating_add(self.unwritten) > 2 * EVENTS;
        let from = if afresh { 0 } else { self.events.len() - self.unwritten };
        let mut text = Vec::new();
        for event in self.events.iter().skip(from) {
            // Text and numbers can always be written.
            if serde_json::to_writer(&mut text, event).is_ok() {
                text.push(b'\n');
            }
        }
        self.lines = if afresh { self.events.len() } else { self.lines + self.unwritten };
        let count = std::mem::take(&mut self.unwritten);
        Some(Page { path: self.path.clone(), text, afresh, count })
    }

    /// A page could not be written, or not whole: what it holds is written with the next one.
    pub fn put_back(&mut self, page: &Page) {
        self.unwritten = (self.unwritten + page.count).min(self.events.len());
        self.write_afresh();
    }

    /// It is not known what the file holds: it is written anew with the next event.
    pub fn write_afresh(&mut self) {
        self.lines = usize::MAX;
    }
}

/// Lines to be written.
#[derive(Debug)]
pub(crate) struct Page {
    path: PathBuf,
    text: Vec<u8>,
    afresh: bool,
    /// So many events that were not in the file before.
    count: usize,
}

impl Page {
    /// Appends the lines, or writes the file anew in one step.
    pub fn write(&self) -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        options.create(true).write(true);
        if self.afresh {
            let new = self.path.with_extension("jsonl.new");
            let written = mast_state::open_private(options.truncate(true), &new)
                .and_then(|mut file| file.write_all(&self.text));
            written.and_then(|()| std::fs::rename(&new, &self.path)).inspect_err(|_| {
                // What is left of it would take the room that is missing.
                let _ = std::fs::remove_file(&new);
            })
        } else {
            mast_state::open_private(options.append(true), &self.path)?.write_all(&self.text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: usize) -> Event {
        Event { time: format!("2026-11-24T12:00:{n:05}Z"), ..Event::told("nas", format!("event {n}")) }
    }

    fn write(chronicle: &mut Chronicle) {
        if let Some(page) = chronicle.unwritten() {
            page.write().unwrap();
        }
    }

    #[test]
    fn outlives_a_restart_and_a_line_that_was_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let mut chronicle = Chronicle::open(directory.path());
        assert!(chronicle.unwritten().is_none());
        (0..3).for_each(|n| chronicle.push(event(n)));
        write(&mut chronicle);
        chronicle.push(event(3));
        write(&mut chronicle);
        let path = directory.path().join(FILE);
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 9]).unwrap();

        let mut chronicle = Chronicle::open(directory.path());
        assert_eq!(chronicle.last(10), [event(0), event(1), event(2)]);
        chronicle.push(event(4));
        write(&mut chronicle);
        let chronicle = Chronicle::open(directory.path());
        assert_eq!(chronicle.last(2), [event(2), event(4)]);
    }

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let directory = tempfile::tempdir().unwrap();
        let mut chronicle = Chronicle::open(directory.path());
        chronicle.push(event(0));
        write(&mut chronicle);
        let path = directory.path().join(FILE);
        // It was cut off half-way, as on a disk that is full.
        chronicle.push(event(1));
        let page = chronicle.unwritten().unwrap();
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&text[..], &page.text[..9]].concat()).unwrap();
        chronicle.put_back(&page);
        chronicle.push(event(2));
        write(&mut chronicle);
        assert_eq!(Chronicle::open(directory.path()).last(9), [event(0), event(1), event(2)]);
        assert!(chronicle.unwritten().is_none());
    }

    #[test]
    fn neither_memory_nor_file_grows_without_bound() {
        let directory = tempfile::tempdir().unwrap();
        let mut chronicle = Chronicle::open(directory.path());
        for n in 0..3 * EVENTS + 7 {
            chronicle.push(event(n));
            if n % 997 == 0 {
                write(&mut chronicle);
            }
        }
        write(&mut chronicle);
        let text = std::fs::read_to_string(directory.path().join(FILE)).unwrap();
        assert!(text.lines().count() <= 2 * EVENTS, "{}", text.lines().count());
        let again = Chronicle::open(directory.path());
        assert_eq!(again.last(EVENTS).len(), EVENTS);
        assert_eq!(again.last(1), [event(3 * EVENTS + 6)]);
    }
}
