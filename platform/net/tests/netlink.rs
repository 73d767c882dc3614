//! Why messages of the kernel are read attribute by attribute, and what must not be lost on the way.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(target_os = "linux")]

mod common;

use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use common::{find, in_namespace, ip, pair, usable, wait_for};
use mast_engine::os::Platform;
use mast_platform::{Native, Overrides};
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

/// How many links `netlink-packet-route` reads of a dump, and of how many messages.
fn read_by_the_crate() -> (usize, usize) {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let socket = Socket::new(NETLINK_ROUTE).unwrap();
    socket.send(&bytes, 0).unwrap();
    let (mut read, mut all) = (0, 0);
    loop {
        let (bytes, _) = socket.recv_from_full().unwrap();
        let mut rest = bytes.as_slice();
        while let Ok(buffer) = NetlinkBuffer::new_checked(rest) {
            if buffer.message_type() == netlink_packet_core::NLMSG_DONE {
                return (read, all);
            }
            all += 1;
            read += usize::from(NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).is_ok());
            rest = rest.get((buffer.length() as usize).next_multiple_of(4)..).unwrap_or(&[]);
        }
    }
}

/// An administrator may give an interface an alias in any encoding; a fleet that was set up in Latin-1 has such.
/// Should this fail one day because the crate reads all of them, it can take the place of our own reading.
#[test]
fn an_alias_that_is_not_utf_8_hides_no_interface() {
    in_namespace("an_alias_that_is_not_utf_8_hides_no_interface", || async {
        pair("eth0", "peer0", "10.1.0.2/24");
        let alias = std::ffi::OsStr::from_bytes(b"B\xfcro");
        let set = Command::new("ip").args(["link", "set", "eth0", "alias"]).arg(alias).status().unwrap();
        assert!(set.success());
        let mut receiver = Native::new(Overrides::default()).watch_interfaces().unwrap();
        wait_for(&mut receiver, "eth0", |list| usable(list, "eth0")).await;
        let (read, all) = read_by_the_crate();
        assert_eq!(all, 3, "loopback and two ends");
        assert_eq!(read, 2, "the crate loses the one with the alias");
    });
}

/// The index of a device that is gone is given to another one, of another kind.
#[test]
fn an_index_that_goes_to_another_device_brings_nothing_along() {
    in_namespace("an_index_that_goes_to_another_device_brings_nothing_along", || async {
        let mut receiver = Native::new(Overrides::default()).watch_interfaces().unwrap();
        ip("link add eth0 index 77 type veth peer name peer0");
        ip("link set peer0 up");
        ip("link set eth0 up");
        ip("addr add 10.1.0.2/24 dev eth0");
        wait_for(&mut receiver, "eth0", |list| usable(list, "eth0")).await;
        // All at once, so that the announcements are read together.
        let batch = "link del eth0\nlink add wlan0 index 77 type veth peer name peer1\nlink set peer1 up\n\
                     link set wlan0 up\naddr add 10.2.0.2/24 dev wlan0\n";
        let mut child =
            Command::new("ip").args(["-batch", "-"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), batch.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        let list = wait_for(&mut receiver, "wlan0", |list| usable(list, "wlan0")).await;
        let wlan0 = find(&list, "wlan0").unwrap();
        assert_eq!((wlan0.id.0, wlan0.addresses.len()), (77, 1), "{wlan0:?}");
        assert!(find(&list, "eth0").is_none(), "{list:#?}");
    });
}

/// Two addresses change places within one batch.
#[test]
fn addresses_that_change_places_are_seen() {
    in_namespace("addresses_that_change_places_are_seen", || async {
        pair("eth0", "peer0", "10.1.0.2/24");
        pair("wlan0", "peer1", "10.2.0.2/24");
        let mut receiver = Native::new(Overrides::default()).watch_interfaces().unwrap();
        wait_for(&mut receiver, "both", |list| usable(list, "eth0") && usable(list, "wlan0")).await;
        let batch = "addr del 10.1.0.2/24 dev eth0\naddr del 10.2.0.2/24 dev wlan0\n\
                     addr add 10.2.0.2/24 dev eth0\naddr add 10.1.0.2/24 dev wlan0\n";
        let mut child =
            Command::new("ip").args(["-batch", "-"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), batch.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        let address = |text: &str| vec![text.parse::<std::net::IpAddr>().unwrap()];
        wait_for(&mut receiver, "swapped", |list| {
            find(list, "eth0").is_some_and(|i| i.addresses == address("10.2.0.2"))
                && find(list, "wlan0").is_some_and(|i| i.addresses == address("10.1.0.2"))
        })
        .await;
    });
}
