//! A stream to an account's server that is encrypted, and on which the account is logged in.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use sasl::common::{ChannelBinding, Credentials};
use tokio::io::BufStream;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, ProtocolVersion, RootCertStore};
use tokio_xmpp::client_login;
use tokio_xmpp::xmlstream::{
    PendingFeaturesRecv, ReadError, StreamHeader, Timeouts, XmppStream, XmppStreamElement, initiate_stream,
};
use xmpp_parsers::ns::JABBER_CLIENT;
use xmpp_parsers::sasl_cb::Type as Binding;
use xmpp_parsers::starttls::{Nonza, Request};
use xmpp_parsers::stream_features::StreamFeatures;

use super::budget::{Budget, Budgeted};
use super::failure::Failure;
use super::resolve::{Way, ways};
use super::{Account, Sockets};

/// A connection, from the first packet on.
const ALL: Duration = Duration::from_secs(20);
/// A connection to one address. A SYN is sent at 0, 1 and 3 s.
const ONE: Duration = Duration::from_secs(5);
/// One to where the server was last; then it may be that this network leads there by another address only.
const LAST: Duration = Duration::from_secs(1);
/// Addresses times ways out of this host.
const MOST_TRIES: usize = 32;
/// The next address is tried beside one that has not answered (RFC 8305 says 250 ms).
const STAGGER: Duration = Duration::from_millis(250);
/// A server is asked for a sign of life after this silence. NATs keep connections for longer, and this end says nothing
/// else; what peers publish meanwhile waits at the server.
const SILENCE: Duration = Duration::from_secs(120);
/// And has this time to give it.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

const TIMEOUTS: Timeouts = Timeouts { read_timeout: SILENCE, response_timeout: SIGN_OF_LIFE };

type Tcp = Budgeted<TcpStream>;
type Encrypted = BufStream<TlsStream<Tcp>>;
/// The stream of elements.
pub(super) type Elements = XmppStream<Encrypted>;

/// A stream that is logged in, but has no session yet.
pub(super) struct Connection {
    pub(super) elements: Elements,
    pub(super) features: StreamFeatures,
    pub(super) budget: Budget,
    /// Where this end's packets come from.
    pub(super) local: IpAddr,
}

/// Makes connections for one account.
pub(super) struct Connector {
    account: Arc<Account>,
    sockets: Option<Sockets>,
    /// For STARTTLS, and for TLS from the first byte. Kept, so that TLS sessions are resumed.
    tls: [TlsConnector; 2],
    /// What worked last: no name server needs to be asked after an address change.
    last: Option<Way>,
}

impl Connector {
    /// Fails where an authority of the account is none; the sentence says so.
    pub(super) fn new(account: Arc<Account>, sockets: Option<Sockets>) -> Result<Self, String> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(pem) = &account.authority {
            let bad = |_| "the authority is no certificate in PEM".to_owned();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| bad(error.to_string()))?;
                roots.add(certificate).map_err(|error| bad(error.to_string()))?;
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut direct = config.clone();
        direct.alpn_protocols = vec![b"xmpp-client".to_vec()];
        let tls = [config, direct].map(|config| TlsConnector::from(Arc::new(config)));
        Ok(Self { account, sockets, tls, last: None })
    }

    /// Connects and logs in.
    pub(super) async fn connect(&mut self) -> Result<Connection, Failure> {
        timeout(ALL, self.try_connect()).await.map_err(|_| Failure::Silent)?
    }

    async fn try_connect(&mut self) -> Result<Connection, Failure> {
        let (tcp, way) = self.reach().await?;
        let local = tcp.local_addr()?.ip();
        // Elements are small, and somebody waits for each.
        tcp.set_nodelay(true)?;
        let budget = Budget::default();
        let stream = self.set_up(Budgeted::new(tcp, budget.clone()), way).await;
        // Whoever answers there may be somebody else by now.
        self.last = stream.is_ok().then_some(way);
        let (elements, features) = stream?;
        Ok(Connection { elements, features, budget, local })
    }

    async fn set_up(&self, tcp: Tcp, way: Way) -> Result<(Elements, StreamFeatures), Failure> {
        self.log_in(self.encrypt(tcp, way).await?).await
    }

    /// Reaches the server where it was last, or else wherever it may be.
    async fn reach(&mut self) -> Result<(TcpStream, Way), Failure> {
        if let Some(way) = self.last {
            if let Ok(Ok(reached)) = timeout(LAST, race(vec![way], self.sockets.clone())).await {
                return Ok(reached);
            }
            self.last = None;
        }
        let named = self.account.server.as_ref();
        race(ways(self.account.domain(), named).await?, self.sockets.clone()).await
    }

    fn header(&self) -> StreamHeader<'_> {
        StreamHeader { to: Some(Cow::Borrowed(self.account.domain())), from: None, id: None }
    }

    async fn encrypt(&self, tcp: Tcp, way: Way) -> Result<TlsStream<Tcp>, Failure> {
        let name = ServerName::try_from(self.account.domain().to_owned())
            .map_err(|_| Failure::UnknownHost(self.account.domain().to_owned()))?;
        let tcp = if way.tls { tcp } else { self.ask_for_tls(tcp).await? };
        let [after_words, at_once] = &self.tls;
        Ok(if way.tls { at_once } else { after_words }.connect(name, tcp).await?)
    }

    /// STARTTLS (RFC 6120, section 5). Nothing that is said before is believed afterwards.
    async fn ask_for_tls(&self, tcp: Tcp) -> Result<Tcp, Failure> {
        let pending = initiate_stream(BufStream::new(tcp), JABBER_CLIENT, self.header(), TIMEOUTS).await?;
        let (features, mut stream) = features(pending).await?;
        if !features.can_starttls() {
            return Err(Failure::NoTls);
        }
        stream.send(&XmppStreamElement::Starttls(Nonza::Request(Request))).await?;
        match next(&mut stream).await? {
            XmppStreamElement::Starttls(Nonza::Proceed(_)) => Ok(stream.into_inner().into_inner()),
            _ => Err(Failure::NoTls),
        }
    }

    async fn log_in(&self, tls: TlsStream<Tcp>) -> Result<(Elements, StreamFeatures), Failure> {
        let binding = exporter(&tls);
        let pending = initiate_stream(BufStream::new(tls), JABBER_CLIENT, self.header(), TIMEOUTS).await?;
        let (features_before, stream) = features(pending).await?;
        let bound =
            features_before.sasl_cb.is_some_and(|offered| offered.types.contains(&Binding::TlsExporter));
        let mut mechanisms: BTreeSet<String> = features_before.sasl_mechanisms;
        // Another account than the own is of no use.
        mechanisms.remove("ANONYMOUS");
        let with_binding = bound && mechanisms.iter().any(|mechanism| mechanism.ends_with("-PLUS"));
        let binding = binding.filter(|_| with_binding).unwrap_or(ChannelBinding::None);
        let credentials = Credentials::default()
            .with_username(self.account.user())
            .with_password(self.account.password.as_str())
            .with_channel_binding(binding);
        let stream = client_login(stream, mechanisms, credentials).await?;
        let (features, stream) = features(stream.send_header(self.header()).await?).await?;
        Ok((stream, features))
    }
}

/// What ties a login to this very TLS session (RFC 9266).
fn exporter(tls: &TlsStream<Tcp>) -> Option<ChannelBinding> {
    let (_, connection) = tls.get_ref();
    // Before 1.3 it is not unique unless a certain extension was agreed on.
    (connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)).then_some(())?;
    let data = connection.export_keying_material(vec![0; 32], b"EXPORTER-Channel-Binding", None).ok()?;
    Some(ChannelBinding::TlsExporter(data))
}

async fn features<S>(pending: PendingFeaturesRecv<S>) -> Result<(StreamFeatures, XmppStream<S>), Failure>
where
    S: tokio::io::AsyncBufRead + tokio::io::AsyncWrite + Unpin,
{
    pending.recv_features().await.map_err(|error| tokio_xmpp::Error::from(error).into())
}

/// The next element while a stream is set up.
pub(super) async fn next<S>(stream: &mut XmppStream<S>) -> Result<XmppStreamElement, Failure>
where
    S: tokio::io::AsyncBufRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        let Some(read) = stream.next().await else { return Err(Failure::Lost("it was closed".into())) };
        match read.and_then(|element| element.into_read_error()) {
            Ok(element) => return Ok(element),
            Err(ReadError::SoftTimeout) => {}
            Err(error) => return Err(broken(error)),
        }
    }
}

/// Why nothing more can be read.
pub(super) fn broken(error: ReadError) -> Failure {
    match error {
        ReadError::HardError(error) => error.into(),
        ReadError::ParseError(error) => io::Error::new(io::ErrorKind::InvalidData, error).into(),
        ReadError::StreamFooterReceived => Failure::Lost("the server ended it".into()),
        ReadError::SoftTimeout => Failure::Silent,
    }
}

/// Connects to whichever answers first.
async fn race(ways: Vec<Way>, sockets: Option<Sockets>) -> Result<(TcpStream, Way), Failure> {
    let mut failure = Failure::Unreachable("this host is in no network".into());
    let mut waiting = Vec::new();
    for way in ways {
        match open(way.address, sockets.as_ref()) {
            Ok(opened) => waiting.extend(opened.into_iter().map(|socket| (socket, way))),
            Err(error) => failure = Failure::Unreachable(error.kind().to_string()),
        }
        waiting.truncate(MOST_TRIES);
    }
    let mut waiting = waiting.into_iter();
    let mut tries = JoinSet::new();
    let mut begin = |tries: &mut JoinSet<_>| {
        if let Some((socket, way)) = waiting.next() {
            tries.spawn(async move { (timeout(ONE, socket.connect(way.address)).await, way) });
        }
    };
    begin(&mut tries);
    loop {
        match timeout(STAGGER, tries.join_next()).await {
            Ok(Some(Ok((Ok(Ok(tcp)), way)))) => return Ok((tcp, way)),
            Ok(Some(Ok((result, _)))) => {
                let kind = result.map_or(io::ErrorKind::TimedOut, |connected| {
                    connected.err().map_or(io::ErrorKind::Other, |error| error.kind())
                });
                failure = Failure::Unreachable(kind.to_string());
                begin(&mut tries);
            }
            Ok(Some(Err(_))) => {}
            Ok(None) => return Err(failure),
            Err(_) => begin(&mut tries),
        }
    }
}

fn open(to: SocketAddr, sockets: Option<&Sockets>) -> io::Result<Vec<TcpSocket>> {
    match sockets {
        Some(sockets) => Ok(sockets(to)?.into_iter().map(TcpSocket::from_std_stream).collect()),
        None => Ok(vec![if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?]),
    }
}
