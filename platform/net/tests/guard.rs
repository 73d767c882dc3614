//! Leak protection, against the kernel.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(target_os = "linux")]

mod common;

use std::process::Command;

use common::{in_namespace, ip};
use mast_engine::Reconciler;
use mast_engine::declared::Declared;
use mast_engine::os::{Family, Platform};
use mast_platform::{Native, Overrides};

const BOTH: [Family; 2] = [Family::V4, Family::V6];

fn output(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// How many rules of MAST there are.
fn count(words: &str) -> usize {
    output(words).lines().filter(|line| line.contains("proto 109")).count()
}

#[test]
fn nothing_leaves_by_another_default_route() {
    in_namespace("nothing_leaves_by_another_default_route", || async {
        let mut keeper = Reconciler::new(Native::new(Overrides::default()).host().unwrap());
        let mut guard = |families: &[Family]| {
            let protection = families.iter().copied().collect();
            let outcome = keeper.apply(&Declared { protection, ..Declared::default() }, true);
            assert!(outcome.refused.is_empty(), "{outcome:?}");
            outcome.taken > 0
        };
        const MARK: &str = "mark 0x6d617374";
        ip("link add wlan0 type veth peer name router");
        ip("link set router up");
        ip("link set wlan0 up");
        ip("addr add 10.1.0.2/24 dev wlan0");
        ip("route add default via 10.1.0.1");
        ip("rule add pref 100 from 10.77.0.0/16 lookup 77");
        let before = (output("rule"), output("-6 rule"));

        for _ in 0..2 {
            assert!(guard(&BOTH));
            assert!(!guard(&BOTH), "a second time it changes nothing");
            assert!(output("route get 192.0.2.1").contains("unreachable"), "{}", output("rule"));
            assert_eq!(count("rule"), 2, "{}", output("rule"));
            assert_eq!(count("-6 rule"), 2, "{}", output("-6 rule"));
            assert!(output("-6 route get 2001:db8:1::1").contains("unreachable"));
            // The local network, the tunnel, and the service itself.
            assert!(output("route get 10.1.0.9").contains("dev wlan0"));
            assert!(output(&format!("route get 192.0.2.1 {MARK}")).contains("dev wlan0"));
            ip("link add tunnel type veth peer name server");
            ip("link set server up");
            ip("link set tunnel up");
            ip("route add 128.0.0.0/1 dev tunnel");
            assert!(output("route get 192.0.2.1").contains("dev tunnel"));
            assert!(output(&format!("route get 192.0.2.1 oif wlan0 {MARK}")).contains("dev wlan0"));
            ip("link del tunnel");
            assert!(output("route get 192.0.2.1").contains("unreachable"));
            // A tunnel for one version of IP refuses nothing of the other.
            assert!(guard(&[Family::V4]));
            assert_eq!((count("rule"), count("-6 rule")), (2, 0));
            assert!(guard(&[Family::V6]));
            assert_eq!((count("rule"), count("-6 rule")), (0, 2));
            assert!(guard(&BOTH));

            assert!(guard(&[]));
            assert!(!guard(&[]));
            assert!(output("route get 192.0.2.1").contains("dev wlan0"));
            assert_eq!((output("rule"), output("-6 rule")), before, "other rules are left alone");
        }
    });
}
