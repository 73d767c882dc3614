//! The Internet in small: sites behind routers of all kinds, around one core, and a host for the services that peers find
//! each other by.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use mast_netlab::{Host, Lab, LinkProfile, Nat, NatKind, Process};
use tempfile::TempDir;

/// The addresses of the host with the services: two, since a NAT is known by what two servers see.
pub const SERVICES: [&str; 2] = ["192.0.2.10", "198.51.100.10"];
/// The same of IPv6.
pub const SERVICES_V6: &str = "2001:db8:ffff::10";

/// All of it.
pub struct World {
    lab: Lab,
    core: Host,
    /// Where services run.
    pub services: Host,
    sites: std::cell::Cell<u8>,
}

/// A home, an office, a carrier: a router, and a laptop behind it.
pub struct Site {
    /// The laptop; its uplink is `eth0`.
    pub host: Host,
    /// Between it and the Internet; `in` is its inside.
    pub router: Host,
    /// The translation of addresses, the outermost last.
    pub nats: Vec<Nat>,
    /// The router's address outside.
    pub outside: String,
    /// The name server of the network, where it has one.
    pub names: Option<String>,
    /// What stands before IPv4 addresses where the laptop has IPv6 alone: 96 bits.
    prefix: Option<Ipv6Addr>,
    _helpers: Vec<Running>,
}

/// What stands between a site and the Internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// Nothing: the laptop has a public address.
    Nothing,
    /// A NAT.
    Nat(NatKind),
    /// Two, the outer one a carrier's.
    Double,
    /// No translation: the laptop has a public address, and a firewall of its own that lets in what it asked for.
    Firewall,
    /// The laptop has IPv6 alone, and public; a translator and its name server lead to IPv4 (RFC 6146, RFC 6147).
    Translator,
}

impl World {
    /// An Internet without sites. Each of their links has this delay in each direction.
    pub fn new() -> Self {
        let lab = Lab::new().unwrap_or_else(|e| panic!("{e}"));
        let core = lab.router("internet").unwrap();
        let services = lab.host("services").unwrap();
        lab.wire(&core, "svc", &services, "eth0").unwrap();
        for (network, own) in [("192.0.2", SERVICES[0]), ("198.51.100", SERVICES[1])] {
            core.add_address("svc", &format!("{network}.1/24")).unwrap();
            services.add_address("eth0", &format!("{own}/24")).unwrap();
        }
        core.add_address("svc", "2001:db8:ffff::1/64").unwrap();
        services.add_address("eth0", &format!("{SERVICES_V6}/64")).unwrap();
        services.add_route("default", Some("192.0.2.1"), "eth0", 0).unwrap();
        services.add_route("default", Some("2001:db8:ffff::1"), "eth0", 0).unwrap();
        Self { lab, core, services, sites: std::cell::Cell::new(0) }
    }

    /// One more site; its link has this delay in each direction. With IPv4 alone, but for [`Between::Translator`].
    pub fn site(&self, between: Between, delay: Duration) -> Site {
        let n = self.sites.get() + 1;
        self.sites.set(n);
        let profile = LinkProfile::delay(delay);
        let router = self.lab.router(&format!("router {n}")).unwrap();
        let host = self.lab.host(&format!("laptop {n}")).unwrap();
        let up = format!("s{n}");
        self.lab.link(&self.core, &up, &router, "out", &profile).unwrap();
        let outside = format!("203.{n}.113.2");
        self.core.add_address(&up, &format!("203.{n}.113.1/29")).unwrap();
        router.add_address("out", &format!("{outside}/29")).unwrap();
        router.add_route("default", Some(&format!("203.{n}.113.1")), "out", 0).unwrap();
        if between == Between::Translator {
            return self.translated(n, &up, host, router, outside);
        }
        let mut nats = Vec::new();
        let (inner, gateway) = match between {
            Between::Double => {
                // A home's router behind the carrier's.
                let home = self.lab.router(&format!("home {n}")).unwrap();
                self.lab.wire(&router, "in", &home, "out").unwrap();
                router.add_address("in", "100.64.0.1/24").unwrap();
                home.add_address("out", &format!("100.64.0.{}/24", n + 1)).unwrap();
                home.add_route("default", Some("100.64.0.1"), "out", 0).unwrap();
                nats.push(self.lab.nat(&home, "in", "out", NatKind::EndpointIndependent).unwrap());
                let carrier = NatKind::Cgnat { ports: 500, udp_timeout: Duration::from_secs(60) };
                nats.push(self.lab.nat(&router, "in", "out", carrier).unwrap());
                (home, format!("10.{n}.0.1"))
            }
            Between::Nat(kind) => {
                nats.push(self.lab.nat(&router, "in", "out", kind).unwrap());
                (router.clone(), format!("10.{n}.0.1"))
            }
            Between::Nothing | Between::Firewall | Between::Translator => {
                self.core.add_route(&format!("203.{n}.113.128/30"), Some(&outside), &up, 0).unwrap();
                (router.clone(), format!("203.{n}.113.129"))
            }
        };
        self.lab.wire(&inner, "in", &host, "eth0").unwrap();
        let (bits, own) = match between {
            Between::Nothing | Between::Firewall => (30, format!("203.{n}.113.130")),
            _ => (24, format!("10.{n}.0.2")),
        };
        inner.add_address("in", &format!("{gateway}/{bits}")).unwrap();
        host.add_address("eth0", &format!("{own}/{bits}")).unwrap();
        host.add_route("default", Some(&gateway), "eth0", 0).unwrap();
        if between == Between::Firewall {
            let rules = "add table inet firewall
                 add chain inet firewall input { type filter hook input priority 0; }
                 add rule inet firewall input iifname eth0 ct state new drop";
            nft(&host, rules);
        }
        Site { host, router, nats, outside, names: None, prefix: None, _helpers: Vec::new() }
    }

    /// A site with IPv6 alone.
    fn translated(&self, n: u8, up: &str, host: Host, router: Host, outside: String) -> Site {
        let network = format!("2001:db8:{n:x}");
        self.lab.wire(&router, "in", &host, "eth0").unwrap();
        for (at, interface, address) in [
            (&self.core, up, "1::1"),
            (&router, "out", "1::2"),
            (&router, "in", "2::1"),
            (&host, "eth0", "2::2"),
        ] {
            at.add_address(interface, &format!("{network}:{address}/64")).unwrap();
        }
        self.core.add_route(&format!("{network}:2::/64"), Some(&format!("{network}:1::2")), up, 0).unwrap();
        router.add_route("::/0", Some(&format!("{network}:1::1")), "out", 0).unwrap();
        host.add_route("::/0", Some(&format!("{network}:2::1")), "eth0", 0).unwrap();
        let bits: Ipv6Addr = format!("{network}:64::").parse().unwrap();
        let prefix = format!("{bits}/96");
        let translator = translator(&router, &prefix);
        // It gives each host one IPv4 address; that they share one is the work of a NAT behind it.
        let nat = self.lab.nat(&router, "nat64", "out", NatKind::EndpointIndependent).unwrap();
        let names = format!("{network}:2::1");
        let resolver = translating_names(&router, &names, &prefix);
        let helpers = vec![translator, resolver];
        Site {
            host,
            router,
            nats: vec![nat],
            outside,
            names: Some(names),
            prefix: Some(bits),
            _helpers: helpers,
        }
    }

    /// Starts coturn, as a STUN server alone, at both addresses of the services.
    pub fn stun(&self) -> Running {
        let directory = TempDir::with_prefix("mast-stun-").unwrap();
        let mut command = Command::new("turnserver");
        command.args([
            "-n",
            "--stun-only",
            "--no-cli",
            "--no-tls",
            "--no-dtls",
            "--no-tcp",
            "--listening-port=3478",
        ]);
        command.args(SERVICES.map(|at| format!("--listening-ip={at}")));
        command.arg(format!("--listening-ip={SERVICES_V6}"));
        command.arg(format!("--pidfile={}", directory.path().join("pid").display()));
        command.arg(format!("--userdb={}", directory.path().join("db").display()));
        command.arg("--log-file=stdout").current_dir(directory.path());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = self.services.spawn(command).unwrap_or_else(|e| panic!("coturn: {e}"));
        Running { _process: process, _directory: directory }
    }

    /// Starts coturn as a relay: by UDP and TCP on 3478, by TLS on 443. It is a STUN server, too, at both addresses.
    pub fn turn(&self) -> Relay {
        let directory = TempDir::with_prefix("mast-turn-").unwrap();
        let file = |name: &str| directory.path().join(name).display().to_string();
        certificate(directory.path(), SERVICES[0]);
        let mut command = Command::new("turnserver");
        command.args(["-n", "--lt-cred-mech", "--realm=mast.test", "--no-cli", "--no-software-attribute"]);
        command.args([
            "--listening-port=3478",
            "--tls-listening-port=443",
            "--no-dtls",
            "--no-multicast-peers",
        ]);
        command.arg(format!("--user={}:{}", Relay::USER, Relay::PASSWORD));
        command.args(SERVICES.map(|at| format!("--listening-ip={at}")));
        command.arg(format!("--relay-ip={}", SERVICES[0]));
        command.args([format!("--cert={}", file("server.pem")), format!("--pkey={}", file("server.key"))]);
        command.args([format!("--pidfile={}", file("pid")), format!("--userdb={}", file("db"))]);
        command.arg("--log-file=stdout").current_dir(directory.path());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = self.services.spawn(command).unwrap_or_else(|e| panic!("coturn: {e}"));
        Relay { ca: file("ca.pem"), running: Running { _process: process, _directory: directory } }
    }
}

impl Site {
    /// The IPv6 address by which the laptop reaches an IPv4 address, where it has IPv6 alone.
    pub fn translate(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        let prefix = self.prefix?.to_bits();
        Some(Ipv6Addr::from_bits(prefix | u128::from(address.to_bits())))
    }

    /// The router's address is another from now on, and with it what all its NAT shows; or the one from before again.
    pub fn renumber(&mut self) {
        let (network, last) = self.outside.rsplit_once('.').unwrap();
        let other = format!("{network}.{}", if last == "2" { 3 } else { 2 });
        let gateway = format!("{network}.1");
        self.router.del_address("out", &format!("{}/29", self.outside)).unwrap();
        self.router.add_address("out", &format!("{other}/29")).unwrap();
        self.router.add_route("default", Some(&gateway), "out", 0).unwrap();
        self.outside = other;
        self.nats.last().unwrap().rebind().unwrap();
    }

    /// Lets nothing through but TCP to port 443, as some networks of hotels and offices do; or everything again.
    pub fn only_443(&self, only: bool) {
        self.only(if only { &["tcp dport 443"] } else { &[] });
    }

    /// Lets nothing through but this, in the words of nft, and what answers it; or everything again, where nothing is said.
    pub fn only(&self, allowed: &[&str]) {
        let mut rules = "add table inet only
            delete table inet only"
            .to_owned();
        if !allowed.is_empty() {
            rules += "
                add table inet only
                add chain inet only forward { type filter hook forward priority 10; policy drop; }";
        }
        for rule in allowed {
            let back = rule.replace("dport", "sport");
            rules += &format!(
                "\nadd rule inet only forward {rule} accept\nadd rule inet only forward {back} accept"
            );
        }
        self.nft(&rules);
    }

    /// Drops what comes from another site, and what goes there; or lets it through again.
    pub fn refuse(&self, other: &Self, refused: bool) {
        let network = other.address();
        let rules = if refused {
            format!(
                "add table ip refused; flush table ip refused; \
                 add chain ip refused forward {{ type filter hook forward priority 10; }}; \
                 add rule ip refused forward ip saddr {network} drop; add rule ip refused forward ip daddr {network} drop"
            )
        } else {
            "add table ip refused; delete table ip refused".to_owned()
        };
        self.nft(&rules);
    }

    /// How others see it.
    fn address(&self) -> String {
        match self.nats.is_empty() {
            true => self.host.ipv4_address("eth0").unwrap().unwrap().to_string(),
            false => self.outside.clone(),
        }
    }

    fn nft(&self, rules: &str) {
        nft(&self.router, rules);
    }
}

/// Starts tayga, which translates between IPv6 and IPv4 (RFC 7915) by an interface `nat64`.
fn translator(router: &Host, prefix: &str) -> Running {
    let directory = TempDir::with_prefix("mast-nat64-").unwrap();
    let file = directory.path().join("conf");
    let text = format!(
        "tun-device nat64\nipv4-addr 192.168.255.1\nprefix {prefix}\ndynamic-pool 192.168.255.0/24\ndata-dir {}\n",
        directory.path().display()
    );
    std::fs::write(&file, text).unwrap();
    let tayga = |argument: &str| {
        let mut command = Command::new("tayga");
        command
            .args([argument, "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        router.spawn(command).unwrap_or_else(|e| panic!("tayga: {e}"))
    };
    assert!(tayga("--mktun").wait(Duration::from_secs(10)).unwrap().success(), "tayga --mktun");
    router.set_up("nat64", true).unwrap();
    for network in [prefix, "192.168.255.0/24"] {
        router.add_route(network, None, "nat64", 0).unwrap();
    }
    Running { _process: tayga("--nodetach"), _directory: directory }
}

/// Starts unbound, which writes IPv4 addresses into IPv6 addresses (RFC 6147); it knows no name but the one by which that shows.
fn translating_names(router: &Host, at: &str, prefix: &str) -> Running {
    let directory = TempDir::with_prefix("mast-dns64-").unwrap();
    let place = directory.path().display();
    let zone =
        "@ 60 SOA ns hostmaster 1 3600 600 86400 5\n@ 60 NS ns\n@ 60 A 192.0.0.170\n@ 60 A 192.0.0.171\n";
    std::fs::write(directory.path().join("known"), format!("$ORIGIN ipv4only.arpa.\n{zone}")).unwrap();
    let text = format!(
        "server:\n directory: \"{place}\"\n chroot: \"\"\n username: \"\"\n pidfile: \"{place}/pid\"\n interface: {at}\n \
         access-control: ::/0 allow\n do-daemonize: no\n use-syslog: no\n logfile: \"{place}/log\"\n \
         module-config: \"dns64 iterator\"\n dns64-prefix: {prefix}\n\
         auth-zone:\n name: \"ipv4only.arpa.\"\n for-downstream: no\n for-upstream: yes\n fallback-enabled: no\n \
         zonefile: \"{place}/known\"\n\
         remote-control:\n control-enable: no\n"
    );
    let file = directory.path().join("conf");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("unbound");
    command.arg("-dc").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = router.spawn(command).unwrap_or_else(|e| panic!("unbound: {e}"));
    Running { _process: process, _directory: directory }
}

/// Has a host obey these rules, one a line.
fn nft(host: &Host, rules: &str) {
    let mut nft = Command::new("nft");
    nft.arg(rules.replace('\n', ";"));
    let mut running = host.spawn(nft).unwrap();
    assert!(running.wait(Duration::from_secs(10)).unwrap().success(), "nft: {rules}");
}

/// An authority of its own, and what it says of a server at this address.
fn certificate(directory: &Path, address: &str) {
    let script = format!(
        "set -e
         new() {{ openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \"$@\"; }}
         new -x509 -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
         new -subj /CN=relay -keyout server.key -out server.csr
         printf 'subjectAltName=IP:{address},DNS:relay.test\nbasicConstraints=CA:FALSE\n' >ext
         openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.pem"
    );
    let done = Command::new("sh").args(["-c", &script]).current_dir(directory).output().unwrap();
    assert!(done.status.success(), "openssl: {}", String::from_utf8_lossy(&done.stderr));
}

/// A relay; it ends with this.
pub struct Relay {
    /// The certificate of who signed its own.
    pub ca: String,
    running: Running,
}

impl Relay {
    const USER: &str = "ada";
    const PASSWORD: &str = "lovelace";

    /// What a configuration says of it.
    pub fn section(&self, transport: &str) -> String {
        let port = if transport == "tls" { 443 } else { 3478 };
        let ca = if transport == "tls" { format!("ca = \"{}\"\n", self.ca) } else { String::new() };
        format!(
            "[[relay]]\nserver = \"{}:{port}\"\ntransport = \"{transport}\"\nusername = \"{}\"\npassword = \"{}\"\n{ca}",
            SERVICES[0],
            Self::USER,
            Self::PASSWORD
        )
    }

    /// Ends it.
    pub fn end(self) {
        drop(self.running);
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// A server; it ends with this.
pub struct Running {
    _process: Process,
    _directory: TempDir,
}
