//! Keeps what is set on the host as the peers and the user want it: addresses, routes, leak protection.
//!
//! The work is done by a thread of its own, one declaration at a time; what changes meanwhile is gathered for the
//! next. What the system refuses is told once, and tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::api::{EngineError, What};
use crate::declared::{Answers, Declared, Dns, Guard, Host, Protection};
use crate::eid_book::clash;
use crate::engine::Engine;
use crate::os::{Family, Platform, Tun};
use crate::peer::{Peer, PeerId};
use crate::reconcile::{Outcome, Part, Reconciler, Refusal, Subject};
use crate::routing::Claim;

/// The first pause before what was refused is tried again.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest one. Whoever took away what stood in the way need not restart the service.
const RETRY_MAX: Duration = Duration::from_secs(15);
/// Setting much takes the longer the more there is. At least so many times as long as it took, changes are gathered
/// before the next time, so that a crowd of peers does not keep a core busy.
const GATHER: u32 = 2;

/// So long after something was set, others' changes are left alone: its own changes are told of, too, and where another
/// program takes away what is set as soon as it is there, neither shall keep the machine busy.
const CALM: Duration = Duration::from_millis(500);
/// It grows while another program takes away the same again and again, up to this.
const CALM_MAX: Duration = Duration::from_secs(8);
/// Changes of others that are so far apart have nothing to do with each other.
const APART: Duration = Duration::from_secs(30);
/// So often in a row, it is no accident.
const CONTEST: u32 = 3;

/// So long the end of the service waits for the system.
const LEAVE: Duration = Duration::from_millis(500);

/// So many things are told of one peer.
const TOLD: usize = 4;

type Reply = oneshot::Sender<Result<(), EngineError>>;

/// What is done, and to be done, to have the host as declared.
pub(crate) struct Upkeep<H> {
    /// None while it is at work.
    reconciler: Option<Reconciler<H>>,
    work: Option<JoinHandle<(Reconciler<H>, Outcome)>>,
    /// Something else is declared than what is at work, or was last.
    changed: bool,
    /// What is set must be looked at, rather than trusted.
    verify: bool,
    /// When it is looked at although nothing else is declared.
    look: Option<Instant>,
    begun: Instant,
    settled: Option<Instant>,
    not_before: Option<Instant>,
    failures: u32,
    retry: Option<Instant>,
    /// What the system refuses now.
    refused: BTreeMap<Part, String>,
    faults: Vec<Refusal>,
    /// Why there is no packet filter, where the system has none.
    lacking: Option<String>,
    /// What others changed last, when that was mended, and how often in a row.
    mended: Vec<String>,
    mended_at: Option<Instant>,
    contests: u32,
    waiting: Vec<Reply>,
}

/// What became of a declaration, as far as it is new.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tidings {
    /// What the system refuses.
    pub refused: Vec<String>,
    /// What others had changed, and is as it should be again; and whether they do so again and again.
    pub mended: Option<(Vec<String>, bool)>,
}

impl<H: Host> Upkeep<H> {
    /// Whatever an earlier run left is looked for at once.
    pub fn new(host: H) -> Self {
        Self {
            reconciler: Some(Reconciler::new(host)),
            work: None,
            changed: true,
            verify: true,
            look: None,
            begun: Instant::now(),
            settled: None,
            not_before: None,
            failures: 0,
            retry: None,
            refused: BTreeMap::new(),
            faults: Vec::new(),
            lacking: None,
            mended: Vec::new(),
            mended_at: None,
            contests: 0,
            waiting: Vec::new(),
        }
    }

    /// Something else is declared now.
    pub fn note_change(&mut self) {
        self.changed = true;
    }

    /// There is another virtual interface than before.
    pub fn note_new(&mut self) {
        self.changed = true;
        self.verify = true;
    }

    /// Others may have changed what was set.
    pub fn note_disturbance(&mut self, now: Instant) {
        self.verify = true;
        let calm = CALM_MAX.min(CALM * 2_u32.pow(self.contests.saturating_sub(1).min(8)));
        let contested = self.mended_at.is_some_and(|at| now < at + APART);
        let calm = if contested { calm } else { CALM };
        self.look = Some(self.settled.map_or(now, |at| now.max(at + calm)));
    }

    /// What stood in the way of something that was refused may be gone.
    pub fn note_relief(&mut self, now: Instant) {
        if !self.refused.is_empty() {
            self.note_disturbance(now);
        }
    }

    /// What is not as declared, as far as is known.
    pub fn faults(&self) -> &[Refusal] {
        &self.faults
    }

    /// The same in words, one for each part; and what another program keeps changing and was not looked at since.
    pub fn troubles(&self) -> Vec<String> {
        let contested = self.look.filter(|_| self.contests >= CONTEST && !self.mended.is_empty());
        let contested = contested.map(|_| contested_text(&self.mended));
        self.refused.values().cloned().chain(contested).collect()
    }

    /// Others changed something, and it is not known yet what.
    pub fn is_contested(&self) -> bool {
        self.look.is_some() && self.contests >= CONTEST
    }

    /// How protection stands that is wanted.
    fn protection(&self) -> Protection {
        let refused = self.faults.iter().find(|fault| is_protection(fault.part));
        if let Some(fault) = refused {
            return Protection::Missing { why: fault.text.clone() };
        }
        let taken_away = |subject: &String| subject.contains("leak protection");
        if self.is_contested() && self.mended.iter().any(taken_away) {
            return Protection::Missing { why: contested_text(&self.mended) };
        }
        match &self.lacking {
            Some(why) => Protection::RoutesOnly { why: why.clone() },
            None => Protection::InForce,
        }
    }

    /// Whether there is something to be done at once.
    pub fn is_due(&self, now: Instant) -> bool {
        let gathered = self.not_before.is_none_or(|at| now >= at);
        let due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        self.work.is_none() && (self.changed && gathered || due(self.look) || due(self.retry))
    }

    /// When there will be something to be done.
    pub fn at(&self) -> Option<Instant> {
        let changed = self.not_before.filter(|_| self.changed);
        [changed, self.look, self.retry].into_iter().flatten().min().filter(|_| self.work.is_none())
    }

    /// Begins to make the host be as declared.
    pub fn begin(&mut self, now: Instant, declared: Declared) {
        let Some(mut reconciler) = self.reconciler.take() else { return };
        self.changed = false;
        self.begun = now;
        self.look = None;
        self.retry = None;
        let verify = std::mem::take(&mut self.verify);
        self.work = Some(tokio::task::spawn_blocking(move || {
            let outcome = reconciler.apply(&declared, verify);
            (reconciler, outcome)
        }));
    }

    /// Waits for the work to be done; none if it broke down. Cancel-safe.
    pub async fn done(&mut self) -> Option<(Reconciler<H>, Outcome)> {
        let Some(work) = &mut self.work else { return std::future::pending().await };
        let done = work.await;
        self.work = None;
        done.inspect_err(|error| tracing::error!(%error, "setting addresses and routes broke down")).ok()
    }

    /// Answers when what is declared now has been set, or refused.
    pub fn wait(&mut self, reply: Reply) {
        self.waiting.push(reply);
        self.answer();
    }

    /// Takes note of what became of it, and returns what is new to tell.
    pub fn settle(&mut self, now: Instant, reconciler: Reconciler<H>, outcome: &Outcome) -> Tidings {
        self.reconciler = Some(reconciler);
        self.settled = Some(now);
        self.not_before = Some(now + now.saturating_duration_since(self.begun) * GATHER);
        let refused = outcome.notes();
        self.failures = if refused.is_empty() { 0 } else { self.failures.saturating_add(1) };
        self.retry = (self.failures > 0)
            .then(|| now + RETRY_MAX.min(RETRY_FIRST * 2_u32.pow((self.failures - 1).min(16))));
        let new = refused.iter().filter(|(part, text)| self.refused.get(part) != Some(text));
        let mut tidings = Tidings { refused: new.map(|(_, text)| text.clone()).collect(), mended: None };
        if !outcome.mended.is_empty() {
            let again = self.mended_at.is_some_and(|at| now < at + APART);
            self.contests = if again { self.contests.saturating_add(1) } else { 1 };
            self.mended_at = Some(now);
            self.mended.clone_from(&outcome.mended);
            // Once, and once more when it goes on: whoever fights over it does so many times a minute.
            if matches!(self.contests, 1 | CONTEST) {
                tidings.mended = Some((outcome.mended.clone(), self.contests == CONTEST));
            }
        }
        self.faults.clone_from(&outcome.refused);
        self.lacking.clone_from(&outcome.lacking);
        if refused.is_empty() && !self.refused.is_empty() {
            tracing::info!("what the system had refused is set now");
        }
        self.refused = refused;
        self.answer();
        tidings
    }

    /// Nothing can be set now.
    fn put_off(&mut self, now: Instant, why: String) {
        self.changed = false;
        self.verify = true;
        self.look = None;
        self.retry = Some(now + RETRY_MAX);
        self.faults = vec![Refusal {
            part: Part::Host,
            subject: Subject::All,
            kind: std::io::ErrorKind::Other,
            text: why.clone(),
        }];
        self.refused.insert(Part::Host, why);
        self.answer();
    }

    fn answer(&mut self) {
        if self.changed || self.work.is_some() {
            return;
        }
        // What is refused of the peers' networks was told as such, and may be of somebody else's making; protection
        // that is wanted and not there must not go unnoticed.
        let unprotected: Vec<&str> = self
            .refused
            .iter()
            .filter(|(part, _)| is_protection(**part))
            .map(|(_, text)| text.as_str())
            .collect();
        for reply in self.waiting.drain(..) {
            let result = match unprotected.as_slice() {
                [] => Ok(()),
                texts => Err(EngineError::System(std::io::Error::other(texts.join("; ")))),
            };
            // Whoever asked may have gone.
            drop(reply.send(result));
        }
    }
}

/// Whether that something is refused of this part may leave a full tunnel open.
fn is_protection(part: Part) -> bool {
    matches!(part, Part::Protection(_) | Part::Guard | Part::Host)
}

/// So many things are named one by one.
const NAMED: usize = 3;

/// Things in words: "the address 10.0.0.1 and the route to 10.0.0.0/8".
fn listed(things: &[String]) -> String {
    match things {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] if things.len() <= NAMED => format!("{} and {last}", first.join(", ")),
        many => format!("{} and {} more", many[..NAMED].join(", "), many.len() - NAMED),
    }
}

fn contested_text(things: &[String]) -> String {
    format!(
        "another program keeps taking away or changing {}; MAST puts it back, but less and less often",
        listed(things)
    )
}

impl<P: Platform> Engine<P> {
    /// What a peer claims may have changed.
    pub(crate) fn reroute(&mut self, id: PeerId) {
        let peer = self.peers.get(id).filter(|p| p.leaving.is_none());
        let claim = peer.map(|peer| Claim::of(peer, self.uplinks.occupied())).unwrap_or_default();
        if self.routing.update(id, claim) {
            self.upkeep.note_change();
        }
    }

    /// The networks that the host is in are others: some addresses may be something there, or not any more.
    pub(crate) fn reroute_all(&mut self) {
        let all: Vec<(PeerId, Option<String>)> = self
            .peers
            .iter()
            .filter_map(|(id, peer)| Some((id, clash(self.uplinks.occupied(), peer.eid_v4()?))))
            .collect();
        for (id, clash) in all {
            let before = self.routing.has_claimed(id, self.peers.get(id).and_then(Peer::eid_v4));
            self.reroute(id);
            let Some(what) = clash.filter(|_| before) else { continue };
            let error =
                format!("{what} here, so that no peer can have it; by its IPv6 address the peer is reached");
            let name = self.peers.get(id).map(|p| p.config.name.clone()).unwrap_or_default();
            self.story.tell(&name, What::RoutesRefused { error });
        }
    }

    /// Everything that shall be set on the host now.
    fn declared(&self) -> Declared {
        let Some(tun) = self.tunnel.tun.as_ref().filter(|_| self.up) else {
            // A tunnel that is being made again leaks nothing meanwhile.
            return Declared {
                protection: self.protection(),
                guard: self.guard(),
                answers: self.answers(),
                ..Declared::default()
            };
        };
        Declared {
            interface: Some(tun.name().to_owned()),
            mtu: Some(self.settings.mtu),
            protection: self.protection(),
            guard: self.guard(),
            answers: self.answers(),
            dns: self.names(),
            ..self.routing.network()
        }
    }

    /// What peers answer comes by the uplinks, wherever routes lead. Those of agreed EIDs cover the address of nobody;
    /// those of a file may.
    fn answers(&self) -> Option<Answers> {
        self.up.then(|| Answers {
            port: self.net.sockets.port(),
            uplinks: self
                .uplinks
                .interfaces()
                .iter()
                .filter(|i| i.usable)
                .map(|i| (i.id, i.name.clone()))
                .collect(),
            covered: self.routing.has_ranges() || !self.protection().is_empty(),
        })
    }

    /// The service ends: what does not go with the virtual interface is taken away, protection excepted.
    pub(crate) async fn leave_host(&mut self) {
        let leave = async {
            if self.upkeep.work.is_some() {
                let done = self.upkeep.done().await;
                self.kept_up(Instant::now(), done);
            }
            let Some(mut reconciler) = self.upkeep.reconciler.take() else { return };
            // Should it break down, the next start takes away what is left.
            drop(tokio::task::spawn_blocking(move || reconciler.leave()).await);
        };
        if tokio::time::timeout(LEAVE, leave).await.is_err() {
            tracing::warn!("the system takes long to give back what was set");
        }
    }

    /// What a full tunnel takes, and what would be a way around it.
    fn protection(&self) -> BTreeSet<Family> {
        let on = self.wanted && self.settings.protect;
        Guard::held_back(|family| on && self.peers.has_full_tunnel_for(family))
    }

    /// Where everything goes to a peer, its name servers are asked for all names.
    fn names(&self) -> Option<Dns> {
        let plain = self.peers.present().filter_map(|peer| peer.config.plain.as_ref());
        let mut full = plain.filter(|plain| plain.full_tunnel() == Some(true) && !plain.dns.is_empty());
        full.next().map(|plain| Dns { servers: plain.dns.clone() })
    }

    /// How it stands.
    pub(crate) fn protection_state(&self) -> Protection {
        if self.protection().is_empty() { Protection::Idle } else { self.upkeep.protection() }
    }

    /// The same, held back whatever the routes say.
    fn guard(&self) -> Option<Guard> {
        let families = self.protection();
        let made = self.tunnel.tun.as_ref().map(|tun| tun.name().to_owned());
        let interfaces = made.into_iter().chain([self.settings.tun_name.clone()]).collect();
        let local_network = self.settings.local_network;
        (!families.is_empty()).then_some(Guard { families, interfaces, local_network })
    }

    /// What is not on the host as it should be for one peer, in words, and whether that leaves nothing of it in force, or
    /// a full tunnel open.
    pub(crate) fn troubles_of(&self, peer: &Peer) -> (Vec<String>, bool) {
        if !self.up {
            return (Vec::new(), false);
        }
        let (mut troubles, mut partial) = (Vec::new(), false);
        if self.tunnel.tun.is_none() {
            troubles.push("the virtual interface is gone, and is being made again".to_owned());
            partial = true;
        }
        if let Some(what) = peer.eid_v4().and_then(|pair| clash(self.uplinks.occupied(), pair)) {
            troubles.push(format!(
                "it cannot be reached by its IPv4 address as long as this machine is in this network, where {what}; by \
                 its IPv6 address it can"
            ));
        }
        if self.upkeep.is_contested() {
            troubles.extend(self.upkeep.troubles().pop());
            partial = true;
        }
        if self.upkeep.faults().is_empty() {
            return (troubles, partial);
        }
        let claim = Claim::of(peer, self.uplinks.occupied());
        let routes = if claim.unrouted { 0 } else { claim.ranges.len() };
        let (mut missing, mut full) = (0, false);
        for fault in self.upkeep.faults() {
            let concerns = match fault.subject {
                Subject::All => true,
                Subject::Address(address) => claim.own.contains(&address),
                Subject::Route(prefix) => {
                    let of = claim.ranges.iter().any(|(range, _)| range.masked() == prefix);
                    missing += usize::from(of);
                    full |= of && prefix.length <= 1;
                    of
                }
                Subject::Part => false,
            };
            full |= fault.subject == Subject::All;
            if concerns && troubles.len() < TOLD {
                troubles.push(fault.text.clone());
            }
        }
        (troubles, partial || full || routes > 0 && missing >= routes)
    }

    /// The service ends.
    pub(crate) fn ending(&self) -> bool {
        self.closing.as_ref().is_some_and(|c| c.stop)
    }

    /// Has the host be as declared, beside this task.
    pub(crate) fn keep_up(&mut self, now: Instant) {
        // When the service ends, protection stays; the rest goes with the virtual interface.
        if self.ending() || !self.upkeep.is_due(now) {
            return;
        }
        if self.upkeep.reconciler.is_none() {
            match self.platform.host() {
                Ok(host) => self.upkeep.reconciler = Some(Reconciler::new(host)),
                Err(error) => {
                    let error = error.to_string();
                    self.upkeep.put_off(now, error.clone());
                    self.story.tell("", What::RoutesRefused { error });
                    return;
                }
            }
        }
        let declared = self.declared();
        self.upkeep.begin(now, declared);
    }

    /// Waits until the host is as declared, where no datagram has to be moved meanwhile.
    pub(crate) async fn keep_up_now(&mut self) {
        loop {
            if self.upkeep.work.is_none() {
                if !self.upkeep.changed {
                    return;
                }
                self.upkeep.not_before = None;
                self.keep_up(Instant::now());
                if self.upkeep.work.is_none() {
                    return;
                }
            }
            let done = self.upkeep.done().await;
            self.kept_up(Instant::now(), done);
        }
    }

    /// What became of it.
    pub(crate) fn kept_up(&mut self, now: Instant, done: Option<(Reconciler<P::Host>, Outcome)>) {
        let Some((reconciler, outcome)) = done else {
            // It is begun anew with a hand of its own.
            self.upkeep.put_off(now, "setting addresses and routes broke down".into());
            return;
        };
        let Tidings { refused, mended } = self.upkeep.settle(now, reconciler, &outcome);
        for error in refused {
            tracing::warn!(error, "the system refuses some of what is declared");
            self.story.tell("", What::RoutesRefused { error });
        }
        if let Some((what, again)) = mended {
            tracing::warn!(?what, again, "another program changed what was set; it is set again");
            self.story.tell("", What::PutBack { what: listed(&what), again });
        }
    }

    /// Whether leak protection is wanted, where everything goes through the tunnel.
    pub(crate) fn set_protect(&mut self, on: bool, local_network: bool, reply: Reply) {
        let before = (self.settings.protect, self.settings.local_network);
        (self.settings.protect, self.settings.local_network) = (on, local_network);
        if before != (on, local_network) {
            self.upkeep.note_change();
        }
        self.upkeep.wait(reply);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::declared::{Present, Step};

    struct Nothing;

    impl Host for Nothing {
        fn present(&mut self, _: Option<&str>) -> io::Result<Present> {
            Ok(Present::default())
        }
        fn take(&mut self, _: Option<&str>, steps: &[Step]) -> Vec<io::Result<()>> {
            steps.iter().map(|_| Err(io::ErrorKind::PermissionDenied.into())).collect()
        }
    }

    /// Has done what was begun.
    async fn finish(upkeep: &mut Upkeep<Nothing>, now: Instant) -> usize {
        let (reconciler, outcome) = upkeep.done().await.unwrap();
        upkeep.settle(now, reconciler, &outcome).refused.len()
    }

    #[tokio::test]
    async fn changes_are_gathered_for_longer_than_setting_them_takes() {
        let (start, ms) = (Instant::now(), Duration::from_millis(1));
        let mut upkeep = Upkeep::new(Nothing);
        assert!(upkeep.is_due(start), "what is left of earlier is looked for at once");
        upkeep.begin(start, Declared::default());
        upkeep.note_change();
        assert!(!upkeep.is_due(start + 5 * ms) && upkeep.at().is_none(), "one at a time");
        assert_eq!(finish(&mut upkeep, start + 10 * ms).await, 0);
        assert!(!upkeep.is_due(start + 29 * ms) && upkeep.is_due(start + 30 * ms));
        assert_eq!(upkeep.at(), Some(start + 30 * ms));
    }

    #[tokio::test]
    async fn others_who_take_away_what_is_set_are_answered_calmly() {
        let (start, ms) = (Instant::now(), Duration::from_millis(1));
        let mut upkeep = Upkeep::new(Nothing);
        upkeep.begin(start, Declared::default());
        finish(&mut upkeep, start).await;
        upkeep.note_disturbance(start + 2 * ms);
        assert!(!upkeep.is_due(start + 499 * ms) && upkeep.is_due(start + 500 * ms));
        upkeep.begin(start + 500 * ms, Declared::default());
        finish(&mut upkeep, start + 501 * ms).await;
        upkeep.note_disturbance(start + 2_000 * ms);
        assert!(upkeep.is_due(start + 2_000 * ms), "at once where it was calm");
    }

    #[tokio::test]
    async fn what_is_refused_is_told_once_and_tried_less_and_less_often() {
        let mut now = Instant::now();
        let mut upkeep = Upkeep::new(Nothing);
        let wanted = Declared { protection: [Family::V4].into(), ..Declared::default() };
        let mut pauses = Vec::new();
        for round in 0..9 {
            upkeep.begin(now, wanted.clone());
            assert_eq!(finish(&mut upkeep, now).await, usize::from(round == 0));
            let at = upkeep.at().unwrap();
            pauses.push((at - now).as_secs());
            now = at;
            assert!(upkeep.is_due(now));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 15, 15, 15, 15, 15]);
        let (reply, answer) = oneshot::channel();
        upkeep.wait(reply);
        assert!(answer.await.unwrap().is_err(), "protection that is wanted and refused is no success");
    }
}
