//! The engine's one task: it owns everything, waits for anything, and does what follows.

use std::future::{pending, poll_fn};
use std::net::Ipv6Addr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use mast_proto::{
    Aead, Context, ContextConfig, EidBook, EidPool, HoldLimits, IndexKey, PeerKind, Policy, Random, eid_v6,
};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::api::{Change, EngineConfig, EngineError, PeerConfig, What};
use crate::counters::Counters;
use crate::drill::Drill;
use crate::eid_book::Book;
use crate::handle::{Command, EngineHandle};
use crate::icmp;
use crate::inward::{Inward, Step};
use crate::lane::{Clock, Lane};
use crate::measuring::{Measure, switched};
use crate::meet::Pairing;
use crate::mirror::Mirror;
use crate::name;
use crate::os::{InterfaceList, Platform, Tun};
use crate::outside::Outside;
use crate::outward::{Outward, Pumped};
use crate::peer::{self, Peer, PeerId};
use crate::peers::{Lent, Peers};
use crate::reconcile::{Outcome, Reconciler};
use crate::road::{Net, Parts, Returned};
use crate::routing::Routing;
use crate::settle::tick;
use crate::sockets::{Failure, Sockets, is_plausible};
use crate::story::Story;
use crate::traffic::Traffic;
use crate::tunnel::Tunnel;
use crate::upkeep::Upkeep;
use crate::uplinks::Uplinks;
use crate::wireguard::{Identity, Indices, Session};

const FOREVER: Duration = Duration::from_secs(24 * 3600);
/// An alarm that comes so soon and too early is left alone. Traffic puts off what is due, and brings it forward again,
/// with every batch, and each time that it is brought forward wakes the runtime once more for nothing.
const NEAR: Duration = Duration::from_millis(100);

/// The settings that all peers share.
pub(crate) struct Settings {
    pub name: String,
    pub tun_name: String,
    pub mtu: u16,
    pub pool: EidPool,
    pub policy: Policy,
    /// Whether nothing may leave around a full tunnel.
    pub protect: bool,
    /// Whether private ranges may be spoken with all the same.
    pub local_network: bool,
    /// Whether there may be relays.
    pub relays: bool,
    /// This host's account at a presence service, for invites.
    pub account: Option<String>,
    /// Speak plain WireGuard with everybody, as if the other end's MAST were not there: for measuring.
    pub plain_only: bool,
}

/// Taking leave of the peers.
pub(crate) struct Closing {
    pub deadline: Instant,
    pub replies: Vec<oneshot::Sender<Result<(), EngineError>>>,
    /// End the engine then.
    pub stop: bool,
}

/// Drives the protocol. [`Engine::start`] is the only way in.
pub struct Engine<P: Platform> {
    pub(crate) platform: Arc<P>,
    pub(crate) settings: Settings,
    pub(crate) own_eid_v6: Ipv6Addr,
    pub(crate) random: Random,

    pub(crate) peers: Peers,
    pub(crate) routing: Routing,
    pub(crate) upkeep: Upkeep<P::Host>,
    pub(crate) net: Net<P::Udp>,
    pub(crate) tunnel: Tunnel<P::Tun>,

    pub(crate) uplinks: Uplinks,

    commands: mpsc::Receiver<Command>,
    /// Somebody may still ask for something.
    listening: bool,
    changes: mpsc::UnboundedSender<Change>,
    pub(crate) story: Story,
    pub(crate) pairing: Pairing,
    pub(crate) drill: Option<Drill>,
    pub(crate) up: bool,
    /// It shall be up, even where that fails.
    pub(crate) wanted: bool,
    pub(crate) closing: Option<Closing>,

    pub(crate) outside: Outside,
    outward: Outward,
    inward: Inward,
    /// What peers are told of this host may be something else now.
    pub(crate) whereabouts: watch::Sender<()>,
}

/// Randomness from a seed of the system.
fn system_random() -> std::io::Result<Random> {
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    SystemRandom::new()
        .fill(&mut *seed)
        .map_err(|_| std::io::Error::other("the system has no random numbers"))?;
    Ok(Random::new(*seed))
}

enum Wake<T, H> {
    Interfaces,
    Command(Option<Command>),
    Timer,
    Data,
    /// A socket has room again.
    Room,
    /// Something came back from the lane.
    Lane,
    /// The virtual interface was made, or could not be.
    Made(std::io::Result<T>),
    /// What is declared was set, or refused.
    Kept(Option<Box<(Reconciler<H>, Outcome)>>),
}

impl<P: Platform> Engine<P> {
    /// Starts the engine as a task of the current runtime. Changes that must outlive a restart come out of the
    /// second value.
    ///
    /// # Errors
    /// When the configuration makes no sense, the port is in use, or the system refuses the virtual interface.
    pub async fn start(
        platform: P,
        config: EngineConfig,
    ) -> Result<(EngineHandle, mpsc::UnboundedReceiver<Change>), EngineError> {
        Self::begin(platform, config).await.map(|(handle, changes, _)| (handle, changes))
    }

    /// The same, with its task: for a runtime that is there for the engine alone, and ends with it.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub async fn begin(
        platform: P,
        config: EngineConfig,
    ) -> Result<(EngineHandle, mpsc::UnboundedReceiver<Change>, JoinHandle<()>), EngineError> {
        let watch = platform.watch_interfaces()?;
        let (commands, inbox) = mpsc::channel(32);
        let (changes, outbox) = mpsc::unbounded_channel();
        let mut engine = Self::new(platform, watch, inbox, changes, &config)?;
        for peer in config.peers {
            engine.check_peer(&peer)?;
            let id = engine.insert_peer(peer);
            engine.reroute(id);
        }
        for invite in config.invites {
            engine.pairing.add(invite);
        }
        if config.up {
            engine.bring_up().await?;
        }
        let handle = EngineHandle {
            commands,
            listeners: engine.story.listeners(),
            whereabouts: engine.whereabouts.subscribe(),
            uplinks: engine.uplinks.listen(),
            port: engine.net.sockets.port(),
        };
        let task = tokio::spawn(engine.run());
        Ok((handle, outbox, task))
    }

    fn new(
        platform: P,
        watch: watch::Receiver<InterfaceList>,
        commands: mpsc::Receiver<Command>,
        changes: mpsc::UnboundedSender<Change>,
        config: &EngineConfig,
    ) -> Result<Self, EngineError> {
        let mut random = system_random()?;
        let identity = Identity::new(&config.private_key);
        let platform = Arc::new(platform);
        let now = Instant::now();
        Ok(Self {
            net: Net {
                sockets: Sockets::new(config.port)?,
                indices: Indices::new(),
                counters: Counters::default(),
                traffic: Traffic::default(),
                full: None,
                too_big: icmp::Allowance::new(now),
                lane: lane(&platform),
                returned: Vec::new(),
                mirror: Mirror::default(),
            },
            upkeep: Upkeep::new(platform.host()?),
            platform,
            settings: Settings {
                name: name::clean(&config.name).unwrap_or_else(|| "mast".into()),
                tun_name: config.tun_name.clone(),
                mtu: config.mtu,
                pool: config.pool,
                policy: config.policy.clone(),
                protect: config.protect,
                local_network: config.local_network,
                relays: config.relays,
                account: None,
                plain_only: switched() == Some(Measure::Plain),
            },
            own_eid_v6: eid_v6(&identity.public()),
            peers: Peers::new(identity, IndexKey::new(random.bytes())),
            random,
            routing: Routing::default(),
            tunnel: Tunnel::default(),
            uplinks: Uplinks::new(watch, config.choices.clone(), now),
            commands,
            listening: true,
            changes,
            story: Story::new(),
            pairing: Pairing::new(config.confirms),
            drill: None,
            up: false,
            wanted: false,
            closing: None,
            outside: Outside::new(config.port),
            outward: Outward::new(),
            inward: Inward::new(),
            whereabouts: watch::Sender::default(),
        })
    }

    async fn run(mut self) {
        let mut sleep = pin!(tokio::time::sleep(FOREVER));
        let mut alarm = Instant::now() + FOREVER;
        loop {
            let now = Instant::now();
            self.settle(now);
            if self.has_left(now) {
                if self.ending() {
                    self.leave_host().await;
                }
                if self.finish_closing() {
                    return;
                }
            }
            self.keep_up(now);
            let due = self.timeout(now).unwrap_or(now + FOREVER);
            if due < alarm || due > alarm && alarm > now + NEAR {
                alarm = due;
                sleep.as_mut().reset(due.into());
            }
            let wake = {
                let Self { uplinks, commands, listening, net, tunnel, upkeep, .. } = &mut self;
                let full = net.full.map(|(path, _)| path);
                let stuck = full.is_some() || net.lane.is_waiting();
                let tunnel = async {
                    match &tunnel.tun {
                        Some(tun) if !stuck => {
                            // An error shows when it is read.
                            let _ = tun.readable().await;
                            Wake::Data
                        }
                        Some(_) => pending().await,
                        None => Wake::Made(tunnel.made().await),
                    }
                };
                let room = poll_fn(|cx| match full {
                    Some(path) => net.sockets.poll_writable(path, cx),
                    None => Poll::Pending,
                });
                tokio::select! {
                    // What the system says of the interfaces comes before everything else.
                    biased;
                    () = uplinks.changed() => Wake::Interfaces,
                    command = commands.recv(), if *listening => Wake::Command(command),
                    () = &mut sleep => Wake::Timer,
                    () = poll_fn(|cx| net.sockets.poll_readable(cx)) => Wake::Data,
                    () = room => Wake::Room,
                    () = net.lane.back() => Wake::Lane,
                    wake = tunnel => wake,
                    done = upkeep.done() => Wake::Kept(done.map(Box::new)),
                }
            };
            let now = Instant::now();
            self.take_back(now);
            match wake {
                Wake::Lane => {}
                Wake::Interfaces => self.interfaces_changed(now),
                Wake::Command(Some(command)) => self.command(now, command).await,
                // Nobody is left who could ask for anything.
                Wake::Command(None) => {
                    self.listening = false;
                    self.close(now, true, None);
                }
                Wake::Timer => {
                    // It fires once; the next round sets it anew.
                    alarm = now + FOREVER;
                    self.timers(now);
                }
                Wake::Data => {
                    let more = self.pump_sockets(now) | self.pump_tun(now);
                    if more {
                        // Lets the runtime look which of the others are ready, too.
                        tokio::task::yield_now().await;
                    }
                }
                Wake::Room => self.retry_full(now),
                Wake::Made(made) => self.tun_made(now, made),
                Wake::Kept(done) => self.kept_up(now, done.map(|done| *done)),
            }
        }
    }

    /// What the roads need, beside what they own.
    fn roads(&mut self, now: Instant) -> (&mut Outward, &mut Inward, Parts<'_, P::Tun, P::Udp>) {
        let Lent { all, key, touched } = self.peers.lend();
        let parts = Parts {
            now,
            tun: self.tunnel.tun.as_ref(),
            peers: all,
            key,
            routing: &self.routing,
            touched,
            net: &mut self.net,
            drill: self.drill.as_mut(),
        };
        (&mut self.outward, &mut self.inward, parts)
    }

    /// From the virtual interface to the network, for one turn. Tells whether there may be more.
    fn pump_tun(&mut self, now: Instant) -> bool {
        let (outward, _, mut parts) = self.roads(now);
        match outward.pump(&mut parts) {
            Pumped::More => true,
            Pumped::Done => false,
            Pumped::Failed(error) => {
                self.lose_tun(now, &error);
                false
            }
        }
    }

    /// From the network to the virtual interface, to a context, or nowhere, for one turn. Tells whether there may be more.
    fn pump_sockets(&mut self, now: Instant) -> bool {
        loop {
            let (_, inward, mut parts) = self.roads(now);
            let message = match inward.step(&mut parts) {
                Step::More => return true,
                Step::Done => return false,
                Step::WireGuard(message) => message,
            };
            let batch = inward.lend();
            let opened = self.wireguard(now, message.path, message.within(&batch));
            self.inward.give_back(batch);
            if let Some((from, opened)) = opened {
                let (_, inward, mut parts) = self.roads(now);
                inward.put(&mut parts, &message, from, &opened);
            }
        }
    }

    /// Hands over what waited for its turn in the sender's order, and waits no longer.
    pub(crate) fn deliver_late(&mut self, now: Instant, id: PeerId) {
        let (_, inward, mut parts) = self.roads(now);
        inward.deliver_late(&mut parts, id);
    }

    /// Sends a datagram of the engine's own to a peer, as if it came from the host.
    pub(crate) fn forward(&mut self, now: Instant, id: PeerId, datagram: &mut [u8]) {
        let (outward, _, mut parts) = self.roads(now);
        outward.forward(&mut parts, id, datagram);
    }

    /// A socket that had no room may have some again, or had its time.
    fn retry_full(&mut self, now: Instant) {
        let (outward, _, mut parts) = self.roads(now);
        outward.retry(&mut parts);
        if self.net.full.is_none() {
            // What waited in the engine: the virtual interface does not tell of it.
            self.pump_tun(now);
        }
    }

    /// Takes back what went through the lane, and goes on where something waited for it.
    fn take_back(&mut self, now: Instant) {
        if !self.net.lane.is_empty() {
            self.net.take_back();
        }
        let Lent { all, touched, .. } = self.peers.lend();
        for Returned { peer: id, path, bytes, count, even, error } in self.net.returned.drain(..) {
            let Some(peer) = all.get_mut(&id) else { continue };
            peer.tx_bytes += bytes;
            peer.note_run(now, path, count, even);
            if let Some(error) = error {
                peer.context.handle_send_error(now, path, error);
                touched.add(id);
            }
        }
        if self.net.lane.resume() {
            self.pump_tun(now);
        }
    }

    /// When something is due that no event brings.
    fn timeout(&mut self, now: Instant) -> Option<Instant> {
        let others = [
            self.peers.due(),
            self.net.sockets.retry(now).filter(|_| self.up),
            self.tunnel.retry(),
            self.upkeep.at().filter(|_| !self.ending()),
            self.uplinks.due(),
            self.outside.due().filter(|_| self.up),
            self.net.full_until(),
            self.pairing.timeout(),
            self.drill.as_ref().map(Drill::timeout),
            self.closing.as_ref().map(|c| c.deadline),
        ];
        others.into_iter().flatten().min()
    }

    fn timers(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        while let Some((id, peer)) = self.peers.take_due(now) {
            if due(peer.timeout) {
                peer.context.handle_timeout(now);
            }
            if due(peer.tick) {
                tick(now, id, peer, &mut self.net);
            }
            if due(peer.leaving) {
                self.drop_peer(id);
            }
        }
        if self.up && due(self.net.sockets.retry(now)) {
            self.sync_sockets(now);
        }
        if due(self.net.full_until()) {
            self.retry_full(now);
        }
        if self.up && due(self.tunnel.retry()) {
            self.make_tun();
        }
        if due(self.uplinks.due()) {
            self.revalidate_all(now);
        }
        if self.up && due(self.outside.due()) {
            self.ask_outside(now);
        }
        self.pairing.drive(now, &mut self.net);
        self.drive_drill(now);
    }

    /// The interfaces changed, or routes, or the machine woke up.
    fn interfaces_changed(&mut self, now: Instant) {
        let news = self.uplinks.take(now, self.up);
        if news.ended {
            tracing::error!("the system no longer tells of changes of the network: restart the service");
            self.story.tell("", What::WatchEnded);
        }
        if news.disturbed {
            self.upkeep.note_disturbance(now);
        }
        if news.occupied {
            self.reroute_all();
        }
        if news.interfaces || news.routes {
            self.upkeep.note_relief(now);
        }
        if news.interfaces {
            // Answers come by the uplinks that there are.
            self.upkeep.note_change();
            self.tell_interfaces(now);
        }
        if !news.slept.is_zero() {
            for peer in self.peers.touch_all() {
                peer.context.handle_sleep(now, news.slept);
            }
        }
        if news.restored {
            self.begin_anew(now);
        }
        if news.revalidate {
            self.revalidate_all(now);
        }
    }

    /// The machine may be a copy of one that goes on, or went on, with the same keys and counters: none of them is used
    /// again. Another instance meets every peer with new keys, and what is random from now on comes from the system.
    fn begin_anew(&mut self, now: Instant) {
        match system_random() {
            Ok(random) => self.random = random,
            Err(error) => tracing::error!(%error, "no randomness from the system"),
        }
        tracing::warn!(
            "the clock jumped, or this machine was restored from a snapshot: all keys are made anew"
        );
        for peer in self.peers.touch_all() {
            peer.session.begin_anew();
            let seed = self.random.bytes();
            peer.context.begin_anew(now, self.random.u64(), seed);
        }
    }

    /// Every part that uses interfaces learns of the present ones.
    pub(crate) fn tell_interfaces(&mut self, now: Instant) {
        self.whereabouts.send_replace(());
        if !self.up {
            return;
        }
        self.sync_sockets(now);
        self.outside.sync(now, self.uplinks.interfaces());
        let interfaces = self.uplinks.shared();
        for peer in self.peers.touch_all() {
            peer.context.handle_interfaces(now, Arc::clone(&interfaces));
        }
    }

    pub(crate) fn revalidate_all(&mut self, now: Instant) {
        self.uplinks.note_revalidated(now);
        if !self.up {
            return;
        }
        self.outside.ask_again(now);
        for peer in self.peers.touch_all() {
            peer.context.revalidate(now);
        }
    }

    fn sync_sockets(&mut self, now: Instant) {
        for failure in self.net.sockets.sync(&*self.platform, self.uplinks.interfaces(), now) {
            let port = self.net.sockets.port();
            let Failure { interface, error } = failure;
            tracing::warn!(%error, port, "no socket; trying again");
            let (kind, error) = (error.kind(), error.to_string());
            self.story.tell("", What::NoSocket { interface, port, kind, error });
        }
    }

    pub(crate) fn tell_change(&mut self, change: Change) {
        if matches!(change, Change::Peer(_) | Change::PeerRemoved(_)) {
            self.whereabouts.send_replace(());
        }
        if self.changes.send(change).is_err() {
            tracing::debug!("nobody keeps the changes");
        }
    }

    /// Adds a peer that was checked, without connecting to it.
    pub(crate) fn insert_peer(&mut self, config: PeerConfig) -> PeerId {
        let now = Instant::now();
        let identity = self.peers.identity_of(&config);
        let own_eid_v6 = eid_v6(&identity.public());
        let (id, indices) = self.peers.next();
        let mut context = Context::new(
            ContextConfig {
                indices,
                instance: self.random.u64(),
                lower: identity.public() < config.public_key,
                // A file's key pair is nobody's but its provider's, and so nothing is told that another knows, too.
                name: if config.plain.is_some() { String::new() } else { self.settings.name.clone() },
                aeads: aeads(),
                eid_v6: own_eid_v6,
                eid_v4: config.eid_v4,
                port: self.net.sockets.port(),
                expect: config.kind,
                disclosure: config.disclosure,
                policy: config.policy_under(&self.settings.policy),
                hold: HoldLimits::default(),
                seed: self.random.bytes(),
            },
            now,
        );
        context.set_relays(now, self.settings.relays);
        let keepalive = config.plain.as_ref().and_then(|p| p.keepalive);
        let mut session = Session::new(
            identity,
            &config.public_key,
            config.preshared_key.clone(),
            keepalive,
            &self.net.indices,
        );
        session.ticking = context.kind() == Some(PeerKind::WireGuard);
        let peer = Peer {
            own_eid_v6,
            config,
            context,
            session,
            rx_bytes: 0,
            tx_bytes: 0,
            timeout: None,
            tick: None,
            leaving: None,
            alarm: None,
            batches: None,
        };
        self.peers.insert(id, peer);
        id
    }

    /// Makes a context want its peer, on the interfaces that there are.
    pub(crate) fn connect_peer(&mut self, now: Instant, id: PeerId) {
        let Some(peer) = self.peers.touch(id) else { return };
        if peer.context.eid_v4().is_none() {
            let mut book = Book {
                routing: &self.routing,
                interfaces: self.uplinks.interfaces(),
                occupied: self.uplinks.occupied(),
                pool: self.settings.pool,
                random: &mut self.random,
                asking: id,
            };
            peer.context.propose_eids(book.propose());
        }
        peer.context.handle_interfaces(now, self.uplinks.shared());
        for source in peer::SOURCES {
            // None, too: it may have been withdrawn while MAST was down.
            let list = peer.config.addresses.get(source).iter().copied().filter(is_plausible);
            peer.context.set_addresses(now, source, list);
        }
        peer.context.connect(now);
        if peer.is_plain() {
            peer.tick = Some(now);
        }
    }

    pub(crate) fn drop_peer(&mut self, id: PeerId) {
        if self.peers.remove(id) {
            self.reroute(id);
        }
    }
}

/// A second thread, where that can bring something.
fn lane<P: Platform>(platform: &Arc<P>) -> Lane<P::Udp> {
    let clock: Clock = match switched() {
        // One that is always busy.
        Some(Measure::Lane) => {
            let start = Instant::now();
            Arc::new(move || Some(start.elapsed()))
        }
        _ => {
            let platform = Arc::clone(platform);
            Arc::new(move || platform.processor_time())
        }
    };
    Lane::new(platform.processors(), clock)
}

/// AEADs in order of preference: AES where the processor has instructions for it and for GHASH.
fn aeads() -> Vec<Aead> {
    #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
    let fast = std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let fast = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
    let fast = false;
    let fast = match switched() {
        Some(Measure::Aes) => true,
        Some(Measure::ChaCha20) => false,
        _ => fast,
    };
    if fast {
        vec![Aead::Aes256Gcm, Aead::ChaCha20Poly1305]
    } else {
        vec![Aead::ChaCha20Poly1305, Aead::Aes256Gcm]
    }
}
