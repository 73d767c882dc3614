//! Permissions and owners of Unix. The key is in a file that only its owner can read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::dir::{StateError, failed};

/// The bits of a mode by which others than the owner could change something.
const OTHERS_WRITE: u32 = 0o022;
/// The bits of a mode by which others than the owner have any access.
const OTHERS: u32 = 0o077;

/// Makes a directory for its owner only.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Refuses a directory that is another user's, or that others can change.
pub(crate) fn own_directory(path: &Path, metadata: &fs::Metadata) -> Result<(), StateError> {
    own(path, metadata)?;
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS_WRITE != 0 {
        return Err(StateError::Writable { path: path.to_path_buf(), mode });
    }
    Ok(())
}

/// Refuses a file that is another user's, or that others can change; or read, if it is secret.
pub(crate) fn own_file(path: &Path, file: &File, secret: bool) -> Result<(), StateError> {
    let metadata = file.metadata().map_err(|e| failed("look at", path, e))?;
    own(path, &metadata)?;
    let (path, mode) = (path.to_path_buf(), metadata.mode() & 0o7777);
    if secret && mode & OTHERS != 0 {
        return Err(StateError::KeyExposed { path, mode });
    }
    if !secret && mode & OTHERS_WRITE != 0 {
        return Err(StateError::FileWritable { path, mode });
    }
    Ok(())
}

/// For a file that is nobody else's, and no link.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    not_followed(options.mode(0o600))
}

/// For a file that is no link.
pub(crate) fn not_followed(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(nix::libc::O_NOFOLLOW)
}

/// A secret as it stands in a file.
#[allow(clippy::unnecessary_wraps, reason = "other systems can refuse")]
pub(crate) fn seal(secret: &[u8]) -> io::Result<Zeroizing<String>> {
    Ok(Zeroizing::new(STANDARD.encode(secret)))
}

/// The secret of such a text. What is none is `InvalidData`.
pub(crate) fn unseal(text: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    // Large enough never to grow, which would leave a copy behind.
    let mut decoded = Zeroizing::new(vec![0; text.len()]);
    let count = STANDARD.decode_slice(text, &mut decoded).map_err(|_| malformed())?;
    decoded.truncate(count);
    Ok(decoded)
}

/// What to do where something is not permitted.
pub(crate) fn remedy(directory: &str) -> String {
    format!(
        "run as root, or give this user the directory and what is in it (`chown -R USER {directory}`), or choose another \
         state directory"
    )
}

/// The user that the service runs as where it is installed.
const SERVICE: &str = "mast";

/// Refuses what is another user's. Root's own is everybody's business: it could read and change everything anyway. And
/// root by hand goes on with what the service left.
fn own(path: &Path, metadata: &fs::Metadata) -> Result<(), StateError> {
    let (owner, user) = (metadata.uid(), nix::unistd::geteuid().as_raw());
    let service = || nix::unistd::User::from_name(SERVICE).ok().flatten().map(|user| user.uid.as_raw());
    if is_trusted(owner, user, service) {
        return Ok(());
    }
    Err(StateError::Owner { path: path.to_path_buf(), owner, user })
}

fn is_trusted(owner: u32, user: u32, service: impl FnOnce() -> Option<u32>) -> bool {
    owner == user || owner == 0 || user == 0 && service() == Some(owner)
}

/// Has a file that root made in the service's directory be the service's, so that the next start by itself can read it.
/// Nobody else can give files away.
pub(crate) fn give(file: &File, directory: &Path) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let (there, file_now) = (fs::metadata(directory)?, file.metadata()?);
    if (there.uid(), there.gid()) == (file_now.uid(), file_now.gid()) {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, Some(there.uid()), Some(there.gid()))
}

/// Has the names in a directory survive a power cut.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::StateDir;
    use crate::open_private;

    #[test]
    fn what_the_service_left_is_roots_and_nobody_elses() {
        let service = || Some(997);
        for (owner, user, trusted) in [
            (0, 0, true),
            (997, 997, true),
            (0, 997, true),
            (997, 0, true),
            (1000, 0, false),
            (1000, 997, false),
            (997, 1000, false),
        ] {
            assert_eq!(is_trusted(owner, user, service), trusted, "{owner} {user}");
        }
        assert!(!is_trusted(997, 0, || None), "there is no such user");
    }

    #[test]
    fn what_root_writes_in_the_services_directory_is_the_services() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        // In a user namespace there may be no other user.
        if std::os::unix::fs::chown(directory.path(), Some(65534), Some(65534)).is_err() {
            return;
        }
        let dir = StateDir::unasked(directory.path()).unwrap();
        let owner = |name: &str| fs::metadata(directory.path().join(name)).unwrap().uid();
        dir.write_atomic("settings.json", b"{}").unwrap();
        let (mut journal, _) = dir.journal("peers.journal").unwrap();
        journal.append(b"record").unwrap();
        let story = directory.path().join("story.jsonl");
        open_private(OpenOptions::new().create(true).append(true), &story).unwrap();
        for name in ["lock", "settings.json", "peers.journal", "story.jsonl"] {
            assert_eq!(owner(name), 65534, "{name}");
        }
    }
}
