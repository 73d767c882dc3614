//! What the event log of Windows is told: start, stop, and what is logged as an error.
//!
//! Entries have the source `MAST` and a text of their own for all they say. `EventCreate.exe`, which every Windows has, is the
//! file of messages to name for that source: its messages are the text alone, for every number from 1 to 1000.

use std::io::{self, Write};
use std::time::{Duration, Instant};

/// The source's name, below `HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application`.
#[cfg_attr(not(windows), allow(dead_code, reason = "other systems have none"))]
pub(crate) const SOURCE: &str = "MAST";
/// The longest text, in bytes; the system takes some 32,000 characters.
const LONGEST: usize = 8 * 1024;
/// So many errors at once are told, and one more each time this has passed: the log is the machine's, and finite.
const AT_ONCE: u32 = 20;
const EACH: Duration = Duration::from_secs(30);

/// How bad it is.
#[cfg_attr(not(windows), allow(dead_code, reason = "other systems have none"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Information,
    Error,
}

/// What happened, by its number in the event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[cfg_attr(not(windows), allow(dead_code, reason = "other systems have none"))]
pub(crate) enum Number {
    Started = 1,
    Stopped = 2,
    Failed = 3,
    Error = 10,
}

/// Takes entries.
pub(crate) trait Sink {
    /// # Errors
    /// What the system says; there is nobody to tell.
    fn put(&mut self, number: Number, kind: Kind, text: &str) -> io::Result<()>;
}

/// Lines of the log, each an entry, as far as there is room for so many.
#[derive(Debug)]
pub(crate) struct Errors<S> {
    sink: S,
    room: u32,
    since: Option<Instant>,
    left_out: u64,
}

impl<S: Sink> Errors<S> {
    pub fn new(sink: S) -> Self {
        Self { sink, room: AT_ONCE, since: None, left_out: 0 }
    }

    fn take(&mut self, now: Instant, line: &str) -> io::Result<()> {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since).as_secs() / EACH.as_secs();
        if passed > 0 {
            self.room = self.room.saturating_add(u32::try_from(passed).unwrap_or(u32::MAX)).min(AT_ONCE);
            self.since = Some(now);
        }
        let Some(room) = self.room.checked_sub(1) else {
            self.left_out += 1;
            return Ok(());
        };
        self.room = room;
        let mut text = entry(line);
        match std::mem::take(&mut self.left_out) {
            0 => {}
            count => {
                text.push_str(&format!(" ({count} errors before it were left out here; the log has them)"))
            }
        }
        self.sink.put(Number::Error, Kind::Error, &text)
    }
}

impl<S: Sink> Write for Errors<S> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.take(Instant::now(), &String::from_utf8_lossy(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line as a text of the event log, which takes two percent signs for a message of somebody else's.
pub(crate) fn entry(line: &str) -> String {
    let mut end = LONGEST.min(line.len());
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    let text = line.get(..end).unwrap_or_default().trim().replace('\0', "");
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '%' && safe.ends_with('%') {
            safe.push(' ');
        }
        safe.push(c);
    }
    safe
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Notes(Vec<String>);

    impl Sink for Notes {
        fn put(&mut self, number: Number, kind: Kind, text: &str) -> io::Result<()> {
            assert_eq!((number as u32, kind), (10, Kind::Error));
            self.0.push(text.to_owned());
            Ok(())
        }
    }

    #[test]
    fn a_flood_is_bounded_and_counted_and_goes_on_later() {
        let mut errors = Errors::new(Notes::default());
        let begun = Instant::now();
        for n in 0..1_000 {
            errors.take(begun + Duration::from_millis(n), &format!("error {n}\n")).unwrap();
        }
        assert_eq!(errors.sink.0.len(), AT_ONCE as usize);
        assert_eq!(errors.sink.0.first().unwrap(), "error 0");
        let later = begun + EACH + Duration::from_secs(1);
        errors.take(later, "another").unwrap();
        errors.take(later, "and another").unwrap();
        assert_eq!(errors.sink.0.len(), AT_ONCE as usize + 1);
        let last = errors.sink.0.last().unwrap();
        assert!(last.starts_with("another") && last.contains("980 errors"), "{last}");
        // After a quiet day there is room for as many as at first, and no more.
        for _ in 0..100 {
            errors.take(later + Duration::from_secs(86_400), "again").unwrap();
        }
        assert_eq!(errors.sink.0.len(), 2 * AT_ONCE as usize + 1);
    }

    #[test]
    fn texts_are_bounded_and_say_nothing_of_somebody_elses() {
        assert_eq!(entry(" 50%% of %1 %%%2\n"), "50% % of %1 % % %2");
        assert_eq!(entry("a\0b"), "ab");
        let long = entry(&"\u{e9}".repeat(LONGEST));
        assert!(long.len() <= LONGEST && long.len() > LONGEST - 4);
        let mut errors = Errors::new(Notes::default());
        errors.write_all(b"in one piece \xff\n").unwrap();
        assert_eq!(errors.sink.0, ["in one piece \u{fffd}"]);
    }
}
