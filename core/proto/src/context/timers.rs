//! Every timer of a context, each stated once: when it is due (`due_of`, `due`), and what is done then (`fire`).
//!
//! The table is asked for the next time that something is due, and when that has come, for what it is. Whatever is done
//! may make other things no longer due, so each is asked again before it is done. A timer that was done must be due later
//! or not at all: an owner that sleeps until the next one would never sleep otherwise.

use std::time::Instant;

use super::Context;
use super::path::Path;
use crate::wire::PathId;

/// What can be due on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OfPath {
    /// The other end must hear what arrived.
    Report,
    /// Nothing was heard for as long as an answer takes.
    Silence,
    /// A PROBE, or it was not answered in time.
    Probe,
    /// A question about the size that it carries.
    Size,
}

impl OfPath {
    const ALL: [Self; 4] = [Self::Report, Self::Silence, Self::Probe, Self::Size];
}

/// What can be due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timer {
    Path(PathId, OfPath),
    /// A suspect active path had its time, and another has answered.
    Verdict,
    /// No path works: the other end may have restarted.
    Recontact,
    /// A plain WireGuard peer is silent, or a path to it is to be tried.
    Plain,
    /// The next handshake of first contact.
    Race,
    /// INIT again.
    Init,
    /// The other end made the handshake and sent no INIT.
    OwnInit,
    /// A new epoch.
    Rekey,
    /// The end of an epoch.
    End,
    /// Answers to INITs need not be repeated any more.
    Answers,
    /// SET again.
    Set,
    /// SHUT again.
    Shut,
    /// A path has been better for long enough.
    Better,
    /// A move is told although its silence is not over.
    Tell,
    /// What is missing is asked for.
    Missing,
    /// What is overdue is not waited for any longer.
    Overdue,
    /// A path of the bond may be sent to again.
    Bond,
}

impl Timer {
    /// Those that are not of a path, in the order in which they are looked at.
    const OTHERS: [Self; 16] = [
        Self::Verdict,
        Self::Recontact,
        Self::Plain,
        Self::Race,
        Self::Init,
        Self::OwnInit,
        Self::Rekey,
        Self::End,
        Self::Answers,
        Self::Set,
        Self::Shut,
        Self::Tell,
        Self::Better,
        Self::Missing,
        Self::Overdue,
        Self::Bond,
    ];
}

impl Context {
    /// When something of a path is due.
    fn due_of(&self, now: Instant, path: &Path, timer: OfPath) -> Option<Instant> {
        match timer {
            OfPath::Report => path.owed,
            OfPath::Silence => self.silence_due(path),
            OfPath::Probe => self.probe_due(now, path),
            OfPath::Size => path.pmtu.due().filter(|_| self.may_ask(path)),
        }
    }

    /// When something is due.
    fn due(&self, now: Instant, timer: Timer) -> Option<Instant> {
        match timer {
            Timer::Path(id, timer) => {
                let path = self.paths.iter().find(|p| p.id == id)?;
                self.due_of(now, path, timer)
            }
            Timer::Verdict => self.verdict_due(),
            Timer::Recontact => self.recontact_due(),
            Timer::Plain => self.plain_due(),
            Timer::Race => self.contact.race_at(),
            Timer::Init => self.agreement.init_at(),
            Timer::OwnInit => self.agreement.own_init_at(),
            Timer::Rekey => self.rekey_due(),
            Timer::End => self.keys.first_end(),
            Timer::Answers => self.agreement.answers_until(),
            Timer::Set => self.set_due(),
            Timer::Shut => self.shut_due(),
            Timer::Better => self.better_due(),
            Timer::Tell => self.selection.tell_at(),
            Timer::Missing => self.received.ask_at(),
            Timer::Overdue => self.received.deadline(),
            Timer::Bond => self.bond_due(),
        }
    }

    /// Does what is due.
    fn fire(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Path(id, timer) => {
                let Some(at) = self.paths.iter().position(|p| p.id == id) else { return };
                match timer {
                    OfPath::Report => self.send_report(now, at),
                    OfPath::Silence => self.suspect(now, at, false),
                    OfPath::Probe => self.probe_timeout(now, at),
                    OfPath::Size => self.ask_size(now, at),
                }
            }
            Timer::Verdict => self.judge(now),
            Timer::Recontact => self.start_contact(now),
            Timer::Plain => self.plain_drive(now),
            Timer::Race => self.race(now),
            Timer::Init => self.retry_init(now),
            Timer::OwnInit => self.send_init(now),
            Timer::Rekey => self.rekey(now),
            Timer::End => self.end_epochs(now),
            Timer::Answers => self.agreement.forget_answers(now),
            Timer::Set => self.repeat_set(now),
            Timer::Shut => self.send_shut(now),
            Timer::Better => self.look_for_better(now),
            Timer::Tell => self.tell(now, false),
            Timer::Missing => self.ask_for_missing(now),
            Timer::Overdue => self.received.drive(now),
            Timer::Bond => self.drive_bond(now),
        }
    }

    fn each_due(&self, now: Instant, mut tell: impl FnMut(Timer, Instant)) {
        for path in &self.paths {
            for timer in OfPath::ALL {
                if let Some(at) = self.due_of(now, path, timer) {
                    tell(Timer::Path(path.id, timer), at);
                }
            }
        }
        for timer in Timer::OTHERS {
            if let Some(at) = self.due(now, timer) {
                tell(timer, at);
            }
        }
    }

    /// When [`Context::handle_timeout`] must be called next.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        self.each_due(now, |_, at| next = Some(next.map_or(at, |next| next.min(at))));
        next
    }

    /// Does what is due. Call it at the time [`Context::poll_timeout`] names, or at any other.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut due = Vec::new();
        self.each_due(now, |timer, at| {
            if at <= now {
                due.push(timer);
            }
        });
        for timer in due {
            if self.due(now, timer).is_some_and(|at| at <= now) {
                self.fire(now, timer);
            }
        }
        self.doubt_what_was_better(now);
        // What was found to be better may have to be asked first.
        if self.due(now, Timer::Plain).is_some_and(|at| at <= now) {
            self.plain_drive(now);
        }
        self.keys.forget_unused(now);
        self.rest(now);
    }

    /// Asks the other end for what is missing, over the path that carries data or any other that could.
    fn ask_for_missing(&mut self, now: Instant) {
        match self.active_at().or_else(|| self.paths.iter().position(Path::carries)) {
            Some(at) => self.send_report(now, at),
            None => drop(self.received.missing(now)),
        }
    }
}
