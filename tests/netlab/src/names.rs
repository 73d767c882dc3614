//! A name server, by way of knot.

use std::{
    fs::{self, File},
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{Context, Error, Result},
    host::Host,
    process::Process,
};

/// So long it may take to start.
const START: Duration = Duration::from_secs(20);

/// A name server that lets some change the names of its zone. It ends with this.
#[derive(Debug)]
pub struct NameServer {
    process: Process,
}

impl NameServer {
    /// The secret of its keys, which are called `laptop` and `guest`, of hmac-sha256; the first may change the zone's names.
    pub const SECRET: &'static str = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U=";

    /// Starts one on a host at an address, for a zone with these records beside its own, in an empty directory.
    ///
    /// # Errors
    /// When there is no `knotd`, or it does not start.
    pub fn start(host: &Host, directory: &Path, address: IpAddr, zone: &str, records: &str) -> Result<Self> {
        let (at, secret) = (directory.display(), Self::SECRET);
        let configuration = format!(
            "server:\n  rundir: {at}\n  listen: {address}@53\n  tcp-workers: 1\n  udp-workers: 1\n  background-workers: 1\n\
             database:\n  storage: {at}\n\
             log:\n  - target: stderr\n    any: info\n\
             key:\n  - id: laptop\n    algorithm: hmac-sha256\n    secret: {secret}\n\
             \x20 - id: guest\n    algorithm: hmac-sha256\n    secret: {secret}\n\
             acl:\n  - id: names\n    key: laptop\n    action: update\n\
             zone:\n  - domain: {zone}\n    storage: {at}\n    file: zone\n    acl: names\n    zonefile-sync: -1\n"
        );
        let kind = if address.is_ipv4() { "A" } else { "AAAA" };
        let content = format!(
            "$ORIGIN {zone}.\n$TTL 30\n@ SOA ns hostmaster 1 3600 600 86400 5\n@ NS ns\nns {kind} {address}\n{records}\n"
        );
        fs::write(directory.join("knot.conf"), configuration).context("writing knot.conf")?;
        fs::write(directory.join("zone"), content).context("writing a zone")?;
        let log = File::create(directory.join("log")).context("writing knot's log")?;
        let again = log.try_clone().context("writing knot's log")?;
        let mut command = Command::new("knotd");
        // Debian has it where not everybody looks.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin")).arg("-c").arg(directory.join("knot.conf"));
        command.stdin(Stdio::null()).stdout(again).stderr(log);
        let mut process = host.spawn(command).map_err(|error| match error {
            Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
                Error::MissingProgram { program: "knotd", remedy: "on Debian: apt install knot" }
            }
            other => other,
        })?;
        let until = Instant::now() + START;
        while !host.run(|| TcpStream::connect(SocketAddr::new(address, 53)).is_ok())? {
            if process.poll()?.is_some() || Instant::now() > until {
                let output = fs::read_to_string(directory.join("log")).unwrap_or_default();
                return Err(Error::Program { program: "knotd", output });
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { process })
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
