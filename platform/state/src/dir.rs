//! The state directory, on any system: `native` has what differs.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::Secret;
use crate::native::{self, give};

const LOCK: &str = "lock";
const KEY: &str = "private.key";
/// No file that is read whole is larger, in bytes.
const LARGEST: u64 = 64 << 20;

/// The longest secret of a user's, in bytes.
const LONGEST_SECRET: usize = 4096;

/// Why the state directory, or something in it, cannot be used. The text says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Something could not be read or written.
    #[error("cannot {action} {}: {source}; {remedy}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do about it.
        remedy: String,
    },
    /// The path leads to something else.
    #[error("{} is not a directory; choose another state directory or remove it", .0.display())]
    NotADirectory(PathBuf),
    /// Others than the owner could change the directory.
    #[error("others can write to {0} (mode {mode:03o}), and so change its files; run `chmod go-w {0}`", .path.display())]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Others than the owner could change a file.
    #[error("others can write to {0} (mode {mode:03o}); see that its content is yours, then run `chmod go-w {0}`",
        .path.display())]
    FileWritable {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The directory or a file in it is another user's.
    #[error("{0} belongs to user {owner}, not to user {user} that runs this program; run `chown -R {user} {0}`", .path.display())]
    Owner {
        /// The directory or file.
        path: PathBuf,
        /// The number of the user that owns it.
        owner: u32,
        /// The number of the user that runs this program.
        user: u32,
    },
    /// Another daemon uses the directory.
    #[error("another mastd{} uses {}; stop it, or give this one a state directory of its own",
        .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), .path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that holds it, where it could be told.
        pid: Option<u32>,
    },
    /// Others than the owner could read the private key.
    #[error("others can read the private key {0} (mode {mode:03o}); if nobody has, run `chmod 600 {0}`, else remove \
        it to get a new key and a new identity", .path.display())]
    KeyExposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Others than the owner could read a secret.
    #[error("others can read the secret {0} (mode {mode:03o}); run `chmod 600 {0}`, and have it replaced if anybody has", .path.display())]
    SecretExposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file of the private key holds something else.
    #[error("{} does not hold a private key (32 bytes in base64); restore it, or remove it to get a new key and a \
        new identity", .0.display())]
    KeyMalformed(PathBuf),
    /// A journal holds something else than records before its last one.
    #[error("{at} is damaged in line {line}, and what follows is not; restore it from a backup, or, to go on with \
        what stands before that line: head -n {before} {at} > {at}.good && mv {at}.good {at}",
        at = .path.display(), before = .line - 1)]
    Journal {
        /// The file.
        path: PathBuf,
        /// The first line that is no record, from 1.
        line: usize,
    },
    /// Others than the owner and administrators could change a directory or file, or read what is secret.
    #[error("{who} may change or read {0}; run `icacls \"{0}\" /reset` and then `icacls \"{0}\" /inheritance:r \
        /grant *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F`", .path.display())]
    Exposed {
        /// The directory or file.
        path: PathBuf,
        /// Who, in the system's words.
        who: String,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for the private key; try again")]
    Random,
    /// Not the name of a file in the directory.
    #[error("`{0}` cannot be the name of a state file")]
    Name(String),
}

impl StateError {
    /// Whether something could not be written, for a reason that passes: a disk that is full, read-only or broken. What
    /// may not be written for lack of permission is a mistake of whoever started the program.
    pub fn is_unwritable(&self) -> bool {
        match self {
            Self::Io { action, source, .. } => {
                matches!(*action, "write" | "replace" | "save" | "make") && !is_mistake(source)
            }
            _ => false,
        }
    }
}

impl StateError {
    /// Whether the disk has no room, or takes nothing.
    fn is_of_disk(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), ReadOnlyFilesystem | StorageFull | QuotaExceeded))
    }
}

fn is_mistake(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, InvalidFilename, InvalidInput, NotADirectory, PermissionDenied};
    matches!(error.kind(), PermissionDenied | NotADirectory | AlreadyExists | InvalidFilename | InvalidInput)
}

/// A state directory, locked for as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Holds the lock. None while there is no directory, because none can be made.
    lock: Mutex<Option<File>>,
}

impl StateDir {
    /// Opens the directory, making it and its parents if needed, and locks it. One that cannot be written to is opened
    /// all the same; where it is not there and the disk has no room or is read-only, it is made when something is first
    /// written.
    ///
    /// # Errors
    /// When it may not be made or written to, when others can write to it, or when another daemon uses it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StateError> {
        let path = path.as_ref().to_path_buf();
        let lock = match take(&path) {
            Ok(lock) => Some(lock),
            Err(error) if error.is_of_disk() && !path.exists() => None,
            Err(error) => return Err(error),
        };
        Ok(Self { path, lock: Mutex::new(lock) })
    }

    /// One that is locked without a look at whose it is.
    #[cfg(all(test, unix))]
    pub(crate) fn unasked(path: &Path) -> Result<Self, StateError> {
        Ok(Self { path: path.to_path_buf(), lock: Mutex::new(Some(lock(path)?)) })
    }

    /// Has the directory be there and locked before something is written.
    fn ready(&self) -> Result<(), StateError> {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_none() {
            *lock = Some(take(&self.path)?);
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The private key (X25519, clamped), made at the first call. It is wiped from memory when dropped.
    ///
    /// # Errors
    /// When it cannot be read or written, when others can read it, or when the file holds something else. An existing
    /// file is never replaced: the key is the identity.
    pub fn load_or_create_private_key(&self) -> Result<Zeroizing<[u8; 32]>, StateError> {
        if let Some(key) = self.private_key()? {
            return Ok(key);
        }
        let key = Self::new_private_key()?;
        self.write_private_key(&key)?;
        Ok(key)
    }

    /// A new private key, which is nowhere yet.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new_private_key() -> Result<Zeroizing<[u8; 32]>, StateError> {
        let mut key = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(&mut *key).map_err(|_| StateError::Random)?;
        key[0] &= 248;
        key[31] = (key[31] & 127) | 64;
        Ok(key)
    }

    /// The private key, if it is there.
    ///
    /// # Errors
    /// When it cannot be read, when others can read it, or when the file holds something else.
    pub fn private_key(&self) -> Result<Option<Zeroizing<[u8; 32]>>, StateError> {
        let path = self.path.join(KEY);
        let Some(mut file) = open_existing(&path)? else { return Ok(None) };
        native::own_file(&path, &file, true)?;
        read_key(&mut file, &path).map(Some)
    }

    /// Writes the private key.
    ///
    /// # Errors
    /// When it cannot be written; a file that was there is as it was.
    pub fn write_private_key(&self, key: &[u8; 32]) -> Result<(), StateError> {
        let mut text = native::seal(key).map_err(|e| failed("write", &self.path.join(KEY), e))?;
        text.push('\n');
        self.write_atomic(KEY, text.as_bytes())
    }

    /// Removes the file of the private key, for good; what the disk keeps of it is beyond this.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget_private_key(&self) -> Result<(), StateError> {
        let path = self.path.join(KEY);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path, error)),
            _ => native::sync_directory(&self.path).map_err(|e| failed("save", &self.path, e)),
        }
    }

    /// The content of a file, or nothing if there is none. It is wiped from memory when it goes.
    ///
    /// # Errors
    /// When it cannot be read, or others than its owner could have changed it.
    pub fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        let path = self.file(name)?;
        let Some(file) = open_existing(&path)? else { return Ok(None) };
        native::own_file(&path, &file, false)?;
        let mut content = Secret::default();
        io::copy(&mut file.take(LARGEST), &mut content).map_err(|e| failed("read", &path, e))?;
        Ok(Some(content.into_bytes()))
    }

    /// Makes `content` the whole content of a file that only its owner can read, and returns when that would survive
    /// a power cut. On an error the file is as it was.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_atomic(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        let path = self.file(name)?;
        self.ready()?;
        let temporary = self.path.join(format!(".{name}.new"));
        let written = write_new(&temporary, content)
            .map_err(|e| failed("write", &temporary, e))
            .and_then(|()| fs::rename(&temporary, &path).map_err(|e| failed("replace", &path, e)));
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        native::sync_directory(&self.path).map_err(|e| failed("save", &self.path, e))
    }

    pub(crate) fn file(&self, name: &str) -> Result<PathBuf, StateError> {
        let plain = !name.is_empty()
            && !name.starts_with('.')
            && name != LOCK
            && !name.contains(['/', '\\', ':', '\0']);
        if plain { Ok(self.path.join(name)) } else { Err(StateError::Name(name.to_owned())) }
    }
}

/// Makes the directory, for its owner only, and its parents with the usual permissions.
fn make(path: &Path) -> Result<(), StateError> {
    if let Some(parent) = path.parent().filter(|p| *p != Path::new("")) {
        fs::create_dir_all(parent).map_err(|e| failed("make", parent, e))?;
    }
    match native::make_private(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed("make", path, error)),
        _ => Ok(()),
    }
}

/// Makes the directory, sees that it is nobody else's, and locks it.
fn take(path: &Path) -> Result<File, StateError> {
    make(path)?;
    let metadata = fs::metadata(path).map_err(|e| failed("look at", path, e))?;
    if !metadata.is_dir() {
        return Err(StateError::NotADirectory(path.to_path_buf()));
    }
    native::own_directory(path, &metadata)?;
    lock(path)
}

fn lock(directory: &Path) -> Result<File, StateError> {
    let path = directory.join(LOCK);
    let mut options = OpenOptions::new();
    let opened = native::private(options.read(true).write(true).create(true).truncate(false)).open(&path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if is_mistake(&error) => return Err(failed("write", &path, error)),
        // What cannot be written can be locked: the file where there is one, else the directory itself.
        Err(error) => match open_existing(&path) {
            Ok(Some(file)) => file,
            _ => File::open(directory).map_err(|_| failed("write", &path, error))?,
        },
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(StateError::Locked { path: directory.to_path_buf(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock", &path, error)),
    }
    // One that cannot be given away is locked all the same.
    let _ = give(&file, directory);
    // For whoever finds it locked; it is locked without, too.
    let _ =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

fn open_existing(path: &Path) -> Result<Option<File>, StateError> {
    match native::not_followed(OpenOptions::new().read(true)).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, error)),
    }
}

/// Reads a secret that a user put into a file, wherever that is. One that others can read is refused.
///
/// # Errors
/// When it is not there, is longer than 4 KiB, others can read it, or it is another user's.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, StateError> {
    let mut file = native::not_followed(OpenOptions::new().read(true)).open(path);
    let file = file.as_mut().map_err(|error| failed("read", path, io::Error::from(error.kind())))?;
    native::own_file(path, file, true).map_err(|error| match error {
        StateError::KeyExposed { path, mode } => StateError::SecretExposed { path, mode },
        other => other,
    })?;
    // Large enough never to grow, which would leave a copy behind.
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST_SECRET + 1));
    let limit = u64::try_from(LONGEST_SECRET).unwrap_or(u64::MAX) + 1;
    file.take(limit).read_to_end(&mut text).map_err(|error| failed("read", path, error))?;
    if text.len() > LONGEST_SECRET {
        return Err(failed("read", path, io::ErrorKind::FileTooLarge.into()));
    }
    Ok(text)
}

fn read_key(file: &mut File, path: &Path) -> Result<Zeroizing<[u8; 32]>, StateError> {
    // Large enough never to grow, which would leave a copy behind.
    let mut text = Zeroizing::new([0u8; 1024]);
    let mut length = 0;
    while length < text.len() {
        match file.read(&mut text[length..]).map_err(|e| failed("read", path, e))? {
            0 => break,
            count => length += count,
        }
    }
    let opened = native::unseal(text[..length].trim_ascii()).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => StateError::KeyMalformed(path.to_path_buf()),
        _ => failed("read", path, error),
    })?;
    let mut key = Zeroizing::new([0; 32]);
    if opened.len() != key.len() {
        return Err(StateError::KeyMalformed(path.to_path_buf()));
    }
    key.copy_from_slice(&opened);
    Ok(key)
}

/// A secret as a file of the state directory has it: where the system can, sealed for this account on this machine (DPAPI
/// of Windows); elsewhere, who may read the file protects it.
///
/// # Errors
/// When the system refuses.
pub fn seal(secret: &[u8]) -> io::Result<Zeroizing<String>> {
    native::seal(secret)
}

/// What [`seal`] made.
///
/// # Errors
/// When it is something else, or was sealed on another machine.
pub fn unseal(text: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    native::unseal(text.as_bytes())
}

/// Writes a file that must not exist; one of that name is what a crash left.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = native::private(OpenOptions::new().write(true).create_new(true)).open(path)?;
    if let Some(directory) = path.parent() {
        give(&file, directory)?;
    }
    file.write_all(content)?;
    file.sync_all()
}

pub(crate) fn failed(action: &'static str, path: &Path, source: io::Error) -> StateError {
    let shown = path.parent().filter(|_| path.file_name() != Some(OsStr::new(""))).unwrap_or(path).display();
    let remedy = match source.kind() {
        io::ErrorKind::PermissionDenied => native::remedy(&shown.to_string()),
        io::ErrorKind::ReadOnlyFilesystem => {
            format!(
                "the file system of {shown} is read-only; make it writable or choose another state directory"
            )
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on the disk".to_owned(),
        _ => "choose another state directory if this one cannot be mended".to_owned(),
    };
    StateError::Io { action, path: path.to_path_buf(), source, remedy }
}

/// Opens a file of the state directory; one that is made is nobody else's.
///
/// # Errors
/// When the system refuses.
pub fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = native::private(options).open(path)?;
    if let Some(directory) = path.parent() {
        give(&file, directory)?;
    }
    Ok(file)
}
