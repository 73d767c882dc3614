//! Network address translation, by way of nftables.

use std::{
    io::Write,
    net::Ipv4Addr,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use crate::{
    error::{Context, Error, Result},
    host::Host,
    netlink::{Message, Netlink},
};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`.
const DELETE_CONNECTIONS: u16 = 1 << 8 | 2;
/// The outside ports: `RANGES` ranges of `RANGE` ports from this one on.
const FIRST_PORT: u16 = 20_000;
const RANGE: u16 = 2000;
const RANGES: u16 = 20;
/// So many ports are given in turn, until the first comes again.
const TURNS: u16 = 500;

/// How a NAT maps and filters, in the words of RFC 4787.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    /// Endpoint-independent mapping, address- and port-dependent filtering ("port-restricted cone").
    EndpointIndependent,
    /// Endpoint-independent mapping and, for UDP, endpoint-independent filtering: anyone may send to a
    /// mapping. (Two inside ports are given the same outside port once in 40 000 cases.)
    FullCone,
    /// A new random port for each destination, address- and port-dependent filtering.
    Symmetric,
    /// A mapping for each destination, address- and port-dependent filtering. The host's own port is kept, except towards
    /// [this port](Self::STUN) of others, as if another host behind the NAT spoke with the same STUN servers from the same
    /// port: what those servers see is of no use to others, and the own port is.
    Preserving {
        /// The host's own port.
        own: u16,
    },
    /// A mapping for each destination, address- and port-dependent filtering; each new mapping has the port after the one
    /// before.
    Sequential,
    /// A carrier's NAT: like [`EndpointIndependent`](Self::EndpointIndependent), with few ports and
    /// a short life of UDP mappings.
    Cgnat {
        /// How many outside ports there are, at most 2000.
        ports: u16,
        /// For how long an idle UDP mapping lasts; the kernel rounds to seconds.
        udp_timeout: Duration,
    },
}

impl NatKind {
    /// The port of STUN servers.
    pub const STUN: u16 = 3478;
}

/// A NAT on a router. It stays in force as long as the router exists.
#[derive(Clone, Debug)]
pub struct Nat {
    router: Host,
    inside: String,
    outside: String,
    kind: NatKind,
    /// How often it was rebound.
    generation: Arc<AtomicU16>,
}

impl Nat {
    pub(crate) fn new(router: &Host, inside: &str, outside: &str, kind: NatKind) -> Result<Self> {
        let nat = Self {
            router: router.clone(),
            inside: inside.to_owned(),
            outside: outside.to_owned(),
            kind,
            generation: Arc::new(AtomicU16::new(0)),
        };
        nat.apply()?;
        if let NatKind::Cgnat { udp_timeout, .. } = kind {
            let seconds = udp_timeout.as_secs().max(1).to_string();
            for name in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
                router.sysctl(&format!("net/netfilter/{name}"), &seconds)?;
            }
        }
        Ok(nat)
    }

    /// Forgets all mappings and continues with other outside ports, as after a NAT's restart, and with
    /// the address the outside interface has now.
    pub fn rebind(&self) -> Result<()> {
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.apply()?;
        self.flush()
    }

    /// Forgets all mappings; the same ports may be used again.
    pub fn flush(&self) -> Result<()> {
        self.router.run(|| {
            // `struct nfgenmsg`: any family, version 0, no resource. No attributes: everything.
            Netlink::netfilter()?
                .request("forget the connections of a NAT", Message::new(DELETE_CONNECTIONS, 0, &[0; 4]))
        })?
    }

    fn apply(&self) -> Result<()> {
        let address = self.router.ipv4_address(&self.outside)?.ok_or_else(|| Error::NoAddress {
            host: self.router.name().to_owned(),
            interface: self.outside.clone(),
        })?;
        nft(&self.router, &self.rules(address))
    }

    fn rules(&self, address: Ipv4Addr) -> String {
        let Self { inside, outside, .. } = self;
        let generation = self.generation.load(Ordering::Relaxed);
        let first = FIRST_PORT + RANGE * (generation % RANGES);
        let ports = match self.kind {
            NatKind::Cgnat { ports, .. } => ports.clamp(1, RANGE),
            _ => RANGE,
        };
        let last = first + ports - 1;
        let source = format!("meta l4proto {{ tcp, udp }} snat ip to {address}:{first}-{last}");
        // Rules are consulted for the first packet of a connection only, but for every packet in a filter chain.
        let (learn, enter, leave) = match self.kind {
            NatKind::EndpointIndependent | NatKind::Cgnat { .. } => (String::new(), String::new(), source),
            NatKind::Symmetric => (String::new(), String::new(), format!("{source} fully-random")),
            NatKind::Preserving { own } => {
                // With a port of its own in the rule the kernel does not take that of another mapping of the same host.
                let kept = own.wrapping_add(generation % RANGES);
                let leave = format!(
                    "udp dport {stun} {source} fully-random\nudp sport {own} snat ip to {address}:{kept}-{kept}\n{source}",
                    stun = NatKind::STUN
                );
                (String::new(), String::new(), leave)
            }
            NatKind::Sequential => {
                // By a map, since a number that is counted has the host's order of bytes, and a port the network's.
                let ports: Vec<String> = (0..TURNS).map(|n| format!("{n} : {}", first + n)).collect();
                let next = format!("numgen inc mod {TURNS} map {{ {} }}", ports.join(", "));
                (
                    String::new(),
                    String::new(),
                    format!("meta l4proto udp snat ip to {address} : {next}\n{source}"),
                )
            }
            NatKind::FullCone => {
                // The port is a function of the inside address, so that the map back can be learned beforehand.
                let port = format!(
                    "jhash ip saddr . udp sport mod {} seed {} offset {FIRST_PORT}",
                    RANGE * RANGES,
                    u32::from(generation) + 1
                );
                (
                    format!(
                        "iifname \"{inside}\" meta l4proto udp update @cone {{ {port} : ip saddr . udp sport }}"
                    ),
                    format!("iifname \"{outside}\" meta l4proto udp dnat ip to udp dport map @cone"),
                    format!("meta l4proto udp snat ip to {address} : {port}\n{source}"),
                )
            }
        };
        format!(
            r#"table ip netlab_{outside} {{}}
            delete table ip netlab_{outside}
            table ip netlab_{outside} {{
                map cone {{ type inet_service : ipv4_addr . inet_service; flags dynamic, timeout; timeout 5m; }}
                chain learn {{
                    type filter hook prerouting priority -150; policy accept;
                    {learn}
                }}
                chain enter {{
                    type nat hook prerouting priority -100; policy accept;
                    {enter}
                }}
                chain leave {{
                    type nat hook postrouting priority 100; policy accept;
                    oifname != "{outside}" return
                    {leave}
                    snat ip to {address}
                }}
                # What nobody inside asked for must not become a connection of the router's own: that would have the mapping that
                # the host inside is about to need (RFC 4787, REQ-1).
                chain closed {{
                    type filter hook input priority 0; policy accept;
                    iifname "{outside}" meta l4proto udp ct state new drop
                }}
                chain guard {{
                    type filter hook forward priority 0; policy accept;
                    iifname "{outside}" oifname "{inside}" ct state new ct status & dnat == 0 drop
                }}
            }}
            "#
        )
    }
}

/// Feeds rules to `nft` inside a host.
fn nft(host: &Host, rules: &str) -> Result<()> {
    const MISSING: Error =
        Error::MissingProgram { program: "nft", remedy: "for example: apt-get install nftables" };
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    if let Some(path) = std::env::var_os("PATH") {
        // An ordinary user's path often lacks the directories of nft.
        let mut path = path;
        path.push(":/usr/sbin:/sbin");
        command.env("PATH", path);
    }
    let mut process = host.spawn(command).map_err(|error| match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => MISSING,
        error => error,
    })?;
    let child = process.child();
    if let Some(mut input) = child.stdin.take() {
        input.write_all(rules.as_bytes()).context("write to nft")?;
    }
    let mut output = String::new();
    if let Some(mut errors) = child.stderr.take() {
        std::io::Read::read_to_string(&mut errors, &mut output).context("read from nft")?;
    }
    let status = process.wait(Duration::from_secs(10))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Program { program: "nft", output: format!("{output}\nfor these rules:\n{rules}") })
    }
}
