//! What can go wrong while a lab is built or used.

use std::{io, net::IpAddr, path::PathBuf};

use nix::errno::Errno;

/// The result of a lab operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A lab operation that failed, and where it helps, what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused to create a namespace.
    #[error(
        "no permission to create {what} ({source}): run as root, or enable unprivileged user namespaces \
         (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone=1, \
         kernel.apparmor_restrict_unprivileged_userns=0) and call netlab::enter() first"
    )]
    Permission {
        /// The kind of namespace.
        what: &'static str,
        /// What the kernel answered.
        source: Errno,
    },
    /// A user namespace was asked for after the process had started threads.
    #[error(
        "the process already has threads: call netlab::enter() before the first one, or use netlab::reexec_isolated()"
    )]
    Threads,
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// The operation.
        what: String,
        /// What the kernel answered.
        source: Errno,
    },
    /// A standard library operation failed.
    #[error("{what}: {source}")]
    Io {
        /// The operation.
        what: String,
        /// The reason.
        source: io::Error,
    },
    /// A kernel setting could not be written.
    #[error(
        "cannot set {} to {value:?} ({source}): if /proc/sys is read-only here (as in many containers), \
         make it writable, for example with a privileged container", path.display()
    )]
    Setting {
        /// The file below `/proc/sys`.
        path: PathBuf,
        /// The value that was to be written.
        value: String,
        /// The reason.
        source: io::Error,
    },
    /// The kernel refused a netlink request.
    #[error("{what}: {source}{}", if extra.is_empty() { String::new() } else { format!(" ({extra})") })]
    Netlink {
        /// The request in words.
        what: String,
        /// What the kernel answered.
        source: Errno,
        /// The kernel's own explanation, if it gave one.
        extra: String,
    },
    /// Text that should be an address or a prefix is not one.
    #[error("{0:?} is not an IP address or prefix such as 10.0.0.1/24")]
    Prefix(String),
    /// An address of one family was used where the other was needed.
    #[error("{address} is not of the same family as {prefix}")]
    Family {
        /// The offending address.
        address: IpAddr,
        /// The prefix it should match.
        prefix: String,
    },
    /// A host has no interface of this name.
    #[error("host {host:?} has no interface {interface:?}")]
    NoInterface {
        /// The host.
        host: String,
        /// The interface.
        interface: String,
    },
    /// The outside interface of a NAT has no IPv4 address.
    #[error("host {host:?} has no IPv4 address on {interface:?}: add one before putting a NAT there")]
    NoAddress {
        /// The host.
        host: String,
        /// The interface.
        interface: String,
    },
    /// A program the lab needs is not installed.
    #[error("{program} was not found: install it ({remedy})")]
    MissingProgram {
        /// The program.
        program: &'static str,
        /// How to get it.
        remedy: &'static str,
    },
    /// A program the lab runs reported failure.
    #[error("{program} failed: {output}")]
    Program {
        /// The program.
        program: &'static str,
        /// What it printed.
        output: String,
    },
    /// A host's worker thread is gone.
    #[error("the worker thread of host {0:?} has ended")]
    WorkerGone(String),
    /// Something did not finish by the caller's deadline.
    #[error("{what} did not finish in time ({progress})")]
    Deadline {
        /// What was under way.
        what: &'static str,
        /// How far it got.
        progress: String,
    },
    /// Data arrived that differs from what was sent.
    #[error("the received data is damaged: {0}")]
    Damaged(String),
}

/// Attaches words to a failed system call.
pub(crate) trait Context<T> {
    /// Names what was being done.
    fn context(self, what: impl Into<String>) -> Result<T>;
}

impl<T> Context<T> for nix::Result<T> {
    fn context(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::System { what: what.into(), source })
    }
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::Io { what: what.into(), source })
    }
}
