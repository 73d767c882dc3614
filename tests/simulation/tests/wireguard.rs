//! Plain WireGuard servers, in virtual time: silence, tries, moves and returns, at several delays, over both versions of
//! IP.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use mast_proto::{Event, PeerState, Policy, Selector};
use mast_simulation::ms;
use mast_simulation::wireguard::{Link, Plain, Says, interface};

/// Round trips: a cable, a train, a bad day, a satellite.
const ROUND_TRIPS: [u64; 4] = [10, 40, 150, 600];
const SECOND: Duration = Duration::from_secs(1);

/// Wi-Fi and metered cellular, of these round trips in milliseconds.
fn links(v6: bool, wifi: u64, cell: u64) -> Vec<Link> {
    let link = |id, metered, rtt| Link {
        interface: interface(id, v6, metered),
        delay: ms(rtt) / 2,
        deaf_out: false,
        deaf_in: false,
        loss: 0.0,
    };
    vec![link(1, false, wifi), link(2, true, cell)]
}

/// Each round trip over each version of IP, after some seconds of a session that was answered over the Wi-Fi.
fn each(mut then: impl FnMut(Plain, u64, &str)) {
    for v6 in [false, true] {
        for rtt in ROUND_TRIPS {
            for says in [Says::Echo, Says::Segment] {
                let mut net = Plain::new(links(v6, rtt, 60), rtt + 1);
                net.run(3 * SECOND, &[]);
                net.run(10 * SECOND, &[(says, ms(50))]);
                assert_eq!(net.active(), Some(0), "rtt {rtt}");
                then(net, rtt, &format!("rtt {rtt} v6 {v6} {says:?}"));
            }
        }
    }
}

/// Handshakes of the last `span`.
fn handshakes(net: &Plain, span: Duration) -> usize {
    net.handshakes.iter().filter(|(at, _)| *at + span > net.now()).count()
}

#[test]
fn one_way_traffic_is_no_failure() {
    for v6 in [false, true] {
        for rtt in ROUND_TRIPS {
            let mut net = Plain::new(links(v6, rtt, 2), rtt + 1);
            // Some answers first, so that it is known how soon this peer answers what is answered.
            net.run(5 * SECOND, &[(Says::Echo, ms(300))]);
            net.run(125 * SECOND, &[(Says::OneWay, ms(50))]);
            assert_eq!(net.active(), Some(0), "rtt {rtt}");
            let begun = handshakes(&net, 120 * SECOND);
            assert!(begun <= 1, "rtt {rtt}: {begun} handshakes in two minutes");
            assert!(net.data.iter().skip_while(|(at, _)| *at < 5 * SECOND).all(|(_, link)| *link == 0));
            assert_eq!(net.context.state(net.instant()), PeerState::Connected);
        }
    }
}

/// What was answered soon all the time, and no more is: one look, and that is all.
#[test]
fn traffic_that_becomes_one_way_costs_a_handshake() {
    for rtt in ROUND_TRIPS {
        let mut net = Plain::new(links(false, rtt, 2), rtt + 1);
        net.run(30 * SECOND, &[(Says::Echo, ms(20))]);
        // An echo request that is not answered, as by a firewall behind the server, and one-way traffic beside it.
        net.run(60 * SECOND, &[(Says::OneWay, ms(20))]);
        let before = net.handshakes.len();
        net.run(120 * SECOND, &[(Says::OneWay, ms(20))]);
        assert!(net.handshakes.len() <= before + 1);
        assert_eq!(net.active(), Some(0));
    }
}

#[test]
fn a_blackhole_is_left_soon() {
    each(|mut net, rtt, case| {
        net.links[0].deaf_out = true;
        net.links[0].deaf_in = true;
        let since = net.now();
        net.run(since + 10 * SECOND, &[(Says::Segment, ms(50))]);
        assert_eq!(net.active(), Some(1), "{case}");
        let silence = net.longest_silence(since);
        assert!(silence < ms(620) + ms(rtt) * 6, "{case}: {silence:?}");
    });
}

#[test]
fn a_way_back_that_is_lost_is_left_soon() {
    each(|mut net, rtt, case| {
        net.links[0].deaf_in = true;
        let since = net.now();
        net.run(since + 10 * SECOND, &[(Says::Echo, ms(50))]);
        assert_eq!(net.active(), Some(1), "{case}");
        let silence = net.longest_silence(since);
        assert!(silence < ms(620) + ms(rtt) * 6, "{case}: {silence:?}");
    });
}

/// What the peer sends of its own comes all the same: an upload, a call, a download.
#[test]
fn a_way_there_that_is_lost_is_left_soon() {
    let loads: [(&str, &[(Says, Duration)]); 4] = [
        ("upload beside a call", &[(Says::Segment, ms(50)), (Says::Down, ms(20))]),
        ("echoes beside a call", &[(Says::Echo, ms(50)), (Says::Down, ms(20))]),
        ("upload beside a download", &[(Says::Segment, ms(50)), (Says::Stream, ms(20))]),
        ("download", &[(Says::Stream, ms(20))]),
    ];
    for (name, load) in loads {
        each(|mut net, rtt, case| {
            let begun = net.now();
            net.run(begun + 5 * SECOND, load);
            net.links[0].deaf_out = true;
            let since = net.now();
            net.run(since + 30 * SECOND, load);
            assert_eq!(net.active(), Some(1), "{name}, {case}");
            let moved =
                net.data.iter().find(|(at, link)| *at > since && *link == 1).map(|(at, _)| *at - since);
            assert!(moved.is_some_and(|took| took < ms(900) + ms(rtt) * 6), "{name}, {case}: {moved:?}");
            // What still came over it was no reason to go back.
            let back = net.data.iter().filter(|(at, link)| *at > since + 6 * SECOND && *link == 0).count();
            assert_eq!(back, 0, "{name}, {case}");
        });
    }
}

/// Acknowledgements that are lost now and then make segments come twice, and that is all.
#[test]
fn a_download_over_a_lossy_path_stays() {
    for seed in 0..20 {
        let mut all = links(false, 40, 60);
        all[0].loss = 0.03;
        let mut net = Plain::new(all, seed);
        net.run(5 * SECOND, &[(Says::Echo, ms(50))]);
        let since = net.now();
        net.run(since + 60 * SECOND, &[(Says::Stream, ms(20)), (Says::Segment, ms(100))]);
        assert_eq!(net.active(), Some(0), "seed {seed}");
        assert!(handshakes(&net, 60 * SECOND) < 12, "seed {seed}: {:?}", net.handshakes);
    }
}

/// Also where the path that is asked first takes messages and brings no answer.
#[test]
fn first_contact_passes_a_way_back_that_is_lost() {
    for v6 in [false, true] {
        let mut all = links(v6, 10, 60);
        all[0].deaf_in = true;
        let mut net = Plain::new(all, 3);
        net.run(4 * SECOND, &[(Says::Echo, ms(100))]);
        assert_eq!(net.active(), Some(1));
        assert!(!net.heard.is_empty());
    }
}

#[test]
fn what_went_into_the_silence_goes_again() {
    each(|mut net, rtt, case| {
        // Over a satellite more time passes than the ring is long.
        if rtt > 150 {
            return;
        }
        net.links[0].deaf_out = true;
        net.links[0].deaf_in = true;
        let (since, before) = (net.now(), net.arrived.clone());
        net.run(since + 12 * SECOND, &[(Says::Segment, ms(50))]);
        let first = before.iter().max().copied().unwrap_or(0) + 1;
        let sent = net.arrived.iter().max().copied().unwrap();
        let missing: Vec<_> = (first..=sent).filter(|n| !net.arrived.contains(n)).collect();
        // A ring of three seconds is enough for all of these.
        assert!(missing.is_empty(), "{case}: {missing:?}");
    });
}

/// WireGuard's messages have no numbers of the datagrams: a copy would reach the application.
#[test]
fn nothing_but_tcp_comes_twice() {
    for (deaf_in, deaf_out) in [(true, true), (true, false), (false, true)] {
        each(|mut net, _, case| {
            (net.links[0].deaf_in, net.links[0].deaf_out) = (deaf_in, deaf_out);
            let (since, before) = (net.now(), net.said());
            net.run(since + 12 * SECOND, &[(Says::Echo, ms(20)), (Says::OneWay, ms(30))]);
            net.set_up(0, false);
            net.set_up(0, true);
            net.run(since + 20 * SECOND, &[(Says::Echo, ms(20))]);
            let mut seen = std::collections::BTreeSet::new();
            let twice: Vec<_> = net.arrived.iter().filter(|n| **n > before && !seen.insert(**n)).collect();
            assert!(twice.is_empty(), "{case}: {twice:?}");
        });
    }
}

#[test]
fn no_answer_from_behind_the_server_is_no_failure_of_the_path() {
    each(|mut net, rtt, case| {
        let since = net.now();
        net.run(since + 60 * SECOND, &[(Says::OneWay, ms(50))]);
        assert_eq!(net.active(), Some(0), "{case}");
        assert!(handshakes(&net, 60 * SECOND) <= 2, "{case}: {:?} {rtt}", net.handshakes);
    });
}

#[test]
fn a_pin_is_followed_at_once() {
    each(|mut net, rtt, case| {
        for (name, link) in [("if2", 1), ("if1", 0), ("if2", 1), ("if1", 0)] {
            let since = net.now();
            net.set_policy(Policy::Pin { order: vec![Selector::Interface(name.into())], fallback: true });
            let mut moved = None;
            while moved.is_none() && net.now() < since + 5 * SECOND {
                let next = net.now() + ms(5);
                net.run(next, &[]);
                moved = (net.active() == Some(link)).then(|| net.now() - since);
            }
            let limit = 2 * ms(if link == 0 { rtt } else { 60 }) + ms(100);
            assert!(moved.is_some_and(|moved| moved <= limit), "{case} to {name}: {moved:?}");
            // Long enough for what is known of the other to be old.
            let next = net.now() + 25 * SECOND;
            net.run(next, &[(Says::Echo, ms(100))]);
            assert_eq!(net.active(), Some(link), "{case}");
        }
    });
}

#[test]
fn back_on_the_wifi_after_its_return() {
    each(|mut net, _, case| {
        net.set_up(0, false);
        let away = net.now();
        net.run(away + 3 * SECOND, &[(Says::Echo, ms(100))]);
        assert_eq!(net.active(), Some(1), "{case}");
        assert!(net.longest_silence(away) < 2 * SECOND, "{case}");
        net.set_up(0, true);
        let back = net.now();
        net.run(back + 10 * SECOND, &[(Says::Echo, ms(100))]);
        assert_eq!(net.active(), Some(0), "{case}");
        assert!(net.longest_silence(back) < ms(900), "{case}: {:?}", net.longest_silence(back));
    });
}

/// Two links that cost nothing: the quicker carries, as with MAST peers, and again after its return.
#[test]
fn of_two_free_links_the_quicker_carries() {
    for v6 in [false, true] {
        for (one, other) in [(10, 60), (40, 60), (150, 20), (600, 60)] {
            let mut all = links(v6, one, other);
            all[1].interface.metered = false;
            let quick = usize::from(other < one);
            let mut net = Plain::new(all, one);
            net.run(15 * SECOND, &[(Says::Echo, ms(100))]);
            assert_eq!(net.active(), Some(quick), "{one} {other}");
            net.set_up(quick, false);
            net.run(25 * SECOND, &[(Says::Echo, ms(100))]);
            assert_eq!(net.active(), Some(1 - quick), "{one} {other}");
            net.set_up(quick, true);
            net.run(35 * SECOND, &[(Says::Echo, ms(100))]);
            assert_eq!(net.active(), Some(quick), "{one} {other}");
            (net.links[quick].deaf_in, net.links[quick].deaf_out) = (true, true);
            net.run(50 * SECOND, &[(Says::Echo, ms(100))]);
            (net.links[quick].deaf_in, net.links[quick].deaf_out) = (false, false);
            net.run(85 * SECOND, &[(Says::Echo, ms(100))]);
            assert_eq!(net.active(), Some(quick), "{one} {other}");
            let begun = net.handshakes.len();
            assert!(begun < 40, "{one} {other}: {:?}", net.handshakes);
        }
    }
}

/// A blackhole that heals without a sign from the system.
#[test]
fn back_on_the_wifi_when_it_answers_again() {
    each(|mut net, _, case| {
        (net.links[0].deaf_out, net.links[0].deaf_in) = (true, true);
        let away = net.now();
        net.run(away + 30 * SECOND, &[(Says::Echo, ms(100))]);
        assert_eq!(net.active(), Some(1), "{case}");
        (net.links[0].deaf_out, net.links[0].deaf_in) = (false, false);
        let back = net.now();
        net.run(back + 20 * SECOND, &[(Says::Echo, ms(100))]);
        assert_eq!(net.active(), Some(0), "{case}");
    });
}

/// The peer sends to where it heard a handshake last; tries of a dead path must not take what it sends along.
#[test]
fn a_try_does_not_draw_the_peers_traffic_into_a_dead_path() {
    each(|mut net, _, case| {
        net.links[0].deaf_in = true;
        let away = net.now();
        net.run(away + 5 * SECOND, &[(Says::Echo, ms(100))]);
        assert_eq!(net.active(), Some(1), "{case}");
        let since = net.now();
        net.run(since + 60 * SECOND, &[(Says::Down, ms(20)), (Says::Echo, 2 * SECOND)]);
        assert_eq!(net.active(), Some(1), "{case}");
        let silence = net.longest_silence(since);
        assert!(silence < ms(250), "{case}: {silence:?} {:?}", net.handshakes);
    });
}

#[test]
fn a_metered_path_that_is_not_needed_is_left_in_peace() {
    each(|mut net, _, case| {
        let since = net.now();
        net.run(since + 300 * SECOND, &[(Says::Echo, ms(500))]);
        assert!(net.handshakes.iter().all(|(at, link)| *at < SECOND || *link == 0), "{case}");
    });
}

/// Random loss alone does not drive data to the metered path, nor bring a storm of handshakes.
#[test]
fn loss_is_no_silence() {
    for seed in 0..40 {
        let mut all = links(false, 40, 60);
        all[0].loss = 0.03;
        let mut net = Plain::new(all, seed);
        net.run(3 * SECOND, &[]);
        net.run(120 * SECOND, &[(Says::Echo, ms(50))]);
        assert_eq!(net.active(), Some(0), "seed {seed}");
        // First contact may have found the other first.
        let later = net.data.iter().filter(|(at, _)| *at > 8 * SECOND);
        let elsewhere: Vec<_> = later.filter(|(_, link)| *link != 0).map(|(at, _)| *at).collect();
        assert!(elsewhere.is_empty(), "seed {seed}: {:?} {:?} {:?}", elsewhere, net.events, net.handshakes);
    }
}

#[test]
fn nothing_is_told_of_a_server_that_does_not_answer() {
    let mut all = links(false, 40, 60);
    for link in &mut all {
        link.deaf_in = true;
    }
    let mut net = Plain::new(all, 1);
    net.run(60 * SECOND, &[(Says::Segment, SECOND)]);
    assert!(!net.events.iter().any(|e| matches!(e, Event::Switched { .. })), "{:?}", net.events);
    assert_eq!(net.context.state(net.instant()), PeerState::Connecting);
    assert!(net.data.is_empty());
}

/// What is held until the first handshake goes out with it.
#[test]
fn what_waits_for_first_contact_is_sent() {
    for rtt in ROUND_TRIPS {
        let mut net = Plain::new(links(true, rtt, 60), 1);
        net.say(Says::Segment);
        net.say(Says::Echo);
        net.run(3 * SECOND, &[]);
        assert!(net.arrived.contains(&1) && net.arrived.contains(&2), "rtt {rtt}: {:?}", net.arrived);
    }
}

/// Whatever links do, it ends connected over one that works, and never with a storm of handshakes.
#[test]
fn random_stories_end_well() {
    let seeds = std::env::var("MAST_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(300_u64);
    for seed in
        std::env::var("MAST_SEED").ok().and_then(|s| s.parse().ok()).map_or(0..seeds, |s: u64| s..s + 1)
    {
        let mut random = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
        let mut draw = |most: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % most
        };
        let rtt = [10, 40, 150, 600][draw(4) as usize];
        let mut net = Plain::new(links(draw(2) == 0, rtt, 20 + draw(200)), seed);
        for _ in 0..12 {
            let link = draw(2) as usize;
            match draw(6) {
                0 => net.set_up(link, false),
                1 => net.set_up(link, true),
                2 => net.links[link].deaf_in = true,
                3 => net.links[link].deaf_out = true,
                _ => (net.links[link].deaf_in, net.links[link].deaf_out) = (false, false),
            }
            let next = net.now() + ms(200 + draw(8_000));
            net.run(next, &[(Says::Echo, ms(100)), (Says::Down, ms(70))]);
        }
        let good = draw(2) as usize;
        net.set_up(good, true);
        (net.links[good].deaf_in, net.links[good].deaf_out) = (false, false);
        net.set_up(1 - good, draw(2) == 0);
        let healed = net.now();
        net.run(healed + 40 * SECOND, &[(Says::Echo, ms(100))]);
        let heard = net.heard.last().map(|(at, _)| *at);
        let late: Vec<_> = net.handshakes.iter().filter(|(at, _)| *at + 12 * SECOND > healed).collect();
        let paths: Vec<_> = net.context.paths().map(|p| (p.key.interface, p.state, p.active)).collect();
        assert!(
            heard.is_some_and(|at| at + 2 * SECOND > net.now()),
            "seed {seed}: {heard:?} of {:?}, {:?}, healed at {healed:?}; {paths:?} {late:?}",
            net.now(),
            net.sessions()
        );
        let begun = net.handshakes.len();
        assert!(
            begun < 300,
            "seed {seed}: {begun} handshakes in {:?}: {:?}",
            net.now(),
            net.handshakes.get(100..140)
        );
    }
}
