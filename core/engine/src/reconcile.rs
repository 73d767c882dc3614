//! Makes what is set on the host be what is declared: compares, takes the steps between, and stays consistent when the
//! system refuses some of them.
//!
//! Every step stands for itself: what the system refuses does not take along what it allows. What depends on a refused
//! step is not taken either: no route prefers an address that is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use crate::declared::{Answers, Declared, Dns, Guard, Host, Present, Step};
use crate::os::{Family, Prefix};

/// What became of a declaration.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many steps were taken.
    pub taken: usize,
    /// What the system refused; all else is as declared.
    pub refused: Vec<Refusal>,
    /// Why there is no [`Guard`] though one is declared: the system has nothing of the kind. All else is as declared.
    pub lacking: Option<String>,
    /// What others had changed and is as declared again, each in words such as "the route to 10.0.0.0/8".
    pub mended: Vec<String>,
}

/// A step that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it concerns.
    pub part: Part,
    /// Exactly what.
    pub subject: Subject,
    /// What sort of error it was.
    pub kind: io::ErrorKind,
    /// What was refused, why, and what to do about it.
    pub text: String,
}

/// What is not as declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// All of it.
    All,
    /// An own address.
    Address(IpAddr),
    /// A route.
    Route(Prefix),
    /// A part of its own, which is named.
    Part,
}

/// A part of what is declared. One that is refused leaves the others as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The host could not be read, or the virtual interface not taken up.
    Host,
    /// Addresses and routes of one version of IP.
    Network(Family),
    /// Leak protection of one version of IP.
    Protection(Family),
    /// What may leave at all.
    Guard,
    /// That answers of peers pass strict filters.
    Answers,
    /// Name servers.
    Dns,
}

impl Part {
    fn of(step: &Step) -> Self {
        match step {
            Step::Raise | Step::SetMtu(_) => Self::Host,
            Step::AddAddress(address) | Step::RemoveAddress(address) => Self::Network(Family::of(*address)),
            Step::AddRoute(prefix, _) | Step::ChangeRoute(prefix, ..) | Step::RemoveRoute(prefix, _) => {
                Self::Network(Family::of(prefix.address))
            }
            Step::Protect(family) | Step::Unprotect(family) => Self::Protection(*family),
            Step::SetGuard(_) | Step::ClearGuard => Self::Guard,
            Step::SetAnswers(_) | Step::ClearAnswers => Self::Answers,
            Step::SetDns(_) | Step::ClearDns => Self::Dns,
        }
    }
}

impl Subject {
    fn of(step: &Step) -> Self {
        match step {
            Step::Raise => Self::All,
            Step::AddAddress(address) | Step::RemoveAddress(address) => Self::Address(*address),
            Step::AddRoute(prefix, _) | Step::ChangeRoute(prefix, ..) | Step::RemoveRoute(prefix, _) => {
                Self::Route(*prefix)
            }
            _ => Self::Part,
        }
    }
}

impl Outcome {
    fn refuse(&mut self, step: &Step, error: &io::Error) {
        let text = format!("cannot {step}: {error}");
        let (part, subject) = (Part::of(step), Subject::of(step));
        self.refused.push(Refusal { part, subject, kind: error.kind(), text });
    }

    /// What was refused in words, one entry for each part, however many steps of it were refused.
    pub fn notes(&self) -> BTreeMap<Part, String> {
        let mut notes: BTreeMap<Part, (&str, usize)> = BTreeMap::new();
        for refusal in &self.refused {
            notes.entry(refusal.part).or_insert((&refusal.text, 0)).1 += 1;
        }
        let words = |(text, count): (&str, usize)| match count {
            1 => text.to_owned(),
            count => format!("{text}; and {} more like it", count - 1),
        };
        notes.into_iter().map(|(part, note)| (part, words(note))).collect()
    }
}

/// What is there, in a form that can be compared.
#[derive(Debug, Default)]
struct State {
    mtu: Option<u16>,
    addresses: BTreeSet<IpAddr>,
    routes: BTreeMap<Prefix, Option<IpAddr>>,
    protection: BTreeSet<Family>,
    guard: Option<Guard>,
    answers: Option<Answers>,
    dns: Option<Dns>,
}

impl State {
    fn of(declared: &Declared) -> Self {
        let mut state = Self {
            protection: declared.protection.clone(),
            guard: declared.guard.clone(),
            answers: declared.answers.clone(),
            dns: declared.dns.clone(),
            ..Self::default()
        };
        if declared.interface.is_some() {
            state.mtu = declared.mtu;
            state.addresses.extend(&declared.addresses);
            for (prefix, source) in &declared.routes {
                // The first of two claims to the same range has it.
                state.routes.entry(prefix.masked()).or_insert(*source);
            }
        }
        state
    }

    /// A step was taken.
    fn note(&mut self, step: Step) {
        match step {
            Step::Raise => {}
            Step::SetMtu(mtu) => self.mtu = Some(mtu),
            Step::AddAddress(address) => drop(self.addresses.insert(address)),
            Step::RemoveAddress(address) => drop(self.addresses.remove(&address)),
            Step::AddRoute(prefix, source) | Step::ChangeRoute(prefix, _, source) => {
                self.routes.insert(prefix, source);
            }
            Step::RemoveRoute(prefix, _) => drop(self.routes.remove(&prefix)),
            Step::Protect(family) => drop(self.protection.insert(family)),
            Step::Unprotect(family) => drop(self.protection.remove(&family)),
            Step::SetGuard(guard) => self.guard = Some(guard),
            Step::ClearGuard => self.guard = None,
            Step::SetAnswers(answers) => self.answers = Some(answers),
            Step::ClearAnswers => self.answers = None,
            Step::SetDns(dns) => self.dns = Some(dns),
            Step::ClearDns => self.dns = None,
        }
    }
}

/// Keeps a host as declared.
#[derive(Debug)]
pub struct Reconciler<H> {
    host: H,
    interface: Option<String>,
    /// What was set here and, as far as is known, still is there.
    set: State,
    /// What was set here and was found missing now.
    lost: BTreeSet<Step>,
    /// Ranges to which routes of others come first.
    shadowed: BTreeMap<Prefix, String>,
    /// The system has no guard.
    lacking: Option<String>,
    /// What is set was compared with what is there, and nothing was refused since.
    certain: bool,
}

impl<H: Host> Reconciler<H> {
    /// Nothing is declared yet.
    pub fn new(host: H) -> Self {
        Self {
            host,
            interface: None,
            set: State::default(),
            lost: BTreeSet::new(),
            shadowed: BTreeMap::new(),
            lacking: None,
            certain: false,
        }
    }

    /// Makes the host be as declared. With `verify`, also what others changed meanwhile; otherwise only what is
    /// declared differently than before, unless something was refused then.
    ///
    /// Protection that is there from earlier is taken away if it is not declared. Addresses and routes that others
    /// set stay.
    pub fn apply(&mut self, declared: &Declared, verify: bool) -> Outcome {
        if self.interface != declared.interface {
            // They went with it.
            self.set.addresses.clear();
            self.set.routes.clear();
            self.set.mtu = None;
            self.shadowed.clear();
            self.interface.clone_from(&declared.interface);
            self.certain = false;
        }
        let wanted = State::of(declared);
        let mut outcome = Outcome::default();
        if verify || !self.certain {
            let present = match self.host.present(self.interface.as_deref()) {
                Ok(present) => present,
                Err(error) => {
                    self.certain = false;
                    let text = error.to_string();
                    let (part, subject) = (Part::Host, Subject::All);
                    outcome.refused.push(Refusal { part, subject, kind: error.kind(), text });
                    return outcome;
                }
            };
            self.adopt(present, &wanted, &mut outcome);
        }

        // New things first, so that there is no moment without; addresses before the routes that prefer them, and the
        // reverse when they go. Protection comes before what it protects, and goes last.
        let mut steps: Vec<Step> = Vec::new();
        if self.interface.is_some() && self.set.mtu.is_some() && wanted.mtu != self.set.mtu {
            steps.extend(wanted.mtu.map(Step::SetMtu));
        }
        steps.extend(wanted.addresses.difference(&self.set.addresses).map(|a| Step::AddAddress(*a)));
        // What answers come by is there before anything can lead them astray.
        let answers = wanted.answers.as_ref().filter(|a| self.set.answers.as_ref() != Some(a));
        steps.extend(answers.map(|a| Step::SetAnswers(a.clone())));
        let guard = wanted.guard.as_ref().filter(|g| self.set.guard.as_ref() != Some(g));
        steps.extend(guard.map(|g| Step::SetGuard(g.clone())));
        steps.extend(wanted.protection.difference(&self.set.protection).map(|f| Step::Protect(*f)));
        self.take(steps, &mut outcome);

        let mut steps = Vec::new();
        for (&prefix, &source) in &wanted.routes {
            let step = match self.set.routes.get(&prefix) {
                None => Step::AddRoute(prefix, source),
                Some(&before) if before != source => Step::ChangeRoute(prefix, before, source),
                Some(_) => continue,
            };
            let missing = source.filter(|s| wanted.addresses.contains(s) && !self.set.addresses.contains(s));
            match missing {
                None => steps.push(step),
                Some(source) => {
                    let text = format!("it prefers the address {source}, which was refused");
                    outcome.refuse(&step, &io::Error::new(io::ErrorKind::AddrNotAvailable, text));
                }
            }
        }
        match (&wanted.dns, &self.set.dns) {
            (Some(dns), set) if set.as_ref() != Some(dns) => steps.push(Step::SetDns(dns.clone())),
            (None, Some(_)) => steps.push(Step::ClearDns),
            _ => {}
        }
        let gone = self.set.routes.iter().filter(|(prefix, _)| !wanted.routes.contains_key(prefix));
        steps.extend(gone.map(|(prefix, source)| Step::RemoveRoute(*prefix, *source)));
        self.take(steps, &mut outcome);
        self.retake(&mut outcome);

        let preferred: BTreeSet<IpAddr> = self.set.routes.values().filter_map(|s| *s).collect();
        let gone = self.set.addresses.difference(&wanted.addresses).filter(|a| !preferred.contains(a));
        let mut steps: Vec<Step> = gone.map(|a| Step::RemoveAddress(*a)).collect();
        steps.extend(self.set.protection.difference(&wanted.protection).map(|f| Step::Unprotect(*f)));
        if wanted.guard.is_none() && self.set.guard.is_some() {
            steps.push(Step::ClearGuard);
        }
        if wanted.answers.is_none() && self.set.answers.is_some() {
            steps.push(Step::ClearAnswers);
        }
        self.take(steps, &mut outcome);
        self.look_around(&wanted, verify, &mut outcome);
        self.lost.clear();
        outcome.lacking = self.lacking.clone().filter(|_| wanted.guard.is_some());
        self.certain = outcome.refused.is_empty();
        outcome
    }

    /// Where another program's route came into the place of one that was set here, it gives way again. One that was
    /// there before stays.
    fn retake(&mut self, outcome: &mut Outcome) {
        let mut steps = Vec::new();
        for step in &self.lost {
            let Step::AddRoute(prefix, source) = *step else { continue };
            let refused = outcome.refused.len();
            let in_place =
                |r: &Refusal| r.subject == Subject::Route(prefix) && r.kind == io::ErrorKind::AlreadyExists;
            outcome.refused.retain(|r| !in_place(r));
            if outcome.refused.len() < refused {
                steps.push(Step::ChangeRoute(prefix, source, source));
            }
        }
        self.take(steps, outcome);
    }

    /// Routes that are there may be overridden all the same.
    fn look_around(&mut self, wanted: &State, verify: bool, outcome: &mut Outcome) {
        let mut refuse = |prefix: &Prefix, kind, text| {
            let part = Part::Network(Family::of(prefix.address));
            outcome.refused.push(Refusal { part, subject: Subject::Route(*prefix), kind, text });
        };
        for (prefix, interface) in &self.shadowed {
            if wanted.routes.contains_key(prefix) {
                let text = format!(
                    "the route to {prefix} is overridden by one over `{interface}`, which has a better metric: see \
                     `ip route` and `ip -6 route`"
                );
                refuse(prefix, io::ErrorKind::AlreadyExists, text);
            }
        }
        if !verify && self.certain && outcome.taken == 0 {
            return;
        }
        let Some(interface) = self.interface.clone() else { return };
        let full = self.set.routes.keys().filter(|prefix| prefix.length == 0).copied();
        for prefix in full.collect::<Vec<_>>() {
            let family = Family::of(prefix.address);
            match self.host.around(&interface, family) {
                Ok(None) => {}
                Ok(Some(where_to)) => {
                    let text = format!(
                        "the full tunnel is not in force for {family}, though its route is there: {where_to}. Rules or \
                         routes of another program come before it: see `ip rule` and `ip route show table all`"
                    );
                    refuse(&prefix, io::ErrorKind::Other, text);
                }
                Err(error) => {
                    let text =
                        format!("cannot see whether the full tunnel is in force for {family}: {error}");
                    refuse(&prefix, error.kind(), text);
                }
            }
        }
    }

    /// Takes away what does not go with the virtual interface and is no protection: the service ends.
    pub fn leave(&mut self) {
        let mut outcome = Outcome::default();
        let answers = self.set.answers.iter().map(|_| Step::ClearAnswers);
        let names = self.set.dns.iter().map(|_| Step::ClearDns);
        self.take(answers.chain(names).collect(), &mut outcome);
        for refusal in outcome.refused {
            tracing::warn!(error = refusal.text, "something is left on the host");
        }
    }

    /// Takes over what is there: what was set here, protection, and remnants, which go.
    fn adopt(&mut self, present: Present, wanted: &State, outcome: &mut Outcome) {
        let Present { down, mtu, addresses, routes, shadowed, protection, guard, answers, dns, remnants } =
            present;
        self.lost = self.set.addresses.difference(&addresses).map(|a| Step::AddAddress(*a)).collect();
        let set = self.set.routes.iter();
        let lost = set.filter(|(prefix, source)| routes.get(*prefix) != Some(source));
        self.lost.extend(lost.map(|(prefix, source)| Step::AddRoute(*prefix, *source)));
        if dns.is_none() {
            self.lost.extend(self.set.dns.take().map(Step::SetDns));
        }
        self.lost.extend(self.set.protection.difference(&protection).map(|f| Step::Protect(*f)));
        if guard.is_none() {
            self.lost.extend(self.set.guard.take().map(Step::SetGuard));
        }
        if self.set.mtu.is_some() && self.set.mtu != mtu {
            self.lost.extend(self.set.mtu.map(Step::SetMtu));
        }
        if down {
            self.lost.insert(Step::Raise);
        }
        self.shadowed = shadowed;
        self.set.mtu = mtu;
        self.set.addresses.retain(|a| addresses.contains(a));
        let ours = |prefix: &Prefix| self.set.routes.contains_key(prefix);
        let remnants: Vec<Step> = remnants
            .into_iter()
            .filter(|step| match step {
                Step::RemoveRoute(prefix, _) => ours(prefix) || wanted.routes.contains_key(prefix),
                // It is replaced without a moment in which there is none.
                Step::ClearGuard => wanted.guard.is_none(),
                _ => true,
            })
            .collect();
        self.set.routes = routes.into_iter().filter(|(prefix, _)| ours(prefix)).collect();
        self.set.protection = protection;
        self.set.guard = guard;
        self.set.answers = answers;
        self.set.dns = dns;
        let raise = down.then_some(Step::Raise);
        self.take(raise.into_iter().chain(remnants).collect(), outcome);
    }

    fn take(&mut self, steps: Vec<Step>, outcome: &mut Outcome) {
        if steps.is_empty() {
            return;
        }
        let results = self.host.take(self.interface.as_deref(), &steps);
        for (step, result) in steps.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    outcome.taken += 1;
                    let lost = match step {
                        Step::ChangeRoute(prefix, _, source) => Step::AddRoute(prefix, source),
                        ref step => step.clone(),
                    };
                    if self.lost.remove(&lost) {
                        outcome.mended.push(lost.subject());
                    }
                    if matches!(step, Step::SetGuard(_)) {
                        self.lacking = None;
                    }
                    self.set.note(step);
                }
                // It has none the next time either.
                Err(error)
                    if Part::of(&step) == Part::Guard && error.kind() == io::ErrorKind::Unsupported =>
                {
                    self.lacking = Some(error.to_string());
                    self.set.note(step);
                }
                Err(error) => outcome.refuse(&step, &error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes everything but what it is told to refuse, and notes it.
    #[derive(Debug, Default)]
    struct Notes {
        present: Present,
        refuse: Vec<Step>,
        reads: usize,
        taken: Vec<String>,
    }

    impl Host for &'static std::sync::Mutex<Notes> {
        fn present(&mut self, _: Option<&str>) -> io::Result<Present> {
            let mut notes = self.lock().unwrap();
            notes.reads += 1;
            Ok(notes.present.clone())
        }

        fn take(&mut self, _: Option<&str>, steps: &[Step]) -> Vec<io::Result<()>> {
            let mut notes = self.lock().unwrap();
            let refused = io::ErrorKind::PermissionDenied;
            steps
                .iter()
                .map(|step| {
                    if notes.refuse.contains(step) {
                        return Err(refused.into());
                    }
                    notes.taken.push(step.to_string());
                    Ok(())
                })
                .collect()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn prefix(text: &str, length: u8) -> Prefix {
        Prefix { address: ip(text), length }
    }

    fn declared(addresses: &[&str], routes: &[(&str, u8, Option<&str>)]) -> Declared {
        Declared {
            interface: Some("mast0".into()),
            addresses: addresses.iter().map(|a| ip(a)).collect(),
            routes: routes.iter().map(|&(a, l, s)| (prefix(a, l), s.map(ip))).collect(),
            ..Declared::default()
        }
    }

    struct Bench {
        notes: &'static std::sync::Mutex<Notes>,
        reconciler: Reconciler<&'static std::sync::Mutex<Notes>>,
    }

    impl Bench {
        fn new(notes: Notes) -> Self {
            let notes = &*Box::leak(Box::new(std::sync::Mutex::new(notes)));
            Self { notes, reconciler: Reconciler::new(notes) }
        }

        fn apply(&mut self, declared: &Declared, verify: bool) -> (Vec<String>, BTreeMap<Part, String>) {
            let outcome = self.reconciler.apply(declared, verify);
            (std::mem::take(&mut self.notes.lock().unwrap().taken), outcome.notes())
        }
    }

    #[test]
    fn only_differences_are_changed_in_a_safe_order() {
        let mut bench = Bench::new(Notes::default());
        let from = declared(
            &["10.0.0.1", "10.0.0.2"],
            &[("10.1.0.9", 16, Some("10.0.0.1")), ("10.2.0.0", 16, None)],
        );
        bench.apply(&from, false);
        let mut to = declared(
            &["10.0.0.2", "10.0.0.3"],
            &[("10.1.0.0", 16, Some("10.0.0.3")), ("10.3.0.0", 16, None)],
        );
        to.protection = [Family::V4].into();
        let (taken, refused) = bench.apply(&to, false);
        assert_eq!(
            taken,
            [
                "add the address 10.0.0.3",
                "set leak protection for IPv4",
                "change the route to 10.1.0.0/16",
                "add the route to 10.3.0.0/16",
                "remove the route to 10.2.0.0/16",
                "remove the address 10.0.0.1",
            ]
        );
        assert!(refused.is_empty());
        assert_eq!(bench.apply(&to, false).0, [""; 0]);
        assert_eq!(bench.notes.lock().unwrap().reads, 1, "what is known to be set is not read again");
    }

    #[test]
    fn what_is_refused_takes_nothing_else_along_and_is_tried_again() {
        let refuse = vec![Step::AddAddress(ip("fd00::1")), Step::Protect(Family::V6)];
        let mut bench = Bench::new(Notes { refuse, ..Notes::default() });
        let mut wanted = declared(
            &["10.0.0.1", "fd00::1"],
            &[
                ("10.1.0.0", 16, Some("10.0.0.1")),
                ("fd01::", 16, Some("fd00::1")),
                ("fd02::", 16, Some("fd00::1")),
                ("fd03::", 16, None),
            ],
        );
        wanted.protection = [Family::V4, Family::V6].into();
        let (taken, refused) = bench.apply(&wanted, false);
        let v4 = [
            "add the address 10.0.0.1",
            "set leak protection for IPv4",
            "add the route to 10.1.0.0/16",
            "add the route to fd03::/16",
        ];
        assert_eq!(taken, v4);
        let parts: Vec<Part> = refused.keys().copied().collect();
        assert_eq!(parts, [Part::Network(Family::V6), Part::Protection(Family::V6)]);
        let note = &refused[&Part::Network(Family::V6)];
        assert!(note.contains("fd00::1") && note.contains("2 more"), "{note}");

        // Allowed now, and what had been set is there.
        let mut notes = bench.notes.lock().unwrap();
        notes.refuse.clear();
        notes.present.addresses = [ip("10.0.0.1")].into();
        notes.present.protection = [Family::V4].into();
        notes.present.routes =
            [(prefix("10.1.0.0", 16), Some(ip("10.0.0.1"))), (prefix("fd03::", 16), None)].into();
        drop(notes);
        let (taken, refused) = bench.apply(&wanted, false);
        assert_eq!(taken.len(), 4, "{taken:?}");
        assert!(refused.is_empty());
    }

    #[test]
    fn an_address_that_a_route_prefers_stays_until_the_route_is_gone() {
        let mut bench = Bench::new(Notes::default());
        bench.apply(&declared(&["10.0.0.1"], &[("10.1.0.0", 16, Some("10.0.0.1"))]), false);
        bench.notes.lock().unwrap().refuse =
            vec![Step::RemoveRoute(prefix("10.1.0.0", 16), Some(ip("10.0.0.1")))];
        let (taken, refused) = bench.apply(&declared(&[], &[]), false);
        assert_eq!((taken, refused.len()), (vec![], 1));
    }

    #[test]
    fn what_a_dead_predecessor_left_goes() {
        let v4_half = Step::RemoveRoute(prefix("0.0.0.0", 0), None);
        let foreign_half = Step::RemoveRoute(prefix("::", 0), None);
        let present = Present {
            down: true,
            protection: [Family::V4].into(),
            remnants: vec![Step::Unprotect(Family::V6), v4_half, foreign_half],
            addresses: [ip("192.0.2.9")].into(),
            ..Present::default()
        };
        let mut bench = Bench::new(Notes { present, ..Notes::default() });
        let (taken, _) = bench.apply(&declared(&[], &[("0.0.0.0", 0, None)]), false);
        assert_eq!(
            taken,
            [
                "take up the virtual interface",
                "end leak protection for IPv6",
                "remove the route to 0.0.0.0/0",
                "add the route to 0.0.0.0/0",
                "end leak protection for IPv4",
            ],
            "what others set stays"
        );
    }

    #[test]
    fn what_others_took_away_is_set_again_when_looked_for() {
        let mut bench = Bench::new(Notes::default());
        let wanted = declared(&["10.0.0.1"], &[]);
        assert!(bench.reconciler.apply(&wanted, false).mended.is_empty(), "nobody had changed anything");
        bench.notes.lock().unwrap().taken.clear();
        assert_eq!(bench.apply(&wanted, false).0, [""; 0]);
        let mended = bench.reconciler.apply(&wanted, true).mended;
        assert_eq!(mended, ["the address 10.0.0.1"]);
        assert_eq!(bench.apply(&wanted, false).0, ["add the address 10.0.0.1"]);
        // A new interface has nothing, whatever the old one had.
        let renamed = Declared { interface: Some("mast1".into()), ..wanted };
        assert_eq!(bench.apply(&renamed, false).0, ["add the address 10.0.0.1"]);
    }
}
