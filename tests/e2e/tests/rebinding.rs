//! A NAT that changes its mind under traffic: other ports, another address, or nothing remembered.

use std::time::Duration;

use mast_e2e::anywhere::{Between, World};
use mast_e2e::{GAP, Session, lab, mast_program, pair};
use mast_netlab::{Host, NatKind};
use mast_stage::Daemon;

/// Of each site's link in each direction: a round trip takes four times that.
const DELAYS: [u64; 3] = [5, 20, 40];

fn start(host: &Host) -> Daemon {
    Daemon::start(&mast_program(), host, "").unwrap_or_else(|e| panic!("{e}"))
}

/// One session behind one NAT, with all that this can do to it.
fn rebinds(kind: NatKind, delay: Duration) {
    let world = World::new();
    let mut away = world.site(Between::Nat(kind), delay);
    let home = world.site(Between::Nothing, delay);
    let (laptop, server) = (start(&away.host), start(&home.host));
    pair(&server, &laptop);
    let session = Session::start(&laptop, &server);
    let ideal = delay.as_millis() * 4 + 50;
    for what in ["other ports", "nothing remembered", "another address"] {
        session.wait_running();
        let mark = session.mark();
        match what {
            "other ports" => away.nats[0].rebind().unwrap(),
            "nothing remembered" => away.nats[0].flush().unwrap(),
            _ => away.renumber(),
        }
        session.with_gap(&format!("{kind:?}, {what}; a round trip and 50 ms are {ideal} ms"), mark, GAP * 2);
    }
    session.survives();
}

#[test]
fn a_nat_that_restarts_costs_a_moment_and_no_session() {
    lab(|| {
        for delay in DELAYS.map(Duration::from_millis) {
            rebinds(NatKind::EndpointIndependent, delay);
        }
        let others = [
            NatKind::FullCone,
            NatKind::Symmetric,
            NatKind::Preserving { own: 6278 },
            NatKind::Sequential,
            NatKind::Cgnat { ports: 100, udp_timeout: Duration::from_secs(60) },
        ];
        for kind in others {
            rebinds(kind, Duration::from_millis(10));
        }
    });
}
