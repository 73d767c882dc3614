//! What a killed service leaves on the system, and how it goes away without the service.

use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Takes back what a service that no longer runs had changed; each entry of the result says one thing in words.
///
/// For now that is its control socket. The virtual interface and its routes vanish with the process by themselves.
pub fn clear_leftovers(socket: &Path) -> io::Result<Vec<String>> {
    let mut cleared = Vec::new();
    if is_stale_socket(socket) {
        std::fs::remove_file(socket)?;
        cleared.push(format!("the control socket {}", socket.display()));
    }
    Ok(cleared)
}

fn is_stale_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}
