//! The driver of the virtual interface: Wintun, by its signed library beside this program.

use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use std::ptr::null;
use std::sync::Arc;

use mast_engine::os::TunWish;
use windows_sys::Win32::Foundation::{HANDLE, WAIT_OBJECT_0};
use windows_sys::Win32::Storage::FileSystem::FILE_SHARE_READ;
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, SetEvent, WaitForMultipleObjects};
use wintun::Session;

use super::driver;
use super::system::Ring;

const LIBRARY: &str = "wintun.dll";
/// What the system shows as the adapter's make.
const MAKE: &str = "MAST";
/// Of each ring, in bytes: 1 MiB would be 0.8 ms at 10 Gbit/s.
const RING: u32 = 16 << 20;

/// The rings of an adapter, which goes with them.
pub struct Adapter {
    session: Arc<Session>,
    name: String,
    luid: u64,
    /// Set when it shall end.
    ended: OwnedHandle,
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adapter").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An event that stays set once it is.
fn event() -> io::Result<OwnedHandle> {
    // SAFETY: nothing is handed over; what comes back is owned by nobody else, if it is an event at all.
    unsafe {
        let made = CreateEventW(null(), 1, 0, null());
        if made.is_null() { Err(io::Error::last_os_error()) } else { Ok(OwnedHandle::from_raw_handle(made)) }
    }
}

fn refused(kind: io::ErrorKind, text: String) -> io::Error {
    io::Error::new(kind, text)
}

/// Where the library lies: nowhere else is it sought.
fn place() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.with_file_name(LIBRARY))
}

/// Sees that the library is the one that was signed. While the file is held, nobody changes it.
fn check(path: &Path) -> io::Result<File> {
    let shown = path.display();
    let mut file = File::options().read(true).share_mode(FILE_SHARE_READ).open(path).map_err(|error| {
        match error.kind() {
            io::ErrorKind::NotFound => refused(
                error.kind(),
                format!("{shown} is missing: it is the driver of the virtual interface; install MAST again"),
            ),
            _ => refused(
                error.kind(),
                format!("{shown} cannot be read ({error}): install MAST again, or run as administrator"),
            ),
        }
    })?;
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    let sum = ring::digest::digest(&ring::digest::SHA256, &content);
    let sum: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    match driver::verdict(&sum, std::env::consts::ARCH) {
        Ok(()) => Ok(file),
        Err(why) => Err(refused(
            io::ErrorKind::InvalidData,
            format!("{shown} {why}; it was not loaded: install MAST again"),
        )),
    }
}

/// What the driver's library is, or why it cannot be used.
pub(super) fn state() -> Result<String, String> {
    place()
        .and_then(|path| check(&path).map(|_| path))
        .map(|path| format!("{} is the signed one", path.display()))
        .map_err(|error| error.to_string())
}

impl Adapter {
    /// Makes an adapter, with its rings. Takes up to seconds.
    pub fn make(wish: &TunWish) -> io::Result<Self> {
        let path = place()?;
        let held = check(&path)?;
        // SAFETY: the library is the one that was signed, under its full path; its entry does nothing but what it is for.
        let library = unsafe { wintun::load_from_path(&path) };
        drop(held);
        let library = library.map_err(|error| {
            refused(
                io::ErrorKind::InvalidData,
                format!("{} cannot be loaded ({error}): install MAST again", path.display()),
            )
        })?;
        let digest = ring::digest::digest(&ring::digest::SHA256, format!("MAST {}", wish.name).as_bytes());
        let own = driver::identity(digest.as_ref());
        let make =
            |_, with_own: bool| wintun::Adapter::create(&library, &wish.name, MAKE, with_own.then_some(own));
        let adapter = driver::ask(make, std::thread::sleep)
            .map_err(|error| {
                refused(
                    io::ErrorKind::PermissionDenied,
                    format!(
                        "cannot make the virtual interface `{}` ({error}): run as administrator; if you do, restart the \
                         machine, since Windows refuses at times",
                        wish.name
                    ),
                )
            })?;
        let session = adapter.start_session(RING).map_err(|error| {
            refused(
                io::ErrorKind::Other,
                format!("cannot open the rings of `{}` ({error}): restart the service", wish.name),
            )
        })?;
        // SAFETY: every bit pattern is a number.
        let luid = unsafe { adapter.get_luid().Value };
        let name = adapter.get_name().unwrap_or_else(|_| wish.name.clone());
        Ok(Self { session: Arc::new(session), name, luid, ended: event()? })
    }
}

impl Ring for Adapter {
    fn take(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.session.try_receive() {
            Ok(Some(packet)) => {
                let bytes = packet.bytes();
                let room = buffer.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidData)?;
                room.copy_from_slice(bytes);
                Ok(bytes.len())
            }
            Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(io::Error::new(io::ErrorKind::BrokenPipe, error.to_string())),
        }
    }

    fn give(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let length = u16::try_from(parts.iter().map(|part| part.len()).sum::<usize>())
            .map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut packet = self
            .session
            .allocate_send_packet(length)
            .map_err(|error| io::Error::new(io::ErrorKind::WouldBlock, error.to_string()))?;
        let mut rest = packet.bytes_mut();
        for part in parts {
            let Some((now, after)) = rest.split_at_mut_checked(part.len()) else { break };
            now.copy_from_slice(part);
            rest = after;
        }
        self.session.send_packet(packet);
        Ok(())
    }

    fn wait(&self) -> bool {
        let Ok(event) = self.session.get_read_wait_event() else { return false };
        let handles: [HANDLE; 2] = [event as HANDLE, self.ended.as_raw_handle()];
        // SAFETY: both events live as long as this, and there are as many as is said.
        let which = unsafe { WaitForMultipleObjects(2, handles.as_ptr(), 0, INFINITE) };
        which == WAIT_OBJECT_0
    }

    fn end(&self) {
        // SAFETY: the event lives as long as this. It cannot fail for one that is open.
        unsafe { SetEvent(self.ended.as_raw_handle()) };
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn luid(&self) -> u64 {
        self.luid
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_missing_or_another_is_not_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(LIBRARY);
        let error = check(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("missing") && error.to_string().contains("install MAST again"));
        std::fs::write(&path, b"MZ something else").unwrap();
        let error = check(&path).unwrap_err();
        assert!(error.to_string().contains("not the one that was signed"), "{error}");
    }

    #[test]
    fn it_is_sought_beside_the_program_alone() {
        let path = place().unwrap();
        assert!(path.is_absolute() && path.ends_with(LIBRARY));
        assert_eq!(path.parent(), std::env::current_exe().unwrap().parent());
    }
}
