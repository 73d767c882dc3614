//! Who is asked, and over which sockets.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hickory_net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_net::runtime::{DnsUdpSocket, RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime};
use hickory_resolver::Resolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::system_conf::read_system_conf;
use tokio::net::{TcpStream, UdpSocket};

/// So long one question may take at one server.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// So often it is asked again there.
const AGAIN: usize = 2;
/// So many servers are asked; more would only be more patience.
const SERVERS: usize = 3;
/// Where name servers listen.
const PORT: u16 = 53;
/// So many ways past a tunnel are used at once.
pub(crate) const WAYS: usize = 4;
/// Makes a socket that is connected to a server, past a tunnel that everything else goes through.
pub type Connect = Arc<dyn Fn(SocketAddr) -> io::Result<std::net::UdpSocket> + Send + Sync>;

/// A way to name servers past a tunnel.
#[derive(Clone)]
pub struct Past {
    /// Who is asked over it; the first three.
    pub servers: Vec<SocketAddr>,
    /// By which sockets.
    pub connect: Connect,
}

/// Says something that may take a while to find out.
type Asked<T> = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = T> + Send>> + Send + Sync>;

/// Says which ways past a tunnel there are now; none while nothing goes through one.
pub type PastTunnel = Asked<Vec<Past>>;

/// Says which name servers there are now, or why nobody knows.
pub type Known = Asked<Result<Vec<SocketAddr>, String>>;

/// Who is asked for names.
#[derive(Clone)]
pub struct Servers {
    /// The name servers that are asked as everybody asks; the first three.
    pub usual: Known,
    /// Beside them, those that are asked past a tunnel.
    pub past: Option<PastTunnel>,
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Servers").finish_non_exhaustive()
    }
}

/// The name servers of the system. It reads what the system keeps of them, which may take any time.
///
/// # Errors
/// In words, where that cannot be read.
pub fn system_servers() -> Result<Vec<SocketAddr>, String> {
    let (config, _) = read_system_conf().map_err(|error| error.to_string())?;
    let port = |server: &NameServerConfig| server.connections.first().map_or(PORT, |kind| kind.port);
    let mut all: Vec<SocketAddr> = Vec::new();
    for at in config.name_servers().iter().map(|server| SocketAddr::new(server.ip, port(server))) {
        if !all.contains(&at) {
            all.push(at);
        }
    }
    Ok(all)
}

impl Servers {
    /// Always the same ones.
    pub fn given(servers: Vec<SocketAddr>) -> Self {
        let usual = Arc::new(move || -> Pin<Box<dyn Future<Output = _> + Send>> {
            Box::pin(std::future::ready(Ok(servers.clone())))
        });
        Self { usual, past: None }
    }

    /// Whoever is to be asked the usual way. It is made anew for each look-up, as networks change, and with them the
    /// servers.
    ///
    /// # Errors
    /// In words, where there is nobody.
    pub(crate) async fn usual(&self) -> Result<Resolver<TokioRuntimeProvider>, String> {
        let servers = (self.usual)().await;
        let servers = servers.map_err(|why| format!("this host's name servers are not known: {why}"))?;
        built(config_of(&servers, true), TokioRuntimeProvider::default())
    }

    /// Whoever is to be asked past a tunnel.
    pub(crate) async fn past(&self) -> Vec<Resolver<Marked>> {
        let Some(past) = &self.past else { return Vec::new() };
        let ways = past().await.into_iter().take(WAYS);
        // It fails only where there is no server to ask.
        ways.filter_map(|way| built(config_of(&way.servers, false), Marked(way.connect)).ok()).collect()
    }
}

fn built<P: RuntimeProvider>(config: ResolverConfig, provider: P) -> Result<Resolver<P>, String> {
    if config.name_servers().is_empty() {
        return Err("this host has no name server".to_owned());
    }
    let mut builder = Resolver::builder_with_config(config, provider);
    let options = builder.options_mut();
    *options = ResolverOpts::default();
    options.timeout = PATIENCE;
    options.attempts = AGAIN;
    // When something is asked again is decided here; what others keep, they keep for its TTL.
    options.cache_size = 0;
    options.ndots = 0;
    builder.build().map_err(|error| error.to_string())
}

fn config_of(servers: &[SocketAddr], tcp: bool) -> ResolverConfig {
    let of = |at: &SocketAddr| {
        let mut kinds = vec![ConnectionConfig::udp()];
        if tcp {
            kinds.push(ConnectionConfig::tcp());
        }
        kinds.iter_mut().for_each(|kind| kind.port = at.port());
        NameServerConfig::new(at.ip(), true, kinds)
    };
    ResolverConfig::from_parts(None, Vec::new(), servers.iter().take(SERVERS).map(of).collect())
}

/// Asks over sockets that are made elsewhere.
#[derive(Clone)]
pub(crate) struct Marked(Connect);

impl RuntimeProvider for Marked {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = Connected;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> TokioHandle {
        TokioHandle::default()
    }

    fn connect_tcp(
        &self,
        _: SocketAddr,
        _: Option<SocketAddr>,
        _: Option<Duration>,
    ) -> Pin<Box<dyn Future<Output = io::Result<Self::Tcp>> + Send>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn bind_udp(
        &self,
        _: SocketAddr,
        server: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Connected>> + Send>> {
        let connect = Arc::clone(&self.0);
        Box::pin(async move {
            let socket = connect(server)?;
            socket.set_nonblocking(true)?;
            Ok(Connected { socket: UdpSocket::from_std(socket)?, server })
        })
    }
}

/// A socket that is connected to one server: whatever it hears is that server's.
pub(crate) struct Connected {
    socket: UdpSocket,
    server: SocketAddr,
}

impl DnsUdpSocket for Connected {
    type Time = TokioTime;

    fn poll_recv_from(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut buffer = tokio::io::ReadBuf::new(buffer);
        self.socket.poll_recv(context, &mut buffer).map_ok(|()| (buffer.filled().len(), self.server))
    }

    fn poll_send_to(
        &self,
        context: &mut Context<'_>,
        datagram: &[u8],
        _: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_send(context, datagram)
    }
}
