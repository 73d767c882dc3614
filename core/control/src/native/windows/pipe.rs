//! The named pipe.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsRawHandle, IntoRawHandle};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::windows::named_pipe::{NamedPipeClient, NamedPipeServer, ServerOptions};
use tokio::task::JoinSet;
use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_PIPE_BUSY, ERROR_SEM_TIMEOUT, GetLastError};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_OVERLAPPED, FILE_GENERIC_READ, FILE_WRITE_ATTRIBUTES, FILE_WRITE_DATA, SECURITY_IDENTIFICATION,
};
use windows_sys::Win32::System::Pipes::{GetNamedPipeServerProcessId, NMPWAIT_NOWAIT, WaitNamedPipeW};

use super::access;
use super::security::{Descriptor, Sid, Token, owner, wide};
use crate::server::ServerError;
use crate::transport::{Accepted, Listener, Reader, Writer};

/// Where the service listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = r"\\.\pipe\mast-control";

const PIPES: &str = r"\\.\pipe\";
/// Who may reach the pipe: everybody of this machine may connect, read and write; whoever runs the service may do all,
/// and nobody else may make another end of that name. From the network nobody comes.
const WHO: &str = "D:P(D;;GA;;;NU)(A;;GA;;;SY)(A;;GA;;;BA)(A;;GA;;;OW)(A;;0x12019b;;;WD)";
/// Who has not said a word for so long is let go of: before that the system does not tell whose it is.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// So many may be about to say their first word.
const MOST_SILENT: usize = 64;
/// How often, and after what pause, one asks again while all ends are taken.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// A service that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Living {
    /// Its process.
    pub process: u32,
    /// Where it listens.
    pub control: PathBuf,
}

/// The pipe of a path. Pipes have no folders: what is no pipe's path is made a name.
fn pipe(path: &Path) -> PathBuf {
    let text = path.to_string_lossy();
    if text.get(..PIPES.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(PIPES)) {
        return path.to_owned();
    }
    let name: String = text.chars().map(|c| if matches!(c, '\\' | '/' | ':') { '-' } else { c }).collect();
    PathBuf::from(format!("{PIPES}mast{name}"))
}

/// A pipe that user interfaces reach. It goes with its process.
pub struct Socket {
    path: PathBuf,
    /// For the next to come.
    free: NamedPipeServer,
    /// Those that have not said a word yet.
    silent: JoinSet<io::Result<Accepted>>,
    /// Ready, while another was waited for.
    heard: VecDeque<Accepted>,
}

fn make(path: &Path, first: bool) -> io::Result<NamedPipeServer> {
    let mut descriptor = Descriptor::parse(WHO)?;
    let mut options = ServerOptions::new();
    options.first_pipe_instance(first).reject_remote_clients(true);
    // SAFETY: the attributes are the system's structure, and outlive the call.
    unsafe { options.create_with_security_attributes_raw(pipe(path), descriptor.attributes()) }
}

/// Whether somebody listens there. It takes up no end of theirs.
fn is_taken(path: &Path) -> bool {
    let name = wide(pipe(path));
    // SAFETY: the name ends in zero; the error is that of the call.
    unsafe { WaitNamedPipeW(name.as_ptr(), NMPWAIT_NOWAIT) != 0 || GetLastError() == ERROR_SEM_TIMEOUT }
}

impl Socket {
    /// Listens at `path`, unless somebody does already.
    ///
    /// # Errors
    /// When somebody does, or the system refuses.
    pub fn bind(path: &Path, _present: bool) -> Result<Self, ServerError> {
        if is_taken(path) {
            return Err(ServerError::AlreadyRunning { path: path.to_owned() });
        }
        // Nobody may come between.
        let free = make(path, true).map_err(|source| match source.raw_os_error() {
            Some(code) if code == ERROR_ACCESS_DENIED.cast_signed() => {
                ServerError::AlreadyRunning { path: path.to_owned() }
            }
            _ => ServerError::Bind { path: path.to_owned(), source },
        })?;
        Ok(Self { path: path.to_owned(), free, silent: JoinSet::new(), heard: VecDeque::new() })
    }

    /// Has another end be free, and hears who came.
    fn came(&mut self) -> io::Result<()> {
        let next = match make(&self.path, false) {
            Ok(next) => next,
            Err(error) => {
                // Whoever came must not hold the only end.
                let _ = self.free.disconnect();
                return Err(error);
            }
        };
        let who = std::mem::replace(&mut self.free, next);
        if self.silent.len() < MOST_SILENT {
            self.silent.spawn(hear(who));
        }
        Ok(())
    }
}

/// Reads the first word, after which the system tells whose it is.
async fn hear(pipe: NamedPipeServer) -> io::Result<Accepted> {
    let mut first = vec![0; 4096];
    let read = async {
        loop {
            pipe.ready(Interest::READABLE).await?;
            match pipe.try_read(&mut first) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => return Ok(length),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    let length = tokio::time::timeout(FIRST_WORD, read).await??;
    let caller = access::caller(&pipe)?;
    first.truncate(length);
    let (reader, writer) = tokio::io::split(End { pipe, stuck: false });
    let reader = io::Cursor::new(first).chain(reader);
    Ok(Accepted { reader: Box::new(reader), writer: Box::new(writer), caller })
}

/// One connection. What was written is left to be read when it is let go of; but whoever does not read would hold the
/// pipe for ever, as the system waits for them.
struct End {
    pipe: NamedPipeServer,
    /// What was written last has not been taken yet.
    stuck: bool,
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, to)
    }
}

impl AsyncWrite for End {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.pipe).poll_write(cx, bytes);
        self.stuck = written.is_pending();
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if self.stuck {
            // What they have not read is gone with it.
            let _ = self.pipe.disconnect();
        }
    }
}

impl Listener for Socket {
    async fn accept(&mut self) -> io::Result<Accepted> {
        loop {
            if let Some(accepted) = self.heard.pop_front() {
                return Ok(accepted);
            }
            tokio::select! {
                came = self.free.connect() => {
                    came?;
                    self.came()?;
                }
                Some(heard) = self.silent.join_next() => match heard {
                    Ok(Ok(accepted)) => self.heard.push_back(accepted),
                    // Who went without a word, or cannot be told, is nobody.
                    Ok(Err(error)) => tracing::debug!(%error, "somebody came and is not known"),
                    Err(error) => tracing::error!(%error, "listening to somebody broke down"),
                },
            }
        }
    }
}

/// Reaches the service that listens at `path`.
///
/// # Errors
/// When nobody does, or somebody who may not: anybody may take a name that is free.
pub async fn connect(path: &Path) -> io::Result<(Reader, Writer)> {
    let name = pipe(path);
    let mut attempt = 0;
    let file = loop {
        // No more than is needed: to append is to make another end.
        let opened = OpenOptions::new()
            .access_mode(FILE_GENERIC_READ | FILE_WRITE_DATA | FILE_WRITE_ATTRIBUTES)
            .custom_flags(FILE_FLAG_OVERLAPPED)
            .security_qos_flags(SECURITY_IDENTIFICATION)
            .open(&name);
        attempt += 1;
        match opened {
            Err(error)
                if error.raw_os_error() == Some(ERROR_PIPE_BUSY.cast_signed()) && attempt < ATTEMPTS =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            opened => break opened?,
        }
    };
    let (holder, own) = (owner(&file)?, Token::own()?);
    if ![Sid::system()?, Sid::administrators()?, own.user()?, own.owner()?].contains(&holder) {
        let text = format!("{} is held by {holder}, who is no administrator", name.display());
        return Err(io::Error::new(ErrorKind::PermissionDenied, text));
    }
    // SAFETY: the handle is that of a pipe opened for overlapped use, and nobody else owns it.
    let client = unsafe { NamedPipeClient::from_raw_handle(file.into_raw_handle()) }?;
    let (reader, writer) = tokio::io::split(client);
    Ok((Box::new(reader), Box::new(writer)))
}

/// The service that listens at the usual place.
pub fn living() -> Option<Living> {
    let path = Path::new(DEFAULT_SOCKET);
    let file = OpenOptions::new().access_mode(FILE_GENERIC_READ).open(path).ok()?;
    let mut process = 0;
    // SAFETY: the handle is good while the file lives.
    let told = unsafe { GetNamedPipeServerProcessId(file.as_raw_handle(), &mut process) };
    (told != 0).then(|| Living { process, control: path.to_owned() })
}

/// A pipe goes with its process: there is never one to remove.
///
/// # Errors
/// Never.
pub fn remove_stale_socket(_path: &Path) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_pipes() {
        for (path, name) in [
            (r"\\.\pipe\mast-control", r"\\.\pipe\mast-control"),
            (r"\\.\PIPE\other", r"\\.\PIPE\other"),
            (r"C:\Temp\a b\control.sock", r"\\.\pipe\mastC--Temp-a b-control.sock"),
            ("control", r"\\.\pipe\mastcontrol"),
        ] {
            assert_eq!(pipe(Path::new(path)), Path::new(name), "{path}");
        }
    }

    #[test]
    fn who_may_is_understood() {
        Descriptor::parse(WHO).unwrap();
        assert!(Descriptor::parse("nonsense").is_err());
    }

    #[tokio::test]
    async fn one_that_is_taken_is_left_alone_and_one_who_says_nothing_holds_up_nobody() {
        let path = PathBuf::from(format!(r"\\.\pipe\mast-test-{}", std::process::id()));
        let mut socket = Socket::bind(&path, false).unwrap();
        assert!(matches!(Socket::bind(&path, false), Err(ServerError::AlreadyRunning { .. })));
        let accepting = tokio::spawn(async move {
            let accepted = socket.accept().await.unwrap();
            (socket, accepted)
        });
        let (_silent, _) = connect(&path).await.unwrap();
        let (mut reader, mut writer) = connect(&path).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut writer, b"word").await.unwrap();
        let (socket, mut accepted) = accepting.await.unwrap();
        let mut said = [0; 4];
        accepted.reader.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"word");
        assert_eq!(accepted.caller.user, Token::own().unwrap().user().unwrap().to_string());
        tokio::io::AsyncWriteExt::write_all(&mut accepted.writer, b"answer").await.unwrap();
        let mut answer = [0; 6];
        reader.read_exact(&mut answer).await.unwrap();
        drop((socket, accepted));
        assert_eq!(reader.read(&mut answer).await.unwrap_or(0), 0, "the end is seen");
        let error = connect(&path).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}
