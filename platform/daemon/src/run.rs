//! The life of the service: start, serve, stop.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mast_control::{Access, KeyPlace, Server, ServerOptions, What};
use mast_engine::api::{Change, EngineConfig};
use mast_engine::surroundings::Surroundings;
use mast_platform::{Native, Overrides};
use mast_state::StateDir;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::args::{Args, DEFAULT_CONFIG};
use crate::chronicle::Chronicle;
use crate::config::{Config, RelayConfig, RendezvousConfig, StatusFor};
use crate::daemon::{Beginning, Daemon, Facts};
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::keeper::{DISK, HASTE};
use crate::key::{Brought, Holder};
use crate::life::{self, Asked, Life, Told};
use crate::road::{self, Road};
use crate::service::MastService;
use crate::store::Store;
use crate::{
    VERSION, history, key, logging, nat64, pause, peer_relays, protect, relays, rendezvous, resolve, stun,
};

/// How long stopping may take; what is not done by then is cut short. With what comes after it is less than a second.
const STOP: Duration = Duration::from_millis(750);
/// How long the last lines of the log may take to be written.
const LOG: Duration = Duration::from_millis(100);
/// A state directory that has not answered for so long is told of in the log.
const STATE_HANGS: Duration = Duration::from_secs(5);

/// Stands for the period of what is not asked for.
const NEVER: Duration = Duration::from_secs(3600);

/// Runs the service until it is told to stop.
///
/// # Errors
/// When it cannot start, or the engine ends by itself.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    #[cfg(feature = "measuring")]
    if let Some(measure) = args.measure {
        measure.set();
    }
    if !args.check {
        protect::at_once(&args.state_dir);
    }
    let config_path = args.config.clone().unwrap_or_else(|| DEFAULT_CONFIG.into());
    let config = Config::load(&config_path, args.config.is_some())?;
    if args.check {
        println!("{}: the configuration is fine ({} peers)", config_path.display(), config.peers.len());
        for endpoint in config.peers.iter().flat_map(|p| &p.endpoints) {
            if let Some(zone) = endpoint.zone().filter(|_| endpoint.zoned().is_none()) {
                println!("note: {endpoint} is of no use now: there is no interface `{zone}`");
            }
        }
        if let Some(publish) = &config.rendezvous.dns.publish
            && let Err(why) = rendezvous::secret(publish)
        {
            println!("note: this host's name cannot be published: {why}");
        }
        return Ok(());
    }
    // Before there is a key in memory.
    life::shut_memory().map_err(system("cannot keep other processes out of memory"))?;
    // This thread runs everything but the engine, which has one of its own (`road.rs`).
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_keep_alive(Duration::from_secs(2))
        .build()
        .map_err(system("cannot start the runtime"))?;
    let result = runtime.block_on(async {
        let life = life::Native::new().map_err(system("cannot listen for signals"))?;
        let facts = Facts { config: config_path, interface: config.interface.clone(), port: config.port };
        live(args, config, facts, life).await
    });
    // What hangs must not hold up the end.
    runtime.shutdown_background();
    logging::flush(LOG);
    result
}

fn system(what: &'static str) -> impl Fn(std::io::Error) -> Failure {
    move |source| Failure::System { what, source }
}

struct Started {
    daemon: Arc<Daemon>,
    server: Server,
    stun: Vec<Endpoint>,
    relays: Vec<RelayConfig>,
    willing: bool,
    rendezvous: RendezvousConfig,
}

/// What is read from the state directory.
struct State {
    store: Store,
    chronicle: Chronicle,
    key: key::AtStart,
}

impl State {
    /// Reads it. The disk may take any time.
    fn read(path: &Path, config: &Config) -> Result<Self, Failure> {
        let store = Store::load(StateDir::open(path)?, config)?;
        let chronicle = Chronicle::open(store.dir().path());
        let key = key::at_start(store.dir(), store.handed_key())?;
        Ok(Self { store, chronicle, key })
    }

    /// The same, while nothing waits for that but the start.
    async fn read_aside(path: PathBuf, config: &Config) -> Result<Self, Failure> {
        let (shown, config) = (path.display().to_string(), config.clone());
        let reading = DISK.begin(move || Self::read(&path, &config));
        let mut reading =
            reading.map_err(|error| system("cannot read the state")(io::Error::other(error)))?;
        let done = match timeout(STATE_HANGS, &mut reading).await {
            Ok(done) => done,
            Err(_) => {
                tracing::warn!(
                    "the disk of {shown} does not answer: without the key in it nothing can begin; waiting"
                );
                reading.await
            }
        };
        done.map_err(|_| Failure::Ended)?
    }
}

async fn live(args: &Args, config: Config, facts: Facts, mut life: impl Life) -> Result<(), Failure> {
    let reading = State::read_aside(args.state_dir.clone(), &config);
    let Some(state) = unless_stopped(&mut life, reading).await else { return Ok(()) };
    let State { mut store, chronicle, key } = state?;
    // Before all that can fail, or waits.
    let guard = store.guard();
    let held = guard.clone();
    let held = tokio::task::spawn_blocking(move || protect::set(held)).await.unwrap_or_default();
    let name = config.name.clone().unwrap_or_else(host_name);
    let mut unkept = None;
    let (private_key, place) = match key {
        key::AtStart::Kept(key) => {
            store.set_handed_key(None);
            (key, KeyPlace::File)
        }
        key::AtStart::Unkept(key, error) => {
            tracing::error!(%error, "this host's new key is not on the disk: it is another one at the next start, unless it can be written before");
            unkept = Some(key.clone());
            (key, KeyPlace::File)
        }
        key::AtStart::Awaited(expected) => {
            life.tell(Told::Ready);
            let owner = store.key_owner().map(str::to_owned);
            let waiting = key::wait(&args.control, &name, expected, owner, (guard, held));
            let Some(brought) = unless_stopped(&mut life, waiting).await else { return Ok(()) };
            let Brought { key, by, wanted } = brought?;
            if store.key_owner().is_none() {
                store.set_key_owner(by);
            }
            if let Some(up) = wanted {
                store.apply(Change::Up(up));
            }
            (key, KeyPlace::Session)
        }
    };
    let holder = Holder::new(private_key.clone(), place);
    // The lock of the state directory is held: whatever of this name nobody holds is a dead predecessor's.
    for thing in Native::default()
        .clear_leftovers(&config.interface)
        .map_err(system("cannot clear what a dead mastd left"))?
    {
        tracing::info!("removed {thing}");
    }
    // A pause that ended while nobody watched is over.
    let paused = store.paused_until();
    let up = match paused {
        Some(until) => until <= SystemTime::now(),
        None => store.up(),
    };
    if up {
        store.set_paused_until(None);
    }
    let engine_config = EngineConfig {
        private_key,
        name: name.clone(),
        port: config.port,
        tun_name: config.interface.clone(),
        mtu: config.mtu,
        pool: config.pool,
        policy: store.policy(),
        peers: store.peers(),
        invites: store.invites(),
        choices: store.choices(),
        protect: store.leak_protection(),
        local_network: store.local_network(),
        up,
        relays: !config.relays.is_empty(),
        confirms: true,
    };
    let platform = Native::new(overrides(&config));
    let options = ServerOptions::new(name, VERSION).at(&args.control).with_access(access(&config)).present();
    let start = async {
        let Road { engine, changes } = road::start(platform, engine_config).await?;
        match Server::bind(options) {
            Ok(server) => Ok((engine, changes, server)),
            Err(error) => {
                // The peers should know; a failure changes nothing any more.
                let _ = timeout(STOP, engine.stop()).await;
                Err(Failure::Control(error))
            }
        }
    };
    let Some(started) = unless_stopped(&mut life, start).await else { return Ok(()) };
    let (engine, changes, server) = started?;
    let beginning = Beginning { engine, changes, store, chronicle, facts, key: holder, unkept };
    let Config { stun, relays, relay_for_peers: willing, rendezvous, .. } = config;
    let daemon = Daemon::new(beginning);
    serve(Started { daemon, server, stun, relays, willing, rendezvous }, life).await
}

/// Does something before the service serves, unless it is told to stop meanwhile.
async fn unless_stopped<T>(life: &mut impl Life, work: impl Future<Output = T>) -> Option<T> {
    let period = life.alive_every();
    let watched = period.is_some();
    let mut alive = tokio::time::interval(period.unwrap_or(NEVER));
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            asked = life.asked() => if asked == Asked::Stop {
                return None;
            },
            _ = alive.tick(), if watched => life.tell(Told::Alive),
        }
    }
}

async fn serve(started: Started, mut life: impl Life) -> Result<(), Failure> {
    let Started { daemon, server, stun: servers, relays, willing, rendezvous } = started;
    let writing = tokio::spawn(Arc::clone(&daemon).write());
    // What was read may be written otherwise now, and the key may be new.
    daemon.keeper.ask();
    // Never cut short by a signal: what the engine reported before must reach the disk.
    let mut keeping = tokio::spawn({
        let daemon = Arc::clone(&daemon);
        async move { daemon.keep().await }
    });
    // Also what was set before a crash and is wanted no more. When the service ends, it stays: that is its purpose.
    if let Err(why) = daemon.guard().await {
        tracing::error!(why, "leak protection");
        daemon.note("", What::ProtectionRefused { error: why });
    }
    let (stop_server, server_stopped) = oneshot::channel::<()>();
    let service = Arc::new(MastService(Arc::clone(&daemon)));
    let server = tokio::spawn(server.run(service, async { drop(server_stopped.await) }));
    let passing = tokio::spawn({
        let (daemon, happenings) = (Arc::clone(&daemon), daemon.engine.happenings());
        async move { daemon.pass_on(happenings).await }
    });
    let resolving = tokio::spawn(resolve::run(Arc::clone(&daemon), daemon.engine.happenings()));
    let asking = tokio::spawn(stun::run(Arc::clone(&daemon), servers));
    let translating = tokio::spawn(nat64::run(Arc::clone(&daemon)));
    let relaying = tokio::spawn(relays::run(Arc::clone(&daemon), relays, daemon.engine.happenings()));
    let family = tokio::spawn(peer_relays::run(Arc::clone(&daemon), willing, daemon.engine.happenings()));
    let meeting = tokio::spawn(rendezvous::run(Arc::clone(&daemon), rendezvous, daemon.engine.happenings()));
    let sampling = tokio::spawn(history::run(Arc::clone(&daemon)));
    let pausing = tokio::spawn(pause::run(Arc::clone(&daemon)));
    let (lives, mut alive) = mpsc::channel(1);
    let watchdog = tokio::spawn(watchdog(Arc::clone(&daemon), life.alive_every(), lives));
    life.tell(Told::Ready);
    tracing::info!(version = VERSION, "mastd is ready");

    let ended = loop {
        tokio::select! {
            _ = &mut keeping => break true,
            Some(()) = alive.recv() => life.tell(Told::Alive),
            asked = life.asked() => match asked {
                Asked::Stop => break false,
                Asked::Sleep => {
                    settle_accounts(&daemon).await;
                    // It is told of, once, where it cannot be.
                    let _ = daemon.save(HASTE).await;
                }
                Asked::Wake => {
                    // Its error says that the engine has stopped; that is seen above.
                    let _ = daemon.engine.woke().await;
                }
            },
        }
    };
    life.tell(Told::Stopping);
    resolving.abort();
    asking.abort();
    translating.abort();
    relaying.abort();
    family.abort();
    meeting.abort();
    watchdog.abort();
    sampling.abort();
    pausing.abort();
    // Fails when the server has ended; then there is nothing to stop.
    let _ = stop_server.send(());
    let stopping = async {
        settle_accounts(&daemon).await;
        // Its error says that the engine has stopped, which is what is wanted.
        let _ = daemon.engine.stop().await;
        if !ended {
            // It ends when the engine has, with everything saved.
            let _ = keeping.await;
        }
        let _ = server.await;
    };
    tokio::select! {
        done = timeout(STOP, stopping) => if done.is_err() {
            tracing::warn!("stopping took too long and was cut short");
        },
        () = stop(&mut life) => tracing::warn!("told to stop a second time: ending at once"),
    }
    passing.abort();
    writing.abort();
    if let Some(error) = daemon.unsaved() {
        tracing::error!(error, "what changed is not on the disk, and is lost");
    }
    if ended { Err(Failure::Ended) } else { Ok(()) }
}

async fn stop(life: &mut impl Life) {
    while life.asked().await != Asked::Stop {}
}

/// Folds in what was carried since the last sample.
async fn settle_accounts(daemon: &Daemon) {
    if let Ok(glance) = daemon.engine.glance(0).await {
        daemon.fold(glance.traffic);
        daemon.keeper.ask();
    }
}

/// Says that the service lives, as often as the system wants to hear, for as long as the engine answers.
async fn watchdog(daemon: Arc<Daemon>, period: Option<Duration>, lives: mpsc::Sender<()>) {
    let Some(period) = period else { return };
    let mut ticks = tokio::time::interval(period);
    loop {
        ticks.tick().await;
        if daemon.engine.recent().await.is_err() || lives.send(()).await.is_err() {
            return;
        }
    }
}

/// Who may change things, and what the others see.
fn access(config: &Config) -> Access {
    Access::system().open(config.status == StatusFor::Everybody)
}

fn host_name() -> String {
    let full = life::host_name();
    let short = full.split('.').next().unwrap_or_default();
    crate::notation::name(short).unwrap_or_else(|_| "mast".to_owned())
}

fn overrides(config: &Config) -> Overrides {
    let mut overrides = Overrides {
        named: config.named_interfaces(),
        own: config.interface.clone(),
        no_segments: !config.udp_segmentation,
        ..Overrides::default()
    };
    for (name, interface) in &config.interfaces {
        if let Some(metered) = interface.metered {
            overrides.metered.insert(name.clone(), metered);
        }
        if let Some(kind) = interface.kind {
            overrides.kind.insert(name.clone(), kind);
        }
        if let Some(network) = &interface.network {
            overrides.network.insert(name.clone(), network.clone());
        }
        if interface.ignore {
            overrides.ignore.push(name.clone());
        }
    }
    overrides
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;

    /// A system that asks what it is told to ask, a moment after each other, and then nothing more.
    struct Script {
        asks: VecDeque<Asked>,
        told: Arc<Mutex<Vec<Told>>>,
        alive_every: Option<Duration>,
    }

    impl Life for Script {
        async fn asked(&mut self) -> Asked {
            // It may be cancelled: what is asked is taken off only when it is said.
            tokio::time::sleep(Duration::from_millis(5)).await;
            match self.asks.pop_front() {
                Some(asked) => asked,
                None => std::future::pending().await,
            }
        }

        fn tell(&self, told: Told) {
            self.told.lock().unwrap().push(told);
        }

        fn alive_every(&self) -> Option<Duration> {
            self.alive_every
        }
    }

    fn script(asks: &[Asked], alive_every: Option<Duration>) -> Script {
        Script { asks: asks.iter().copied().collect(), told: Arc::default(), alive_every }
    }

    #[tokio::test]
    async fn only_stop_ends_a_start() {
        let work = || tokio::time::sleep(Duration::from_millis(50));
        let mut life = script(&[Asked::Sleep, Asked::Wake], None);
        assert_eq!(unless_stopped(&mut life, work()).await, Some(()));
        assert!(life.told.lock().unwrap().is_empty(), "nobody wants to hear");
        let mut life = script(&[Asked::Wake, Asked::Stop], None);
        assert_eq!(unless_stopped(&mut life, work()).await, None);
    }

    #[tokio::test]
    async fn a_watched_start_says_that_it_lives() {
        let mut life = script(&[], Some(Duration::from_millis(2)));
        unless_stopped(&mut life, tokio::time::sleep(Duration::from_millis(30))).await;
        let told = life.told.lock().unwrap();
        assert!(told.len() >= 2 && told.iter().all(|told| *told == Told::Alive), "{told:?}");
    }

    #[tokio::test]
    async fn the_end_waits_for_a_second_stop_only() {
        let mut life = script(&[Asked::Wake, Asked::Sleep, Asked::Stop], None);
        stop(&mut life).await;
        assert!(life.asks.is_empty());
    }
}
