//! What a killed service leaves on the system, and how it goes away without the service.

use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Takes back what a service that no longer runs had changed; each entry of the result says one thing in words.
///
/// That is its control socket, the rules of leak protection, and a virtual interface that was made to outlive its
/// process; any other, and the routes through it, vanished with the process. What a living process holds is left alone.
pub fn clear_leftovers(socket: &Path) -> io::Result<Vec<String>> {
    let mut cleared = mastd::clear_leftovers()?;
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_a_dead_services_socket_is_stale() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        assert!(!is_stale_socket(&path));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(!is_stale_socket(&path));
        drop(listener);
        assert!(is_stale_socket(&path));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "something else").unwrap();
        assert!(!is_stale_socket(&path));
    }
}
