//! The log, on standard error.
//!
//! Whoever reads it may stop reading, and the disk it goes to may be full or hang; so a thread of its own writes it, and
//! what does not fit into its queue is left out and counted. The latest lines are in memory, too ([`crate::log_ring`]).

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::failure::Failure;
use crate::log_ring::Ring;

/// The variable that is asked when the command line does not say.
const VARIABLE: &str = "MAST_LOG";
/// The parts that a bare level is meant for; libraries tell of warnings only.
const OURS: [&str; 5] = ["mastd", "mast_engine", "mast_platform", "mast_control", "mast_proto"];

/// So many lines may wait.
const QUEUE: usize = 1024;

static LINES: OnceLock<SyncSender<Line>> = OnceLock::new();
/// The same of errors, for whoever else of the system is told of them.
static ERRORS: OnceLock<SyncSender<Line>> = OnceLock::new();
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

enum Line {
    Text(Vec<u8>),
    /// All before this is written.
    Flush(std::sync::mpsc::Sender<()>),
}

/// Hands lines to the thread that writes them; the formatter hands over a line at a time. Never waits.
#[derive(Debug, Clone, Copy)]
struct Aside;

impl Write for Aside {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let queue = LINES.get_or_init(|| start_writer(std::io::stderr()));
        if let Err(TrySendError::Full(_)) = queue.try_send(Line::Text(line.to_vec())) {
            LEFT_OUT.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Aside {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

/// Hands errors to the thread that tells the system of them, where it wants to know.
#[derive(Debug, Clone, Copy)]
struct ErrorsAside;

impl Write for ErrorsAside {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        // What does not fit is in the log.
        let _ = ERRORS.get().map(|queue| queue.try_send(Line::Text(line.to_vec())));
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for ErrorsAside {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

fn start_writer(out: impl Write + Send + 'static) -> SyncSender<Line> {
    let (queue, lines) = sync_channel(QUEUE);
    // Without it nothing is logged but in memory, which is no reason not to run.
    let _ = std::thread::Builder::new().name("mast-log".to_owned()).spawn(move || write(out, &lines));
    queue
}

/// Writes until nobody logs any more. What cannot be written is lost: there is nobody to tell.
fn write(mut out: impl Write, lines: &Receiver<Line>) {
    while let Ok(line) = lines.recv() {
        match line {
            Line::Text(text) => {
                let _ = out.write_all(&text);
            }
            // Nobody waits for it any more where this fails.
            Line::Flush(done) => drop(done.send(())),
        }
        let left_out = LEFT_OUT.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            let _ = writeln!(out, "mastd: {left_out} lines of the log were left out: nobody took them");
        }
    }
}

/// Waits until what was logged is written, so long at most.
pub fn flush(limit: Duration) {
    let (done, written) = channel();
    let asked = [&LINES, &ERRORS].into_iter().filter_map(OnceLock::get);
    let asked = asked.filter(|queue| queue.try_send(Line::Flush(done.clone())).is_ok()).count();
    for _ in 0..asked {
        let _ = written.recv_timeout(limit);
    }
}

/// Starts to log; `as_service`, the system is told of errors, too, where it wants to know.
///
/// # Errors
/// When the level makes no sense.
pub fn start(level: Option<&str>, as_service: bool) -> Result<(), Failure> {
    let variable = std::env::var(VARIABLE).ok().filter(|v| !v.is_empty());
    let (source, level) = match (level, &variable) {
        (Some(level), _) => ("--log", level),
        (None, Some(level)) => (VARIABLE, level.as_str()),
        (None, None) => (VARIABLE, "info"),
    };
    let filter = filter(level).map_err(|why| {
        Failure::Usage(format!(
            "{source}: `{level}` {why}: use error, warn, info, debug or trace, or a filter such as mast_engine=debug"
        ))
    })?;
    // systemd's journal adds the time itself.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let terminal = fmt::layer().with_writer(Aside).with_ansi(std::io::stderr().is_terminal());
    let terminal = if journal { terminal.without_time().boxed() } else { terminal.boxed() };
    let ring = fmt::layer().with_writer(Ring).with_ansi(false);
    let told = as_service.then(crate::life::errors_told).flatten();
    let errors = told.map(|sink| {
        ERRORS.get_or_init(|| start_writer(sink));
        let told = fmt::layer().with_writer(ErrorsAside).with_ansi(false).without_time().with_level(false);
        told.with_filter(tracing_subscriber::filter::LevelFilter::ERROR)
    });
    // In one process with a program that logs already, that one decides.
    let _ = tracing_subscriber::registry().with(filter).with(terminal).with(ring).with(errors).try_init();
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    if level.contains(['=', ',']) {
        return EnvFilter::try_new(level).map_err(|error| format!("is no filter ({error})"));
    }
    level.parse::<tracing_subscriber::filter::LevelFilter>().map_err(|_| "is no level".to_owned())?;
    let ours: Vec<_> = OURS.iter().map(|target| format!("{target}={level}")).collect();
    EnvFilter::try_new(format!("warn,{}", ours.join(","))).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes nothing until it is let.
    struct Stuck(Receiver<()>, std::sync::mpsc::Sender<Vec<u8>>);

    impl Write for Stuck {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(text.to_vec());
            Err(std::io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_does_not_take_the_log_holds_up_nobody() {
        let (go_on, wait) = channel();
        let (took, taken) = channel();
        let queue = start_writer(Stuck(wait, took));
        let refused =
            (0..3 * QUEUE).filter(|_| queue.try_send(Line::Text(b"line".to_vec())).is_err()).count();
        assert!((2 * QUEUE - 1..=2 * QUEUE).contains(&refused), "{refused}");
        drop(go_on);
        drop(queue);
        assert_eq!(taken.iter().filter(|text| text == b"line").count(), 3 * QUEUE - refused);
    }

    #[test]
    fn levels_and_filters() {
        for level in ["error", "warn", "info", "debug", "trace", "off", "mast_engine=trace,warn"] {
            assert!(filter(level).is_ok(), "{level}");
        }
        assert!(filter("loud").is_err());
        assert!(filter("mastd=loud").is_err());
    }
}
