//! The interfaces that traffic may leave by: as the system has them, and as the user wants them seen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mast_proto::{Interface, InterfaceId, Relayed};
use tokio::sync::watch;

use crate::api::{InterfaceChoice, LeftOut};
use crate::choices::Choices;
use crate::nat64::Nat64;
use crate::os::{InterfaceList, Prefix};
use crate::peer::Names;

/// Routes often change many at a time; once in so long is enough to try every path.
const REVALIDATE: Duration = Duration::from_millis(100);

/// The interfaces, and what was said of them.
pub(crate) struct Uplinks {
    watch: watch::Receiver<InterfaceList>,
    /// The system still tells of changes.
    watching: bool,
    /// What the system told last, its interfaces as the user wants them seen, without those never to be used.
    list: InterfaceList,
    /// The interfaces of the list, shared with all contexts.
    shared: Arc<[Interface]>,
    /// The same, for whoever wants to know when it changes.
    told: watch::Sender<Arc<[Interface]>>,
    choices: Choices,
    names: Names,
    /// When every path was last tried anew, and when that is due.
    revalidated: Instant,
    revalidate: Option<Instant>,
}

/// What the system told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// It will tell nothing any more.
    pub ended: bool,
    /// The interfaces are others, or have other addresses.
    pub interfaces: bool,
    /// Somebody took away what is set on the host.
    pub disturbed: bool,
    /// Other addresses belong to the networks that the host is in.
    pub occupied: bool,
    /// Routes of uplinks changed.
    pub routes: bool,
    /// Routes changed, or the machine woke up: every path is to be tried anew now.
    pub revalidate: bool,
    /// The machine slept so long, and the clock did not count it.
    pub slept: Duration,
    /// The machine may be a copy.
    pub restored: bool,
}

impl Uplinks {
    pub fn new(
        watch: watch::Receiver<InterfaceList>,
        choices: BTreeMap<String, InterfaceChoice>,
        now: Instant,
    ) -> Self {
        let mut list = watch.borrow().clone();
        let (mut choices, mut names) = (Choices::new(choices), Names::default());
        names.learn(&list.interfaces);
        list.interfaces = choices.apply(list.interfaces);
        Self {
            watch,
            watching: true,
            shared: list.interfaces.as_slice().into(),
            told: watch::Sender::new(list.interfaces.as_slice().into()),
            list,
            choices,
            names,
            revalidated: now,
            revalidate: None,
        }
    }

    /// Waits until the system has something to tell, or will tell nothing any more; after that for ever.
    pub async fn changed(&mut self) {
        if !self.watching {
            std::future::pending::<()>().await;
        }
        self.watching = self.watch.changed().await.is_ok();
    }

    /// Takes in what the system told. `up`: paths are used.
    pub fn take(&mut self, now: Instant, up: bool) -> News {
        if !self.watching {
            return News { ended: true, ..News::default() };
        }
        let mut list = self.watch.borrow_and_update().clone();
        self.names.learn(&list.interfaces);
        list.interfaces = self.choices.apply(list.interfaces);
        let resumed = list.resumed != self.list.resumed;
        let routes = list.routes_changed != self.list.routes_changed;
        let mut news = News {
            ended: false,
            interfaces: list.interfaces != self.list.interfaces,
            disturbed: list.disturbed != self.list.disturbed,
            occupied: list.occupied != self.list.occupied,
            routes,
            revalidate: resumed,
            slept: list.asleep.saturating_sub(self.list.asleep),
            restored: list.restored != self.list.restored,
        };
        self.list = list;
        self.share();
        if up && routes && !resumed {
            let due = self.revalidated + REVALIDATE;
            news.revalidate = now >= due;
            if !news.revalidate {
                self.revalidate = Some(due);
            }
        }
        news
    }

    fn share(&mut self) {
        if *self.shared != *self.list.interfaces {
            self.shared = self.list.interfaces.as_slice().into();
            self.told.send_replace(self.shared());
        }
    }

    /// The interfaces, as they change.
    pub fn listen(&self) -> watch::Receiver<Arc<[Interface]>> {
        self.told.subscribe()
    }

    /// Those that may be used.
    pub fn interfaces(&self) -> &[Interface] {
        &self.list.interfaces
    }

    /// Those that lead somewhere and are not used, and why.
    pub fn left_out(&self) -> &[(String, LeftOut)] {
        &self.list.left_out
    }

    /// IPv4 addresses of the networks that the host is in.
    pub fn occupied(&self) -> &BTreeMap<Prefix, String> {
        &self.list.occupied
    }

    /// The interfaces, to be kept by a context.
    pub fn shared(&self) -> Arc<[Interface]> {
        Arc::clone(&self.shared)
    }

    /// The names that interfaces have or had.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// What the user chose.
    pub fn choices(&self) -> &Choices {
        &self.choices
    }

    /// Changes what is chosen for an interface: all choices, to be kept, and whether that changed the interfaces.
    pub fn choose(
        &mut self,
        name: &str,
        choice: InterfaceChoice,
    ) -> (BTreeMap<String, InterfaceChoice>, bool) {
        let all = self.choices.set(name, choice);
        let usable = self.choices.usable();
        let changed = usable != self.list.interfaces;
        self.list.interfaces = usable;
        self.share();
        (all, changed)
    }

    /// These uplinks have carried all that the user means to spend. Whether that changed the interfaces.
    pub fn spend(&mut self, uplinks: BTreeSet<String>) -> bool {
        self.choices.spend(uplinks) && self.dress()
    }

    /// So this host's addresses are seen from outside. Whether that changed the interfaces.
    pub fn see(&mut self, reflexive: Vec<(InterfaceId, IpAddr, SocketAddr)>) -> bool {
        self.choices.see(reflexive) && self.dress()
    }

    /// So much they have at relays. Whether that changed the interfaces.
    pub fn relay(&mut self, relayed: Vec<(InterfaceId, String, Relayed)>) -> bool {
        self.choices.relay(relayed) && self.dress()
    }

    /// IPv4 addresses are reached over these with such a prefix. Whether that changed anything.
    pub fn translate(&mut self, translated: BTreeMap<String, Nat64>) -> bool {
        let new = self.choices.translate(translated);
        self.dress() | new
    }

    fn dress(&mut self) -> bool {
        let usable = self.choices.usable();
        let changed = usable != self.list.interfaces;
        self.list.interfaces = usable;
        self.share();
        changed
    }

    /// When every path is to be tried anew, because routes changed a moment ago.
    pub fn due(&self) -> Option<Instant> {
        self.revalidate
    }

    /// Every path is tried anew.
    pub fn note_revalidated(&mut self, now: Instant) {
        self.revalidate = None;
        self.revalidated = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::tests::interface;

    #[test]
    fn what_the_system_tells_is_told_apart() {
        let now = Instant::now();
        let later = now + REVALIDATE * 2;
        let (system, watch) = watch::channel(InterfaceList::default());
        let mut uplinks = Uplinks::new(watch, BTreeMap::new(), now);
        let mut told = |change: &dyn Fn(&mut InterfaceList), now| {
            system.send_modify(|list| change(list));
            uplinks.take(now, true)
        };
        let news = told(&|list| list.interfaces.push(interface(3, "wlan0")), later);
        assert_eq!(news, News { interfaces: true, ..News::default() });
        let news = told(&|list| list.disturbed += 1, later);
        assert_eq!(news, News { disturbed: true, ..News::default() });
        let news = told(&|list| list.routes_changed += 1, later);
        assert_eq!(news, News { routes: true, revalidate: true, ..News::default() });
        uplinks.note_revalidated(later);
        // Many routes change at a time: all paths are tried again once.
        system.send_modify(|list| list.routes_changed += 1);
        assert_eq!(uplinks.take(later, true), News { routes: true, ..News::default() });
        assert_eq!(uplinks.due(), Some(later + REVALIDATE));
        system.send_modify(|list| list.resumed += 1);
        assert!(uplinks.take(later, true).revalidate, "who woke up waits for nothing");
    }

    #[test]
    fn an_interface_that_is_chosen_away_is_gone_and_keeps_its_name() {
        let now = Instant::now();
        let list = InterfaceList { interfaces: vec![interface(3, "wlan0")], ..InterfaceList::default() };
        let (_system, watch) = watch::channel(list);
        let mut uplinks = Uplinks::new(watch, BTreeMap::new(), now);
        let never = InterfaceChoice { excluded: true, ..InterfaceChoice::default() };
        assert!(uplinks.choose("wlan0", never).1);
        assert!(uplinks.interfaces().is_empty() && uplinks.shared().is_empty());
        assert_eq!(uplinks.names().of(mast_proto::InterfaceId(3)), "wlan0");
        assert!(!uplinks.choose("wlan0", never).1);
    }
}
