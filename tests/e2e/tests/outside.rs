//! How a host learns how it is seen from outside, from real STUN servers, behind NATs of all kinds.

use std::time::Duration;

use mast_e2e::anywhere::{Between, SERVICES, World};
use mast_e2e::{PATIENCE, lab, mast, mast_program, pair, within};
use mast_netlab::NatKind;
use mast_stage::Daemon;

fn asking() -> String {
    format!("stun = [\"{}:3478\", \"{}:3478\"]\n", SERVICES[0], SERVICES[1])
}

/// What the doctor says of the uplink.
fn seen(daemon: &Daemon) -> Option<String> {
    let doctor = mast(daemon, &["doctor"]).out;
    doctor.lines().find(|line| line.contains("is seen")).map(str::to_owned)
}

#[test]
fn a_host_knows_how_it_is_seen_and_what_its_nat_does() {
    lab(|| {
        let world = World::new();
        let _stun = world.stun();
        let carrier = NatKind::Cgnat { ports: 100, udp_timeout: Duration::from_secs(60) };
        let same = "the NAT shows all peers the same";
        let (nobody, everybody) = ("nobody is let in", "everybody is let in");
        for (between, words, who) in [
            (Between::Nothing, "there is no NAT", everybody),
            (Between::Firewall, "there is no NAT", nobody),
            (Between::Nat(NatKind::EndpointIndependent), same, nobody),
            (Between::Nat(NatKind::FullCone), same, everybody),
            (Between::Nat(carrier), same, nobody),
            (Between::Double, same, nobody),
            (Between::Nat(NatKind::Symmetric), "every peer another port", nobody),
            (Between::Nat(NatKind::Sequential), "each the one after the one before", nobody),
        ] {
            let site = world.site(between, Duration::from_millis(10));
            let daemon =
                Daemon::start(&mast_program(), &site.host, &asking()).unwrap_or_else(|e| panic!("{e}"));
            within(PATIENCE, &format!("{between:?}: {words}"), || {
                let plain = matches!(between, Between::Nothing | Between::Firewall);
                seen(&daemon).is_some_and(|line| {
                    line.contains(words) && line.contains(who) && (plain || line.contains(&site.outside))
                })
            });
        }
    });
}

#[test]
fn a_server_that_is_silent_or_unknown_holds_up_nothing() {
    lab(|| {
        let world = World::new();
        let laptop = world.site(Between::Nat(NatKind::EndpointIndependent), Duration::from_millis(10));
        let server = world.site(Between::Nothing, Duration::from_millis(10));
        // Nobody answers there, and nobody knows the other.
        let asking = format!("stun = [\"{}:3478\", \"nosuch.example:3478\"]\n", SERVICES[0]);
        let start = |host, config: &str| {
            Daemon::start(&mast_program(), host, config).unwrap_or_else(|e| panic!("{e}"))
        };
        let (laptop, server) = (start(&laptop.host, &asking), start(&server.host, ""));
        pair(&server, &laptop);
        assert_eq!(seen(&laptop), None);
    });
}

/// A laptop behind a NAT that lets everybody in invites another that is behind a NAT itself.
#[test]
fn an_invite_leads_through_a_nat_that_lets_everybody_in() {
    lab(|| {
        let world = World::new();
        let _stun = world.stun();
        let delay = Duration::from_millis(10);
        for between in [Between::Nat(NatKind::EndpointIndependent), Between::Nat(NatKind::Symmetric)] {
            let (inviting, joining) =
                (world.site(Between::Nat(NatKind::FullCone), delay), world.site(between, delay));
            let start = |host, config: &str| {
                Daemon::start(&mast_program(), host, config).unwrap_or_else(|e| panic!("{e}"))
            };
            let (inviting, joining) = (start(&inviting.host, &asking()), start(&joining.host, ""));
            within(PATIENCE, "it knows how it is seen", || seen(&inviting).is_some());
            pair(&inviting, &joining);
        }
    });
}
