//! The interface's end.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::PROTOCOL;
use crate::error::{ControlError, ErrorCode, Mismatch, Why};
use crate::event::Event;
use crate::native;
use crate::report::{DoctorReport, DrillProgress, DrillReport};
use crate::request::{
    CheckPaths, Drill, Hello, Invite, PeerAdd, PeerNamed, PeerRemove, PeerSet, PolicyClear, PolicySet,
    Request, SettingsSet,
};
use crate::response::{HelloReply, Invited, Notice, PeerAdded, PeerView};
use crate::status::Status;
use crate::transport::{Reader, Writer};
use crate::wire::{self, FromServer, LOST, Lines, Next};

/// The longest answer that is believed; a status with thousands of paths fits.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// How long the service may take to greet.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer, or the next word of a drill, may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens at the socket.
    #[error("mastd is not running (nothing answers at {path}): start it with {}", native::START)]
    NotRunning {
        /// Where it was sought.
        path: PathBuf,
    },
    /// The socket may not be opened.
    #[error("{path} may not be opened by this user: {}, or ask who installed mastd", native::RAISE)]
    PermissionDenied {
        /// Where.
        path: PathBuf,
    },
    /// The two sides speak different versions.
    #[error(transparent)]
    Version(Mismatch),
    /// The service refused.
    #[error(transparent)]
    Refused(ControlError),
    /// The service closed the connection.
    #[error("mastd closed the connection: it was stopped or restarted")]
    Closed,
    /// The service took too long.
    #[error("mastd does not answer: see {}", native::LOG)]
    Timeout,
    /// What came is not what was asked for.
    #[error("mastd answered what this program does not understand ({0}): upgrade both to the same version")]
    Protocol(String),
    /// The system refused.
    #[error("cannot talk to mastd: {0}")]
    Io(#[from] io::Error),
}

/// A connection to the service; one call at a time.
pub struct Client {
    lines: Lines<Reader>,
    writer: Writer,
    last_id: u64,
    server: HelloReply,
    /// Hears of changes that are not kept.
    unkept: Option<Tell>,
}

type Tell = Box<dyn Fn(&str) + Send>;

impl Client {
    /// Connects and greets.
    ///
    /// # Errors
    /// When nobody listens, the socket may not be opened, or the versions differ.
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self, ClientError> {
        let program = std::env::args_os().next().unwrap_or_default();
        let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self::connect_as(path, &program).await
    }

    /// Connects and greets under a name, for the service's log.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_as(path: impl AsRef<Path>, name: &str) -> Result<Self, ClientError> {
        let path = path.as_ref();
        let (reader, writer) = native::connect(path).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { path: path.to_owned() }
            }
            ErrorKind::PermissionDenied => ClientError::PermissionDenied { path: path.to_owned() },
            _ => ClientError::Io(error),
        })?;
        Self::over(reader, writer, name).await
    }

    /// Greets a service that is reached already.
    ///
    /// # Errors
    /// When the versions differ, or the service does not answer.
    pub async fn over(reader: Reader, writer: Writer, name: &str) -> Result<Self, ClientError> {
        let server =
            HelloReply { protocol: 0, version: String::new(), name: String::new(), may_change: false };
        let mut client =
            Self { lines: Lines::new(reader, MAX_ANSWER), writer, last_id: 0, server, unkept: None };
        let hello = json!(Hello { protocol: PROTOCOL, client: name.to_owned() });
        let greeting = client.exchange("hello", &hello);
        let reply: HelloReply =
            timeout(HELLO_TIMEOUT, greeting).await.map_err(|_| ClientError::Timeout)??;
        if reply.protocol != PROTOCOL {
            return Err(ClientError::Version(Mismatch {
                client: PROTOCOL,
                service: Some(reply.protocol),
                service_version: Some(reply.version),
            }));
        }
        client.server = reply;
        Ok(client)
    }

    /// What the service said of itself.
    pub fn server(&self) -> &HelloReply {
        &self.server
    }

    /// `tell` hears, before the call returns, why what it changed is in effect and not on the disk.
    pub fn when_unkept(&mut self, tell: impl Fn(&str) + Send + 'static) {
        self.unkept = Some(Box::new(tell));
    }

    /// Sends a request and waits for its answer, read as `T`. The methods below know the right `T`.
    ///
    /// # Errors
    /// When the service refuses, goes away, or answers something else.
    pub async fn call<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, ClientError> {
        self.exchange(request.method(), &request.params()).await
    }

    /// Everything that there is to show.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn status(&mut self) -> Result<Status, ClientError> {
        self.call(&Request::Status).await
    }

    /// What the status says of one peer, and the interfaces that its paths name.
    ///
    /// # Errors
    /// As [`Client::call`]; [`ErrorCode::NotFound`] names the peers that there are.
    pub async fn peer(&mut self, name: &str) -> Result<PeerView, ClientError> {
        match self.call(&Request::Peer(PeerNamed { name: name.to_owned() })).await {
            // An older service tells of one only among all.
            Err(ClientError::Refused(error)) if error.code == ErrorCode::UnknownMethod => {
                let status = self.status().await?;
                let known: Vec<_> = status.peers.iter().map(|peer| peer.name.clone()).collect();
                match status.peers.into_iter().find(|peer| peer.name == name) {
                    Some(peer) => Ok(PeerView {
                        up: status.up,
                        peer,
                        interfaces: status.interfaces,
                        redacted: status.redacted,
                    }),
                    None => {
                        let error = ControlError::of(Why::NoPeer { name: name.to_owned() });
                        Err(ClientError::Refused(error.with_known(known)))
                    }
                }
            }
            answer => answer,
        }
    }

    /// Tries now what was not heard of lately, of one peer or of all. What comes of it is in a later status.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn check(&mut self, peer: Option<&str>) -> Result<(), ClientError> {
        match self.done(&Request::Check(CheckPaths { peer: peer.map(str::to_owned) })).await {
            // An older service does so whenever it is asked for its status.
            Err(ClientError::Refused(error)) if error.code == ErrorCode::UnknownMethod => {
                self.status().await.map(|_| ())
            }
            answer => answer,
        }
    }

    /// Starts to carry traffic.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn up(&mut self) -> Result<(), ClientError> {
        self.done(&Request::Up).await
    }

    /// Stops carrying traffic.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn down(&mut self) -> Result<(), ClientError> {
        self.done(&Request::Down).await
    }

    /// Adds a peer.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn peer_add(&mut self, peer: PeerAdd) -> Result<PeerAdded, ClientError> {
        self.call(&Request::PeerAdd(peer)).await
    }

    /// Forgets a peer.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn peer_remove(&mut self, name: &str) -> Result<(), ClientError> {
        self.done(&Request::PeerRemove(PeerRemove { name: name.to_owned() })).await
    }

    /// Makes an invite.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn invite(&mut self, invite: Invite) -> Result<Invited, ClientError> {
        self.call(&Request::Invite(invite)).await
    }

    /// Pins or unpins.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn policy_set(&mut self, policy: PolicySet) -> Result<(), ClientError> {
        self.done(&Request::PolicySet(policy)).await
    }

    /// Lets a peer follow the policy of all again.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn policy_clear(&mut self, peer: &str) -> Result<(), ClientError> {
        self.done(&Request::PolicyClear(PolicyClear { peer: peer.to_owned() })).await
    }

    /// Changes settings.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn settings_set(&mut self, set: SettingsSet) -> Result<(), ClientError> {
        self.done(&Request::SettingsSet(set)).await
    }

    /// Changes what is chosen for one peer.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn peer_set(&mut self, set: PeerSet) -> Result<(), ClientError> {
        self.done(&Request::PeerSet(set)).await
    }

    /// Looks for what is wrong.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn doctor(&mut self) -> Result<DoctorReport, ClientError> {
        self.call(&Request::Doctor).await
    }

    /// Silences each path of a peer in turn; `progress` hears how far it is.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn drill(
        &mut self,
        peer: &str,
        mut progress: impl FnMut(DrillProgress),
    ) -> Result<DrillReport, ClientError> {
        let id = self.send("drill", &json!(Drill { peer: peer.to_owned() })).await?;
        let result = self.answer_to(id, |method, params| {
            if method == "drill.progress" {
                progress(read(params)?);
            }
            Ok(())
        });
        read(result.await?)
    }

    /// Turns the connection into a stream of notices.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn subscribe(mut self) -> Result<Subscription, ClientError> {
        let mut early = VecDeque::new();
        let id = self.send("events.subscribe", &json!({})).await?;
        self.answer_to(id, |method, params| {
            early.extend(notice(method, params)?);
            Ok(())
        })
        .await?;
        Ok(Subscription { client: self, early })
    }

    /// Sends a request whose answer says nothing but that it is done.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn done(&mut self, request: &Request) -> Result<(), ClientError> {
        self.call::<Value>(request).await.map(|_| ())
    }

    async fn exchange<T: DeserializeOwned>(
        &mut self,
        method: &str,
        params: &Value,
    ) -> Result<T, ClientError> {
        let id = self.send(method, params).await?;
        let answer = self.answer_to(id, |_, _| Ok(())).await?;
        // A status tells of it for itself.
        let why = answer.get("unkept").and_then(Value::as_str).filter(|_| method != "status");
        if let (Some(why), Some(tell)) = (why, &self.unkept) {
            tell(why);
        }
        read(answer)
    }

    async fn send(&mut self, method: &str, params: &Value) -> Result<u64, ClientError> {
        self.last_id += 1;
        match self.writer.write_all(&wire::request(self.last_id, method, params)).await {
            // A server that refuses the connection says why before it closes: read on.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(self.last_id),
        }
    }

    /// Reads until the answer; notifications before it go to `aside`.
    async fn answer_to(
        &mut self,
        id: u64,
        mut aside: impl FnMut(&str, Value) -> Result<(), ClientError>,
    ) -> Result<Value, ClientError> {
        loop {
            let message =
                timeout(ANSWER_TIMEOUT, self.receive()).await.map_err(|_| ClientError::Timeout)??;
            if let Some(method) = message.method {
                aside(&method, message.params)?;
                continue;
            }
            // A null identifier answers to what could not be read as a request, or to the connection itself.
            let ours = message.id.as_ref().is_none_or(|m| m.is_null() || m.as_u64() == Some(id));
            if let Some(error) = message.error.filter(|_| ours) {
                let error = ControlError::from(error);
                if error.code != ErrorCode::Version {
                    return Err(ClientError::Refused(error));
                }
                return Err(ClientError::Version(match *error.why {
                    Why::Version(mismatch) => mismatch,
                    _ => Mismatch { client: PROTOCOL, service: None, service_version: None },
                }));
            }
            if ours {
                return Ok(message.result.unwrap_or_default());
            }
        }
    }

    async fn receive(&mut self) -> Result<FromServer, ClientError> {
        loop {
            return match self.lines.next().await {
                Ok(Next::Blank(_)) => continue,
                Ok(Next::Line(line)) => {
                    serde_json::from_slice(&line).map_err(|error| ClientError::Protocol(error.to_string()))
                }
                Ok(Next::TooLong) => Err(ClientError::Protocol("an answer of more than 8 MiB".to_owned())),
                Ok(Next::End) => Err(ClientError::Closed),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(ClientError::Closed),
                Err(error) => Err(error.into()),
            };
        }
    }
}

/// Notices, as they happen.
pub struct Subscription {
    client: Client,
    early: VecDeque<Notice>,
}

impl Subscription {
    /// Waits for the next notice. May be cancelled. Who reads too slowly finds [`Notice::Missed`] in the place of what
    /// was left out.
    ///
    /// # Errors
    /// When the service goes away.
    pub async fn next(&mut self) -> Result<Notice, ClientError> {
        loop {
            if let Some(notice) = self.early.pop_front() {
                return Ok(notice);
            }
            let message = self.client.receive().await?;
            if let Some(method) = message.method {
                self.early.extend(notice(&method, message.params)?);
            }
        }
    }
}

/// Reads a notification; one of an unknown name is skipped.
pub(crate) fn notice(method: &str, params: Value) -> Result<Option<Notice>, ClientError> {
    match method {
        "event" => read::<Event>(params).map(|event| Some(event.into())),
        "status.changed" => Ok(Some(Notice::StatusChanged)),
        LOST => {
            let missed = params.get("missed").and_then(Value::as_u64).unwrap_or_default();
            Ok(Some(Notice::Missed(missed)))
        }
        _ => Ok(None),
    }
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, ClientError> {
    serde_path_to_error::deserialize(value).map_err(|error| ClientError::Protocol(error.to_string()))
}
