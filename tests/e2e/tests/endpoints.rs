//! Endpoints with a zone are reached over their interface, and those that are of no use are told.

use std::net::Ipv6Addr;
use std::time::Duration;

use mast_control::PeerState;
use mast_e2e::{lab, mast, mast_program, within};
use mast_netlab::{Host, Lab, LinkProfile};
use mast_stage::Daemon;

/// The link-local address of an interface, once it may be used.
fn link_local(host: &Host, interface: &str) -> Ipv6Addr {
    let mut found = None;
    within(Duration::from_secs(5), "the link-local address", || {
        let table = host.run(|| std::fs::read_to_string("/proc/thread-self/net/if_inet6")).unwrap().unwrap();
        found = table.lines().find_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let tentative = u8::from_str_radix(fields.get(4)?, 16).ok()? & 0x40 != 0;
            let wanted = fields.get(3) == Some(&"20") && fields.get(5) == Some(&interface) && !tentative;
            wanted.then(|| u128::from_str_radix(fields.first()?, 16).ok()).flatten().map(Ipv6Addr::from)
        });
        found.is_some()
    });
    found.unwrap()
}

/// Two hosts with two links between them, over which only link-local addresses lead anywhere.
fn two() -> (Lab, Daemon, Daemon) {
    let lab = Lab::new().unwrap_or_else(|e| panic!("{e}"));
    let (one, other) = (lab.host("one").unwrap(), lab.host("other").unwrap());
    for (number, interface) in ["eth0", "eth1"].into_iter().enumerate() {
        lab.link(&one, interface, &other, interface, &LinkProfile::delay(Duration::from_millis(2))).unwrap();
        one.add_address(interface, &format!("10.{}.0.1/24", 10 + number)).unwrap();
        other.add_address(interface, &format!("10.{}.0.1/24", 20 + number)).unwrap();
    }
    let program = mast_program();
    let start = |host| Daemon::start(&program, host, "").unwrap_or_else(|e| panic!("{e}"));
    let (one, other) = (start(&one), start(&other));
    (lab, one, other)
}

/// Writes the configuration anew and starts with it.
fn restart_with(daemon: &mut Daemon, config: &str) {
    daemon.stop().unwrap();
    std::fs::write(daemon.directory().join("mastd.toml"), config).unwrap();
    daemon.launch().unwrap_or_else(|e| panic!("{e}"));
}

fn peer(name: &str, of: &Daemon, endpoints: &str) -> String {
    let key = of.status().unwrap().public_key;
    format!("[[peer]]\nname = \"{name}\"\npublic_key = \"{key}\"\nendpoints = [{endpoints}]\n")
}

#[test]
fn an_endpoint_with_a_zone_is_reached_over_its_interface_alone() {
    lab(|| {
        let (_lab, mut one, mut other) = two();
        let at = link_local(other.host(), "eth1");
        let (to_other, to_one) =
            (peer("other", &other, &format!("\"[{at}%eth1]:6278\"")), peer("one", &one, ""));
        restart_with(&mut other, &to_one);
        restart_with(&mut one, &to_other);
        for daemon in [&one, &other] {
            within(Duration::from_secs(10), "connected", || {
                daemon.peer().is_ok_and(|p| p.state == PeerState::Connected)
            });
        }
        let paths = one.peer().unwrap().paths;
        assert!(paths.iter().any(|p| p.active && p.remote.starts_with("[fe80")), "{paths:#?}");
        assert!(
            paths.iter().filter(|p| p.remote.starts_with("[fe80")).all(|p| p.interface == "eth1"),
            "{paths:#?}"
        );
        let state = std::fs::read_to_string(one.directory().join("state/peers.json")).unwrap();
        assert!(
            !state.contains("fe80"),
            "the number of an interface means another one after a restart: {state}"
        );
    });
}

#[test]
fn an_endpoint_that_is_of_no_use_is_told_where_it_is_given() {
    lab(|| {
        let lab = Lab::new().unwrap_or_else(|e| panic!("{e}"));
        let (one, other) = (lab.host("one").unwrap(), lab.host("other").unwrap());
        lab.link(&one, "wifi0", &other, "wifi0", &LinkProfile::default()).unwrap();
        one.add_address("wifi0", "10.10.0.1/24").unwrap();
        let daemon = Daemon::start(&mast_program(), &one, "").unwrap_or_else(|e| panic!("{e}"));
        let key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        let file = daemon.directory().join("office.conf");
        for (endpoint, words) in [
            ("[fe80::1]:51820", &["fe80::1 is link-local", "%wlan0"][..]),
            ("[fe80::1%eth7]:51820", &["`eth7` is no interface that MAST uses", "wifi0"]),
            ("[fe80::1%lo]:51820", &["`lo` is no interface that MAST uses"]),
            ("[2001:db8::1%wifi0]:51820", &["only a link-local address", "[2001:db8::1]:51820"]),
            ("127.0.0.1:51820", &["127.0.0.1 is this machine itself"]),
            ("[::]:51820", &[":: stands for no host"]),
            ("255.255.255.255:51820", &["everybody's address"]),
            ("224.0.0.1:51820", &["multicast"]),
            ("192.0.2.1:0", &["the port must be 1 to 65535"]),
        ] {
            let text = format!(
                "[Interface]\nPrivateKey = {key}\nAddress = 10.66.0.2/32\n[Peer]\nPublicKey = {}\n\
                 AllowedIPs = 10.66.0.0/24\nEndpoint = {endpoint}\n",
                key.replace("AQEB", "AgIC")
            );
            std::fs::write(&file, text).unwrap();
            mast(&daemon, &["peer", "add", file.to_str().unwrap()]).bad(1, &[&[endpoint], words].concat());
        }
        assert!(daemon.status().unwrap().peers.is_empty());
    });
}
