//! The Unix socket, and its life in the file system.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use tokio::net::UnixListener;

use super::access;
use super::look::Look;
use super::presence::Presence;
use crate::server::ServerError;
use crate::transport::{Accepted, Listener, Reader, Writer};

/// Where the service listens unless told otherwise.
#[cfg(not(target_vendor = "apple"))]
pub const DEFAULT_SOCKET: &str = "/run/mast/control.sock";
/// Where the service listens unless told otherwise. Nothing can be made at the root of a Mac's file system.
#[cfg(target_vendor = "apple")]
pub const DEFAULT_SOCKET: &str = "/var/run/mast/control.sock";

/// How often, and after what pause, the directory's lock is asked for while another start holds it.
const LOCK_ATTEMPTS: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// What tells the file from one that later has the same name.
struct Identity {
    device: u64,
    inode: u64,
    /// Inode numbers are given away again at once; holding the file keeps this one taken.
    #[cfg(target_os = "linux")]
    _held: File,
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            #[cfg(target_os = "linux")]
            _held: {
                let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
                File::options().read(true).custom_flags(flags.bits()).open(path)?
            },
        })
    }

    fn is(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == (self.device, self.inode))
    }
}

/// A listening Unix socket that removes its file when dropped.
///
/// What cleans up `/run` may take the file from a service that lives, which nobody could reach any more: so it is looked
/// at, and made again.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    identity: Identity,
    look: Look,
    /// What was last said of a file that cannot be made again.
    complaint: Option<String>,
    presence: Option<Presence>,
}

impl Socket {
    /// Listens at `path`. The file appears complete, with its mode, or not at all.
    ///
    /// With `present` the service is found by [`crate::living`] while this lives.
    ///
    /// # Errors
    /// When another service lives there, something else is in the way, or the system refuses.
    pub fn bind(path: &Path, present: bool) -> Result<Self, ServerError> {
        let (listener, identity) = place(path)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            identity,
            look: Look::new(directory_of(path)),
            complaint: None,
            presence: present.then(Presence::new).flatten(),
        })
    }

    /// Makes the file again if it is not there any more.
    fn keep(&mut self) {
        if self.identity.is(&self.path) {
            return;
        }
        match place(&self.path) {
            Ok((listener, identity)) => {
                tracing::warn!(path = %self.path.display(), "somebody removed the control socket; it is there again");
                (self.listener, self.identity, self.complaint) = (listener, identity, None);
                // The directory may be another one by now.
                self.look = Look::new(directory_of(&self.path));
            }
            Err(error) => {
                let text = error.to_string();
                if self.complaint.as_ref() != Some(&text) {
                    tracing::error!(error = text, "the control socket is gone, and cannot be made again yet");
                    self.complaint = Some(text);
                }
            }
        }
    }
}

impl Listener for Socket {
    async fn accept(&mut self) -> io::Result<Accepted> {
        let stream = loop {
            let Self { listener, path, look, presence, complaint, .. } = self;
            let asked = async {
                match presence {
                    Some(presence) => presence.answer(path).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                accepted = listener.accept() => break accepted?.0,
                () = asked => {}
                () = look.due(complaint.is_some()) => self.keep(),
            }
        };
        let caller = access::caller(&stream)?;
        let (reader, writer) = stream.into_split();
        Ok(Accepted { reader: Box::new(reader), writer: Box::new(writer), caller })
    }
}

/// Reaches the service that listens at `path`.
///
/// # Errors
/// When nobody does.
pub async fn connect(path: &Path) -> io::Result<(Reader, Writer)> {
    let (reader, writer) = tokio::net::UnixStream::connect(path).await?.into_split();
    Ok((Box::new(reader), Box::new(writer)))
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A file that another service put there since is not ours to remove.
        if self.identity.is(&self.path)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, "the control socket could not be removed");
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a listening socket with its file.
fn place(path: &Path) -> Result<(UnixListener, Identity), ServerError> {
    let io = |source: io::Error| ServerError::Bind { path: path.to_owned(), source };
    let directory = directory_of(path);
    fs::create_dir_all(directory).map_err(io)?;
    // Held until the file is in place: two services that start together must not remove each other's.
    let _lock = lock(&lock_directory(path)).map_err(io)?;
    clear_stale(path)?;

    let draft = directory.join(format!(".mast-{}", std::process::id()));
    remove_if_there(&draft).map_err(io)?;
    let listener = UnixListener::bind(&draft).map_err(io)?;
    let placed = fs::set_permissions(&draft, Permissions::from_mode(0o666))
        .and_then(|()| Identity::of(&draft))
        .and_then(|identity| fs::rename(&draft, path).map(|()| identity));
    match placed {
        Ok(identity) => Ok((listener, identity)),
        Err(error) => {
            // The first error is the one to tell.
            let _ = fs::remove_file(&draft);
            Err(io(error))
        }
    }
}

/// Where the lock of a socket's place lies: beside it, in a directory of its own. Whoever can open a file can lock it,
/// and everybody can open the directory of the socket itself.
fn lock_directory(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    directory_of(path).join(format!(".{name}.lock"))
}

fn lock(directory: &Path) -> io::Result<File> {
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if nix::unistd::geteuid().is_root()
        && let Some(Ok(around)) = directory.parent().map(fs::symlink_metadata)
    {
        // What root made by hand must not keep the service's user out later.
        let _ = std::os::unix::fs::lchown(directory, Some(around.uid()), Some(around.gid()));
    }
    let own = File::options()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
        .open(directory)?;
    let metadata = own.metadata()?;
    let user = nix::unistd::geteuid();
    if metadata.uid() != user.as_raw() && !user.is_root() {
        let text = format!(
            "{} belongs to user {}, not to user {user} that runs this service; remove it",
            directory.display(),
            metadata.uid()
        );
        return Err(io::Error::new(ErrorKind::PermissionDenied, text));
    }
    if metadata.mode() & 0o077 != 0 {
        own.set_permissions(Permissions::from_mode(0o700))?;
    }
    for _ in 0..LOCK_ATTEMPTS {
        match own.try_lock() {
            Ok(()) => return Ok(own),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(ErrorKind::WouldBlock, "another process holds the lock of its place"))
}

/// Removes the control socket of a service that no longer runs; whether there was one. One that lives, and anything that
/// is no socket, is left alone.
///
/// # Errors
/// When the system refuses.
pub fn remove_stale_socket(path: &Path) -> io::Result<bool> {
    match clear_stale(path) {
        Ok(removed) => Ok(removed),
        Err(ServerError::AlreadyRunning { .. } | ServerError::NotASocket { .. }) => Ok(false),
        Err(ServerError::Bind { source, .. }) => Err(source),
    }
}

/// Removes the socket of a service that died, and says whether there was one; complains about one that lives.
fn clear_stale(path: &Path) -> Result<bool, ServerError> {
    let io = |source: io::Error| ServerError::Bind { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ServerError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ServerError::AlreadyRunning { path: path.to_owned() }),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            tracing::info!("removing the control socket of a service that died");
            remove_if_there(path).map_err(io).map(|()| true)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err(ServerError::AlreadyRunning { path: path.to_owned() })
        }
        Err(error) => Err(io(error)),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dead_services_socket_is_stale() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        assert!(!remove_stale_socket(&path).unwrap());
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(!remove_stale_socket(&path).unwrap() && path.exists());
        drop(listener);
        assert!(remove_stale_socket(&path).unwrap() && !path.exists());
        fs::write(&path, "something else").unwrap();
        assert!(!remove_stale_socket(&path).unwrap() && path.exists());
    }
}
