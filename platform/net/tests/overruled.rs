//! A full tunnel that others overrule is known not to be in force, and a route that came into its place gives way.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(target_os = "linux")]

mod common;

use common::{in_namespace, ip, may_open_tun, pair};
use mast_engine::declared::Declared;
use mast_engine::os::{Platform, Prefix, Tun, TunWish};
use mast_engine::{Reconciler, Subject};
use mast_platform::{Native, Overrides};

fn range(text: &str, length: u8) -> Prefix {
    Prefix { address: text.parse().unwrap(), length }
}

#[test]
fn others_who_come_first_are_named() {
    in_namespace("others_who_come_first_are_named", || async {
        if !may_open_tun() {
            return;
        }
        let platform = Native::new(Overrides::default());
        let tun = platform.create_tun(&TunWish { name: "mast0".into(), mtu: 1280 }).await.unwrap();
        pair("other", "another", "10.5.0.2/24");
        ip("addr add 2001:db8:5::2/64 dev other nodad");
        ip("route add default via 10.5.0.1 dev other");
        ip("-6 route add default via 2001:db8:5::1 dev other");
        let mut keeper = Reconciler::new(platform.host().unwrap());
        let declared = Declared {
            interface: Some(tun.name().to_owned()),
            addresses: ["10.66.0.2", "fd66::2"].map(|a| a.parse().unwrap()).to_vec(),
            routes: vec![
                (range("0.0.0.0", 0), None),
                (range("::", 0), None),
                (range("fd77::", 16), None),
                (range("10.77.0.0", 16), None),
            ],
            ..Declared::default()
        };
        let mut look = || {
            let outcome = keeper.apply(&declared, true);
            let refused = outcome.refused.into_iter().map(|r| (r.subject, r.text)).collect::<Vec<_>>();
            (refused, outcome.mended)
        };
        assert_eq!(look(), (vec![], vec![]));

        // Another VPN's rule and table; halves of its own; a default route that is refused.
        for (made, gone, whole) in [
            ("route add default dev other table 77", "route flush table 77", range("0.0.0.0", 0)),
            ("-6 route add default dev other table 77", "-6 route flush table 77", range("::", 0)),
            ("route add 128.0.0.0/2 dev other", "route del 128.0.0.0/2", range("0.0.0.0", 0)),
            ("-6 route add unreachable 2000::/3", "-6 route del unreachable 2000::/3", range("::", 0)),
        ] {
            let version = if whole.address.is_ipv4() { "-4" } else { "-6" };
            ip(&format!("{version} rule add table 77 priority 77"));
            ip(made);
            let (refused, _) = look();
            assert_eq!(refused.len(), usize::from(!made.contains("/2 ")), "{made}: {refused:?}");
            for (subject, text) in refused {
                assert_eq!(subject, Subject::Route(whole), "{text}");
                assert!(text.contains("not in force"), "{text}");
            }
            ip(gone);
            ip(&format!("{version} rule del priority 77"));
            assert_eq!(look(), (vec![], vec![]), "{gone}");
        }
        for half in ["128.0.0.0/2", "192.0.0.0/2"] {
            ip(&format!("route add {half} dev other"));
        }
        assert!(look().0[0].1.contains("`other`"), "nothing of that half is left");
        for half in ["128.0.0.0/2", "192.0.0.0/2"] {
            ip(&format!("route del {half}"));
        }

        // What came into the place of a route gives way; what is better in its metric is told.
        for (version, replaced) in [("-4", "128.0.0.0/1"), ("-6", "::/1"), ("-4", "10.77.0.0/16")] {
            ip(&format!("{version} route replace {replaced} dev other"));
            let (refused, mended) = look();
            assert_eq!((refused, mended.len()), (vec![], 1), "{replaced}");
            assert_eq!(look(), (vec![], vec![]), "{replaced}");
        }
        ip("-6 route add fd77::/16 dev other metric 7");
        let (refused, _) = look();
        assert_eq!(refused[0].0, Subject::Route(range("fd77::", 16)));
        assert!(refused[0].1.contains("`other`"), "{refused:?}");
        ip("-6 route del fd77::/16 dev other");
        assert_eq!(look(), (vec![], vec![]));
    });
}
