//! A presence server (XMPP), by way of prosody.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{Context, Error, Result},
    host::Host,
    process::{Process, Signal},
};

/// So long it may take to start, or to stop.
const MOMENT: Duration = Duration::from_secs(30);
/// What it does for its accounts.
const MODULES: &[&str] =
    &["roster", "saslauth", "tls", "disco", "pep", "smacks", "ping", "posix", "stanza_debug"];

/// A presence server for `example.org`, with STARTTLS on port 5222 and TLS on 5223; it can be stopped and started again, and
/// ends with this.
#[derive(Debug)]
pub struct PresenceServer {
    host: Host,
    directory: PathBuf,
    address: IpAddr,
    process: Option<Process>,
}

impl PresenceServer {
    /// The domain of its accounts, which are called `alice`, `bob` and `eve`.
    pub const DOMAIN: &'static str = "example.org";
    /// The password of every account.
    pub const PASSWORD: &'static str = "correct horse";

    /// Starts one on a host, where it can be reached at an address, in an empty directory; without some of its modules.
    ///
    /// # Errors
    /// When there is no `prosody` or no `openssl`, or it does not start.
    pub fn start(host: &Host, directory: &Path, address: IpAddr, without: &[&str]) -> Result<Self> {
        let directory = directory.to_owned();
        let mut server = Self { host: host.clone(), directory, address, process: None };
        server.certificates()?;
        let accounts = server.path("data/example%2eorg/accounts");
        fs::create_dir_all(&accounts).context("making the accounts' folder")?;
        for name in ["alice", "bob", "eve"] {
            let account = format!("return {{ [\"password\"] = \"{}\" }};\n", Self::PASSWORD);
            fs::write(accounts.join(format!("{name}.dat")), account).context("writing an account")?;
        }
        let (folder, domain) = (server.directory.display(), Self::DOMAIN);
        let modules = MODULES.iter().filter(|module| !without.contains(module));
        let modules: Vec<String> = modules.map(|module| format!("\"{module}\"")).collect();
        let configuration = format!(
            "run_as_root = true\npidfile = \"{folder}/pid\"\ndata_path = \"{folder}/data\"\n\
             certificates = \"{folder}\"\ninterfaces = {{ \"*\", \"::\" }}\nc2s_ports = {{ 5222 }}\n\
             c2s_direct_tls_ports = {{ 5223 }}\ns2s_ports = {{ }}\n\
             log = {{ {{ levels = {{ min = \"debug\" }}, to = \"file\", filename = \"{folder}/log\" }} }}\n\
             modules_enabled = {{ {} }}\nmodules_disabled = {{ \"s2s\" }}\n\
             c2s_require_encryption = true\nauthentication = \"internal_plain\"\nstorage = \"internal\"\n\
             VirtualHost \"{domain}\"\n\
             ssl = {{ key = \"{folder}/{domain}.key\", certificate = \"{folder}/{domain}.crt\" }}\n",
            modules.join(", ")
        );
        fs::write(server.path("configuration.lua"), configuration)
            .context("writing prosody's configuration")?;
        server.resume()?;
        Ok(server)
    }

    /// The certificate of the authority that its own is by.
    pub fn authority(&self) -> PathBuf {
        self.path("authority.crt")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// An authority, and the server's certificate by it.
    fn certificates(&self) -> Result<()> {
        let make = |name: &str, subject: &str, more: &[&str]| {
            let mut openssl = Command::new("openssl");
            openssl.current_dir(&self.directory);
            openssl.args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]);
            openssl.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", &format!("/CN={subject}")]);
            openssl.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")]);
            let output = openssl.args(more).output().context("running openssl")?;
            if output.status.success() {
                return Ok(());
            }
            let output = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(Error::Program { program: "openssl", output })
        };
        make("authority", "a test's authority", &["-addext", "basicConstraints=critical,CA:TRUE"])?;
        let name = format!("subjectAltName=DNS:{}", Self::DOMAIN);
        let signed = ["-CA", "authority.crt", "-CAkey", "authority.key"];
        let leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", &name];
        make(Self::DOMAIN, Self::DOMAIN, &[signed, leaf].concat())
    }

    /// Starts it again.
    ///
    /// # Errors
    /// When it does not start.
    pub fn resume(&mut self) -> Result<()> {
        let mut prosody = Command::new("prosody");
        prosody.arg("-F").arg("--config").arg(self.path("configuration.lua"));
        prosody.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = self.host.spawn(prosody).map_err(|error| match error {
            Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
                Error::MissingProgram { program: "prosody", remedy: "on Debian: apt install prosody" }
            }
            other => other,
        })?;
        self.process = Some(process);
        let until = Instant::now() + MOMENT;
        let at = SocketAddr::new(self.address, 5222);
        while !self.host.run(|| TcpStream::connect(at).is_ok())? {
            if Instant::now() > until {
                return Err(Error::Program { program: "prosody", output: self.log() });
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Stops it.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill(Signal::SIGTERM)?;
            process.wait(MOMENT)?;
        }
        Ok(())
    }

    /// All that it was told and said, and who came from where.
    pub fn log(&self) -> String {
        fs::read(self.path("log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// What it keeps: each file, by its path within.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn kept(&self) -> Result<BTreeMap<PathBuf, String>> {
        let mut kept = BTreeMap::new();
        let mut folders = vec![self.path("data")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).context("reading what prosody keeps")? {
                let path = entry.context("reading what prosody keeps")?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let bytes = fs::read(&path).context("reading what prosody keeps")?;
                    kept.insert(path, String::from_utf8_lossy(&bytes).into_owned());
                }
            }
        }
        Ok(kept)
    }

    /// Changes what it keeps, as a server could that is not honest.
    ///
    /// # Errors
    /// When that cannot be written, or it does not start again.
    pub fn change(&mut self, kept: &BTreeMap<PathBuf, String>) -> Result<()> {
        self.stop()?;
        for (path, text) in kept {
            fs::write(path, text).context("changing what prosody keeps")?;
        }
        self.resume()
    }
}
